//! How access and admission read the cluster's own objects.
//!
//! A decision about one request often rests on other objects: roles, service accounts,
//! namespaces, webhook configurations. [`Lookup`] gives single objects; [`Follow`] keeps a
//! reader's own index up to date. A follower is asked for what changed by whoever is about
//! to decide, so a decision sees every write acknowledged before it, and no task is needed.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::Value;

/// Reads objects at their newest durable state.
///
/// Kinds are named as the store names them: `pods`, `rbac.authorization.k8s.io/roles`.
pub trait Lookup: Send + Sync + 'static {
    /// One object; the namespace is empty for objects that belong to none.
    fn get(&self, kind: &str, namespace: &str, name: &str) -> Option<Value>;

    /// Everything of a kind, and then what changes.
    fn follow(&self, kind: &str) -> Box<dyn Follow>;
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
