//! Whether what the gateway works with answers: asked for by whoever wants to know, and not more
//! often than makes sense.

use std::time::Duration;

use tokio::{sync::Mutex, time::Instant};

use crate::gateway::Gateway;

/// How long each part may take to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// An answer this young is given again.
const FRESH: Duration = Duration::from_secs(2);

/// What was found last, and when.
#[derive(Default)]
pub(crate) struct Pulse(Mutex<Option<(Instant, Found)>>);

/// How each part is, or why it is not well.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) database: Result<(), String>,
    pub(crate) storage: Result<(), String>,
    pub(crate) nodes: Result<(), String>,
}

impl Found {
    pub(crate) fn is_well(&self) -> bool {
        self.complaints().next().is_none()
    }

    /// What is not well, and why.
    pub(crate) fn complaints(&self) -> impl Iterator<Item = &str> {
        let parts = [&self.database, &self.storage, &self.nodes];
        parts
            .into_iter()
            .filter_map(|part| part.as_ref().err().map(String::as_str))
    }
}

impl Gateway {
    /// Asks every part, unless that has just been done. Who asks meanwhile waits for the answer.
    pub(crate) async fn pulse(&self) -> Found {
        let mut last = self.pulse.0.lock().await;
        if let Some((when, found)) = &*last
            && when.elapsed() < FRESH
        {
            return found.clone();
        }
        let (database, storage, nodes) = tokio::join!(
            ask(self.ledger.answers()),
            ask(self.files.answers()),
            ask(self.claims.answers()),
        );
        let found = Found {
            database,
            storage,
            nodes,
        };
        *last = Some((Instant::now(), found.clone()));
        found
    }
}

async fn ask<E: std::fmt::Display>(
    asked: impl Future<Output = Result<(), E>>,
) -> Result<(), String> {
    match tokio::time::timeout(PATIENCE, asked).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    }
}
