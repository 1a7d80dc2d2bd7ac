//! The kinds that are there from the start, one row each.

/// What the server does with objects of a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nature {
    /// They are stored.
    Stored,
    /// They are questions: only created, answered at once, never stored.
    Question,
    /// They are measured when somebody looks.
    Measured,
}

/// A built-in kind.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) group: &'static str,
    pub(crate) version: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) singular: &'static str,
    pub(crate) short_names: &'static [&'static str],
    pub(crate) categories: &'static [&'static str],
    pub(crate) namespaced: bool,
    pub(crate) nature: Nature,
    pub(crate) subresources: &'static [&'static str],
    /// The fields, besides name and namespace, that a field selector can name.
    pub(crate) selectable: &'static [&'static str],
    /// Whether `metadata.generation` counts the changes of the spec.
    pub(crate) generation: bool,
    /// The name of the type in OpenAPI.
    pub(crate) schema: &'static str,
    /// The kind in the store, when objects of several groups are one and the same.
    pub(crate) stored_as: Option<&'static str>,
}

/// What most rows have in common.
const ROW: Row = Row {
    group: "",
    version: "v1",
    kind: "",
    plural: "",
    singular: "",
    short_names: &[],
    categories: &[],
    namespaced: true,
    nature: Nature::Stored,
    subresources: &[],
    selectable: &[],
    generation: false,
    schema: "",
    stored_as: None,
};

const CLUSTER: Row = Row {
    namespaced: false,
    ..ROW
};
const QUESTION: Row = Row {
    namespaced: false,
    nature: Nature::Question,
    ..ROW
};
const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";
const AUTHENTICATION: &str = "authentication.k8s.io";
const METRICS: &str = "metrics.k8s.io";
const STORAGE: &str = "storage.k8s.io";

