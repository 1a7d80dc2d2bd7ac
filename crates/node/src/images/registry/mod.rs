//! Talking to a registry: what it answers is bounded in size and time, whatever it answers.
//!
//! A pod's author chooses the registry, so a registry is not trusted: documents are read up
//! to a limit, redirections may not leave TLS, and passwords go to nobody who was not asked.

pub(crate) mod challenge;
pub(crate) mod credentials;
pub(crate) mod helpers;
mod login;
pub(crate) mod place;
mod push;
pub(crate) mod secrets;

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use http::StatusCode;
use http::header::{ACCEPT, AUTHORIZATION, HeaderValue, WWW_AUTHENTICATE};
use reqwest::{RequestBuilder, Response};
use serde::Deserialize;

use super::manifest::MANIFEST_TYPES;
use super::reference::{Digest, Reference};
use credentials::Credentials;

/// No manifest and no configuration is bigger than this; registries have the same limit.
const LONGEST_DOCUMENT: usize = 4 << 20;
/// No answer about a login or an error is longer than this.
const LONGEST_ANSWER: usize = 256 << 10;
const CONNECT: Duration = Duration::from_secs(15);
/// A registry that sends nothing for so long has gone.
const SILENCE: Duration = Duration::from_secs(60);
const MOST_REDIRECTS: usize = 5;

/// Why a registry did not give or take an image.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistryError {
    #[error("{0} is not found in the registry")]
    NotFound(String),
    #[error(
        "pull access denied for {image}: it does not exist or needs a login ({said}); \
         name a secret of type kubernetes.io/dockerconfigjson in imagePullSecrets, or use `docker login`"
    )]
    Denied { image: String, said: String },
    #[error("the registry asks to wait ({said}); too many requests")]
    Busy { said: String },
    #[error("the registry answers {status}: {said}")]
    Refused { status: StatusCode, said: String },
    #[error("the registry {host} cannot be reached: {error}")]
    Unreachable { host: String, error: String },
    #[error("the registry's answer is longer than {0} bytes")]
    TooLong(usize),
    #[error(
        "the registry sent {sent} where {wanted} was wanted: it lies or was changed on the way"
    )]
    WrongDigest { wanted: Digest, sent: Digest },
    #[error("the registry's answer makes no sense: {0}")]
    Nonsense(String),
    #[error("no registry can be asked, TLS cannot be set up on this machine: {0}")]
    NoTls(String),
}

impl RegistryError {
    /// Whether trying again at once may help.
    pub(crate) fn is_passing(&self) -> bool {
        match self {
            RegistryError::Unreachable { .. } => true,
            RegistryError::Refused { status, .. } => status.is_server_error(),
            _ => false,
        }
    }

    fn is_denied(&self) -> bool {
        matches!(self, RegistryError::Denied { .. })
    }
}

/// The way to all registries: found when the first image is pulled, since reading a machine's
/// certificates takes as long as the rest of a start, and keeping them some of its memory.
#[derive(Default)]
pub(crate) struct Registries {
    http: OnceLock<Result<reqwest::Client, String>>,
}

impl Registries {
    /// One repository, with a login or without.
    pub(crate) fn repository(
        &self,
        image: &Reference,
        credentials: Option<Credentials>,
    ) -> Result<Repository, RegistryError> {
        let http = self.http.get_or_init(Registries::client).clone();
        Ok(Repository {
            http: http.map_err(RegistryError::NoTls)?,
            base: base(image),
            image: image.clone(),
            credentials,
            login: Mutex::default(),
        })
    }

