//! Validation of a Pod's volumes: each has a name and one source, and what the source says is understood. Whether a host
//! can serve it is the host's answer, at mount time. Source: `ValidateVolumes` and its kin in
//! `pkg/apis/core/validation/validation.go` of Kubernetes v1.35.

use super::volume::{files, host_path_type, mode, required_fields};
use super::{
    Of, Volumes, container::descending, container::descending_path, container::no_backsteps, resources,
};
use crate::validation::errors::Errors;
use crate::validation::{metadata, names, storage};
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;
use std::collections::BTreeSet;

/// Kinds of sources in the order in which they are looked at, with their names where they are judged and where they are
/// one too many: upstream calls some of them otherwise.
const SOURCES: [(&str, &str, &str); 30] = [
    ("emptyDir", "emptyDir", "emptyDir"),
    ("hostPath", "hostPath", "hostPath"),
    ("gitRepo", "gitRepo", "gitRepo"),
    ("gcePersistentDisk", "persistentDisk", "gcePersistentDisk"),
    (
        "awsElasticBlockStore",
        "awsElasticBlockStore",
        "awsElasticBlockStore",
    ),
    ("secret", "secret", "secret"),
    ("nfs", "nfs", "nfs"),
    ("iscsi", "iscsi", "iscsi"),
    ("glusterfs", "glusterfs", "glusterfs"),
    ("flocker", "flocker", "flocker"),
    (
        "persistentVolumeClaim",
        "persistentVolumeClaim",
        "persistentVolumeClaim",
    ),
    ("rbd", "rbd", "rbd"),
    ("cinder", "cinder", "cinder"),
    ("cephfs", "cephfs", "cephFS"),
    ("quobyte", "quobyte", "quobyte"),
    ("downwardAPI", "downwardAPI", "downwarAPI"),
    ("fc", "fc", "fc"),
    ("flexVolume", "flexVolume", "flexVolume"),
    ("configMap", "configMap", "configMap"),
    ("azureFile", "azureFile", "azureFile"),
    ("vsphereVolume", "vsphereVolume", "vsphereVolume"),
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "photonPersistentDisk",
    ),
    ("portworxVolume", "portworxVolume", "portworxVolume"),
    ("azureDisk", "azureDisk", "azureDisk"),
    ("storageos", "storageos", "storageos"),
    ("projected", "projected", "projected"),
    ("scaleIO", "scaleIO", "scaleIO"),
    ("csi", "csi", "csi"),
    ("ephemeral", "ephemeral", "ephemeral"),
    ("image", "image", "image"),
];

/// Checks the volumes of a Pod and answers what mounts may name.
pub(super) fn volumes<'v>(list: &'v [Value], of: Of, at: &Path, errors: &mut Errors) -> Volumes<'v> {
    let mut out = Volumes::new();
    let pod = of.meta.str_at("name");
    let made = list
        .iter()
        .filter(|volume| !pod.is_empty() && volume.has("ephemeral"));
    let made: BTreeSet<String> = made
        .map(|volume| format!("{pod}-{}", volume.str_at("name")))
        .collect();
    for (i, volume) in list.iter().enumerate() {
        let (place, name, before) = (at.index(i), volume.str_at("name"), errors.0.len());
        sources(volume, of, &place, errors);
        if name.is_empty() {
            errors.required(&place.child("name"), "");
        } else {
            errors.each(&place.child("name"), name, names::dns_label(name));
        }
        if out.contains_key(name) {
            errors.duplicate(&place.child("name"), name);
        }
        if errors.0.len() == before {
            out.insert(name, volume);
        }
        let claim = volume.str_at("persistentVolumeClaim.claimName");
        if made.contains(claim) {
            let place = place.child("persistentVolumeClaim").child("claimName");
            let text = "must not reference a PVC that gets created for an ephemeral volume";
            errors.invalid(&place, claim, text);
        }
    }
    out
}

/// Checks that there is exactly one source, and that one.
fn sources(volume: &Value, of: Of, at: &Path, errors: &mut Errors) {
    let mut found = false;
    // Usually there is one beside the name, where the table below is long.
    let fields = volume.as_object().into_iter().flatten();
    let given = fields.filter(|(_, source)| source.is_object());
    let known = given.filter_map(|(name, _)| SOURCES.iter().position(|(kind, ..)| kind == name));
    let mut known: Vec<usize> = known.collect();
    known.sort_unstable();
    for (kind, place, refused) in known.into_iter().map(|at| SOURCES[at]) {
        if found {
            errors.forbidden(&at.child(refused), "may not specify more than 1 volume type");
        } else {
            source(kind, volume, of, at, &at.child(place), errors);
        }
        found = true;
        if kind == "iscsi" {
            initiator_length(volume, at, errors);
        }
    }
    if !found {
        errors.required(at, "must specify a volume type");
    }
}

