//! Lists of what is served, and who serves it, in the order of fields in which upstream prints them. Objects here have
//! their fields by name.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::Value;

/// Fields in their order, whatever they are fields of. `kind` and `apiVersion` of a list come before all.
const ORDER: [&str; 40] = [
    "metadata",
    "items",
    "name",
    "singularName",
    "namespaced",
    "groupVersion",
    "group",
    "version",
    "kind",
    "subresource",
    "resource",
    "responseKind",
    "acceptedTypes",
    "scope",
    "singularResource",
    "verbs",
    "shortNames",
    "categories",
    "storageVersionHash",
    "subresources",
    "groups",
    "resources",
    "freshness",
    "versions",
    "preferredVersion",
    "clientCIDR",
    "serverAddress",
    "major",
    "minor",
    "emulationMajor",
    "emulationMinor",
    "minCompatibilityMajor",
    "minCompatibilityMinor",
    "gitVersion",
    "gitCommit",
    "gitTreeState",
    "buildDate",
    "goVersion",
    "compiler",
    "platform",
];

/// A value that is written in that order.
pub struct Ordered<'v>(pub &'v Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                // The kind of a resource is a field among others.
                let is_list = !fields.contains_key("namespaced") && !fields.contains_key("group");
                let rank = |name: &str| match name {
                    "kind" if is_list => 0,
                    "apiVersion" => 1,
                    _ => 2 + ORDER.iter().position(|n| *n == name).unwrap_or(ORDER.len()),
                };
                let mut sorted: Vec<_> = fields.iter().collect();
                sorted.sort_by_key(|(name, _)| rank(name));
                let mut map = serializer.serialize_map(Some(sorted.len()))?;
                for (name, value) in sorted {
                    map.serialize_entry(name, &Ordered(value))?;
                }
                map.end()
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Ordered)),
            other => other.serialize(serializer),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn fields_stand_as_upstream_prints_them() {
        let resource = json!({"categories": ["all"], "kind": "Scale", "group": "autoscaling", "name": "rs/scale", "namespaced": true,
            "shortNames": [], "singularName": "", "storageVersionHash": "x", "verbs": ["get"], "version": "v1"});
        for (value, text) in [
            (
                json!({"apiVersion": "v1", "groupVersion": "apps/v1", "kind": "APIResourceList", "resources": [resource]}),
                "{\"kind\":\"APIResourceList\",\"apiVersion\":\"v1\",\"groupVersion\":\"apps/v1\",\"resources\":[{\"name\":\"rs/scale\",\
                 \"singularName\":\"\",\"namespaced\":true,\"group\":\"autoscaling\",\"version\":\"v1\",\"kind\":\"Scale\",\
                 \"verbs\":[\"get\"],\"shortNames\":[],\"categories\":[\"all\"],\"storageVersionHash\":\"x\"}]}",
            ),
            (
                json!({"responseKind": {"group": "", "kind": "Pod", "version": ""}, "resource": "pods"}),
                "{\"resource\":\"pods\",\"responseKind\":{\"group\":\"\",\"version\":\"\",\"kind\":\"Pod\"}}",
            ),
            (
                json!({"kind": "APIGroup", "name": "apps", "preferredVersion": {"version": "v1", "groupVersion": "apps/v1"},
                    "versions": [], "apiVersion": "v1"}),
                "{\"kind\":\"APIGroup\",\"apiVersion\":\"v1\",\"name\":\"apps\",\"versions\":[],\
                 \"preferredVersion\":{\"groupVersion\":\"apps/v1\",\"version\":\"v1\"}}",
            ),
            (
                json!({"gitVersion": "v1", "minor": "35", "major": "1", "platform": "linux/amd64", "emulationMajor": "1"}),
                "{\"major\":\"1\",\"minor\":\"35\",\"emulationMajor\":\"1\",\"gitVersion\":\"v1\",\
                 \"platform\":\"linux/amd64\"}",
            ),
        ] {
            assert_eq!(serde_json::to_string(&Ordered(&value)).unwrap(), text);
        }
    }
}
