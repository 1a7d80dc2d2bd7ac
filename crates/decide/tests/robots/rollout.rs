//! How an edit reaches what runs.

use jiff::Timestamp;
use proptest::prelude::*;
use sandlot_api::{
    GoDuration,
    robot::{RolloutState, RolloutStatus, UpdatePolicy},
};
use sandlot_decide::robots::rollout::{Health, Rollout, Step, Towards, Unit};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn unit(revision: &str, health: Health) -> Unit<'_> {
    Unit {
        revision: Some(revision),
        health,
        since: at(0),
    }
}

fn step(
    policy: &UpdatePolicy,
    before: Option<&RolloutStatus>,
    units: &[Unit<'_>],
    now: i64,
) -> Step {
    Rollout {
        policy,
        latest: "new",
        stable: Some("old"),
        before,
    }
    .step(units, at(now))
}

#[test]
fn so_many_at_a_time_and_only_while_they_are_healthy() {
    let policy = UpdatePolicy {
        max_parallel: Some(2),
        ..UpdatePolicy::default()
    };
    let old = unit("old", Health::Running(at(0)));
    let units = vec![old.clone(); 4];
    assert_eq!(step(&policy, None, &units, 100).change, [0, 1]);
    let young = unit("new", Health::Running(at(95)));
    let units = [young.clone(), young, old.clone(), old.clone()];
    let waits = step(&policy, None, &units, 100);
    assert!(waits.change.is_empty());
    assert_eq!(waits.wake, Some(at(105)));
    assert_eq!(step(&policy, None, &units, 106).change, [2, 3]);
}

#[test]
fn canaries_wait_to_be_promoted() {
    let mut policy = UpdatePolicy {
        canary: Some(1),
        max_parallel: Some(3),
        ..UpdatePolicy::default()
    };
    let old = unit("old", Health::Running(at(0)));
    assert_eq!(step(&policy, None, &vec![old.clone(); 3], 100).change, [0]);
    let between = Unit {
        revision: None,
        health: Health::Starting,
        since: at(100),
    };
    let units = [between, old.clone(), old.clone()];
    assert!(
        step(&policy, None, &units, 100).change.is_empty(),
        "the one that is on its way is the canary"
    );
    let units = [
        unit("new", Health::Running(at(0))),
        old.clone(),
        old.clone(),
    ];
    let held = step(&policy, None, &units, 100);
    assert_eq!(held.status.state, RolloutState::AwaitingPromotion);
    assert!(held.change.is_empty());
    policy.promote = Some(true);
    assert_eq!(step(&policy, None, &units, 100).change, [1, 2]);
}

#[test]
fn too_many_failures_end_it_and_lead_back() {
    let mut policy = UpdatePolicy {
        max_parallel: Some(1),
        ..UpdatePolicy::default()
    };
    let units = [
        unit("new", Health::Failed),
        unit("old", Health::Running(at(0))),
    ];
    let aborted = step(&policy, None, &units, 10);
    assert_eq!(
        (aborted.status.state, aborted.towards),
        (RolloutState::Aborted, Towards::Stable)
    );
    assert!(aborted.change.is_empty());
    policy.auto_revert = Some(true);
    let reverted = step(&policy, None, &units, 10);
    assert_eq!(reverted.status.state, RolloutState::Reverted);
    assert_eq!(
        reverted.change,
        [0],
        "what has the bad version gets the good one back"
    );
    let back = [unit("old", Health::Running(at(11))), units[1].clone()];
    let after = step(&policy, Some(&reverted.status), &back, 20);
    assert_eq!(
        after.status.state,
        RolloutState::Reverted,
        "it is not tried again by itself"
    );
    assert!(after.change.is_empty());
}

#[test]
fn one_that_never_becomes_healthy_has_failed() {
    let policy = UpdatePolicy {
        healthy_deadline: Some("60s".parse::<GoDuration>().unwrap()),
        ..UpdatePolicy::default()
    };
    let units = [
        unit("new", Health::Starting),
        unit("old", Health::Running(at(0))),
    ];
    assert_eq!(
        step(&policy, None, &units, 59).status.state,
        RolloutState::Progressing
    );
    assert_eq!(
        step(&policy, None, &units, 60).status.state,
        RolloutState::Aborted
    );
}

#[test]
fn a_paused_rollout_changes_nothing() {
    let policy = UpdatePolicy {
        paused: Some(true),
        ..UpdatePolicy::default()
    };
    let paused = step(&policy, None, &[unit("old", Health::Running(at(0)))], 10);
    assert_eq!(paused.status.state, RolloutState::Paused);
    assert!(paused.change.is_empty());
}

proptest! {
    /// Whatever is broken, never more than allowed are being changed or broken at once.
    #[test]
    fn no_more_are_down_than_allowed(
        kinds in prop::collection::vec(0u8..5, 1..20),
        parallel in 1i32..5,
        threshold in 0i32..100,
    ) {
        let policy = UpdatePolicy {
            max_parallel: Some(parallel),
            abort_threshold_percent: Some(threshold),
            ..UpdatePolicy::default()
        };
        let units: Vec<Unit<'_>> = kinds.iter().map(|kind| match kind {
            0 => unit("old", Health::Running(at(0))),
            1 => unit("new", Health::Starting),
            2 => unit("new", Health::Failed),
            4 => Unit { revision: None, health: Health::Starting, since: at(0) },
            _ => unit("new", Health::Running(at(0))),
        }).collect();
        let down = kinds.iter().filter(|kind| matches!(kind, 1 | 2 | 4)).count();
        let next = step(&policy, None, &units, 30);
        prop_assert!(next.change.is_empty() || down + next.change.len() <= parallel as usize);
        for index in next.change {
            prop_assert_eq!(kinds[index], 0);
        }
    }
}
