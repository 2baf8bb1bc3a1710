//! Conversions of constants and patterns that are written out: cel-go makes them when it makes a program, and makes none when
//! one fails (`interpreter/decorators.go`, `maybeOptimizeConstUnary` and `matchesRegex`).

use crate::ast::{Expr, Kind};
use crate::eval::{self, EvalError};
use crate::pattern;
use crate::room::with_room;
use crate::value::Value;

/// Functions that make a value of another type.
const CONVERSIONS: [&str; 10] = [
    "bool",
    "bytes",
    "double",
    "duration",
    "dyn",
    "int",
    "string",
    "timestamp",
    "type",
    "uint",
];

/// The first conversion of a constant, or pattern, that fails.
pub(crate) fn fault(root: &Expr) -> Option<EvalError> {
    is_constant(root).err()
}

/// Whether a node is a constant; an error when a conversion in it fails.
fn is_constant(node: &Expr) -> Result<bool, EvalError> {
    match &node.kind {
        Kind::Literal(_) => Ok(true),
        Kind::Ident(_) => Ok(false),
        Kind::Select { operand, .. } => none([&**operand]),
        Kind::Index { operand, index, .. } => none([&**operand, &**index]),
        Kind::Call {
            function,
            target,
            args,
            ..
        } => {
            let constant = all(target.as_deref().into_iter().chain(args))?;
            let pattern = match (function.as_str(), target, args.as_slice()) {
                ("matches" | "find" | "findAll", Some(_), [pattern, ..])
                | ("matches", None, [_, pattern]) => Some(&pattern.kind),
                _ => None,
            };
            if let Some(Kind::Literal(Value::String(text))) = pattern
                && let Some(fault) = pattern::fault(text)
            {
                return Err(EvalError::new(format!("error parsing regexp: {fault}")));
            }
            let converts = CONVERSIONS.contains(&function.as_str()) && target.is_none() && args.len() == 1;
            if converts && constant {
                let nothing: [(&str, Value<'_>); 0] = [];
                eval::run(node, &nothing, u64::MAX).value?;
            }
            Ok(converts && constant)
        }
        Kind::List(items) => Ok(all(items.iter().map(|(item, _)| item))? && items.iter().all(|i| !i.1)),
        Kind::Map(entries) => {
            let values = entries.iter().flat_map(|(key, value, _)| [key, value]);
            Ok(all(values)? && entries.iter().all(|entry| !entry.2))
        }
        Kind::Message(_, fields) => none(fields.iter().map(|field| &field.value)),
        Kind::Comprehension(walk) => none([&walk.range].into_iter().chain(&walk.filter).chain([&walk.body])),
        Kind::Bind { init, body, .. } => none([&**init, &**body]),
    }
}

/// Looks into all nodes; whether each is a constant.
fn all<'e>(nodes: impl IntoIterator<Item = &'e Expr>) -> Result<bool, EvalError> {
    let mut constant = true;
    for node in nodes {
        constant &= with_room(|| is_constant(node))?;
    }
    Ok(constant)
}

/// Looks into the parts of what is no constant.
fn none<'e>(nodes: impl IntoIterator<Item = &'e Expr>) -> Result<bool, EvalError> {
    all(nodes).map(|_| false)
}
