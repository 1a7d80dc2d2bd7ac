//! CustomResourceDefinitions: what one says, whether it may be stored, and when its names
//! are accepted.
//!
//! The order in which a server uses this: [`default`] a definition, [`validate()`] it,
//! store it, let [`status()`] decide its conditions, and [`Definition::parse`] it once it
//! is established. Objects of the kind then go through [`Version::prune`],
//! [`Version::default`] and [`Version::validate`].

mod conditions;
mod names;
mod structural;
#[cfg(test)]
mod tests;
mod validate;

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    builtin,
    cel::Rules,
    schema::{self, Cause, Schema, Type},
    table::Columns,
};

pub use self::{
    conditions::{Taken, status},
    names::Names,
    validate::validate,
};

/// A definition in which something indispensable is missing; none that passed
/// [`validate()`] is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the CustomResourceDefinition has no {0}; it cannot be served until it is set")]
pub struct Incomplete(pub &'static str);

/// What a CustomResourceDefinition says.
#[derive(Clone, Debug)]
pub struct Definition {
    /// The API group.
    pub group: String,
    /// The names by which objects are asked for.
    pub names: Names,
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// The versions, in the order of the definition.
    pub versions: Vec<Version>,
    /// How objects get from one version to another.
    pub conversion: Conversion,
}

/// How objects get from one version to another.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Conversion {
    /// Only `apiVersion` changes.
    #[default]
    None,
    /// A webhook converts; its `spec.conversion.webhook` as it stands.
    Webhook(Value),
}

/// One version of a kind.
#[derive(Clone, Debug)]
pub struct Version {
    /// Its name, such as `v1alpha1`.
    pub name: String,
    /// Whether it can be asked for.
    pub served: bool,
    /// Whether it is the one that is stored.
    pub storage: bool,
    /// What to warn of when it is used, if it is deprecated.
    pub deprecation: Option<String>,
    /// The shape of its objects, with `apiVersion`, `kind` and `metadata`.
    pub schema: Arc<Schema>,
    /// The CEL rules in the schema, compiled.
    pub rules: Arc<Rules>,
    /// What `kubectl get` shows.
    pub columns: Columns,
    /// Whether `/status` exists.
    pub status: bool,
    /// Where `/scale` finds its numbers, if it exists.
    pub scale: Option<Scale>,
    /// Fields that field selectors may use, as JSON paths (`.spec.color`).
    pub selectable_fields: Vec<String>,
}

/// Where the scale subresource finds its numbers, as JSON paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    /// The replicas wanted (`.spec.replicas`).
    pub spec_replicas: String,
    /// The replicas there are.
    pub status_replicas: String,
    /// The label selector in its text form.
    pub label_selector: Option<String>,
}

impl Definition {
    /// Reads a definition.
    pub fn parse(crd: &Value) -> Result<Definition, Incomplete> {
        let spec = &crd["spec"];
        let group = text(spec, "group").ok_or(Incomplete("spec.group"))?;
        let names = Names::parse(&spec["names"])?;
        let versions = spec["versions"]
            .as_array()
            .ok_or(Incomplete("spec.versions"))?;
        let api = (group.as_str(), names.kind.as_str());
        let versions: Vec<Version> = versions
            .iter()
            .filter_map(|version| Version::parse(version, api))
            .collect();
        if !versions.iter().any(|version| version.storage) {
            return Err(Incomplete("version with storage: true in spec.versions"));
        }
        Ok(Definition {
            namespaced: spec["scope"] == "Namespaced",
            conversion: match spec["conversion"]["strategy"].as_str() {
                Some("Webhook") => Conversion::Webhook(spec["conversion"]["webhook"].clone()),
                _ => Conversion::None,
            },
            group,
            names,
            versions,
        })
    }

    /// The version of that name.
    pub fn version(&self, name: &str) -> Option<&Version> {
        self.versions.iter().find(|version| version.name == name)
    }

    /// The version that is stored.
    pub fn storage(&self) -> Option<&Version> {
        self.versions.iter().find(|version| version.storage)
    }
}

impl Version {
    fn parse(version: &Value, (group, kind): (&str, &str)) -> Option<Version> {
        let name = text(version, "name")?;
        let schema = Arc::new(object_schema(&version["schema"]["openAPIV3Schema"]));
        let subresources = &version["subresources"];
        let deprecation = (version["deprecated"] == true).then(|| {
            text(version, "deprecationWarning")
                .unwrap_or_else(|| format!("{group}/{name} {kind} is deprecated"))
        });
        Some(Version {
            served: version["served"] == true,
            storage: version["storage"] == true,
            deprecation,
            rules: Arc::new(Rules::compile(&schema)),
            schema,
            columns: Columns::custom(list(version, "additionalPrinterColumns")),
            status: subresources["status"].is_object(),
            scale: Scale::parse(&subresources["scale"]),
            selectable_fields: list(version, "selectableFields")
                .iter()
                .filter_map(|field| text(field, "jsonPath"))
                .collect(),
            name,
        })
    }

