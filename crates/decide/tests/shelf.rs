//! The shelf against a model: fair, and never one pod to two.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use proptest::prelude::*;
use sandlot_decide::{
    Seniority,
    shelf::{Shelf, trusted_from},
};

fn at(second: u32) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + i64::from(second)).unwrap()
}

fn made(second: u32, revision: u64) -> Seniority {
    Seniority {
        at: at(second),
        revision,
    }
}

#[test]
fn the_oldest_ready_pod_goes_to_the_oldest_waiting_claim() {
    let mut shelf = Shelf::default();
    shelf.put("warm", at(1));
    shelf.put("warmer", at(0));
    shelf.wait("late", made(5, 9), 1);
    shelf.wait("early", made(5, 8), 1);
    assert_eq!(shelf.give(), Some(("warmer", "early")));
    assert_eq!(shelf.give(), Some(("warm", "late")));
    assert_eq!(shelf.give(), None);
}

#[test]
fn a_pod_handed_out_is_not_handed_out_again_by_a_late_observation() {
    let mut shelf = Shelf::default();
    shelf.put("pod", at(0));
    shelf.wait("first", made(0, 1), 1);
    shelf.wait("second", made(0, 2), 1);
    assert_eq!(shelf.give(), Some(("pod", "first")));
    shelf.put("pod", at(0));
    assert_eq!(shelf.give(), None);
}

#[test]
fn after_a_failed_write_the_claim_keeps_its_place_and_the_pod_must_be_seen_again() {
    let mut shelf = Shelf::default();
    shelf.put("pod", at(0));
    shelf.wait("first", made(0, 1), 1);
    shelf.give();
    shelf.take(&"pod");
    shelf.wait("second", made(0, 2), 1);
    shelf.wait("first", made(0, 1), 1);
    assert_eq!(shelf.give(), None);
    shelf.put("pod", at(0));
    assert_eq!(shelf.give(), Some(("pod", "first")));
}

#[test]
fn a_claim_for_many_pods_is_served_before_the_next_one() {
    let mut shelf = Shelf::default();
    shelf.wait("batch", made(0, 1), 2);
    shelf.wait("single", made(1, 2), 1);
    assert_eq!((shelf.wanted(), shelf.ahead_of(&"single")), (3, Some(2)));
    for (pod, claimant) in [(1, "batch"), (2, "batch"), (3, "single")] {
        shelf.put(pod, at(pod));
        assert_eq!(shelf.give(), Some((pod, claimant)));
    }
    assert_eq!(shelf.wanted(), 0);
}

#[test]
fn a_pod_that_has_crashed_is_given_out_once_it_has_stood_for_a_while() {
    assert_eq!(
        trusted_from(at(5), 0, false),
        None,
        "nothing speaks against it"
    );
    assert_eq!(trusted_from(at(5), 1, false), Some(at(15)));
    assert_eq!(
        trusted_from(at(5), 0, true),
        Some(at(15)),
        "its fellows crash"
    );

    let mut shelf = Shelf::default();
    shelf.wait("claim", made(0, 1), 1);
    shelf.prove("pod", at(5), at(15));
    assert_eq!(shelf.trust(at(14)), Some(at(15)));
    assert!(shelf.is_proving(&"pod"));
    assert_eq!((shelf.give(), shelf.ready()), (None, 0));
    assert_eq!(shelf.trust(at(15)), None);
    assert!(!shelf.is_proving(&"pod"));
    assert_eq!(shelf.give(), Some(("pod", "claim")));
}

#[test]
fn a_pod_that_crashes_again_begins_its_proof_anew() {
    let mut shelf = Shelf::default();
    shelf.wait("claim", made(0, 1), 1);
    shelf.prove("pod", at(5), at(15));
    shelf.take(&"pod");
    assert_eq!(shelf.trust(at(20)), None);
    assert_eq!(shelf.give(), None);
    shelf.prove("pod", at(25), at(35));
    assert_eq!(shelf.trust(at(30)), Some(at(35)));
    assert_eq!(shelf.give(), None);
}

