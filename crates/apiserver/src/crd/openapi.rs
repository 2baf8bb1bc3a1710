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

const PRESERVES: &str = "x-kubernetes-preserve-unknown-fields";

/// The document that a definition is for.
#[derive(Clone, Copy)]
struct For<'d> {
    /// The old one, which can say less.
    v2: bool,
    descriptions: Option<&'d Descriptions>,
}

impl For<'_> {
    fn metadata(self) -> Value {
        let parent = if self.v2 {
            "definitions"
        } else {
            "components/schemas"
        };
        json!({"$ref": format!("#/{parent}/io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta")})
    }

    /// Gives a schema what every object has.
    fn describe(self, schema: &mut Value) {
        schema["properties"]["apiVersion"] = json!({"type": "string"});
        schema["properties"]["kind"] = json!({"type": "string"});
        schema["properties"]["metadata"] = self.metadata();
        if let Some(descriptions) = self.descriptions {
            descriptions.add_to_custom(schema, !self.v2);
        }
    }

    /// Does so with resources within the object, which must have the first two (`builder.go`, `addEmbeddedProperties`).
    fn describe_resources(self, schema: &mut Value) {
        below(schema, |child| self.describe_resources(child));
        let is_open = self.v2 && schema[PRESERVES] == true;
        if is_open || schema["x-kubernetes-embedded-resource"] != true {
            return;
        }
        self.describe(schema);
        let mut required = schema["required"].as_array().cloned().unwrap_or_default();
        for field in ["kind", "apiVersion"] {
            if !required.iter().any(|name| name == field) {
                required.push(json!(field));
            }
        }
        schema["required"] = json!(required);
    }
}

/// Visits the schemas right below one.
fn below(schema: &mut Value, mut visit: impl FnMut(&mut Value)) {
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.values_mut().for_each(&mut visit);
    }
    for field in ["items", "additionalProperties"] {
        if let Some(child) = schema.get_mut(field).filter(|child| child.is_object()) {
            visit(child);
        }
    }
}

fn definition(served: &Served, of: For<'_>) -> Value {
    let custom = served.custom.as_ref();
    let mut schema = custom.map_or_else(|| json!({}), |custom| custom.schema().clone());
    if !schema.is_object() {
        schema = json!({});
    }
    match of.v2 {
        true => open(&mut schema),
        false => unfold(&mut schema),
    }
    schema["type"] = json!("object");
    of.describe(&mut schema);
    of.describe_resources(&mut schema);
    schema["x-kubernetes-group-version-kind"] = json!([{
        "group": served.kind.group, "version": served.kind.version, "kind": served.kind.kind,
    }]);
    if let Some(fields) = selectable(served) {
        schema[SELECTABLE] = fields;
    }
    schema
}

/// Says of what is a number or a text that it is (`schema/unfold.go`).
fn unfold(schema: &mut Value) {
    let either = json!([{"type": "integer"}, {"type": "string"}]);
    let said = schema["anyOf"] == either || schema["allOf"][0]["anyOf"] == either;
    if schema["x-kubernetes-int-or-string"] == true && !said {
        if schema["anyOf"].is_null() {
            schema["anyOf"] = either;
        } else {
            let mut all = schema["allOf"].as_array().cloned().unwrap_or_default();
            all.insert(0, json!({"anyOf": either}));
            schema["allOf"] = json!(all);
        }
    }
    below(schema, unfold);
}

/// Leaves out what the old document cannot say, and whatever else kubectl would hold against objects for it
/// (`controller/openapi/v2/conversion.go`).
fn open(schema: &mut Value) {
    let flag = |name: &str| schema[name] == true;
    let (nullable, preserves) = (flag("nullable"), flag(PRESERVES));
    let mut dropped = vec![
        "allOf",
        "oneOf",
        "anyOf",
        "not",
        "nullable",
        "x-kubernetes-validations",
    ];
    if nullable || preserves {
        dropped.extend(["items", "properties"]);
    }
    let kind = schema["type"].as_str().unwrap_or("");
    let is_bare = kind == "array" && (nullable || preserves || schema["items"].is_null());
    if nullable || is_bare || (preserves && kind == "object") {
        dropped.push("type");
    }
    let mut required = schema["required"].as_array().cloned().unwrap_or_default();
    let is_null = |field: &Value| {
        let property = field.as_str().and_then(|name| schema["properties"].get(name));
        property.is_some_and(|property| property["nullable"] == true)
    };
    if !nullable && !preserves {
        required.retain(|field| !is_null(field));
    }
    if schema["additionalProperties"]["nullable"] == true {
        required.clear();
    }
    if let Some(fields) = schema.as_object_mut() {
        fields.retain(|name, _| !dropped.contains(&name.as_str()));
        match required.is_empty() {
            true => drop(fields.remove("required")),
            false => drop(fields.insert("required".to_owned(), json!(required))),
        }
    }
    below(schema, open);
}

/// Adds definitions to the v2 document. Of a kind that keeps unknown fields everything is left out but that it is an object,
/// since kubectl would refuse what is not named.
pub fn add_to_v2(registry: &Registry, document: &mut Value, descriptions: &Descriptions) {
    for served in customs(registry) {
        let custom = served.custom.as_ref();
        if custom.is_some_and(|c| c.schema()[PRESERVES] == true) {
            let kind = served.kind;
            document["definitions"][kind.schema] = json!({
                "type": "object",
                "x-kubernetes-group-version-kind":
                    [{"group": kind.group, "version": kind.version, "kind": kind.kind}],
            });
            if let Some(fields) = selectable(served) {
                document["definitions"][kind.schema][SELECTABLE] = fields;
            }
            continue;
        }
        let descriptions = Some(descriptions);
        let of = For {
            v2: true,
            descriptions,
        };
        document["definitions"][served.kind.schema] = definition(served, of);
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
        let of = For {
            v2: false,
            descriptions,
        };
        document["components"]["schemas"][served.kind.schema] = definition(served, of);
    }
}
