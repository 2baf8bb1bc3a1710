//! Schemas beside the structure: what stands in `allOf`, `anyOf`, `oneOf` and `not` may only bound values, and only those
//! of fields that the structure has as well (`apiextensions-apiserver/pkg/apiserver/schema`, `validation.go` and
//! `complete.go`). Everything else could not be pruned, defaulted or published.

use kinds::field::{FieldError, Path};
use serde_json::{Value, json};

/// Those of several schemas.
const SEVERAL: [&str; 3] = ["allOf", "oneOf", "anyOf"];

/// Fields that only the structure may have, with what they must be beside it.
const STRUCTURAL: [(&str, &str); 11] = [
    ("type", "must be empty to be structural"),
    ("additionalProperties", "must be undefined to be structural"),
    ("default", "must be undefined to be structural"),
    ("title", "must be empty to be structural"),
    ("description", "must be empty to be structural"),
    ("nullable", "must be false to be structural"),
    (
        "x-kubernetes-preserve-unknown-fields",
        "must be false to be structural",
    ),
    ("x-kubernetes-embedded-resource", "must be false to be structural"),
    ("x-kubernetes-int-or-string", "must be false to be structural"),
    ("x-kubernetes-list-map-keys", "must be empty to be structural"),
    ("x-kubernetes-list-type", "must be undefined to be structural"),
];
/// Likewise, at the end of upstream's list.
const RULES: [(&str, &str); 2] = [
    ("x-kubernetes-map-type", "must be undefined to be structural"),
    ("x-kubernetes-validations", "must be empty to be structural"),
];

/// Checks what stands beside the structure at one place of it.
pub fn check(schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    for (junctor, path) in junctors(schema, at) {
        // The two ways in which a number or a text is written.
        if junctor.0 == "anyOf" && is_int_or_string(&schema["anyOf"]) {
            continue;
        }
        let first_of_all = junctor == ("allOf", 0) && is_int_or_string(&schema["allOf"][0]["anyOf"]);
        bounds(pick(schema, junctor), &path, first_of_all, errors);
    }
}

/// Checks that whatever is bounded beside the structure is part of it.
pub fn complete(schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    for (junctor, path) in junctors(schema, at) {
        covered(pick(schema, junctor), Some(schema), at, &path, errors);
    }
}

/// The schemas beside one, with their places.
pub fn beside<'s>(schema: &'s Value, at: &Path) -> Vec<(&'s Value, Path)> {
    let all = junctors(schema, at).into_iter();
    all.map(|(junctor, path)| (pick(schema, junctor), path)).collect()
}

/// The schemas beside one, as their field and their place in it.
fn junctors(schema: &Value, at: &Path) -> Vec<((&'static str, usize), Path)> {
    let several = SEVERAL.into_iter().flat_map(|field| {
        let many = schema[field].as_array().map_or(0, Vec::len);
        (0..many).map(move |i| ((field, i), at.child(field).index(i)))
    });
    let not = schema["not"].is_object().then(|| (("not", 0), at.child("not")));
    not.into_iter().chain(several).collect()
}

fn pick<'a>(schema: &'a Value, (field, place): (&str, usize)) -> &'a Value {
    match field {
        "not" => &schema["not"],
        field => &schema[field][place],
    }
}

fn is_int_or_string(any_of: &Value) -> bool {
    *any_of == json!([{"type": "integer"}, {"type": "string"}])
}

/// Whether a field says nothing.
fn is_unset(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    }
}

/// A schema that may only bound values; `number_or_text`: its `anyOf` is the way to write that.
fn bounds(schema: &Value, at: &Path, number_or_text: bool, errors: &mut Vec<FieldError>) {
    for (junctor, path) in junctors(schema, at) {
        if !(number_or_text && junctor.0 == "anyOf") {
            bounds(pick(schema, junctor), &path, false, errors);
        }
    }
    if schema["items"].is_object() {
        bounds(&schema["items"], &at.child("items"), false, errors);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        bounds(property, &at.child("properties").key(name), false, errors);
    }
    for (field, why) in STRUCTURAL.into_iter().chain(RULES) {
        let says = match (field, schema.get(field)) {
            // `false` is a default like any other, and the same holds for an empty list.
            ("default" | "additionalProperties", value) => value.is_some_and(|v| !v.is_null()),
            (_, value) => value.is_some_and(|v| !is_unset(v)),
        };
        if says {
            errors.push(FieldError::forbidden(&at.child(field), why));
        }
    }
    if schema["properties"].get("metadata").is_some() {
        let place = at.child("properties").key("metadata");
        let why = "must not be specified in a nested context";
        errors.push(FieldError::forbidden(&place, why));
    }
}

/// Whether what `bound` names is there in the structure.
fn covered(
    bound: &Value,
    structure: Option<&Value>,
    structure_at: &Path,
    at: &Path,
    errors: &mut Vec<FieldError>,
) {
    let Some(structure) = structure else {
        let why = format!("because it is defined in {at}");
        return errors.push(FieldError::required(structure_at, why));
    };
    for (junctor, path) in junctors(bound, at) {
        covered(pick(bound, junctor), Some(structure), structure_at, &path, errors);
    }
    if bound["items"].is_object() {
        let items = Some(&structure["items"]).filter(|i| i.is_object());
        let (there, here) = (structure_at.child("items"), at.child("items"));
        covered(&bound["items"], items, &there, &here, errors);
    }
    for (name, property) in bound["properties"].as_object().into_iter().flatten() {
        let there = structure_at.child("properties").key(name);
        let here = at.child("properties").key(name);
        covered(property, structure["properties"].get(name), &there, &here, errors);
    }
}
