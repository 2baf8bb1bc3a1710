//! Printer columns of custom resources: the simple JSONPath of CRDs, and the cells it yields.

use jiff::Timestamp;
use machinery::tables::IncludeObject;
use serde_json::{Value, json};

/// One additional printer column.
#[derive(Debug, Clone)]
pub struct Column {
    definition: Value,
    kind: String,
    path: Vec<Step>,
}

#[derive(Debug, Clone, PartialEq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    /// `[?(@.FIELD=="VALUE")]`
    Where(Vec<String>, String),
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

/// Columns of one version of a CRD; without any, the age.
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
        .map(|c| {
            let text = |f: &str| c.get(f).and_then(Value::as_str).unwrap_or("").to_string();
            let path = text("jsonPath");
            let mut description = text("description");
            if description.is_empty() {
                description = format!("Custom resource definition column (in JSONPath format): {path}");
            }
            let priority = c.get("priority").and_then(Value::as_i64).unwrap_or(0);
            Column {
                definition: json!({"name": text("name"), "type": text("type"), "format": text("format"),
                    "description": description, "priority": priority}),
                kind: text("type"),
                path: parse(&path),
            }
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
    let found = find(object, &column.path);
    let Some(first) = found.first().filter(|v| !v.is_null()) else {
        return Value::Null;
    };
    match column.kind.as_str() {
        "integer" => first.as_i64().map_or(Value::Null, |n| json!(n)),
        "number" => first.as_f64().map_or(Value::Null, |n| json!(n)),
        "boolean" => first.as_bool().map_or(Value::Null, |b| json!(b)),
        "date" => match first.as_str().and_then(|t| t.parse::<Timestamp>().ok()) {
            Some(at) => json!(machinery::tables::age(at, Timestamp::now())),
            None => json!("<unknown>"),
        },
        _ => {
            let texts = found.iter().map(|v| text(v));
            json!(texts.collect::<Vec<_>>().join(","))
        }
    }
}

/// A value as a cell shows it.
fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), String::from)
}

/// Reads `.spec.list[0].field`, `.status.conditions[?(@.type=="Ready")].status`, `.a['b.c']`.
fn parse(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path.trim().trim_start_matches('{').trim_end_matches('}');
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let Some(end) = after.find(']') else { break };
            let inner = &after[..end];
            rest = &after[end + 1..];
            steps.push(match inner {
                "*" => Step::All,
                _ if inner.starts_with("?(") => condition(inner),
                _ if inner.starts_with(['\'', '"']) => {
                    Step::Field(inner.trim_matches(['\'', '"']).to_string())
                }
                _ => inner
                    .parse()
                    .map_or_else(|_| Step::Field(inner.to_string()), Step::Index),
            });
            continue;
        }
        rest = rest.strip_prefix('.').unwrap_or(rest);
        let mut end = 0;
        let mut escaped = false;
        for (i, c) in rest.char_indices() {
            if !escaped && (c == '.' || c == '[') {
                break;
            }
            escaped = c == '\\' && !escaped;
            end = i + c.len_utf8();
        }
        if end == 0 {
            break;
        }
        let name = rest[..end].replace('\\', "");
        steps.push(if name == "*" { Step::All } else { Step::Field(name) });
        rest = &rest[end..];
    }
    steps
}

fn condition(inner: &str) -> Step {
    let inner = inner.trim_start_matches("?(").trim_end_matches(')');
    let (left, right) = inner.split_once("==").unwrap_or((inner, ""));
    let field = left
        .trim()
        .trim_start_matches("@.")
        .split('.')
        .map(String::from)
        .collect();
    Step::Where(field, right.trim().trim_matches(['\'', '"']).to_string())
}

fn find<'a>(object: &'a Value, path: &[Step]) -> Vec<&'a Value> {
    let mut found = vec![object];
    for step in path {
        found = found
            .into_iter()
            .flat_map(|value| -> Vec<&Value> {
                match step {
                    Step::Field(name) => value.get(name).into_iter().collect(),
                    Step::Index(i) => {
                        let list = value.as_array();
                        let at = list.and_then(|l| {
                            let at = if *i < 0 { l.len() as i64 + i } else { *i };
                            l.get(usize::try_from(at).ok()?)
                        });
                        at.into_iter().collect()
                    }
                    Step::All => match value {
                        Value::Array(l) => l.iter().collect(),
                        Value::Object(m) => m.values().collect(),
                        _ => Vec::new(),
                    },
                    Step::Where(field, wanted) => {
                        let list = value.as_array().into_iter().flatten();
                        list.filter(|item| {
                            let has = field.iter().try_fold(*item, |v, f| v.get(f));
                            has.is_some_and(|v| text(v) == *wanted)
                        })
                        .collect()
                    }
                }
            })
            .collect();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let object = json!({"spec": {"list": [1, 2], "a.b": "x"},
            "status": {"conditions": [{"type": "Ready", "status": "True"}]}});
        let cases = [
            (".spec.list[1]", json!(2)),
            (".spec.list[-1]", json!(2)),
            (".spec.a\\.b", json!("x")),
            (".spec['a.b']", json!("x")),
            (".status.conditions[?(@.type==\"Ready\")].status", json!("True")),
        ];
        for (path, want) in cases {
            assert_eq!(find(&object, &parse(path)), [&want], "{path}");
        }
        assert!(find(&object, &parse(".spec.none.x")).is_empty());
    }
}
