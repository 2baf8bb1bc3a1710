//! Validation of what controllers report: counters of workloads, and the way of a Job to its end, which controllers of
//! others (`managedBy`, KEP-4368) must go as our own does. Source: `pkg/apis/{apps,batch,policy}/validation` of v1.35.

use super::conditions as shared;
use super::errors::Errors;
use crate::walk::{At, same};
use kinds::KindInfo;
use kinds::field::{ErrorType, FieldError, Path};
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
fn job(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let status = new.at("status");
    for field in ["active", "succeeded", "failed", "ready", "terminating"] {
        errors.not_negative(status, field, at);
    }
    uncounted(status, at, errors);
    conditions(new, old, at, errors);
    times(new, old, at, errors);
    let changed = |field: &str| !same(status.at(field), old.at("status").at(field));
    let finished = |job: &Value| is(job, "Complete") || is(job, "Failed");
    let ending = finished(new) != finished(old);
    if finished(new) {
        for field in ["active", "terminating"] {
            if number(status, field) > 0 && (ending || changed(field)) {
                let text = format!("{field}>0 is invalid for finished job");
                errors.invalid(&at.child(field), status.at(field).clone(), text);
            }
        }
        let left = status.at("uncountedTerminatedPods");
        let some = !left.list_at("succeeded").is_empty() || !left.list_at("failed").is_empty();
        if some && (ending || changed("uncountedTerminatedPods")) {
            let text = "uncountedTerminatedPods needs to be empty for finished job";
            errors.invalid(&at.child("uncountedTerminatedPods"), left.clone(), text);
        }
    }
    indexes(new, old, at, errors);
    if status.has("ready")
        && (changed("ready") || changed("active"))
        && number(status, "ready") > number(status, "active")
    {
        let text = "cannot set more ready pods than active";
        errors.invalid(&at.child("ready"), number(status, "ready"), text);
    }
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
    if before.has("startTime") && changed("startTime") && !new.bool_at("spec.suspend") {
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

/// The conditions that end a Job: which go together, and that none is taken back.
fn conditions(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let mut refuse = |text: String| {
        errors.0.push(FieldError {
            ty: ErrorType::Invalid,
            path: at.child("conditions"),
            bad_value: None,
            detail: text,
            shown: None,
        });
    };
    let changed = |condition: &str| is(new, condition) != is(old, condition);
    let (complete, failed) = (is(new, "Complete"), is(new, "Failed"));
    let (met, target) = (is(new, "SuccessCriteriaMet"), is(new, "FailureTarget"));
    let both = |a: &str, b: &str| format!("cannot set {a} and {b} conditions");
    if complete && failed && (changed("Complete") || changed("Failed")) {
        refuse(both("Complete=True", "Failed=true"));
    }
    if complete && target && (changed("Complete") || changed("FailureTarget")) {
        refuse(both("Complete=True", "FailureTarget=true"));
    }
    let reindexed = !same(new.at("status.failedIndexes"), old.at("status.failedIndexes"));
    if failed && !target && (changed("Failed") || reindexed) {
        refuse("cannot set Failed=True condition without the FailureTarget=true condition".into());
    }
    if complete && !met && (changed("Complete") || changed("SuccessCriteriaMet")) {
        refuse("cannot set Complete=True condition without the SuccessCriteriaMet=true condition".into());
    }
    if met && failed {
        refuse(both("SuccessCriteriaMet=True", "Failed=true"));
    }
    if met && target {
        refuse(both("SuccessCriteriaMet=True", "FailureTarget=true"));
    }
    if new.has("spec.successPolicy") && !met && complete {
        refuse("cannot set Complete=True for Job with SuccessPolicy unless SuccessCriteriaMet=True".into());
    }
}

fn times(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let (status, before) = (new.at("status"), old.at("status"));
    let changed = |field: &str| status.at(field) != before.at(field);
    let (start, end) = (at.child("startTime"), at.child("completionTime"));
    let complete = is(new, "Complete");
    let completing = complete != is(old, "Complete") || changed("completionTime");
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
    let finished = |job: &Value| is(job, "Complete") || is(job, "Failed");
    if !status.has("startTime") && finished(new) && (!finished(old) || changed("startTime")) {
        errors.required(&start, "startTime is required for finished job");
    }
}

/// The sets of indexes that succeeded and failed.
fn indexes(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let (status, spec) = (new.at("status"), new.at("spec"));
    let changed = |field: &str| !same(status.at(field), old.at("status").at(field));
    let (done, failed) = (changed("completedIndexes"), changed("failedIndexes"));
    let limit = spec.int_at("completions");
    let mut parsed = |field: &str, wanted: bool| {
        let text = status.str_at(field);
        match (limit, wanted) {
            (Some(limit), true) => match intervals(text, limit) {
                Ok(found) => found,
                Err(why) => {
                    errors.invalid(&at.child(field), text, format!("error parsing {field}: {why}"));
                    Vec::new()
                }
            },
            _ => Vec::new(),
        }
    };
    let per_index = spec.has("backoffLimitPerIndex");
    let completed = parsed("completedIndexes", done);
    let lost = parsed(
        "failedIndexes",
        failed && per_index && status.has("failedIndexes"),
    );
    let (completed, lost) = match limit {
        // Either may have changed; both are looked at.
        Some(limit) if done || failed => (
            if done {
                completed
            } else {
                intervals(status.str_at("completedIndexes"), limit).unwrap_or_default()
            },
            if failed {
                lost
            } else {
                intervals(status.str_at("failedIndexes"), limit).unwrap_or_default()
            },
        ),
        _ => (completed, lost),
    };
    if done && !status.str_at("completedIndexes").is_empty() && spec.str_at("completionMode") != "Indexed" {
        let text = "cannot set non-empty completedIndexes when non-indexed completion mode";
        errors.invalid(
            &at.child("completedIndexes"),
            status.str_at("completedIndexes"),
            text,
        );
    }
    if failed && !per_index && status.has("failedIndexes") {
        let text = "cannot set non-null failedIndexes when backoffLimitPerIndex is null";
        errors.invalid(&at.child("failedIndexes"), status.str_at("failedIndexes"), text);
    }
    let common = lost.iter().find_map(|(a, b)| {
        let other = completed.iter().find(|(x, y)| x <= b && a <= y)?;
        Some(*a.max(&other.0))
    });
    if let Some(index) = common {
        let text = format!("failedIndexes and completedIndexes overlap at index: {index}");
        errors.invalid(&at.child("failedIndexes"), status.str_at("failedIndexes"), text);
    }
}

/// The intervals of a text such as `1,3-5,7`, all below a limit.
pub(super) fn intervals(text: &str, limit: i64) -> Result<Vec<(i64, i64)>, String> {
    let mut out: Vec<(i64, i64)> = Vec::new();
    let order = |a: i64, b: i64| format!("non-increasing order, previous: {a}, current: {b}");
    let index = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {text:?}")),
        Ok(index) if index >= limit => Err(format!("too large index: {text:?}")),
        Ok(index) => Ok(index),
    };
    for part in text.split(',').filter(|_| !text.is_empty()) {
        let limits: Vec<&str> = part.split('-').collect();
        let interval = match limits.as_slice() {
            [one] => (index(one)?, index(one)?),
            [first, last] => {
                let (first, last) = (index(first)?, index(last)?);
                if first >= last {
                    return Err(order(first, last));
                }
                (first, last)
            }
            _ => {
                return Err(format!(
                    "the fragment {part:?} violates the requirement that an index interval can have at most two parts \
                     separated by '-'"
                ));
            }
        };
        if let Some((_, last)) = out.last()
            && *last >= interval.0
        {
            return Err(order(*last, interval.0));
        }
        out.push(interval);
    }
    Ok(out)
}
