use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Columns, IncludeObject};

fn now() -> Timestamp {
    "2026-01-02T03:04:05Z".parse().unwrap()
}

/// The object with a name and an age of ninety seconds.
fn aged(mut object: Value) -> Value {
    let common = json!({"name": "x", "creationTimestamp": "2026-01-02T03:02:35Z"});
    json_patch::merge(&mut object, &json!({ "metadata": common }));
    object
}

/// What `kubectl get` shows: the cells as text.
fn shown(columns: &Columns, object: Value, wide: bool) -> Vec<String> {
    let table = columns.table([aged(object)].iter(), json!({}), IncludeObject::None, now());
    let priorities = table["columnDefinitions"].as_array().unwrap();
    let cells = table["rows"][0]["cells"].as_array().unwrap();
    assert_eq!(priorities.len(), cells.len());
    priorities
        .iter()
        .zip(cells)
        .filter(|(column, _)| wide || column["priority"] == 0)
        .map(|(_, cell)| match cell {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        })
        .collect()
}

#[track_caller]
fn assert_row(group: &str, kind: &str, object: Value, expected: &[&str]) {
    assert_eq!(
        shown(&Columns::builtin(group, kind), object, false),
        expected
    );
}

fn waiting(reason: &str) -> Value {
    json!({"state": {"waiting": {"reason": reason}}})
}

fn running(ready: bool) -> Value {
    json!({"ready": ready, "state": {"running": {}}})
}

fn exited(code: i64, reason: &str) -> Value {
    json!({"state": {"terminated": {"exitCode": code, "reason": reason}}})
}

#[test]
fn a_pod_shows_how_its_containers_do() {
    let c = json!([{"name": "a"}]);
    let two = json!([{"name": "a"}, {"name": "b"}]);
    let phase = |phase: &str, containers: &Value, statuses: Value| {
        json!({"spec": {"containers": containers},
               "status": {"phase": phase, "containerStatuses": statuses}})
    };
    let cases = [
        (phase("Pending", &c, json!([])), "0/1", "Pending"),
        (
            phase("Pending", &c, json!([waiting("ContainerCreating")])),
            "0/1",
            "ContainerCreating",
        ),
        (
            phase("Pending", &c, json!([waiting("ImagePullBackOff")])),
            "0/1",
            "ImagePullBackOff",
        ),
        (
            phase("Running", &c, json!([running(true)])),
            "1/1",
            "Running",
        ),
        (
            phase("Running", &c, json!([running(false)])),
            "0/1",
            "Running",
        ),
        (
            phase("Running", &c, json!([waiting("CrashLoopBackOff")])),
            "0/1",
            "CrashLoopBackOff",
        ),
        (
            phase("Running", &two, json!([running(true), exited(1, "Error")])),
            "1/2",
            "Error",
        ),
        (
            phase("Succeeded", &c, json!([exited(0, "Completed")])),
            "0/1",
            "Completed",
        ),
        (
            phase("Failed", &c, json!([exited(1, "Error")])),
            "0/1",
            "Error",
        ),
        (
            phase("Failed", &c, json!([exited(137, "OOMKilled")])),
            "0/1",
            "OOMKilled",
        ),
        (
            phase("Failed", &c, json!([exited(3, "")])),
            "0/1",
            "ExitCode:3",
        ),
        (
            phase(
                "Failed",
                &c,
                json!([{"state": {"terminated": {"exitCode": 137, "signal": 9}}}]),
            ),
            "0/1",
            "Signal:9",
        ),
        (
            phase(
                "Running",
                &two,
                json!([exited(0, "Completed"), running(true)]),
            ),
            "1/2",
            "NotReady",
        ),
    ];
    for (pod, ready, status) in cases {
        assert_row("", "Pod", pod, &["x", ready, status, "0", "90s"]);
    }
}

