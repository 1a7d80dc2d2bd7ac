//! What a controller has at hand: the index to read, and a tray for what is to be done.

use std::{collections::HashMap, sync::Arc};

use jiff::Timestamp;
use k8s_openapi::{
    api::core::v1::ObjectReference,
    apimachinery::pkg::apis::meta::v1::{Condition, Time},
};
use kube::Resource;
use sandlot_access::{PrivateKey, PublicKey};

use crate::{
    agents::{Agents, Door, Job, Report, Stop},
    dispatch::{Wake, Write},
    events::Events,
    index::{Index, Key, Uid},
    metrics::Metrics,
    rounds::{Gate, Wakes},
    settings::Settings,
};

/// How many pods are asked at once what runs in them.
const QUESTIONS: usize = 16;

/// What a controller has at hand.
pub(crate) struct World {
    pub(crate) index: Index,
    pub(crate) settings: Arc<Settings>,
    /// What the agents of new pods will know this operator by; without it, they serve anybody.
    pub(crate) key: Option<PrivateKey>,
    /// The public part of it.
    pub(crate) public_key: Option<PublicKey>,
    pub(crate) agents: Arc<Agents>,
    pub(crate) events: Events,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) wakes: Wakes<Wake>,
    pub(crate) runs: HashMap<Key, Run>,
    /// Since when tasks wait that have not been told so yet.
    pub(crate) waiting: HashMap<Key, Timestamp>,
    pub(crate) tray: Tray,
    /// For questions to pods.
    pub(crate) questions: Gate,
}

/// What is to be done, taken away by the dispatcher after each round.
#[derive(Default)]
pub(crate) struct Tray {
    pub(crate) writes: Vec<Write>,
    pub(crate) starts: Vec<(Job, Stop)>,
    pub(crate) resets: Vec<(Key, Door)>,
    /// Pods to be asked what runs in them.
    pub(crate) questions: Vec<(Key, Door)>,
    /// Runs to be ended, by their keys.
    pub(crate) kills: Vec<(Door, String)>,
}

/// A task that runs, or has run and is not written down yet.
pub(crate) struct Run {
    pub(crate) uid: Uid,
    pub(crate) pod: Uid,
    pub(crate) since: Timestamp,
    pub(crate) stop: Stop,
    pub(crate) report: Option<Report>,
}

impl World {
    pub(crate) fn new(
        settings: Arc<Settings>,
        key: Option<PrivateKey>,
        agents: Arc<Agents>,
        events: Events,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            index: Index::default(),
            settings,
            public_key: key.as_ref().and_then(|key| key.public().ok()),
            key,
            agents,
            events,
            metrics,
            wakes: Wakes::default(),
            runs: HashMap::new(),
            waiting: HashMap::new(),
            tray: Tray::default(),
            questions: Gate::new(QUESTIONS),
        }
    }

    /// A write about this has failed: look again, each time later, as long as it is there.
    pub(crate) fn failed(&mut self, what: Wake, now: Timestamp) {
        let is_there = match &what {
            Wake::Pool(key) => self.index.pools.contains_key(key),
            Wake::Pod(key) => self.index.pods.contains_key(key),
            Wake::Sandbox(key) => self.index.sandboxes.contains_key(key),
            Wake::Task(key) => self.index.tasks.contains_key(key),
        };
        if !is_there {
            return self.wakes.succeeded(&what);
        }
        self.metrics.failed(match &what {
            Wake::Pool(_) => "warmpool",
            Wake::Sandbox(_) | Wake::Pod(_) => "sandbox",
            Wake::Task(_) => "task",
        });
        self.wakes.failed(what, now);
    }
}

/// A reference to an object, for events about it.
pub(crate) fn reference<K: Resource<DynamicType = ()>>(key: &Key, uid: &Uid) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        name: Some(key.name.to_string()),
        namespace: Some(key.namespace.to_string()),
        uid: Some(uid.to_string()),
        ..ObjectReference::default()
    }
}

/// A condition as it should be now: its time of change stays when its status does.
pub(crate) fn condition(
    old: &[Condition],
    kind: &str,
    status: bool,
    reason: &str,
    message: &str,
    generation: Option<i64>,
    now: Timestamp,
) -> Condition {
    let status = if status { "True" } else { "False" };
    let before = old.iter().find(|condition| condition.type_ == kind);
    Condition {
        type_: kind.to_owned(),
        status: status.to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
        observed_generation: generation,
        last_transition_time: match before {
            Some(before) if before.status == status => before.last_transition_time.clone(),
            _ => Time(now),
        },
    }
}
