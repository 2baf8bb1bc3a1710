//! Fields of definitions that Go decodes by decoders of their own: a schema or something else. Those see the schema below
//! alone, tell nothing of unknown fields, and of a value of a wrong type only its place below them.
//! Source: `apiextensions-apiserver/pkg/apis/apiextensions/v1/marshal.go`.

use super::check::{At, Checker, Mismatch, Place, mismatch, type_of};
use kinds::schema::Type;
use serde_json::{Value, json};

/// The definition of a schema.
pub(crate) const PROPS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
const GROUP: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.";

/// The schemas in such a field of a schema.
pub(crate) fn below<'v>(field: &str, value: &'v mut Value) -> Vec<&'v mut Value> {
    match (Own::of(PROPS, field), value) {
        (Some(Own::Items), Value::Array(items)) => items.iter_mut().collect(),
        (Some(Own::Items | Own::More), value) => vec![value],
        (Some(Own::Dependencies), Value::Object(all)) => all.values_mut().collect(),
        _ => Vec::new(),
    }
}

/// What such a field holds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Own {
    /// A schema, or a list of some.
    Items,
    /// A schema, or whether anything goes.
    More,
    /// For each name a schema, or a list of names.
    Dependencies,
    /// An object without fields, decoded as any other.
    Nothing,
}

impl Own {
    /// What a field of the definition called `owner` holds, if it is one of these.
    pub(super) fn of(owner: &str, field: &str) -> Option<Own> {
        match (owner.strip_prefix(GROUP)?, field) {
            ("JSONSchemaProps", "items") => Some(Own::Items),
            ("JSONSchemaProps", "additionalProperties" | "additionalItems") => Some(Own::More),
            ("JSONSchemaProps", "dependencies") => Some(Own::Dependencies),
            ("CustomResourceSubresources", "status") => Some(Own::Nothing),
            _ => None,
        }
    }
}

/// Whether null in a field is as good as nothing, although the field may hold anything.
pub(super) fn drops_null(owner: &str, field: &str) -> bool {
    Own::of(owner, field).is_some() || (owner == PROPS && matches!(field, "default" | "example"))
}

/// How many of these decoders are called by one another on the way to a place, and how many names of fields lie below the
/// first; none where none is.
pub(super) fn apart(at: &Place) -> Option<(usize, usize)> {
    let (mut depth, mut names, mut below) = (0, 0, 0);
    let mut here = Some(at);
    while let Some(place) = here {
        if let At::Field(owner, name) = place.step {
            if Own::of(owner, name).is_some_and(|own| own != Own::Nothing) {
                (depth, names) = (depth + 1, below);
            }
            below += 1;
        }
        here = place.above;
    }
    (depth > 0).then_some((depth, names))
}

impl Checker<'_> {
    /// Checks the value of such a field. False: nothing is left of it.
    pub(super) fn decoded_apart(
        &mut self,
        owner: &str,
        own: Own,
        ty: &Type,
        value: &mut Value,
        at: &Place,
    ) -> bool {
        match (own, &mut *value) {
            (Own::Items | Own::More, Value::Object(_)) => self.schema(owner, value, at),
            (Own::Items, Value::Array(items)) => {
                for (index, item) in items.iter_mut().enumerate() {
                    let place = Place {
                        above: Some(at),
                        step: At::Index(index),
                    };
                    if item.is_null() {
                        *item = json!({});
                    }
                    self.schema(owner, item, &place);
                }
            }
            (Own::Items, _) => return false,
            (Own::More, Value::Bool(_)) => {}
            (Own::More, _) => {
                let why = Mismatch::from("boolean or JSON schema expected".to_owned());
                self.refuse(why, true, at);
            }
            (Own::Dependencies, Value::Object(all)) => {
                for (name, one) in all.iter_mut() {
                    let place = Place {
                        above: Some(at),
                        step: At::Entry(name),
                    };
                    match one {
                        Value::Object(_) => self.schema(owner, one, &place),
                        Value::Array(names) => self.names(owner, names, &place),
                        _ => *one = Value::Null,
                    }
                }
            }
            (Own::Nothing, Value::Object(fields)) => {
                for name in fields.keys() {
                    let place = Place {
                        above: Some(at),
                        step: At::Field(owner, name),
                    };
                    self.fault("unknown", &place);
                }
                fields.clear();
            }
            (Own::Dependencies, _) => self.value(owner, ty, value, at),
            (Own::Nothing, value) => {
                let ty = self
                    .table
                    .reference(&format!("{GROUP}CustomResourceSubresourceStatus"));
                self.refuse(mismatch(owner, &ty, type_of(value), at), false, at);
            }
        }
        true
    }

    fn schema(&mut self, owner: &str, value: &mut Value, at: &Place) {
        let ty = self.table.reference(owner);
        self.apart += 1;
        self.value(owner, &ty, value, at);
        self.apart -= 1;
    }

    fn names(&mut self, owner: &str, names: &[Value], at: &Place) {
        for (index, name) in names.iter().enumerate().filter(|(_, name)| !name.is_string()) {
            let place = Place {
                above: Some(at),
                step: At::Index(index),
            };
            let why = mismatch(owner, &Type::String(String::new()), type_of(name), &place);
            self.refuse(why, false, &place);
        }
    }
}
