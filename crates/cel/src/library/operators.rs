//! Arithmetic with overflow found out, comparison, membership, sizes, optional values.

use super::{Answer, Input, fail};
use crate::eval::EvalError;
use crate::value::{Key, Value};
use jiff::SignedDuration;
use std::cmp::Ordering;
use std::sync::Arc;

const OVERFLOW: &str = "integer overflow";

pub(super) fn call<'a>(input: &Input<'_, 'a>) -> Answer<'a> {
    let cost = match input.function {
        "_==_" | "_!=_" | "_<_" | "_<=_" | "_>_" | "_>=_" | "_+_" => walked(input),
        "@in" | "contains" | "startsWith" | "endsWith" => 0,
        _ => 1,
    };
    if input.function.starts_with(['_', '!', '-', '@'])
        && let Err(error) = input.meter.charge(cost)
    {
        return Some(Err(error));
    }
    match (input.function, input.args) {
        ("_==_", [a, b]) => Some(Ok(Value::Bool(a.equals(b)))),
        ("_!=_", [a, b]) => Some(Ok(Value::Bool(!a.equals(b)))),
        ("_<_", [a, b]) => order(a, b, |o| o == Ordering::Less),
        ("_<=_", [a, b]) => order(a, b, |o| o != Ordering::Greater),
        ("_>_", [a, b]) => order(a, b, |o| o == Ordering::Greater),
        ("_>=_", [a, b]) => order(a, b, |o| o != Ordering::Less),
        ("!_", [Value::Bool(b)]) => Some(Ok(Value::Bool(!b))),
        ("-_", [Value::Int(n)]) => whole(n.checked_neg()),
        ("-_", [Value::Double(n)]) => Some(Ok(Value::Double(-n))),
        ("_+_", [a, b]) => add(a, b),
        ("_-_", [a, b]) => subtract(a, b),
        ("_*_" | "_/_" | "_%_", [a, b]) => multiply(input.function, a, b),
        ("@in", [a, b]) => contained(input, a, b),
        ("size", [a]) => {
            let size = match a {
                Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => a.size(),
                _ => return None,
            };
            Some(input.meter.charge(1).map(|()| Value::Int(size as i64)))
        }
        ("optional.none", []) => Some(Ok(Value::Optional(None))),
        ("optional.of", [a]) => Some(Ok(Value::some(a.clone()))),
        ("optional.ofNonZeroValue", [a]) => Some(Ok(if is_zero(a) {
            Value::Optional(None)
        } else {
            Value::some(a.clone())
        })),
        ("hasValue", [Value::Optional(inner)]) => Some(Ok(Value::Bool(inner.is_some()))),
        ("value", [Value::Optional(inner)]) => match inner {
            Some(inner) => Some(Ok((**inner).clone())),
            None => fail("optional.none() dereference"),
        },
        ("optional.unwrap" | "unwrapOpt", [Value::List(list)]) => {
            let mut out = Vec::new();
            for item in list.iter() {
                match item {
                    Value::Optional(inner) => out.extend(inner.map(|v| (*v).clone())),
                    _ => return None,
                }
            }
            Some(Ok(Value::list(out)))
        }
        _ => None,
    }
}

/// The cost of an operator that may walk its arguments.
fn walked(input: &Input<'_, '_>) -> u64 {
    let sizes = input.args.iter().map(|a| match a {
        Value::String(_) | Value::Bytes(_) => a.size(),
        _ => 0,
    });
    let length = match input.function {
        "_+_" => sizes.sum(),
        _ => sizes.min().unwrap_or(0),
    };
    ((length as f64 * 0.1).ceil() as u64).max(1)
}

fn order<'a>(a: &Value<'a>, b: &Value<'a>, test: impl Fn(Ordering) -> bool) -> Answer<'a> {
    let nan = |v: &Value<'_>| matches!(v, Value::Double(n) if n.is_nan());
    if nan(a) || nan(b) {
        return fail("NaN values cannot be ordered");
    }
    a.compare(b).map(|o| Ok(Value::Bool(test(o))))
}

fn whole<'a>(n: Option<i64>) -> Answer<'a> {
    Some(n.map(Value::Int).ok_or_else(|| EvalError::new(OVERFLOW)))
}

fn unsigned<'a>(n: Option<u64>) -> Answer<'a> {
    Some(
        n.map(Value::Uint)
            .ok_or_else(|| EvalError::new("unsigned integer overflow")),
    )
}

