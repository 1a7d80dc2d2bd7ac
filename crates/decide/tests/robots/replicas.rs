//! What is done about a group's replicas, as robots come, fail and go.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use sandlot_api::robot::{
    DisconnectAction, DisconnectPolicy, JobType, ReschedulePolicy, RobotPhase, TaskState,
    UpdatePolicy,
};
use sandlot_decide::robots::{
    placement::{Candidate, Load, Wish},
    replicas::{Group, Plan, TaskFact, plan},
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn robot(name: &str) -> Candidate {
    Candidate {
        name: name.to_owned(),
        phase: RobotPhase::Online,
        open: true,
        ..Candidate::default()
    }
}

fn task(replica: i32, attempt: i64, robot: &str, state: TaskState) -> TaskFact {
    TaskFact {
        name: format!("t-{replica}-{attempt}"),
        replica,
        attempt,
        robot: Some(robot.to_owned()),
        revision: "new".to_owned(),
        state,
        leaving: false,
        made: at(0),
        started: Some(at(0)),
        finished: state.is_terminal().then(|| at(1)),
    }
}

/// What a test says of a group; the rest is usual.
#[derive(Clone, Default)]
struct Said {
    kind: JobType,
    count: i32,
    cancelled: bool,
    reschedule: Option<ReschedulePolicy>,
    disconnect: Option<DisconnectPolicy>,
    gone: BTreeMap<String, Timestamp>,
}

fn decide(said: &Said, facts: &[TaskFact], robots: &mut [Candidate], now: i64) -> Plan {
    let (selector, drivers) = (BTreeMap::new(), BTreeSet::new());
    let group = Group {
        kind: said.kind,
        count: said.count,
        tasks: 1,
        need: Load::default(),
        wish: Wish {
            selector: &selector,
            constraints: &[],
            drivers: &drivers,
        },
        cancelled: said.cancelled,
        reschedule: said.reschedule.as_ref(),
        disconnect: said.disconnect.as_ref(),
        update: &UpdatePolicy::default(),
        latest: "new",
        stable: None,
        rollout: None,
        gone: &said.gone,
    };
    plan(&group, facts, robots, at(now))
}

fn replace() -> Option<DisconnectPolicy> {
    Some(DisconnectPolicy {
        action: Some(DisconnectAction::Replace),
        after: Some("60s".parse().unwrap()),
    })
}

#[test]
fn replicas_are_on_distinct_robots_while_there_are_any() {
    let said = Said {
        count: 5,
        ..Said::default()
    };
    let mut robots = [robot("a"), robot("b"), robot("c")];
    let plan = decide(&said, &[], &mut robots, 0);
    let mut counts = BTreeMap::new();
    for start in &plan.start {
        *counts.entry(start.robot.as_str()).or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([("a", 2), ("b", 2), ("c", 1)]));
}

#[test]
fn a_cordoned_or_silent_robot_gets_nothing() {
    let said = Said {
        count: 1,
        ..Said::default()
    };
    let mut robots = [robot("a"), robot("b")];
    robots[0].open = false;
    robots[1].phase = RobotPhase::Offline;
    let plan = decide(&said, &[], &mut robots, 0);
    assert_eq!((plan.start.len(), plan.unplaced, plan.fitting), (0, 1, 2));
}

#[test]
fn work_leaves_a_drained_robot_when_another_fits() {
    let said = Said {
        count: 1,
        ..Said::default()
    };
    let facts = [task(0, 0, "a", TaskState::Running)];
    let mut robots = [robot("a")];
    (robots[0].draining, robots[0].open) = (true, false);
    assert!(decide(&said, &facts, &mut robots, 10).delete.is_empty());
    let mut robots = [robots[0].clone(), robot("b")];
    assert_eq!(decide(&said, &facts, &mut robots, 10).delete, ["t-0-0"]);
}

#[test]
fn what_happens_when_a_robot_is_gone_is_the_groups_choice() {
    let facts = [task(0, 0, "a", TaskState::Running)];
    let mut robots = [robot("a"), robot("b")];
    robots[0].phase = RobotPhase::Offline;
    let gone = BTreeMap::from([("a".to_owned(), at(0))]);
    let keep = Said {
        count: 1,
        gone: gone.clone(),
        ..Said::default()
    };
    let plan = decide(&keep, &facts, &mut robots.clone(), 1000);
    assert!(plan.lose.is_empty() && plan.start.is_empty());
    let said = Said {
        disconnect: replace(),
        ..keep
    };
    let early = decide(&said, &facts, &mut robots.clone(), 59);
    assert_eq!((early.lose.len(), early.wake), (0, Some(at(60))));
    let late = decide(&said, &facts, &mut robots.clone(), 60);
    assert_eq!(late.lose, ["t-0-0"]);
    let lost = [task(0, 0, "a", TaskState::Lost)];
    let plan = decide(&said, &lost, &mut robots, 61);
    assert_eq!(
        (plan.start[0].robot.as_str(), plan.start[0].attempt),
        ("b", 1)
    );
}

#[test]
fn a_returning_robots_running_work_wins() {
    let said = Said {
        count: 1,
        disconnect: replace(),
        ..Said::default()
    };
    let facts = [
        task(0, 0, "a", TaskState::Running),
        task(0, 1, "b", TaskState::Running),
    ];
    let mut robots = [robot("a"), robot("b")];
    let plan = decide(&said, &facts, &mut robots, 100);
    assert_eq!(plan.delete, ["t-0-1"]);
    assert!(plan.start.is_empty());
}

#[test]
fn a_failed_replica_is_tried_elsewhere_within_its_budget() {
    let policy = ReschedulePolicy {
        attempts: Some(1),
        delay: Some("10s".parse().unwrap()),
        ..ReschedulePolicy::default()
    };
    let said = Said {
        count: 1,
        reschedule: Some(policy),
        ..Said::default()
    };
    let mut robots = [robot("a"), robot("b")];
    let once = [task(0, 0, "a", TaskState::Failed)];
    let early = decide(&said, &once, &mut robots.clone(), 5);
    assert_eq!(
        (early.start.len(), early.wake, early.settled),
        (0, Some(at(11)), false)
    );
    let due = decide(&said, &once, &mut robots.clone(), 11);
    assert_eq!(
        (due.start[0].robot.as_str(), due.start[0].attempt),
        ("b", 1)
    );
    let twice = [once[0].clone(), task(0, 1, "b", TaskState::Failed)];
    let over = decide(&said, &twice, &mut robots, 100);
    assert!(over.start.is_empty() && over.settled);
}

#[test]
fn a_system_group_is_on_every_robot_that_fits_and_follows_them() {
    let said = Said {
        kind: JobType::System,
        count: 1,
        ..Said::default()
    };
    let mut robots = [robot("a"), robot("b")];
    let plan = decide(&said, &[], &mut robots.clone(), 0);
    let on: BTreeSet<_> = plan
        .start
        .iter()
        .map(|start| start.robot.as_str())
        .collect();
    assert_eq!(on, BTreeSet::from(["a", "b"]));
    let facts = [
        task(0, 0, "a", TaskState::Running),
        task(1, 0, "gone", TaskState::Running),
    ];
    let plan = decide(&said, &facts, &mut robots, 10);
    assert_eq!(plan.delete, ["t-1-0"]);
    assert_eq!(plan.start[0].robot, "b");
}

#[test]
fn a_cancelled_group_stops_what_runs_and_keeps_what_ended() {
    let said = Said {
        count: 2,
        cancelled: true,
        ..Said::default()
    };
    let facts = [
        task(0, 0, "a", TaskState::Running),
        task(1, 0, "b", TaskState::Completed),
    ];
    let plan = decide(&said, &facts, &mut [robot("a"), robot("b")], 10);
    assert_eq!(plan.cancel, ["t-0-0"]);
    assert!(plan.start.is_empty() && plan.delete.is_empty());
}

proptest! {
    /// However things stand, a replica that has a live attempt gets no other, none is made beyond
    /// the count, and the same is decided twice.
    #[test]
    fn nothing_is_started_twice(
        count in 1i32..6,
        states in prop::collection::vec((0i32..6, 0i64..3, 0usize..4, 0usize..6), 0..12),
        online in prop::collection::vec(any::<bool>(), 4),
    ) {
        let kinds = [
            TaskState::Pending, TaskState::Running, TaskState::Lost,
            TaskState::Completed, TaskState::Failed, TaskState::Cancelled,
        ];
        let names = ["a", "b", "c", "d"];
        let mut facts: Vec<TaskFact> = Vec::new();
        for (replica, attempt, on, kind) in states {
            if facts.iter().all(|fact| (fact.replica, fact.attempt) != (replica, attempt)) {
                facts.push(task(replica, attempt, names[on], kinds[kind]));
            }
        }
        let mut robots = names.map(robot);
        for (robot, online) in robots.iter_mut().zip(online) {
            robot.phase = if online { RobotPhase::Online } else { RobotPhase::Offline };
        }
        let said = Said { count, disconnect: replace(), ..Said::default() };
        let first = decide(&said, &facts, &mut robots.clone(), 100);
        prop_assert_eq!(&first, &decide(&said, &facts, &mut robots.clone(), 100));
        for start in &first.start {
            prop_assert!(start.replica < count);
            let alive = facts.iter().any(|fact| {
                fact.replica == start.replica
                    && matches!(fact.state, TaskState::Pending | TaskState::Running | TaskState::Completed)
            });
            prop_assert!(!alive, "replica {} has an attempt that is alive", start.replica);
            let is_new = facts
                .iter()
                .all(|fact| fact.replica != start.replica || fact.attempt != start.attempt);
            prop_assert!(is_new);
        }
    }
}
