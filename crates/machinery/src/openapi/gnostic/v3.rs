//! A v3 document.
//!
//! One function per message of gnostic's `OpenAPIv3.proto`; only the fields that our documents and those of custom kinds use.

use serde_json::Value;

use super::{any, bounds, entries, extensions, list, named, security, text, texts};
use crate::protobuf::Writer;

/// `openapi.v3.Document`.
pub fn v3_protobuf(document: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    out.text(1, text(document, "openapi"));
    out.message(2, |info| {
        info.text(1, text(&document["info"], "title"));
        info.text(2, text(&document["info"], "description"));
        info.text(6, text(&document["info"], "version"));
    });
    out.message(4, |paths| {
        for (name, item) in entries(&document["paths"]) {
            named(paths, 1, name, |out| path_item(out, item));
        }
    });
    if let Some(parts) = document.get("components") {
        out.message(5, |out| components(out, parts));
    }
    security(&mut out, 6, document);
    out.finish()
}

fn components(out: &mut Writer, value: &Value) {
    if let Some(schemas) = value.get("schemas") {
        out.message(1, |out| named_schemas(out, schemas));
    }
    if let Some(schemes) = value.get("securitySchemes") {
        out.message(7, |out| {
            for (name, scheme) in entries(schemes) {
                named(out, 1, name, |item| {
                    item.message(1, |out| {
                        for (tag, field) in [(1, "type"), (2, "description"), (3, "name"), (4, "in")] {
                            out.text(tag, text(scheme, field));
                        }
                    });
                });
            }
        });
    }
}

fn path_item(out: &mut Writer, item: &Value) {
    for (tag, method) in [
        (4, "get"),
        (5, "put"),
        (6, "post"),
        (7, "delete"),
        (8, "options"),
        (9, "head"),
        (10, "patch"),
    ] {
        if let Some(value) = item.get(method) {
            out.message(tag, |out| operation(out, value));
        }
    }
    parameters(out, 13, &item["parameters"]);
    extensions(out, 14, item);
}

fn operation(out: &mut Writer, value: &Value) {
    texts(out, 1, &value["tags"]);
    out.text(3, text(value, "description"));
    out.text(5, text(value, "operationId"));
    parameters(out, 6, &value["parameters"]);
    if let Some(body) = value.get("requestBody") {
        // RequestBodyOrReference.
        out.message(7, |item| {
            item.message(1, |out| {
                out.text(1, text(body, "description"));
                media_types(out, 2, &body["content"]);
                out.flag(3, body["required"] == true);
            });
        });
    }
    if let Some(responses) = value.get("responses") {
        out.message(8, |out| {
            if let Some(other) = responses.get("default") {
                out.message(1, |out| response(out, other));
            }
            for (code, answer) in entries(responses).filter(|(code, _)| *code != "default") {
                named(out, 2, code, |out| response(out, answer));
            }
        });
    }
    extensions(out, 13, value);
}

/// `ResponseOrReference`.
fn response(choice: &mut Writer, value: &Value) {
    choice.message(1, |out| {
        out.text(1, text(value, "description"));
        media_types(out, 3, &value["content"]);
    });
}

fn media_types(out: &mut Writer, tag: u32, value: &Value) {
    if !value.is_object() {
        return;
    }
    out.message(tag, |out| {
        for (media, content) in entries(value) {
            named(out, 1, media, |out| {
                if let Some(shape) = content.get("schema") {
                    out.message(1, |choice| schema_or_reference(choice, shape));
                }
            });
        }
    });
}

fn parameters(out: &mut Writer, tag: u32, value: &Value) {
    for parameter in list(value) {
        // ParameterOrReference.
        out.message(tag, |item| {
            item.message(1, |out| {
                out.text(1, text(parameter, "name"));
                out.text(2, text(parameter, "in"));
                out.text(3, text(parameter, "description"));
                out.flag(4, parameter["required"] == true);
                if let Some(shape) = parameter.get("schema") {
                    out.message(10, |choice| schema_or_reference(choice, shape));
                }
            });
        });
    }
}

fn named_schemas(out: &mut Writer, value: &Value) {
    for (name, value) in entries(value) {
        named(out, 1, name, |choice| schema_or_reference(choice, value));
    }
}

/// What refers to another has nothing else but a description.
fn schema_or_reference(choice: &mut Writer, value: &Value) {
    match value.get("$ref").and_then(Value::as_str) {
        Some(reference) => choice.message(2, |out| {
            out.text(1, reference);
            out.text(3, text(value, "description"));
        }),
        None => choice.message(1, |out| schema(out, value)),
    }
}

fn schema(out: &mut Writer, value: &Value) {
    out.flag(1, value["nullable"] == true);
    if let Some(example) = value.get("example") {
        out.message(7, |out| any(out, example));
    }
    out.text(9, text(value, "title"));
    bounds(out, 10, value);
    texts(out, 23, &value["required"]);
    for item in list(&value["enum"]) {
        out.message(24, |out| any(out, item));
    }
    out.text(25, text(value, "type"));
    for (tag, parts) in [(26, "allOf"), (27, "oneOf"), (28, "anyOf")] {
        for part in list(&value[parts]) {
            out.message(tag, |choice| schema_or_reference(choice, part));
        }
    }
    if let Some(other) = value.get("not") {
        out.message(29, |out| schema(out, other));
    }
    if let Some(items) = value.get("items") {
        // ItemsItem.
        out.message(30, |item| {
            item.message(1, |choice| schema_or_reference(choice, items));
        });
    }
    if let Some(properties) = value.get("properties") {
        out.message(31, |out| named_schemas(out, properties));
    }
    // AdditionalPropertiesItem.
    match value.get("additionalProperties") {
        Some(Value::Bool(allowed)) => out.message(32, |item| item.varint(2, (*allowed).into())),
        Some(values) => out.message(32, |item| {
            item.message(1, |choice| schema_or_reference(choice, values));
        }),
        None => {}
    }
    if let Some(value) = value.get("default") {
        out.message(33, |choice| default_type(choice, value));
    }
    out.text(34, text(value, "description"));
    out.text(35, text(value, "format"));
    extensions(out, 36, value);
}

/// The form knows no defaults but numbers, booleans and texts; of others it says only that there is one.
fn default_type(choice: &mut Writer, value: &Value) {
    match value {
        Value::Number(number) => choice.double(1, number.as_f64().unwrap_or_default()),
        Value::Bool(flag) => choice.varint(2, (*flag).into()),
        Value::String(text) => choice.bytes(3, text.as_bytes()),
        Value::Null | Value::Array(_) | Value::Object(_) => {}
    }
}
