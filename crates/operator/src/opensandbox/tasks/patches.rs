//! The task of each index: the template with the index's own patch.

use std::sync::LazyLock;

use sandlot_api::opensandbox::{BatchSandboxSpec, ExecutorTask, ProcessTask, TaskTemplate};
use sandlot_objects::{builtin, patch::strategic, schema::Schema, shape::Shape};
use serde_json::{Value, json};

/// How a task template merges: variables by name, every other list as a whole.
static SHAPE: LazyLock<Schema> = LazyLock::new(|| {
    Schema::from_json(
        &json!({ "type": "object", "properties": { "spec": { "type": "object", "properties": {
        "process": { "type": "object", "properties": { "env": {
            "type": "array",
            "items": { "type": "object" },
            "x-kubernetes-patch-strategy": "merge",
            "x-kubernetes-patch-merge-key": "name",
        } } },
    } } } }),
    )
});

/// The task of an index, as its executor is told it; why there is none otherwise.
pub(crate) fn task_of(
    batch: &str,
    spec: &BatchSandboxSpec,
    index: usize,
) -> Result<ExecutorTask, String> {
    let template = spec
        .task_template
        .as_ref()
        .ok_or("there is no taskTemplate")?;
    let mut whole = Value::Object(template.clone());
    let patch = spec
        .shard_task_patches
        .as_ref()
        .and_then(|patches| patches.get(index));
    if let Some(patch) = patch {
        let shape = Shape::value(&SHAPE, builtin::types());
        whole = strategic::apply(shape, &whole, &Value::Object(patch.clone()))
            .map_err(|error| format!("shardTaskPatches[{index}]: {error}"))?;
    }
    let task: TaskTemplate = serde_json::from_value(whole)
        .map_err(|error| format!("the task of index {index} makes no sense: {error}"))?;
    let process = task
        .spec
        .process
        .filter(|process| !process.command.is_empty())
        .ok_or_else(|| format!("the task of index {index} has no spec.process.command"))?;
    Ok(ExecutorTask {
        name: format!("{batch}-{index}"),
        process: Some(ProcessTask {
            timeout_seconds: task.spec.timeout_seconds,
            ..process
        }),
        ..ExecutorTask::default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(patches: Value, index: usize) -> Result<ExecutorTask, String> {
        let spec = serde_json::from_value(json!({
            "replicas": 3,
            "taskTemplate": { "spec": { "timeoutSeconds": 60, "process": {
                "command": ["echo", "Default task"], "args": ["a", "b"],
                "env": [{ "name": "A", "value": "1" }, { "name": "B", "value": "2" }] } } },
            "shardTaskPatches": patches,
        }));
        task_of("b", &spec.unwrap(), index)
    }

    #[test]
    fn words_are_replaced_and_variables_merged_by_name() {
        let patches = json!([{ "spec": { "timeoutSeconds": 5, "process": {
            "command": ["echo", "Custom"], "env": [{ "name": "B", "value": "3" }, { "name": "C", "value": "4" }] } } }]);
        let first = task(patches.clone(), 0).unwrap();
        let process = first.process.unwrap();
        assert_eq!(first.name, "b-0");
        assert_eq!(process.command, ["echo", "Custom"]);
        assert_eq!(process.args, ["a", "b"]);
        assert_eq!(process.timeout_seconds, Some(5), "a patch's timeout counts");
        let mut env: Vec<_> = process
            .env
            .iter()
            .map(|v| format!("{}={}", v.name, v.value))
            .collect();
        env.sort();
        assert_eq!(env, ["A=1", "B=3", "C=4"]);
        let second = task(patches, 1).unwrap().process.unwrap();
        assert_eq!(
            second.command,
            ["echo", "Default task"],
            "a short list leaves the rest plain"
        );
    }

    #[test]
    fn a_template_without_a_process_is_refused_unless_the_patch_brings_one() {
        let spec = |patches| {
            serde_json::from_value(
                json!({ "taskTemplate": { "spec": {} }, "shardTaskPatches": patches }),
            )
            .unwrap()
        };
        assert!(
            task_of("b", &spec(json!([])), 0)
                .unwrap_err()
                .contains("spec.process.command")
        );
        let brought = spec(json!([{ "spec": { "process": { "command": ["true"] } } }]));
        assert!(task_of("b", &brought, 0).is_ok());
        let wrong = spec(json!([{ "spec": { "process": { "command": "true" } } }]));
        assert!(
            task_of("b", &wrong, 0)
                .unwrap_err()
                .contains("makes no sense")
        );
    }
}
