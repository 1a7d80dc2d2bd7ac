//! The bucket that sessions' files are in, where they are in one: opened, made if it is not there,
//! and asked whether it takes and gives. Links to files in it are good by themselves.

use std::{sync::Arc, time::Duration};

use futures::TryStreamExt;
use jiff::Timestamp;
use object_store::{ObjectStoreExt, PutPayload, aws::AmazonS3Builder, path::Path};

use super::{FileError, Workspaces, place::place, settling::Settling};
use crate::settings::Bucket;

/// How long a link to a file is good.
const LINK: Duration = Duration::from_secs(3600);

impl Workspaces {
    pub(super) fn in_bucket(bucket: &Bucket) -> Result<Self, FileError> {
        // The store's client takes the process's own; that there is one already is fine.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&bucket.name)
            .with_region(&bucket.region);
        if let Some(endpoint) = &bucket.endpoint {
            builder = builder
                .with_endpoint(endpoint)
                .with_allow_http(endpoint.starts_with("http://"));
        }
        if let Some((key, secret)) = &bucket.credentials {
            builder = builder
                .with_access_key_id(key)
                .with_secret_access_key(secret);
        }
        let store = Arc::new(builder.build()?);
        Ok(Self {
            store: store.clone(),
            signer: Some(store),
            bucket: bucket.name.clone(),
            settling: Settling::default(),
        })
    }

    /// Whether the store takes and gives. A bucket that is not there is made.
    pub(crate) async fn answers(&self) -> Result<(), FileError> {
        match self.probe().await {
            Err(FileError::Store(object_store::Error::NotFound { .. })) => {
                self.make_bucket().await?;
                self.probe().await
            }
            probed => probed,
        }
    }

    async fn probe(&self) -> Result<(), FileError> {
        let probe = Path::from("health/probe");
        let written = Timestamp::now().to_string();
        let content = PutPayload::from(written.clone().into_bytes());
        self.store.put(&probe, content).await?;
        let read = self.store.get(&probe).await?.bytes().await?;
        // Another gateway may have written in between; nothing at all is what must not be.
        match read.is_empty() {
            false => Ok(()),
            true => Err(FileError::Missing(probe.to_string())),
        }
    }

    /// Makes the bucket, by the same address that files are written to.
    async fn make_bucket(&self) -> Result<(), FileError> {
        let Some(signer) = &self.signer else {
            return Ok(());
        };
        let place = Path::default();
        let url = signer.signed_url(http::Method::PUT, &place, LINK).await?;
        let refused = |why: String| FileError::Bucket(self.bucket.clone(), why);
        let made = reqwest::Client::new().put(url).send().await;
        let made = made.map_err(|error| refused(error.without_url().to_string()))?;
        // Another gateway may have been faster.
        if made.status().is_success() || made.status() == http::StatusCode::CONFLICT {
            tracing::info!(bucket = self.bucket, "the bucket was made");
            return Ok(());
        }
        Err(refused(made.status().to_string()))
    }

    /// Whether there is a folder where a file is to be, or a file where it needs a folder. Only
    /// lists are asked for: what stores say of a name that is but a folder's differs.
    pub(super) async fn clashes(&self, at: &Path) -> Result<bool, FileError> {
        if self.store.list(Some(at)).try_next().await?.is_some() {
            return Ok(true);
        }
        let names: Vec<_> = at.parts().collect();
        // The first two are the prefix of the session's own.
        for end in 3..names.len() {
            let [folder, file] = [end - 1, end].map(|end| Path::from_iter(names[..end].to_vec()));
            let listed = self.store.list_with_delimiter(Some(&folder)).await?;
            if listed.objects.iter().any(|found| found.location == file) {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// A link to a file that needs no other proof, where the store makes such.
    pub(crate) async fn link(
        &self,
        session: &str,
        path: &str,
    ) -> Result<Option<String>, FileError> {
        let Some(signer) = &self.signer else {
            return Ok(None);
        };
        let place = place(session, path)?;
        let link = signer.signed_url(http::Method::GET, &place, LINK).await?;
        Ok(Some(link.to_string()))
    }
}
