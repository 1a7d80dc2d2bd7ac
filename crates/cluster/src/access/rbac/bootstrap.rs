//! The roles and bindings that every cluster has from the start.

use serde_json::{Value, json};

const API: &str = "rbac.authorization.k8s.io/v1";
const READ: &[&str] = &["get", "list", "watch"];
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
const ALL: &[&str] = &[
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
];
const CREATE: &[&str] = &["create"];
const HEALTH: &[&str] = &["/healthz", "/livez", "/readyz", "/version", "/version/"];

/// A rule about resources of one group.
type Rule = (
    &'static str,
    &'static [&'static str],
    &'static [&'static str],
);

/// What a namespace's readers see, but for secrets and roles.
const VIEW: &[Rule] = &[
    (
        "",
        &[
            "bindings",
            "events",
            "limitranges",
            "namespaces",
            "namespaces/status",
        ],
        READ,
    ),
    (
        "",
        &[
            "configmaps",
            "endpoints",
            "persistentvolumeclaims",
            "persistentvolumeclaims/status",
        ],
        READ,
    ),
    (
        "",
        &[
            "pods",
            "pods/log",
            "pods/status",
            "resourcequotas",
            "resourcequotas/status",
        ],
        READ,
    ),
    (
        "",
        &["serviceaccounts", "services", "services/status"],
        READ,
    ),
    ("discovery.k8s.io", &["endpointslices"], READ),
    ("events.k8s.io", &["events"], READ),
    ("networking.k8s.io", &["networkpolicies"], READ),
    ("metrics.k8s.io", &["pods", "nodes"], READ),
];

/// What those who work in a namespace change, and the secrets that they see.
const EDIT: &[Rule] = &[
    (
        "",
        &[
            "pods/attach",
            "pods/exec",
            "pods/portforward",
            "pods/proxy",
            "secrets",
            "services/proxy",
        ],
        READ,
    ),
    ("", &["serviceaccounts"], &["impersonate"]),
    (
        "",
        &[
            "pods",
            "pods/attach",
            "pods/exec",
            "pods/portforward",
            "pods/proxy",
        ],
        WRITE,
    ),
    ("", &["pods/eviction", "serviceaccounts/token"], CREATE),
    (
        "",
        &["configmaps", "events", "persistentvolumeclaims", "secrets"],
        WRITE,
    ),
    (
        "",
        &["serviceaccounts", "services", "services/proxy"],
        WRITE,
    ),
    ("networking.k8s.io", &["networkpolicies"], WRITE),
    ("coordination.k8s.io", &["leases"], ALL),
];

/// What a namespace's administrators do beyond that.
const ADMIN: &[Rule] = &[
    (
        "authorization.k8s.io",
        &["localsubjectaccessreviews"],
        CREATE,
    ),
    ("rbac.authorization.k8s.io", &["rolebindings", "roles"], ALL),
];

/// Every object to be made, with the path that makes it.
pub(crate) fn objects() -> impl Iterator<Item = (String, Value)> {
    let roles = roles().into_iter().map(|role| ("clusterroles", role));
    let bindings = bindings()
        .into_iter()
        .map(|binding| ("clusterrolebindings", binding));
    roles
        .chain(bindings)
        .map(|(plural, object)| (format!("/apis/{API}/{plural}"), object))
}

