//! Jobs: Pods that run to their end, as often as wished for.
//!
//! ```text
//! Pod ends -> its uid is noted in status.uncountedTerminatedPods -> its finalizer goes -> it is counted
//! ```
//! The finalizer `batch.kubernetes.io/job-tracking` keeps every Pod until its end has been written down, so that no
//! crash, neither of this process nor of a host, counts a Pod twice or not at all. [`plan`](plan::plan) decides; this
//! module asks and acts.

mod count;
mod indexes;
mod plan;
#[cfg(test)]
mod tests;

use crate::claim::{Sweep, claim, create_pods, remove_pod};
use crate::concern::{By, Concern};
use crate::manager::Reconciler;
use crate::obj::{active, condition, controller_of, deleting, int, items, meta, now, text};
use crate::pauses::Pauses;
use crate::replicaset::pod_from;
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use cache::Object;
use jiff::Timestamp;
use kinds::selector::LabelSelector;
use plan::Plan;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const JOBS: &str = "jobs.batch";
const PODS: &str = "pods";
const SOURCE: &str = "job-controller";
const TRACKING: &str = "batch.kubernetes.io/job-tracking";
const INDEX: &str = "batch.kubernetes.io/job-completion-index";
/// How often the index of a Pod had failed before it (KEP-3850).
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// The same of failures that `podFailurePolicy` ignores.
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
/// Longest beginning of a generated name.
const MAX_BASE: usize = 58;

/// The controller of Jobs; it also removes finished ones whose `ttlSecondsAfterFinished` has passed.
pub(crate) struct Jobs {
    jobs: Concern,
    /// Pods that wait until their end is counted, and may have nobody who counts.
    counted: Concern,
    /// Of Jobs whose Pods were refused.
    pauses: Pauses,
}

impl Default for Jobs {
    fn default() -> Jobs {
        let jobs = Concern::new(JOBS, &[(PODS, &[By::Owner, By::Labels])]);
        let counted = Concern::new(PODS, &[(JOBS, &[By::Owned(counts_no_more)])]);
        Jobs {
            jobs: jobs.selecting(|job| LabelSelector::from_json(&job["spec"]["selector"]).ok()),
            counted: counted.only(|pod| pod.links().finalizers),
            pauses: Pauses::default(),
        }
    }
}

