//! Validation of volumes, claims and storage classes. Sources: `pkg/apis/{core,storage}/validation` of Kubernetes v1.35.

use super::errors::Errors;
use super::pod::{parse_quantity, persistent_sources, selector_term};
use super::{difference, internal, names, selectors};
use crate::walk::{At, keep, same};
use kinds::field::{FieldError, Path};
use kinds::quantity::Quantity;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

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

pub(super) fn volume(obj: &Value, old: &Value, errors: &mut Errors) {
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    access_modes(spec, "", &at, errors);
    if spec.is_empty_at("capacity") {
        errors.required(&at.child("capacity"), "");
    }
    if spec.at("capacity").get("storage").is_none() || spec.entries_at("capacity").len() > 1 {
        errors.not_supported(&at.child("capacity"), spec.at("capacity").clone(), &["storage"]);
    }
    for (name, value) in spec.entries_at("capacity") {
        let place = at.child("capacity").key(name);
        if let Some(amount) = basic(value, &place, errors)
            && (amount.is_zero() || amount.is_negative())
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
    // Labels that no node can have are left to whoever has them already.
    let was = old.at("spec.nodeAffinity.required");
    let strict = was.is_null() || !has_bad_values(was);
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
        selector_term(term, strict, &place, errors);
    }
    persistent_sources(spec, obj.str_at("metadata.name"), &at, errors);
    let recycled = spec.str_at("persistentVolumeReclaimPolicy") == "Recycle";
    if recycled && spec.has("hostPath") && is_root(spec.str_at("hostPath.path")) {
        errors.forbidden(&at.child("persistentVolumeReclaimPolicy"), RECYCLED_ROOT);
    }
    class_name(spec, &at, errors);
    volume_mode(spec, &at, errors);
    if spec.has("volumeAttributesClassName") {
        let (place, class) = (
            at.child("volumeAttributesClassName"),
            spec.str_at("volumeAttributesClassName"),
        );
        if class.is_empty() {
            errors.required(&place, "an empty string is disallowed");
        } else {
            errors.each(&place, class, names::dns_subdomain(class));
        }
        if !spec.has("csi") {
            let text = "has to be specified when using volumeAttributesClassName";
            errors.required(&at.child("csi"), text);
        }
    }
}

/// Checks a volume that is written into what attaches it: one that a plugin moved to CSI from a Pod.
pub(super) fn inline_volume(spec: &Value, at: &Path, errors: &mut Errors) {
    const NOT_HERE: &str = "may not be specified in the context of inline volumes";
    if spec.has("claimRef") {
        errors.forbidden(&at.child("claimRef"), NOT_HERE);
    }
    if !spec.is_empty_at("capacity") {
        errors.forbidden(&at.child("capacity"), NOT_HERE);
    }
    if !spec.has("csi") {
        let text = "has to be specified in the context of inline volumes";
        errors.required(&at.child("csi"), text);
    }
    access_modes(spec, "", at, errors);
    let policy = "persistentVolumeReclaimPolicy";
    if !["", "Retain"].contains(&spec.str_at(policy)) {
        let text = "may only be Retain in the context of inline volumes";
        errors.forbidden(&at.child(policy), text);
    }
    if spec.has("nodeAffinity") {
        errors.forbidden(&at.child("nodeAffinity"), NOT_HERE);
    }
    persistent_sources(spec, "", at, errors);
    if spec.str_at(policy) == "Recycle" && spec.has("hostPath") && is_root(spec.str_at("hostPath.path")) {
        errors.forbidden(&at.child(policy), RECYCLED_ROOT);
    }
    if !spec.is_empty_at("storageClassName") {
        errors.forbidden(&at.child("storageClassName"), NOT_HERE);
    }
    if spec.has("volumeMode") && spec.str_at("volumeMode") != "Filesystem" {
        let text = "may not specify volumeMode other than Filesystem in the context of inline volumes";
        errors.forbidden(&at.child("volumeMode"), text);
    }
}

