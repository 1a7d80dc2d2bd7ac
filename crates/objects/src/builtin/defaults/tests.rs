//! What a user reads back after sending little.

use serde_json::{Value, json};

use super::apply;

fn filled(group: &str, kind: &str, mut object: Value) -> Value {
    apply(group, kind, &mut object);
    let once = object.clone();
    apply(group, kind, &mut object);
    assert_eq!(object, once, "defaulting twice must change nothing");
    object
}

#[test]
fn a_pod_reads_back_complete() {
    let pod = filled(
        "",
        "Pod",
        json!({"spec": {
            "serviceAccountName": "robot",
            "containers": [{
                "name": "c", "image": "registry:5000/app", "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m"}},
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "livenessProbe": {"httpGet": {"port": 80}, "timeoutSeconds": 0},
            }],
            "volumes": [{"name": "a"}, {"name": "b", "configMap": {"name": "m"}},
                {"name": "c", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}],
        }}),
    );
    assert_eq!(
        pod["spec"],
        json!({
            "serviceAccountName": "robot", "serviceAccount": "robot", "restartPolicy": "Always", "dnsPolicy": "ClusterFirst",
            "schedulerName": "default-scheduler", "terminationGracePeriodSeconds": 30, "securityContext": {},
            "enableServiceLinks": true,
            "containers": [{
                "name": "c", "image": "registry:5000/app", "imagePullPolicy": "Always",
                "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
                "ports": [{"containerPort": 80, "protocol": "TCP"}],
                "resources": {"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}},
                "env": [{"name": "N", "valueFrom": {"fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.name"}}}],
                "livenessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1,
                    "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
            }],
            "volumes": [{"name": "a", "emptyDir": {}}, {"name": "b", "configMap": {"name": "m", "defaultMode": 420}},
                {"name": "c", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}]}}],
        })
    );
}

#[test]
fn an_image_that_can_change_is_pulled_every_time() {
    for (image, policy) in [
        ("app", "Always"),
        ("app:latest", "Always"),
        ("host:5000/app", "Always"),
        ("app:1", "IfNotPresent"),
        ("host:5000/app:1.2", "IfNotPresent"),
        ("app@sha256:00", "IfNotPresent"),
        ("", "Always"),
    ] {
        let pod = filled(
            "",
            "Pod",
            json!({"spec": {"containers": [{"image": image}]}}),
        );
        assert_eq!(
            pod["spec"]["containers"][0]["imagePullPolicy"], policy,
            "{image}"
        );
    }
}

#[test]
fn on_the_hosts_network_a_port_is_the_hosts() {
    let pod = filled(
        "",
        "Pod",
        json!({"spec": {"hostNetwork": true, "containers": [{"ports": [{"containerPort": 80}]}]}}),
    );
    assert_eq!(pod["spec"]["containers"][0]["ports"][0]["hostPort"], 80);
}

#[test]
fn a_service_reads_back_complete() {
    let service = filled(
        "",
        "Service",
        json!({"spec": {"ports": [{"port": 80}, {"port": 81, "targetPort": "web"}]}}),
    );
    assert_eq!(
        service["spec"]["ports"],
        json!([
        {"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 81, "protocol": "TCP", "targetPort": "web"}])
    );
    assert_eq!(service["spec"]["type"], "ClusterIP");
    assert_eq!(service["spec"]["internalTrafficPolicy"], "Cluster");
    assert!(service["spec"].get("externalTrafficPolicy").is_none());
    let external = filled(
        "",
        "Service",
        json!({"spec": {"type": "ExternalName", "externalName": "a.b"}}),
    );
    assert!(external["spec"].get("ipFamilies").is_none());
    let sticky = filled(
        "",
        "Service",
        json!({"spec": {"sessionAffinity": "ClientIP"}}),
    );
    assert_eq!(
        sticky["spec"]["sessionAffinityConfig"],
        json!({"clientIP": {"timeoutSeconds": 10800}})
    );
}

#[test]
fn a_secrets_plain_text_becomes_its_data() {
    let secret = filled(
        "",
        "Secret",
        json!({"data": {"a": "eA=="}, "stringData": {"a": "new", "b": "hi"}}),
    );
    assert_eq!(
        secret,
        json!({"type": "Opaque", "data": {"a": "bmV3", "b": "aGk="}})
    );
}

#[test]
fn the_other_kinds_read_back_complete() {
    let cases = [
        (
            "",
            "Namespace",
            json!({"metadata": {"name": "x"}}),
            json!({"metadata": {"name": "x", "labels": {"kubernetes.io/metadata.name": "x"}}}),
        ),
        (
            "rbac.authorization.k8s.io",
            "RoleBinding",
            json!({"roleRef": {"kind": "Role"}, "subjects": [{"kind": "User"}, {"kind": "ServiceAccount"}]}),
            json!({"roleRef": {"kind": "Role", "apiGroup": "rbac.authorization.k8s.io"},
                "subjects": [{"kind": "User", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "ServiceAccount"}]}),
        ),
        (
            "networking.k8s.io",
            "NetworkPolicy",
            json!({"spec": {"egress": [{"ports": [{"port": 1}]}]}}),
            json!({"spec": {"podSelector": {}, "egress": [{"ports": [{"port": 1, "protocol": "TCP"}]}], "policyTypes": ["Ingress", "Egress"]}}),
        ),
        (
            "admissionregistration.k8s.io",
            "MutatingWebhookConfiguration",
            json!({"webhooks": [{"rules": [{}], "clientConfig": {"service": {}}}]}),
            json!({"webhooks": [{"rules": [{"scope": "*"}], "clientConfig": {"service": {"port": 443}}, "failurePolicy": "Fail",
                "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "timeoutSeconds": 10,
                "reinvocationPolicy": "Never"}]}),
        ),
        (
            "storage.k8s.io",
            "StorageClass",
            json!({}),
            json!({"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
        ),
    ];
    for (group, kind, object, expected) in cases {
        assert_eq!(filled(group, kind, object), expected, "{kind}");
    }
}

#[test]
fn what_has_the_wrong_shape_is_left_to_validation() {
    for kind in [
        "Pod",
        "Service",
        "Secret",
        "Namespace",
        "Endpoints",
        "PersistentVolume",
        "PersistentVolumeClaim",
    ] {
        for junk in [
            json!(null),
            json!([]),
            json!({"spec": 1}),
            json!({"spec": {"containers": {"a": 1}, "ports": "x"}}),
            json!({"spec": {"containers": [1, null, {"ports": [2], "env": 3, "resources": {"limits": {"a": 1}, "requests": 5}}], "volumes": [7],
                "sessionAffinity": "ClientIP", "sessionAffinityConfig": 3}}),
            json!({"data": 1, "stringData": {"a": "b"}, "status": 4, "metadata": {"name": "x", "labels": 1}}),
            json!({"metadata": 3, "status": "x"}),
        ] {
            let mut object = junk;
            apply("", kind, &mut object);
        }
    }
}