#[derive(Clone, Debug)]
enum Act {
    Put(u8, u32),
    Prove(u8, u32, u32),
    Trust(u32),
    Take(u8),
    Wait(u8, u32),
    Leave(u8),
    Give,
    Confirm(u8),
    Fail(u8),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        (0u8..8, 0u32..50).prop_map(|(pod, since)| Act::Put(pod, since)),
        (0u8..8, 0u32..50, 0u32..50).prop_map(|(pod, since, until)| Act::Prove(pod, since, until)),
        (0u32..50).prop_map(Act::Trust),
        (0u8..8).prop_map(Act::Take),
        (0u8..8, 0u32..3).prop_map(|(claim, pods)| Act::Wait(claim, pods)),
        (0u8..8).prop_map(Act::Leave),
        Just(Act::Give),
        (0u8..8).prop_map(Act::Confirm),
        (0u8..8).prop_map(Act::Fail),
    ]
}

proptest! {
    #[test]
    fn the_shelf_behaves_as_a_plain_list_would(acts in prop::collection::vec(act(), 0..200)) {
        let mut shelf: Shelf<u8, u8> = Shelf::default();
        let mut ready: BTreeMap<u8, u32> = BTreeMap::new();
        let mut proving: BTreeMap<u8, (u32, u32)> = BTreeMap::new();
        let mut waiting: BTreeMap<u8, u32> = BTreeMap::new();
        let mut out: BTreeSet<u8> = BTreeSet::new();
        for act in acts {
            match act {
                Act::Put(pod, since) => {
                    shelf.put(pod, at(since));
                    if !out.contains(&pod) { proving.remove(&pod); ready.insert(pod, since); }
                }
                Act::Prove(pod, since, until) => {
                    shelf.prove(pod, at(since), at(until));
                    if !out.contains(&pod) { ready.remove(&pod); proving.insert(pod, (since, until)); }
                }
                Act::Trust(now) => {
                    let next = shelf.trust(at(now));
                    ready.extend(proving.iter().filter(|(_, (_, until))| *until <= now).map(|(pod, (since, _))| (*pod, *since)));
                    proving.retain(|_, (_, until)| *until > now);
                    prop_assert_eq!(next, proving.values().map(|(_, until)| at(*until)).min());
                }
                Act::Take(pod) | Act::Fail(pod) => {
                    shelf.take(&pod);
                    ready.remove(&pod);
                    proving.remove(&pod);
                    out.remove(&pod);
                }
                Act::Wait(claim, pods) => {
                    // A claim's seniority never changes, as with real objects.
                    shelf.wait(claim, made(u32::from(claim % 3), u64::from(claim)), pods);
                    if pods == 0 { waiting.remove(&claim); } else { waiting.insert(claim, pods); }
                }
                Act::Leave(claim) => { shelf.leave(&claim); waiting.remove(&claim); }
                Act::Confirm(pod) => { shelf.confirm(&pod); out.remove(&pod); }
                Act::Give => {
                    let first = waiting.keys().copied().min_by_key(|claim| (claim % 3, *claim));
                    let pod = ready.iter().map(|(pod, since)| (*since, *pod)).min().map(|(_, pod)| pod);
                    let expected = pod.zip(first);
                    prop_assert_eq!(shelf.give(), expected);
                    if let Some((pod, claim)) = expected {
                        ready.remove(&pod);
                        prop_assert!(out.insert(pod), "one pod to two");
                        let left = waiting.remove(&claim).unwrap() - 1;
                        if left > 0 { waiting.insert(claim, left); }
                    }
                }
            }
            prop_assert_eq!(shelf.ready(), ready.len());
            prop_assert!((0..8).all(|pod| shelf.is_proving(&pod) == proving.contains_key(&pod)));
            prop_assert_eq!(shelf.wanted(), waiting.values().sum::<u32>());
        }
    }
}
