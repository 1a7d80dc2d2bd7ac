//! What the robot is to do, as it was last told: kept, so that it goes on while it is cut off and
//! after it was switched off.

use std::{
    io,
    path::{Path, PathBuf},
};

use sandlot_api::robot::wire::Desired;

use crate::files;

/// What the robot was last told.
pub(crate) struct Wanted {
    path: PathBuf,
    document: Desired,
}

impl Wanted {
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("desired.json");
        let document = files::read_json(&path)?.unwrap_or_default();
        Ok(Self { path, document })
    }

    pub(crate) fn document(&self) -> &Desired {
        &self.document
    }

    /// Takes a document, unless it is older than what is known. Says whether it was taken.
    pub(crate) async fn take(&mut self, document: Desired) -> io::Result<bool> {
        let same_count = document.epoch == self.document.epoch;
        if same_count && document.version <= self.document.version {
            return Ok(false);
        }
        files::keep_json(&self.path, &document).await?;
        self.document = document;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(epoch: &str, version: i64) -> Desired {
        Desired {
            version,
            epoch: epoch.to_owned(),
            ..Desired::default()
        }
    }

    #[tokio::test]
    async fn older_documents_are_passed_over_unless_somebody_has_lost_count() {
        let folder = tempfile::tempdir().unwrap();
        let mut wanted = Wanted::open(folder.path()).unwrap();
        assert!(wanted.take(document("a", 5)).await.unwrap());
        assert!(!wanted.take(document("a", 5)).await.unwrap());
        assert!(!wanted.take(document("a", 4)).await.unwrap());
        assert!(wanted.take(document("b", 1)).await.unwrap());
        drop(wanted);
        let wanted = Wanted::open(folder.path()).unwrap();
        assert_eq!(wanted.document().epoch, "b");
    }
}
