//! A batch as this index keeps it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use jiff::Timestamp;
use sandlot_api::opensandbox::{
    BatchPhase, BatchSandbox, BatchSandboxSpec, BatchSandboxStatus, names,
};
use sandlot_decide::{Seniority, batch::Slots, expiry};
use serde::{Deserialize, Serialize};

use super::Made;
use crate::{
    index::{
        Key, Uid,
        key::{made, revision},
    },
    opensandbox::tasks::Shard,
    rounds::LastTold,
};

/// A batch, and what the operator remembers of it.
pub(crate) struct BatchEntry {
    pub(crate) uid: Uid,
    pub(crate) revision: u64,
    pub(crate) resource_version: String,
    pub(crate) generation: Option<i64>,
    pub(crate) seniority: Seniority,
    pub(crate) spec: Arc<BatchSandboxSpec>,
    pub(crate) status: Option<BatchSandboxStatus>,
    pub(crate) finalizers: Vec<String>,
    pub(crate) labels: BTreeMap<String, String>,
    /// Its annotations of this group, as they are.
    pub(crate) notes: BTreeMap<&'static str, String>,
    /// Its template's task executor is kept and spoken to in the open.
    pub(crate) plain: bool,
    pub(crate) leaving: bool,
    /// The pool's pods it has. Read once; from then on memory is ahead of what is written.
    pub(crate) slots: Slots,
    /// What was written about its pods cannot be read: nothing is done until somebody mends it.
    pub(crate) illegible: Option<String>,
    /// Its tasks, by index.
    pub(crate) shards: BTreeMap<usize, Shard>,
    /// What is wrong with the task of an index.
    pub(crate) task_trouble: Option<(usize, String)>,
    /// Pods of its own that are being made, by index, and since when.
    pub(crate) making: HashMap<usize, Timestamp>,
    /// Pods of its own that no event has told of.
    pub(crate) made: Made,
    /// The API refused to make its pods: what it said, how often, and when to try again.
    pub(crate) refused: Option<Refused>,
    /// Why no pool suits, where it leaves the choice.
    pub(crate) unsuited: Option<String>,
    /// The reason it was last warned about.
    pub(crate) warned: Option<String>,
    pub(crate) told: LastTold,
    pub(crate) writing: bool,
}

/// The API refused something.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) message: String,
    pub(crate) times: u32,
    pub(crate) until: Timestamp,
}

/// A list of pods as annotations hold it.
#[derive(Debug, Default, Deserialize, Serialize)]
struct PodList {
    #[serde(default)]
    pods: Vec<String>,
}

const NOTES: [&str; 5] = [
    names::ENDPOINTS,
    names::ALLOCATED,
    names::RELEASE,
    names::RELEASED,
    names::TASK_RESULTS,
];

impl BatchEntry {
    /// A batch seen for the first time.
    pub(super) fn new(uid: Uid, batch: &BatchSandbox) -> Self {
        let (meta, spec) = (&batch.metadata, &batch.spec);
        let seniority = Seniority {
            at: made(meta),
            revision: revision(meta),
        };
        Self {
            uid,
            revision: 0,
            resource_version: String::new(),
            generation: None,
            seniority,
            spec: Arc::new(spec.clone()),
            status: None,
            finalizers: Vec::new(),
            labels: BTreeMap::new(),
            notes: BTreeMap::new(),
            plain: false,
            leaving: false,
            slots: Slots::default(),
            illegible: None,
            shards: BTreeMap::new(),
            task_trouble: None,
            making: HashMap::new(),
            made: Made::default(),
            refused: None,
            unsuited: None,
            warned: None,
            told: LastTold::default(),
            writing: false,
        }
    }

    /// Takes in how the batch is, unless something newer is known already.
    pub(super) fn see(&mut self, batch: &BatchSandbox) {
        let meta = &batch.metadata;
        let revision = revision(meta);
        if self.revision > revision {
            return;
        }
        let annotations = meta.annotations.clone().unwrap_or_default();
        let notes = NOTES
            .into_iter()
            .filter_map(|name| Some((name, annotations.get(name)?.clone())))
            .collect();
        self.read_pods(&notes);
        if *self.spec != batch.spec {
            self.spec = Arc::new(batch.spec.clone());
            self.refused = None;
        }
        self.revision = revision;
        self.resource_version = meta.resource_version.clone().unwrap_or_default();
        self.generation = meta.generation;
        self.status = batch.status.clone();
        self.finalizers = meta.finalizers.clone().unwrap_or_default();
        self.labels = meta.labels.clone().unwrap_or_default();
        self.notes = notes;
        self.plain = annotations
            .get(names::TASK_EXECUTOR)
            .is_some_and(|word| word == names::PLAIN_EXECUTOR);
        self.leaving = meta.deletion_timestamp.is_some();
    }

