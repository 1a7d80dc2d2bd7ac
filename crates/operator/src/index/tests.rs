use serde_json::json;

use super::*;

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn key(name: &str) -> Key {
    Key {
        namespace: "n".into(),
        name: name.into(),
    }
}

/// A ready pod of pool `p`, given to the sandbox of this uid if there is one.
fn pod(name: &str, revision: u64, claim: Option<&str>) -> v1::Pod {
    let claim = claim.map(|uid| json!({ "arl.infra.io/sandbox-uid": uid }));
    serde_json::from_value(json!({
        "metadata": { "namespace": "n", "name": name, "uid": format!("uid-of-{name}"),
            "resourceVersion": revision.to_string(),
            "labels": { "arl.infra.io/pool": "p" }, "annotations": claim },
        "status": { "phase": "Running", "podIP": "10.0.0.1", "conditions": [
            { "type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z" } ] },
    }))
    .unwrap()
}

/// A sandbox whose status names this pod.
fn sandbox(name: &str, revision: u64, pod: Option<&str>) -> Sandbox {
    serde_json::from_value(json!({
        "apiVersion": "arl.infra.io/v1alpha1", "kind": "Sandbox",
        "metadata": { "namespace": "n", "name": name, "uid": format!("uid-of-{name}"),
            "resourceVersion": revision.to_string() },
        "spec": { "poolRef": "p" },
        "status": { "podName": pod },
    }))
    .unwrap()
}

fn on_shelf(index: &Index) -> usize {
    index.shelves.get(&key("p")).map_or(0, Shelf::ready)
}

#[test]
fn a_pod_that_changed_while_its_deletion_was_refused_can_be_given_out() {
    let mut index = Index::default();
    index.see_pod(&pod("a", 1, None), NOW);
    index.pods.get_mut(&key("a")).unwrap().busy = true;
    index.see_pod(&pod("a", 2, None), NOW);
    assert_eq!(on_shelf(&index), 0);
    index.settle_pod(&key("a"));
    assert_eq!(on_shelf(&index), 1);
    assert!(index.marks.pools.contains(&key("p")));
}

#[test]
fn a_pod_whose_claim_failed_can_be_given_out_once_it_is_looked_at_again() {
    let mut index = Index::default();
    index.see_pod(&pod("a", 1, None), NOW);
    let seniority = Seniority {
        at: NOW,
        revision: 1,
    };
    let shelf = index.shelves.get_mut(&key("p")).unwrap();
    shelf.wait(key("s"), seniority, 1);
    assert_eq!(shelf.give(), Some((key("a"), key("s"))));
    index.unclaim(&key("a"), 1);
    assert_eq!(on_shelf(&index), 0);
    index.reshelve(&key("a"));
    assert_eq!(on_shelf(&index), 1);
}

#[test]
fn nothing_is_known_of_an_object_that_is_gone_or_has_a_successor() {
    let mut index = Index::default();
    index.see_sandbox(&sandbox("s", 1, None), NOW);
    assert!(index.knows_sandbox(&key("s"), Some("uid-of-s")));
    assert!(!index.knows_sandbox(&key("s"), Some("another")));
    index.lose_sandbox(&key("s"));
    assert!(!index.knows_sandbox(&key("s"), Some("uid-of-s")));
    index.see_pod(&pod("a", 1, None), NOW);
    index.lose_pod(&key("a"));
    assert!(!index.knows_pod(&key("a"), Some("uid-of-a")));
}

#[test]
fn of_two_pods_none_is_given_back_before_the_sandbox_is_told_of_one() {
    let mut index = Index::default();
    let uid: Uid = "uid-of-s".into();
    index.see_sandbox(&sandbox("s", 1, None), NOW);
    index.see_pod(&pod("a", 2, Some("uid-of-s")), NOW);
    index.see_pod(&pod("b", 3, Some("uid-of-s")), NOW);
    assert!(index.keeps(&uid, &key("a")) && index.keeps(&uid, &key("b")));
    index.marks = Marks::default();
    index.see_sandbox(&sandbox("s", 4, Some("b")), NOW);
    assert!(index.keeps(&uid, &key("b")) && !index.keeps(&uid, &key("a")));
    assert!(index.marks.pods.contains(&key("a")));
}

#[test]
fn a_sandbox_that_goes_leaves_every_pod_that_names_it() {
    let mut index = Index::default();
    index.see_sandbox(&sandbox("s", 1, None), NOW);
    index.see_pod(&pod("a", 2, Some("uid-of-s")), NOW);
    index.see_pod(&pod("b", 3, Some("uid-of-s")), NOW);
    index.marks = Marks::default();
    index.lose_sandbox(&key("s"));
    assert!(index.marks.pods.contains(&key("a")) && index.marks.pods.contains(&key("b")));
    assert!(!index.keeps(&"uid-of-s".into(), &key("a")));
}
