//! What a rule may cost at most, from the bounds that its schema gives, before any object
//! is there. The walk also notices fields that the schema does not have.

use kube_cel::cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, LiteralValue, operators as op},
};

use super::values::escape;
use crate::schema::{Additional, Schema, Type, resolve};

/// The largest object that can be sent.
const MAX_OBJECT: u64 = 3 * 1024 * 1024;
/// What one rule may cost at most.
pub(super) const RULE_LIMIT: u64 = 10_000_000;
/// What all rules of a version may cost at most.
pub(crate) const TOTAL_LIMIT: u64 = 100_000_000;

/// What is known of the value of an expression.
#[derive(Clone, Copy, Debug, Default)]
struct Known<'s> {
    /// Its shape, where one is known.
    schema: Option<&'s Schema>,
    /// The shape of its items, for lists made by the expression.
    items: Option<&'s Schema>,
    /// How many parts or characters it has at most.
    size: u64,
}

/// The most that an expression costs, or the name of a field that does not exist.
pub(super) fn estimate(expression: &IdedExpr, of: &Schema) -> Result<u64, String> {
    let mut walk = Walk {
        cost: 0,
        scope: Vec::new(),
    };
    let of = Known::of(of);
    walk.scope.extend([("self", of), ("oldSelf", of)]);
    walk.expression(expression)?;
    Ok(walk.cost)
}

/// By how much a cost is over its limit, in Kubernetes' words.
pub(crate) fn excess(cost: u64, limit: u64, what: &str) -> Option<String> {
    let times = cost as f64 / limit as f64;
    let factor = match times {
        ..=1.0 => return None,
        ..1.5 => format!("{times:.6}x"),
        ..=100.0 => format!("{times:.1}x"),
        _ => "more than 100x".to_owned(),
    };
    Some(format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, \
         and maxLength where arrays, maps, and strings are declared)"
    ))
}

/// How many parts or characters a value of this shape has at most.
pub(crate) fn most(schema: &Schema) -> u64 {
    let schema = resolve(schema);
    match schema.kind {
        Type::Array => {
            let item = schema.items.as_deref().map_or(2, least_bytes);
            schema.max_items.unwrap_or(MAX_OBJECT / (item + 1))
        }
        Type::Object => match &schema.additional {
            Additional::Of(of) => schema
                .max_properties
                .unwrap_or(MAX_OBJECT / (least_bytes(of) + 6)),
            Additional::None if !schema.preserve_unknown => schema.properties.len() as u64,
            _ => MAX_OBJECT,
        },
        Type::String => match (&schema.allowed, schema.format.as_deref()) {
            (Some(allowed), _) => allowed
                .iter()
                .map(|one| one.to_string().len() as u64)
                .max()
                .unwrap_or(0),
            (None, Some("date-time" | "date" | "duration")) => 40,
            _ => schema
                .max_length
                .map_or(MAX_OBJECT, |chars| chars.saturating_mul(4))
                .min(MAX_OBJECT),
        },
        Type::Integer | Type::Number | Type::Boolean => 1,
        Type::Any | Type::IntOrString => schema.max_length.unwrap_or(MAX_OBJECT),
    }
}

/// How short a value of this shape can be in JSON.
fn least_bytes(schema: &Schema) -> u64 {
    let schema = resolve(schema);
    match schema.kind {
        Type::Object => {
            let fields = schema.required.iter().map(|name| {
                let field = schema
                    .properties
                    .get(name)
                    .map_or(1, |field| least_bytes(field));
                name.len() as u64 + 4 + field
            });
            2 + fields.sum::<u64>()
        }
        Type::String => 2 + schema.min_length.unwrap_or(0),
        Type::Array => 2,
        Type::Boolean => 4,
        Type::Integer | Type::Number | Type::Any | Type::IntOrString => 1,
    }
}

impl<'s> Known<'s> {
    fn of(schema: &'s Schema) -> Self {
        let schema = resolve(schema);
        Self {
            schema: Some(schema),
            items: schema.items.as_deref(),
            size: most(schema),
        }
    }

    fn sized(size: u64) -> Self {
        Self {
            size,
            ..Self::default()
        }
    }

    /// What iterating over it gives: items of lists, keys of maps.
    fn element(self) -> Self {
        match (self.items, self.schema) {
            (Some(items), _) => Self::of(items),
            (None, Some(schema)) if schema.kind == Type::Object => Self::sized(256),
            // Nothing is known but that all of them together fit into one object.
            _ => Self::sized(MAX_OBJECT / self.size.max(1)),
        }
    }
}

struct Walk<'s, 'e> {
    cost: u64,
    scope: Vec<(&'e str, Known<'s>)>,
}

impl<'s, 'e> Walk<'s, 'e> {
    fn spend(&mut self, cost: u64) {
        self.cost = self.cost.saturating_add(cost);
    }

