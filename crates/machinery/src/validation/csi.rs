//! Validation of what storage drivers write: drivers, nodes, capacities, attachments, attribute classes. Source:
//! `pkg/apis/storage/validation` of v1.35.

use super::errors::{Errors, IMMUTABLE};
use super::pod::quantity;
use super::{internal, names, selectors, storage};
use crate::walk::{At, same, unset};
use kinds::field::Path;
use serde_json::Value;
use std::collections::BTreeSet;

const MAX_NAME: usize = 63;
const MAX_NODE_ID: usize = 256;
/// Parameters of a class: their number, and the bytes of keys and values.
const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETER_BYTES: usize = 256 * 1024;

fn driver_name(name: &str, at: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(at, "");
    }
    if name.len() > MAX_NAME {
        errors.too_long(at, MAX_NAME);
    }
    if !name.is_empty() {
        errors.each(at, name, names::dns_subdomain(&name.to_lowercase()));
    }
}

pub(super) fn driver(obj: &Value, errors: &mut Errors) {
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let policies = ["File", "None", "ReadWriteOnceWithFSType"];
    errors.one_of_given(spec, "fsGroupPolicy", &at, &policies);
    let mut audiences = BTreeSet::new();
    for (i, request) in spec.list_at("tokenRequests").iter().enumerate() {
        let at = at.child("tokenRequests").index(i);
        let audience = request.str_at("audience");
        if !audiences.insert(audience) {
            errors.duplicate(&at.child("audience"), audience);
            continue;
        }
        let seconds = request.int_at("expirationSeconds");
        let text = match seconds {
            Some(seconds) if seconds < 600 => "may not specify a duration less than 10 minutes",
            Some(seconds) if seconds > 1 << 32 => "may not specify a duration larger than 2^32 seconds",
            _ => continue,
        };
        errors.invalid(&at.child("expirationSeconds"), seconds, text);
    }
    for mode in spec.strings_at("volumeLifecycleModes") {
        let known = ["Persistent", "Ephemeral"];
        if !known.contains(&mode) {
            errors.not_supported_in_order(&at.child("volumeLifecycleModes"), mode, &known);
        }
    }
    if let Some(period) = spec.int_at("nodeAllocatableUpdatePeriodSeconds")
        && period < 10
    {
        let place = at.child("nodeAllocatableUpdatePeriodSeconds");
        errors.invalid(&place, period, "must be greater than or equal to 10 seconds");
    }
    if spec.has("serviceAccountTokenInSecrets") && spec.is_empty_at("tokenRequests") {
        let text = "serviceAccountTokenInSecrets is set but no tokenRequests are specified";
        let value = spec.at("serviceAccountTokenInSecrets").clone();
        errors.invalid(&at.child("serviceAccountTokenInSecrets"), value, text);
    }
}

pub(super) fn driver_update(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    if new.at("attachRequired") != old.at("attachRequired") {
        // Upstream's own spelling of the field.
        let place = at.child("attachedRequired");
        errors.invalid(&place, new.at("attachRequired").clone(), IMMUTABLE);
    }
    errors.immutable(new, old, "volumeLifecycleModes", at);
}

pub(super) fn node(spec: &Value, at: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, driver) in spec.list_at("drivers").iter().enumerate() {
        let at = at.child("drivers").index(i);
        let (name, id) = (driver.str_at("name"), driver.str_at("nodeID"));
        driver_name(name, &at.child("name"), errors);
        if id.is_empty() {
            errors.required(&at.child("nodeID"), "");
        }
        if id.len() > MAX_NODE_ID {
            let text = format!("must be {MAX_NODE_ID} characters or less");
            errors.invalid(&at.child("nodeID"), id, text);
        }
        errors.not_negative(driver.at("allocatable"), "count", &at.child("allocatable"));
        if !seen.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        let mut keys = BTreeSet::new();
        for key in driver.strings_at("topologyKeys") {
            if key.is_empty() {
                errors.required(&at, "");
            }
            if !keys.insert(key) {
                errors.duplicate(&at, key);
            }
            errors.each(&at, key, names::qualified_name(key));
        }
    }
}

