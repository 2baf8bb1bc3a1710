//! Validation of containers: main, init, sidecar and ephemeral ones.

use super::Volumes;
use super::{env, probe, resources, security};
use crate::validation::errors::Errors;
use crate::validation::names;
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;
use std::collections::BTreeSet;

/// Checks all containers of a Pod's spec.
pub(super) fn containers(spec: &Value, volumes: &Volumes, at: &Path, errors: &mut Errors) {
    let main = spec.list_at("containers");
    if main.is_empty() {
        errors.required(&at.child("containers"), "");
    }
    let host_network = spec.bool_at("hostNetwork");
    let grace = spec.int_at("terminationGracePeriodSeconds");
    let mut names = BTreeSet::new();
    for (i, c) in main.iter().enumerate() {
        let place = at.child("containers").index(i);
        common(c, volumes, host_network, &place, errors);
        unique_name(c, &mut names, &place, errors);
        lifecycle_and_probes(c, grace, &place, errors);
        resize_policy(c, spec.str_at("restartPolicy"), &place, errors);
        claims(spec, c, &place, errors);
        restarts(c, &place, errors);
        env::files(c, volumes, &place, errors);
    }
    host_ports(main, &at.child("containers"), errors);
    for (i, c) in spec.list_at("initContainers").iter().enumerate() {
        let place = at.child("initContainers").index(i);
        common(c, volumes, host_network, &place, errors);
        unique_name(c, &mut names, &place, errors);
        resize_policy(c, spec.str_at("restartPolicy"), &place, errors);
        claims(spec, c, &place, errors);
        restarts(c, &place, errors);
        env::files(c, volumes, &place, errors);
        if c.str_at("restartPolicy") == "Always" {
            lifecycle_and_probes(c, grace, &place, errors);
            continue;
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if c.has(field) {
                let text = "may not be set for init containers without restartPolicy=Always";
                errors.forbidden(&place.child(field), text);
            }
        }
    }
    for (i, c) in spec.list_at("ephemeralContainers").iter().enumerate() {
        let place = at.child("ephemeralContainers").index(i);
        ephemeral(c, main, spec.list_at("initContainers"), volumes, &place, errors);
        unique_name(c, &mut names, &place, errors);
    }
}

/// A container's own restart policy, and its rules (KEP-5307). `RestartAllContainers` is of a feature that v1.35 has
/// switched off.
fn restarts(c: &Value, at: &Path, errors: &mut Errors) {
    const MAX_RULES: usize = 20;
    const MAX_VALUES: usize = 255;
    errors.one_of_if_set(c, "restartPolicy", at, &["Always", "Never", "OnFailure"]);
    let rules = c.list_at("restartPolicyRules");
    if !rules.is_empty() && c.is_empty_at("restartPolicy") {
        let text = "must specify restartPolicy when restart rules are used";
        errors.required(&at.child("restartPolicy"), text);
    }
    if rules.len() > MAX_RULES {
        errors.too_many(&at.child("restartPolicyRules"), rules.len(), MAX_RULES);
    }
    for (i, rule) in rules.iter().enumerate() {
        let place = at.child("restartPolicyRules").index(i);
        errors.one_of(rule, "action", &place, &["Restart"]);
        if !rule.has("exitCodes") {
            errors.required(&place.child("exitCodes"), "must be specified");
            continue;
        }
        let (codes, place) = (rule.at("exitCodes"), place.child("exitCodes"));
        errors.one_of(codes, "operator", &place, &["In", "NotIn"]);
        let values = codes.list_at("values");
        if values.is_empty() {
            errors.required(&place.child("values"), "must specify at least one value");
        } else if values.len() > MAX_VALUES {
            errors.too_many(&place.child("values"), values.len(), MAX_VALUES);
        }
        for (j, value) in values.iter().enumerate() {
            if values[..j].contains(value) {
                errors.duplicate(&place.child("values").index(j), value.clone());
            }
        }
    }
}

/// What any container must hold to.
fn common(c: &Value, volumes: &Volumes, host_network: bool, at: &Path, errors: &mut Errors) {
    let name = c.str_at("name");
    if name.is_empty() {
        errors.required(&at.child("name"), "");
    } else {
        errors.each(&at.child("name"), name, names::dns_label(name));
    }
    let image = c.str_at("image");
    if image.is_empty() {
        errors.required(&at.child("image"), "");
    } else if image.trim() != image {
        errors.invalid(
            &at.child("image"),
            image,
            "must not have leading or trailing whitespace",
        );
    }
    let policies = ["File", "FallbackToLogsOnError"];
    errors.one_of_in_order(c, "terminationMessagePolicy", at, &policies);
    ports(c, host_network, &at.child("ports"), errors);
    env::variables(c.at("env"), &at.child("env"), errors);
    env::sources(c.at("envFrom"), &at.child("envFrom"), errors);
    mounts(c, volumes, at, errors);
    errors.one_of(c, "imagePullPolicy", at, &["Always", "IfNotPresent", "Never"]);
    resources::requirements(c.at("resources"), &at.child("resources"), errors);
    security::container(c.at("securityContext"), &at.child("securityContext"), errors);
}

