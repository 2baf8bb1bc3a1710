//! String formats that schemas of custom resources may name, checked as upstream's `strfmt` and `govalidator` do.
//!
//! Formats that nobody knows are no error: they are ignored, as upstream strips them. Dashes in a name do not count
//! (`date-time` is `datetime`). Most formats are regular expressions, compiled with the patterns of the schema.

use super::schema::Patterns;
use regex::Regex;
use serde_json::Value;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Formats that are a regular expression and nothing else, or begin with one.
const EXPRESSIONS: [(&str, &str); 16] = [
    (
        "uuid",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
    ),
    (
        "uuid3",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?3[0-9a-f]{3}-?[0-9a-f]{4}-?[0-9a-f]{12}$",
    ),
    (
        "uuid4",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?4[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
    ),
    (
        "uuid5",
        "(?i)^[0-9a-f]{8}-?[0-9a-f]{4}-?5[0-9a-f]{3}-?[89ab][0-9a-f]{3}-?[0-9a-f]{12}$",
    ),
    (
        "hostname",
        r"^([a-zA-Z0-9\p{S}\p{L}](-?[a-zA-Z0-9\p{S}\p{L}]{0,62})?|([a-zA-Z0-9\p{S}\p{L}]([a-zA-Z0-9\-\p{S}\p{L}]{0,61}[a-zA-Z0-9\p{S}\p{L}])?\.)+[a-zA-Z\p{L}]{2,63})$",
    ),
    ("bsonobjectid", "^[0-9a-fA-F]{24}$"),
    (
        "creditcard",
        r"^(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|(222[1-9]|22[3-9][0-9]|2[3-6][0-9]{2}|27[01][0-9]|2720)[0-9]{12}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35[0-9]{3})[0-9]{11}|6[27][0-9]{14})$",
    ),
    ("ssn", "^[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}$"),
    ("hexcolor", "^#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})$"),
    (
        "rgbcolor",
        r"^rgb\(\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*,\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*\)$",
    ),
    (
        "byte",
        "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})$",
    ),
    (
        "datetime",
        r"^([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))$",
    ),
    ("date", "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"),
    ("duration", r"([0-9]+)\s*([A-Za-zµ]+)"),
    ("k8sshortname", "^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"),
    (
        "k8slongname",
        r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    ),
];

/// Formats without an expression here.
const OTHERS: [&str; 10] = [
    "uri", "email", "ipv4", "ipv6", "cidr", "mac", "isbn", "isbn10", "isbn13", "password",
];

/// The name without its dashes.
fn normalized(format: &str) -> String {
    format.replace('-', "")
}

/// The format of a schema that values are held against; none where upstream knows none for the type.
pub fn of(schema: &Value) -> &str {
    let format = schema["format"].as_str().unwrap_or("");
    let is_known = match schema["type"].as_str().unwrap_or("") {
        "" | "string" => known(format),
        "integer" => ["int32", "int64"].contains(&format),
        "number" => ["float", "double"].contains(&format),
        _ => false,
    };
    if is_known { format } else { "" }
}

/// Whether the format is checked at all; others get a warning when they are written.
fn known(format: &str) -> bool {
    let format = normalized(format);
    OTHERS.contains(&format.as_str()) || EXPRESSIONS.iter().any(|(name, _)| *name == format)
}

/// Under which name a format's expression is among the patterns: no pattern of a schema looks like it.
fn key(format: &str) -> String {
    format!("\0{format}")
}

/// Compiles what a format needs.
pub fn collect(format: &str, found: &mut Patterns) {
    let format = normalized(format);
    let of = EXPRESSIONS.iter().find(|(name, _)| *name == format);
    if let Some((_, expression)) = of
        && !found.contains_key(&key(&format))
        && let Ok(regex) = Regex::new(expression)
    {
        found.insert(key(&format), regex);
    }
}

/// Whether a text is of that format.
pub fn fits(format: &str, text: &str, patterns: &Patterns) -> bool {
    let format = normalized(format);
    let regex = |name: &str| patterns.get(&key(name));
    let matches = |text: &str| regex(&format).is_none_or(|r| r.is_match(text));
    match format.as_str() {
        "hostname" => matches(text) && text.len() <= 255 && text.split('.').all(|label| label.len() <= 63),
        "date" => date(text),
        "datetime" => match text.to_lowercase().split_once('t') {
            Some((day, clock)) => {
                // What follows a second `t` is left out, as upstream's split does.
                let clock = clock.split('t').next().unwrap_or("");
                date(day)
                    && matches(clock)
                    && &clock[..2] <= "23"
                    && &clock[3..5] <= "59"
                    && &clock[6..8] <= "59"
            }
            None => false,
        },
        "duration" => go_duration(text) || regex("duration").is_none_or(|r| scala_duration(text, r)),
        "ssn" => text.len() == 11 && matches(text),
        "creditcard" => {
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            matches(&digits) && luhn(&digits)
        }
        "k8sshortname" => text.len() <= 63 && matches(text),
        "k8slongname" => text.len() <= 253 && matches(text),
        "uri" => request_uri(text),
        "email" => email(text),
        "ipv4" => address(text).is_some() && text.contains('.'),
        "ipv6" => address(text).is_some() && text.contains(':'),
        "cidr" => text.split_once('/').is_some_and(|(ip, bits)| {
            let most = address(ip).map_or(0, |ip| if ip.is_ipv4() { 32 } else { 128 });
            let number = !bits.is_empty() && bits.len() <= 3 && bits.bytes().all(|b| b.is_ascii_digit());
            number && address(ip).is_some() && bits.parse::<u32>().is_ok_and(|b| b <= most)
        }),
        "mac" => mac(text),
        "isbn" => isbn10(text) || isbn13(text),
        "isbn10" => isbn10(text),
        "isbn13" => isbn13(text),
        _ => matches(text),
    }
}

fn date(text: &str) -> bool {
    let shaped = text.len() == 10
        && text.bytes().enumerate().all(|(i, b)| {
            if matches!(i, 4 | 7) {
                b == b'-'
            } else {
                b.is_ascii_digit()
            }
        });
    shaped && text.parse::<jiff::civil::Date>().is_ok()
}

/// An address, leading zeros of IPv4 forgiven as before Go 1.17.
fn address(text: &str) -> Option<IpAddr> {
    if text.contains(':') {
        return text.parse::<Ipv6Addr>().ok().map(IpAddr::from);
    }
    let parts: Option<Vec<u8>> = text
        .split('.')
        .map(|p| {
            Some(p)
                .filter(|p| p.bytes().all(|b| b.is_ascii_digit()))?
                .parse()
                .ok()
        })
        .collect();
    let parts: [u8; 4] = parts?.try_into().ok()?;
    Some(Ipv4Addr::from(parts).into())
}

/// A duration of Go: `1h30m`, `-1.5s`, `0`.
fn go_duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    let mut parts = 0;
    while !rest.is_empty() {
        let number = rest.len()
            - rest
                .trim_start_matches(|c: char| c.is_ascii_digit() || c == '.')
                .len();
        let (amount, after) = rest.split_at(number);
        if amount.matches('.').count() > 1 || !amount.bytes().any(|b| b.is_ascii_digit()) {
            return false;
        }
        let unit = after.len()
            - after
                .trim_start_matches(|c: char| !c.is_ascii_digit() && c != '.')
                .len();
        let (unit, after) = after.split_at(unit);
        if !matches!(unit, "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h") {
            return false;
        }
        (rest, parts) = (after, parts + 1);
    }
    parts > 0
}

