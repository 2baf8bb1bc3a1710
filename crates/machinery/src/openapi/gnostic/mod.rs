//! OpenAPI documents in gnostic's protobuf forms: that of v2, which kubectl asks for, and that of v3.
//!
//! Both write extensions and other untyped values as YAML text; JSON is YAML.

mod v2;
mod v3;

pub use v2::v2_protobuf;
pub use v3::v3_protobuf;

use serde_json::{Map, Value};

use crate::protobuf::Writer;

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flat_map(Map::iter)
}

fn texts(out: &mut Writer, tag: u32, value: &Value) {
    for item in value.as_array().into_iter().flatten() {
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
    out.text(2, &yaml(value));
}

/// A value as upstream writes it here: a line for each field and item. What stands deeper is rare and stays JSON, which is
/// YAML too.
fn yaml(value: &Value) -> String {
    let fields = |value: &Value, first: &str| {
        let mut lead = first;
        let mut text = String::new();
        for (name, value) in entries(value) {
            let name = scalar(&name.as_str().into());
            text += &format!("{lead}{name}: {}\n", scalar(value));
            lead = if first.is_empty() { "" } else { "  " };
        }
        text
    };
    match value {
        Value::Object(map) if !map.is_empty() => fields(value, ""),
        Value::Array(items) if !items.is_empty() => items
            .iter()
            .map(|item| match item {
                Value::Object(map) if !map.is_empty() => fields(item, "- "),
                item => format!("- {}\n", scalar(item)),
            })
            .collect(),
        value => scalar(value) + "\n",
    }
}

/// Text goes without quotes where nothing else could be read from it.
fn scalar(value: &Value) -> String {
    const WORDS: [&str; 9] = ["true", "false", "null", "yes", "no", "on", "off", "y", "n"];
    match value {
        Value::String(text)
            if text.starts_with(|c: char| c.is_ascii_alphabetic())
                && text
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || "._-/".contains(c))
                && !WORDS.contains(&text.to_ascii_lowercase().as_str()) =>
        {
            text.clone()
        }
        value => value.to_string(),
    }
}

fn extensions(out: &mut Writer, tag: u32, value: &Value) {
    for (name, value) in entries(value).filter(|(name, _)| name.starts_with("x-")) {
        named(out, tag, name, |out| any(out, value));
    }
}

#[cfg(test)]
mod tests {
    use super::yaml;
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
            (json!({"a: b": {"b": ["c"]}}), "\"a: b\": {\"b\":[\"c\"]}\n"),
            (json!([]), "[]\n"),
        ] {
            assert_eq!(yaml(&value), text);
        }
    }
}
