//! Answers the API server's questions over TLS.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use axum::{Json, Router, extract::DefaultBodyLimit, http::StatusCode, routing::post};
use base64::{Engine, engine::general_purpose::STANDARD};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
    service::TowerToHyperService,
};
use kube::core::{
    DynamicObject,
    admission::{AdmissionRequest, AdmissionResponse, AdmissionReview, Operation as Asked},
};
use serde_json::{Value, json};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::certificates::Served;
use crate::{
    Error,
    admission::{Operation, check, fill_in},
};

/// The API takes no larger object, and a review holds two.
const LARGEST_BODY: usize = 8 * 1024 * 1024;
/// Connections at once; API servers keep a few open.
const CONNECTIONS: usize = 64;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(5);
/// How long a connection may live: API servers make another when they need one.
const CONNECTION: Duration = Duration::from_secs(600);

/// Serves until cancelled.
pub(super) async fn serve(
    address: SocketAddr,
    served: Arc<Served>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let failed = |error: std::io::Error| Error::Serve {
        what: "the admission webhook",
        address,
        error,
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| failed(std::io::Error::other(error)))?
        .with_no_client_auth()
        .with_cert_resolver(served);
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let (places, connections) = (Arc::new(Semaphore::new(CONNECTIONS)), TaskTracker::new());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = cancel.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of descriptors, most likely: let some close.
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        let (acceptor, cancel) = (acceptor.clone(), cancel.clone());
        connections.spawn(async move {
            let _place = place;
            let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await
            else {
                return;
            };
            let builder = auto::Builder::new(TokioExecutor::new());
            let service = TowerToHyperService::new(router());
            let conversation = builder.serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                _ = tokio::time::timeout(CONNECTION, conversation) => {}
                () = cancel.cancelled() => {}
            }
        });
    }
    connections.close();
    connections.wait().await;
    Ok(())
}

/// The two questions.
pub(super) fn router() -> Router {
    Router::new()
        .route("/mutate", post(|review| answer(review, mutate)))
        .route("/validate", post(|review| answer(review, validate)))
        .layer(DefaultBodyLimit::max(LARGEST_BODY))
}

type Review = AdmissionReview<DynamicObject>;

async fn answer(
    Json(review): Json<Review>,
    decide: fn(&AdmissionRequest<DynamicObject>) -> AdmissionResponse,
) -> Result<Json<Value>, StatusCode> {
    let request: AdmissionRequest<DynamicObject> =
        review.try_into().map_err(|_| StatusCode::BAD_REQUEST)?;
    written(&decide(&request).into_review())
        .map(Json)
        .map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

/// The answer as the API's types have it: a patch in base64. Its own type here writes the bytes as
/// a list of numbers, which Go happens to read, and others do not.
fn written(review: &Review) -> serde_json::Result<Value> {
    let mut written = serde_json::to_value(review)?;
    let patch = review
        .response
        .as_ref()
        .and_then(|response| response.patch.as_ref());
    if let Some(patch) = patch {
        written["response"]["patch"] = STANDARD.encode(patch).into();
    }
    Ok(written)
}

fn mutate(request: &AdmissionRequest<DynamicObject>) -> AdmissionResponse {
    let response = AdmissionResponse::from(request);
    let Some(before) = json_of(request.object.as_ref()) else {
        return response;
    };
    let mut after = before.clone();
    fill_in(&request.kind.kind, &mut after);
    if after == before {
        return response;
    }
    let patch = json!([{ "op": "replace", "path": "/spec", "value": after["spec"] }]);
    let Ok(patch) = serde_json::from_value(patch) else {
        return response;
    };
    match response.with_patch(patch) {
        Ok(patched) => patched,
        // Defaults are a courtesy; the controllers know them too.
        Err(_) => AdmissionResponse::from(request),
    }
}

fn validate(request: &AdmissionRequest<DynamicObject>) -> AdmissionResponse {
    let mut response = AdmissionResponse::from(request);
    let old = json_of(request.old_object.as_ref());
    let (operation, object) = match request.operation {
        Asked::Create => (Operation::Create, json_of(request.object.as_ref())),
        Asked::Update => (Operation::Update, json_of(request.object.as_ref())),
        Asked::Delete => (Operation::Delete, old.clone()),
        Asked::Connect => return response,
    };
    let Some(object) = object else {
        return response;
    };
    match check(&request.kind.kind, operation, &object, old.as_ref()) {
        Ok(warnings) => {
            response.warnings = Some(warnings).filter(|warnings| !warnings.is_empty());
            response
        }
        Err(denied) => response.deny(denied),
    }
}

fn json_of(object: Option<&DynamicObject>) -> Option<Value> {
    serde_json::to_value(object?).ok()
}