fn source(kind: &str, volume: &Value, of: Of, whole: &Path, at: &Path, errors: &mut Errors) {
    let source = volume.at(kind);
    match kind {
        "secret" | "configMap" | "downwardAPI" | "projected" => {
            needed(kind, source, at, errors);
            files(kind, source, of, at, errors);
        }
        "ephemeral" => ephemeral(volume, of, whole, at, errors),
        "image" => {
            if of.is_pod() && source.is_empty_at("reference") {
                errors.required(&at.child("reference"), "");
            }
            errors.one_of(source, "pullPolicy", at, &["Always", "IfNotPresent", "Never"]);
        }
        _ => shared(kind, source, at, errors),
    }
}

fn needed(kind: &str, source: &Value, at: &Path, errors: &mut Errors) {
    for field in required_fields(kind)
        .iter()
        .filter(|field| source.is_empty_at(field))
    {
        errors.required(&at.child(field), "");
    }
}

/// Checks a source that has nothing to do with the Pod that has it.
pub(super) fn shared(kind: &str, source: &Value, at: &Path, errors: &mut Errors) {
    // What is asked for in an order of its own is asked for below.
    if !matches!(kind, "iscsi" | "quobyte" | "azureDisk" | "csi") {
        needed(kind, source, at, errors);
    }
    match kind {
        "emptyDir" if resources::parse(source.at("sizeLimit")).is_some_and(|q| q.is_negative()) => {
            let text = "SizeLimit field must be a valid resource quantity";
            errors.forbidden(&at.child("sizeLimit"), text);
        }
        "hostPath" if !source.is_empty_at("path") => {
            no_backsteps(source.str_at("path"), &at.child("path"), errors);
            host_path_type(source, at, errors);
        }
        "gitRepo" => descending_path(source, "directory", at, errors),
        "gcePersistentDisk" | "awsElasticBlockStore" => {
            if let Some(number) = source.int_at("partition").filter(|n| !(0..=255).contains(n)) {
                errors.invalid(&at.child("partition"), number, names::range(1, 255));
            }
        }
        "nfs" if !source.str_at("path").starts_with('/') => {
            let text = "must be an absolute path";
            errors.invalid(&at.child("path"), source.str_at("path"), text);
        }
        "iscsi" => iscsi(source, at, errors),
        "flocker" => flocker(source, at, errors),
        "cinder" => secret_name(source, at, errors),
        "quobyte" => quobyte(source, at, errors),
        "fc" => fibre_channel(source, at, errors),
        "flexVolume" => flex_options(source, at, errors),
        "azureDisk" => azure_disk(source, at, errors),
        "storageos" => {
            for field in ["volumeName", "volumeNamespace"] {
                let name = source.str_at(field);
                if !name.is_empty() {
                    errors.each(&at.child(field), name, names::dns_label(name));
                }
            }
            secret_name(source, at, errors);
        }
        "csi" => csi(source, at, errors),
        _ => {}
    }
}

fn secret_name(source: &Value, at: &Path, errors: &mut Errors) {
    if source.has("secretRef") && source.at("secretRef").is_empty_at("name") {
        errors.required(&at.child("secretRef").child("name"), "");
    }
}

/// Names of initiators: qualified, extended or assigned by a registry.
pub(super) fn initiator(name: &str) -> Option<&'static str> {
    let digits = |text: &str, count: usize| text.len() == count && text.bytes().all(|b| b.is_ascii_digit());
    let of = |text: &str, count: usize| {
        let rest: Vec<char> = text.chars().skip(4).collect();
        rest.len() == count && rest.iter().all(char::is_ascii_alphanumeric)
    };
    // `iqn.2015-02.example.com:name`, which may begin anywhere.
    let qualified = || {
        name.match_indices("iqn.").any(|(i, prefix)| {
            let Some((date, rest)) = name[i + prefix.len()..].split_once('.') else {
                return false;
            };
            let date = date
                .split_once('-')
                .is_some_and(|(year, month)| digits(year, 4) && digits(month, 2));
            let own = |c: char| ",;*&$|".contains(c) || c.is_ascii_whitespace();
            rest.split_once(':').is_some_and(|(domain, own_name)| {
                let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
                date && !domain.is_empty()
                    && domain.chars().all(plain)
                    && !own_name.is_empty()
                    && !own_name.contains(own)
            })
        })
    };
    let good = match name.get(..3) {
        Some("iqn") => qualified(),
        Some("eui") => of(name, 16),
        Some("naa") => of(name, 32),
        _ => return Some("must be valid format starting with iqn, eui, or naa"),
    };
    (!good).then_some("must be valid format")
}

