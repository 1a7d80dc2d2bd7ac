//! The pool engine, tried against made-up worlds.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use proptest::prelude::*;
use sandlot_decide::{
    Seniority,
    backoff::Backoff,
    pool::{
        Care, Failures, Health, Plan, Pod, Pool, Share, Sizing, Trouble, TroubleKind, Use, Why,
        plan,
    },
};

const CARE: Care = Care {
    starting: Share::Count(100),
    rolling: Share::Percent(25),
    replace: Backoff {
        first: Duration::from_secs(10),
        longest: Duration::from_secs(300),
    },
    steady: Duration::from_secs(60),
};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + second).unwrap()
}

fn pod(number: u32, health: Health) -> Pod {
    Pod {
        name: Arc::from(format!("pod-{number}")),
        made: Seniority {
            at: at(i64::from(number)),
            revision: u64::from(number),
        },
        used: Use::Idle,
        health,
        current: true,
        leaving: false,
        evict: false,
    }
}

fn ready(number: u32) -> Pod {
    pod(
        number,
        Health::Ready {
            since: at(i64::from(number)),
        },
    )
}

fn failing(number: u32, kind: TroubleKind, since: i64) -> Pod {
    let trouble = Trouble {
        kind,
        since: at(since),
        message: "no such image".into(),
    };
    pod(number, Health::Failing(trouble))
}

fn decide(
    sizing: Sizing,
    care: Care,
    pods: &[Pod],
    wanted: u32,
    failures: &Failures,
    now: i64,
) -> Plan {
    let pool = Pool {
        sizing,
        care,
        pods,
        creating: 0,
        wanted,
        failures,
    };
    plan(&pool, at(now))
}

fn idle(replicas: u32, pods: &[Pod]) -> Plan {
    decide(
        Sizing::Idle { replicas },
        CARE,
        pods,
        0,
        &Failures::default(),
        1_000,
    )
}

fn removed(plan: &Plan) -> Vec<&str> {
    plan.remove.iter().map(|removal| &*removal.pod).collect()
}

#[test]
fn a_new_pool_makes_all_its_pods() {
    assert_eq!(idle(3, &[]).create, 3);
}

#[test]
fn a_taken_pod_is_replaced_while_it_is_in_use() {
    let mut pods = vec![ready(1), ready(2), ready(3)];
    pods[0].used = Use::Taken;
    let plan = idle(3, &pods);
    assert_eq!(
        (plan.create, plan.counts.ready, plan.counts.taken),
        (1, 2, 1)
    );
}

#[test]
fn waiting_claims_get_pods_beyond_the_replicas() {
    let plan = decide(
        Sizing::Idle { replicas: 2 },
        CARE,
        &[],
        5,
        &Failures::default(),
        0,
    );
    assert_eq!(plan.create, 7);
}

#[test]
fn a_pool_scaled_to_zero_makes_nothing_even_for_waiting_claims() {
    let plan = decide(
        Sizing::Idle { replicas: 0 },
        CARE,
        &[],
        5,
        &Failures::default(),
        0,
    );
    assert_eq!(plan.create, 0);
}

#[test]
fn scaling_down_removes_the_youngest_idle_pods() {
    let pods = [ready(1), ready(2), ready(3), ready(4)];
    assert_eq!(removed(&idle(2, &pods)), ["pod-4", "pod-3"]);
}

#[test]
fn scaling_down_removes_what_is_not_ready_before_what_is() {
    let pods = [ready(3), pod(1, Health::Starting), ready(2)];
    assert_eq!(removed(&idle(2, &pods)), ["pod-1"]);
}

#[test]
fn a_pod_that_ends_is_replaced_at_once_and_the_cause_is_named() {
    let plan = idle(2, &[ready(1), failing(2, TroubleKind::Ended, 999)]);
    assert_eq!(removed(&plan), ["pod-2"]);
    assert_eq!(plan.create, 1);
    assert_eq!(plan.trouble.unwrap().kind, TroubleKind::Ended);
    assert_eq!(plan.failures.count, 1);
}

#[test]
fn the_second_replacement_waits_and_the_third_waits_longer() {
    let mut failures = Failures {
        count: 1,
        last: Some(at(1_000)),
        trouble: None,
    };
    let pods = [failing(1, TroubleKind::Image, 1_001)];
    let sizing = Sizing::Idle { replicas: 1 };
    let early = decide(sizing, CARE, &pods, 0, &failures, 1_002);
    assert!(early.remove.is_empty());
    assert_eq!(early.create, 0, "the failing pod keeps its place");
    assert_eq!(early.again, Some(at(1_010)));
    let due = decide(sizing, CARE, &pods, 0, &failures, 1_010);
    assert_eq!(removed(&due), ["pod-1"]);
    failures = due.failures;
    let again = decide(sizing, CARE, &pods, 0, &failures, 1_011);
    assert_eq!(again.again, Some(at(1_030)));
}

