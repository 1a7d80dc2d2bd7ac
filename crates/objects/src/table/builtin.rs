//! Which columns each built-in kind has.

use jiff::Timestamp;
use serde_json::Value;

use super::{
    Cells, Columns, Definition, access, created, extension, list, name, network, nodes, pods, size,
    storage, text, text_or_none,
};

/// Group, kind, columns and the function that fills them. After a column's name stands `+`
/// if only wide output shows it, and `#` if it is a number.
type Printer = (
    &'static str,
    &'static str,
    &'static str,
    fn(&Value, Timestamp) -> Vec<Value>,
);

const CORE: &str = "";
const ADMISSION: &str = "admissionregistration.k8s.io";
const RBAC: &str = "rbac.authorization.k8s.io";

const PRINTERS: &[Printer] = &[
    (CORE, "Pod", pods::COLUMNS, pods::cells),
    (CORE, "Node", nodes::COLUMNS, nodes::cells),
    (CORE, "Namespace", "Name|Status|Age", namespace),
    (CORE, "ConfigMap", "Name|Data|Age", config_map),
    (CORE, "Secret", "Name|Type|Data#|Age", secret),
    (CORE, "ServiceAccount", "Name|Secrets|Age", service_account),
    (CORE, "Service", network::SERVICE, network::service),
    (CORE, "Endpoints", "Name|Endpoints|Age", network::endpoints),
    (CORE, "PersistentVolume", storage::VOLUME, storage::volume),
    (
        CORE,
        "PersistentVolumeClaim",
        storage::CLAIM,
        storage::claim,
    ),
    (CORE, "Event", EVENT, event),
    (
        CORE,
        "ResourceQuota",
        "Name|Request|Limit|Age",
        resource_quota,
    ),
    (CORE, "LimitRange", CREATED, created_at),
    ("events.k8s.io", "Event", EVENT, event),
    (
        "discovery.k8s.io",
        "EndpointSlice",
        network::SLICE,
        network::slice,
    ),
    (
        "networking.k8s.io",
        "NetworkPolicy",
        "Name|Pod-Selector|Age",
        network::policy,
    ),
    ("coordination.k8s.io", "Lease", "Name|Holder|Age", lease),
    (
        "scheduling.k8s.io",
        "PriorityClass",
        PRIORITY,
        priority_class,
    ),
    (
        "storage.k8s.io",
        "StorageClass",
        storage::CLASS,
        storage::class,
    ),
    (
        "node.k8s.io",
        "RuntimeClass",
        "Name|Handler|Age",
        runtime_class,
    ),
    (RBAC, "Role", CREATED, created_at),
    (RBAC, "ClusterRole", CREATED, created_at),
    (RBAC, "RoleBinding", access::BINDING, access::binding),
    (RBAC, "ClusterRoleBinding", access::BINDING, access::binding),
    (
        ADMISSION,
        "ValidatingWebhookConfiguration",
        extension::WEBHOOKS,
        extension::webhooks,
    ),
    (
        ADMISSION,
        "MutatingWebhookConfiguration",
        extension::WEBHOOKS,
        extension::webhooks,
    ),
    (
        ADMISSION,
        "ValidatingAdmissionPolicy",
        extension::POLICY,
        extension::policy,
    ),
    (
        ADMISSION,
        "ValidatingAdmissionPolicyBinding",
        extension::BINDING,
        extension::binding,
    ),
    (
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        CREATED,
        created_at,
    ),
    (
        "apiregistration.k8s.io",
        "APIService",
        extension::SERVICE,
        extension::service,
    ),
];

const CREATED: &str = "Name|Created At";
const PRIORITY: &str = "Name|Value#|Global-Default|Age|PreemptionPolicy";
const EVENT: &str =
    "Last Seen|Type|Reason|Object|Subobject+|Source+|Message|First Seen+|Count+|Name+";

/// The columns of a kind.
pub(super) fn columns(group: &str, kind: &str) -> Columns {
    let found = PRINTERS
        .iter()
        .find(|(of, name, ..)| *of == group && *name == kind);
    let (columns, cells) = match found {
        Some((_, _, columns, cells)) => (*columns, *cells),
        None => (CREATED, created_at as fn(&Value, Timestamp) -> Vec<Value>),
    };
    Columns {
        definitions: columns.split('|').map(definition).collect(),
        cells: Cells::Builtin(cells),
    }
}

fn definition(column: &str) -> Definition {
    let plain = column.trim_end_matches(['+', '#']);
    if plain == "Name" && plain == column {
        return Definition::name();
    }
    Definition {
        name: plain.to_owned(),
        kind: if column.ends_with('#') {
            "integer"
        } else {
            "string"
        }
        .into(),
        format: String::new(),
        description: String::new(),
        priority: i64::from(column.ends_with('+')),
    }
}