    fn expression(&mut self, expression: &'e IdedExpr) -> Result<Known<'s>, String> {
        Ok(match &expression.expr {
            Expr::Literal(LiteralValue::String(text)) => Known::sized(text.inner().len() as u64),
            Expr::Literal(_) | Expr::Unspecified | Expr::Struct(_) => Known::sized(1),
            Expr::Ident(name) => {
                self.spend(1);
                let found = self.scope.iter().rev().find(|(known, _)| known == name);
                found.map_or(Known::sized(1), |(_, known)| *known)
            }
            Expr::Select(select) => {
                let operand = self.expression(&select.operand)?;
                self.spend(1);
                field(operand, &select.field)?
            }
            Expr::List(list) => {
                let mut items = Known::default();
                for element in &list.elements {
                    items = self.expression(element)?;
                }
                Known {
                    schema: None,
                    items: items.schema,
                    size: list.elements.len() as u64,
                }
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.expression(&entry.key)?;
                        self.expression(&entry.value)?;
                    }
                }
                Known::sized(map.entries.len() as u64)
            }
            Expr::Call(call) => self.call(call)?,
            Expr::Comprehension(of) => self.comprehension(of)?,
        })
    }

    fn call(&mut self, call: &'e CallExpr) -> Result<Known<'s>, String> {
        let mut args = Vec::with_capacity(call.args.len() + 1);
        if let Some(target) = &call.target {
            args.push(self.expression(target)?);
        }
        if call.func_name == op::CONDITIONAL {
            return self.conditional(call);
        }
        for arg in &call.args {
            args.push(self.expression(arg)?);
        }
        let total: u64 = args.iter().fold(0, |sum, arg| sum.saturating_add(arg.size));
        let smaller = args.iter().map(|arg| arg.size).min().unwrap_or(0);
        let first = args.first().copied().unwrap_or_default();
        let second = args.get(1).copied().unwrap_or_default();
        let tenth = |size: u64| size / 10 + 1;
        let (cost, known) = match call.func_name.as_str() {
            op::LOGICAL_AND | op::LOGICAL_OR | op::LOGICAL_NOT | op::NOT_STRICTLY_FALSE => {
                (0, Known::sized(1))
            }
            op::EQUALS | op::NOT_EQUALS => (tenth(smaller), Known::sized(1)),
            op::LESS | op::LESS_EQUALS | op::GREATER | op::GREATER_EQUALS => {
                (tenth(smaller), Known::sized(1))
            }
            op::ADD => (
                tenth(total),
                Known {
                    size: total,
                    ..first
                },
            ),
            op::IN => (second.size.max(1), Known::sized(1)),
            op::INDEX => (1, indexed(first)),
            op::OPT_SELECT | op::OPT_INDEX => (1, Known::sized(MAX_OBJECT)),
            "size" => (1, Known::sized(1)),
            "matches" => (
                tenth(first.size).saturating_mul(second.size / 4 + 1),
                Known::sized(1),
            ),
            "startsWith" | "endsWith" => (tenth(second.size), Known::sized(1)),
            "contains" => (
                tenth(first.size).saturating_mul(tenth(second.size)),
                Known::sized(1),
            ),
            "sets.contains" | "sets.equivalent" | "sets.intersects" => (
                first.size.saturating_mul(second.size).max(1),
                Known::sized(1),
            ),
            "distinct" => (first.size.saturating_mul(first.size), first),
            "replace" | "join" | "split" | "find" | "findAll" | "flatten" | "format" => {
                (tenth(total), Known::sized(total))
            }
            _ => (
                tenth(total),
                Known {
                    size: total,
                    ..first
                },
            ),
        };
        self.spend(cost);
        Ok(known)
    }

    /// Only one of the branches is taken.
    fn conditional(&mut self, call: &'e CallExpr) -> Result<Known<'s>, String> {
        let [condition, yes, no] = call.args.as_slice() else {
            return Ok(Known::sized(1));
        };
        self.expression(condition)?;
        let before = self.cost;
        let first = self.expression(yes)?;
        let after_first = std::mem::replace(&mut self.cost, before);
        let second = self.expression(no)?;
        self.cost = self.cost.max(after_first);
        Ok(if first.size >= second.size {
            first
        } else {
            second
        })
    }

    fn comprehension(&mut self, of: &'e ComprehensionExpr) -> Result<Known<'s>, String> {
        let range = self.expression(&of.iter_range)?;
        let start = self.expression(&of.accu_init)?;
        let makes_list = matches!(of.accu_init.expr, Expr::List(_));
        let outside = self.scope.len();
        self.scope.push((&of.iter_var, range.element()));
        self.scope.push((&of.accu_var, start));
        let before = std::mem::take(&mut self.cost);
        self.expression(&of.loop_cond)?;
        self.expression(&of.loop_step)?;
        let step = std::mem::replace(&mut self.cost, before);
        self.spend(step.saturating_add(1).saturating_mul(range.size));
        self.expression(&of.result)?;
        self.scope.truncate(outside);
        Ok(if makes_list {
            Known {
                schema: None,
                ..range
            }
        } else {
            Known::sized(1)
        })
    }
}

/// What an index gives: an item of a list, or a value of a map.
fn indexed(of: Known<'_>) -> Known<'_> {
    match of.schema.map(|schema| (schema.kind, &schema.additional)) {
        Some((Type::Object, Additional::Of(value))) => Known::of(value),
        _ => of.element(),
    }
}

/// What a field gives; fails if the shape is known and does not have it.
fn field<'s>(of: Known<'s>, name: &str) -> Result<Known<'s>, String> {
    let Some(schema) = of.schema.filter(|schema| schema.kind == Type::Object) else {
        return Ok(Known::sized(MAX_OBJECT));
    };
    let property = schema
        .properties
        .iter()
        .find(|(field, _)| escape(field) == name);
    match (property, &schema.additional) {
        (Some((_, property)), _) => Ok(Known::of(property)),
        (None, Additional::Of(value)) => Ok(Known::of(value)),
        (None, Additional::Any) => Ok(Known::sized(MAX_OBJECT)),
        (None, Additional::None) if schema.preserve_unknown || schema.embedded_resource => {
            Ok(Known::sized(MAX_OBJECT))
        }
        (None, Additional::None) => Err(format!("undefined field '{name}'")),
    }
}
