//! Validation of a resource that stands within a custom object (`x-kubernetes-embedded-resource`): what it says of its kind,
//! and its metadata. Source: `apiextensions-apiserver/pkg/apiserver/schema/objectmeta/validation.go`.

use super::errors::Errors;
use super::{metadata, names};
use crate::walk::At;
use kinds::field::{FieldError, Path};
use serde_json::{Value, json};

const EMPTY: &str = "must not be empty";

/// Checks a resource within an object, which stands at `at`. Fields of a wrong type are not its matter.
pub fn check(resource: &Value, at: &Path) -> Vec<FieldError> {
    let mut errors = Errors::default();
    for field in ["apiVersion", "kind"] {
        match resource.at(field) {
            Value::Null => errors.required(&at.child(field), ""),
            Value::String(text) if text.is_empty() => errors.invalid(&at.child(field), "", EMPTY),
            _ => {}
        }
    }
    let api_version = resource.str_at("apiVersion");
    if api_version.matches('/').count() > 1 {
        let why = format!("unexpected GroupVersion string: {api_version}");
        errors.invalid(&at.child("apiVersion"), api_version, why);
    }
    let kind = resource.str_at("kind");
    let wrong = names::dns_1035_label(&kind.to_lowercase());
    if !kind.is_empty() && !wrong.is_empty() {
        let why = format!(
            "may have mixed case, but should otherwise match: {}",
            wrong.join(",")
        );
        errors.invalid(&at.child("kind"), kind, why);
    }
    let mut meta = resource.at("metadata").clone();
    if meta.is_object() {
        // It needs no name, nor to be in a namespace.
        if meta.is_empty_at("name") {
            meta["name"] = json!("unnamed");
        }
        let namespaced = !meta.is_empty_at("namespace");
        let place = at.child("metadata");
        metadata::check(&meta, namespaced, names::path_segment, &place, &mut errors);
    }
    errors.0
}
