//! What stands around the schema of a version: columns, scale, selectable fields, the warning of a deprecated one.

use super::fieldpath;
use super::structural::{has_unsupported, text, unsupported};
use kinds::field::{FieldError, Path};
use serde_json::Value;

/// Types of printer columns.
const COLUMN_TYPES: [&str; 5] = ["boolean", "date", "integer", "number", "string"];
/// Formats of printer columns.
const COLUMN_FORMATS: [&str; 8] = [
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
];
/// How many selectable fields a version may have.
const MAX_SELECTABLE: usize = 8;

/// What a deprecated version says of itself.
pub(super) fn deprecation(version: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let Some(warning) = version.get("deprecationWarning").and_then(Value::as_str) else {
        return;
    };
    let mut invalid = |why: &str| errors.push(FieldError::invalid(at, Value::from(warning), why));
    if version["deprecated"] != true {
        invalid("can only be set for deprecated versions");
        return;
    }
    if warning.len() > 256 {
        invalid("must be <= 256 characters long");
    }
    if warning.is_empty() {
        invalid("must not be an empty string");
    }
    if let Some((i, _)) = warning.char_indices().find(|(_, c)| c.is_control()) {
        let why = "must only contain printable UTF-8 characters; non-printable character found at index";
        invalid(&format!("{why} {i}"));
    }
}

pub(super) fn columns(columns: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    for (i, column) in columns.as_array().into_iter().flatten().enumerate() {
        let at = at.index(i);
        if text(column, "name").is_empty() {
            errors.push(FieldError::required(&at.child("name"), ""));
        }
        let kind = text(column, "type");
        let place = at.child("type");
        if kind.is_empty() {
            let why = format!("must be one of {}", COLUMN_TYPES.join(","));
            errors.push(FieldError::required(&place, why));
        } else if !COLUMN_TYPES.contains(&kind) {
            let why = format!("must be one of {}", COLUMN_TYPES.join(","));
            errors.push(FieldError::invalid(&place, Value::from(kind), why));
        }
        let format = text(column, "format");
        if !format.is_empty() && !COLUMN_FORMATS.contains(&format) {
            let why = format!("must be one of {}", COLUMN_FORMATS.join(","));
            errors.push(FieldError::invalid(&at.child("format"), Value::from(format), why));
        }
        let path = text(column, "jsonPath");
        if path.is_empty() {
            errors.push(FieldError::required(&at.child("JSONPath"), ""));
        } else if !path.starts_with('.') {
            errors.push(not_simple(&at.child("JSONPath"), path));
        }
    }
}

fn not_simple(at: &Path, path: &str) -> FieldError {
    FieldError::invalid(
        at,
        Value::from(path),
        "must be a simple json path starting with .",
    )
}

pub(super) fn scale(scale: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    if !scale.is_object() {
        return;
    }
    for (field, below) in [("specReplicasPath", ".spec."), ("statusReplicasPath", ".status.")] {
        let path = text(scale, field);
        let place = at.child(field);
        if path.is_empty() {
            errors.push(FieldError::required(&place, ""));
        } else if !path.starts_with('.') {
            errors.push(not_simple(&place, path));
        } else if !path.starts_with(below) {
            let why = format!("should be a json path under {}", below.trim_end_matches('.'));
            errors.push(FieldError::invalid(&place, Value::from(path), why));
        }
    }
    let selector = text(scale, "labelSelectorPath");
    if !selector.is_empty() && !selector.starts_with('.') {
        errors.push(not_simple(&at.child("labelSelectorPath"), selector));
    } else if !selector.is_empty() && !selector.starts_with(".status.") && !selector.starts_with(".spec.") {
        let why = "should be a json path under either .spec or .status";
        let place = at.child("labelSelectorPath");
        errors.push(FieldError::invalid(&place, Value::from(selector), why));
    }
}

/// Selectable fields are simple paths to scalars of the schema.
pub(super) fn selectable(fields: &Value, schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let mut seen: Vec<Path> = Vec::new();
    let fields: Vec<&Value> = fields.as_array().into_iter().flatten().collect();
    if let Some(why) = unsupported(schema).filter(|_| !fields.is_empty()) {
        let whole = at.as_str().trim_end_matches(".selectableFields");
        let whole = Path::new(whole).child("schema").child("openAPIV3Schema");
        errors.push(FieldError::invalid(&whole, Value::from(""), why));
    }
    for (i, field) in fields.into_iter().enumerate() {
        let path = text(field, "jsonPath");
        let place = at.index(i).child("jsonPath");
        let invalid = |why: String| FieldError::invalid(&place, Value::from(path), why);
        if path.is_empty() {
            errors.push(FieldError::required(&place, ""));
            continue;
        }
        // Of a schema that is none nobody knows where a path leads.
        if has_unsupported(schema) && path.starts_with(['.', '[']) {
            continue;
        }
        let (found, schema) = match fieldpath::follow(path, schema, false) {
            Ok(found) => found,
            Err(why) => {
                errors.push(invalid(format!("is an invalid path: {why}")));
                continue;
            }
        };
        if found.as_str().split(['.', '[']).next() == Some("metadata") {
            errors.push(invalid("must not point to fields in metadata".into()));
        }
        if !["string", "boolean", "integer"].contains(&text(schema, "type")) {
            let why = "must point to a field of type string, boolean or integer. Enum string fields and strings with formats \
                       are allowed.";
            errors.push(invalid(why.into()));
        }
        if seen.contains(&found) {
            errors.push(FieldError::duplicate(&place, Value::from(path)));
        } else {
            seen.push(found);
        }
    }
    if seen.len() > MAX_SELECTABLE {
        errors.push(FieldError::too_many(at, seen.len(), MAX_SELECTABLE));
    }
}
