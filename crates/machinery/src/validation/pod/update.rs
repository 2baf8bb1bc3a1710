//! What may change about a Pod once it is made. Source: `ValidatePodUpdate` and `ValidatePodEphemeralContainersUpdate` in
//! `pkg/apis/core/validation/validation.go` of Kubernetes v1.35.

use super::{Of, annotations, container};
use crate::validation::errors::Errors;
use crate::validation::{difference, internal, metadata, names};
use crate::walk::{At, keep, same, set, unset};
use kinds::field::Path;
use serde_json::Value;

const UPDATABLE: &str = "`spec.containers[*].image`,`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,\
                         `spec.tolerations` (only additions to existing tolerations),\
                         `spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously negative)";
const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";

/// Checks all of a Pod that is changed in any way, its metadata first.
pub(super) fn whole_pod(new: &Value, old: &Value, same_spec: bool, errors: &mut Errors) {
    let (at, place) = (Path::new("spec"), Path::new("metadata").child("annotations"));
    let (spec, meta) = (new.at("spec"), new.at("metadata"));
    metadata::check(meta, true, names::dns_subdomain, &Path::new("metadata"), errors);
    metadata::builtin_finalizers("", new, errors);
    annotations::check(
        meta.at("annotations"),
        old.at("metadata.annotations"),
        spec,
        &place,
        errors,
    );
    // Most updates are about something else.
    if !same_spec {
        let of = Of {
            meta,
            old: old.at("spec"),
        };
        super::spec_checks(spec, of, &at, errors);
        super::pod_alone(spec, &at, errors);
    }
}

