//! Giving an image to a registry.

use bytes::Bytes;
use futures::Stream;
use http::StatusCode;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Body, Url};

use super::{RegistryError, Repository};
use crate::images::reference::Digest;

impl Repository {
    /// Whether the registry has these bytes already.
    pub(crate) async fn has(&self, blob: &Digest) -> Result<bool, RegistryError> {
        let url = format!("{}/blobs/{blob}", self.base);
        match self.ask(|http| http.head(&url), "").await {
            Ok(_) => Ok(true),
            Err(RegistryError::NotFound(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives bytes of a known digest and length.
    pub(crate) async fn put_blob<S>(
        &self,
        digest: &Digest,
        size: u64,
        bytes: S,
    ) -> Result<(), RegistryError>
    where
        S: Stream<Item = std::io::Result<Bytes>> + Send + 'static,
    {
        let url = format!("{}/blobs/uploads/", self.base);
        // The login of this question serves for the bytes, which can be sent only once.
        let begun = self
            .ask(
                |http| http.post(&url).header(CONTENT_LENGTH, 0),
                "the repository",
            )
            .await?;
        let location = begun
            .headers()
            .get(LOCATION)
            .and_then(|to| to.to_str().ok());
        let location = location
            .ok_or_else(|| RegistryError::Nonsense("an upload without a place".to_owned()))?;
        let mut to = Url::parse(&url)
            .and_then(|url| url.join(location))
            .map_err(|error| {
                RegistryError::Nonsense(format!("an upload to {location:?}: {error}"))
            })?;
        to.query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        let ours = Url::parse(&self.base).is_ok_and(|ours| ours.origin() == to.origin());
        // The login is for this registry, not for where it sends us.
        let login = if ours { self.known_login() } else { None };
        let question = self
            .http
            .put(to)
            .header(CONTENT_TYPE, "application/octet-stream")
            .header(CONTENT_LENGTH, size)
            .body(Body::wrap_stream(bytes));
        let answer = self.send(question, login).await?;
        self.check(answer, "the upload").await.map(|_| ())
    }

    /// Gives the manifest, with which the image is there.
    pub(crate) async fn put_manifest(&self, kind: &str, bytes: Bytes) -> Result<(), RegistryError> {
        let url = format!("{}/manifests/{}", self.base, self.image.wanted());
        let answer = self
            .ask(
                |http| {
                    http.put(&url)
                        .header(CONTENT_TYPE, kind)
                        .body(bytes.clone())
                },
                "the repository",
            )
            .await?;
        match answer.status() {
            StatusCode::CREATED | StatusCode::OK | StatusCode::ACCEPTED => Ok(()),
            status => Err(RegistryError::Refused {
                status,
                said: "instead of taking the manifest".to_owned(),
            }),
        }
    }
}
