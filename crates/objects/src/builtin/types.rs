//! The built-in types, taken from the published OpenAPI of Kubernetes.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use k8s_openapi::schemars::SchemaGenerator;
use serde_json::{Map, Value};

use super::merge;
use crate::schema::{Additional, Schema, Type, Types};

/// Where `$ref` points into.
const DEFINITIONS: &str = "#/$defs/";
/// The one type that contains itself.
const PROPS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";

/// Builds every type that a served kind reaches.
pub(super) fn build() -> Types {
    let mut reader = Reader {
        raw: raw_definitions(),
        built: Types::new(),
        open: BTreeSet::new(),
    };
    let names: Vec<String> = reader.raw.keys().cloned().collect();
    for name in &names {
        reader.named(name);
    }
    reader.built
}

/// Asks the generated types for their schemas.
fn raw_definitions() -> Map<String, Value> {
    use k8s_openapi::api::{
        admissionregistration::v1 as admission, authentication::v1 as authentication,
        authorization::v1 as authorization, autoscaling::v1 as autoscaling,
        coordination::v1 as coordination, core::v1 as core, discovery::v1 as discovery,
        events::v1 as events, networking::v1 as networking, node::v1 as node, policy::v1 as policy,
        rbac::v1 as rbac, scheduling::v1 as scheduling, storage::v1 as storage,
    };
    use k8s_openapi::{
        apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions,
        apimachinery::pkg::apis::meta::v1 as meta,
        kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration,
    };
    let mut generator = SchemaGenerator::default();
    macro_rules! reach {
        ($($module:ident :: { $($kind:ident),+ $(,)? }),+ $(,)?) => {
            $($(generator.subschema_for::<$module::$kind>();)+)+
        };
    }
    reach!(
        core::{
            Binding, ConfigMap, Endpoints, Event, LimitRange, Namespace, Node, PersistentVolume,
            PersistentVolumeClaim, Pod, ResourceQuota, Secret, Service, ServiceAccount,
        },
        apiextensions::{ CustomResourceDefinition },
        apiregistration::{ APIService },
        admission::{
            MutatingWebhookConfiguration, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
            ValidatingWebhookConfiguration,
        },
        authentication::{ SelfSubjectReview, TokenRequest, TokenReview },
        authorization::{
            LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
        },
        autoscaling::{ Scale },
        coordination::{ Lease },
        discovery::{ EndpointSlice },
        events::{ Event },
        networking::{ NetworkPolicy },
        node::{ RuntimeClass },
        policy::{ Eviction },
        rbac::{ ClusterRole, ClusterRoleBinding, Role, RoleBinding },
        scheduling::{ PriorityClass },
        storage::{ StorageClass },
        meta::{ DeleteOptions, ListMeta, ObjectMeta, Patch, Status },
    );
    generator.take_definitions(true)
}

struct Reader {
    raw: Map<String, Value>,
    built: Types,
    /// Types being read now, to notice a type that contains itself.
    open: BTreeSet<String>,
}

impl Reader {
    /// The type of that name; `None` while it is still being read.
    fn named(&mut self, name: &str) -> Option<Arc<Schema>> {
        if let Some(built) = self.built.get(name) {
            return Some(built.clone());
        }
        let raw = self.raw.get(name)?.clone();
        let schema = match name.strip_prefix(PROPS).filter(|rest| !rest.is_empty()) {
            // JSONSchemaPropsOrBool and its like: perhaps a schema, perhaps something simpler.
            Some(_) => self.perhaps_schema(&raw)?,
            None => {
                if !self.open.insert(name.to_owned()) {
                    return None;
                }
                let mut schema = self.shape(&raw);
                self.open.remove(name);
                special(name, &mut schema);
                merge::enrich(name, &mut schema);
                schema
            }
        };
        let schema = Arc::new(Schema {
            name: Some(name.to_owned()),
            ..schema
        });
        self.built.insert(name.to_owned(), schema.clone());
        Some(schema)
    }

    fn perhaps_schema(&mut self, raw: &Value) -> Option<Schema> {
        let props = self.named(PROPS)?;
        Some(Schema {
            description: raw["description"].as_str().map(str::to_owned),
            kind: Type::Any,
            properties: props.properties.clone(),
            items: Some(Arc::new(Schema {
                reference: Some(PROPS.to_owned()),
                ..Schema::default()
            })),
            ..Schema::default()
        })
    }

    fn shape(&mut self, raw: &Value) -> Schema {
        if let Some(name) = raw["$ref"]
            .as_str()
            .and_then(|target| target.strip_prefix(DEFINITIONS))
        {
            let described = raw["description"].as_str().map(str::to_owned);
            return match self.named(name) {
                Some(named) => Schema {
                    description: described,
                    ..named.as_ref().clone()
                },
                None => Schema {
                    description: described,
                    reference: Some(name.to_owned()),
                    ..Schema::default()
                },
            };
        }
        let plain: Map<String, Value> = raw
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(key, _)| {
                !matches!(
                    key.as_str(),
                    "properties" | "items" | "additionalProperties"
                )
            })
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect();
        Schema {
            properties: self.properties(raw),
            items: raw.get("items").map(|items| Arc::new(self.shape(items))),
            additional: match raw.get("additionalProperties") {
                Some(of @ Value::Object(_)) => Additional::Of(Arc::new(self.shape(of))),
                Some(Value::Bool(true)) => Additional::Any,
                _ => Additional::None,
            },
            ..Schema::from_json(&Value::Object(plain))
        }
    }

    fn properties(&mut self, raw: &Value) -> BTreeMap<String, Arc<Schema>> {
        let fields = raw["properties"].as_object().into_iter().flatten();
        fields
            .map(|(name, field)| (name.clone(), Arc::new(self.shape(field))))
            .collect()
    }
}

/// Types whose JSON is freer than their schema says.
fn special(name: &str, schema: &mut Schema) {
    let plain = |kind| {
        Arc::new(Schema {
            kind,
            ..Schema::default()
        })
    };
    match name.rsplit('.').next() {
        Some("JSON") => {
            schema.kind = Type::Any;
            schema.preserve_unknown = true;
        }
        Some("RawExtension" | "FieldsV1" | "Patch") => schema.preserve_unknown = true,
        // A quantity may also be written as a bare number, even with a fraction.
        Some("Quantity") => {
            schema.kind = Type::Any;
            schema.one_of = vec![plain(Type::String), plain(Type::Number)];
        }
        _ => {}
    }
}
