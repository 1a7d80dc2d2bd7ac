//! What a pod's fields do, as a table: a pod, and a script in it that shows the effect.

use serde_json::{Value, json};

use crate::Cluster;

/// A case: its name, what is merged into the pod's `spec` and its container, the script,
/// and what the script must write.
struct Case {
    name: &'static str,
    spec: Value,
    container: Value,
    script: &'static str,
    shows: &'static str,
}

fn case(
    name: &'static str,
    spec: Value,
    container: Value,
    script: &'static str,
    shows: &'static str,
) -> Case {
    Case {
        name,
        spec,
        container,
        script,
        shows,
    }
}

fn cases() -> Vec<Case> {
    let none = || json!({});
    vec![
        case(
            "closed-streams",
            none(),
            none(),
            "readlink /proc/self/fd/0; cd /proc/self/fd; echo *",
            "/dev/null\n0 1 2 3",
        ),
        case(
            "env-expansion",
            none(),
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "value": "$(A)2"}]}),
            "echo $B",
            "12",
        ),
        case(
            "pod-fields",
            none(),
            json!({"env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
            "echo $N",
            "pod-fields",
        ),
        case(
            "config-env",
            none(),
            json!({"envFrom": [{"configMapRef": {"name": "cm"}}]}),
            "echo $colour",
            "blue",
        ),
        case(
            "secret-env",
            none(),
            json!({"env": [{"name": "S", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "word"}}}]}),
            "echo $S",
            "hush",
        ),
        case(
            "config-volume",
            json!({"volumes": [{"name": "v", "configMap": {"name": "cm"}}]}),
            json!({"volumeMounts": [{"name": "v", "mountPath": "/etc/conf"}]}),
            "cat /etc/conf/colour; touch /etc/conf/x 2>&1 | grep -o 'Read-only'",
            "blueRead-only",
        ),
        case(
            "sub-path",
            json!({"volumes": [{"name": "v", "configMap": {"name": "cm"}}]}),
            json!({"volumeMounts": [{"name": "v", "mountPath": "/opt/one", "subPath": "colour"}]}),
            "cat /opt/one",
            "blue",
        ),
        case(
            "downward-files",
            json!({"volumes": [{"name": "v", "downwardAPI": {"items": [
                {"path": "n", "fieldRef": {"fieldPath": "metadata.namespace"}}]}}]}),
            json!({"volumeMounts": [{"name": "v", "mountPath": "/d"}]}),
            "cat /d/n",
            "default",
        ),
        case(
            "projected",
            json!({"volumes": [{"name": "v", "projected": {"sources": [
                {"configMap": {"name": "cm"}}, {"secret": {"name": "sec"}}]}}]}),
            json!({"volumeMounts": [{"name": "v", "mountPath": "/d"}]}),
            "cat /d/colour /d/word",
            "bluehush",
        ),
        case(
            "empty-dir",
            json!({"volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumeMounts": [{"name": "v", "mountPath": "/w"}]}),
            "echo hi > /w/f; cat /w/f; stat -c %u /w/f",
            "hi\n0",
        ),
        case(
            "memory-dir",
            json!({"volumes": [{"name": "v", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}}]}),
            json!({"volumeMounts": [{"name": "v", "mountPath": "/w"}]}),
            "stat -f -c %T /w; head -c 2000000 /dev/zero 2>/dev/null > /w/f || echo full",
            "tmpfs\nfull",
        ),
        case(
            "host-path",
            json!({"volumes": [{"name": "v", "hostPath": {"path": "/usr/share", "type": "Directory"}}]}),
            json!({"volumeMounts": [{"name": "v", "mountPath": "/h", "readOnly": true}]}),
            "test -d /h/zoneinfo -o -d /h/doc && echo there; touch /h/x 2>/dev/null || echo closed",
            "there\nclosed",
        ),
        case(
            "working-dir",
            none(),
            json!({"workingDir": "/srv/new"}),
            "pwd",
            "/srv/new",
        ),
        case(
            "run-as",
            json!({"securityContext": {"runAsUser": 1234, "runAsGroup": 99, "fsGroup": 77}}),
            none(),
            "id -u; id -g; id -G",
            "1234\n99\n99 77",
        ),
        case(
            "fs-group",
            json!({"securityContext": {"runAsUser": 1234, "fsGroup": 77}, "volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"volumeMounts": [{"name": "v", "mountPath": "/w"}]}),
            "touch /w/f; stat -c %g /w/f",
            "77",
        ),
        case(
            "sub-path-of-a-user",
            json!({"securityContext": {"runAsUser": 1234, "fsGroup": 77}, "volumes": [{"name": "v", "emptyDir": {}}]}),
            json!({"env": [{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                "volumeMounts": [{"name": "v", "mountPath": "/w", "subPathExpr": "deep/$(N)"}]}),
            "touch /w/f; stat -c %g /w/f",
            "77",
        ),
        case(
            "modes-and-items",
            json!({"securityContext": {"supplementalGroups": [55]},
                "volumes": [{"name": "v", "configMap": {"name": "cm", "defaultMode": 256,
                    "items": [{"key": "colour", "path": "deep/c"}]}},
                    {"name": "none", "secret": {"secretName": "absent", "optional": true}}]}),
            json!({"volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "none", "mountPath": "/none"}]}),
            "cat /v/deep/c; echo; stat -Lc %a /v/deep/c; ls /none | wc -l; id -G",
            "blue\n400\n0\n0 55",
        ),
        case(
            "what-it-may-use",
            none(),
            json!({"resources": {"requests": {"cpu": "250m"}, "limits": {"memory": "64Mi"}},
                "env": [{"name": "C", "valueFrom": {"resourceFieldRef": {"resource": "requests.cpu", "divisor": "1m"}}},
                    {"name": "M", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory"}}},
                    {"name": "O", "valueFrom": {"configMapKeyRef": {"name": "absent", "key": "x", "optional": true}}}]}),
            "echo $C $M [$O]",
            "250 67108864 []",
        ),
        case(
            "own-name-servers",
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["10.9.9.9"], "searches": ["a.b"],
                "options": [{"name": "ndots", "value": "2"}]}}),
            none(),
            "cat /etc/resolv.conf",
            "nameserver 10.9.9.9\nsearch a.b\noptions ndots:2",
        ),
        case(
            "full-name",
            json!({"hostname": "box", "subdomain": "sub", "setHostnameAsFQDN": true}),
            none(),
            "hostname",
            "box.sub.default.svc.cluster.local",
        ),
        case(
            "read-only-root",
            none(),
            json!({"securityContext": {"readOnlyRootFilesystem": true}}),
            "touch /x /usr/x 2>/dev/null || echo closed",
            "closed",
        ),
        case(
            "no-capabilities",
            none(),
            json!({"securityContext": {"capabilities": {"drop": ["ALL"]}}}),
            "grep CapEff /proc/self/status | cut -f2",
            "0000000000000000",
        ),
        case(
            "own-names",
            json!({"hostname": "box", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["far"]}]}),
            none(),
            "hostname; grep -c far /etc/hosts",
            "box\n1",
        ),
        case(
            "sysctl",
            json!({"securityContext": {"sysctls": [{"name": "net.ipv4.ip_local_port_range", "value": "4000 5000"}]}}),
            none(),
            "cat /proc/sys/net/ipv4/ip_local_port_range | tr '\\t' ' '",
            "4000 5000",
        ),
        case(
            "claim",
            json!({"volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "disk"}}]}),
            json!({"volumeMounts": [{"name": "v", "mountPath": "/w"}]}),
            "echo kept > /w/f; cat /w/f",
            "kept",
        ),
        case(
            "built-in-image",
            json!({"volumes": [{"name": "v", "image": {"reference": "sandlot/tool"}}]}),
            json!({"volumeMounts": [{"name": "v", "mountPath": "/tool"}]}),
            "/tool/bin/say; touch /tool/x 2>/dev/null || echo closed",
            "said\nclosed",
        ),
        case(
            "low-port",
            json!({"securityContext": {"runAsUser": 1000}}),
            none(),
            "python3 -c 'import socket; s=socket.socket(); s.bind((\"\", 80)); print(\"bound\")'",
            "bound",
        ),
    ]
}

#[tokio::test(flavor = "multi_thread")]
async fn fields_do_what_they_say() {
    let tool = std::collections::BTreeMap::from([(
        "bin/say".to_owned(),
        b"#!/bin/sh\necho said\n".to_vec(),
    )]);
    let cluster = Cluster::with(|config| {
        config.builtin_images.insert("sandlot/tool".into(), tool);
        config.sandboxes_ready = 4;
    })
    .await;
    for (kind, object) in [
        (
            "configmaps",
            json!({"metadata": {"name": "cm"}, "data": {"colour": "blue"}}),
        ),
        (
            "secrets",
            json!({"metadata": {"name": "sec"}, "data": {"word": "aHVzaA=="}}),
        ),
        (
            "persistentvolumeclaims",
            json!({"metadata": {"name": "disk"}, "spec": {"accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
    ] {
        cluster.make(kind, object).await;
    }
    let cases = cases();
    for case in &cases {
        let mut container =
            json!({"name": "c", "image": "host", "command": ["sh", "-c", case.script]});
        merge(&mut container, &case.container);
        let mut spec = json!({"restartPolicy": "Never", "containers": [container]});
        merge(&mut spec, &case.spec);
        cluster
            .create(json!({"metadata": {"name": case.name}, "spec": spec}))
            .await;
    }
    let mut wrong = Vec::new();
    for case in &cases {
        cluster
            .until(case.name, "over", |pod| {
                matches!(
                    pod["status"]["phase"].as_str(),
                    Some("Succeeded" | "Failed")
                )
            })
            .await;
        let shown = cluster.logs(case.name, Default::default()).await;
        if shown.trim_end() != case.shows {
            wrong.push(format!("{}: {shown:?}, not {:?}", case.name, case.shows));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    cluster.stop().await;
}

fn merge(into: &mut Value, more: &Value) {
    if let (Some(into), Some(more)) = (into.as_object_mut(), more.as_object()) {
        into.extend(more.clone());
    }
}
