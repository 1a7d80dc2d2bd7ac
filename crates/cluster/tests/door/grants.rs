//! Nobody grants what they do not hold.

use std::sync::Arc;

use sandlot_cluster::access::NoEscalation;
use sandlot_cluster::admission::{Admission, AdmissionRequest, Operation, Resource};
use serde_json::{Value, json};

use crate::rbac::{office, user};
use crate::world::World;

fn write(
    who: &str,
    resource: &str,
    namespace: &str,
    object: Value,
    old: Option<Value>,
) -> AdmissionRequest {
    AdmissionRequest {
        operation: if old.is_some() {
            Operation::Update
        } else {
            Operation::Create
        },
        resource: Resource {
            group: "rbac.authorization.k8s.io".into(),
            version: "v1".into(),
            resource: resource.into(),
            namespaced: !namespace.is_empty(),
            ..Resource::default()
        },
        namespace: namespace.into(),
        name: "new".into(),
        user: user(who),
        object: Some(object),
        old_object: old.map(Arc::new),
        converter: None,
        options: Value::Null,
        dry_run: false,
    }
}

#[tokio::test]
async fn nobody_grants_what_they_do_not_hold() {
    let guard = NoEscalation::new(office().await);
    let rule = |groups: &str, resources: &str, verbs: &str| json!({"rules": [{"apiGroups": [groups], "resources": resources.split(',').collect::<Vec<_>>(), "verbs": verbs.split(',').collect::<Vec<_>>()}]});
    let binding = |kind: &str, name: &str| json!({"roleRef": {"kind": kind, "name": name}, "subjects": [{"kind": "User", "name": "eve"}]});
    // who, resource, namespace, object, the code it is refused with
    let cases = [
        ("ann", "clusterroles", "", rule("", "pods", "get"), None),
        (
            "ann",
            "clusterroles",
            "",
            rule("", "pods", "get,list"),
            None,
        ),
        (
            "ann",
            "clusterroles",
            "",
            rule("", "pods", "get,delete"),
            Some(403),
        ),
        (
            "ann",
            "clusterroles",
            "",
            rule("", "pods,secrets", "get"),
            Some(403),
        ),
        (
            "ann",
            "clusterroles",
            "",
            rule("*", "pods", "get"),
            Some(403),
        ),
        ("ann", "clusterroles", "", rule("", "*", "get"), Some(403)),
        ("ann", "clusterroles", "", rule("", "pods", "*"), Some(403)),
        (
            "ann",
            "clusterroles",
            "",
            rule("apps", "deployments/scale", "update"),
            None,
        ),
        (
            "ann",
            "clusterroles",
            "",
            rule("x.io", "pools", "get"),
            None,
        ),
        (
            "ann",
            "clusterroles",
            "",
            json!({"rules": [{"nonResourceURLs": ["/metrics/x"], "verbs": ["get"]}]}),
            None,
        ),
        (
            "ann",
            "clusterroles",
            "",
            json!({"rules": [{"nonResourceURLs": ["/*"], "verbs": ["get"]}]}),
            Some(403),
        ),
        (
            "ann",
            "clusterroles",
            "",
            json!({"rules": [], "aggregationRule": {"clusterRoleSelectors": []}}),
            Some(403),
        ),
        ("root", "clusterroles", "", rule("*", "*", "*"), None),
        (
            "root",
            "clusterroles",
            "",
            json!({"rules": [{"nonResourceURLs": ["/x"], "verbs": ["get"]}]}),
            None,
        ),
        (
            "zoe=system:masters",
            "clusterroles",
            "",
            json!({"rules": [{"nonResourceURLs": ["*"], "verbs": ["*"]}]}),
            None,
        ),
        (
            "bob",
            "roles",
            "shop",
            rule("", "configmaps", "get"),
            Some(403),
        ),
        (
            "bob",
            "roles",
            "shop",
            json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["prices"], "verbs": ["get"]}]}),
            None,
        ),
        (
            "bob",
            "roles",
            "shop",
            json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["wages"], "verbs": ["get"]}]}),
            Some(403),
        ),
        (
            "bob",
            "roles",
            "bank",
            json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["prices"], "verbs": ["get"]}]}),
            Some(403),
        ),
        (
            "cat",
            "rolebindings",
            "bank",
            binding("ClusterRole", "all"),
            None,
        ),
        (
            "cat",
            "rolebindings",
            "shop",
            binding("ClusterRole", "all"),
            Some(403),
        ),
        (
            "cat",
            "rolebindings",
            "shop",
            binding("ClusterRole", "reads-pods"),
            None,
        ),
        (
            "cat",
            "clusterrolebindings",
            "",
            binding("ClusterRole", "reads-pods"),
            Some(403),
        ),
        (
            "cat",
            "rolebindings",
            "shop",
            binding("Role", "missing"),
            Some(404),
        ),
        (
            "bob",
            "rolebindings",
            "shop",
            binding("Role", "one-config"),
            None,
        ),
        (
            "bob",
            "rolebindings",
            "bank",
            binding("Role", "one-config"),
            Some(403),
        ),
    ];
    for (who, resource, namespace, object, refused) in cases {
        let request = write(who, resource, namespace, object.clone(), None);
        assert!(guard.concerns(&request));
        let code = guard.validate(&request).await.err().map(|error| error.code);
        assert_eq!(
            code, refused,
            "{who} writes {resource} in {namespace:?}: {object}"
        );
    }
}

#[tokio::test]
async fn an_old_grant_may_stay_as_it_is() {
    let guard = NoEscalation::new(office().await);
    let old = json!({"metadata": {}, "rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let mut new = old.clone();
    new["metadata"]["labels"] = json!({"seen": "yes"});
    let relabel = write("ann", "clusterroles", "", new.clone(), Some(old.clone()));
    guard.validate(&relabel).await.unwrap();
    new["rules"][0]["resourceNames"] = json!(["x"]);
    let change = write("ann", "clusterroles", "", new, Some(old));
    let error = guard.validate(&change).await.unwrap_err();
    assert!(error.message.contains(
        "user \"ann\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n\
         {APIGroups:[\"*\"], Resources:[\"*\"], ResourceNames:[\"x\"], Verbs:[\"*\"]}"
    ), "{}", error.message);
}

#[tokio::test]
async fn the_verbs_escalate_and_bind_lift_the_rule() {
    let world = World::new();
    let rbac = "rbac.authorization.k8s.io";
    world
        .role(
            "",
            "admin",
            json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]),
        )
        .await;
    world.role("", "trusted", json!([
        {"apiGroups": [rbac], "resources": ["roles"], "resourceNames": ["new"], "verbs": ["escalate"]},
        {"apiGroups": [rbac], "resources": ["clusterroles"], "resourceNames": ["admin"], "verbs": ["bind"]},
    ])).await;
    world
        .bind("", "t", "ClusterRole/trusted", &["User/tim"])
        .await;
    let guard = NoEscalation::new(world.authorizer());
    let all = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    let admin = json!({"roleRef": {"kind": "ClusterRole", "name": "admin"}});
    guard
        .validate(&write("tim", "roles", "shop", all.clone(), None))
        .await
        .unwrap();
    guard
        .validate(&write("tim", "rolebindings", "shop", admin.clone(), None))
        .await
        .unwrap();
    guard
        .validate(&write("tim", "clusterroles", "", all, None))
        .await
        .unwrap_err();
    guard
        .validate(&write("ann", "rolebindings", "shop", admin, None))
        .await
        .unwrap_err();
}
