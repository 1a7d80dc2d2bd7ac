//! What the API tells of robots and the work on them.

use std::{collections::HashSet, fmt::Debug};

use k8s_openapi::NamespaceResourceScope;
use kube::{Api, Client, Resource, runtime::watcher};
use sandlot_api::robot::{Job, Robot, RobotDeployment, Task, TaskGroup};
use serde::de::DeserializeOwned;
use tokio::{sync::mpsc, task::JoinSet};

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

/// A kind that is watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Kind {
    Robot,
    Job,
    Group,
    Task,
    Deployment,
}

/// Every kind there is.
pub(crate) const KINDS: [Kind; 5] = [
    Kind::Robot,
    Kind::Job,
    Kind::Group,
    Kind::Task,
    Kind::Deployment,
];

/// An object of one of the kinds.
#[derive(Clone, Debug)]
pub(crate) enum Object {
    Robot(Box<Robot>),
    Job(Box<Job>),
    Group(Box<TaskGroup>),
    Task(Box<Task>),
    Deployment(Box<RobotDeployment>),
}

impl Object {
    /// Of which kind it is, and its name.
    pub(crate) fn place(&self) -> Option<(Kind, Key)> {
        let (kind, meta) = match self {
            Self::Robot(robot) => (Kind::Robot, &robot.metadata),
            Self::Job(job) => (Kind::Job, &job.metadata),
            Self::Group(group) => (Kind::Group, &group.metadata),
            Self::Task(task) => (Kind::Task, &task.metadata),
            Self::Deployment(deployment) => (Kind::Deployment, &deployment.metadata),
        };
        Some((kind, Key::of(meta)?))
    }

    /// What an object of this name is part of.
    pub(crate) fn owner(&self, key: &Key) -> Option<(Kind, Key)> {
        match self {
            Self::Group(group) => Some((Kind::Job, key.beside(&group.spec.job_name))),
            Self::Task(task) => {
                let group = task.spec.task_group_name.as_ref()?;
                Some((Kind::Group, key.beside(group)))
            }
            Self::Robot(_) | Self::Job(_) | Self::Deployment(_) => None,
        }
    }
}

/// Something seen through a watch.
pub(crate) enum Sight {
    There(Object),
    Gone(Kind, Key),
    /// These are all there are; any other is gone.
    Complete(Kind, HashSet<Key>),
}

/// Starts the watches. They end when the receiver is dropped.
pub(crate) fn start(client: &Client, settings: &Settings) -> (mpsc::Receiver<Sight>, JoinSet<()>) {
    let (sights, seen) = mpsc::channel(BACKLOG);
    let mut tasks = JoinSet::new();
    let to = || sights.clone();
    tasks.spawn(watch(
        api(client, settings),
        Kind::Robot,
        Object::Robot,
        to(),
    ));
    tasks.spawn(watch(api(client, settings), Kind::Job, Object::Job, to()));
    tasks.spawn(watch(
        api(client, settings),
        Kind::Group,
        Object::Group,
        to(),
    ));
    tasks.spawn(watch(api(client, settings), Kind::Task, Object::Task, to()));
    let deployments = api(client, settings);
    tasks.spawn(watch(
        deployments,
        Kind::Deployment,
        Object::Deployment,
        to(),
    ));
    (seen, tasks)
}

async fn watch<K>(
    api: Api<Told<K>>,
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
    let read = move |event: Seen<Told<K>>| match event {
        Seen::There(told) => told
            .legible()
            .map(|read| Sight::There(object(Box::new(read)))),
        Seen::Gone(key) => Some(Sight::Gone(kind, key)),
        Seen::All(listed) => Some(Sight::Complete(kind, listed)),
    };
    let config = watcher::Config::default();
    follow(api, config, &K::kind(&()), read, sights).await;
}
