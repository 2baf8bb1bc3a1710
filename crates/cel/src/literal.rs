//! What the literals of an expression stand for.

/// A whole number; a sign may stand before it.
pub(crate) fn int(text: &str) -> Option<i64> {
    let (sign, digits) = match text.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", text),
    };
    match digits.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(&format!("{sign}{digits}"), 16).ok(),
        None => text.parse().ok(),
    }
}

/// A number that is never negative, with its mark `u`.
pub(crate) fn uint(text: &str) -> Option<u64> {
    let digits = text.trim_end_matches(['u', 'U']);
    match digits.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => digits.parse().ok(),
    }
}

/// A number with a fraction or an exponent.
pub(crate) fn double(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| number.is_finite())
}

/// The characters of a text as it is written, prefix and quotes included.
pub(crate) fn text(written: &str) -> Result<String, &'static str> {
    let mut out = String::new();
    unescape(written, false, |code| {
        out.push(char::from_u32(code).ok_or("invalid unicode code point")?);
        Ok(())
    })?;
    Ok(out)
}

/// The bytes of a literal as it is written.
pub(crate) fn bytes(written: &str) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::new();
    let rest = written.strip_prefix(['b', 'B']).unwrap_or(written);
    unescape(rest, true, |code| {
        // Escapes are bytes, characters written as such are their encoding.
        match (u8::try_from(code), char::from_u32(code & !CHARACTER)) {
            (Ok(byte), _) => out.push(byte),
            (_, Some(c)) => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            _ => return Err("unable to unescape string"),
        }
        Ok(())
    })?;
    Ok(out)
}

/// Marks, in literals of bytes, what was written as a character.
const CHARACTER: u32 = 1 << 31;

fn unescape(
    written: &str,
    bytes: bool,
    mut push: impl FnMut(u32) -> Result<(), &'static str>,
) -> Result<(), &'static str> {
    let raw = written.starts_with(['r', 'R']);
    let quoted = written.strip_prefix(['r', 'R']).unwrap_or(written);
    let width = match quoted.len() >= 6 && (quoted.starts_with("'''") || quoted.starts_with("\"\"\"")) {
        true => 3,
        false => 1,
    };
    let inner = quoted.get(width..quoted.len() - width).unwrap_or("");
    let mark = if bytes { CHARACTER } else { 0 };
    let mut chars = inner.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            // Line ends are all alike.
            '\r' => {
                chars.next_if_eq(&'\n');
                push(u32::from('\n') | mark)?;
            }
            '\\' if !raw => {
                let code = match chars.next().unwrap_or('\\') {
                    'a' => 7,
                    'b' => 8,
                    'f' => 12,
                    'n' => 10,
                    'r' => 13,
                    't' => 9,
                    'v' => 11,
                    'x' | 'X' => digits(&mut chars, 0, 2, 16),
                    'u' | 'U' if bytes => return Err("unable to unescape string"),
                    'u' => digits(&mut chars, 0, 4, 16),
                    'U' => digits(&mut chars, 0, 8, 16),
                    octal @ '0'..='3' => digits(&mut chars, u32::from(octal) - 48, 2, 8),
                    plain => u32::from(plain),
                };
                push(code)?;
            }
            _ => push(u32::from(c) | mark)?,
        }
    }
    Ok(())
}

/// A code in digits, of which the lexer has made sure.
fn digits(chars: &mut impl Iterator<Item = char>, first: u32, count: usize, radix: u32) -> u32 {
    chars.take(count).fold(first, |code, c| {
        (code.wrapping_mul(radix)) | c.to_digit(radix).unwrap_or(0)
    })
}
