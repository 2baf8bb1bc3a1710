//! Lists whose items differ: sets by themselves, maps by their keys.

use kinds::field::{FieldError, Path};
use serde_json::{Map, Value};

/// Tells what stands twice in the sets and keyed lists of a value: each of such once, at its second place.
pub fn check(value: &Value, schema: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    match value {
        Value::Object(fields) => {
            let properties = schema.get("properties");
            for (name, value) in fields {
                if let Some(schema) = properties.and_then(|p| p.get(name)) {
                    check(value, schema, &path.child(name), errors);
                } else if let Some(schema) = schema.get("additionalProperties") {
                    check(value, schema, &path.key(name), errors);
                }
            }
        }
        Value::Array(items) => {
            match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
                Some("set") => twice(items.iter().cloned(), path, errors),
                Some("map") => keyed(items, schema, path, errors),
                _ => {}
            }
            if let Some(schema) = schema.get("items") {
                for (i, item) in items.iter().enumerate() {
                    check(item, schema, &path.index(i), errors);
                }
            }
        }
        _ => {}
    }
}

fn keyed(items: &[Value], schema: &Value, path: &Path, errors: &mut Vec<FieldError>) {
    let odd = items.iter().position(|item| !item.is_object() && !item.is_null());
    if let Some(i) = odd {
        let why = "must be an object for an array of list-type map";
        errors.push(FieldError::invalid(&path.index(i), items[i].clone(), why));
        return;
    }
    let keys = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array);
    let names = || keys.into_iter().flatten().filter_map(Value::as_str);
    let key = |item: &Value| -> Value {
        let found = names().filter_map(|name| Some((name.to_owned(), item.get(name)?.clone())));
        Value::Object(found.collect::<Map<String, Value>>())
    };
    twice(items.iter().map(key), path, errors);
}

fn twice(items: impl Iterator<Item = Value>, path: &Path, errors: &mut Vec<FieldError>) {
    let mut seen = std::collections::HashMap::new();
    for (i, item) in items.enumerate() {
        let times = seen.entry(item.to_string()).or_insert(0);
        *times += 1;
        if *times == 2 {
            errors.push(FieldError::duplicate(&path.index(i), item));
        }
    }
}
