//! Garbage: what is owned goes with its owners, before them, or not at all, as one wishes.

use k8s_openapi::api::core::v1::{ConfigMap, Node};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::Api;
use kube::api::PropagationPolicy::{Background, Foreground, Orphan};
use kube::api::{ApiResource, DeleteParams, DynamicObject, GroupVersionKind, PostParams};
use sandlot_cluster::{Cluster, Config};
use serde_json::json;

use crate::office::{Maps, cluster, gone, object, reference, until};

#[tokio::test]
async fn what_is_owned_goes_with_its_owner() {
    let cluster = cluster().await;
    let maps = Maps::of(&cluster);
    let grandparent = maps.make("grandparent", &[]).await;
    let parent = maps.make("parent", &[&grandparent]).await;
    maps.make("child", &[&parent]).await;
    maps.make("stranger", &[]).await;
    maps.delete("grandparent", Background).await;
    maps.gone("parent").await;
    maps.gone("child").await;
    assert!(maps.get("stranger").await.is_some());
}

#[tokio::test]
async fn what_has_two_owners_stays_as_long_as_one_of_them() {
    let cluster = cluster().await;
    let maps = Maps::of(&cluster);
    let (one, other) = (maps.make("one", &[]).await, maps.make("other", &[]).await);
    maps.make("child", &[&one, &other]).await;
    maps.delete("one", Background).await;
    let only_other = |child: Option<&ConfigMap>| {
        let owners = child.and_then(|child| child.metadata.owner_references.clone());
        owners.is_some_and(|owners| owners.len() == 1 && owners[0].name == "other")
    };
    until(&maps.0, "child", only_other).await;
    maps.delete("other", Background).await;
    maps.gone("child").await;
}

#[tokio::test]
async fn an_owner_deleted_in_the_foreground_goes_last() {
    let cluster = cluster().await;
    let maps = Maps::of(&cluster);
    let owner = maps.make("owner", &[]).await;
    let metadata =
        json!({"ownerReferences": [reference(&owner)], "finalizers": ["example.com/wait"]});
    maps.make_with("child", metadata).await;
    maps.make("grandchild", &[&maps.get("child").await.unwrap()])
        .await;
    maps.delete("owner", Foreground).await;
    maps.gone("grandchild").await;
    maps.collector_has_been_here().await;
    let waiting = maps.get("owner").await.expect("still there");
    assert!(waiting.metadata.deletion_timestamp.is_some());
    assert_eq!(waiting.metadata.finalizers.unwrap(), ["foregroundDeletion"]);
    assert!(
        maps.get("child")
            .await
            .unwrap()
            .metadata
            .deletion_timestamp
            .is_some()
    );

    maps.change("child", json!({"finalizers": null})).await;
    maps.gone("child").await;
    maps.gone("owner").await;
}

#[tokio::test]
async fn an_owner_does_not_wait_for_those_who_do_not_block_it() {
    let cluster = cluster().await;
    let maps = Maps::of(&cluster);
    let owner = maps.make("owner", &[]).await;
    let mut reference = reference(&owner);
    reference["blockOwnerDeletion"] = false.into();
    let metadata = json!({"ownerReferences": [reference], "finalizers": ["example.com/wait"]});
    maps.make_with("child", metadata).await;
    maps.delete("owner", Foreground).await;
    maps.gone("owner").await;
    // The owner may be gone before it is the child's turn.
    let deleting = |child: Option<&ConfigMap>| {
        child.is_some_and(|child| child.metadata.deletion_timestamp.is_some())
    };
    until(&maps.0, "child", deleting).await;
}

#[tokio::test]
async fn what_is_orphaned_stays_and_forgets_its_owner() {
    let cluster = cluster().await;
    let maps = Maps::of(&cluster);
    let owner = maps.make("owner", &[]).await;
    for name in ["a", "b", "c"] {
        maps.make(name, &[&owner]).await;
    }
    maps.delete("owner", Orphan).await;
    maps.gone("owner").await;
    maps.collector_has_been_here().await;
    for name in ["a", "b", "c"] {
        let child = maps.get(name).await.expect("still there");
        assert_eq!(child.metadata.owner_references, None);
    }
}

#[tokio::test]
async fn those_who_own_each_other_do_not_wait_for_each_other() {
    let cluster = cluster().await;
    let maps = Maps::of(&cluster);
    let chicken = maps.make("chicken", &[]).await;
    let egg = maps.make("egg", &[&chicken]).await;
    maps.change("chicken", json!({"ownerReferences": [reference(&egg)]}))
        .await;
    maps.delete("chicken", Foreground).await;
    maps.gone("chicken").await;
    maps.gone("egg").await;
}

