//! Structural schemas at work: pruning, defaulting and validation of custom objects, straight from the CRD's JSON.
//!
//! The functions walk value and schema together. Messages are those of upstream's go-openapi based validation.

use super::{formats, numbers};
use kinds::field::{ErrorType, FieldError, Path, json_text, quoted};
use regex::Regex;
use serde_json::{Map, Value, json};
use std::collections::HashMap;

/// Patterns of one schema, compiled once.
pub type Patterns = HashMap<String, Regex>;

/// Compiles all patterns of a schema; those that are no valid regular expressions never match, as upstream refuses
/// them at creation.
pub fn patterns(schema: &Value) -> Patterns {
    let mut found = Patterns::new();
    collect(schema, &mut found);
    found
}

fn collect(schema: &Value, found: &mut Patterns) {
    match schema {
        Value::Object(fields) => {
            if let Some(pattern) = fields.get("pattern").and_then(Value::as_str)
                && let Ok(regex) = cel::pattern::compile(pattern)
            {
                found.insert(pattern.to_string(), regex);
            }
            if let Some(format) = fields.get("format").and_then(Value::as_str) {
                formats::collect(format, found);
            }
            fields.values().for_each(|v| collect(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| collect(v, found)),
        _ => {}
    }
}

fn flag(schema: &Value, name: &str) -> bool {
    schema.get(name).and_then(Value::as_bool).unwrap_or(false)
}

fn allows_more(schema: &Value) -> Option<&Value> {
    schema
        .get("additionalProperties")
        .filter(|a| **a != Value::Bool(false))
}

/// Drops fields the schema does not know; answers their paths. `root` keeps `apiVersion`, `kind`, `metadata`; in a resource
/// within the object, metadata are those of any object; what is dropped of them goes to `embedded`.
pub fn prune(
    value: &mut Value,
    schema: &Value,
    root: bool,
    path: &str,
    dropped: &mut Vec<String>,
    embedded: &mut Vec<String>,
) {
    if !root && flag(schema, "x-kubernetes-embedded-resource") {
        embedded_metadata(value, path, embedded);
    }
    match value {
        Value::Object(fields) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            let keep = flag(schema, "x-kubernetes-preserve-unknown-fields");
            let resource = root || flag(schema, "x-kubernetes-embedded-resource");
            let names: Vec<String> = fields.keys().cloned().collect();
            for name in names {
                if resource && matches!(name.as_str(), "apiVersion" | "kind" | "metadata") {
                    continue;
                }
                let here = if path.is_empty() {
                    name.clone()
                } else {
                    format!("{path}.{name}")
                };
                let known = properties
                    .and_then(|p| p.get(&name))
                    .or_else(|| allows_more(schema));
                match (known, fields.get_mut(&name)) {
                    (Some(schema), Some(value)) => prune(value, schema, false, &here, dropped, embedded),
                    (None, _) if keep => {}
                    _ => {
                        fields.remove(&name);
                        dropped.push(here);
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (i, item) in items.iter_mut().enumerate() {
                    prune(item, schema, false, &format!("{path}[{i}]"), dropped, embedded);
                }
            }
        }
        _ => {}
    }
}

/// Drops nulls where the schema allows none and has no default to put there, as Go drops them from what it knows.
pub fn drop_nulls(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            let properties = schema.get("properties").and_then(Value::as_object);
            fields.retain(|name, value| {
                let known = properties
                    .and_then(|p| p.get(name))
                    .or_else(|| allows_more(schema).filter(|s| s.is_object()));
                let Some(schema) = known else {
                    return true;
                };
                if value.is_null() && !flag(schema, "nullable") && schema.get("default").is_none() {
                    return false;
                }
                drop_nulls(value, schema);
                true
            });
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| drop_nulls(item, schema));
            }
        }
        _ => {}
    }
}

/// Whether a schema has resources within the object.
pub fn embeds(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => {
            flag(schema, "x-kubernetes-embedded-resource") || fields.values().any(embeds)
        }
        Value::Array(items) => items.iter().any(embeds),
        _ => false,
    }
}

