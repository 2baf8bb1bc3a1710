//! Validation of Namespaces, ConfigMaps, Secrets, ServiceAccounts and Nodes. Source:
//! `pkg/apis/core/validation` of Kubernetes v1.35.

use super::errors::Errors;
use super::metadata::STANDARD_FINALIZERS;
use super::{names, pod};
use crate::walk::{At, same};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kinds::field::{FieldError, Path};
use serde_json::Value;
use std::collections::BTreeSet;

/// Bytes that the data of a ConfigMap or Secret may have together: 1 MiB.
const MAX_DATA: usize = 1024 * 1024;

/// The key of a Secret that must not only be there.
const SSH_KEY: &str = "ssh-privatekey";

pub(super) fn namespace(obj: &Value, errors: &mut Errors) {
    let place = Path::new("spec").child("finalizers");
    for name in obj.strings_at("spec.finalizers") {
        finalizer(name, &place, errors);
    }
}

/// What still is to be done before a Namespace goes.
pub(super) fn finalized(obj: &Value, errors: &mut Errors) {
    let place = Path::new("spec").child("finalizers");
    for (i, name) in obj.strings_at("spec.finalizers").into_iter().enumerate() {
        finalizer(name, &place.index(i), errors);
    }
}

fn finalizer(name: &str, at: &Path, errors: &mut Errors) {
    errors.each(at, name, names::qualified_name(name));
    if !name.contains('/') && !STANDARD_FINALIZERS.contains(&name) {
        let text = "name is neither a standard finalizer name nor is it fully qualified";
        errors.invalid(at, name, text);
    }
}

pub(super) fn config_map(obj: &Value, errors: &mut Errors) {
    let mut size = 0;
    for field in ["data", "binaryData"] {
        for (key, value) in obj.entries_at(field) {
            errors.each(&Path::new(field).key(key), key, names::config_key(key));
            let bytes = value.as_str().unwrap_or("");
            size += if field == "data" {
                bytes.len()
            } else {
                decoded_length(bytes)
            };
            if field == "data" && obj.at("binaryData").get(key).is_some() {
                let text = "duplicate of key present in binaryData";
                errors.invalid(&Path::new("data").key(key), key.as_str(), text);
            }
        }
    }
    if size > MAX_DATA {
        // The whole object is meant; upstream shows its nameless path so.
        errors.too_long(&Path::root().key(""), MAX_DATA);
    }
}

fn decoded_length(text: &str) -> usize {
    STANDARD.decode(text).map_or(text.len(), |bytes| bytes.len())
}

pub(super) fn secret(obj: &Value, errors: &mut Errors) {
    let at = Path::new("data");
    let mut size = 0;
    for (key, value) in obj.entries_at("data") {
        errors.each(&at.key(key), key, names::config_key(key));
        size += decoded_length(value.as_str().unwrap_or(""));
    }
    if size > MAX_DATA {
        errors.too_long(&at, MAX_DATA);
    }
    let data = obj.at("data");
    let need = |key: &str, errors: &mut Errors| {
        let empty = data.is_empty_at(key) && key == SSH_KEY;
        if data.get(key).is_none() || empty {
            errors.required(&at.key(key), "");
        }
    };
    match obj.str_at("type") {
        "kubernetes.io/service-account-token" => {
            let name = obj
                .at("metadata.annotations")
                .get("kubernetes.io/service-account.name");
            if name.and_then(Value::as_str).unwrap_or("").is_empty() {
                let place = Path::new("metadata")
                    .child("annotations")
                    .key("kubernetes.io/service-account.name");
                errors.required(&place, "");
            }
        }
        "kubernetes.io/dockercfg" => json_data(data, ".dockercfg", &at, errors),
        "kubernetes.io/dockerconfigjson" => json_data(data, ".dockerconfigjson", &at, errors),
        "kubernetes.io/basic-auth" if data.get("username").is_none() && data.get("password").is_none() => {
            errors.required(&at.key("username"), "");
            errors.required(&at.key("password"), "");
        }
        "kubernetes.io/ssh-auth" => need(SSH_KEY, errors),
        "kubernetes.io/tls" => {
            need("tls.crt", errors);
            need("tls.key", errors);
        }
        _ => {}
    }
}

