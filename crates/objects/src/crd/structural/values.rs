//! Defaults and CEL rules: what stands in a schema and must fit it.

use std::sync::Arc;

use serde_json::Value;

use super::{Checks, Place, Role};
use crate::{
    cel,
    schema::{self, Path, Schema, Type},
};

impl Checks {
    /// A default must itself be a valid value.
    pub(super) fn default(&mut self, path: &Path, json: &Value) {
        let Some(default) = json.get("default") else {
            return;
        };
        let at = path.field("default");
        let of = Schema::from_json(json);
        let mut pruned = default.clone();
        let unknown = schema::prune(&of, &mut pruned);
        if !unknown.is_empty() {
            let detail = format!("must not have unknown fields: {}", unknown.join(", "));
            self.invalid(at, default, &detail);
            return;
        }
        schema::default(&of, &mut pruned);
        self.causes.extend(schema::validate_at(&at, &of, &pruned));
    }

    pub(super) fn rules(&mut self, path: &Path, json: &Value, place: Place) {
        let Some(rules) = json.get("x-kubernetes-validations") else {
            return;
        };
        let at = path.field("x-kubernetes-validations");
        let mut of = Schema::from_json(json);
        if place.role == Role::Root || of.embedded_resource {
            add_visible_fields(&mut of);
        }
        for (index, rule) in rules
            .as_array()
            .map_or(&[][..], Vec::as_slice)
            .iter()
            .enumerate()
        {
            let place = cel::Place {
                schema: &of,
                count: place.count,
                correlatable: place.correlatable,
            };
            let (causes, cost) = cel::check_rule(&at.index(index), rule, place);
            self.causes.extend(causes);
            self.cost = self.cost.saturating_add(cost);
        }
    }
}

/// What a rule can see of every object beside what its schema describes.
fn add_visible_fields(schema: &mut Schema) {
    let text = || {
        Arc::new(Schema {
            kind: Type::String,
            ..Schema::default()
        })
    };
    let names = ["name", "generateName"].map(|name| (name.to_owned(), text()));
    let metadata = Schema {
        kind: Type::Object,
        properties: names.into(),
        ..Schema::default()
    };
    for name in ["apiVersion", "kind"] {
        schema.properties.insert(name.to_owned(), text());
    }
    schema
        .properties
        .insert("metadata".to_owned(), Arc::new(metadata));
}
