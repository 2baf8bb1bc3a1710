//! Validation of containers: main, init, sidecar and ephemeral ones.

use super::{Of, Volumes, env, probe, resources, security};
use crate::validation::errors::Errors;
use crate::validation::names;
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;
use std::collections::BTreeSet;

const NO_POLICY: &str = "must specify restartPolicy when restart rules are used";

/// Checks all containers of a Pod's spec.
pub(super) fn containers(spec: &Value, of: Of, volumes: &Volumes, at: &Path, errors: &mut Errors) {
    let main = spec.list_at("containers");
    if main.is_empty() {
        errors.required(&at.child("containers"), "");
    }
    let grace = spec.int_at("terminationGracePeriodSeconds");
    let pod = Whole {
        spec,
        of,
        volumes,
        claims: spec
            .list_at("resourceClaims")
            .iter()
            .map(|claim| claim.str_at("name"))
            .collect(),
    };
    let mut names = BTreeSet::new();
    for (i, c) in main.iter().enumerate() {
        let place = at.child("containers").index(i);
        common(c, &pod, &place, errors);
        if !names.insert(c.str_at("name")) {
            errors.duplicate(&place.child("name"), c.str_at("name"));
        }
        lifecycle_and_probes(c, grace, &place, errors);
        restarts(c, &place, errors);
    }
    host_ports(main, &at.child("containers"), errors);
    init_containers(&pod, names, grace, at, errors);
    ephemeral_containers(&pod, at, errors);
}

/// What containers are parts of.
struct Whole<'a> {
    spec: &'a Value,
    of: Of<'a>,
    volumes: &'a Volumes<'a>,
    claims: Vec<&'a str>,
}

fn init_containers<'a>(
    pod: &Whole<'a>,
    mut names: BTreeSet<&'a str>,
    grace: Option<i64>,
    at: &Path,
    errors: &mut Errors,
) {
    const RESTARTS: &str = "must not be set to 'RestartContainer' for non-sidecar initContainers";
    let restarted = |c: &Value| {
        let mut policies = c.list_at("resizePolicy").iter();
        c.str_at("restartPolicy") != "Always"
            && policies.any(|p| p.str_at("restartPolicy") == "RestartContainer")
    };
    let kept = pod.of.old.list_at("initContainers").iter().any(restarted);
    for (i, c) in pod.spec.list_at("initContainers").iter().enumerate() {
        let place = at.child("initContainers").index(i);
        let sidecar = c.str_at("restartPolicy") == "Always";
        common(c, pod, &place, errors);
        if !c.has("restartPolicy") {
            if !c.is_empty_at("restartPolicyRules") {
                errors.required(&place.child("restartPolicy"), NO_POLICY);
            }
        } else if !sidecar {
            restarts(c, &place, errors);
        } else if !c.is_empty_at("restartPolicyRules") {
            let text = "restartPolicyRules are not allowed for init containers with restart policy Always";
            errors.forbidden(&place.child("restartPolicyRules"), text);
        }
        let name = c.str_at("name");
        if names.contains(name) {
            errors.duplicate(&place.child("name"), name);
        } else if !name.is_empty() {
            names.insert(name);
        }
        // One runs after the other, so that each has the host's ports for itself.
        host_ports(std::slice::from_ref(c), &at.child("initContainers"), errors);
        if sidecar {
            lifecycle_and_probes(c, grace, &place, errors);
        }
        for field in ["lifecycle", "livenessProbe", "readinessProbe", "startupProbe"] {
            if !sidecar && c.has(field) {
                let text = "may not be set for init containers without restartPolicy=Always";
                errors.forbidden(&place.child(field), text);
            }
        }
        for (j, policy) in c.list_at("resizePolicy").iter().enumerate() {
            if !sidecar && !kept && policy.str_at("restartPolicy") == "RestartContainer" {
                let place = place.child("resizePolicy").index(j).child("restartPolicy");
                errors.invalid(&place, "RestartContainer", RESTARTS);
            }
        }
    }
}

/// A container's own restart policy, and its rules (KEP-5307). `RestartAllContainers` is of a feature that v1.35 has
/// switched off.
fn restarts(c: &Value, at: &Path, errors: &mut Errors) {
    const MAX_RULES: usize = 20;
    const MAX_VALUES: usize = 255;
    let (rules, policy) = (c.list_at("restartPolicyRules"), c.str_at("restartPolicy"));
    let valid = ["Always", "Never", "OnFailure"];
    if c.has("restartPolicy") && !valid.contains(&policy) {
        errors.not_supported(&at.child("restartPolicy"), policy, &valid);
    } else if !rules.is_empty() && !c.has("restartPolicy") {
        errors.required(&at.child("restartPolicy"), NO_POLICY);
    }
    if rules.len() > MAX_RULES {
        errors.too_many(&at.child("restartPolicyRules"), rules.len(), MAX_RULES);
    }
    for (i, rule) in rules.iter().enumerate() {
        let place = at.child("restartPolicyRules").index(i);
        known(rule, "action", &["Restart"], &place, errors);
        if !rule.has("exitCodes") {
            errors.required(&place.child("exitCodes"), "must be specified");
            continue;
        }
        let (codes, place) = (rule.at("exitCodes"), place.child("exitCodes"));
        known(codes, "operator", &["In", "NotIn"], &place, errors);
        let values = codes.list_at("values");
        if values.len() > MAX_VALUES {
            errors.too_many(&place.child("values"), values.len(), MAX_VALUES);
        }
    }
}

