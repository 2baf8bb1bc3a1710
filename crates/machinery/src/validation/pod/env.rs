//! Validation of environment variables and of references to fields, resources and keys.

use super::{all_containers, container::no_backsteps};
use crate::validation::errors::Errors;
use crate::validation::names;
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;

/// What a variable's value may come from.
const SOURCES: [&str; 5] = [
    "fieldRef",
    "resourceFieldRef",
    "configMapKeyRef",
    "secretKeyRef",
    "fileKeyRef",
];
/// Fields that an environment variable may show.
const ENV_FIELDS: [&str; 9] = [
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
    "spec.nodeName",
    "spec.serviceAccountName",
    "status.hostIP",
    "status.hostIPs",
    "status.podIP",
    "status.podIPs",
];
/// Fields that a file of a downward API volume may show.
pub(super) const VOLUME_FIELDS: [&str; 5] = [
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
];
/// Resources that may be shown.
const RESOURCES: [&str; 6] = [
    "limits.cpu",
    "limits.ephemeral-storage",
    "limits.memory",
    "requests.cpu",
    "requests.ephemeral-storage",
    "requests.memory",
];

/// Checks the list of variables.
pub(super) fn variables(list: &Value, at: &Path, errors: &mut Errors) {
    for (i, variable) in list.as_array().into_iter().flatten().enumerate() {
        let name = variable.str_at("name");
        if name.is_empty() {
            errors.required(&at.index(i).child("name"), "");
        } else if let wrong = names::env_name(name)
            && !wrong.is_empty()
        {
            errors.each(&at.index(i).child("name"), name, wrong);
        }
        if variable.has("valueFrom") {
            value_from(variable, &at.index(i).child("valueFrom"), errors);
        }
    }
}

fn value_from(variable: &Value, at: &Path, errors: &mut Errors) {
    let source = variable.at("valueFrom");
    if source.has("fieldRef") {
        field_ref(source.at("fieldRef"), &ENV_FIELDS, &at.child("fieldRef"), errors);
    }
    if source.has("resourceFieldRef") {
        resource_ref(
            source.at("resourceFieldRef"),
            false,
            &at.child("resourceFieldRef"),
            errors,
        );
    }
    for key in ["configMapKeyRef", "secretKeyRef"] {
        if source.has(key) {
            key_ref(source.at(key), &at.child(key), errors);
        }
    }
    if source.has("fileKeyRef") {
        file_ref(source.at("fileKeyRef"), &at.child("fileKeyRef"), errors);
    }
    match SOURCES.iter().filter(|s| source.has(s)).count() {
        0 => errors.invalid(
            at,
            "",
            "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`",
        ),
        _ if !variable.is_empty_at("value") => {
            errors.invalid(at, "", "may not be specified when `value` is not empty");
        }
        1 => {}
        _ => errors.invalid(at, "", "may not have more than one field specified at a time"),
    }
}

fn file_ref(reference: &Value, at: &Path, errors: &mut Errors) {
    let (key, volume) = (reference.str_at("key"), reference.str_at("volumeName"));
    match key {
        "" => errors.required(&at.child("key"), ""),
        key => errors.each(&at.child("key"), key, names::env_name(key)),
    }
    match volume {
        "" => errors.required(&at.child("volumeName"), ""),
        volume => errors.each(&at.child("volumeName"), volume, names::dns_label(volume)),
    }
    match reference.str_at("path") {
        "" => errors.required(&at.child("path"), ""),
        path => no_backsteps(path, &at.child("path"), errors),
    }
}

/// Files of variables are read from empty directories only.
pub(super) fn files(spec: &Value, at: &Path, errors: &mut Errors) {
    for (container, place) in all_containers(spec, at) {
        for (i, variable) in container.list_at("env").iter().enumerate() {
            let reference = variable.at("valueFrom").at("fileKeyRef");
            if reference.is_null() {
                continue;
            }
            let name = reference.str_at("volumeName");
            let place = place.child("env").index(i).child("valueFrom").child("fileKeyRef");
            let mut volumes = spec.list_at("volumes").iter().rev();
            match volumes.find(|volume| volume.str_at("name") == name) {
                None => errors.not_found(&place.child("volumeName"), name),
                Some(volume) if !volume.has("emptyDir") => {
                    let text = "referenced volume must be of type emptyDir";
                    errors.invalid(&place.child("volumeName"), name, text);
                }
                Some(_) => {}
            }
        }
    }
}

fn key_ref(reference: &Value, at: &Path, errors: &mut Errors) {
    let name = reference.str_at("name");
    errors.each(&at.child("name"), name, names::dns_subdomain(name));
    let key = reference.str_at("key");
    if key.is_empty() {
        errors.required(&at.child("key"), "");
    } else {
        errors.each(&at.child("key"), key, names::config_key(key));
    }
}

