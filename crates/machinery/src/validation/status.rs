//! Validation of what controllers report: counters of workloads, and the way of a Job to its end, which controllers of
//! others (`managedBy`, KEP-4368) must go as our own does. Source: `pkg/apis/{apps,batch,policy}/validation` of v1.35.

use super::conditions as shared;
use super::errors::Errors;
use crate::walk::{At, same};
use kinds::KindInfo;
use kinds::field::Path;
use serde_json::Value;

/// Counters that are not negative, and pairs of which the first is not above the second.
struct Counters {
    counted: &'static [&'static str],
    bounded: &'static [(&'static str, &'static str, &'static str)],
}

const OF_ALL: &str = "cannot be greater than status.replicas";
const OF_READY: &str = "cannot be greater than readyReplicas";

fn counters(kind: &KindInfo) -> Option<Counters> {
    let (counted, bounded): (&[_], &[_]) = match (kind.group, kind.kind) {
        ("apps", "Deployment") => (
            &[
                "observedGeneration",
                "replicas",
                "updatedReplicas",
                "readyReplicas",
                "availableReplicas",
                "unavailableReplicas",
                "terminatingReplicas",
                "collisionCount",
            ],
            &[
                ("updatedReplicas", "replicas", OF_ALL),
                ("readyReplicas", "replicas", OF_ALL),
                ("availableReplicas", "replicas", OF_ALL),
                ("availableReplicas", "readyReplicas", OF_READY),
            ],
        ),
        ("apps", "ReplicaSet") | ("", "ReplicationController") => (
            &[
                "replicas",
                "fullyLabeledReplicas",
                "readyReplicas",
                "availableReplicas",
                "terminatingReplicas",
                "observedGeneration",
            ],
            &[
                ("fullyLabeledReplicas", "replicas", OF_ALL),
                ("readyReplicas", "replicas", OF_ALL),
                ("availableReplicas", "replicas", OF_ALL),
                ("availableReplicas", "readyReplicas", OF_READY),
            ],
        ),
        ("apps", "StatefulSet") => (
            &[
                "replicas",
                "readyReplicas",
                "currentReplicas",
                "updatedReplicas",
                "availableReplicas",
                "observedGeneration",
                "collisionCount",
            ],
            &[
                ("readyReplicas", "replicas", OF_ALL),
                ("currentReplicas", "replicas", OF_ALL),
                ("updatedReplicas", "replicas", OF_ALL),
                ("availableReplicas", "replicas", OF_ALL),
                (
                    "availableReplicas",
                    "readyReplicas",
                    "cannot be greater than status.readyReplicas",
                ),
            ],
        ),
        ("apps", "DaemonSet") => (
            &[
                "currentNumberScheduled",
                "numberMisscheduled",
                "desiredNumberScheduled",
                "numberReady",
                "observedGeneration",
                "updatedNumberScheduled",
                "numberAvailable",
                "numberUnavailable",
                "collisionCount",
            ],
            &[],
        ),
        ("autoscaling", "HorizontalPodAutoscaler") => (&["currentReplicas", "desiredReplicas"], &[]),
        ("policy", "PodDisruptionBudget") => (
            &[
                "disruptionsAllowed",
                "currentHealthy",
                "desiredHealthy",
                "expectedPods",
            ],
            &[],
        ),
        _ => return None,
    };
    Some(Counters { counted, bounded })
}

