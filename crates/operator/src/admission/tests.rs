//! Refusals name the field and the fix.

use serde_json::json;

use super::*;

fn refusals(kind: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
    let operation = if old.is_some() {
        Operation::Update
    } else {
        Operation::Create
    };
    match check(kind, operation, object, old) {
        Ok(_) => Vec::new(),
        Err(denied) => denied.faults.into_iter().map(|fault| fault.field).collect(),
    }
}

fn pool(spec: Value) -> Value {
    json!({ "metadata": { "name": "p" }, "spec": spec })
}

fn task(spec: Value) -> Value {
    json!({ "metadata": { "name": "t" }, "spec": spec })
}

fn command() -> Value {
    json!({ "name": "run", "type": "Command", "command": ["true"] })
}

#[test]
fn what_the_documents_write_passes() {
    let container =
        json!({ "name": "executor", "image": "python:3.9-slim", "command": ["sleep", "infinity"] });
    let template = json!({ "spec": { "containers": [container] } });
    assert!(
        refusals(
            "WarmPool",
            &pool(json!({ "replicas": 3, "template": template })),
            None
        )
        .is_empty()
    );
    let spec = json!({ "poolRef": "p", "keepAlive": false, "ttlSecondsAfterFinished": 300 });
    assert!(refusals("Sandbox", &pool(spec), None).is_empty());
    let file = json!({ "name": "w", "type": "FilePatch", "path": "/workspace/a", "content": "" });
    let spec = json!({ "sandboxRef": "s", "timeout": "120s", "steps": [file, command()] });
    assert!(refusals("Task", &task(spec), None).is_empty());
}

#[test]
fn a_python_client_may_send_null_for_what_it_leaves_out() {
    let step = json!({ "name": "run", "type": "Command", "command": ["true"], "path": null, "content": null,
        "env": null, "workDir": null });
    let spec = json!({ "sandboxRef": "s", "timeout": null, "retries": null, "steps": [step] });
    assert!(refusals("Task", &task(spec), None).is_empty());
}

#[test]
fn faulty_pools_are_refused_by_field() {
    let good = json!({ "spec": { "containers": [{ "name": "executor", "image": "i" }] } });
    let with = |containers: Value| json!({ "replicas": 1, "template": { "spec": { "containers": containers } } });
    for (spec, field) in [
        (json!({ "replicas": -1, "template": good }), "spec.replicas"),
        (json!({ "template": good }), "spec.replicas"),
        (json!({ "replicas": 1 }), "spec.template.spec.containers"),
        (with(json!([])), "spec.template.spec.containers"),
        (
            with(json!([{ "name": "executor" }])),
            "spec.template.spec.containers[0].image",
        ),
        (
            with(json!([{ "name": "A", "image": "i" }])),
            "spec.template.spec.containers[0].name",
        ),
        (
            with(json!([{ "name": "a", "image": "i" }, { "name": "a", "image": "i" }])),
            "spec.template.spec.containers[1].name",
        ),
        (
            with(json!([{ "name": "a", "image": "i", "command": "sleep" }])),
            "spec.template",
        ),
    ] {
        assert_eq!(refusals("WarmPool", &pool(spec), None), [field]);
    }
    let dotted =
        json!({ "metadata": { "name": "a.b" }, "spec": { "replicas": 1, "template": good } });
    assert_eq!(refusals("WarmPool", &dotted, None), ["metadata.name"]);
}

