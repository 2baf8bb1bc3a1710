//! Validation of volumes and their sources. Every source of upstream is accepted as a shape; whether a host can serve it
//! is the host's answer, at mount time.

use super::env::{VOLUME_FIELDS, field_ref, resource_ref};
use super::{Volumes, container::descending_path, resources};
use crate::validation::errors::Errors;
use crate::validation::{certificates, metadata, names};
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;
use std::collections::BTreeSet;

/// Fields of a volume that are no source.
const NOT_SOURCES: [&str; 1] = ["name"];
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

/// Checks the volumes of a Pod and answers what mounts may name.
pub(super) fn volumes(list: &Value, at: &Path, errors: &mut Errors) -> Volumes {
    let mut out = Volumes {
        names: BTreeSet::new(),
        claims: BTreeSet::new(),
        empty_dirs: BTreeSet::new(),
    };
    for (i, volume) in list.as_array().into_iter().flatten().enumerate() {
        let place = at.index(i);
        let name = volume.str_at("name");
        volume_sources(volume, &NOT_SOURCES, &place, errors);
        if name.is_empty() {
            errors.required(&place.child("name"), "");
        } else {
            errors.each(&place.child("name"), name, names::dns_label(name));
        }
        if !name.is_empty() && !out.names.insert(name.to_string()) {
            errors.duplicate(&place.child("name"), name);
        }
        if volume.has("persistentVolumeClaim") || volume.has("ephemeral") {
            out.claims.insert(name.to_string());
        }
        if volume.has("emptyDir") {
            out.empty_dirs.insert(name.to_string());
        }
    }
    out
}

/// Checks that there is exactly one source, and that one.
pub(crate) fn volume_sources(holder: &Value, other: &[&str], at: &Path, errors: &mut Errors) {
    let sources: Vec<(&String, &Value)> = holder
        .as_object()
        .into_iter()
        .flatten()
        .filter(|(name, source)| !other.contains(&name.as_str()) && source.is_object())
        .collect();
    if sources.is_empty() {
        errors.required(at, "must specify a volume type");
    }
    for (i, (name, source)) in sources.into_iter().enumerate() {
        if i > 0 {
            errors.forbidden(&at.child(name), "may not specify more than 1 volume type");
        } else {
            one_source(name, source, &at.child(name), errors);
        }
    }
}

fn one_source(name: &str, source: &Value, at: &Path, errors: &mut Errors) {
    let required: &[&str] = match name {
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
        "awsElasticBlockStore" | "cinder" => &["volumeID"],
        "gcePersistentDisk" => &["pdName"],
        "azureFile" => &["secretName", "shareName"],
        "azureDisk" => &["diskName", "diskURI"],
        "vsphereVolume" => &["volumePath"],
        "flexVolume" => &["driver"],
        "gitRepo" => &["repository"],
        "local" => &["path"],
        _ => &[],
    };
    for field in required.iter().filter(|f| source.is_empty_at(f)) {
        errors.required(&at.child(field), "");
    }
    match name {
        "secret" | "configMap" | "downwardAPI" | "projected" => files(name, source, at, errors),
        "hostPath" => {
            if source.str_at("path").split('/').any(|s| s == "..") {
                errors.invalid(&at.child("path"), source.str_at("path"), "must not contain '..'");
            }
            if !HOST_PATH_TYPES.contains(&source.str_at("type")) {
                errors.not_supported(&at.child("type"), source.str_at("type"), &HOST_PATH_TYPES);
            }
        }
        "emptyDir" if resources::parse(source.at("sizeLimit")).is_some_and(|q| q.is_negative()) => {
            errors.forbidden(
                &at.child("sizeLimit"),
                "SizeLimit field must be a valid resource quantity",
            );
        }
        "nfs" if !source.str_at("path").starts_with('/') => {
            errors.invalid(
                &at.child("path"),
                source.str_at("path"),
                "must be an absolute path",
            );
        }
        "gitRepo" => descending_path(source, "directory", at, errors),
        "ephemeral" => ephemeral(source, at, errors),
        "image" => errors.one_of_if_set(source, "pullPolicy", at, &["Always", "IfNotPresent", "Never"]),
        _ => {}
    }
}

/// Volumes made of files: modes, keys, paths.
fn files(name: &str, source: &Value, at: &Path, errors: &mut Errors) {
    mode(source, "defaultMode", at, errors);
    match name {
        "downwardAPI" => downward_items(source, at, errors),
        "projected" => projected(source, at, errors),
        _ => items(source, at, errors),
    }
}

