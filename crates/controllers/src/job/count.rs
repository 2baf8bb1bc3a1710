//! Counting the ends of a Job's Pods, each exactly once, and what an end means: success, failure, or nothing.

use super::{FAILURES, IGNORED, INDEX, TRACKING, indexes};
use crate::obj::{annotation, condition, deleting, int, items, meta, text};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// No Job has more indexes than this, as upstream validates.
const MAX_INDEX: u64 = 100_000;

/// How a Pod ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Succeeded,
    Failed,
}

/// What a rule of `podFailurePolicy` says about a failure.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    Count,
    Ignore,
    FailIndex,
    FailJob(String),
}

/// Whether and how a Pod ended. A Pod that is being deleted counts as failed at once, unless only failed ones are to be
/// replaced.
pub(super) fn end_of(job: &Value, pod: &Value) -> Option<End> {
    match text(pod, "/status/phase") {
        "Succeeded" => Some(End::Succeeded),
        "Failed" => Some(End::Failed),
        _ => (deleting(pod) && text(job, "/spec/podReplacementPolicy") != "Failed").then_some(End::Failed),
    }
}

/// When a Pod ended: at the end of its last container if all have ended; when it ceased to be ready; when it was asked to
/// go; at its creation, if nothing else is known (upstream: `getFinishedTime` in `pkg/controller/job/backoff_utils.go`).
pub(super) fn end_time(pod: &Value) -> Option<Timestamp> {
    let at = |text: &str| text.parse::<Timestamp>().ok();
    let unready = condition(pod, "Ready").filter(|c| c["status"] == "False");
    let grace = SignedDuration::from_secs(int(pod, "/metadata/deletionGracePeriodSeconds", 0));
    end_of_containers(pod)
        .or_else(|| at(text(unready?, "/lastTransitionTime")))
        .or_else(|| at(meta(pod, "deletionTimestamp"))?.checked_sub(grace).ok())
        .or_else(|| at(meta(pod, "creationTimestamp")))
}

/// When the last of the containers and sidecars ended, if all have.
fn end_of_containers(pod: &Value) -> Option<Timestamp> {
    let sidecar = |status: &Value| {
        let mut all = items(pod, "/spec/initContainers").iter();
        all.any(|c| c["name"] == status["name"] && c["restartPolicy"] == "Always")
    };
    let sidecars = items(pod, "/status/initContainerStatuses")
        .iter()
        .filter(|s| sidecar(s));
    let all = items(pod, "/status/containerStatuses").iter().chain(sidecars);
    let ends: Option<Vec<Timestamp>> = all
        .map(|c| text(c, "/state/terminated/finishedAt").parse().ok())
        .collect();
    ends?.into_iter().max()
}

/// The completion index of a Pod of an Indexed Job.
pub(super) fn index_of(pod: &Value) -> Option<u64> {
    annotation(pod, INDEX).parse().ok()
}

/// What the Job's failure policy says about a failed Pod.
pub(super) fn verdict(job: &Value, pod: &Value) -> Verdict {
    for (at, rule) in items(job, "/spec/podFailurePolicy/rules").iter().enumerate() {
        let Some(why) = matching(rule, pod) else { continue };
        return match text(rule, "/action") {
            "FailJob" => Verdict::FailJob(format!("{why} matching FailJob rule at index {at}")),
            "Ignore" => Verdict::Ignore,
            "FailIndex" => Verdict::FailIndex,
            _ => Verdict::Count,
        };
    }
    Verdict::Count
}

/// Why a rule matches a failed Pod.
fn matching(rule: &Value, pod: &Value) -> Option<String> {
    let pod_name = format!("{}/{}", meta(pod, "namespace"), meta(pod, "name"));
    if rule["onExitCodes"].is_object() {
        let (only, operator) = (
            text(rule, "/onExitCodes/containerName"),
            text(rule, "/onExitCodes/operator"),
        );
        let values = items(rule, "/onExitCodes/values");
        for list in ["/status/containerStatuses", "/status/initContainerStatuses"] {
            for status in items(pod, list) {
                let code = int(status, "/state/terminated/exitCode", 0);
                let listed = values.iter().any(|v| v.as_i64() == Some(code));
                let named = only.is_empty() || only == text(status, "/name");
                if named && code != 0 && listed == (operator == "In") {
                    let name = text(status, "/name");
                    return Some(format!(
                        "Container {name} for pod {pod_name} failed with exit code {code}"
                    ));
                }
            }
        }
        return None;
    }
    items(rule, "/onPodConditions").iter().find_map(|pattern| {
        let wanted = pattern["status"].as_str().unwrap_or("True");
        let kind = text(pattern, "/type");
        let met = items(pod, "/status/conditions")
            .iter()
            .any(|c| c["type"] == kind && c["status"] == wanted);
        met.then(|| format!("Pod {pod_name} has condition {kind}"))
    })
}

