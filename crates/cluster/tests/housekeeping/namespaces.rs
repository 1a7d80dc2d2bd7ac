//! Namespaces end with their contents.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::office::{Maps, cluster, gone, object, until};

async fn namespace(client: &Client, name: &str) -> Api<Namespace> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    let namespace = object(json!({"metadata": {"name": name}}));
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .expect("created");
    namespaces
}

async fn delete(namespaces: &Api<Namespace>, name: &str) {
    let answer = namespaces
        .delete(name, &DeleteParams::default())
        .await
        .expect("deleted");
    let phase = answer.left().and_then(|namespace| namespace.status?.phase);
    assert_eq!(phase.as_deref(), Some("Terminating"));
}

#[tokio::test]
async fn a_namespace_goes_with_its_contents_and_nothing_else() {
    let cluster = cluster().await;
    let namespaces = namespace(&cluster.client(), "short").await;
    let maps = Maps(Api::namespaced(cluster.client(), "short"));
    for number in 0..100 {
        maps.make(&format!("map-{number}"), &[]).await;
    }
    let kept = Maps::of(&cluster);
    kept.make("kept", &[]).await;
    delete(&namespaces, "short").await;
    gone(&namespaces, "short").await;
    assert!(
        maps.0
            .list(&Default::default())
            .await
            .expect("a list")
            .items
            .is_empty()
    );
    assert!(kept.get("kept").await.is_some());
}

#[tokio::test]
async fn an_empty_namespace_goes_at_once() {
    let cluster = cluster().await;
    let namespaces = namespace(&cluster.client(), "empty").await;
    let accounts: Api<ServiceAccount> = Api::namespaced(cluster.client(), "empty");
    until(&accounts, "default", |a: Option<&ServiceAccount>| {
        a.is_some()
    })
    .await;
    delete(&namespaces, "empty").await;
    gone(&namespaces, "empty").await;
    gone(&accounts, "default").await;
}

#[tokio::test]
async fn what_holds_a_namespace_up_stands_in_its_conditions() {
    let cluster = cluster().await;
    let namespaces = namespace(&cluster.client(), "held").await;
    let maps = Maps(Api::namespaced(cluster.client(), "held"));
    maps.make_with("stubborn", json!({"finalizers": ["example.com/wait"]}))
        .await;
    delete(&namespaces, "held").await;

    let told = |namespace: Option<&Namespace>| {
        let status = namespace.and_then(|namespace| namespace.status.as_ref());
        let conditions = status
            .and_then(|status| status.conditions.clone())
            .unwrap_or_default();
        let says = |kind: &str, words: &str| {
            conditions.iter().any(|c| {
                c.type_ == kind
                    && c.status == "True"
                    && c.message.as_deref().unwrap().contains(words)
            })
        };
        says(
            "NamespaceContentRemaining",
            "configmaps. has 1 resource instances",
        ) && says(
            "NamespaceFinalizersRemaining",
            "example.com/wait in 1 resource instances",
        )
    };
    until(&namespaces, "held", told).await;
    let late = object::<ConfigMap>(json!({"metadata": {"name": "late"}}));
    let refused = maps
        .0
        .create(&PostParams::default(), &late)
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("being terminated"),
        "{refused}"
    );

    maps.change("stubborn", json!({"finalizers": null})).await;
    gone(&namespaces, "held").await;
}

#[tokio::test]
async fn a_namespace_waits_for_pods_to_end_gracefully() {
    let cluster = cluster().await;
    let namespaces = namespace(&cluster.client(), "graceful").await;
    let pods: Api<Pod> = Api::namespaced(cluster.client(), "graceful");
    let pod = object(json!({
        "metadata": {"name": "pod"},
        "spec": {"nodeName": "node", "containers": [{"name": "c", "image": "host"}]},
    }));
    pods.create(&PostParams::default(), &pod)
        .await
        .expect("created");
    delete(&namespaces, "graceful").await;
    let ending = |pod: Option<&Pod>| pod.is_some_and(|p| p.metadata.deletion_timestamp.is_some());
    until(&pods, "pod", ending).await;
    assert!(
        namespaces
            .get_opt("graceful")
            .await
            .expect("an answer")
            .is_some()
    );
    pods.delete("pod", &DeleteParams::default().grace_period(0))
        .await
        .expect("deleted");
    gone(&namespaces, "graceful").await;
}

#[tokio::test]
async fn a_namespace_with_a_finalizer_of_its_own_waits_for_that_too() {
    let cluster = cluster().await;
    let namespaces = namespace(&cluster.client(), "own").await;
    let change = |finalizers| Patch::Merge(json!({"metadata": {"finalizers": finalizers}}));
    let params = PatchParams::default();
    let hold = change(json!(["example.com/wait"]));
    namespaces
        .patch("own", &params, &hold)
        .await
        .expect("changed");
    delete(&namespaces, "own").await;
    let emptied = |namespace: Option<&Namespace>| {
        let spec = namespace.and_then(|namespace| namespace.spec.as_ref());
        spec.is_some_and(|spec| spec.finalizers.as_ref().is_none_or(Vec::is_empty))
    };
    until(&namespaces, "own", emptied).await;
    namespaces
        .patch("own", &params, &change(json!(null)))
        .await
        .expect("changed");
    gone(&namespaces, "own").await;
}
