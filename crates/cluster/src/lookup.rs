//! How access and admission read the cluster's own objects.
//!
//! A decision about one request often rests on other objects: roles, service accounts,
//! namespaces, webhook configurations. [`Lookup`] gives single objects; [`Follow`] keeps a
//! reader's own index up to date. A follower is asked for what changed by whoever is about
//! to decide, so a decision sees every write acknowledged before it, and no task is needed.

use std::sync::Arc;

use bytes::Bytes;
use futures::FutureExt;
use sandlot_store::{Facts, Key, Range, Record, Store, Watch};
use serde_json::Value;

/// Reads objects at their newest durable state.
///
/// Kinds are named as the store names them: `pods`, `rbac.authorization.k8s.io/roles`.
pub trait Lookup: Send + Sync + 'static {
    /// One object; the namespace is empty for objects that belong to none.
    fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value>;

    /// Whether an object that is there is on its way out.
    fn is_leaving(&self, kind: &str, namespace: &str, name: &str) -> Option<bool>;

    /// Every object of a kind in a namespace, which is empty for kinds that live in none.
    fn list(&self, kind: &str, namespace: &str) -> Vec<Value>;

    /// Everything of a kind, and then what changes.
    fn follow(&self, kind: &str) -> Box<dyn Follow>;
}

/// Facts that tell whether an object is on its way out, so that nobody has to read it for that.
pub trait Leaving: Facts {
    /// Whether it is.
    fn is_leaving(&self) -> bool;
}

/// One object's new state.
#[derive(Clone, Debug)]
pub struct Change {
    /// The object's namespace; empty when it belongs to none.
    pub namespace: Arc<str>,
    /// The object's name.
    pub name: Arc<str>,
    /// The object as JSON, or `None` when it is gone.
    pub object: Option<Bytes>,
}

/// What a follower has to catch up with.
#[derive(Clone, Debug)]
pub enum Changes {
    /// Forget everything known of the kind: this is all there is now.
    All(Vec<Change>),
    /// What changed since the last call, in order; often nothing.
    Since(Vec<Change>),
}

/// The state of one kind, brought up to date when asked.
pub trait Follow: Send {
    /// What changed since the last call; everything on the first.
    fn changes(&mut self) -> Changes;
}

impl<F: Leaving> Lookup for Store<F> {
    fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value> {
        let record = Store::get(self, &Key::new(kind, namespace, name))?;
        serde_json::from_slice(&record.value).ok()
    }

    fn is_leaving(&self, kind: &str, namespace: &str, name: &str) -> Option<bool> {
        let record = Store::get(self, &Key::new(kind, namespace, name))?;
        Some(record.facts.is_leaving())
    }

    fn list(&self, kind: &str, namespace: &str) -> Vec<Value> {
        let listing = Store::list(self, &Range::within(kind, namespace));
        let records = listing.records.iter();
        records
            .filter_map(|record| serde_json::from_slice(&record.value).ok())
            .collect()
    }

    fn follow(&self, kind: &str) -> Box<dyn Follow> {
        Box::new(StoreFollow {
            store: self.clone(),
            kind: kind.into(),
            watch: None,
        })
    }
}

struct StoreFollow<F: Facts> {
    store: Store<F>,
    kind: Arc<str>,
    watch: Option<Watch<F>>,
}

impl<F: Facts> Follow for StoreFollow<F> {
    fn changes(&mut self) -> Changes {
        let Some(watch) = &mut self.watch else {
            return self.start();
        };
        let mut changes = Vec::new();
        while let Some(Some(event)) = watch.next().now_or_never() {
            match event {
                Ok(event) => changes.push(change(&event.record, event.deleted)),
                // The history moved on while nobody asked.
                Err(_) => return self.start(),
            }
        }
        Changes::Since(changes)
    }
}

impl<F: Facts> StoreFollow<F> {
    fn start(&mut self) -> Changes {
        let (listing, watch) = self.store.list_and_watch(Range::all(self.kind.clone()));
        self.watch = Some(watch);
        Changes::All(
            listing
                .records
                .iter()
                .map(|record| change(record, false))
                .collect(),
        )
    }
}

fn change<F>(record: &Record<F>, deleted: bool) -> Change {
    Change {
        namespace: record.key.namespace.clone(),
        name: record.key.name.clone(),
        object: (!deleted).then(|| record.value.clone()),
    }
}
