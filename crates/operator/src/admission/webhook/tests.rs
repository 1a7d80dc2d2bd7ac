//! The webhook as an API server meets it.

use axum::body::Body;
use http::{Request, header::CONTENT_TYPE};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::server::router;

async fn ask(path: &str, operation: &str, object: &Value, old: &Value) -> Value {
    let name = object["metadata"]["name"].as_str().unwrap_or("t");
    let review = json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": {
        "uid": "u-1", "operation": operation, "name": name, "namespace": "default",
        "kind": { "group": "arl.infra.io", "version": "v1alpha1", "kind": object["kind"].as_str().or(old["kind"].as_str()) },
        "resource": { "group": "arl.infra.io", "version": "v1alpha1", "resource": "tasks" },
        "userInfo": { "username": "somebody" }, "dryRun": false, "object": object, "oldObject": old,
    } });
    let request = Request::post(path)
        .header(CONTENT_TYPE, "application/json")
        .body(Body::from(review.to_string()))
        .unwrap();
    let answer = router().oneshot(request).await.unwrap();
    assert_eq!(answer.status(), 200);
    let bytes = axum::body::to_bytes(answer.into_body(), 1 << 20)
        .await
        .unwrap();
    serde_json::from_slice::<Value>(&bytes).unwrap()["response"].clone()
}

fn task(command: Value) -> Value {
    json!({ "apiVersion": "arl.infra.io/v1alpha1", "kind": "Task", "metadata": { "name": "t" },
        "spec": { "sandboxRef": "s", "steps": [{ "name": "a", "type": "Command", "command": command }] } })
}

#[tokio::test]
async fn a_good_task_is_let_in_with_its_defaults() {
    let good = task(json!(["true"]));
    let answer = ask("/validate", "CREATE", &good, &Value::Null).await;
    assert_eq!(
        (&answer["uid"], &answer["allowed"]),
        (&json!("u-1"), &json!(true))
    );
    let answer = ask("/mutate", "CREATE", &good, &Value::Null).await;
    assert_eq!(answer["allowed"], json!(true));
    assert_eq!(answer["patchType"], json!("JSONPatch"));
    let patch = answer["patch"].as_str().expect("base64");
    let patch = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, patch).unwrap();
    let patch: Value = serde_json::from_slice(&patch).unwrap();
    assert_eq!(patch[0]["value"]["timeout"], json!("30s"));
}

#[tokio::test]
async fn a_faulty_task_is_refused_by_field() {
    let answer = ask("/validate", "CREATE", &task(json!([])), &Value::Null).await;
    assert_eq!(answer["allowed"], json!(false));
    let message = answer["status"]["message"].as_str().unwrap();
    assert!(message.contains("spec.steps[0].command"), "{message}");
}

#[tokio::test]
async fn deleting_a_pool_in_use_warns() {
    let pool = json!({ "apiVersion": "arl.infra.io/v1alpha1", "kind": "WarmPool", "metadata": { "name": "p" },
        "spec": {}, "status": { "allocated": 1 } });
    let answer = ask("/validate", "DELETE", &Value::Null, &pool).await;
    assert_eq!(answer["allowed"], json!(true));
    assert!(answer["warnings"][0].as_str().unwrap().contains("in use"));
}
