use std::time::Duration;

use proptest::prelude::*;

use super::*;

const GRACE: Duration = Duration::from_secs(10);

fn at(millis: u64) -> Moment {
    Duration::from_millis(millis)
}

fn running(deadline: Option<Moment>) -> Life {
    let mut life = Life::new(GRACE, deadline);
    assert_eq!(life.on(Event::Began, at(0)), None);
    life
}

/// How a life ends when its tree goes now.
fn last(mut life: Life) -> End {
    assert_eq!(
        life.on(Event::TreeGone, at(20_000)),
        None,
        "the output comes first"
    );
    match life.on(Event::Drained, at(20_001)) {
        Some(Action::Finish(end)) => end,
        other => panic!("not over: {other:?}"),
    }
}

#[test]
fn a_command_that_ends_is_over_once_its_output_is_read() {
    let mut life = running(None);
    assert_eq!(life.on(Event::Ended(End::Exited(0)), at(5)), None);
    assert_eq!(
        life.on(Event::Drained, at(6)),
        Some(Action::Finish(End::Exited(0)))
    );
    assert!(life.is_over());
}

#[test]
fn a_command_out_of_time_is_asked_first_and_killed_after_the_grace() {
    let mut life = running(Some(at(100)));
    assert_eq!(life.on(Event::Clock, at(99)), None);
    assert_eq!(life.on(Event::Clock, at(100)), Some(Action::Terminate));
    assert_eq!(life.wake_at(), Some(at(10_100)));
    assert_eq!(
        life.on(Event::Ended(End::Exited(0)), at(200)),
        None,
        "its children may still be there"
    );
    assert_eq!(life.on(Event::Clock, at(10_100)), Some(Action::Kill));
    assert_eq!(last(life), End::TimedOut { killed: true });
}

#[test]
fn a_timeout_stays_a_timeout_whatever_code_the_command_ends_with() {
    let mut life = running(Some(at(100)));
    life.on(Event::Clock, at(100));
    life.on(Event::Ended(End::Exited(143)), at(101));
    assert_eq!(last(life), End::TimedOut { killed: false });
}

#[test]
fn a_keeper_that_vanishes_leaves_a_lost_run() {
    assert_eq!(last(running(None)), End::Lost);
}

#[test]
fn a_tree_that_cannot_be_killed_is_given_up_in_the_end() {
    let mut life = running(None);
    assert_eq!(
        life.on(Event::Kill(Cause::Asked), at(0)),
        Some(Action::Kill)
    );
    assert_eq!(
        life.on(Event::Clock, at(25)),
        Some(Action::Kill),
        "again, for what was forked meanwhile"
    );
    let late = KILL_PATIENCE + at(1);
    assert_eq!(life.on(Event::Clock, late), None);
    assert_eq!(
        life.on(Event::Drained, late),
        Some(Action::Finish(End::Stopped { killed: true }))
    );
}

#[test]
fn who_hangs_up_before_a_command_runs_is_heard_when_it_does() {
    let mut life = Life::new(GRACE, None);
    assert_eq!(life.on(Event::HangUp, at(0)), None);
    assert_eq!(life.on(Event::Began, at(1)), Some(Action::HangUp));
    let mut life = running(None);
    assert_eq!(life.on(Event::HangUp, at(1)), Some(Action::HangUp));
    assert_eq!(life.on(Event::Ended(End::Signalled(9)), at(2)), None);
    assert_eq!(last(life), End::Signalled(9));
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        Just(Event::Began),
        Just(Event::Failed(End::NotFound)),
        Just(Event::Ended(End::Exited(1))),
        Just(Event::TreeGone),
        Just(Event::Drained),
        Just(Event::Stop(Cause::Asked)),
        Just(Event::Stop(Cause::Timeout)),
        Just(Event::Kill(Cause::Asked)),
        Just(Event::HangUp),
        Just(Event::Clock),
    ]
}

proptest! {
    #[test]
    fn a_run_finishes_at_most_once_and_stays_over(
        events in prop::collection::vec((event(), 0u64..60_000), 0..60),
        deadline in prop::option::of(0u64..60_000),
    ) {
        let mut life = Life::new(GRACE, deadline.map(at));
        let (mut now, mut finished) = (at(0), 0);
        for (event, pause) in events {
            now += at(pause);
            let was_over = life.is_over();
            let action = life.on(event, now);
            prop_assert!(!was_over || action.is_none(), "an ended run acts no more");
            finished += usize::from(matches!(action, Some(Action::Finish(_))));
        }
        prop_assert!(finished <= 1);
        prop_assert_eq!(life.is_over(), finished == 1);
    }

    #[test]
    fn a_run_asked_to_stop_needs_only_the_clock_to_stop_waiting_for_processes(
        before in prop::collection::vec(event(), 0..10),
        grace in 0u64..100_000,
    ) {
        let mut life = Life::new(at(grace), None);
        for event in before {
            life.on(event, at(0));
        }
        life.on(Event::Stop(Cause::Asked), at(0));
        let mut turns = 0;
        while let Some(moment) = life.wake_at() {
            life.on(Event::Clock, moment);
            turns += 1;
            prop_assert!(turns < 2_000, "never stops waking");
        }
        life.on(Event::Drained, at(grace) + KILL_PATIENCE);
        prop_assert!(life.is_over());
    }

    #[test]
    fn a_killed_tree_was_asked_first_unless_killing_was_asked_for(
        events in prop::collection::vec((event(), 0u64..20_000), 0..60),
    ) {
        let mut life = Life::new(GRACE, Some(at(30_000)));
        let (mut now, mut asked_at, mut kill_allowed) = (at(0), None::<Moment>, false);
        for (event, pause) in events {
            now += at(pause);
            kill_allowed |= matches!(event, Event::Kill(_));
            match life.on(event, now) {
                Some(Action::Terminate) => asked_at = asked_at.or(Some(now)),
                Some(Action::Kill) => {
                    let patient = asked_at.is_some_and(|asked| now >= asked + GRACE);
                    prop_assert!(kill_allowed || patient);
                }
                _ => {}
            }
        }
    }
}
