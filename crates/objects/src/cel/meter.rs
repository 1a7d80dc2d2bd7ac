//! Putting a meter on an expression.
//!
//! Every part whose evaluation copies or makes something is wrapped in a call that spends
//! what the result weighs, and every step of a loop spends one. The interpreter's own work
//! is proportional to that, so a bound on the sum bounds time and memory.

use kube_cel::cel::{
    IdedExpr,
    common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, SelectExpr, operators as op},
};

use super::functions::{SPEND, TICK};

/// Operators whose result is a small thing, whatever they are given.
const SMALL: &[&str] = &[
    op::CONDITIONAL,
    op::LOGICAL_AND,
    op::LOGICAL_OR,
    op::LOGICAL_NOT,
    op::NOT_STRICTLY_FALSE,
    op::SUBSTRACT,
    op::MULTIPLY,
    op::DIVIDE,
    op::MODULO,
    op::EQUALS,
    op::NOT_EQUALS,
    op::GREATER,
    op::GREATER_EQUALS,
    op::LESS,
    op::LESS_EQUALS,
    op::NEGATE,
    op::IN,
    op::INDEX,
];

/// Whether a call's name is an operator's.
pub(super) fn is_operator(name: &str) -> bool {
    SMALL.contains(&name) || [op::ADD, op::OPT_INDEX, op::OPT_SELECT].contains(&name)
}

/// Puts the meter on. `variables` are the names that stand for values, not for packages of
/// functions.
pub(super) fn meter(expression: IdedExpr, variables: &mut Vec<String>) -> IdedExpr {
    let IdedExpr { id, expr } = expression;
    let expr = match expr {
        Expr::Select(select) => {
            let test = select.test;
            let select = Expr::Select(SelectExpr {
                operand: Box::new(meter(*select.operand, variables)),
                ..select
            });
            if test { select } else { spending(id, select) }
        }
        Expr::Call(call) => metered_call(id, call, variables),
        Expr::List(mut list) => {
            list.elements = list
                .elements
                .into_iter()
                .map(|one| operand(one, variables))
                .collect();
            Expr::List(list)
        }
        Expr::Map(mut map) => {
            for entry in &mut map.entries {
                if let EntryExpr::MapEntry(entry) = &mut entry.expr {
                    entry.key = operand(std::mem::take(&mut entry.key), variables);
                    entry.value = operand(std::mem::take(&mut entry.value), variables);
                }
            }
            Expr::Map(map)
        }
        Expr::Comprehension(comprehension) => {
            Expr::Comprehension(Box::new(metered_loop(id, *comprehension, variables)))
        }
        other => other,
    };
    IdedExpr { id, expr }
}

fn metered_call(id: u64, mut call: CallExpr, variables: &mut Vec<String>) -> Expr {
    let small = SMALL.contains(&call.func_name.as_str());
    call.target = call.target.map(|target| match &target.expr {
        Expr::Ident(name) if !variables.contains(name) => target,
        _ => Box::new(operand(*target, variables)),
    });
    // Looking into a list by its index does not copy it; everything else may.
    let first_is_free = call.func_name == op::INDEX;
    let args = call.args.into_iter().enumerate();
    call.args = args
        .map(|(index, arg)| match index {
            0 if first_is_free => meter(arg, variables),
            _ => operand(arg, variables),
        })
        .collect();
    if small {
        Expr::Call(call)
    } else {
        spending(id, Expr::Call(call))
    }
}

fn metered_loop(id: u64, of: ComprehensionExpr, variables: &mut Vec<String>) -> ComprehensionExpr {
    let iter_range = operand(of.iter_range, variables);
    let accu_init = meter(of.accu_init, variables);
    let outside = variables.len();
    variables.push(of.iter_var.clone());
    variables.extend(of.iter_var2.clone());
    let tick = Expr::Call(CallExpr {
        func_name: TICK.to_owned(),
        ..CallExpr::default()
    });
    let condition = Expr::Call(CallExpr {
        func_name: op::LOGICAL_AND.to_owned(),
        target: None,
        args: vec![IdedExpr { id, expr: tick }, meter(of.loop_cond, variables)],
    });
    let loop_step = meter(of.loop_step, variables);
    let result = meter(of.result, variables);
    variables.truncate(outside);
    ComprehensionExpr {
        iter_range,
        accu_init,
        loop_cond: IdedExpr {
            id,
            expr: condition,
        },
        loop_step,
        result,
        ..of
    }
}

/// A part that is copied where it is used: variables are free to name, not to copy.
fn operand(expression: IdedExpr, variables: &mut Vec<String>) -> IdedExpr {
    let copied = match &expression.expr {
        Expr::Ident(name) => variables.contains(name),
        Expr::Call(call) => call.func_name == op::INDEX,
        _ => false,
    };
    let IdedExpr { id, expr } = meter(expression, variables);
    IdedExpr {
        id,
        expr: if copied { spending(id, expr) } else { expr },
    }
}

fn spending(id: u64, expr: Expr) -> Expr {
    Expr::Call(CallExpr {
        func_name: SPEND.to_owned(),
        target: None,
        args: vec![IdedExpr { id, expr }],
    })
}
