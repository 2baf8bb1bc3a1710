//! `quantity`, `semver`, and the named formats of Kubernetes' names.

use super::{Answer, Input, fail};
use crate::value::Value;
use kinds::quantity::Quantity;
use regex::Regex;
use std::cmp::Ordering;
use std::fmt;
use std::sync::{Arc, LazyLock};

/// A semantic version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Semver {
    numbers: [u64; 3],
    pre: Vec<String>,
    build: String,
}

impl Semver {
    fn parse(text: &str, normalize: bool) -> Option<Semver> {
        let mut text = text;
        if normalize {
            text = text.strip_prefix('v').unwrap_or(text);
        }
        let (text, build) = text.split_once('+').unwrap_or((text, ""));
        let (core, pre) = text.split_once('-').unwrap_or((text, ""));
        let mut parts: Vec<&str> = core.split('.').collect();
        while normalize && parts.len() < 3 {
            parts.push("0");
        }
        let number = |part: &str| -> Option<u64> {
            let leading_zero = part.len() > 1 && part.starts_with('0');
            let digits = !part.is_empty() && part.chars().all(|c| c.is_ascii_digit());
            (digits && (normalize || !leading_zero)).then(|| part.parse().ok())?
        };
        let [major, minor, patch] = parts.as_slice() else {
            return None;
        };
        let well_formed =
            |part: &str| !part.is_empty() && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let pre: Vec<String> = match pre {
            "" => Vec::new(),
            pre => pre.split('.').map(String::from).collect(),
        };
        if !pre.iter().all(|p| well_formed(p)) {
            return None;
        }
        Some(Semver {
            numbers: [number(major)?, number(minor)?, number(patch)?],
            pre,
            build: build.to_string(),
        })
    }

    fn compare(&self, other: &Semver) -> Ordering {
        let pre = || match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => {
                let pairs = self.pre.iter().zip(&other.pre);
                let first = pairs
                    .map(|(a, b)| match (a.parse::<u64>(), b.parse::<u64>()) {
                        (Ok(a), Ok(b)) => a.cmp(&b),
                        (Ok(_), Err(_)) => Ordering::Less,
                        (Err(_), Ok(_)) => Ordering::Greater,
                        _ => a.cmp(b),
                    })
                    .find(|o| *o != Ordering::Equal);
                first.unwrap_or_else(|| self.pre.len().cmp(&other.pre.len()))
            }
        };
        self.numbers.cmp(&other.numbers).then_with(pre)
    }
}

impl fmt::Display for Semver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [major, minor, patch] = self.numbers;
        write!(f, "{major}.{minor}.{patch}")?;
        if !self.pre.is_empty() {
            write!(f, "-{}", self.pre.join("."))?;
        }
        if !self.build.is_empty() {
            write!(f, "+{}", self.build)?;
        }
        Ok(())
    }
}

/// Suffixes of decimal quantities: their units are whole numbers beyond what doubles hold.
const WHOLE: [&str; 6] = ["k", "M", "G", "T", "P", "E"];

fn quantity(text: &str) -> Option<Quantity> {
    text.parse().ok()
}

fn is_whole(quantity: &Quantity) -> bool {
    quantity.as_milli() % 1000 == 0
}

