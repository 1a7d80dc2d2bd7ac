//! `metadata.managedFields`: who owns which fields, since when.

use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::{fields_v1, set::FieldSet};

/// How many entries of plain writers an object may have before the oldest are merged.
pub(super) const MAX_UPDATERS: usize = 10;

/// Who the oldest writers are merged into.
const ANCIENT: &str = "ancient-changes";

/// How a manager wrote.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// By any other write.
    Update,
}

/// What tells one entry of `managedFields` from another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Identity {
    pub(super) operation: Operation,
    pub(super) manager: String,
    /// The version of the API that a plain writer used. Someone who applies stays the same
    /// manager whatever the version.
    pub(super) api_version: Option<String>,
    pub(super) subresource: String,
}

/// As Kubernetes names the other side of a conflict.
impl fmt::Display for Identity {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:?}", self.manager)?;
        if !self.subresource.is_empty() {
            write!(out, " with subresource {:?}", self.subresource)?;
        }
        if let Some(version) = &self.api_version {
            write!(out, " using {version}")?;
        }
        Ok(())
    }
}

/// What a manager owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Holding {
    pub(super) set: FieldSet,
    pub(super) api_version: String,
    pub(super) time: Option<Timestamp>,
}

/// All managers of an object.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Managers(pub(super) BTreeMap<Identity, Holding>);

impl Managers {
    /// The managers that `object` names. None if the entries make no sense.
    pub(super) fn of(object: &Value) -> Option<Self> {
        let Some(entries) = object.pointer("/metadata/managedFields") else {
            return Some(Self::default());
        };
        if entries.is_null() {
            return Some(Self::default());
        }
        entries
            .as_array()?
            .iter()
            .map(decode)
            .collect::<Option<_>>()
            .map(Self)
    }

    /// Whether `object` asks for all managers to be forgotten: its entries are there, and blank.
    pub(super) fn are_reset_by(object: &Value) -> bool {
        let entries = object
            .pointer("/metadata/managedFields")
            .and_then(Value::as_array);
        entries.is_some_and(|entries| {
            !entries.is_empty() && entries.iter().all(|entry| *entry == json!({}))
        })
    }

    /// Writes the managers into `object`; none means no field at all.
    pub(super) fn store(&self, object: &mut Value) {
        let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else {
            return;
        };
        if self.0.is_empty() {
            metadata.remove("managedFields");
            return;
        }
        let mut entries: Vec<(&Identity, &Holding)> = self.0.iter().collect();
        entries.sort_by_key(|(id, holding)| {
            let second = holding.time.map(Timestamp::as_second);
            (
                id.operation,
                second,
                &id.manager,
                &holding.api_version,
                &id.subresource,
            )
        });
        let entries = entries
            .into_iter()
            .map(|(id, holding)| encode(id, holding))
            .collect();
        metadata.insert("managedFields".into(), Value::Array(entries));
    }

    /// Everything that anybody owns.
    pub(super) fn union(&self) -> FieldSet {
        let mut all = FieldSet::default();
        for holding in self.0.values() {
            all.extend(&holding.set);
        }
        all
    }

    /// Forgets those who own nothing any more.
    pub(super) fn drop_idle(&mut self) {
        self.0.retain(|_, holding| !holding.set.is_empty());
    }

    /// Merges the oldest plain writers until there are few enough.
    pub(super) fn cap(&mut self) {
        let mut updaters: Vec<(Option<Timestamp>, Identity)> = self
            .0
            .iter()
            .filter(|(id, _)| id.operation == Operation::Update)
            .map(|(id, holding)| (holding.time, id.clone()))
            .collect();
        let Some(mut excess) = updaters.len().checked_sub(MAX_UPDATERS) else {
            return;
        };
        updaters.sort();
        // The first of a version only moves when a second one joins it.
        let mut first_of: BTreeMap<Option<String>, Identity> = BTreeMap::new();
        for (_, id) in updaters {
            if excess == 0 {
                return;
            }
            let bucket = Identity {
                operation: Operation::Update,
                manager: ANCIENT.into(),
                api_version: id.api_version.clone(),
                subresource: String::new(),
            };
            let Some(first) = first_of.get(&id.api_version).cloned() else {
                first_of.insert(id.api_version.clone(), id);
                continue;
            };
            self.merge(&first, &bucket);
            self.merge(&id, &bucket);
            first_of.insert(id.api_version, bucket);
            excess -= 1;
        }
    }

    fn merge(&mut self, from: &Identity, into: &Identity) {
        if from == into {
            return;
        }
        let Some(taken) = self.0.remove(from) else {
            return;
        };
        match self.0.get_mut(into) {
            Some(holding) => {
                holding.set.extend(&taken.set);
                holding.time = holding.time.max(taken.time);
            }
            None => {
                self.0.insert(into.clone(), taken);
            }
        }
    }
}

fn decode(entry: &Value) -> Option<(Identity, Holding)> {
    let text = |name: &str| entry.get(name).and_then(Value::as_str);
    let operation = match text("operation")? {
        "Apply" => Operation::Apply,
        "Update" => Operation::Update,
        _ => return None,
    };
    if text("fieldsType")? != "FieldsV1" {
        return None;
    }
    let api_version = text("apiVersion")?.to_owned();
    let set = match entry.get("fieldsV1") {
        Some(fields) => fields_v1::decode(fields)?,
        None => FieldSet::default(),
    };
    let id = Identity {
        operation,
        manager: text("manager").unwrap_or_default().to_owned(),
        api_version: (operation == Operation::Update).then(|| api_version.clone()),
        subresource: text("subresource").unwrap_or_default().to_owned(),
    };
    let time = match text("time") {
        Some(time) => Some(time.parse().ok()?),
        None => None,
    };
    Some((
        id,
        Holding {
            set,
            api_version,
            time,
        },
    ))
}

pub(super) fn encode(id: &Identity, holding: &Holding) -> Value {
    let mut entry = Map::new();
    entry.insert("manager".into(), id.manager.as_str().into());
    let operation = match id.operation {
        Operation::Apply => "Apply",
        Operation::Update => "Update",
    };
    entry.insert("operation".into(), operation.into());
    entry.insert("apiVersion".into(), holding.api_version.as_str().into());
    if let Some(time) = holding.time {
        entry.insert(
            "time".into(),
            time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into(),
        );
    }
    entry.insert("fieldsType".into(), "FieldsV1".into());
    entry.insert("fieldsV1".into(), fields_v1::encode(&holding.set));
    if !id.subresource.is_empty() {
        entry.insert("subresource".into(), id.subresource.as_str().into());
    }
    Value::Object(entry)
}