#[test]
fn faulty_tasks_are_refused_by_field() {
    let with = |step: Value| json!({ "sandboxRef": "s", "steps": [step] });
    for (spec, field) in [
        (json!({ "steps": [command()] }), "spec.sandboxRef"),
        (
            json!({ "sandboxRef": "Not A Name", "steps": [command()] }),
            "spec.sandboxRef",
        ),
        (json!({ "sandboxRef": "s", "steps": [] }), "spec.steps"),
        (
            json!({ "sandboxRef": "s", "timeout": "soon", "steps": [command()] }),
            "spec.timeout",
        ),
        (
            json!({ "sandboxRef": "s", "timeout": "0s", "steps": [command()] }),
            "spec.timeout",
        ),
        (
            json!({ "sandboxRef": "s", "timeout": 30, "steps": [command()] }),
            "spec.timeout",
        ),
        (
            json!({ "sandboxRef": "s", "retries": 11, "steps": [command()] }),
            "spec.retries",
        ),
        (
            with(json!({ "name": "a", "type": "command", "command": ["x"] })),
            "spec.steps[0].type",
        ),
        (
            with(json!({ "name": "a", "type": "Command" })),
            "spec.steps[0].command",
        ),
        (
            with(json!({ "name": "", "type": "Command", "command": ["x"] })),
            "spec.steps[0].name",
        ),
        (
            with(json!({ "name": "a", "type": "Command", "command": ["x"], "path": "/a" })),
            "spec.steps[0].path",
        ),
        (
            with(
                json!({ "name": "a", "type": "Command", "command": ["x"], "env": { "A=B": "c" } }),
            ),
            "spec.steps[0].env",
        ),
        (
            with(json!({ "name": "a", "type": "Command", "command": ["x"], "env": { "": "c" } })),
            "spec.steps[0].env",
        ),
        (
            with(json!({ "name": "a", "type": "Command", "command": ["x", "a\0b"] })),
            "spec.steps[0].command",
        ),
        (
            with(json!({ "name": "a", "type": "Command", "command": ["x"], "env": { "A": "\0" } })),
            "spec.steps[0].env",
        ),
        (
            with(json!({ "name": "a", "type": "FilePatch", "path": "a\0", "content": "" })),
            "spec.steps[0].path",
        ),
        (
            with(json!({ "name": "a", "type": "FilePatch", "content": "x" })),
            "spec.steps[0].path",
        ),
        (
            with(json!({ "name": "a", "type": "FilePatch", "path": "x" })),
            "spec.steps[0].content",
        ),
        (
            with(
                json!({ "name": "a", "type": "FilePatch", "path": "x", "content": "", "patch": "" }),
            ),
            "spec.steps[0].patch",
        ),
    ] {
        assert_eq!(refusals("Task", &task(spec), None), [field]);
    }
}

#[test]
fn a_task_that_has_started_does_not_change_except_for_when_it_is_removed() {
    let mut old = task(json!({ "sandboxRef": "s", "steps": [command()] }));
    let mut new = old.clone();
    new["spec"]["sandboxRef"] = json!("other");
    assert!(
        refusals("Task", &new, Some(&old)).is_empty(),
        "it waits, so it may change"
    );
    old["status"] = json!({ "state": "Running" });
    assert_eq!(refusals("Task", &new, Some(&old)), ["spec"]);
    let mut new = old.clone();
    new["spec"]["ttlSecondsAfterFinished"] = json!(60);
    new["spec"]["timeout"] = json!("30s");
    assert!(refusals("Task", &new, Some(&old)).is_empty());
}

#[test]
fn a_sandbox_with_a_pod_stays_with_its_pool() {
    let old = json!({ "spec": { "poolRef": "a" }, "status": { "podName": "a-1" } });
    let new = json!({ "spec": { "poolRef": "b" } });
    assert_eq!(refusals("Sandbox", &new, Some(&old)), ["spec.poolRef"]);
    let waiting = json!({ "spec": { "poolRef": "a" }, "status": {} });
    assert!(refusals("Sandbox", &new, Some(&waiting)).is_empty());
    let negative = json!({ "spec": { "poolRef": "a", "idleTimeoutSeconds": -1 } });
    assert_eq!(
        refusals("Sandbox", &negative, None),
        ["spec.idleTimeoutSeconds"]
    );
}

#[test]
fn what_may_surprise_is_said() {
    let busy = json!({ "status": { "allocated": 2 } });
    let said = check("WarmPool", Operation::Delete, &busy, None).unwrap();
    assert!(said[0].contains("2 pods of this pool are in use"));
    let stopped = pool(
        json!({ "replicas": 0, "template": { "spec": { "containers": [
        { "name": "executor", "image": "i", "args": ["x"] } ] } } }),
    );
    let said = check("WarmPool", Operation::Create, &stopped, None).unwrap();
    assert!(said.iter().any(|words| words.contains("stopped")));
    assert!(said.iter().any(|words| words.contains("entry point")));
}

#[test]
fn filling_in_twice_is_filling_in_once() {
    let mut once = task(json!({ "sandboxRef": "s", "steps": [command()] }));
    review("Task", Operation::Create, &mut once, None).unwrap();
    assert_eq!(once["spec"]["timeout"], "30s");
    let mut twice = once.clone();
    fill_in("Task", &mut twice);
    assert_eq!(once, twice);
}

#[test]
fn nothing_that_comes_in_makes_it_panic() {
    for kind in ["WarmPool", "Sandbox", "Task", "Other"] {
        for object in [
            json!(null),
            json!([]),
            json!("x"),
            json!({ "spec": [] }),
            json!({ "spec": { "steps": [1] } }),
        ] {
            let mut object = object;
            let _ = review(kind, Operation::Create, &mut object, None);
        }
    }
}
