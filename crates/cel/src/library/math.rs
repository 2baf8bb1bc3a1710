//! `math.*` and `base64.*`.

use super::{Answer, Input, fail, lists};
use crate::value::Value;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use std::cmp::Ordering;
use std::sync::Arc;

/// Reads base64 with and without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

pub(super) fn call<'a>(input: &Input<'_, 'a>) -> Answer<'a> {
    let spaces = ["math.", "base64.", "jsonpatch."];
    if !spaces.iter().any(|space| input.function.starts_with(space)) {
        return None;
    }
    if let Err(error) = input.meter.charge(1) {
        return Some(Err(error));
    }
    let double = |n: f64| Some(Ok(Value::Double(n)));
    match (input.function, input.args) {
        ("math.greatest" | "math.least", args) if !args.is_empty() => {
            let wanted = match input.function {
                "math.greatest" => Ordering::Greater,
                _ => Ordering::Less,
            };
            match args {
                [Value::List(list)] => lists::extreme(list.iter(), wanted)
                    .unwrap_or_else(|| fail(format!("{}() argument must not be empty", input.function))),
                args => lists::extreme(args.iter().cloned(), wanted)?,
            }
        }
        ("math.ceil", [Value::Double(n)]) => double(n.ceil()),
        ("math.floor", [Value::Double(n)]) => double(n.floor()),
        ("math.round", [Value::Double(n)]) => double(n.round()),
        ("math.trunc", [Value::Double(n)]) => double(n.trunc()),
        ("math.sqrt", [Value::Double(n)]) => double(n.sqrt()),
        ("math.sqrt", [Value::Int(n)]) => double((*n as f64).sqrt()),
        ("math.abs", [Value::Double(n)]) => double(n.abs()),
        ("math.abs", [Value::Int(n)]) => match n.checked_abs() {
            Some(n) => Some(Ok(Value::Int(n))),
            None => fail("integer overflow"),
        },
        ("math.abs", [a @ Value::Uint(_)]) => Some(Ok(a.clone())),
        ("math.sign", [Value::Int(n)]) => Some(Ok(Value::Int(n.signum()))),
        ("math.sign", [Value::Uint(n)]) => Some(Ok(Value::Uint(u64::from(*n > 0)))),
        ("math.sign", [Value::Double(n)]) => double(if *n == 0.0 { 0.0 } else { n.signum() }),
        ("math.isNaN", [Value::Double(n)]) => Some(Ok(Value::Bool(n.is_nan()))),
        ("math.isInf", [Value::Double(n)]) => Some(Ok(Value::Bool(n.is_infinite()))),
        ("math.isFinite", [Value::Double(n)]) => Some(Ok(Value::Bool(n.is_finite()))),
        ("math.bitNot", [Value::Int(n)]) => Some(Ok(Value::Int(!n))),
        ("math.bitNot", [Value::Uint(n)]) => Some(Ok(Value::Uint(!n))),
        (function, [Value::Int(a), Value::Int(b)]) => {
            bits(function, *a as u64, *b).map(|r| r.map(|n| Value::Int(n as i64)))
        }
        (function, [Value::Uint(a), Value::Uint(b)]) => {
            bits(function, *a, *b as i64).map(|r| r.map(Value::Uint))
        }
        (function @ ("math.bitShiftLeft" | "math.bitShiftRight"), [Value::Uint(a), Value::Int(b)]) => {
            bits(function, *a, *b).map(|r| r.map(Value::Uint))
        }
        ("jsonpatch.escapeKey", [Value::String(key)]) => {
            Some(Ok(Value::text(key.replace('~', "~0").replace('/', "~1"))))
        }
        ("base64.encode", [Value::Bytes(data)]) => Some(Ok(Value::text(STANDARD.encode(data)))),
        ("base64.decode", [Value::String(text)]) => match LENIENT.decode(text.as_bytes()) {
            Ok(data) => Some(Ok(Value::Bytes(Arc::from(data)))),
            Err(_) => fail("illegal base64 data at input byte 0"),
        },
        _ => None,
    }
}

fn bits(function: &str, a: u64, b: i64) -> Option<Result<u64, crate::eval::EvalError>> {
    let shift = |by: i64| -> Result<u32, crate::eval::EvalError> {
        u32::try_from(by)
            .map_err(|_| crate::eval::EvalError::new(format!("{function}() negative offset: {by}")))
    };
    Some(match function {
        "math.bitAnd" => Ok(a & b as u64),
        "math.bitOr" => Ok(a | b as u64),
        "math.bitXor" => Ok(a ^ b as u64),
        "math.bitShiftLeft" => shift(b).map(|by| a.checked_shl(by).unwrap_or(0)),
        "math.bitShiftRight" => shift(b).map(|by| a.checked_shr(by).unwrap_or(0)),
        _ => return None,
    })
}
