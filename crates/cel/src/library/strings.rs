//! Functions on text. Positions and lengths count characters, not bytes.

use super::{Answer, Input, convert, fail};
use crate::eval::EvalError;
use crate::value::{Key, Value};

pub(super) fn call<'a>(input: &Input<'_, 'a>) -> Answer<'a> {
    let first = match input.args.first() {
        Some(Value::String(text)) => text.clone(),
        Some(Value::List(_)) if input.function == "join" => return join(input),
        _ => return None,
    };
    let text: &str = &first;
    if let Err(error) = charge(input) {
        return Some(Err(error));
    }
    let bool = |b: bool| Some(Ok(Value::Bool(b)));
    let string = |s: String| Some(Ok(Value::text(s)));
    match (input.function, &input.args[1..]) {
        ("contains", [Value::String(part)]) => bool(text.contains(&**part)),
        ("startsWith", [Value::String(part)]) => bool(text.starts_with(&**part)),
        ("endsWith", [Value::String(part)]) => bool(text.ends_with(&**part)),
        ("matches", [Value::String(pattern)]) => match compiled(input, pattern) {
            Ok(regex) => bool(regex.is_match(text)),
            Err(error) => Some(Err(error)),
        },
        ("find", [Value::String(pattern)]) => match compiled(input, pattern) {
            Ok(regex) => string(regex.find(text).map_or(String::new(), |m| m.as_str().into())),
            Err(error) => Some(Err(error)),
        },
        ("findAll", [Value::String(pattern), more @ ..]) => {
            let limit = match more {
                [] => usize::MAX,
                [Value::Int(n)] => usize::try_from(*n).unwrap_or(usize::MAX),
                _ => return None,
            };
            match compiled(input, pattern) {
                Ok(regex) => {
                    let found = regex.find_iter(text).take(limit);
                    Some(Ok(Value::list(found.map(|m| Value::text(m.as_str())).collect())))
                }
                Err(error) => Some(Err(error)),
            }
        }
        ("charAt", [Value::Int(at)]) => {
            let length = text.chars().count() as i64;
            match *at {
                at if at == length => string(String::new()),
                at if at < 0 || at > length => fail(format!("index out of range: {at}")),
                at => string(text.chars().skip(at as usize).take(1).collect()),
            }
        }
        ("indexOf" | "lastIndexOf", [Value::String(part), from @ ..]) => {
            let last = input.function == "lastIndexOf";
            position(text, part, from, last)
        }
        ("lowerAscii", []) => string(text.to_ascii_lowercase()),
        ("upperAscii", []) => string(text.to_ascii_uppercase()),
        ("trim", []) => string(text.trim().to_string()),
        ("reverse", []) => string(text.chars().rev().collect()),
        ("replace", [Value::String(from), Value::String(to)]) => string(text.replace(&**from, to)),
        ("replace", [Value::String(from), Value::String(to), Value::Int(limit)]) => {
            string(match usize::try_from(*limit) {
                Ok(limit) => text.replacen(&**from, to, limit),
                Err(_) => text.replace(&**from, to),
            })
        }
        ("split", [Value::String(by)]) => Some(Ok(split(text, by, -1))),
        ("split", [Value::String(by), Value::Int(limit)]) => Some(Ok(split(text, by, *limit))),
        ("substring", [Value::Int(from)]) => substring(text, *from, None),
        ("substring", [Value::Int(from), Value::Int(to)]) => substring(text, *from, Some(*to)),
        ("format", [Value::List(args)]) => {
            let args: Vec<Value<'a>> = args.iter().collect();
            Some(formatted(text, &args).map(Value::text))
        }
        ("strings.quote", []) => string(quoted(text)),
        _ => None,
    }
}

/// Charges what upstream charges.
fn charge(input: &Input<'_, '_>) -> Result<(), EvalError> {
    let length = input.args.first().map_or(0, Value::size);
    let second = input.args.get(1).map_or(0, Value::size);
    match input.function {
        "matches" | "find" | "findAll" => {
            let text = ((1 + length) as f64 * 0.1).ceil() as u64;
            let pattern = (second as f64 * 0.25).ceil() as u64;
            input.meter.charge(text.saturating_mul(pattern))
        }
        "replace" | "split" => input.meter.text(length * 2),
        "startsWith" | "endsWith" => input.meter.text(second),
        _ => input.meter.text(length),
    }
}

