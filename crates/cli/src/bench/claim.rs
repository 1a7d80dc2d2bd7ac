//! `sandlot bench claim`: taking sandboxes from warm pools.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api,
    api::{DeleteParams, ListParams, PostParams},
};
use sandlot_api::arl::{Sandbox, SandboxPhase, WarmPool};
use serde_json::json;

use super::{
    crowd::{CLIENTS, Crowd},
    operator_alone,
    report::{Bar, Report, Samples},
    sight::{Sight, place_of},
    stand_in::{PATIENCE, StandIns, on_no_node, pool, sandbox, until_full, until_full_again},
    subject::Machine,
    wire::Wire,
    writes,
};

/// Idle pods of the pool in whose pods something runs.
const REAL: usize = 8;
/// How often all idle pods are claimed, one after the other.
const ROUNDS: usize = 13;
/// How many claims from it are each measured after a rest.
const CLAIMS: usize = 100;
/// How long that is: what a pod's start leaves to do is not what is measured.
const REST: Duration = Duration::from_millis(5);
/// The same, so long that the processors sleep and have lost what they had at hand.
const LONG_REST: Duration = Duration::from_millis(100);
/// The first claims warm connections and caches up.
const WARM_UP: usize = 10;
/// Stand-in pods of the big pool, and claims from it.
const STAND_INS: usize = 1_000;
/// How many one client claims from it one after the other.
const ROW: usize = 300;

/// Claims from real pods, then from stand-ins one after the other and a thousand at once; then the
/// operator alone, with many objects.
pub(super) async fn measure() -> Result<Report> {
    let mut report = Report::new("claims");
    let (machine, _) = Machine::start(&[]).await?;
    from_real_pods(&machine, &mut report).await?;
    a_thousand(&machine, &mut report).await?;
    report.number(
        "API, node and operator, resident after it all",
        machine.resident_mib()?,
        "MiB",
        None,
    );
    machine.stop().await?;
    operator_alone::measure(&mut report).await?;
    Ok(report)
}

async fn from_real_pods(machine: &Machine, report: &mut Report) -> Result<()> {
    let client = machine.client().await?;
    let pools: Api<WarmPool> = Api::namespaced(client.clone(), "default");
    let sandboxes: Api<Sandbox> = Api::namespaced(client.clone(), "default");
    pools
        .create(&PostParams::default(), &pool("real", REAL, json!({}))?)
        .await?;
    let config = machine.config().await?;
    let mut real = RealPods {
        pools: pools.clone(),
        sight: Sight::bare(&config, is_ready).await?,
        wire: Wire::open(&config).await?,
        taken: 0,
    };
    real.all_in_turn(report).await?;
    for rest in [REST, LONG_REST] {
        real.each_after(rest, report).await?;
    }
    give_back(&sandboxes, &pools, Api::namespaced(client, "default")).await
}

/// A pool in whose pods something runs, and who claims from it. Sandboxes are kept to the end: how
/// fast pods end is not what is measured.
struct RealPods {
    pools: Api<WarmPool>,
    sight: Sight,
    wire: Wire,
    taken: usize,
}

impl RealPods {
    /// Claims all pods one after the other, each time that the pool is full.
    async fn all_in_turn(&mut self, report: &mut Report) -> Result<()> {
        let mut samples = Samples::default();
        for round in 0..=ROUNDS {
            self.full_again().await?;
            for n in 0..REAL {
                let took = self.claim(&format!("turn-{round}-{n}")).await?;
                // The first round warms up.
                if round > 0 {
                    samples.add(took);
                }
            }
        }
        report.latency(
            "claim from real pods, one after the other, create → Ready seen by another watcher",
            &samples,
            Some(2.0),
            Some(10.0),
        );
        Ok(())
    }

    /// Claims one pod whenever the pool is full and nothing has happened for a while.
    async fn each_after(&mut self, rest: Duration, report: &mut Report) -> Result<()> {
        let rested = rest.as_millis();
        let mut samples = Samples::default();
        for n in 0..WARM_UP + CLAIMS {
            self.full_again().await?;
            tokio::time::sleep(rest).await;
            let took = self.claim(&format!("rested-{rested}-{n}")).await?;
            if n >= WARM_UP {
                samples.add(took);
            }
        }
        report.latency(
            &format!("one from real pods after {rested} ms of rest"),
            &samples,
            None,
            None,
        );
        Ok(())
    }

    async fn full_again(&self) -> Result<()> {
        until_full_again(&self.pools, "real", self.taken).await
    }

    async fn claim(&mut self, name: &str) -> Result<Duration> {
        self.taken += 1;
        claim(&mut self.wire, &self.sight, name, "real").await
    }
}