fn mode(holder: &Value, field: &str, at: &Path, errors: &mut Errors) {
    if let Some(mode) = holder.int_at(field)
        && !(0..=MAX_MODE).contains(&mode)
    {
        let text = "must be a number between 0 and 0777 (octal), both inclusive";
        errors.invalid(&at.child(field), mode, text);
    }
}

fn items(source: &Value, at: &Path, errors: &mut Errors) {
    for (i, item) in source.list_at("items").iter().enumerate() {
        let place = at.child("items").index(i);
        if item.is_empty_at("key") {
            errors.required(&place.child("key"), "");
        }
        path(item, &place, errors);
        mode(item, "mode", &place, errors);
    }
}

fn path(item: &Value, at: &Path, errors: &mut Errors) {
    let path = item.str_at("path");
    if path.is_empty() {
        errors.required(&at.child("path"), "");
        return;
    }
    descending_path(item, "path", at, errors);
    if path.starts_with("..") && !path.split('/').any(|s| s == "..") {
        errors.invalid(&at.child("path"), path, "must not start with '..'");
    }
}

fn downward_items(source: &Value, at: &Path, errors: &mut Errors) {
    // Upstream names no item here.
    for item in source.list_at("items") {
        let place = at.clone();
        path(item, &place, errors);
        mode(item, "mode", &place, errors);
        match (item.has("fieldRef"), item.has("resourceFieldRef")) {
            (true, true) => {
                errors.invalid(
                    &place,
                    "resource",
                    "fieldRef and resourceFieldRef can not be specified simultaneously",
                );
            }
            (true, false) => {
                field_ref(
                    item.at("fieldRef"),
                    &VOLUME_FIELDS,
                    &place.child("fieldRef"),
                    errors,
                );
            }
            (false, true) => {
                resource_ref(
                    item.at("resourceFieldRef"),
                    true,
                    &place.child("resourceFieldRef"),
                    errors,
                );
            }
            (false, false) => errors.required(&place, "one of fieldRef and resourceFieldRef is required"),
        }
    }
}

fn projected(source: &Value, at: &Path, errors: &mut Errors) {
    let mut paths: BTreeSet<&str> = BTreeSet::new();
    for (i, one) in source.list_at("sources").iter().enumerate() {
        let place = at.child("sources").index(i);
        let given: Vec<(&String, &Value)> = one
            .as_object()
            .into_iter()
            .flatten()
            .filter(|(_, v)| v.is_object())
            .collect();
        if given.len() > 1 {
            errors.forbidden(&place, "may not specify more than 1 volume type per source");
        }
        for (kind, one) in given {
            let place = place.child(kind);
            match kind.as_str() {
                "secret" | "configMap" => {
                    if one.is_empty_at("name") {
                        errors.required(&place.child("name"), "");
                    }
                    items(one, &place, errors);
                }
                "downwardAPI" => downward_items(one, &place, errors),
                "serviceAccountToken" => token(one, at, &place, errors),
                "clusterTrustBundle" => {
                    certificates::projection(one, &place, errors);
                    path(one, &place, errors);
                }
                _ => {}
            }
            let own = one
                .list_at("items")
                .iter()
                .map(|item| item.str_at("path"))
                .chain([one.str_at("path")]);
            for path in own.filter(|p| !p.is_empty()) {
                if !paths.insert(path) {
                    errors.invalid(&place, path, format!("conflicting duplicate paths: {path}"));
                }
            }
        }
    }
}

fn token(source: &Value, whole: &Path, at: &Path, errors: &mut Errors) {
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
    if source.is_empty_at("path") {
        errors.required(&whole.child("path"), "");
    } else {
        path(source, at, errors);
    }
}

fn ephemeral(source: &Value, at: &Path, errors: &mut Errors) {
    let place = at.child("volumeClaimTemplate");
    let template = source.at("volumeClaimTemplate");
    if template.is_null() {
        errors.required(&place, "");
        return;
    }
    metadata::labels(template.at("metadata.labels"), &place.child("labels"), errors);
    metadata::annotations(
        template.at("metadata.annotations"),
        &place.child("annotations"),
        errors,
    );
    crate::validation::storage::claim_spec(template.at("spec"), &place.child("spec"), errors);
}
