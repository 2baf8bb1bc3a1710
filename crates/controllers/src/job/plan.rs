//! What to do about a Job: a pure function of the Job, its Pods and the time.

use super::count::{Count, End, end_of, end_time, index_of};
use super::{TRACKING, job_condition};
use crate::obj::{condition, deleting, finished, int, items, meta, ready, text};
use crate::victims::{Ages, victims};
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

/// The first pause after a failure; it doubles with each further one.
const FIRST_PAUSE: i64 = 10;
/// The longest pause between failures, seconds.
const LAST_PAUSE: i64 = 600;
/// At most so many Pods are made or removed in one round, as upstream.
const BURST: usize = 500;

/// What is to be done, and the status to write.
#[derive(Debug, Default)]
pub(super) struct Plan {
    /// The whole status.
    pub(super) status: Value,
    /// Pods to make; the index of each with completion mode Indexed.
    pub(super) create: Vec<Option<u64>>,
    /// How often each index has failed, with `backoffLimitPerIndex`.
    pub(super) failures: BTreeMap<u64, i64>,
    /// And how often in a way that the policy ignores.
    pub(super) ignored: BTreeMap<u64, i64>,
    /// Pods to delete.
    pub(super) delete: Vec<Arc<Value>>,
    /// Pods to let go (by removing the finalizer).
    pub(super) release: Vec<Arc<Value>>,
    /// Events: warning, reason, message.
    pub(super) events: Vec<(bool, &'static str, String)>,
    /// Look again after this time.
    pub(super) wake: Option<Duration>,
}

/// How the Job ends, once its Pods have.
struct Finish {
    good: bool,
    reason: String,
    message: String,
}

/// Decides; see the module's words.
pub(super) fn plan(job: &Value, pods: &[Arc<Value>], now: Timestamp) -> Plan {
    let mut count = Count::new(job, pods);
    let running: Vec<Arc<Value>> = pods
        .iter()
        .filter(|p| !finished(p) && !deleting(p))
        .cloned()
        .collect();
    let terminating = pods.iter().filter(|p| deleting(p) && !finished(p)).count();
    let mut plan = Plan {
        release: std::mem::take(&mut count.release),
        failures: count.failures.clone(),
        ignored: count.ignored.clone(),
        ..Plan::default()
    };
    let mut status = job["status"].as_object().cloned().unwrap_or_default();
    let mut conditions = items(job, "/status/conditions").to_vec();
    let suspended = job["spec"]["suspend"] == true;
    suspend(&mut conditions, &mut status, suspended, &mut plan);
    if !suspended && !status.contains_key("startTime") {
        status.insert("startTime".into(), json!(stamp(now)));
    }

    let mut active = running.len();
    let end = finish(job, pods, &running, &count, &status, now, &mut plan);
    if end.is_none() {
        plan.release.retain(|pod| !count.is_needed(job, pod, &running));
    }
    match end {
        Some(end) => {
            active = 0;
            plan.delete = running;
            if end.good {
                // Pods that nobody needs any more are no failures.
                plan.release.extend(plan.delete.iter().cloned());
            }
            mark(
                &mut conditions,
                if end.good {
                    "SuccessCriteriaMet"
                } else {
                    "FailureTarget"
                },
                &end,
            );
            if plan.delete.is_empty() && terminating == 0 && count.is_settled() {
                mark(
                    &mut conditions,
                    if end.good { "Complete" } else { "Failed" },
                    &end,
                );
                match end.good {
                    true => {
                        status.insert("completionTime".into(), json!(stamp(now)));
                        plan.events.push((false, "Completed", "Job completed".into()));
                    }
                    false => plan.events.push((true, event_reason(&end.reason), end.message)),
                }
            }
        }
        None if suspended => {
            active = 0;
            plan.release.extend(running.iter().cloned());
            plan.delete = running;
        }
        None => staff(job, pods, &running, terminating, &count, now, &mut plan),
    }
    if !plan.delete.is_empty() && active > 0 {
        active -= plan.delete.len().min(active);
    }
    write(&mut status, active + plan.create.len(), pods, &plan, terminating);
    count.write(job, &mut status);
    match conditions.is_empty() {
        true => drop(status.remove("conditions")),
        false => drop(status.insert("conditions".into(), json!(conditions))),
    }
    plan.status = Value::Object(status);
    plan
}

fn stamp(now: Timestamp) -> String {
    now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Event reasons are fixed texts; the condition may have been written by an earlier release of ours.
fn event_reason(reason: &str) -> &'static str {
    match reason {
        "DeadlineExceeded" => "DeadlineExceeded",
        "PodFailurePolicy" => "PodFailurePolicy",
        "FailedIndexes" => "FailedIndexes",
        "MaxFailedIndexesExceeded" => "MaxFailedIndexesExceeded",
        _ => "BackoffLimitExceeded",
    }
}

fn mark(conditions: &mut Vec<Value>, kind: &str, end: &Finish) {
    if !conditions
        .iter()
        .any(|c| c["type"] == kind && c["status"] == "True")
    {
        conditions.retain(|c| c["type"] != kind);
        conditions.push(job_condition(kind, "True", &end.reason, &end.message));
    }
}

fn suspend(conditions: &mut Vec<Value>, status: &mut Map<String, Value>, suspended: bool, plan: &mut Plan) {
    let is = conditions
        .iter()
        .any(|c| c["type"] == "Suspended" && c["status"] == "True");
    let was = conditions.iter().any(|c| c["type"] == "Suspended");
    let (state, reason, message) = match (suspended, is) {
        (true, false) => ("True", "JobSuspended", "Job suspended"),
        (false, true) if was => ("False", "JobResumed", "Job resumed"),
        _ => return,
    };
    conditions.retain(|c| c["type"] != "Suspended");
    conditions.push(job_condition("Suspended", state, reason, message));
    // The time of activeDeadlineSeconds begins anew when the Job is resumed.
    status.remove("startTime");
    plan.events.push((
        false,
        if suspended { "Suspended" } else { "Resumed" },
        message.into(),
    ));
}

/// Whether the Job ends now, or is ending already.
fn finish(
    job: &Value,
    pods: &[Arc<Value>],
    running: &[Arc<Value>],
    count: &Count,
    status: &Map<String, Value>,
    now: Timestamp,
    plan: &mut Plan,
) -> Option<Finish> {
    let bad = |reason: &str, message: &str| {
        Some(Finish {
            good: false,
            reason: reason.into(),
            message: message.into(),
        })
    };
    for (kind, good) in [("FailureTarget", false), ("SuccessCriteriaMet", true)] {
        if let Some(c) = condition(job, kind).filter(|c| c["status"] == "True") {
            let (reason, message) = (text(c, "/reason").into(), text(c, "/message").into());
            return Some(Finish {
                good,
                reason,
                message,
            });
        }
    }
    if let Some(why) = &count.fatal {
        return bad("PodFailurePolicy", why);
    }
    let limit = int(job, "/spec/backoffLimit", 6);
    if count.failed() > limit || restarted_too_often(job, pods, limit) {
        return bad(
            "BackoffLimitExceeded",
            "Job has reached the specified backoff limit",
        );
    }
    if let (Some(deadline), Some(start)) = (
        job["spec"]["activeDeadlineSeconds"].as_i64(),
        status.get("startTime").and_then(Value::as_str),
    ) {
        let passed = start
            .parse::<Timestamp>()
            .map_or(0, |s| now.duration_since(s).as_secs());
        if passed >= deadline {
            return bad(
                "DeadlineExceeded",
                "Job was active longer than specified deadline",
            );
        }
        plan.wake = Some(Duration::from_secs((deadline - passed).unsigned_abs()));
    }
    if let Some(max) = job["spec"]["maxFailedIndexes"].as_i64()
        && count.failed_indexes.len() as i64 > max
    {
        return bad(
            "MaxFailedIndexesExceeded",
            "Job has exceeded the specified maximal number of failed indexes",
        );
    }
    if let Some(message) = success_policy(job, &count.completed) {
        return Some(Finish {
            good: true,
            reason: "SuccessPolicy".into(),
            message,
        });
    }
    let completions = job["spec"]["completions"].as_i64();
    let done = match completions {
        // A work queue: the first success says that the queue is empty.
        None => count.succeeded() > 0 && running.is_empty(),
        Some(n) => count.succeeded() >= n,
    };
    if done {
        let message = "Reached expected number of succeeded pods".into();
        return Some(Finish {
            good: true,
            reason: "CompletionsReached".into(),
            message,
        });
    }
    match completions {
        Some(n)
            if !count.failed_indexes.is_empty()
                && count.failed_indexes.len() as i64 + count.succeeded() >= n =>
        {
            bad("FailedIndexes", "Job has failed indexes")
        }
        _ => None,
    }
}

/// With `restartPolicy: OnFailure` restarts inside Pods count as failures.
fn restarted_too_often(job: &Value, pods: &[Arc<Value>], limit: i64) -> bool {
    if text(job, "/spec/template/spec/restartPolicy") != "OnFailure" {
        return false;
    }
    let restarts: i64 = pods
        .iter()
        .filter(|p| matches!(text(p, "/status/phase"), "Running" | "Pending"))
        .flat_map(|p| ["/status/initContainerStatuses", "/status/containerStatuses"].map(|l| items(p, l)))
        .flatten()
        .map(|c| int(c, "/restartCount", 0))
        .sum();
    if limit == 0 {
        restarts > 0
    } else {
        restarts >= limit
    }
}

/// The rule of `successPolicy` that is met.
fn success_policy(job: &Value, completed: &BTreeSet<u64>) -> Option<String> {
    for (at, rule) in items(job, "/spec/successPolicy/rules").iter().enumerate() {
        let listed = rule["succeededIndexes"]
            .as_str()
            .map(|s| super::indexes::parse(s, u64::MAX));
        let met = match &listed {
            Some(listed) => listed.intersection(completed).count(),
            None => completed.len(),
        };
        let wanted = rule["succeededCount"].as_u64().map_or_else(
            || listed.as_ref().map_or(usize::MAX, BTreeSet::len),
            |n| usize::try_from(n).unwrap_or(usize::MAX),
        );
        if met >= wanted {
            return Some(format!("Matched rules at index {at}"));
        }
    }
    None
}

/// Makes or removes Pods so that as many run as should.
fn staff(
    job: &Value,
    pods: &[Arc<Value>],
    running: &[Arc<Value>],
    terminating: usize,
    count: &Count,
    now: Timestamp,
    plan: &mut Plan,
) {
    let parallelism = int(job, "/spec/parallelism", 1).max(0);
    let mut busy: Vec<Arc<Value>> = running.to_vec();
    if text(job, "/spec/completionMode") == "Indexed" {
        let astray = astray(job, running, count);
        busy.retain(|pod| !astray.contains(meta(pod, "uid")));
        let goes = |pod: &&Arc<Value>| astray.contains(meta(pod, "uid"));
        plan.delete.extend(running.iter().filter(goes).cloned());
    }
    let waits_for_end = text(job, "/spec/podReplacementPolicy") == "Failed";
    let held = busy.len() + if waits_for_end { terminating } else { 0 };
    let left = match job["spec"]["completions"].as_i64() {
        None if count.succeeded() > 0 => held as i64,
        None => parallelism,
        Some(n) => (n - count.succeeded() - count.failed_indexes.len() as i64).min(parallelism),
    };
    let wanted = usize::try_from(left.max(0)).unwrap_or(0);
    // Those that are going already hold a place, but are no reason for others to go.
    if busy.len() > wanted {
        let many = (busy.len() - wanted).min(BURST);
        plan.delete
            .extend(victims(&busy, many, &HashMap::new(), Ages::Exact));
    } else if held < wanted && plan.delete.is_empty() {
        let missing = (wanted - held).min(BURST);
        let pause = match job["spec"]["backoffLimitPerIndex"].is_i64() {
            // Each index has its own pause.
            true => {
                let (create, pause) = free_indexes(job, pods, &busy, count, missing, now);
                plan.create = create;
                pause
            }
            false => {
                let pause = pause(job, pods, now);
                if pause.is_none() {
                    plan.create = vacancies(job, &busy, count, missing);
                }
                pause
            }
        };
        plan.wake = [plan.wake, pause].into_iter().flatten().min();
    }
    plan.release.extend(plan.delete.iter().cloned());
}

/// The uids of Pods of an Indexed Job that have no place: whose index is none, or none any more, or done; and all but the
/// best of those that share one, since two Pods of one index must not run at the same time.
fn astray<'p>(job: &Value, running: &'p [Arc<Value>], count: &Count) -> BTreeSet<&'p str> {
    let limit = u64::try_from(int(job, "/spec/completions", 0)).unwrap_or(0);
    let mut places: BTreeMap<Option<u64>, Vec<Arc<Value>>> = BTreeMap::new();
    for pod in running {
        let place = index_of(pod).filter(|index| *index < limit && !count.completed.contains(index));
        places.entry(place).or_default().push(pod.clone());
    }
    let mut astray: BTreeSet<String> = BTreeSet::new();
    for (place, pods) in &places {
        let most = pods.len() - usize::from(place.is_some());
        let go = victims(pods, most, &HashMap::new(), Ages::Exact);
        astray.extend(go.iter().map(|pod| meta(pod, "uid").to_owned()));
    }
    let uids = running.iter().map(|pod| meta(pod, "uid"));
    uids.filter(|uid| astray.contains(*uid)).collect()
}

