//! What roles and bindings allow.

use std::sync::Arc;

use sandlot_cluster::access::{Attributes, Authorizer, User};
use serde_json::json;

use crate::world::World;

/// `verb group/resource/subresource namespace name`; `-` is nothing. A path begins with `/`.
fn request(text: &str) -> Attributes {
    let words: Vec<&str> = text
        .split_whitespace()
        .map(|word| if word == "-" { "" } else { word })
        .collect();
    match words.as_slice() {
        [verb, path] if path.starts_with('/') => Attributes::path(verb, path),
        [verb, what, namespace, name] => {
            let (group, resource) = what.split_once(':').unwrap_or(("", what));
            let (resource, sub) = resource.split_once('/').unwrap_or((resource, ""));
            let request = Attributes::resource(verb, group, "v1", resource);
            request.subresource(sub).in_namespace(namespace).named(name)
        }
        _ => panic!("{text}"),
    }
}

/// `name` or `name=group,group`, or `sa:namespace:name`.
pub(crate) fn user(text: &str) -> User {
    if let Some((namespace, name)) = text
        .strip_prefix("sa:")
        .and_then(|rest| rest.split_once(':'))
    {
        return User::service_account(namespace, name, "");
    }
    let (name, groups) = text.split_once('=').unwrap_or((text, ""));
    let groups = groups
        .split(',')
        .filter(|group| !group.is_empty())
        .map(str::to_owned);
    User::authenticated(name, groups)
}

