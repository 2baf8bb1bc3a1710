//! The field set of a new object. Whoever makes an object owns all of it but what an object of its kind has from the first
//! moment on (zeros that Go's encoder writes): `fieldsV1` is written at once, as the comparison with that would give it.

use super::walk::{Shape, Walker, field_element, is_leaf};
use serde_json::{Map, Value};

impl Walker<'_> {
    /// `fieldsV1` of a new object, without the fields at the top and in the metadata that nobody owns.
    pub(crate) fn created(&self, object: &Value, unowned: impl Fn(&[&str]) -> bool) -> Value {
        let blank = self.blank();
        let mut out = Map::new();
        for (name, value) in object.as_object().into_iter().flatten() {
            let base = blank.get(name);
            if unowned(&[name]) || base == Some(value) {
                continue;
            }
            let element = field_element(name);
            let shape = self.field(self.root(), name).0;
            let mut fields = self.fields_of(shape, value, base);
            if name == "metadata"
                && let Some(below) = fields.as_object_mut()
            {
                let owned = |element: &str| {
                    let field = element.strip_prefix("f:");
                    field.is_some_and(|field| !unowned(&[name, field]))
                };
                below.retain(|element, _| owned(element));
                if below.is_empty() {
                    continue;
                }
            }
            out.insert(element, fields);
        }
        Value::Object(out)
    }

    /// What is written at an element whose value is not that of a blank object, `base`.
    fn fields_of(&self, shape: Shape, value: &Value, base: Option<&Value>) -> Value {
        if is_leaf(shape, value) {
            return nothing();
        }
        // In the order of their names, of which a map is made faster than entry by entry.
        let mut out = Vec::new();
        if base.is_none() {
            out.push((".".to_owned(), nothing()));
        }
        match (shape, value) {
            (Shape::Keyed(list), Value::Array(items)) => {
                let shape = self.shape(Some(&list.items), false);
                let mut elements: Vec<_> = self.elements(list, items).collect();
                elements.sort_by(|(a, _), (b, _)| a.cmp(b));
                out.extend(elements.chunk_by_mut(|(a, _), (b, _)| a == b).map(|alike| {
                    let fields = match alike {
                        [(_, item)] => self.fields_of(shape, item, None),
                        // Items that share a key are owned together, as a whole.
                        _ => nothing(),
                    };
                    (std::mem::take(&mut alike[0].0), fields)
                }));
            }
            (Shape::Set, Value::Array(items)) => {
                out.extend(items.iter().map(|item| (format!("v:{item}"), nothing())));
            }
            (_, Value::Object(fields)) => {
                for (name, value) in fields {
                    let base = base.and_then(|base| base.get(name));
                    if base != Some(value) {
                        let below = self.fields_of(self.field(shape, name).0, value, base);
                        out.push((field_element(name), below));
                    }
                }
            }
            _ => {}
        }
        Value::Object(out.into_iter().collect())
    }
}

/// What stands at an element that has none below it.
fn nothing() -> Value {
    Value::Object(Map::new())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fields::Typed;
    use serde_json::json;

    #[test]
    fn a_new_object_has_what_a_comparison_with_nothing_finds() {
        let objects = [
            json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "labels": {"a": "b"}, "finalizers": ["x", "y"],
                "ownerReferences": [{"uid": "1", "name": "o"}]},
                "spec": {"containers": [{"name": "c", "ports": [{"containerPort": 80, "protocol": "TCP"}, {"containerPort": 80, "protocol": "UDP"}],
                    "env": [{"name": "A", "value": "1"}, {"name": "A", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
                    "resources": {"limits": {"cpu": "1"}}, "securityContext": {}}],
                    "volumes": [{"name": "v", "emptyDir": {}}], "tolerations": [{"key": "k"}], "nodeSelector": {}}}),
            json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"},
                "spec": {"ports": [{"port": 80}], "selector": {"app": "x"}}, "status": {"loadBalancer": {}}}),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"},
                "spec": {"strategy": {}, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": []}}}}),
        ];
        for object in objects {
            let text = |field: &str| object[field].as_str().unwrap_or_default();
            let (group, version) = text("apiVersion")
                .split_once('/')
                .unwrap_or(("", text("apiVersion")));
            let kind = kinds::find_kind(group, version, text("kind")).expect("a kind");
            let walker = Walker::new(Typed::from(kind));
            let comparison = walker.compare(&walker.blank(), &object);
            let mut compared = comparison.added.union(&comparison.modified);
            compared.cut_itself("f:metadata");
            let nobodys = |path: &[&str]| path == ["metadata", "name"];
            compared.cut(&["f:metadata", "f:name"]);
            assert_eq!(walker.created(&object, nobodys), compared.encode());
        }
    }
}
