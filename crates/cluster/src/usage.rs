//! What nodes and pods use now: `metrics.k8s.io`, for `kubectl top`.

use std::collections::BTreeMap;

use http::StatusCode;
use sandlot_objects::selector::LabelSelector;
use sandlot_store::Range;
use serde_json::{Value, json};

use crate::answer::{Answer, List};
use crate::call::Call;
use crate::kubelet::{ContainerUsage, PodUsage};
use crate::object::{name, seconds};
use crate::request::Verb;
use crate::status::ApiError;

/// What a measurement is said to be the mean of.
const WINDOW: &str = "10s";

/// Answers with what is measured now.
pub(crate) async fn answer(call: &mut Call) -> Result<Answer, ApiError> {
    if !matches!(call.request.verb, Verb::Get | Verb::List) {
        return Err(ApiError::method_not_allowed());
    }
    let kubelet = call.api.kubelet.get().cloned();
    let kubelet = kubelet.ok_or_else(|| ApiError::unavailable("no node measures pods here yet"))?;
    let used = kubelet.usage().await;
    let measured = match call.kind.kind.as_str() {
        "NodeMetrics" => nodes(call, &used),
        _ => pods(call, &used),
    };
    if call.request.verb == Verb::Get {
        let wanted = call.request.name();
        let found = measured.into_iter().find(|one| name(one) == wanted);
        let found = found.ok_or_else(|| call.not_found(wanted))?;
        return Ok(Answer::Object(StatusCode::OK, found.to_string().into()));
    }
    let selector = LabelSelector::parse(&call.request.options.label_selector)
        .map_err(|error| ApiError::bad_request(error.to_string()))?;
    let chosen = measured.iter().filter(|one| selector.matches(one));
    Ok(Answer::List(List {
        revision: call.api.store.revision(),
        continue_token: String::new(),
        remaining: None,
        items: chosen.map(|one| one.to_string().into()).collect(),
    }))
}

/// Each pod of the namespace that is asked about, as long as the cluster knows it.
fn pods(call: &Call, used: &[PodUsage]) -> Vec<Value> {
    let namespace = call.namespace();
    let here = used
        .iter()
        .filter(|pod| namespace.is_empty() || pod.namespace == namespace);
    here.filter_map(|pod| {
        let key = sandlot_store::Key::new("pods", pod.namespace.as_str(), pod.pod.as_str());
        let object = call.api.read(&key)?;
        let mut measured = measured(call, "PodMetrics", &object);
        measured["metadata"]["namespace"] = pod.namespace.as_str().into();
        measured["containers"] = pod.containers.iter().map(container).collect();
        Some(measured)
    })
    .collect()
}

/// Each node, with what its pods use together.
fn nodes(call: &Call, used: &[PodUsage]) -> Vec<Value> {
    let mut by_node: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for pod in used {
        let key = sandlot_store::Key::new("pods", pod.namespace.as_str(), pod.pod.as_str());
        let Some(object) = call.api.read(&key) else {
            continue;
        };
        let node = object["spec"]["nodeName"].as_str().unwrap_or_default();
        let sum = by_node.entry(node.to_owned()).or_default();
        for container in &pod.containers {
            sum.0 = sum.0.saturating_add(container.cpu_nanocores);
            sum.1 = sum.1.saturating_add(container.memory_bytes);
        }
    }
    let all = call.api.store.list(&Range::all("nodes")).records;
    let all = all
        .iter()
        .filter_map(|record| serde_json::from_slice::<Value>(&record.value).ok());
    all.map(|node| {
        let (cpu, memory) = by_node.get(name(&node)).copied().unwrap_or_default();
        let mut measured = measured(call, "NodeMetrics", &node);
        measured["usage"] = usage(cpu, memory);
        measured
    })
    .collect()
}

/// The frame of a measurement of an object.
fn measured(call: &Call, kind: &str, object: &Value) -> Value {
    let now = seconds(call.api.now());
    json!({
        "kind": kind,
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {
            "name": name(object),
            "labels": object["metadata"]["labels"],
            "creationTimestamp": now,
        },
        "timestamp": now,
        "window": WINDOW,
    })
}

fn container(container: &ContainerUsage) -> Value {
    let usage = usage(container.cpu_nanocores, container.memory_bytes);
    json!({"name": container.name, "usage": usage})
}

fn usage(cpu_nanocores: u64, memory_bytes: u64) -> Value {
    json!({"cpu": format!("{cpu_nanocores}n"), "memory": format!("{}Ki", memory_bytes / 1024)})
}