/// The counters of a Job's status after looking at its Pods.
pub(super) struct Count {
    /// Ends that were counted, those noted but not yet counted not included.
    counted: (i64, i64),
    noted_ok: BTreeSet<String>,
    noted_bad: BTreeSet<String>,
    /// Indexes that succeeded.
    pub(super) completed: BTreeSet<u64>,
    /// Indexes that failed more often than allowed.
    pub(super) failed_indexes: BTreeSet<u64>,
    /// A failure that ends the Job, and why.
    pub(super) fatal: Option<String>,
    /// Pods whose end the stored status has.
    pub(super) release: Vec<Arc<Value>>,
    /// With `backoffLimitPerIndex`: how often each index has failed.
    pub(super) failures: BTreeMap<u64, i64>,
    /// The same of failures that the policy ignores.
    pub(super) ignored: BTreeMap<u64, i64>,
    indexed: bool,
    /// Indexes are below this.
    limit: u64,
}

impl Count {
    /// Reads the stored status and notes new ends.
    pub(super) fn new(job: &Value, pods: &[Arc<Value>]) -> Count {
        let noted = |field: &str| -> BTreeSet<String> {
            let at = format!("/status/uncountedTerminatedPods/{field}");
            items(job, &at)
                .iter()
                .filter_map(Value::as_str)
                .map(str::to_string)
                .collect()
        };
        let limit = u64::try_from(int(job, "/spec/completions", 0))
            .unwrap_or(0)
            .min(MAX_INDEX);
        let mut count = Count {
            counted: (int(job, "/status/succeeded", 0), int(job, "/status/failed", 0)),
            noted_ok: noted("succeeded"),
            noted_bad: noted("failed"),
            completed: indexes::parse(text(job, "/status/completedIndexes"), limit),
            failed_indexes: indexes::parse(text(job, "/status/failedIndexes"), limit),
            fatal: None,
            release: Vec::new(),
            failures: BTreeMap::new(),
            ignored: BTreeMap::new(),
            limit,
            indexed: text(job, "/spec/completionMode") == "Indexed",
        };
        count.settle(pods);
        count.note(job, pods);
        count.limit_indexes(job, pods);
        count
    }

    /// Noted Pods that have been let go are counted; those that have not are let go now.
    fn settle(&mut self, pods: &[Arc<Value>]) {
        let held: BTreeMap<&str, &Arc<Value>> = pods
            .iter()
            .filter(|p| items(p, "/metadata/finalizers").iter().any(|f| f == TRACKING))
            .map(|p| (meta(p, "uid"), p))
            .collect();
        let mut add = [0, 0];
        for (set, sum) in [&mut self.noted_ok, &mut self.noted_bad]
            .into_iter()
            .zip(&mut add)
        {
            set.retain(|uid| match held.get(uid.as_str()) {
                Some(pod) => {
                    self.release.push((*pod).clone());
                    true
                }
                None => {
                    *sum += 1;
                    false
                }
            });
        }
        self.counted.0 += add[0];
        self.counted.1 += add[1];
    }

    fn note(&mut self, job: &Value, pods: &[Arc<Value>]) {
        for pod in pods {
            let uid = meta(pod, "uid");
            let held = items(pod, "/metadata/finalizers").iter().any(|f| f == TRACKING);
            if !held || self.noted_ok.contains(uid) || self.noted_bad.contains(uid) {
                continue;
            }
            // An index that is none, or none any more, counts neither way.
            if self.indexed && index_of(pod).is_none_or(|index| index >= self.limit) {
                self.release.extend(end_of(job, pod).map(|_| pod.clone()));
                continue;
            }
            match end_of(job, pod) {
                Some(End::Succeeded) => {
                    if let (true, Some(index)) = (self.indexed, index_of(pod)) {
                        self.completed.insert(index);
                    }
                    self.noted_ok.insert(uid.to_string());
                }
                Some(End::Failed) => match verdict(job, pod) {
                    // Nobody counts it: it goes without a note.
                    Verdict::Ignore => self.release.push(pod.clone()),
                    Verdict::FailJob(why) => {
                        self.fatal.get_or_insert(why);
                        self.noted_bad.insert(uid.to_string());
                    }
                    Verdict::FailIndex => {
                        self.failed_indexes.extend(index_of(pod));
                        self.noted_bad.insert(uid.to_string());
                    }
                    Verdict::Count => drop(self.noted_bad.insert(uid.to_string())),
                },
                None => {}
            }
        }
    }

