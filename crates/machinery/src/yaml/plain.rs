//! What a scalar without quotes means: null, a flag, a number, a date or a text. The reader asks in order to know, the
//! writer in order to quote a text that would be read as something else.

use serde_json::Number;

/// What an unquoted scalar is read as.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Plain {
    Null,
    Bool(bool),
    Int(i64),
    /// Beyond the signed range.
    Uint(u64),
    Float(f64),
    /// A date, which stays the text it is.
    Time,
    Text,
}

/// The meaning of an unquoted scalar.
pub(super) fn meaning(text: &str) -> Plain {
    let Some(first) = text.bytes().next() else {
        return Plain::Null;
    };
    if !matches!(first, b'+' | b'-' | b'0'..=b'9' | b'.' | b'~') && !b"yYnNtTfFoO".contains(&first) {
        return Plain::Text;
    }
    if let Some(word) = word(text) {
        return word;
    }
    match first {
        b'.' => decimal(text).map_or(Plain::Text, Plain::Float),
        b'+' | b'-' | b'0'..=b'9' if is_time(text) => Plain::Time,
        b'+' | b'-' | b'0'..=b'9' => number(text),
        _ => Plain::Text,
    }
}

fn word(text: &str) -> Option<Plain> {
    Some(match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Plain::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Plain::Bool(false)
        }
        "~" | "null" | "Null" | "NULL" => Plain::Null,
        ".nan" | ".NaN" | ".NAN" => Plain::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Plain::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Plain::Float(f64::NEG_INFINITY),
        _ => return None,
    })
}

fn number(text: &str) -> Plain {
    let digits = text.replace('_', "");
    if let Some(whole) = integer(&digits) {
        return whole;
    }
    if is_decimal(&digits)
        && let Some(float) = finite(&digits)
    {
        return Plain::Float(float);
    }
    // After `0b`, yet another sign is let through.
    if let Some(bits) = digits.strip_prefix("0b") {
        return signed(bits, 2)
            .map(Plain::Int)
            .or_else(|| unsigned(bits, 2).map(Plain::Uint))
            .unwrap_or(Plain::Text);
    }
    Plain::Text
}

/// An integer as Go writes them in source: `0x`, `0o`, `0b`, and octal for a zero in front.
fn integer(text: &str) -> Option<Plain> {
    let (negative, rest) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let bytes = rest.as_bytes();
    let (radix, digits) = match bytes {
        [b'0', b'x' | b'X', _, ..] => (16, &rest[2..]),
        [b'0', b'o' | b'O', _, ..] => (8, &rest[2..]),
        [b'0', b'b' | b'B', _, ..] => (2, &rest[2..]),
        [b'0', _, ..] => (8, &rest[1..]),
        _ => (10, rest),
    };
    let magnitude = unsigned(digits, radix)?;
    let signed = match negative {
        true => 0i64.checked_sub_unsigned(magnitude),
        false => i64::try_from(magnitude).ok(),
    };
    match signed {
        Some(value) => Some(Plain::Int(value)),
        // Only what has no sign may be larger.
        None if rest.len() == text.len() => Some(Plain::Uint(magnitude)),
        None => None,
    }
}

fn unsigned(digits: &str, radix: u32) -> Option<u64> {
    if digits.starts_with(['+', '-']) {
        return None;
    }
    u64::from_str_radix(digits, radix).ok()
}

fn signed(digits: &str, radix: u32) -> Option<i64> {
    i64::from_str_radix(digits, radix).ok()
}

/// Whether a text is a decimal number with or without point and exponent.
fn is_decimal(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (mantissa, exponent) = match text.find(['e', 'E']) {
        Some(at) => (&text[..at], Some(&text[at + 1..])),
        None => (text, None),
    };
    let is_digits = |text: &str| text.bytes().all(|c| c.is_ascii_digit());
    let has_exponent = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
        !digits.is_empty() && is_digits(digits)
    });
    let has_mantissa = match mantissa.split_once('.') {
        Some((whole, part)) => is_digits(whole) && is_digits(part) && !(whole.is_empty() && part.is_empty()),
        None => !mantissa.is_empty() && is_digits(mantissa),
    };
    has_mantissa && has_exponent
}