/// Checks an ordinary update of a Pod.
pub(crate) fn spec_update(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    let (new_spec, old_spec) = (new.at("spec"), old.at("spec"));
    let same_spec = new_spec == old_spec;
    whole_pod(new, old, same_spec, errors);
    annotations::update(new, old, errors);
    if same_spec {
        return;
    }
    for list in ["containers", "initContainers"] {
        if new_spec.list_at(list).len() != old_spec.list_at(list).len() {
            errors.forbidden(&at.child(list), "pod updates may not add or remove containers");
            return;
        }
        for (i, c) in new_spec.list_at(list).iter().enumerate() {
            let place = at.child(list).index(i);
            if c.is_empty_at("image") {
                errors.required(&place.child("image"), "");
            }
            container::trimmed_image(c, &place, errors);
        }
    }
    if !deadline(new_spec, old_spec, &at, errors) {
        return;
    }
    tolerations(new_spec, old_spec, &at, errors);
    gates(new_spec, old_spec, &at, errors);
    if same(new_spec, old_spec) {
        return;
    }
    let mut allowed = new_spec.clone();
    neutralise(&mut allowed, old_spec);
    // While a Pod waits at its gates, where it may go can be narrowed (KEP-3838).
    if !old_spec.is_empty_at("schedulingGates") {
        narrowed(&mut allowed, old_spec, &at, errors);
    }
    if !same(&allowed, old_spec) {
        let changed = difference::unified(&internal::spec_lines(old_spec), &internal::spec_lines(&allowed));
        let text = format!("pod updates may not change fields other than {UPDATABLE}\n{changed}");
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
    for field in ["activeDeadlineSeconds", "tolerations", "schedulingGates"] {
        keep(new, old, field);
    }
    if old.int_at("terminationGracePeriodSeconds").is_some_and(|s| s < 0)
        && new.int_at("terminationGracePeriodSeconds") == Some(1)
    {
        keep(new, old, "terminationGracePeriodSeconds");
    }
}

/// Labels of Nodes and terms about them may be added to those that are there.
fn narrowed(new: &mut Value, old: &Value, at: &Path, errors: &mut Errors) {
    let kept = |(name, value): (&String, &Value)| new.at("nodeSelector").get(name) == Some(value);
    if !old.entries_at("nodeSelector").into_iter().all(kept) {
        let text = "only additions to spec.nodeSelector are allowed (no mutations or deletions)";
        errors.invalid(&at.child("nodeSelector"), new.at("nodeSelector").clone(), text);
    }
    keep(new, old, "nodeSelector");
    let field = "affinity.nodeAffinity";
    if same(new.at(field), old.at(field)) && new.has(field) == old.has(field) {
        return;
    }
    let place = at
        .child("affinity")
        .child("nodeAffinity")
        .child(REQUIRED)
        .child("nodeSelectorTerms");
    let terms = |spec: &Value| spec.at(field).at(REQUIRED).at("nodeSelectorTerms").clone();
    let (now, was) = (terms(new), terms(old));
    let count = |terms: &Value| terms.as_array().map_or(0, Vec::len);
    if count(&was) > 0 && count(&was) != count(&now) {
        let text = "no additions/deletions to non-empty NodeSelectorTerms list are allowed";
        errors.invalid_shown(&place, &internal::list_line("NodeSelectorTerm", &now), text);
    } else {
        let both = was
            .as_array()
            .into_iter()
            .flatten()
            .zip(now.as_array().into_iter().flatten());
        for (i, (was, now)) in both.enumerate() {
            if !only_added(now, was) {
                let text = "only additions are allowed (no mutations or deletions)";
                errors.invalid_shown(&place.index(i), &internal::line("NodeSelectorTerm", now), text);
            }
        }
    }
    if old.has("affinity") || new.has("affinity.podAffinity") || new.has("affinity.podAntiAffinity") {
        match old.at(field) {
            Value::Null => unset(new, field),
            before => set(new, field, before.clone()),
        }
    } else {
        unset(new, "affinity");
    }
}

fn only_added(now: &Value, was: &Value) -> bool {
    let lists = ["matchExpressions", "matchFields"];
    let empty = |term: &Value| lists.iter().all(|list| term.is_empty_at(list));
    let begins = |list: &&str| {
        let (now, was) = (now.list_at(list), was.list_at(list));
        now.len() >= was.len() && was.iter().zip(now).all(|(a, b)| same(a, b))
    };
    (!empty(was) || empty(now)) && lists.iter().all(begins)
}

/// A deadline may be set and shortened. False: there is nothing more to say about this update.
fn deadline(new: &Value, old: &Value, at: &Path, errors: &mut Errors) -> bool {
    let place = at.child("activeDeadlineSeconds");
    match (
        new.int_at("activeDeadlineSeconds"),
        old.int_at("activeDeadlineSeconds"),
    ) {
        (Some(seconds), _) if !(0..=i64::from(i32::MAX)).contains(&seconds) => {
            errors.invalid(&place, seconds, names::range(0, i64::from(i32::MAX)));
            return false;
        }
        (Some(seconds), Some(before)) if seconds > before => {
            errors.invalid(&place, seconds, "must be less than or equal to previous value");
            return false;
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
    true
}

/// Tolerations may be added, and the seconds of present ones changed.
fn tolerations(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let place = at.child("tolerations");
    let without_seconds = |toleration: &Value| {
        let mut copy = toleration.clone();
        unset(&mut copy, "tolerationSeconds");
        copy
    };
    let now: Vec<Value> = new.list_at("tolerations").iter().map(without_seconds).collect();
    if !old
        .list_at("tolerations")
        .iter()
        .all(|t| now.iter().any(|n| same(n, &without_seconds(t))))
    {
        return errors.forbidden(
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
            errors.forbidden(&at.child("schedulingGates").index(i).child("name"), text);
        }
    }
}

/// Checks an update of `ephemeralcontainers`: containers may be added and never changed or removed.
pub(crate) fn ephemeral_containers(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec").child("ephemeralContainers");
    whole_pod(new, old, new.at("spec") == old.at("spec"), errors);
    annotations::update(new, old, errors);
    if old.at("metadata.annotations").get(annotations::MIRROR).is_some() {
        errors.0.clear();
        let text = "static pods do not support ephemeral containers";
        return errors.forbidden(&Path::root().key(""), text);
    }
    let list = new.list_at("spec.ephemeralContainers");
    for before in old.list_at("spec.ephemeralContainers") {
        let name = before.str_at("name");
        // The last of a name is meant.
        match list.iter().rev().find(|c| c.str_at("name") == name) {
            None => {
                let text = format!("existing ephemeral containers {name:?} may not be removed\n");
                errors.forbidden(&at, text);
            }
            Some(now) if !same(now, before) => {
                let lines = |c: &Value| internal::lines("EphemeralContainer", c);
                let changed = difference::unified(&lines(before), &lines(now));
                let text = format!("existing ephemeral containers {name:?} may not be changed\n{changed}");
                errors.forbidden(&at, text);
            }
            Some(_) => {}
        }
    }
}