    /// With the machine's certificates.
    fn client() -> Result<reqwest::Client, String> {
        let mut roots = rustls::RootCertStore::empty();
        // Without any, plain and local registries still work; others say what is missing.
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(|error| error.to_string())?
            .with_root_certificates(roots)
            .with_no_client_auth();
        let stay_safe = reqwest::redirect::Policy::custom(|attempt| {
            let left_tls = attempt
                .previous()
                .last()
                .is_some_and(|from| from.scheme() == "https" && attempt.url().scheme() != "https");
            if left_tls {
                attempt.error("a redirection from https to http")
            } else if attempt.previous().len() > MOST_REDIRECTS {
                attempt.error("too many redirections")
            } else {
                attempt.follow()
            }
        });
        reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(stay_safe)
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE)
            .user_agent(concat!("sandlot/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| error.to_string())
    }
}

/// Where a repository is. Registries on this very machine are spoken to without TLS.
fn base(image: &Reference) -> String {
    let host = match image.registry() {
        "docker.io" => "registry-1.docker.io",
        other => other,
    };
    let scheme = if is_local(host) { "http" } else { "https" };
    format!("{scheme}://{host}/v2/{}", image.repository())
}

fn is_local(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name == "localhost"
        || name
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// A conversation about one repository.
pub(crate) struct Repository {
    http: reqwest::Client,
    base: String,
    image: Reference,
    credentials: Option<Credentials>,
    /// What the registry wanted to see, once it has said so.
    login: Mutex<Option<HeaderValue>>,
}

/// The bytes of a layer as they come.
pub(crate) type Blob = std::pin::Pin<Box<dyn Stream<Item = Result<Bytes, RegistryError>> + Send>>;

impl Repository {
    /// Speaks without TLS from now on.
    fn leave_tls(&mut self) {
        if let Some(rest) = self.base.strip_prefix("https://") {
            self.base = format!("http://{rest}");
        }
    }

    /// A manifest by tag or digest: its bytes and what they hash to.
    pub(crate) async fn manifest(&self, wanted: &str) -> Result<(Bytes, Digest), RegistryError> {
        let url = format!("{}/manifests/{wanted}", self.base);
        let answer = self
            .ask(
                |http| http.get(&url).header(ACCEPT, MANIFEST_TYPES.join(", ")),
                &self.image.to_string(),
            )
            .await?;
        let bytes = read(answer, LONGEST_DOCUMENT).await?;
        let digest = Digest::of(&bytes);
        match wanted.parse::<Digest>() {
            Ok(wanted) if wanted != digest => Err(RegistryError::WrongDigest {
                wanted,
                sent: digest,
            }),
            _ => Ok((bytes, digest)),
        }
    }

    /// A small document by its digest.
    pub(crate) async fn document(&self, wanted: &Digest) -> Result<Bytes, RegistryError> {
        let bytes = read(self.get_blob(wanted).await?, LONGEST_DOCUMENT).await?;
        let sent = Digest::of(&bytes);
        if sent == *wanted {
            Ok(bytes)
        } else {
            Err(RegistryError::WrongDigest {
                wanted: wanted.clone(),
                sent,
            })
        }
    }

    /// A layer's bytes. Whoever reads them checks the digest and the size.
    pub(crate) async fn blob(&self, wanted: &Digest) -> Result<Blob, RegistryError> {
        let answer = self.get_blob(wanted).await?;
        let host = self.image.registry().to_owned();
        Ok(Box::pin(answer.bytes_stream().map(move |part| {
            part.map_err(|error| unreachable(&host, &error))
        })))
    }

    async fn get_blob(&self, wanted: &Digest) -> Result<Response, RegistryError> {
        let url = format!("{}/blobs/{wanted}", self.base);
        let what = format!("{}'s part {wanted}", self.image);
        self.ask(|http| http.get(&url), &what).await
    }

    /// Asks; when the registry wants a login, logs in and asks again.
    async fn ask(
        &self,
        question: impl Fn(&reqwest::Client) -> RequestBuilder,
        what: &str,
    ) -> Result<Response, RegistryError> {
        let answer = self.send(question(&self.http), self.known_login()).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return self.check(answer, what).await;
        }
        let headers = answer.headers().get_all(WWW_AUTHENTICATE).iter();
        let wants = challenge::read(headers.filter_map(|header| header.to_str().ok()));
        let Some(wants) = wants else {
            return self.check(answer, what).await;
        };
        let Some(login) = self.log_in(&wants).await? else {
            return self.check(answer, what).await;
        };
        *self.login.lock().unwrap_or_else(PoisonError::into_inner) = Some(login.clone());
        let answer = self.send(question(&self.http), Some(login)).await?;
        self.check(answer, what).await
    }

    fn known_login(&self) -> Option<HeaderValue> {
        self.login
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    async fn send(
        &self,
        question: RequestBuilder,
        login: Option<HeaderValue>,
    ) -> Result<Response, RegistryError> {
        let question = match login {
            Some(login) => question.header(AUTHORIZATION, login),
            None => question,
        };
        let sent = question.send().await;
        sent.map_err(|error| unreachable(self.image.registry(), &error))
    }

    async fn check(&self, answer: Response, what: &str) -> Result<Response, RegistryError> {
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let said = said(answer).await;
        Err(match status {
            StatusCode::NOT_FOUND => RegistryError::NotFound(what.to_owned()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => RegistryError::Denied {
                image: self.image.to_string(),
                said,
            },
            StatusCode::TOO_MANY_REQUESTS => RegistryError::Busy { said },
            status => RegistryError::Refused { status, said },
        })
    }
}

/// Tries logins in turn, the nameless one last, until one is let in.
pub(crate) async fn manifest_with_any(
    registries: &Registries,
    image: &Reference,
    logins: Vec<Credentials>,
) -> Result<(Repository, Bytes, Digest), RegistryError> {
    let mut first_refusal = None;
    for login in logins.into_iter().map(Some).chain([None]) {
        let repository = registries.repository(image, login)?;
        match repository.manifest(&image.wanted()).await {
            Ok((bytes, digest)) => return Ok((repository, bytes, digest)),
            Err(error) if error.is_denied() => {
                first_refusal.get_or_insert(error);
            }
            Err(error) => return Err(error),
        }
    }
    Err(first_refusal.unwrap_or_else(|| RegistryError::NotFound(image.to_string())))
}

#[derive(Deserialize)]
struct Errors {
    errors: Vec<OneError>,
}

#[derive(Deserialize)]
struct OneError {
    #[serde(default)]
    code: String,
    #[serde(default)]
    message: String,
}

/// What the registry gives as its reason, as far as it keeps to the form.
async fn said(answer: Response) -> String {
    let status = answer.status();
    let Ok(body) = read(answer, LONGEST_ANSWER).await else {
        return status.to_string();
    };
    let Ok(errors) = serde_json::from_slice::<Errors>(&body) else {
        return status.to_string();
    };
    let said = errors
        .errors
        .into_iter()
        .take(3)
        .map(|error| match error.message.is_empty() {
            true => error.code,
            false => error.message,
        });
    let said: String = said
        .collect::<Vec<_>>()
        .join("; ")
        .chars()
        .take(300)
        .collect();
    if said.is_empty() {
        status.to_string()
    } else {
        said
    }
}

async fn read(mut answer: Response, most: usize) -> Result<Bytes, RegistryError> {
    let host = answer.url().host_str().unwrap_or_default().to_owned();
    let mut bytes = Vec::new();
    while let Some(part) = answer
        .chunk()
        .await
        .map_err(|error| unreachable(&host, &error))?
    {
        if bytes.len() + part.len() > most {
            return Err(RegistryError::TooLong(most));
        }
        bytes.extend_from_slice(&part);
    }
    Ok(bytes.into())
}

/// The innermost reason is the one that helps.
fn unreachable(host: &str, error: &reqwest::Error) -> RegistryError {
    use std::error::Error as _;
    let mut innermost = error.source();
    while let Some(deeper) = innermost.and_then(|error| error.source()) {
        innermost = Some(deeper);
    }
    RegistryError::Unreachable {
        host: host.to_owned(),
        error: innermost.map_or_else(|| error.to_string(), ToString::to_string),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_spoken_to_without_tls() {
        for (image, expected) in [
            ("nginx", "https://registry-1.docker.io/v2/library/nginx"),
            ("localhost:5000/x", "http://localhost:5000/v2/x"),
            ("127.8.0.1:5000/x", "http://127.8.0.1:5000/v2/x"),
            ("[::1]:5000/x", "http://[::1]:5000/v2/x"),
            ("10.0.0.1:5000/x", "https://10.0.0.1:5000/v2/x"),
            (
                "localhost.evil.example/x",
                "https://localhost.evil.example/v2/x",
            ),
        ] {
            assert_eq!(base(&image.parse().unwrap()), expected);
        }
    }
}
