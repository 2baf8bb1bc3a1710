//! The field set of a new object. Whoever makes an object owns all of it: nothing is compared, and `fieldsV1` is written at
//! once, as the comparison with nothing would give it.

use super::walk::{Shape, Walker, field_element, is_leaf, key};
use serde_json::{Map, Value};

impl Walker<'_> {
    /// `fieldsV1` of a new object, without the fields at the top and in the metadata that nobody owns.
    pub(crate) fn created(&self, object: &Value, unowned: impl Fn(&[&str]) -> bool) -> Value {
        let mut out = Map::new();
        for (name, value) in object.as_object().into_iter().flatten() {
            if unowned(&[name]) {
                continue;
            }
            let element = field_element(name);
            let shape = self.field(self.root(), name).0;
            if name != "metadata" {
                let fields = self.fields_of(&element, shape, value);
                out.insert(element, fields);
                continue;
            }
            let mut fields = self.fields_of(&element, shape, value);
            let Some(below) = fields.as_object_mut() else {
                continue;
            };
            below.retain(|element, _| {
                element
                    .strip_prefix("f:")
                    .is_none_or(|field| !unowned(&[name, field]))
            });
            if !below.is_empty() {
                out.insert(element, fields);
            }
        }
        Value::Object(out)
    }

    /// What is written at an element.
    fn fields_of(&self, element: &str, shape: Shape, value: &Value) -> Value {
        let mut out = Map::new();
        if is_leaf(shape, value) {
            return Value::Object(out);
        }
        if !self.is_always_there(element, shape) {
            out.insert(".".to_owned(), Value::Object(Map::new()));
        }
        match (shape, value) {
            (Shape::Keyed(list), Value::Array(items)) => {
                let shape = self.shape(Some(&list.items), false);
                for item in items {
                    let element = key(list, item);
                    let fields = self.fields_of(&element, shape, item);
                    match out.get_mut(&element) {
                        Some(same) => unite(same, fields),
                        None => drop(out.insert(element, fields)),
                    }
                }
            }
            (Shape::Set, Value::Array(items)) => {
                let members = items
                    .iter()
                    .map(|item| (format!("v:{item}"), Value::Object(Map::new())));
                out.extend(members);
            }
            (_, Value::Object(fields)) => {
                out.extend(fields.iter().map(|(name, value)| {
                    let element = field_element(name);
                    let below = self.fields_of(&element, self.field(shape, name).0, value);
                    (element, below)
                }));
            }
            _ => {}
        }
        Value::Object(out)
    }
}

/// Items of one key own together what each owns.
fn unite(one: &mut Value, other: Value) {
    let (Value::Object(one), Value::Object(other)) = (one, other) else {
        return;
    };
    for (element, below) in other {
        match one.get_mut(&element) {
            Some(same) => unite(same, below),
            None => drop(one.insert(element, below)),
        }
    }
}
