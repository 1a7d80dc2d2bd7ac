//! What the bridge knows of the API: by name, as it works in one namespace.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use kube::{Resource, ResourceExt};
use sandlot_api::robot::{Command, CommandResultState, Robot, RobotDeployment, Task};

use super::sights::{Kind, Object};

/// One picture of all that concerns the bridge.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) robots: BTreeMap<String, Robot>,
    pub(crate) tasks: HashMap<String, Task>,
    pub(crate) commands: BTreeMap<String, Command>,
    pub(crate) deployments: BTreeMap<String, RobotDeployment>,
    tasks_of_robot: HashMap<String, BTreeSet<String>>,
    task_by_uid: HashMap<String, String>,
    /// Robots that may have to be told something new.
    pub(crate) stale: BTreeSet<String>,
    /// Tasks that may have been told for the first time.
    pub(crate) fresh_tasks: BTreeSet<String>,
    /// Commands to be looked at.
    pub(crate) fresh_commands: BTreeSet<String>,
    /// Robots to be looked at.
    pub(crate) fresh_robots: BTreeSet<String>,
}

impl Index {
    /// An object is seen, through a watch or as the answer to a write; whichever is newer wins.
    pub(crate) fn see(&mut self, object: Object) {
        match object.without_writers() {
            Object::Robot(robot) => {
                let name = robot.name_any();
                if is_newer(self.robots.get(&name), &*robot) {
                    self.fresh_robots.insert(name.clone());
                    self.stale.insert(name.clone());
                    self.robots.insert(name, *robot);
                }
            }
            Object::Task(task) => self.see_task(*task),
            Object::Command(command) => {
                let name = command.name_any();
                if is_newer(self.commands.get(&name), &*command) {
                    self.stale.extend(robots_of(&command));
                    self.fresh_commands.insert(name.clone());
                    self.commands.insert(name, *command);
                }
            }
            Object::Deployment(deployment) => {
                let name = deployment.name_any();
                if is_newer(self.deployments.get(&name), &*deployment) {
                    let before = self.deployments.insert(name, (*deployment).clone());
                    self.stale.extend(before.iter().flat_map(targets_of));
                    self.stale.extend(targets_of(&deployment));
                }
            }
        }
    }

    /// Whether an object has the name of one that is known, and is another.
    pub(crate) fn is_another(&self, object: &Object) -> bool {
        fn differs<K: Resource>(known: Option<&K>, object: &K) -> bool {
            known.is_some_and(|known| known.meta().uid != object.meta().uid)
        }
        let (_, name) = object.place();
        match object {
            Object::Robot(robot) => differs(self.robots.get(&name), &**robot),
            Object::Task(task) => differs(self.tasks.get(&name), &**task),
            Object::Command(command) => differs(self.commands.get(&name), &**command),
            Object::Deployment(one) => differs(self.deployments.get(&name), &**one),
        }
    }

    fn see_task(&mut self, task: Task) {
        let name = task.name_any();
        let before = self.tasks.get(&name);
        if !is_newer(before, &task) {
            return;
        }
        let (before_robot, before_uid) = match before {
            Some(task) => (task.spec.target_robot.clone(), task.uid()),
            None => (None, None),
        };
        if let Some(robot) =
            before_robot.filter(|robot| Some(robot) != task.spec.target_robot.as_ref())
        {
            self.unlink(&robot, &name);
        }
        if let Some(uid) = before_uid {
            self.task_by_uid.remove(&uid);
        }
        if let Some(uid) = task.uid() {
            self.task_by_uid.insert(uid, name.clone());
        }
        if let Some(robot) = &task.spec.target_robot {
            self.tasks_of_robot
                .entry(robot.clone())
                .or_default()
                .insert(name.clone());
            self.stale.insert(robot.clone());
        }
        self.fresh_tasks.insert(name.clone());
        self.tasks.insert(name, task);
    }

    fn unlink(&mut self, robot: &str, task: &str) {
        self.stale.insert(robot.to_owned());
        if let Some(tasks) = self.tasks_of_robot.get_mut(robot) {
            tasks.remove(task);
            if tasks.is_empty() {
                self.tasks_of_robot.remove(robot);
            }
        }
    }

    /// An object is gone; what it was, if it was known.
    pub(crate) fn lose(&mut self, kind: Kind, name: &str) -> Option<Object> {
        match kind {
            Kind::Robot => {
                let robot = self.robots.remove(name)?;
                Some(Object::Robot(Box::new(robot)))
            }
            Kind::Task => {
                let task = self.tasks.remove(name)?;
                if let Some(uid) = task.uid() {
                    self.task_by_uid.remove(&uid);
                }
                if let Some(robot) = &task.spec.target_robot {
                    self.unlink(robot, name);
                }
                Some(Object::Task(Box::new(task)))
            }
            Kind::Command => {
                let command = self.commands.remove(name)?;
                self.stale.extend(robots_of(&command));
                Some(Object::Command(Box::new(command)))
            }
            Kind::Deployment => {
                let deployment = self.deployments.remove(name)?;
                self.stale.extend(targets_of(&deployment));
                Some(Object::Deployment(Box::new(deployment)))
            }
        }
    }

    /// The names of all known objects of a kind.
    pub(crate) fn known(&self, kind: Kind) -> Vec<String> {
        match kind {
            Kind::Robot => self.robots.keys().cloned().collect(),
            Kind::Task => self.tasks.keys().cloned().collect(),
            Kind::Command => self.commands.keys().cloned().collect(),
            Kind::Deployment => self.deployments.keys().cloned().collect(),
        }
    }

    /// The tasks of a robot, by name.
    pub(crate) fn tasks_of(&self, robot: &str) -> impl Iterator<Item = &Task> {
        let names = self.tasks_of_robot.get(robot).into_iter().flatten();
        names.filter_map(|name| self.tasks.get(name))
    }

    /// The task of a uid.
    pub(crate) fn task(&self, uid: &str) -> Option<&Task> {
        self.tasks.get(self.task_by_uid.get(uid)?)
    }
}

/// Robots from which a command still waits for something.
pub(crate) fn robots_of(command: &Command) -> Vec<String> {
    let results = command
        .status
        .iter()
        .flat_map(|status| status.results.iter().flatten());
    let open = results.filter(|result| !CommandResultState::is_terminal(result.state));
    open.map(|result| result.robot.clone()).collect()
}

fn targets_of(deployment: &RobotDeployment) -> Vec<String> {
    let targets = deployment
        .status
        .iter()
        .flat_map(|status| status.robots.iter().flatten());
    targets.map(|target| target.robot_name.clone()).collect()
}

fn is_newer<K: Resource>(known: Option<&K>, object: &K) -> bool {
    let revision = |object: &K| {
        let version = object.meta().resource_version.as_deref();
        version
            .and_then(|version| version.parse::<u64>().ok())
            .unwrap_or(u64::MAX)
    };
    known.is_none_or(|known| revision(known) < revision(object))
}