pub(super) fn call<'a>(input: &Input<'_, 'a>) -> Answer<'a> {
    let bool = |b: bool| Some(Ok(Value::Bool(b)));
    let int = |n: i64| Some(Ok(Value::Int(n)));
    let order = |o: Ordering| Some(Ok(Value::Int(o as i64)));
    let of = |q: Quantity| Some(Ok(Value::Quantity(Arc::new(q))));
    if let Some(name) = input.function.strip_prefix("format.") {
        return named_format(name, input);
    }
    let length = match input.args.first() {
        Some(Value::String(text)) => text.len() as u64,
        Some(_) => 1,
        None => return None,
    };
    let parses = matches!(input.function, "quantity" | "isQuantity" | "semver" | "isSemver");
    let accessor = matches!(
        input.args.first(),
        Some(Value::Quantity(_) | Value::Semver(_) | Value::Format(_))
    );
    if (parses || accessor)
        && let Err(error) = input.meter.text(length)
    {
        return Some(Err(error));
    }
    match (input.function, input.args) {
        ("quantity", [Value::String(text)]) => match quantity(text) {
            Some(q) => of(q),
            None => fail(
                "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            ),
        },
        ("isQuantity", [Value::String(text)]) => bool(quantity(text).is_some()),
        ("sign", [Value::Quantity(q)]) => int(match (q.is_zero(), q.is_negative()) {
            (true, _) => 0,
            (false, true) => -1,
            (false, false) => 1,
        }),
        ("isInteger", [Value::Quantity(q)]) => bool(is_whole(q) && i64::try_from(q.value()).is_ok()),
        ("asInteger", [Value::Quantity(q)]) => match (is_whole(q), i64::try_from(q.value())) {
            (true, Ok(n)) => int(n),
            _ => fail("cannot convert value to integer"),
        },
        ("asApproximateFloat", [Value::Quantity(q)]) => Some(Ok(Value::Double(approximate(q)))),
        ("add", [Value::Quantity(a), Value::Quantity(b)]) => of(a.add(b)),
        ("sub", [Value::Quantity(a), Value::Quantity(b)]) => of(a.sub(b)),
        ("add", [Value::Quantity(a), Value::Int(n)]) => of(a.add(&Quantity::from_units(i128::from(*n)))),
        ("sub", [Value::Quantity(a), Value::Int(n)]) => of(a.sub(&Quantity::from_units(i128::from(*n)))),
        ("isLessThan", [Value::Quantity(a), Value::Quantity(b)]) => bool(**a < **b),
        ("isGreaterThan", [Value::Quantity(a), Value::Quantity(b)]) => bool(**a > **b),
        ("compareTo", [Value::Quantity(a), Value::Quantity(b)]) => order((**a).cmp(b)),
        ("semver", [Value::String(text)]) => version(text, false),
        ("semver", [Value::String(text), Value::Bool(normalize)]) => version(text, *normalize),
        ("isSemver", [Value::String(text)]) => bool(Semver::parse(text, false).is_some()),
        ("isSemver", [Value::String(text), Value::Bool(normalize)]) => {
            bool(Semver::parse(text, *normalize).is_some())
        }
        ("major", [Value::Semver(v)]) => int(v.numbers[0] as i64),
        ("minor", [Value::Semver(v)]) => int(v.numbers[1] as i64),
        ("patch", [Value::Semver(v)]) => int(v.numbers[2] as i64),
        ("isLessThan", [Value::Semver(a), Value::Semver(b)]) => bool(a.compare(b) == Ordering::Less),
        ("isGreaterThan", [Value::Semver(a), Value::Semver(b)]) => bool(a.compare(b) == Ordering::Greater),
        ("compareTo", [Value::Semver(a), Value::Semver(b)]) => order(a.compare(b)),
        ("validate", [Value::Format(name), Value::String(text)]) => {
            let found = check_format(name, text);
            Some(Ok(match found.is_empty() {
                true => Value::Optional(None),
                false => Value::some(Value::list(found.into_iter().map(Value::text).collect())),
            }))
        }
        _ => None,
    }
}

fn version<'a>(text: &str, normalize: bool) -> Answer<'a> {
    match Semver::parse(text, normalize) {
        Some(version) => Some(Ok(Value::Semver(Arc::new(version)))),
        None if text.split('.').count() < 3 => fail("No Major.Minor.Patch elements found"),
        None => fail(format!("invalid semver {text:?}")),
    }
}

fn approximate(quantity: &Quantity) -> f64 {
    let text = quantity.to_string();
    let bare = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    match bare.parse::<f64>() {
        Ok(n) if bare == text => n,
        _ if WHOLE.iter().any(|s| text.ends_with(s)) || text.ends_with('i') => quantity.value() as f64,
        _ => quantity.as_milli() as f64 / 1000.0,
    }
}

/// Names of formats, as `format.named` knows them.
const FORMATS: [&str; 13] = [
    "dns1123Label",
    "dns1123Subdomain",
    "dns1035Label",
    "qualifiedName",
    "dns1123LabelPrefix",
    "dns1123SubdomainPrefix",
    "dns1035LabelPrefix",
    "labelValue",
    "uri",
    "uuid",
    "byte",
    "date",
    "datetime",
];

fn named_format<'a>(name: &str, input: &Input<'_, 'a>) -> Answer<'a> {
    let find = |name: &str| FORMATS.iter().find(|f| **f == name).copied();
    match (name, input.args) {
        ("named", [Value::String(name)]) => Some(Ok(match find(name) {
            Some(found) => Value::some(Value::Format(found)),
            None => Value::Optional(None),
        })),
        (name, []) => find(name).map(|f| Ok(Value::Format(f))),
        _ => None,
    }
}

const LABEL: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must \
                     start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for \
                     validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')";
const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
                         '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used \
                         for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";
const OLD_LABEL: &str = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                         alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', \
                         regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')";