/// Checks a reference to a field of the Pod.
pub(super) fn field_ref(reference: &Value, valid: &[&str], at: &Path, errors: &mut Errors) {
    if reference.is_empty_at("apiVersion") {
        errors.required(&at.child("apiVersion"), "");
        return;
    }
    let path = reference.str_at("fieldPath");
    let place = at.child("fieldPath");
    if path.is_empty() {
        errors.required(&place, "");
        return;
    }
    let version = reference.str_at("apiVersion");
    if version != "v1" {
        let text = format!("error converting fieldPath: unsupported pod version: {version}");
        errors.invalid(&place, path, text);
        return;
    }
    // `metadata.labels['key']` names one entry.
    let entry = path.strip_suffix("']").and_then(|path| path.split_once("['"));
    if let Some((map, key)) = entry.filter(|(map, _)| !map.is_empty()) {
        match map {
            "metadata.labels" => errors.each(at, key, names::qualified_name(key)),
            "metadata.annotations" => {
                let key = key.to_lowercase();
                errors.each(at, &key, names::qualified_name(&key));
            }
            _ => errors.invalid(
                &place,
                path,
                format!("error converting fieldPath: field label does not support subscript: {path}"),
            ),
        }
        return;
    }
    // The name that the field once had.
    let known = if path == "spec.host" {
        "spec.nodeName"
    } else {
        path
    };
    if valid.contains(&known) {
        return;
    }
    let other = ["spec.restartPolicy", "spec.schedulerName", "status.phase"];
    if [&ENV_FIELDS[..], &VOLUME_FIELDS, &other]
        .iter()
        .any(|fields| fields.contains(&known))
    {
        errors.not_supported(&place, known, valid);
    } else {
        errors.invalid(
            &place,
            path,
            format!("error converting fieldPath: field label not supported: {path}"),
        );
    }
}

/// Checks a reference to a container's resource.
pub(super) fn resource_ref(reference: &Value, volume: bool, at: &Path, errors: &mut Errors) {
    match reference.str_at("resource") {
        _ if volume && reference.is_empty_at("containerName") => {
            errors.required(&at.child("containerName"), "");
        }
        "" => errors.required(&at.child("resource"), ""),
        name if RESOURCES.contains(&name) => {}
        name if name.starts_with("limits.hugepages-") || name.starts_with("requests.hugepages-") => {}
        name => errors.not_supported(&at.child("resource"), name, &RESOURCES),
    }
    divisor(reference, at, errors);
}

/// A resource is shown in units that its kind has.
fn divisor(reference: &Value, at: &Path, errors: &mut Errors) {
    const BYTES: [&str; 13] = [
        "1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei",
    ];
    let name = reference.str_at("resource");
    let Some(divisor) = super::resources::parse(reference.at("divisor")).filter(|d| d.as_milli() != 0) else {
        return;
    };
    let divisor = divisor.to_string();
    let (known, what) = match name.split_once('.').map(|(_, name)| name) {
        Some("cpu") => (
            ["1m", "1"].contains(&divisor.as_str()),
            "1m and 1 are supported with the cpu",
        ),
        Some("memory") => (
            BYTES.contains(&divisor.as_str()),
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the memory",
        ),
        Some("ephemeral-storage") => (
            BYTES.contains(&divisor.as_str()),
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the local ephemeral storage",
        ),
        Some(name) if name.starts_with("hugepages-") => (
            BYTES.contains(&divisor.as_str()),
            "1, 1k, 1M, 1G, 1T, 1P, 1E, 1Ki, 1Mi, 1Gi, 1Ti, 1Pi, 1Ei are supported with the hugepages",
        ),
        _ => return,
    };
    if !known {
        let text = format!("only divisor's values {what} resource");
        errors.invalid(&at.child("divisor"), name, text);
    }
}

/// Checks `envFrom`.
pub(super) fn sources(list: &Value, at: &Path, errors: &mut Errors) {
    for (i, source) in list.as_array().into_iter().flatten().enumerate() {
        let place = at.index(i);
        let prefix = source.str_at("prefix");
        if !prefix.is_empty() {
            errors.each(&place.child("prefix"), prefix, names::env_name(prefix));
        }
        let mut count = 0;
        for field in ["configMapRef", "secretRef"] {
            if source.has(field) {
                count += 1;
                let (name, place) = (source.at(field).str_at("name"), place.child(field).child("name"));
                match name {
                    "" => errors.required(&place, ""),
                    name => errors.each(&place, name, names::dns_subdomain(&names::masked(name))),
                }
            }
        }
        match count {
            0 => errors.invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"),
            1 => {}
            _ => errors.invalid(at, "", "may not have more than one field specified at a time"),
        }
    }
}
