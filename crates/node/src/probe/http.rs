//! Asking a container over HTTP or HTTPS, as `httpGet` wants it.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, LOCATION, USER_AGENT};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
use reqwest::Url;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{
    HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier,
};
use tokio_rustls::rustls::crypto::{CryptoProvider, ring};
use tokio_rustls::rustls::pki_types::{CertificateDer, IpAddr, ServerName, UnixTime};
use tokio_rustls::rustls::{ClientConfig, DigitallySignedStruct, Error, SignatureScheme};

use super::Target;
use super::ask::LONGEST_ANSWER;

/// A server that sends a probe on more often than this is taken to go in a circle.
const MOST_REDIRECTS: usize = 10;

/// What a server said.
struct Answer {
    status: u16,
    /// Where it says to ask instead.
    elsewhere: Option<String>,
}

impl Target {
    /// Asks; every answer from 200 to 399 is a good one. Who is sent on asks there, as long
    /// as that is the same host.
    pub(super) async fn get(&self, action: &HTTPGetAction) -> Result<(), String> {
        let mut url = self.url(action)?;
        for _ in 0..=MOST_REDIRECTS {
            let answer = self.get_once(action, &url).await;
            let answer = answer.map_err(|error| format!("Get {:?}: {error}", url.as_str()))?;
            match on(&answer, &url) {
                Some(next) => url = next,
                None if (200..400).contains(&answer.status) => return Ok(()),
                None => {
                    let status = answer.status;
                    return Err(format!("HTTP probe failed with statuscode: {status}"));
                }
            }
        }
        Err(format!(
            "Get {:?}: stopped after {MOST_REDIRECTS} redirects",
            url.as_str()
        ))
    }

    fn url(&self, action: &HTTPGetAction) -> Result<Url, String> {
        let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
        let host = self.host(action.host.as_deref());
        let port = self.port(&action.port)?;
        let path = action.path.as_deref().unwrap_or("/");
        let path = path.trim_start_matches('/');
        let url = match host.contains(':') {
            true => format!("{scheme}://[{host}]:{port}/{path}"),
            false => format!("{scheme}://{host}:{port}/{path}"),
        };
        url.parse().map_err(|error| format!("{url:?}: {error}"))
    }

    async fn get_once(&self, action: &HTTPGetAction, url: &Url) -> Result<Answer, String> {
        let host = url.host_str().ok_or("the URL has no host")?;
        let port = url.port_or_known_default().ok_or("the URL has no port")?;
        let stream = self.dial_port(host, port).await?;
        let request = request(action, url)?;
        if url.scheme() == "http" {
            return ask(stream, request).await;
        }
        let peer = stream.peer_addr().map_err(|error| error.to_string())?;
        let name = ServerName::try_from(host.to_owned())
            .unwrap_or(ServerName::IpAddress(IpAddr::from(peer.ip())));
        let stream = connector().connect(name, stream).await;
        ask(stream.map_err(|error| error.to_string())?, request).await
    }
}

/// Where to ask next: where the answer says, unless that is another host. Who is sent to
/// another has been answered well enough.
fn on(answer: &Answer, asked: &Url) -> Option<Url> {
    let follows = matches!(answer.status, 301 | 302 | 303 | 307 | 308);
    let next = asked.join(answer.elsewhere.as_ref()?).ok()?;
    let spoken = matches!(next.scheme(), "http" | "https");
    (follows && spoken && next.host() == asked.host()).then_some(next)
}

