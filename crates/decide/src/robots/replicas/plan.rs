//! What is to be done about a group's replicas.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use sandlot_api::robot::{
    DisconnectAction, DisconnectPolicy, JobType, ReschedulePolicy, RobotPhase, RolloutStatus,
    UpdatePolicy,
};

use super::look::{Replica, Run, Standing, TaskFact, read};
use crate::{
    expiry::later,
    robots::{
        budget::{Again, again},
        placement::{Candidate, Line, Load, Wish},
        rollout::{Health, Rollout, Step, Towards, Unit},
        tally::Tally,
    },
};

/// How many failed attempts of a replica are kept to be looked at.
const HISTORY: usize = 3;
/// How long a robot may be gone when a group does not say.
const AFTER: std::time::Duration = std::time::Duration::from_secs(300);

/// A group, as far as its replicas go.
#[derive(Clone, Debug)]
pub struct Group<'a> {
    /// How it lives.
    pub kind: JobType,
    /// How many replicas it is to have; of a system group, one for each fitting robot.
    pub count: i32,
    /// How many tasks a replica has.
    pub tasks: usize,
    /// What a replica takes.
    pub need: Load,
    /// What it asks of a robot.
    pub wish: Wish<'a>,
    /// Nothing of it is to run any more.
    pub cancelled: bool,
    /// What happens to failures.
    pub reschedule: Option<&'a ReschedulePolicy>,
    /// What happens when a robot is gone.
    pub disconnect: Option<&'a DisconnectPolicy>,
    /// How edits reach it.
    pub update: &'a UpdatePolicy,
    /// Its version.
    pub latest: &'a str,
    /// The version that is known to work.
    pub stable: Option<&'a str>,
    /// Where its rollout stood when last looked at.
    pub rollout: Option<&'a RolloutStatus>,
    /// Since when robots that are gone are gone.
    pub gone: &'a BTreeMap<String, Timestamp>,
}

/// A run to be started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// The replica.
    pub replica: i32,
    /// The attempt.
    pub attempt: i64,
    /// The robot.
    pub robot: String,
    /// The version.
    pub towards: Towards,
}

/// What is to be done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Runs to be started.
    pub start: Vec<Start>,
    /// Tasks to be deleted, by name.
    pub delete: Vec<String>,
    /// Tasks to be stopped and kept, by name.
    pub cancel: Vec<String>,
    /// Tasks whose robot is gone for too long, by name.
    pub lose: Vec<String>,
    /// Replicas that wait for a robot.
    pub unplaced: i32,
    /// How many robots fit, whether there or not, if that had to be looked at.
    pub fitting: usize,
    /// How many replicas it is to have.
    pub wanted: i32,
    /// Where the rollout stands.
    pub rollout: Option<RolloutStatus>,
    /// Nothing more will be started.
    pub settled: bool,
    /// Where the tasks that count stand.
    pub tally: Tally,
    /// When to look again, if nothing happens before.
    pub wake: Option<Timestamp>,
}

/// What is to be done about a group. What it gives out is taken from `robots`, which stand in the
/// order of their names, so that the next group sees it.
pub fn plan(
    group: &Group<'_>,
    facts: &[TaskFact],
    robots: &mut [Candidate],
    now: Timestamp,
) -> Plan {
    let replicas = read(facts);
    let mut planner = Planner {
        group,
        now,
        on: vec![0; robots.len()],
        fitting: None,
        line: None,
        plan: Plan {
            settled: true,
            ..Plan::default()
        },
    };
    planner.run(&replicas, robots);
    planner.plan.fitting = planner.fitting.map_or(0, |fitting| fitting.len());
    planner.plan
}

/// Where a robot of this name stands.
fn place_of(name: &str, robots: &[Candidate]) -> Option<usize> {
    let found = robots.binary_search_by(|robot| robot.name.as_str().cmp(name));
    found.ok()
}

struct Planner<'a> {
    group: &'a Group<'a>,
    now: Timestamp,
    /// How many replicas of this group each robot has.
    on: Vec<u32>,
    /// The robots that fit, once somebody asks: most looks find everything in its place.
    fitting: Option<Vec<usize>>,
    /// Who gets the next replica, once there is one to be given out.
    line: Option<Line>,
    plan: Plan,
}