/// What is emptied for the next claim must not be the host.
const RECYCLED_ROOT: &str = "may not be 'recycle' for a hostPath mount of '/'";

fn has_bad_values(selector: &Value) -> bool {
    let terms = selector.list_at("nodeSelectorTerms").iter();
    let expressions = terms.flat_map(|term| term.list_at("matchExpressions"));
    let mut values = expressions.flat_map(|expression| expression.strings_at("values"));
    values.any(|value| !names::label_value(value).is_empty())
}

/// Volumes that are mounted with options, which an old annotation may tell (`pkg/volume/validation`).
const MOUNTED_WITH_OPTIONS: [&str; 13] = [
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "glusterfs",
    "nfs",
    "rbd",
    "quobyte",
    "iscsi",
    "cinder",
    "cephfs",
    "azureFile",
    "vsphereVolume",
    "azureDisk",
    "photonPersistentDisk",
];

pub(super) fn mount_options(volume: &Value, errors: &mut Errors) {
    const ANNOTATION: &str = "volume.beta.kubernetes.io/mount-options";
    let given = volume.at("metadata.annotations").get(ANNOTATION).is_some();
    let mut kinds = MOUNTED_WITH_OPTIONS.iter();
    if given && !kinds.any(|kind| volume.at("spec").has(kind)) {
        let place = Path::new("metadata").child("annotations").child(ANNOTATION);
        errors.forbidden(&place, "may not specify mount options for this volume type");
    }
}

/// Whether an absolute path leads back to the root.
fn is_root(path: &str) -> bool {
    let depth = path.split('/').fold(0_usize, |depth, step| match step {
        "" | "." => depth,
        ".." => depth.saturating_sub(1),
        _ => depth + 1,
    });
    path.starts_with('/') && depth == 0
}

fn access_modes(spec: &Value, missing: &str, at: &Path, errors: &mut Errors) {
    let (place, modes) = (at.child("accessModes"), spec.strings_at("accessModes"));
    if modes.is_empty() {
        errors.required(&place, missing);
    }
    let valid = [
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOnce",
        "ReadWriteOncePod",
    ];
    for mode in modes.iter().filter(|mode| !valid.contains(mode)) {
        errors.not_supported(&place, *mode, &valid);
    }
    let alone = |mode: &&&str| **mode == "ReadWriteOncePod";
    let others = modes
        .iter()
        .filter(|mode| !alone(mode) && valid.contains(mode))
        .count();
    if others > 0 && modes.iter().any(|mode| alone(&mode)) {
        errors.forbidden(&place, "may not use ReadWriteOncePod with other access modes");
    }
}

fn volume_mode(spec: &Value, at: &Path, errors: &mut Errors) {
    let (place, mode) = (at.child("volumeMode"), spec.str_at("volumeMode"));
    let valid = ["Block", "Filesystem"];
    if spec.has("volumeMode") && !valid.contains(&mode) {
        errors.not_supported(&place, mode, &valid);
    }
}

fn class_name(spec: &Value, at: &Path, errors: &mut Errors) {
    let class = spec.str_at("storageClassName");
    if !class.is_empty() {
        errors.each(&at.child("storageClassName"), class, names::dns_subdomain(class));
    }
}