#[test]
fn a_pod_that_stays_ready_ends_the_row_of_failures() {
    let failures = Failures {
        count: 4,
        last: Some(at(100)),
        trouble: None,
    };
    let sizing = Sizing::Idle { replicas: 1 };
    let soon = decide(sizing, CARE, &[ready(101)], 0, &failures, 110);
    assert_eq!((soon.failures.count, soon.again), (4, Some(at(161))));
    let later = decide(sizing, CARE, &[ready(101)], 0, &failures, 161);
    assert_eq!(later.failures, Failures::default());
}

#[test]
fn a_refused_pod_is_asked_for_again_later() {
    let mut failures = Failures::default();
    failures.refused("exceeded quota".into(), at(0));
    let sizing = Sizing::Idle { replicas: 1 };
    let now = decide(sizing, CARE, &[], 0, &failures, 1);
    assert_eq!((now.create, now.again), (0, Some(at(10))));
    assert_eq!(now.trouble.unwrap().message, "exceeded quota");
    assert_eq!(decide(sizing, CARE, &[], 0, &failures, 10).create, 1);
}

#[test]
fn a_refusal_names_the_quota_and_is_forgotten_when_nothing_more_is_wanted() {
    let mut failures = Failures::default();
    let words = "pods \"p-1\" is forbidden: exceeded quota: two, requested: pods=1, used: pods=2, limited: pods=2";
    failures.refused(words.into(), at(0));
    let pods = [ready(1), ready(2)];
    let three = decide(Sizing::Idle { replicas: 3 }, CARE, &pods, 0, &failures, 1);
    assert_eq!(three.trouble.unwrap().kind.reason(), "QuotaExceeded");
    let asked = Pool {
        sizing: Sizing::Idle { replicas: 3 },
        care: CARE,
        pods: &pods,
        creating: 1,
        wanted: 0,
        failures: &failures,
    };
    let asked = plan(&asked, at(11));
    assert_eq!(
        asked.failures, failures,
        "asked for again, and not answered"
    );
    let two = decide(Sizing::Idle { replicas: 2 }, CARE, &pods, 0, &failures, 1);
    assert_eq!((two.trouble, two.failures), (None, Failures::default()));
}

#[test]
fn a_pod_that_no_node_has_room_for_is_left_in_the_queue() {
    let plan = idle(1, &[failing(1, TroubleKind::Unschedulable, 0)]);
    assert!(plan.remove.is_empty());
    assert_eq!(plan.create, 0);
    assert_eq!(plan.trouble.unwrap().kind, TroubleKind::Unschedulable);
}

#[test]
fn a_new_template_rolls_ready_pods_a_quarter_at_a_time() {
    let mut pods: Vec<Pod> = (1..=8).map(ready).collect();
    pods.iter_mut().for_each(|pod| pod.current = false);
    let first = idle(8, &pods);
    assert_eq!(removed(&first), ["pod-1", "pod-2"]);
    assert_eq!(first.create, 2);
    assert!(
        first
            .remove
            .iter()
            .all(|removal| removal.why == Why::OldTemplate)
    );
    pods.drain(..2);
    pods.extend([pod(9, Health::Starting), pod(10, Health::Starting)]);
    assert!(
        idle(8, &pods).remove.is_empty(),
        "it waits until the new ones are ready"
    );
}

#[test]
fn pods_of_an_old_template_that_are_not_ready_go_at_once() {
    let mut pods = vec![pod(1, Health::Starting), pod(2, Health::Starting)];
    pods.iter_mut().for_each(|pod| pod.current = false);
    let plan = idle(2, &pods);
    assert_eq!((plan.remove.len(), plan.create), (2, 2));
}

#[test]
fn taken_pods_of_an_old_template_are_left_alone() {
    let mut taken = ready(1);
    taken.current = false;
    taken.used = Use::Taken;
    assert!(idle(1, &[taken, ready(2)]).remove.is_empty());
}

#[test]
fn a_buffered_pool_starts_a_quarter_of_its_pods_at_a_time() {
    // OpenSandbox's example: an empty pool aims at the middle of its buffer, two at a time; once
    // the buffer is within its bounds only the pool's own minimum asks for more.
    let sizing = Sizing::Buffer {
        buffer_min: 2,
        buffer_max: 10,
        pool_min: 5,
        pool_max: 20,
    };
    let care = Care {
        starting: Share::Percent(25),
        ..CARE
    };
    let mut pods: Vec<Pod> = Vec::new();
    for (step, made) in [(0, 2), (1, 2), (2, 1)] {
        let plan = decide(sizing, care, &pods, 0, &Failures::default(), 100);
        assert_eq!(plan.create, made, "step {step}");
        pods.extend((0..made).map(|number| ready(step * 2 + number)));
    }
    let full = decide(sizing, care, &pods, 0, &Failures::default(), 100);
    assert_eq!((full.create, full.remove.len()), (0, 0));
}

