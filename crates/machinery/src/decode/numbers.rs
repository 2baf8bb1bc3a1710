//! Numbers as they stand in a body. Go keeps the text of a number until it knows what the number is for: what no type can hold is
//! only a fault where it is wanted, and is told as it was written. A parsed value has no such text, so that a body with a fault is
//! looked at once more.

use super::order::Step;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::HashMap;

const UNREADABLE: &str = "json: cannot unmarshal number ";
/// The largest number that there is. It fits into no integer either, so that the same fields refuse it.
const LARGEST: &str = "1.7976931348623157e308";

/// The fault of a number that is out of range of all types, where any type would do.
pub(super) fn out_of_range(literal: &str) -> String {
    format!("{UNREADABLE}{literal} into Go value of type float64")
}

/// A well-formed body with the largest number for each that is too large, and the first of those; none where there is none.
pub(super) fn tamed(json: &[u8]) -> Option<(Vec<u8>, String)> {
    let mut tame = Vec::with_capacity(json.len());
    let mut first = None;
    let mut at = 0;
    while let Some(c) = json.get(at) {
        let begun = at;
        match c {
            b'"' => {
                at += 1;
                while json.get(at).is_some_and(|c| *c != b'"') {
                    at += if json[at] == b'\\' { 2 } else { 1 };
                }
                at += 1;
            }
            b'-' | b'0'..=b'9' => {
                let is_part = |c: &&u8| matches!(c, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                at += json[at..].iter().take_while(is_part).count();
                let literal = std::str::from_utf8(&json[begun..at]).ok()?;
                if literal.parse::<f64>().is_ok_and(f64::is_infinite) {
                    first.get_or_insert_with(|| literal.to_owned());
                    tame.extend(literal.starts_with('-').then_some(b'-'));
                    tame.extend_from_slice(LARGEST.as_bytes());
                    continue;
                }
            }
            _ => at += 1,
        }
        tame.extend_from_slice(json.get(begun..at)?);
    }
    Some((tame, first?))
}

/// A fault about a number with its text in the body; in YAML, which becomes JSON first, with that which Go's encoder gives it.
pub(super) fn as_written(fault: String, json: &[u8], place: &[Step]) -> String {
    let told = fault.strip_prefix(UNREADABLE).and_then(|rest| {
        let (shown, rest) = rest.split_once(' ')?;
        Some((shown, shown.parse::<f64>().ok()?, rest))
    });
    // Some types do not show the number.
    let Some((shown, float, rest)) = told else {
        return fault;
    };
    let literal =
        literal_at(json, place).filter(|found| found.starts_with(|c: char| c == '-' || c.is_ascii_digit()));
    let literal = match literal {
        Some(literal) => literal.to_owned(),
        None if shown.contains('e') && float.abs() < 1e21 => float.to_string(),
        None => shown.to_owned(),
    };
    format!("{UNREADABLE}{literal} {rest}")
}

/// The text of the value at a place.
fn literal_at<'j>(json: &'j [u8], place: &[Step]) -> Option<&'j str> {
    let mut raw: &RawValue = serde_json::from_slice(json).ok()?;
    for step in place {
        raw = match step {
            Step::Key(key) => serde_json::from_str::<HashMap<String, &RawValue>>(raw.get())
                .ok()?
                .remove(key)?,
            Step::Index(index) => serde_json::from_str::<Vec<&RawValue>>(raw.get())
                .ok()?
                .get(*index)?,
        };
    }
    Some(raw.get())
}

/// Writes numbers as they come out of Go where their type is not known: `1.0` and `1e3` have no fraction and become integers, and
/// an integer beyond the signed range has the digits of a float.
pub fn whole_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.as_i64().is_none() => {
            let whole = number.as_f64().and_then(crate::yaml::json_number);
            if let Some(whole) = whole {
                *number = whole;
            }
        }
        Value::Array(list) => list.iter_mut().for_each(whole_numbers),
        Value::Object(fields) => fields.values_mut().for_each(whole_numbers),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_too_large_is_tamed() {
        let (tame, first) = tamed(br#"{"1e999":"-1e999\"1e999","a":[-1e999,1e9,2],"b":1e400}"#).unwrap();
        assert_eq!(
            String::from_utf8(tame).unwrap(),
            format!(r#"{{"1e999":"-1e999\"1e999","a":[-{LARGEST},1e9,2],"b":{LARGEST}}}"#)
        );
        assert_eq!(first, "-1e999");
        assert_eq!(tamed(br#"{"a":1.5,"b":"1e999"}"#), None);
    }
}
