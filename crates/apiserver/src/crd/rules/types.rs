//! From a structural schema to the types that rules are checked against.

use cel::{Field, ListKind, ObjectType, Type, escape};
use serde_json::Value;
use std::sync::Arc;

/// The type of values of a schema; `None` when rules cannot see them. `resource`: the schema is that of a whole
/// resource, whose `apiVersion`, `kind` and (of `metadata`) names are visible although it need not declare them.
pub fn schema_type(schema: &Value, resource: bool) -> Option<Type> {
    named(schema, resource, "selfType")
}

/// Objects are told apart by where they are, which their names say.
fn named(schema: &Value, resource: bool, name: &str) -> Option<Type> {
    if schema["x-kubernetes-int-or-string"] == true {
        return Some(Type::Dyn);
    }
    let format = schema.get("format").and_then(Value::as_str).unwrap_or("");
    Some(match schema.get("type").and_then(Value::as_str)? {
        "boolean" => Type::Bool,
        "integer" => Type::Int,
        "number" => Type::Double,
        "string" => match format {
            "byte" => Type::Bytes,
            "duration" => Type::Duration,
            "date" | "date-time" => Type::Timestamp,
            _ => Type::String,
        },
        "array" => {
            let items = named(
                &schema["items"],
                schema["items"]["x-kubernetes-embedded-resource"] == true,
                &format!("{name}.@idx"),
            )?;
            Type::List(Arc::new(items), list_kind(schema))
        }
        "object" => return object_type(schema, resource, name),
        _ => return None,
    })
}

fn list_kind(schema: &Value) -> ListKind {
    match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListKind::Set,
        Some("map") => {
            let keys = schema["x-kubernetes-list-map-keys"]
                .as_array()
                .into_iter()
                .flatten();
            ListKind::Map(keys.filter_map(|k| k.as_str().map(String::from)).collect())
        }
        _ => ListKind::Atomic,
    }
}

fn object_type(schema: &Value, resource: bool, own: &str) -> Option<Type> {
    if let Some(values) = schema.get("additionalProperties").filter(|a| a.is_object()) {
        return Some(Type::map(named(values, false, &format!("{own}.@elem"))?));
    }
    let mut object = ObjectType {
        name: own.into(),
        ..ObjectType::default()
    };
    let mut put = |name: &str, ty: Type| {
        if let Some(escaped) = escape(name) {
            let json = name.to_string();
            object.fields.insert(escaped, Field { json, ty });
        }
    };
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let embedded = property["x-kubernetes-embedded-resource"] == true;
        // A field is called as expressions call it.
        let called = escape(name).unwrap_or_else(|| name.clone());
        if let Some(ty) = named(property, embedded, &format!("{own}.{called}")) {
            put(name, ty);
        }
    }
    if resource {
        put("apiVersion", Type::String);
        put("kind", Type::String);
        let mut metadata = ObjectType {
            name: format!("{own}.metadata"),
            ..ObjectType::default()
        };
        for name in ["name", "generateName"] {
            let (json, ty) = (name.to_string(), Type::String);
            metadata.fields.insert(name.into(), Field { json, ty });
        }
        put("metadata", Type::Object(Arc::new(metadata)));
    }
    Some(Type::Object(Arc::new(object)))
}
