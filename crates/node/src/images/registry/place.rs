//! A place in a registry, for an image whose parts do not lie in this node's store.

use bytes::Bytes;
use futures::Stream;

use super::{Registries, RegistryError, Repository, credentials::Keyring};
use crate::images::reference::{Digest, Reference};

/// The registry did not take it, or what was asked for makes no sense.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct PlaceError(String);

/// Where an image is given, part by part and its manifest last.
pub struct Place(Repository);

impl Place {
    /// The place that an image's name names. Logins are those of a `config.json`; a registry that
    /// is `plain` is spoken to without TLS, wherever it is.
    pub fn find(image: &str, logins: Option<&[u8]>, plain: bool) -> Result<Self, PlaceError> {
        let reference: Reference = image
            .parse()
            .map_err(|_| PlaceError(format!("{image:?} is no name for an image")))?;
        let mut keyring = Keyring::default();
        if let Some(logins) = logins {
            keyring
                .add_config(logins)
                .map_err(|error| PlaceError(format!("its logins cannot be read: {error}")))?;
        }
        let login = keyring.for_image(&reference).into_iter().next();
        let mut repository = Registries::default().repository(&reference, login)?;
        if plain {
            repository.leave_tls();
        }
        Ok(Self(repository))
    }

    /// Whether the registry has these bytes already.
    pub async fn has(&self, digest: &str) -> Result<bool, PlaceError> {
        Ok(self.0.has(&read(digest)?).await?)
    }

    /// Gives bytes of a known digest and length.
    pub async fn put<S>(&self, digest: &str, size: u64, bytes: S) -> Result<(), PlaceError>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        Ok(self.0.put_blob(&read(digest)?, size, bytes).await?)
    }

    /// Gives the manifest, with which the image is there.
    pub async fn finish(&self, kind: &str, manifest: Bytes) -> Result<(), PlaceError> {
        Ok(self.0.put_manifest(kind, manifest).await?)
    }
}

impl From<RegistryError> for PlaceError {
    fn from(error: RegistryError) -> Self {
        Self(error.to_string())
    }
}

fn read(digest: &str) -> Result<Digest, PlaceError> {
    let digest = digest.parse();
    digest.map_err(|_| PlaceError("a part has no digest that a registry knows".to_owned()))
}
