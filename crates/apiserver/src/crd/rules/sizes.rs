//! How large values of a structural schema can be, from its `maxItems`, `maxLength` and `maxProperties`, or else from
//! what fits into a request. With it the cost of a rule is told when the definition is written.

use cel::{Sizes, Sort, Step, unescape};
use serde_json::Value;

/// Bytes of a request at most.
const REQUEST: u64 = 3 << 20;

/// Sizes below `self` and `oldSelf`, which the schema describes.
pub struct SchemaSizes<'s>(pub &'s Value);

impl<'s> SchemaSizes<'s> {
    /// The schema of what stands at a place; an error for keys of maps, of which nothing is declared.
    fn at(&self, variable: &str, steps: &[Step]) -> Option<Result<&'s Value, ()>> {
        if !matches!(variable, "self" | "oldSelf") {
            return None;
        }
        let mut schema = self.0;
        for (i, step) in steps.iter().enumerate() {
            schema = match step {
                Step::Field(name) => match schema["properties"].get(unescape(name)) {
                    Some(property) => property,
                    None => declared(schema, "additionalProperties")?,
                },
                Step::Element => {
                    declared(schema, "items").or_else(|| declared(schema, "additionalProperties"))?
                }
                Step::Key => {
                    declared(schema, "additionalProperties")?;
                    return (i + 1 == steps.len()).then_some(Err(()));
                }
            };
        }
        Some(Ok(schema))
    }
}

impl Sizes for SchemaSizes<'_> {
    fn most(&self, variable: &str, steps: &[Step]) -> Option<u64> {
        match self.at(variable, steps)? {
            Ok(schema) => size(schema),
            // Upstream counts keys as empty.
            Err(()) => Some(0),
        }
    }

    fn sort(&self, variable: &str, steps: &[Step]) -> Sort {
        match self.at(variable, steps) {
            None => Sort::Other,
            Some(Err(())) => Sort::Text,
            Some(Ok(schema)) if schema["x-kubernetes-int-or-string"] == true => Sort::Any,
            Some(Ok(schema)) => match (schema["type"].as_str(), schema["format"].as_str()) {
                (Some("string"), Some("byte")) => Sort::Bytes,
                (Some("string"), Some("date" | "date-time" | "duration")) => Sort::Other,
                (Some("string"), _) => Sort::Text,
                (Some("array"), _) => Sort::List,
                _ => Sort::Other,
            },
        }
    }
}

fn declared<'v>(schema: &'v Value, field: &str) -> Option<&'v Value> {
    schema.get(field).filter(|s| s.is_object())
}

/// Elements or bytes of a value at most; `None` for what has no length.
fn size(schema: &Value) -> Option<u64> {
    let limit = |field: &str| schema.get(field).and_then(Value::as_i64).map(|n| n.max(0) as u64);
    if schema["x-kubernetes-int-or-string"] == true {
        return Some(REQUEST - 2);
    }
    match schema["type"].as_str()? {
        "array" => elements(schema),
        "object" => elements(schema),
        "string" => Some(match (schema["format"].as_str(), limit("maxLength")) {
            (Some("date"), _) => 12,
            (Some("date-time" | "duration"), _) => 32,
            (Some("byte"), Some(length)) => length,
            // A character has up to four bytes.
            (_, Some(length)) => length.saturating_mul(4),
            _ => match schema["enum"].as_array() {
                Some(values) => {
                    let lengths = values.iter().filter_map(|v| v.as_str().map(str::len));
                    lengths.max().unwrap_or(0) as u64
                }
                None => REQUEST - 2,
            },
        }),
        _ => None,
    }
}

/// Elements of a list or map at most.
fn elements(schema: &Value) -> Option<u64> {
    let limit = |field: &str| schema.get(field).and_then(Value::as_i64).map(|n| n.max(0) as u64);
    if let Some(items) = declared(schema, "items") {
        return Some(limit("maxItems").unwrap_or_else(|| (REQUEST - 2) / (least(items) + 1)));
    }
    let values = declared(schema, "additionalProperties")?;
    Some(limit("maxProperties").unwrap_or_else(|| (REQUEST - 2) / (least(values) + 6)))
}

/// Bytes of the smallest value that the schema lets through.
fn least(schema: &Value) -> u64 {
    match schema["type"].as_str().unwrap_or("") {
        "array" => 2,
        "boolean" => 4,
        "string" => match schema["format"].as_str().unwrap_or("") {
            "date" => 12,
            "date-time" => 22,
            "duration" => 4,
            _ => 2,
        },
        "object" => {
            let required = schema["required"].as_array();
            let fields = required.into_iter().flatten().filter_map(Value::as_str);
            let sizes = fields.filter_map(|name| {
                let property = schema["properties"].get(name)?;
                let filled = property.get("default").is_some();
                (!filled).then(|| name.len() as u64 + least(property) + 4)
            });
            2 + sizes.sum::<u64>()
        }
        _ => 1,
    }
}

/// How often a value can stand in one object: 1, or as often as the lists and maps around it can have elements.
#[derive(Clone, Copy)]
pub struct Often {
    /// `None` when some list or map around has no declared limit.
    times: Option<u64>,
}

impl Often {
    /// The object itself.
    pub const ONCE: Often = Often { times: Some(1) };

    /// Of elements of the list or map `schema`, itself there so often.
    pub fn below(self, schema: &Value) -> Often {
        let limit = |field: &str| schema.get(field).and_then(Value::as_i64).map(|n| n.max(0) as u64);
        let own = match declared(schema, "items") {
            Some(_) => limit("maxItems"),
            None => limit("maxProperties"),
        };
        let times = self.times.zip(own).map(|(a, b)| a.saturating_mul(b));
        Often { times }
    }

    /// Times, for values of `schema`.
    pub fn times(self, schema: &Value) -> u64 {
        self.times.unwrap_or_else(|| REQUEST / (least(schema) + 1))
    }
}
