//! Files that an execution left: kept in the session's workspace before anybody hears that it
//! is over, so that who hears it can fetch them.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use futures::{StreamExt, TryStreamExt, future::join_all};
use sandlot_api::executor::{Ended, File as Changed};
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::{
    executors::Executor, gateway::Gateway, ledger::File, moment::of_millis, runs::AGAIN,
    workspaces::FileError,
};

/// How many files are fetched at the same time.
const AT_ONCE: usize = 8;
/// How long a store that is away is waited for: what a run left is lost with its pod otherwise.
const STORE: Duration = Duration::from_secs(60);

impl Gateway {
    /// Keeps the files that are new or changed, and forgets those that are gone. What cannot be
    /// kept is not an artifact, and the log says why.
    pub(crate) async fn keep_files(
        &self,
        session: &str,
        executor: &Executor,
        ended: &Ended,
    ) -> Vec<File> {
        let deadline = Instant::now() + STORE;
        for path in &ended.removed {
            if let Err(error) = self.files.remove(session, path).await {
                tracing::warn!(%error, session, path, "a file that is gone is still kept");
            }
        }
        let mut kept = Vec::new();
        for some in ended.changed.chunks(AT_ONCE) {
            let keeping = some
                .iter()
                .map(|changed| self.keep_patiently(session, executor, changed, deadline));
            for (changed, file) in some.iter().zip(join_all(keeping).await) {
                match file {
                    Ok(file) => kept.push(file),
                    Err(error) => {
                        tracing::warn!(%error, session, path = changed.path, "a file could not be kept");
                    }
                }
            }
        }
        kept
    }

    /// Keeps a file, as soon as there is a store to keep it in.
    async fn keep_patiently(
        &self,
        session: &str,
        executor: &Executor,
        changed: &Changed,
        deadline: Instant,
    ) -> Result<File, FileError> {
        let mut failures = 0;
        loop {
            match self.keep_file(session, executor, changed).await {
                Err(FileError::Store(error)) if Instant::now() < deadline => {
                    tracing::debug!(%error, session, path = changed.path, "keeping a file; trying again");
                    failures += 1;
                    tokio::time::sleep(AGAIN.after(failures)).await;
                }
                kept => return kept,
            }
        }
    }

    async fn keep_file(
        &self,
        session: &str,
        executor: &Executor,
        changed: &Changed,
    ) -> Result<File, FileError> {
        let content = executor.read(&changed.path).await;
        let content = content.map_err(|status| FileError::Broken(status.message().to_owned()))?;
        let sum = Arc::new(Mutex::new(Sha256::new()));
        let summing = sum.clone();
        let content = content.inspect_ok(move |piece| {
            summing
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .update(piece);
        });
        // The session's own disk is the limit here.
        let size = self
            .files
            .put(session, &changed.path, content.boxed(), u64::MAX)
            .await?;
        let sum = std::mem::take(&mut *sum.lock().unwrap_or_else(PoisonError::into_inner));
        let sum: String = sum
            .finalize()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Ok(File {
            path: changed.path.clone(),
            size,
            modified: of_millis(changed.modified_millis),
            checksum: Some(format!("sha256:{sum}")),
        })
    }
}

/// What a file is, by where it lies.
pub(crate) fn kind(path: &str) -> &'static str {
    if path.starts_with("output/") {
        "output"
    } else if path.starts_with("logs/") || path.ends_with(".log") {
        "log"
    } else {
        "artifact"
    }
}

/// What a file holds, by its name.
pub(crate) fn mime(path: &str) -> String {
    mime_guess::from_path(path)
        .first_or_octet_stream()
        .essence_str()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_told_apart_by_place_and_name() {
        assert_eq!(
            (kind("output/a.csv"), mime("output/a.csv")),
            ("output", "text/csv".into())
        );
        assert_eq!((kind("x.log"), kind("logs/x")), ("log", "log"));
        assert_eq!(
            (kind("a"), mime("a")),
            ("artifact", "application/octet-stream".into())
        );
    }
}
