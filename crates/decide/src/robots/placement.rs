//! Which robot gets what.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, BinaryHeap},
};

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

    /// Whether it may be given something of this size now.
    pub fn takes(&self, need: Load) -> bool {
        self.open && self.phase == RobotPhase::Online && self.has_room(need)
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

/// The best robot that fits for something that stands alone: one that has fewest replicas, then
/// by name, so that the same facts always give the same answer. Nothing if none has room.
pub fn best(robots: &[Candidate], wish: &Wish<'_>, need: Load) -> Option<usize> {
    let usable = (0..robots.len()).filter(|index| {
        let robot = &robots[*index];
        robot.takes(need) && wish.fits(robot)
    });
    usable.min_by_key(|index| (robots[*index].replicas, robots[*index].name.as_str()))
}

/// The robots that may take replicas of one group, the best first: one that has fewest of the
/// group, then fewest replicas at all, then by name, so that the same facts always give the same
/// answer. Thousands of replicas find their robots in one go: who is next is not looked for among
/// all of them each time.
#[derive(Debug)]
pub(super) struct Line {
    need: Load,
    /// As they were when they were put in line; they can only have got more since.
    waiting: BinaryHeap<Reverse<(u32, u32, usize)>>,
}

impl Line {
    /// Those of the robots that fit, which stand in the order of their names; `on` says of each
    /// how many of the group it has.
    pub(super) fn of(fitting: &[usize], robots: &[Candidate], on: &[u32], need: Load) -> Self {
        let usable = fitting.iter().filter(|index| robots[**index].takes(need));
        let waiting = usable.map(|index| Reverse((on[*index], robots[*index].replicas, *index)));
        Self {
            need,
            waiting: waiting.collect(),
        }
    }

    /// The first one, which stays in line; those to be avoided come last.
    pub(super) fn first(
        &mut self,
        robots: &[Candidate],
        on: &[u32],
        avoid: &[usize],
    ) -> Option<usize> {
        let mut passed = Vec::new();
        let mut found = None;
        while let Some(Reverse((had, ran, index))) = self.waiting.pop() {
            let robot = &robots[index];
            if !robot.takes(self.need) {
                continue;
            }
            let now = Reverse((on[index], robot.replicas, index));
            if now != Reverse((had, ran, index)) {
                self.waiting.push(now);
                continue;
            }
            passed.push(now);
            if !avoid.contains(&index) {
                found = Some(index);
                break;
            }
        }
        let first = passed.first().map(|Reverse((_, _, index))| *index);
        self.waiting.extend(passed);
        found.or(first)
    }
}