const LABEL_VALUE: &str = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or \
                           '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or \
                           'my_value',  or '12345', regex used for validation is \
                           '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')";
const QUALIFIED: &str = "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end \
                         with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for \
                         validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')";

struct Shapes {
    label: Regex,
    subdomain: Regex,
    old_label: Regex,
    value: Regex,
    uuid: Regex,
}

/// The shapes of names; the patterns are constants, so they compile.
static SHAPES: LazyLock<Option<Shapes>> = LazyLock::new(|| {
    Some(Shapes {
        label: Regex::new("^[a-z0-9]([-a-z0-9]*[a-z0-9])?$").ok()?,
        subdomain: Regex::new("^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$").ok()?,
        old_label: Regex::new("^[a-z]([-a-z0-9]*[a-z0-9])?$").ok()?,
        value: Regex::new("^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$").ok()?,
        uuid: Regex::new("^(?i)[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}$").ok()?,
    })
});

fn check_format(name: &str, text: &str) -> Vec<String> {
    let Some(shapes) = SHAPES.as_ref() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    // What goes on behind a prefix may end in a dash.
    let text = match name.strip_suffix("Prefix") {
        Some(_) => text
            .strip_suffix('-')
            .map_or(text.to_string(), |t| format!("{t}a")),
        None => text.to_string(),
    };
    let mut shape = |regex: &Regex, max: usize, why: &str| {
        if text.len() > max {
            found.push(format!("must be no more than {max} characters"));
        }
        if !regex.is_match(&text) {
            found.push(why.to_string());
        }
    };
    match name.trim_end_matches("Prefix") {
        "dns1123Label" => shape(&shapes.label, 63, LABEL),
        "dns1123Subdomain" => shape(&shapes.subdomain, 253, SUBDOMAIN),
        "dns1035Label" => shape(&shapes.old_label, 63, OLD_LABEL),
        "labelValue" => shape(&shapes.value, 63, LABEL_VALUE),
        "uuid" => shape(&shapes.uuid, usize::MAX, "does not match the UUID format"),
        "qualifiedName" => {
            let name = text.rsplit('/').next().unwrap_or("");
            if name.is_empty() || !shapes.value.is_match(name) {
                found.push(QUALIFIED.to_string());
            }
            if let Some((prefix, _)) = text.split_once('/')
                && !shapes.subdomain.is_match(prefix)
            {
                found.push(format!("prefix part {SUBDOMAIN}"));
            }
        }
        "uri" => {
            let absolute = text.contains("://") || text.starts_with('/');
            if !absolute || text.contains(' ') {
                found.push(format!("parse {text:?}: invalid URI for request"));
            }
        }
        "byte" => {
            use base64::Engine;
            if base64::engine::general_purpose::STANDARD.decode(&text).is_err() {
                found.push("invalid base64".to_string());
            }
        }
        "date" if text.parse::<jiff::civil::Date>().is_err() => found.push("invalid date".to_string()),
        "datetime" if text.parse::<jiff::Timestamp>().is_err() => found.push("invalid datetime".to_string()),
        _ => {}
    }
    found
}
