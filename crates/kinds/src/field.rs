//! Field paths and field errors, with the wording of upstream's `field` package.

use std::borrow::Cow;
use std::fmt::{self, Write};

use serde_json::Value;
use smallvec::SmallVec;

/// Nearly all paths are no longer than this, in bytes.
const USUAL: usize = 80;

/// The path of a field inside an object, such as `spec.containers[0].name` or `metadata.labels[app]`.
///
/// Paths are made for every field that is looked at, long before anything is known to be wrong: usual ones take no
/// allocation. The bytes are always those of whole texts.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct Path(SmallVec<[u8; USUAL]>);

impl Path {
    /// A path that begins with a field.
    pub fn new(name: &str) -> Self {
        Self(SmallVec::from_slice(name.as_bytes()))
    }

    /// The empty path.
    pub fn root() -> Self {
        Self::default()
    }

    /// A field below.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() {
            Self::new(name)
        } else {
            self.with([".", name, ""])
        }
    }

    /// An element of a list.
    #[must_use]
    pub fn index(&self, index: usize) -> Self {
        match index {
            0..10 => self.with(["[", &"0123456789"[index..=index], "]"]),
            _ => self.with(["[", &index.to_string(), "]"]),
        }
    }

    /// An entry of a map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        self.with(["[", key, "]"])
    }

    fn with(&self, parts: [&str; 3]) -> Self {
        let parts = [
            &self.0,
            parts[0].as_bytes(),
            parts[1].as_bytes(),
            parts[2].as_bytes(),
        ];
        let length = parts.iter().map(|part| part.len()).sum();
        if length > USUAL {
            return Self(SmallVec::from_vec(parts.concat()));
        }
        let mut text = [0; USUAL];
        let mut end = 0;
        for part in parts {
            text[end..end + part.len()].copy_from_slice(part);
            end += part.len();
        }
        Self(SmallVec::from_buf_and_len(text, length))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        // It is made of texts.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Path").field(&self.as_str()).finish()
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(if self.0.is_empty() { "<nil>" } else { self.as_str() })
    }
}

/// What is wrong with a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorType {
    /// The value refers to something that is not there.
    NotFound,
    /// The value is missing.
    Required,
    /// The value is there twice.
    Duplicate,
    /// The value is malformed.
    Invalid,
    /// The value is not one of those supported.
    NotSupported,
    /// The value may not be there.
    Forbidden,
    /// The value is too long.
    TooLong,
    /// There are too many values.
    TooMany,
    /// Our own fault.
    Internal,
    /// The value has the wrong JSON type.
    TypeInvalid,
}

impl ErrorType {
    /// The `reason` of a Status cause.
    pub fn reason(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::Internal => "InternalError",
            Self::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn text(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid | Self::TypeInvalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What kind of wrong.
    pub ty: ErrorType,
    /// Where.
    pub path: Path,
    /// The offending value, where it is shown.
    pub bad_value: Option<Value>,
    /// More words.
    pub detail: String,
    /// The value as it is shown, where that is not how it reads in an object.
    pub shown: Option<String>,
}

impl FieldError {
    fn new(ty: ErrorType, path: &Path, bad_value: Option<Value>, detail: impl Into<String>) -> Self {
        Self {
            ty,
            path: path.clone(),
            bad_value,
            detail: detail.into(),
            shown: None,
        }
    }

    /// Shows the value in other words: upstream prints some values as its own types have them.
    #[must_use]
    pub fn shown_as(mut self, text: String) -> Self {
        self.shown = Some(text);
        self
    }

    /// The value is missing.
    pub fn required(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Required, path, None, detail)
    }

    /// The value is malformed.
    pub fn invalid(path: &Path, value: Value, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Invalid, path, Some(value), detail)
    }

    /// The value is malformed; `shown` stands for it as it is.
    pub fn invalid_shown(path: &Path, shown: &str, detail: &str) -> Self {
        Self::new(ErrorType::Invalid, path, None, format!("{shown}: {detail}"))
    }

    /// The value has the wrong JSON type.
    pub fn type_invalid(path: &Path, value: Value, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::TypeInvalid, path, Some(value), detail)
    }

    /// The value is there twice.
    pub fn duplicate(path: &Path, value: Value) -> Self {
        Self::new(ErrorType::Duplicate, path, Some(value), "")
    }

    /// The value is not one of `supported`.
    pub fn not_supported(path: &Path, value: Value, supported: &[&str]) -> Self {
        let mut names: Vec<String> = supported.iter().map(|name| format!("{name:?}")).collect();
        names.sort();
        let detail = if names.is_empty() {
            String::new()
        } else {
            format!("supported values: {}", names.join(", "))
        };
        Self::new(ErrorType::NotSupported, path, Some(value), detail)
    }

    /// The value is not one of `supported`, which upstream tells in an order of its own.
    pub fn not_supported_in_order(path: &Path, value: Value, supported: &[&str]) -> Self {
        let names: Vec<String> = supported.iter().map(|name| format!("{name:?}")).collect();
        let detail = format!("supported values: {}", names.join(", "));
        Self::new(ErrorType::NotSupported, path, Some(value), detail)
    }

    /// The value may not be there.
    pub fn forbidden(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Forbidden, path, None, detail)
    }

    /// The value is longer than `max` bytes.
    pub fn too_long(path: &Path, max: usize) -> Self {
        Self::new(
            ErrorType::TooLong,
            path,
            None,
            match max {
                1 => "may not be more than 1 byte".to_owned(),
                _ => format!("may not be more than {max} bytes"),
            },
        )
    }

    /// There are more than `max` values.
    pub fn too_many(path: &Path, actual: usize, max: usize) -> Self {
        Self::new(
            ErrorType::TooMany,
            path,
            Some(Value::from(actual)),
            match max {
                1 => "must have at most 1 item".to_owned(),
                _ => format!("must have at most {max} items"),
            },
        )
    }

    /// Our own fault.
    pub fn internal(path: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorType::Internal, path, None, detail)
    }

    /// The value refers to nothing.
    pub fn not_found(path: &Path, value: Value) -> Self {
        Self::new(ErrorType::NotFound, path, Some(value), "")
    }

    /// The error without its path, as a Status cause has it.
    pub fn body(&self) -> String {
        let mut text = self.ty.text().to_owned();
        let shows_value = !matches!(
            self.ty,
            ErrorType::Required | ErrorType::Forbidden | ErrorType::TooLong | ErrorType::Internal
        );
        let value = self.shown.clone().or_else(|| {
            // Names of a kind of their own are no plain strings to upstream.
            self.bad_value.as_ref().map(|value| match self.ty {
                ErrorType::NotSupported => json_text(value),
                _ => show(value),
            })
        });
        if let (true, Some(value)) = (shows_value, value) {
            text = format!("{text}: {value}");
        }
        if self.detail.is_empty() {
            text
        } else {
            format!("{text}: {}", self.detail)
        }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.path, self.body())
    }
}

