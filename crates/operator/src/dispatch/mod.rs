//! `arl.infra.io` in the loop that looks after it: what is seen, decided and sent off.

mod answers;
mod sights;
mod writes;

use jiff::Timestamp;

pub(crate) use writes::{Claim, Claimed, Write, Written};

use crate::{
    agents::{self, Door, Report},
    index::{Key, Uid},
    rounds::{Beside, Family, Watches},
    sandbox, strays, task, warm_pool,
    world::World,
};
use sights::{Kind, Object};

/// Something to look at again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wake {
    Pool(Key),
    Sandbox(Key),
    Task(Key),
    Pod(Key),
}

/// Something that went on beside the loop has ended.
pub(crate) enum Answer {
    Written(Box<Written>),
    Ran(Key, Uid, Option<Box<Report>>),
    Wiped(Key, Result<String, String>),
    Told(Key, Door, Result<Vec<String>, String>),
    Killed,
}

impl Family for World {
    type Kind = Kind;
    type Object = Object;
    type Answer = Answer;

    const KINDS: &'static [Kind] = sights::KINDS;

    fn watch(&mut self, watches: &mut Watches<Object, Kind>) {
        sights::watch(watches, self.settings.ahead.as_ref());
    }

    fn see(&mut self, object: Object, now: Timestamp) {
        match object {
            Object::Pool(pool) => self.index.see_pool(&pool),
            Object::Pod(pod) => self.index.see_pod(&pod, now),
            Object::Sandbox(sandbox) => self.index.see_sandbox(&sandbox, now),
            Object::Task(task) => self.index.see_task(&task),
        }
    }

    fn lose(&mut self, kind: Kind, key: &Key, _: Timestamp) {
        self.wakes.succeeded(&kind.wake(key));
        match kind {
            Kind::Pool => {
                self.metrics.forget_pool(key);
                self.index.lose_pool(key);
            }
            Kind::Pod => {
                if let Some(pod) = self.index.pods.get(key) {
                    self.agents.forget(&pod.uid);
                }
                self.index.lose_pod(key);
            }
            Kind::Sandbox => self.index.lose_sandbox(key),
            Kind::Task => self.index.lose_task(key),
        }
    }

    fn known(&self, kind: Kind) -> Vec<Key> {
        let index = &self.index;
        match kind {
            Kind::Pool => index.pools.keys().cloned().collect(),
            Kind::Pod => index.pods.keys().cloned().collect(),
            Kind::Sandbox => index.sandboxes.keys().cloned().collect(),
            Kind::Task => index.tasks.keys().cloned().collect(),
        }
    }

    fn take(&mut self, answer: Answer, now: Timestamp) {
        match answer {
            Answer::Written(written) => answers::take(self, *written, now),
            Answer::Ran(key, uid, Some(report)) => task::ended(self, &key, &uid, *report),
            Answer::Ran(..) => {}
            Answer::Wiped(pod, result) => sandbox::wiped(self, &pod, result, now),
            Answer::Told(pod, door, Ok(running)) => strays::told(self, &pod, door, running),
            // Whoever cannot say what runs in it will be heard of in other ways.
            Answer::Told(pod, _, Err(why)) => {
                tracing::debug!(%pod, why, "a pod did not say what runs in it");
            }
            Answer::Killed => {}
        }
    }

    fn ring(&mut self, now: Timestamp) {
        let marks = &mut self.index.marks;
        while let Some(wake) = self.wakes.take_due(now) {
            match wake {
                Wake::Pool(key) => marks.pool(&key),
                Wake::Sandbox(key) => marks.sandbox(&key),
                Wake::Task(key) => marks.task(&key),
                Wake::Pod(key) => marks.pod(&key),
            }
        }
    }

    fn due(&self) -> Option<Timestamp> {
        self.wakes.next()
    }

    async fn begin(&mut self) {
        self.index.mark_orphans();
        strays::ask(self);
    }

    /// Claims and tasks come first and are on their way before anybody counts pods or writes down
    /// that a sandbox waits.
    async fn decide(&mut self, now: Timestamp, beside: &mut Beside<Answer>) {
        let marks = std::mem::take(&mut self.index.marks);
        for key in &marks.gone_tasks {
            task::stop(self, key);
        }
        for key in &marks.pods {
            self.index.reshelve(key);
        }
        for key in &marks.sandboxes {
            sandbox::line_up(self, key);
        }
        let mut pools = marks.pools;
        pools.append(&mut self.index.marks.pools);
        for key in &pools {
            sandbox::give_out(self, key, now);
        }
        for key in &marks.tasks {
            task::look(self, key, now);
        }
        if self.send_off(beside) {
            // What was sent off begins here; it would have to wait for the end of this round.
            tokio::task::yield_now().await;
        }
        // Pools before those who wait for them, who say how far theirs is.
        for key in &pools {
            warm_pool::look(self, key, now);
        }
        for key in &marks.sandboxes {
            sandbox::look(self, key, now);
        }
        for key in &marks.pods {
            sandbox::give_back(self, key);
        }
        let looks = [
            ("warmpool", pools.len()),
            ("sandbox", marks.sandboxes.len()),
            ("task", marks.tasks.len()),
        ];
        for (controller, times) in looks {
            self.metrics.looked(controller, times);
        }
        self.send_off(beside);
    }

    /// Running steps are left running: the next operator attaches to them.
    fn leave(&mut self) {
        for run in self.runs.values() {
            run.stop.leave.cancel();
        }
    }
}

impl World {
    /// Sends off what is on the tray; says whether there was anything.
    fn send_off(&mut self, beside: &mut Beside<Answer>) -> bool {
        let before = beside.under_way();
        let tray = std::mem::take(&mut self.tray);
        for write in tray.writes {
            let gate = match write {
                Write::CreatePod { .. } | Write::DeletePod { .. } => beside.pods.clone(),
                _ => beside.writes.clone(),
            };
            let client = beside.client();
            let settings = self.settings.clone();
            beside.ask_through(&gate, move || async move {
                let ahead = settings.ahead.as_ref();
                Answer::Written(Box::new(writes::carry_out(client, ahead, write).await))
            });
        }
        for (job, stop) in tray.starts {
            let agents = self.agents.clone();
            let (key, uid) = (job.key.clone(), job.uid.clone());
            beside.ask(async move {
                let report = agents::run(agents, job, stop).await;
                Answer::Ran(key, uid, report.map(Box::new))
            });
        }
        for (pod, door) in tray.resets {
            let agents = self.agents.clone();
            beside.ask(async move { Answer::Wiped(pod, agents.reset(&door).await) });
        }
        for (pod, door) in tray.questions {
            let agents = self.agents.clone();
            beside.ask_through(&self.questions, move || async move {
                let running = agents.runs(&door).await;
                Answer::Told(pod, door, running)
            });
        }
        for (door, key) in tray.kills {
            let agents = self.agents.clone();
            beside.ask(async move {
                if let Err(why) = agents.kill(&door, &key).await {
                    tracing::debug!(key, why, "could not end what ran");
                }
                Answer::Killed
            });
        }
        beside.under_way() > before
    }
}