/// A cluster whose roles and bindings touch every rule of RBAC.
pub(crate) async fn office() -> Arc<Authorizer> {
    let world = World::new();
    let get = json!(["get", "list"]);
    world
        .role(
            "",
            "reads-pods",
            json!([{"apiGroups": [""], "resources": ["pods"], "verbs": get}]),
        )
        .await;
    world
        .role(
            "",
            "all",
            json!([{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]),
        )
        .await;
    world
        .role(
            "",
            "pays",
            json!([
                {"nonResourceURLs": ["/healthz", "/metrics/*"], "verbs": ["get"]},
                {"nonResourceURLs": ["/secret"], "verbs": ["*"]},
            ]),
        )
        .await;
    world
        .role(
            "",
            "scales",
            json!([{"apiGroups": ["*"], "resources": ["*/scale"], "verbs": ["update"]}]),
        )
        .await;
    world
        .role(
            "",
            "sizes",
            json!([{"apiGroups": ["x.io"], "resources": ["*"], "verbs": ["get"]}]),
        )
        .await;
    world.role("shop", "one-config", json!([
        {"apiGroups": [""], "resources": ["configmaps"], "resourceNames": ["prices"], "verbs": ["get", "update"]},
        {"apiGroups": [""], "resources": ["pods/log"], "verbs": ["get"]},
        {"apiGroups": ["apps", "x.io"], "resources": ["pools", "tasks"], "verbs": ["create"]},
    ])).await;
    world
        .role(
            "bank",
            "one-config",
            json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get"]}]),
        )
        .await;
    world
        .bind(
            "",
            "b1",
            "ClusterRole/reads-pods",
            &["User/ann", "Group/readers"],
        )
        .await;
    world
        .bind("", "b2", "ClusterRole/all", &["User/root"])
        .await;
    world
        .bind("", "b3", "ClusterRole/pays", &["User/ann"])
        .await;
    world
        .bind("", "b4", "ClusterRole/scales", &["User/ann"])
        .await;
    world
        .bind("", "b5", "ClusterRole/sizes", &["User/ann"])
        .await;
    world
        .bind("", "b6", "ClusterRole/nothing-there", &["User/lost"])
        .await;
    world
        .bind(
            "",
            "b7",
            "ClusterRole/reads-pods",
            &["Group/system:serviceaccounts:farm"],
        )
        .await;
    world
        .bind(
            "shop",
            "b1",
            "Role/one-config",
            &["User/bob", "ServiceAccount/shop/till"],
        )
        .await;
    world
        .bind("shop", "b2", "ClusterRole/reads-pods", &["User/cat"])
        .await;
    world
        .bind(
            "bank",
            "b1",
            "ClusterRole/all",
            &["User/cat", "ServiceAccount/shop/till"],
        )
        .await;
    world
        .bind("bank", "b2", "ClusterRole/pays", &["User/bob"])
        .await;
    world.authorizer()
}

#[tokio::test]
async fn requests_are_allowed_exactly_as_the_rules_say() {
    let authorizer = office().await;
    // who, what, allowed
    let cases = [
        ("ann", "get pods shop web", true),
        ("ann", "list pods shop -", true),
        ("ann", "list pods - -", true),
        ("ann", "watch pods shop -", false),
        ("ann", "delete pods shop web", false),
        ("ann", "get pods/log shop web", false),
        ("ann", "get pods/status shop web", false),
        ("ann", "get y.io:pods shop web", false),
        ("ann", "get secrets shop web", false),
        ("ann", "get nodes - n1", false),
        ("ann", "get x.io:pools shop p", true),
        ("ann", "get x.io:pools/status shop p", true),
        ("ann", "update x.io:pools shop p", false),
        ("ann", "update apps:deployments/scale shop d", true),
        ("ann", "update x.io:pools/scale shop d", true),
        ("ann", "update x.io:pools/status shop d", false),
        ("ann", "get apps:deployments/scale shop d", false),
        ("ann", "get /healthz", true),
        ("ann", "get /healthz/ping", false),
        ("ann", "get /metrics/", true),
        ("ann", "get /metrics/a/b", true),
        ("ann", "get /metrics", false),
        ("ann", "post /healthz", false),
        ("ann", "post /secret", true),
        ("ann", "get /version", false),
        ("zoe", "get pods shop web", false),
        ("zoe=readers", "get pods shop web", true),
        ("zoe=other,readers", "list pods - -", true),
        ("readers", "get pods shop web", false),
        ("zoe=ann", "get pods shop web", false),
        ("root", "delete nodes - n1", true),
        ("root", "impersonate users - ann", true),
        ("root", "update x.io:pools/status shop p", true),
        ("root", "get /healthz", false),
        ("lost", "get pods shop web", false),
        ("zoe=system:masters", "delete nodes - n1", true),
        ("zoe=system:masters", "post /anything", true),
        ("bob", "get configmaps shop prices", true),
        ("bob", "update configmaps shop prices", true),
        ("bob", "get configmaps shop wages", false),
        ("bob", "get configmaps shop -", false),
        ("bob", "list configmaps shop -", false),
        ("bob", "list configmaps shop prices", false),
        ("bob", "get configmaps bank prices", false),
        ("bob", "get configmaps - prices", false),
        ("bob", "delete configmaps shop prices", false),
        ("bob", "get pods/log shop web", true),
        ("bob", "get pods shop web", false),
        ("bob", "create x.io:pools shop -", true),
        ("bob", "create apps:tasks shop -", true),
        ("bob", "create pools shop -", false),
        ("bob", "get secrets bank s", false),
        ("bob", "get /healthz", false),
        ("cat", "get pods shop web", true),
        ("cat", "list pods - -", false),
        ("cat", "get pods farm web", false),
        ("cat", "delete secrets bank s", true),
        ("cat", "delete secrets shop s", false),
        ("cat", "get nodes - n1", false),
        ("sa:shop:till", "get configmaps shop prices", true),
        ("sa:shop:till", "delete secrets bank s", true),
        ("sa:bank:till", "get configmaps shop prices", false),
        ("sa:shop:other", "get configmaps shop prices", false),
        (
            "system:serviceaccount:shop:till",
            "get configmaps shop prices",
            true,
        ),
        ("sa:farm:any", "get pods shop web", true),
        ("sa:shop:any", "get pods shop web", false),
    ];
    for (who, what, allowed) in cases {
        let decision = authorizer.decide(&user(who), &request(what));
        assert_eq!(
            decision.allowed, allowed,
            "{who}: {what}: {}",
            decision.reason
        );
    }
}

#[tokio::test]
async fn a_refusal_and_a_permission_are_explained_in_kubernetes_words() {
    let authorizer = office().await;
    let refused = |who: &str, what: &str| authorizer.check(&user(who), &request(what)).unwrap_err();
    let cases = [
        (
            "zoe",
            "get pods shop web",
            "pods \"web\" is forbidden: User \"zoe\" cannot get resource \"pods\" in API group \"\" in the namespace \"shop\"",
        ),
        (
            "zoe",
            "list x.io:pools - -",
            "pools.x.io is forbidden: User \"zoe\" cannot list resource \"pools\" in API group \"x.io\" at the cluster scope",
        ),
        (
            "zoe",
            "create pods/exec shop web",
            "pods \"web\" is forbidden: User \"zoe\" cannot create resource \"pods/exec\" in API group \"\" in the namespace \"shop\"",
        ),
        (
            "zoe",
            "get /metrics",
            "forbidden: User \"zoe\" cannot get path \"/metrics\"",
        ),
    ];
    for (who, what, message) in cases {
        let error = refused(who, what);
        assert_eq!((error.code, error.message.as_str()), (403, message));
    }
    let why = |who: &str, what: &str| authorizer.decide(&user(who), &request(what)).reason;
    assert_eq!(
        why("ann", "get pods shop web"),
        "RBAC: allowed by ClusterRoleBinding \"b1\" of ClusterRole \"reads-pods\" to User \"ann\""
    );
    assert_eq!(
        why("bob", "get configmaps shop prices"),
        "RBAC: allowed by RoleBinding \"b1/shop\" of Role \"one-config\" to User \"bob\""
    );
}

#[tokio::test]
async fn a_change_of_roles_or_bindings_counts_at_once() {
    let world = World::new();
    let authorizer = world.authorizer();
    let may = || {
        authorizer
            .decide(&user("ann"), &request("get pods shop web"))
            .allowed
    };
    assert!(!may());
    world.bind("shop", "b", "Role/r", &["User/ann"]).await;
    assert!(!may(), "the role is not there yet");
    world
        .role(
            "shop",
            "r",
            json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]),
        )
        .await;
    assert!(may());
    world.bind("shop", "b", "Role/r", &["User/bob"]).await;
    assert!(!may());
    world
        .bind("shop", "b", "Role/r", &["Group/system:authenticated"])
        .await;
    assert!(may());
    world
        .role(
            "shop",
            "r",
            json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]}]),
        )
        .await;
    assert!(!may());
    world
        .role(
            "shop",
            "r",
            json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]}]),
        )
        .await;
    assert!(may());
    world
        .delete("rbac.authorization.k8s.io/rolebindings", "shop", "b")
        .await;
    assert!(!may());
}
