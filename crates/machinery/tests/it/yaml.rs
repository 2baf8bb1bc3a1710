//! YAML both ways against what upstream's library says of the same values and texts (`yaml/*.jsonl`, one case a line): what is
//! written, what is read, and the words for what cannot be read.

#![allow(clippy::unwrap_used)]

use machinery::{Duplicate, parse_yaml_checked, yaml};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn cases(text: &str) -> impl Iterator<Item = Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap())
}

#[test]
fn values_are_written_as_upstream_writes_them() {
    for case in cases(include_str!("yaml/written.jsonl")) {
        let json = case["json"].as_str().unwrap();
        let value: Value = serde_json::from_str(json).unwrap();
        assert_eq!(yaml::write(&value), case["yaml"], "{json}");
    }
}

#[test]
fn texts_are_read_as_upstream_reads_them() {
    for case in cases(include_str!("yaml/read.jsonl")) {
        let text = match case["text"].as_str() {
            Some(text) => text.as_bytes().to_vec(),
            None => serde_json::from_value(case["bytes"].clone()).unwrap(),
        };
        let mut got = json!({});
        match parse_yaml_checked(&text) {
            Ok((value, duplicates)) => {
                got["json"] = value;
                if !duplicates.is_empty() {
                    let lines = duplicates.iter().map(|d| format!("\n  {}", Duplicate::fault(d)));
                    got["strict"] = format!("yaml: unmarshal errors:{}", lines.collect::<String>()).into();
                }
            }
            Err(status) => got["error"] = status.message.into(),
        }
        for field in ["json", "strict", "error"] {
            assert_eq!(got[field], case[field], "{:?}", String::from_utf8_lossy(&text));
        }
    }
}

/// A field is told by its own text, as is every number that is written without a fraction.
#[test]
fn what_upstream_cannot_tell_apart() {
    for (text, wanted) in [
        ("{\"a\": 1.0}", json!({"a": 1})),
        ("{\"a\": 1e3}", json!({"a": 1000})),
        ("{\"a\": \"\\u003c\"}", json!({"a": "<"})),
    ] {
        assert_eq!(parse_yaml_checked(text.as_bytes()).unwrap().0, wanted, "{text}");
    }
    for text in ["{\"a\": \"\\/\"}", "{\"a\": \"\\ud83d\\ude00\"}"] {
        assert!(parse_yaml_checked(text.as_bytes()).is_err(), "{text}");
    }
}

fn text() -> impl Strategy<Value = String> {
    let pieces = prop::sample::select(vec![
        "a",
        "word",
        " ",
        "  ",
        "\n",
        "\t",
        ":",
        "#",
        "-",
        "'",
        "\"",
        "\\",
        "é",
        "😀",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "0",
        "1.5",
        "yes",
        "~",
        "{",
        "]",
        "&",
        "*",
        "!",
        "|",
        ">",
        "%",
        "\r",
        "\u{7f}",
        "2024-01-02",
        "long word after long word ",
    ]);
    prop::collection::vec(pieces, 0..24).prop_map(|pieces| pieces.concat())
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        4 => text().prop_map(Value::from),
        1 => any::<i64>().prop_map(Value::from),
        1 => any::<u64>().prop_map(Value::from),
        1 => any::<bool>().prop_map(Value::from),
        1 => Just(Value::Null),
        1 => (-1000i32..1000).prop_map(|n| json!(f64::from(n) + 0.5)),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        // The one key that is read as more than a name.
        let key = text().prop_filter("merges", |key| key != "<<");
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
            prop::collection::vec((key, inner), 0..5)
                .prop_map(|fields| Value::from(fields.into_iter().collect::<Map<_, _>>())),
        ]
    })
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(value in value()) {
        let text = yaml::write(&value);
        let (read, duplicates) = parse_yaml_checked(text.as_bytes()).unwrap();
        prop_assert!(read == value && duplicates.is_empty(), "{text}");
    }
}
