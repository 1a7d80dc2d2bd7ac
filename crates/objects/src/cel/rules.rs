//! The rules of a schema, compiled once and held against objects.

use std::{collections::BTreeMap, sync::Arc};

use kube_cel::cel::{Value as Cel, objects::OptionalValue};
use serde_json::Value;

use super::{EvaluationError, Expression, values};
use crate::schema::{Additional, Cause, Path, Rule, Schema, Type, lists::Correlation};

/// The names that a rule may use.
pub(super) const VARIABLES: &[&str] = &["self", "oldSelf"];
/// What all rules on one object may spend together.
const BUDGET: u64 = 1_000_000;
/// How long a message that an expression made may be.
const MAX_MESSAGE: usize = 5 * 1024;

/// The CEL rules in a schema.
#[derive(Debug, Default)]
pub struct Rules {
    root: Option<Node>,
}

/// A place in the schema that has rules, or has some below.
#[derive(Debug)]
struct Node {
    schema: Arc<Schema>,
    rules: Vec<Compiled>,
    properties: BTreeMap<String, Node>,
    additional: Option<Box<Node>>,
    items: Option<Box<Node>>,
}

#[derive(Debug)]
struct Compiled {
    rule: Rule,
    expression: Result<Expression, String>,
    message: Option<Expression>,
    /// Whether it compares with the old value.
    transition: bool,
}

impl Rules {
    /// Compiles every rule in the schema. One that does not compile, which a stored
    /// definition cannot have, faults every object.
    pub fn compile(schema: &Arc<Schema>) -> Rules {
        Rules {
            root: Node::compile(schema, 0),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.root.is_none()
    }

    /// Tells which rules an object breaks. It must fit its schema.
    pub fn check(&self, object: &Value, old: Option<&Value>) -> Vec<Cause> {
        let Some(root) = &self.root else {
            return Vec::new();
        };
        let mut run = Run {
            path: Path::root(),
            causes: Vec::new(),
            budget: BUDGET,
        };
        run.node(root, object, old);
        run.causes
    }
}

impl Node {
    fn compile(schema: &Arc<Schema>, depth: usize) -> Option<Node> {
        // A type that contains itself has no rules of its own.
        if depth > crate::schema::MAX_DEPTH || schema.reference.is_some() {
            return None;
        }
        let properties: BTreeMap<String, Node> = schema
            .properties
            .iter()
            .filter_map(|(name, property)| {
                Some((name.clone(), Self::compile(property, depth + 1)?))
            })
            .collect();
        let additional = match &schema.additional {
            Additional::Of(of) => Self::compile(of, depth + 1).map(Box::new),
            _ => None,
        };
        let items = schema
            .items
            .as_ref()
            .and_then(|items| Self::compile(items, depth + 1))
            .map(Box::new);
        let rules: Vec<Compiled> = schema.rules.iter().map(Compiled::new).collect();
        let empty =
            rules.is_empty() && properties.is_empty() && additional.is_none() && items.is_none();
        (!empty).then(|| Node {
            schema: schema.clone(),
            rules,
            properties,
            additional,
            items,
        })
    }
}

impl Compiled {
    fn new(rule: &Rule) -> Compiled {
        let expression = Expression::compile(&rule.rule, VARIABLES);
        let message = rule.message_expression.as_ref();
        Compiled {
            transition: expression
                .as_ref()
                .is_ok_and(|expression| expression.names("oldSelf")),
            message: message.and_then(|text| Expression::compile(text, VARIABLES).ok()),
            expression,
            rule: rule.clone(),
        }
    }
}

struct Run {
    path: Path,
    causes: Vec<Cause>,
    budget: u64,
}

impl Run {
    fn node(&mut self, node: &Node, value: &Value, old: Option<&Value>) {
        if value.is_null() || self.budget == 0 {
            return;
        }
        self.rules(node, value, old);
        match value {
            Value::Object(fields) => {
                for (name, field) in fields {
                    let known = node.schema.properties.contains_key(name);
                    let below = if known {
                        node.properties.get(name)
                    } else {
                        node.additional.as_deref()
                    };
                    let Some(below) = below else { continue };
                    let mark = self.path.push(name);
                    self.node(below, field, old.and_then(|old| old.get(name)));
                    self.path.cut(mark);
                }
            }
            Value::Array(items) => {
                let Some(below) = &node.items else { return };
                let correlation = Correlation::new(&node.schema.list_type, old);
                for (index, item) in items.iter().enumerate() {
                    let mark = self.path.push_index(index);
                    self.node(below, item, correlation.of(item));
                    self.path.cut(mark);
                }
            }
            _ => {}
        }
    }

    fn rules(&mut self, node: &Node, value: &Value, old: Option<&Value>) {
        // What did not change is not held against rules that look at nothing else.
        let unchanged = old == Some(value);
        let applies = |rule: &&Compiled| match (rule.transition, old) {
            (true, None) => rule.rule.optional_old_self,
            (true, Some(_)) => true,
            (false, _) => !unchanged,
        };
        let rules: Vec<&Compiled> = node.rules.iter().filter(applies).collect();
        if rules.is_empty() {
            return;
        }
        let this = values::of_schema(&node.schema, value);
        let before = old.map(|old| values::of_schema(&node.schema, old));
        for rule in rules {
            self.rule(node, rule, &this, before.as_ref());
            if self.budget == 0 {
                return;
            }
        }
    }

