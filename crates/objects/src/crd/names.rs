//! The names of a custom kind.

use serde_json::{Map, Value, json};

use super::{Incomplete, list, text};

/// The names by which objects of a kind are asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Names {
    /// As it stands in URLs: `widgets`.
    pub plural: String,
    /// One of them: `widget`.
    pub singular: String,
    /// As it stands in objects: `Widget`.
    pub kind: String,
    /// As it stands in lists: `WidgetList`.
    pub list_kind: String,
    /// Abbreviations: `wd`.
    pub short_names: Vec<String>,
    /// Groups of kinds to get at once: `all`.
    pub categories: Vec<String>,
}

impl Names {
    /// Reads `spec.names` or `status.acceptedNames`.
    pub fn parse(names: &Value) -> Result<Names, Incomplete> {
        let kind = text(names, "kind").filter(|kind| !kind.is_empty());
        let kind = kind.ok_or(Incomplete("spec.names.kind"))?;
        let strings = |key| {
            list(names, key)
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect::<Vec<_>>()
        };
        Ok(Names {
            plural: text(names, "plural").ok_or(Incomplete("spec.names.plural"))?,
            singular: text(names, "singular").unwrap_or_else(|| kind.to_lowercase()),
            list_kind: text(names, "listKind").unwrap_or_else(|| format!("{kind}List")),
            kind,
            short_names: strings("shortNames"),
            categories: strings("categories"),
        })
    }

    /// Writes `status.acceptedNames`; names not accepted are left out.
    pub fn to_json(&self) -> Value {
        let mut out = Map::new();
        let single = [
            ("plural", &self.plural),
            ("singular", &self.singular),
            ("kind", &self.kind),
            ("listKind", &self.list_kind),
        ];
        for (key, value) in single {
            // Kubernetes always writes these two, even empty.
            if !value.is_empty() || matches!(key, "plural" | "kind") {
                out.insert(key.into(), json!(value));
            }
        }
        for (key, values) in [
            ("shortNames", &self.short_names),
            ("categories", &self.categories),
        ] {
            if !values.is_empty() {
                out.insert(key.into(), json!(values));
            }
        }
        Value::Object(out)
    }
}
