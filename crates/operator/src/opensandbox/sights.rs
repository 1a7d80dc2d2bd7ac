//! What the API tells about pools, batches and their pods, and the couriers about tasks.

use k8s_openapi::api::core::v1::{ConfigMap, Pod};
use kube::{Api, runtime::watcher};
use sandlot_api::opensandbox::{BatchSandbox, Pool, SandboxSnapshot, names};
use sandlot_decide::batch::Profile;

use super::{profile, tasks::News};
use crate::rounds::{Seen, Watches};

/// A kind that is watched. Pods of pools and pods of batches bear different labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Pool,
    PoolPod,
    Batch,
    BatchPod,
    Snapshot,
}

/// Every kind there is.
pub(crate) const KINDS: &[Kind] = &[
    Kind::Pool,
    Kind::PoolPod,
    Kind::Batch,
    Kind::BatchPod,
    Kind::Snapshot,
];

/// Something that is told.
pub(crate) enum Object {
    Pool(Box<Pool>),
    Pod(Box<Pod>),
    Batch(Box<BatchSandbox>),
    Snapshot(Box<SandboxSnapshot>),
    /// How pools are chosen.
    Profile(Result<Profile, String>),
    /// How a task goes.
    News(News),
}

/// Begins to watch every kind, and the profiles in the operator's own namespace.
pub(crate) fn watch(watches: &mut Watches<Object, Kind>, namespace: &str) {
    watches.custom(Kind::Pool, Object::Pool);
    watches.custom(Kind::Batch, Object::Batch);
    watches.custom(Kind::Snapshot, Object::Snapshot);
    watches.pods(Kind::PoolPod, names::POOL, Object::Pod);
    watches.pods(Kind::BatchPod, names::BATCH, Object::Pod);
    // Where the profiles may not be read, pools are chosen as usual.
    let maps: Api<ConfigMap> = Api::namespaced(watches.client.clone(), namespace);
    let only = format!("metadata.name={}", profile::CONFIG_MAP);
    let config = watcher::Config::default().fields(&only);
    watches.aside(maps, config, |seen| match seen {
        Seen::There(map) => Some(Object::Profile(profile::read(&map))),
        Seen::Gone(_) => Some(Object::Profile(Ok(Profile::default()))),
        Seen::All(listed) if listed.is_empty() => Some(Object::Profile(Ok(Profile::default()))),
        Seen::All(_) => None,
    });
}
