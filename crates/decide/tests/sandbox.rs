//! The life of a sandbox.

use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use sandlot_api::arl::SandboxPhase;
use sandlot_decide::sandbox::{Facts, Limits, PodView, Tasks, Visit, Wait, judge};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn seconds(seconds: u64) -> Option<Duration> {
    Some(Duration::from_secs(seconds))
}

fn ready() -> Facts {
    Facts {
        made: at(0),
        limits: Limits {
            keep_alive: true,
            idle: seconds(3600),
            grace: Duration::from_secs(30),
            lifetime: None,
        },
        phase: Some(SandboxPhase::Ready),
        pod: PodView::Ready,
        allocated: Some(at(0)),
        tasks: Tasks::default(),
        visit: None,
    }
}

#[test]
fn a_sandbox_is_bound_while_a_task_runs_and_ready_otherwise() {
    let mut facts = ready();
    assert_eq!(judge(&facts, at(1)).phase, SandboxPhase::Ready);
    facts.tasks.running = true;
    assert_eq!(judge(&facts, at(1)).phase, SandboxPhase::Bound);
}

#[test]
fn waiting_says_what_for() {
    let pool = "python-pool".to_owned();
    for (wait, reason, words) in [
        (
            Wait::NoPool { pool: pool.clone() },
            "PoolNotFound",
            "no WarmPool \"python-pool\"",
        ),
        (
            Wait::PoolStopped { pool: pool.clone() },
            "PoolStopped",
            "scaled to zero",
        ),
        (
            Wait::PoolEmpty {
                pool,
                starting: 2,
                ahead: 1,
                trouble: Some("image not found".into()),
            },
            "PoolEmpty",
            "2 starting, 1 wanted by others who came first; its pods fail: image not found",
        ),
    ] {
        let facts = Facts {
            pod: PodView::Waiting(wait),
            phase: None,
            allocated: None,
            ..ready()
        };
        let verdict = judge(&facts, at(100_000));
        assert_eq!(
            (verdict.phase, verdict.reason),
            (SandboxPhase::Pending, reason)
        );
        assert!(verdict.message.contains(words), "{}", verdict.message);
        assert!(!verdict.end, "a sandbox that waits is not idle");
    }
}

#[test]
fn a_lost_pod_fails_the_sandbox_for_good() {
    let mut facts = ready();
    facts.pod = PodView::Lost("pod p was deleted".into());
    assert_eq!(judge(&facts, at(1)).phase, SandboxPhase::Failed);
    facts.phase = Some(SandboxPhase::Failed);
    facts.pod = PodView::Ready;
    assert_eq!(judge(&facts, at(1)).phase, SandboxPhase::Failed);
}

#[test]
fn a_sandbox_that_never_ran_anything_expires_too() {
    let verdict = judge(&ready(), at(3599));
    assert_eq!((verdict.end, verdict.again), (false, Some(at(3600))));
    let verdict = judge(&ready(), at(3600));
    assert_eq!((verdict.end, verdict.reason), (true, "IdleTooLong"));
}

#[test]
fn idle_time_counts_from_the_last_task() {
    let mut facts = ready();
    facts.tasks.last_ended = Some(at(3000));
    assert_eq!(judge(&facts, at(3600)).again, Some(at(6600)));
}

#[test]
fn idle_time_counts_from_the_last_visit_and_not_while_one_lasts() {
    let mut facts = ready();
    facts.limits.idle = seconds(60);
    let visit = |last, lasts| {
        Some(Visit {
            last: at(last),
            lasts,
        })
    };
    facts.visit = visit(50, false);
    assert_eq!(judge(&facts, at(100)).again, Some(at(110)));
    assert!(judge(&facts, at(110)).end);
    facts.visit = visit(100, true);
    assert_eq!(judge(&facts, at(129)).again, Some(at(130)));
    facts.limits.idle = seconds(5);
    assert!(!judge(&facts, at(129)).end, "somebody is in it");
    assert!(judge(&facts, at(130)).end, "whoever told of it is gone");
    facts.limits.idle = seconds(60);
    facts.visit = visit(1_000_000, false);
    assert_eq!(
        judge(&facts, at(100)).again,
        Some(at(160)),
        "from a clock that is ahead"
    );
}

#[test]
fn without_keep_alive_a_second_task_has_a_grace_to_arrive() {
    let mut facts = ready();
    facts.limits.keep_alive = false;
    assert!(
        !judge(&facts, at(100)).end,
        "before any task it waits for one"
    );
    facts.tasks.last_ended = Some(at(100));
    assert_eq!(judge(&facts, at(129)).again, Some(at(130)));
    facts.tasks.waiting = true;
    assert!(!judge(&facts, at(131)).end, "the second task has arrived");
    facts.tasks.waiting = false;
    let verdict = judge(&facts, at(130));
    assert_eq!((verdict.end, verdict.reason), (true, "TasksDone"));
}

#[test]
fn a_lifetime_ends_even_a_busy_sandbox() {
    let mut facts = ready();
    facts.limits.lifetime = seconds(50);
    facts.tasks.running = true;
    let verdict = judge(&facts, at(50));
    assert_eq!((verdict.end, verdict.reason), (true, "LifetimeOver"));
}

proptest! {
    #[test]
    fn a_busy_sandbox_ends_only_by_its_lifetime(
        now in 0i64..10_000, idle in 0u64..100, grace in 0u64..100, last in 0i64..10_000,
        running: bool, waiting: bool, keep_alive: bool, visit in prop::option::of((0i64..10_000, any::<bool>())),
    ) {
        let mut facts = ready();
        facts.limits = Limits { keep_alive, idle: seconds(idle), grace: Duration::from_secs(grace), lifetime: None };
        facts.tasks = Tasks { running, waiting, last_ended: Some(at(last)) };
        facts.visit = visit.map(|(last, lasts)| Visit { last: at(last), lasts });
        let is_visited = visit.is_some_and(|(last, lasts)| lasts && last + 30 > now);
        let verdict = judge(&facts, at(now));
        if running || waiting || is_visited {
            prop_assert!(!verdict.end);
        }
        // Whoever is told to look again later is not told to look in the past.
        prop_assert!(verdict.again.is_none_or(|again| again > at(now)));
        prop_assert_eq!(verdict.end, verdict.phase == SandboxPhase::Released);
    }
}
