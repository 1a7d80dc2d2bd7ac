//! Images that somebody else keeps track of: what pods were saved as. They stay until they are
//! given up by name, whether a pod uses them or not, and are for pods of their own namespace only.
//! What comes first in their names, after what they all begin with, is that namespace.

use std::io;

use k8s_openapi::api::core::v1::Pod;

use super::Images;
use super::commit::{self, CommitError};
use super::pull::Progress;
use super::reference::{Digest, Reference};
use super::registry::credentials::Keyring;
use super::store::NotRemoved;

impl Images {
    /// Whether this is the name of such an image.
    pub(crate) fn is_kept(&self, name: &str) -> bool {
        self.kept
            .as_ref()
            .is_some_and(|kept| name.starts_with(kept.as_str()))
    }

    /// Why a pod may not have an image, if that is what another namespace's pod was saved as.
    pub(crate) fn is_others(&self, pod: &Pod, image: &Reference) -> Option<String> {
        let name = image.to_string();
        let rest = name.strip_prefix(self.kept.as_ref()?.as_str())?;
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let own = rest
            .strip_prefix(namespace)
            .is_some_and(|rest| rest.starts_with('/'));
        (!own).then(|| {
            format!("the image {name:?} is what a sandbox of another namespace was saved as")
        })
    }

    /// All of them that are here.
    pub(crate) fn kept(&self) -> Vec<String> {
        let names = self.store.list().into_iter().map(|record| record.name);
        names.filter(|name| self.is_kept(name)).collect()
    }

    /// Removes one of them, unless a pod still uses it; whether it is gone.
    pub(crate) fn give_up(&self, name: &str) -> io::Result<bool> {
        if !self.is_kept(name) {
            return Ok(true);
        }
        match self.store.remove(name, &self.uses()) {
            Ok(_) | Err(NotRemoved::Unknown(_)) => Ok(true),
            Err(NotRemoved::InUse { .. }) => Ok(false),
            Err(NotRemoved::Io(error)) => Err(error),
        }
    }

    /// Gives one to the registry that its name names.
    pub(crate) async fn give(&self, name: &Reference) -> Result<Digest, CommitError> {
        let mut keyring = Keyring::default();
        self.add_own_logins(&mut keyring, name).await;
        let login = keyring.for_image(name).into_iter().next();
        let (registries, full) = (self.puller.registries(), name.to_string());
        commit::push(
            &self.store,
            registries,
            &full,
            name,
            login,
            &Progress::default(),
        )
        .await
    }
}
