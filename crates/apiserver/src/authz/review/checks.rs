//! What a review must say to be answered. Source: `pkg/apis/authorization/validation` of v1.35.

use kinds::field::{FieldError, Path, json_text};
use serde_json::{Value, json};

fn there<'v>(spec: &'v Value, field: &str) -> Option<&'v Value> {
    spec.get(field).filter(|v| !v.is_null())
}

/// Checks the spec of a review; `others`: it is about somebody else.
pub(super) fn spec(spec: &Value, others: bool) -> Vec<FieldError> {
    let at = Path::new("spec");
    let mut errors = Vec::new();
    match (
        there(spec, "resourceAttributes"),
        there(spec, "nonResourceAttributes"),
    ) {
        (Some(_), Some(path)) => {
            let why = "cannot be specified in combination with resourceAttributes";
            errors.push(shown_path(path, &at, why));
        }
        (None, None) => {
            let why = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            errors.push(FieldError::invalid(
                &at.child("resourceAttributes"),
                Value::Null,
                why,
            ));
        }
        _ => {}
    }
    let nobody =
        spec["user"].as_str().unwrap_or("").is_empty() && spec["groups"].as_array().is_none_or(Vec::is_empty);
    if others && nobody {
        let why = "at least one of user or group must be specified";
        errors.push(FieldError::invalid(&at.child("user"), json!(""), why));
    }
    if let Some(resource) = there(spec, "resourceAttributes") {
        let at = at.child("resourceAttributes");
        for (field, is_label) in [("fieldSelector", false), ("labelSelector", true)] {
            if let Some(selector) = there(resource, field) {
                check_selector(selector, is_label, &at.child(field), &mut errors);
            }
        }
    }
    errors
}

/// A review is called nothing and says nothing of itself; who made it is noted all the same.
pub(super) fn metadata(metadata: &Value, allowed: Option<&str>) -> Option<FieldError> {
    let says = |(field, value): (&String, &Value)| {
        let nothing = match value {
            Value::String(text) => text.is_empty(),
            Value::Array(list) => list.is_empty(),
            Value::Object(fields) => fields.is_empty(),
            other => other.is_null(),
        };
        !nothing && field != "managedFields" && allowed != Some(field.as_str())
    };
    let odd = metadata.as_object()?.iter().any(says);
    let why = match allowed {
        Some(field) => format!("must be empty except for {field}"),
        None => "must be empty".into(),
    };
    odd.then(|| FieldError::invalid_shown(&Path::new("metadata"), &shown(metadata), &why))
}

/// Metadata in the order of upstream's fields.
fn shown(metadata: &Value) -> String {
    const FIELDS: [&str; 22] = [
        "name",
        "generateName",
        "namespace",
        "selfLink",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "labels",
        "annotations",
        "ownerReferences",
        "finalizers",
        "managedFields",
        // Those of an entry of the last.
        "manager",
        "operation",
        "apiVersion",
        "time",
        "fieldsType",
        "fieldsV1",
        "subresource",
    ];
    let Some(fields) = metadata.as_object() else {
        return json_text(metadata);
    };
    let known = FIELDS
        .iter()
        .filter_map(|field| Some((*field, fields.get(*field)?)));
    let parts = known.map(|(field, value)| {
        let text = match (field, value) {
            ("managedFields", Value::Array(entries)) => {
                let entries: Vec<String> = entries.iter().map(shown).collect();
                format!("[{}]", entries.join(","))
            }
            _ => json_text(value),
        };
        format!("{}:{text}", json_text(&json!(field)))
    });
    format!("{{{}}}", parts.collect::<Vec<_>>().join(","))
}

/// Checks what only a review in a namespace must hold to.
pub(super) fn local(spec: &Value, namespace: &str) -> Vec<FieldError> {
    let at = Path::new("spec");
    let mut errors = Vec::new();
    if let Some(resource) = there(spec, "resourceAttributes") {
        let given = resource["namespace"].as_str().unwrap_or("");
        if given != namespace {
            let place = at.child("resourceAttributes").child("namespace");
            errors.push(FieldError::invalid(
                &place,
                json!(given),
                "must match metadata.namespace",
            ));
        }
    }
    if let Some(path) = there(spec, "nonResourceAttributes") {
        errors.push(shown_path(path, &at, "disallowed on this kind of request"));
    }
    errors
}

/// Upstream prints the attributes as it has them inside.
fn shown_path(path: &Value, at: &Path, why: &str) -> FieldError {
    let text = |field: &str| json_text(&json!(path[field].as_str().unwrap_or("")));
    let shown = format!("{{\"Path\":{},\"Verb\":{}}}", text("path"), text("verb"));
    FieldError::invalid_shown(&at.child("nonResourceAttributes"), &shown, why)
}

fn check_selector(selector: &Value, is_label: bool, at: &Path, errors: &mut Vec<FieldError>) {
    let raw = selector["rawSelector"].as_str().unwrap_or("");
    let list = selector["requirements"].as_array().map_or(&[][..], Vec::as_slice);
    if !raw.is_empty() && !list.is_empty() {
        let why = "may not specified at the same time as requirements";
        errors.push(FieldError::invalid(&at.child("rawSelector"), json!(raw), why));
    }
    if raw.is_empty() && list.is_empty() {
        let why = format!("when {at} is specified, requirements or rawSelector is required");
        errors.push(FieldError::required(&at.child("requirements"), why));
    }
    for (i, requirement) in list.iter().enumerate() {
        one(requirement, is_label, &at.child("requirements").index(i), errors);
    }
}

fn one(requirement: &Value, is_label: bool, at: &Path, errors: &mut Vec<FieldError>) {
    let key = requirement["key"].as_str().unwrap_or("");
    let operator = requirement["operator"].as_str().unwrap_or("");
    let values = requirement["values"].as_array().map_or(0, Vec::len);
    if !is_label && key.is_empty() {
        errors.push(FieldError::required(&at.child("key"), "must be specified"));
    }
    match operator {
        "In" | "NotIn" if values == 0 => {
            let why = "must be specified when `operator` is 'In' or 'NotIn'";
            errors.push(FieldError::required(&at.child("values"), why));
        }
        "Exists" | "DoesNotExist" if values > 0 => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.push(FieldError::forbidden(&at.child("values"), why));
        }
        // There may be operators that are newer than this server.
        _ => {}
    }
    if is_label {
        for why in kinds::names::qualified_name(key) {
            errors.push(FieldError::invalid(&at.child("key"), json!(key), why));
        }
        let given = requirement["values"].as_array().into_iter().flatten();
        for (i, value) in given.enumerate() {
            for why in kinds::names::label_value(value.as_str().unwrap_or_default()) {
                let at = at.child("values").index(i);
                errors.push(FieldError::invalid(&at, value.clone(), why));
            }
        }
    }
}
