//! Robots on one machine: a broker, the bridge, and robots to look at.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use kube::Client;
use sandlot_bridge::{
    Remote, Settings,
    broker::{BRIDGE, Broker, Keyring, Listen, Robots},
    simulated::Simulated,
};
use tokio::task::{JoinHandle, JoinSet};
use tokio_util::sync::CancellationToken;

use crate::{args::RobotRules, bridge::under};

/// The token that robots register with where nobody chooses another: the document's.
pub(crate) const TOKEN: &str = "fixed-token-123";

/// What is started for robots.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// Where the broker listens. Where nobody said so, another port will do.
    pub(crate) listen: Option<SocketAddr>,
    /// Where metrics and what tasks print are served; the same holds.
    pub(crate) pages: Option<SocketAddr>,
    /// The token that robots register with.
    pub(crate) token: String,
    /// Who may come, and when one counts as gone.
    pub(crate) rules: RobotRules,
    /// How many simulated robots there are.
    pub(crate) simulated: u16,
}

/// The broker, the bridge and the robots.
pub(crate) struct Fleet {
    broker: Broker,
    pages: SocketAddr,
    cancel: CancellationToken,
    bridge: JoinHandle<()>,
    robots: JoinSet<()>,
}

impl Fleet {
    /// Starts them. The custom resources must be installed.
    pub(crate) async fn start(client: Client, options: &Options) -> Result<Self> {
        let robots = Robots::default();
        // Nobody else has to know it: both ends are in this process.
        let password = secret()?;
        let address = options.listen.unwrap_or(([127, 0, 0, 1], 1883).into());
        // Beyond this machine nobody comes in without a login.
        let published = address.ip().is_loopback() && !options.rules.own_credentials_only;
        let keys = Keyring {
            bridge: password.clone(),
            bootstrap: Some(options.token.clone()),
            anonymous: published,
            robots: robots.clone(),
        };
        let listen = |address| Listen { address, tls: None };
        let broker = match Broker::start(listen(address), keys.clone()).await {
            // Another broker is there, and nobody has said that this one must be.
            Err(_) if options.listen.is_none() => {
                Broker::start(listen(([127, 0, 0, 1], 0).into()), keys).await
            }
            started => started,
        };
        let broker = broker.context("the broker did not start")?;
        let pages =
            listen_for_pages(options.pages).context("robots' metrics and logs cannot be served")?;
        let pages_address = pages.local_addr()?;
        let settings = Settings {
            serve: Some(Arc::new(pages)),
            broker: Remote {
                host: reachable(broker.address).to_string(),
                port: broker.address.port(),
                user: Some(BRIDGE.to_owned()),
                password,
                tls: None,
            },
            token: Some(options.token.clone()),
            published,
            robots,
            door: Some(broker.door()),
            ..under(&options.rules)
        };
        let cancel = CancellationToken::new();
        let work = sandlot_bridge::run(client, settings, cancel.clone());
        let bridge = tokio::spawn(async move {
            if let Err(error) = work.await {
                tracing::error!(%error, "the bridge ended");
            }
        });
        let mut fleet = Self {
            broker,
            pages: pages_address,
            cancel,
            bridge,
            robots: JoinSet::new(),
        };
        for number in 1..=options.simulated {
            fleet.simulate(number, &options.token);
        }
        Ok(fleet)
    }

    fn simulate(&mut self, number: u16, token: &str) {
        let robot = Simulated {
            id: format!("robot-{number}"),
            broker: (
                reachable(self.broker.address).to_string(),
                self.broker.address.port(),
            ),
            token: token.to_owned(),
            login: true,
            beat: Duration::from_secs(30),
            work: Duration::from_secs(2),
            labels: vec![("simulated".to_owned(), "true".to_owned())],
            fails: None,
        };
        self.robots.spawn(robot.live(self.cancel.child_token()));
    }

    /// Where the broker listens, with the port that was picked.
    pub(crate) fn address(&self) -> SocketAddr {
        self.broker.address
    }

    /// Where metrics and what tasks print are served, with the port that was picked.
    pub(crate) fn pages(&self) -> SocketAddr {
        self.pages
    }

    /// Ends the robots, then the bridge, then the broker.
    pub(crate) async fn stop(mut self) {
        self.robots.shutdown().await;
        self.cancel.cancel();
        // It is ours alone, so it can only have ended or panicked; either way it is over.
        let _ = self.bridge.await;
        self.broker.stop().await;
    }
}

/// Listens where a bridge by itself does, or on another port where nobody has said which.
fn listen_for_pages(wanted: Option<SocketAddr>) -> io::Result<TcpListener> {
    match wanted {
        Some(address) => TcpListener::bind(address),
        None => {
            TcpListener::bind(("127.0.0.1", 8084)).or_else(|_| TcpListener::bind(("127.0.0.1", 0)))
        }
    }
}

/// Where something that listens everywhere can be reached from here.
fn reachable(address: SocketAddr) -> std::net::IpAddr {
    match address.ip() {
        ip if ip.is_unspecified() => [127, 0, 0, 1].into(),
        ip => ip,
    }
}

/// A password that nobody can guess.
fn secret() -> Result<String> {
    use std::io::Read;
    let mut bytes = [0; 32];
    let mut random =
        std::fs::File::open("/dev/urandom").context("there is no randomness to be had")?;
    random.read_exact(&mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
