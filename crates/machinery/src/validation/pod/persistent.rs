//! Validation of what stands behind a PersistentVolume: one source, in upstream's order of looking at them. Source:
//! `ValidatePersistentVolumeSpec` in `pkg/apis/core/validation/validation.go` of Kubernetes v1.35.

use super::container::no_backsteps;
use super::sources::{driver_name, initiator, shared};
use super::volume::required_fields;
use crate::validation::errors::Errors;
use crate::validation::names;
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;

/// Kinds of sources, with their names where they are judged and where they are one too many.
const SOURCES: [(&str, &str, &str); 22] = [
    ("hostPath", "hostPath", "hostPath"),
    ("gcePersistentDisk", "persistentDisk", "gcePersistentDisk"),
    (
        "awsElasticBlockStore",
        "awsElasticBlockStore",
        "awsElasticBlockStore",
    ),
    ("glusterfs", "glusterfs", "glusterfs"),
    ("flocker", "flocker", "flocker"),
    ("nfs", "nfs", "nfs"),
    ("rbd", "rbd", "rbd"),
    ("quobyte", "quobyte", "quobyte"),
    ("cephfs", "cephfs", "cephFS"),
    ("iscsi", "iscsi", "iscsi"),
    ("cinder", "cinder", "cinder"),
    ("fc", "fc", "fc"),
    ("flexVolume", "flexVolume", "flexVolume"),
    ("azureFile", "azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume", "vsphereVolume"),
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "photonPersistentDisk",
    ),
    ("portworxVolume", "portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk", "azureDisk"),
    ("scaleIO", "scaleIO", "scaleIO"),
    ("local", "local", "local"),
    ("storageos", "storageos", "storageos"),
    ("csi", "csi", "csi"),
];

/// Checks that a volume's spec has exactly one source, and that one. `name` is the volume's.
pub(crate) fn persistent_sources(spec: &Value, name: &str, at: &Path, errors: &mut Errors) {
    let mut found = false;
    for (kind, place, refused) in SOURCES.into_iter().filter(|(kind, ..)| spec.at(kind).is_object()) {
        // Upstream lets this one stand beside others.
        if found && kind != "flexVolume" {
            errors.forbidden(&at.child(refused), "may not specify more than 1 volume type");
        } else {
            source(kind, spec.at(kind), name, &at.child(place), errors);
            if kind == "local" && !spec.has("nodeAffinity") {
                errors.required(&at.child("nodeAffinity"), "Local volume requires node affinity");
            }
        }
        found = true;
    }
    if !found {
        errors.required(at, "must specify a volume type");
    }
}

fn source(kind: &str, source: &Value, name: &str, at: &Path, errors: &mut Errors) {
    match kind {
        "iscsi" => iscsi(source, name, at, errors),
        "csi" => csi(source, at, errors),
        "storageos" => storageos(source, at, errors),
        "glusterfs" | "cinder" | "azureFile" | "local" | "scaleIO" => {
            for field in required_fields(kind)
                .iter()
                .filter(|field| source.is_empty_at(field))
            {
                errors.required(&at.child(field), "");
            }
            more(kind, source, at, errors);
        }
        _ => shared(kind, source, at, errors),
    }
}

/// What these have beside fields that they cannot do without.
fn more(kind: &str, source: &Value, at: &Path, errors: &mut Errors) {
    match kind {
        "glusterfs" if source.has("endpointsNamespace") => {
            let (place, namespace) = (
                at.child("endpointsNamespace"),
                source.str_at("endpointsNamespace"),
            );
            if namespace.is_empty() {
                let text = "if the endpointnamespace is set, it must be a valid namespace name";
                errors.invalid(&place, "", text);
            } else {
                errors.each(&place, namespace, names::dns_label(namespace));
            }
        }
        "cinder" => secret(source, at, errors),
        "azureFile" if source.has("secretNamespace") && source.is_empty_at("secretNamespace") => {
            errors.required(&at.child("secretNamespace"), "");
        }
        "local" if !source.is_empty_at("path") => {
            no_backsteps(source.str_at("path"), &at.child("path"), errors);
        }
        _ => {}
    }
}

/// A secret that needs a namespace, too.
fn secret(source: &Value, at: &Path, errors: &mut Errors) {
    for field in ["name", "namespace"] {
        if source.has("secretRef") && source.at("secretRef").is_empty_at(field) {
            errors.required(&at.child("secretRef").child(field), "");
        }
    }
}

fn iscsi(source: &Value, name: &str, at: &Path, errors: &mut Errors) {
    const MAX: usize = 64;
    const FORM: &str = "must be valid format";
    let portal = source.str_at("targetPortal");
    if portal.is_empty() {
        errors.required(&at.child("targetPortal"), "");
    }
    if source.has("initiatorName") && name.len() + 1 + portal.len() > MAX {
        let text = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                    iscsi.initiatorName is specified.";
        errors.invalid(&at.child("targetportal"), portal, text);
    }
    match source.str_at("iqn") {
        "" => errors.required(&at.child("iqn"), ""),
        given if initiator(given).is_some() => errors.invalid(&at.child("iqn"), given, FORM),
        _ => {}
    }
    if let Some(lun) = source.int_at("lun").filter(|lun| !(0..=255).contains(lun)) {
        errors.invalid(&at.child("lun"), lun, names::range(0, 255));
    }
    let wanted = source.bool_at("chapAuthDiscovery") || source.bool_at("chapAuthSession");
    if wanted && !source.has("secretRef") {
        errors.required(&at.child("secretRef"), "");
    }
    if source.has("secretRef") && source.at("secretRef").is_empty_at("name") {
        errors.required(&at.child("secretRef").child("name"), "");
    }
    let given = source.str_at("initiatorName");
    if source.has("initiatorName") && initiator(given).is_some() {
        errors.invalid(&at.child("initiatorname"), given, FORM);
    }
}

fn storageos(source: &Value, at: &Path, errors: &mut Errors) {
    for (field, needed) in [("volumeName", true), ("volumeNamespace", false)] {
        match source.str_at(field) {
            "" if needed => errors.required(&at.child(field), ""),
            "" => {}
            name => errors.each(&at.child(field), name, names::dns_label(name)),
        }
    }
    secret(source, at, errors);
}

fn csi(source: &Value, at: &Path, errors: &mut Errors) {
    driver_name(source.str_at("driver"), &at.child("driver"), errors);
    if source.is_empty_at("volumeHandle") {
        errors.required(&at.child("volumeHandle"), "");
    }
    // Upstream does not look at the secret of staging.
    for field in [
        "controllerPublishSecretRef",
        "controllerExpandSecretRef",
        "nodePublishSecretRef",
        "nodeExpandSecretRef",
    ] {
        if !source.has(field) {
            continue;
        }
        let (secret, place) = (source.at(field), at.child(field));
        match secret.str_at("name") {
            "" => errors.required(&place.child("name"), ""),
            name => errors.each(&place.child("name"), name, names::dns_subdomain(name)),
        }
        match secret.str_at("namespace") {
            "" => errors.required(&place.child("namespace"), ""),
            name => errors.each(&place.child("namespace"), name, names::dns_label(name)),
        }
    }
}