#[test]
fn a_pod_shows_how_far_its_init_containers_are() {
    let pod = |statuses: Value| {
        json!({
            "spec": {"initContainers": [{"name": "i"}, {"name": "j"}], "containers": [{"name": "a"}]},
            "status": {"phase": "Pending", "initContainerStatuses": statuses,
                       "containerStatuses": [waiting("PodInitializing")]},
        })
    };
    let cases = [
        (json!([running(false)]), "Init:0/2"),
        (json!([exited(0, "Completed"), running(false)]), "Init:1/2"),
        (json!([waiting("PodInitializing")]), "Init:0/2"),
        (
            json!([waiting("CrashLoopBackOff")]),
            "Init:CrashLoopBackOff",
        ),
        (json!([exited(1, "Error")]), "Init:Error"),
        (json!([exited(4, "")]), "Init:ExitCode:4"),
        (
            json!([exited(0, "Completed"), exited(0, "Completed")]),
            "PodInitializing",
        ),
    ];
    for (statuses, status) in cases {
        assert_row("", "Pod", pod(statuses), &["x", "0/1", status, "0", "90s"]);
    }
}

#[test]
fn a_sidecar_counts_among_the_containers() {
    let pod = json!({
        "spec": {"initContainers": [{"name": "s", "restartPolicy": "Always"}],
                 "containers": [{"name": "a"}]},
        "status": {
            "phase": "Running",
            "initContainerStatuses": [{"name": "s", "started": true, "ready": true,
                                       "restartCount": 2, "state": {"running": {}}}],
            "containerStatuses": [running(true)],
        },
    });
    assert_row("", "Pod", pod, &["x", "2/2", "Running", "2", "90s"]);
}

#[test]
fn a_pod_shows_when_it_last_restarted() {
    let pod = json!({
        "spec": {"containers": [{"name": "a"}]},
        "status": {"phase": "Running", "containerStatuses": [{
            "ready": true, "restartCount": 3, "state": {"running": {}},
            "lastState": {"terminated": {"exitCode": 1, "finishedAt": "2026-01-02T02:54:05Z"}},
        }]},
    });
    assert_row(
        "",
        "Pod",
        pod,
        &["x", "1/1", "Running", "3 (10m ago)", "90s"],
    );
}

#[test]
fn a_pod_that_is_going_is_terminating_unless_it_is_over_or_lost() {
    let pod = |phase: &str, reason: &str| {
        json!({"metadata": {"deletionTimestamp": "2026-01-02T03:04:00Z"},
               "spec": {"containers": [{"name": "a"}]},
               "status": {"phase": phase, "reason": reason}})
    };
    assert_row(
        "",
        "Pod",
        pod("Running", ""),
        &["x", "0/1", "Terminating", "0", "90s"],
    );
    assert_row(
        "",
        "Pod",
        pod("Running", "NodeLost"),
        &["x", "0/1", "Unknown", "0", "90s"],
    );
    assert_row(
        "",
        "Pod",
        pod("Failed", "Evicted"),
        &["x", "0/1", "Evicted", "0", "90s"],
    );
}