    /// Takes up which pods it has, the first time. Later only what others ask to be given back
    /// counts: memory is ahead of what is written.
    fn read_pods(&mut self, notes: &BTreeMap<&'static str, String>) {
        if self.revision == 0 || self.illegible.is_some() {
            match read_slots(notes) {
                Ok(slots) => {
                    self.slots = slots;
                    self.illegible = None;
                    self.recall(notes);
                }
                Err(why) => self.illegible = Some(why),
            }
            return;
        }
        let asked = notes
            .get(names::RELEASE)
            .and_then(|text| read_list(names::RELEASE, text).ok());
        for pod in asked.into_iter().flatten() {
            if self.slots.index_of(&pod).is_some() {
                self.slots.give_back(pod);
            }
        }
    }

    /// Takes up how tasks ended whose pods may be gone by now.
    fn recall(&mut self, notes: &BTreeMap<&'static str, String>) {
        let results = notes.get(names::TASK_RESULTS).map_or("", String::as_str);
        for (index, letter) in results.chars().enumerate() {
            if let Some(shard) = Shard::recalled(letter) {
                self.shards.insert(index, shard);
            }
        }
    }

    /// How many sandboxes are wanted, of those that one object can hold.
    pub(crate) fn replicas(&self) -> usize {
        let wanted = self.spec.replicas.clamp(0, names::MOST_REPLICAS);
        usize::try_from(wanted).unwrap_or(0)
    }

    /// The pool it names, if it names one.
    pub(crate) fn pool(&self, key: &Key) -> Option<Key> {
        let name = self.spec.pool_ref.as_str();
        (!name.is_empty() && name != names::ANY_POOL).then(|| key.beside(name))
    }

    /// Whether it has tasks to run.
    pub(crate) fn has_tasks(&self) -> bool {
        self.spec.task_template.is_some()
    }

    /// Where it is on the way to its pause or back, as it is written.
    pub(crate) fn pause_phase(&self) -> Option<BatchPhase> {
        let phase = self.status.as_ref()?.phase?;
        let on_the_way = [
            BatchPhase::Pausing,
            BatchPhase::Paused,
            BatchPhase::Resuming,
        ];
        on_the_way.contains(&phase).then_some(phase)
    }

    /// Whether it is paused or being paused, and wants no pods.
    pub(crate) fn is_asleep(&self) -> bool {
        matches!(
            self.pause_phase(),
            Some(BatchPhase::Pausing | BatchPhase::Paused)
        )
    }

    /// The name of the pod that it makes for an index.
    pub(crate) fn own_pod(key: &Key, index: usize) -> Arc<str> {
        format!("{}-{index}", key.name).into()
    }

    /// Whether a finalizer is on it.
    pub(crate) fn is_held_by(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|name| name == finalizer)
    }

    /// Whether its time is over, or when it will be.
    pub(crate) fn expiry(&self, now: Timestamp) -> expiry::Verdict {
        match self.spec.expire_time.as_ref().map(|time| time.0) {
            Some(at) if at <= now => expiry::Verdict::Remove,
            Some(at) => expiry::Verdict::LookAt(at),
            None => expiry::Verdict::Keep,
        }
    }
}

/// The pods a batch has, as its annotations say.
fn read_slots(notes: &BTreeMap<&'static str, String>) -> Result<Slots, String> {
    let list = |name| match notes.get(name) {
        Some(text) => read_list(name, text),
        None => Ok(Vec::new()),
    };
    Ok(Slots::new(
        list(names::ALLOCATED)?,
        list(names::RELEASE)?,
        list(names::RELEASED)?,
    ))
}

fn read_list(name: &str, text: &str) -> Result<Vec<Arc<str>>, String> {
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    let list: PodList = serde_json::from_str(text).map_err(|error| {
        format!(
            "annotation {name} cannot be read ({error}): mend it, for instance to {{\"pods\":[]}}"
        )
    })?;
    Ok(list.pods.into_iter().map(Arc::from).collect())
}

/// A list of pods as an annotation holds it.
pub(crate) fn write_list<'a>(pods: impl Iterator<Item = &'a Arc<str>>) -> String {
    let list = PodList {
        pods: pods.map(|pod| pod.to_string()).collect(),
    };
    // A list of names can always be written.
    serde_json::to_string(&list).unwrap_or_default()
}