/// The looser form that upstream falls back to: a number and a unit somewhere in the text (`3 days`).
fn scala_duration(text: &str, regex: &Regex) -> bool {
    const EXACT: [&str; 12] = ["ns", "us", "µs", "ms", "s", "m", "h", "hr", "d", "w", "wk", "sec"];
    const BEGIN: [&str; 8] = ["nano", "micro", "milli", "sec", "min", "hour", "day", "week"];
    let mut found = false;
    for part in regex.captures_iter(text) {
        if part[1].parse::<i64>().is_err() {
            return false;
        }
        let unit = part[2].to_lowercase();
        found |= EXACT.contains(&unit.as_str()) || BEGIN.iter().any(|b| unit.starts_with(b));
    }
    found
}

fn luhn(digits: &str) -> bool {
    let sum: u32 = digits
        .bytes()
        .rev()
        .enumerate()
        .map(|(i, b)| {
            let digit = u32::from(b - b'0');
            match i % 2 {
                1 if digit > 4 => digit * 2 - 9,
                1 => digit * 2,
                _ => digit,
            }
        })
        .sum();
    sum.is_multiple_of(10)
}

/// Digits of a book's number, its dashes and spaces left out.
fn isbn(text: &str) -> String {
    text.chars().filter(|c| !matches!(c, '-' | ' ')).collect()
}

