//! The functions of the language and of Kubernetes' libraries, one file for each family.
//!
//! | file | functions |
//! |---|---|
//! | [`operators`] | arithmetic, comparison, `in`, optional values |
//! | [`convert`] | `int`, `string`, `timestamp`, … and the parts of times |
//! | [`strings`] | text: `split`, `format`, `matches`, `find`, … |
//! | [`lists`] | `sum`, `isSorted`, `flatten`, … and `sets.*` |
//! | [`patches`] | `jsonpatch.escapeKey` |
//! | [`network`] | `url`, `ip`, `cidr` |
//! | [`kubernetes`] | `quantity`, `format.*`, `semver` |
//!
//! To add a function: its ways to be called into `functions.txt`, its body into a file.

mod convert;
mod kubernetes;
mod lists;
mod network;
mod operators;
mod patches;
mod signatures;
mod strings;

pub(crate) use convert::{parse_duration, parse_span, parse_time};
pub use kubernetes::Semver;
pub(crate) use lists::sort;
pub use network::Url;
pub(crate) use signatures::{Overload, named, overloads};

use crate::eval::{EvalError, Meter};
use crate::value::Value;

/// Calls a function. The receiver of a member call is the first argument.
pub(crate) fn call<'a>(
    function: &str,
    member: bool,
    args: Vec<Value<'a>>,
    regex: Option<&regex::Regex>,
    meter: &Meter,
) -> Result<Value<'a>, EvalError> {
    if let (true, Some((Value::Host(host), rest))) = (member, args.split_first()) {
        // An authorization check costs so much that only a few fit into one expression.
        meter.charge(if function == "check" { 350_000 } else { 1 })?;
        return match host.call(function, rest) {
            Some(outcome) => outcome.map_err(EvalError::Failed),
            None => Err(EvalError::no_overload()),
        };
    }
    let families = [
        operators::call,
        convert::call,
        strings::call,
        lists::call,
        patches::call,
        network::call,
        kubernetes::call,
    ];
    let input = Input {
        function,
        args: &args,
        regex,
        meter,
    };
    for family in families {
        if let Some(outcome) = family(&input) {
            return outcome;
        }
    }
    // Operators are not named.
    if function.contains('_') || function.starts_with('@') {
        return Err(EvalError::no_overload());
    }
    let types: Vec<&str> = args.iter().map(Value::type_name).collect();
    Err(match function {
        "size" => EvalError::new("no such overload: size"),
        _ => EvalError::new(format!("no such overload: {function}({})", types.join(", "))),
    })
}

/// A call as a family of functions sees it.
pub(crate) struct Input<'i, 'a> {
    pub function: &'i str,
    pub args: &'i [Value<'a>],
    pub regex: Option<&'i regex::Regex>,
    pub meter: &'i Meter,
}

/// What a family answers: nothing when the function is not its own, or its arguments do not fit.
pub(crate) type Answer<'a> = Option<Result<Value<'a>, EvalError>>;

/// An error.
pub(crate) fn fail<'a>(why: impl Into<String>) -> Answer<'a> {
    Some(Err(EvalError::new(why)))
}
