//! Whether a definition's names are accepted, and whether it is established.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Names, list};

/// The names in use by other kinds of the same group.
#[derive(Clone, Debug, Default)]
pub struct Taken {
    /// Plural, singular and short names.
    pub resources: BTreeSet<String>,
    /// Kinds and list kinds.
    pub kinds: BTreeSet<String>,
}

impl Taken {
    /// Adds what another kind goes by.
    pub fn add(&mut self, names: &Names) {
        self.resources
            .extend([names.plural.clone(), names.singular.clone()]);
        self.resources.extend(names.short_names.iter().cloned());
        self.kinds
            .extend([names.kind.clone(), names.list_kind.clone()]);
    }
}

/// The status that a definition should have: accepted names and conditions.
///
/// `now` is the time for conditions that change, as it is written in JSON. A kind that was
/// established stays so: its objects must not become unreachable because another
/// definition wants the name as well.
pub fn status(crd: &Value, taken: &Taken, now: &str) -> Value {
    let mut status = crd["status"].clone();
    if !status.is_object() {
        status = json!({});
    }
    let wanted = Names::parse(&crd["spec"]["names"]).unwrap_or_default();
    let had = Names::parse(&status["acceptedNames"]).unwrap_or_default();
    let (accepted, conflict) = accept(&wanted, had, taken);
    status["acceptedNames"] = accepted.to_json();

    let (reason, message) = match &conflict {
        None => ("NoConflicts", "no conflicts found".to_owned()),
        Some((reason, name)) => (*reason, format!("{name:?} is already in use")),
    };
    set_condition(
        &mut status,
        "NamesAccepted",
        conflict.is_none(),
        reason,
        &message,
        now,
    );
    if conflict.is_none() {
        let message = "the initial names have been accepted";
        set_condition(
            &mut status,
            "Established",
            true,
            "InitialNamesAccepted",
            message,
            now,
        );
    } else if !is_true(&status, "Established") {
        let message = "not all names are accepted";
        set_condition(
            &mut status,
            "Established",
            false,
            "NotAccepted",
            message,
            now,
        );
    }
    status
}

/// Takes each wanted name that is free; tells the last that is not.
fn accept(
    wanted: &Names,
    mut accepted: Names,
    taken: &Taken,
) -> (Names, Option<(&'static str, String)>) {
    let mut conflict = None;
    let mut free = |set: &BTreeSet<String>, name: &String, reason| {
        let free = !set.contains(name);
        if !free {
            conflict = Some((reason, name.clone()));
        }
        free
    };
    if free(&taken.resources, &wanted.plural, "PluralConflict") {
        accepted.plural = wanted.plural.clone();
    }
    if free(&taken.resources, &wanted.singular, "SingularConflict") {
        accepted.singular = wanted.singular.clone();
    }
    if wanted
        .short_names
        .iter()
        .all(|name| free(&taken.resources, name, "ShortNamesConflict"))
    {
        accepted.short_names = wanted.short_names.clone();
    }
    if free(&taken.kinds, &wanted.kind, "KindConflict") {
        accepted.kind = wanted.kind.clone();
    }
    if free(&taken.kinds, &wanted.list_kind, "ListKindConflict") {
        accepted.list_kind = wanted.list_kind.clone();
    }
    accepted.categories = wanted.categories.clone();
    (accepted, conflict)
}

fn is_true(status: &Value, kind: &str) -> bool {
    list(status, "conditions")
        .iter()
        .any(|one| one["type"] == kind && one["status"] == "True")
}

/// Sets a condition; its time moves only when its status does.
fn set_condition(
    status: &mut Value,
    kind: &str,
    holds: bool,
    reason: &str,
    message: &str,
    now: &str,
) {
    let holds = if holds { "True" } else { "False" };
    let mut conditions = list(status, "conditions").to_vec();
    let mut condition = json!({
        "type": kind, "status": holds, "reason": reason, "message": message, "lastTransitionTime": now,
    });
    match conditions.iter_mut().find(|one| one["type"] == kind) {
        Some(present) => {
            if present["status"] == holds {
                condition["lastTransitionTime"] = present["lastTransitionTime"].clone();
            }
            *present = condition;
        }
        None => conditions.push(condition),
    }
    status["conditions"] = Value::Array(conditions);
}
