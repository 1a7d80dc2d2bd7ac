//! `allOf`, `anyOf`, `oneOf` and `not`: they only restrict what is described outside of them.

use serde_json::{Map, Value};

use super::{Checks, MAX_CAUSES, MAX_DEPTH, array, object};
use crate::schema::{Cause, Path};

/// Keywords that may not stand inside `allOf`, `anyOf`, `oneOf` and `not`.
const NOT_NESTED: &[&str] = &[
    "description",
    "title",
    "default",
    "additionalProperties",
    "nullable",
    "type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-embedded-resource",
    "x-kubernetes-int-or-string",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-map-type",
    "x-kubernetes-validations",
];

impl Checks {
    /// The combinations of a schema. `outer` is the description, outside of all
    /// combinations, of the same value, and where it stands.
    pub(super) fn branches(
        &mut self,
        path: &Path,
        fields: &Map<String, Value>,
        outer: (&Path, &Value),
        depth: usize,
    ) {
        for keyword in ["allOf", "anyOf", "oneOf"] {
            for (index, branch) in array(fields, keyword).iter().enumerate() {
                self.nested(&path.field(keyword).index(index), branch, outer, depth + 1);
            }
        }
        if let Some(not) = fields.get("not") {
            self.nested(&path.field("not"), not, outer, depth + 1);
        }
    }

    /// A branch of a combination only restricts; what it names must be described outside.
    fn nested(&mut self, path: &Path, json: &Value, outer: (&Path, &Value), depth: usize) {
        let Some(fields) = json.as_object() else {
            self.invalid(path.clone(), json, "must be a schema");
            return;
        };
        if self.causes.len() >= MAX_CAUSES || depth > MAX_DEPTH {
            return;
        }
        self.keywords(path, fields);
        let (outer_path, described) = outer;
        let several_types = described["x-kubernetes-int-or-string"] == true;
        for keyword in NOT_NESTED
            .iter()
            .filter(|&&keyword| fields.contains_key(keyword))
        {
            if *keyword == "type"
                && several_types
                && matches!(fields["type"].as_str(), Some("integer" | "string"))
            {
                continue;
            }
            self.forbid(path.field(keyword), "must be empty to be structural");
        }
        for (name, property) in object(fields, "properties") {
            let at = path.field("properties").key(name);
            let outside = outer_path.field("properties").key(name);
            match described["properties"].get(name) {
                Some(described) => self.nested(&at, property, (&outside, described), depth + 1),
                None => self.undescribed(outside, &at),
            }
        }
        if let Some(items) = fields.get("items") {
            let (at, outside) = (path.field("items"), outer_path.field("items"));
            match described.get("items") {
                Some(described) => self.nested(&at, items, (&outside, described), depth + 1),
                None => self.undescribed(outside, &at),
            }
        }
        self.branches(path, fields, outer, depth);
    }

    /// Points at the place, outside of combinations, where a description is missing.
    fn undescribed(&mut self, place: Path, at: &Path) {
        self.causes.push(Cause::required(
            place,
            format!("because it is defined in {at}"),
        ));
    }
}
