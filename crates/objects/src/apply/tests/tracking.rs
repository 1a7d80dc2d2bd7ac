use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Part, Story, Writer, pod, writer};

#[test]
fn who_creates_owns_all_that_is_not_the_servers() {
    let mut story = Story::new();
    story.replace(
        "kubectl",
        json!({
            "metadata": {"uid": "u", "labels": {"a": "1"}},
            "spec": {"containers": [{"name": "a", "args": ["x"]}]},
        }),
    );
    assert_eq!(
        story.owned("kubectl"),
        json!({
            "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
            "f:spec": {".": {}, "f:containers": {".": {}, "k:{\"name\":\"a\"}": {
                ".": {}, "f:name": {}, "f:args": {},
            }}},
        })
    );
    assert_eq!(story.entry("kubectl")["operation"], "Update");
}

#[test]
fn who_changes_a_field_takes_it_from_the_others() {
    let mut story = Story::new();
    story
        .apply("ann", json!({"spec": {"replicas": 1, "paused": false}}))
        .patch("hpa", json!({"spec": {"replicas": 5}}));
    assert_eq!(story.owned("ann"), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(story.owned("hpa"), json!({"f:spec": {"f:replicas": {}}}));
    assert!(
        story
            .refused("ann", json!({"spec": {"replicas": 1, "paused": false}}))
            .contains("hpa")
    );
}

#[test]
fn who_removes_a_field_takes_it_from_all() {
    let mut story = Story::new();
    story
        .apply("ann", json!({"spec": {"replicas": 1, "paused": false}}))
        .patch("eve", json!({"spec": {"paused": null}}));
    assert_eq!(story.owned("ann"), json!({"f:spec": {"f:replicas": {}}}));
    assert_eq!(story.managers(), ["ann"]);
}

#[test]
fn a_manager_without_fields_is_forgotten() {
    let mut story = Story::new();
    story
        .apply("ann", json!({"spec": {"replicas": 1}}))
        .patch("hpa", json!({"spec": {"replicas": 2}}));
    assert_eq!(story.managers(), ["hpa"]);
}

#[test]
fn a_write_that_changes_nothing_records_nothing() {
    let mut story = Story::new();
    story.replace("kubectl", json!({"spec": {"replicas": 1}}));
    let before = story.object.clone();
    story.patch("eve", json!({"spec": {"replicas": 1}}));
    assert_eq!(story.object, before);
}

#[test]
fn writing_again_adds_to_what_one_owns_and_renews_the_time() {
    let mut story = Story::new();
    story
        .replace("kubectl", json!({"spec": {"replicas": 1}}))
        .patch("kubectl", json!({"spec": {"paused": true}}));
    assert_eq!(story.managers(), ["kubectl"]);
    assert_eq!(
        story.owned("kubectl"),
        json!({"f:spec": {".": {}, "f:replicas": {}, "f:paused": {}}})
    );
    assert_eq!(story.entry("kubectl")["time"], "2023-11-14T22:13:22Z");
}

#[test]
fn status_writers_are_told_apart_and_own_the_status_alone() {
    let mut story = Story::new();
    story.replace("operator", json!({"spec": {"replicas": 1}}));
    let mut new = story.object.clone().unwrap();
    new["status"] = json!({"phase": "Up"});
    let status = Writer {
        subresource: "status",
        part: Part::Status,
        ..writer("operator", 2)
    };
    story.write(&status, new);
    let entries = story.at("/metadata/managedFields");
    assert_eq!(entries.as_array().unwrap().len(), 2);
    assert_eq!(entries[1]["subresource"], "status");
    assert_eq!(
        entries[1]["fieldsV1"],
        json!({"f:status": {".": {}, "f:phase": {}}})
    );
}

#[test]
fn a_client_that_drops_managed_fields_changes_nothing() {
    let mut story = Story::new();
    story.apply("ann", json!({"spec": {"replicas": 1}}));
    let before = story.object.clone();
    for dropped in [
        json!([]),
        Value::Null,
        json!("nonsense"),
        json!([{"manager": 1}]),
    ] {
        let mut new = before.clone().unwrap();
        new["metadata"]["managedFields"] = dropped;
        story.write(&writer("old", 9), new);
        assert_eq!(story.object, before);
    }
}

#[test]
fn a_blank_entry_resets_and_stops_the_tracking_until_somebody_applies() {
    let mut story = Story::new();
    story
        .replace("kubectl", json!({"spec": {"replicas": 1}}))
        .patch("kubectl", json!({"metadata": {"managedFields": [{}]}}));
    assert_eq!(story.at("/metadata/managedFields"), Value::Null);
    story.patch("eve", json!({"spec": {"replicas": 2}}));
    assert_eq!(story.at("/metadata/managedFields"), Value::Null);
    story.apply("ann", json!({"spec": {"replicas": 2}}));
    assert_eq!(story.managers(), ["ann", "before-first-apply"]);
}

#[test]
fn a_client_may_hand_its_fields_to_another_manager() {
    let mut story = Story::new();
    story.replace(
        "kubectl-client-side-apply",
        json!({"spec": {"replicas": 1}}),
    );
    let mut new = story.object.clone().unwrap();
    new["metadata"]["managedFields"][0]["manager"] = json!("kubectl");
    new["metadata"]["managedFields"][0]["operation"] = json!("Apply");
    story.write(&writer("kubectl", 2), new);
    story.apply("kubectl", json!({"spec": {"replicas": 3}}));
    assert_eq!(story.at("/spec/replicas"), 3);
    assert_eq!(story.managers(), ["kubectl"]);
}

#[test]
fn a_status_write_cannot_change_who_owns_what() {
    let mut story = Story::new();
    story.apply("ann", json!({"spec": {"replicas": 1}}));
    let mut new = story.object.clone().unwrap();
    new["metadata"]["managedFields"] = json!([{}]);
    let status = Writer {
        subresource: "status",
        part: Part::Status,
        ..writer("eve", 2)
    };
    story.write(&status, new);
    assert_eq!(story.managers(), ["ann"]);
}

#[test]
fn the_oldest_writers_are_merged_when_there_are_many() {
    let mut story = Story::new();
    story.replace("w0", json!({"metadata": {"labels": {"l0": "x"}}}));
    for number in 1..15 {
        let label = format!("l{number}");
        story.patch(
            &format!("w{number}"),
            json!({"metadata": {"labels": {label: "x"}}}),
        );
    }
    let managers = story.managers();
    assert_eq!(managers.len(), 10);
    assert_eq!(
        managers
            .iter()
            .filter(|name| *name == "ancient-changes")
            .count(),
        1
    );
    let labels = story.owned("ancient-changes")["f:metadata"]["f:labels"].clone();
    for number in 0..=5 {
        assert!(
            labels.get(format!("f:l{number}")).is_some(),
            "l{number} in {labels}"
        );
    }
    assert!(managers.contains(&"w14".to_owned()));
    assert!(!managers.contains(&"w0".to_owned()));
}

#[test]
fn items_with_the_same_key_change_together() {
    let mut story = Story::new();
    let twice = |image: &str| json!([{"name": "a"}, {"name": "a", "image": image}]);
    story
        .replace("kubectl", json!({"spec": {"containers": twice("1")}}))
        .patch("eve", json!({"spec": {"containers": twice("2")}}));
    assert_eq!(
        story.owned("eve"),
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {}}}})
    );
}

