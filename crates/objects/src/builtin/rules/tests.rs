//! What a user is told about a built-in object that is wrong.

use serde_json::{Value, json};

use super::validate;
use crate::{builtin::defaults, schema::Cause};

const RBAC: &str = "rbac.authorization.k8s.io";

fn told(group: &str, kind: &str, mut object: Value, old: Option<Value>) -> Vec<String> {
    defaults::apply(group, kind, &mut object);
    let old = old.map(|mut old| {
        defaults::apply(group, kind, &mut old);
        old
    });
    validate(group, kind, &object, old.as_ref())
        .iter()
        .map(Cause::to_string)
        .collect()
}

/// A pod that is right, with one field of its container or spec changed.
fn pod(pointer: &str, value: Value) -> Value {
    let mut pod = json!({"metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "c", "image": "i"}], "volumes": [{"name": "v"}]}});
    let (parent, key) = pointer.rsplit_once('/').unwrap();
    pod.pointer_mut(parent).unwrap()[key] = value;
    pod
}

#[test]
fn a_wrong_pod_is_refused_in_kubernetes_words() {
    let container = "/spec/containers/0";
    let cases: Vec<(String, Value, &[&str])> = vec![
        ("/spec/hostname".into(), json!("h"), &[]),
        (
            "/spec/containers".into(),
            json!([]),
            &["spec.containers: Required value"],
        ),
        (
            format!("{container}/name"),
            json!(""),
            &["spec.containers[0].name: Required value"],
        ),
        (
            format!("{container}/name"),
            json!("A_b"),
            &[r#"spec.containers[0].name: Invalid value: "A_b": a lowercase RFC 1123 label"#],
        ),
        (
            format!("{container}/image"),
            Value::Null,
            &["spec.containers[0].image: Required value"],
        ),
        (
            format!("{container}/imagePullPolicy"),
            json!("Sometimes"),
            &[
                r#"spec.containers[0].imagePullPolicy: Unsupported value: "Sometimes": supported values: "Always", "IfNotPresent", "Never""#,
            ],
        ),
        (
            "/spec/restartPolicy".into(),
            json!("Maybe"),
            &[
                r#"spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never""#,
            ],
        ),
        (
            format!("{container}/ports"),
            json!([{"containerPort": 0}, {"containerPort": 70000}, {"containerPort": 1, "protocol": "ICMP"}]),
            &[
                "spec.containers[0].ports[0].containerPort: Required value",
                "spec.containers[0].ports[1].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
                r#"spec.containers[0].ports[2].protocol: Unsupported value: "ICMP""#,
            ],
        ),
        (
            format!("{container}/ports"),
            json!([{"containerPort": 1, "hostPort": 5, "name": "a"}, {"containerPort": 2, "hostPort": 5, "name": "a"}]),
            &[
                r#"spec.containers[0].ports[1].name: Duplicate value: "a""#,
                "spec.containers[0].ports[1].hostPort: Duplicate value",
            ],
        ),
        (
            format!("{container}/volumeMounts"),
            json!([{"name": "v", "mountPath": "/a"}, {"name": "w", "mountPath": "/a"}, {"name": "v", "mountPath": "/b", "subPath": "../x"}]),
            &[
                r#"spec.containers[0].volumeMounts[1].name: Not found: "w""#,
                r#"spec.containers[0].volumeMounts[1].mountPath: Invalid value: "/a": must be unique"#,
                r#"spec.containers[0].volumeMounts[2].subPath: Invalid value: "../x": must not contain '..'"#,
            ],
        ),
        (
            format!("{container}/resources"),
            json!({"limits": {"cpu": "1", "memory": "lots"}, "requests": {"cpu": "1500m"}}),
            &[
                r#"spec.containers[0].resources.limits[memory]: Invalid value: "lots": quantities must match"#,
                r#"spec.containers[0].resources.requests[memory]: Invalid value: "lots": quantities must match"#,
                r#"spec.containers[0].resources.requests: Invalid value: "1500m": must be less than or equal to cpu limit of 1"#,
            ],
        ),
        (
            format!("{container}/env"),
            json!([{"name": "A", "value": "x", "valueFrom": {}}]),
            &[
                r#"spec.containers[0].env[0].valueFrom: Invalid value: "": must specify one of"#,
                r#"spec.containers[0].env[0].valueFrom: Invalid value: "": may not be specified when `value` is not empty"#,
            ],
        ),
        (
            format!("{container}/livenessProbe"),
            json!({}),
            &["spec.containers[0].livenessProbe: Required value: must specify a handler type"],
        ),
        (
            format!("{container}/livenessProbe"),
            json!({"exec": {"command": ["x"]}, "successThreshold": 2}),
            &["spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1"],
        ),
        (
            "/spec/volumes".into(),
            json!([{"name": "a", "emptyDir": {}, "secret": {"secretName": "s"}}, {"name": "a", "hostPath": {}}]),
            &[
                "spec.volumes[0].secret: Forbidden: may not specify more than 1 volume type",
                "spec.volumes[1].hostPath.path: Required value",
                r#"spec.volumes[1].name: Duplicate value: "a""#,
            ],
        ),
        (
            "/spec/initContainers".into(),
            json!([{"name": "c", "image": "i"}]),
            &[r#"spec.containers[0].name: Duplicate value: "c""#],
        ),
        (
            "/spec/terminationGracePeriodSeconds".into(),
            json!(-1),
            &[
                "spec.terminationGracePeriodSeconds: Invalid value: -1: must be greater than or equal to 0",
            ],
        ),
    ];
    for (pointer, value, expected) in cases {
        let told = told("", "Pod", pod(&pointer, value.clone()), None);
        assert_eq!(told.len(), expected.len(), "{pointer} {value}: {told:?}");
        for expected in expected {
            assert!(
                told.iter().any(|told| told.starts_with(expected)),
                "{pointer} {value}: {told:?}"
            );
        }
    }
}

#[test]
fn a_running_pod_takes_a_new_image_and_little_else() {
    let old = pod("/spec/activeDeadlineSeconds", json!(60));
    let with = |pointer: &str, value: Value| {
        let mut new = old.clone();
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        new.pointer_mut(parent).unwrap()[key] = value;
        let mut before = old.clone();
        // What the image decides was decided when the pod was made.
        for pod in [&mut new, &mut before] {
            pod["spec"]["containers"][0]["imagePullPolicy"] = json!("Always");
        }
        told("", "Pod", new, Some(before))
    };
    assert_eq!(with("/spec/containers/0/image", json!("other:2")), [""; 0]);
    assert_eq!(with("/spec/activeDeadlineSeconds", json!(30)), [""; 0]);
    assert_eq!(
        with("/spec/tolerations", json!([{"operator": "Exists"}])),
        [""; 0]
    );
    assert_eq!(with("/spec/activeDeadlineSeconds", json!(90)).len(), 1);
    let refused = with("/spec/containers/0/command", json!(["x"]));
    assert!(refused[0].starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"), "{refused:?}");
    assert_eq!(with("/spec/nodeName", json!("n")).len(), 1);
}

#[test]
fn faults_of_the_other_kinds_are_told() {
    let rule = json!({"operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]});
    let cases: Vec<(&str, &str, Value, &[&str])> = vec![
        (
            "",
            "ConfigMap",
            json!({"data": {"a b": "x"}}),
            &[r#"data[a b]: Invalid value: "a b": a valid config key must consist of"#],
        ),
        (
            "",
            "ConfigMap",
            json!({"data": {"a": "x"}, "binaryData": {"a": "eA=="}}),
            &[r#"data[a]: Invalid value: "a": duplicate of key present in binaryData"#],
        ),
        (
            "",
            "ConfigMap",
            json!({"data": {"a": "x".repeat((1 << 20) + 1)}}),
            &["data: Too long: may not be more than 1048576 bytes"],
        ),
        (
            "",
            "Secret",
            json!({"data": {"a": "secret!"}}),
            &[r#"data[a]: Invalid value: "***": must be base64 encoded"#],
        ),
        (
            "",
            "Secret",
            json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}),
            &["data[tls.key]: Required value"],
        ),
        (
            "",
            "Service",
            json!({"spec": {}}),
            &["spec.ports: Required value"],
        ),
        ("", "Service", json!({"spec": {"clusterIP": "None"}}), &[]),
        (
            "",
            "Service",
            json!({"spec": {"ports": [{"port": 1}, {"port": 2}]}}),
            &[
                "spec.ports[0].name: Required value",
                "spec.ports[1].name: Required value",
            ],
        ),
        (
            "",
            "Service",
            json!({"spec": {"type": "Magic", "ports": [{"port": 0, "targetPort": "a"}]}}),
            &[
                r#"spec.type: Unsupported value: "Magic""#,
                "spec.ports[0].port: Invalid value: 0: must be between 1 and 65535, inclusive",
            ],
        ),
        (
            RBAC,
            "Role",
            json!({"rules": [{"apiGroups": [""], "resources": ["pods"]}]}),
            &["rules[0].verbs: Required value: verbs must contain at least one value"],
        ),
        (
            RBAC,
            "Role",
            json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}),
            &[r#"rules[0].nonResourceURLs: Invalid value: ["/x"]: namespaced rules cannot apply"#],
        ),
        (
            RBAC,
            "ClusterRoleBinding",
            json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "Robot", "name": "x"}]}),
            &[
                r#"roleRef.kind: Unsupported value: "Role": supported values: "ClusterRole""#,
                r#"subjects[0].kind: Unsupported value: "Robot""#,
            ],
        ),
        (
            "authentication.k8s.io",
            "TokenRequest",
            json!({"spec": {"expirationSeconds": 10}}),
            &[
                "spec.expirationSeconds: Invalid value: 10: may not specify a duration less than 10 minutes",
            ],
        ),
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration",
            json!({"webhooks": [{"name": "a.b", "clientConfig": {"url": "http://x"}, "rules": [rule], "sideEffects": "Some", "timeoutSeconds": 99, "admissionReviewVersions": ["v9"]}]}),
            &[
                "webhooks[0].name: Invalid value",
                "webhooks[0].clientConfig.url: Invalid value",
                "webhooks[0].sideEffects: Unsupported value",
                "webhooks[0].timeoutSeconds: Invalid value",
                "webhooks[0].admissionReviewVersions: Invalid value",
            ],
        ),
        (
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicy",
            json!({"spec": {"matchConstraints": {"resourceRules": [rule]}, "validations": [{"expression": "nothing.x"}]}}),
            &[
                r#"spec.validations[0].expression: Invalid value: "nothing.x": compilation failed: undeclared reference to 'nothing'"#,
            ],
        ),
        (
            "",
            "PersistentVolumeClaim",
            json!({"spec": {"accessModes": ["Write"], "resources": {}}}),
            &[
                r#"spec.accessModes: Unsupported value: "Write""#,
                "spec.resources[storage]: Required value",
            ],
        ),
        (
            "",
            "Event",
            json!({"metadata": {"namespace": "a"}, "involvedObject": {"namespace": "b"}}),
            &[r#"involvedObject.namespace: Invalid value: "b": does not match event.namespace"#],
        ),
        (
            "coordination.k8s.io",
            "Lease",
            json!({"spec": {"leaseDurationSeconds": 0}}),
            &["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"],
        ),
        (
            "scheduling.k8s.io",
            "PriorityClass",
            json!({"value": 2_000_000_000}),
            &["value: Forbidden: maximum allowed value of a user defined priority is 1000000000"],
        ),
        (
            "node.k8s.io",
            "RuntimeClass",
            json!({}),
            &["handler: Required value"],
        ),
        (
            "",
            "Endpoints",
            json!({"subsets": [{"addresses": [{"ip": "nowhere"}], "ports": [{"port": 1}, {"port": 2, "name": "b"}]}, {}]}),
            &[
                r#"subsets[0].addresses[0].ip: Invalid value: "nowhere": must be a valid IP address"#,
                "subsets[0].ports[0].name: Required value",
                "subsets[1]: Required value: must specify `addresses` or `notReadyAddresses`",
            ],
        ),
        (
            "networking.k8s.io",
            "NetworkPolicy",
            json!({"spec": {"policyTypes": ["Sideways"], "ingress": [{"from": [{}, {"ipBlock": {"cidr": "10.0.0.0"}}]}]}}),
            &[
                r#"spec.policyTypes[0]: Unsupported value: "Sideways": supported values: "Egress", "Ingress""#,
                "spec.ingress[0].from[0]: Required value: must specify a peer",
                r#"spec.ingress[0].from[1].ipBlock.cidr: Invalid value: "10.0.0.0": must be a valid CIDR value"#,
            ],
        ),
        (
            "discovery.k8s.io",
            "EndpointSlice",
            json!({"addressType": "IPv4", "endpoints": [{"addresses": ["::1"]}]}),
            &[r#"endpoints[0].addresses[0]: Invalid value: "::1": must be an IPv4 address"#],
        ),
    ];
    for (group, kind, object, expected) in cases {
        let told = told(group, kind, object, None);
        assert_eq!(told.len(), expected.len(), "{kind}: {told:?}");
        for expected in expected {
            assert!(
                told.iter().any(|told| told.starts_with(expected)),
                "{kind}: {told:?}"
            );
        }
    }
}

#[test]
fn what_may_not_change_does_not() {
    let reference = |name: &str| json!({"roleRef": {"kind": "Role", "name": name}});
    let cases: Vec<(&str, &str, Value, Value, &str)> = vec![
        (
            "",
            "ConfigMap",
            json!({"immutable": true, "data": {"a": "1"}}),
            json!({"immutable": true, "data": {"a": "2"}}),
            "data: Forbidden: field is immutable when `immutable` is set",
        ),
        (
            "",
            "Secret",
            json!({"type": "a"}),
            json!({"type": "b"}),
            r#"type: Invalid value: "b": field is immutable"#,
        ),
        (
            RBAC,
            "RoleBinding",
            reference("a"),
            reference("b"),
            "roleRef: Invalid value",
        ),
        (
            "",
            "Service",
            json!({"spec": {"clusterIP": "10.0.0.1", "ports": [{"port": 1}]}}),
            json!({"spec": {"clusterIP": "10.0.0.2", "ports": [{"port": 1}]}}),
            r#"spec.clusterIPs[0]: Invalid value: "10.0.0.2": may not change once set"#,
        ),
        (
            "scheduling.k8s.io",
            "PriorityClass",
            json!({"value": 1}),
            json!({"value": 2}),
            "value: Forbidden: may not be changed in an update.",
        ),
        (
            "storage.k8s.io",
            "StorageClass",
            json!({"provisioner": "a"}),
            json!({"provisioner": "b"}),
            "provisioner: Forbidden: updates to provisioner are forbidden.",
        ),
    ];
    for (group, kind, old, new, expected) in cases {
        assert_eq!(
            told(group, kind, old.clone(), Some(old.clone())),
            [""; 0],
            "{kind} unchanged"
        );
        let told = told(group, kind, new, Some(old));
        assert_eq!(told.len(), 1, "{kind}: {told:?}");
        assert!(told[0].starts_with(expected), "{kind}: {told:?}");
    }
}

#[test]
fn what_has_the_wrong_shape_is_refused_not_fallen_over() {
    let kinds = [
        ("", "Pod"),
        ("", "ConfigMap"),
        ("", "Secret"),
        ("", "Service"),
        ("discovery.k8s.io", "EndpointSlice"),
        ("", "Endpoints"),
        ("networking.k8s.io", "NetworkPolicy"),
        ("", "PersistentVolumeClaim"),
        ("", "PersistentVolume"),
        ("storage.k8s.io", "StorageClass"),
        (RBAC, "Role"),
        (RBAC, "RoleBinding"),
        (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration",
        ),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        ("", "Event"),
        ("coordination.k8s.io", "Lease"),
        ("scheduling.k8s.io", "PriorityClass"),
        ("node.k8s.io", "RuntimeClass"),
        ("", "ResourceQuota"),
        ("apiregistration.k8s.io", "APIService"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ];
    for (group, kind) in kinds {
        for junk in [
            json!(null),
            json!([]),
            json!({}),
            json!({"spec": 1, "data": 2, "rules": 3, "webhooks": 4, "metadata": 5, "roleRef": 6}),
            json!({"spec": {"containers": [1, null, {"ports": [2], "env": [3], "resources": {"limits": {"a": {}}}}], "ports": [4],
                "volumes": [5], "tolerations": [6], "hostAliases": [7], "versions": [8]}, "rules": [9], "subjects": [1], "webhooks": [2]}),
        ] {
            let _ = validate(group, kind, &junk, Some(&json!({})));
        }
    }
}
