//! Which pods a batch has, through every order of things that can happen to it.

use std::{collections::HashSet, sync::Arc};

use proptest::prelude::*;
use sandlot_decide::batch::Slots;

fn name(text: &str) -> Arc<str> {
    Arc::from(text)
}

#[test]
fn a_lost_pod_is_replaced_at_its_own_index() {
    let mut slots = Slots::default();
    for (index, pod) in ["a", "b", "c"].into_iter().enumerate() {
        slots.fill(index, name(pod));
    }
    assert_eq!(slots.empty(3, |pod| pod != "b"), [1]);
    slots.fill(1, name("d"));
    assert_eq!(slots.given(), [name("a"), name("d"), name("c")]);
}

#[test]
fn scaling_down_gives_back_the_highest_and_scaling_up_wants_new_ones() {
    let mut slots = Slots::new(vec![name("a"), name("b"), name("c")], [], []);
    assert_eq!(slots.surplus(1), [name("c"), name("b")]);
    for pod in slots.surplus(1) {
        slots.give_back(pod);
    }
    assert_eq!(slots.returning().count(), 2);
    slots.taken_back("c");
    slots.taken_back("b");
    slots.trim(1, |_| true, |_| false);
    assert_eq!(slots, Slots::new(vec![name("a")], [], []));
    assert_eq!(slots.empty(3, |_| true), [1, 2]);
}

#[test]
fn a_pod_given_back_because_its_task_is_done_is_not_replaced() {
    let mut slots = Slots::new(vec![name("a"), name("b")], [], []);
    slots.give_back(name("a"));
    slots.taken_back("a");
    slots.trim(2, |_| false, |_| false);
    assert!(slots.is_done(0) && slots.at(0).is_none());
    assert_eq!(slots.empty(2, |pod| pod == "b"), Vec::<usize>::new());
    assert_eq!(slots.held().count(), 1);
}

#[test]
fn a_name_written_twice_counts_once() {
    let slots = Slots::new(vec![name("a"), name("a")], [], []);
    assert_eq!(slots.empty(2, |_| true), [1]);
}

#[derive(Clone, Debug)]
enum Event {
    Scale(usize),
    Lose(usize),
    Fill,
    Finish(usize),
    TakeBack,
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let event = prop_oneof![
        (0_usize..6).prop_map(Event::Scale),
        (0_usize..6).prop_map(Event::Lose),
        Just(Event::Fill),
        (0_usize..6).prop_map(Event::Finish),
        Just(Event::TakeBack),
    ];
    proptest::collection::vec(event, 0..60)
}

proptest! {
    /// Whatever happens, in the end the batch has exactly the pods it wants, each once, and what
    /// is remembered does not grow.
    #[test]
    fn a_batch_always_comes_to_have_what_it_wants(events in events()) {
        let (mut slots, mut there, mut replicas, mut next) = (Slots::default(), HashSet::new(), 3, 0);
        let mut fresh = || { next += 1; name(&format!("pod-{next}")) };
        for event in events.into_iter().chain([Event::Fill, Event::TakeBack, Event::Fill]) {
            match event {
                Event::Scale(to) => replicas = to,
                Event::Lose(index) => { if let Some(pod) = slots.at(index) { there.remove(pod); } }
                Event::Fill => {
                    for index in slots.empty(replicas, |pod| there.contains(pod)) {
                        let pod = fresh();
                        there.insert(pod.clone());
                        slots.fill(index, pod);
                    }
                }
                Event::Finish(index) => {
                    if let Some(pod) = slots.at(index).cloned() { slots.give_back(pod); }
                }
                Event::TakeBack => {
                    for pod in slots.surplus(replicas) { slots.give_back(pod); }
                    for pod in slots.returning().cloned().collect::<Vec<_>>() {
                        there.remove(&pod);
                        slots.taken_back(&pod);
                    }
                    slots.trim(replicas, |pod| there.contains(pod), |_| false);
                }
            }
            let held: Vec<_> = slots.held().collect();
            let distinct: HashSet<_> = held.iter().collect();
            prop_assert_eq!(held.len(), distinct.len());
        }
        prop_assert!(slots.given().len() <= replicas);
        prop_assert!(slots.release().len() <= replicas);
        for index in 0..replicas {
            let has = slots.at(index).is_some_and(|pod| there.contains(pod));
            prop_assert!(has || slots.is_done(index), "index {} of {:?}", index, slots);
        }
    }
}
