//! What goes on beside the loop: writes through their gates, and errands.

use std::{sync::Arc, time::Duration};

use kube::Client;
use tokio::{
    sync::Semaphore,
    task::{JoinError, JoinSet},
};

/// How many writes are under way at once; making and removing pods leaves room for the rest.
const WRITES: usize = 256;
const POD_WRITES: usize = 32;
/// How long what is under way may take to finish when the operator leaves.
const LEAVING: Duration = Duration::from_secs(5);

/// How many may be under way at once.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn new(width: usize) -> Self {
        Self(Arc::new(Semaphore::new(width)))
    }
}

/// What goes on beside the loop.
pub(crate) struct Beside<A> {
    client: Client,
    answers: JoinSet<A>,
    errands: JoinSet<()>,
    /// For writes.
    pub(crate) writes: Gate,
    /// For making and removing pods.
    pub(crate) pods: Gate,
}

impl<A: Send + 'static> Beside<A> {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            answers: JoinSet::new(),
            errands: JoinSet::new(),
            writes: Gate::new(WRITES),
            pods: Gate::new(POD_WRITES),
        }
    }

    pub(crate) fn client(&self) -> Client {
        self.client.clone()
    }

    /// How much goes on whose answer has not been taken in.
    pub(crate) fn under_way(&self) -> usize {
        self.answers.len()
    }

    /// Has something done whose answer a later round takes in.
    pub(crate) fn ask(&mut self, work: impl Future<Output = A> + Send + 'static) {
        self.answers.spawn(work);
    }

    /// The same, as soon as there is a place.
    pub(crate) fn ask_through(
        &mut self,
        gate: &Gate,
        work: impl Future<Output = A> + Send + 'static,
    ) {
        let Gate(gate) = gate.clone();
        self.answers.spawn(async move {
            // The gate is never closed, so there is always a place sooner or later.
            let _place = gate.acquire_owned().await;
            work.await
        });
    }

    /// Has something done that brings no answer, and need not be finished when the operator leaves.
    pub(crate) fn errand(&mut self, work: impl Future<Output = ()> + Send + 'static) {
        self.errands.spawn(work);
    }

    /// The next answer.
    pub(super) async fn answer(&mut self) -> Result<A, JoinError> {
        loop {
            tokio::select! {
                Some(answer) = self.answers.join_next() => return answer,
                Some(_) = self.errands.join_next() => {}
                else => std::future::pending().await,
            }
        }
    }

    /// An answer that is there already.
    pub(super) fn try_answer(&mut self) -> Option<Result<A, JoinError>> {
        while self.errands.try_join_next().is_some() {}
        self.answers.try_join_next()
    }

    /// Lets writes finish.
    pub(super) async fn leave(mut self) {
        self.errands.shutdown().await;
        let finish = async { while self.answers.join_next().await.is_some() {} };
        if tokio::time::timeout(LEAVING, finish).await.is_err() {
            tracing::warn!("some writes did not finish in time and are abandoned");
        }
    }
}