/// A text that is one of some, of which the empty text is none.
fn known(holder: &Value, field: &str, valid: &[&str], at: &Path, errors: &mut Errors) {
    let value = holder.str_at(field);
    if !valid.contains(&value) {
        errors.not_supported(&at.child(field), value, valid);
    }
}

/// What any container must hold to.
fn common(c: &Value, pod: &Whole, at: &Path, errors: &mut Errors) {
    let name = c.str_at("name");
    if name.is_empty() {
        errors.required(&at.child("name"), "");
    } else {
        errors.each(&at.child("name"), name, names::dns_label(name));
    }
    if c.is_empty_at("image") {
        errors.required(&at.child("image"), "");
    }
    let policies = ["File", "FallbackToLogsOnError"];
    errors.one_of_in_order(c, "terminationMessagePolicy", at, &policies);
    ports(c, &at.child("ports"), errors);
    env::variables(c.at("env"), &at.child("env"), errors);
    env::sources(c.at("envFrom"), &at.child("envFrom"), errors);
    mounts(c, pod.volumes, at, errors);
    block_devices(c, pod.volumes, at, errors);
    errors.one_of(c, "imagePullPolicy", at, &["Always", "IfNotPresent", "Never"]);
    let place = at.child("resources");
    resources::requirements(c.at("resources"), &pod.claims, pod.of, &place, errors);
    resize_policy(c, pod.spec.str_at("restartPolicy"), at, errors);
    let own_users = pod.spec.at("hostUsers") == &Value::Bool(false);
    security::container(
        c.at("securityContext"),
        own_users,
        &at.child("securityContext"),
        errors,
    );
}