    /// `backoffLimitPerIndex`: an index that failed more often is given up.
    fn limit_indexes(&mut self, job: &Value, pods: &[Arc<Value>]) {
        let Some(limit) = job["spec"]["backoffLimitPerIndex"].as_i64() else {
            return;
        };
        // A Pod knows how often its index had failed before it: failures outlive the Pods that failed.
        let mut seen: BTreeMap<u64, i64> = BTreeMap::new();
        for pod in pods.iter().filter(|p| end_of(job, p) == Some(End::Failed)) {
            let Some(index) = index_of(pod).filter(|index| *index < self.limit) else {
                continue;
            };
            let before = |name| annotation(pod, name).parse::<i64>().unwrap_or(0);
            let (counts, ignored) = match verdict(job, pod) {
                Verdict::Count => (1, 0),
                Verdict::Ignore => (0, 1),
                Verdict::FailIndex | Verdict::FailJob(_) => continue,
            };
            *seen.entry(index).or_default() += counts;
            for (all, n) in [
                (&mut self.failures, before(FAILURES) + counts),
                (&mut self.ignored, before(IGNORED) + ignored),
            ] {
                let all = all.entry(index).or_default();
                *all = (*all).max(n);
            }
        }
        for (index, n) in seen {
            let all = self.failures.entry(index).or_default();
            *all = (*all).max(n);
        }
        let given_up = self
            .failures
            .iter()
            .filter(|(_, n)| **n > limit)
            .map(|(index, _)| *index);
        self.failed_indexes.extend(
            given_up
                .filter(|i| !self.completed.contains(i))
                .collect::<Vec<_>>(),
        );
    }

    /// Whether a failed Pod is the only one that knows how often its index failed: with `backoffLimitPerIndex`, until the next
    /// Pod of that index, which is told, is there.
    pub(super) fn is_needed(&self, job: &Value, pod: &Value, running: &[Arc<Value>]) -> bool {
        let limited = job["spec"]["backoffLimitPerIndex"].is_i64() && end_of(job, pod) == Some(End::Failed);
        let over = |index: &u64| self.completed.contains(index) || self.failed_indexes.contains(index);
        index_of(pod)
            .filter(|index| limited && *index < self.limit && !over(index))
            .is_some_and(|index| !running.iter().any(|p| index_of(p) == Some(index)))
    }

    /// Successes, noted ones included; of an Indexed Job, its completed indexes.
    pub(super) fn succeeded(&self) -> i64 {
        match self.indexed {
            true => i64::try_from(self.completed.len()).unwrap_or(i64::MAX),
            false => self.counted.0 + self.noted_ok.len() as i64,
        }
    }

    /// Failures, noted ones included.
    pub(super) fn failed(&self) -> i64 {
        self.counted.1 + self.noted_bad.len() as i64
    }

    /// Nothing is left to be counted.
    pub(super) fn is_settled(&self) -> bool {
        self.noted_ok.is_empty() && self.noted_bad.is_empty()
    }

    /// Writes the counters into a status.
    pub(super) fn write(&self, job: &Value, status: &mut serde_json::Map<String, Value>) {
        let succeeded = if self.indexed {
            self.succeeded()
        } else {
            self.counted.0
        };
        for (field, n) in [("succeeded", succeeded), ("failed", self.counted.1)] {
            match n {
                0 => drop(status.remove(field)),
                n => drop(status.insert(field.into(), json!(n))),
            }
        }
        let mut noted = json!({});
        for (field, set) in [("succeeded", &self.noted_ok), ("failed", &self.noted_bad)] {
            if !set.is_empty() {
                noted[field] = json!(set);
            }
        }
        status.insert("uncountedTerminatedPods".into(), noted);
        for (field, set, always) in [
            ("completedIndexes", &self.completed, false),
            (
                "failedIndexes",
                &self.failed_indexes,
                job["spec"]["backoffLimitPerIndex"].is_i64(),
            ),
        ] {
            match set.is_empty() && !always {
                true => drop(status.remove(field)),
                false => drop(status.insert(field.into(), json!(indexes::format(set)))),
            }
        }
    }
}
