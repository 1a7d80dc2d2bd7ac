//! What the API tells: one stream of sights over all the kinds a family watches.

use std::{collections::HashSet, fmt::Debug};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::{NamespaceResourceScope, api::core::v1::Pod};
use kube::{
    Api, Client, Resource,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::JoinSet};

use super::legible::Told;
use crate::index::Key;

/// How many sights may wait for the loop before the watches are held back: each is a whole object,
/// with who wrote which of its fields.
const BACKLOG: usize = 256;
/// How many objects are listed at once. Whole they weigh ten times what is kept of them, and the
/// most there ever were at once is what the operator holds of memory for good.
const PAGE: u32 = 100;

/// Something seen through a watch.
pub(crate) enum Sight<O, K> {
    There(O),
    Gone(K, Key),
    /// These are all there are; any other is gone.
    Complete(K, HashSet<Key>),
}

/// What a watch tells of a kind.
pub(crate) enum Seen<T> {
    /// An object, new or changed.
    There(T),
    /// An object is gone.
    Gone(Key),
    /// These are all there are; any other is gone.
    All(HashSet<Key>),
}

/// The watches of a family, all into one stream.
pub(crate) struct Watches<O, K> {
    pub(crate) client: Client,
    namespace: Option<String>,
    sights: mpsc::Sender<Sight<O, K>>,
    begun: JoinSet<()>,
}

/// What every watched object is.
pub(crate) trait Watched:
    Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static
{
}

impl<T> Watched for T where
    T: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + 'static
{
}

impl<O: Send + 'static, K: Copy + Send + 'static> Watches<O, K> {
    pub(super) fn new(
        client: Client,
        namespace: Option<String>,
    ) -> (Self, mpsc::Receiver<Sight<O, K>>) {
        let (sights, seen) = mpsc::channel(BACKLOG);
        let watches = Self {
            client,
            namespace,
            sights,
            begun: JoinSet::new(),
        };
        (watches, seen)
    }

    /// Those that have begun. They end when they are dropped.
    pub(super) fn begun(self) -> JoinSet<()> {
        self.begun
    }

    /// Watches a custom kind, passing over what cannot be read.
    pub(crate) fn custom<T>(&mut self, kind: K, object: fn(Box<T>) -> O)
    where
        T: Watched + Resource<Scope = NamespaceResourceScope>,
    {
        self.custom_by(self.client.clone(), kind, object);
    }

    /// The same through another client.
    pub(crate) fn custom_by<T>(&mut self, client: Client, kind: K, object: fn(Box<T>) -> O)
    where
        T: Watched + Resource<Scope = NamespaceResourceScope>,
    {
        let legible = move |told: Told<T>| told.legible().map(|read| object(Box::new(read)));
        let api: Api<Told<T>> = match &self.namespace {
            Some(namespace) => Api::namespaced(client, namespace),
            None => Api::all(client),
        };
        self.follow(api, watcher::Config::default(), of_kind(kind, legible));
    }

    /// Watches the pods that bear a label.
    pub(crate) fn pods(&mut self, kind: K, label: &str, object: fn(Box<Pod>) -> O) {
        let config = watcher::Config::default().labels(label);
        let api: Api<Pod> = self.api();
        self.follow(
            api,
            config,
            of_kind(kind, move |pod| Some(object(Box::new(pod)))),
        );
    }

    /// Watches something beside the kinds, for which nothing waits.
    pub(crate) fn aside<T: Watched>(
        &mut self,
        api: Api<T>,
        config: watcher::Config,
        read: impl Fn(Seen<T>) -> Option<O> + Send + 'static,
    ) {
        self.follow(api, config, move |seen| read(seen).map(Sight::There));
    }

    /// Takes in what others tell.
    pub(crate) fn hear<T: Send + 'static>(
        &mut self,
        mut inbox: mpsc::Receiver<T>,
        object: fn(T) -> O,
    ) {
        let sights = self.sights.clone();
        self.begun.spawn(async move {
            while let Some(news) = inbox.recv().await {
                if sights.send(Sight::There(object(news))).await.is_err() {
                    return;
                }
            }
        });
    }

    pub(crate) fn api<T: Resource<Scope = NamespaceResourceScope, DynamicType = ()>>(
        &self,
    ) -> Api<T> {
        match &self.namespace {
            Some(namespace) => Api::namespaced(self.client.clone(), namespace),
            None => Api::all(self.client.clone()),
        }
    }

    fn follow<T: Watched>(
        &mut self,
        api: Api<T>,
        config: watcher::Config,
        read: impl Fn(Seen<T>) -> Option<Sight<O, K>> + Send + 'static,
    ) {
        let sights = self.sights.clone();
        self.begun.spawn(follow(api, config, read, sights));
    }
}

/// How what is seen of a kind is told.
fn of_kind<T, O, K: Copy>(
    kind: K,
    read: impl Fn(T) -> Option<O>,
) -> impl Fn(Seen<T>) -> Option<Sight<O, K>> {
    move |seen| match seen {
        Seen::There(object) => read(object).map(Sight::There),
        Seen::Gone(key) => Some(Sight::Gone(kind, key)),
        Seen::All(listed) => Some(Sight::Complete(kind, listed)),
    }
}

/// Follows a kind and hands in what is read of it, until nobody takes it any more.
async fn follow<T: Watched, S>(
    api: Api<T>,
    config: watcher::Config,
    read: impl Fn(Seen<T>) -> Option<S>,
    sights: mpsc::Sender<S>,
) {
    let mut events = kube::runtime::watcher(api, config.page_size(PAGE))
        .default_backoff()
        .boxed();
    let mut listed = HashSet::new();
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(kind = %T::kind(&()), %error, "the watch was interrupted and goes on");
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
