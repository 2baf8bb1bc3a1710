//! What kinds and fields mean, for `kubectl explain`: the descriptions of upstream, packed by the build script.
//!
//! They are unpacked while a document is made and dropped with it, so that an idle server does not carry them.

use flate2::read::ZlibDecoder;
use serde_json::{Map, Value, json};
use std::collections::HashMap;
use std::sync::LazyLock;

static PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.z"));

/// Definition name to descriptions by field; that of the definition itself has the empty name.
pub struct Descriptions(HashMap<String, HashMap<String, String>>);

/// What a field means that a column of a table shows. Those few texts stay unpacked from the first table on.
pub fn meaning(definition: &str, field: &str) -> Option<&'static str> {
    static SHOWN: LazyLock<HashMap<(&str, &str), String>> = LazyLock::new(|| {
        let Descriptions(mut all) = Descriptions::read();
        machinery::tables::described_fields()
            .filter_map(|(definition, field)| {
                Some(((definition, field), all.get_mut(definition)?.get(field)?.clone()))
            })
            .collect()
    });
    SHOWN
        .iter()
        .find(|((of, name), _)| *of == definition && *name == field)
        .map(|(_, text)| text.as_str())
}

/// Tells states of the descriptions apart: documents that have them are other documents.
pub fn digest() -> String {
    super::hash(PACKED)
}

impl Descriptions {
    /// Unpacks them.
    pub fn read() -> Descriptions {
        // The file is part of the program; a test reads it.
        Descriptions(serde_json::from_reader(ZlibDecoder::new(PACKED)).unwrap_or_default())
    }

    /// Writes them into the definitions of a v2 document.
    pub fn add_to_v2(&self, document: &mut Value) {
        self.add(document.pointer_mut("/definitions"), false);
    }

    /// Writes them into the schemas of a v3 document.
    pub fn add_to_v3(&self, document: &mut Value) {
        self.add(document.pointer_mut("/components/schemas"), true);
    }

    /// `wraps`: a reference may have siblings only beside `allOf`.
    fn add(&self, definitions: Option<&mut Value>, wraps: bool) {
        for (name, definition) in definitions.and_then(Value::as_object_mut).into_iter().flatten() {
            let Some(definition) = definition.as_object_mut() else {
                continue;
            };
            let list = self.list(definition);
            if let Some(known) = self.0.get(name).or(list.as_ref()) {
                describe(definition, known, wraps);
            }
        }
    }

    /// Lists have no source of their own: all say the same.
    fn list(&self, definition: &Map<String, Value>) -> Option<HashMap<String, String>> {
        let properties = definition.get("properties")?;
        let meta = properties.get("metadata")?.to_string();
        if !meta.contains("meta.v1.ListMeta") {
            return None;
        }
        let named = &definition.get("x-kubernetes-group-version-kind")?[0];
        let text = |field: &str| named[field].as_str();
        let items = text("kind")?.trim_end_matches("List");
        let plural = match kinds::find_kind(text("group")?, text("version")?, items) {
            Some(kind) => kind.plural.to_owned(),
            None => items.to_lowercase(),
        };
        let mut texts = HashMap::from([
            (String::new(), format!("{items}List is a list of {items}.")),
            ("items".to_owned(), format!("List of {plural}.")),
            ("metadata".to_owned(), "Standard list metadata.".to_owned()),
        ]);
        let shared = self.0.get("io.k8s.api.core.v1.Pod")?;
        for field in ["apiVersion", "kind"] {
            texts.insert(field.to_owned(), shared.get(field)?.clone());
        }
        Some(texts)
    }

    /// What every object has, for a custom kind's definition.
    pub fn add_to_custom(&self, schema: &mut Value, wraps: bool) {
        let Some(shared) = self.0.get("io.k8s.api.core.v1.Pod") else {
            return;
        };
        for field in ["apiVersion", "kind", "metadata"] {
            let property = &mut schema["properties"][field];
            let described = property.get("description").is_some();
            if let (Some(text), false, Some(fields)) =
                (shared.get(field), described, property.as_object_mut())
            {
                set(fields, text, wraps);
            }
        }
    }
}

fn describe(definition: &mut Map<String, Value>, known: &HashMap<String, String>, wraps: bool) {
    if let Some(text) = known.get("") {
        definition.insert("description".to_owned(), json!(text));
    }
    let properties = definition.get_mut("properties").and_then(Value::as_object_mut);
    for (field, property) in properties.into_iter().flatten() {
        if let (Some(text), Some(property)) = (known.get(field), property.as_object_mut()) {
            set(property, text, wraps);
        }
    }
}

fn set(property: &mut Map<String, Value>, text: &str, wraps: bool) {
    if wraps && let Some(reference) = property.remove("$ref") {
        property.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    let text = format!("{text}{}", values(property));
    property.insert("description".to_owned(), json!(text));
}

/// The values that a field may have, for readers of its description; upstream says of each what it means, too.
fn values(property: &Map<String, Value>) -> String {
    let Some(values) = property.get("enum").and_then(Value::as_array) else {
        return String::new();
    };
    let lines = values.iter().map(|value| format!("\n - `{value}`"));
    format!("\n\nPossible enum values:{}", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_fields_and_lists_are_described() {
        let descriptions = Descriptions::read();
        let mut document =
            machinery::openapi::v3_group_version(&kinds::builtin().iter().collect::<Vec<_>>(), "apps/v1");
        descriptions.add_to_v3(&mut document);
        let schemas = &document["components"]["schemas"];
        let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
        assert_eq!(
            deployment["description"],
            "Deployment enables declarative updates for Pods and ReplicaSets."
        );
        let spec = &deployment["properties"]["spec"];
        assert_eq!(
            spec["description"],
            "Specification of the desired behavior of the Deployment."
        );
        assert_eq!(
            spec["allOf"][0]["$ref"],
            "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"
        );
        let undescribed: Vec<&String> = schemas
            .as_object()
            .unwrap()
            .iter()
            .filter(|(_, schema)| schema["properties"].is_object() && schema.get("description").is_none())
            .map(|(name, _)| name)
            .collect();
        assert!(undescribed.is_empty(), "{undescribed:?}");
    }
}