fn isbn10(text: &str) -> bool {
    let number = isbn(text);
    let last_is_ten = number.ends_with('X');
    let shaped = number.len() == 10 && number.bytes().take(9).all(|b| b.is_ascii_digit());
    if !shaped || !(last_is_ten || number.bytes().all(|b| b.is_ascii_digit())) {
        return false;
    }
    let weigh = |(i, b): (usize, u8)| (i as u32 + 1) * if b == b'X' { 10 } else { u32::from(b - b'0') };
    number
        .bytes()
        .enumerate()
        .map(weigh)
        .sum::<u32>()
        .is_multiple_of(11)
}

fn isbn13(text: &str) -> bool {
    let number = isbn(text);
    if number.len() != 13 || !number.bytes().all(|b| b.is_ascii_digit()) {
        return false;
    }
    let weigh = |(i, b): (usize, u8)| u32::from(b - b'0') * if i % 2 == 1 { 3 } else { 1 };
    number
        .bytes()
        .enumerate()
        .map(weigh)
        .sum::<u32>()
        .is_multiple_of(10)
}

/// Six, eight or twenty octets, by two digits with `:` or `-`, or by four with `.`.
fn mac(text: &str) -> bool {
    let (separator, width) = match text.as_bytes().get(2) {
        Some(b':') => (':', 2),
        Some(b'-') => ('-', 2),
        _ => ('.', 4),
    };
    let groups: Vec<&str> = text.split(separator).collect();
    let hex = |g: &&str| g.len() == width && g.bytes().all(|b| b.is_ascii_hexdigit());
    groups.iter().all(hex) && matches!(groups.len() * width / 2, 6 | 8 | 20)
}

/// What Go's `url.ParseRequestURI` takes: an absolute path, or a scheme and what follows it.
fn request_uri(text: &str) -> bool {
    let escapes = text.split('%').skip(1).all(|part| {
        let digits = part.as_bytes();
        digits.len() >= 2 && digits[..2].iter().all(u8::is_ascii_hexdigit)
    });
    if text.is_empty() || text.bytes().any(|b| b < 0x20 || b == 0x7f) || !escapes {
        return false;
    }
    if text == "*" || text.starts_with('/') {
        return true;
    }
    let Some((scheme, rest)) = text.split_once(':') else {
        return false;
    };
    let letters = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    let Some(authority) = rest.strip_prefix("//") else {
        return letters;
    };
    let authority = authority.split(['/', '?']).next().unwrap_or("");
    let host = authority.rsplit('@').next().unwrap_or("");
    let port = match host.rsplit_once(']') {
        Some((_, after)) => after.strip_prefix(':').unwrap_or(after),
        None => host.split_once(':').map_or("", |(_, port)| port),
    };
    letters
        && !host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '|', '}'])
        && port.bytes().all(|b| b.is_ascii_digit())
}

/// What Go's `mail.ParseAddress` takes: `a@b`, also after a name and in angle brackets.
fn email(text: &str) -> bool {
    let text = text.trim();
    let address = match text.strip_suffix('>').and_then(|t| t.rsplit_once('<')) {
        Some((_, address)) => address,
        None => text,
    };
    let special = |c: char| "()<>[]:;@\\,\"".contains(c) || c.is_whitespace() || c.is_control();
    let dotted = |t: &str| {
        t.split('.')
            .all(|atom| !atom.is_empty() && !atom.contains(special))
    };
    let Some((local, domain)) = address.rsplit_once('@') else {
        return false;
    };
    let quoted = local.len() >= 2 && local.starts_with('"') && local.ends_with('"');
    let literal = domain
        .strip_prefix('[')
        .and_then(|d| d.strip_suffix(']'))
        .is_some_and(address_of_literal);
    (quoted || dotted(local)) && (literal || dotted(domain))
}

fn address_of_literal(text: &str) -> bool {
    address(text.strip_prefix("IPv6:").unwrap_or(text)).is_some()
}
