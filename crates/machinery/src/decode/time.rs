//! What Go says of a text that is no time: its parser goes along the form of RFC 3339 and tells where it stopped.

use std::fmt::Write;

const FORM: &str = "2006-01-02T15:04:05Z07:00";
/// The form of times that are told to the microsecond, which have all six digits.
const MICRO_FORM: &str = "2006-01-02T15:04:05.000000Z07:00";
const MICRO_DIGITS: &str = ".000000";

/// Why a text is no time, in Go's words; none if it is one.
pub(super) fn fault(text: &str, micro: bool) -> Option<String> {
    let form = if micro { MICRO_FORM } else { FORM };
    let said = |why: &str| Some(format!("parsing time {}{why}", quoted(text)));
    match read(text, micro) {
        Ok("") if text.replacen(',', ".", 1).parse::<jiff::Timestamp>().is_ok() => None,
        Ok("") => said(": day out of range"),
        Ok(rest) => said(&format!(": extra text: {}", quoted(rest))),
        Err(Stop::Range(what)) => said(&format!(": {what} out of range")),
        Err(Stop::At(rest, part)) => {
            let place = format!("cannot parse {} as {}", quoted(rest), quoted(part));
            said(&format!(" as {}: {place}", quoted(form)))
        }
    }
}

/// Whether a text is a time of RFC 3339.
pub fn is_time(text: &str) -> bool {
    fault(text, false).is_none()
}

enum Stop<'t> {
    /// Here another part of the form was awaited.
    At(&'t str, &'static str),
    Range(&'static str),
}

/// Reads a time along its form. Answers what stands behind it.
fn read(text: &str, micro: bool) -> Result<&str, Stop<'_>> {
    let (_, rest) = number(text, 4, "2006")?;
    let rest = mark(rest, "-")?;
    let (month, rest) = number(rest, 2, "01")?;
    if !(1..=12).contains(&month) {
        return Err(Stop::Range("month"));
    }
    let rest = mark(rest, "-")?;
    let (_, rest) = number(rest, 2, "02")?;
    let rest = mark(rest, "T")?;
    let (hour, rest) = number(rest, 2, "15")?;
    if hour > 23 {
        return Err(Stop::Range("hour"));
    }
    let rest = mark(rest, ":")?;
    let (minute, rest) = number(rest, 2, "04")?;
    if minute > 59 {
        return Err(Stop::Range("minute"));
    }
    let rest = mark(rest, ":")?;
    let (second, rest) = number(rest, 2, "05")?;
    if second > 59 {
        return Err(Stop::Range("second"));
    }
    if micro {
        let digits = rest.get(1..MICRO_DIGITS.len()).unwrap_or_default();
        let whole = digits.len() == MICRO_DIGITS.len() - 1 && digits.bytes().all(|b| b.is_ascii_digit());
        return match rest.starts_with(['.', ',']) && whole {
            true => zone(&rest[MICRO_DIGITS.len()..]),
            false => Err(Stop::At(rest, MICRO_DIGITS)),
        };
    }
    let rest = match rest.strip_prefix(['.', ',']) {
        Some(fraction) if fraction.starts_with(|c: char| c.is_ascii_digit()) => {
            fraction.trim_start_matches(|c: char| c.is_ascii_digit())
        }
        _ => rest,
    };
    zone(rest)
}

fn zone(text: &str) -> Result<&str, Stop<'_>> {
    if let Some(rest) = text.strip_prefix('Z') {
        return Ok(rest);
    }
    let digits = |range| {
        text.get(range)
            .is_some_and(|part: &str| part.bytes().all(|b| b.is_ascii_digit()))
    };
    match text.starts_with(['+', '-']) && digits(1..3) && text.get(3..4) == Some(":") && digits(4..6) {
        true => Ok(&text[6..]),
        false => Err(Stop::At(text, "Z07:00")),
    }
}

fn number<'t>(text: &'t str, digits: usize, part: &'static str) -> Result<(u32, &'t str), Stop<'t>> {
    let found = text
        .get(..digits)
        .filter(|found| found.bytes().all(|b| b.is_ascii_digit()));
    match found.and_then(|found| found.parse().ok()) {
        Some(number) => Ok((number, &text[digits..])),
        None => Err(Stop::At(text, part)),
    }
}

fn mark<'t>(text: &'t str, mark: &'static str) -> Result<&'t str, Stop<'t>> {
    text.strip_prefix(mark).ok_or(Stop::At(text, mark))
}

/// A text as this parser quotes it: whatever is not ASCII byte by byte.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend(['\\', char::from(byte)]),
            b' '..0x80 => out.push(char::from(byte)),
            byte => {
                let _ = write!(out, "\\x{byte:02x}");
            }
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_read_as_gos() {
        let form = "as \"2006-01-02T15:04:05Z07:00\": cannot parse";
        let cases = [
            ("2024-01-01T00:00:00Z", None),
            ("2024-01-01T00:00:00.5+01:30", None),
            ("x", Some(format!("\"x\" {form} \"x\" as \"2006\""))),
            (
                "\u{fc}",
                Some(format!("\"\\xc3\\xbc\" {form} \"\\xc3\\xbc\" as \"2006\"")),
            ),
            (
                "2024-01-01t00:00:00z",
                Some(format!("\"2024-01-01t00:00:00z\" {form} \"t00:00:00z\" as \"T\"")),
            ),
            (
                "2024-13-01T00:00:00Z",
                Some("\"2024-13-01T00:00:00Z\": month out of range".into()),
            ),
            (
                "2024-02-30T00:00:00Z",
                Some("\"2024-02-30T00:00:00Z\": day out of range".into()),
            ),
            (
                "2024-01-01T00:00:00",
                Some(format!("\"2024-01-01T00:00:00\" {form} \"\" as \"Z07:00\"")),
            ),
            (
                "2024-01-01T00:00:00Zx",
                Some("\"2024-01-01T00:00:00Zx\": extra text: \"x\"".into()),
            ),
        ];
        for (text, why) in cases {
            let why = why.map(|why| format!("parsing time {why}"));
            assert_eq!(fault(text, false), why, "{text}");
        }
    }

    #[test]
    fn microseconds_have_six_digits() {
        let form = "as \"2006-01-02T15:04:05.000000Z07:00\": cannot parse";
        let cases = [
            ("2024-01-01T00:00:00.123456Z", None),
            ("2024-01-01T00:00:00,123456+01:00", None),
            (
                "2024-01-01T00:00:00Z",
                Some(format!("{form} \"Z\" as \".000000\"")),
            ),
            (
                "2024-01-01T00:00:00.5Z",
                Some(format!("{form} \".5Z\" as \".000000\"")),
            ),
            (
                "2024-01-01T00:00:00.1234567Z",
                Some(format!("{form} \"7Z\" as \"Z07:00\"")),
            ),
            ("", Some(format!("{form} \"\" as \"2006\""))),
        ];
        for (text, why) in cases {
            let why = why.map(|why| format!("parsing time {text:?} {why}"));
            assert_eq!(fault(text, true), why, "{text}");
        }
    }
}