#[test]
fn a_wide_pod_shows_where_it_runs() {
    let pod = json!({
        "spec": {"containers": [{"name": "a"}], "nodeName": "n",
                 "readinessGates": [{"conditionType": "g"}, {"conditionType": "h"}]},
        "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}],
                   "conditions": [{"type": "g", "status": "True"}]},
    });
    let columns = Columns::builtin("", "Pod");
    assert_eq!(
        shown(&columns, pod, true),
        [
            "x", "0/1", "Running", "0", "90s", "10.0.0.1", "n", "<none>", "1/2"
        ]
    );
    let gated = json!({"status": {"phase": "Pending", "conditions": [
        {"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}});
    assert_eq!(shown(&columns, gated, false)[2], "SchedulingGated");
}

#[test]
fn the_row_of_a_pod_that_is_over_says_so() {
    let mut pod = aged(json!({"kind": "Pod", "status": {"phase": "Succeeded"}}));
    let columns = Columns::builtin("", "Pod");
    let row = columns.row(&pod, IncludeObject::None, now());
    assert_eq!(row["conditions"][0]["reason"], "Succeeded");
    pod["status"]["phase"] = "Running".into();
    assert!(
        columns
            .row(&pod, IncludeObject::None, now())
            .get("conditions")
            .is_none()
    );
}

#[test]
fn other_kinds_show_what_their_users_look_for() {
    assert_row(
        "",
        "Namespace",
        json!({"status": {"phase": "Active"}}),
        &["x", "Active", "90s"],
    );
    assert_row(
        "",
        "ConfigMap",
        json!({"data": {"a": "", "b": ""}, "binaryData": {"c": ""}}),
        &["x", "3", "90s"],
    );
    assert_row(
        "",
        "Secret",
        json!({"type": "Opaque", "data": {"a": ""}}),
        &["x", "Opaque", "1", "90s"],
    );
    assert_row("", "ServiceAccount", json!({}), &["x", "0", "90s"]);
    assert_row(
        "",
        "Node",
        json!({"metadata": {"labels": {"node-role.kubernetes.io/worker": "", "kubernetes.io/role": "gpu"}},
               "spec": {"unschedulable": true},
               "status": {"conditions": [{"type": "Ready", "status": "True"}],
                          "nodeInfo": {"kubeletVersion": "v1.33.0"}}}),
        &[
            "x",
            "Ready,SchedulingDisabled",
            "gpu,worker",
            "90s",
            "v1.33.0",
        ],
    );
    assert_row(
        "",
        "Service",
        json!({"spec": {"type": "NodePort", "clusterIP": "10.0.0.9",
                        "ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
        &[
            "x",
            "NodePort",
            "10.0.0.9",
            "<none>",
            "80:30080/TCP,53/UDP",
            "90s",
        ],
    );
    assert_row(
        "",
        "Service",
        json!({"spec": {"type": "LoadBalancer", "clusterIP": "None"}}),
        &["x", "LoadBalancer", "None", "<pending>", "<none>", "90s"],
    );
    assert_row(
        "",
        "Endpoints",
        json!({"subsets": [{"addresses": [{"ip": "1.1.1.1"}, {"ip": "2.2.2.2"}],
                            "ports": [{"port": 80}, {"port": 81}]}]}),
        &["x", "1.1.1.1:80,1.1.1.1:81,2.2.2.2:80 + 1 more...", "90s"],
    );
    assert_row(
        "discovery.k8s.io",
        "EndpointSlice",
        json!({"addressType": "IPv4", "ports": [{"port": 80}], "endpoints": []}),
        &["x", "IPv4", "80", "<unset>", "90s"],
    );
    assert_row(
        "",
        "PersistentVolumeClaim",
        json!({"spec": {"volumeName": "v", "storageClassName": "fast"},
               "status": {"phase": "Bound", "capacity": {"storage": "1Gi"},
                          "accessModes": ["ReadWriteMany", "ReadWriteOnce"]}}),
        &[
            "x", "Bound", "v", "1Gi", "RWO,RWX", "fast", "<unset>", "90s",
        ],
    );
    assert_row(
        "coordination.k8s.io",
        "Lease",
        json!({"spec": {"holderIdentity": "me"}}),
        &["x", "me", "90s"],
    );
    assert_row(
        "rbac.authorization.k8s.io",
        "Role",
        json!({}),
        &["x", "2026-01-02T03:02:35Z"],
    );
    assert_row(
        "rbac.authorization.k8s.io",
        "RoleBinding",
        json!({"roleRef": {"kind": "Role", "name": "r"}}),
        &["x", "Role/r", "90s"],
    );
    assert_row(
        "networking.k8s.io",
        "NetworkPolicy",
        json!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}}}),
        &["x", "a=b", "90s"],
    );
    assert_row(
        "scheduling.k8s.io",
        "PriorityClass",
        json!({"value": 5}),
        &["x", "5", "false", "90s", "PreemptLowerPriority"],
    );
    assert_row(
        "storage.k8s.io",
        "StorageClass",
        json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}},
               "provisioner": "p"}),
        &["x (default)", "p", "Delete", "Immediate", "false", "90s"],
    );
    assert_row(
        "example.com",
        "Whatever",
        json!({}),
        &["x", "2026-01-02T03:02:35Z"],
    );
}

