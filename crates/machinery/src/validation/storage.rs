//! Validation of volumes, claims and storage classes. Sources: `pkg/apis/{core,storage}/validation` of Kubernetes v1.35.

use super::errors::Errors;
use super::pod::{parse_quantity, quantity, volume_modes, volume_sources};
use super::{names, selectors};
use crate::walk::{At, keep, same};
use kinds::field::Path;
use serde_json::Value;

/// Fields of a PersistentVolume's spec that are no source.
const NOT_SOURCES: [&str; 9] = [
    "accessModes",
    "capacity",
    "claimRef",
    "mountOptions",
    "nodeAffinity",
    "persistentVolumeReclaimPolicy",
    "storageClassName",
    "volumeAttributesClassName",
    "volumeMode",
];

pub(super) fn volume(obj: &Value, errors: &mut Errors) {
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    volume_modes(spec, &at, errors);
    if spec.is_empty_at("capacity") {
        errors.required(&at.child("capacity"), "");
    }
    if spec.at("capacity").get("storage").is_none() {
        errors.not_supported(&at.child("capacity"), spec.at("capacity").clone(), &["storage"]);
    }
    for (name, value) in spec.entries_at("capacity") {
        let place = at.child("capacity").key(name);
        if let Some(amount) = quantity(value, &place, errors)
            && amount.is_zero()
        {
            errors.invalid(&place, value.clone(), super::errors::NOT_POSITIVE);
        }
    }
    errors.one_of_if_set(
        spec,
        "persistentVolumeReclaimPolicy",
        &at,
        &["Delete", "Recycle", "Retain"],
    );
    let terms = at.child("nodeAffinity").child("required");
    if spec.has("nodeAffinity") && !spec.has("nodeAffinity.required") {
        errors.required(&terms, "must specify required node constraints");
    } else if spec.has("nodeAffinity") && spec.list_at("nodeAffinity.required.nodeSelectorTerms").is_empty() {
        let text = "must have at least one node selector term";
        errors.required(&terms.child("nodeSelectorTerms"), text);
    }
    if spec.str_at("hostPath.path") == "/" && spec.str_at("persistentVolumeReclaimPolicy") == "Recycle" {
        let text = "may not be 'recycle' for a hostPath mount of '/'";
        errors.forbidden(&at.child("persistentVolumeReclaimPolicy"), text);
    }
    if spec.has("csi") && spec.at("csi").is_empty_at("volumeHandle") {
        errors.required(&at.child("csi").child("volumeHandle"), "");
    }
    for (i, term) in spec
        .list_at("nodeAffinity.required.nodeSelectorTerms")
        .iter()
        .enumerate()
    {
        let place = at
            .child("nodeAffinity")
            .child("required")
            .child("nodeSelectorTerms")
            .index(i);
        super::pod::node_term(term, &place, errors);
    }
    volume_sources(spec, &NOT_SOURCES, &at, errors);
    if spec.has("local") && !spec.has("nodeAffinity") {
        errors.required(&at.child("nodeAffinity"), "Local volume requires node affinity");
    }
    class_name(spec, &at, errors);
}

fn class_name(spec: &Value, at: &Path, errors: &mut Errors) {
    let class = spec.str_at("storageClassName");
    if !class.is_empty() {
        errors.each(&at.child("storageClassName"), class, names::dns_subdomain(class));
    }
}

/// Checks the spec of a claim, wherever it stands.
pub(super) fn claim_spec(spec: &Value, at: &Path, errors: &mut Errors) {
    volume_modes(spec, at, errors);
    selectors::label_selector(spec.at("selector"), &at.child("selector"), errors);
    let place = at.child("resources").key("storage");
    match spec.at("resources.requests").get("storage") {
        None => errors.required(&place, ""),
        Some(value) => {
            if let Some(amount) = parse_quantity(value)
                && (amount.is_zero() || amount.is_negative())
            {
                errors.invalid(&place, value.clone(), super::errors::NOT_POSITIVE);
            }
        }
    }
    class_name(spec, at, errors);
    let class = spec.str_at("volumeAttributesClassName");
    if !class.is_empty() {
        let place = at.child("volumeAttributesClassName");
        errors.each(&place, class, names::dns_subdomain(class));
    }
    for field in ["dataSource", "dataSourceRef"] {
        let (source, place) = (spec.at(field), at.child(field));
        if source.is_null() {
            continue;
        }
        for part in ["kind", "name"] {
            if source.is_empty_at(part) {
                errors.required(&place.child(part), "");
            }
        }
        let group = source.str_at("apiGroup");
        errors.each(
            &place.child("apiGroup"),
            group,
            match group {
                "" => Vec::new(),
                group => names::dns_subdomain(group),
            },
        );
        let kind = source.str_at("kind");
        if source.is_empty_at("apiGroup") && kind != "PersistentVolumeClaim" {
            let text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
            errors.invalid(&place, kind, text);
        }
    }
}

