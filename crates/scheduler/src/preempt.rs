//! Preemption: which Pods of lower priority would have to go so that a Pod finds a place, and on which host the fewest
//! and least important ones.

use crate::between::between_pods;
use crate::filter::Host;
use controllers::obj::{deleting, int, meta, text};
use serde_json::Value;
use std::sync::Arc;

pub(crate) fn priority(pod: &Value) -> i64 {
    int(pod, "/spec/priority", 0)
}

/// Why a Pod may not make others go, in upstream's words: it does not want to, or waits already for some that are going.
pub(crate) fn ineligible(pod: &Value, hosts: &[Host]) -> Option<&'static str> {
    let nominated = text(pod, "/status/nominatedNodeName");
    let mut there = hosts
        .iter()
        .filter(|h| !nominated.is_empty() && meta(&h.node, "name") == nominated)
        .flat_map(|h| &h.pods);
    if text(pod, "/spec/preemptionPolicy") == "Never" {
        return Some("not eligible due to preemptionPolicy=Never.");
    }
    there
        .any(|p| deleting(p) && priority(p) < priority(pod))
        .then_some("not eligible due to a terminating pod on the nominated node.")
}

/// A host and the Pods that have to leave it.
pub(crate) struct Preemption {
    pub(crate) host: usize,
    pub(crate) victims: Vec<Arc<Value>>,
}

/// The least harmful preemption for a Pod that is eligible, among `candidates` (indexes of hosts whose refusal removing Pods can change).
pub(crate) fn preempt(pod: &Value, candidates: &[usize], hosts: &[Host]) -> Option<Preemption> {
    let options = candidates
        .iter()
        .filter_map(|at| victims(pod, *at, hosts).map(|v| (*at, v)));
    options
        .min_by_key(|(_, victims)| {
            let highest = victims.iter().map(|v| priority(v)).max().unwrap_or(i64::MIN);
            let sum: i128 = victims.iter().map(|v| i128::from(priority(v))).sum();
            (highest, sum, victims.len())
        })
        .map(|(host, victims)| Preemption { host, victims })
}

/// The Pods that have to leave a host, as few as possible; `None` when even without all lower ones it will not do.
fn victims(pod: &Value, at: usize, hosts: &[Host]) -> Option<Vec<Arc<Value>>> {
    let mut trial = hosts.to_vec();
    let mut lower: Vec<Arc<Value>> = hosts[at]
        .pods
        .iter()
        .filter(|p| priority(p) < priority(pod))
        .cloned()
        .collect();
    if lower.is_empty() {
        return None;
    }
    lower.iter().for_each(|p| trial[at].remove(meta(p, "uid")));
    let fits =
        |hosts: &[Host]| hosts[at].refusals(pod).is_empty() && between_pods(pod, &hosts[at], hosts).is_none();
    if !fits(&trial) {
        return None;
    }
    // The most important, and of equals the oldest, get their place back first.
    lower.sort_by(|a, b| {
        let age = |p: &Value| meta(p, "creationTimestamp").to_string();
        priority(b).cmp(&priority(a)).then_with(|| age(a).cmp(&age(b)))
    });
    let mut gone = Vec::new();
    for candidate in lower {
        trial[at].add(candidate.clone());
        if !fits(&trial) {
            trial[at].remove(meta(&candidate, "uid"));
            gone.push(candidate);
        }
    }
    Some(gone)
}
