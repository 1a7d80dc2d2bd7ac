//! `robot.k8s4r.io` in the loop that looks after it: what is seen, decided and sent off. What runs
//! on robots runs on when the operator leaves.

use std::collections::HashSet;

use jiff::Timestamp;

use super::{
    answers, deployment, group, job, robot,
    sights::{self, Kind, Told},
    task,
    world::World,
    writes::{self, Written},
};
use crate::{
    index::Key,
    rounds::{Beside, Family, Watches},
};

impl Family for World {
    type Kind = Kind;
    type Object = Told;
    type Answer = Box<Written>;

    const KINDS: &'static [Kind] = sights::KINDS;

    fn watch(&mut self, watches: &mut Watches<Told, Kind>) {
        sights::watch(watches);
    }

    fn see(&mut self, told: Told, now: Timestamp) {
        match told {
            Told::Object(object) => self.take_in(object, now),
            Told::Bridge(lease) => self.bridges.see(&lease, now),
            Told::BridgeGone(key) => self.bridges.lose(&key.namespace),
            Told::Bridges(listed) => self.bridges.only(&listed),
        }
    }

    fn lose(&mut self, kind: Kind, key: &Key, _now: Timestamp) {
        self.forget(kind, key);
    }

    fn complete(&mut self, kind: Kind, listed: &HashSet<Key>, _now: Timestamp) {
        self.forget_unlisted(kind, listed);
    }

    fn known(&self, kind: Kind) -> Vec<Key> {
        self.index.known(kind)
    }

    fn take(&mut self, written: Box<Written>, now: Timestamp) {
        answers::take(self, *written, now);
    }

    fn ring(&mut self, now: Timestamp) {
        self.wake_up(now);
    }

    /// What looking has marked is looked at without delay.
    fn due(&self) -> Option<Timestamp> {
        match self.index.marks.is_empty() {
            true => [self.wakes.next(), self.bridges.due(), self.pace.due()]
                .into_iter()
                .flatten()
                .min(),
            false => Some(Timestamp::UNIX_EPOCH),
        }
    }

    async fn begin(&mut self) {}

    /// Groups take turns by their jobs' priority, so that the most important finds room first.
    async fn decide(&mut self, now: Timestamp, beside: &mut Beside<Box<Written>>) {
        let marks = std::mem::take(&mut self.index.marks);
        self.metrics.looked("robot", marks.len());
        let mut fleet = std::mem::take(&mut self.fleet);
        fleet.begin(std::mem::take(&mut self.index.recount));
        let mut groups = Vec::new();
        for (kind, key) in marks {
            let wake = (kind, key);
            if !self.pace.admits(&wake, now) {
                continue;
            }
            let (kind, key) = wake;
            match kind {
                Kind::Robot => robot::look(self, &key, now),
                Kind::Job => job::look(self, &key, now),
                Kind::Group => groups.push(key),
                Kind::Task => task::look(self, &key, &mut fleet, now),
                Kind::Deployment => {
                    let robots = deployment::look(self, &key, &mut fleet, now);
                    self.pace.looked((Kind::Deployment, key), robots, now);
                }
            }
        }
        groups.sort_by_cached_key(|key| group::turn(self, key));
        for key in groups {
            group::look(self, &key, &mut fleet, now);
            let tasks = self.index.tasks_of(&key).count();
            self.pace.looked((Kind::Group, key), tasks, now);
        }
        self.fleet = fleet;
        self.send_off(beside);
    }
}

impl World {
    /// Sends off what is on the tray.
    fn send_off(&mut self, beside: &mut Beside<Box<Written>>) {
        let gate = beside.writes.clone();
        for write in std::mem::take(&mut self.tray) {
            let client = beside.client();
            beside.ask_through(&gate, move || async move {
                Box::new(writes::carry_out(client, write).await)
            });
        }
    }
}
