//! One call over HTTPS.

use std::sync::Arc;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::place::Found;

/// No answer that makes sense is bigger.
const LARGEST: usize = 8 * 1024 * 1024;

/// Whom to trust: the authorities in the bundle or, without one, those of this machine.
pub(super) fn trust(bundle: Option<&[u8]>) -> Result<Arc<ClientConfig>, String> {
    let mut roots = RootCertStore::empty();
    match bundle {
        Some(bundle) => {
            for certificate in CertificateDer::pem_slice_iter(bundle) {
                let certificate =
                    certificate.map_err(|error| format!("the caBundle is damaged: {error}"))?;
                roots
                    .add(certificate)
                    .map_err(|error| format!("the caBundle is damaged: {error}"))?;
            }
        }
        None => {
            // Some of a machine's authorities are often unreadable; the others serve.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// What the webhook answers to a JSON document. Whoever calls sets the deadline.
pub(super) async fn post(
    tls: Arc<ClientConfig>,
    place: &Found,
    body: String,
) -> Result<Bytes, String> {
    let what = |error: &dyn std::fmt::Display| error.to_string();
    let tls = TlsConnector::from(tls);
    let name = ServerName::try_from(place.host.clone()).map_err(|error| what(&error))?;
    let (host, port) = &place.address;
    let stream = TcpStream::connect((host.as_str(), *port))
        .await
        .map_err(|error| what(&error))?;
    let stream = tls
        .connect(name, stream)
        .await
        .map_err(|error| what(&error))?;
    let (mut client, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| what(&error))?;
    let request = Request::post(&place.path)
        .header(header::HOST, &place.host)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::ACCEPT, "application/json")
        .header(header::CONNECTION, "close")
        .body(Full::new(Bytes::from(body)))
        .map_err(|error| what(&error))?;
    let exchange = async {
        let answer = client
            .send_request(request)
            .await
            .map_err(|error| what(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(what(&format!("the server answered {}", answer.status())));
        }
        let body = Limited::new(answer.into_body(), LARGEST).collect().await;
        Ok(body.map_err(|error| what(&error))?.to_bytes())
    };
    tokio::pin!(exchange);
    // The connection only moves while it is polled, and ends with the exchange.
    tokio::select! {
        answer = &mut exchange => answer,
        _ = connection => exchange.await,
    }
}