/// Strings in quotes, everything else as JSON.
fn show(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        other => json_text(other),
    }
}

/// A text as Go's `%q` prints it.
pub fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\x07' => out.push_str("\\a"),
            '\x08' => out.push_str("\\b"),
            '\x0c' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\x0b' => out.push_str("\\v"),
            ' '..='~' => out.push(c),
            // Writing into a string cannot fail.
            '\0'..='\x7f' => drop(write!(out, "\\x{:02x}", u32::from(c))),
            _ if is_printed(c) => out.push(c),
            '\u{80}'..='\u{ffff}' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            _ => drop(write!(out, "\\U{:08x}", u32::from(c))),
        }
    }
    out.push('"');
    out
}

/// Whether a character is shown as it is. What joins with the character before it does so here too.
fn is_printed(c: char) -> bool {
    let after: String = ['a', c].iter().collect();
    after.escape_debug().eq(after.chars())
}

/// JSON as Go's encoder writes it, which hides the letters of markup and writes no fraction where there is none.
pub fn json_text(value: &Value) -> String {
    let mut out = String::new();
    for c in without_fractions(value).to_string().chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => drop(write!(out, "\\u{:04x}", u32::from(c))),
            _ => out.push(c),
        }
    }
    out
}

/// The value with whole numbers for those that only look as if they had fractions.
fn without_fractions(value: &Value) -> Cow<'_, Value> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    fn whole(number: &serde_json::Number) -> Option<i64> {
        let float = number.as_f64().filter(|_| number.is_f64())?;
        (float.fract() == 0.0 && float.abs() < EXACT).then_some(float as i64)
    }
    fn has_some(value: &Value) -> bool {
        match value {
            Value::Number(number) => whole(number).is_some(),
            Value::Array(items) => items.iter().any(has_some),
            Value::Object(fields) => fields.values().any(has_some),
            _ => false,
        }
    }
    fn mend(value: &mut Value) {
        match value {
            Value::Number(number) => {
                if let Some(whole) = whole(number) {
                    *number = whole.into();
                }
            }
            Value::Array(items) => items.iter_mut().for_each(mend),
            Value::Object(fields) => fields.values_mut().for_each(mend),
            _ => {}
        }
    }
    if !has_some(value) {
        return Cow::Borrowed(value);
    }
    let mut mended = value.clone();
    mend(&mut mended);
    Cow::Owned(mended)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn errors_read_as_upstreams() {
        let path = Path::new("spec").child("containers").index(0).child("name");
        let labels = Path::new("metadata").child("labels").key("app");
        let cases = [
            (
                FieldError::required(&path, ""),
                "spec.containers[0].name: Required value",
            ),
            (
                FieldError::invalid(&labels, json!("a b"), "is bad"),
                "metadata.labels[app]: Invalid value: \"a b\": is bad",
            ),
            (
                FieldError::not_supported(&path, json!("x"), &["b", "a"]),
                "spec.containers[0].name: Unsupported value: \"x\": supported values: \"a\", \"b\"",
            ),
            (
                FieldError::invalid(&path, json!(-1), "no"),
                "spec.containers[0].name: Invalid value: -1: no",
            ),
            (
                FieldError::invalid(&path, json!("a\u{7}\u{1}\"<é"), "no"),
                "spec.containers[0].name: Invalid value: \"a\\a\\x01\\\"<é\": no",
            ),
            (
                FieldError::invalid(&path, json!({"a": "<&"}), "no"),
                "spec.containers[0].name: Invalid value: {\"a\":\"\\u003c\\u0026\"}: no",
            ),
            (
                FieldError::invalid(&labels, json!("a\u{a0}<b\u{301}\u{7}"), "is bad"),
                "metadata.labels[app]: Invalid value: \"a\\u00a0<b\u{301}\\a\": is bad",
            ),
            (
                FieldError::not_supported(&path, json!("<x>"), &[]),
                "spec.containers[0].name: Unsupported value: \"\\u003cx\\u003e\"",
            ),
            (
                FieldError::duplicate(&path, json!("x")),
                "spec.containers[0].name: Duplicate value: \"x\"",
            ),
            (
                FieldError::forbidden(&path, "never"),
                "spec.containers[0].name: Forbidden: never",
            ),
            (
                FieldError::too_long(&path, 9),
                "spec.containers[0].name: Too long: may not be more than 9 bytes",
            ),
        ];
        for (error, expected) in cases {
            assert_eq!(error.to_string(), expected);
        }
    }
}