/// The fields of an event that a selector can name; `events.k8s.io` says `regarding` instead.
const EVENT_FIELDS: &[&str] = &[
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// Every built-in kind, in the order in which discovery shows them.
pub(crate) static ROWS: &[Row] = &[
    Row {
        kind: "Binding",
        plural: "bindings",
        singular: "binding",
        nature: Nature::Question,
        schema: "io.k8s.api.core.v1.Binding",
        ..ROW
    },
    Row {
        kind: "ConfigMap",
        plural: "configmaps",
        singular: "configmap",
        short_names: &["cm"],
        schema: "io.k8s.api.core.v1.ConfigMap",
        ..ROW
    },
    Row {
        kind: "Endpoints",
        plural: "endpoints",
        singular: "endpoints",
        short_names: &["ep"],
        schema: "io.k8s.api.core.v1.Endpoints",
        ..ROW
    },
    Row {
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        selectable: EVENT_FIELDS,
        schema: "io.k8s.api.core.v1.Event",
        ..ROW
    },
    Row {
        kind: "LimitRange",
        plural: "limitranges",
        singular: "limitrange",
        short_names: &["limits"],
        schema: "io.k8s.api.core.v1.LimitRange",
        ..ROW
    },
    Row {
        kind: "Namespace",
        plural: "namespaces",
        singular: "namespace",
        short_names: &["ns"],
        subresources: &["finalize", "status"],
        selectable: &["status.phase"],
        schema: "io.k8s.api.core.v1.Namespace",
        ..CLUSTER
    },
    Row {
        kind: "Node",
        plural: "nodes",
        singular: "node",
        short_names: &["no"],
        subresources: &["status"],
        selectable: &["spec.unschedulable"],
        schema: "io.k8s.api.core.v1.Node",
        ..CLUSTER
    },
    Row {
        kind: "PersistentVolumeClaim",
        plural: "persistentvolumeclaims",
        singular: "persistentvolumeclaim",
        short_names: &["pvc"],
        subresources: &["status"],
        schema: "io.k8s.api.core.v1.PersistentVolumeClaim",
        ..ROW
    },
    Row {
        kind: "PersistentVolume",
        plural: "persistentvolumes",
        singular: "persistentvolume",
        short_names: &["pv"],
        subresources: &["status"],
        schema: "io.k8s.api.core.v1.PersistentVolume",
        ..CLUSTER
    },
    Row {
        kind: "Pod",
        plural: "pods",
        singular: "pod",
        short_names: &["po"],
        categories: &["all"],
        subresources: &[
            "attach",
            "binding",
            "ephemeralcontainers",
            "eviction",
            "exec",
            "log",
            "portforward",
            "resize",
            "status",
        ],
        selectable: &[
            "spec.hostNetwork",
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "status.nominatedNodeName",
            "status.phase",
            "status.podIP",
        ],
        schema: "io.k8s.api.core.v1.Pod",
        ..ROW
    },
    Row {
        kind: "ResourceQuota",
        plural: "resourcequotas",
        singular: "resourcequota",
        short_names: &["quota"],
        subresources: &["status"],
        schema: "io.k8s.api.core.v1.ResourceQuota",
        ..ROW
    },
    Row {
        kind: "Secret",
        plural: "secrets",
        singular: "secret",
        selectable: &["type"],
        schema: "io.k8s.api.core.v1.Secret",
        ..ROW
    },
    Row {
        kind: "ServiceAccount",
        plural: "serviceaccounts",
        singular: "serviceaccount",
        short_names: &["sa"],
        subresources: &["token"],
        schema: "io.k8s.api.core.v1.ServiceAccount",
        ..ROW
    },
    Row {
        kind: "Service",
        plural: "services",
        singular: "service",
        short_names: &["svc"],
        categories: &["all"],
        subresources: &["status"],
        selectable: &["spec.clusterIP", "spec.type"],
        schema: "io.k8s.api.core.v1.Service",
        ..ROW
    },
    Row {
        group: ADMISSION,
        kind: "MutatingWebhookConfiguration",
        plural: "mutatingwebhookconfigurations",
        singular: "mutatingwebhookconfiguration",
        categories: &["api-extensions"],
        generation: true,
        schema: "io.k8s.api.admissionregistration.v1.MutatingWebhookConfiguration",
        ..CLUSTER
    },
    Row {
        group: ADMISSION,
        kind: "ValidatingAdmissionPolicy",
        plural: "validatingadmissionpolicies",
        singular: "validatingadmissionpolicy",
        categories: &["api-extensions"],
        subresources: &["status"],
        generation: true,
        schema: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicy",
        ..CLUSTER
    },
    Row {
        group: ADMISSION,
        kind: "ValidatingAdmissionPolicyBinding",
        plural: "validatingadmissionpolicybindings",
        singular: "validatingadmissionpolicybinding",
        categories: &["api-extensions"],
        generation: true,
        schema: "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBinding",
        ..CLUSTER
    },
    Row {
        group: ADMISSION,
        kind: "ValidatingWebhookConfiguration",
        plural: "validatingwebhookconfigurations",
        singular: "validatingwebhookconfiguration",
        categories: &["api-extensions"],
        generation: true,
        schema: "io.k8s.api.admissionregistration.v1.ValidatingWebhookConfiguration",
        ..CLUSTER
    },
    Row {
        group: "apiextensions.k8s.io",
        kind: "CustomResourceDefinition",
        plural: "customresourcedefinitions",
        singular: "customresourcedefinition",
        short_names: &["crd", "crds"],
        categories: &["api-extensions"],
        subresources: &["status"],
        generation: true,
        schema: "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition",
        ..CLUSTER
    },
    Row {
        group: AUTHENTICATION,
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        singular: "selfsubjectreview",
        schema: "io.k8s.api.authentication.v1.SelfSubjectReview",
        ..QUESTION
    },
    Row {
        group: AUTHENTICATION,
        kind: "TokenReview",
        plural: "tokenreviews",
        singular: "tokenreview",
        schema: "io.k8s.api.authentication.v1.TokenReview",
        ..QUESTION
    },
    Row {
        group: AUTHORIZATION,
        kind: "LocalSubjectAccessReview",
        plural: "localsubjectaccessreviews",
        singular: "localsubjectaccessreview",
        namespaced: true,
        schema: "io.k8s.api.authorization.v1.LocalSubjectAccessReview",
        ..QUESTION
    },
    Row {
        group: AUTHORIZATION,
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        singular: "selfsubjectaccessreview",
        schema: "io.k8s.api.authorization.v1.SelfSubjectAccessReview",
        ..QUESTION
    },
    Row {
        group: AUTHORIZATION,
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        singular: "selfsubjectrulesreview",
        schema: "io.k8s.api.authorization.v1.SelfSubjectRulesReview",
        ..QUESTION
    },
    Row {
        group: AUTHORIZATION,
        kind: "SubjectAccessReview",
        plural: "subjectaccessreviews",
        singular: "subjectaccessreview",
        schema: "io.k8s.api.authorization.v1.SubjectAccessReview",
        ..QUESTION
    },
    Row {
        group: "coordination.k8s.io",
        kind: "Lease",
        plural: "leases",
        singular: "lease",
        schema: "io.k8s.api.coordination.v1.Lease",
        ..ROW
    },
    Row {
        group: "discovery.k8s.io",
        kind: "EndpointSlice",
        plural: "endpointslices",
        singular: "endpointslice",
        generation: true,
        schema: "io.k8s.api.discovery.v1.EndpointSlice",
        ..ROW
    },
    Row {
        group: "events.k8s.io",
        kind: "Event",
        plural: "events",
        singular: "event",
        short_names: &["ev"],
        selectable: EVENT_FIELDS,
        schema: "io.k8s.api.events.v1.Event",
        stored_as: Some("events"),
        ..ROW
    },
    Row {
        group: "networking.k8s.io",
        kind: "NetworkPolicy",
        plural: "networkpolicies",
        singular: "networkpolicy",
        short_names: &["netpol"],
        generation: true,
        schema: "io.k8s.api.networking.v1.NetworkPolicy",
        ..ROW
    },
    Row {
        group: "node.k8s.io",
        kind: "RuntimeClass",
        plural: "runtimeclasses",
        singular: "runtimeclass",
        schema: "io.k8s.api.node.v1.RuntimeClass",
        ..CLUSTER
    },
    Row {
        group: RBAC,
        kind: "ClusterRole",
        plural: "clusterroles",
        singular: "clusterrole",
        schema: "io.k8s.api.rbac.v1.ClusterRole",
        ..CLUSTER
    },
    Row {
        group: RBAC,
        kind: "ClusterRoleBinding",
        plural: "clusterrolebindings",
        singular: "clusterrolebinding",
        schema: "io.k8s.api.rbac.v1.ClusterRoleBinding",
        ..CLUSTER
    },
    Row {
        group: RBAC,
        kind: "Role",
        plural: "roles",
        singular: "role",
        schema: "io.k8s.api.rbac.v1.Role",
        ..ROW
    },
    Row {
        group: RBAC,
        kind: "RoleBinding",
        plural: "rolebindings",
        singular: "rolebinding",
        schema: "io.k8s.api.rbac.v1.RoleBinding",
        ..ROW
    },
    Row {
        group: "scheduling.k8s.io",
        kind: "PriorityClass",
        plural: "priorityclasses",
        singular: "priorityclass",
        short_names: &["pc"],
        generation: true,
        schema: "io.k8s.api.scheduling.v1.PriorityClass",
        ..CLUSTER
    },
    Row {
        group: STORAGE,
        kind: "StorageClass",
        plural: "storageclasses",
        singular: "storageclass",
        short_names: &["sc"],
        schema: "io.k8s.api.storage.v1.StorageClass",
        ..CLUSTER
    },
    Row {
        group: METRICS,
        version: "v1beta1",
        kind: "NodeMetrics",
        plural: "nodes",
        namespaced: false,
        nature: Nature::Measured,
        ..ROW
    },
    Row {
        group: METRICS,
        version: "v1beta1",
        kind: "PodMetrics",
        plural: "pods",
        nature: Nature::Measured,
        ..ROW
    },
];

/// The fields by which stored objects of a built-in kind can be selected; kept as facts.
pub(crate) fn selectable(stored_kind: &str) -> &'static [&'static str] {
    match stored_kind {
        // The few kinds that have any; everything else is found by name and labels.
        "pods" | "events" | "secrets" | "namespaces" | "nodes" | "services" => ROWS
            .iter()
            .find(|row| row.group.is_empty() && row.plural == stored_kind)
            .map_or(&[], |row| row.selectable),
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn no_two_kinds_of_a_group_share_a_name() {
        let mut seen = BTreeSet::new();
        for row in ROWS {
            assert!(
                seen.insert((row.group, row.plural)),
                "{} {}",
                row.group,
                row.plural
            );
            for short in row.short_names {
                assert!(seen.insert((row.group, short)), "{} {short}", row.group);
            }
            assert!(
                row.nature == Nature::Measured || row.schema.ends_with(row.kind),
                "{} {}",
                row.schema,
                row.kind
            );
        }
    }

    #[test]
    fn every_selectable_kind_keeps_its_facts() {
        let own = |row: &&Row| row.stored_as.is_none() && row.nature != Nature::Measured;
        for row in ROWS.iter().filter(own) {
            assert_eq!(row.selectable, selectable(row.plural), "{}", row.plural);
        }
    }
}
