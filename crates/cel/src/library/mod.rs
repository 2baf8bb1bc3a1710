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
//! To add a function: its name into [`FUNCTIONS`], its ways to be called into [`signatures`], its body into a file.

mod convert;
mod kubernetes;
mod lists;
mod network;
mod operators;
mod patches;
mod signatures;
mod strings;

pub(crate) use convert::{parse_duration, parse_time};
pub use kubernetes::Semver;
pub(crate) use lists::sort;
pub use network::Url;

use crate::eval::{EvalError, Meter};
use crate::types::Type;
use crate::value::Value;

/// Types that have a name in expressions.
pub(crate) const TYPES: [&str; 11] = [
    "bool",
    "int",
    "uint",
    "double",
    "string",
    "bytes",
    "list",
    "map",
    "type",
    "null_type",
    "dyn",
];

/// Every function.
const FUNCTIONS: &str = " _+_ _-_ _*_ _/_ _%_ -_ !_ _==_ _!=_ _<_ _<=_ _>_ _>=_ @in _&&_ _||_ _?_:_ \
    size contains startsWith endsWith matches \
    int uint double string bytes bool timestamp duration type dyn \
    getFullYear getMonth getDate getDayOfMonth getDayOfWeek getDayOfYear getHours getMinutes getSeconds getMilliseconds \
    optional.of optional.none optional.ofNonZeroValue hasValue value or orValue optional.unwrap unwrapOpt \
    charAt indexOf lastIndexOf join lowerAscii upperAscii replace split substring trim reverse format strings.quote \
    find findAll \
    isSorted sum min max lists.range flatten distinct slice sort first last \
    sets.contains sets.equivalent sets.intersects \
    jsonpatch.escapeKey \
    url isURL getScheme getHost getHostname getPort getEscapedPath getQuery \
    ip isIP ip.isCanonical family isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast isGlobalUnicast \
    cidr isCIDR containsIP containsCIDR masked prefixLength \
    quantity isQuantity sign isInteger asInteger asApproximateFloat add sub isLessThan isGreaterThan compareTo \
    format.named format.dns1123Label format.dns1123Subdomain format.dns1035Label format.qualifiedName \
    format.dns1123LabelPrefix format.dns1123SubdomainPrefix format.dns1035LabelPrefix format.labelValue format.uri \
    format.uuid format.byte format.date format.datetime validate \
    semver isSemver major minor patch ";

/// Functions that only objects of the surroundings have.
const HOST_FUNCTIONS: &str = " path group serviceAccount resource subresource namespace name check allowed reason errored \
    error fieldSelector labelSelector ";

fn listed(list: &str, name: &str) -> bool {
    list.split_ascii_whitespace().any(|f| f == name)
}

/// Whether there is a function of that name.
pub(crate) fn is_function(name: &str) -> bool {
    listed(FUNCTIONS, name)
}

/// Whether an object of the surroundings may have a function of that name.
pub(crate) fn is_host_function(name: &str) -> bool {
    listed(HOST_FUNCTIONS, name)
}

/// The type of a call's result; an error when its arguments cannot go together.
pub(crate) fn result_type(function: &str, member: bool, args: &[Type]) -> Result<Type, ()> {
    let fits = |ok: bool, ty: Type| if ok { Ok(ty) } else { Err(()) };
    let unknown = args.iter().any(Type::is_dyn);
    if let Some(result) = signatures::result_type(function, member, args) {
        return result;
    }
    Ok(match (function, args) {
        ("!_", [a]) => return fits(a.fits(&Type::Bool), Type::Bool),
        ("_?_:_", [c, a, b]) => {
            let ty = if a == b { a.clone() } else { Type::Dyn };
            return fits(c.fits(&Type::Bool) && a.fits(b), ty);
        }
        ("_==_" | "_!=_", [a, b]) => return fits(a.fits(b), Type::Bool),
        ("_<_" | "_<=_" | "_>_" | "_>=_", [a, b]) => {
            let ordered = |t: &Type| {
                t.is_number()
                    || matches!(
                        t,
                        Type::Dyn
                            | Type::Bool
                            | Type::String
                            | Type::Bytes
                            | Type::Timestamp
                            | Type::Duration
                    )
            };
            let numbers = a.is_number() && b.is_number();
            return fits(ordered(a) && ordered(b) && (numbers || a.fits(b)), Type::Bool);
        }
        ("@in", [a, b]) => match b {
            Type::List(of, _) => return fits(a.fits(of), Type::Bool),
            Type::Map(_) => return fits(a.fits(&Type::String), Type::Bool),
            Type::Dyn => Type::Bool,
            _ => return Err(()),
        },
        ("_+_", [a, b]) => match (a, b) {
            (Type::Dyn, ty) | (ty, Type::Dyn) => match ty {
                Type::Int | Type::Uint | Type::Double | Type::String | Type::Bytes => ty.clone(),
                _ => Type::Dyn,
            },
            (Type::Timestamp, Type::Duration) | (Type::Duration, Type::Timestamp) => Type::Timestamp,
            (Type::List(x, kind), Type::List(y, _)) => {
                return fits(x.fits(y), Type::List(x.clone(), kind.clone()));
            }
            (Type::Int | Type::Uint | Type::Double | Type::String | Type::Bytes | Type::Duration, _) => {
                return fits(a == b, a.clone());
            }
            _ => return Err(()),
        },
        ("_-_", [a, b]) => match (a, b) {
            (Type::Dyn, ty) | (ty, Type::Dyn) if ty.is_number() => ty.clone(),
            (Type::Dyn, _) | (_, Type::Dyn) => Type::Dyn,
            (Type::Timestamp, Type::Timestamp) => Type::Duration,
            (Type::Timestamp, Type::Duration) => Type::Timestamp,
            (Type::Int | Type::Uint | Type::Double | Type::Duration, _) => return fits(a == b, a.clone()),
            _ => return Err(()),
        },
        ("_*_" | "_/_", [a, b]) if !unknown => return fits(a.is_number() && a == b, a.clone()),
        ("_*_" | "_/_" | "_%_", [Type::Dyn, ty] | [ty, Type::Dyn]) if ty.is_number() => ty.clone(),
        ("_%_", [a, b]) if !unknown => {
            return fits(matches!(a, Type::Int | Type::Uint) && a == b, a.clone());
        }
        ("-_", [a]) if !unknown => return fits(matches!(a, Type::Int | Type::Double), a.clone()),
        ("type", _) => Type::Type,
        _ => Type::Dyn,
    })
}

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
