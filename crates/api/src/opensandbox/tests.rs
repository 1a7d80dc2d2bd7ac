use kube::CustomResourceExt;
use serde_json::{Value, json};

use super::*;

fn schema(crd: impl serde::Serialize) -> Value {
    let crd = serde_json::to_value(crd).unwrap();
    crd["spec"]["versions"][0].clone()
}

#[test]
fn columns_are_those_of_the_documents_tables() {
    let columns = |version: &Value| -> Vec<(String, i64)> {
        version["additionalPrinterColumns"]
            .as_array()
            .unwrap()
            .iter()
            .map(|c| {
                let priority = c.get("priority").and_then(Value::as_i64).unwrap_or(0);
                (c["name"].as_str().unwrap().to_uppercase(), priority)
            })
            .collect()
    };
    let batch: Vec<_> = columns(&schema(BatchSandbox::crd()));
    let names: Vec<&str> = batch.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(
        names,
        [
            "DESIRED",
            "TOTAL",
            "ALLOCATED",
            "READY",
            "TASK_RUNNING",
            "TASK_SUCCEED",
            "TASK_FAILED",
            "TASK_UNKNOWN",
            "EXPIRE",
            "AGE"
        ]
    );
    assert!(
        batch
            .iter()
            .all(|(name, priority)| (*priority == 1) == name.starts_with("TASK_"))
    );
    let pool: Vec<String> = columns(&schema(Pool::crd()))
        .into_iter()
        .map(|(name, _)| name)
        .collect();
    assert_eq!(pool, ["TOTAL", "ALLOCATED", "AVAILABLE", "UPDATED", "AGE"]);
}

#[test]
fn what_the_documents_write_is_read_and_what_is_left_out_has_its_default() {
    let batch: BatchSandbox = serde_json::from_value(json!({
        "apiVersion": names::API_VERSION, "kind": "BatchSandbox", "metadata": { "name": "b" },
        "spec": { "poolRef": null, "template": null, "taskResourcePolicyWhenCompleted": "later?",
                  "expireTime": "2026-02-01T10:00:00.123456+00:00" },
    }))
    .unwrap();
    assert_eq!(batch.spec.replicas, 1);
    assert_eq!(batch.spec.pool_ref, "");
    assert_eq!(
        batch.spec.task_resource_policy_when_completed,
        TaskResourcePolicy::Retain
    );
    assert!(batch.spec.expire_time.is_some());
    assert_eq!(
        serde_json::to_value(&batch.spec).unwrap()["template"],
        Value::Null,
        "an unset template is written as null"
    );
}

#[test]
fn conditions_take_only_the_types_that_clients_know() {
    let version = schema(BatchSandbox::crd());
    let conditions =
        &version["schema"]["openAPIV3Schema"]["properties"]["status"]["properties"]["conditions"];
    let types = &conditions["items"]["properties"]["type"]["enum"];
    assert!(
        types.as_array().unwrap().contains(&json!("PodFailed")),
        "{conditions:#}"
    );
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
}