fn unique_name<'a>(c: &'a Value, seen: &mut BTreeSet<&'a str>, at: &Path, errors: &mut Errors) {
    let name = c.str_at("name");
    if !name.is_empty() && !seen.insert(name) {
        errors.duplicate(&at.child("name"), name);
    }
}

/// How a container is resized, per resource (KEP-1287).
fn resize_policy(c: &Value, pod_restarts: &str, at: &Path, errors: &mut Errors) {
    let place = at.child("resizePolicy");
    let mut seen = BTreeSet::new();
    for (i, policy) in c.list_at("resizePolicy").iter().enumerate() {
        let (resource, restart) = (policy.str_at("resourceName"), policy.str_at("restartPolicy"));
        if !seen.insert(resource) {
            errors.duplicate(&place.index(i), resource);
        }
        for (value, known) in [
            (resource, ["cpu", "memory"]),
            (restart, ["NotRequired", "RestartContainer"]),
        ] {
            match value {
                "" => errors.required(&place, ""),
                value if !known.contains(&value) => errors.not_supported(&place, value, &known),
                _ => {}
            }
        }
        if pod_restarts == "Never" && restart != "NotRequired" {
            errors.invalid(
                &place,
                restart,
                "must be 'NotRequired' when pod `restartPolicy` is 'Never'",
            );
        }
    }
}

/// Claims that a container names must be claims of its Pod.
fn claims(spec: &Value, c: &Value, at: &Path, errors: &mut Errors) {
    let mut known: Vec<&str> = spec
        .list_at("resourceClaims")
        .iter()
        .map(|claim| claim.str_at("name"))
        .collect();
    known.sort_unstable();
    for (i, claim) in c.list_at("resources.claims").iter().enumerate() {
        let name = claim.str_at("name");
        if !name.is_empty() && !known.contains(&name) {
            let mut text = "must be one of the names in pod.spec.resourceClaims".to_owned();
            match known.is_empty() {
                true => text.push_str(" which is empty"),
                false => text.push_str(&format!(": {}", known.join(", "))),
            }
            let place = at.child("resources").child("claims").index(i);
            errors.not_found_because(&place, name, text);
        }
    }
}

fn lifecycle_and_probes(c: &Value, grace: Option<i64>, at: &Path, errors: &mut Errors) {
    probe::lifecycle(c.at("lifecycle"), grace, &at.child("lifecycle"), errors);
    for (field, once) in [
        ("livenessProbe", true),
        ("readinessProbe", false),
        ("startupProbe", true),
    ] {
        probe::probe(c.at(field), &at.child(field), once, errors);
    }
}

/// What an ephemeral container may not say, since it has no guarantees.
fn ephemeral(c: &Value, main: &[Value], init: &[Value], volumes: &Volumes, at: &Path, errors: &mut Errors) {
    common(c, volumes, false, at, errors);
    let target = c.str_at("targetContainerName");
    if !target.is_empty() && !main.iter().chain(init).any(|m| m.str_at("name") == target) {
        errors.not_found(&at.child("targetContainerName"), target);
    }
    for field in [
        "ports",
        "resources",
        "lifecycle",
        "livenessProbe",
        "readinessProbe",
        "startupProbe",
    ] {
        if !c.is_empty_at(field) {
            errors.forbidden(&at.child(field), "cannot be set for an Ephemeral Container");
        }
    }
    for (i, mount) in c.list_at("volumeMounts").iter().enumerate() {
        for field in ["subPath", "subPathExpr"] {
            if !mount.is_empty_at(field) {
                let text = "cannot be set for an Ephemeral Container";
                errors.forbidden(&at.child("volumeMounts").index(i).child(field), text);
            }
        }
    }
}

fn ports(c: &Value, host_network: bool, at: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, port) in c.list_at("ports").iter().enumerate() {
        let place = at.index(i);
        let name = port.str_at("name");
        if !name.is_empty() {
            let bad = names::port_name(name);
            if bad.is_empty() && !seen.insert(name) {
                errors.duplicate(&place.child("name"), name);
            }
            errors.each(&place.child("name"), name, bad);
        }
        let number = port.int_at("containerPort").unwrap_or(0);
        if number == 0 {
            errors.required(&place.child("containerPort"), "");
        } else {
            for text in names::port_number(number) {
                errors.invalid(&place.child("containerPort"), number, text);
            }
        }
        let host = port.int_at("hostPort").unwrap_or(0);
        if host != 0 {
            for text in names::port_number(host) {
                errors.invalid(&place.child("hostPort"), host, text);
            }
        }
        if host_network && host != 0 && host != number {
            let text = "must match `hostPort` when `hostNetwork` is true";
            errors.invalid(&place.child("containerPort"), number, text);
        }
        errors.one_of(port, "protocol", &place, &["SCTP", "TCP", "UDP"]);
    }
}