fn iscsi(source: &Value, at: &Path, errors: &mut Errors) {
    if source.is_empty_at("targetPortal") {
        errors.required(&at.child("targetPortal"), "");
    }
    match source.str_at("iqn") {
        "" => errors.required(&at.child("iqn"), ""),
        name => {
            if let Some(text) = initiator(name) {
                errors.invalid(&at.child("iqn"), name, text);
            }
        }
    }
    if let Some(lun) = source.int_at("lun").filter(|lun| !(0..=255).contains(lun)) {
        errors.invalid(&at.child("lun"), lun, names::range(0, 255));
    }
    let secret = source.bool_at("chapAuthDiscovery") || source.bool_at("chapAuthSession");
    if secret && !source.has("secretRef") {
        errors.required(&at.child("secretRef"), "");
    }
    if source.has("initiatorName")
        && let Some(text) = initiator(source.str_at("initiatorName"))
    {
        errors.invalid(&at.child("initiatorname"), source.str_at("initiatorName"), text);
    }
}

fn initiator_length(volume: &Value, at: &Path, errors: &mut Errors) {
    const MAX: usize = 64;
    let (name, portal) = (volume.str_at("name"), volume.str_at("iscsi.targetPortal"));
    if volume.has("iscsi.initiatorName") && name.len() + 1 + portal.len() > MAX {
        let text = "Total length of <volume name>:<iscsi.targetPortal> must be under 64 characters if \
                    iscsi.initiatorName is specified.";
        errors.invalid(&at.child("name"), name, text);
    }
}

fn flocker(source: &Value, at: &Path, errors: &mut Errors) {
    let name = source.str_at("datasetName");
    match (name.is_empty(), source.is_empty_at("datasetUUID")) {
        (true, true) => errors.required(at, "one of datasetName and datasetUUID is required"),
        (false, false) => {
            let text = "datasetName and datasetUUID can not be specified simultaneously";
            errors.invalid(at, "resource", text);
        }
        _ => {}
    }
    if name.contains('/') {
        errors.invalid(&at.child("datasetName"), name, "must not contain '/'");
    }
}

fn quobyte(source: &Value, at: &Path, errors: &mut Errors) {
    const PAIRS: &str = "must be a host:port pair or multiple pairs separated by commas";
    let registry = source.str_at("registry");
    if registry.is_empty() {
        errors.required(&at.child("registry"), PAIRS);
    } else if source.str_at("tenant").len() > 64 {
        let text = "must be a UUID and may not exceed a length of 64 characters";
        errors.required(&at.child("tenant"), text);
    } else {
        for _ in registry.split(',').filter(|pair| !is_host_and_port(pair)) {
            errors.invalid(&at.child("registry"), registry, PAIRS);
        }
    }
    if source.is_empty_at("volume") {
        errors.required(&at.child("volume"), "");
    }
}

fn is_host_and_port(pair: &str) -> bool {
    match pair.rsplit_once(':') {
        Some((host, port)) if host.starts_with('[') => host.ends_with(']') && !port.contains(['[', ']']),
        Some((host, port)) => !host.contains([':', '[', ']']) && !port.contains(['[', ']']),
        None => false,
    }
}

fn fibre_channel(source: &Value, at: &Path, errors: &mut Errors) {
    let place = at.child("targetWWNs");
    let (names_given, ids_given) = (!source.is_empty_at("targetWWNs"), !source.is_empty_at("wwids"));
    match (names_given, ids_given) {
        (false, false) => errors.required(&place, "must specify either targetWWNs or wwids, but not both"),
        (true, true) => {
            let text = "targetWWNs and wwids can not be specified simultaneously";
            errors.invalid(&place, source.at("targetWWNs").clone(), text);
        }
        _ => {}
    }
    match source.int_at("lun") {
        None if names_given => {
            errors.required(&at.child("lun"), "lun is required if targetWWNs is specified");
        }
        Some(lun) if names_given && !(0..=255).contains(&lun) => {
            errors.invalid(&at.child("lun"), lun, names::range(0, 255));
        }
        _ => {}
    }
}

