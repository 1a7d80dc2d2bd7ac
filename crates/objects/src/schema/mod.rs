//! The shape of an object: what its fields are, and how lists and maps in it merge.
//!
//! One type serves the built-in kinds and custom ones. Validation, pruning and
//! defaulting read it; so do strategic merge, server-side apply and OpenAPI.

mod cause;
mod defaulting;
mod format;
mod json;
pub(crate) mod lists;
mod path;
pub(crate) mod pattern;
mod prune;
mod strict;
#[cfg(test)]
mod tests;
mod validate;

use std::{collections::BTreeMap, sync::Arc};

use serde_json::Value;

pub use self::{
    cause::{Cause, Reason, quoted, summary},
    defaulting::{default, drop_nulls},
    format::{
        duration as is_duration, go_duration, is_known as is_known_format,
        matches as matches_format,
    },
    path::{Mark, Path},
    prune::prune,
    strict::{MAX_DEPTH, parse_strict},
    validate::{type_name, validate, validate_at},
};

/// The JSON type that a value must have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Type {
    /// Any type.
    #[default]
    Any,
    /// An object.
    Object,
    /// A list.
    Array,
    /// A string.
    String,
    /// A whole number.
    Integer,
    /// A number.
    Number,
    /// True or false.
    Boolean,
    /// A whole number or a string.
    IntOrString,
}

/// What may stand in an object beside the named properties.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    /// Nothing: such fields are unknown.
    #[default]
    None,
    /// Anything, kept as it is.
    Any,
    /// Values of this shape under any key.
    Of(Arc<Schema>),
}

/// How two lists merge under apply.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum ListType {
    /// The whole list has one owner.
    #[default]
    Atomic,
    /// Each value has an owner.
    Set,
    /// Each item has an owner and is found by these keys.
    Map(Vec<String>),
}

/// How a strategic-merge patch treats a field.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Strategy {
    /// Items of this list merge by this key.
    pub merge_key: Option<String>,
    /// Lists and objects merge instead of being replaced.
    pub merge: bool,
    /// Keys that the patch does not name are cleared (`$retainKeys`).
    pub retain_keys: bool,
}

/// A CEL rule as it stands in a CRD.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rule {
    /// The expression.
    pub rule: String,
    /// What to say when it is false.
    pub message: Option<String>,
    /// An expression that makes the message.
    pub message_expression: Option<String>,
    /// The field that the cause points to, as a JSON path below the rule's place.
    pub field_path: Option<String>,
    /// `FieldValueInvalid`, `FieldValueForbidden`, `FieldValueRequired`, `FieldValueDuplicate`.
    pub reason: Option<String>,
    /// Whether a rule that names `oldSelf` also runs on create.
    pub optional_old_self: bool,
}

/// The shape of one value.
#[derive(Clone, Debug, Default)]
pub struct Schema {
    /// The type's name where it has one, as OpenAPI refers to it (`io.k8s.api.core.v1.Pod`).
    pub name: Option<String>,
    /// What to tell a reader.
    pub description: Option<String>,
    /// The JSON type.
    pub kind: Type,
    /// Named fields of an object.
    pub properties: BTreeMap<String, Arc<Schema>>,
    /// Other fields of an object.
    pub additional: Additional,
    /// Items of a list.
    pub items: Option<Arc<Schema>>,
    /// Fields that must be present.
    pub required: Vec<String>,
    /// The value to fill in when absent.
    pub default: Option<Value>,
    /// Whether null is a value here.
    pub nullable: bool,
    /// Unknown fields are kept.
    pub preserve_unknown: bool,
    /// The value is a whole Kubernetes object.
    pub embedded_resource: bool,
    /// How lists merge.
    pub list_type: ListType,
    /// The whole map has one owner.
    pub atomic_map: bool,
    /// How strategic merge treats this field.
    pub strategy: Strategy,
    /// The only values allowed.
    pub allowed: Option<Vec<Value>>,
    /// A named format, such as `date-time` or `int32`.
    pub format: Option<String>,
    /// Bounds of a number.
    pub minimum: Option<f64>,
    /// Bounds of a number.
    pub maximum: Option<f64>,
    /// Whether the minimum itself is excluded.
    pub exclusive_minimum: bool,
    /// Whether the maximum itself is excluded.
    pub exclusive_maximum: bool,
    /// What a number must be a multiple of.
    pub multiple_of: Option<f64>,
    /// Bounds of a string's length.
    pub min_length: Option<u64>,
    /// Bounds of a string's length.
    pub max_length: Option<u64>,
    /// A regular expression that a string must match.
    pub pattern: Option<String>,
    /// Bounds of a list's length.
    pub min_items: Option<u64>,
    /// Bounds of a list's length.
    pub max_items: Option<u64>,
    /// Whether items must differ.
    pub unique_items: bool,
    /// Bounds of an object's size.
    pub min_properties: Option<u64>,
    /// Bounds of an object's size.
    pub max_properties: Option<u64>,
    /// Value validations that must all hold.
    pub all_of: Vec<Arc<Schema>>,
    /// Value validations of which one must hold.
    pub any_of: Vec<Arc<Schema>>,
    /// Value validations of which exactly one must hold.
    pub one_of: Vec<Arc<Schema>>,
    /// A value validation that must not hold.
    pub not: Option<Arc<Schema>>,
    /// CEL rules on this value.
    pub rules: Vec<Rule>,
    /// Where the shape continues in a type of this name, looked up in [`Types`]: recursion.
    pub reference: Option<String>,
}

/// Named types, for shapes that refer to one another.
pub type Types = BTreeMap<String, Arc<Schema>>;

/// The shape itself, looked up where it is only a reference to a built-in type.
pub fn resolve(schema: &Schema) -> &Schema {
    match &schema.reference {
        Some(name) => crate::builtin::types()
            .get(name)
            .map_or(schema, |named| named.as_ref()),
        None => schema,
    }
}