/// What of a resource within the object has the wrong type to be read at all.
pub fn mistyped(value: &Value, schema: &Value, path: &Path) -> Option<FieldError> {
    match value {
        Value::Object(fields) => {
            if flag(schema, "x-kubernetes-embedded-resource") {
                for name in ["apiVersion", "kind"] {
                    if let Some(odd) = fields.get(name).filter(|found| !found.is_string()) {
                        let why = "must be a string";
                        return Some(FieldError::invalid(&path.child(name), odd.clone(), why));
                    }
                }
                let metadata = fields.get("metadata").unwrap_or(&Value::Null);
                if let Err(why) = machinery::metadata_faults(&mut json!({"metadata": metadata})) {
                    let at = path.child("metadata");
                    return Some(FieldError::invalid(&at, metadata.clone(), why.json));
                }
            }
            let properties = schema.get("properties").and_then(Value::as_object);
            fields
                .iter()
                .find_map(|(name, value)| match properties.and_then(|p| p.get(name)) {
                    Some(schema) => mistyped(value, schema, &path.child(name)),
                    None => mistyped(value, allows_more(schema)?, &path.key(name)),
                })
        }
        Value::Array(items) => {
            let schema = schema.get("items")?;
            let mut items = items.iter().enumerate();
            items.find_map(|(i, item)| mistyped(item, schema, &path.index(i)))
        }
        _ => None,
    }
}