fn compiled<'i>(
    input: &Input<'i, '_>,
    pattern: &str,
) -> Result<std::borrow::Cow<'i, regex::Regex>, EvalError> {
    match input.regex {
        Some(regex) => Ok(std::borrow::Cow::Borrowed(regex)),
        None => crate::pattern::compile_small(pattern)
            .map(std::borrow::Cow::Owned)
            .map_err(|_| EvalError::new(format!("error parsing regexp: {pattern}"))),
    }
}

fn join<'a>(input: &Input<'_, 'a>) -> Answer<'a> {
    let Some(Value::List(list)) = input.args.first() else {
        return None;
    };
    let between = match &input.args[1..] {
        [] => "",
        [Value::String(text)] => text,
        _ => return None,
    };
    let mut parts = Vec::new();
    for item in list.iter() {
        match item {
            Value::String(text) => parts.push(text.to_string()),
            _ => return None,
        }
    }
    let joined = parts.join(between);
    if let Err(error) = input.meter.text(joined.len() as u64 * 2) {
        return Some(Err(error));
    }
    Some(Ok(Value::text(joined)))
}

fn position<'a>(text: &str, part: &str, from: &[Value<'_>], last: bool) -> Answer<'a> {
    let chars: Vec<char> = text.chars().collect();
    let part: Vec<char> = part.chars().collect();
    let from = match from {
        [] => None,
        [Value::Int(n)] if !last && *n >= chars.len() as i64 => return Some(Ok(Value::Int(-1))),
        [Value::Int(n)] if *n < 0 || *n > chars.len() as i64 => {
            return fail(format!("index out of range: {n}"));
        }
        [Value::Int(n)] => Some(*n as usize),
        _ => return None,
    };
    let matches_at = |at: &usize| chars.get(*at..at + part.len()) == Some(&part[..]);
    let room = (chars.len() + 1).saturating_sub(part.len());
    let found = match last {
        false => (from.unwrap_or(0)..room).find(matches_at),
        true => (0..room.min(from.map_or(usize::MAX, |f| f + 1)))
            .rev()
            .find(matches_at),
    };
    Some(Ok(Value::Int(found.map_or(-1, |at| at as i64))))
}

fn split<'a>(text: &str, by: &str, limit: i64) -> Value<'a> {
    let parts: Vec<String> = match (limit, by) {
        (0, _) => Vec::new(),
        (1, _) => vec![text.to_string()],
        (limit, "") => {
            let chars: Vec<String> = text.chars().map(String::from).collect();
            match usize::try_from(limit) {
                Ok(limit) if limit < chars.len() => {
                    let mut parts = chars[..limit - 1].to_vec();
                    parts.push(chars[limit - 1..].concat());
                    parts
                }
                _ => chars,
            }
        }
        (limit, by) => match usize::try_from(limit) {
            Ok(limit) => text.splitn(limit, by).map(String::from).collect(),
            Err(_) => text.split(by).map(String::from).collect(),
        },
    };
    Value::list(parts.into_iter().map(Value::text).collect())
}

