//! Operations written as v2 and as v3.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::operations::{Answer, Body, Operation, PathItem};
use super::parameters::Parameter;

const JSON: &str = "application/json";
const YAML: &str = "application/yaml";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";
const STREAMS: [&str; 2] = [
    "application/json;stream=watch",
    "application/vnd.kubernetes.protobuf;stream=watch",
];
/// In the order of upstream.
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/strategic-merge-patch+json",
    "application/apply-patch+yaml",
];
const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";

/// `paths` of a v2 document.
pub(super) fn v2_paths(paths: &BTreeMap<String, PathItem>) -> Value {
    render(paths, v2_operation, v2_reference)
}

/// `parameters` of a v2 document: those that its paths refer to.
pub(super) fn v2_parameters(paths: &BTreeMap<String, PathItem>) -> Value {
    let mut written = Map::new();
    for item in paths.values() {
        let inside = item.operations.iter().flat_map(|o| &o.parameters);
        for parameter in item.parameters.iter().chain(inside).filter(|p| p.is_shared()) {
            let name = shared_name(parameter);
            if !written.contains_key(&name) {
                written.insert(name, v2_parameter(parameter));
            }
        }
    }
    Value::Object(written)
}

/// `paths` of a v3 document.
pub(super) fn v3_paths(paths: &BTreeMap<String, PathItem>) -> Value {
    render(paths, v3_operation, v3_parameter)
}

fn render(
    paths: &BTreeMap<String, PathItem>,
    operation: fn(&Operation) -> Value,
    parameter: fn(&Parameter) -> Value,
) -> Value {
    let mut written = Map::new();
    for (path, item) in paths {
        let mut object = Map::new();
        for one in &item.operations {
            object.insert(one.method.to_owned(), operation(one));
        }
        let shared: Vec<Value> = item.parameters.iter().map(parameter).collect();
        let mut object = Value::Object(object);
        add_parameters(&mut object, shared);
        written.insert(path.clone(), object);
    }
    Value::Object(written)
}

/// Upstream's documents have no empty list of parameters, and its own reader and writer drop one.
fn add_parameters(object: &mut Value, parameters: Vec<Value>) {
    if !parameters.is_empty() {
        object["parameters"] = Value::Array(parameters);
    }
}

fn extensions(operation: &Operation, object: &mut Value) {
    let (group, version, kind) = operation.gvk;
    object["x-kubernetes-action"] = json!(operation.action);
    object["x-kubernetes-group-version-kind"] = json!({"group": group, "version": version, "kind": kind});
}

fn media_types(operation: &Operation) -> Vec<&'static str> {
    let mut types = match operation.answer {
        Answer::Text => vec!["*/*"],
        Answer::Log => vec!["text/plain", JSON, YAML, PROTOBUF],
        Answer::Object { stream: false, .. } => vec![JSON, YAML, PROTOBUF],
        Answer::Object { stream: true, .. } => vec![JSON, YAML, PROTOBUF, STREAMS[0], STREAMS[1]],
    };
    types.retain(|media| !operation.custom || !media.starts_with(PROTOBUF));
    types
}

fn patches(operation: &Operation) -> Vec<&'static str> {
    let strategic = |media: &&str| media.contains("strategic");
    let mut types = PATCHES.to_vec();
    types.retain(|media| !operation.custom || !strategic(media));
    types
}

/// What a request may be written in, but for patches.
fn bodies(operation: &Operation) -> &'static [&'static str] {
    if operation.custom { &[JSON, YAML] } else { &["*/*"] }
}

fn code_text(code: &str) -> &'static str {
    match code {
        "201" => "Created",
        "202" => "Accepted",
        _ => "OK",
    }
}