fn span<'a>(n: Option<i64>) -> Answer<'a> {
    Some(
        n.map(Value::Duration)
            .ok_or_else(|| EvalError::new("duration overflow")),
    )
}

fn add<'a>(a: &Value<'a>, b: &Value<'a>) -> Answer<'a> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => whole(a.checked_add(*b)),
        (Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_add(*b)),
        (Value::Double(a), Value::Double(b)) => Some(Ok(Value::Double(a + b))),
        (Value::String(a), Value::String(b)) => Some(Ok(Value::text(format!("{}{}", &**a, &**b)))),
        (Value::Bytes(a), Value::Bytes(b)) => Some(Ok(Value::Bytes(Arc::from([&a[..], &b[..]].concat())))),
        (Value::Duration(a), Value::Duration(b)) => span(a.checked_add(*b)),
        (Value::Timestamp(at), Value::Duration(by)) | (Value::Duration(by), Value::Timestamp(at)) => {
            shifted(*at, *by)
        }
        _ => None,
    }
}

fn shifted<'a>(at: jiff::Timestamp, by: i64) -> Answer<'a> {
    let moved = at.checked_add(SignedDuration::from_nanos(by));
    Some(
        moved
            .map(Value::Timestamp)
            .map_err(|_| EvalError::new("timestamp overflow")),
    )
}

fn subtract<'a>(a: &Value<'a>, b: &Value<'a>) -> Answer<'a> {
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => whole(a.checked_sub(*b)),
        (Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_sub(*b)),
        (Value::Double(a), Value::Double(b)) => Some(Ok(Value::Double(a - b))),
        (Value::Duration(a), Value::Duration(b)) => span(a.checked_sub(*b)),
        (Value::Timestamp(at), Value::Duration(by)) => match by.checked_neg() {
            Some(by) => shifted(*at, by),
            None => fail("timestamp overflow"),
        },
        (Value::Timestamp(a), Value::Timestamp(b)) => {
            let nanos = a.as_nanosecond() - b.as_nanosecond();
            span(i64::try_from(nanos).ok())
        }
        _ => None,
    }
}

fn multiply<'a>(function: &str, a: &Value<'a>, b: &Value<'a>) -> Answer<'a> {
    const BY_ZERO: &str = "division by zero";
    const MODULO: &str = "modulus by zero";
    match (function, a, b) {
        ("_*_", Value::Int(a), Value::Int(b)) => whole(a.checked_mul(*b)),
        ("_*_", Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_mul(*b)),
        ("_*_", Value::Double(a), Value::Double(b)) => Some(Ok(Value::Double(a * b))),
        ("_/_", Value::Double(a), Value::Double(b)) => Some(Ok(Value::Double(a / b))),
        ("_/_", Value::Int(_), Value::Int(0)) | ("_/_", Value::Uint(_), Value::Uint(0)) => fail(BY_ZERO),
        ("_%_", Value::Int(_), Value::Int(0)) | ("_%_", Value::Uint(_), Value::Uint(0)) => fail(MODULO),
        ("_/_", Value::Int(a), Value::Int(b)) => whole(a.checked_div(*b)),
        ("_/_", Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_div(*b)),
        ("_%_", Value::Int(a), Value::Int(b)) => whole(a.checked_rem(*b)),
        ("_%_", Value::Uint(a), Value::Uint(b)) => unsigned(a.checked_rem(*b)),
        _ => None,
    }
}

fn contained<'a>(input: &Input<'_, 'a>, a: &Value<'a>, b: &Value<'a>) -> Answer<'a> {
    match b {
        Value::List(list) => {
            if let Err(error) = input.meter.charge(list.len() as u64 + 1) {
                return Some(Err(error));
            }
            Some(Ok(Value::Bool(list.iter().any(|item| item.equals(a)))))
        }
        Value::Map(map) => {
            if let Err(error) = input.meter.charge(1) {
                return Some(Err(error));
            }
            let key = Key::of(a);
            Some(Ok(Value::Bool(key.is_some_and(|key| map.get(&key).is_some()))))
        }
        _ => None,
    }
}

fn is_zero(value: &Value<'_>) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(b) => !b,
        Value::Int(n) | Value::Duration(n) => *n == 0,
        Value::Uint(n) => *n == 0,
        Value::Double(n) => *n == 0.0,
        Value::String(_) | Value::Bytes(_) | Value::List(_) | Value::Map(_) => value.size() == 0,
        Value::Optional(inner) => inner.is_none(),
        _ => false,
    }
}