fn substring<'a>(text: &str, from: i64, to: Option<i64>) -> Answer<'a> {
    let length = text.chars().count() as i64;
    let to = to.unwrap_or(length);
    if from < 0 || from > length {
        return fail(format!("index out of range: {from}"));
    }
    if to < 0 || to > length {
        return fail(format!("index out of range: {to}"));
    }
    if from > to {
        return fail(format!("invalid substring range. start: {from}, end: {to}"));
    }
    let part = text.chars().skip(from as usize).take((to - from) as usize);
    Some(Ok(Value::text(part.collect::<String>())))
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `%s %d %f %e %x %X %o %b %%`, with `.N` for digits behind the point.
fn formatted(pattern: &str, args: &[Value<'_>]) -> Result<String, EvalError> {
    let mut out = String::new();
    let mut args = args.iter();
    let mut chars = pattern.chars().peekable();
    let parse = |why: String| EvalError::new(format!("could not parse formatting clause: {why}"));
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        if chars.peek() == Some(&'%') {
            chars.next();
            out.push('%');
            continue;
        }
        let mut precision = None;
        if chars.peek() == Some(&'.') {
            chars.next();
            let mut digits = String::new();
            while let Some(d) = chars.peek().filter(|d| d.is_ascii_digit()) {
                digits.push(*d);
                chars.next();
            }
            precision = Some(digits.parse::<usize>().unwrap_or(6).min(100));
        }
        let verb = chars
            .next()
            .ok_or_else(|| parse("unexpected end of string".into()))?;
        let index = args.len();
        let arg = args
            .next()
            .ok_or_else(|| EvalError::new(format!("index {index} out of range")))?;
        let wrong = || {
            EvalError::new(format!(
                "error during formatting: {}, was given {}",
                match verb {
                    'd' => "decimal clause can only be used on integers",
                    'f' => "fixed-point clause can only be used on doubles",
                    'e' => "scientific clause can only be used on doubles",
                    'o' => "octal clause can only be used on integers",
                    'b' => "only integers and bools can be formatted as binary",
                    _ => "only integers, byte buffers, and strings can be formatted as hex",
                },
                arg.type_name()
            ))
        };
        match verb {
            's' => out.push_str(&display(arg)),
            'd' => match arg {
                Value::Int(_) | Value::Uint(_) | Value::Double(_) => out.push_str(&display(arg)),
                _ => return Err(wrong()),
            },
            'f' | 'e' => {
                let n = match arg {
                    Value::Double(n) => *n,
                    Value::Int(n) => *n as f64,
                    Value::Uint(n) => *n as f64,
                    _ => return Err(wrong()),
                };
                let digits = precision.unwrap_or(6);
                if verb == 'f' {
                    out.push_str(&format!("{n:.digits$}"));
                } else {
                    let text = format!("{n:.digits$e}");
                    let (head, tail) = text.split_once('e').unwrap_or((&text, "0"));
                    let (sign, tail) = match tail.strip_prefix('-') {
                        Some(rest) => ('-', rest),
                        None => ('+', tail),
                    };
                    out.push_str(&format!("{head}e{sign}{tail:0>2}"));
                }
            }
            'x' | 'X' | 'o' | 'b' => {
                let text = match (verb, arg) {
                    ('x' | 'X', Value::String(text)) => text.bytes().map(|b| format!("{b:02x}")).collect(),
                    ('x' | 'X', Value::Bytes(data)) => data.iter().map(|b| format!("{b:02x}")).collect(),
                    ('b', Value::Bool(b)) => u8::from(*b).to_string(),
                    (_, Value::Int(n)) => {
                        let sign = if *n < 0 { "-" } else { "" };
                        format!("{sign}{}", radix(verb, n.unsigned_abs()))
                    }
                    (_, Value::Uint(n)) => radix(verb, *n),
                    _ => return Err(wrong()),
                };
                out.push_str(&if verb == 'X' { text.to_uppercase() } else { text });
            }
            other => return Err(parse(format!("unrecognized formatting clause \"{other}\""))),
        }
    }
    if args.next().is_some() {
        return Err(EvalError::new(
            "too many arguments supplied for string formatting",
        ));
    }
    Ok(out)
}

fn radix(verb: char, n: u64) -> String {
    match verb {
        'o' => format!("{n:o}"),
        'b' => format!("{n:b}"),
        _ => format!("{n:x}"),
    }
}

/// Any value as `%s` shows it.
fn display(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".into(),
        Value::List(list) => {
            let items: Vec<String> = list.iter().map(|v| display(&v)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let mut entries: Vec<String> = map
                .keys()
                .iter()
                .filter_map(|k: &Key<'_>| Some(format!("{k}: {}", display(&map.get(k)?))))
                .collect();
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Bytes(data) => String::from_utf8_lossy(data).into_owned(),
        Value::Optional(Some(inner)) => format!("optional({})", display(inner)),
        Value::Optional(None) => "optional.none()".into(),
        other => convert::shown(other).unwrap_or_else(|| other.type_name().to_string()),
    }
}
