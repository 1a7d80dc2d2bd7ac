//! Who owns the connections that are no longer HTTP.

use std::sync::Arc;

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::status::ApiError;

/// Streams at one time; more are turned away.
const ROOM: usize = 1024;

/// Every exec, attach and port-forward that runs.
#[derive(Clone)]
pub(crate) struct Sessions {
    tasks: TaskTracker,
    stop: CancellationToken,
    room: Arc<Semaphore>,
}

impl Sessions {
    /// Sessions that end when `stop` is cancelled.
    pub(crate) fn new(stop: CancellationToken) -> Self {
        Sessions {
            tasks: TaskTracker::new(),
            stop,
            room: Arc::new(Semaphore::new(ROOM)),
        }
    }

    /// Does this with the connection once it has left HTTP, until it is done or the cluster
    /// stops.
    pub(super) fn begin<W: Future<Output = ()> + Send + 'static>(
        &self,
        upgrade: OnUpgrade,
        work: impl FnOnce(TokioIo<Upgraded>) -> W + Send + 'static,
    ) -> Result<(), ApiError> {
        let room = self.room.clone().try_acquire_owned().map_err(|_| {
            ApiError::too_many_requests("too many streams are open; close some and try again", 1)
        })?;
        self.keep(async move {
            match upgrade.await {
                Ok(connection) => work(TokioIo::new(connection)).await,
                Err(error) => tracing::debug!(%error, "a connection could not be upgraded"),
            }
            drop(room);
        });
        Ok(())
    }

    /// Does this until it is done or the cluster stops.
    pub(super) fn keep(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        self.tasks.spawn(async move {
            tokio::select! {
                () = work => {}
                () = stop.cancelled() => {}
            }
        });
    }

    /// Waits until every session has ended; they do once the cluster stops.
    pub(crate) async fn ended(&self) {
        self.tasks.close();
        self.tasks.wait().await;
    }
}