/// Checks a change of a status.
pub(super) fn check(kind: &KindInfo, new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("status");
    let status = new.at("status");
    if kind.kind == "PodDisruptionBudget" {
        shared::check(status.list_at("conditions"), &at.child("conditions"), errors);
    }
    if let Some(counters) = counters(kind) {
        for field in counters.counted {
            errors.not_negative(status, field, &at);
        }
        for (field, bound, text) in counters.bounded {
            let count = number(status, field);
            if count > number(status, bound) {
                errors.invalid(&at.child(field), count, *text);
            }
        }
        let collisions = status.int_at("collisionCount");
        if let Some(before) = old.int_at("status.collisionCount")
            && collisions.is_none_or(|now| now < before)
            && kind.group == "apps"
        {
            errors.invalid(
                &at.child("collisionCount"),
                collisions.unwrap_or(0),
                "cannot be decremented",
            );
        }
    }
    match (kind.group, kind.kind) {
        ("batch", "Job") => job(new, old, &at, errors),
        ("", "Namespace") => namespace_phase(new, &at, errors),
        ("apiregistration.k8s.io", "APIService") => {
            for (i, condition) in status.list_at("conditions").iter().enumerate() {
                let (place, said) = (at.child("conditions").index(i), condition.str_at("status"));
                let known = ["True", "False", "Unknown"];
                if !known.contains(&said) {
                    errors.not_supported_in_order(&place.child("status"), said, &known);
                }
            }
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => type_checking(status, &at, errors),
        _ => {}
    }
}

/// What was found out about the types of a policy's expressions.
fn type_checking(status: &Value, at: &Path, errors: &mut Errors) {
    let place = at.child("typeChecking").child("expressionWarnings");
    for (i, warning) in status
        .list_at("typeChecking.expressionWarnings")
        .iter()
        .enumerate()
    {
        if warning.is_empty_at("warning") {
            errors.required(&place.index(i).child("warning"), "");
        }
        if warning.str_at("fieldRef").trim().is_empty() {
            errors.required(&place.index(i).child("fieldRef"), "");
        }
    }
    shared::check(status.list_at("conditions"), &at.child("conditions"), errors);
}

/// The phase of a Namespace tells whether it is on its way out.
fn namespace_phase(namespace: &Value, at: &Path, errors: &mut Errors) {
    // The name as upstream writes it.
    let (place, phase) = (at.child("Phase"), namespace.str_at("status.phase"));
    if namespace.has("metadata.deletionTimestamp") {
        if phase != "Terminating" {
            let text = "may only be 'Terminating' if `deletionTimestamp` is not empty";
            errors.invalid(&place, phase, text);
        }
    } else if phase != "Active" {
        let text = "may only be 'Active' if `deletionTimestamp` is empty";
        errors.invalid(&place, phase, text);
    }
}

fn number(status: &Value, field: &str) -> i64 {
    status.int_at(field).unwrap_or(0)
}

fn is(job: &Value, condition: &str) -> bool {
    let mut conditions = job.list_at("status.conditions").iter();
    conditions.any(|c| c.str_at("type") == condition && c.str_at("status") == "True")
}

/// A Job's status: what is checked only where it changes is left alone elsewhere, so that odd old states can be mended.
/// Upstream tells the faults in this order.
fn job(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let status = new.at("status");
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        errors.not_negative(status, field, at);
    }
    uncounted(status, at, errors);
    let changed = |field: &str| !same(status.at(field), old.at("status").at(field));
    let finished = |job: &Value| is(job, "Complete") || is(job, "Failed");
    let ending = finished(new) != finished(old);
    exclusive(new, old, at, errors);
    completion_time(new, old, at, errors);
    preceded(new, old, at, errors);
    let left_over = |field: &str, errors: &mut Errors| {
        if finished(new) && number(status, field) > 0 && (ending || changed(field)) {
            let text = format!("{field}>0 is invalid for finished job");
            errors.invalid(&at.child(field), status.at(field).clone(), text);
        }
    };
    left_over("active", errors);
    // One that never ran, for it is suspended and wants no completion, may end without a start.
    let idle = new.bool_at("spec.suspend") && new.int_at("spec.completions") == Some(0);
    if !status.has("startTime") && finished(new) && !idle && (ending || changed("startTime")) {
        errors.required(&at.child("startTime"), "startTime is required for finished job");
    }
    let left = status.at("uncountedTerminatedPods");
    let some = !left.list_at("succeeded").is_empty() || !left.list_at("failed").is_empty();
    if finished(new) && some && (ending || changed("uncountedTerminatedPods")) {
        let text = "uncountedTerminatedPods needs to be empty for finished job";
        errors.invalid(&at.child("uncountedTerminatedPods"), left.clone(), text);
    }
    indexes(new, old, at, errors);
    left_over("terminating", errors);
    if status.has("ready")
        && (changed("ready") || changed("active"))
        && number(status, "ready") > number(status, "active")
    {
        let text = "cannot set more ready pods than active";
        errors.invalid(&at.child("ready"), number(status, "ready"), text);
    }
    successful(new, at, errors);
    kept(new, old, at, errors);
}

