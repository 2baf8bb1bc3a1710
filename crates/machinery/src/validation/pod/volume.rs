//! Validation of sources of volumes that are made of files, and what sources cannot do without.

use super::Of;
use super::env::{VOLUME_FIELDS, field_ref, resource_ref};
use super::sources::{item, local_path};
use crate::validation::certificates;
use crate::validation::errors::Errors;
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;
use std::collections::BTreeSet;

/// Kinds of host path.
const HOST_PATH_TYPES: [&str; 8] = [
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
];
/// The longest mode of a file: 0777.
const MAX_MODE: i64 = 0o777;

/// Fields that a source cannot do without.
pub(super) fn required_fields(source: &str) -> &'static [&'static str] {
    match source {
        "secret" => &["secretName"],
        "configMap" => &["name"],
        "hostPath" => &["path"],
        "persistentVolumeClaim" => &["claimName"],
        "nfs" => &["server", "path"],
        "iscsi" => &["targetPortal", "iqn"],
        "csi" => &["driver"],
        "cephfs" => &["monitors"],
        "rbd" => &["monitors", "image"],
        "glusterfs" => &["endpoints", "path"],
        "awsElasticBlockStore" | "cinder" | "portworxVolume" => &["volumeID"],
        "gcePersistentDisk" => &["pdName"],
        "azureFile" => &["secretName", "shareName"],
        "azureDisk" => &["diskName", "diskURI"],
        "vsphereVolume" => &["volumePath"],
        "photonPersistentDisk" => &["pdID"],
        "scaleIO" => &["gateway", "system", "volumeName"],
        "storageos" => &["volumeName"],
        "flexVolume" => &["driver"],
        "gitRepo" => &["repository"],
        "local" => &["path"],
        _ => &[],
    }
}

pub(super) fn host_path_type(source: &Value, at: &Path, errors: &mut Errors) {
    if !HOST_PATH_TYPES.contains(&source.str_at("type")) {
        errors.not_supported(&at.child("type"), source.str_at("type"), &HOST_PATH_TYPES);
    }
}

/// Volumes made of files: modes, keys, paths.
pub(super) fn files(name: &str, source: &Value, of: Of, at: &Path, errors: &mut Errors) {
    mode(source, "defaultMode", at, errors);
    match name {
        "downwardAPI" => {
            for file in source.list_at("items") {
                downward_item(file, at, errors);
            }
        }
        "projected" => projected(source, of, at, errors),
        _ => items(source, at, errors),
    }
}

pub(super) fn mode(holder: &Value, field: &str, at: &Path, errors: &mut Errors) {
    if let Some(mode) = holder.int_at(field)
        && !(0..=MAX_MODE).contains(&mode)
    {
        let text = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.invalid(&at.child(field), mode, text);
    }
}

fn items(source: &Value, at: &Path, errors: &mut Errors) {
    for (i, file) in source.list_at("items").iter().enumerate() {
        item(file, &at.child("items").index(i), errors);
    }
}

/// A file that shows something of the Pod. Upstream names no item here.
fn downward_item(file: &Value, at: &Path, errors: &mut Errors) {
    let path = file.str_at("path");
    if path.is_empty() {
        errors.required(&at.child("path"), "");
    }
    local_path(path, &at.child("path"), errors);
    let (field, resource) = (file.at("fieldRef"), file.at("resourceFieldRef"));
    if !field.is_null() {
        field_ref(field, &VOLUME_FIELDS, &at.child("fieldRef"), errors);
        if !resource.is_null() {
            let text = "fieldRef and resourceFieldRef can not be specified simultaneously";
            errors.invalid(at, "resource", text);
        }
    } else if !resource.is_null() {
        resource_ref(resource, true, &at.child("resourceFieldRef"), errors);
    } else {
        errors.required(at, "one of fieldRef and resourceFieldRef is required");
    }
    mode(file, "mode", at, errors);
}

fn projected(source: &Value, of: Of, at: &Path, errors: &mut Errors) {
    let mut paths: BTreeSet<&str> = BTreeSet::new();
    for (i, one) in source.list_at("sources").iter().enumerate() {
        let place = at.child("sources").index(i);
        let mut count = 0;
        for kind in [
            "secret",
            "configMap",
            "downwardAPI",
            "serviceAccountToken",
            "clusterTrustBundle",
        ] {
            let (source, place) = (one.at(kind), place.child(kind));
            if source.is_null() {
                continue;
            }
            count += 1;
            match kind {
                "serviceAccountToken" => token(source, of, at, &place, errors),
                "clusterTrustBundle" => {
                    let path = source.str_at("path");
                    certificates::projection(source, &place, errors);
                    if path.is_empty() {
                        errors.required(&place.child("path"), "");
                    }
                    local_path(path, &place.child("path"), errors);
                    if !paths.insert(path) {
                        errors.invalid(at, path, "conflicting duplicate paths");
                    }
                }
                "downwardAPI" => {}
                _ if source.is_empty_at("name") => errors.required(&place.child("name"), ""),
                _ => {}
            }
            for (j, file) in source.list_at("items").iter().enumerate() {
                let path = file.str_at("path");
                match kind {
                    "downwardAPI" => downward_item(file, &place, errors),
                    _ => item(file, &place.child("items").index(j), errors),
                }
                if !path.is_empty() && !paths.insert(path) {
                    let shown = if kind == "downwardAPI" {
                        path
                    } else {
                        source.str_at("name")
                    };
                    errors.invalid(at, shown, "conflicting duplicate paths");
                }
            }
        }
        if count > 1 {
            errors.forbidden(&place, "may not specify more than 1 volume type per source");
        }
    }
}

fn token(source: &Value, of: Of, whole: &Path, at: &Path, errors: &mut Errors) {
    match source.int_at("expirationSeconds") {
        Some(seconds) if seconds < 600 => {
            let text = "may not specify a duration less than 10 minutes";
            errors.invalid(&at.child("expirationSeconds"), seconds, text);
        }
        Some(seconds) if seconds > 1 << 32 => {
            let text = "may not specify a duration larger than 2^32 seconds";
            errors.invalid(&at.child("expirationSeconds"), seconds, text);
        }
        _ => {}
    }
    // What was elsewhere before may stay there.
    let outside = |token: &Value| {
        let mut errors = Errors::default();
        local_path(token.str_at("path"), at, &mut errors);
        !errors.0.is_empty()
    };
    let mut before = of
        .old
        .list_at("volumes")
        .iter()
        .flat_map(|volume| volume.list_at("projected.sources"));
    if source.is_empty_at("path") {
        errors.required(&whole.child("path"), "");
    } else if !before
        .any(|source| source.has("serviceAccountToken") && outside(source.at("serviceAccountToken")))
    {
        local_path(source.str_at("path"), &whole.child("path"), errors);
    }
}
