//! The functions that expressions can call: those of Kubernetes, with a price on the ones
//! whose cost or result can be far larger than what they are given.

use std::sync::Arc;

use kube_cel::{
    KubeCelExt,
    cel::{
        Context, ExecutionError, FunctionContext, IdedExpr, Value,
        common::ast::{CallExpr, Expr},
        extractors::{Arguments, This},
    },
};

use super::budget::{length, spend, weight};
use crate::schema::pattern;

/// Takes a value, spends what handling it costs and gives it back. Not a name that an
/// expression can write.
pub(super) const SPEND: &str = "@spend";
/// Spends one step of a loop and is true.
pub(super) const TICK: &str = "@tick";

/// What a call costs by its arguments, the target first.
type Price = fn(&[Value]) -> u64;

/// Functions that need a price before they run.
const PRICED: &[(&str, Price)] = &[
    ("replace", |args| match args {
        [text, old, new, ..] => {
            (length(text) / length(old).max(1) + 1).saturating_mul(length(new)) / 10
        }
        _ => 1,
    }),
    ("join", |args| {
        length(&args[0]).saturating_mul(args.get(1).map_or(1, length)) / 10
    }),
    ("indexOf", product),
    ("lastIndexOf", product),
    ("sets.contains", product),
    ("sets.equivalent", product),
    ("sets.intersects", product),
    ("distinct", |args| {
        length(&args[0]).saturating_mul(length(&args[0])) / 10
    }),
    // Each piece takes far more memory than the character it is made of.
    ("split", |args| length(&args[0])),
    ("sort", |args| weight(&args[0]).saturating_mul(4)),
    ("lists.range", |args| match args {
        [Value::Int(n)] => u64::try_from(*n).unwrap_or(0),
        _ => 1,
    }),
    ("find", expression),
    ("findAll", expression),
    ("format", |args| match args {
        [Value::String(text), ..] => largest_number(text),
        _ => 1,
    }),
];

fn product(args: &[Value]) -> u64 {
    args.iter().map(length).fold(1, u64::saturating_mul) / 10
}

/// What compiling a regular expression costs. They are bounded in size, but their size is
/// not the length of their text.
const COMPILING: u64 = 2_000;

/// These compile their expression on every call.
fn expression(args: &[Value]) -> u64 {
    product(args).saturating_add(COMPILING)
}

/// The width that a format asks for, at most.
fn largest_number(text: &str) -> u64 {
    text.split(|c: char| !c.is_ascii_digit())
        .filter(|digits| !digits.is_empty())
        .map(|digits| digits.parse().unwrap_or(u64::MAX))
        .max()
        .unwrap_or(1)
}

thread_local! {
    /// The functions as Kubernetes defines them.
    static PLAIN: Context<'static> = Context::default().with_all();
    /// The functions as expressions see them.
    static METERED: Context<'static> = metered();
}

/// Hands out a context with all functions, to evaluate in a scope of it.
pub(super) fn with_context<R>(evaluation: impl FnOnce(&Context<'static>) -> R) -> R {
    METERED.with(evaluation)
}

fn metered() -> Context<'static> {
    let mut context = Context::default().with_all();
    context.add_function(
        SPEND,
        |Arguments(args): Arguments| -> Result<Value, ExecutionError> {
            let value = args.first().cloned().unwrap_or(Value::Null);
            spend(weight(&value))?;
            Ok(value)
        },
    );
    context.add_function(TICK, || -> Result<Value, ExecutionError> {
        spend(1)?;
        Ok(Value::Bool(true))
    });
    context.add_function("matches", matches);
    context.add_function("dyn", |value: Value| -> Result<Value, ExecutionError> {
        Ok(value)
    });
    context.add_function("type", |value: Value| -> Result<Value, ExecutionError> {
        Ok(Value::String(Arc::new(type_of(&value).to_owned())))
    });
    for name in TYPES {
        context.add_variable_from_value(*name, Value::String(Arc::new((*name).to_owned())));
    }
    for &(name, price) in PRICED {
        context.add_function(
            name,
            move |call: &FunctionContext,
                  Arguments(args): Arguments|
                  -> Result<Value, ExecutionError> {
                priced(name, price, call.this.clone(), &args)
            },
        );
    }
    context
}

/// Pays for a call and then makes it.
fn priced(
    name: &str,
    price: Price,
    this: Option<Value>,
    args: &[Value],
) -> Result<Value, ExecutionError> {
    let all: Vec<Value> = this.iter().chain(args).cloned().collect();
    if all.is_empty() {
        return Err(ExecutionError::missing_argument_or_target());
    }
    spend(price(&all).saturating_add(1))?;
    if let ("find" | "findAll", Some(Value::String(expression))) = (name, all.get(1)) {
        // The function itself would take larger ones.
        pattern::compile(expression)
            .map_err(|error| ExecutionError::function_error(name, error))?;
    }
    PLAIN.with(|context| {
        let mut scope = context.new_inner_scope();
        let mut names = Vec::with_capacity(all.len());
        for (index, value) in all.into_iter().enumerate() {
            let name = format!("argument{index}");
            scope.add_variable_from_value(name.as_str(), value);
            names.push(IdedExpr {
                id: 0,
                expr: Expr::Ident(name),
            });
        }
        let target = this.is_some().then(|| Box::new(names.remove(0)));
        let call = Expr::Call(CallExpr {
            func_name: name.to_owned(),
            target,
            args: names,
        });
        scope.resolve(&IdedExpr { id: 0, expr: call })
    })
}