/// A port of the host can be taken once.
fn host_ports(containers: &[Value], at: &Path, errors: &mut Errors) {
    let mut taken = BTreeSet::new();
    for (i, c) in containers.iter().enumerate() {
        for (j, port) in c.list_at("ports").iter().enumerate() {
            let number = port.int_at("hostPort").unwrap_or(0);
            if number == 0 {
                continue;
            }
            let key = format!("{}/{}/{number}", port.str_at("protocol"), port.str_at("hostIP"));
            if !taken.insert(key.clone()) {
                errors.duplicate(&at.index(i).child("ports").index(j).child("hostPort"), key);
            }
        }
    }
}

fn mounts(c: &Value, volumes: &Volumes, at: &Path, errors: &mut Errors) {
    let mut paths = BTreeSet::new();
    let devices: BTreeSet<&str> = c
        .list_at("volumeDevices")
        .iter()
        .map(|d| d.str_at("devicePath"))
        .collect();
    for (i, mount) in c.list_at("volumeMounts").iter().enumerate() {
        let place = at.child("volumeMounts").index(i);
        let (name, path) = (mount.str_at("name"), mount.str_at("mountPath"));
        if name.is_empty() {
            errors.required(&place.child("name"), "");
        } else if !volumes.names.contains(name) {
            errors.not_found(&place.child("name"), name);
        }
        if path.is_empty() {
            errors.required(&place.child("mountPath"), "");
        } else if !paths.insert(path) {
            errors.invalid(&place.child("mountPath"), path, "must be unique");
        } else if devices.contains(path) {
            errors.invalid(
                &place.child("mountPath"),
                path,
                "must not already exist in volumeDevices",
            );
        }
        // Upstream names these fields without the item that they are of.
        let whole = at.child("volumeMounts");
        descending_path(mount, "subPath", &whole, errors);
        descending_path(mount, "subPathExpr", &whole, errors);
        if !mount.is_empty_at("subPath") && !mount.is_empty_at("subPathExpr") {
            let text = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&place.child("subPathExpr"), mount.str_at("subPathExpr"), text);
        }
        let modes = ["Bidirectional", "HostToContainer", "None"];
        errors.one_of_if_set(mount, "mountPropagation", &whole, &modes);
        if mount.str_at("mountPropagation") == "Bidirectional" && !c.bool_at("securityContext.privileged") {
            let text = "Bidirectional mount propagation is available only to privileged containers";
            errors.forbidden(&whole.child("mountPropagation"), text);
        }
        errors.one_of_if_set(
            mount,
            "recursiveReadOnly",
            &whole,
            &["Disabled", "Enabled", "IfPossible"],
        );
        if matches!(mount.str_at("recursiveReadOnly"), "Enabled" | "IfPossible") {
            let place = whole.child("recursiveReadOnly");
            if !mount.bool_at("readOnly") {
                errors.forbidden(&place, "may only be specified when readOnly is true");
            }
            if !matches!(mount.str_at("mountPropagation"), "" | "None") {
                let text = "may only be specified when mountPropagation is None or not specified";
                errors.forbidden(&place, text);
            }
        }
    }
    block_devices(c, volumes, &paths, at, errors);
}

fn block_devices(c: &Value, volumes: &Volumes, mounted: &BTreeSet<&str>, at: &Path, errors: &mut Errors) {
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    for (i, device) in c.list_at("volumeDevices").iter().enumerate() {
        let place = at.child("volumeDevices").index(i);
        let (name, path) = (device.str_at("name"), device.str_at("devicePath"));
        if name.is_empty() {
            errors.required(&place.child("name"), "");
        } else if !volumes.names.contains(name) {
            errors.not_found(&place.child("name"), name);
        } else if !volumes.claims.contains(name) {
            let text = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
            errors.invalid(&place.child("name"), name, text);
        } else if !names.insert(name) {
            errors.invalid(&place.child("name"), name, "must be unique");
        }
        if path.is_empty() {
            errors.required(&place.child("devicePath"), "");
        } else if !paths.insert(path) {
            errors.invalid(&place.child("devicePath"), path, "must be unique");
        } else if mounted.contains(path) {
            errors.invalid(
                &place.child("devicePath"),
                path,
                "must not already exist in volumeMounts",
            );
        }
    }
}

/// A path that stays below where it starts.
pub(super) fn descending_path(holder: &Value, field: &str, at: &Path, errors: &mut Errors) {
    let path = holder.str_at(field);
    if path.starts_with('/') {
        errors.invalid(&at.child(field), path, "must be a relative path");
    }
    if path.split('/').any(|step| step == "..") {
        errors.invalid(&at.child(field), path, "must not contain '..'");
    }
}
