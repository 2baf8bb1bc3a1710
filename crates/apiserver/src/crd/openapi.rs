//! Custom resources in the OpenAPI documents: their schemas as definitions beside the built-in ones.
//!
//! The paths come from the same generator as those of built-in kinds; only the schema is the definition's own.

use crate::discovery::Descriptions;
use crate::registry::{Registry, Served};
use serde_json::{Value, json};
use std::sync::Arc;

/// `com.example.stable.v1.CronTab`, upstream's name of a custom definition.
pub fn definition_name(group: &str, version: &str, kind: &str) -> String {
    let mut parts: Vec<&str> = group.split('.').collect();
    parts.reverse();
    format!("{}.{version}.{kind}", parts.join("."))
}

fn customs(registry: &Registry) -> impl Iterator<Item = &Arc<Served>> {
    registry.all().iter().filter(|s| s.custom.is_some())
}

/// What tells clients by which fields they may select.
const SELECTABLE: &str = "x-kubernetes-selectable-fields";

fn selectable(served: &Served) -> Option<Value> {
    let fields = served.custom.as_ref()?.selectable();
    let each = fields.iter().map(|field| json!({"fieldPath": field}));
    (!fields.is_empty()).then(|| each.collect())
}

fn definition(served: &Served, metadata_ref: &str) -> Value {
    let mut schema = served
        .custom
        .as_ref()
        .map(|c| c.schema().clone())
        .unwrap_or_else(|| json!({}));
    if !schema.is_object() {
        schema = json!({});
    }
    schema["type"] = json!("object");
    schema["properties"]["apiVersion"] = json!({"type": "string"});
    schema["properties"]["kind"] = json!({"type": "string"});
    schema["properties"]["metadata"] = json!({"$ref": metadata_ref});
    schema["x-kubernetes-group-version-kind"] = json!([{
        "group": served.kind.group, "version": served.kind.version, "kind": served.kind.kind,
    }]);
    if let Some(fields) = selectable(served) {
        schema[SELECTABLE] = fields;
    }
    schema
}

/// Adds definitions to the v2 document. What v2 cannot say (`nullable`, `anyOf`, …) is left out, as upstream does: of a kind
/// that keeps unknown fields everything but that it is an object, since kubectl would refuse what is not named.
pub fn add_to_v2(registry: &Registry, document: &mut Value, descriptions: &Descriptions) {
    for served in customs(registry) {
        let mut schema = definition(
            served,
            "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
        );
        let custom = served.custom.as_ref();
        if custom.is_some_and(|c| c.schema()["x-kubernetes-preserve-unknown-fields"] == true) {
            let group_kind = schema["x-kubernetes-group-version-kind"].take();
            document["definitions"][served.kind.schema] =
                json!({"type": "object", "x-kubernetes-group-version-kind": group_kind});
            if let Some(fields) = selectable(served) {
                document["definitions"][served.kind.schema][SELECTABLE] = fields;
            }
            continue;
        }
        strip_for_v2(&mut schema);
        descriptions.add_to_custom(&mut schema, false);
        document["definitions"][served.kind.schema] = schema;
    }
}

fn strip_for_v2(schema: &mut Value) {
    match schema {
        Value::Object(fields) => {
            for name in [
                "nullable",
                "anyOf",
                "allOf",
                "oneOf",
                "not",
                "x-kubernetes-validations",
            ] {
                // A property may bear such a name; a keyword is no object of schemas with a type.
                if fields
                    .get(name)
                    .is_some_and(|v| v.is_boolean() || v.is_array() || name == "not")
                {
                    fields.remove(name);
                }
            }
            fields.values_mut().for_each(strip_for_v2);
        }
        Value::Array(items) => items.iter_mut().for_each(strip_for_v2),
        _ => {}
    }
}

/// The addresses of documents with custom resources: their hashes count the schemas in.
pub fn add_to_index(registry: &Registry, document: &mut Value) {
    let mut done: Vec<String> = Vec::new();
    for served in customs(registry) {
        let group_version = served.api_version();
        if done.contains(&group_version) {
            continue;
        }
        let mut whole = machinery::openapi::v3_group_version(&registry.kinds(), &group_version);
        add_to_v3(registry, &group_version, &mut whole, None);
        let hash = crate::discovery::hash(whole.to_string().as_bytes());
        let path = format!("apis/{group_version}");
        document["paths"][&path] =
            json!({"serverRelativeURL": format!("/openapi/v3/{path}?hash={}", &hash[..32])});
        done.push(group_version);
    }
}

/// Adds schemas to the v3 document of a group and version.
pub fn add_to_v3(
    registry: &Registry,
    group_version: &str,
    document: &mut Value,
    descriptions: Option<&Descriptions>,
) {
    for served in customs(registry).filter(|s| s.api_version() == group_version) {
        let mut schema = definition(
            served,
            "#/components/schemas/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta",
        );
        if let Some(descriptions) = descriptions {
            descriptions.add_to_custom(&mut schema, true);
        }
        document["components"]["schemas"][served.kind.schema] = schema;
    }
}
