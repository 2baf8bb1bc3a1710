//! A v2 document.
//!
//! One function per message of gnostic's `OpenAPIv2.proto`; only the fields that our documents use.

use serde_json::Value;

use super::{any, bounds, entries, extensions, list, named, security, text, texts};
use crate::protobuf::Writer;

/// `openapi.v2.Document`.
pub fn v2_protobuf(document: &Value) -> Vec<u8> {
    let mut out = Writer::default();
    out.text(1, text(document, "swagger"));
    out.message(2, |info| {
        info.text(1, text(&document["info"], "title"));
        info.text(2, text(&document["info"], "version"));
    });
    out.message(8, |paths| {
        for (name, item) in entries(&document["paths"]) {
            named(paths, 2, name, |out| path_item(out, item));
        }
    });
    out.message(9, |definitions| {
        named_schemas(definitions, 1, &document["definitions"])
    });
    out.message(10, |parameters| {
        for (name, value) in entries(&document["parameters"]) {
            named(parameters, 1, name, |out| parameter(out, value));
        }
    });
    security(&mut out, 12, document);
    out.message(13, |schemes| {
        for (name, definition) in entries(&document["securityDefinitions"]) {
            named(schemes, 1, name, |item| {
                item.message(2, |key| {
                    for (tag, field) in [(1, "type"), (2, "name"), (3, "in"), (4, "description")] {
                        key.text(tag, text(definition, field));
                    }
                });
            });
        }
    });
    out.finish()
}

fn path_item(out: &mut Writer, item: &Value) {
    for (tag, method) in [
        (2, "get"),
        (3, "put"),
        (4, "post"),
        (5, "delete"),
        (6, "options"),
        (7, "head"),
        (8, "patch"),
    ] {
        if let Some(value) = item.get(method) {
            out.message(tag, |out| operation(out, value));
        }
    }
    parameters(out, 9, &item["parameters"]);
}

fn operation(out: &mut Writer, value: &Value) {
    texts(out, 1, &value["tags"]);
    out.text(3, text(value, "description"));
    out.text(5, text(value, "operationId"));
    texts(out, 6, &value["produces"]);
    texts(out, 7, &value["consumes"]);
    parameters(out, 8, &value["parameters"]);
    out.message(9, |responses| {
        for (code, response) in entries(&value["responses"]) {
            named(responses, 1, code, |out| {
                out.message(1, |out| {
                    out.text(1, text(response, "description"));
                    if let Some(answer) = response.get("schema") {
                        out.message(2, |item| item.message(1, |out| schema(out, answer)));
                    }
                });
            });
        }
    });
    texts(out, 10, &value["schemes"]);
    extensions(out, 13, value);
}

fn parameters(out: &mut Writer, tag: u32, value: &Value) {
    for one in list(value) {
        // ParametersItem: `parameter` or `json_reference`.
        out.message(tag, |item| match one.get("$ref").and_then(Value::as_str) {
            Some(reference) => item.message(2, |out| out.text(1, reference)),
            None => item.message(1, |out| parameter(out, one)),
        });
    }
}

fn parameter(choice: &mut Writer, parameter: &Value) {
    match text(parameter, "in") {
        "body" => choice.message(1, |out| {
            out.text(1, text(parameter, "description"));
            out.text(2, text(parameter, "name"));
            out.text(3, "body");
            out.flag(4, parameter["required"] == true);
            out.message(5, |out| schema(out, &parameter["schema"]));
        }),
        "path" => choice.message(2, |out| {
            out.message(4, |out| simple_parameter(out, parameter, [5, 19]))
        }),
        _ => choice.message(2, |out| {
            out.message(3, |out| simple_parameter(out, parameter, [6, 20]))
        }),
    }
}

/// `PathParameterSubSchema` and `QueryParameterSubSchema` differ in the numbers of `type` and `uniqueItems` only.
fn simple_parameter(out: &mut Writer, parameter: &Value, [ty, unique]: [u32; 2]) {
    out.flag(1, parameter["required"] == true);
    out.text(2, text(parameter, "in"));
    out.text(3, text(parameter, "description"));
    out.text(4, text(parameter, "name"));
    out.text(ty, text(parameter, "type"));
    out.flag(unique, parameter["uniqueItems"] == true);
}

fn named_schemas(out: &mut Writer, tag: u32, value: &Value) {
    for (name, value) in entries(value) {
        named(out, tag, name, |out| schema(out, value));
    }
}

fn schema(out: &mut Writer, value: &Value) {
    out.text(1, text(value, "$ref"));
    out.text(2, text(value, "format"));
    out.text(3, text(value, "title"));
    out.text(4, text(value, "description"));
    if let Some(default) = value.get("default") {
        out.message(5, |out| any(out, default));
    }
    bounds(out, 6, value);
    texts(out, 19, &value["required"]);
    for item in list(&value["enum"]) {
        out.message(20, |out| any(out, item));
    }
    match value.get("additionalProperties") {
        Some(Value::Bool(allowed)) => out.message(21, |out| out.flag(2, *allowed)),
        Some(values) => out.message(21, |item| item.message(1, |out| schema(out, values))),
        None => {}
    }
    let ty = text(value, "type");
    if !ty.is_empty() {
        out.message(22, |out| out.text(1, ty));
    }
    if let Some(items) = value.get("items") {
        out.message(23, |item| item.message(1, |out| schema(out, items)));
    }
    for part in list(&value["allOf"]) {
        out.message(24, |out| schema(out, part));
    }
    if let Some(properties) = value.get("properties") {
        out.message(25, |out| named_schemas(out, 1, properties));
    }
    if let Some(example) = value.get("example") {
        out.message(30, |out| any(out, example));
    }
    extensions(out, 31, value);
}
