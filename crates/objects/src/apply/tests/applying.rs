use proptest::prelude::*;
use serde_json::{Value, json};

use super::Story;

#[test]
fn applying_what_does_not_exist_creates_it() {
    let mut story = Story::new();
    story.apply("ann", json!({"spec": {"replicas": 1}}));
    assert_eq!(story.at("/spec/replicas"), 1);
    assert_eq!(story.owned("ann"), json!({"f:spec": {"f:replicas": {}}}));
    let entry = story.entry("ann");
    assert_eq!(entry["operation"], "Apply");
    assert_eq!(entry["apiVersion"], "v1");
    assert_eq!(entry["fieldsType"], "FieldsV1");
    assert_eq!(entry["time"], "2023-11-14T22:13:21Z");
    assert!(entry.get("subresource").is_none());
}

#[test]
fn a_field_that_is_no_longer_applied_goes() {
    let mut story = Story::new();
    story
        .apply("ann", json!({"spec": {"replicas": 1, "paused": true}}))
        .apply("ann", json!({"spec": {"replicas": 1}}));
    assert_eq!(story.at("/spec"), json!({"replicas": 1}));
    story.apply("ann", json!({}));
    assert_eq!(story.at("/spec"), Value::Null);
    assert_eq!(story.at("/metadata/name"), "p");
    assert!(story.managers().is_empty());
}

#[test]
fn a_field_that_another_owns_too_stays() {
    let mut story = Story::new();
    story
        .apply("ann", json!({"spec": {"replicas": 1}}))
        .apply("bob", json!({"spec": {"replicas": 1}}))
        .apply("ann", json!({}));
    assert_eq!(story.at("/spec/replicas"), 1);
    assert_eq!(story.managers(), ["bob"]);
}

#[test]
fn changing_what_another_owns_is_a_conflict() {
    let mut story = Story::new();
    story.apply("ann", json!({"spec": {"replicas": 1, "paused": false}}));
    assert_eq!(
        story.refused("bob", json!({"spec": {"replicas": 2}})),
        "Apply failed with 1 conflict: conflict with \"ann\": .spec.replicas"
    );
    assert_eq!(
        story.refused("bob", json!({"spec": {"replicas": 2, "paused": true}})),
        "Apply failed with 2 conflicts: conflicts with \"ann\":\n- .spec.paused\n- .spec.replicas"
    );
    assert_eq!(story.at("/spec/replicas"), 1);
}

#[test]
fn a_conflict_names_how_the_other_wrote() {
    let mut story = Story::new();
    story.replace(
        "kubectl",
        json!({"spec": {"containers": [{"name": "a", "image": "a:1"}]}}),
    );
    assert_eq!(
        story.refused(
            "ann",
            json!({"spec": {"containers": [{"name": "a", "image": "a:2"}]}})
        ),
        "Apply failed with 1 conflict: conflict with \"kubectl\" using v1: \
         .spec.containers[name=\"a\"].image"
    );
}

#[test]
fn conflicts_are_grouped_by_manager() {
    let mut story = Story::new();
    story
        .apply("bob", json!({"spec": {"paused": true}}))
        .replace("ann", json!({"spec": {"paused": true, "replicas": 1}}));
    assert_eq!(
        story.refused("eve", json!({"spec": {"paused": false, "replicas": 2}})),
        "Apply failed with 2 conflicts: conflicts with \"ann\" using v1:\n- .spec.replicas\n\
         conflicts with \"bob\":\n- .spec.paused"
    );
}