/// The request, with the pod's own headers over the usual ones.
fn request(action: &HTTPGetAction, url: &Url) -> Result<hyper::Request<Empty<Bytes>>, String> {
    let host = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut request = hyper::Request::get(path)
        .header(HOST, host)
        .header(USER_AGENT, "kube-probe/1.33")
        .header(ACCEPT, "*/*")
        .header(CONNECTION, "close")
        .body(Empty::new())
        .map_err(|error| error.to_string())?;
    for header in action.http_headers.iter().flatten() {
        let name: HeaderName = header.name.parse().map_err(|error| format!("{error}"))?;
        let value: HeaderValue = header.value.parse().map_err(|error| format!("{error}"))?;
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

async fn ask(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: hyper::Request<Empty<Bytes>>,
) -> Result<Answer, String> {
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    let answered = async {
        let answer = sender.send_request(request).await?;
        let said = Answer {
            status: answer.status().as_u16(),
            elsewhere: answer
                .headers()
                .get(LOCATION)
                .and_then(|to| Some(to.to_str().ok()?.to_owned())),
        };
        // The server is let finish, but not for ever: what it thinks is in the status.
        let _ = Limited::new(answer.into_body(), LONGEST_ANSWER)
            .collect()
            .await;
        Ok::<_, hyper::Error>(said)
    };
    tokio::select! {
        answer = answered => answer.map_err(|error| error.to_string()),
        Err(error) = connection => Err(error.to_string()),
    }
}

/// Probes ask whether a server serves, not who it is: as with the kubelet, its certificate
/// is not checked.
fn connector() -> TlsConnector {
    let provider = Arc::new(ring::default_provider());
    let any = Arc::new(AnyServer(provider.clone()));
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map(|builder| {
            builder
                .dangerous()
                .with_custom_certificate_verifier(any)
                .with_no_client_auth()
        });
    match config {
        Ok(config) => TlsConnector::from(Arc::new(config)),
        Err(error) => unreachable!("the default versions fit the default provider: {error}"),
    }
}

#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        tokio_rustls::rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pods_own_headers_replace_the_usual_ones_and_cannot_smuggle_more() {
        let action: HTTPGetAction = serde_json::from_value(serde_json::json!({"port": 80,
            "httpHeaders": [{"name": "host", "value": "shop"}, {"name": "X-A", "value": "1"}]}))
        .unwrap();
        let at = |url: &str| url.parse::<Url>().unwrap();
        let made = request(&action, &at("http://10.0.0.1:81/a b\r\nX-B: 2")).unwrap();
        assert_eq!(made.uri(), "/a%20bX-B:%202");
        let made = request(&action, &at("http://10.0.0.1:81/live?x=1#y")).unwrap();
        assert_eq!(made.headers()[HOST], "shop");
        assert_eq!(made.headers().get_all(HOST).iter().count(), 1);
        assert_eq!(made.uri(), "/live?x=1");
        let action: HTTPGetAction = serde_json::from_value(serde_json::json!({"port": 80,
            "httpHeaders": [{"name": "X-A", "value": "1\r\nX-B: 2"}]}))
        .unwrap();
        assert!(request(&action, &at("http://10.0.0.1:80/")).is_err());
        let plain = HTTPGetAction::default();
        let made = request(&plain, &at("http://10.0.0.1:81/")).unwrap();
        assert_eq!(made.headers()[HOST], "10.0.0.1:81");
    }

    #[test]
    fn who_is_sent_on_asks_there_but_never_another_host() {
        let asked: Url = "http://10.0.0.1:80/a/b?c".parse().unwrap();
        for (status, elsewhere, next) in [
            (302, "/there?d", Some("http://10.0.0.1/there?d")),
            (307, "there", Some("http://10.0.0.1/a/there")),
            (
                301,
                "https://10.0.0.1:8443/",
                Some("https://10.0.0.1:8443/"),
            ),
            (302, "http://10.0.0.2/", None),
            (302, "//10.0.0.2/", None),
            (302, "file:///etc/passwd", None),
            (304, "/there", None),
            (200, "/there", None),
        ] {
            let answer = Answer {
                status,
                elsewhere: Some(elsewhere.to_owned()),
            };
            let found = on(&answer, &asked).map(String::from);
            assert_eq!(found.as_deref(), next, "{status} {elsewhere}");
        }
    }
}
