//! Conversions between types, and the parts of times. Times are shown in UTC unless a zone is given.

use super::{Answer, Input, fail};
use crate::eval::EvalError;
use crate::value::{Value, time};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::sync::Arc;

const OVERFLOW: &str = "integer overflow";

pub(super) fn call<'a>(input: &Input<'_, 'a>) -> Answer<'a> {
    let function = input.function;
    let known = matches!(
        function,
        "int" | "uint" | "double" | "string" | "bytes" | "bool" | "timestamp" | "duration" | "type" | "dyn"
    ) || function.starts_with("get");
    if !known {
        return None;
    }
    if let Err(error) = input.meter.charge(1) {
        return Some(Err(error));
    }
    match (function, input.args) {
        ("dyn", [a]) => Some(Ok(a.clone())),
        ("type", [a]) => Some(Ok(Value::Type(Arc::from(a.type_name())))),
        ("int", [a]) => int(a),
        ("uint", [a]) => uint(a),
        ("double", [a]) => double(a),
        ("string", [a]) => string(a),
        ("bytes", [Value::String(text)]) => Some(Ok(Value::Bytes(Arc::from(text.as_bytes())))),
        ("bytes", [a @ Value::Bytes(_)]) | ("bool", [a @ Value::Bool(_)]) => Some(Ok(a.clone())),
        ("bool", [Value::String(text)]) => match &**text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(Ok(Value::Bool(true))),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(Ok(Value::Bool(false))),
            _ => no_conversion("bool"),
        },
        ("timestamp", [a @ Value::Timestamp(_)]) | ("duration", [a @ Value::Duration(_)]) => {
            Some(Ok(a.clone()))
        }
        ("timestamp", [Value::Int(seconds)]) => match Timestamp::from_second(*seconds) {
            Ok(at) => Some(Ok(Value::Timestamp(at))),
            Err(_) => fail("timestamp overflow"),
        },
        ("timestamp", [Value::String(text)]) => match parse_time(text) {
            Some(at) => Some(Ok(Value::Timestamp(at))),
            None => no_conversion("google.protobuf.Timestamp"),
        },
        ("duration", [Value::String(text)]) => match parse_duration(text) {
            Some(nanos) => Some(Ok(Value::Duration(nanos))),
            None => no_conversion("google.protobuf.Duration"),
        },
        (_, [Value::Timestamp(at)]) => part(function, *at, TimeZone::UTC),
        (_, [Value::Timestamp(at), Value::String(zone)]) => match zone_of(zone) {
            Some(zone) => part(function, *at, zone),
            None => fail(format!("unknown time zone {}", &**zone)),
        },
        (_, [Value::Duration(nanos)]) => {
            let n = match function {
                "getHours" => nanos / 3_600_000_000_000,
                "getMinutes" => nanos / 60_000_000_000,
                "getSeconds" => nanos / 1_000_000_000,
                "getMilliseconds" => nanos / 1_000_000,
                _ => return None,
            };
            Some(Ok(Value::Int(n)))
        }
        _ => None,
    }
}

fn int<'a>(a: &Value<'a>) -> Answer<'a> {
    match a {
        Value::Int(_) => Some(Ok(a.clone())),
        Value::Uint(n) => Some(
            i64::try_from(*n)
                .map(Value::Int)
                .map_err(|_| EvalError::new(OVERFLOW)),
        ),
        Value::Double(n)
            if n.is_finite() && *n > -9.223_372_036_854_776e18 && *n < 9.223_372_036_854_776e18 =>
        {
            Some(Ok(Value::Int(*n as i64)))
        }
        Value::Double(_) => fail(OVERFLOW),
        Value::String(text) => match text.parse() {
            Ok(n) => Some(Ok(Value::Int(n))),
            Err(_) => no_conversion("int"),
        },
        Value::Timestamp(at) => Some(Ok(Value::Int(at.as_second()))),
        Value::Duration(nanos) => Some(Ok(Value::Int(*nanos))),
        _ => None,
    }
}

/// The refusal of a text that is none of a type.
fn no_conversion<'a>(to: &str) -> Answer<'a> {
    fail(format!("type conversion error from 'string' to '{to}'"))
}

fn uint<'a>(a: &Value<'a>) -> Answer<'a> {
    const OVERFLOW: &str = "unsigned integer overflow";
    match a {
        Value::Uint(_) => Some(Ok(a.clone())),
        Value::Int(n) => Some(
            u64::try_from(*n)
                .map(Value::Uint)
                .map_err(|_| EvalError::new(OVERFLOW)),
        ),
        Value::Double(n) if *n >= 0.0 && *n < 18_446_744_073_709_552e3 => Some(Ok(Value::Uint(*n as u64))),
        Value::Double(_) => fail(OVERFLOW),
        Value::String(text) => match text.parse() {
            Ok(n) => Some(Ok(Value::Uint(n))),
            Err(_) => no_conversion("uint"),
        },
        _ => None,
    }
}

fn double<'a>(a: &Value<'a>) -> Answer<'a> {
    match a {
        Value::Double(_) => Some(Ok(a.clone())),
        Value::Int(n) => Some(Ok(Value::Double(*n as f64))),
        Value::Uint(n) => Some(Ok(Value::Double(*n as f64))),
        Value::String(text) => match text.parse() {
            Ok(n) => Some(Ok(Value::Double(n))),
            Err(_) => no_conversion("double"),
        },
        _ => None,
    }
}

