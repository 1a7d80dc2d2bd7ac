//! Lists: what `x-kubernetes-list-type` asks of the items.

use serde_json::{Map, Value};

use super::Checks;
use crate::schema::{Cause, Path};

impl Checks {
    pub(super) fn list(&mut self, path: &Path, fields: &Map<String, Value>) {
        let keys_at = path.field("x-kubernetes-list-map-keys");
        let keys = fields.get("x-kubernetes-list-map-keys");
        let Some(list_type) = fields.get("x-kubernetes-list-type") else {
            if let Some(keys) = keys {
                let detail = "must be empty if x-kubernetes-list-type is not map";
                self.invalid(keys_at, keys, detail);
            }
            return;
        };
        if !matches!(list_type.as_str(), Some("atomic" | "set" | "map")) {
            let at = path.field("x-kubernetes-list-type");
            self.causes.push(Cause::not_supported(
                at,
                list_type,
                &["atomic", "set", "map"],
            ));
            return;
        }
        if fields.get("type").is_none_or(|kind| kind != "array") {
            let kind = fields.get("type").cloned().unwrap_or_default();
            self.invalid(
                path.field("type"),
                &kind,
                "must be array if x-kubernetes-list-type is specified",
            );
            return;
        }
        let items = fields.get("items").unwrap_or(&Value::Null);
        match list_type.as_str() {
            Some("map") => self.map_list(path, keys, items),
            Some("set") => self.set_list(path, items),
            _ => {}
        }
        if list_type != "map"
            && let Some(keys) = keys
        {
            self.invalid(
                keys_at,
                keys,
                "must be empty if x-kubernetes-list-type is not map",
            );
        }
    }

    fn set_list(&mut self, path: &Path, items: &Value) {
        let items_at = path.field("items");
        if items["nullable"] == true {
            self.forbid(
                items_at.field("nullable"),
                "cannot be nullable when x-kubernetes-list-type is set",
            );
        }
        if items["type"] == "array"
            && items
                .get("x-kubernetes-list-type")
                .is_some_and(|kind| kind != "atomic")
        {
            let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
            self.invalid(
                items_at.field("x-kubernetes-list-type"),
                &items["x-kubernetes-list-type"],
                detail,
            );
        }
        if items["type"] == "object" && items["x-kubernetes-map-type"] != "atomic" {
            let detail = "must be atomic as item of a list with x-kubernetes-list-type=set";
            self.invalid(
                items_at.field("x-kubernetes-map-type"),
                &items["x-kubernetes-map-type"],
                detail,
            );
        }
    }

    fn map_list(&mut self, path: &Path, keys: Option<&Value>, items: &Value) {
        let keys_at = path.field("x-kubernetes-list-map-keys");
        let keys = keys
            .and_then(Value::as_array)
            .map_or(&[][..], Vec::as_slice);
        if keys.is_empty() {
            let detail = "must not be empty if x-kubernetes-list-type is map";
            self.causes.push(Cause::required(keys_at, detail));
            return;
        }
        if items["type"] != "object" {
            let detail = "must be object if parent array's x-kubernetes-list-type is map";
            self.invalid(path.field("items").field("type"), &items["type"], detail);
            return;
        }
        let required = items["required"].as_array().map_or(&[][..], Vec::as_slice);
        for (index, key) in keys.iter().enumerate() {
            if keys[..index].contains(key) {
                self.causes
                    .push(Cause::duplicate(keys_at.index(index), key));
                continue;
            }
            let name = key.as_str().unwrap_or_default();
            let Some(property) = items["properties"].get(name) else {
                self.invalid(
                    keys_at.index(index),
                    key,
                    "entries must all be names of item properties",
                );
                continue;
            };
            let at = path.field("items").field("properties").key(name);
            if matches!(property["type"].as_str(), Some("array" | "object")) {
                self.invalid(
                    at.field("type"),
                    &property["type"],
                    "must be a scalar type if parent array's x-kubernetes-list-type is map",
                );
            }
            if !required.contains(key) && property.get("default").is_none() {
                self.causes.push(Cause::required(
                    at.field("default"),
                    "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
                ));
            }
            if property["nullable"] == true {
                self.forbid(
                    at.field("nullable"),
                    "this property is in x-kubernetes-list-map-keys, so it cannot be nullable",
                );
            }
        }
    }
}
