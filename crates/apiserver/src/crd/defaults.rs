//! Defaults when a definition is written: each must be what an object could say there
//! (`apiextensions-apiserver/pkg/apiserver/schema/defaulting`, `validation.go`).

use super::{rules, schema};
use kinds::field::{FieldError, Path};
use serde_json::{Value, json};

const EMBEDDED: &str = "x-kubernetes-embedded-resource";

/// The way from a resource to a place in it.
#[derive(Clone)]
enum Step {
    Field(String),
    Item,
}

/// Checks the defaults of a whole schema.
pub(super) fn check(root: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let mut resource = root.clone();
    resource[EMBEDDED] = json!(true);
    walk(&resource, at, &[], false, errors);
}

/// `way`: from the resource around; `inside`: in a part that every resource has. Values of maps have no defaults.
fn walk(schema: &Value, at: &Path, way: &[Step], inside: bool, errors: &mut Vec<FieldError>) {
    let is_resource = schema[EMBEDDED] == true;
    let (way, inside) = match is_resource {
        true => (&[][..], false),
        false => (way, inside),
    };
    if let Some(default) = schema.get("default").filter(|d| !d.is_null()) {
        let place = at.child("default");
        match inside {
            true => in_metadata(default, schema, way, &place, errors),
            false => one(default, schema, &place, errors),
        }
    }
    let below = |step: Step| [way, &[step]].concat();
    if schema["items"].is_object() {
        let way = below(Step::Item);
        walk(&schema["items"], &at.child("items"), &way, inside, errors);
    }
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let inside = inside || (is_resource && ["metadata", "apiVersion", "kind"].contains(&name.as_str()));
        let way = below(Step::Field(name.clone()));
        walk(property, &at.child("properties").key(name), &way, inside, errors);
    }
}

/// A default somewhere in metadata must make good metadata.
fn in_metadata(default: &Value, schema: &Value, way: &[Step], at: &Path, errors: &mut Vec<FieldError>) {
    let mut resource = way.iter().rfold(default.clone(), |value, step| match step {
        Step::Field(name) => json!({ name: value }),
        Step::Item => json!([value]),
    });
    resource["apiVersion"] = json!("validation/v1");
    resource["kind"] = json!("Validation");
    let faults = match schema::mistyped(&resource, &json!({ EMBEDDED: true }), &Path::root()) {
        Some(fault) => vec![fault],
        None => machinery::validate_embedded(&resource, &Path::root()),
    };
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    let told = match told.as_slice() {
        [] => return bounds(default, schema, at, errors),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    };
    let why = format!("must result in valid metadata: {told}");
    errors.push(FieldError::invalid(at, default.clone(), why));
}

/// A default must be nothing that would be pruned, and hold good resources where it holds any.
fn one(default: &Value, schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let mut pruned = default.clone();
    let mut dropped = Vec::new();
    let is_resource = schema[EMBEDDED] == true;
    // The metadata of resources in it are only put right once it is used.
    schema::prune(
        &mut pruned,
        schema,
        is_resource,
        "",
        &mut dropped,
        &mut Vec::new(),
    );
    if !dropped.is_empty() {
        let why = "must not have unknown fields";
        errors.push(FieldError::invalid(at, default.clone(), why));
    }
    if let Some(fault) = schema::mistyped(default, schema, at) {
        errors.push(fault);
        return;
    }
    let mut faults = Vec::new();
    schema::validate_resources(default, schema, at, &mut faults);
    match faults.is_empty() {
        true => bounds(default, schema, at, errors),
        false => errors.append(&mut faults),
    }
}

/// A default must keep to the bounds of its schema, and to its rules.
fn bounds(default: &Value, schema: &Value, at: &Path, errors: &mut Vec<FieldError>) {
    let patterns = schema::patterns(schema);
    let mut faults = Vec::new();
    // Upstream's check of defaults knows neither where a default stands nor what is a number or a text.
    let mut known = schema.clone();
    forget(&mut known, "x-kubernetes-int-or-string");
    schema::validate(default, None, &known, &Path::root(), &patterns, &mut faults);
    schema::once(&mut faults);
    schema::placed(at, &mut faults);
    if faults.is_empty()
        && let Some(node) = rules::Node::new(schema, false)
    {
        faults = node.validate_default(default, at);
    }
    errors.append(&mut faults);
}

/// Takes a field out of a schema and those below it.
fn forget(schema: &mut Value, field: &str) {
    match schema {
        Value::Object(fields) => {
            fields.remove(field);
            fields.values_mut().for_each(|below| forget(below, field));
        }
        Value::Array(items) => items.iter_mut().for_each(|below| forget(below, field)),
        _ => {}
    }
}