/// `matches` with bounded, remembered expressions.
fn matches(
    call: &FunctionContext,
    This(text): This<Arc<String>>,
    expression: Arc<String>,
) -> Result<bool, ExecutionError> {
    spend((text.len() as u64 / 10 + 1).saturating_mul(expression.len() as u64 / 4 + 1))?;
    if !pattern::is_kept(&expression) {
        spend(COMPILING)?;
    }
    let regex = pattern::compile(&expression).map_err(|error| call.error(error))?;
    Ok(regex.is_match(&text))
}

/// The names of types, which stand for themselves.
pub(super) const TYPES: &[&str] = &[
    "bool",
    "bytes",
    "double",
    "int",
    "list",
    "map",
    "null_type",
    "string",
    "uint",
];

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Bool(_) => "bool",
        Value::Bytes(_) => "bytes",
        Value::Float(_) => "double",
        Value::Int(_) => "int",
        Value::List(_) => "list",
        Value::Map(_) => "map",
        Value::Null => "null_type",
        Value::String(_) => "string",
        Value::UInt(_) => "uint",
        Value::Duration(_) => "google.protobuf.Duration",
        Value::Timestamp(_) => "google.protobuf.Timestamp",
        Value::Opaque(_) | Value::Function(..) => "object",
    }
}

/// Whether there is a function of this name.
pub(super) fn exists(name: &str) -> bool {
    KNOWN.binary_search(&name).is_ok()
}

/// Every function that expressions may name, in alphabetical order.
const KNOWN: &[&str] = &[
    "add",
    "asApproximateFloat",
    "asInteger",
    "base64.decode",
    "base64.encode",
    "bytes",
    "charAt",
    "cidr",
    "compareTo",
    "contains",
    "containsCIDR",
    "containsIP",
    "distinct",
    "double",
    "duration",
    "dyn",
    "endsWith",
    "family",
    "find",
    "findAll",
    "first",
    "flatten",
    "format",
    "format.byte",
    "format.date",
    "format.datetime",
    "format.dns1035Label",
    "format.dns1035LabelPrefix",
    "format.dns1123Label",
    "format.dns1123LabelPrefix",
    "format.dns1123Subdomain",
    "format.dns1123SubdomainPrefix",
    "format.labelValue",
    "format.named",
    "format.qualifiedName",
    "format.uri",
    "format.uuid",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getEscapedPath",
    "getFullYear",
    "getHost",
    "getHostname",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getPort",
    "getQuery",
    "getScheme",
    "getSeconds",
    "hasValue",
    "indexOf",
    "int",
    "ip",
    "ip.isCanonical",
    "isCIDR",
    "isCIDRv4",
    "isCIDRv6",
    "isGlobalUnicast",
    "isGreaterThan",
    "isIP",
    "isIPv4",
    "isIPv6",
    "isInteger",
    "isLessThan",
    "isLinkLocalMulticast",
    "isLinkLocalUnicast",
    "isLoopback",
    "isQuantity",
    "isSemver",
    "isSorted",
    "isURL",
    "isUnspecified",
    "join",
    "jsonpatch.escapeKey",
    "last",
    "lastIndexOf",
    "lists.range",
    "lowerAscii",
    "major",
    "masked",
    "matches",
    "math.abs",
    "math.bitAnd",
    "math.bitNot",
    "math.bitOr",
    "math.bitShiftLeft",
    "math.bitShiftRight",
    "math.bitXor",
    "math.ceil",
    "math.floor",
    "math.greatest",
    "math.isFinite",
    "math.isInf",
    "math.isNaN",
    "math.least",
    "math.round",
    "math.sign",
    "math.sqrt",
    "math.trunc",
    "max",
    "min",
    "minor",
    "optional.none",
    "optional.of",
    "optional.ofNonZeroValue",
    "or",
    "orValue",
    "patch",
    "prefixLength",
    "quantity",
    "replace",
    "reverse",
    "semver",
    "sets.contains",
    "sets.equivalent",
    "sets.intersects",
    "sign",
    "size",
    "slice",
    "sort",
    "split",
    "startsWith",
    "string",
    "strings.quote",
    "sub",
    "substring",
    "sum",
    "timestamp",
    "trim",
    "type",
    "uint",
    "upperAscii",
    "url",
    "validate",
    "value",
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_known_functions_are_in_order_and_exist() {
        assert!(KNOWN.is_sorted());
        for name in KNOWN {
            let call = Expr::Call(CallExpr {
                func_name: (*name).to_owned(),
                target: None,
                args: Vec::new(),
            });
            let result = METERED.with(|context| context.resolve(&IdedExpr { id: 0, expr: call }));
            assert!(
                !matches!(result, Err(ExecutionError::UndeclaredReference(_))),
                "{name}"
            );
        }
    }
}
