//! What the API tells of pools, pods, sandboxes and tasks.

use k8s_openapi::api::core::v1::Pod;
use sandlot_api::arl::{Sandbox, Task, WarmPool, names};

use super::Wake;
use crate::{index::Key, rounds::Watches, settings::Ahead};

/// A kind that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Pool,
    Pod,
    Sandbox,
    Task,
}

/// Every kind there is.
pub(super) const KINDS: &[Kind] = &[Kind::Pool, Kind::Pod, Kind::Sandbox, Kind::Task];

/// An object of one of the kinds.
pub(crate) enum Object {
    Pool(Box<WarmPool>),
    Pod(Box<Pod>),
    Sandbox(Box<Sandbox>),
    Task(Box<Task>),
}

impl Kind {
    /// What is looked at again when a write about an object of this kind has failed.
    pub(super) fn wake(self, key: &Key) -> Wake {
        let key = key.clone();
        match self {
            Self::Pool => Wake::Pool(key),
            Self::Pod => Wake::Pod(key),
            Self::Sandbox => Wake::Sandbox(key),
            Self::Task => Wake::Task(key),
        }
    }
}

/// Begins to watch every kind; sandboxes and tasks, which want to be served at once, ahead of the
/// API's disk where that can be.
pub(super) fn watch(watches: &mut Watches<Object, Kind>, ahead: Option<&Ahead>) {
    watches.custom(Kind::Pool, Object::Pool);
    let client = ahead.map_or(&watches.client, |ahead| &ahead.client).clone();
    watches.custom_by(client.clone(), Kind::Sandbox, Object::Sandbox);
    watches.custom_by(client, Kind::Task, Object::Task);
    watches.pods(Kind::Pod, names::POOL, Object::Pod);
}
