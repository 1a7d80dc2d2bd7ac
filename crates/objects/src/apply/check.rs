//! Whether the lists of a configuration can merge: every item can be found, and only once.

use std::collections::BTreeSet;

use serde_json::Value;

use super::walk::items_of;
use crate::{schema::ListType, shape::Shape};

/// What is wrong with the lists of `config`, each with its path.
pub(super) fn problems(shape: Shape<'_>, config: &Value) -> Vec<String> {
    let mut problems = Vec::new();
    check(shape, config, &mut String::new(), &mut problems);
    problems
}

fn check(shape: Shape<'_>, value: &Value, path: &mut String, problems: &mut Vec<String>) {
    let here = path.len();
    match value {
        Value::Object(fields) if !shape.is_atomic_map() => {
            for (name, field) in fields {
                path.push('.');
                path.push_str(name);
                check(shape.field(name), field, path, problems);
                path.truncate(here);
            }
        }
        Value::Array(list) if *shape.list_type() != ListType::Atomic => {
            let Some(items) = items_of(shape, list) else {
                problems.push(format!("{path}: {}", unmergeable(shape, list)));
                return;
            };
            let mut seen = BTreeSet::new();
            for (step, item) in &items {
                if !seen.insert(step) {
                    problems.push(format!("{path}: duplicate entries for key {step}"));
                }
                path.push_str(&step.to_string());
                check(shape.items(), item, path, problems);
                path.truncate(here);
            }
        }
        _ => {}
    }
}

fn unmergeable(shape: Shape<'_>, list: &[Value]) -> String {
    match shape.list_type() {
        ListType::Map(keys) if list.iter().all(Value::is_object) => format!(
            "element 0: associative list with keys has an element that omits key field {:?} (and \
             doesn't have default value)",
            keys.first().map_or("", String::as_str)
        ),
        ListType::Map(_) => "associative list has an element that is not an object".into(),
        _ => "associative list without keys has an element that's a map type".into(),
    }
}
