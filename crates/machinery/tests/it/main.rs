//! Tests of the public face of `machinery`: each module is one area, its cases are data.

mod apply;
mod compared;
mod credentials;
mod decode;
mod defaults;
mod details;
mod form;
mod openapi;
mod pods;
mod properties;
mod protobuf;
mod refusals;
mod replayed;
mod reported;
mod resizes;
mod rounds;
mod status;
mod strategic;
mod strategy;
mod tables;
mod validation;
mod verdicts;
mod yaml;

use kinds::KindInfo;
use serde_json::Value;

/// The kind of a manifest.
pub fn kind_of(object: &Value) -> &'static KindInfo {
    let api_version = object["apiVersion"].as_str().expect("apiVersion");
    let kind = object["kind"].as_str().expect("kind");
    kinds::builtin()
        .iter()
        .find(|k| k.api_version() == api_version && k.kind == kind)
        .unwrap_or_else(|| panic!("no kind {kind} in {api_version}"))
}

/// A manifest in YAML, parsed.
pub fn yaml(text: &str) -> Value {
    machinery::parse_yaml_checked(text.as_bytes())
        .expect("good YAML")
        .0
}

/// A manifest as it comes out of decoding and defaulting.
pub fn defaulted(text: &str) -> Value {
    let mut object = yaml(text);
    let kind = kind_of(&object);
    machinery::decode_check(kind, &mut object, &[], machinery::FieldValidation::Strict).expect("decodes");
    machinery::default(kind, &mut object);
    object
}
