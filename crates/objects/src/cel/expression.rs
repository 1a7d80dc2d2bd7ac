//! One expression, compiled once and evaluated within a budget.

use kube_cel::cel::{
    ExecutionError, IdedExpr, Value,
    common::ast::{EntryExpr, Expr},
    parser::Parser,
};

use super::{
    budget,
    functions::{self, TYPES},
    meter::{is_operator, meter},
};

/// How long an expression may be.
const MAX_LENGTH: usize = 8 * 1024;
/// How deep brackets may nest, before anything recursive looks at the text.
const MAX_BRACKETS: usize = 24;
/// How deep the parts of an expression may nest. The interpreter recurses over them.
const MAX_DEPTH: usize = 48;
/// How many operators may follow one another without brackets: each nests one deeper.
const MAX_CHAIN: usize = 512;

/// The stack for recursion over the deepest expression, grown to where a thread has less.
const STACK: usize = 16 << 20;
/// The stack that one level of an expression takes when it is evaluated, measured generously.
const STACK_PER_LEVEL: usize = 24 << 10;

/// An expression that can be evaluated.
#[derive(Debug)]
pub struct Expression {
    metered: IdedExpr,
    /// How deep its parts nest.
    depth: usize,
    plain: IdedExpr,
    text: String,
}

const NO_MESSAGES: &str = "messages cannot be made here";

/// Why an evaluation gave no value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum EvaluationError {
    /// The budget did not suffice.
    #[error("operation cancelled: actual cost limit exceeded")]
    TooCostly,
    /// The expression failed.
    #[error("{0}")]
    Failed(String),
}

impl Expression {
    /// Compiles an expression that may name these variables. The error says what is wrong
    /// with it.
    pub fn compile(text: &str, variables: &[&str]) -> Result<Expression, String> {
        bounded(text)?;
        // The parser descends through some ten functions for each bracket.
        stacker::maybe_grow(STACK / 2, STACK, || Self::parse(text, variables))
    }

    fn parse(text: &str, variables: &[&str]) -> Result<Expression, String> {
        let parser = Parser::new()
            .max_recursion_depth(MAX_BRACKETS as u16 * 2)
            .enable_optional_syntax(true);
        let plain = parser
            .parse(text)
            .map_err(|errors| errors.to_string().trim().to_owned())?;
        let mut scope: Vec<String> = variables.iter().map(|&name| name.to_owned()).collect();
        let depth = check(&plain, &mut scope, 0)?;
        Ok(Expression {
            depth,
            metered: meter(plain.clone(), &mut scope),
            plain,
            text: text.to_owned(),
        })
    }

    /// The text it was compiled from.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it names a variable.
    pub fn names(&self, variable: &str) -> bool {
        self.plain.references().has_variable(variable)
    }

    /// The expression as it was written.
    pub(super) fn plain(&self) -> &IdedExpr {
        &self.plain
    }

    /// Evaluates with these variables, spending from the budget.
    pub fn evaluate(
        &self,
        variables: &[(&str, Value)],
        budget: &mut u64,
    ) -> Result<Value, EvaluationError> {
        let run = || {
            functions::with_context(|context| {
                let mut scope = context.new_inner_scope();
                for (name, value) in variables {
                    scope.add_variable_from_value(*name, value.clone());
                }
                scope.resolve(&self.metered)
            })
        };
        let needed = (self.depth + 4) * 2 * STACK_PER_LEVEL;
        let result = budget::within(budget, || stacker::maybe_grow(needed, STACK, run));
        // Looked at first: an expression can hide the failed call behind an `||`.
        if *budget == 0 {
            return Err(EvaluationError::TooCostly);
        }
        result.map_err(|error| EvaluationError::Failed(told(&error)))
    }
}