fn created_at(object: &Value, _: Timestamp) -> Vec<Value> {
    vec![
        name(object).into(),
        text(object, "/metadata/creationTimestamp").into(),
    ]
}

fn namespace(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object).into(),
        text(object, "/status/phase").into(),
        created(object, now).into(),
    ]
}

fn config_map(object: &Value, now: Timestamp) -> Vec<Value> {
    let entries = size(object, "/data") + size(object, "/binaryData");
    vec![
        name(object).into(),
        entries.to_string().into(),
        created(object, now).into(),
    ]
}

fn secret(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object).into(),
        text(object, "/type").into(),
        size(object, "/data").into(),
        created(object, now).into(),
    ]
}

fn service_account(object: &Value, now: Timestamp) -> Vec<Value> {
    let secrets = list(object, "/secrets").len();
    vec![
        name(object).into(),
        secrets.to_string().into(),
        created(object, now).into(),
    ]
}

fn lease(object: &Value, now: Timestamp) -> Vec<Value> {
    let holder = text(object, "/spec/holderIdentity");
    vec![
        name(object).into(),
        holder.into(),
        created(object, now).into(),
    ]
}

fn runtime_class(object: &Value, now: Timestamp) -> Vec<Value> {
    vec![
        name(object).into(),
        text(object, "/handler").into(),
        created(object, now).into(),
    ]
}

fn priority_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let flag = object
        .get("globalDefault")
        .and_then(Value::as_bool)
        .unwrap_or_default();
    let policy = match text(object, "/preemptionPolicy") {
        "" => "PreemptLowerPriority",
        policy => policy,
    };
    vec![
        name(object).into(),
        object.get("value").cloned().unwrap_or_else(|| 0.into()),
        flag.to_string().into(),
        created(object, now).into(),
        policy.into(),
    ]
}

/// What is used of each resource: limits in one column, all else in the other.
fn resource_quota(object: &Value, now: Timestamp) -> Vec<Value> {
    let hard = object
        .pointer("/status/hard")
        .or_else(|| object.pointer("/spec/hard"));
    let mut requests = Vec::new();
    let mut limits = Vec::new();
    for (resource, hard) in hard.and_then(Value::as_object).into_iter().flatten() {
        let used = object
            .pointer("/status/used")
            .and_then(|used| used.get(resource));
        let used = used.and_then(Value::as_str).unwrap_or("0");
        let shown = format!("{resource}: {used}/{}", hard.as_str().unwrap_or_default());
        if resource.starts_with("limits.") {
            limits.push(shown)
        } else {
            requests.push(shown)
        }
    }
    vec![
        name(object).into(),
        requests.join(", ").into(),
        limits.join(", ").into(),
        created(object, now).into(),
    ]
}

/// Both kinds of Event: the new one has other names for some fields.
fn event(object: &Value, now: Timestamp) -> Vec<Value> {
    let either = |one: &str, other: &str| match text(object, one) {
        "" => text(object, other).to_owned(),
        found => found.to_owned(),
    };
    let series = text(object, "/series/lastObservedTime");
    let first = ["/firstTimestamp", "/deprecatedFirstTimestamp", "/eventTime"]
        .map(|pointer| text(object, pointer));
    let last = ["/lastTimestamp", "/deprecatedLastTimestamp", "/eventTime"]
        .map(|pointer| text(object, pointer));
    let since = |times: &[&str]| match times.iter().find(|time| !time.is_empty()) {
        Some(time) => super::age::since_text(time, now),
        None => "<unknown>".to_owned(),
    };
    let about = |field: &str| {
        either(
            &format!("/involvedObject/{field}"),
            &format!("/regarding/{field}"),
        )
    };
    let mut count = ["/series/count", "/count", "/deprecatedCount"]
        .iter()
        .find_map(|pointer| object.pointer(pointer).and_then(Value::as_i64))
        .unwrap_or_default();
    if count == 0 {
        count = 1;
    }
    let component = match either("/source/component", "/deprecatedSource/component") {
        empty if empty.is_empty() => either("/reportingComponent", "/reportingController"),
        component => component,
    };
    let host = match either("/source/host", "/deprecatedSource/host") {
        empty if empty.is_empty() => text(object, "/reportingInstance").to_owned(),
        host => host,
    };
    let source: Vec<&str> = [component.as_str(), host.as_str()]
        .into_iter()
        .filter(|part| !part.is_empty())
        .collect();
    vec![
        since(&[series, last[0], last[1], last[2]]).into(),
        text(object, "/type").into(),
        text(object, "/reason").into(),
        format!("{}/{}", about("kind").to_lowercase(), about("name")).into(),
        about("fieldPath").into(),
        source.join(", ").into(),
        either("/message", "/note").trim().into(),
        since(&first).into(),
        count.to_string().into(),
        text_or_none(object, "/metadata/name").into(),
    ]
}
