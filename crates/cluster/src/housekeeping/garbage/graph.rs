//! Who owns whom, kept up to date change by change.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use uuid::Uuid;

use crate::record::{Facts, Record};

/// Every object by its uid, and what each owns.
///
/// The store tells of all kinds in one order, and an owner is made before anybody can name
/// its uid; so an owner that is not here is gone, or never was.
#[derive(Default)]
pub(super) struct Graph {
    things: HashMap<Uuid, Thing>,
    owned: HashMap<Uuid, HashSet<Uuid>>,
}

struct Thing {
    record: Arc<Record>,
    /// Owners that it names and that were seen to go.
    bereft_of: Vec<Uuid>,
}

/// The uid of an object. Uids are made by the server, so one that is no UUID is nobody's.
pub(super) fn uid_of(record: &Record) -> Option<Uuid> {
    Uuid::try_parse(&record.facts.uid).ok()
}

fn owners_of(facts: &Facts) -> impl Iterator<Item = Uuid> {
    let uids = facts.owners.iter();
    uids.filter_map(|owner| Uuid::try_parse(&owner.uid).ok())
}

/// Whether an object on its way out waits for what it owns.
fn waits(facts: &Facts) -> bool {
    facts.deleting && (facts.foreground || facts.orphan)
}

impl Graph {
    pub(super) fn get(&self, uid: Uuid) -> Option<&Arc<Record>> {
        self.things.get(&uid).map(|thing| &thing.record)
    }

    /// What an object owns.
    pub(super) fn owned_by(&self, uid: Uuid) -> impl Iterator<Item = &Arc<Record>> {
        let owned = self.owned.get(&uid).into_iter().flatten();
        owned.filter_map(|uid| self.get(*uid))
    }

    /// Whether an object was there when it lost this owner.
    pub(super) fn was_bereft(&self, uid: Uuid, owner: Uuid) -> bool {
        let thing = self.things.get(&uid);
        thing.is_some_and(|thing| thing.bereft_of.contains(&owner))
    }

    /// Takes in a new version of an object. Returns who is to be looked at.
    pub(super) fn put(&mut self, record: Arc<Record>) -> Vec<Uuid> {
        let Some(uid) = uid_of(&record) else {
            return Vec::new();
        };
        let new = &record.facts;
        let old = self.things.get(&uid).map(|thing| thing.record.clone());
        if let Some(thing) = self.things.get_mut(&uid)
            && same_bonds(&thing.record.facts, new)
        {
            thing.record = record;
            return Vec::new();
        }

        let old_owners: HashSet<Uuid> = old.iter().flat_map(|old| owners_of(&old.facts)).collect();
        let new_owners: HashSet<Uuid> = owners_of(new).collect();
        for gone in old_owners.difference(&new_owners) {
            self.unlink(uid, *gone);
        }
        for owner in &new_owners {
            self.owned.entry(*owner).or_default().insert(uid);
        }

        let mut touched = self.waiting(old_owners.union(&new_owners).copied());
        if !new_owners.is_empty() || !new.owners.is_empty() || waits(new) {
            touched.push(uid);
        }
        if waits(new) {
            touched.extend(self.owned.get(&uid).into_iter().flatten());
        }
        match self.things.get_mut(&uid) {
            Some(thing) => thing.record = record,
            None => {
                let bereft_of = Vec::new();
                self.things.insert(uid, Thing { record, bereft_of });
            }
        }
        touched
    }

    /// Forgets an object that is gone. Returns who is to be looked at.
    pub(super) fn remove(&mut self, uid: Uuid) -> Vec<Uuid> {
        let Some(thing) = self.things.remove(&uid) else {
            return Vec::new();
        };
        let owners: Vec<Uuid> = owners_of(&thing.record.facts).collect();
        for owner in &owners {
            self.unlink(uid, *owner);
        }
        let mut touched = self.waiting(owners.into_iter());
        for owned in self.owned.get(&uid).into_iter().flatten() {
            if let Some(thing) = self.things.get_mut(owned) {
                thing.bereft_of.push(uid);
                touched.push(*owned);
            }
        }
        touched
    }

    fn unlink(&mut self, uid: Uuid, owner: Uuid) {
        if let Some(owned) = self.owned.get_mut(&owner) {
            owned.remove(&uid);
            if owned.is_empty() {
                self.owned.remove(&owner);
            }
        }
        if let Some(thing) = self.things.get_mut(&uid) {
            thing.bereft_of.retain(|lost| *lost != owner);
        }
    }

    /// Those owners that wait for what they own.
    fn waiting(&self, owners: impl Iterator<Item = Uuid>) -> Vec<Uuid> {
        let waiting = |owner: &Uuid| self.get(*owner).is_some_and(|owner| waits(&owner.facts));
        owners.filter(waiting).collect()
    }
}

/// Whether two versions of an object are alike as far as garbage is concerned.
fn same_bonds(old: &Facts, new: &Facts) -> bool {
    let marks = |facts: &Facts| (facts.deleting, facts.foreground, facts.orphan);
    marks(old) == marks(new) && old.owners == new.owners
}