/// With `backoffLimitPerIndex`: the lowest free indexes whose own pause is over, and when the next one will be.
fn free_indexes(
    job: &Value,
    pods: &[Arc<Value>],
    busy: &[Arc<Value>],
    count: &Count,
    missing: usize,
    now: Timestamp,
) -> (Vec<Option<u64>>, Option<Duration>) {
    let failed = |index: u64| {
        let of = |pod: &&Arc<Value>| index_of(pod) == Some(index) && end_of(job, pod) == Some(End::Failed);
        pods.iter().filter(of).filter_map(|pod| end_time(pod)).max()
    };
    let (mut free, mut next) = (Vec::new(), None::<Duration>);
    for place in vacancies(job, busy, count, usize::MAX) {
        if free.len() >= missing {
            break;
        }
        let failures = place.map_or(0, |index| {
            let of = |all: &BTreeMap<u64, i64>| all.get(&index).copied().unwrap_or(0);
            of(&count.failures) + of(&count.ignored)
        });
        let last = place.and_then(failed).filter(|_| failures > 0);
        match last.and_then(|last| rest_of_pause(failures, last, now)) {
            Some(left) => next = Some(next.map_or(left, |next| next.min(left))),
            None => free.push(place),
        }
    }
    (free, next)
}

/// What is left of the pause that so many failures have earned, the last of them at `last`.
fn rest_of_pause(failures: i64, last: Timestamp, now: Timestamp) -> Option<Duration> {
    let doublings = u32::try_from(failures - 1).unwrap_or(u32::MAX).min(16);
    let earned = (FIRST_PAUSE << doublings).min(LAST_PAUSE);
    let left = earned - now.duration_since(last).as_secs();
    (left > 0).then(|| Duration::from_secs(left.unsigned_abs()))
}

