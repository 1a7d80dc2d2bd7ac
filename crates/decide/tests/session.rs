//! How sessions go on.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use sandlot_decide::session::{
    ExecutionStatus, Facts, Limits, SessionStatus, SessionStatus::*, Verdict, judge,
};

const ALL: [SessionStatus; 6] = [Creating, Running, Completed, Failed, Timeout, Terminated];

fn limits() -> Limits {
    Limits {
        idle: Some(Duration::from_secs(1800)),
        lifetime: Some(Duration::from_secs(6 * 3600)),
        creating: Duration::from_secs(300),
    }
}

fn facts(status: SessionStatus, created: i64, active: i64, busy: bool) -> Facts {
    let at = |second| Timestamp::from_second(second).unwrap();
    Facts {
        status,
        created: at(created),
        active: at(active),
        busy,
    }
}

fn judged(facts: Facts, now: i64) -> Verdict {
    judge(&facts, &limits(), Timestamp::from_second(now).unwrap())
}

#[test]
fn names_are_read_as_they_are_written() {
    for status in ALL {
        assert_eq!(SessionStatus::parse(status.as_str()), Some(status));
    }
    assert_eq!(SessionStatus::parse("Running"), None);
    assert_eq!(
        ExecutionStatus::parse("crashed"),
        Some(ExecutionStatus::Crashed)
    );
}

#[test]
fn nothing_that_has_ended_comes_back() {
    for ended in [Completed, Failed, Timeout, Terminated] {
        for next in [Creating, Running] {
            assert!(!ended.may_become(next), "{ended:?} → {next:?}");
        }
    }
    assert!(Creating.may_become(Running) && !Running.may_become(Creating));
    assert!(
        ALL.iter()
            .filter(|s| **s != Terminated)
            .all(|s| s.may_become(Terminated))
    );
}

#[test]
fn a_session_goes_when_it_is_idle_old_or_stuck() {
    assert_eq!(judged(facts(Running, 0, 0, false), 1800), Verdict::Stays);
    assert_eq!(judged(facts(Running, 0, 0, false), 1801), Verdict::Idle);
    assert_eq!(judged(facts(Running, 0, 1000, false), 1801), Verdict::Stays);
    assert_eq!(judged(facts(Running, 0, 0, false), 21601), Verdict::Old);
    assert_eq!(judged(facts(Creating, 0, 0, false), 301), Verdict::Stuck);
    let nothing = Limits {
        idle: None,
        lifetime: None,
        creating: Duration::from_secs(300),
    };
    let now = Timestamp::MAX - SignedDuration::from_secs(1);
    assert_eq!(
        judge(&facts(Running, 0, 0, false), &nothing, now),
        Verdict::Stays
    );
}

proptest! {
    #[test]
    fn who_is_busy_is_never_idle(created in 0i64..1_000_000, idle in 0i64..1_000_000) {
        let verdict = judged(facts(Running, created, created, true), created + idle);
        prop_assert!(verdict == Verdict::Stays || (verdict == Verdict::Old && idle > 6 * 3600));
    }

    #[test]
    fn what_has_ended_is_left_alone(status in 2usize..6, now in 0i64..10_000_000) {
        prop_assert_eq!(judged(facts(ALL[status], 0, 0, false), now), Verdict::Stays);
    }
}
