//! The one loop that owns the index of pools and batches: sights, answers and news in, decisions
//! out.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::AttachParams};
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    answers, batch, pool, recycle,
    sights::{self, KINDS, Kind, Sight},
    snapshot,
    tasks::News,
    world::{Restart, Wake, World},
    writes::{self, Write, Written},
};
use crate::index::Key;

/// How many sights one round takes in at most.
const ROUND: usize = 256;
/// How many writes are under way at once; making and removing pods leaves room for the rest.
const WRITES: usize = 256;
const POD_WRITES: usize = 32;
/// How many pods are saved at once: each is read and packed whole.
const SAVES: usize = 4;
/// How long the loop sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(60);
/// How long what is under way may take to finish when the operator leaves.
const LEAVING: Duration = Duration::from_secs(5);
/// How long the command that restarts a container may take.
const RESTARTING: Duration = Duration::from_secs(10);

struct Loop {
    client: Client,
    world: World,
    answers: JoinSet<Box<Written>>,
    /// Couriers, restarts, and the forgetting of images, which bring no answer.
    errands: JoinSet<()>,
    writes: Arc<Semaphore>,
    pod_writes: Arc<Semaphore>,
    saves: Arc<Semaphore>,
    /// Kinds that have not been listed yet; until all are, nothing is decided.
    unlisted: HashSet<Kind>,
}

/// Works until told to leave. Tasks that run go on running: the next operator asks for them
/// again, and their executors know them.
pub(crate) async fn work(
    client: Client,
    world: World,
    ready: impl FnOnce(),
    cancel: CancellationToken,
) {
    let this = Loop {
        client,
        world,
        answers: JoinSet::new(),
        errands: JoinSet::new(),
        writes: Arc::new(Semaphore::new(WRITES)),
        pod_writes: Arc::new(Semaphore::new(POD_WRITES)),
        saves: Arc::new(Semaphore::new(SAVES)),
        unlisted: KINDS.into_iter().collect(),
    };
    this.run(ready, cancel).await;
}

impl Loop {
    async fn run(mut self, ready: impl FnOnce(), cancel: CancellationToken) {
        let (mut seen, _watches) = sights::start(&self.client, &self.world.settings);
        let Some(mut inbox) = self.world.couriers.inbox() else {
            return;
        };
        let mut batch = Vec::with_capacity(ROUND);
        let mut ready = Some(ready);
        loop {
            let pause = self.pause();
            tokio::select! {
                () = cancel.cancelled() => break,
                count = seen.recv_many(&mut batch, ROUND) => {
                    if count == 0 {
                        tracing::error!("the watches have ended");
                        break;
                    }
                }
                Some(written) = self.answers.join_next() => self.take(written),
                Some(_) = self.errands.join_next() => {}
                Some(news) = inbox.recv() => batch::news(&mut self.world, news),
                () = tokio::time::sleep(pause) => {}
            }
            self.take_in(&mut seen, &mut batch, &mut inbox);
            if self.unlisted.is_empty() {
                if let Some(ready) = ready.take() {
                    self.world.index.mark_strays();
                    if let Some(saver) = self.world.saver.clone() {
                        // Before anything new can be saved.
                        saver.keep_only(self.world.index.named_images()).await;
                    }
                    ready();
                }
                self.decide(Timestamp::now());
                self.send_off();
            }
        }
        drop(seen);
        self.errands.shutdown().await;
        let finish = async { while self.answers.join_next().await.is_some() {} };
        if tokio::time::timeout(LEAVING, finish).await.is_err() {
            tracing::warn!("some writes did not finish in time and are abandoned");
        }
    }

    fn pause(&self) -> Duration {
        let Some(next) = self.world.wakes.next() else {
            return IDLE;
        };
        let left = next
            .duration_since(Timestamp::now())
            .max(SignedDuration::ZERO);
        Duration::try_from(left).unwrap_or(IDLE).min(IDLE)
    }

    /// Takes in everything that has come up to now.
    fn take_in(
        &mut self,
        seen: &mut mpsc::Receiver<Sight>,
        batch: &mut Vec<Sight>,
        inbox: &mut mpsc::Receiver<News>,
    ) {
        let now = Timestamp::now();
        while batch.len() < ROUND
            && let Ok(sight) = seen.try_recv()
        {
            batch.push(sight);
        }
        for sight in batch.drain(..) {
            self.see(sight, now);
        }
        for _ in 0..ROUND {
            let Some(written) = self.answers.try_join_next() else {
                break;
            };
            self.take(written);
        }
        for _ in 0..ROUND {
            let Ok(news) = inbox.try_recv() else { break };
            batch::news(&mut self.world, news);
        }
        while self.errands.try_join_next().is_some() {}
        while let Some(wake) = self.world.wakes.take_due(now) {
            match wake {
                Wake::Pool(key) => {
                    self.world.index.marks.pools.insert(key);
                }
                Wake::Batch(key) => {
                    self.world.index.marks.batches.insert(key);
                }
                Wake::Snapshot(key) => {
                    self.world.index.marks.snapshots.insert(key);
                }
                Wake::Stray(pod) => {
                    answers::mark_around(&mut self.world, &pod);
                    self.world.index.marks.strays.insert(pod);
                }
            }
        }
    }

