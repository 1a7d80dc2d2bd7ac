//! The cluster as the program that embeds it holds it.

use std::convert::Infallible;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use axum::body::Body;
use futures::future::BoxFuture;
use http::header::UPGRADE;
use http::{Method, Request, Response};
use http_body_util::BodyExt;
use jiff::Timestamp;
use sandlot_store::{OpenError, Store};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::service_fn;

use crate::access::{Authorizer, SigningKey, Tokens, User};
use crate::admission::Chain;
use crate::api::Api;
use crate::call::{Ahead, Near};
use crate::discovery::Documents;
use crate::kinds::{Registry, definitions, removal};
use crate::kubelet::Kubelet;
use crate::lookup::Lookup;
use crate::metrics::Metrics;
use crate::server::{CertificateError, authority, signing_key};
use crate::services::Services;
use crate::status::{ApiError, Reason};
use crate::stream::Sessions;
use crate::webhook::Endpoints;
use crate::{access, admission, bootstrap, front, housekeeping, schemas};

/// How a cluster is started.
#[derive(Default)]
pub struct Config {
    /// The database file; `None` keeps everything in memory.
    pub database: Option<PathBuf>,
    /// Where, without a database, past versions go that memory has no room for; `None` forgets
    /// them. With one they lie beside it.
    pub past: Option<PathBuf>,
    /// The folder that keeps the keys, so that tokens outlive a restart; `None` makes new ones.
    pub keys: Option<PathBuf>,
    /// What looks at writes in process, before webhooks do.
    pub admission: Chain,
}