/// Claims a sandbox, and says how long it took until it was seen to be ready.
async fn claim(wire: &mut Wire, sight: &Sight, name: &str, pool: &str) -> Result<Duration> {
    let claim = serde_json::to_vec(&sandbox(name, pool))?;
    let started = Instant::now();
    wire.create(&place_of::<Sandbox>(), &claim).await?;
    Ok(sight.of(name, PATIENCE).await? - started)
}

/// Deletes the sandboxes and their pool, and waits until their pods are gone.
async fn give_back(sandboxes: &Api<Sandbox>, pools: &Api<WarmPool>, pods: Api<Pod>) -> Result<()> {
    pools.delete("real", &DeleteParams::default()).await?;
    sandboxes
        .delete_collection(&DeleteParams::default(), &ListParams::default())
        .await?;
    let gone = async {
        while !pods
            .list_metadata(&ListParams::default())
            .await?
            .items
            .is_empty()
        {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        anyhow::Ok(())
    };
    tokio::time::timeout(PATIENCE, gone)
        .await
        .context("the pods of the first pool did not go")?
}

async fn a_thousand(machine: &Machine, report: &mut Report) -> Result<()> {
    let client = machine.client().await?;
    let pools: Api<WarmPool> = Api::namespaced(client.clone(), "default");
    let pods: Api<Pod> = Api::namespaced(client.clone(), "default");
    pools
        .create(
            &PostParams::default(),
            &pool("many", STAND_INS, on_no_node())?,
        )
        .await?;
    let sight = Sight::bare(&machine.config().await?, is_ready).await?;
    fill(&pools, &pods).await?;
    in_a_row(machine, &sight, report).await?;
    fill(&pools, &pods).await?;
    let clients = Crowd::open(&machine.config().await?).await?;
    let before = writes::count(&client).await?;
    let (started, samples, last) = claim_all(clients, &sight).await?;
    let rate = STAND_INS as f64 / (last - started).as_secs_f64();
    report.number(
        format!("{STAND_INS} claims by {CLIENTS} clients"),
        rate,
        "/s",
        Some(Bar::AtLeast(1000.0)),
    );
    report.latency(
        "one of them, create → Ready seen by another watcher",
        &samples,
        None,
        None,
    );
    let after = writes::count(&client).await?;
    let created = after.since(&before, &["sandboxes"], &["create", "post"]);
    let changed = after.since(&before, &["sandboxes", "pods"], &["patch", "update", "put"]);
    report.number(
        "API writes a claim takes, its create included",
        (created + changed) / STAND_INS as f64,
        "",
        Some(Bar::AtMost(3.0)),
    );
    report.note("claims are made and watched over bare HTTPS connections of another process");
    report.note(format!(
        "{STAND_INS} of the pods are stand-ins, which the {CLIENTS} clients claim too: nothing runs in them, the benchmark writes their status"
    ));
    report.note(format!(
        "real pods are claimed one after the other, all {REAL} of a pool, each time that it is full"
    ));
    report.note(
        "after a rest: the pod that was taken before is replaced, and then nothing happens for so long",
    );
    Ok(())
}

/// Says of all pods of the big pool that they are ready.
async fn fill(pools: &Api<WarmPool>, pods: &Api<Pod>) -> Result<()> {
    let stand_ins = StandIns::begin(pods.clone()).await?;
    until_full(pools, "many").await?;
    drop(stand_ins);
    Ok(())
}

/// One client claims from the big pool, one sandbox after the other.
async fn in_a_row(machine: &Machine, sight: &Sight, report: &mut Report) -> Result<()> {
    let mut wire = Wire::open(&machine.config().await?).await?;
    let mut samples = Samples::default();
    for n in 0..WARM_UP + ROW {
        let took = claim(&mut wire, sight, &format!("row-{n}"), "many").await?;
        if n >= WARM_UP {
            samples.add(took);
        }
    }
    report.latency(
        "claim from stand-ins, one after the other, create → Ready seen by another watcher",
        &samples,
        Some(2.0),
        Some(10.0),
    );
    Ok(())
}

/// Claims all of the big pool. Says when the first claim began, how long each took until it was
/// seen, and when the last one was.
async fn claim_all(clients: Crowd, sight: &Sight) -> Result<(Instant, Samples, Instant)> {
    let started = Instant::now();
    let claims = clients
        .make(STAND_INS, |n| sandbox(&format!("many-{n}"), "many"))
        .await?;
    let (mut samples, mut last) = (Samples::default(), started);
    for (name, begun) in claims {
        let seen = sight.of(&name, PATIENCE).await?;
        samples.add(seen - begun);
        last = last.max(seen);
    }
    Ok((started, samples, last))
}

fn is_ready(sandbox: &Sandbox) -> bool {
    sandbox.status.as_ref().and_then(|status| status.phase) == Some(SandboxPhase::Ready)
}