    fn see(&mut self, sight: Sight, now: Timestamp) {
        let index = &mut self.world.index;
        match sight {
            Sight::Pool(pool) => index.see_pool(&pool),
            Sight::Pod(pod) => index.see_pod(&pod, now),
            Sight::Batch(batch) => index.see_batch(&batch),
            Sight::Snapshot(snapshot) => index.see_snapshot(&snapshot),
            Sight::Profile(profile) => index.profile = profile,
            Sight::Gone(Kind::Pool, key) => {
                index.lose_pool(&key);
                self.world.metrics.forget_pool(&key);
                self.world.succeeded(&Wake::Pool(key));
            }
            Sight::Gone(Kind::PoolPod | Kind::BatchPod, key) => {
                index.lose_pod(&key);
                // A pod that a batch without an end had is free when it is gone.
                if index
                    .holder(&key)
                    .is_some_and(|batch| !index.batches.contains_key(batch))
                {
                    index.free_pod(&key);
                }
                self.world.succeeded(&Wake::Stray(key));
            }
            Sight::Gone(Kind::Batch, key) => {
                index.lose_batch(&key);
                self.world.succeeded(&Wake::Batch(key));
            }
            Sight::Gone(Kind::Snapshot, key) => {
                index.lose_snapshot(&key);
                self.world.succeeded(&Wake::Snapshot(key));
            }
            Sight::Complete(kind, listed) => {
                for key in self.unseen(kind, &listed) {
                    self.see(Sight::Gone(kind, key), now);
                }
                self.unlisted.remove(&kind);
            }
        }
    }

    fn unseen(&self, kind: Kind, listed: &HashSet<Key>) -> Vec<Key> {
        let index = &self.world.index;
        let known: Vec<&Key> = match kind {
            Kind::Pool => index.pools.keys().collect(),
            Kind::Batch => index.batches.keys().collect(),
            Kind::Snapshot => index.snapshots.keys().collect(),
            Kind::PoolPod | Kind::BatchPod => {
                let of_pool = kind == Kind::PoolPod;
                let pods = index.pods.values();
                pods.filter(|pod| pod.pool().is_some() == of_pool)
                    .map(|pod| &pod.key)
                    .collect()
            }
        };
        known
            .into_iter()
            .filter(|key| !listed.contains(*key))
            .cloned()
            .collect()
    }

    fn take(&mut self, written: Result<Box<Written>, tokio::task::JoinError>) {
        match written {
            Ok(written) => answers::take(&mut self.world, *written, Timestamp::now()),
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "a piece of work panicked"),
        }
    }

    /// Lets the controllers look at what is marked. Pods are given out before anybody writes down
    /// that a batch waits.
    fn decide(&mut self, now: Timestamp) {
        let world = &mut self.world;
        let mut marks = std::mem::take(&mut world.index.marks);
        for key in &marks.strays {
            recycle::stray(world, key);
        }
        for key in &marks.batches {
            batch::line_up(world, key);
        }
        marks.pools.append(&mut world.index.marks.pools);
        for key in &marks.pools {
            batch::give_out(world, key);
        }
        marks.batches.append(&mut world.index.marks.batches);
        for key in &marks.batches {
            batch::look(world, key, now);
        }
        marks.snapshots.append(&mut world.index.marks.snapshots);
        for key in &marks.snapshots {
            snapshot::look(world, key, now);
        }
        marks.pools.append(&mut world.index.marks.pools);
        for key in &marks.pools {
            pool::look(world, key, now);
        }
        world.forget_images();
        world.metrics.looked("pool", marks.pools.len());
        world.metrics.looked("batchsandbox", marks.batches.len());
        world
            .metrics
            .looked("sandboxsnapshot", marks.snapshots.len());
        // What looking has marked is for the next round, which is due at once.
        let left = &world.index.marks;
        let next = left.pools.iter().cloned().map(Wake::Pool);
        let next = next.chain(left.batches.iter().cloned().map(Wake::Batch));
        let next = next.chain(left.snapshots.iter().cloned().map(Wake::Snapshot));
        let next: Vec<Wake> = next
            .chain(left.strays.iter().cloned().map(Wake::Stray))
            .collect();
        for wake in next {
            world.wakes.at(now, wake);
        }
    }

    fn send_off(&mut self) {
        let tray = std::mem::take(&mut self.world.tray);
        for write in tray.writes {
            let gate = match write {
                Write::CreatePod { .. } | Write::DeletePod { .. } => self.pod_writes.clone(),
                Write::Save(_) => self.saves.clone(),
                _ => self.writes.clone(),
            };
            let client = self.client.clone();
            self.answers.spawn(async move {
                // The gate is never closed, so there is always a place sooner or later.
                let _place = gate.acquire_owned().await;
                Box::new(writes::carry_out(client, write).await)
            });
        }
        if let Some(saver) = &self.world.saver
            && !tray.dropped_images.is_empty()
        {
            self.errands.spawn(saver.forget(tray.dropped_images));
        }
        for order in tray.orders {
            self.errands.spawn(self.world.couriers.send(order));
        }
        for order in tray.restarts {
            self.errands.spawn(restart(self.client.clone(), order));
        }
    }
}

/// Runs the restart command in each container. Whether it worked is seen at the containers.
async fn restart(client: Client, order: Restart) {
    let pods: Api<Pod> = Api::namespaced(client, &order.pod.namespace);
    for container in &order.containers {
        let params = AttachParams::default()
            .container(container.clone())
            .stdin(false)
            .stdout(false)
            .stderr(true);
        let running = async {
            let mut process = pods.exec(&order.pod.name, &order.command, &params).await?;
            if let Some(status) = process.take_status() {
                status.await;
            }
            Ok::<_, kube::Error>(())
        };
        match tokio::time::timeout(RESTARTING, running).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::debug!(pod = %order.pod, container, %error, "a container could not be restarted")
            }
            Err(_) => {
                tracing::debug!(pod = %order.pod, container, "the restart command does not end")
            }
        }
    }
}
