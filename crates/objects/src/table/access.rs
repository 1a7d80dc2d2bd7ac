//! The rows of role bindings.

use jiff::Timestamp;
use serde_json::Value;

use super::{created, list, name, text};

pub(super) const BINDING: &str = "Name|Role|Age|Users+|Groups+|ServiceAccounts+";

pub(super) fn binding(binding: &Value, now: Timestamp) -> Vec<Value> {
    let role = format!(
        "{}/{}",
        text(binding, "/roleRef/kind"),
        text(binding, "/roleRef/name")
    );
    let subjects = |kind: &str| {
        let subjects = list(binding, "/subjects")
            .iter()
            .filter(|s| text(s, "/kind") == kind);
        let names = subjects.map(|subject| match text(subject, "/namespace") {
            "" => text(subject, "/name").to_owned(),
            namespace => format!("{namespace}/{}", text(subject, "/name")),
        });
        names.collect::<Vec<_>>().join(", ")
    };
    vec![
        name(binding).into(),
        role.into(),
        created(binding, now).into(),
        subjects("User").into(),
        subjects("Group").into(),
        subjects("ServiceAccount").into(),
    ]
}