pub(super) fn node_update(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let bare = |driver: &Value| {
        let mut bare = driver.clone();
        // What a node can hold may change (KEP-4876).
        unset(&mut bare, "allocatable");
        bare
    };
    for before in old.list_at("drivers") {
        let is_same = |after: &&Value| after.str_at("name") == before.str_at("name");
        for after in new.list_at("drivers").iter().filter(is_same) {
            if !same(&bare(after), &bare(before)) {
                let shown = internal::line("CSINodeDriver", &bare(after));
                errors.invalid_shown(&at.child("drivers"), &shown, IMMUTABLE);
            }
        }
    }
}

pub(super) fn capacity(obj: &Value, errors: &mut Errors) {
    let topology = Path::new("nodeTopology");
    selectors::label_selector(obj.at("nodeTopology"), &topology, errors);
    let class = obj.str_at("storageClassName");
    errors.each(&Path::new("storageClassName"), class, names::dns_subdomain(class));
    if obj.has("capacity") {
        quantity(obj.at("capacity"), &Path::new("capacity"), errors);
    }
}

pub(super) fn attachment(spec: &Value, at: &Path, errors: &mut Errors) {
    driver_name(spec.str_at("attacher"), &at.child("attacher"), errors);
    let (source, place) = (spec.at("source"), at.child("source"));
    let (name, named) = (
        source.str_at("persistentVolumeName"),
        place.child("persistentVolumeName"),
    );
    let text = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
    match (source.has("inlineVolumeSpec"), source.has("persistentVolumeName")) {
        (false, false) => errors.required(&place, text),
        (true, true) => errors.forbidden(&place, text),
        (true, false) => {
            let place = place.child("inlineVolumeSpec");
            storage::inline_volume(source.at("inlineVolumeSpec"), &place, errors);
        }
        (false, true) if name.is_empty() => {
            errors.required(&named, "must specify non empty persistentVolumeName");
        }
        (false, true) => {}
    }
    let node = spec.str_at("nodeName");
    errors.each(&at.child("nodeName"), node, names::dns_subdomain(node));
    if source.has("persistentVolumeName") {
        errors.each(&named, name, names::dns_subdomain(name));
    }
}

/// Bytes of the metadata of an attachment, and of the message of a failure.
const MOST_METADATA: usize = 256 * 1024;
const MOST_MESSAGE: usize = 1024;

/// Checks what an attacher reports.
pub(super) fn attachment_status(obj: &Value, errors: &mut Errors) {
    let (status, at) = (obj.at("status"), Path::new("status"));
    let metadata = status.entries_at("attachmentMetadata").into_iter();
    let size: usize = metadata
        .map(|(key, value)| key.len() + value.as_str().map_or(0, str::len))
        .sum();
    if size > MOST_METADATA {
        errors.too_long(&at.child("attachmentMetadata"), MOST_METADATA);
    }
    for field in ["attachError", "detachError"] {
        let (error, place) = (status.at(field), at.child(field));
        if error.str_at("message").len() > MOST_MESSAGE {
            // The bound that is told is the other one upstream.
            errors.too_long(&place.child("message"), MOST_METADATA);
        }
        if let Some(code) = error.int_at("errorCode").filter(|code| *code < 0) {
            let text = names::range(0, i64::from(i32::MAX));
            errors.invalid(&place.child("errorCode"), code, text);
        }
    }
}

/// Nothing of an attachment changes.
pub(super) fn attachment_update(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    if same(new, old) {
        return;
    }
    errors.invalid_shown(at, &internal::line("VolumeAttachmentSpec", new), IMMUTABLE);
}

pub(super) fn attributes_class(obj: &Value, errors: &mut Errors) {
    let name = obj.str_at("driverName");
    let at = Path::new("driverName");
    if name.is_empty() {
        errors.required(&at, "");
    } else {
        errors.each(
            &at,
            &name.to_lowercase(),
            names::qualified_name(&name.to_lowercase()),
        );
    }
    let parameters = obj.entries_at("parameters");
    let at = Path::new("parameters");
    if parameters.is_empty() {
        errors.required(&at, "must contain at least one key/value pair");
    }
    if parameters.len() > MAX_PARAMETERS {
        errors.too_long(&at, MAX_PARAMETERS);
        return;
    }
    let mut bytes = 0;
    for (key, value) in parameters {
        if key.is_empty() {
            errors.invalid(&at, key.as_str(), "field can not be empty.");
        }
        bytes += key.len() + value.as_str().map_or(0, str::len);
    }
    if bytes > MAX_PARAMETER_BYTES {
        errors.too_long(&at, MAX_PARAMETER_BYTES);
    }
}
