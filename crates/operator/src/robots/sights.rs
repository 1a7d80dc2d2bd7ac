//! What the API tells of robots and the work on them.

use std::collections::HashSet;

use k8s_openapi::api::coordination::v1::Lease;
use kube::runtime::watcher;
use sandlot_api::robot::{Job, Robot, RobotDeployment, Task, TaskGroup, names};

use crate::{
    index::Key,
    rounds::{Seen, Watches},
};

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
pub(crate) const KINDS: &[Kind] = &[
    Kind::Robot,
    Kind::Job,
    Kind::Group,
    Kind::Task,
    Kind::Deployment,
];

/// What a watch tells.
#[derive(Clone, Debug)]
pub(crate) enum Told {
    /// An object of one of the kinds.
    Object(Object),
    /// A bridge has said that it lives.
    Bridge(Box<Lease>),
    /// A bridge's Lease is gone.
    BridgeGone(Key),
    /// All Leases of bridges that there are.
    Bridges(HashSet<Key>),
}

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

/// Begins to watch every kind, and the Leases of bridges.
pub(crate) fn watch(watches: &mut Watches<Told, Kind>) {
    watches.custom(Kind::Robot, |it| Told::Object(Object::Robot(it)));
    watches.custom(Kind::Job, |it| Told::Object(Object::Job(it)));
    watches.custom(Kind::Group, |it| Told::Object(Object::Group(it)));
    watches.custom(Kind::Task, |it| Told::Object(Object::Task(it)));
    watches.custom(Kind::Deployment, |it| Told::Object(Object::Deployment(it)));
    // Nothing waits for these: an operator that may not see them, as under older manifests, does
    // all else.
    let only = format!("metadata.name={}", names::BRIDGE_LEASE);
    let config = watcher::Config::default().fields(&only);
    watches.aside(watches.api(), config, |seen| match seen {
        Seen::There(lease) => Some(Told::Bridge(Box::new(lease))),
        Seen::Gone(key) => Some(Told::BridgeGone(key)),
        Seen::All(listed) => Some(Told::Bridges(listed)),
    });
}
