//! What the controllers of robots and their work have at hand.

use std::{collections::HashSet, sync::Arc};

use jiff::Timestamp;
use kube::Resource;

use super::{
    bridges::Bridges,
    fleet::Fleet,
    index::Index,
    pace::Pace,
    sights::{Kind, Object},
    trouble,
    writes::{What, Write},
};
use crate::{events::Events, index::Key, metrics::Metrics, rounds::Wakes};

/// Something to look at again.
pub(crate) type Wake = (Kind, Key);

/// What the controllers of robots and their work have at hand.
pub(crate) struct World {
    pub(crate) index: Index,
    /// The robots as far as placing work on them goes.
    pub(crate) fleet: Fleet,
    pub(crate) bridges: Bridges,
    pub(crate) pace: Pace,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) wakes: Wakes<Wake>,
    pub(crate) tray: Vec<Write>,
    /// Objects whose status or metadata is being written; another write waits for the answer.
    busy: HashSet<Wake>,
    /// Objects that went while something was being written about them: the answer to that write
    /// may come after the word that they are gone, and must not bring them back.
    overtaken: HashSet<Wake>,
    /// Objects about which the last write failed a moment ago: they have their rest until they
    /// change, or are due again.
    resting: HashSet<Wake>,
}

impl World {
    pub(crate) fn new(events: Events, metrics: Arc<Metrics>) -> Self {
        Self {
            index: Index::default(),
            fleet: Fleet::default(),
            bridges: Bridges::default(),
            pace: Pace::default(),
            events,
            metrics,
            wakes: Wakes::default(),
            tray: Vec::new(),
            busy: HashSet::new(),
            overtaken: HashSet::new(),
            resting: HashSet::new(),
        }
    }

    /// Writes something about an object, unless nothing may be written about it now: then it, and
    /// what it is part of, are looked at again when that is over.
    pub(crate) fn write(&mut self, kind: Kind, key: &Key, what: What) {
        if self.must_wait(kind, key) {
            return;
        }
        let owner = match &what {
            What::Create(object) => object.owner(key),
            _ => self.index.owner(kind, key),
        };
        self.busy.insert((kind, key.clone()));
        self.tray.push(Write {
            kind,
            key: key.clone(),
            owner,
            what,
        });
    }

    /// Whether nothing may be written about an object now: something is being written, or was
    /// refused a moment ago.
    pub(crate) fn must_wait(&self, kind: Kind, key: &Key) -> bool {
        let wake = (kind, key.clone());
        self.busy.contains(&wake) || self.resting.contains(&wake)
    }

    /// An object is seen, through its watch or as the answer to a write.
    pub(crate) fn take_in(&mut self, object: Object, now: Timestamp) {
        if let Some(wake) = object.place() {
            self.resting.remove(&wake);
        }
        self.warn(&object);
        self.index.see(object, now);
    }

    /// Tells of what has gone wrong since it was last seen.
    fn warn(&self, object: &Object) {
        let trouble = match object {
            Object::Task(task) => {
                let known = object
                    .place()
                    .and_then(|(_, key)| self.index.tasks.get(&key));
                trouble::of_task(known, task).map(|said| (said, task.object_ref(&())))
            }
            Object::Robot(robot) => {
                let known = object
                    .place()
                    .and_then(|(_, key)| self.index.robots.get(&key));
                trouble::of_robot(known, robot).map(|said| (said, robot.object_ref(&())))
            }
            _ => None,
        };
        if let Some(((reason, note), about)) = trouble {
            self.events.warn(about, &reason, "Run", note);
        }
    }

    /// Marks everything that is due.
    pub(crate) fn wake_up(&mut self, now: Timestamp) {
        while let Some(wake) = self.wakes.take_due(now) {
            self.resting.remove(&wake);
            self.index.marks.insert(wake);
        }
        while let Some(wake) = self.pace.take_due(now) {
            self.index.marks.insert(wake);
        }
        for namespace in self.bridges.fallen_silent(now) {
            let robots = self.index.robots.keys();
            for robot in robots.filter(|robot| robot.namespace == namespace) {
                self.bridges.unheard.insert(robot.clone());
                self.index.marks.insert((Kind::Robot, robot.clone()));
            }
            tracing::warn!(
                namespace = &*namespace,
                "no bridge hears the robots any more"
            );
        }
    }

    /// An object is gone.
    pub(crate) fn forget(&mut self, kind: Kind, key: &Key) {
        let wake = (kind, key.clone());
        self.wakes.succeeded(&wake);
        self.resting.remove(&wake);
        self.pace.forget(&wake);
        if self.busy.contains(&wake) {
            self.overtaken.insert(wake);
        }
        self.index.lose(kind, key);
    }

    /// All objects of a kind were listed: any other is gone.
    pub(crate) fn forget_unlisted(&mut self, kind: Kind, listed: &HashSet<Key>) {
        for key in self.index.known(kind) {
            if !listed.contains(&key) {
                self.forget(kind, &key);
            }
        }
        let busy = self.busy.iter().filter(|(busy, _)| *busy == kind);
        let overtaken = busy.filter(|(_, key)| !listed.contains(key));
        self.overtaken.extend(overtaken.cloned());
    }

    /// Whether an object has gone since the write about it that is answered now began.
    pub(crate) fn was_overtaken(&mut self, wake: &Wake) -> bool {
        self.overtaken.remove(wake)
    }

    /// The write about an object has been answered. What it is part of is looked at again too:
    /// it may have found the object busy, and left something undone.
    pub(crate) fn answered(
        &mut self,
        wake: Wake,
        owner: Option<Wake>,
        succeeded: bool,
        now: Timestamp,
    ) {
        self.busy.remove(&wake);
        if succeeded {
            self.wakes.succeeded(&wake);
            self.index.marks.extend(owner);
            self.index.marks.insert(wake);
            return;
        }
        self.metrics.failed("robot");
        self.resting.insert(wake.clone());
        let again = self.wakes.failed(wake, now);
        if let Some(owner) = owner {
            self.wakes.at(again, owner);
        }
    }

    /// Looks at something again, no later than then.
    pub(crate) fn wake(&mut self, when: Option<Timestamp>, wake: Wake) {
        if let Some(when) = when {
            self.wakes.at(when, wake);
        }
    }
}