fn finite(text: &str) -> Option<f64> {
    text.parse().ok().filter(|float: &f64| float.is_finite())
}

/// A number that begins with a point; `_` may stand between two digits.
fn decimal(text: &str) -> Option<f64> {
    let bytes = text.as_bytes();
    let is_digit = |at: Option<&u8>| at.is_some_and(u8::is_ascii_digit);
    for (at, _) in bytes.iter().enumerate().filter(|(_, c)| **c == b'_') {
        let before = at.checked_sub(1).and_then(|before| bytes.get(before));
        if !is_digit(before) || !is_digit(bytes.get(at + 1)) {
            return None;
        }
    }
    let digits = text.replace('_', "");
    is_decimal(&digits).then(|| finite(&digits)).flatten()
}

/// Whether a text is a date or a time: `2024-1-2`, `2024-01-02 3:4:5.6`, `2024-01-02T03:04:05Z`, `2024-01-02t03:04:05+02:00`.
fn is_time(text: &str) -> bool {
    parse_time(text).is_some()
}

fn parse_time(text: &str) -> Option<()> {
    let year_end = text.bytes().position(|c| !c.is_ascii_digit())?;
    if year_end != 4 {
        return None;
    }
    let year: u16 = text[..4].parse().ok()?;
    let rest = text[4..].strip_prefix('-')?;
    let (month, rest) = one_or_two(rest)?;
    let (day, rest) = one_or_two(rest.strip_prefix('-')?)?;
    let is_leap = year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400));
    let days = match month {
        2 if is_leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return None,
    };
    if !(1..=days).contains(&day) {
        return None;
    }
    if rest.is_empty() {
        return Some(());
    }
    let zoned = rest.strip_prefix(['T', 't']);
    let clock = zoned.or_else(|| rest.starts_with(' ').then(|| rest.trim_start_matches(' ')))?;
    let (hour, rest) = one_or_two(clock)?;
    let (minute, rest) = one_or_two(rest.strip_prefix(':')?)?;
    let (second, rest) = one_or_two(rest.strip_prefix(':')?)?;
    if hour > 23 || minute > 59 || second > 59 {
        return None;
    }
    let mut rest = rest;
    if let Some(part) = rest.strip_prefix(['.', ',']) {
        let digits = part.bytes().take_while(u8::is_ascii_digit).count();
        if digits > 0 {
            rest = &part[digits..];
        }
    }
    let at_end = match (zoned, rest) {
        (None, "") | (Some(_), "Z") => true,
        (Some(_), zone) => is_zone(zone),
        _ => false,
    };
    at_end.then_some(())
}

fn one_or_two(text: &str) -> Option<(u8, &str)> {
    let digits = text.bytes().take(2).take_while(u8::is_ascii_digit).count();
    Some((text[..digits].parse().ok()?, &text[digits..]))
}

fn is_zone(zone: &str) -> bool {
    let [b'+' | b'-', h1, h2, b':', m1, m2] = zone.as_bytes() else {
        return false;
    };
    if ![h1, h2, m1, m2].iter().all(|c| c.is_ascii_digit()) {
        return false;
    }
    // Go lets 24 hours and 60 minutes pass.
    let two = |tens: &u8, ones: &u8| (tens - b'0') * 10 + (ones - b'0');
    two(h1, h2) <= 24 && two(m1, m2) <= 60
}

