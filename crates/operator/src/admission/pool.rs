//! Rules for WarmPools.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::PodTemplateSpec;
use serde_json::Value;

use super::{Findings, given, is_name};

/// The volumes that carry the agent and what it remembers.
const RESERVED_VOLUMES: [&str; 2] = ["sandlot-agent", "sandlot-state"];

pub(super) fn check(pool: &Value, findings: &mut Findings) {
    let name = pool["metadata"]["name"].as_str().unwrap_or_default();
    if !name.is_empty() && (!is_name(name) || name.contains('.') || name.len() > 63) {
        findings.fault(
            "metadata.name",
            format!("{name:?} becomes part of pod names and labels: use at most 63 lower-case letters, digits and '-'"),
        );
    }
    let spec = &pool["spec"];
    match spec["replicas"].as_i64() {
        None => findings.fault("spec.replicas", "say how many idle pods to keep ready"),
        Some(replicas) if replicas < 0 => findings.fault(
            "spec.replicas",
            format!("{replicas} is negative: use 0 to stop the pool, or the number of idle pods to keep ready"),
        ),
        Some(0) => findings.warn("spec.replicas is 0: the pool is stopped and its sandboxes will wait"),
        Some(_) => {}
    }
    check_template(&spec["template"], findings);
}

fn check_template(template: &Value, findings: &mut Findings) {
    let containers = template["spec"]["containers"].as_array();
    let Some(containers) = containers.filter(|containers| !containers.is_empty()) else {
        findings.fault(
            "spec.template.spec.containers",
            "name at least one container",
        );
        return;
    };
    let mut names = BTreeSet::new();
    for (index, container) in containers.iter().enumerate() {
        let field = |name: &str| format!("spec.template.spec.containers[{index}].{name}");
        let name = container["name"].as_str().unwrap_or_default();
        if !is_name(name) || name.contains('.') || name.len() > 63 {
            findings.fault(
                field("name"),
                "use at most 63 lower-case letters, digits and '-'",
            );
        } else if !names.insert(name) {
            findings.fault(field("name"), format!("{name:?} is used twice"));
        }
        if container["image"].as_str().is_none_or(str::is_empty) && name != "sidecar" {
            findings.fault(field("image"), "name the image to run");
        }
        if given(container, "command").is_none() && name != "sidecar" {
            let instead = match given(container, "args") {
                Some(_) => "runs the args as the command",
                None => "keeps the container alive and runs nothing else",
            };
            findings.warn(format!(
                "container {name:?} has no command: Sandlot's own node runs the image's entry point, but on a \
                 cluster the agent cannot know it and {instead}; write the command"
            ));
        }
    }
    for (index, volume) in template["spec"]["volumes"]
        .as_array()
        .into_iter()
        .flatten()
        .enumerate()
    {
        let name = volume["name"].as_str().unwrap_or_default();
        if RESERVED_VOLUMES.contains(&name) {
            let field = format!("spec.template.spec.volumes[{index}].name");
            findings.fault(
                field,
                format!("{name:?} is added to every pod: use another name"),
            );
        }
    }
    if let Err(error) = serde_json::from_value::<PodTemplateSpec>(template.clone()) {
        findings.fault("spec.template", format!("this is no pod template: {error}"));
    }
}

/// Pods in use belong to their sandboxes, so nothing is killed; but that may surprise.
pub(super) fn check_delete(pool: &Value, findings: &mut Findings) {
    if let Some(taken) = pool["status"]["allocated"]
        .as_i64()
        .filter(|taken| *taken > 0)
    {
        findings.warn(format!(
            "{taken} pods of this pool are in use: they stay until their sandboxes are deleted"
        ));
    }
}
