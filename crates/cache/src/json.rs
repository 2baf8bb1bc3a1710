//! Writes decoded JSON as bytes: the same as `serde_json` writes, in half the time for what objects are made of, many
//! short texts that need no escapes.

use serde_json::{Number, Value};

/// Writes a value.
pub(crate) fn write(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(true) => out.extend_from_slice(b"true"),
        Value::Bool(false) => out.extend_from_slice(b"false"),
        Value::Number(number) => write_number(out, number),
        Value::String(text) => write_text(out, text),
        Value::Array(items) => {
            out.push(b'[');
            for (at, item) in items.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write(out, item);
            }
            out.push(b']');
        }
        Value::Object(fields) => {
            out.push(b'{');
            for (at, (name, value)) in fields.iter().enumerate() {
                if at > 0 {
                    out.push(b',');
                }
                write_entry(out, name, value);
            }
            out.push(b'}');
        }
    }
}

/// Writes an entry of a map.
pub(crate) fn write_entry(out: &mut Vec<u8>, name: &str, value: &Value) {
    write_text(out, name);
    out.push(b':');
    write(out, value);
}

fn write_number(out: &mut Vec<u8>, number: &Number) {
    match number.as_u64() {
        Some(digit @ 0..10) => out.push(b'0' + digit as u8),
        // Writing into a vector cannot fail.
        _ => drop(serde_json::to_writer(out, number)),
    }
}

fn write_text(out: &mut Vec<u8>, text: &str) {
    if !is_plain(text.as_bytes()) {
        // Nor can this.
        let _ = serde_json::to_writer(out, text);
        return;
    }
    out.reserve(text.len() + 2);
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// Whether nothing in a text has to be escaped.
fn is_plain(text: &[u8]) -> bool {
    let mut rest = text;
    while let Some((eight, more)) = rest.split_first_chunk::<8>() {
        if to_escape(u64::from_le_bytes(*eight)) != 0 {
            return false;
        }
        rest = more;
    }
    // What is left, together with bytes that have been looked at.
    match (
        text.last_chunk::<8>(),
        text.first_chunk::<4>(),
        text.last_chunk::<4>(),
    ) {
        _ if rest.is_empty() => true,
        (Some(eight), ..) => to_escape(u64::from_le_bytes(*eight)) == 0,
        (_, Some(first), Some(last)) => {
            let (first, last) = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
            to_escape(u64::from(first) << 32 | u64::from(last)) == 0
        }
        _ => rest.iter().all(|byte| *byte >= b' ' && !b"\"\\".contains(byte)),
    }
}

/// Not zero when one of eight bytes has to be escaped.
fn to_escape(eight: u64) -> u64 {
    const ONES: u64 = 0x0101_0101_0101_0101;
    const TOPS: u64 = ONES << 7;
    let zeros = |word: u64| word.wrapping_sub(ONES) & !word;
    let of = |byte: u8| zeros(eight ^ (ONES * u64::from(byte)));
    let below_blank = eight.wrapping_sub(ONES * u64::from(b' ')) & !eight;
    (of(b'"') | of(b'\\') | below_blank) & TOPS
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn is_what_the_library_writes() {
        let mut values = vec![
            json!(null),
            json!([
                true,
                false,
                null,
                0,
                9,
                10,
                -1,
                18_446_744_073_709_551_615_u64,
                1.5,
                1e300
            ]),
            json!({}),
            json!([]),
            json!({"a": {"b": [{}, [], {"c": ""}]}, "ü": "\u{1f600}\u{2028}", "\"": "\\"}),
        ];
        // Every byte that may have to be escaped, at every place in and behind eight bytes.
        for odd in (0..=0x7f_u8).map(char::from).chain(['ü', '\u{80}', '\u{7ff}']) {
            values
                .extend((0..18).map(|before| format!("{}{odd}{}", "x".repeat(before), "y".repeat(3)).into()));
        }
        for value in values {
            let mut out = Vec::new();
            write(&mut out, &value);
            assert_eq!(String::from_utf8(out).unwrap(), value.to_string());
        }
    }
}