#[test]
fn force_takes_the_field_over() {
    let mut story = Story::new();
    story
        .apply("ann", json!({"spec": {"replicas": 1, "paused": true}}))
        .force("bob", json!({"spec": {"replicas": 2}}));
    assert_eq!(story.at("/spec/replicas"), 2);
    assert_eq!(story.owned("ann"), json!({"f:spec": {"f:paused": {}}}));
    assert_eq!(story.owned("bob"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn the_same_value_is_owned_together() {
    let mut story = Story::new();
    story
        .apply("ann", json!({"spec": {"replicas": 1}}))
        .apply("bob", json!({"spec": {"replicas": 1}}));
    assert_eq!(story.managers(), ["ann", "bob"]);
    assert!(
        story
            .refused("ann", json!({"spec": {"replicas": 3}}))
            .contains("\"bob\"")
    );
}

#[test]
fn items_of_a_list_are_found_by_their_keys() {
    let mut story = Story::new();
    story
        .apply(
            "ann",
            json!({"spec": {"containers": [{"name": "a", "image": "a:1"}]}}),
        )
        .apply(
            "bob",
            json!({"spec": {"containers": [{"name": "b", "image": "b:1"}]}}),
        );
    assert_eq!(
        story.at("/spec/containers"),
        json!([{"name": "a", "image": "a:1"}, {"name": "b", "image": "b:1"}])
    );
    assert_eq!(
        story.owned("bob"),
        json!({"f:spec": {"f:containers": {
            "k:{\"name\":\"b\"}": {".": {}, "f:name": {}, "f:image": {}},
        }}})
    );
    story.apply("ann", json!({"spec": {"containers": []}}));
    assert_eq!(
        story.at("/spec/containers"),
        json!([{"name": "b", "image": "b:1"}])
    );
}

#[test]
fn an_item_goes_with_all_that_nobody_else_claims_as_a_whole() {
    let mut story = Story::new();
    story.apply(
        "ann",
        json!({"spec": {"containers": [{"name": "a", "image": "a:1"}]}}),
    );
    story.patch(
        "eve",
        json!({"spec": {"containers": [{"name": "a", "image": "a:2"}]}}),
    );
    assert_eq!(
        story.owned("eve"),
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {"f:image": {}}}}})
    );
    story.apply("ann", json!({"spec": {"replicas": 1}}));
    assert_eq!(story.at("/spec"), json!({"replicas": 1}));
}

#[test]
fn the_default_of_a_key_counts_as_given() {
    let mut story = Story::new();
    let port = |port: Value| json!({"spec": {"containers": [{"name": "a", "ports": [port]}]}});
    story
        .apply("ann", port(json!({"containerPort": 80})))
        .apply(
            "bob",
            port(json!({"containerPort": 80, "protocol": "TCP", "name": "web"})),
        )
        .apply("eve", port(json!({"containerPort": 80, "protocol": "UDP"})));
    assert_eq!(
        story.at("/spec/containers/0/ports"),
        json!([
            {"containerPort": 80, "protocol": "TCP", "name": "web"},
            {"containerPort": 80, "protocol": "UDP"},
        ])
    );
    assert_eq!(
        story
            .owned("ann")
            .pointer("/f:spec/f:containers/k:{\"name\":\"a\"}/f:ports"),
        Some(&json!({
            "k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}},
        }))
    );
}

#[test]
fn a_configuration_cannot_name_an_item_twice() {
    let mut story = Story::new();
    assert_eq!(
        story.refused(
            "ann",
            json!({"spec": {"containers": [{"name": "a"}, {"name": "a"}]}})
        ),
        "failed to create typed patch object (/p; /v1, Kind=Pod): .spec.containers: duplicate \
         entries for key [name=\"a\"]"
    );
    let error = story.refused("ann", json!({"spec": {"containers": [{"image": "a"}]}}));
    assert!(error.contains("omits key field \"name\""), "{error}");
}

#[test]
fn a_set_has_an_owner_per_value() {
    let mut story = Story::new();
    story
        .apply("ann", json!({"metadata": {"finalizers": ["a", "b"]}}))
        .apply("bob", json!({"metadata": {"finalizers": ["b", "c"]}}))
        .apply("ann", json!({"metadata": {"finalizers": ["a"]}}));
    assert_eq!(story.at("/metadata/finalizers"), json!(["a", "b", "c"]));
    assert_eq!(
        story.owned("bob"),
        json!({"f:metadata": {"f:finalizers": {"v:\"b\"": {}, "v:\"c\"": {}}}})
    );
    story.apply("bob", json!({"metadata": {"finalizers": ["c"]}}));
    assert_eq!(story.at("/metadata/finalizers"), json!(["a", "c"]));
}

#[test]
fn an_atomic_list_has_one_owner() {
    let mut story = Story::new();
    let args = |args: Value| json!({"spec": {"containers": [{"name": "a", "args": args}]}});
    story.apply("ann", args(json!(["x", "y"])));
    assert!(
        story
            .refused("bob", args(json!(["x"])))
            .ends_with(".spec.containers[name=\"a\"].args")
    );
    story.force("bob", args(json!(["x"])));
    assert_eq!(story.at("/spec/containers/0/args"), json!(["x"]));
    story.force("bob", args(json!([])));
    assert_eq!(story.at("/spec/containers/0/args"), json!([]));
}

