//! What every request shares: the store, the kinds, admission and access.

use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use sandlot_store::{Change, Expect, Key, Range, Store, WriteError};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use crate::access::{Authorizer, Tokens};
use crate::admission::Chain;
use crate::discovery::Documents;
use crate::kinds::{Kind, Registry};
use crate::kubelet::Kubelet;
use crate::metrics::Metrics;
use crate::record::{self, Facts, Record};
use crate::services::Services;
use crate::status::ApiError;
use crate::stream::Sessions;

/// Where the time comes from.
pub(crate) type Clock = fn() -> Timestamp;

/// What every request shares.
pub(crate) struct Api {
    pub(crate) store: Store<Facts>,
    pub(crate) registry: Registry,
    pub(crate) admission: Chain,
    pub(crate) authorizer: Arc<Authorizer>,
    pub(crate) tokens: Arc<Tokens>,
    /// The certificate (PEM) that clients trust; empty when the cluster has none.
    pub(crate) authority: String,
    pub(crate) kubelet: OnceLock<Arc<dyn Kubelet>>,
    /// Held while the names of definitions are given out.
    pub(crate) settling: tokio::sync::Mutex<()>,
    /// Who has which address.
    pub(crate) services: Arc<Services>,
    pub(crate) documents: Documents,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Clock,
    /// Exec, attach and port-forward.
    pub(crate) sessions: Sessions,
    /// Cancelled when the server goes: watches end, new requests are turned away.
    pub(crate) stop: CancellationToken,
}

/// How a write is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// For somebody far away, to whom the answer is passed on when it is on disk.
    Far,
    /// The same for somebody in this process, who works on the answer on the same processors:
    /// those far away are told before him.
    Near,
    /// It is answered as soon as it is accepted.
    Ahead,
    /// It is only said what would be stored.
    Dry,
}

/// Why a write did not happen, as far as the caller can act on it.
#[derive(Debug)]
pub(crate) enum WriteFailure {
    /// Something else is there than was expected; read again and decide anew.
    Raced,
    /// It cannot be done.
    Failed(ApiError),
}

impl Api {
    /// The present time.
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// Where an object of a kind lives in the store.
    pub(crate) fn key(&self, kind: &Kind, namespace: &str, name: &str) -> Key {
        let namespace = if kind.namespaced { namespace } else { "" };
        Key::new(Arc::clone(&kind.stored_as), namespace, name)
    }

    /// Where the objects of a kind live: in one namespace or, with an empty one, in all.
    pub(crate) fn range(&self, kind: &Kind, namespace: &str) -> Range {
        let namespace = (kind.namespaced && !namespace.is_empty()).then(|| Arc::from(namespace));
        Range {
            kind: Arc::clone(&kind.stored_as),
            namespace,
        }
    }

    /// Stores an object at its key, or only says what would be stored.
    pub(crate) async fn put(
        &self,
        key: Key,
        expect: Expect,
        object: Value,
        manner: Manner,
    ) -> Result<bytes::Bytes, WriteFailure> {
        if manner == Manner::Dry {
            let revision = match expect {
                Expect::Absent => 0,
                Expect::Revision(revision) => revision,
            };
            return Ok(record::encode(object, revision));
        }
        let change = record::put(&key.kind, object);
        self.write(key, expect, change, manner).await
    }

    /// Carries a change out at a key.
    pub(crate) async fn write(
        &self,
        key: Key,
        expect: Expect,
        change: Change<Facts>,
        manner: Manner,
    ) -> Result<bytes::Bytes, WriteFailure> {
        let written = match manner {
            Manner::Ahead => self.store.write_ahead(key, expect, change).await,
            Manner::Near => self.store.write(key, expect, change.told_last()).await,
            Manner::Far | Manner::Dry => self.store.write(key, expect, change).await,
        };
        written.map(|record| record.value.clone()).map_err(failure)
    }

    /// Removes an object, leaving its last state to those who watch.
    pub(crate) async fn remove(
        &self,
        key: Key,
        revision: u64,
        last: Value,
    ) -> Result<bytes::Bytes, WriteFailure> {
        let change = record::delete(&key.kind, last);
        let written = self
            .store
            .write(key, Expect::Revision(revision), change)
            .await;
        written.map(|record| record.value.clone()).map_err(failure)
    }

    /// An object as it is now on disk.
    pub(crate) fn read(&self, key: &Key) -> Option<Value> {
        self.store.get(key).and_then(|record| parse(&record).ok())
    }
}

/// A stored object as JSON.
pub(crate) fn parse(record: &Record) -> Result<Value, ApiError> {
    serde_json::from_slice(&record.value).map_err(|error| {
        ApiError::internal(format!("{} is damaged in the store: {error}", record.key))
    })
}

fn failure(error: WriteError<Facts>) -> WriteFailure {
    match error {
        WriteError::Exists(_) | WriteError::Missing | WriteError::Conflict { .. } => {
            WriteFailure::Raced
        }
        WriteError::Storage(why) => {
            tracing::error!(%why, "a write could not be stored");
            WriteFailure::Failed(ApiError::internal(format!(
                "the write could not be stored: {why}"
            )))
        }
        WriteError::Closed => {
            WriteFailure::Failed(ApiError::unavailable("the server is shutting down"))
        }
    }
}
