//! What is known of robots and the work on them.
//!
//! Watch events and the answers to the operator's own writes go in; whichever is newer wins.
//! Tasks that are about to be made are in here too, so that none is made twice.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use jiff::Timestamp;
use kube::{Resource, ResourceExt};
use sandlot_api::robot::{
    Job, Robot, RobotDeployment, RobotPhase, Task, TaskGroup, TaskState, names,
};

use super::sights::{Kind, Object};
use crate::index::{Key, key::revision};

/// One picture of all that concerns robots.
#[derive(Default)]
pub(crate) struct Index {
    pub(crate) robots: BTreeMap<Key, Robot>,
    pub(crate) jobs: HashMap<Key, Job>,
    pub(crate) groups: HashMap<Key, TaskGroup>,
    pub(crate) tasks: HashMap<Key, Task>,
    pub(crate) deployments: HashMap<Key, RobotDeployment>,
    /// Since when robots that are Offline are.
    pub(crate) gone: HashMap<Key, Timestamp>,
    /// Objects that were told to go, and still are seen.
    pub(crate) leaving: HashSet<String>,
    pub(crate) marks: BTreeSet<(Kind, Key)>,
    /// Robots that have changed, or what is on them has, since they were last counted.
    pub(crate) recount: BTreeSet<Key>,
    tasks_of_group: HashMap<Key, BTreeSet<Key>>,
    groups_of_job: HashMap<Key, BTreeSet<Key>>,
    /// Those that have not ended, by their robots.
    tasks_of_robot: HashMap<Key, BTreeSet<Key>>,
    /// Tasks that name no robot, and wait for one.
    homeless: BTreeSet<Key>,
    /// Groups with replicas that take some of a robot, and wait for one that has so much left.
    crowded: BTreeSet<Key>,
}

impl Index {
    /// An object is seen, through a watch or as the answer to a write.
    pub(crate) fn see(&mut self, object: Object, now: Timestamp) {
        match object {
            Object::Robot(robot) => self.see_robot(*robot, now),
            Object::Job(job) => {
                if let Some(key) = newer(&self.jobs, &*job) {
                    self.marks.insert((Kind::Job, key.clone()));
                    self.jobs.insert(key, *job);
                }
            }
            Object::Group(group) => {
                if let Some(key) = newer(&self.groups, &*group) {
                    let job = key.beside(&group.spec.job_name);
                    self.marks.insert((Kind::Job, job.clone()));
                    self.marks.insert((Kind::Group, key.clone()));
                    self.groups_of_job
                        .entry(job)
                        .or_default()
                        .insert(key.clone());
                    self.groups.insert(key, *group);
                }
            }
            Object::Task(task) => self.see_task(*task),
            Object::Deployment(deployment) => {
                if let Some(key) = newer(&self.deployments, &*deployment) {
                    self.marks.insert((Kind::Deployment, key.clone()));
                    self.deployments.insert(key, *deployment);
                }
            }
        }
    }

    fn see_robot(&mut self, robot: Robot, now: Timestamp) {
        let Some(key) = Key::of(&robot.metadata) else {
            return;
        };
        let known = self.robots.get(&key);
        if known.is_some_and(|known| revision(&known.metadata) >= revision(&robot.metadata)) {
            return;
        }
        let phase = |robot: &Robot| robot.status.as_ref().and_then(|status| status.phase);
        match phase(&robot) {
            // Of one that no bridge hears nobody knows: what runs there counts as running.
            Some(RobotPhase::Offline) => {
                self.gone
                    .entry(key.clone())
                    .or_insert(since(&robot).unwrap_or(now));
            }
            _ => {
                self.gone.remove(&key);
            }
        }
        let matters = known.is_none_or(|known| {
            let device = |robot: &Robot| {
                let status = robot.status.as_ref();
                status.and_then(|status| status.device_info.as_ref().map(|info| info.lasting()))
            };
            let installed = |robot: &Robot| {
                robot
                    .status
                    .as_ref()
                    .and_then(|status| status.deployments.clone())
            };
            known.spec != robot.spec
                || phase(known) != phase(&robot)
                || installed(known) != installed(&robot)
                || device(known) != device(&robot)
        });
        self.marks.insert((Kind::Robot, key.clone()));
        self.recount.insert(key.clone());
        if matters {
            self.mark_around(&key);
        }
        self.robots.insert(key, robot);
    }