/// A claim may be bound once, and may grow.
pub(super) fn claim_update(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    let (new_spec, old_spec) = (new.at("spec"), old.at("spec"));
    let mut allowed = new_spec.clone();
    if old_spec.is_empty_at("volumeName") {
        keep(&mut allowed, old_spec, "volumeName");
    }
    if old_spec.is_empty_at("storageClassName") && !old_spec.has("storageClassName") {
        keep(&mut allowed, old_spec, "storageClassName");
    }
    if old.str_at("status.phase") == "Bound" {
        keep(&mut allowed, old_spec, "volumeAttributesClassName");
        if allowed.has("resources.requests") {
            keep(&mut allowed, old_spec, "resources.requests.storage");
        }
    }
    if !same(&allowed, old_spec) {
        errors.forbidden(
            &at,
            "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims",
        );
    }
    // A claim whose growth failed may ask for less again, down to what it has (KEP-1790).
    let size = |amounts: &Value| {
        let amount = amounts.get("storage").and_then(parse_quantity);
        amount.or_else(|| parse_quantity(&"0".into()))
    };
    let (now, was) = (
        size(new_spec.at("resources.requests")),
        size(old_spec.at("resources.requests")),
    );
    if now < was && now <= size(old.at("status.capacity")) {
        let place = at.child("resources").child("requests").child("storage");
        errors.forbidden(&place, "field can not be less than status.capacity");
    }
    if !same(new_spec.at("volumeMode"), old_spec.at("volumeMode")) {
        let value = new_spec.at("volumeMode").clone();
        errors.invalid(&Path::new("volumeMode"), value, super::errors::IMMUTABLE);
    }
    if old.has("status.currentVolumeAttributesClassName") {
        let text = match new_spec.at("volumeAttributesClassName") {
            Value::Null => {
                "update to nil is forbidden when status.currentVolumeAttributesClassName is not nil"
            }
            Value::String(name) if name.is_empty() => {
                "update to empty string is forbidden when status.currentVolumeAttributesClassName is not nil"
            }
            _ => return,
        };
        errors.forbidden(&at.child("volumeAttributesClassName"), text);
    }
}

pub(super) fn volume_update(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    let sources = |spec: &Value| -> Vec<(String, Value)> {
        let all = spec.as_object().into_iter().flatten();
        all.filter(|(k, v)| !NOT_SOURCES.contains(&k.as_str()) && v.is_object())
            .map(|(k, v)| (k.clone(), v.clone()))
            .collect()
    };
    if sources(new.at("spec")) != sources(old.at("spec")) {
        let text = "spec.persistentvolumesource is immutable after creation";
        errors.forbidden(&at.child("persistentvolumesource"), text);
    }
    if !same(new.at("spec.volumeMode"), old.at("spec.volumeMode")) {
        let value = new.at("spec.volumeMode").clone();
        errors.invalid(&Path::new("volumeMode"), value, super::errors::IMMUTABLE);
    }
    if old.has("spec.nodeAffinity") {
        errors.immutable(new.at("spec"), old.at("spec"), "nodeAffinity", &at);
    }
}

pub(super) fn class(obj: &Value, errors: &mut Errors) {
    let provisioner = obj.str_at("provisioner");
    if provisioner.is_empty() {
        errors.required(&Path::new("provisioner"), "");
    } else {
        errors.each(
            &Path::new("provisioner"),
            provisioner,
            names::qualified_name(&provisioner.to_lowercase()),
        );
    }
    if obj.at("parameters").get("").is_some() {
        errors.invalid(&Path::new("parameters"), "", "field can not be empty.");
    }
    for (i, term) in obj.list_at("allowedTopologies").iter().enumerate() {
        let place = Path::new("allowedTopologies")
            .index(i)
            .child("matchLabelExpressions");
        for (j, expression) in term.list_at("matchLabelExpressions").iter().enumerate() {
            let (key, place) = (expression.str_at("key"), place.index(j));
            if expression.is_empty_at("values") {
                errors.required(&place.child("values"), "");
            }
            errors.each(&place.child("key"), key, names::qualified_name(key));
        }
    }
    let at = Path::root();
    errors.one_of(obj, "reclaimPolicy", &at, &["Delete", "Retain"]);
    errors.one_of(
        obj,
        "volumeBindingMode",
        &at,
        &["Immediate", "WaitForFirstConsumer"],
    );
}

pub(super) fn class_update(new: &Value, old: &Value, errors: &mut Errors) {
    if !same(new.at("parameters"), old.at("parameters")) {
        errors.forbidden(&Path::new("parameters"), "updates to parameters are forbidden.");
    }
    if new.at("provisioner") != old.at("provisioner") {
        errors.forbidden(&Path::new("provisioner"), "updates to provisioner are forbidden.");
    }
    if new.at("reclaimPolicy") != old.at("reclaimPolicy") {
        errors.forbidden(
            &Path::new("reclaimPolicy"),
            "updates to reclaimPolicy are forbidden.",
        );
    }
    errors.immutable_top(new, old, "volumeBindingMode");
}