fn string<'a>(a: &Value<'a>) -> Answer<'a> {
    let text = match a {
        Value::String(_) => return Some(Ok(a.clone())),
        Value::Bytes(data) => match std::str::from_utf8(data) {
            Ok(text) => text.to_string(),
            Err(_) => return fail("invalid UTF-8 in bytes, cannot convert to string"),
        },
        Value::Url(url) => url.text.clone(),
        other => shown(other)?,
    };
    Some(Ok(Value::text(text)))
}

/// Scalars as text.
pub(super) fn shown(value: &Value<'_>) -> Option<String> {
    Some(match value {
        Value::Bool(b) => b.to_string(),
        Value::Int(n) => n.to_string(),
        Value::Uint(n) => n.to_string(),
        Value::Double(n) => number(*n),
        Value::String(text) => text.to_string(),
        Value::Timestamp(at) => at.to_string(),
        Value::Duration(nanos) => seconds(*nanos),
        Value::Ip(ip) => ip.to_string(),
        Value::Cidr(ip, bits) => format!("{ip}/{bits}"),
        Value::Quantity(quantity) => quantity.to_string(),
        Value::Semver(version) => version.to_string(),
        Value::Type(name) => name.to_string(),
        _ => return None,
    })
}

/// A double as the shortest text that reads back, as `%g` shows it.
fn number(n: f64) -> String {
    let magnitude = n.abs();
    if n != 0.0 && n.is_finite() && !(1e-4..1e21).contains(&magnitude) {
        let text = format!("{n:e}");
        return match text.split_once('e') {
            Some((digits, exponent)) => {
                let (sign, exponent) = match exponent.strip_prefix('-') {
                    Some(rest) => ('-', rest),
                    None => ('+', exponent),
                };
                format!("{digits}e{sign}{exponent:0>2}")
            }
            None => text,
        };
    }
    match n {
        _ if n.is_nan() => "NaN".into(),
        _ if n == f64::INFINITY => "+Inf".into(),
        _ if n == f64::NEG_INFINITY => "-Inf".into(),
        _ => n.to_string(),
    }
}

/// A span in seconds: `5400s`, `1.5s`.
fn seconds(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let (whole, part) = (
        nanos.unsigned_abs() / 1_000_000_000,
        nanos.unsigned_abs() % 1_000_000_000,
    );
    match part {
        0 => format!("{sign}{whole}s"),
        part => format!("{sign}{whole}.{}s", format!("{part:09}").trim_end_matches('0')),
    }
}

/// A time as text, in the year 1 or later. Unlike a value of a schema, what an expression reads is never a mere date.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let first = -62_135_596_800;
    time(text).filter(|time| text.len() > "2006-01-02".len() && time.as_second() >= first)
}

/// Reads a span as Go writes it: `1h30m`, `-1.5s`, `100ms`; also `0`.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    parse_span(text).filter(|_| !text.contains(['d', 'w']))
}

/// The same, as a value of a schema, which may count days and weeks.
pub(crate) fn parse_span(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    let mut total: i128 = 0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number = &rest[..end];
        rest = &rest[end..];
        let end = rest
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(rest.len());
        let unit: i128 = match &rest[..end] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            "d" => 86_400_000_000_000,
            "w" => 604_800_000_000_000,
            _ => return None,
        };
        rest = &rest[end..];
        let nanos = match number.contains('.') {
            true => (number.parse::<f64>().ok()? * unit as f64) as i128,
            false => number.parse::<i128>().ok()?.checked_mul(unit)?,
        };
        total = total.checked_add(nanos)?;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

fn zone_of(text: &str) -> Option<TimeZone> {
    if let Ok(zone) = TimeZone::get(text) {
        return Some(zone);
    }
    // A fixed offset: `-08:00`, `05:30`.
    let (sign, rest): (i32, &str) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (hours, minutes) = rest.split_once(':')?;
    let (hours, minutes): (i32, i32) = (hours.parse().ok()?, minutes.parse().ok()?);
    let seconds = hours.checked_mul(3600)?.checked_add(minutes.checked_mul(60)?)?;
    let offset = jiff::tz::Offset::from_seconds(sign.checked_mul(seconds)?).ok()?;
    Some(TimeZone::fixed(offset))
}

fn part<'a>(function: &str, at: Timestamp, zone: TimeZone) -> Answer<'a> {
    let at = at.to_zoned(zone);
    let n = match function {
        "getFullYear" => i64::from(at.year()),
        "getMonth" => i64::from(at.month()) - 1,
        "getDate" => i64::from(at.day()),
        "getDayOfMonth" => i64::from(at.day()) - 1,
        "getDayOfWeek" => i64::from(at.weekday().to_sunday_zero_offset()),
        "getDayOfYear" => i64::from(at.day_of_year()) - 1,
        "getHours" => i64::from(at.hour()),
        "getMinutes" => i64::from(at.minute()),
        "getSeconds" => i64::from(at.second()),
        "getMilliseconds" => i64::from(at.millisecond()),
        _ => return None,
    };
    Some(Ok(Value::Int(n)))
}