    /// Everything whose place may change with a robot.
    fn mark_around(&mut self, robot: &Key) {
        let near = |key: &&Key| key.namespace == robot.namespace;
        let open = |key: &Key| {
            let group = self.groups.get(key);
            let state = group
                .and_then(|group| group.status.as_ref())
                .and_then(|status| status.state);
            !state.is_some_and(is_over)
        };
        let groups = self.groups.keys().filter(near).filter(|key| open(key));
        let mut marks: Vec<(Kind, Key)> = groups.map(|key| (Kind::Group, key.clone())).collect();
        let deployments = self.deployments.keys().filter(near);
        marks.extend(deployments.map(|key| (Kind::Deployment, key.clone())));
        let waiting = self.homeless.iter().filter(near);
        marks.extend(waiting.map(|key| (Kind::Task, key.clone())));
        self.marks.extend(marks);
    }

    fn see_task(&mut self, task: Task) {
        let Some(key) = newer(&self.tasks, &task) else {
            return;
        };
        if let Some(group) = &task.spec.task_group_name {
            let group = key.beside(group);
            self.marks.insert((Kind::Group, group.clone()));
            self.tasks_of_group
                .entry(group)
                .or_default()
                .insert(key.clone());
        }
        self.marks.insert((Kind::Task, key.clone()));
        let left = self.unload(&key);
        self.load(&key, &task);
        if let Some(robot) = left
            && !self.counts_on(&robot, &key)
        {
            self.mark_waiting(&robot);
        }
        self.tasks.insert(key, task);
    }

    fn counts_on(&self, robot: &Key, task: &Key) -> bool {
        let tasks = self.tasks_of_robot.get(robot);
        tasks.is_some_and(|tasks| tasks.contains(task))
    }

    /// There is more room on a robot: everything that waits for some.
    fn mark_waiting(&mut self, robot: &Key) {
        let near = |key: &&Key| key.namespace == robot.namespace;
        let groups = self.crowded.iter().filter(near);
        let groups = groups.map(|key| (Kind::Group, key.clone()));
        let tasks = self.homeless.iter().filter(near);
        let tasks = tasks.map(|key| (Kind::Task, key.clone()));
        self.marks.extend(groups.chain(tasks));
    }

    /// Whether a group waits for room.
    pub(crate) fn waits(&mut self, group: &Key, for_room: bool) {
        match for_room {
            true => self.crowded.insert(group.clone()),
            false => self.crowded.remove(group),
        };
    }

    /// A task counts among what is on its robot until it has ended.
    fn load(&mut self, key: &Key, task: &Task) {
        let state = task.status.as_ref().and_then(|status| status.state);
        let over = state.is_some_and(TaskState::is_terminal);
        let Some(robot) = &task.spec.target_robot else {
            if !over {
                self.homeless.insert(key.clone());
            }
            return;
        };
        if !over {
            let robot = key.beside(robot);
            self.recount.insert(robot.clone());
            self.tasks_of_robot
                .entry(robot)
                .or_default()
                .insert(key.clone());
        }
    }

    /// A task no longer counts where it did: on this robot, if it took some of it.
    fn unload(&mut self, key: &Key) -> Option<Key> {
        self.homeless.remove(key);
        let known = self.tasks.get(key)?;
        let robot = key.beside(known.spec.target_robot.as_ref()?);
        let takes = known.spec.resources.is_some();
        let tasks = self.tasks_of_robot.get_mut(&robot)?;
        if !tasks.remove(key) {
            return None;
        }
        if tasks.is_empty() {
            self.tasks_of_robot.remove(&robot);
        }
        self.recount.insert(robot.clone());
        takes.then_some(robot)
    }

    /// A task that is about to be made counts from now on.
    pub(crate) fn expect(&mut self, task: Task) {
        let Some(key) = Key::of(&task.metadata) else {
            return;
        };
        if let Some(group) = &task.spec.task_group_name {
            let group = key.beside(group);
            self.tasks_of_group
                .entry(group)
                .or_default()
                .insert(key.clone());
        }
        if !self.tasks.contains_key(&key) {
            self.load(&key, &task);
            self.tasks.insert(key, task);
        }
    }

    /// A task that was to be made is not; one that is really there stays.
    pub(crate) fn unexpect(&mut self, key: &Key) {
        let made = self.tasks.get(key).is_some_and(|task| task.uid().is_some());
        if !made {
            self.lose(Kind::Task, key);
        }
    }

