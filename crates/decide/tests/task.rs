//! The life of a task.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use sandlot_api::arl::SandboxPhase;
use sandlot_decide::task::{Course, Ending, Next, SandboxView, Start, start};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn a_task_waits_for_its_sandbox_and_for_earlier_tasks() {
    let ready = SandboxView::Standing(SandboxPhase::Ready);
    assert_eq!(start("s", ready, false, false), Start::Now);
    assert_eq!(start("s", ready, true, false), Start::Queue);
    for (view, words) in [
        (SandboxView::Missing, "does not exist yet"),
        (
            SandboxView::Standing(SandboxPhase::Pending),
            "no pod ready yet",
        ),
    ] {
        let Start::Wait(why) = start("s", view, true, false) else {
            panic!("{view:?}");
        };
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn a_task_whose_sandbox_is_over_fails_with_a_reason() {
    for (view, started, words) in [
        (
            SandboxView::Standing(SandboxPhase::Failed),
            false,
            "its pod is lost",
        ),
        (
            SandboxView::Standing(SandboxPhase::Released),
            false,
            "released",
        ),
        (SandboxView::Leaving, false, "being removed"),
        (SandboxView::Missing, true, "while the task was running"),
    ] {
        let Start::Never(why) = start("s", view, false, started) else {
            panic!("{view:?}");
        };
        assert!(why.contains(words), "{why}");
    }
}

#[test]
fn steps_run_in_order_and_the_first_failure_stops() {
    let mut course = Course::new(vec![None; 3], None, 0, at(0));
    let Next::Run { step: 0, limit, .. } = course.next(at(0)) else {
        panic!()
    };
    assert_eq!(limit, seconds(30), "the documented default");
    course.ended(Ending::Exited(0).report());
    assert!(matches!(course.next(at(1)), Next::Run { step: 1, .. }));
    course.ended(Ending::Exited(2).report());
    assert_eq!(course.next(at(2)), Next::Done { succeeded: false });
}

#[test]
fn a_step_gets_what_is_left_of_the_task_and_no_more_than_its_own() {
    let mut course = Course::new(
        vec![Some(seconds(5)), Some(seconds(50)), None],
        Some(seconds(60)),
        0,
        at(0),
    );
    let limit = |next| match next {
        Next::Run { limit, .. } => limit.as_secs(),
        other => panic!("{other:?}"),
    };
    assert_eq!(limit(course.next(at(0))), 5);
    course.ended(Ending::Exited(0).report());
    assert_eq!(limit(course.next(at(5))), 50);
    course.ended(Ending::Exited(0).report());
    assert_eq!(limit(course.next(at(50))), 10);
    assert_eq!(
        course.next(at(60)),
        Next::OutOfTime {
            step: 2,
            limit: seconds(60)
        }
    );
}

#[test]
fn a_failed_attempt_starts_over_as_often_as_asked_with_the_whole_time_again() {
    let mut course = Course::new(vec![None], Some(seconds(10)), 2, at(0));
    for (attempt, wait) in [(0, 1), (1, 2)] {
        assert!(
            matches!(course.next(at(20 * attempt)), Next::Run { attempt: a, .. } if i64::from(a) == attempt)
        );
        course.ended(Ending::TimedOut(seconds(10)).report());
        assert_eq!(
            course.next(at(20 * attempt + 10)),
            Next::Retry {
                wait: seconds(wait)
            }
        );
        course.retry(at(20 * (attempt + 1)));
    }
    course.ended(Ending::Exited(1).report());
    assert_eq!(course.next(at(41)), Next::Done { succeeded: false });
}

proptest! {
    #[test]
    fn no_step_is_named_twice_in_one_attempt_and_every_course_ends(
        codes in prop::collection::vec(0i32..3, 1..40), steps in 1usize..6, retries in 0u32..4,
    ) {
        let mut course = Course::new(vec![None; steps], Some(seconds(1_000)), retries, at(0));
        let mut codes = codes.into_iter().chain(std::iter::repeat(0));
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            match course.next(at(0)) {
                Next::Run { step, attempt, .. } => {
                    prop_assert!(seen.insert((attempt, step)), "step {} of attempt {} again", step, attempt);
                    course.ended(Ending::Exited(codes.next().unwrap()).report());
                }
                Next::Retry { .. } => course.retry(at(0)),
                Next::Done { .. } => return Ok(()),
                Next::OutOfTime { .. } => prop_assert!(false, "no time passed"),
            }
        }
        prop_assert!(false, "it never ended");
    }
}
