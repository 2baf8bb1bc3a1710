//! Defaults of the kinds that make Pods. Source: `pkg/apis/apps/v1/defaults.go`, `pkg/apis/batch/v1/defaults.go` and the
//! ReplicationController's part of `pkg/apis/core/v1/defaults.go`.

use super::core::claim;
use super::pod::template;
use crate::walk::{At, each_mut, fields_mut, or_set, or_set_empty, set};
use serde_json::{Value, json};

/// Old ReplicaSets and revisions that are kept.
const HISTORY: i64 = 10;
/// Retries of a Job before it fails.
const BACKOFF_LIMIT: i64 = 6;

pub(super) fn deployment(obj: &mut Value) {
    template(obj, "spec.template");
    or_set(obj, "spec.replicas", 1);
    or_set_empty(obj, "spec.strategy.type", "RollingUpdate");
    if obj.str_at("spec.strategy.type") == "RollingUpdate" {
        or_set(obj, "spec.strategy.rollingUpdate.maxUnavailable", "25%");
        or_set(obj, "spec.strategy.rollingUpdate.maxSurge", "25%");
    }
    or_set(obj, "spec.revisionHistoryLimit", HISTORY);
    or_set(obj, "spec.progressDeadlineSeconds", 600);
}

pub(super) fn replica_set(obj: &mut Value) {
    template(obj, "spec.template");
    or_set(obj, "spec.replicas", 1);
}

pub(super) fn replication_controller(obj: &mut Value) {
    if obj.has("spec.template") {
        template(obj, "spec.template");
    }
    let labels = obj.at("spec.template.metadata.labels").clone();
    if labels.is_object() {
        or_set_empty(obj, "spec.selector", labels.clone());
        or_set_empty(obj, "metadata.labels", labels);
    }
    or_set(obj, "spec.replicas", 1);
}

pub(super) fn stateful_set(obj: &mut Value) {
    template(obj, "spec.template");
    or_set_empty(obj, "spec.podManagementPolicy", "OrderedReady");
    if obj.is_empty_at("spec.updateStrategy.type") {
        set(obj, "spec.updateStrategy.type", "RollingUpdate");
        or_set(obj, "spec.updateStrategy.rollingUpdate", json!({}));
    }
    if obj.str_at("spec.updateStrategy.type") == "RollingUpdate"
        && obj.has("spec.updateStrategy.rollingUpdate")
    {
        or_set(obj, "spec.updateStrategy.rollingUpdate.partition", 0);
    }
    or_set_empty(
        obj,
        "spec.persistentVolumeClaimRetentionPolicy.whenDeleted",
        "Retain",
    );
    or_set_empty(
        obj,
        "spec.persistentVolumeClaimRetentionPolicy.whenScaled",
        "Retain",
    );
    or_set(obj, "spec.replicas", 1);
    or_set(obj, "spec.revisionHistoryLimit", HISTORY);
    each_mut(obj, "spec.volumeClaimTemplates", |template| {
        // Whatever they are called, upstream holds them as claims and writes them as such.
        set(template, "apiVersion", "v1");
        set(template, "kind", "PersistentVolumeClaim");
        claim(template);
    });
}

pub(super) fn daemon_set(obj: &mut Value) {
    // What the internal object counts, its v1 form shows as an annotation.
    if let Some(annotations) = fields_mut(obj, "metadata.annotations") {
        annotations
            .entry(crate::strategy::TEMPLATE_GENERATION)
            .or_insert_with(|| "0".into());
    }
    template(obj, "spec.template");
    or_set_empty(obj, "spec.updateStrategy.type", "RollingUpdate");
    if obj.str_at("spec.updateStrategy.type") == "RollingUpdate" {
        or_set(obj, "spec.updateStrategy.rollingUpdate.maxUnavailable", 1);
        or_set(obj, "spec.updateStrategy.rollingUpdate.maxSurge", 0);
    } else if obj.has("spec.updateStrategy.rollingUpdate") {
        // Numbers that the internal object always has.
        for field in ["maxUnavailable", "maxSurge"] {
            or_set(obj, &format!("spec.updateStrategy.rollingUpdate.{field}"), 0);
        }
    }
    or_set(obj, "spec.revisionHistoryLimit", HISTORY);
}

pub(super) fn job(obj: &mut Value) {
    template(obj, "spec.template");
    job_failure_policy(obj, "spec");
    // Neither given: one Pod that must succeed once. Only parallelism given: a work queue.
    if !obj.has("spec.completions") && !obj.has("spec.parallelism") {
        set(obj, "spec.completions", 1);
        set(obj, "spec.parallelism", 1);
    }
    or_set(obj, "spec.parallelism", 1);
    let limit = if obj.has("spec.backoffLimitPerIndex") {
        i64::from(i32::MAX)
    } else {
        BACKOFF_LIMIT
    };
    or_set(obj, "spec.backoffLimit", limit);
    or_set(obj, "spec.completionMode", "NonIndexed");
    or_set(obj, "spec.suspend", false);
    let replacement = if obj.has("spec.podFailurePolicy") {
        "Failed"
    } else {
        "TerminatingOrFailed"
    };
    or_set(obj, "spec.podReplacementPolicy", replacement);
    or_set(obj, "spec.manualSelector", false);
    job_labels(obj);
}

/// A Job without labels has those of its template.
pub(crate) fn job_labels(obj: &mut Value) {
    let labels = obj.at("spec.template.metadata.labels").clone();
    if labels.is_object() {
        or_set_empty(obj, "metadata.labels", labels);
    }
}

pub(super) fn cron_job(obj: &mut Value) {
    template(obj, "spec.jobTemplate.spec.template");
    job_failure_policy(obj, "spec.jobTemplate.spec");
    or_set_empty(obj, "spec.concurrencyPolicy", "Allow");
    or_set(obj, "spec.suspend", false);
    or_set(obj, "spec.successfulJobsHistoryLimit", 3);
    or_set(obj, "spec.failedJobsHistoryLimit", 1);
    or_set(obj, "status", json!({}));
}

fn job_failure_policy(obj: &mut Value, spec: &str) {
    each_mut(obj, &format!("{spec}.podFailurePolicy.rules"), |rule| {
        each_mut(rule, "onPodConditions", |condition| {
            or_set_empty(condition, "status", "True")
        });
    });
}
