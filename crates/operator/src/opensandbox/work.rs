//! `sandbox.opensandbox.io` in the loop that looks after it: what is seen, decided and sent off.
//! Tasks that run go on running when the operator leaves: the next one asks for them again, and
//! their executors know them.

use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::{Api, Client, api::AttachParams};

use super::{
    answers, batch, pool, recycle,
    sights::{self, Kind, Object},
    snapshot,
    world::{Restart, Wake, World},
    writes::{self, Write, Written},
};
use crate::{
    index::Key,
    rounds::{Beside, Family, Watches},
};

/// How long the command that restarts a container may take.
const RESTARTING: Duration = Duration::from_secs(10);

impl Family for World {
    type Kind = Kind;
    type Object = Object;
    type Answer = Box<Written>;

    const KINDS: &'static [Kind] = sights::KINDS;

    fn watch(&mut self, watches: &mut Watches<Object, Kind>) {
        sights::watch(watches, &self.settings.identity.namespace);
        if let Some(inbox) = self.couriers.inbox() {
            watches.hear(inbox, Object::News);
        }
    }

    fn see(&mut self, object: Object, now: Timestamp) {
        match object {
            Object::Pool(pool) => self.index.see_pool(&pool),
            Object::Pod(pod) => self.index.see_pod(&pod, now),
            Object::Batch(batch) => self.index.see_batch(&batch),
            Object::Snapshot(snapshot) => self.index.see_snapshot(&snapshot),
            Object::Profile(profile) => self.index.profile = profile,
            Object::News(news) => batch::news(self, news),
        }
    }

    fn lose(&mut self, kind: Kind, key: &Key, _: Timestamp) {
        let index = &mut self.index;
        let wake = match kind {
            Kind::Pool => {
                index.lose_pool(key);
                self.metrics.forget_pool(key);
                Wake::Pool(key.clone())
            }
            Kind::PoolPod | Kind::BatchPod => {
                index.lose_pod(key);
                // A pod that a batch without an end had is free when it is gone.
                if index
                    .holder(key)
                    .is_some_and(|batch| !index.batches.contains_key(batch))
                {
                    index.free_pod(key);
                }
                Wake::Stray(key.clone())
            }
            Kind::Batch => {
                index.lose_batch(key);
                Wake::Batch(key.clone())
            }
            Kind::Snapshot => {
                index.lose_snapshot(key);
                self.making.gone(key);
                Wake::Snapshot(key.clone())
            }
        };
        self.wakes.succeeded(&wake);
    }

    fn known(&self, kind: Kind) -> Vec<Key> {
        let index = &self.index;
        match kind {
            Kind::Pool => index.pools.keys().cloned().collect(),
            Kind::Batch => index.batches.keys().cloned().collect(),
            Kind::Snapshot => {
                let known = index.snapshots.keys().chain(self.making.all());
                known.cloned().collect()
            }
            Kind::PoolPod | Kind::BatchPod => {
                let of_pool = kind == Kind::PoolPod;
                let pods = index.pods.values();
                pods.filter(|pod| pod.pool().is_some() == of_pool)
                    .map(|pod| pod.key.clone())
                    .collect()
            }
        }
    }

    fn take(&mut self, written: Box<Written>, now: Timestamp) {
        answers::take(self, *written, now);
    }

    fn ring(&mut self, now: Timestamp) {
        while let Some(wake) = self.wakes.take_due(now) {
            let marks = &mut self.index.marks;
            match wake {
                Wake::Pool(key) => {
                    marks.pools.insert(key);
                }
                Wake::Batch(key) => {
                    marks.batches.insert(key);
                }
                Wake::Snapshot(key) => {
                    marks.snapshots.insert(key);
                }
                Wake::Stray(pod) => {
                    answers::mark_around(self, &pod);
                    self.index.marks.strays.insert(pod);
                }
            }
        }
    }

    fn due(&self) -> Option<Timestamp> {
        self.wakes.next()
    }

    async fn begin(&mut self) {
        self.index.mark_strays();
        if let Some(saver) = self.saver.clone() {
            // Before anything new can be saved.
            saver.keep_only(self.index.named_images()).await;
        }
    }

    /// Pods are given out before anybody writes down that a batch waits.
    async fn decide(&mut self, now: Timestamp, beside: &mut Beside<Box<Written>>) {
        let mut marks = std::mem::take(&mut self.index.marks);
        for key in &marks.strays {
            recycle::stray(self, key);
        }
        for key in &marks.batches {
            batch::line_up(self, key);
        }
        marks.pools.append(&mut self.index.marks.pools);
        for key in &marks.pools {
            batch::give_out(self, key);
        }
        marks.batches.append(&mut self.index.marks.batches);
        for key in &marks.batches {
            batch::look(self, key, now);
        }
        marks.snapshots.append(&mut self.index.marks.snapshots);
        for key in &marks.snapshots {
            snapshot::look(self, key, now);
        }
        marks.pools.append(&mut self.index.marks.pools);
        for key in &marks.pools {
            pool::look(self, key, now);
        }
        self.forget_images();
        let looks = [
            ("pool", marks.pools.len()),
            ("batchsandbox", marks.batches.len()),
            ("sandboxsnapshot", marks.snapshots.len()),
        ];
        for (controller, times) in looks {
            self.metrics.looked(controller, times);
        }
        self.look_again(now);
        self.send_off(beside);
    }
}

impl World {
    /// Sends off what is on the tray.
    fn send_off(&mut self, beside: &mut Beside<Box<Written>>) {
        let tray = std::mem::take(&mut self.tray);
        for write in tray.writes {
            let gate = match write {
                Write::CreatePod { .. } | Write::DeletePod { .. } => beside.pods.clone(),
                Write::Save(_) => self.saves.clone(),
                _ => beside.writes.clone(),
            };
            let client = beside.client();
            beside.ask_through(&gate, move || async move {
                Box::new(writes::carry_out(client, write).await)
            });
        }
        if let Some(saver) = &self.saver
            && !tray.dropped_images.is_empty()
        {
            beside.errand(saver.forget(tray.dropped_images));
        }
        for order in tray.orders {
            beside.errand(self.couriers.send(order));
        }
        for order in tray.restarts {
            beside.errand(restart(beside.client(), order));
        }
    }

    /// What looking has marked is for the next round, which is due at once.
    fn look_again(&mut self, now: Timestamp) {
        let left = &self.index.marks;
        let next = left.pools.iter().cloned().map(Wake::Pool);
        let next = next.chain(left.batches.iter().cloned().map(Wake::Batch));
        let next = next.chain(left.snapshots.iter().cloned().map(Wake::Snapshot));
        let next = next.chain(left.strays.iter().cloned().map(Wake::Stray));
        for wake in next {
            self.wakes.at(now, wake);
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