#[test]
fn events_of_both_kinds_show_the_same() {
    let expected = ["90s", "Warning", "BackOff", "pod/p", "back-off"];
    let core = json!({"type": "Warning", "reason": "BackOff", "message": "back-off\n",
        "lastTimestamp": "2026-01-02T03:02:35Z", "involvedObject": {"kind": "Pod", "name": "p"}});
    assert_row("", "Event", core, &expected);
    let new = json!({"type": "Warning", "reason": "BackOff", "note": "back-off",
        "eventTime": "2026-01-02T03:02:35.000000Z", "regarding": {"kind": "Pod", "name": "p"}});
    assert_row("events.k8s.io", "Event", new, &expected);
}

#[test]
fn custom_kinds_show_the_columns_they_declare() {
    let columns = Columns::custom(&[
        json!({"name": "Replicas", "type": "integer", "jsonPath": ".spec.replicas"}),
        json!({"name": "Ready", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Ready')].status"}),
        json!({"name": "Paused", "type": "boolean", "jsonPath": ".spec.paused"}),
        json!({"name": "Template", "type": "string", "jsonPath": ".spec.template", "priority": 1}),
        json!({"name": "Wrong", "type": "integer", "jsonPath": ".spec.template"}),
        json!({"name": "Started", "type": "date", "jsonPath": ".status.started"}),
        json!({"name": "Missing", "type": "string", "jsonPath": ".nope"}),
    ]);
    let object = json!({
        "spec": {"replicas": 3, "paused": true, "template": {"a": 1}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}], "started": "2026-01-02T01:04:05Z"},
    });
    assert_eq!(
        shown(&columns, object, true),
        [
            "x",
            "3",
            "True",
            "true",
            "{\"a\":1}",
            "null",
            "120m",
            "null"
        ]
    );
    assert_eq!(shown(&Columns::custom(&[]), json!({}), false), ["x", "90s"]);
}

#[test]
fn a_table_is_what_kubectl_reads() {
    let objects = [aged(json!({"status": {"phase": "Active"}}))];
    let columns = Columns::builtin("", "Namespace");
    let metadata = json!({"resourceVersion": "7"});
    let table = columns.table(objects.iter(), metadata, IncludeObject::Metadata, now());
    assert_eq!(table["kind"], "Table");
    assert_eq!(table["apiVersion"], "meta.k8s.io/v1");
    assert_eq!(table["metadata"]["resourceVersion"], "7");
    assert_eq!(
        table["columnDefinitions"][0],
        json!({"name": "Name", "type": "string", "format": "name", "priority": 0,
               "description": "Name must be unique within a namespace."})
    );
    let row = &table["rows"][0];
    assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(row["object"]["metadata"]["name"], "x");
    assert!(row["object"].get("status").is_none());
    let whole = columns.row(&objects[0], IncludeObject::Object, now());
    assert_eq!(whole["object"], objects[0]);
    assert!(
        columns
            .row(&objects[0], IncludeObject::None, now())
            .get("object")
            .is_none()
    );
    assert_eq!(IncludeObject::parse("Object"), Some(IncludeObject::Object));
    assert_eq!(IncludeObject::parse("all"), None);
}

#[test]
fn an_object_without_anything_still_has_a_row() {
    for (group, kind) in [
        ("", "Pod"),
        ("", "Node"),
        ("", "Service"),
        ("", "Event"),
        ("", "PersistentVolume"),
        ("", "PersistentVolumeClaim"),
        ("", "ResourceQuota"),
        ("storage.k8s.io", "StorageClass"),
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
        (
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicyBinding",
        ),
        ("apiregistration.k8s.io", "APIService"),
        ("networking.k8s.io", "NetworkPolicy"),
    ] {
        let columns = Columns::builtin(group, kind);
        let row = columns.row(&json!({}), IncludeObject::Metadata, now());
        let width = columns.head(json!({}))["columnDefinitions"]
            .as_array()
            .unwrap()
            .len();
        assert_eq!(row["cells"].as_array().unwrap().len(), width, "{kind}");
    }
}
