//! A server elsewhere, over HTTPS, that answers JSON with JSON.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use rcgen::{CertifiedKey, generate_simple_self_signed};
use rustls::pki_types::PrivateKeyDer;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

type Answer = Arc<dyn Fn(&str, &Value) -> Value + Send + Sync>;

/// A server that runs as long as the test; at the path `slow` it takes half a minute.
pub(crate) struct Https {
    pub(crate) address: SocketAddr,
    /// Whom to trust, as a `caBundle` has it.
    pub(crate) bundle: String,
}

impl Https {
    /// Starts one that answers like this, by path and body.
    pub(crate) async fn start(
        answer: impl Fn(&str, &Value) -> Value + Send + Sync + 'static,
    ) -> Https {
        let names = vec!["127.0.0.1".to_owned(), "hooks.tools.svc".to_owned()];
        let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let tls = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(serve(listener, acceptor, Arc::new(answer)));
        Https {
            address,
            bundle: STANDARD.encode(cert.pem()),
        }
    }

    /// How a configuration names a path of this server.
    pub(crate) fn client_config(&self, path: &str) -> Value {
        json!({"url": format!("https://{}/{path}", self.address), "caBundle": self.bundle})
    }
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, answer: Answer) {
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        let (acceptor, answer) = (acceptor.clone(), answer.clone());
        tokio::spawn(async move {
            let Ok(stream) = acceptor.accept(stream).await else {
                return;
            };
            let service = service_fn(|request: http::Request<hyper::body::Incoming>| {
                let answer = answer.clone();
                async move { Ok::<_, hyper::Error>(reply(request, answer).await) }
            });
            let server = hyper::server::conn::http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn reply(
    request: http::Request<hyper::body::Incoming>,
    answer: Answer,
) -> http::Response<Full<bytes::Bytes>> {
    let path = request.uri().path().trim_start_matches('/').to_owned();
    let body = request.into_body().collect().await.unwrap().to_bytes();
    if path == "slow" {
        tokio::time::sleep(Duration::from_secs(30)).await;
    }
    let answer = answer(&path, &serde_json::from_slice(&body).unwrap());
    http::Response::new(Full::new(answer.to_string().into()))
}