fn json_data(data: &Value, key: &str, at: &Path, errors: &mut Errors) {
    let Some(text) = data.get(key).and_then(Value::as_str) else {
        errors.required(&at.key(key), "");
        return;
    };
    let bytes = STANDARD.decode(text).unwrap_or_default();
    if let Some(fault) = not_an_object(&bytes) {
        errors.invalid(&at.key(key), "<secret contents redacted>", fault);
    }
}

/// Why a text is no JSON object, as Go's `encoding/json` says it.
fn not_an_object(text: &[u8]) -> Option<String> {
    let error = match serde_json::from_slice::<Value>(text) {
        Ok(Value::Object(_) | Value::Null) => return None,
        Ok(other) => {
            let kind = match other {
                Value::Bool(_) => "bool",
                Value::Number(_) => "number",
                Value::String(_) => "string",
                _ => "array",
            };
            let into = "Go value of type map[string]interface {}";
            return Some(format!("json: cannot unmarshal {kind} into {into}"));
        }
        Err(error) if error.is_eof() => return Some("unexpected end of JSON input".to_owned()),
        Err(error) => error,
    };
    let mut lines = text.split(|byte| *byte == b'\n');
    let line = lines.nth(error.line().saturating_sub(1)).unwrap_or_default();
    let at = char::from(*line.get(error.column().saturating_sub(1)).unwrap_or(&b'?'));
    let words = error.to_string();
    let place = [
        ("trailing characters", "after top-level value"),
        (
            "key must be a string",
            "looking for beginning of object key string",
        ),
        ("expected `:`", "after object key"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("control character", "in string literal"),
    ];
    let place = place.iter().find(|(ours, _)| words.contains(ours));
    let place = place.map_or("looking for beginning of value", |(_, gos)| gos);
    Some(format!("invalid character {at:?} {place}"))
}

/// Data that its owner has closed stays as it is; so does the closing.
pub(super) fn immutable_data(new: &Value, old: &Value, fields: &[&str], errors: &mut Errors) {
    if !old.bool_at("immutable") {
        return;
    }
    if !new.bool_at("immutable") {
        errors.forbidden(
            &Path::new("immutable"),
            "field is immutable when `immutable` is set",
        );
    }
    for field in fields {
        if !same(new.at(field), old.at(field)) {
            errors.forbidden(&Path::new(field), "field is immutable when `immutable` is set");
        }
    }
}

pub(super) fn node(obj: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    taints(obj, errors);
    let cidrs = obj.strings_at("spec.podCIDRs");
    for (i, cidr) in cidrs.iter().enumerate() {
        errors.each(&at.child("podCIDRs").index(i), cidr, names::legacy_cidr(cidr));
    }
    let bad = cidrs.iter().position(|cidr| !names::legacy_cidr(cidr).is_empty());
    if let Some(bad) = bad.filter(|_| cidrs.len() > 1) {
        let text = format!(
            "invalid PodCIDRs. failed to check with dual stack with error:invalid CIDR[{bad}]: <nil> (invalid CIDR address: {})",
            cidrs[bad]
        );
        errors.internal(&at.child("podCIDRs"), text);
    }
    let sixes = cidrs.iter().filter(|cidr| cidr.contains(':')).count();
    if cidrs.len() > 1 && (bad.is_some() || sixes != 1 || cidrs.len() > 2) {
        let text = "may specify no more than one CIDR for each IP family";
        errors.invalid(&at.child("podCIDRs"), obj.at("spec.podCIDRs").clone(), text);
    }
    if let Some(swap) = obj
        .int_at("status.nodeInfo.swap.capacity")
        .filter(|bytes| *bytes <= 0)
    {
        let place = Path::new("metadata").child("nodeSwapStatus").child("capacity");
        errors.invalid(&place, swap, super::errors::NOT_POSITIVE);
    }
    node_resources(obj, errors);
    declared_features(obj, errors);
}

/// A name of words that begin with a letter, between slashes; the first with a capital one.
fn is_feature(name: &str) -> bool {
    let is_word = |word: &str| word.bytes().all(|c| c.is_ascii_alphanumeric());
    name.starts_with(|first: char| first.is_ascii_uppercase())
        && name
            .split('/')
            .all(|word| is_word(word) && word.starts_with(|first: char| first.is_ascii_alphabetic()))
}

/// What a Node says that it can do: names in order (KEP-5328).
fn declared_features(node: &Value, errors: &mut Errors) {
    const MOST: usize = 253;
    let at = Path::new("status").child("declaredFeatures");
    let names = node.strings_at("status.declaredFeatures");
    for (i, name) in names.iter().enumerate() {
        if name.len() > MOST {
            let why = format!("invalid feature name {name:?}: must be no more than {MOST} characters");
            errors.invalid(&at.index(i), *name, why);
        } else if !is_feature(name) {
            let why = format!(
                "invalid feature name {name:?}: must start with an UpperCamelCase segment, with subsequent segments separated \
                 by '/' (e.g., MyFeature or MyFeature/mySubFeature), and contain only alphanumeric characters and slashes"
            );
            errors.invalid(&at.index(i), *name, why);
        }
        match names.get(i + 1) {
            Some(next) if next == name => errors.duplicate(&at.index(i + 1), *next),
            Some(next) if next < name => {
                errors.invalid(&at.index(i + 1), *next, "list must be sorted alphabetically");
            }
            _ => {}
        }
    }
}

/// What a Node has, under whatever names: some of it comes whole.
pub(super) fn node_resources(obj: &Value, errors: &mut Errors) {
    for field in ["capacity", "allocatable"] {
        for (name, value) in obj.entries_at(&format!("status.{field}")) {
            pod::resource_amount(name, value, &Path::new("status").child(field).child(name), errors);
        }
    }
}

fn taints(obj: &Value, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, taint) in obj.list_at("spec.taints").iter().enumerate() {
        // The place as upstream calls it.
        let place = Path::new("metadata").child("taints").index(i);
        let (key, effect) = (taint.str_at("key"), taint.str_at("effect"));
        errors.each(&place.child("key"), key, names::qualified_name(key));
        let value = taint.str_at("value");
        let wrong = names::label_value(value);
        if !wrong.is_empty() {
            errors.invalid(&place.child("value"), value, wrong.join(";"));
        }
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        errors.one_of_in_order(taint, "effect", &place, &effects);
        if !seen.insert((key, effect)) {
            let mut error = FieldError::duplicate(&place, taint.clone());
            error.detail = "taints must be unique by key and effect pair".to_owned();
            let time = taint.at("timeAdded");
            let shown = format!(
                "{{\"Key\":{key:?},\"Value\":{:?},\"Effect\":{effect:?},\"TimeAdded\":{time}}}",
                taint.str_at("value")
            );
            errors.0.push(error.shown_as(shown));
        }
    }
}

