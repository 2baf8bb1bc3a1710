//! Annotations that mean something to the control plane: mirrors of a node's own Pods, costs of deletion, and the profiles
//! of seccomp and AppArmor from before they had fields. Source: `ValidatePodSpecificAnnotations` and its kin in
//! `pkg/apis/core/validation/validation.go` of Kubernetes v1.35.

use super::{all_containers, tolerations};
use crate::decode::json_fault;
use crate::validation::errors::Errors;
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;

/// Marks a Pod that a node runs by itself.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";
const TOLERATIONS: &str = "scheduler.alpha.kubernetes.io/tolerations";
const COST: &str = "controller.kubernetes.io/pod-deletion-cost";
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const CONTAINER_SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";
const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const LOCALHOST: &str = "localhost/";

/// Checks the annotations of a Pod or of a template; `old` are those that were there, else null.
pub(super) fn check(annotations: &Value, old: &Value, spec: &Value, at: &Path, errors: &mut Errors) {
    let text = |name: &str| annotations.get(name).and_then(Value::as_str);
    if let Some(value) = text(MIRROR)
        && spec.is_empty_at("nodeName")
    {
        let why = "must set spec.nodeName if mirror pod annotation is set";
        errors.invalid(&at.key(MIRROR), value, why);
    }
    if let Some(list) = text(TOLERATIONS).filter(|list| !list.is_empty()) {
        match serde_json::from_str::<Value>(list) {
            Ok(list) => tolerations(&list, &at.child(TOLERATIONS), errors),
            Err(error) => {
                let why = json_fault(list.as_bytes()).unwrap_or_else(|| error.to_string());
                errors.invalid(at, TOLERATIONS, why);
            }
        }
    }
    // What was no number before need not be one now.
    let kept = old.get(COST).is_some_and(|cost| !is_cost(cost));
    if let Some(cost) = annotations.get(COST)
        && !is_cost(cost)
        && !kept
    {
        errors.invalid(&at.key(COST), cost.clone(), "must be a 32bit integer");
    }
    if let Some(profile) = text(SECCOMP) {
        seccomp(profile, &at.child(SECCOMP), errors);
    }
    let all = annotations.as_object().into_iter().flatten();
    let all: Vec<(&String, &str)> = all
        .map(|(name, value)| (name, value.as_str().unwrap_or("")))
        .collect();
    for (name, profile) in all.iter().filter(|(name, _)| name.starts_with(CONTAINER_SECCOMP)) {
        seccomp(profile, &at.child(name), errors);
    }
    for (name, profile) in all {
        let Some(container) = name.strip_prefix(APP_ARMOR) else {
            continue;
        };
        if !all_containers(spec, at).any(|(c, _)| c.str_at("name") == container) {
            errors.invalid(&at.key(name), container, "container not found");
        }
        if !["", "runtime/default", "unconfined"].contains(&profile) && !profile.starts_with(LOCALHOST) {
            let why = format!("invalid AppArmor profile name: {profile:?}");
            errors.invalid(&at.key(name), profile, why);
        }
    }
}

/// Whether a cost is a number of 32 bits in its plainest form.
fn is_cost(cost: &Value) -> bool {
    let text = cost.as_str().unwrap_or("");
    text.parse::<i32>().is_ok_and(|number| number.to_string() == text)
}

fn seccomp(profile: &str, at: &Path, errors: &mut Errors) {
    if let Some(path) = profile.strip_prefix(LOCALHOST) {
        super::container::descending(path, at, errors);
    } else if !["runtime/default", "docker/default", "unconfined"].contains(&profile) {
        errors.invalid(at, profile, "must be a valid seccomp profile");
    }
}

/// Checks that some annotations stay as they are, and then all of them.
pub(super) fn update(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("metadata").child("annotations");
    let (now, was) = (new.at("metadata.annotations"), old.at("metadata.annotations"));
    let mut fixed = |name: &str, verb: &str| {
        if name.starts_with(APP_ARMOR) {
            errors.forbidden(&at.key(name), format!("may not {verb} AppArmor annotations"));
        }
        if name == MIRROR {
            errors.forbidden(&at.key(name), format!("may not {verb} mirror pod annotation"));
        }
    };
    for (name, value) in was.as_object().into_iter().flatten() {
        if now.get(name) != Some(value) {
            fixed(name, "remove or update");
        }
    }
    for (name, _) in now.as_object().into_iter().flatten() {
        if was.get(name).is_none() {
            fixed(name, "add");
        }
    }
    check(now, was, new.at("spec"), &at, errors);
}

/// Checks that a profile says the same by annotation as by field.
pub(super) fn profiles(annotations: &Value, spec: &Value, at: &Path, errors: &mut Errors) {
    let is_profile =
        |name: &String| name == SECCOMP || name.starts_with(CONTAINER_SECCOMP) || name.starts_with(APP_ARMOR);
    if !annotations
        .as_object()
        .is_some_and(|all| all.keys().any(is_profile))
    {
        return;
    }
    let text = |name: &str| annotations.get(name).and_then(Value::as_str);
    let place = at.child("securityContext").child("seccompProfile");
    if let Some(annotation) = text(SECCOMP) {
        same(
            annotation,
            spec.at("securityContext.seccompProfile"),
            "seccomp",
            &place,
            errors,
        );
    }
    for (container, place) in all_containers(spec, at) {
        let name = format!("{CONTAINER_SECCOMP}{}", container.str_at("name"));
        if let Some(annotation) = text(&name) {
            let place = place.child("securityContext").child("seccompProfile");
            let profile = container.at("securityContext.seccompProfile");
            same(annotation, profile, "seccomp", &place, errors);
        }
    }
    if spec.str_at("os.name") == "windows" {
        return;
    }
    for (container, place) in all_containers(spec, at) {
        let name = format!("{APP_ARMOR}{}", container.str_at("name"));
        if let Some(annotation) = text(&name) {
            let profile = match container.at("securityContext.appArmorProfile") {
                Value::Null => spec.at("securityContext.appArmorProfile"),
                own => own,
            };
            let place = place.child("securityContext").child("appArmorProfile");
            same(annotation, profile, "apparmor", &place, errors);
        }
    }
}

fn same(annotation: &str, profile: &Value, what: &str, at: &Path, errors: &mut Errors) {
    let agree = match profile.str_at("type") {
        "Unconfined" => annotation == "unconfined",
        "RuntimeDefault" => {
            annotation == "runtime/default" || what == "seccomp" && annotation == "docker/default"
        }
        "Localhost" => {
            if let Some(path) = annotation.strip_prefix(LOCALHOST)
                && profile.at("localhostProfile").as_str() != Some(path)
            {
                let text = format!("{what} profile in annotation and field must match");
                errors.forbidden(&at.child("localhostProfile"), text);
            }
            annotation.starts_with(LOCALHOST)
        }
        _ => true,
    };
    if !agree {
        let text = format!("{what} type in annotation and field must match");
        errors.forbidden(&at.child("type"), text);
    }
}
