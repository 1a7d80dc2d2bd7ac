//! The operator from its start to its end.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicUsize, Ordering},
};

use kube::Client;
use sandlot_api::arl::names::LEADER_LEASE;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Settings,
    admission::webhook,
    agents::Agents,
    events::Events,
    http, key,
    leader::Election,
    metrics::Metrics,
    opensandbox, robots,
    rounds::look_after,
    saving::{JobSaver, Saver, Snapshots},
    world::World,
};

/// Runs the operator until it is cancelled. The custom resources must be installed.
///
/// Steps that are running when it ends go on running; the next operator attaches to them.
pub async fn run(
    client: Client,
    settings: Settings,
    cancel: CancellationToken,
) -> Result<(), Error> {
    // Whatever ends first, the work or one of its servers, ends the others.
    let stop = cancel.child_token();
    // The servers go last: that they end must not cut the work off before its last write.
    let serving = CancellationToken::new();
    let metrics = Arc::new(Metrics::default());
    let ready = Arc::new(AtomicBool::new(settings.leader_election));
    let mut servers = JoinSet::new();
    if let Some(address) = settings.metrics {
        servers.spawn(http::metrics(address, metrics.clone(), serving.clone()));
    }
    if let Some(address) = settings.probes {
        servers.spawn(http::probes(address, ready.clone(), serving.clone()));
    }
    if let Some(webhook) = settings.webhook.clone() {
        servers.spawn(webhook::serve(client.clone(), webhook, serving.clone()));
    }
    let mut work = std::pin::pin!(lead(client, settings, metrics, ready, stop.clone()));
    let result = tokio::select! {
        result = &mut work => result,
        Some(Ok(served)) = servers.join_next() => {
            stop.cancel();
            // Why the server ended is what there is to say, whatever the work says to it.
            let _ = work.await;
            served
        }
    };
    serving.cancel();
    while servers.join_next().await.is_some() {}
    result
}

/// Works as long as this operator leads.
async fn lead(
    client: Client,
    settings: Settings,
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
) -> Result<(), Error> {
    if !settings.leader_election {
        work(client, settings, metrics, ready, stop).await;
        return Ok(());
    }
    let mut election = Election::new(
        client.clone(),
        &settings.identity.namespace,
        LEADER_LEASE,
        &settings.identity.name,
    );
    if !election.win(&stop).await {
        return Ok(());
    }
    tracing::info!(identity = settings.identity.name, "this operator leads");
    // The lease is let go only after the last write: `done` tells of it.
    let (leading, done) = (stop.child_token(), CancellationToken::new());
    let working = async {
        work(client, settings, metrics, ready, leading.clone()).await;
        done.cancel();
    };
    let keeping = async {
        let kept = election.keep(&done).await;
        leading.cancel();
        kept
    };
    let ((), kept) = tokio::join!(working, keeping);
    if kept {
        Ok(())
    } else {
        Err(Error::LeaseLost {
            lease: LEADER_LEASE.to_owned(),
        })
    }
}

async fn work(
    client: Client,
    settings: Settings,
    metrics: Arc<Metrics>,
    ready: Arc<AtomicBool>,
    stop: CancellationToken,
) {
    let Some(key) = key::of(&client, &settings, &stop).await else {
        return;
    };
    let settings = Arc::new(settings);
    let agents = Agents::new(&settings, key.clone());
    let agents = Arc::new(agents);
    // Events are told until the last write has been sent.
    let telling = CancellationToken::new();
    let (events, tell) = Events::start(
        client.clone(),
        sandlot_api::arl::names::FIELD_MANAGER,
        settings.identity.name.clone(),
        telling.clone(),
    );
    let batches = opensandbox::World::new(
        settings.clone(),
        key.clone(),
        saver(&client, &settings.snapshots),
        events.by(sandlot_api::opensandbox::names::FIELD_MANAGER),
        metrics.clone(),
    );
    let by_fleet = events.by(sandlot_api::robot::names::FIELD_MANAGER);
    let fleet = robots::World::new(by_fleet, metrics.clone());
    let world = World::new(settings.clone(), key, agents, events, metrics);
    // Each loop reads everything it needs before it decides anything.
    let unread = AtomicUsize::new(3);
    let tell_ready = || {
        if unread.fetch_sub(1, Ordering::AcqRel) == 1 {
            ready.store(true, Ordering::Release);
            tracing::info!("the operator has read everything and works");
        }
    };
    let dispatching = async {
        tokio::join!(
            look_after(client.clone(), &settings, world, tell_ready, stop.clone()),
            look_after(client.clone(), &settings, batches, tell_ready, stop.clone()),
            look_after(client.clone(), &settings, fleet, tell_ready, stop.clone()),
        );
        telling.cancel();
    };
    tokio::join!(dispatching, tell);
}

/// Who saves sandboxes.
fn saver(client: &Client, snapshots: &Snapshots) -> Option<Arc<dyn Saver>> {
    match snapshots {
        Snapshots::Nowhere => None,
        Snapshots::Jobs(jobs) => Some(Arc::new(JobSaver::new(client.clone(), jobs.clone()))),
        Snapshots::By(saver) => Some(saver.clone()),
    }
}
