//! What the schema of a list or map says of how it is merged: whether it is one value, a set, or told apart by keys.
//! Source: `ValidateCustomResourceDefinitionOpenAPISchema` of Kubernetes v1.35.

use super::shown;
use kinds::field::{FieldError, Path};
use serde_json::Value;
use std::collections::BTreeSet;

const LIST: &str = "x-kubernetes-list-type";
const KEYS: &str = "x-kubernetes-list-map-keys";
const MAP: &str = "x-kubernetes-map-type";

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or("")
}

fn strings<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a str> {
    let list = value.get(field).and_then(Value::as_array);
    list.into_iter().flatten().filter_map(Value::as_str)
}

/// Checks what a schema of type `kind` says of itself and its items.
pub(super) fn check(schema: &Value, kind: &str, at: &Path, errors: &mut Vec<FieldError>) {
    let (map, list) = (schema[MAP].as_str(), schema[LIST].as_str());
    if let Some(map) = map {
        of_type(kind, "object", MAP, at, errors);
        known(map, &["atomic", "granular"], &at.child(MAP), errors);
    }
    let items = &schema["items"];
    if list.is_some() && kind != "array" {
        of_type(kind, "array", LIST, at, errors);
    } else if list == Some("set") {
        whole_items(items, &at.child("items"), errors);
    }
    if let Some(list) = list {
        known(list, &["atomic", "set", "map"], &at.child(LIST), errors);
    }
    let keyed = strings(schema, KEYS).next().is_some();
    if keyed && list != Some("map") {
        let why = "must be map if x-kubernetes-list-map-keys is non-empty";
        errors.push(match list {
            None => FieldError::required(&at.child(LIST), why),
            Some(list) => FieldError::invalid(&at.child(LIST), Value::from(list), why),
        });
    }
    if list == Some("map") {
        keys(schema, at, errors);
    }
    if let Some(list) = list.filter(|list| ["map", "set"].contains(list) && items.is_object()) {
        if items["nullable"] == true {
            let why = format!("cannot be nullable when {LIST} is {list}");
            errors.push(FieldError::forbidden(&at.child("items").child("nullable"), why));
        }
        if list == "map" {
            keys_are_there(schema, at, errors);
        }
    }
}

fn known(value: &str, all: &[&str], at: &Path, errors: &mut Vec<FieldError>) {
    if !all.contains(&value) {
        errors.push(FieldError::not_supported_in_order(at, Value::from(value), all));
    }
}

fn of_type(kind: &str, wanted: &str, what: &str, at: &Path, errors: &mut Vec<FieldError>) {
    let (place, why) = (
        at.child("type"),
        format!("must be {wanted} if {what} is specified"),
    );
    match kind {
        "" => errors.push(FieldError::required(&place, why)),
        kind if kind != wanted => errors.push(FieldError::invalid(&place, Value::from(kind), why)),
        _ => {}
    }
}

/// The items of a set are values that nobody merges.
fn whole_items(items: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let (field, said) = match text(items, "type") {
        "array" => (LIST, text(items, LIST)),
        "object" => (MAP, text(items, MAP)),
        _ => return,
    };
    // A list is one value unless it says otherwise; a map has to say that it is one.
    if said != "atomic" && !(said.is_empty() && field == LIST) {
        let why = "must be atomic as item of a list with x-kubernetes-list-type=set";
        let list = items.get(LIST).cloned().unwrap_or(Value::Null);
        errors.push(FieldError::invalid(&at.child(field), list, why));
    }
}

fn keys(schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let (items, items_at, keys_at) = (&schema["items"], at.child("items"), at.child(KEYS));
    if strings(schema, KEYS).next().is_none() {
        let why = "must not be empty if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&keys_at, why));
    }
    if items.is_null() {
        let why = "must have a schema if x-kubernetes-list-type is map";
        errors.push(FieldError::required(&items_at, why));
    }
    if items.is_array() {
        let why = "must only have a single schema if x-kubernetes-list-type is map";
        errors.push(FieldError::invalid_shown(&items_at, &shown::items(items), why));
    }
    if text(items, "type") != "object" && items.is_object() {
        let why = "must be object if parent array's x-kubernetes-list-type is map";
        let kind = Value::from(text(items, "type"));
        errors.push(FieldError::invalid(&items_at.child("type"), kind, why));
    }
    if text(items, "type") != "object" {
        return;
    }
    let mut seen = BTreeSet::new();
    for key in strings(schema, KEYS) {
        let wrong = |why: &str| FieldError::invalid(&keys_at, schema[KEYS].clone(), why);
        match items["properties"].get(key) {
            Some(property) if ["array", "object"].contains(&text(property, "type")) => {
                let why = "must be a scalar type if parent array's x-kubernetes-list-type is map";
                // The type told is that of the items: so it is upstream.
                let kind = Value::from(text(items, "type"));
                let place = items_at.child("properties").key(key);
                errors.push(FieldError::invalid(&place.child("type"), kind, why));
            }
            Some(_) => {}
            None => errors.push(wrong("entries must all be names of item properties")),
        }
        if !seen.insert(key) {
            errors.push(wrong("must not contain duplicate entries"));
        }
    }
}

/// Every item has its keys.
fn keys_are_there(schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let items = &schema["items"];
    for key in strings(schema, KEYS) {
        let Some(property) = items["properties"].get(key) else {
            continue;
        };
        let place = at.child("items").child("properties").key(key);
        let required = strings(items, "required").any(|name| name == key);
        if !required && property["default"].is_null() {
            let why = "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property";
            errors.push(FieldError::required(&place.child("default"), why));
        }
        if property["nullable"] == true {
            let why = "this property is in x-kubernetes-list-map-keys, so it cannot be nullable";
            errors.push(FieldError::forbidden(&place.child("nullable"), why));
        }
    }
}