fn v2_operation(operation: &Operation) -> Value {
    let mut parameters: Vec<Value> = Vec::new();
    let body = |definition: &str, required: bool| {
        let mut body =
            json!({"in": "body", "name": "body", "schema": {"$ref": format!("#/definitions/{definition}")}});
        if required {
            body["required"] = json!(true);
        }
        body
    };
    let consumes: Vec<&str> = match &operation.body {
        Body::Patch => patches(operation),
        _ => bodies(operation).to_vec(),
    };
    match &operation.body {
        Body::Object { definition, required } => parameters.push(body(definition, *required)),
        Body::Patch => parameters.push(body(PATCH, true)),
        Body::None => {}
    }
    parameters.extend(operation.parameters.iter().map(v2_reference));
    let schema = match &operation.answer {
        Answer::Object { definition, .. } => json!({"$ref": format!("#/definitions/{definition}")}),
        Answer::Log | Answer::Text => json!({"type": "string"}),
    };
    let mut responses = Map::new();
    for code in operation.codes {
        responses.insert(
            (*code).to_owned(),
            json!({"description": code_text(code), "schema": schema}),
        );
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    let mut object = json!({
        "consumes": consumes,
        "produces": media_types(operation),
        "schemes": ["https"],
        "tags": [operation.tag],
        "description": operation.description,
        "operationId": operation.id,
        "responses": responses,
    });
    add_parameters(&mut object, parameters);
    extensions(operation, &mut object);
    object
}

/// The name under which a document tells a parameter for all.
fn shared_name(parameter: &Parameter) -> String {
    let place = if parameter.in_path { "path" } else { "query" };
    format!("{}-{place}-{}", parameter.name, parameter.ty)
}

/// A parameter in an operation or a path.
fn v2_reference(parameter: &Parameter) -> Value {
    match parameter.is_shared() {
        true => json!({"$ref": format!("#/parameters/{}", shared_name(parameter))}),
        false => v2_parameter(parameter),
    }
}

fn v2_parameter(parameter: &Parameter) -> Value {
    let mut object = json!({
        "description": parameter.words(),
        "name": parameter.name,
        "in": if parameter.in_path { "path" } else { "query" },
        "type": parameter.ty,
        "uniqueItems": true,
    });
    if parameter.in_path {
        object["required"] = json!(true);
    }
    object
}

fn v3_operation(operation: &Operation) -> Value {
    let reference =
        |definition: &str| json!({"schema": {"$ref": format!("#/components/schemas/{definition}")}});
    let schema = match &operation.answer {
        Answer::Object { definition, .. } => reference(definition),
        Answer::Log | Answer::Text => json!({"schema": {"type": "string"}}),
    };
    let content: Map<String, Value> = media_types(operation)
        .into_iter()
        .map(|media| (media.to_owned(), schema.clone()))
        .collect();
    let mut responses = Map::new();
    for code in operation.codes {
        responses.insert(
            (*code).to_owned(),
            json!({"description": code_text(code), "content": content}),
        );
    }
    responses.insert("401".to_owned(), json!({"description": "Unauthorized"}));
    let mut object = json!({
        "tags": [operation.tag],
        "description": operation.description,
        "operationId": operation.id,
        "responses": responses,
    });
    let parameters = operation.parameters.iter().map(v3_parameter).collect();
    add_parameters(&mut object, parameters);
    match &operation.body {
        Body::Object { definition, required } => {
            let content: Map<String, Value> = bodies(operation)
                .iter()
                .map(|media| ((*media).to_owned(), reference(definition)))
                .collect();
            object["requestBody"] = json!({"content": content});
            if *required {
                object["requestBody"]["required"] = json!(true);
            }
        }
        Body::Patch => {
            let content: Map<String, Value> = patches(operation)
                .into_iter()
                .map(|media| (media.to_owned(), reference(PATCH)))
                .collect();
            object["requestBody"] = json!({"content": content, "required": true});
        }
        Body::None => {}
    }
    extensions(operation, &mut object);
    object
}

fn v3_parameter(parameter: &Parameter) -> Value {
    let mut object = json!({
        "description": parameter.words(),
        "name": parameter.name,
        "in": if parameter.in_path { "path" } else { "query" },
        "schema": {"type": parameter.ty, "uniqueItems": true},
    });
    if parameter.in_path {
        object["required"] = json!(true);
    }
    object
}