    fn rule(&mut self, node: &Node, rule: &Compiled, this: &Cel, before: Option<&Cel>) {
        let shown = Value::from(match node.schema.kind {
            Type::IntOrString => "integer,string",
            other => other.name().unwrap_or_default(),
        });
        let expression = match &rule.expression {
            Ok(expression) => expression,
            Err(error) => {
                let detail = format!("rule compile error: {error}");
                return self.causes.push(Cause::invalid(&self.path, &shown, detail));
            }
        };
        let mut variables = vec![("self", this.clone())];
        match (rule.rule.optional_old_self, before) {
            (true, before) => {
                let before = before.map_or_else(OptionalValue::none, |before| {
                    OptionalValue::of(before.clone())
                });
                variables.push(("oldSelf", Cel::Opaque(Arc::new(before))));
            }
            (false, Some(before)) => variables.push(("oldSelf", before.clone())),
            (false, None) => {}
        }
        match expression.evaluate(&variables, &mut self.budget) {
            Ok(Cel::Bool(true)) => {}
            Ok(Cel::Bool(false)) => self.broken(node, rule, &variables, &shown),
            Ok(_) => {
                let detail = format!("rule must evaluate to a bool: {}", rule.rule.rule);
                self.causes.push(Cause::invalid(&self.path, &shown, detail));
            }
            Err(EvaluationError::TooCostly) => {
                let detail = "validation failed due to running out of cost budget, no further validation rules will be run";
                self.causes.push(Cause::invalid(&self.path, &shown, detail));
            }
            Err(EvaluationError::Failed(error)) => {
                let what = rule.rule.message.as_ref().unwrap_or(&rule.rule.rule).trim();
                let detail = format!("{error} evaluating rule: {what}");
                self.causes.push(Cause::invalid(&self.path, &shown, detail));
            }
        }
    }

    fn broken(&mut self, node: &Node, rule: &Compiled, variables: &[(&str, Cel)], shown: &Value) {
        let message = self.message(rule, variables);
        let mut path = self.path.clone();
        if let Some(field) = &rule.rule.field_path
            && let Ok(steps) = steps(field)
        {
            extend(&mut path, &steps, &node.schema);
        }
        self.causes.push(match rule.rule.reason.as_deref() {
            Some("FieldValueForbidden") => Cause::forbidden(path, message),
            Some("FieldValueRequired") => Cause::required(path, message),
            Some("FieldValueDuplicate") => Cause::duplicate(path, shown),
            _ => Cause::invalid(path, shown, message),
        });
    }

    /// The message that the rule's expression makes, or else the one that stands there.
    fn message(&mut self, rule: &Compiled, variables: &[(&str, Cel)]) -> String {
        let made = rule.message.as_ref().and_then(|message| {
            match message.evaluate(variables, &mut self.budget) {
                Ok(Cel::String(text)) => Some(text.trim().to_owned()),
                _ => None,
            }
        });
        // One that is empty, too long or of several lines is passed over, as by a real API server.
        let fits =
            |text: &String| !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n');
        match (made.filter(fits), &rule.rule.message) {
            (Some(made), _) => made,
            (None, Some(message)) => message.trim().to_owned(),
            (None, None) => format!("failed rule: {}", rule.rule.rule.trim()),
        }
    }
}

/// The names in a field path: `.spec['a.b'].c`.
pub(super) fn steps(path: &str) -> Result<Vec<String>, String> {
    let mut steps = Vec::new();
    let mut rest = path;
    while !rest.is_empty() {
        if let Some(quoted) = rest.strip_prefix("['") {
            let (name, after) = quoted.split_once("']").ok_or("unclosed bracket")?;
            steps.push(name.to_owned());
            rest = after;
        } else if let Some(plain) = rest.strip_prefix('.') {
            let end = plain.find(['.', '[']).unwrap_or(plain.len());
            if end == 0 {
                return Err("empty field name".to_owned());
            }
            steps.push(plain[..end].to_owned());
            rest = &plain[end..];
        } else {
            return Err("expected . or ['".to_owned());
        }
    }
    if steps.is_empty() {
        Err("must not be empty".to_owned())
    } else {
        Ok(steps)
    }
}

/// Whether the names lead somewhere in the schema.
pub(super) fn follow(steps: &[String], schema: &Schema) -> Result<(), String> {
    let mut at = schema;
    for step in steps {
        at = match (at.properties.get(step), &at.additional) {
            (Some(property), _) => property,
            (None, Additional::Of(of)) => of,
            _ => return Err(format!("does not refer to a field of the schema: {step}")),
        };
    }
    Ok(())
}

fn extend(path: &mut Path, steps: &[String], schema: &Schema) {
    let mut at = Some(schema);
    for step in steps {
        let property = at.and_then(|schema| schema.properties.get(step));
        match (property, at.map(|schema| &schema.additional)) {
            (None, Some(Additional::Of(of))) => {
                *path = path.key(step);
                at = Some(of);
            }
            (property, _) => {
                path.push(step);
                at = property.map(AsRef::as_ref);
            }
        }
    }
}