/// The pause that the latest failures have earned, if it is not over.
fn pause(job: &Value, pods: &[Arc<Value>], now: Timestamp) -> Option<Duration> {
    let ends = |end: End| {
        pods.iter()
            .filter(move |p| end_of(job, p) == Some(end))
            .map(|p| end_time(p))
    };
    let success = ends(End::Succeeded).flatten().max();
    let recent: Vec<Timestamp> = ends(End::Failed)
        .flatten()
        .filter(|t| success.is_none_or(|s| *t > s))
        .collect();
    let last = recent.iter().max()?;
    rest_of_pause(i64::try_from(recent.len()).unwrap_or(i64::MAX), *last, now)
}

/// The lowest free indexes, or as many nameless places.
fn vacancies(job: &Value, busy: &[Arc<Value>], count: &Count, missing: usize) -> Vec<Option<u64>> {
    if text(job, "/spec/completionMode") != "Indexed" {
        return vec![None; missing];
    }
    let taken: BTreeSet<u64> = busy.iter().filter_map(|p| index_of(p)).collect();
    let all = 0..u64::try_from(int(job, "/spec/completions", 0)).unwrap_or(0);
    let over = |i: &u64| count.completed.contains(i) || count.failed_indexes.contains(i);
    all.filter(|i| !taken.contains(i) && !over(i))
        .take(missing)
        .map(Some)
        .collect()
}

/// The fields that show what runs.
fn write(
    status: &mut Map<String, Value>,
    active: usize,
    pods: &[Arc<Value>],
    plan: &Plan,
    terminating: usize,
) {
    let stays = |p: &Value| !plan.delete.iter().any(|d| meta(d, "uid") == meta(p, "uid"));
    let held = |p: &Value| items(p, "/metadata/finalizers").iter().any(|f| f == TRACKING);
    let ready = pods
        .iter()
        .filter(|p| !finished(p) && !deleting(p) && ready(p) && stays(p) && held(p))
        .count();
    match active {
        0 => drop(status.remove("active")),
        n => drop(status.insert("active".into(), json!(n))),
    }
    status.insert("ready".into(), json!(ready));
    status.insert("terminating".into(), json!(terminating));
}
