//! How the lists and maps of built-in types merge: what the published schemas of the Rust
//! types leave out.

use std::sync::Arc;

use serde_json::json;

use crate::schema::{ListType, Schema};

/// One thing known about a type or a field of it.
enum Fact {
    /// A list whose items are found by these keys under apply, and by the first of them
    /// in a strategic merge.
    Keyed(&'static [&'static str]),
    /// The same, and a strategic merge also clears what a patch does not retain.
    Retained(&'static [&'static str]),
    /// The same under apply, but a strategic merge replaces the list.
    AppliedOnly(&'static [&'static str]),
    /// A list that is whole under apply, but merges by this key in a strategic merge.
    PatchedOnly(&'static str),
    /// A list of values that each have an owner, merged by a strategic merge.
    MergedSet,
    /// A list of values that each have an owner, replaced by a strategic merge.
    Set,
    /// A map with one owner.
    AtomicMap,
    /// A map whose type has one owner, but which here has an owner for each field.
    Granular,
    /// The value when absent. Only where a list is keyed by it.
    Default(&'static str),
}

use Fact::{
    AppliedOnly, AtomicMap, Default, Granular, Keyed, MergedSet, PatchedOnly, Retained, Set,
};

const NAME: Fact = Keyed(&["name"]);
const TYPE: Fact = Keyed(&["type"]);

/// Type (its last part, with the group where two share a name), field (empty for the type
/// itself), fact. Lists that are not here have one owner.
const FACTS: &[(&str, &str, Fact)] = &[
    // meta
    ("meta.v1.ObjectMeta", "finalizers", MergedSet),
    ("meta.v1.ObjectMeta", "ownerReferences", Keyed(&["uid"])),
    ("meta.v1.OwnerReference", "", AtomicMap),
    ("meta.v1.LabelSelector", "", AtomicMap),
    // pods
    ("core.v1.PodSpec", "containers", NAME),
    ("core.v1.PodSpec", "initContainers", NAME),
    ("core.v1.PodSpec", "ephemeralContainers", NAME),
    ("core.v1.PodSpec", "hostAliases", Keyed(&["ip"])),
    ("core.v1.PodSpec", "imagePullSecrets", NAME),
    ("core.v1.PodSpec", "nodeSelector", AtomicMap),
    ("core.v1.PodSpec", "resourceClaims", Retained(&["name"])),
    ("core.v1.PodSpec", "schedulingGates", NAME),
    (
        "core.v1.PodSpec",
        "topologySpreadConstraints",
        Keyed(&["topologyKey", "whenUnsatisfiable"]),
    ),
    ("core.v1.PodSpec", "volumes", Retained(&["name"])),
    ("core.v1.Container", "env", NAME),
    (
        "core.v1.Container",
        "ports",
        Keyed(&["containerPort", "protocol"]),
    ),
    ("core.v1.Container", "volumeDevices", Keyed(&["devicePath"])),
    ("core.v1.Container", "volumeMounts", Keyed(&["mountPath"])),
    ("core.v1.EphemeralContainer", "env", NAME),
    (
        "core.v1.EphemeralContainer",
        "ports",
        Keyed(&["containerPort", "protocol"]),
    ),
    (
        "core.v1.EphemeralContainer",
        "volumeDevices",
        Keyed(&["devicePath"]),
    ),
    (
        "core.v1.EphemeralContainer",
        "volumeMounts",
        Keyed(&["mountPath"]),
    ),
    ("core.v1.ContainerPort", "protocol", Default("TCP")),
    (
        "core.v1.ResourceRequirements",
        "claims",
        AppliedOnly(&["name"]),
    ),
    ("core.v1.PodStatus", "conditions", TYPE),
    ("core.v1.PodStatus", "hostIPs", PatchedOnly("ip")),
    ("core.v1.PodStatus", "podIPs", Keyed(&["ip"])),
    (
        "core.v1.PodStatus",
        "resourceClaimStatuses",
        Retained(&["name"]),
    ),
    ("core.v1.ContainerStatus", "allocatedResourcesStatus", NAME),
    (
        "core.v1.ContainerStatus",
        "volumeMounts",
        Keyed(&["mountPath"]),
    ),
    ("core.v1.ConfigMapKeySelector", "", AtomicMap),
    ("core.v1.SecretKeySelector", "", AtomicMap),
    ("core.v1.LocalObjectReference", "", AtomicMap),
    ("core.v1.TypedLocalObjectReference", "", AtomicMap),
    ("core.v1.ObjectReference", "", AtomicMap),
    ("core.v1.SecretReference", "", AtomicMap),
    ("core.v1.ObjectFieldSelector", "", AtomicMap),
    ("core.v1.ResourceFieldSelector", "", AtomicMap),
    ("core.v1.NodeSelector", "", AtomicMap),
    ("core.v1.NodeSelectorTerm", "", AtomicMap),
    ("core.v1.TopologySelectorTerm", "", AtomicMap),
    ("core.v1.ScopeSelector", "", AtomicMap),
    // nodes and namespaces
    ("core.v1.NodeSpec", "podCIDRs", MergedSet),
    ("core.v1.NodeStatus", "addresses", TYPE),
    ("core.v1.NodeStatus", "conditions", TYPE),
    ("core.v1.NamespaceStatus", "conditions", TYPE),
    // services
    ("core.v1.ServiceSpec", "ports", Keyed(&["port", "protocol"])),
    ("core.v1.ServiceSpec", "selector", AtomicMap),
    ("core.v1.ServicePort", "protocol", Default("TCP")),
    ("core.v1.ServiceStatus", "conditions", TYPE),
    ("core.v1.EndpointAddress", "", AtomicMap),
    ("core.v1.EndpointPort", "", AtomicMap),
    ("discovery.v1.Endpoint", "addresses", Set),
    ("discovery.v1.EndpointPort", "", AtomicMap),
    ("core.v1.ServiceAccount", "secrets", NAME),
    // volumes
    ("core.v1.PersistentVolumeClaimStatus", "conditions", TYPE),
    ("core.v1.PersistentVolumeSpec", "claimRef", Granular),
    // access
    ("rbac.v1.RoleRef", "", AtomicMap),
    ("rbac.v1.Subject", "", AtomicMap),
    // admission
    (
        "admissionregistration.v1.ValidatingWebhookConfiguration",
        "webhooks",
        NAME,
    ),
    (
        "admissionregistration.v1.MutatingWebhookConfiguration",
        "webhooks",
        NAME,
    ),
    (
        "admissionregistration.v1.ValidatingWebhook",
        "matchConditions",
        NAME,
    ),
    (
        "admissionregistration.v1.MutatingWebhook",
        "matchConditions",
        NAME,
    ),
    (
        "admissionregistration.v1.ValidatingAdmissionPolicySpec",
        "matchConditions",
        NAME,
    ),
    (
        "admissionregistration.v1.ValidatingAdmissionPolicySpec",
        "variables",
        NAME,
    ),
    (
        "admissionregistration.v1.ValidatingAdmissionPolicyStatus",
        "conditions",
        AppliedOnly(&["type"]),
    ),
    (
        "admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec",
        "validationActions",
        Set,
    ),
    ("admissionregistration.v1.MatchResources", "", AtomicMap),
    (
        "admissionregistration.v1.NamedRuleWithOperations",
        "",
        AtomicMap,
    ),
    ("admissionregistration.v1.ParamKind", "", AtomicMap),
    ("admissionregistration.v1.ParamRef", "", AtomicMap),
    // extension
    (
        "apiextensions.v1.CustomResourceDefinitionStatus",
        "conditions",
        AppliedOnly(&["type"]),
    ),
    (
        "apiextensions.v1.JSONSchemaProps",
        "x-kubernetes-validations",
        Keyed(&["rule"]),
    ),
    ("apiregistration.v1.APIServiceStatus", "conditions", TYPE),
    // the rest
    ("node.v1.Scheduling", "nodeSelector", AtomicMap),
];

/// Writes what is known about a type into its schema.
pub(super) fn enrich(name: &str, schema: &mut Schema) {
    for (of, field, fact) in FACTS {
        if !name.ends_with(of) || !name[..name.len() - of.len()].ends_with('.') {
            continue;
        }
        if field.is_empty() {
            put(fact, schema);
        } else if let Some(property) = schema.properties.get_mut(*field) {
            put(fact, Arc::make_mut(property));
        }
    }
}

fn put(fact: &Fact, schema: &mut Schema) {
    let keyed = |keys: &[&str]| ListType::Map(keys.iter().map(|&key| key.to_owned()).collect());
    match fact {
        Keyed(keys) | Retained(keys) => {
            schema.list_type = keyed(keys);
            schema.strategy.merge = true;
            schema.strategy.merge_key = keys.first().map(|&key| key.to_owned());
            schema.strategy.retain_keys = matches!(fact, Retained(_));
        }
        AppliedOnly(keys) => schema.list_type = keyed(keys),
        PatchedOnly(key) => {
            schema.strategy.merge = true;
            schema.strategy.merge_key = Some((*key).to_owned());
        }
        MergedSet => {
            schema.list_type = ListType::Set;
            schema.strategy.merge = true;
        }
        Set => schema.list_type = ListType::Set,
        AtomicMap => schema.atomic_map = true,
        Granular => schema.atomic_map = false,
        Default(text) => schema.default = Some(json!(text)),
    }
}

/// The facts that name a type or field that does not exist; there must be none.
#[cfg(test)]
pub(super) fn stray(types: &crate::schema::Types) -> Vec<String> {
    let hits = |of: &str, field: &str| {
        types.iter().any(|(name, schema)| {
            name.ends_with(of) && (field.is_empty() || schema.properties.contains_key(field))
        })
    };
    let stray = FACTS.iter().filter(|(of, field, _)| !hits(of, field));
    stray
        .map(|(of, field, _)| format!("{of}.{field}"))
        .collect()
}
