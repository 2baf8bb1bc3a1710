//! Validation of Namespaces, ConfigMaps, Secrets, ServiceAccounts, Nodes and of a Pod's status. Source:
//! `pkg/apis/core/validation` of Kubernetes v1.35.

use super::errors::{Errors, IMMUTABLE};
use super::{names, pod};
use crate::walk::{At, same};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kinds::field::Path;
use serde_json::Value;
use std::collections::BTreeSet;

/// Bytes that the data of a ConfigMap or Secret may have together: 1 MiB.
const MAX_DATA: usize = 1024 * 1024;

pub(super) fn namespace(obj: &Value, errors: &mut Errors) {
    for name in obj.strings_at("spec.finalizers") {
        let place = Path::new("spec").child("finalizers");
        errors.each(&place, name, names::qualified_name(name));
        if !name.contains('/') && name != "kubernetes" {
            errors.invalid(
                &place,
                name,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
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
                let text = format!("duplicate of key present in binaryData: {key}");
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
        if data.get(key).is_none() {
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
        "kubernetes.io/ssh-auth" => need("ssh-privatekey", errors),
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
    let parsed = STANDARD
        .decode(text)
        .ok()
        .and_then(|b| serde_json::from_slice::<Value>(&b).ok());
    if !parsed.is_some_and(|v| v.is_object()) {
        errors.invalid(
            &at.key(key),
            "<secret contents redacted>",
            "invalid character in JSON",
        );
    }
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

pub(super) fn service_account(obj: &Value, errors: &mut Errors) {
    for (i, secret) in obj.list_at("imagePullSecrets").iter().enumerate() {
        let name = secret.str_at("name");
        if !name.is_empty() {
            errors.each(
                &Path::new("imagePullSecrets").index(i).child("name"),
                name,
                names::dns_subdomain(name),
            );
        }
    }
}

pub(super) fn node(obj: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    let mut seen = BTreeSet::new();
    for (i, taint) in obj.list_at("spec.taints").iter().enumerate() {
        // The place as upstream calls it.
        let place = Path::new("metadata").child("taints").index(i);
        let (key, effect) = (taint.str_at("key"), taint.str_at("effect"));
        errors.each(&place.child("key"), key, names::qualified_name(key));
        errors.each(
            &place.child("value"),
            taint.str_at("value"),
            names::label_value(taint.str_at("value")),
        );
        let effects = ["NoSchedule", "PreferNoSchedule", "NoExecute"];
        errors.one_of_in_order(taint, "effect", &place, &effects);
        if !seen.insert((key, effect)) {
            errors.duplicate_because(
                &place,
                taint.clone(),
                "taints must be unique by key and effect pair",
            );
        }
    }
    let cidrs = obj.strings_at("spec.podCIDRs");
    for (i, cidr) in cidrs.iter().enumerate() {
        errors.each(&at.child("podCIDRs").index(i), cidr, names::cidr(cidr));
    }
    if cidrs.is_empty() && !obj.is_empty_at("spec.podCIDR") {
        let cidr = obj.str_at("spec.podCIDR");
        errors.each(&at.child("podCIDRs").index(0), cidr, names::cidr(cidr));
    }
    let sixes = cidrs.iter().filter(|cidr| cidr.contains(':')).count();
    if sixes > 1 || cidrs.len() - sixes > 1 {
        let text = "may specify no more than one CIDR for each IP family";
        errors.invalid(&at.child("podCIDRs"), obj.at("spec.podCIDRs").clone(), text);
    }
    for field in ["capacity", "allocatable"] {
        for (name, value) in obj.entries_at(&format!("status.{field}")) {
            let place = Path::new("status").child(field).key(name);
            pod::node_resource_name(name, &place, errors);
            pod::quantity(value, &place, errors);
        }
    }
}

/// A Node's Pod network and provider are set once.
pub(super) fn node_update(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    let mut addresses = BTreeSet::new();
    for (i, address) in new.list_at("status.addresses").iter().enumerate() {
        if !addresses.insert((address.str_at("type"), address.str_at("address"))) {
            let place = Path::new("status").child("addresses").index(i);
            errors.duplicate(&place, address.clone());
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
}

/// Checks a change of a Pod's status.
pub(super) fn pod_status(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("status");
    let (was, is) = (old.str_at("spec.nodeName"), new.str_at("spec.nodeName"));
    if was != is {
        errors.forbidden(&at.child("nodeName"), "may not be changed directly");
    }
    let nominated = new.str_at("status.nominatedNodeName");
    if !nominated.is_empty() {
        errors.each(
            &at.child("nominatedNodeName"),
            nominated,
            names::dns_subdomain(nominated),
        );
    }
    for (i, ip) in new.list_at("status.podIPs").iter().enumerate() {
        let text = ip.str_at("ip");
        errors.each(&at.child("podIPs").index(i), text, names::ip(text));
    }
    if old.has("status.qosClass") && new.at("status.qosClass") != old.at("status.qosClass") {
        errors.invalid(
            &at.child("qosClass"),
            new.at("status.qosClass").clone(),
            IMMUTABLE,
        );
    }
    for (i, condition) in new.list_at("status.conditions").iter().enumerate() {
        if condition.is_empty_at("type") {
            errors.required(&at.child("conditions").index(i).child("type"), "");
        }
    }
}