/// An error in the words of cel-go, without the values: they may be large, or secret.
fn told(error: &ExecutionError) -> String {
    match error {
        ExecutionError::NoSuchKey(key) => format!("no such key: {key}"),
        ExecutionError::UndeclaredReference(name) => format!("undeclared reference to '{name}'"),
        ExecutionError::DivisionByZero(_) => "division by zero".to_owned(),
        ExecutionError::RemainderByZero(_) => "modulus by zero".to_owned(),
        ExecutionError::Overflow(..) => "integer overflow".to_owned(),
        ExecutionError::IndexOutOfBounds(_) => "index out of bounds".to_owned(),
        ExecutionError::FunctionError { function, message } => format!("{function}: {message}"),
        ExecutionError::InvalidArgumentCount { expected, actual } => {
            format!("expected {expected} arguments, got {actual}")
        }
        _ => "no such overload".to_owned(),
    }
}

/// Refuses what could exhaust the stack of the parser, which recurses.
fn bounded(text: &str) -> Result<(), String> {
    if text.trim().is_empty() {
        return Err("expression is empty".to_owned());
    }
    if text.len() > MAX_LENGTH {
        return Err(format!("expression is longer than {MAX_LENGTH} bytes"));
    }
    let (mut depth, mut chain) = (0usize, 0usize);
    for c in text.chars() {
        match c {
            '(' | '[' | '{' => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '+' | '-' | '*' | '/' | '%' | '!' | '?' | '.' | '<' | '>' | '=' | '&' | '|' => {
                chain += 1
            }
            _ => {}
        }
        if depth > MAX_BRACKETS {
            return Err(format!("brackets nest deeper than {MAX_BRACKETS}"));
        }
    }
    if chain > MAX_CHAIN {
        return Err(format!("expression has more than {MAX_CHAIN} operators"));
    }
    Ok(())
}

/// Refuses names that nothing stands for, and what the interpreter cannot do. Tells how
/// deep the parts nest.
fn check(expression: &IdedExpr, scope: &mut Vec<String>, depth: usize) -> Result<usize, String> {
    if depth > MAX_DEPTH {
        return Err(format!("expression nests deeper than {MAX_DEPTH}"));
    }
    let mut deepest = depth;
    let mut below = |part: &IdedExpr, scope: &mut Vec<String>| {
        deepest = deepest.max(check(part, scope, depth + 1)?);
        Ok::<(), String>(())
    };
    match &expression.expr {
        Expr::Literal(_) => {}
        Expr::Ident(name) if scope.contains(name) || TYPES.contains(&name.as_str()) => {}
        Expr::Ident(name) => return Err(undeclared(name)),
        Expr::Select(select) => below(&select.operand, scope)?,
        Expr::Call(call) => {
            let mut name = call.func_name.clone();
            match call.target.as_deref() {
                Some(IdedExpr {
                    expr: Expr::Ident(package),
                    ..
                }) if !scope.contains(package) => {
                    name = format!("{package}.{name}");
                }
                Some(target) => below(target, scope)?,
                None => {}
            }
            if !is_operator(&name) && !functions::exists(&name) {
                return Err(undeclared(&name));
            }
            call.args.iter().try_for_each(|arg| below(arg, scope))?;
        }
        Expr::List(list) => list.elements.iter().try_for_each(|one| below(one, scope))?,
        Expr::Map(map) => map.entries.iter().try_for_each(|entry| match &entry.expr {
            EntryExpr::MapEntry(entry) => {
                below(&entry.key, scope)?;
                below(&entry.value, scope)
            }
            EntryExpr::StructField(_) => Err(NO_MESSAGES.to_owned()),
        })?,
        Expr::Comprehension(of) => {
            below(&of.iter_range, scope)?;
            below(&of.accu_init, scope)?;
            let outside = scope.len();
            scope.push(of.iter_var.clone());
            scope.extend(of.iter_var2.clone());
            scope.push(of.accu_var.clone());
            let parts = [&of.loop_cond, &of.loop_step, &of.result];
            let checked = parts.into_iter().try_for_each(|part| below(part, scope));
            scope.truncate(outside);
            checked?;
        }
        Expr::Struct(_) | Expr::Unspecified => return Err(NO_MESSAGES.to_owned()),
    }
    Ok(deepest)
}

fn undeclared(name: &str) -> String {
    format!("undeclared reference to '{name}' (in container '')")
}