#[test]
fn an_atomic_map_has_one_owner() {
    let mut story = Story::new();
    story.apply("ann", json!({"spec": {"selector": {"a": "1", "b": "2"}}}));
    let error = story.refused("bob", json!({"spec": {"selector": {"a": "1"}}}));
    assert!(error.ends_with("\"ann\": .spec.selector"), "{error}");
    story.apply("ann", json!({"spec": {"selector": {"c": "3"}}}));
    assert_eq!(story.at("/spec/selector"), json!({"c": "3"}));
}

#[test]
fn a_map_has_an_owner_per_key() {
    let mut story = Story::new();
    story
        .apply("ann", json!({"metadata": {"labels": {"a": "1"}}}))
        .apply("bob", json!({"metadata": {"labels": {"b": "2"}}}))
        .apply("ann", json!({}));
    assert_eq!(story.at("/metadata/labels"), json!({"b": "2"}));
    story.apply("bob", json!({}));
    assert_eq!(story.at("/metadata/labels"), Value::Null);
}

#[test]
fn an_object_in_a_map_that_lost_its_last_field_goes() {
    let mut story = Story::new();
    story
        .apply("ann", json!({"spec": {"limits": {"cpu": {"max": 1}}}}))
        .apply("bob", json!({"spec": {"limits": {"mem": {"max": 1}}}}))
        .apply("ann", json!({"spec": {"paused": true}}));
    assert_eq!(story.at("/spec/limits"), json!({"mem": {"max": 1}}));
}

#[test]
fn the_order_of_the_configuration_holds_and_strangers_keep_their_places() {
    let mut story = Story::new();
    let names = |names: &[&str]| {
        let items: Vec<Value> = names.iter().map(|name| json!({ "name": name })).collect();
        json!({"spec": {"containers": items}})
    };
    story
        .apply("ann", names(&["a", "b"]))
        .apply("mesh", names(&["proxy"]))
        .apply("ann", names(&["b", "new", "a"]));
    let order: Vec<Value> = story.at("/spec/containers").as_array().unwrap().clone();
    let order: Vec<&str> = order
        .iter()
        .map(|item| item["name"].as_str().unwrap())
        .collect();
    assert_eq!(order, ["b", "proxy", "new", "a"]);
}

#[test]
fn applying_again_changes_nothing_not_even_the_time() {
    let mut story = Story::new();
    let config = json!({"spec": {"replicas": 1, "containers": [{"name": "a"}]}});
    story.apply("ann", config.clone());
    let before = story.object.clone();
    story.apply("ann", config);
    assert_eq!(story.object, before);
}

#[test]
fn what_nobody_was_recorded_for_belongs_to_before_first_apply() {
    let mut story = Story::new();
    story.object = Some(super::pod(json!({"spec": {"replicas": 1, "paused": true}})));
    let error = story.refused("ann", json!({"spec": {"replicas": 2}}));
    assert_eq!(
        error,
        "Apply failed with 1 conflict: conflict with \"before-first-apply\" using v1: .spec.replicas"
    );
    story.apply("ann", json!({"spec": {"replicas": 1}}));
    assert_eq!(story.managers(), ["ann", "before-first-apply"]);
    story.apply("ann", json!({}));
    assert_eq!(story.at("/spec"), json!({"replicas": 1, "paused": true}));
}

#[test]
fn a_configuration_must_not_say_who_owns_it() {
    let mut story = Story::new();
    let error = story.refused("ann", json!({"metadata": {"managedFields": [{}]}}));
    assert_eq!(error, "metadata.managedFields must be nil");
}

#[test]
fn a_status_sent_to_the_main_endpoint_is_ignored() {
    let mut story = Story::new();
    story.apply(
        "ann",
        json!({"spec": {"replicas": 1}, "status": {"phase": "Up"}}),
    );
    assert_eq!(story.at("/status"), Value::Null);
    assert_eq!(story.owned("ann"), json!({"f:spec": {"f:replicas": {}}}));
}

