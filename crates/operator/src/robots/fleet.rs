//! The robots of each namespace as far as placing work on them goes. They are kept from round to
//! round: counting thousands anew would be most of what one more job costs.

use std::collections::{BTreeSet, HashMap};

use sandlot_api::robot::{Robot, RobotPhase};
use sandlot_decide::robots::{
    constraint::attributes,
    placement::{Candidate, Load},
};

use super::index::Index;
use crate::index::Key;

/// All robots that something was placed on.
#[derive(Default)]
pub(crate) struct Fleet {
    /// By namespace, and there in the order of their names.
    robots: HashMap<String, Vec<Candidate>>,
    /// Robots that have changed, or what is on them has, since they were counted.
    stale: BTreeSet<Key>,
}

impl Fleet {
    /// These have changed since the last round. What is given out in this one counts by itself.
    pub(crate) fn begin(&mut self, changed: BTreeSet<Key>) {
        match self.stale.is_empty() {
            true => self.stale = changed,
            false => self.stale.extend(changed),
        }
    }

    /// The robots of a namespace, in the order of their names.
    pub(crate) fn of(&mut self, index: &Index, namespace: &str) -> &mut Vec<Candidate> {
        if !self.stale.is_empty() {
            self.count(index);
        }
        self.robots.entry(namespace.to_owned()).or_default()
    }

    /// Counts those anew that have changed.
    fn count(&mut self, index: &Index) {
        let mut new = Vec::new();
        for key in std::mem::take(&mut self.stale) {
            let robots = self.robots.entry(key.namespace.to_string()).or_default();
            let place = robots.binary_search_by(|robot| robot.name.as_str().cmp(&key.name));
            match (index.robots.get(&key), place) {
                (Some(robot), Ok(place)) => {
                    robots[place] = candidate(&key, robot, load(index, &key))
                }
                (Some(robot), Err(_)) => {
                    let candidate = candidate(&key, robot, load(index, &key));
                    new.push((key, candidate));
                }
                (None, Ok(place)) => {
                    robots.remove(place);
                }
                (None, Err(_)) => {}
            }
        }
        // Many come at once, when they come: each in its place would move all behind it.
        let mut grown = BTreeSet::new();
        for (key, candidate) in new {
            let robots = self.robots.entry(key.namespace.to_string()).or_default();
            robots.push(candidate);
            grown.insert(key.namespace);
        }
        for namespace in grown {
            if let Some(robots) = self.robots.get_mut(&*namespace) {
                robots.sort_by(|one, other| one.name.cmp(&other.name));
            }
        }
        self.robots.retain(|_, robots| !robots.is_empty());
    }
}

/// What is on a robot, and how much of it.
fn load(index: &Index, robot: &Key) -> (Load, u32) {
    let mut sum = (Load::default(), 0);
    for task in index.tasks_on(robot) {
        let need = Load::of(std::slice::from_ref(&task.spec.definition()));
        sum = (sum.0.plus(need), sum.1 + 1);
    }
    sum
}

