//! Preemption: which Pods of lower priority would have to go so that a Pod finds a place, and on which host the fewest
//! and least important ones (upstream: `plugins/defaultpreemption`, `framework/preemption`).

use crate::amounts::uid;
use crate::filter::{Host, Refusal, refusals};
use crate::plan::Known;
use crate::words::NO_VICTIMS;
use controllers::obj::{condition, deleting, int, meta, text};
use kinds::selector::LabelSelector;
use serde_json::Value;
use std::cmp::Reverse;
use std::sync::Arc;

pub(crate) fn priority(pod: &Value) -> i64 {
    int(pod, "/spec/priority", 0)
}

/// Why a Pod may not make others go, in upstream's words: it does not want to, or waits already for some that it made go
/// on `nominated`, where it would still like to run.
pub(crate) fn ineligible(pod: &Value, nominated: Option<&Host>) -> Option<&'static str> {
    if text(pod, "/spec/preemptionPolicy") == "Never" {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    let made_to_go = |p: &Arc<Value>| {
        let target = condition(p, "DisruptionTarget");
        let preempted =
            target.is_some_and(|c| c["status"] == "True" && c["reason"] == "PreemptionByScheduler");
        priority(p) < priority(pod) && deleting(p) && preempted
    };
    nominated
        .is_some_and(|host| host.pods.iter().any(made_to_go))
        .then_some("not eligible due to a terminating pod on the nominated node.")
}

/// A host and the Pods that have to leave it.
pub(crate) struct Preemption {
    pub(crate) host: usize,
    pub(crate) victims: Vec<Arc<Value>>,
}

/// The least harmful preemption for a Pod that is eligible, among `candidates` (indexes of hosts whose refusal removing
/// Pods can change), or why each of these will not do.
pub(crate) fn preempt(
    pod: &Value,
    candidates: &[usize],
    hosts: &[Host],
    known: &Known,
) -> Result<Preemption, Vec<Refusal>> {
    let mut reasons = Vec::new();
    let mut options = Vec::new();
    for at in candidates {
        match victims(pod, *at, hosts, known) {
            Ok(found) => options.push((*at, found)),
            Err(why) => reasons.extend(why),
        }
    }
    let best = options.into_iter().min_by_key(|(_, victims)| victims.harm());
    best.map(|(host, victims)| Preemption {
        host,
        victims: victims.pods,
    })
    .ok_or(reasons)
}

/// Who has to leave a host, the most important first, and how many of them against their disruption budgets.
struct Victims {
    pods: Vec<Arc<Value>>,
    violations: usize,
}

impl Victims {
    /// The less the better (`pickOneNodeForPreemption`): budgets broken, the highest priority, all priorities, how many,
    /// and last how long the most important have run. Priorities are counted from the lowest possible on, else two Pods
    /// of a negative one would weigh less than one.
    fn harm(&self) -> (usize, i64, i64, usize, Reverse<String>) {
        let highest = self.pods.iter().map(|v| priority(v)).max().unwrap_or(i64::MIN);
        let sum = self.pods.iter().map(|v| priority(v) + (1 << 31)).sum();
        let first = self
            .pods
            .iter()
            .filter(|v| priority(v) == highest)
            .map(|v| started(v))
            .min();
        let first = first.unwrap_or_default().to_string();
        (self.violations, highest, sum, self.pods.len(), Reverse(first))
    }
}

/// When a Pod started; those that have not yet come after all that have.
fn started(pod: &Value) -> &str {
    match text(pod, "/status/startTime") {
        "" => "~",
        time => time,
    }
}

/// The Pods that have to leave a host, as few as possible, or why it will not do even without all lower ones.
fn victims(pod: &Value, at: usize, hosts: &[Host], known: &Known) -> Result<Victims, Vec<Refusal>> {
    let mut trial = hosts.to_vec();
    let lower = hosts[at].pods.iter().filter(|p| priority(p) < priority(pod));
    let mut lower: Vec<Arc<Value>> = lower.cloned().collect();
    if lower.is_empty() {
        return Err(vec![Refusal::lasting(NO_VICTIMS)]);
    }
    lower.iter().for_each(|p| trial[at].remove(uid(p)));
    let refused = refusals(pod, at, &trial, known);
    if !refused.is_empty() {
        return Err(refused);
    }
    let importance = |p: &Arc<Value>| (Reverse(priority(p)), started(p).to_string());
    lower.sort_by_key(importance);
    // Those whose budget would be broken get their place back first, then the others; the most important before the less.
    let (protected, others) = protected(lower, &known.snapshot.budgets);
    let mut gone = Vec::new();
    let mut violations = 0;
    let all = protected
        .into_iter()
        .map(|p| (p, 1))
        .chain(others.into_iter().map(|p| (p, 0)));
    for (candidate, violation) in all {
        trial[at].add(candidate.clone());
        if !refusals(pod, at, &trial, known).is_empty() {
            trial[at].remove(uid(&candidate));
            violations += violation;
            gone.push(candidate);
        }
    }
    gone.sort_by_key(importance);
    Ok(Victims {
        pods: gone,
        violations,
    })
}

/// Splits Pods, the most important first, into those whose leaving breaks a disruption budget and those whose does not
/// (`filterPodsWithPDBViolation`).
fn protected(pods: Vec<Arc<Value>>, budgets: &[Arc<Value>]) -> (Vec<Arc<Value>>, Vec<Arc<Value>>) {
    let mut allowed: Vec<i64> = budgets
        .iter()
        .map(|b| int(b, "/status/disruptionsAllowed", 0))
        .collect();
    let mut breaks = |pod: &Arc<Value>| {
        let mut broken = false;
        for (budget, left) in budgets.iter().zip(&mut allowed) {
            let selector = LabelSelector::from_json(&budget["spec"]["selector"]);
            let covered = meta(budget, "namespace") == meta(pod, "namespace")
                && pod["metadata"]["labels"]
                    .as_object()
                    .is_some_and(|labels| !labels.is_empty())
                && selector.is_ok_and(|s| !s.is_everything() && s.matches_object(pod))
                && budget["status"]["disruptedPods"].get(meta(pod, "name")).is_none();
            if covered {
                *left -= 1;
                broken |= *left < 0;
            }
        }
        broken
    };
    pods.into_iter().partition(|pod| breaks(pod))
}
