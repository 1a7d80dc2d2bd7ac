//! What the API tells: one stream of sights over all the kinds the operator watches.

use std::{collections::HashSet, fmt::Debug};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::Pod;
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use sandlot_api::arl::{Sandbox, Task, WarmPool, names};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::JoinSet};

use super::{Wake, legible::Told};
use crate::{index::Key, settings::Settings};

/// How many sights may wait for the dispatcher before the watches are held back: each is a whole
/// object, with who wrote which of its fields.
const BACKLOG: usize = 256;
/// How many objects are listed at once. Whole they weigh ten times what is kept of them, and the
/// most there ever were at once is what the operator holds of memory for good.
const PAGE: u32 = 100;

/// A kind the operator watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Pool,
    Pod,
    Sandbox,
    Task,
}

impl Kind {
    /// What is looked at again when a write about an object of this kind has failed.
    pub(crate) fn wake(self, key: &Key) -> Wake {
        let key = key.clone();
        match self {
            Self::Pool => Wake::Pool(key),
            Self::Pod => Wake::Pod(key),
            Self::Sandbox => Wake::Sandbox(key),
            Self::Task => Wake::Task(key),
        }
    }
}

/// Every kind there is.
pub(crate) const KINDS: [Kind; 4] = [Kind::Pool, Kind::Pod, Kind::Sandbox, Kind::Task];

/// Something seen through a watch.
pub(crate) enum Sight {
    Pool(Box<WarmPool>),
    Pod(Box<Pod>),
    Sandbox(Box<Sandbox>),
    Task(Box<Task>),
    Gone(Kind, Key),
    /// These are all there are; any other is gone.
    Complete(Kind, HashSet<Key>),
}

/// Starts the watches. They end when the receiver is dropped.
pub(crate) fn start(client: &Client, settings: &Settings) -> (mpsc::Receiver<Sight>, JoinSet<()>) {
    let (sights, seen) = mpsc::channel(BACKLOG);
    let mut tasks = JoinSet::new();
    let all = watcher::Config::default();
    let pods = watcher::Config::default().labels(names::POOL);
    tasks.spawn(custom(
        api(client, settings),
        all.clone(),
        Kind::Pool,
        Sight::Pool,
        sights.clone(),
    ));
    tasks.spawn(custom(
        api(client, settings),
        all.clone(),
        Kind::Sandbox,
        Sight::Sandbox,
        sights.clone(),
    ));
    tasks.spawn(custom(
        api(client, settings),
        all,
        Kind::Task,
        Sight::Task,
        sights.clone(),
    ));
    tasks.spawn(follow(
        api::<Pod>(client, settings),
        pods,
        "Pod",
        |event| {
            Some(match event {
                Seen::There(pod) => Sight::Pod(Box::new(pod)),
                Seen::Gone(key) => Sight::Gone(Kind::Pod, key),
                Seen::All(listed) => Sight::Complete(Kind::Pod, listed),
            })
        },
        sights,
    ));
    (seen, tasks)
}

/// The objects of a kind that the operator cares for.
pub(crate) fn api<K>(client: &Client, settings: &Settings) -> Api<K>
where
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope, DynamicType = ()>,
{
    match &settings.namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

async fn custom<K>(
    api: Api<Told<K>>,
    config: watcher::Config,
    kind: Kind,
    sight: fn(Box<K>) -> Sight,
    sights: mpsc::Sender<Sight>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let read = move |event: Seen<Told<K>>| match event {
        Seen::There(told) => told.legible().map(|object| sight(Box::new(object))),
        Seen::Gone(key) => Some(Sight::Gone(kind, key)),
        Seen::All(listed) => Some(Sight::Complete(kind, listed)),
    };
    follow(api, config, &K::kind(&()), read, sights).await;
}

/// What a watch tells of a kind.
pub(crate) enum Seen<K> {
    /// An object, new or changed.
    There(K),
    /// An object is gone.
    Gone(Key),
    /// These are all there are; any other is gone.
    All(HashSet<Key>),
}

/// Follows a kind and hands in what is read of it, until nobody takes it any more.
pub(crate) async fn follow<K, S>(
    api: Api<K>,
    config: watcher::Config,
    kind: &str,
    read: impl Fn(Seen<K>) -> Option<S>,
    sights: mpsc::Sender<S>,
) where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static,
{
    let mut events = kube::runtime::watcher(api, config.page_size(PAGE))
        .default_backoff()
        .boxed();
    let mut listed = HashSet::new();
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(kind, %error, "the watch was interrupted and goes on");
                continue;
            }
        };
        let sight = match event {
            Event::Init => {
                listed.clear();
                None
            }
            Event::InitApply(object) => {
                listed.extend(Key::of(object.meta()));
                read(Seen::There(object))
            }
            Event::InitDone => read(Seen::All(std::mem::take(&mut listed))),
            Event::Apply(object) => read(Seen::There(object)),
            Event::Delete(object) => Key::of(object.meta()).and_then(|key| read(Seen::Gone(key))),
        };
        if let Some(sight) = sight
            && sights.send(sight).await.is_err()
        {
            return;
        }
    }
}