/// What a Job that has come so far does not take back.
fn kept(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let (status, before) = (new.at("status"), old.at("status"));
    for condition in ["Failed", "Complete", "FailureTarget"] {
        if is(old, condition) && !is(new, condition) {
            let text = format!("cannot disable the terminal {condition}=True condition");
            errors.invalid_itself(&at.child("conditions"), text);
        }
    }
    let elastic = new.str_at("spec.completionMode") == "Indexed"
        && new.int_at("spec.completions") == new.int_at("spec.parallelism");
    for (field, may_fall) in [("failed", false), ("succeeded", elastic)] {
        if !may_fall && number(status, field) < number(before, field) {
            let text = format!("cannot decrease the {field} counter");
            errors.invalid(&at.child(field), number(status, field), text);
        }
    }
    let changed = |field: &str| status.at(field) != before.at(field);
    if status.has("completionTime") && before.has("completionTime") && changed("completionTime") {
        let value = status.at("completionTime").clone();
        errors.invalid(&at.child("completionTime"), value, super::errors::IMMUTABLE);
    }
    let suspended = |job: &Value, wanted: &str| {
        let mut conditions = job.list_at("status.conditions").iter();
        conditions.any(|c| c.str_at("type") == "Suspended" && c.str_at("status") == wanted)
    };
    // A Job that goes on starts anew; its spec may say so before its status does.
    let resumed = suspended(old, "True") && suspended(new, "False");
    if before.has("startTime") && changed("startTime") && !new.bool_at("spec.suspend") && !resumed {
        let text = "startTime cannot be removed for unsuspended job";
        errors.required(&at.child("startTime"), text);
    }
    let met = is(new, "SuccessCriteriaMet");
    if is(old, "SuccessCriteriaMet") && !met {
        let text = "cannot disable the SuccessCriteriaMet=True condition";
        errors.invalid_itself(&at.child("conditions"), text);
    }
    if is(old, "Complete") && !is(old, "SuccessCriteriaMet") && met {
        let text = "cannot set SuccessCriteriaMet=True for Job already has Complete=true conditions";
        errors.invalid_itself(&at.child("conditions"), text);
    }
}

fn uncounted(status: &Value, at: &Path, errors: &mut Errors) {
    let mut seen: Vec<&str> = Vec::new();
    for list in ["succeeded", "failed"] {
        let uids = status.at("uncountedTerminatedPods").strings_at(list);
        for (i, uid) in uids.into_iter().enumerate() {
            let place = at.child("uncountedTerminatedPods").child(list).index(i);
            if uid.is_empty() {
                errors.invalid(&place, uid, "must not be empty");
            } else if seen.contains(&uid) {
                errors.duplicate(&place, uid);
            } else {
                seen.push(uid);
            }
        }
    }
}

/// Whether a condition is there in one of the two and not in the other.
fn flipped(new: &Value, old: &Value, condition: &str) -> bool {
    is(new, condition) != is(old, condition)
}

/// A Job that is complete has not failed, and is not about to.
fn exclusive(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    for (other, shown) in [("Failed", "Failed=true"), ("FailureTarget", "FailureTarget=true")] {
        let both = is(new, "Complete") && is(new, other);
        if both && (flipped(new, old, "Complete") || flipped(new, old, other)) {
            let text = format!("cannot set Complete=True and {shown} conditions");
            errors.invalid_itself(&at.child("conditions"), text);
        }
    }
}

/// A Job's end is named with its last condition, by what comes before it.
fn preceded(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let reindexed = !same(new.at("status.failedIndexes"), old.at("status.failedIndexes"));
    let target_missing = is(new, "Failed") && !is(new, "FailureTarget");
    if target_missing && (flipped(new, old, "Failed") || reindexed) {
        let text = "cannot set Failed=True condition without the FailureTarget=true condition";
        errors.invalid_itself(&at.child("conditions"), text);
    }
    let success_missing = is(new, "Complete") && !is(new, "SuccessCriteriaMet");
    if success_missing && (flipped(new, old, "Complete") || flipped(new, old, "SuccessCriteriaMet")) {
        let text = "cannot set Complete=True condition without the SuccessCriteriaMet=true condition";
        errors.invalid_itself(&at.child("conditions"), text);
    }
}

/// What success excludes, and what it is needed for.
fn successful(new: &Value, at: &Path, errors: &mut Errors) {
    let met = is(new, "SuccessCriteriaMet");
    for (other, shown) in [("Failed", "Failed=true"), ("FailureTarget", "FailureTarget=true")] {
        if met && is(new, other) {
            let text = format!("cannot set SuccessCriteriaMet=True and {shown} conditions");
            errors.invalid_itself(&at.child("conditions"), text);
        }
    }
    if new.has("spec.successPolicy") && !met && is(new, "Complete") {
        let text = "cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True";
        errors.invalid_itself(&at.child("conditions"), text);
    }
}

