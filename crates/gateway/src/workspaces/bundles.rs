//! Bundles of packages, which lie in the store beside sessions' files.

use std::future::ready;

use futures::{StreamExt, TryStreamExt};
use jiff::Timestamp;
use object_store::{
    ObjectStoreExt,
    path::{Path, PathPart},
};

use super::{Content, FileError, Workspaces};

/// Where they are: beside the sessions, none of which can have this prefix.
const BUNDLES: &str = "packages";

impl Workspaces {
    /// Keeps a bundle of packages for sessions to come.
    pub(crate) async fn keep_bundle(
        &self,
        name: &str,
        content: Content,
        most: u64,
    ) -> Result<u64, FileError> {
        self.put_at(&bundle(name), content, most, ready(Ok(())))
            .await
    }

    /// A bundle of packages, if there is one that is not older than this.
    pub(crate) async fn bundle(
        &self,
        name: &str,
        not_before: Timestamp,
    ) -> Result<Option<Content>, FileError> {
        let got = match self.store.get(&bundle(name)).await {
            Err(object_store::Error::NotFound { .. }) => return Ok(None),
            got => got?,
        };
        let made = got.meta.last_modified.timestamp_millis();
        if made < not_before.as_millisecond() {
            return Ok(None);
        }
        let content = got.into_stream().map_err(std::io::Error::other);
        Ok(Some(content.boxed()))
    }

    /// Forgets the bundles of packages that are older than this.
    pub(crate) async fn forget_bundles(&self, not_before: Timestamp) -> Result<(), FileError> {
        let all = Path::from(BUNDLES);
        let mut listed = self.store.list(Some(&all));
        while let Some(found) = listed.try_next().await? {
            if found.last_modified.timestamp_millis() < not_before.as_millisecond() {
                self.store.delete(&found.location).await?;
            }
        }
        Ok(())
    }
}

/// Where a bundle of packages is.
fn bundle(name: &str) -> Path {
    Path::from_iter([PathPart::from(BUNDLES), PathPart::from(name)])
}