/// Checks every resource within the object, whether it changed or not.
pub fn validate_resources(value: &Value, schema: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            if flag(schema, "x-kubernetes-embedded-resource") {
                errors.append(&mut machinery::validate_embedded(value, path));
            }
            let properties = schema.get("properties").and_then(Value::as_object);
            for (name, value) in fields {
                if let Some(schema) = properties.and_then(|p| p.get(name)) {
                    validate_resources(value, schema, &path.child(name), errors);
                } else if let Some(schema) = allows_more(schema) {
                    validate_resources(value, schema, &path.key(name), errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                for (i, item) in items.iter().enumerate() {
                    validate_resources(item, schema, &path.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

fn embedded_metadata(value: &mut Value, path: &str, dropped: &mut Vec<String>) {
    // What has a wrong type stays, for validation to tell.
    let found = machinery::metadata_faults(value).unwrap_or_default();
    let unknown = found
        .iter()
        .filter_map(|fault| fault.strip_prefix("unknown field \"")?.strip_suffix('"'));
    dropped.extend(unknown.map(|below| format!("{path}.{below}")));
}

/// Whether a default stands anywhere in a schema. (A property of that name is taken for one, at the price of work that
/// changes nothing.)
pub fn has_defaults(schema: &Value) -> bool {
    match schema {
        Value::Object(fields) => fields.contains_key("default") || fields.values().any(has_defaults),
        Value::Array(items) => items.iter().any(has_defaults),
        _ => false,
    }
}

/// Fills in defaults; null becomes absent where the schema has a default and does not allow null.
pub fn default(value: &mut Value, schema: &Value) {
    match value {
        Value::Object(fields) => {
            for (name, property) in schema
                .get("properties")
                .and_then(Value::as_object)
                .into_iter()
                .flatten()
            {
                let absent = match fields.get(name) {
                    None => true,
                    Some(Value::Null) => !flag(property, "nullable"),
                    Some(_) => false,
                };
                if absent && let Some(given) = property.get("default") {
                    fields.insert(name.clone(), given.clone());
                }
                if let Some(value) = fields.get_mut(name) {
                    default(value, property);
                }
            }
            if let Some(more) = allows_more(schema) {
                let known = schema.get("properties").and_then(Value::as_object);
                for (name, value) in fields.iter_mut() {
                    if known.is_none_or(|k| !k.contains_key(name)) {
                        if value.is_null()
                            && !flag(more, "nullable")
                            && let Some(given) = more.get("default")
                        {
                            *value = given.clone();
                        }
                        default(value, more);
                    }
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| default(item, schema));
            }
        }
        _ => {}
    }
    let metadata = schema.pointer("/properties/metadata");
    if flag(schema, "x-kubernetes-embedded-resource") && metadata.is_some_and(has_defaults) {
        // Metadata cannot have what their schema has made up.
        embedded_metadata(value, "", &mut Vec::new());
    }
}

/// Checks a value; `old` is the present value at the same place, whose faults are forgiven (ratcheting).
pub fn validate(
    value: &Value,
    old: Option<&Value>,
    schema: &Value,
    path: &Path,
    patterns: &Patterns,
    errors: &mut Vec<FieldError>,
) {
    if old == Some(value) {
        return;
    }
    if value.is_null() {
        let wanted = match flag(schema, "x-kubernetes-int-or-string") {
            true => Some("integer,string"),
            false => schema.get("type").and_then(Value::as_str),
        };
        if let Some(wanted) = wanted.filter(|_| !flag(schema, "nullable")) {
            errors.push(FieldError::type_invalid(
                path,
                Value::from("null"),
                type_message(path, wanted, "null"),
            ));
        }
        // Null is none of the values of an `enum`, even where it may stand.
        return one_of(value, schema, path, errors);
    }
    // A value of a wrong type is judged by all else that its own type has, as upstream does.
    if !type_fits(value, schema) {
        let format = formats::of(schema);
        let has_form = !matches!(value, Value::String(_) | Value::Array(_)) && !format.is_empty();
        let (wanted, got) = match schema.get("type").and_then(Value::as_str) {
            _ if flag(schema, "x-kubernetes-int-or-string") => ("integer,string", type_of(value)),
            _ if has_form => (format, numbers::format_of(value)),
            wanted => (wanted.unwrap_or(""), type_of(value)),
        };
        // Upstream shows the type that it found where the value would stand.
        errors.push(FieldError::type_invalid(
            path,
            Value::from(got),
            type_message(path, wanted, got),
        ));
    }
    combined(value, schema, path, patterns, errors);
    match value {
        Value::String(text) => string(text, schema, path, patterns, errors),
        Value::Number(_) => numbers::check(value, schema, path, errors),
        Value::Array(items) => array(items, old, schema, path, patterns, errors),
        _ => {}
    }
    one_of(value, schema, path, errors);
    if let Value::Object(fields) = value {
        object(fields, old, schema, path, patterns, errors);
    }
}

/// Checks a value against the `enum` of its schema.
fn one_of(value: &Value, schema: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    if let Some(allowed) = schema.get("enum").and_then(Value::as_array)
        && !allowed.iter().any(|allowed| numbers::same(value, allowed))
    {
        let shown = |a: &Value| quoted(&a.as_str().map_or_else(|| json_text(a), String::from));
        let names: Vec<String> = allowed.iter().map(shown).collect();
        // In the order of the schema.
        errors.push(FieldError {
            ty: ErrorType::NotSupported,
            path: path.clone(),
            bad_value: Some(value.clone()),
            detail: format!("supported values: {}", names.join(", ")),
            shown: None,
        });
    }
}

fn type_message(path: &Path, wanted: &str, got: &str) -> String {
    format!("{} in body must be of type {wanted}: {got:?}", path.as_str())
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        // A whole number that has no room in 64 bits is one with a fraction to Go.
        Value::Number(n) if n.as_i64().is_none() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn type_fits(value: &Value, schema: &Value) -> bool {
    if flag(schema, "x-kubernetes-int-or-string") {
        return matches!(type_of(value), "integer" | "string");
    }
    let Some(wanted) = schema.get("type").and_then(Value::as_str) else {
        return true;
    };
    let format = formats::of(schema);
    if !format.is_empty()
        && !matches!(wanted, "integer" | "number")
        && matches!(value, Value::String(_) | Value::Array(_))
    {
        // Upstream leaves these to the check of the format, which only looks at texts.
        return true;
    }
    let got = type_of(value);
    let whole = || value.as_f64().is_some_and(numbers::is_whole);
    got == wanted
        || (wanted == "number" && got == "integer")
        || (wanted == "integer" && got == "number" && whole())
}

fn limit(schema: &Value, name: &str) -> Option<i64> {
    schema.get(name).and_then(Value::as_i64)
}

/// A value that is longer than it may be, which is less than nothing now and then.
fn too_long(path: &Path, max: i64) -> FieldError {
    let mut error = FieldError::too_long(path, max as usize);
    if max < 0 {
        error.detail = "value is too long".into();
    }
    error
}

/// Likewise, of a number of elements.
fn too_many(path: &Path, count: usize, max: i64) -> FieldError {
    let mut error = FieldError::too_many(path, count, max as usize);
    if max < 0 {
        error.detail = "has too many items".into();
    }
    error
}

fn string(text: &str, schema: &Value, path: &Path, patterns: &Patterns, errors: &mut Vec<FieldError>) {
    let length = text.chars().count() as i64;
    let invalid = |why: String| FieldError::invalid(path, json!(text), why);
    // Of these, the first that is wrong is told.
    if let Some(max) = limit(schema, "maxLength").filter(|m| length > *m) {
        errors.push(too_long(path, max));
    } else if let Some(min) = limit(schema, "minLength").filter(|m| length < *m) {
        errors.push(invalid(format!(
            "{} in body should be at least {min} chars long",
            path.as_str()
        )));
    } else if let Some(pattern) = schema.get("pattern").and_then(Value::as_str)
        && patterns.get(pattern).is_some_and(|r| !r.is_match(text))
    {
        errors.push(invalid(format!(
            "{} in body should match '{pattern}'",
            path.as_str()
        )));
    }
    let format = formats::of(schema);
    if !format.is_empty() && !formats::fits(format, text, patterns) {
        let why = format!("{} in body must be of type {format}: {text:?}", path.as_str());
        errors.push(FieldError::type_invalid(path, json!(text), why));
    }
}

/// Leaves out what has been said already: several schemas may find the same.
pub fn once(errors: &mut Vec<FieldError>) {
    let mut said = std::collections::HashSet::new();
    errors.retain(|error| said.insert(error.to_string()));
}

/// What was found of a value by itself, which stands at `at`. Its places are texts that go behind that as they are.
pub fn placed(at: &Path, errors: &mut [FieldError]) {
    for error in errors {
        error.path = match error.path.as_str().trim_start_matches('.') {
            "" => at.clone(),
            below => at.child(below),
        };
    }
}

/// What makes two items of a list the same: their keys, or themselves.
fn identity(item: &Value, keys: Option<&Vec<Value>>) -> Value {
    match keys {
        None => item.clone(),
        Some(keys) => keys
            .iter()
            .filter_map(Value::as_str)
            .map(|k| item.get(k).cloned().unwrap_or_default())
            .collect(),
    }
}

fn array(
    items: &[Value],
    old: Option<&Value>,
    schema: &Value,
    path: &Path,
    patterns: &Patterns,
    errors: &mut Vec<FieldError>,
) {
    let list_type = schema
        .get("x-kubernetes-list-type")
        .and_then(Value::as_str)
        .unwrap_or("atomic");
    let keys = schema
        .get("x-kubernetes-list-map-keys")
        .and_then(Value::as_array)
        .filter(|_| list_type == "map");
    let old_items = old.and_then(Value::as_array);
    for (i, item) in items.iter().enumerate() {
        let Some(item_schema) = schema.get("items") else {
            break;
        };
        // Items of keyed lists are matched by key; what stood where another list's item stands says nothing of it.
        let before = match (old_items, keys) {
            (Some(list), Some(_)) => list.iter().find(|o| identity(o, keys) == identity(item, keys)),
            _ => None,
        };
        validate(item, before, item_schema, &path.index(i), patterns, errors);
    }
    let count = items.len() as i64;
    if let Some(min) = limit(schema, "minItems").filter(|m| count < *m) {
        let why = format!("{} in body should have at least {min} items", path.as_str());
        errors.push(FieldError::invalid(path, json!(items.len()), why));
    }
    if let Some(max) = limit(schema, "maxItems").filter(|m| count > *m) {
        errors.push(too_many(path, items.len(), max));
    }
}

fn object(
    fields: &Map<String, Value>,
    old: Option<&Value>,
    schema: &Value,
    path: &Path,
    patterns: &Patterns,
    errors: &mut Vec<FieldError>,
) {
    let count = fields.len() as i64;
    if let Some(min) = limit(schema, "minProperties").filter(|m| count < *m) {
        let why = format!("{} in body should have at least {min} properties", path.as_str());
        errors.push(FieldError::invalid(path, json!(fields.len()), why));
    }
    if let Some(max) = limit(schema, "maxProperties").filter(|m| count > *m) {
        errors.push(too_many(path, fields.len(), max));
    }
    // What is named by no property begins with a dot, even where nothing goes before.
    let unnamed = |name: &str| match path.as_str() {
        "" => Path::new(&format!(".{name}")),
        _ => path.child(name),
    };
    let properties = schema.get("properties").and_then(Value::as_object);
    for (name, value) in fields {
        let before = old.and_then(|o| o.get(name));
        match properties.and_then(|p| p.get(name)) {
            Some(schema) => validate(value, before, schema, &path.child(name), patterns, errors),
            None => {
                if let Some(schema) = allows_more(schema).filter(|s| s.is_object()) {
                    validate(value, before, schema, &unnamed(name), patterns, errors);
                }
            }
        }
    }
    let required = schema.get("required").and_then(Value::as_array);
    for name in required.into_iter().flatten().filter_map(Value::as_str) {
        if !fields.contains_key(name) {
            errors.push(FieldError::required(&path.child(name), ""));
        }
    }
}

/// `allOf`, `anyOf`, `oneOf`, `not`. What upstream says of these has no field, only a name in its text.
fn combined(value: &Value, schema: &Value, path: &Path, patterns: &Patterns, errors: &mut Vec<FieldError>) {
    let list = |name: &str| schema.get(name).and_then(Value::as_array);
    let faults = |schema: &Value| {
        let mut found = Vec::new();
        validate(value, None, schema, path, patterns, &mut found);
        found
    };
    let name = path.as_str();
    let invalid = |why: String| FieldError::invalid(&Path::root(), json!(""), format!("{name:?} must {why}"));
    if let Some(any) = list("anyOf") {
        let found: Vec<Vec<FieldError>> = any.iter().map(faults).collect();
        if found.iter().all(|f| !f.is_empty()) {
            errors.push(invalid("validate at least one schema (anyOf)".into()));
            errors.extend(nearest(found));
        }
    }
    if let Some(one) = list("oneOf") {
        let found: Vec<Vec<FieldError>> = one.iter().map(faults).collect();
        match found.iter().filter(|f| f.is_empty()).count() {
            1 => {}
            0 => {
                let why = "validate one and only one schema (oneOf). Found none valid";
                errors.push(invalid(why.into()));
                errors.extend(nearest(found));
            }
            n => errors.push(invalid(format!(
                "validate one and only one schema (oneOf). Found {n} valid alternatives"
            ))),
        }
    }
    if let Some(all) = list("allOf") {
        let found: Vec<Vec<FieldError>> = all.iter().map(faults).collect();
        let valid = found.iter().filter(|f| f.is_empty()).count();
        let whole = found.len();
        errors.extend(found.into_iter().flatten());
        if valid != whole {
            let none = if valid == 0 { ". None validated" } else { "" };
            errors.push(invalid(format!("validate all the schemas (allOf){none}")));
        }
    }
    if schema.get("not").is_some_and(|s| faults(s).is_empty()) {
        errors.push(invalid("not validate the schema (not)".into()));
    }
}

/// The faults of the alternative that came nearest: those are told besides.
fn nearest(found: Vec<Vec<FieldError>>) -> Vec<FieldError> {
    found.into_iter().min_by_key(Vec::len).unwrap_or_default()
}
