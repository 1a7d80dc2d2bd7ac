//! What the controllers of pools and batches have at hand.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use sandlot_access::PrivateKey;

use super::{
    index::Index,
    tasks::{Courier, Order},
    writes::Write,
};
use crate::{
    events::Events,
    index::Key,
    metrics::Metrics,
    rounds::{Gate, Wakes},
    saving::Saver,
    settings::Settings,
};

/// How many pods are saved at once: each is read and packed whole.
const SAVES: usize = 4;

/// Something to look at again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Wake {
    Pool(Key),
    Batch(Key),
    Snapshot(Key),
    Stray(Key),
}

/// What the controllers of pools and batches have at hand.
pub(crate) struct World {
    pub(crate) index: Index,
    pub(crate) settings: Arc<Settings>,
    /// What this operator proves itself with to the task executors.
    pub(crate) key: Option<PrivateKey>,
    /// Who saves pods as images, where anybody does.
    pub(crate) saver: Option<Arc<dyn Saver>>,
    pub(crate) couriers: Courier,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) wakes: Wakes<Wake>,
    pub(crate) tray: Tray,
    /// For saving pods.
    pub(crate) saves: Gate,
    /// Snapshots that are being made.
    pub(crate) making: Making,
}

/// Snapshots that are being made, and of which of them the watch has told meanwhile that there is
/// none: it has come and gone, and the late answer that it was made must not bring it back.
#[derive(Debug, Default)]
pub(crate) struct Making(HashMap<Key, bool>);

impl Making {
    /// A snapshot of this name is asked for.
    pub(crate) fn begin(&mut self, snapshot: Key) {
        self.0.insert(snapshot, false);
    }

    /// There is no snapshot of this name, or no longer.
    pub(crate) fn gone(&mut self, snapshot: &Key) {
        if let Some(overtaken) = self.0.get_mut(snapshot) {
            *overtaken = true;
        }
    }

    /// It was answered; whether the watch had told already that it is gone.
    pub(crate) fn take(&mut self, snapshot: &Key) -> bool {
        self.0.remove(snapshot).unwrap_or_default()
    }

    /// All that are asked for.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Key> {
        self.0.keys()
    }
}

/// What is to be done, taken away by the loop after each round.
#[derive(Default)]
pub(crate) struct Tray {
    pub(crate) writes: Vec<Write>,
    pub(crate) orders: Vec<Order>,
    /// Pods whose containers are to be restarted, with those containers and the command.
    pub(crate) restarts: Vec<Restart>,
    /// Images of sandboxes that nothing names any more.
    pub(crate) dropped_images: Vec<String>,
}

/// A pod whose containers are to be restarted.
#[derive(Clone, Debug)]
pub(crate) struct Restart {
    pub(crate) pod: Key,
    pub(crate) containers: Vec<String>,
    pub(crate) command: Vec<String>,
}

impl World {
    pub(crate) fn new(
        settings: Arc<Settings>,
        key: Option<PrivateKey>,
        saver: Option<Arc<dyn Saver>>,
        events: Events,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            index: Index::default(),
            couriers: Courier::new(key.clone()),
            settings,
            key,
            saver,
            events,
            metrics,
            wakes: Wakes::default(),
            tray: Tray::default(),
            saves: Gate::new(SAVES),
            making: Making::default(),
        }
    }

    /// A write about this has failed: look again, each time later, as long as it is there.
    pub(crate) fn failed(&mut self, what: Wake, now: Timestamp) {
        let is_there = match &what {
            Wake::Pool(key) => self.index.pools.contains_key(key),
            Wake::Batch(key) => self.index.batches.contains_key(key),
            Wake::Snapshot(key) => self.index.snapshots.contains_key(key),
            Wake::Stray(key) => self.index.pods.contains_key(key),
        };
        if !is_there {
            return self.wakes.succeeded(&what);
        }
        self.metrics.failed(match &what {
            Wake::Pool(_) => "pool",
            Wake::Batch(_) | Wake::Stray(_) => "batchsandbox",
            Wake::Snapshot(_) => "sandboxsnapshot",
        });
        self.wakes.failed(what, now);
    }

    /// Has images forgotten that nothing names any more.
    pub(crate) fn forget_images(&mut self) {
        let mut images = std::mem::take(&mut self.index.dropped_images);
        let Some(saver) = &self.saver else { return };
        let ours = format!("{}/", saver.registry());
        images.retain(|image| image.starts_with(&ours));
        if images.is_empty() {
            return;
        }
        let named = self.index.named_images();
        images.retain(|image| !named.contains(image));
        if !images.is_empty() {
            self.tray.dropped_images.extend(images);
        }
    }
}
