//! The table of a task's states: whatever comes in whatever order, an end stays an end.

use jiff::Timestamp;
use proptest::prelude::*;
use sandlot_api::robot::{TaskState, TaskStatus, wire::TaskReport};
use sandlot_decide::robots::course::{Number, apply, follows, rank};

const STATES: [TaskState; 13] = [
    TaskState::Pending,
    TaskState::Dispatching,
    TaskState::Accepted,
    TaskState::Downloading,
    TaskState::Starting,
    TaskState::Running,
    TaskState::Stopping,
    TaskState::Exited,
    TaskState::Lost,
    TaskState::Completed,
    TaskState::Failed,
    TaskState::Cancelled,
    TaskState::Rejected,
];

fn state() -> impl Strategy<Value = TaskState> {
    prop::sample::select(STATES.to_vec())
}

fn report(state: TaskState) -> TaskReport {
    TaskReport {
        state,
        event: Some(state.name().to_owned()),
        ..TaskReport::default()
    }
}

fn in_state(state: TaskState) -> TaskStatus {
    TaskStatus {
        state: Some(state),
        ..TaskStatus::default()
    }
}

proptest! {
    #[test]
    fn an_end_is_final(from in state(), to in state(), again in any::<bool>()) {
        if from.is_terminal() {
            prop_assert!(!follows(from, to, again));
        }
    }

    #[test]
    fn without_a_restart_a_task_only_gets_further(from in state(), to in state()) {
        let next = apply(&in_state(from), &report(to), None, Timestamp::UNIX_EPOCH);
        if let Some(state) = next.and_then(|next| next.state) {
            prop_assert!(rank(state) >= rank(from), "{from:?} {to:?}");
        }
    }

    #[test]
    fn duplicates_and_shuffles_come_to_the_same_end(
        reports in prop::collection::vec(state(), 1..12),
        order in any::<u64>(),
    ) {
        // What a robot says has numbers; the same may come twice, and older after newer.
        let end = |sequence: &[usize]| {
            let mut status = TaskStatus::default();
            for index in sequence {
                let number = Number { spool: "s", sequence: *index as i64 + 1 };
                let said = report(reports[*index]);
                if let Some(next) = apply(&status, &said, Some(number), Timestamp::UNIX_EPOCH) {
                    status = next;
                }
            }
            status
        };
        let straight: Vec<usize> = (0..reports.len()).collect();
        let mut doubled = straight.clone();
        // Each is said again at some later point.
        for index in &straight {
            let place = (order as usize).wrapping_mul(index + 7) % (doubled.len() - index) + index + 1;
            doubled.insert(place.min(doubled.len()), *index);
        }
        let mut seen = std::collections::BTreeSet::new();
        let first_come_in_order = doubled.iter().filter(|index| seen.insert(**index)).is_sorted();
        if first_come_in_order {
            prop_assert_eq!(end(&straight), end(&doubled));
        }
    }
}

#[test]
fn a_restart_may_go_back_to_starting() {
    let mut again = report(TaskState::Starting);
    again.restart_count = Some(1);
    let next = apply(
        &in_state(TaskState::Running),
        &again,
        None,
        Timestamp::UNIX_EPOCH,
    )
    .unwrap();
    assert_eq!(
        (next.state, next.restart_count),
        (Some(TaskState::Starting), Some(1))
    );
    assert!(
        apply(
            &in_state(TaskState::Running),
            &report(TaskState::Starting),
            None,
            Timestamp::UNIX_EPOCH
        )
        .is_none()
    );
}

#[test]
fn a_lost_task_that_is_heard_of_again_is_found() {
    let next = apply(
        &in_state(TaskState::Lost),
        &report(TaskState::Running),
        None,
        Timestamp::UNIX_EPOCH,
    );
    assert_eq!(next.unwrap().state, Some(TaskState::Running));
}

#[test]
fn output_is_kept_from_its_end_and_in_whole_characters() {
    let mut said = report(TaskState::Completed);
    said.stdout = Some("ä".repeat(4000));
    let next = apply(&TaskStatus::default(), &said, None, Timestamp::UNIX_EPOCH).unwrap();
    assert!(next.logs_stdout.unwrap().len() <= 5 * 1024);
    assert!(next.logs.unwrap().ends_with('ä'));
}
