//! A cluster that others reach over the network.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Response};
use jiff::Timestamp;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::service_fn;

use super::certificates::{CertificateError, Certificates};
use super::{Limits, Tls, kubeconfig, serve, write_kubeconfig};
use crate::access::{Gate, User};
use crate::cluster::Cluster;

/// How often certificates are looked at, to renew them in time.
const LOOK: Duration = Duration::from_secs(24 * 3600);

/// Where a cluster listens.
#[derive(Clone, Debug)]
pub struct Listen {
    /// The address; port 0 picks a free one. Anything but loopback lets other machines in.
    pub address: SocketAddr,
    /// The folder that keeps the certificates.
    pub keys: PathBuf,
    /// Where to write the administrator's kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// What the cluster, its user and its context are called in the kubeconfig.
    pub name: String,
    /// Bounds on connections and requests.
    pub limits: Limits,
}

/// Why a cluster cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The address is taken, or not this machine's.
    #[error("cannot listen on {address}: {source}")]
    Address {
        /// Which address.
        address: SocketAddr,
        /// What happened.
        source: io::Error,
    },
    /// There are no certificates to show.
    #[error(transparent)]
    Certificates(#[from] CertificateError),
    /// The kubeconfig cannot be written.
    #[error("cannot write the kubeconfig {path}: {source}")]
    Kubeconfig {
        /// Which file.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
}

/// A cluster that listens, until it is told to stop.
#[derive(Debug)]
pub struct Listening {
    /// The address, with the port that was picked.
    pub address: SocketAddr,
    /// What clients connect with.
    pub kubeconfig: Value,
    /// Dropped, it stops both tasks.
    cancel: DropGuard,
    server: JoinHandle<()>,
    renewal: JoinHandle<()>,
}

impl Listening {
    /// Lets nobody in any more, waits for those inside as long as the limits say, and returns.
    pub async fn stop(self) {
        drop(self.cancel);
        // Neither task panics by itself, and nobody else can abort them.
        let _ = tokio::join!(self.server, self.renewal);
    }
}

impl Cluster {
    /// Lets clients in over TLS.
    pub async fn listen(&self, how: Listen) -> Result<Listening, ListenError> {
        let address = how.address;
        let failed = |source| ListenError::Address { address, source };
        let certificates = Certificates::open(&how.keys, &names(address), Timestamp::now())?;
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let tls = Tls::new(&certificates)?;
        let shown = how.shown(address, &certificates)?;
        let cancel = CancellationToken::new();
        let gate = Arc::new(Gate::new(self.tokens(), self.authorizer()));
        let served = serve(
            self.door(),
            listener,
            tls.clone(),
            gate,
            how.limits.clone(),
            cancel.clone(),
        );
        let server = tokio::spawn(served);
        let renewal = tokio::spawn(renew(how, address, certificates, tls, cancel.clone()));
        Ok(Listening {
            address,
            kubeconfig: shown,
            cancel: cancel.drop_guard(),
            server,
            renewal,
        })
    }

    /// The API as what the server asks: requests carry their user.
    fn door(&self) -> impl super::Answers {
        let cluster = self.clone();
        service_fn(move |mut request: Request<Body>| {
            let cluster = cluster.clone();
            async move {
                // The gate has put the user there; without one, nobody in particular asks.
                let user = request
                    .extensions_mut()
                    .remove()
                    .unwrap_or_else(User::anonymous);
                Ok::<Response<Body>, Infallible>(cluster.handle(user, request).await)
            }
        })
    }
}

impl Listen {
    /// The kubeconfig for these certificates, written down if that was asked for.
    fn shown(
        &self,
        address: SocketAddr,
        certificates: &Certificates,
    ) -> Result<Value, ListenError> {
        let shown = kubeconfig(
            &self.name,
            &format!("https://{}", reachable(address)),
            certificates,
        );
        if let Some(path) = &self.kubeconfig {
            write_kubeconfig(path, &shown).map_err(|source| ListenError::Kubeconfig {
                path: path.clone(),
                source,
            })?;
        }
        Ok(shown)
    }
}

/// The addresses that the serving certificate must name besides this machine's own.
fn names(address: SocketAddr) -> Vec<IpAddr> {
    vec![address.ip()]
}

/// Where clients on this machine reach an address that may stand for all of them.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
        ip => ip,
    };
    SocketAddr::new(ip, address.port())
}

/// Renews certificates of a server that runs for months.
async fn renew(
    how: Listen,
    address: SocketAddr,
    mut shown: Certificates,
    tls: Tls,
    cancel: CancellationToken,
) {
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let fresh = match Certificates::open(&how.keys, &names(address), Timestamp::now()) {
            Ok(fresh) => fresh,
            Err(error) => {
                tracing::warn!(%error, "the certificates could not be looked at");
                continue;
            }
        };
        if fresh.serving.certificate == shown.serving.certificate
            && fresh.admin.certificate == shown.admin.certificate
        {
            continue;
        }
        let renewed = tls.renew(&fresh).map_err(ListenError::from);
        match renewed.and_then(|()| how.shown(address, &fresh)) {
            Ok(_) => tracing::info!("the certificates were renewed"),
            Err(error) => {
                tracing::warn!(%error, "the renewed certificates could not be put to use")
            }
        }
        shown = fresh;
    }
}