impl Planner<'_> {
    fn run(&mut self, replicas: &BTreeMap<i32, Replica<'_>>, robots: &mut [Candidate]) {
        let homes = self.homes(replicas, robots);
        self.plan.wanted = i32::try_from(homes.len()).unwrap_or(i32::MAX);
        if self.group.cancelled {
            self.cancel(replicas);
            return;
        }
        for (index, replica) in replicas {
            if !homes.contains_key(index) {
                self.remove(replica.runs.iter());
            }
        }
        let step = self.roll(replicas, &homes);
        let towards = step.as_ref().map_or(Towards::Latest, |step| step.towards);
        for replica in replicas
            .values()
            .filter(|replica| homes.contains_key(&replica.index))
        {
            for run in &replica.runs {
                let over = matches!(
                    run.standing(self.group.tasks),
                    Standing::Failed(_) | Standing::Completed
                );
                let on = run.robot().and_then(|robot| place_of(robot, robots));
                if let Some(index) = on.filter(|_| !over) {
                    self.on[index] += 1;
                }
            }
        }
        for (index, home) in &homes {
            let none;
            let replica = match replicas.get(index) {
                Some(replica) => replica,
                None => {
                    none = Replica {
                        index: *index,
                        runs: Vec::new(),
                    };
                    &none
                }
            };
            self.tend(replica, home.as_deref(), towards, robots);
        }
        if let Some(step) = step {
            self.wake(step.wake);
            self.plan.rollout = Some(step.status);
        }
    }

    /// The replicas that are wanted, and for a system group the robot of each.
    fn homes(
        &mut self,
        replicas: &BTreeMap<i32, Replica<'_>>,
        robots: &[Candidate],
    ) -> BTreeMap<i32, Option<String>> {
        if self.group.kind != JobType::System {
            return (0..self.group.count).map(|index| (index, None)).collect();
        }
        let mut waiting: BTreeSet<&str> = self
            .fitting(robots)
            .iter()
            .map(|index| &robots[*index])
            .filter(|robot| !robot.draining)
            .map(|robot| robot.name.as_str())
            .collect();
        let mut homes = BTreeMap::new();
        for (index, replica) in replicas {
            let robot = replica.counting(self.group.tasks).and_then(Run::robot);
            if let Some(robot) = robot.filter(|robot| waiting.remove(robot)) {
                homes.insert(*index, Some(robot.to_owned()));
            }
        }
        // A robot that may be given nothing new keeps what it has, and gets no new replica.
        let mut free = (0..).filter(|index| !replicas.contains_key(index));
        for robot in waiting {
            let open = place_of(robot, robots).is_some_and(|index| robots[index].open);
            if let Some(index) = free.next().filter(|_| open) {
                homes.insert(index, Some(robot.to_owned()));
            }
        }
        homes
    }

    /// Stops everything that has not ended.
    fn cancel(&mut self, replicas: &BTreeMap<i32, Replica<'_>>) {
        for replica in replicas.values() {
            let counting = replica.counting(self.group.tasks).map(|run| run.attempt);
            for run in &replica.runs {
                for task in &run.tasks {
                    if counting == Some(run.attempt) {
                        self.plan.tally.count(task.state);
                    }
                    if !task.state.is_terminal() && !task.leaving {
                        self.plan.cancel.push(task.name.clone());
                    }
                }
            }
        }
    }

    /// Deletes all tasks of some runs.
    fn remove<'b>(&mut self, runs: impl Iterator<Item = &'b Run<'b>>) {
        for task in runs.flat_map(|run| &run.tasks).filter(|task| !task.leaving) {
            self.plan.delete.push(task.name.clone());
        }
    }

    /// How the edit goes on, as far as what runs is concerned: what is next is deleted here, and
    /// made anew once it is gone.
    fn roll(
        &mut self,
        replicas: &BTreeMap<i32, Replica<'_>>,
        homes: &BTreeMap<i32, Option<String>>,
    ) -> Option<Step> {
        let expected = self.group.tasks;
        let mut units = Vec::with_capacity(homes.len());
        let mut runs = Vec::with_capacity(homes.len());
        for index in homes.keys() {
            let run = replicas
                .get(index)
                .and_then(|replica| replica.counting(expected));
            let health = match run.map(|run| run.standing(expected)) {
                Some(Standing::Completed) => Health::Done,
                Some(Standing::Failed(_)) => Health::Failed,
                Some(Standing::Live) => run
                    .and_then(|run| run.running(expected))
                    .map_or(Health::Starting, Health::Running),
                _ => Health::Starting,
            };
            units.push(Unit {
                revision: run
                    .filter(|run| run.standing(expected) != Standing::Leaving)
                    .and_then(Run::revision),
                health,
                since: run.map_or(self.now, Run::made),
            });
            runs.push(run);
        }
        let rollout = Rollout {
            policy: self.group.update,
            latest: self.group.latest,
            stable: self.group.stable,
            before: self.group.rollout,
        };
        let step = rollout.step(&units, self.now);
        for index in &step.change {
            // What a batch has done is done; a service runs the new version all the same.
            let done = units[*index].health == Health::Done && self.group.kind == JobType::Batch;
            if let Some(run) = runs[*index].filter(|_| !done) {
                self.remove(std::iter::once(run));
            }
        }
        Some(step)
    }

    /// Sees to one replica that is wanted.
    fn tend(
        &mut self,
        replica: &Replica<'_>,
        home: Option<&str>,
        towards: Towards,
        robots: &mut [Candidate],
    ) {
        let expected = self.group.tasks;
        let Some(run) = replica.counting(expected) else {
            self.place(replica, home, towards, robots);
            return;
        };
        for task in &run.tasks {
            self.plan.tally.count(task.state);
        }
        let standing = run.standing(expected);
        match standing {
            Standing::Live => {
                // Whatever else there is of it was a replacement, and is not needed any more.
                self.remove(
                    replica
                        .runs
                        .iter()
                        .filter(|other| other.attempt > run.attempt),
                );
                self.watch(replica, run, robots);
            }
            Standing::Completed => {
                self.remove(
                    replica
                        .runs
                        .iter()
                        .filter(|other| other.attempt != run.attempt),
                );
            }
            Standing::Lost => {
                self.plan.settled = false;
                if self.action() == DisconnectAction::Replace {
                    self.place(replica, home, towards, robots);
                }
            }
            Standing::Leaving => self.plan.settled = false,
            Standing::Failed(_) => self.retry(replica, run, home, towards, robots),
        }
    }

    /// A run that is alive: is its robot, and may it stay there?
    fn watch(&mut self, replica: &Replica<'_>, run: &Run<'_>, robots: &[Candidate]) {
        let Some(name) = run.robot() else { return };
        let robot = place_of(name, robots).map(|index| &robots[index]);
        let draining = robot.is_none_or(|robot| robot.draining);
        let gone = match robot {
            // A robot that was deleted is gone as long as it takes.
            None => Some(run.made()),
            Some(robot) if robot.phase == RobotPhase::Offline => self.group.gone.get(name).copied(),
            Some(_) => None,
        };
        let open = run.tasks.iter().filter(|task| !task.state.is_terminal());
        if let Some(since) =
            gone.filter(|_| robot.is_none() || self.action() != DisconnectAction::Keep)
        {
            let after = self.group.disconnect.and_then(|policy| policy.after);
            let due = later(since, after.map_or(AFTER, |after| after.0));
            if due <= self.now {
                self.plan.lose.extend(open.map(|task| task.name.clone()));
                self.plan.settled = false;
            } else {
                self.wake(Some(due));
            }
        } else if draining && robot.is_some() && self.find(replica, robots).is_some() {
            // It is started elsewhere once it is gone here.
            self.remove(std::iter::once(run));
            self.plan.settled = false;
        }
    }

    /// A run has failed: try it again, or leave it at that.
    fn retry(
        &mut self,
        replica: &Replica<'_>,
        run: &Run<'_>,
        home: Option<&str>,
        towards: Towards,
        robots: &mut [Candidate],
    ) {
        // What else there is of it is no use alone.
        let rest = run
            .tasks
            .iter()
            .filter(|task| !task.state.is_terminal() && !task.leaving);
        self.plan.cancel.extend(rest.map(|task| task.name.clone()));
        let failures = replica.failures(self.group.tasks);
        match again(self.group.reschedule, self.group.kind, &failures) {
            Again::Never => {}
            Again::At(when) if when > self.now => {
                self.plan.settled = false;
                self.wake(Some(when));
            }
            Again::At(_) => {
                let surplus = replica.runs.len().saturating_sub(HISTORY);
                self.remove(replica.runs.iter().take(surplus));
                self.place(replica, home, towards, robots);
            }
        }
    }

    /// Starts a replica somewhere, or says that it waits.
    fn place(
        &mut self,
        replica: &Replica<'_>,
        home: Option<&str>,
        towards: Towards,
        robots: &mut [Candidate],
    ) {
        self.plan.settled = false;
        // The next attempt waits until nothing of one that is being taken away is left.
        if replica
            .runs
            .iter()
            .any(|run| run.tasks.iter().any(|task| task.leaving))
        {
            return;
        }
        let found = match home {
            Some(home) => {
                place_of(home, robots).filter(|index| robots[*index].takes(self.group.need))
            }
            None => self.find(replica, robots),
        };
        let Some(index) = found else {
            self.plan.unplaced += 1;
            return;
        };
        let robot = &mut robots[index];
        robot.take(self.group.need);
        self.on[index] += 1;
        self.plan.start.push(Start {
            replica: replica.index,
            attempt: replica.next_attempt(),
            robot: robot.name.clone(),
            towards,
        });
    }

    /// The robots that fit, whether there or not.
    fn fitting(&mut self, robots: &[Candidate]) -> &[usize] {
        let wish = &self.group.wish;
        self.fitting.get_or_insert_with(|| {
            let all = 0..robots.len();
            all.filter(|index| wish.fits(&robots[*index])).collect()
        })
    }

    /// The best robot for a replica; one where it failed, or is lost, comes last.
    fn find(&mut self, replica: &Replica<'_>, robots: &[Candidate]) -> Option<usize> {
        let avoid = replica.runs.iter().filter_map(Run::robot);
        let avoid: Vec<usize> = avoid.filter_map(|robot| place_of(robot, robots)).collect();
        let mut line = match self.line.take() {
            Some(line) => line,
            None => {
                self.fitting(robots);
                let fitting = self.fitting.as_deref().unwrap_or_default();
                Line::of(fitting, robots, &self.on, self.group.need)
            }
        };
        let found = line.first(robots, &self.on, &avoid);
        self.line = Some(line);
        found
    }

    fn action(&self) -> DisconnectAction {
        self.group
            .disconnect
            .and_then(|policy| policy.action)
            .unwrap_or_default()
    }

    fn wake(&mut self, when: Option<Timestamp>) {
        let Some(when) = when else { return };
        self.plan.wake = Some(self.plan.wake.map_or(when, |known| known.min(when)));
    }
}