#[test]
fn who_owned_part_of_a_list_owns_all_of_it_once_it_has_one_owner() {
    let mut story = Story::new();
    story
        .apply("ann", json!({"metadata": {"finalizers": ["a"]}}))
        .apply("bob", json!({"spec": {"paused": true}}));
    let mut changed = story.schema.properties["metadata"].as_ref().clone();
    let atomic = super::list(
        crate::schema::ListType::Atomic,
        crate::schema::Schema::default(),
    );
    changed
        .properties
        .insert("finalizers".into(), atomic.into());
    story
        .schema
        .properties
        .insert("metadata".into(), changed.into());
    let error = story.refused("bob", json!({"metadata": {"finalizers": ["b"]}}));
    assert!(error.ends_with("\"ann\": .metadata.finalizers"), "{error}");
}

#[test]
fn without_a_schema_objects_merge_and_lists_have_one_owner() {
    let mut story = Story::new();
    story.schema = crate::schema::Schema::default();
    story
        .apply(
            "ann",
            json!({"spec": {"deep": {"a": 1}, "list": [{"name": "x"}]}}),
        )
        .apply("bob", json!({"spec": {"deep": {"b": 2}}}));
    assert_eq!(story.at("/spec/deep"), json!({"a": 1, "b": 2}));
    let error = story.refused("bob", json!({"spec": {"list": [{"name": "y"}]}}));
    assert!(error.ends_with("\"ann\": .spec.list"), "{error}");
}

fn configs() -> impl Strategy<Value = Value> {
    let container = ("[a-d]", prop::option::of(0..3u8)).prop_map(|(name, image)| match image {
        Some(image) => json!({"name": name, "image": image}),
        None => json!({ "name": name }),
    });
    (
        prop::option::of(0..3u8),
        prop::collection::vec(container, 0..4),
        prop::collection::btree_map("[a-c]", 0..2u8, 0..3),
        prop::collection::btree_set("[a-c]", 0..3),
    )
        .prop_map(|(replicas, mut containers, labels, finalizers)| {
            let mut seen = std::collections::BTreeSet::new();
            containers.retain(|item| seen.insert(item["name"].to_string()));
            // An empty list that merges is owned by nobody, so it would stay for good.
            let mut config = json!({"metadata": {"labels": labels}, "spec": {}});
            if !finalizers.is_empty() {
                config["metadata"]["finalizers"] = json!(finalizers);
            }
            if !containers.is_empty() {
                config["spec"]["containers"] = json!(containers);
            }
            if let Some(replicas) = replicas {
                config["spec"]["replicas"] = replicas.into();
            }
            config
        })
}

proptest! {
    #[test]
    fn applying_twice_is_applying_once(
        history in prop::collection::vec((0..3usize, configs()), 1..6),
    ) {
        let mut story = Story::new();
        for (manager, config) in history {
            let manager = ["ann", "bob", "eve"][manager];
            story.force(manager, config.clone());
            let once = story.object.clone();
            story.apply(manager, config);
            prop_assert_eq!(&story.object, &once);
        }
    }

    #[test]
    fn what_all_managers_let_go_of_is_gone(
        history in prop::collection::vec((0..3usize, configs()), 1..6),
    ) {
        let mut story = Story::new();
        for (manager, config) in history {
            story.force(["ann", "bob", "eve"][manager], config);
        }
        for manager in ["ann", "bob", "eve"] {
            story.apply(manager, json!({}));
        }
        prop_assert_eq!(story.object.clone().unwrap(), super::pod(json!({})));
    }

    #[test]
    fn what_was_applied_is_there(
        history in prop::collection::vec((0..3usize, configs()), 0..5), config in configs(),
    ) {
        let mut story = Story::new();
        for (manager, config) in history {
            story.force(["ann", "bob", "eve"][manager], config);
        }
        story.force("ann", config.clone());
        for (name, value) in config["metadata"]["labels"].as_object().unwrap() {
            prop_assert_eq!(&story.at(&format!("/metadata/labels/{name}")), value);
        }
        let stored = story.at("/spec/containers");
        for wanted in config["spec"]["containers"].as_array().into_iter().flatten() {
            let found = stored.as_array().unwrap().iter().find(|c| c["name"] == wanted["name"]);
            prop_assert!(found.is_some(), "{} is missing", wanted);
        }
    }
}
