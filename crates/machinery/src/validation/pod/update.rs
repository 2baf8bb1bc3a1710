//! What may change about a Pod once it is made. Source: `ValidatePodUpdate`, `ValidatePodEphemeralContainersUpdate` and
//! `ValidatePodResize` in `pkg/apis/core/validation/validation.go` of Kubernetes v1.35.

use crate::validation::errors::Errors;
use crate::walk::{At, keep, same};
use kinds::field::Path;
use serde_json::Value;

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                         `spec.tolerations` (only additions to existing tolerations),\
                         `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";

/// Checks an ordinary update of a Pod.
pub(crate) fn spec_update(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    let (new_spec, old_spec) = (new.at("spec"), old.at("spec"));
    // Most updates are about something else.
    if new_spec == old_spec {
        return;
    }
    super::spec_checks(new_spec, &at, errors);
    for list in ["containers", "initContainers"] {
        if new_spec.list_at(list).len() != old_spec.list_at(list).len() {
            errors.forbidden(&at.child(list), "pod updates may not add or remove containers");
            return;
        }
        for (i, c) in new_spec.list_at(list).iter().enumerate() {
            let image = c.str_at("image");
            let place = at.child(list).index(i).child("image");
            if image.is_empty() {
                errors.required(&place, "");
            } else if image.trim() != image {
                errors.invalid(&place, image, "must not have leading or trailing whitespace");
            }
        }
    }
    deadline(new_spec, old_spec, &at, errors);
    tolerations(new_spec, old_spec, &at, errors);
    gates(new_spec, old_spec, &at, errors);
    let mut allowed = new_spec.clone();
    neutralise(&mut allowed, old_spec);
    if !same(&allowed, old_spec) {
        let mut changed = Vec::new();
        differences(&allowed, old_spec, "spec", &mut changed);
        let text = format!(
            "pod updates may not change fields other than {UPDATABLE}\n{}",
            changed.join("\n")
        );
        errors.forbidden(&at, text);
    }
}

/// Puts back everything that may change, so that what still differs may not.
fn neutralise(new: &mut Value, old: &Value) {
    for list in ["containers", "initContainers"] {
        if let Some(containers) = crate::walk::get_mut(new, list).and_then(Value::as_array_mut) {
            for (container, before) in containers.iter_mut().zip(old.list_at(list)) {
                keep(container, before, "image");
            }
        }
    }
    let gated = !old.is_empty_at("schedulingGates");
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        keep(new, old, field);
    }
    if old.int_at("terminationGracePeriodSeconds").is_some_and(|s| s < 0)
        && new.int_at("terminationGracePeriodSeconds") == Some(1)
    {
        keep(new, old, "terminationGracePeriodSeconds");
    }
    // While a Pod waits at its gates, where it may go can be narrowed (KEP-3838).
    if gated {
        let narrowed = old
            .entries_at("nodeSelector")
            .into_iter()
            .all(|(k, v)| new.at("nodeSelector").get(k) == Some(v));
        if narrowed {
            keep(new, old, "nodeSelector");
        }
        if !old.has("affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution") {
            keep(new, old, "affinity");
        }
    }
}

fn deadline(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let place = at.child("activeDeadlineSeconds");
    match (
        new.int_at("activeDeadlineSeconds"),
        old.int_at("activeDeadlineSeconds"),
    ) {
        (Some(seconds), _) if !(1..=i64::from(i32::MAX)).contains(&seconds) => {
            errors.invalid(
                &place,
                seconds,
                crate::validation::names::range(1, i64::from(i32::MAX)),
            );
        }
        (Some(seconds), Some(before)) if seconds > before => {
            errors.invalid(&place, seconds, "must be less than or equal to previous value");
        }
        (None, Some(_)) => {
            errors.invalid(
                &place,
                Value::Null,
                "must not update from a positive integer to nil value",
            );
        }
        _ => {}
    }
}

/// Tolerations may be added, and the seconds of present ones changed.
fn tolerations(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let place = at.child("tolerations");
    let without_seconds = |toleration: &Value| {
        let mut copy = toleration.clone();
        crate::walk::unset(&mut copy, "tolerationSeconds");
        copy
    };
    let now: Vec<Value> = new.list_at("tolerations").iter().map(without_seconds).collect();
    if !old
        .list_at("tolerations")
        .iter()
        .all(|t| now.iter().any(|n| same(n, &without_seconds(t))))
    {
        errors.forbidden(
            &place,
            "existing toleration can not be modified except its tolerationSeconds",
        );
    }
    super::tolerations(new.at("tolerations"), &place, errors);
}

fn gates(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let before: Vec<&str> = old
        .list_at("schedulingGates")
        .iter()
        .map(|g| g.str_at("name"))
        .collect();
    for (i, gate) in new.list_at("schedulingGates").iter().enumerate() {
        let name = gate.str_at("name");
        if !before.contains(&name) {
            let text = format!("only deletion is allowed, but found new scheduling gate '{name}'");
            errors.forbidden(&at.child("schedulingGates").index(i), text);
        }
    }
}

/// Checks an update of `ephemeralcontainers`: containers may be added and never changed or removed.
pub(crate) fn ephemeral_containers(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec").child("ephemeralContainers");
    super::spec_checks(new.at("spec"), &Path::new("spec"), errors);
    let list = new.list_at("spec.ephemeralContainers");
    for before in old.list_at("spec.ephemeralContainers") {
        let name = before.str_at("name");
        match list.iter().find(|c| c.str_at("name") == name) {
            None => {
                let text = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.forbidden(&at, text);
            }
            Some(now) if !same(now, before) => {
                let text = format!("existing ephemeral containers {name:?} may not be changed\n");
                errors.forbidden(&at, text);
            }
            Some(_) => {}
        }
    }
}

/// Checks an update of `resize`: CPU and memory of containers and nothing else (KEP-1287).
pub(crate) fn resize(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    super::spec_checks(new.at("spec"), &at, errors);
    let (new_spec, old_spec) = (new.at("spec"), old.at("spec"));
    if quality(new_spec) != quality(old_spec) {
        let text = "Pod QOS Class may not change as a result of resizing";
        errors.invalid(&at, new.str_at("status.qosClass"), text);
    }
    if other_containers(new_spec, old_spec, &at, errors) {
        return;
    }
    let mut allowed = new_spec.clone();
    for list in ["containers", "initContainers"] {
        if let Some(containers) = crate::walk::get_mut(&mut allowed, list).and_then(Value::as_array_mut) {
            for (i, (container, before)) in containers.iter_mut().zip(old_spec.list_at(list)).enumerate() {
                for kind in ["limits", "requests"] {
                    let (now, was) = (
                        container.at("resources").at(kind),
                        before.at("resources").at(kind),
                    );
                    let others = |v: &Value| -> Vec<String> {
                        let all = v.as_object().into_iter().flatten();
                        all.filter(|(k, _)| *k != "cpu" && *k != "memory")
                            .map(|(k, v)| format!("{k}={v}"))
                            .collect()
                    };
                    if others(now) != others(was) {
                        let place = at.child(list).index(i).child("resources").child(kind);
                        errors.forbidden(&place, "only cpu and memory resources are mutable");
                    }
                    for name in ["cpu", "memory"] {
                        if was.get(name).is_some() && now.get(name).is_none() {
                            let place = at.child(list).index(i).child("resources").child(kind);
                            errors.forbidden(&place, format!("resource {kind} cannot be removed"));
                        }
                    }
                }
                keep(container, before, "resources");
            }
        }
    }
    keep(&mut allowed, old_spec, "resources");
    if !same(&allowed, old_spec) {
        errors.forbidden(&at, "only cpu and memory resources are mutable");
    }
}

/// Whether containers were added, removed, renamed or reordered, which a resize does not do.
fn other_containers(new_spec: &Value, old_spec: &Value, at: &Path, errors: &mut Errors) -> bool {
    let mut found = false;
    for list in ["containers", "initContainers"] {
        let (now, was) = (new_spec.list_at(list), old_spec.list_at(list));
        let place = at.child(list);
        if now.len() != was.len() {
            errors.forbidden(&place, format!("{list} may not be added or removed on resize"));
            found = true;
            continue;
        }
        for (i, (now, was)) in now.iter().zip(was).enumerate() {
            if now.str_at("name") != was.str_at("name") {
                let text = format!("{list} may not be renamed or reordered on resize");
                errors.forbidden(&place.index(i).child("name"), text);
                found = true;
            }
        }
    }
    found
}

/// The quality-of-service class of a Pod.
pub(crate) fn quality(spec: &Value) -> &'static str {
    let all = || {
        spec.list_at("containers")
            .iter()
            .chain(spec.list_at("initContainers"))
    };
    let pod = spec.at("resources");
    let counts = |r: &Value, k: &str| {
        r.entries_at(k).iter().any(|(n, v)| {
            (*n == "cpu" || *n == "memory")
                && super::resources::parse(v).is_some_and(|q| !q.is_zero() && !q.is_negative())
        })
    };
    let any = |r: &Value| counts(r, "requests") || counts(r, "limits");
    let exact = |r: &Value| {
        ["cpu", "memory"].iter().all(|n| {
            let limit = r.at("limits").get(n).and_then(super::resources::parse);
            let request = r.at("requests").get(n).and_then(super::resources::parse);
            limit.is_some() && (request.is_none() || request == limit)
        })
    };
    if any(pod) {
        return if exact(pod) { "Guaranteed" } else { "Burstable" };
    }
    match all().any(|c| any(c.at("resources"))) {
        false => "BestEffort",
        true if all().all(|c| exact(c.at("resources"))) => "Guaranteed",
        true => "Burstable",
    }
}

/// Lists where two values differ, a line each.
fn differences(new: &Value, old: &Value, at: &str, out: &mut Vec<String>) {
    match (new, old) {
        (Value::Object(a), Value::Object(b)) => {
            for key in a.keys().chain(b.keys().filter(|k| !a.contains_key(*k))) {
                let (x, y) = (
                    a.get(key).unwrap_or(&Value::Null),
                    b.get(key).unwrap_or(&Value::Null),
                );
                if !same(x, y) {
                    differences(x, y, &format!("{at}.{key}"), out);
                }
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (i, (x, y)) in a.iter().zip(b).enumerate() {
                if !same(x, y) {
                    differences(x, y, &format!("{at}[{i}]"), out);
                }
            }
        }
        _ => out.push(format!("  {at}: {old} -> {new}")),
    }
}