    /// An object is gone.
    pub(crate) fn lose(&mut self, kind: Kind, key: &Key) {
        match kind {
            Kind::Robot => {
                self.gone.remove(key);
                if self.robots.remove(key).is_some() {
                    self.recount.insert(key.clone());
                    self.mark_around(key);
                }
            }
            Kind::Job => {
                self.forget_leaving(self.jobs.get(key).and_then(ResourceExt::uid));
                self.jobs.remove(key);
            }
            Kind::Group => {
                let group = self.groups.remove(key);
                self.crowded.remove(key);
                self.forget_leaving(group.as_ref().and_then(ResourceExt::uid));
                if let Some(group) = group {
                    let job = key.beside(&group.spec.job_name);
                    if let Some(groups) = self.groups_of_job.get_mut(&job) {
                        groups.remove(key);
                        if groups.is_empty() {
                            self.groups_of_job.remove(&job);
                        }
                    }
                    self.marks.insert((Kind::Job, job));
                }
            }
            Kind::Task => {
                if let Some(robot) = self.unload(key) {
                    self.mark_waiting(&robot);
                }
                let task = self.tasks.remove(key);
                self.forget_leaving(task.as_ref().and_then(ResourceExt::uid));
                if let Some(group) = task.and_then(|task| task.spec.task_group_name) {
                    let group = key.beside(&group);
                    if let Some(tasks) = self.tasks_of_group.get_mut(&group) {
                        tasks.remove(key);
                        if tasks.is_empty() {
                            self.tasks_of_group.remove(&group);
                        }
                    }
                    self.marks.insert((Kind::Group, group));
                }
            }
            Kind::Deployment => {
                self.deployments.remove(key);
            }
        }
    }

    fn forget_leaving(&mut self, uid: Option<String>) {
        if let Some(uid) = uid {
            self.leaving.remove(&uid);
        }
    }

    /// The keys of all known objects of a kind, without those that are about to be made.
    pub(crate) fn known(&self, kind: Kind) -> Vec<Key> {
        match kind {
            Kind::Robot => self.robots.keys().cloned().collect(),
            Kind::Job => self.jobs.keys().cloned().collect(),
            Kind::Group => self.groups.keys().cloned().collect(),
            Kind::Task => {
                let made = self.tasks.iter().filter(|(_, task)| task.uid().is_some());
                made.map(|(key, _)| key.clone()).collect()
            }
            Kind::Deployment => self.deployments.keys().cloned().collect(),
        }
    }

    /// What an object is part of.
    pub(crate) fn owner(&self, kind: Kind, key: &Key) -> Option<(Kind, Key)> {
        match kind {
            Kind::Group => {
                let group = self.groups.get(key)?;
                Some((Kind::Job, key.beside(&group.spec.job_name)))
            }
            Kind::Task => {
                let group = self.tasks.get(key)?.spec.task_group_name.as_ref()?;
                Some((Kind::Group, key.beside(group)))
            }
            Kind::Robot | Kind::Job | Kind::Deployment => None,
        }
    }

    /// The tasks of a group, by name.
    pub(crate) fn tasks_of(&self, group: &Key) -> impl Iterator<Item = (&Key, &Task)> {
        let keys = self.tasks_of_group.get(group).into_iter().flatten();
        keys.filter_map(|key| self.tasks.get_key_value(key))
    }

    /// What is on a robot and has not ended.
    pub(crate) fn tasks_on(&self, robot: &Key) -> impl Iterator<Item = &Task> {
        let keys = self.tasks_of_robot.get(robot).into_iter().flatten();
        keys.filter_map(|key| self.tasks.get(key))
    }

    /// The groups of a job, by name.
    pub(crate) fn groups_of(&self, job: &Key) -> impl Iterator<Item = (&Key, &TaskGroup)> {
        let keys = self.groups_of_job.get(job).into_iter().flatten();
        keys.filter_map(|key| self.groups.get_key_value(key))
    }

    /// Whether an object is on its way out.
    pub(crate) fn is_leaving<K: Resource<DynamicType = ()>>(&self, object: &K) -> bool {
        let meta = object.meta();
        meta.deletion_timestamp.is_some()
            || meta
                .uid
                .as_ref()
                .is_some_and(|uid| self.leaving.contains(uid))
    }
}

/// The key of an object, if it is newer than what is known.
fn newer<K: Resource<DynamicType = ()>>(known: &HashMap<Key, K>, object: &K) -> Option<Key> {
    let key = Key::of(object.meta())?;
    let old = known.get(&key).map(|known| known.meta());
    // One that is only expected has no version yet.
    let old = old.filter(|meta| meta.resource_version.is_some());
    (old.is_none_or(|old| revision(old) < revision(object.meta()))).then_some(key)
}

/// Since when a robot has stood where it stands, as its condition says.
fn since(robot: &Robot) -> Option<Timestamp> {
    let conditions = robot.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready")?;
    Some(ready.last_transition_time.0)
}

fn is_over(state: sandlot_api::robot::GroupState) -> bool {
    use sandlot_api::robot::GroupState::{Cancelled, Completed, Failed};
    matches!(state, Completed | Failed | Cancelled)
}

/// Whether the finalizer of this group holds an object.
pub(crate) fn is_held<K: Resource>(object: &K) -> bool {
    let finalizers = object.meta().finalizers.as_ref();
    finalizers.is_some_and(|all| all.iter().any(|one| one == names::FINALIZER))
}
