//! Rules for Tasks.

use sandlot_api::GoDuration;
use serde_json::{Map, Value};

use super::{Findings, given};

/// What the documents promise when a task does not say.
const DEFAULT_TIMEOUT: &str = "30s";

pub(super) fn fill_in(task: &mut Value) {
    if let Some(spec) = task.get_mut("spec").and_then(Value::as_object_mut)
        && spec.get("timeout").is_none_or(Value::is_null)
    {
        spec.insert("timeout".to_owned(), DEFAULT_TIMEOUT.into());
    }
}

pub(super) fn check(task: &Value, old: Option<&Value>, findings: &mut Findings) {
    let spec = &task["spec"];
    findings.reference(spec, "sandboxRef", "the Sandbox to run in");
    check_duration(spec, "spec.timeout", findings);
    findings.not_negative(spec, "ttlSecondsAfterFinished");
    if let Some(retries) = spec["retries"]
        .as_i64()
        .filter(|retries| !(0..=10).contains(retries))
    {
        findings.fault(
            "spec.retries",
            format!("{retries} is out of range: use 0 to 10"),
        );
    }
    match spec["steps"].as_array() {
        Some(steps) if !steps.is_empty() => {
            for (index, step) in steps.iter().enumerate() {
                check_step(step, &format!("spec.steps[{index}]"), findings);
            }
        }
        _ => findings.fault("spec.steps", "name at least one step"),
    }
    if let Some(old) = old {
        check_change(task, old, findings);
    }
}

fn check_step(step: &Value, at: &str, findings: &mut Findings) {
    if step["name"].as_str().is_none_or(str::is_empty) {
        findings.fault(format!("{at}.name"), "give the step a name");
    }
    check_duration(step, &format!("{at}.timeout"), findings);
    check_no_zero_byte(step, at, findings);
    match step["type"].as_str() {
        Some("Command") => {
            let command = step["command"].as_array();
            if command.is_none_or(Vec::is_empty) || step["command"][0] == "" {
                let fix = "name the program and its arguments, such as [\"python\", \"a.py\"]";
                findings.fault(format!("{at}.command"), fix);
            }
            check_environment(step, at, findings);
            for field in ["path", "content", "patch"] {
                stranger(step, at, field, "FilePatch", findings);
            }
        }
        Some("FilePatch") => {
            if step["path"].as_str().is_none_or(str::is_empty) {
                findings.fault(format!("{at}.path"), "name the file to write");
            }
            match (given(step, "content"), given(step, "patch")) {
                (None, None) => {
                    findings.fault(
                        format!("{at}.content"),
                        "give the file's content, or a diff as patch",
                    );
                }
                (Some(_), Some(_)) => {
                    findings.fault(
                        format!("{at}.patch"),
                        "give either content or patch, not both",
                    );
                }
                _ => {}
            }
            for field in ["command", "env", "background"] {
                stranger(step, at, field, "Command", findings);
            }
        }
        other => findings.fault(
            format!("{at}.type"),
            format!(
                "{:?} is unknown: use Command or FilePatch",
                other.unwrap_or_default()
            ),
        ),
    }
}

/// What is no variable's name would be left out, or set another variable, without a word.
fn check_environment(step: &Value, at: &str, findings: &mut Findings) {
    let variables = step["env"].as_object().into_iter().flatten();
    for (name, _) in variables.filter(|(name, _)| name.is_empty() || name.contains('=')) {
        findings.fault(
            format!("{at}.env"),
            format!("{name:?} cannot be the name of a variable: it is empty or has a '='"),
        );
    }
}

/// No program, path or variable can hold one: the system would take it for the end.
fn check_no_zero_byte(step: &Value, at: &str, findings: &mut Findings) {
    fn has_one(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(list) => list.iter().any(has_one),
            Value::Object(map) => map
                .iter()
                .any(|(name, value)| name.contains('\0') || has_one(value)),
            _ => false,
        }
    }
    for field in ["command", "env", "path", "workDir"] {
        if has_one(&step[field]) {
            findings.fault(
                format!("{at}.{field}"),
                "it contains a zero byte, which no program can be given: leave it out",
            );
        }
    }
}

/// A field that belongs to the other type of step: it would be ignored without a word.
fn stranger(step: &Value, at: &str, field: &str, of: &str, findings: &mut Findings) {
    let empty = |value: &Value| match value {
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        _ => false,
    };
    if given(step, field).is_some_and(|value| !empty(value)) {
        findings.fault(
            format!("{at}.{field}"),
            format!("only steps of type {of} have it"),
        );
    }
}

fn check_duration(object: &Value, at: &str, findings: &mut Findings) {
    let Some(text) = given(object, "timeout") else {
        return;
    };
    match text.as_str().map(str::parse::<GoDuration>) {
        Some(Ok(duration)) if duration.0.is_zero() => {
            findings.fault(
                at,
                "no step can end in no time: leave it out for 30s, or name a longer time",
            );
        }
        Some(Ok(_)) => {}
        Some(Err(error)) => findings.fault(at, error.to_string()),
        None => findings.fault(at, "write a text with units, such as \"30s\" or \"1h30m\""),
    }
}

/// A task that has started does what it said; only when it is removed may still change.
fn check_change(task: &Value, old: &Value, findings: &mut Findings) {
    let started = matches!(
        old["status"]["state"].as_str(),
        Some("Running" | "Succeeded" | "Failed")
    );
    let essence = |task: &Value| -> Map<String, Value> {
        let mut spec = task["spec"].as_object().cloned().unwrap_or_default();
        spec.remove("ttlSecondsAfterFinished");
        spec.retain(|_, value| !value.is_null());
        spec.entry("timeout")
            .or_insert_with(|| DEFAULT_TIMEOUT.into());
        spec
    };
    if started && essence(task) != essence(old) {
        findings.fault(
            "spec",
            "the task has started and cannot be changed: make a new task (ttlSecondsAfterFinished may still change)",
        );
    }
}
