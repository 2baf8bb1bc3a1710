//! What upstream's API server finds wrong with a thousand small objects: between them, they break nearly every rule that it
//! has for new ones. A line of `verdicts.jsonl` is an object and its faults, without the examples of good names in them.

use crate::kind_of;
use machinery::{FieldValidation, decode_check, default, prepare_create, validate_create};
use serde_json::Value;

#[test]
fn faults_are_those_that_upstream_finds() {
    let mut wrong = Vec::new();
    for line in include_str!("verdicts.jsonl").lines() {
        let case: Value = serde_json::from_str(line).expect("JSON");
        let mut object = case["object"].clone();
        let kind = kind_of(&object);
        let decoded = decode_check(kind, &mut object, &[], FieldValidation::Ignore).expect("decodes");
        default(kind, &mut object);
        // Jobs select by theirs.
        object["metadata"]["uid"] = "u".into();
        prepare_create(kind, &mut object);
        let errors = decoded
            .empties
            .judged(&object, |object| validate_create(kind, object));
        let told: Vec<String> = errors.iter().map(|error| plain(&error.to_string())).collect();
        let wanted: Vec<&str> = case["faults"]
            .as_array()
            .expect("faults")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        if told != wanted {
            wrong.push(format!(
                "{}\n  wanted {wanted:#?}\n  told {told:#?}",
                case["object"]
            ));
        }
    }
    assert!(wrong.is_empty(), "{} differ:\n{}", wrong.len(), wrong.join("\n"));
}

/// A fault without its examples.
fn plain(fault: &str) -> String {
    fault.split(" (e.g. '").next().unwrap_or_default().to_owned()
}