fn candidate(key: &Key, robot: &Robot, (taken, replicas): (Load, u32)) -> Candidate {
    let status = robot.status.as_ref();
    let labels = robot.spec.labels.clone().unwrap_or_default();
    let drivers = status.and_then(|status| status.drivers.clone());
    let device = status.and_then(|status| status.device_info.as_ref());
    let leaving = robot.metadata.deletion_timestamp.is_some();
    let draining = robot.spec.drain.unwrap_or(false) || leaving;
    let size = |amount: Option<i64>| u64::try_from(amount.unwrap_or(0)).unwrap_or(0);
    Candidate {
        name: key.name.to_string(),
        phase: status
            .and_then(|status| status.phase)
            .unwrap_or(RobotPhase::Pending),
        open: !draining
            && !robot.spec.unschedulable.unwrap_or(false)
            && robot.spec.approved != Some(false),
        draining,
        attributes: attributes(
            &key.name,
            &labels,
            drivers.as_deref().unwrap_or(&[]),
            device,
        ),
        labels,
        drivers,
        capacity: Load {
            cpu: size(
                device
                    .and_then(|d| d.cpu.as_ref())
                    .map(|cpu| cpu.logical_cores * 1000),
            ),
            memory: size(
                device
                    .and_then(|d| d.memory.as_ref())
                    .map(|memory| memory.total),
            ),
        },
        taken,
        replicas,
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use kube::Resource;
    use proptest::prelude::*;
    use sandlot_api::robot::TaskState;
    use serde_json::json;

    use super::*;
    use crate::robots::sights::{Kind, Object};

    fn key(name: &str) -> Key {
        Key {
            namespace: "fleet".into(),
            name: name.into(),
        }
    }

    fn object<K: serde::de::DeserializeOwned + Resource<DynamicType = ()>>(
        name: &str,
        version: usize,
        rest: &serde_json::Value,
    ) -> Box<K> {
        let mut object = json!({
            "apiVersion": K::api_version(&()), "kind": K::kind(&()),
            "metadata": {
                "name": name, "namespace": "fleet",
                "uid": name, "resourceVersion": version.to_string(),
            },
        });
        if let (Some(object), Some(rest)) = (object.as_object_mut(), rest.as_object()) {
            object.extend(rest.clone());
        }
        Box::new(serde_json::from_value(object).unwrap())
    }

    fn robot(number: usize, version: usize, phase: RobotPhase) -> Object {
        let name = format!("robot-{number}");
        let rest = json!({ "spec": { "robotId": name }, "status": { "phase": phase } });
        Object::Robot(object(&name, version, &rest))
    }

    fn task(number: usize, version: usize, robot: usize, state: TaskState) -> Object {
        let rest = json!({
            "spec": {
                "name": "run", "driver": "raw_exec", "config": {},
                "targetRobot": format!("robot-{robot}"), "resources": { "cpu": "100m" },
            },
            "status": { "state": state },
        });
        Object::Task(object(&format!("task-{number}"), version, &rest))
    }

    #[derive(Clone, Debug)]
    enum Event {
        Robot(usize, RobotPhase),
        RobotGone(usize),
        Task(usize, usize, TaskState),
        TaskGone(usize),
        Ask,
    }

    fn events() -> impl Strategy<Value = Vec<Event>> {
        let phase = prop_oneof![Just(RobotPhase::Online), Just(RobotPhase::Offline)];
        let state = prop_oneof![Just(TaskState::Running), Just(TaskState::Completed)];
        // More than nine, so that their names sort otherwise than their numbers.
        let one = prop_oneof![
            (0..12usize, phase).prop_map(|(robot, phase)| Event::Robot(robot, phase)),
            (0..12usize).prop_map(Event::RobotGone),
            (0..6usize, 0..12usize, state)
                .prop_map(|(task, robot, state)| Event::Task(task, robot, state)),
            (0..6usize).prop_map(Event::TaskGone),
            Just(Event::Ask),
        ];
        prop::collection::vec(one, 0..60)
    }

    proptest! {
        #[test]
        fn what_is_kept_is_what_counting_all_anew_comes_to(events in events()) {
            let (mut index, mut kept) = (Index::default(), Fleet::default());
            let now = Timestamp::UNIX_EPOCH;
            for (version, event) in events.into_iter().chain([Event::Ask]).enumerate() {
                match event {
                    Event::Robot(number, phase) => index.see(robot(number, version + 1, phase), now),
                    Event::RobotGone(number) => index.lose(Kind::Robot, &key(&format!("robot-{number}"))),
                    Event::Task(number, on, state) => index.see(task(number, version + 1, on, state), now),
                    Event::TaskGone(number) => index.lose(Kind::Task, &key(&format!("task-{number}"))),
                    Event::Ask => {
                        kept.begin(std::mem::take(&mut index.recount));
                        let mut anew = Fleet::default();
                        anew.begin(index.robots.keys().cloned().collect());
                        let known = kept.of(&index, "fleet").clone();
                        prop_assert_eq!(&known, anew.of(&index, "fleet"));
                        prop_assert!(known.is_sorted_by(|one, other| one.name < other.name));
                        let on: u32 = known.iter().map(|robot| robot.replicas).sum();
                        let open = index.tasks.values().filter(|task| {
                            let state = task.status.as_ref().and_then(|status| status.state);
                            let robot = task.spec.target_robot.as_deref().unwrap_or_default();
                            state == Some(TaskState::Running) && index.robots.contains_key(&key(robot))
                        });
                        prop_assert_eq!(on as usize, open.count());
                    }
                }
            }
        }
    }
}