#[test]
fn an_unscheduled_field_keeps_its_owner_through_a_round_trip() {
    let mut story = Story::new();
    story.write(
        &writer("kubectl", 1),
        pod(json!({"spec": {"whatever": {"deep": [1, 2]}}})),
    );
    assert_eq!(
        story.owned("kubectl"),
        json!({"f:spec": {".": {}, "f:whatever": {".": {}, "f:deep": {}}}})
    );
}

/// Changes to all parts of an object, by one of three people, to the object or to its status.
fn changes() -> impl Strategy<Value = (usize, bool, Value)> {
    let label = prop_oneof![
        Just(json!(null)),
        (0..3).prop_map(|n: i32| json!(n.to_string()))
    ];
    let labels = prop::collection::btree_map("[a-c]", label, 0..3);
    let names = prop::collection::vec("[a-c]", 0..3);
    let spec = prop_oneof![
        names.prop_map(|names| {
            let containers = names.iter().map(|name| json!({"name": name, "image": "i"}));
            json!({"containers": containers.collect::<Vec<_>>()})
        }),
        (0..3).prop_map(|replicas| json!({"replicas": replicas})),
        Just(json!({"replicas": null, "limits": {"cpu": {"max": 1}}})),
        Just(json!({"limits": {"cpu": {"max": null, "min": 2}}, "selector": {"a": "b"}})),
        Just(json!({"limits": null})),
        Just(json!({})),
    ];
    (0..3usize, any::<bool>(), labels, spec, 0..3).prop_map(|(who, status, labels, spec, phase)| {
        let change = match status {
            true => json!({"status": {"phase": phase}}),
            false => json!({"metadata": {"labels": labels}, "spec": spec}),
        };
        (who, status, change)
    })
}

proptest! {
    #[test]
    fn a_write_that_brings_the_managers_along_is_tracked_like_any(
        history in prop::collection::vec(changes(), 1..12),
    ) {
        let mut story = Story::new();
        story.replace("ann", json!({"metadata": {"labels": {"a": "1"}}, "spec": {"replicas": 1}}));
        story.apply("eve", json!({"spec": {"paused": true}}));
        for (second, (who, status, change)) in history.into_iter().enumerate() {
            let manager = ["ann", "bob", "eve"][who];
            let writer = match status {
                true => Writer { subresource: "status", part: Part::Status, ..writer(manager, 9) },
                false => writer(manager, 10 + second as i64),
            };
            let mut new = story.object.clone().unwrap();
            json_patch::merge(&mut new, &change);
            // Both ways are compared with each write.
            story.write(&writer, new);
        }
    }
}
