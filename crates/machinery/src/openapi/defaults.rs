//! What a field is when it is not given, as v3 documents tell it.
//!
//! Upstream's generator gives every field that Go's encoder always writes its zero value, so that most of them follow from
//! the schema table. The others come from marks in the types of `k8s.io/api`. v2 documents have none: old clients read
//! them as rules.

use kinds::schema::{Definition, Zero, builtin};
use serde_json::{Map, Value, json};

/// Defaults that are no zero values: definition (without `io.k8s.api.`), field, value as JSON.
const MARKED: &[(&str, &str, &str)] = &[
    ("autoscaling.v1.ScaleSpec", "replicas", "0"),
    ("core.v1.AzureDiskVolumeSource", "cachingMode", "\"ReadWrite\""),
    ("core.v1.AzureDiskVolumeSource", "fsType", "\"ext4\""),
    ("core.v1.AzureDiskVolumeSource", "kind", "\"Shared\""),
    ("core.v1.AzureDiskVolumeSource", "readOnly", "false"),
    ("core.v1.ConfigMapEnvSource", "name", "\"\""),
    ("core.v1.ConfigMapKeySelector", "name", "\"\""),
    ("core.v1.ConfigMapProjection", "name", "\"\""),
    ("core.v1.ConfigMapVolumeSource", "name", "\"\""),
    ("core.v1.ContainerPort", "protocol", "\"TCP\""),
    ("core.v1.FileKeySelector", "optional", "false"),
    ("core.v1.GRPCAction", "service", "\"\""),
    (
        "core.v1.ISCSIPersistentVolumeSource",
        "iscsiInterface",
        "\"default\"",
    ),
    ("core.v1.ISCSIVolumeSource", "iscsiInterface", "\"default\""),
    ("core.v1.LocalObjectReference", "name", "\"\""),
    (
        "core.v1.RBDPersistentVolumeSource",
        "keyring",
        "\"/etc/ceph/keyring\"",
    ),
    ("core.v1.RBDPersistentVolumeSource", "pool", "\"rbd\""),
    ("core.v1.RBDPersistentVolumeSource", "user", "\"admin\""),
    ("core.v1.RBDVolumeSource", "keyring", "\"/etc/ceph/keyring\""),
    ("core.v1.RBDVolumeSource", "pool", "\"rbd\""),
    ("core.v1.RBDVolumeSource", "user", "\"admin\""),
    ("core.v1.ReplicationControllerSpec", "minReadySeconds", "0"),
    ("core.v1.ReplicationControllerSpec", "replicas", "1"),
    ("core.v1.ScaleIOPersistentVolumeSource", "fsType", "\"xfs\""),
    (
        "core.v1.ScaleIOPersistentVolumeSource",
        "storageMode",
        "\"ThinProvisioned\"",
    ),
    ("core.v1.ScaleIOVolumeSource", "fsType", "\"xfs\""),
    (
        "core.v1.ScaleIOVolumeSource",
        "storageMode",
        "\"ThinProvisioned\"",
    ),
    ("core.v1.SecretEnvSource", "name", "\"\""),
    ("core.v1.SecretKeySelector", "name", "\"\""),
    ("core.v1.SecretProjection", "name", "\"\""),
    ("core.v1.ServicePort", "protocol", "\"TCP\""),
    ("resource.v1.DeviceToleration", "operator", "\"Equal\""),
];
/// The version document is made of texts alone, which are always written.
const VERSION: &str = "io.k8s.apimachinery.pkg.version.Info";

/// Adds its default to each field of a definition that has one.
pub(super) fn add(name: &str, definition: &mut Value) {
    let known = builtin().definition(name);
    let required = definition["required"].clone();
    let short = name.strip_prefix("io.k8s.api.").unwrap_or(name);
    let properties = definition.get_mut("properties").and_then(Value::as_object_mut);
    for (field, schema) in properties.into_iter().flatten() {
        let is_text_of_version = name == VERSION && is_in(&required, field);
        let default = match MARKED
            .iter()
            .find(|(of, marked, _)| *of == short && marked == field)
        {
            // The table is part of the program; a test reads it.
            Some((_, _, value)) => serde_json::from_str(value).ok(),
            None if is_text_of_version => Some(json!("")),
            None => known.and_then(|known| of_zero(known, field, schema)),
        };
        if let (Some(default), Some(schema)) = (default, schema.as_object_mut()) {
            set(schema, default);
        }
    }
}

fn is_in(list: &Value, name: &str) -> bool {
    list.as_array()
        .is_some_and(|list| list.iter().any(|one| one == name))
}

/// The value that is written of a field without one.
fn of_zero(definition: &Definition, field: &str, schema: &Value) -> Option<Value> {
    match definition.fields.get(field)?.zero {
        Zero::Empty => Some(json!("")),
        Zero::Number if schema["type"].is_string() => Some(json!(0)),
        Zero::False => Some(json!(false)),
        Zero::Struct => Some(json!({})),
        _ => None,
    }
}

/// A reference may have siblings only beside `allOf`.
fn set(schema: &mut Map<String, Value>, default: Value) {
    if let Some(reference) = schema.remove("$ref") {
        schema.insert("allOf".to_owned(), json!([{"$ref": reference}]));
    }
    schema.insert("default".to_owned(), default);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_mark_is_about_a_field() {
        for (definition, field, value) in MARKED {
            let known = builtin().definition(&format!("io.k8s.api.{definition}"));
            assert!(
                known.is_some_and(|d| d.fields.contains_key(field)),
                "{definition} {field}"
            );
            assert!(
                serde_json::from_str::<Value>(value).is_ok(),
                "{definition} {field}"
            );
        }
    }
}
