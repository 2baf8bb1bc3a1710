//! Printer columns of custom resources, and the cells that they yield.

use super::jsonpath::JsonPath;
use jiff::Timestamp;
use machinery::tables::IncludeObject;
use serde_json::{Value, json};

/// One additional printer column.
#[derive(Debug, Clone)]
pub struct Column {
    definition: Value,
    kind: String,
    path: JsonPath,
}

/// What the first column, and the age where no column is named, say of themselves: the texts of the object's metadata.
fn described(field: &str) -> &'static str {
    match field {
        "name" => {
            "Name must be unique within a namespace. Is required when creating resources, although some resources may \
             allow a client to request the generation of an appropriate name automatically. Name is primarily intended \
             for creation idempotence and configuration definition. Cannot be updated. More info: \
             https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
        }
        _ => {
            "CreationTimestamp is a timestamp representing the server time when this object was created. It is not \
             guaranteed to be set in happens-before order across separate operations. Clients may not set this value. \
             It is represented in RFC3339 form and is in UTC.\n\nPopulated by the system. Read-only. Null for lists. \
             More info: https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md#metadata"
        }
    }
}

/// Columns of one version of a CRD; without any, the age. One whose path cannot be read ends them.
pub fn columns(version: &Value) -> Vec<Column> {
    let listed = version.get("additionalPrinterColumns").and_then(Value::as_array);
    let age = json!([{"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp",
        "description": described("creationTimestamp")}]);
    let list = listed
        .filter(|l| !l.is_empty())
        .cloned()
        .or_else(|| age.as_array().cloned())
        .unwrap_or_default();
    list.iter()
        .map_while(|c| {
            let text = |f: &str| c.get(f).and_then(Value::as_str).unwrap_or("").to_string();
            let path = text("jsonPath");
            let mut description = text("description");
            if description.is_empty() {
                description = format!("Custom resource definition column (in JSONPath format): {path}");
            }
            let priority = c.get("priority").and_then(Value::as_i64).unwrap_or(0);
            Some(Column {
                definition: json!({"name": text("name"), "type": text("type"), "format": text("format"),
                    "description": description, "priority": priority}),
                kind: text("type"),
                path: JsonPath::parse(&path).ok()?,
            })
        })
        .collect()
}

/// A Table of custom objects.
pub fn table(columns: &[Column], objects: &[Value], include: IncludeObject) -> Value {
    let mut definitions = vec![
        json!({"name": "Name", "type": "string", "format": "name", "priority": 0,
        "description": described("name")}),
    ];
    definitions.extend(columns.iter().map(|c| c.definition.clone()));
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut cells = vec![object.pointer("/metadata/name").cloned().unwrap_or_default()];
            cells.extend(columns.iter().map(|c| cell(c, object)));
            let shown = match include {
                IncludeObject::None => Value::Null,
                IncludeObject::Metadata => crate::rest::render::partial(object, "v1"),
                IncludeObject::Object => object.clone(),
            };
            json!({"cells": cells, "object": shown})
        })
        .collect();
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": {},
        "columnDefinitions": definitions, "rows": rows})
}

fn cell(column: &Column, object: &Value) -> Value {
    let found = column.path.find(object).unwrap_or_default();
    let Some(first) = found.first() else {
        return Value::Null;
    };
    match column.kind.as_str() {
        "string" => json!(text(first)),
        "integer" => {
            let whole = first.as_f64().map(|n| n as i64);
            first.as_i64().or(whole).map_or(Value::Null, |n| json!(n))
        }
        "number" => first.as_f64().map_or(Value::Null, |n| json!(n)),
        "boolean" => first.as_bool().map_or(Value::Null, |b| json!(b)),
        "date" => match first.as_str() {
            None => Value::Null,
            Some("" | "null") => json!("<unknown>"),
            Some(stamp) => match stamp.parse::<Timestamp>() {
                Ok(at) => json!(machinery::tables::age(at, Timestamp::now())),
                Err(_) => json!("<invalid>"),
            },
        },
        _ => Value::Null,
    }
}

/// A value as a cell of text shows it.
fn text(value: &Value) -> String {
    match value {
        Value::Null => "<no value>".into(),
        Value::String(text) => text.clone(),
        Value::Number(_) | Value::Bool(_) => value.to_string(),
        other => other.to_string(),
    }
}
