//! Asking a container over HTTP or HTTPS, as `httpGet` wants it.

use std::sync::Arc;

use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::body::Bytes;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderName, HeaderValue, USER_AGENT};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::HTTPGetAction;
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

impl Target {
    /// Asks; every answer from 200 to 399 is a good one.
    pub(super) async fn get(&self, action: &HTTPGetAction) -> Result<(), String> {
        let stream = self.dial(action.host.as_deref(), &action.port).await?;
        let peer = stream.peer_addr().map_err(|error| error.to_string())?;
        let scheme = action.scheme.as_deref().unwrap_or("HTTP").to_lowercase();
        let path = action.path.as_deref().unwrap_or("/");
        let url = format!("{scheme}://{peer}/{}", path.trim_start_matches('/'));
        let failed = |error: String| format!("Get {url:?}: {error}");
        let request = request(action, &url).map_err(failed)?;
        let status = if scheme == "https" {
            let name = ServerName::IpAddress(IpAddr::from(peer.ip()));
            let stream = connector().connect(name, stream).await;
            ask(stream.map_err(|error| failed(error.to_string()))?, request).await
        } else {
            ask(stream, request).await
        };
        match status.map_err(failed)? {
            200..400 => Ok(()),
            status => Err(format!("HTTP probe failed with statuscode: {status}")),
        }
    }
}

/// The request, with the pod's own headers over the usual ones.
fn request(action: &HTTPGetAction, url: &str) -> Result<hyper::Request<Empty<Bytes>>, String> {
    let url: hyper::Uri = url.parse().map_err(|error| format!("{error}"))?;
    let host = url.authority().map_or("", |authority| authority.as_str());
    let mut request = hyper::Request::get(url.path_and_query().map_or("/", |path| path.as_str()))
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
) -> Result<u16, String> {
    let shaken = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = shaken.map_err(|error| error.to_string())?;
    let answered = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status().as_u16();
        // The server is let finish, but not for ever: what it thinks is in the status.
        let _ = Limited::new(answer.into_body(), LONGEST_ANSWER)
            .collect()
            .await;
        Ok::<_, hyper::Error>(status)
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
        let made = request(&action, "http://10.0.0.1:80/a b").map(|_| ());
        assert!(made.is_err());
        let made = request(&action, "http://10.0.0.1:80/live?x=1").unwrap();
        assert_eq!(made.headers()[HOST], "shop");
        assert_eq!(made.headers().get_all(HOST).iter().count(), 1);
        assert_eq!(made.uri(), "/live?x=1");
        let action: HTTPGetAction = serde_json::from_value(serde_json::json!({"port": 80,
            "httpHeaders": [{"name": "X-A", "value": "1\r\nX-B: 2"}]}))
        .unwrap();
        assert!(request(&action, "http://10.0.0.1:80/").is_err());
    }
}
