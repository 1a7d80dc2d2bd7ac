//! Which robot gets what.

use std::collections::{BTreeMap, BTreeSet};

use sandlot_api::robot::{Constraint, RobotPhase, TaskDefinition};

use super::constraint::{Attributes, meets, selects};

/// A robot as far as placing goes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Candidate {
    /// Its name.
    pub name: String,
    /// Where it stands.
    pub phase: RobotPhase,
    /// It may be given something new.
    pub open: bool,
    /// What it does is to move elsewhere.
    pub draining: bool,
    /// What jobs select it by.
    pub labels: BTreeMap<String, String>,
    /// What constraints look at.
    pub attributes: Attributes,
    /// The drivers it has; nothing if it has not said.
    pub drivers: Option<Vec<String>>,
    /// What it has in all, where known.
    pub capacity: Load,
    /// What is taken of it.
    pub taken: Load,
    /// How many replicas it runs.
    pub replicas: u32,
}

/// An amount of a robot. Zero of a capacity means that it is not known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Load {
    /// Processors, in thousandths.
    pub cpu: u64,
    /// Memory, in bytes.
    pub memory: u64,
}

impl Load {
    /// What a replica of these tasks takes.
    pub fn of(tasks: &[TaskDefinition]) -> Self {
        let needs = tasks.iter().filter_map(|task| task.resources.as_ref());
        needs.fold(Self::default(), |sum, need| {
            let cpu = need.cpu.as_ref().and_then(|cpu| cpu.millis());
            let memory = need.memory.as_ref().and_then(|memory| memory.units());
            Self {
                cpu: sum.cpu.saturating_add(cpu.unwrap_or(0)),
                memory: sum.memory.saturating_add(memory.unwrap_or(0)),
            }
        })
    }

    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_add(other.cpu),
            memory: self.memory.saturating_add(other.memory),
        }
    }

    /// What is left without the other.
    pub fn minus(self, other: Self) -> Self {
        Self {
            cpu: self.cpu.saturating_sub(other.cpu),
            memory: self.memory.saturating_sub(other.memory),
        }
    }
}

impl Candidate {
    /// Whether something of this size still fits.
    pub fn has_room(&self, need: Load) -> bool {
        let taken = self.taken.plus(need);
        (self.capacity.cpu == 0 || need.cpu == 0 || taken.cpu <= self.capacity.cpu)
            && (self.capacity.memory == 0
                || need.memory == 0
                || taken.memory <= self.capacity.memory)
    }

    /// Writes down that it has got one more.
    pub fn take(&mut self, need: Load) {
        self.taken = self.taken.plus(need);
        self.replicas = self.replicas.saturating_add(1);
    }
}

/// What a group asks of a robot.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// Labels it must have.
    pub selector: &'a BTreeMap<String, String>,
    /// Conditions it must meet.
    pub constraints: &'a [Constraint],
    /// Drivers it must have.
    pub drivers: &'a BTreeSet<&'static str>,
}

impl Wish<'_> {
    /// Whether a robot is of the right kind, whether or not it is there and has room.
    pub fn fits(&self, robot: &Candidate) -> bool {
        let has = |driver: &&str| {
            let known = robot.drivers.as_ref();
            known.is_none_or(|known| known.iter().any(|known| known == driver))
        };
        selects(self.selector, &robot.labels)
            && self.drivers.iter().all(has)
            && self
                .constraints
                .iter()
                .all(|constraint| meets(constraint, &robot.attributes))
    }
}

/// The best robot of these for one more replica: one that has fewest of the same group, then
/// fewest replicas at all, then by name, so that the same facts always give the same answer.
///
/// `of_group` says of each robot how many of the group it has; `avoid` are those where it has
/// failed before: they come last. Nothing if none has room.
pub fn best(
    robots: &[Candidate],
    fitting: &[usize],
    of_group: &[u32],
    avoid: &BTreeSet<usize>,
    need: Load,
) -> Option<usize> {
    let usable = fitting.iter().copied().filter(|index| {
        let robot = &robots[*index];
        robot.open && robot.phase == RobotPhase::Online && robot.has_room(need)
    });
    usable.min_by_key(|index| {
        let robot = &robots[*index];
        (
            avoid.contains(index),
            of_group.get(*index).copied().unwrap_or(0),
            robot.replicas,
            robot.name.as_str(),
        )
    })
}
