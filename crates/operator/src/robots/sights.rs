//! What the API tells of robots and the work on them.

use sandlot_api::robot::{Job, Robot, RobotDeployment, Task, TaskGroup};

use crate::{index::Key, rounds::Watches};

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

/// Begins to watch every kind.
pub(crate) fn watch(watches: &mut Watches<Object, Kind>) {
    watches.custom(Kind::Robot, Object::Robot);
    watches.custom(Kind::Job, Object::Job);
    watches.custom(Kind::Group, Object::Group);
    watches.custom(Kind::Task, Object::Task);
    watches.custom(Kind::Deployment, Object::Deployment);
}
