//! The Sandbox Control Plane: sessions, executions, templates and files over REST.
//!
//! A session is a claim on a warm pod, and its code runs in that pod's agent, which the gateway
//! calls directly. What is known of sessions and executions is in an SQL database, their files
//! are in a folder or a bucket; the gateway itself keeps nothing that another one, started in
//! its place or beside it, could not take over.

// The bodies on the wire are long.
#![recursion_limit = "256"]

mod access;
mod archive;
mod artifacts;
mod attempt;
mod callbacks;
mod carry;
mod check;
mod claims;
mod compress;
mod connections;
mod dependencies;
mod docs;
mod end;
mod environment;
mod error;
mod executors;
mod follow;
mod gateway;
mod install;
mod ledger;
mod metrics;
mod moment;
mod open;
mod output;
mod pace;
mod pods;
mod pools;
mod prepare;
mod pulls;
mod pulse;
mod refusal;
mod routes;
mod runs;
mod serve;
mod settings;
mod sweep;
mod unwanted;
mod watching;
mod wire;
mod workspaces;

use std::{net::SocketAddr, sync::Arc, time::Duration};

pub use access::{BadToken, Role, Token, hash_of};
pub use environment::BadVariable;
pub use error::GatewayError;
use kube::Client;
pub use pools::Shape;
pub use prepare::{CREDENTIALS, FIRST_TOKEN, Prepared, prepare};
pub use pulls::{PullPolicy, Pulls};
pub use settings::{Bucket, Files, Settings};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

use crate::gateway::Gateway;

/// How long requests under way may take when the gateway is told to stop.
const FAREWELL: Duration = Duration::from_secs(20);

/// A gateway that serves.
pub struct Serving {
    address: SocketAddr,
    gateway: Arc<Gateway>,
    /// Nobody new is let in.
    closed: CancellationToken,
    server: JoinHandle<()>,
}

impl Serving {
    /// Opens the database and the store, listens, and looks after sessions from then on.
    pub async fn start(client: Client, settings: Settings) -> Result<Self, GatewayError> {
        settings.must_be_closed()?;
        let listener = TcpListener::bind(settings.listen).await;
        let listener =
            listener.map_err(|error| GatewayError::new(format!("{}: {error}", settings.listen)))?;
        let address = listener
            .local_addr()
            .map_err(|error| GatewayError::new(error.to_string()))?;
        let cancel = CancellationToken::new();
        let gateway = Gateway::open(client, settings, cancel).await?;
        // Alive before anything is promised to anybody.
        gateway.beat().await?;
        gateway.tasks.spawn({
            let gateway = gateway.clone();
            async move { gateway.claims.follow(&gateway.cancel).await }
        });
        gateway.tasks.spawn({
            let gateway = gateway.clone();
            async move { gateway.claims.pods.follow(&gateway.cancel).await }
        });
        gateway.tasks.spawn({
            let gateway = gateway.clone();
            async move { gateway.sweep_on().await }
        });
        // A bucket that is not there is made now, not when the first file comes.
        gateway.tasks.spawn({
            let gateway = gateway.clone();
            async move {
                for why in gateway.pulse().await.complaints() {
                    tracing::warn!(why, "not everything is there yet");
                }
            }
        });
        let closed = CancellationToken::new();
        let server = tokio::spawn(connections::serve(
            serve::app(gateway.clone()),
            listener,
            connections::Limits::default(),
            closed.clone(),
        ));
        Ok(Self {
            address,
            gateway,
            closed,
            server,
        })
    }

    /// Where it listens, with the port that was picked.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Lets nobody in any more, finishes what is under way, and leaves the rest to whoever comes
    /// next: what runs in pods goes on.
    pub async fn stop(self) {
        self.closed.cancel();
        let mut server = self.server;
        if tokio::time::timeout(FAREWELL, &mut server).await.is_err() {
            server.abort();
        }
        self.gateway.cancel.cancel();
        self.gateway.tasks.close();
        if tokio::time::timeout(FAREWELL, self.gateway.tasks.wait())
            .await
            .is_err()
        {
            tracing::warn!("some of the gateway's work did not end in time");
        }
        self.gateway.ledger.close().await;
    }
}
