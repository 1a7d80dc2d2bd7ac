//! What users write is read, and what they read is there.

use std::time::Duration;

use serde_json::{Value, json};

use super::*;

fn schema_of(kind: &str) -> Value {
    let crd = crate::crds()
        .into_iter()
        .find(|crd| crd.spec.names.kind == kind)
        .unwrap();
    serde_json::to_value(&crd.spec.versions[0].schema).unwrap()
}

#[test]
fn names_are_those_that_clients_call() {
    let names: Vec<_> = crate::crds()
        .into_iter()
        .filter(|crd| crd.spec.group == names::GROUP)
        .map(|crd| {
            let names = crd.spec.names;
            assert_eq!(crd.spec.scope, "Namespaced");
            assert!(
                crd.spec.versions[0]
                    .subresources
                    .as_ref()
                    .unwrap()
                    .status
                    .is_some()
            );
            (
                names.plural,
                names.singular.unwrap(),
                names.short_names.unwrap().join(","),
            )
        })
        .collect();
    let expected = [
        ("warmpools", "warmpool", "wp"),
        ("sandboxes", "sandbox", "sbx"),
        ("tasks", "task", "atask"),
    ];
    for (found, wanted) in names.iter().zip(expected) {
        assert_eq!((&*found.0, &*found.1, &*found.2), wanted);
    }
}

#[test]
fn a_task_as_the_documents_write_it_is_read_whole() {
    let task: Task = serde_json::from_value(json!({
        "apiVersion": "arl.infra.io/v1alpha1", "kind": "Task",
        "metadata": { "name": "write-and-run", "namespace": "default" },
        "spec": {
            "sandboxRef": "my-workspace", "timeout": "1h30m",
            "steps": [
                { "name": "write", "type": "FilePatch", "path": "/workspace/a.py", "content": "print(1)" },
                { "name": "run", "type": "Command", "command": ["python", "/workspace/a.py"], "env": { "A": "b" } }
            ]
        }
    }))
    .unwrap();
    assert_eq!(task.spec.timeout.unwrap().0, Duration::from_secs(5400));
    assert_eq!(task.spec.steps[0].kind, StepType::FilePatch);
    assert_eq!(task.spec.steps[1].command.as_ref().unwrap()[0], "python");
}

#[test]
fn null_means_absent_as_the_python_client_sends_it() {
    let sandbox: Sandbox = serde_json::from_value(json!({
        "apiVersion": "arl.infra.io/v1alpha1", "kind": "Sandbox", "metadata": { "name": "s" },
        "spec": { "poolRef": "p", "keepAlive": null, "idleTimeoutSeconds": null, "resources": null }
    }))
    .unwrap();
    assert_eq!(sandbox.spec.idle_timeout_seconds, None);
    for (kind, field) in [
        ("Sandbox", "idleTimeoutSeconds"),
        ("Sandbox", "resources"),
        ("Task", "timeout"),
    ] {
        let nullable = &schema_of(kind)["openAPIV3Schema"]["properties"]["spec"]["properties"]
            [field]["nullable"];
        assert_eq!(nullable, &json!(true), "{kind} {field}");
    }
}

#[test]
fn a_field_from_the_future_is_no_error() {
    let status: SandboxStatus =
        serde_json::from_value(json!({ "phase": "Ready", "mood": "good" })).unwrap();
    assert_eq!(status.phase, Some(SandboxPhase::Ready));
}

#[test]
fn an_exit_code_of_zero_is_written() {
    let status = TaskStatus {
        exit_code: Some(0),
        ..TaskStatus::default()
    };
    assert_eq!(serde_json::to_value(status).unwrap()["exitCode"], json!(0));
}

#[test]
fn pool_counts_are_written_under_both_names_even_when_zero() {
    let written = serde_json::to_value(WarmPoolStatus::default()).unwrap();
    for field in [
        "ready",
        "readyReplicas",
        "allocated",
        "allocatedReplicas",
        "total",
    ] {
        assert_eq!(written[field], json!(0), "{field}");
    }
}

#[test]
fn a_template_keeps_what_no_type_here_knows() {
    let template =
        json!({ "spec": { "containers": [{ "name": "executor", "novelty": { "a": 1 } }] } });
    let read: PodTemplate = serde_json::from_value(template.clone()).unwrap();
    assert_eq!(read.container_names().collect::<Vec<_>>(), ["executor"]);
    assert_eq!(serde_json::to_value(read).unwrap(), template);
}

#[test]
fn crds_are_small_enough_for_client_side_apply() {
    for crd in crate::crds() {
        let size = serde_json::to_vec(&crd).unwrap().len();
        assert!(size < 100_000, "{} is {size} bytes", crd.spec.names.kind);
    }
}

#[test]
fn step_types_and_the_pool_name_are_checked_by_the_schema() {
    let task = schema_of("Task");
    let step = &task["openAPIV3Schema"]["properties"]["spec"]["properties"]["steps"]["items"]["properties"];
    assert_eq!(step["type"]["enum"], json!(["Command", "FilePatch"]));
    let pool = schema_of("WarmPool");
    let rule = &pool["openAPIV3Schema"]["x-kubernetes-validations"][0]["rule"];
    assert!(rule.as_str().unwrap().contains("metadata.name"));
}
