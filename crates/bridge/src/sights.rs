//! What the API tells the bridge: robots, their tasks, commands and deployments.

use std::{collections::HashSet, fmt::Debug};

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt,
        watcher::{self, Event},
    },
};
use sandlot_api::robot::{Command, Robot, RobotDeployment, Task};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::JoinSet};

/// How many sights may wait for the loop before the watches are held back.
const BACKLOG: usize = 1024;

/// A kind that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Robot,
    Task,
    Command,
    Deployment,
}

/// Every kind there is.
pub(crate) const KINDS: [Kind; 4] = [Kind::Robot, Kind::Task, Kind::Command, Kind::Deployment];

/// An object of one of the kinds.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Robot(Box<Robot>),
    Task(Box<Task>),
    Command(Box<Command>),
    Deployment(Box<RobotDeployment>),
}

impl Object {
    /// Of which kind it is, and its name.
    pub(crate) fn place(&self) -> (Kind, String) {
        match self {
            Self::Robot(robot) => (Kind::Robot, robot.name_any()),
            Self::Task(task) => (Kind::Task, task.name_any()),
            Self::Command(command) => (Kind::Command, command.name_any()),
            Self::Deployment(deployment) => (Kind::Deployment, deployment.name_any()),
        }
    }

    /// The object without the record of who wrote which of its fields, which is as long as the
    /// rest of it and of no use here.
    pub(crate) fn without_writers(mut self) -> Self {
        let meta = match &mut self {
            Self::Robot(robot) => robot.meta_mut(),
            Self::Task(task) => task.meta_mut(),
            Self::Command(command) => command.meta_mut(),
            Self::Deployment(deployment) => deployment.meta_mut(),
        };
        meta.managed_fields = None;
        self
    }
}

/// Something seen through a watch. Names are enough: the bridge works in one namespace.
#[derive(Debug)]
pub(crate) enum Sight {
    There(Object),
    Gone(Kind, String),
    /// These are all there are; any other is gone.
    Complete(Kind, HashSet<String>),
}

/// Starts the watches. They end when the receiver is dropped.
pub(crate) fn start(client: &Client, namespace: &str) -> (mpsc::Receiver<Sight>, JoinSet<()>) {
    let (sights, seen) = mpsc::channel(BACKLOG);
    let mut tasks = JoinSet::new();
    let to = || sights.clone();
    tasks.spawn(watch(
        api(client, namespace),
        Kind::Robot,
        Object::Robot,
        to(),
    ));
    tasks.spawn(watch(
        api(client, namespace),
        Kind::Task,
        Object::Task,
        to(),
    ));
    tasks.spawn(watch(
        api(client, namespace),
        Kind::Command,
        Object::Command,
        to(),
    ));
    let deployments = api(client, namespace);
    tasks.spawn(watch(
        deployments,
        Kind::Deployment,
        Object::Deployment,
        to(),
    ));
    (seen, tasks)
}

fn api<K>(client: &Client, namespace: &str) -> Api<DeserializeGuard<K>>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    Api::namespaced(client.clone(), namespace)
}

async fn watch<K>(
    api: Api<DeserializeGuard<K>>,
    kind: Kind,
    object: fn(Box<K>) -> Object,
    sights: mpsc::Sender<Sight>,
) where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + 'static,
{
    let config = watcher::Config::default();
    let mut events = kube::runtime::watcher(api, config)
        .default_backoff()
        .boxed();
    let mut listed = HashSet::new();
    // An object that cannot be read is passed over, and does not hide the others.
    let legible = |guarded: DeserializeGuard<K>| {
        guarded
            .0
            .ok()
            .map(|read| Sight::There(object(Box::new(read))))
    };
    loop {
        let event = match events.try_next().await {
            Ok(Some(event)) => event,
            Ok(None) => return,
            Err(error) => {
                tracing::warn!(?kind, %error, "the watch was interrupted and goes on");
                continue;
            }
        };
        let sight = match event {
            Event::Init => {
                listed.clear();
                None
            }
            Event::InitApply(object) => {
                listed.insert(object.name_any());
                legible(object)
            }
            Event::InitDone => Some(Sight::Complete(kind, std::mem::take(&mut listed))),
            Event::Apply(object) => legible(object),
            Event::Delete(object) => Some(Sight::Gone(kind, object.name_any())),
        };
        if let Some(sight) = sight
            && sights.send(sight).await.is_err()
        {
            return;
        }
    }
}