/// Whether a text is a number to the base of 60, as other readers of YAML 1.1 take it: `12:30:45`.
pub(super) fn is_base_60(text: &str) -> bool {
    let text = text.strip_prefix(['+', '-']).unwrap_or(text);
    let Some((first, rest)) = text.split_once(':') else {
        return false;
    };
    let is_first = first.starts_with(|c: char| c.is_ascii_digit())
        && first.bytes().all(|c| c.is_ascii_digit() || c == b'_');
    let (places, part) = match rest.split_once('.') {
        Some((places, part)) => (places, part),
        None => (rest, ""),
    };
    let is_place = |place: &str| match place.as_bytes() {
        [ones] => ones.is_ascii_digit(),
        [tens, ones] => (b'0'..=b'5').contains(tens) && ones.is_ascii_digit(),
        _ => false,
    };
    is_first && places.split(':').all(is_place) && part.bytes().all(|c| c.is_ascii_digit() || c == b'_')
}

/// A float as Go's `%g` writes it.
pub(crate) fn float_text(float: f64) -> String {
    let short = format!("{float:e}");
    let Some((digits, exponent)) = short.split_once('e') else {
        return short;
    };
    let digits = to_even(float, digits).unwrap_or_else(|| digits.to_owned());
    let exponent: i32 = exponent.parse().unwrap_or(0);
    // Without a given precision it takes six digits for few.
    if (-4..6).contains(&exponent) {
        return float.to_string();
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{digits}e{sign}{:02}", exponent.abs())
}

/// The digits that Go chooses where a float lies in the middle of two that are equally short: those with the even end.
fn to_even(float: f64, digits: &str) -> Option<String> {
    let exact = format!("{float:.60e}");
    let (below, rest) = exact.split_once('e')?.0.split_at_checked(digits.len())?;
    let is_middle = rest.starts_with('5') && rest[1..].bytes().all(|c| c == b'0');
    (is_middle && below.ends_with(['0', '2', '4', '6', '8'])).then(|| below.to_owned())
}

/// A float as it comes out of Go's JSON encoder and is read again: an integer where it has no fraction.
pub(crate) fn json_number(float: f64) -> Option<Number> {
    if float.fract() == 0.0 && float.abs() < 1e20 {
        let text = float.to_string();
        if let Ok(whole) = text.parse::<i64>() {
            return Some(whole.into());
        }
        if let Ok(whole) = text.parse::<u64>() {
            return Some(whole.into());
        }
    }
    Number::from_f64(float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn meanings() {
        for (text, wanted) in [
            ("", Plain::Null),
            ("~", Plain::Null),
            ("nUll", Plain::Text),
            ("yes", Plain::Bool(true)),
            ("OFF", Plain::Bool(false)),
            ("yep", Plain::Text),
            ("017", Plain::Int(15)),
            ("0o17", Plain::Int(15)),
            ("089", Plain::Float(89.0)),
            ("-0x_1F", Plain::Int(-31)),
            ("1_000", Plain::Int(1000)),
            ("0b+1", Plain::Int(1)),
            ("-9223372036854775808", Plain::Int(i64::MIN)),
            ("18446744073709551615", Plain::Uint(u64::MAX)),
            (
                "+18446744073709551615",
                Plain::Float(18_446_744_073_709_551_615.0),
            ),
            ("1e3", Plain::Float(1000.0)),
            ("1e999", Plain::Text),
            (".5", Plain::Float(0.5)),
            (".5_", Plain::Text),
            ("1.2.3", Plain::Text),
            ("2024-1-2", Plain::Time),
            ("2024-02-30", Plain::Text),
            ("2024-01-02T03:04:05Z", Plain::Time),
            ("2024-01-02  03:04:05.6", Plain::Time),
            ("2024-01-02T03:04:05", Plain::Text),
            ("<<", Plain::Text),
        ] {
            assert_eq!(meaning(text), wanted, "{text}");
        }
        assert!(
            is_base_60("-1_2:30:45.5")
                && is_base_60("190:20:30")
                && !is_base_60("1:60")
                && !is_base_60("a:1")
        );
    }
}