#[tokio::test]
async fn an_owner_that_never_was_owns_nothing_that_lasts() {
    let cluster = cluster().await;
    let maps = Maps::of(&cluster);
    let other = maps.make("other", &[]).await;
    let mut wrong_name = reference(&other);
    wrong_name["name"] = "another".into();
    let mut wrong_kind = reference(&other);
    wrong_kind["kind"] = "Secret".into();
    for (name, owner) in [("wrong-name", wrong_name), ("wrong-kind", wrong_kind)] {
        maps.make_with(name, json!({"ownerReferences": [owner]}))
            .await;
        maps.gone(name).await;
    }
}

#[tokio::test]
async fn an_owner_of_an_unknown_kind_is_given_the_benefit_of_the_doubt() {
    let cluster = cluster().await;
    let maps = Maps::of(&cluster);
    let unknown = json!([{
        "apiVersion": "example.com/v1", "kind": "Ghost", "name": "ghost",
        "uid": "00000000-0000-4000-8000-000000000001",
    }]);
    maps.make_with("child", json!({ "ownerReferences": unknown }))
        .await;
    maps.collector_has_been_here().await;
    assert!(maps.get("child").await.is_some());
}

#[tokio::test]
async fn an_owner_in_another_namespace_does_not_count_and_one_in_none_does() {
    let cluster = cluster().await;
    let maps = Maps::of(&cluster);
    let nodes: Api<Node> = Api::all(cluster.client());
    let node = object(json!({"metadata": {"name": "node"}}));
    let node = nodes
        .create(&PostParams::default(), &node)
        .await
        .expect("created");
    let by_node = json!([{
        "apiVersion": "v1", "kind": "Node", "name": "node", "uid": node.metadata.uid,
    }]);
    maps.make_with("of-node", json!({ "ownerReferences": by_node }))
        .await;

    let owner = maps.make("owner", &[]).await;
    let elsewhere = Maps(Api::namespaced(cluster.client(), "kube-public"));
    elsewhere.make("far", &[&owner]).await;
    elsewhere.gone("far").await;
    assert!(maps.get("of-node").await.is_some());
    nodes
        .delete("node", &DeleteParams::default())
        .await
        .expect("deleted");
    maps.gone("of-node").await;
}

#[tokio::test]
async fn what_is_owned_by_custom_objects_goes_with_their_definition() {
    let cluster = cluster().await;
    let maps = Maps::of(&cluster);
    let definitions: Api<CustomResourceDefinition> = Api::all(cluster.client());
    let schema = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let definition = object(json!({
        "metadata": {"name": "widgets.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "widgets", "kind": "Widget"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}],
        },
    }));
    definitions
        .create(&PostParams::default(), &definition)
        .await
        .expect("created");
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Widget"));
    let widgets: Api<DynamicObject> = Api::default_namespaced_with(cluster.client(), &resource);
    let widget = object(
        json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}}),
    );
    let widget = widgets
        .create(&PostParams::default(), &widget)
        .await
        .expect("created");
    let by_widget = json!([{
        "apiVersion": "example.com/v1", "kind": "Widget", "name": "w", "uid": widget.metadata.uid,
    }]);
    maps.make_with("of-widget", json!({ "ownerReferences": by_widget }))
        .await;
    let name = "widgets.example.com";
    definitions
        .delete(name, &DeleteParams::default())
        .await
        .expect("deleted");
    maps.gone("of-widget").await;
    gone(&definitions, name).await;
}

#[tokio::test]
async fn a_restart_finds_what_was_left_undone() {
    let folder = tempfile::tempdir().unwrap();
    let open = || Config {
        database: Some(folder.path().join("cluster.db")),
        ..Config::default()
    };
    let cluster = Cluster::start(open()).await.expect("starts");
    let maps = Maps::of(&cluster);
    let owner = maps.make("owner", &[]).await;
    let metadata =
        json!({"ownerReferences": [reference(&owner)], "finalizers": ["example.com/wait"]});
    maps.make_with("child", metadata).await;
    maps.delete("owner", Foreground).await;
    cluster.stop().await;

    let cluster = Cluster::start(open()).await.expect("starts");
    let maps = Maps::of(&cluster);
    maps.change("child", json!({"finalizers": null})).await;
    maps.gone("child").await;
    maps.gone("owner").await;
}

#[tokio::test]
async fn hundreds_are_collected_as_a_matter_of_course() {
    let cluster = cluster().await;
    let maps = Maps::of(&cluster);
    let owner = maps.make("owner", &[]).await;
    let names: Vec<String> = (0..300).map(|number| format!("child-{number}")).collect();
    let owners = [&owner];
    futures::future::join_all(names.iter().map(|name| maps.make(name, &owners))).await;
    maps.delete("owner", Foreground).await;
    maps.gone("owner").await;
    let left = maps.0.list(&Default::default()).await.expect("a list");
    assert!(
        left.iter()
            .all(|map| !map.metadata.name.as_ref().unwrap().starts_with("child"))
    );
}
