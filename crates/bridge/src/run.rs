//! The bridge from its start to its end.

use std::{
    num::NonZeroU32,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use kube::Client;
use ring::pbkdf2;
use sandlot_api::robot::names;
use sandlot_operator::Election;
use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;

use super::{
    announce,
    broker::mosquitto::Passwords,
    link::{self, TlsError},
    metrics::Metrics,
    serve::{self, Pages},
    settings::Settings,
    work::{Bridge, work},
};

/// How many questions for logs may wait.
const ASKED: usize = 64;
/// The Lease that decides which bridge works, and says that one does.
const LEASE: &str = names::BRIDGE_LEASE;

/// How often the password is stretched for the session's name, which brokers log.
const STRETCH: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

/// Why the bridge could not start or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection to the broker cannot be encrypted as asked.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// A port could not be served.
    #[error("could not serve metrics and logs: {0}")]
    Serve(std::io::Error),
    /// Another bridge works now.
    #[error("the lease {LEASE} was lost to another bridge: this one must stop")]
    LeaseLost,
}

/// Runs the bridge until it is cancelled. The custom resources must be installed.
pub async fn run(
    client: Client,
    settings: Settings,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let settings = Arc::new(settings);
    let mut metrics = Metrics::default();
    if let Some(door) = &settings.door {
        metrics.count_broker(&door.refused());
    }
    let metrics = Arc::new(metrics);
    let (ask, asked) = mpsc::channel(ASKED);
    // A bridge that stands by is as ready as one that works.
    let ready = Arc::new(AtomicBool::new(settings.leader_election));
    let stop = cancel.child_token();
    let pages = Pages {
        metrics: metrics.clone(),
        ready: ready.clone(),
        ask,
    };
    let listener = settings.serve.clone();
    let serving = async {
        match listener {
            Some(listener) => serve::serve(&listener, pages, stop.clone())
                .await
                .map_err(Error::Serve),
            None => {
                stop.cancelled().await;
                drop(pages);
                Ok(())
            }
        }
    };
    let working = lead(client, settings, metrics, asked, ready, stop.clone());
    let (mut serving, mut working) = (std::pin::pin!(serving), std::pin::pin!(working));
    // Whichever ends first ends the other.
    tokio::select! {
        served = &mut serving => {
            stop.cancel();
            working.await.and(served)
        }
        worked = &mut working => {
            stop.cancel();
            serving.await.and(worked)
        }
    }
}

/// Works as long as this bridge leads.
async fn lead(
    client: Client,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    asked: mpsc::Receiver<super::logs::Ask>,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
) -> Result<(), Error> {
    if !settings.leader_election {
        let living = announce::announce(client.clone(), settings.clone(), stop.clone());
        let working = connect(client, settings, metrics, asked, ready, stop);
        return tokio::join!(working, living).0;
    }
    let identity = settings.identity.as_str();
    let mut election = Election::new(client.clone(), &settings.namespace, LEASE, identity);
    if !election.win(&stop).await {
        return Ok(());
    }
    tracing::info!(identity, "this bridge works");
    let (leading, done) = (stop.child_token(), CancellationToken::new());
    let working = async {
        let worked = connect(
            client,
            settings.clone(),
            metrics,
            asked,
            ready,
            leading.clone(),
        )
        .await;
        done.cancel();
        worked
    };
    let keeping = async {
        let kept = election.keep(&done).await;
        leading.cancel();
        kept
    };
    let (worked, kept) = tokio::join!(working, keeping);
    worked?;
    if kept { Ok(()) } else { Err(Error::LeaseLost) }
}

/// The name of the session of all bridges of a namespace, which has what was said while none was
/// there. Whoever comes to a broker under a name puts out the one who was there under it, so its end
/// follows from the password, and strangers cannot know it.
fn session(settings: &Settings) -> String {
    let mut end = [0; 8];
    let (namespace, password) = (&settings.namespace, &settings.broker.password);
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    let (salt, secret) = (namespace.as_bytes(), password.as_bytes());
    pbkdf2::derive(algorithm, STRETCH, salt, secret, &mut end);
    format!("k8s4r-bridge-{namespace}-{:016x}", u64::from_be_bytes(end))
}

async fn connect(
    client: Client,
    settings: Arc<Settings>,
    metrics: Arc<Metrics>,
    asked: mpsc::Receiver<super::logs::Ask>,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
) -> Result<(), Error> {
    let name = session(&settings);
    let closing = CancellationToken::new();
    let (mouth, heard, keeping) = link::open(&settings.broker, &name, closing.clone())?;
    // Beside the loop, which may have much to do at once: the broker waits for no answer then.
    let mut beside = JoinSet::new();
    beside.spawn(keeping);
    let passwords = settings.mosquitto.as_deref().map(|folder| {
        let (passwords, keeping) = Passwords::keep(folder);
        beside.spawn(keeping);
        passwords
    });
    let bridge = Bridge::new(settings, metrics, mouth, passwords);
    let tell_ready = || {
        ready.store(true, Ordering::Release);
        tracing::info!("the bridge has read everything and works");
    };
    work(client, bridge, heard, asked, tell_ready, stop).await;
    // The connection goes last, when nothing is said any more.
    closing.cancel();
    while let Some(ended) = beside.join_next().await {
        if let Err(error) = ended {
            tracing::error!(%error, "what keeps the connection or the passwords panicked");
        }
    }
    Ok(())
}
