//! The one loop that owns the index of robots and their work: sights and answers in, decisions
//! out.

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use super::{
    answers, deployment,
    fleet::Fleet,
    group, job, robot,
    sights::{self, KINDS, Kind, Sight},
    task,
    world::World,
    writes::{self, Written},
};

/// How many sights one round takes in at most.
const ROUND: usize = 256;
/// How many writes are under way at once.
const WRITES: usize = 256;
/// How long the loop sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(60);
/// How long what is under way may take to finish when the operator leaves.
const LEAVING: Duration = Duration::from_secs(5);

struct Loop {
    client: Client,
    world: World,
    answers: JoinSet<Box<Written>>,
    writes: Arc<Semaphore>,
    /// Kinds that have not been listed yet; until all are, nothing is decided.
    unlisted: HashSet<Kind>,
}

/// Works until told to leave. What runs on robots runs on.
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
        writes: Arc::new(Semaphore::new(WRITES)),
        unlisted: KINDS.into_iter().collect(),
    };
    this.run(ready, cancel).await;
}

impl Loop {
    async fn run(mut self, ready: impl FnOnce(), cancel: CancellationToken) {
        let (mut seen, _watches) = sights::start(&self.client, &self.world.settings);
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
                () = tokio::time::sleep(pause) => {}
            }
            self.take_in(&mut seen, &mut batch);
            if self.unlisted.is_empty() {
                if let Some(ready) = ready.take() {
                    ready();
                }
                self.decide(Timestamp::now());
                self.send_off();
            }
        }
        drop(seen);
        let finish = async { while self.answers.join_next().await.is_some() {} };
        if tokio::time::timeout(LEAVING, finish).await.is_err() {
            tracing::warn!("some writes did not finish in time and are abandoned");
        }
    }

    fn pause(&self) -> Duration {
        if !self.world.index.marks.is_empty() && self.unlisted.is_empty() {
            return Duration::ZERO;
        }
        let Some(next) = self.world.wakes.next() else {
            return IDLE;
        };
        let left = next
            .duration_since(Timestamp::now())
            .max(SignedDuration::ZERO);
        Duration::try_from(left).unwrap_or(IDLE).min(IDLE)
    }

    /// Takes in everything that has come up to now.
    fn take_in(&mut self, seen: &mut mpsc::Receiver<Sight>, batch: &mut Vec<Sight>) {
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
        self.world.wake_up(now);
    }

    fn see(&mut self, sight: Sight, now: Timestamp) {
        match sight {
            Sight::There(object) => self.world.see(object, now),
            Sight::Gone(kind, key) => self.world.lose(kind, &key, now),
            Sight::Complete(kind, listed) => {
                self.world.complete(kind, &listed, now);
                self.unlisted.remove(&kind);
            }
        }
    }

    fn take(&mut self, written: Result<Box<Written>, tokio::task::JoinError>) {
        match written {
            Ok(written) => answers::take(&mut self.world, *written, Timestamp::now()),
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "a piece of work panicked"),
        }
    }

    /// Lets the controllers look at what is marked. Groups take turns by their jobs' priority, so
    /// that the most important finds room first.
    fn decide(&mut self, now: Timestamp) {
        let marks = std::mem::take(&mut self.world.index.marks);
        self.world.metrics.looked("robot", marks.len());
        let world = &mut self.world;
        let mut fleet = Fleet::default();
        let mut groups = Vec::new();
        for (kind, key) in marks {
            match kind {
                Kind::Robot => robot::look(world, &key, now),
                Kind::Job => job::look(world, &key, now),
                Kind::Group => groups.push(key),
                Kind::Task => task::look(world, &key, &mut fleet, now),
                Kind::Deployment => deployment::look(world, &key, &mut fleet, now),
            }
        }
        groups.sort_by_cached_key(|key| group::turn(world, key));
        for key in &groups {
            group::look(world, key, &mut fleet, now);
        }
    }

    fn send_off(&mut self) {
        for write in std::mem::take(&mut self.world.tray) {
            let (client, gate) = (self.client.clone(), self.writes.clone());
            self.answers.spawn(async move {
                // The gate is never closed, so there is always a place sooner or later.
                let _place = gate.acquire_owned().await;
                Box::new(writes::carry_out(client, write).await)
            });
        }
    }
}