/// Checks the spec of a claim, wherever it stands.
pub(super) fn claim_spec(spec: &Value, at: &Path, errors: &mut Errors) {
    // Modes are told after the selector, but for their lack.
    if spec.is_empty_at("accessModes") {
        errors.required(&at.child("accessModes"), "at least 1 access mode is required");
    }
    selectors::label_selector(spec.at("selector"), &at.child("selector"), errors);
    if !spec.is_empty_at("accessModes") {
        access_modes(spec, "", at, errors);
    }
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
    volume_mode(spec, at, errors);
    for field in ["dataSource", "dataSourceRef"] {
        if spec.has(field) {
            data_source(spec.at(field), &at.child(field), errors);
        }
    }
    let namespace = spec.str_at("dataSourceRef.namespace");
    if !namespace.is_empty() {
        let place = at.child("dataSourceRef").child("namespace");
        errors.each(&place, namespace, names::dns_label(namespace));
    }
    let (source, reference) = (spec.at("dataSource"), spec.at("dataSourceRef"));
    if !source.is_null() && !reference.is_null() {
        let parts = ["apiGroup", "kind", "name"];
        let fault = if !reference.is_empty_at("namespace") {
            Some("may not be specified when dataSourceRef.namespace is specified")
        } else if parts
            .iter()
            .any(|part| !same(source.at(part), reference.at(part)))
        {
            Some("must match dataSourceRef")
        } else {
            None
        };
        if let Some(fault) = fault {
            // What upstream shows here is a path, of which nothing is seen.
            errors.invalid(at, serde_json::json!({}), fault);
        }
    }
    let class = spec.str_at("volumeAttributesClassName");
    if !class.is_empty() {
        let place = at.child("volumeAttributesClassName");
        errors.each(&place, class, names::dns_subdomain(class));
    }
}

fn data_source(source: &Value, at: &Path, errors: &mut Errors) {
    for part in ["name", "kind"] {
        if source.is_empty_at(part) {
            errors.required(&at.child(part), "");
        }
    }
    let (kind, group) = (source.str_at("kind"), source.str_at("apiGroup"));
    if group.is_empty() && kind != "PersistentVolumeClaim" {
        let text = "must be 'PersistentVolumeClaim' when referencing the default apiGroup";
        errors.invalid(at, kind, text);
    }
    if !group.is_empty() {
        errors.each(&at.child("apiGroup"), group, names::dns_subdomain(group));
    }
}

const BETA_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// Checks what is reported of a claim.
pub(super) fn claim_status(new: &Value, errors: &mut Errors) {
    if new.is_empty_at("spec.accessModes") {
        errors.required(&Path::new("Spec").child("accessModes"), "");
    }
    let at = Path::new("status");
    for (name, value) in new.entries_at("status.capacity") {
        basic(value, &at.child("capacity").key(name), errors);
    }
    let known = |name: &str, at: &Path, errors: &mut Errors| {
        let faults = names::qualified_name(name);
        let own = !name.contains('/') || name.contains("kubernetes.io/");
        let fine = faults.is_empty() && (name == "storage" || !own);
        if faults.is_empty() && !fine {
            errors.not_supported(at, name, &["storage"]);
        }
        errors.each(at, name, faults);
        fine
    };
    let place = at.child("allocatedResourceStatuses");
    let statuses = [
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ];
    for (name, status) in new.entries_at("status.allocatedResourceStatuses") {
        known(name, &place, errors);
        if !status.as_str().is_some_and(|status| statuses.contains(&status)) {
            errors.not_supported(&place, name.as_str(), &statuses);
        }
    }
    let place = at.child("allocatedResources");
    for (name, value) in new.entries_at("status.allocatedResources") {
        if known(name, &place, errors) {
            basic(value, &place.key(name), errors);
        }
    }
}

/// Checks an amount of storage. Answers it.
fn basic(value: &Value, at: &Path, errors: &mut Errors) -> Option<Quantity> {
    let amount = parse_quantity(value)?;
    if amount.is_negative() {
        let shown = i64::try_from(amount.value()).unwrap_or(i64::MIN);
        errors.invalid(at, shown, "must be a valid resource quantity");
    }
    Some(amount)
}

