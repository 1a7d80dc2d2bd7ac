//! What the API tells about pools, batches and their pods.

use std::{collections::HashSet, fmt::Debug};

use k8s_openapi::{
    NamespaceResourceScope,
    api::core::v1::{ConfigMap, Pod},
};
use kube::{Api, Client, Resource, runtime::watcher};
use sandlot_api::opensandbox::{BatchSandbox, Pool, SandboxSnapshot, names};
use sandlot_decide::batch::Profile;
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::JoinSet};

use super::profile;
use crate::{
    dispatch::{
        legible::Told,
        watches::{Seen, api, follow},
    },
    index::Key,
    settings::Settings,
};

/// How many sights may wait for the loop before the watches are held back.
const BACKLOG: usize = 1024;

/// What is watched. Pods of pools and pods of batches bear different labels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Pool,
    PoolPod,
    Batch,
    BatchPod,
    Snapshot,
}

/// Everything that is watched.
pub(crate) const KINDS: [Kind; 5] = [
    Kind::Pool,
    Kind::PoolPod,
    Kind::Batch,
    Kind::BatchPod,
    Kind::Snapshot,
];

/// Something seen through a watch.
pub(crate) enum Sight {
    Pool(Box<Pool>),
    Pod(Box<Pod>),
    Batch(Box<BatchSandbox>),
    Snapshot(Box<SandboxSnapshot>),
    /// How pools are chosen.
    Profile(Result<Profile, String>),
    Gone(Kind, Key),
    /// These are all there are; any other is gone.
    Complete(Kind, HashSet<Key>),
}

/// Starts the watches. They end when the receiver is dropped.
pub(crate) fn start(client: &Client, settings: &Settings) -> (mpsc::Receiver<Sight>, JoinSet<()>) {
    let (sights, seen) = mpsc::channel(BACKLOG);
    let mut tasks = JoinSet::new();
    let pools: Api<Told<Pool>> = api(client, settings);
    tasks.spawn(custom(pools, Kind::Pool, Sight::Pool, sights.clone()));
    let batches: Api<Told<BatchSandbox>> = api(client, settings);
    tasks.spawn(custom(batches, Kind::Batch, Sight::Batch, sights.clone()));
    let snapshots: Api<Told<SandboxSnapshot>> = api(client, settings);
    tasks.spawn(custom(
        snapshots,
        Kind::Snapshot,
        Sight::Snapshot,
        sights.clone(),
    ));
    tasks.spawn(profiles(
        client.clone(),
        settings.identity.namespace.clone(),
        sights.clone(),
    ));
    for (kind, label) in [(Kind::PoolPod, names::POOL), (Kind::BatchPod, names::BATCH)] {
        let pods: Api<Pod> = api(client, settings);
        let config = watcher::Config::default().labels(label);
        let read = move |event| {
            Some(match event {
                Seen::There(pod) => Sight::Pod(Box::new(pod)),
                Seen::Gone(key) => Sight::Gone(kind, key),
                Seen::All(listed) => Sight::Complete(kind, listed),
            })
        };
        let sights = sights.clone();
        tasks.spawn(async move { follow(pods, config, "Pod", read, sights).await });
    }
    (seen, tasks)
}

async fn custom<K>(
    api: Api<Told<K>>,
    kind: Kind,
    sight: fn(Box<K>) -> Sight,
    sights: mpsc::Sender<Sight>,
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let read = move |event: Seen<Told<K>>| match event {
        Seen::There(told) => told.legible().map(|object| sight(Box::new(object))),
        Seen::Gone(key) => Some(Sight::Gone(kind, key)),
        Seen::All(listed) => Some(Sight::Complete(kind, listed)),
    };
    let config = watcher::Config::default();
    follow(api, config, &K::kind(&()), read, sights).await;
}

/// Nothing waits for the profiles: where they may not be read, pools are chosen as usual.
async fn profiles(client: Client, namespace: String, sights: mpsc::Sender<Sight>) {
    let maps: Api<ConfigMap> = Api::namespaced(client, &namespace);
    let only = format!("metadata.name={}", profile::CONFIG_MAP);
    let config = watcher::Config::default().fields(&only);
    let read = |event| match event {
        Seen::There(map) => Some(Sight::Profile(profile::read(&map))),
        Seen::Gone(_) => Some(Sight::Profile(Ok(Profile::default()))),
        Seen::All(listed) if listed.is_empty() => Some(Sight::Profile(Ok(Profile::default()))),
        Seen::All(_) => None,
    };
    follow(maps, config, "ConfigMap", read, sights).await;
}