    /// Removes the fields that the version does not know and tells their paths.
    pub fn prune(&self, object: &mut Value) -> Vec<String> {
        schema::prune(&self.schema, object)
    }

    /// Fills in the defaults that the schema gives.
    pub fn default(&self, object: &mut Value) {
        schema::default(&self.schema, object);
    }

    /// Tells what is wrong with an object: its shape first, and the CEL rules where the
    /// shape leaves them something to stand on.
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let mut causes = schema::validate(&self.schema, object, old);
        if causes.is_empty() {
            causes = self.rules.check(object, old);
        }
        causes
    }
}

impl Scale {
    fn parse(scale: &Value) -> Option<Scale> {
        Some(Scale {
            spec_replicas: text(scale, "specReplicasPath")?,
            status_replicas: text(scale, "statusReplicasPath")?,
            label_selector: text(scale, "labelSelectorPath"),
        })
    }
}

/// The shape of whole objects: what the definition says, and what every object has.
fn object_schema(json: &Value) -> Schema {
    let mut schema = Schema::from_json(json);
    complete(&mut schema, 0);
    add_object_fields(&mut schema);
    schema
}

/// Gives embedded objects, at any depth, the fields that every object has.
fn complete(schema: &mut Schema, depth: usize) {
    if depth > schema::MAX_DEPTH {
        return;
    }
    if schema.embedded_resource {
        add_object_fields(schema);
    }
    for property in schema.properties.values_mut() {
        complete(Arc::make_mut(property), depth + 1);
    }
    if let Some(items) = &mut schema.items {
        complete(Arc::make_mut(items), depth + 1);
    }
    if let schema::Additional::Of(of) = &mut schema.additional {
        complete(Arc::make_mut(of), depth + 1);
    }
}

fn add_object_fields(schema: &mut Schema) {
    schema.kind = Type::Object;
    for name in ["apiVersion", "kind"] {
        schema.properties.entry(name.to_owned()).or_insert_with(|| {
            Arc::new(Schema {
                kind: Type::String,
                ..Schema::default()
            })
        });
    }
    let own = schema.properties.get("metadata").cloned();
    let mut metadata = builtin::object_meta();
    if let Some(own) = own.filter(|own| !own.properties.is_empty()) {
        metadata = Arc::new(restricted(&metadata, &own));
    }
    schema.properties.insert("metadata".to_owned(), metadata);
}

/// `metadata` with what a definition says of `name` and `generateName`.
fn restricted(metadata: &Schema, own: &Schema) -> Schema {
    let mut metadata = Schema {
        required: own.required.clone(),
        ..metadata.clone()
    };
    for (name, property) in &own.properties {
        metadata.properties.insert(name.clone(), property.clone());
    }
    metadata
}

/// Fills in what a definition may leave out, as a real API server does, and keeps
/// `status.storedVersions` complete.
pub fn default(crd: &mut Value) {
    let Some(spec) = crd.get_mut("spec").filter(|spec| spec.is_object()) else {
        return;
    };
    if let Some(names) = spec["names"].as_object_mut()
        && let Some(kind) = names.get("kind").and_then(Value::as_str).map(str::to_owned)
    {
        let absent =
            |value: Option<&Value>| value.and_then(Value::as_str).is_none_or(str::is_empty);
        if absent(names.get("singular")) {
            names.insert("singular".into(), json!(kind.to_lowercase()));
        }
        if absent(names.get("listKind")) {
            names.insert("listKind".into(), json!(format!("{kind}List")));
        }
    }
    if spec["conversion"].is_null() {
        spec["conversion"] = json!({"strategy": "None"});
    }
    if let Some(service) = spec.pointer_mut("/conversion/webhook/clientConfig/service")
        && service.is_object()
        && service["port"].is_null()
    {
        service["port"] = json!(443);
    }
    remember_stored_version(crd);
}

fn remember_stored_version(crd: &mut Value) {
    let stored = list(&crd["spec"], "versions")
        .iter()
        .find(|version| version["storage"] == true);
    let Some(stored) = stored.and_then(|version| text(version, "name")) else {
        return;
    };
    if !crd["status"].is_object() {
        crd["status"] = json!({});
    }
    match crd["status"]["storedVersions"].as_array_mut() {
        Some(versions) if versions.iter().any(|version| version == &stored) => {}
        Some(versions) => versions.push(json!(stored)),
        None => crd["status"]["storedVersions"] = json!([stored]),
    }
}

fn text(json: &Value, key: &str) -> Option<String> {
    json.get(key).and_then(Value::as_str).map(str::to_owned)
}

fn list<'j>(json: &'j Value, key: &str) -> &'j [Value] {
    json.get(key)
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}
