//! OpenAPI documents in gnostic's protobuf forms: that of v2, which kubectl asks for, and that of v3.
//!
//! Both write extensions and other untyped values as YAML text; JSON is YAML.

mod v2;
mod v3;

pub use v2::v2_protobuf;
pub use v3::v3_protobuf;

use serde_json::{Map, Value};

use crate::protobuf::Writer;
use crate::yaml::write_wide;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn texts(out: &mut Writer, tag: u32, value: &Value) {
    for item in list(value) {
        // An empty element of a repeated field counts.
        out.bytes(tag, item.as_str().unwrap_or_default().as_bytes());
    }
}

/// `NamedX { name = 1; value = 2 }`.
fn named(out: &mut Writer, tag: u32, name: &str, value: impl FnOnce(&mut Writer)) {
    out.message(tag, |pair| {
        pair.text(1, name);
        pair.message(2, value);
    });
}

/// `Any { yaml = 2 }`.
fn any(out: &mut Writer, value: &Value) {
    out.text(2, &write_wide(value));
}

fn extensions(out: &mut Writer, tag: u32, value: &Value) {
    for (name, value) in entries(value).filter(|(name, _)| name.starts_with("x-")) {
        named(out, tag, name, |out| any(out, value));
    }
}

/// Whom the whole document wants its clients to be.
fn security(out: &mut Writer, tag: u32, document: &Value) {
    for requirement in list(&document["security"]) {
        out.message(tag, |out| {
            for (name, scopes) in entries(requirement) {
                named(out, 1, name, |out| texts(out, 1, scopes));
            }
        });
    }
}

/// What bounds a value; both forms have the same fields in the same order, from `first` on.
fn bounds(out: &mut Writer, first: u32, value: &Value) {
    let is_set = |field: &str| value[field] == true;
    number(out, first, &value["multipleOf"]);
    number(out, first + 1, &value["maximum"]);
    out.flag(first + 2, is_set("exclusiveMaximum"));
    number(out, first + 3, &value["minimum"]);
    out.flag(first + 4, is_set("exclusiveMinimum"));
    count(out, first + 5, &value["maxLength"]);
    count(out, first + 6, &value["minLength"]);
    out.text(first + 7, text(value, "pattern"));
    count(out, first + 8, &value["maxItems"]);
    count(out, first + 9, &value["minItems"]);
    out.flag(first + 10, is_set("uniqueItems"));
    count(out, first + 11, &value["maxProperties"]);
    count(out, first + 12, &value["minProperties"]);
}

fn number(out: &mut Writer, tag: u32, value: &Value) {
    if let Some(number) = value.as_f64().filter(|number| *number != 0.0) {
        out.double(tag, number);
    }
}

fn count(out: &mut Writer, tag: u32, value: &Value) {
    if let Some(count) = value.as_u64().filter(|count| *count != 0) {
        out.varint(tag, count);
    }
}

#[cfg(test)]
mod tests {
    use super::write_wide;
    use serde_json::json;

    #[test]
    fn extensions_are_written_by_lines() {
        for (value, text) in [
            (json!("atomic"), "atomic\n"),
            (json!("no"), "\"no\"\n"),
            (json!(true), "true\n"),
            (json!(["a", "b"]), "- a\n- b\n"),
            (
                json!({"group": "", "kind": "ConfigMap"}),
                "group: \"\"\nkind: ConfigMap\n",
            ),
            (
                json!([{"fieldPath": "spec.a"}, {"group": "", "version": "v1"}]),
                "- fieldPath: spec.a\n- group: \"\"\n  version: v1\n",
            ),
            (json!("*"), "'*'\n"),
            (json!("cert sign"), "cert sign\n"),
            (
                json!([{"discriminator": "type", "fields-to-discriminateBy": {"user": "User"}}]),
                "- discriminator: type\n  fields-to-discriminateBy:\n    user: User\n",
            ),
            (
                json!([{"rule": "self.all(x, x.startsWith('a very long text')) || size(self) == 0 || self == oldSelf"}]),
                "- rule: self.all(x, x.startsWith('a very long text')) || size(self) == 0 || self == oldSelf\n",
            ),
            (json!([]), "[]\n"),
        ] {
            assert_eq!(write_wide(&value), text);
        }
    }
}
