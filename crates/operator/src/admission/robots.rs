//! Rules for robots and the work on them.

use std::collections::BTreeSet;

use sandlot_api::robot::{
    DockerConfig, is_robot_id, names,
    wire::{ROOM_FOR_COMMANDS, ROOM_FOR_DEPLOYMENTS, ROOM_FOR_TASKS},
};
use serde_json::{Value, json};

use super::{Findings, given};

/// Whether the rules here have anything to say about a kind of `robot.k8s4r.io`.
pub fn concerns(kind: &str) -> bool {
    matches!(
        kind,
        "Robot" | "Job" | "Task" | "Command" | "RobotDeployment"
    )
}

/// Whether an object is of this group.
pub(super) fn owns(object: &Value) -> bool {
    let version = object["apiVersion"].as_str().unwrap_or_default();
    version
        .strip_prefix(names::GROUP)
        .is_some_and(|rest| rest.starts_with('/'))
}

/// Jobs and tasks are held from the start, which saves the controllers a write.
pub(super) fn fill_in(kind: &str, object: &mut Value) {
    if !matches!(kind, "Job" | "Task") || given(&object["metadata"], "deletionTimestamp").is_some()
    {
        return;
    }
    let held = object["metadata"]["finalizers"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    if held.iter().all(|one| one != names::FINALIZER) && object["metadata"].is_object() {
        let all: Vec<Value> = held.into_iter().chain([json!(names::FINALIZER)]).collect();
        object["metadata"]["finalizers"] = all.into();
    }
}

pub(super) fn check(kind: &str, object: &Value, old: Option<&Value>, findings: &mut Findings) {
    // What is there already stays: it must be possible to let it go.
    if old.is_none_or(|old| old["spec"] != object["spec"]) {
        room(kind, &object["spec"], findings);
    }
    match kind {
        "Robot" => robot(object, old, findings),
        "Job" => job(object, findings),
        "Task" => task(object, old, findings),
        "Command" => command(object, old, findings),
        "RobotDeployment" => deployment(object, old, findings),
        _ => {}
    }
}

fn robot(robot: &Value, old: Option<&Value>, findings: &mut Findings) {
    let id = robot["spec"]["robotId"].as_str().unwrap_or_default();
    if !is_robot_id(id) {
        findings.fault(
            "spec.robotId",
            format!("{id:?} cannot be a robot's id: use up to 63 lower-case letters, digits, '-' and '.', and no name that the broker knows already"),
        );
    } else if robot["metadata"]["name"] != id {
        findings.fault(
            "spec.robotId",
            "it must be the object's name: robots are found by it",
        );
    }
    if let Some(old) = old
        && old["spec"]["robotId"] != robot["spec"]["robotId"]
    {
        findings.fault(
            "spec.robotId",
            "a robot keeps its id: delete it and make another",
        );
    }
}

fn job(job: &Value, findings: &mut Findings) {
    let mut groups = BTreeSet::new();
    for (index, group) in list(&job["spec"]["taskGroups"]).iter().enumerate() {
        let at = format!("spec.taskGroups[{index}]");
        let name = group["name"].as_str().unwrap_or_default();
        label(name, &format!("{at}.name"), findings);
        if !groups.insert(name) {
            findings.fault(
                format!("{at}.name"),
                format!("{name:?} is there twice: give each group a name of its own"),
            );
        }
        let mut tasks = BTreeSet::new();
        for part in ["initTasks", "tasks"] {
            for (index, task) in list(&group[part]).iter().enumerate() {
                let at = format!("{at}.{part}[{index}]");
                let name = task["name"].as_str().unwrap_or_default();
                label(name, &format!("{at}.name"), findings);
                if !tasks.insert(name) {
                    findings.fault(
                        format!("{at}.name"),
                        format!("{name:?} is there twice: give each task a name of its own"),
                    );
                }
                definition(task, &at, findings);
            }
        }
    }
}

/// Refuses what would never find room in a robot's document, and so would wait for ever.
fn room(kind: &str, spec: &Value, findings: &mut Findings) {
    match kind {
        "Job" => {
            for (index, group) in list(&spec["taskGroups"]).iter().enumerate() {
                // A robot is told the init tasks with each task.
                let before: usize = list(&group["initTasks"]).iter().map(length).sum();
                for (nth, task) in list(&group["tasks"]).iter().enumerate() {
                    let at = format!("spec.taskGroups[{index}].tasks[{nth}]");
                    fits(before + length(task), ROOM_FOR_TASKS / 2, &at, findings);
                }
            }
        }
        // What is said beside it takes some room too; a job's tasks have more than they need.
        "Task" => fits(length(spec), ROOM_FOR_TASKS / 4 * 3, "spec", findings),
        "Command" => {
            let args = length(&spec["args"]);
            fits(args, ROOM_FOR_COMMANDS / 2, "spec.args", findings);
        }
        "RobotDeployment" => fits(length(spec), ROOM_FOR_DEPLOYMENTS / 2, "spec", findings),
        _ => {}
    }
}

fn fits(length: usize, most: usize, at: &str, findings: &mut Findings) {
    if length > most {
        let (length, most) = (length.div_ceil(1024), most / 1024);
        findings.fault(
            at,
            format!(
                "it is {length} KiB long with all that goes with it, and robots are told {most} KiB at most: have them fetch what is large as an artifact"
            ),
        );
    }
}

/// How long something is where it is written down.
fn length(value: &Value) -> usize {
    value.to_string().len()
}

fn task(task: &Value, old: Option<&Value>, findings: &mut Findings) {
    definition(&task["spec"], "spec", findings);
    // A robot may already run it: another spec would be another task. Notes are not what runs.
    let essence = |task: &Value| {
        let mut spec = task["spec"].as_object().cloned().unwrap_or_default();
        spec.remove("meta");
        spec
    };
    if let Some(old) = old
        && given(&old["spec"], "targetRobot").is_some()
        && essence(old) != essence(task)
    {
        findings.fault(
            "spec",
            "the task has a robot and cannot be changed (meta may): edit its job, or make a new task",
        );
    }
}

/// Each driver has a part of the configuration of its own.
fn definition(task: &Value, at: &str, findings: &mut Findings) {
    let part = match task["driver"].as_str() {
        Some("exec" | "raw_exec") => "execConfig",
        Some("docker") => "dockerConfig",
        Some("java") => "javaConfig",
        _ => return,
    };
    if given(&task["config"], part).is_none() {
        let driver = task["driver"].as_str().unwrap_or_default();
        findings.fault(
            format!("{at}.config.{part}"),
            format!("driver {driver} needs it"),
        );
    }
    let image = task["config"]["dockerConfig"]["image"].as_str();
    if let Some(image) = image
        && !DockerConfig::may_be_image(image)
    {
        findings.fault(
            format!("{at}.config.dockerConfig.image"),
            format!(
                "{image:?} is no image: its engine would take it for an option, or for nothing"
            ),
        );
    }
    for (index, artifact) in list(&task["artifacts"]).iter().enumerate() {
        check_artifact(artifact, &format!("{at}.artifacts[{index}]"), findings);
    }
}

fn check_artifact(artifact: &Value, at: &str, findings: &mut Findings) {
    let source = artifact["getterSource"].as_str().unwrap_or_default();
    let known = ["http://", "https://", "file://", "s3://"];
    if !known.iter().any(|scheme| source.starts_with(scheme)) {
        findings.fault(
            format!("{at}.getterSource"),
            format!("{source:?} cannot be fetched: use http(s)://, file:// or s3://"),
        );
    }
    let destination = artifact["relativeDest"].as_str().unwrap_or_default();
    if destination.starts_with('/') || destination.split('/').any(|part| part == "..") {
        findings.fault(
            format!("{at}.relativeDest"),
            format!("{destination:?} leads out of the task's folder: write a path within it"),
        );
    }
}

fn command(command: &Value, old: Option<&Value>, findings: &mut Findings) {
    let spec = &command["spec"];
    if list(&spec["robots"]).is_empty() && given(spec, "robotSelector").is_none() {
        findings.fault(
            "spec.robots",
            "name robots, or select them by robotSelector ({} is all of them)",
        );
    }
    if spec["verb"] == "exec" && list(&spec["args"]).is_empty() {
        findings.fault(
            "spec.args",
            "name the program and its arguments, such as [\"uname\", \"-a\"]",
        );
    }
    if let Some(old) = old {
        let essence = |command: &Value| {
            let mut spec = command["spec"].as_object().cloned().unwrap_or_default();
            spec.remove("cancel");
            spec
        };
        if essence(old) != essence(command) {
            findings.fault(
                "spec",
                "a command is given once and cannot be changed (cancel may): make a new one",
            );
        }
    }
}

fn deployment(deployment: &Value, old: Option<&Value>, findings: &mut Findings) {
    if let Some(old) = old.filter(|old| old["spec"]["version"] == deployment["spec"]["version"])
        && ["artifacts", "healthCheck", "activate"]
            .iter()
            .any(|part| given(&old["spec"], part) != given(&deployment["spec"], part))
    {
        findings.fault(
            "spec.version",
            "what a version consists of does not change, as robots may have it already: give this one another name",
        );
    }
    for (index, artifact) in list(&deployment["spec"]["artifacts"]).iter().enumerate() {
        let at = format!("spec.artifacts[{index}]");
        check_artifact(artifact, &at, findings);
        let options = &artifact["getterOptions"];
        if given(options, "checksum").is_none() && given(options, "signature").is_none() {
            findings.warn(format!(
                "{at} has neither checksum nor signature: robots install whatever comes"
            ));
        }
    }
}

/// Names that become part of other objects' names and labels.
fn label(name: &str, at: &str, findings: &mut Findings) {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = !name.is_empty()
        && name.len() <= 63
        && !name.starts_with('-')
        && !name.ends_with('-')
        && name.bytes().all(inner);
    if !fits {
        findings.fault(
            at,
            format!("{name:?} is no name here: use up to 63 lower-case letters, digits and '-'"),
        );
    }
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use super::super::{Operation, check, fill_in};
    use super::*;

    fn of(kind: &str, name: &str, spec: Value) -> Value {
        json!({
            "apiVersion": "robot.k8s4r.io/v1alpha1", "kind": kind,
            "metadata": { "name": name }, "spec": spec,
        })
    }

    fn faults(kind: &str, object: &Value, old: Option<&Value>) -> Vec<String> {
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

    #[test]
    fn a_robot_is_called_what_it_calls_itself() {
        let good = of("Robot", "arm-1", json!({ "robotId": "arm-1" }));
        assert!(faults("Robot", &good, None).is_empty());
        for id in ["arm-2", "arm/1", "#", ""] {
            let bad = of("Robot", "arm-1", json!({ "robotId": id }));
            assert_eq!(faults("Robot", &bad, None), ["spec.robotId"], "{id}");
        }
    }

    #[test]
    fn every_fault_of_a_job_is_named() {
        let task = json!({ "name": "run", "driver": "docker", "config": {}, "artifacts": [
            { "getterSource": "git::x", "relativeDest": "../out" },
        ] });
        let job = of(
            "Job",
            "j",
            json!({ "taskGroups": [
            { "name": "g", "tasks": [task.clone(), task] }, { "name": "g", "tasks": [] },
        ] }),
        );
        let found = faults("Job", &job, None);
        for field in [
            "spec.taskGroups[0].tasks[0].config.dockerConfig",
            "spec.taskGroups[0].tasks[0].artifacts[0].getterSource",
            "spec.taskGroups[0].tasks[0].artifacts[0].relativeDest",
            "spec.taskGroups[0].tasks[1].name",
            "spec.taskGroups[1].name",
        ] {
            assert!(
                found.iter().any(|found| found == field),
                "{field}: {found:?}"
            );
        }
    }

    #[test]
    fn an_image_is_no_option_of_the_engine_that_runs_it() {
        for (image, good) in [("busybox:1", true), ("--privileged", false), ("", false)] {
            let task = json!({ "name": "run", "driver": "docker",
                "config": { "dockerConfig": { "image": image } } });
            let job = of(
                "Job",
                "j",
                json!({ "taskGroups": [{ "name": "g", "tasks": [task] }] }),
            );
            assert_eq!(faults("Job", &job, None).is_empty(), good, "{image}");
        }
    }

    #[test]
    fn what_is_too_long_for_a_robots_document_is_refused() {
        let task = |name: &str, length: usize| {
            json!({ "name": name, "driver": "exec", "config": { "execConfig": {
                "command": "sh", "args": ["x".repeat(length)],
            } } })
        };
        let job = |init: usize, length: usize| {
            let groups = json!([{ "name": "g",
                "initTasks": [task("init", init)], "tasks": [task("run", length)] }]);
            faults(
                "Job",
                &of("Job", "j", json!({ "taskGroups": groups })),
                None,
            )
        };
        const KIB: usize = 1024;
        assert!(job(100 * KIB, 150 * KIB).is_empty());
        assert_eq!(job(100 * KIB, 160 * KIB), ["spec.taskGroups[0].tasks[0]"]);
        // What a job may have, its tasks may have too.
        for (length, found) in [(260, &[][..]), (400, &["spec".to_owned()][..])] {
            assert_eq!(
                faults("Task", &of("Task", "t", task("t", length * KIB)), None),
                found
            );
        }
        let command = json!({ "robots": ["r"], "verb": "exec", "args": ["x".repeat(70 * KIB)] });
        assert_eq!(
            faults("Command", &of("Command", "c", command), None),
            ["spec.args"]
        );
    }

    #[test]
    fn a_task_with_a_robot_is_as_it_is() {
        let spec = json!({ "name": "t", "driver": "exec", "config": { "execConfig": { "command": "a" } }, "targetRobot": "r" });
        let old = of("Task", "t", spec.clone());
        let mut new = old.clone();
        new["spec"]["meta"] = json!({ "hall": "3" });
        assert!(faults("Task", &new, Some(&old)).is_empty());
        new["spec"]["config"]["execConfig"]["command"] = json!("b");
        assert_eq!(faults("Task", &new, Some(&old)), ["spec"]);
    }

    #[test]
    fn jobs_are_held_from_the_start_and_no_more_when_they_go() {
        let mut job = of("Job", "j", json!({}));
        fill_in("Job", &mut job);
        let once = job.clone();
        fill_in("Job", &mut job);
        assert_eq!(job, once);
        assert_eq!(job["metadata"]["finalizers"], json!([names::FINALIZER]));
        let mut going = of("Job", "j", json!({}));
        going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        fill_in("Job", &mut going);
        assert!(going["metadata"].get("finalizers").is_none());
    }
}