/// A Node's Pod network and provider are set once. Taints are looked at once more.
pub(super) fn node_update(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    declared_features(new, errors);
    let mut addresses = BTreeSet::new();
    for (i, address) in new.list_at("status.addresses").iter().enumerate() {
        let (kind, text) = (address.str_at("type"), address.str_at("address"));
        if !addresses.insert((kind, text)) {
            let place = Path::new("status").child("addresses").index(i);
            let shown = format!("{{\"Type\":{kind:?},\"Address\":{text:?}}}");
            let error = FieldError::duplicate(&place, address.clone());
            errors.0.push(error.shown_as(shown));
        }
    }
    let (now, was) = (new.strings_at("spec.podCIDRs"), old.strings_at("spec.podCIDRs"));
    if !was.is_empty() && now != was {
        let text = "node updates may not change podCIDR except from \"\" to valid";
        errors.forbidden(&at.child("podCIDRs"), text);
    }
    if !old.is_empty_at("spec.providerID") && new.str_at("spec.providerID") != old.str_at("spec.providerID") {
        let text = "node updates may not change providerID except from \"\" to valid";
        errors.forbidden(&at.child("providerID"), text);
    }
    taints(new, errors);
    if new.str_at("spec.externalID") != old.str_at("spec.externalID") {
        errors.forbidden(&at.child("externalID"), "may not be updated");
    }
}
