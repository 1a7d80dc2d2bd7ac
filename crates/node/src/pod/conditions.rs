//! A pod's conditions in Kubernetes' words.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{ContainerStatus, PodCondition, PodSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::facts::Facts;
use super::spec::{ContainerKind, containers};
use super::status::is_past;

/// Why a condition does not hold: a word for programs and a sentence for people.
type Why = (&'static str, String);

/// The conditions that these facts amount to, and those that others have put there.
pub(super) fn conditions(
    facts: &Facts,
    spec: &PodSpec,
    phase: &str,
    main: &[ContainerStatus],
    now: Timestamp,
) -> Vec<PodCondition> {
    let done = matches!(phase, "Succeeded" | "Failed");
    let unready = unready(phase, main);
    let ready = unready.clone().or_else(|| closed_gates(facts, spec));
    let begun = main.iter().any(|status| status.container_id.is_some());

    let mut all = Conditions::new(facts, now);
    let has_network = facts.sandbox.is_some() && !done;
    all.put("PodReadyToStartContainers", has_network, None);
    match uninitialised(facts, spec).filter(|_| !begun) {
        None => all.put("Initialized", true, completed(phase)),
        Some(why) => all.put("Initialized", false, Some(why)),
    }
    for (name, why) in [("Ready", ready), ("ContainersReady", unready)] {
        all.put(name, why.is_none(), why);
    }
    all.put("PodScheduled", true, None);
    if facts.sent_away {
        // Whoever looks after the pod learns that it is not to blame.
        let message = "Taint manager: deleting due to NoExecute taint".to_owned();
        let why = ("DeletionByTaintManager", message);
        all.put("DisruptionTarget", true, Some(why));
    }
    all.with_those_of_others()
}

/// Why not all of the containers are ready.
fn unready(phase: &str, main: &[ContainerStatus]) -> Option<Why> {
    if phase == "Failed" {
        return Some(("PodFailed", String::new()));
    }
    let unready: Vec<&str> = main
        .iter()
        .filter(|status| !status.ready)
        .map(|status| status.name.as_str())
        .collect();
    completed(phase).or_else(|| {
        let message = format!("containers with unready status: [{}]", unready.join(" "));
        (!unready.is_empty()).then_some(("ContainersNotReady", message))
    })
}

fn completed(phase: &str) -> Option<Why> {
    (phase == "Succeeded").then(|| ("PodCompleted", String::new()))
}

/// Which containers the others still wait for.
fn uninitialised(facts: &Facts, spec: &PodSpec) -> Option<Why> {
    let awaited: Vec<&str> = containers(spec)
        .filter(|(kind, _)| *kind != ContainerKind::Main)
        .filter(|(kind, container)| {
            let run = facts.run(&container.name);
            !run.is_some_and(|run| is_past(*kind, run))
        })
        .map(|(_, container)| container.name.as_str())
        .collect();
    let message = format!("containers with incomplete status: [{}]", awaited.join(" "));
    (!awaited.is_empty()).then_some(("ContainersNotInitialized", message))
}

/// Which readiness gates nobody has opened.
fn closed_gates(facts: &Facts, spec: &PodSpec) -> Option<Why> {
    let closed: Vec<String> = spec
        .readiness_gates
        .iter()
        .flatten()
        .filter_map(|gate| {
            let gate = &gate.condition_type;
            match before(facts, gate).map(|condition| condition.status.as_str()) {
                Some("True") => None,
                Some(other) => Some(format!(
                    "the status of pod readiness gate {gate:?} is not \"True\", but {other}"
                )),
                None => Some(format!(
                    "corresponding condition of pod readiness gate {gate:?} does not exist."
                )),
            }
        })
        .collect();
    (!closed.is_empty()).then(|| ("ReadinessGatesNotReady", closed.join(", ")))
}

/// All conditions that the pod had.
fn all_before(facts: &Facts) -> impl Iterator<Item = &PodCondition> {
    let status = facts.pod.status.iter();
    status.flat_map(|status| status.conditions.iter().flatten())
}

fn before<'a>(facts: &'a Facts, name: &str) -> Option<&'a PodCondition> {
    all_before(facts).find(|condition| condition.type_ == name)
}

/// Conditions in the making; each keeps the time since which it has been as it is.
struct Conditions<'a> {
    facts: &'a Facts,
    now: Timestamp,
    all: Vec<PodCondition>,
}

impl<'a> Conditions<'a> {
    fn new(facts: &'a Facts, now: Timestamp) -> Self {
        let all = Vec::new();
        Conditions { facts, now, all }
    }

    fn put(&mut self, name: &str, holds: bool, why: Option<Why>) {
        let status = if holds { "True" } else { "False" };
        let since = before(self.facts, name)
            .filter(|old| old.status == status)
            .and_then(|old| old.last_transition_time.clone());
        let (reason, message) = why.unzip();
        self.all.push(PodCondition {
            type_: name.to_owned(),
            status: status.to_owned(),
            reason: reason.map(str::to_owned),
            message: message.filter(|message| !message.is_empty()),
            last_transition_time: Some(since.unwrap_or(Time(self.now))),
            observed_generation: self.facts.pod.metadata.generation,
            ..PodCondition::default()
        });
    }

    /// Conditions of others (readiness gates) stay.
    fn with_those_of_others(mut self) -> Vec<PodCondition> {
        let is_ours = |other: &&PodCondition| self.all.iter().any(|one| one.type_ == other.type_);
        let others: Vec<PodCondition> = all_before(self.facts)
            .filter(|other| !is_ours(other))
            .cloned()
            .collect();
        self.all.extend(others);
        self.all
    }
}
