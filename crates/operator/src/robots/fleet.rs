//! The robots of a namespace as far as placing work on them goes, counted once in a round.

use std::collections::{BTreeMap, HashMap};

use sandlot_api::robot::{Robot, RobotPhase, Task};
use sandlot_decide::robots::{
    constraint::attributes,
    placement::{Candidate, Load},
};

use super::index::Index;
use crate::index::Key;

/// The robots of the namespaces that were asked for in this round.
#[derive(Default)]
pub(crate) struct Fleet(HashMap<String, Vec<Candidate>>);

impl Fleet {
    /// The robots of a namespace, in the order of their names.
    pub(crate) fn of(&mut self, index: &Index, namespace: &str) -> &mut Vec<Candidate> {
        self.0
            .entry(namespace.to_owned())
            .or_insert_with(|| count(index, namespace))
    }
}

fn count(index: &Index, namespace: &str) -> Vec<Candidate> {
    let mut load: BTreeMap<&str, (Load, u32)> = BTreeMap::new();
    for (key, task) in &index.tasks {
        let Some(robot) = task.spec.target_robot.as_deref() else {
            continue;
        };
        if &*key.namespace != namespace || is_over(task) {
            continue;
        }
        let need = Load::of(std::slice::from_ref(&task.spec.definition()));
        let entry = load.entry(robot).or_default();
        *entry = (entry.0.plus(need), entry.1 + 1);
    }
    let first = Key {
        namespace: namespace.into(),
        name: "".into(),
    };
    let robots = index.robots.range(first..);
    robots
        .take_while(|(key, _)| &*key.namespace == namespace)
        .map(|(key, robot)| candidate(key, robot, load.get(&*key.name).copied()))
        .collect()
}

fn candidate(key: &Key, robot: &Robot, load: Option<(Load, u32)>) -> Candidate {
    let status = robot.status.as_ref();
    let labels = robot.spec.labels.clone().unwrap_or_default();
    let drivers = status.and_then(|status| status.drivers.clone());
    let device = status.and_then(|status| status.device_info.as_ref());
    let leaving = robot.metadata.deletion_timestamp.is_some();
    let draining = robot.spec.drain.unwrap_or(false) || leaving;
    let (taken, replicas) = load.unwrap_or_default();
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

fn is_over(task: &Task) -> bool {
    let state = task.status.as_ref().and_then(|status| status.state);
    state.is_some_and(|state| state.is_terminal())
}