/// A first look at whether a Job that is there does not count its Pods any more.
fn counts_no_more(job: &Object) -> bool {
    job.links().deleting
        || [r#""Complete""#, r#""Failed""#]
            .iter()
            .any(|end| job.mentions(end))
}

/// The Job has ended: its condition `Complete` or `Failed`.
pub(crate) fn ended(job: &Value) -> Option<&Value> {
    ["Complete", "Failed"]
        .iter()
        .find_map(|kind| condition(job, kind))
        .filter(|c| c["status"] == "True")
}

/// A Pod of a Job; `index` only with completion mode Indexed.
fn pod_of(job: &Value, index: Option<u64>) -> Value {
    let mut pod = pod_from(job, &job["spec"]["template"]);
    let mut finalizers = items(&pod, "/metadata/finalizers").to_vec();
    finalizers.push(json!(TRACKING));
    pod["metadata"]["finalizers"] = json!(finalizers);
    let Some(index) = index else { return pod };
    let name = meta(job, "name");
    let end = format!("-{index}-");
    let base: String = name.chars().take(MAX_BASE.saturating_sub(end.len())).collect();
    pod["metadata"]["generateName"] = json!(format!("{base}{end}"));
    pod["metadata"]["annotations"][INDEX] = json!(index.to_string());
    pod["metadata"]["labels"][INDEX] = json!(index.to_string());
    pod["spec"]["hostname"] = json!(format!("{name}-{index}"));
    let variable = json!({
        "name": "JOB_COMPLETION_INDEX",
        "valueFrom": {"fieldRef": {"fieldPath": format!("metadata.labels['{INDEX}']")}},
    });
    for list in ["initContainers", "containers"] {
        for container in pod["spec"][list].as_array_mut().into_iter().flatten() {
            match container["env"].as_array_mut() {
                Some(env) if env.iter().any(|e| e["name"] == "JOB_COMPLETION_INDEX") => {}
                Some(env) => env.push(variable.clone()),
                None => container["env"] = json!([variable]),
            }
        }
    }
    pod
}

/// Lets a Pod go: its end has been written down, or nobody counts it any more.
async fn release(world: &World, pod: &Value) -> Result<(), WorldError> {
    let mut finalizers = items(pod, "/metadata/finalizers").to_vec();
    let before = finalizers.len();
    finalizers.retain(|f| f != TRACKING);
    if finalizers.len() == before {
        return Ok(());
    }
    let mut next = pod.clone();
    next["metadata"]["finalizers"] = json!(finalizers);
    settled(world.update(PODS, pod, &next).await).map(drop)
}

impl Jobs {
    async fn one(&self, world: &World, job: &Value) -> Result<Option<Duration>, WorldError> {
        if deleting(job) {
            return Ok(None);
        }
        if let Some(end) = ended(job) {
            return self.after_the_end(world, job, end).await;
        }
        if !ours(job) {
            return Ok(None);
        }
        let Ok(selector) = LabelSelector::from_json(&job["spec"]["selector"]) else {
            return Ok(None);
        };
        let mut pods = claim(world, job, &selector).await?;
        for pod in pods.iter_mut().filter(|pod| active(pod) && !is_tracked(pod)) {
            if let Some(tracked) = track(world, pod).await? {
                *pod = tracked;
            }
        }
        self.act(world, job, plan::plan(job, &pods, Timestamp::now()))
            .await
    }

    async fn act(&self, world: &World, job: &Value, plan: Plan) -> Result<Option<Duration>, WorldError> {
        let mut wake = plan.wake;
        // Ends are let go only after an earlier round has written them down; what is to be deleted without being
        // counted is let go before it is deleted.
        for pod in &plan.release {
            release(world, pod).await?;
        }
        for pod in &plan.delete {
            if remove_pod(world, SOURCE, job, pod).await.is_err() {
                wake = Some(Duration::from_secs(1));
            }
        }
        let per_index = job["spec"]["backoffLimitPerIndex"].is_i64();
        let new: Vec<Value> = plan
            .create
            .iter()
            .map(|index| {
                let mut pod = pod_of(job, *index);
                if let Some(index) = index.filter(|_| per_index) {
                    let of = |all: &BTreeMap<u64, i64>| all.get(&index).copied().unwrap_or(0);
                    pod["metadata"]["annotations"][FAILURES] = json!(of(&plan.failures).to_string());
                    if of(&plan.ignored) > 0 {
                        pod["metadata"]["annotations"][IGNORED] = json!(of(&plan.ignored).to_string());
                    }
                }
                pod
            })
            .collect();
        let (made, again) = self.fill(world, job, &new).await;
        wake = [wake, again].into_iter().flatten().min();
        let status = without(plan.status, new.len() - made);
        settled(world.update_status(JOBS, job, &status).await)?;
        for (warning, reason, message) in &plan.events {
            world.event(SOURCE, job, *warning, reason, message).await;
        }
        Ok(wake)
    }

    /// Makes Pods, and says how many were made. Where they were refused, the next attempt waits.
    async fn fill(&self, world: &World, job: &Value, new: &[Value]) -> (usize, Option<Duration>) {
        if new.is_empty() {
            return (0, None);
        }
        let key = format!("{} {}", meta(job, "uid"), job["metadata"]["generation"]);
        if let Some(left) = self.pauses.left(&key) {
            return (0, Some(left));
        }
        let mut made = Vec::new();
        let again = match create_pods(world, SOURCE, job, new, &mut made).await {
            Ok(()) => {
                self.pauses.passed(&key);
                None
            }
            Err(_) => Some(self.pauses.refused(&key)),
        };
        (made.len(), again)
    }

    /// A finished Job lets its last Pods go and, when it has a time to live, goes itself.
    async fn after_the_end(
        &self,
        world: &World,
        job: &Value,
        end: &Value,
    ) -> Result<Option<Duration>, WorldError> {
        let Some(ttl) = job["spec"]["ttlSecondsAfterFinished"].as_i64() else {
            return Ok(None);
        };
        let Ok(at) = text(end, "/lastTransitionTime").parse::<Timestamp>() else {
            return Ok(None);
        };
        let left = ttl - Timestamp::now().duration_since(at).as_secs();
        if left > 0 {
            return Ok(Some(Duration::from_secs(left.unsigned_abs())));
        }
        settled(world.delete(JOBS, job, "Foreground").await)?;
        Ok(None)
    }

    /// A Pod whose Job is gone or finished has nobody who would write its end down.
    async fn release_orphan(&self, world: &World, pod: &Value) -> Result<(), WorldError> {
        if !is_tracked(pod) {
            return Ok(());
        }
        let owner = controller_of(pod);
        if owner.is_some_and(|owner| owner["kind"] != "Job") {
            // Somebody else counts in the same way.
            return Ok(());
        }
        let job = owner.and_then(|owner| {
            let job = world.get(JOBS, meta(pod, "namespace"), text(owner, "/name"))?;
            (meta(&job, "uid") == text(owner, "/uid")).then_some(job)
        });
        match job.is_none_or(|job| ours(&job) && (deleting(&job) || ended(&job).is_some())) {
            true => release(world, pod).await,
            false => Ok(()),
        }
    }
}

#[async_trait]
impl Reconciler for Jobs {
    fn name(&self) -> &'static str {
        "job"
    }
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.jobs, &self.counted]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut sweep = Sweep::default();
        let mut round = self.jobs.begin(world);
        while let Some(job) = round.next(world) {
            round.note(self.one(world, &job).await);
        }
        sweep.note(round.end());
        let mut round = self.counted.begin(world);
        while let Some(pod) = round.next(world) {
            round.note(self.release_orphan(world, &pod).await.map(|()| None));
        }
        sweep.note(round.end());
        sweep.outcome()
    }
}

fn is_tracked(pod: &Value) -> bool {
    items(pod, "/metadata/finalizers").iter().any(|f| f == TRACKING)
}

/// Has a Pod that was adopted wait until its end is counted. `None` if it has gone meanwhile.
async fn track(world: &World, pod: &Value) -> Result<Option<Arc<Value>>, WorldError> {
    let more = json!({"metadata": {"finalizers": [TRACKING]}});
    Ok(settled(world.add(PODS, pod, more).await)?.map(Arc::new))
}

/// A status with so many Pods fewer than were to be made.
fn without(mut status: Value, missing: usize) -> Value {
    let active = int(&status, "/active", 0) - i64::try_from(missing).unwrap_or(0);
    match (active > 0, status.as_object_mut()) {
        (true, _) => status["active"] = json!(active),
        (false, Some(fields)) => drop(fields.remove("active")),
        (false, None) => {}
    }
    status
}

/// The Job does not name another controller (KEP-4368).
fn ours(job: &Value) -> bool {
    matches!(text(job, "/spec/managedBy"), "" | "kubernetes.io/job-controller")
}

/// A condition as Jobs carry it.
fn job_condition(kind: &str, status: &str, reason: &str, message: &str) -> Value {
    let now = now();
    json!({"type": kind, "status": status, "reason": reason, "message": message,
        "lastProbeTime": now, "lastTransitionTime": now})
}