fn flex_options(source: &Value, at: &Path, errors: &mut Errors) {
    for (name, _) in source.entries_at("options") {
        let domain = name.split_once('/').map_or(name.as_str(), |(domain, _)| domain);
        let domain = format!(".{}", domain.to_lowercase());
        if domain.ends_with(".kubernetes.io") || domain.ends_with(".k8s.io") {
            let text = "kubernetes.io and k8s.io namespaces are reserved";
            errors.invalid(&at.child("options").key(name), name.as_str(), text);
        }
    }
}

fn azure_disk(source: &Value, at: &Path, errors: &mut Errors) {
    const MANAGED: &str =
        "/subscriptions/{sub-id}/resourcegroups/{group-name}/providers/microsoft.compute/disks/{disk-id}";
    const BLOB: &str = "https://{account-name}.blob.core.windows.net/{container-name}/{disk-name}.vhd";
    for field in ["diskName", "diskURI"] {
        if source.is_empty_at(field) {
            errors.required(&at.child(field), "");
        }
    }
    let one_of = |field: &str, valid: &[&str], errors: &mut Errors| {
        if source.has(field) && !valid.contains(&source.str_at(field)) {
            errors.not_supported(&at.child(field), source.str_at(field), valid);
        }
    };
    one_of("cachingMode", &["None", "ReadOnly", "ReadWrite"], errors);
    one_of("kind", &["Dedicated", "Managed", "Shared"], errors);
    if !source.has("kind") {
        return;
    }
    let uri = source.str_at("diskURI");
    let (prefix, form) = match source.str_at("kind") {
        "Managed" => ("/subscriptions/", MANAGED),
        _ => ("https://", BLOB),
    };
    if !uri.starts_with(prefix) {
        errors.not_supported(&at.child("diskURI"), uri, &[form]);
    }
}

/// Checks the name of a driver.
pub(super) fn driver_name(driver: &str, at: &Path, errors: &mut Errors) {
    if driver.is_empty() {
        errors.required(at, "");
        return;
    }
    if driver.len() > 63 {
        errors.too_long(at, 63);
    }
    errors.each(at, driver, names::dns_subdomain(&driver.to_lowercase()));
}

fn csi(source: &Value, at: &Path, errors: &mut Errors) {
    driver_name(source.str_at("driver"), &at.child("driver"), errors);
    if source.has("nodePublishSecretRef") {
        match source.str_at("nodePublishSecretRef.name") {
            "" => errors.required(&at.child("nodePublishSecretRef").child("name"), ""),
            name => errors.each(&at.child("name"), name, names::dns_subdomain(name)),
        }
    }
}

/// A claim that is made for the Pod alone.
fn ephemeral(volume: &Value, of: Of, whole: &Path, at: &Path, errors: &mut Errors) {
    let place = at.child("volumeClaimTemplate");
    let template = volume.at("ephemeral.volumeClaimTemplate");
    if template.is_null() {
        errors.required(&place, "");
    } else {
        let (meta, place) = (template.at("metadata"), place.child("metadata"));
        metadata::of_template(meta, &place, errors);
        let place = at.child("volumeClaimTemplate").child("spec");
        storage::claim_spec(template.at("spec"), &place, errors);
    }
    let (pod, name) = (of.meta.str_at("name"), volume.str_at("name"));
    if !pod.is_empty() && !name.is_empty() {
        let claim = format!("{pod}-{name}");
        for text in names::dns_subdomain(&claim) {
            errors.invalid(&whole.child("name"), name, format!("PVC name {claim:?}: {text}"));
        }
    }
}

/// Checks the mode of files, which is one of the last nine bits.
pub(super) fn item(item: &Value, at: &Path, errors: &mut Errors) {
    let path = item.str_at("path");
    if item.is_empty_at("key") {
        errors.required(&at.child("key"), "");
    }
    if path.is_empty() {
        errors.required(&at.child("path"), "");
    }
    local_path(path, &at.child("path"), errors);
    mode(item, "mode", at, errors);
}

/// A path below where it starts that does not begin with two dots.
pub(super) fn local_path(path: &str, at: &Path, errors: &mut Errors) {
    descending(path, at, errors);
    if path.starts_with("..") && !path.starts_with("../") {
        errors.invalid(at, path, "must not start with '..'");
    }
}
