//! Objects as the caches take them off the wire: JSON values without the parts that no reconciler reads.
//!
//! Managed fields and, of a Pod, what only its host needs (environment, commands, probes, mounts) are the better part of
//! an object's bytes; they are skipped while they are read, and never built.

use kube::Resource;
use kube::api::{ApiResource, ObjectMeta};
use serde::Deserialize;
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};
use std::borrow::Cow;
use std::fmt;

/// Fields of a container that only its host reads.
const OF_THE_HOST: [&str; 14] = [
    "args",
    "command",
    "env",
    "envFrom",
    "imagePullPolicy",
    "lifecycle",
    "livenessProbe",
    "readinessProbe",
    "securityContext",
    "startupProbe",
    "terminationMessagePath",
    "terminationMessagePolicy",
    "volumeDevices",
    "volumeMounts",
];

/// A place in an object, from which follows what is kept below it.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// An object that is kept whole, but for what nobody reads.
    Whole,
    /// An object of which only the metadata matters.
    Bare,
    Metadata,
    BareMetadata,
    Spec,
    /// The containers of a Pod (no other built-in kind has them there).
    Containers,
    /// Everything below is kept.
    Kept,
}

impl Place {
    /// The root of an object.
    pub(super) fn root(whole: bool) -> Place {
        if whole { Place::Whole } else { Place::Bare }
    }

    /// What the field `name` is, `None` when it is left out.
    fn field(self, name: &str) -> Option<Place> {
        match (self, name) {
            (Place::Whole, "metadata") => Some(Place::Metadata),
            (Place::Whole, "spec") => Some(Place::Spec),
            (Place::Bare, "metadata") => Some(Place::BareMetadata),
            (Place::Bare, "apiVersion" | "kind") => Some(Place::Kept),
            (Place::Bare, _) => None,
            (Place::Metadata | Place::BareMetadata, "managedFields") => None,
            (Place::BareMetadata, "annotations") => None,
            (Place::Spec, "containers" | "initContainers" | "ephemeralContainers") => Some(Place::Containers),
            (Place::Containers, name) if OF_THE_HOST.contains(&name) => None,
            _ => Some(Place::Kept),
        }
    }

    /// Leaves out of a value what would not have been read.
    pub(super) fn prune(self, value: &mut Value) {
        match (self, value) {
            (Place::Kept, _) => {}
            (_, Value::Array(items)) => items.iter_mut().for_each(|item| self.prune(item)),
            (_, Value::Object(map)) => map.retain(|name, value| match self.field(name) {
                Some(place) => {
                    place.prune(value);
                    true
                }
                None => false,
            }),
            _ => {}
        }
    }
}

impl<'de> DeserializeSeed<'de> for Place {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        match self {
            Place::Kept => Value::deserialize(deserializer),
            place => deserializer.deserialize_any(place),
        }
    }
}

impl<'de> Visitor<'de> for Place {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(name) = access.next_key::<Cow<'de, str>>()? {
            match self.field(&name) {
                Some(place) => drop(map.insert(name.into_owned(), access.next_value_seed(place)?)),
                None => drop(access.next_value::<IgnoredAny>()?),
            }
        }
        Ok(Value::Object(map))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = access.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
}

/// An object of a list or a watch.
#[derive(Clone, Debug)]
pub(super) struct Raw<const WHOLE: bool> {
    /// The object, pruned.
    pub(super) value: Value,
    /// Only what the watch itself needs: the resourceVersion.
    meta: ObjectMeta,
}

impl<'de, const WHOLE: bool> Deserialize<'de> for Raw<WHOLE> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Place::root(WHOLE).deserialize(deserializer)?;
        let text = |name: &str| Some(value["metadata"][name].as_str()?.to_string());
        let meta = ObjectMeta {
            resource_version: text("resourceVersion"),
            ..ObjectMeta::default()
        };
        Ok(Raw { value, meta })
    }
}

impl<const WHOLE: bool> Resource for Raw<WHOLE> {
    type DynamicType = ApiResource;
    type Scope = kube::core::DynamicResourceScope;

    fn kind(resource: &ApiResource) -> Cow<'_, str> {
        resource.kind.as_str().into()
    }
    fn group(resource: &ApiResource) -> Cow<'_, str> {
        resource.group.as_str().into()
    }
    fn version(resource: &ApiResource) -> Cow<'_, str> {
        resource.version.as_str().into()
    }
    fn plural(resource: &ApiResource) -> Cow<'_, str> {
        resource.plural.as_str().into()
    }
    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn reading_and_pruning_leave_the_same() {
        let pod = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "resourceVersion": "7", "annotations": {"x": "y"}, "managedFields": [{"manager": "m"}]},
            "spec": {"nodeName": "n", "priority": 1.5, "containers": [{
                "name": "c", "image": "i", "env": [{"name": "A"}], "command": ["x"], "resources": {"limits": {"cpu": "1"}},
                "ports": [{"containerPort": 80}], "volumeMounts": [{"name": "v"}]}]},
            "status": {"phase": "Running", "ready": true, "none": null},
        });
        let kept = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": "a", "resourceVersion": "7", "annotations": {"x": "y"}},
            "spec": {"nodeName": "n", "priority": 1.5, "containers": [{
                "name": "c", "image": "i", "resources": {"limits": {"cpu": "1"}}, "ports": [{"containerPort": 80}]}]},
            "status": {"phase": "Running", "ready": true, "none": null},
        });
        let bare =
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "resourceVersion": "7"}});
        let read: Raw<true> = serde_json::from_str(&pod.to_string()).unwrap();
        assert_eq!(read.value, kept);
        assert_eq!(read.meta().resource_version.as_deref(), Some("7"));
        let read: Raw<false> = serde_json::from_str(&pod.to_string()).unwrap();
        assert_eq!(read.value, bare);
        for (whole, want) in [(true, kept), (false, bare)] {
            let mut pruned = pod.clone();
            Place::root(whole).prune(&mut pruned);
            assert_eq!(pruned, want);
        }
        // A template in another kind is not a Pod's spec: reconcilers make Pods of it.
        let mut set = json!({"spec": {"template": {"spec": {"containers": [{"env": []}]}}}});
        let before = set.clone();
        Place::root(true).prune(&mut set);
        assert_eq!(set, before);
    }
}