/// Spaces around an image are let pass in templates only.
pub(super) fn trimmed_image(c: &Value, at: &Path, errors: &mut Errors) {
    let image = c.str_at("image");
    if image.trim() != image {
        let text = "must not have leading or trailing whitespace";
        errors.invalid(&at.child("image"), image, text);
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
fn ephemeral_containers(pod: &Whole, at: &Path, errors: &mut Errors) {
    const NOT_HERE: &str = "cannot be set for an Ephemeral Container";
    let lists = ["containers", "initContainers"];
    let others = lists.iter().flat_map(|list| pod.spec.list_at(list));
    let others: BTreeSet<&str> = others.map(|c| c.str_at("name")).collect();
    let mut names = others.clone();
    for (i, c) in pod.spec.list_at("ephemeralContainers").iter().enumerate() {
        let place = at.child("ephemeralContainers").index(i);
        common(c, pod, &place, errors);
        trimmed_image(c, &place, errors);
        if !names.insert(c.str_at("name")) {
            errors.duplicate(&place.child("name"), c.str_at("name"));
        }
        let target = c.str_at("targetContainerName");
        if !target.is_empty() && !others.contains(target) {
            errors.not_found(&place.child("targetContainerName"), target);
        }
        for field in [
            "ports",
            "resources",
            "resizePolicy",
            "restartPolicy",
            "restartPolicyRules",
            "livenessProbe",
            "readinessProbe",
            "startupProbe",
            "lifecycle",
        ] {
            // A probe that says nothing is a probe, and a list without ports is one.
            let set = match field {
                "resources" => !c.is_empty_at(field),
                _ => c.has(field),
            };
            if set {
                errors.forbidden(&place.child(field), NOT_HERE);
            }
        }
        for (j, mount) in c.list_at("volumeMounts").iter().enumerate() {
            for field in ["subPath", "subPathExpr"] {
                if !mount.is_empty_at(field) {
                    errors.forbidden(&place.child("volumeMounts").index(j).child(field), NOT_HERE);
                }
            }
        }
    }
}

fn ports(c: &Value, at: &Path, errors: &mut Errors) {
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
        errors.one_of(port, "protocol", &place, &["SCTP", "TCP", "UDP"]);
    }
}

/// Without a network of its own, a container's port is the host's.
pub(super) fn ports_of_the_host(spec: &Value, of: Of, at: &Path, errors: &mut Errors) {
    if !spec.bool_at("hostNetwork") {
        return;
    }
    for (i, c) in spec.list_at("containers").iter().enumerate() {
        for (j, port) in c.list_at("ports").iter().enumerate() {
            let number = |field: &str| port.int_at(field).unwrap_or(0);
            let (host, own) = (number("hostPort"), number("containerPort"));
            if (of.is_pod() || host != 0) && host != own {
                let place = at.child("containers").index(i).child("ports").index(j);
                let text = "must match `containerPort` when `hostNetwork` is true";
                errors.invalid(&place.child("hostPort"), host, text);
            }
        }
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
    let devices = c.list_at("volumeDevices");
    // Upstream names some fields without the item that they are of.
    let whole = at.child("volumeMounts");
    for (i, mount) in c.list_at("volumeMounts").iter().enumerate() {
        let place = whole.index(i);
        let (name, path) = (mount.str_at("name"), mount.str_at("mountPath"));
        if name.is_empty() {
            errors.required(&place.child("name"), "");
        }
        if !volumes.contains_key(name) {
            errors.not_found(&place.child("name"), name);
        }
        if path.is_empty() {
            errors.required(&place.child("mountPath"), "");
        }
        if !paths.insert(path) {
            errors.invalid(&place.child("mountPath"), path, "must be unique");
        }
        if devices.iter().any(|d| d.str_at("name") == name) {
            errors.invalid(
                &place.child("name"),
                name,
                "must not already exist in volumeDevices",
            );
        }
        if devices.iter().any(|d| d.str_at("devicePath") == path) {
            let text = "must not already exist as a path in volumeDevices";
            errors.invalid(&place.child("mountPath"), path, text);
        }
        descending_path(mount, "subPath", &whole, errors);
        if !mount.is_empty_at("subPath") && !mount.is_empty_at("subPathExpr") {
            let text = "subPathExpr and subPath are mutually exclusive";
            errors.invalid(&place.child("subPathExpr"), mount.str_at("subPathExpr"), text);
        }
        descending_path(mount, "subPathExpr", &whole, errors);
        if mount.has("mountPropagation") {
            let modes = ["Bidirectional", "HostToContainer", "None"];
            known(mount, "mountPropagation", &modes, &whole, errors);
        }
        if mount.str_at("mountPropagation") == "Bidirectional" && !c.bool_at("securityContext.privileged") {
            let text = "Bidirectional mount propagation is available only to privileged containers";
            errors.forbidden(&whole.child("mountPropagation"), text);
        }
        read_only(mount, &whole, errors);
    }
}

fn read_only(mount: &Value, at: &Path, errors: &mut Errors) {
    if !mount.has("recursiveReadOnly") {
        return;
    }
    let modes = ["Disabled", "Enabled", "IfPossible"];
    known(mount, "recursiveReadOnly", &modes, at, errors);
    if matches!(mount.str_at("recursiveReadOnly"), "Enabled" | "IfPossible") {
        let place = at.child("recursiveReadOnly");
        if !mount.bool_at("readOnly") {
            errors.forbidden(&place, "may only be specified when readOnly is true");
        }
        if mount.has("mountPropagation") && mount.str_at("mountPropagation") != "None" {
            let text = "may only be specified when mountPropagation is None or not specified";
            errors.forbidden(&place, text);
        }
    }
}

fn block_devices(c: &Value, volumes: &Volumes, at: &Path, errors: &mut Errors) {
    let (mut names, mut paths) = (BTreeSet::new(), BTreeSet::new());
    let mounts = c.list_at("volumeMounts");
    for (i, device) in c.list_at("volumeDevices").iter().enumerate() {
        let place = at.child("volumeDevices").index(i);
        let (name_at, path_at) = (place.child("name"), place.child("devicePath"));
        let (name, path) = (device.str_at("name"), device.str_at("devicePath"));
        if name.is_empty() {
            errors.required(&name_at, "");
        }
        if names.contains(name) {
            errors.invalid(&name_at, name, "must be unique");
        }
        match volumes.get(name) {
            Some(volume) if volume.has("persistentVolumeClaim") || volume.has("ephemeral") => {}
            Some(_) => {
                let text =
                    "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode";
                errors.invalid(&name_at, name, text);
            }
            None => errors.not_found(&name_at, name),
        }
        if path.is_empty() {
            errors.required(&path_at, "");
        }
        if paths.contains(path) {
            errors.invalid(&path_at, path, "must be unique");
        }
        if path.split('/').any(|step| step == "..") {
            errors.invalid(&path_at, path, "can not contain backsteps ('..')");
        } else {
            paths.insert(path);
        }
        if mounts.iter().any(|m| m.str_at("name") == name) {
            errors.invalid(&name_at, name, "must not already exist in volumeMounts");
        }
        if mounts.iter().any(|m| m.str_at("mountPath") == path) {
            errors.invalid(&path_at, path, "must not already exist as a path in volumeMounts");
        }
        if !name.is_empty() {
            names.insert(name);
        }
    }
}

/// A path that stays below where it starts.
pub(super) fn descending_path(holder: &Value, field: &str, at: &Path, errors: &mut Errors) {
    descending(holder.str_at(field), &at.child(field), errors);
}

pub(super) fn descending(path: &str, at: &Path, errors: &mut Errors) {
    if path.starts_with('/') {
        errors.invalid(at, path, "must be a relative path");
    }
    no_backsteps(path, at, errors);
}

pub(super) fn no_backsteps(path: &str, at: &Path, errors: &mut Errors) {
    if path.split('/').any(|step| step == "..") {
        errors.invalid(at, path, "must not contain '..'");
    }
}
