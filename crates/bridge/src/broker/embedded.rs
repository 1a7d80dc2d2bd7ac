//! The broker on one machine: MQTT 3.1.1 with a login for each client, rules for topics,
//! persistent sessions, retained messages and wills.
//!
//! Sessions live in memory: after a restart robots come again, hear what is retained again — which
//! the bridge says anew — and say again what was not acknowledged.

use std::{net::SocketAddr, sync::Arc};

use rumqttc::tokio_rustls::TlsAcceptor;
use tokio::{
    net::TcpListener,
    sync::Semaphore,
    task::{JoinHandle, JoinSet},
};
use tokio_util::sync::CancellationToken;

use super::{
    connection,
    refused::Refused,
    rights::{Keyring, Login},
    state::State,
};

/// How many clients are served at once.
const CLIENTS: usize = 20_000;

/// Where the broker listens.
#[derive(Clone)]
pub struct Listen {
    /// The address; port 0 picks a free one.
    pub address: SocketAddr,
    /// What it proves itself with, where connections are to be encrypted.
    pub tls: Option<Arc<rustls::ServerConfig>>,
}

/// Why the broker could not start.
#[derive(Debug, thiserror::Error)]
#[error("the broker cannot listen on {address}: {error}; choose another with --mqtt-listen")]
pub struct BrokerError {
    address: SocketAddr,
    error: std::io::Error,
}

/// A running broker.
pub struct Broker {
    /// Where it listens, with the port that was picked.
    pub address: SocketAddr,
    state: State,
    cancel: CancellationToken,
    accepting: JoinHandle<()>,
}

impl Broker {
    /// Starts listening.
    pub async fn start(listen: Listen, keys: Keyring) -> Result<Self, BrokerError> {
        let failed = |error| BrokerError {
            address: listen.address,
            error,
        };
        let listener = TcpListener::bind(listen.address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let (state, cancel) = (State::default(), CancellationToken::new());
        let tls = listen.tls.map(TlsAcceptor::from);
        let accepting = tokio::spawn(accept(listener, tls, state.clone(), keys, cancel.clone()));
        Ok(Self {
            address,
            state,
            cancel,
            accepting,
        })
    }

    /// Ends the connections of a robot whose credential is good no more.
    pub fn put_out(&self, robot: &str) {
        self.state.put_out(&Login::Robot(robot.to_owned()));
    }

    /// What ends the connections of robots, for those who outlive this.
    pub fn door(&self) -> Door {
        Door(self.state.clone())
    }

    /// Ends all connections and stops listening.
    pub async fn stop(self) {
        self.cancel.cancel();
        // It is ours alone, so it can only have ended or panicked; either way it is over.
        let _ = self.accepting.await;
    }
}

/// Ends the connections of robots whose credentials are good no more.
#[derive(Clone)]
pub struct Door(State);

impl Door {
    /// Ends the connections of a robot.
    pub fn put_out(&self, robot: &str) {
        self.0.put_out(&Login::Robot(robot.to_owned()));
    }

    /// What the broker did not pass on.
    pub(crate) fn refused(&self) -> Refused {
        self.0.refused.clone()
    }
}

async fn accept(
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    state: State,
    keys: Keyring,
    cancel: CancellationToken,
) {
    let places = Arc::new(Semaphore::new(CLIENTS));
    let mut clients = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = clients.join_next() => continue,
            () = cancel.cancelled() => break,
        };
        let Ok((stream, _)) = accepted else {
            // Out of files, most likely: others must close theirs first.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        let Ok(place) = places.clone().try_acquire_owned() else {
            continue;
        };
        // A small message waits for nothing.
        let _ = stream.set_nodelay(true);
        let (state, keys, cancel, tls) = (state.clone(), keys.clone(), cancel.clone(), tls.clone());
        clients.spawn(async move {
            let _place = place;
            match tls {
                None => connection::serve(stream, state, keys, cancel).await,
                Some(tls) => {
                    let shaking = tokio::time::timeout(connection::HELLO, tls.accept(stream));
                    if let Ok(Ok(stream)) = shaking.await {
                        connection::serve(stream, state, keys, cancel).await;
                    }
                }
            }
        });
    }
    while clients.join_next().await.is_some() {}
}
