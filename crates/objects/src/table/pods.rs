//! The row of a pod: what its containers tell about how it does.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{age, created, list, name, or_none, text, text_or_none};

pub(super) const COLUMNS: &str =
    "Name|Ready|Status|Restarts|Age|IP+|Node+|Nominated Node+|Readiness Gates+";

pub(super) fn cells(pod: &Value, now: Timestamp) -> Vec<Value> {
    let state = PodState::of(pod);
    let ip = match list(pod, "/status/podIPs").first() {
        Some(first) => text(first, "/ip"),
        None => text(pod, "/status/podIP"),
    };
    vec![
        name(pod).into(),
        format!("{}/{}", state.ready, state.containers).into(),
        state.reason.into(),
        state.restarts.show(now).into(),
        created(pod, now).into(),
        or_none(ip).into(),
        text_or_none(pod, "/spec/nodeName").into(),
        text_or_none(pod, "/status/nominatedNodeName").into(),
        readiness_gates(pod).into(),
    ]
}

/// What tells clients that wait that a pod is over.
pub(super) fn completion(object: &Value) -> Option<Value> {
    if object.get("kind")? != "Pod" {
        return None;
    }
    let (reason, message) = match text(object, "/status/phase") {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!({"type": "Completed", "status": "True", "reason": reason, "message": message}))
}

#[derive(Clone, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, container: &Value) {
        self.count += container
            .get("restartCount")
            .and_then(Value::as_i64)
            .unwrap_or_default();
        let finished = text(container, "/lastState/terminated/finishedAt")
            .parse()
            .ok();
        self.last = self.last.max(finished);
    }

    fn show(&self, now: Timestamp) -> String {
        match self.last {
            Some(last) if self.count != 0 => {
                format!(
                    "{} ({} ago)",
                    self.count,
                    age::humanize(now.duration_since(last))
                )
            }
            _ => self.count.to_string(),
        }
    }
}

/// What a pod's containers add up to.
struct PodState {
    reason: String,
    ready: usize,
    containers: usize,
    restarts: Restarts,
}

impl PodState {
    fn of(pod: &Value) -> Self {
        let sidecars: Vec<&str> = list(pod, "/spec/initContainers")
            .iter()
            .filter(|container| text(container, "/restartPolicy") == "Always")
            .map(|container| text(container, "/name"))
            .collect();
        let phase = text(pod, "/status/phase");
        let mut state = Self {
            reason: phase.to_owned(),
            ready: 0,
            containers: list(pod, "/spec/containers").len() + sidecars.len(),
            restarts: Restarts::default(),
        };
        if !text(pod, "/status/reason").is_empty() {
            state.reason = text(pod, "/status/reason").to_owned();
        }
        let gated = condition(pod, "PodScheduled")
            .is_some_and(|condition| text(condition, "/reason") == "SchedulingGated");
        if gated {
            state.reason = "SchedulingGated".into();
        }
        let sidecar_restarts = state.add_init_containers(pod, &sidecars);
        if let Some(restarts) = sidecar_restarts {
            state.restarts = restarts;
            state.add_containers(pod);
        }
        if pod
            .pointer("/metadata/deletionTimestamp")
            .is_some_and(|time| !time.is_null())
        {
            if text(pod, "/status/reason") == "NodeLost" {
                state.reason = "Unknown".into();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                state.reason = "Terminating".into();
            }
        }
        state
    }

    /// Counts the init containers in; returns the restarts of sidecars when the pod is past
    /// its initialization, so that the other containers count.
    fn add_init_containers(&mut self, pod: &Value, sidecars: &[&str]) -> Option<Restarts> {
        let total = list(pod, "/spec/initContainers").len();
        let mut sidecar_restarts = Restarts::default();
        for (place, container) in list(pod, "/status/initContainerStatuses")
            .iter()
            .enumerate()
        {
            let is_sidecar = sidecars.contains(&text(container, "/name"));
            self.restarts.add(container);
            if is_sidecar {
                sidecar_restarts.add(container);
            }
            let terminated = container.pointer("/state/terminated");
            if terminated.is_some_and(|state| exit_code(state) == 0) {
                continue;
            }
            if is_sidecar && container.get("started") == Some(&Value::Bool(true)) {
                self.ready += usize::from(is_ready(container));
                continue;
            }
            let waiting = text(container, "/state/waiting/reason");
            self.reason = match terminated {
                Some(state) => format!("Init:{}", ending(state)),
                None if !matches!(waiting, "" | "PodInitializing") => format!("Init:{waiting}"),
                None => format!("Init:{place}/{total}"),
            };
            let initialized = condition(pod, "Initialized").is_some_and(is_true);
            return initialized.then_some(sidecar_restarts);
        }
        Some(sidecar_restarts)
    }

    fn add_containers(&mut self, pod: &Value) {
        let mut running = false;
        for container in list(pod, "/status/containerStatuses").iter().rev() {
            self.restarts.add(container);
            let waiting = text(container, "/state/waiting/reason");
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(state) = container.pointer("/state/terminated") {
                self.reason = ending(state);
            } else if is_ready(container) && container.pointer("/state/running").is_some() {
                running = true;
                self.ready += 1;
            }
        }
        if running && self.reason == "Completed" {
            let ready = condition(pod, "Ready").is_some_and(is_true);
            self.reason = if ready { "Running" } else { "NotReady" }.into();
        }
    }
}

/// Why a container is over: the reason, or else the signal, or else the exit code.
fn ending(terminated: &Value) -> String {
    let signal = terminated
        .get("signal")
        .and_then(Value::as_i64)
        .unwrap_or_default();
    match (text(terminated, "/reason"), signal) {
        ("", 0) => format!("ExitCode:{}", exit_code(terminated)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn exit_code(terminated: &Value) -> i64 {
    terminated
        .get("exitCode")
        .and_then(Value::as_i64)
        .unwrap_or_default()
}

fn is_ready(container: &Value) -> bool {
    container.get("ready") == Some(&Value::Bool(true))
}

fn condition<'a>(pod: &'a Value, kind: &str) -> Option<&'a Value> {
    list(pod, "/status/conditions")
        .iter()
        .find(|condition| text(condition, "/type") == kind)
}

fn is_true(condition: &Value) -> bool {
    text(condition, "/status") == "True"
}

fn readiness_gates(pod: &Value) -> String {
    let gates = list(pod, "/spec/readinessGates");
    if gates.is_empty() {
        return "<none>".into();
    }
    let passed = gates
        .iter()
        .filter(|gate| condition(pod, text(gate, "/conditionType")).is_some_and(is_true))
        .count();
    format!("{passed}/{}", gates.len())
}