/// A claim may be bound once, and may grow.
pub(super) fn claim_update(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    let (new_spec, old_spec) = (new.at("spec"), old.at("spec"));
    // What may change is made the same on one of the sides, so that the difference shows what may not.
    let (mut allowed, mut before) = (new_spec.clone(), old_spec.clone());
    if old_spec.is_empty_at("volumeName") {
        keep(&mut before, new_spec, "volumeName");
    }
    let annotated = |claim: &Value| claim.at("metadata.annotations").get(BETA_CLASS).cloned();
    let (is, was) = (annotated(new), annotated(old));
    let named = new_spec.at("storageClassName");
    // A class may move from the annotation to its field, and may be named where none was (KEP-3333).
    if was.is_some() && !old_spec.has("storageClassName") && was.as_ref() == Some(named) && is == was
        || was.is_none() && !old_spec.has("storageClassName") && is.is_none()
    {
        keep(&mut allowed, old_spec, "storageClassName");
    } else if is != was {
        let place = Path::new("metadata").child("annotations").child(BETA_CLASS);
        let shown = is.unwrap_or_else(|| "".into());
        errors.invalid(&place, shown, super::errors::IMMUTABLE);
    }
    if old.str_at("status.phase") == "Bound" {
        keep(&mut allowed, old_spec, "volumeAttributesClassName");
        if allowed.has("resources.requests") {
            keep(&mut allowed, old_spec, "resources.requests.storage");
        }
    }
    if !same(&allowed, &before) {
        let lines = |spec: &Value| internal::lines("PersistentVolumeClaimSpec", spec);
        let changed = difference::unified(&lines(&before), &lines(&allowed));
        let text = "spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims";
        errors.forbidden(&at, format!("{text}\n{changed}"));
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
    let class = "volumeAttributesClassName";
    if old.has("status.currentVolumeAttributesClassName") && !same(new_spec.at(class), old_spec.at(class)) {
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
    let mut now = new.at("spec").clone();
    let secret = "csi.controllerExpandSecretRef";
    if old.has("spec.csi") && !old.at("spec").has(secret) && now.has(secret) {
        // Whoever makes volumes grow may be told how later.
        crate::walk::unset(&mut now, secret);
    }
    if sources(&now) != sources(old.at("spec")) {
        let lines = |spec: &Value| internal::lines("PersistentVolumeSource", spec);
        let changed = difference::unified(&lines(old.at("spec")), &lines(&now));
        let text = format!("spec.persistentvolumesource is immutable after creation\n{changed}");
        errors.forbidden(&at.child("persistentvolumesource"), text);
    }
    if !same(new.at("spec.volumeMode"), old.at("spec.volumeMode")) {
        let value = new.at("spec.volumeMode").clone();
        errors.invalid(&Path::new("volumeMode"), value, super::errors::IMMUTABLE);
    }
    let (is, was) = (new.at("spec.nodeAffinity"), old.at("spec.nodeAffinity"));
    if !was.is_null() && !same_nodes(is, was) {
        let detail = format!(
            "{}, except for updating from beta label to GA",
            super::errors::IMMUTABLE
        );
        let error = FieldError::invalid(&Path::new("nodeAffinity"), is.clone(), detail);
        errors.0.push(error.shown_as(match is {
            Value::Null => "null".to_owned(),
            is => internal::line("VolumeNodeAffinity", is),
        }));
    }
    let class = "volumeAttributesClassName";
    if old.at("spec").has(class) && !new.at("spec").has(class) {
        let text = "update from non-nil value to nil is forbidden";
        errors.forbidden(&at.child(class), text);
    }
}

/// Labels of nodes that had another name once.
const RENAMED: [(&str, &str); 5] = [
    (
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/zone",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "topology.kubernetes.io/region",
    ),
    ("beta.kubernetes.io/os", "kubernetes.io/os"),
    ("beta.kubernetes.io/arch", "kubernetes.io/arch"),
    (
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
    ),
];

/// Whether two affinities name the same nodes: a label may get its later name.
fn same_nodes(is: &Value, was: &Value) -> bool {
    match (is, was) {
        (Value::Object(is_map), Value::Object(was_map)) => {
            let (now, before) = (is.str_at("key"), was.str_at("key"));
            let later = RENAMED.iter().find(|(old, _)| *old == before);
            // A label without a later name may lose its own; that is refused for being none.
            let renamed = later.map_or("", |(_, new)| *new) == now;
            let fields: BTreeSet<&String> = is_map.keys().chain(was_map.keys()).collect();
            fields.into_iter().all(|field| {
                let part = |map: &serde_json::Map<String, Value>| map.get(field).cloned().unwrap_or_default();
                field == "key" && renamed || same_nodes(&part(is_map), &part(was_map))
            })
        }
        (Value::Array(is), Value::Array(was)) => {
            is.len() == was.len() && is.iter().zip(was).all(|(is, was)| same_nodes(is, was))
        }
        _ => same(is, was),
    }
}

pub(super) fn class(obj: &Value, errors: &mut Errors) {
    let provisioner = obj.str_at("provisioner");
    if provisioner.is_empty() {
        errors.required(&Path::new("provisioner"), "");
    } else {
        let lower = provisioner.to_lowercase();
        errors.each(&Path::new("provisioner"), &lower, names::qualified_name(&lower));
    }
    parameters(obj.at("parameters"), errors);
    let at = Path::root();
    errors.one_of_if_set(obj, "reclaimPolicy", &at, &["Delete", "Retain"]);
    if !obj.has("volumeBindingMode") {
        errors.required(&at.child("volumeBindingMode"), "");
    }
    errors.one_of_given(
        obj,
        "volumeBindingMode",
        &at,
        &["Immediate", "WaitForFirstConsumer"],
    );
    topologies(
        obj.list_at("allowedTopologies"),
        &Path::new("allowedTopologies"),
        errors,
    );
}

/// Parameters of a class, and the bytes that they may have together.
const MOST_PARAMETERS: usize = 512;
const MOST_OF_PARAMETERS: usize = 256 * 1024;

fn parameters(parameters: &Value, errors: &mut Errors) {
    let (at, all) = (Path::new("parameters"), parameters.as_object());
    if all.is_some_and(|all| all.len() > MOST_PARAMETERS) {
        return errors.too_long(&at, MOST_PARAMETERS);
    }
    let mut size = 0;
    for (name, value) in all.into_iter().flatten() {
        if name.is_empty() {
            errors.invalid(&at, "", "field can not be empty.");
        }
        size += name.len() + value.as_str().unwrap_or_default().len();
    }
    if size > MOST_OF_PARAMETERS {
        errors.too_long(&at, MOST_OF_PARAMETERS);
    }
}

/// Places that volumes of a class may be in: no two terms say the same, and no term says a thing twice.
fn topologies(terms: &[Value], at: &Path, errors: &mut Errors) {
    let mut known: Vec<BTreeMap<&str, BTreeSet<&str>>> = Vec::new();
    for (i, term) in terms.iter().enumerate() {
        let place = at.index(i).child("matchLabelExpressions");
        let mut said = BTreeMap::new();
        for (j, expression) in term.list_at("matchLabelExpressions").iter().enumerate() {
            let (key, place) = (expression.str_at("key"), place.index(j));
            let mut values = BTreeSet::new();
            if expression.is_empty_at("values") {
                errors.required(&place.child("values"), "");
            }
            for (k, value) in expression.strings_at("values").into_iter().enumerate() {
                if !values.insert(value) {
                    errors.duplicate(&place.child("values").index(k), value);
                }
            }
            errors.each(&place.child("key"), key, names::qualified_name(key));
            if said.insert(key, values).is_some() {
                errors.duplicate(&place.child("key"), key);
            }
        }
        // A term that says nothing is as many that say it, to upstream.
        let nothing = if said.is_empty() { terms.len() } else { 0 };
        let times = nothing + known.iter().filter(|other| **other == said).count();
        for _ in 0..times {
            errors.duplicate(&place, "");
        }
        known.push(said);
    }
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