#[test]
fn a_buffered_pool_never_grows_past_its_maximum_and_never_takes_a_pod_from_anybody() {
    let sizing = Sizing::Buffer {
        buffer_min: 1,
        buffer_max: 2,
        pool_min: 0,
        pool_max: 3,
    };
    let mut pods: Vec<Pod> = (1..=5).map(ready).collect();
    pods.iter_mut().for_each(|pod| pod.used = Use::Taken);
    let plan = decide(sizing, CARE, &pods, 4, &Failures::default(), 100);
    assert_eq!((plan.create, plan.remove.len()), (0, 0));
}

fn any_pod() -> impl Strategy<Value = Pod> {
    let health = prop_oneof![
        Just(Health::Starting),
        (0i64..1_000).prop_map(|since| Health::Ready { since: at(since) }),
        (
            0i64..1_000,
            prop_oneof![
                Just(TroubleKind::Image),
                Just(TroubleKind::Ended),
                Just(TroubleKind::Unschedulable)
            ]
        )
            .prop_map(|(since, kind)| Health::Failing(Trouble {
                kind,
                since: at(since),
                message: String::new()
            })),
    ];
    (health, any::<[bool; 4]>(), 0u32..1_000).prop_map(
        |(health, [taken, current, leaving, evict], number)| Pod {
            used: if taken { Use::Taken } else { Use::Idle },
            current,
            leaving,
            evict,
            ..pod(number, health)
        },
    )
}

fn any_pods() -> impl Strategy<Value = Vec<Pod>> {
    prop::collection::vec(any_pod(), 0..30).prop_map(|mut pods| {
        for (index, pod) in pods.iter_mut().enumerate() {
            pod.name = Arc::from(format!("pod-{index}"));
        }
        pods
    })
}

fn any_sizing() -> impl Strategy<Value = Sizing> {
    prop_oneof![
        (0u32..20).prop_map(|replicas| Sizing::Idle { replicas }),
        (0u32..10, 0u32..10, 0u32..20, 0u32..20).prop_map(
            |(buffer_min, more, pool_min, pool_max)| Sizing::Buffer {
                buffer_min,
                buffer_max: buffer_min + more,
                pool_min,
                pool_max,
            }
        ),
    ]
}

proptest! {
    #[test]
    fn no_plan_touches_a_taken_or_leaving_pod_or_names_one_twice(
        pods in any_pods(), sizing in any_sizing(), wanted in 0u32..10, count in 0u32..5,
    ) {
        let failures = Failures { count, last: (count > 0).then(|| at(900)), trouble: None };
        let plan = decide(sizing, CARE, &pods, wanted, &failures, 1_000);
        let mut seen = std::collections::BTreeSet::new();
        for removal in &plan.remove {
            let pod = pods.iter().find(|pod| pod.name == removal.pod).unwrap();
            prop_assert!(pod.used == Use::Idle && !pod.leaving);
            prop_assert!(seen.insert(removal.pod.clone()));
        }
    }

    #[test]
    fn a_plan_carried_out_meets_the_target_unless_it_says_when_to_look_again(
        pods in any_pods(), replicas in 0u32..20, wanted in 0u32..10,
    ) {
        let sizing = Sizing::Idle { replicas };
        let plan = decide(sizing, CARE, &pods, wanted, &Failures::default(), 1_000);
        let kept = pods.iter()
            .filter(|pod| pod.used == Use::Idle && !pod.leaving && !removed(&plan).contains(&&*pod.name))
            .count() as u32;
        prop_assert_eq!(kept + plan.create, plan.counts.target);
    }

    #[test]
    fn a_buffered_pool_respects_its_maximum(
        pods in any_pods(), buffer_min in 0u32..10, more in 0u32..10, pool_min in 0u32..20, pool_max in 0u32..20,
        wanted in 0u32..10,
    ) {
        let sizing = Sizing::Buffer { buffer_min, buffer_max: buffer_min + more, pool_min, pool_max };
        let plan = decide(sizing, CARE, &pods, wanted, &Failures::default(), 1_000);
        let total = pods.iter().filter(|pod| !pod.leaving).count() as u32;
        let after = total - plan.remove.len() as u32 + plan.create;
        prop_assert!(after <= pool_max.max(total), "{} pods of at most {}", after, pool_max);
    }

    #[test]
    fn a_roll_never_drops_below_three_quarters_of_the_ready_pods(
        replicas in 1u32..40, old in 0u32..40,
    ) {
        let mut pods: Vec<Pod> = (0..replicas).map(ready).collect();
        pods.iter_mut().take(old as usize).for_each(|pod| pod.current = false);
        let plan = idle(replicas, &pods);
        let left = replicas - plan.remove.len() as u32;
        prop_assert!(left >= replicas - replicas.div_ceil(4).max(1));
    }
}