fn roles() -> Vec<Value> {
    let who = "authentication.k8s.io";
    let may = "authorization.k8s.io";
    let discovery: Vec<&str> = [
        "/api",
        "/api/*",
        "/apis",
        "/apis/*",
        "/openapi",
        "/openapi/*",
    ]
    .into_iter()
    .chain(HEALTH.iter().copied())
    .collect();
    vec![
        role(
            "cluster-admin",
            None,
            json!([
                {"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]},
                {"nonResourceURLs": ["*"], "verbs": ["*"]},
            ]),
        ),
        aggregated("admin", None),
        aggregated("edit", Some("admin")),
        aggregated("view", Some("edit")),
        role("system:aggregate-to-admin", Some("admin"), rules(ADMIN)),
        role("system:aggregate-to-edit", Some("edit"), rules(EDIT)),
        role("system:aggregate-to-view", Some("view"), rules(VIEW)),
        role("system:discovery", None, paths(&discovery)),
        role("system:public-info-viewer", None, paths(HEALTH)),
        role(
            "system:monitoring",
            None,
            paths(&["/metrics", "/livez/*", "/readyz/*", "/healthz/*"]),
        ),
        role(
            "system:basic-user",
            None,
            rules(&[
                (
                    may,
                    &["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
                    CREATE,
                ),
                (who, &["selfsubjectreviews"], CREATE),
            ]),
        ),
        role(
            "system:auth-delegator",
            None,
            rules(&[
                (who, &["tokenreviews"], CREATE),
                (may, &["subjectaccessreviews"], CREATE),
            ]),
        ),
        role(
            "system:service-account-issuer-discovery",
            None,
            paths(&[
                "/.well-known/openid-configuration",
                "/.well-known/openid-configuration/",
                "/openid/v1/jwks",
                "/openid/v1/jwks/",
            ]),
        ),
        role(
            "system:node",
            None,
            rules(&[
                (who, &["tokenreviews"], CREATE),
                (
                    may,
                    &["subjectaccessreviews", "localsubjectaccessreviews"],
                    CREATE,
                ),
                (
                    "",
                    &[
                        "services",
                        "configmaps",
                        "secrets",
                        "persistentvolumes",
                        "persistentvolumeclaims",
                    ],
                    READ,
                ),
                (
                    "",
                    &["nodes"],
                    &["create", "get", "list", "watch", "update", "patch"],
                ),
                ("", &["nodes/status", "pods/status"], &["update", "patch"]),
                ("", &["pods"], &["get", "list", "watch", "create", "delete"]),
                ("", &["pods/eviction", "serviceaccounts/token"], CREATE),
                ("", &["events"], &["create", "update", "patch"]),
                (
                    "coordination.k8s.io",
                    &["leases"],
                    &["create", "get", "update", "patch", "delete"],
                ),
                ("node.k8s.io", &["runtimeclasses"], READ),
            ]),
        ),
    ]
}

fn bindings() -> Vec<Value> {
    let (everybody, known) = ("system:unauthenticated", "system:authenticated");
    vec![
        binding("cluster-admin", &["system:masters"]),
        binding("system:basic-user", &[known]),
        binding("system:discovery", &[known]),
        binding("system:public-info-viewer", &[known, everybody]),
        binding("system:monitoring", &["system:monitoring"]),
        binding(
            "system:service-account-issuer-discovery",
            &["system:serviceaccounts"],
        ),
    ]
}

/// A role, and the aggregated role that it is part of.
fn role(name: &str, part_of: Option<&str>, rules: Value) -> Value {
    let mut role = json!({
        "apiVersion": API, "kind": "ClusterRole", "metadata": metadata(name), "rules": rules,
    });
    if let Some(whole) = part_of {
        role["metadata"]["labels"][label(whole)] = "true".into();
    }
    role
}

fn aggregated(name: &str, part_of: Option<&str>) -> Value {
    let mut role = role(name, part_of, json!([]));
    role["aggregationRule"] =
        json!({"clusterRoleSelectors": [{"matchLabels": {label(name): "true"}}]});
    role
}

fn binding(role: &str, groups: &[&str]) -> Value {
    let group = "rbac.authorization.k8s.io";
    let subjects: Vec<Value> = groups
        .iter()
        .map(|name| json!({"apiGroup": group, "kind": "Group", "name": name}))
        .collect();
    json!({
        "apiVersion": API, "kind": "ClusterRoleBinding", "metadata": metadata(role),
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role}, "subjects": subjects,
    })
}

fn metadata(name: &str) -> Value {
    json!({
        "name": name,
        "labels": {"kubernetes.io/bootstrapping": "rbac-defaults"},
        "annotations": {"rbac.authorization.kubernetes.io/autoupdate": "true"},
    })
}

fn label(whole: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{whole}")
}

fn rules(rules: &[Rule]) -> Value {
    let rule = |(group, resources, verbs): &Rule| json!({"apiGroups": [group], "resources": resources, "verbs": verbs});
    rules.iter().map(rule).collect()
}

fn paths(paths: &[&str]) -> Value {
    json!([{"nonResourceURLs": paths, "verbs": ["get"]}])
}