/// Complete Jobs, and no others, have a time of completion; it is not before that of the start.
fn completion_time(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let (status, before) = (new.at("status"), old.at("status"));
    let changed = |field: &str| status.at(field) != before.at(field);
    let end = at.child("completionTime");
    let complete = is(new, "Complete");
    let completing = flipped(new, old, "Complete") || changed("completionTime");
    let at_end = status.at("completionTime");
    if !at_end.is_null() && !complete && completing {
        let text = "cannot set completionTime when there is no Complete=True condition";
        errors.invalid(&end, at_end.clone(), text);
    }
    if at_end.is_null() && complete && completing {
        errors.required(&end, "completionTime is required for Complete jobs");
    }
    // Times have one form here, in which the order of the text is that of time.
    let earlier = status.has("startTime") && status.str_at("completionTime") < status.str_at("startTime");
    if !at_end.is_null() && earlier && (changed("startTime") || changed("completionTime")) {
        errors.invalid(
            &end,
            at_end.clone(),
            "completionTime cannot be set before startTime",
        );
    }
}

/// The sets of indexes that succeeded and failed.
fn indexes(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let (status, spec) = (new.at("status"), new.at("spec"));
    let changed = |field: &str| !same(status.at(field), old.at("status").at(field));
    let (done, failed) = (changed("completedIndexes"), changed("failedIndexes"));
    let failed = failed && status.has("failedIndexes");
    let per_index = spec.has("backoffLimitPerIndex");
    let completions = spec.int_at("completions");
    for (field, wanted) in [("completedIndexes", done), ("failedIndexes", failed && per_index)] {
        let text = status.str_at(field);
        if let (Some(limit), true) = (completions, wanted)
            && let Err(why) = intervals(text, limit)
        {
            errors.invalid(&at.child(field), text, format!("error parsing {field}: {why}"));
        }
    }
    let (completed, lost) = (status.str_at("completedIndexes"), status.str_at("failedIndexes"));
    if done && !completed.is_empty() && spec.str_at("completionMode") != "Indexed" {
        let text = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid(&at.child("completedIndexes"), completed, text);
    }
    let place = at.child("failedIndexes");
    if failed && !per_index {
        let text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.invalid(&place, lost, text);
    }
    if let Some(limit) = completions.filter(|_| done || failed)
        && let Some(index) = overlap(completed, lost, limit)
    {
        let text = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.invalid(&place, lost, text);
    }
}

/// The first index that two texts of intervals share. What is no interval has been told already, and is passed over.
fn overlap(completed: &str, failed: &str, limit: i64) -> Option<i64> {
    let read = |text: &str| -> Vec<(i64, i64)> {
        let each = text.split(',').filter_map(|one| interval(one, limit).ok());
        each.collect()
    };
    let (completed, failed) = (read(completed), read(failed));
    let (mut c, mut f) = (0, 0);
    while let (Some((cx, cy)), Some((fx, fy))) = (completed.get(c), failed.get(f)) {
        if cx <= fy && fx <= cy {
            return Some(*cx.max(fx));
        }
        match cx <= fx {
            true => c += 1,
            false => f += 1,
        }
    }
    None
}

/// The intervals of a text such as `1,3-5,7`, all below a limit.
pub(super) fn intervals(text: &str, limit: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut out: Vec<(i64, i64)> = Vec::new();
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let found = interval(part, limit)?;
        if let Some((_, last)) = out.last()
            && *last >= found.0
        {
            return Err(not_increasing(*last, found.0));
        }
        out.push(found);
    }
    Ok(out)
}

/// One of them: an index, or the first and the last.
fn interval(part: &str, limit: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
        Ok(index) if index >= limit => Err(format!("too large index: {text:?}")),
        Ok(index) => Ok(index),
    };
    let limits: Vec<&str> = part.split('-').collect();
    match limits.as_slice() {
        [one] => Ok((index(one)?, index(one)?)),
        [first, last] => {
            let (first, last) = (index(first)?, index(last)?);
            match first >= last {
                true => Err(not_increasing(first, last)),
                false => Ok((first, last)),
            }
        }
        _ => Err(format!(
            "the fragment {part:?} violates the requirement that an index interval can have at most two parts separated \
             by '-'"
        )),
    }
}

fn not_increasing(before: i64, now: i64) -> String {
    format!("non-increasing order, previous: {before}, current: {now}")
}
