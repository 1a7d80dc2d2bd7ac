//! The one loop that owns the index: sights and answers in, decisions out.
//!
//! A round takes in whatever has come, lets the controllers look at what it marked, and sends off
//! what they put on the tray. Writes, runs and resets go on beside the loop and come back into it
//! as answers; at most one write about an object is under way at a time.

mod answers;
pub(crate) mod legible;
mod wakes;
pub(crate) mod watches;
pub(crate) mod writes;

use std::{collections::HashSet, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use kube::Client;
use tokio::{
    sync::{Semaphore, mpsc},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

pub(crate) use wakes::{Wake, Wakes};
use watches::{KINDS, Kind, Sight};
pub(crate) use writes::{Claim, Claimed, Write, Written, status_patch};

use crate::{
    agents::{self, Door, Report},
    index::{Key, Uid},
    sandbox, strays, task, warm_pool,
    world::World,
};

/// How many sights one round takes in at most.
const ROUND: usize = 256;
/// How many writes are under way at once; making and removing pods leaves room for the rest.
const WRITES: usize = 256;
const POD_WRITES: usize = 32;
/// How many pods are asked at once what runs in them.
const QUESTIONS: usize = 16;
/// How long the loop sleeps when nothing is due.
const IDLE: Duration = Duration::from_secs(60);
/// How long what is under way may take to finish when the operator leaves.
const LEAVING: Duration = Duration::from_secs(5);

/// Something that went on beside the loop has ended.
enum Answer {
    Written(Box<Written>),
    Ran(Key, Uid, Option<Box<Report>>),
    Wiped(Key, Result<String, String>),
    Told(Key, Door, Result<Vec<String>, String>),
    Killed,
}

/// The loop and what goes on beside it.
pub(crate) struct Dispatcher {
    client: Client,
    world: World,
    answers: JoinSet<Answer>,
    writes: Arc<Semaphore>,
    pod_writes: Arc<Semaphore>,
    questions: Arc<Semaphore>,
    /// Kinds that have not been listed yet; until all are, nothing is decided.
    unlisted: HashSet<Kind>,
}

impl Dispatcher {
    pub(crate) fn new(client: Client, world: World) -> Self {
        Self {
            client,
            world,
            answers: JoinSet::new(),
            writes: Arc::new(Semaphore::new(WRITES)),
            pod_writes: Arc::new(Semaphore::new(POD_WRITES)),
            questions: Arc::new(Semaphore::new(QUESTIONS)),
            unlisted: KINDS.into_iter().collect(),
        }
    }

    /// Works until told to leave. Running steps are left running: the next operator attaches to
    /// them.
    pub(crate) async fn work(mut self, ready: impl FnOnce(), cancel: CancellationToken) {
        let (mut sights, _watches) = watches::start(&self.client, &self.world.settings);
        let mut batch = Vec::with_capacity(ROUND);
        let mut ready = Some(ready);
        loop {
            let pause = self.pause();
            tokio::select! {
                () = cancel.cancelled() => break,
                count = sights.recv_many(&mut batch, ROUND) => {
                    if count == 0 {
                        tracing::error!("the watches have ended");
                        break;
                    }
                }
                Some(answer) = self.answers.join_next() => self.take(answer),
                () = tokio::time::sleep(pause) => {}
            }
            self.take_in(&mut sights, &mut batch);
            if self.unlisted.is_empty() {
                if let Some(ready) = ready.take() {
                    self.world.index.mark_orphans();
                    strays::ask(&mut self.world);
                    ready();
                }
                self.decide(Timestamp::now()).await;
            }
        }
        drop(sights);
        self.leave().await;
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
    fn take_in(&mut self, sights: &mut mpsc::Receiver<Sight>, batch: &mut Vec<Sight>) {
        let now = Timestamp::now();
        while batch.len() < ROUND
            && let Ok(sight) = sights.try_recv()
        {
            batch.push(sight);
        }
        for sight in batch.drain(..) {
            self.see(sight, now);
        }
        for _ in 0..ROUND {
            let Some(answer) = self.answers.try_join_next() else {
                break;
            };
            self.take(answer);
        }
        self.world.wakes.ring(now, &mut self.world.index.marks);
    }

    fn see(&mut self, sight: Sight, now: Timestamp) {
        if let Sight::Gone(kind, key) = &sight {
            self.world.succeeded(&kind.wake(key));
        }
        let index = &mut self.world.index;
        match sight {
            Sight::Pool(pool) => index.see_pool(&pool),
            Sight::Pod(pod) => index.see_pod(&pod, now),
            Sight::Sandbox(sandbox) => index.see_sandbox(&sandbox, now),
            Sight::Task(task) => index.see_task(&task),
            Sight::Gone(Kind::Pool, key) => {
                self.world.metrics.forget_pool(&key);
                index.lose_pool(&key);
            }
            Sight::Gone(Kind::Pod, key) => self.lose_pod(&key),
            Sight::Gone(Kind::Sandbox, key) => index.lose_sandbox(&key),
            Sight::Gone(Kind::Task, key) => index.lose_task(&key),
            Sight::Complete(kind, listed) => {
                for key in self.unseen(kind, &listed) {
                    self.see(Sight::Gone(kind, key), now);
                }
                self.unlisted.remove(&kind);
            }
        }
    }

    fn unseen(&self, kind: Kind, listed: &HashSet<Key>) -> Vec<Key> {
        fn missing<'a>(known: impl Iterator<Item = &'a Key>, listed: &HashSet<Key>) -> Vec<Key> {
            known
                .filter(|key| !listed.contains(*key))
                .cloned()
                .collect()
        }
        let index = &self.world.index;
        match kind {
            Kind::Pool => missing(index.pools.keys(), listed),
            Kind::Pod => missing(index.pods.keys(), listed),
            Kind::Sandbox => missing(index.sandboxes.keys(), listed),
            Kind::Task => missing(index.tasks.keys(), listed),
        }
    }

    fn lose_pod(&mut self, key: &Key) {
        if let Some(pod) = self.world.index.pods.get(key) {
            self.world.agents.forget(&pod.uid);
        }
        self.world.index.lose_pod(key);
    }

    fn take(&mut self, answer: Result<Answer, tokio::task::JoinError>) {
        let now = Timestamp::now();
        match answer {
            Ok(Answer::Written(written)) => answers::take(&mut self.world, *written, now),
            Ok(Answer::Ran(key, uid, Some(report))) => {
                task::ended(&mut self.world, &key, &uid, *report)
            }
            Ok(Answer::Ran(..)) => {}
            Ok(Answer::Wiped(pod, result)) => sandbox::wiped(&mut self.world, &pod, result, now),
            Ok(Answer::Told(pod, door, Ok(running))) => {
                strays::told(&mut self.world, &pod, door, running);
            }
            // Whoever cannot say what runs in it will be heard of in other ways.
            Ok(Answer::Told(pod, _, Err(why))) => {
                tracing::debug!(%pod, why, "a pod did not say what runs in it");
            }
            Ok(Answer::Killed) => {}
            Err(error) if error.is_cancelled() => {}
            Err(error) => tracing::error!(%error, "a piece of work panicked"),
        }
    }

    /// Lets the controllers look at what is marked. Claims and tasks come first and are on their
    /// way before anybody counts pods or writes down that a sandbox waits.
    async fn decide(&mut self, now: Timestamp) {
        let world = &mut self.world;
        let marks = std::mem::take(&mut world.index.marks);
        for key in &marks.gone_tasks {
            task::stop(world, key);
        }
        for key in &marks.pods {
            world.index.reshelve(key);
        }
        for key in &marks.sandboxes {
            sandbox::line_up(world, key);
        }
        let mut pools = marks.pools;
        pools.append(&mut world.index.marks.pools);
        for key in &pools {
            sandbox::give_out(world, key, now);
        }
        for key in &marks.tasks {
            task::look(world, key, now);
        }
        if self.send_off() {
            // What was sent off begins here; it would have to wait for the end of this round.
            tokio::task::yield_now().await;
        }
        let world = &mut self.world;
        // Pools before those who wait for them, who say how far theirs is.
        for key in &pools {
            warm_pool::look(world, key, now);
        }
        for key in &marks.sandboxes {
            sandbox::look(world, key, now);
        }
        for key in &marks.pods {
            sandbox::give_back(world, key);
        }
        let looks = [
            ("warmpool", pools.len()),
            ("sandbox", marks.sandboxes.len()),
            ("task", marks.tasks.len()),
        ];
        for (controller, times) in looks {
            world.metrics.looked(controller, times);
        }
        self.send_off();
    }

    /// Sends off what is on the tray; says whether there was anything.
    fn send_off(&mut self) -> bool {
        let before = self.answers.len();
        let tray = std::mem::take(&mut self.world.tray);
        for write in tray.writes {
            let gate = match write {
                Write::CreatePod { .. } | Write::DeletePod { .. } => self.pod_writes.clone(),
                _ => self.writes.clone(),
            };
            let client = self.client.clone();
            self.answers.spawn(async move {
                // The gate is never closed, so there is always a place sooner or later.
                let _place = gate.acquire_owned().await;
                Answer::Written(Box::new(writes::carry_out(client, write).await))
            });
        }
        for (job, stop) in tray.starts {
            let agents = self.world.agents.clone();
            let (key, uid) = (job.key.clone(), job.uid.clone());
            self.answers.spawn(async move {
                let report = agents::run(agents, job, stop).await;
                Answer::Ran(key, uid, report.map(Box::new))
            });
        }
        for (pod, door) in tray.resets {
            let agents = self.world.agents.clone();
            self.answers
                .spawn(async move { Answer::Wiped(pod, agents.reset(&door).await) });
        }
        for (pod, door) in tray.questions {
            let (agents, gate) = (self.world.agents.clone(), self.questions.clone());
            self.answers.spawn(async move {
                let _place = gate.acquire_owned().await;
                let running = agents.runs(&door).await;
                Answer::Told(pod, door, running)
            });
        }
        for (door, key) in tray.kills {
            let agents = self.world.agents.clone();
            self.answers.spawn(async move {
                if let Err(why) = agents.kill(&door, &key).await {
                    tracing::debug!(key, why, "could not end what ran");
                }
                Answer::Killed
            });
        }
        self.answers.len() > before
    }

    /// Lets writes finish and leaves runs alone.
    async fn leave(mut self) {
        for run in self.world.runs.values() {
            run.stop.leave.cancel();
        }
        let finish = async { while self.answers.join_next().await.is_some() {} };
        if tokio::time::timeout(LEAVING, finish).await.is_err() {
            tracing::warn!("some writes did not finish in time and are abandoned");
        }
    }
}
