//! Who the robot is: the credential that it has chosen for itself, and how often it has connected.

use std::{
    io,
    path::{Path, PathBuf},
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::files;

/// What is kept of it.
#[derive(Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Kept {
    credential: String,
    /// The end of its session's name at the broker: whoever comes there under a name puts out the one
    /// who was there under it, so nobody else knows it.
    client: String,
    revision: i64,
    /// The broker lets it in with the credential.
    registered: bool,
    /// The credential before, until the broker has taken the present one.
    previous: Option<String>,
    session: i64,
}

/// Who the robot is.
pub(crate) struct Identity {
    path: PathBuf,
    kept: Kept,
}

impl Identity {
    /// Reads it, or begins a new one.
    pub(crate) fn open(folder: &Path) -> io::Result<Self> {
        let path = folder.join("identity.json");
        let mut kept: Kept = files::read_json(&path)?.unwrap_or_default();
        if kept.credential.is_empty() {
            kept = Kept {
                credential: fresh(),
                ..Kept::default()
            };
        }
        if kept.client.is_empty() {
            kept.client = format!("{:016x}", rand::random::<u64>());
            files::replace_json(&path, &kept)?;
        }
        Ok(Self { path, kept })
    }

    /// The secret that is the robot's own.
    pub(crate) fn credential(&self) -> &str {
        &self.kept.credential
    }

    /// The end of the name of its session at the broker.
    pub(crate) fn client(&self) -> &str {
        &self.kept.client
    }

    /// Whether the broker is expected to let the robot in with it.
    pub(crate) fn is_registered(&self) -> bool {
        self.kept.registered
    }

    /// Notes whether it is.
    pub(crate) async fn set_registered(&mut self, registered: bool) -> io::Result<()> {
        if self.kept.registered == registered {
            return Ok(());
        }
        self.kept.registered = registered;
        self.save().await
    }

    /// The number of a connection that is about to be made: higher than all before.
    pub(crate) async fn next_session(&mut self) -> io::Result<i64> {
        self.kept.session += 1;
        self.save().await?;
        Ok(self.kept.session)
    }

    /// Chooses another credential when a later one is wanted, and says it with its revision.
    pub(crate) async fn rotate(&mut self, wanted: i64) -> io::Result<Option<(String, i64)>> {
        if wanted <= self.kept.revision {
            return Ok(None);
        }
        if self.kept.revision == 0 && !self.kept.registered {
            return Ok(None);
        }
        let before = std::mem::replace(&mut self.kept.credential, fresh());
        self.kept.previous = Some(before);
        self.kept.revision = wanted;
        self.save().await?;
        Ok(Some((self.kept.credential.clone(), wanted)))
    }

    /// Notes which revision the credential has.
    pub(crate) async fn learn_revision(&mut self, revision: i64) -> io::Result<()> {
        if revision <= self.kept.revision {
            return Ok(());
        }
        self.kept.revision = revision;
        self.save().await
    }

    /// The broker does not take the present credential: perhaps it never heard of it.
    pub(crate) async fn fall_back(&mut self) -> io::Result<bool> {
        let Some(previous) = self.kept.previous.take() else {
            return Ok(false);
        };
        self.kept.credential = previous;
        self.kept.revision -= 1;
        self.save().await?;
        Ok(true)
    }

    async fn save(&self) -> io::Result<()> {
        files::keep_json(&self.path, &self.kept).await
    }
}

/// 32 random bytes that nobody can guess.
fn fresh() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 32]>())
}

#[cfg(test)]
mod tests {
    use sandlot_api::robot::wire::SHORTEST_CREDENTIAL;

    use super::*;

    #[tokio::test]
    async fn a_robot_stays_who_it_is_and_counts_its_connections() {
        let folder = tempfile::tempdir().unwrap();
        let mut first = Identity::open(folder.path()).unwrap();
        assert!(first.credential().len() >= SHORTEST_CREDENTIAL);
        first.set_registered(true).await.unwrap();
        assert_eq!(first.next_session().await.unwrap(), 1);

        let mut again = Identity::open(folder.path()).unwrap();
        assert_eq!(again.credential(), first.credential());
        assert_eq!(again.client(), first.client());
        assert!(again.is_registered());
        assert_eq!(again.next_session().await.unwrap(), 2);
    }

    #[tokio::test]
    async fn a_credential_changes_once_for_each_revision_and_can_be_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let mut robot = Identity::open(folder.path()).unwrap();
        robot.set_registered(true).await.unwrap();
        robot.learn_revision(1).await.unwrap();
        let first = robot.credential().to_owned();
        let (second, revision) = robot.rotate(2).await.unwrap().unwrap();
        assert!(second != first && revision == 2);
        assert_eq!(robot.rotate(2).await.unwrap(), None);
        assert!(robot.fall_back().await.unwrap());
        assert_eq!(robot.credential(), first);
        assert!(!robot.fall_back().await.unwrap());
    }
}
