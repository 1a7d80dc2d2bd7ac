//! What is stored: keys, records, and what a write says and does.

use std::{fmt, sync::Arc};

use bytes::Bytes;

/// Where a record lives. Keys order by kind, then namespace, then name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What sort of record this is, for example `configmaps` or `apps/deployments`.
    pub kind: Arc<str>,
    /// The namespace; empty for records that belong to none.
    pub namespace: Arc<str>,
    /// The name, unique within kind and namespace.
    pub name: Arc<str>,
}

impl Key {
    /// The key of a record in a namespace, or, with an empty namespace, in none.
    pub fn new(
        kind: impl Into<Arc<str>>,
        namespace: impl Into<Arc<str>>,
        name: impl Into<Arc<str>>,
    ) -> Self {
        Key {
            kind: kind.into(),
            namespace: namespace.into(),
            name: name.into(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.kind)?;
        if !self.namespace.is_empty() {
            write!(f, "{}/", self.namespace)?;
        }
        f.write_str(&self.name)
    }
}

/// What the owner of the store wants to know of a record without parsing it again.
///
/// Who writes a record says its facts, as they have it in hand anyway; when the store is
/// opened they are read from the bytes, and must come out the same.
pub trait Facts: Clone + fmt::Debug + Send + Sync + 'static {
    /// Reads the facts from a record's bytes, once, when it is loaded.
    fn of(key: &Key, value: &[u8]) -> Self;
}

/// For owners who want to know nothing.
impl Facts for () {
    fn of(_: &Key, _: &[u8]) -> Self {}
}

/// One version of one record.
pub struct Record<F> {
    /// Where it lives.
    pub key: Key,
    /// The revision of the write that made this version.
    pub revision: u64,
    /// The bytes as they were written.
    pub value: Bytes,
    /// What the owner wants to know without parsing.
    pub facts: F,
}

/// Leaves the bytes out: they may be secret.
impl<F> fmt::Debug for Record<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("key", &self.key)
            .field("revision", &self.revision)
            .field("bytes", &self.value.len())
            .finish_non_exhaustive()
    }
}

/// What must hold for a write to happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Nothing lives at the key.
    Absent,
    /// Exactly this version lives at the key.
    Revision(u64),
}

/// Makes the bytes of a version, given the revision that the write will have.
///
/// It runs while other writers wait, so it should do little more than print.
pub type Render = Box<dyn FnOnce(u64) -> Bytes + Send>;

/// What a write does.
pub struct Change<F> {
    /// Whether it removes the record; the bytes are then its last state, for watchers.
    pub(crate) deletes: bool,
    /// Whoever makes it hears of it after those who only pass on what happens.
    pub(crate) told_last: bool,
    pub(crate) facts: F,
    pub(crate) render: Render,
}

impl<F> Change<F> {
    /// Creates or replaces the record by one of which these are the facts.
    pub fn put(facts: F, render: impl FnOnce(u64) -> Bytes + Send + 'static) -> Self {
        Change {
            deletes: false,
            told_last: false,
            facts,
            render: Box::new(render),
        }
    }

    /// Removes the record, whose last state `render` makes.
    pub fn delete(facts: F, render: impl FnOnce(u64) -> Bytes + Send + 'static) -> Self {
        Change {
            deletes: true,
            told_last: false,
            facts,
            render: Box::new(render),
        }
    }

    /// Has whoever makes it told after the watchers who are
    /// [told first](crate::Watch::told_first). That is for who works on the answer, and does not
    /// only pass it on.
    pub fn told_last(mut self) -> Self {
        self.told_last = true;
        self
    }
}

impl<F> fmt::Debug for Change<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.deletes { "Delete" } else { "Put" })
    }
}

/// Which records a list or watch is about.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Range {
    /// The kind.
    pub kind: Arc<str>,
    /// One namespace, or all of them.
    pub namespace: Option<Arc<str>>,
}

impl Range {
    /// Every record of a kind.
    pub fn all(kind: impl Into<Arc<str>>) -> Self {
        Range {
            kind: kind.into(),
            namespace: None,
        }
    }

    /// The records of a kind in one namespace.
    pub fn within(kind: impl Into<Arc<str>>, namespace: impl Into<Arc<str>>) -> Self {
        Range {
            kind: kind.into(),
            namespace: Some(namespace.into()),
        }
    }

    /// Whether a key lies in this range.
    pub fn contains(&self, key: &Key) -> bool {
        self.kind == key.kind
            && self
                .namespace
                .as_ref()
                .is_none_or(|own| *own == key.namespace)
    }

    /// The least key that could lie in this range.
    pub(crate) fn first(&self) -> Key {
        Key {
            kind: self.kind.clone(),
            namespace: self.namespace.clone().unwrap_or_default(),
            name: Arc::default(),
        }
    }
}

/// What a watch is about.
#[derive(Clone, Debug)]
pub(crate) enum Scope {
    /// Some records of one kind.
    Range(Range),
    /// All records of all kinds.
    Everything,
}

/// One change, as watchers see it.
#[derive(Debug)]
pub struct Event<F> {
    /// The revision of the change.
    pub revision: u64,
    /// The new version, or on a deletion the last state.
    pub record: Arc<Record<F>>,
    /// The version before; `None` when the record was created.
    pub previous: Option<Arc<Record<F>>>,
    /// The record is gone.
    pub deleted: bool,
}

impl<F> Clone for Event<F> {
    fn clone(&self) -> Self {
        Event {
            revision: self.revision,
            record: self.record.clone(),
            previous: self.previous.clone(),
            deleted: self.deleted,
        }
    }
}