/// Why a cluster could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database could not be opened.
    #[error(transparent)]
    Store(#[from] OpenError),
    /// The keys could not be read or made.
    #[error(transparent)]
    Keys(#[from] CertificateError),
    /// What every cluster has from the start could not be made.
    #[error("the cluster's own objects could not be made: {0}")]
    Bootstrap(ApiError),
}

/// A Kubernetes API. Clones are the same cluster.
#[derive(Clone)]
pub struct Cluster {
    api: Arc<Api>,
    tasks: TaskTracker,
}

impl Cluster {
    /// Opens the store and makes what every cluster has.
    pub async fn start(config: Config) -> Result<Cluster, StartError> {
        let store = match config.database {
            Some(path) => Store::open(sandlot_store::Config::at(path))?,
            None => Store::open(sandlot_store::Config {
                history_folder: config.past,
                ..sandlot_store::Config::in_memory()
            })?,
        };
        let (key, authority) = match &config.keys {
            Some(folder) => (signing_key(folder)?, authority(folder, Timestamp::now())?),
            None => (SigningKey::ephemeral()?, String::new()),
        };
        let lookup: Arc<dyn Lookup> = Arc::new(store.clone());
        let services = Arc::new(Services::new(&*lookup));
        let tokens = Arc::new(Tokens::new(key, lookup.clone()));
        let authorizer = Arc::new(Authorizer::new(&store));
        let places = Arc::new(Endpoints::new(lookup.clone()));
        let admission = admission::steps(
            lookup,
            places.clone(),
            authorizer.clone(),
            tokens.clone(),
            &authority,
            config.admission,
        );
        let stop = CancellationToken::new();
        let api = Arc::new(Api {
            authorizer,
            tokens,
            authority,
            registry: Registry::new(schemas::of_builtin, places),
            admission,
            kubelet: OnceLock::new(),
            settling: tokio::sync::Mutex::default(),
            services,
            documents: Documents::default(),
            metrics: Metrics::new(),
            clock: Timestamp::now,
            sessions: Sessions::new(stop.clone()),
            stop,
            store,
        });
        definitions::settle(&api).await;
        let cluster = Cluster {
            api,
            tasks: TaskTracker::new(),
        };
        bootstrap::fill(&cluster)
            .await
            .map_err(StartError::Bootstrap)?;
        let aggregation = access::aggregate(Arc::clone(&cluster.api));
        cluster.tasks.spawn(aggregation);
        cluster.tasks.spawn(removal::run(
            Arc::clone(&cluster.api),
            cluster.tasks.clone(),
        ));
        housekeeping::start(&cluster.api, &cluster.tasks);
        Ok(cluster)
    }

    /// Tells the cluster who runs its pods. Only the first call counts.
    pub fn set_kubelet(&self, kubelet: Arc<dyn Kubelet>) {
        if self.api.kubelet.set(kubelet).is_err() {
            tracing::warn!("the cluster already has a kubelet; the new one is not used");
        }
    }

    /// Makes and checks service-account tokens.
    pub fn tokens(&self) -> Arc<Tokens> {
        Arc::clone(&self.api.tokens)
    }

    /// Decides what users may do.
    pub fn authorizer(&self) -> Arc<Authorizer> {
        Arc::clone(&self.api.authorizer)
    }

    /// Answers one HTTP request of a user who has proved who they are.
    pub async fn handle(&self, user: User, request: Request<Body>) -> Response<Body> {
        front::handle(Arc::clone(&self.api), user, request).await
    }

    /// A client in process that may do anything.
    pub fn client(&self) -> kube::Client {
        self.client_as(User::master("system:admin"))
    }

    /// A client in process that acts as somebody.
    pub fn client_as(&self, user: User) -> kube::Client {
        kube::Client::new(self.service(user), "default")
    }

    /// A client in process that may do anything and runs ahead of the disk: its watches tell what
    /// is accepted and may still come to nothing, and its patches are answered then. Nothing that
    /// it writes upon that outlives it; what it does elsewhere waits for
    /// [`settled`](Self::settled), and when the cluster is [turned back](Self::turned_back) it
    /// starts over.
    pub fn client_ahead(&self) -> kube::Client {
        let service = self.service(User::master("system:admin"));
        let marked = tower::ServiceBuilder::new()
            .map_request(|mut request: Request<kube::client::Body>| {
                request.extensions_mut().insert(Ahead);
                request
            })
            .service(service);
        kube::Client::new(marked, "default")
    }

    /// Waits until all that was accepted so far is on disk or has come to nothing; says whether it
    /// is on disk.
    pub fn settled(&self) -> impl Future<Output = bool> + Send + 'static {
        self.api.store.settled_so_far()
    }

    /// Waits until something that was accepted comes to nothing, from now on.
    pub fn turned_back(&self) -> impl Future<Output = ()> + Send + 'static {
        self.api.store.turned_back()
    }

    /// The API as a tower service for one user, without sockets.
    pub fn service(
        &self,
        user: User,
    ) -> impl tower::Service<
        Request<kube::client::Body>,
        Response = Response<Body>,
        Error = Infallible,
        Future = BoxFuture<'static, Result<Response<Body>, Infallible>>,
    > + Clone
    + Send
    + 'static {
        let cluster = self.clone();
        service_fn(move |request: Request<kube::client::Body>| {
            let (cluster, user) = (cluster.clone(), user.clone());
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(Near);
            let answer = async move {
                if !request.headers().contains_key(UPGRADE) {
                    return Ok(cluster.handle(user, request).await);
                }
                let sessions = cluster.api.sessions.clone();
                let handle = move |request| {
                    let (cluster, user) = (cluster.clone(), user.clone());
                    async move { cluster.handle(user, request).await }
                };
                Ok(sessions.over_memory(request, handle).await)
            };
            Box::pin(answer) as BoxFuture<'static, _>
        })
    }

    /// Ends all watches, waits for what the cluster does in the background and closes the store.
    pub async fn stop(&self) {
        self.api.stop.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.api.sessions.ended().await;
        self.api.store.close().await;
    }

    /// What requests share.
    #[cfg(test)]
    pub(crate) fn api(&self) -> Arc<Api> {
        Arc::clone(&self.api)
    }

    /// Makes an object unless it is there already.
    pub(crate) async fn ensure(&self, path: &str, object: &Value) -> Result<(), ApiError> {
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(http::header::CONTENT_TYPE, "application/json")
            .header(http::header::USER_AGENT, "kube-apiserver")
            .body(Body::from(object.to_string()))
            .map_err(ApiError::internal)?;
        let response = self.handle(User::master("system:apiserver"), request).await;
        let code = response.status().as_u16();
        if response.status().is_success() || code == 409 {
            return Ok(());
        }
        let body = response
            .into_body()
            .collect()
            .await
            .map_err(ApiError::internal)?
            .to_bytes();
        let status: Value = serde_json::from_slice(&body).unwrap_or_default();
        let message = status["message"]
            .as_str()
            .unwrap_or("no reason was given")
            .to_owned();
        Err(ApiError::new(
            code,
            Reason::InternalError,
            format!("{path}: {message}"),
        ))
    }
}
