//! Which Pods go first when there are too many: those of least use, and such that nodes stay evenly filled. The order is
//! upstream's (`controller.ActivePodsWithRanks`, `controller.ActivePods`).

use crate::obj::{annotation, condition, items, meta, ready, text};
use jiff::Timestamp;
use serde_json::Value;
use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

/// How well times are told apart.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Ages {
    /// The later goes first.
    Exact,
    /// Only powers of two count: among Pods of about the same age chance decides, so that the survivors are not all of one
    /// roll-out (KEP-2185).
    Rough(Timestamp),
}

impl Ages {
    /// A number that is smaller for what is younger. A time that is missing is the youngest.
    fn of(self, stamp: &str) -> i64 {
        let Ok(at) = stamp.parse::<Timestamp>() else {
            return i64::MIN;
        };
        match self {
            Ages::Exact => -at.as_second(),
            Ages::Rough(now) => match now.as_nanosecond() - at.as_nanosecond() {
                age if age > 0 => i64::from(age.ilog2()),
                _ => -1,
            },
        }
    }
}

/// How many of some Pods are on each node.
pub(crate) fn per_node<'a>(pods: impl IntoIterator<Item = &'a Value>) -> HashMap<String, usize> {
    let mut counts = HashMap::new();
    for pod in pods {
        *counts.entry(text(pod, "/spec/nodeName").to_owned()).or_insert(0) += 1;
    }
    counts
}

/// The most restarts of one container: of ordinary ones, of sidecars.
fn restarts(pod: &Value) -> (i64, i64) {
    let most = |at: &str, wanted: &dyn Fn(&str) -> bool| {
        let counted = items(pod, at).iter().filter(|c| wanted(text(c, "/name")));
        counted
            .filter_map(|c| c["restartCount"].as_i64())
            .max()
            .unwrap_or(0)
    };
    let sidecar = |name: &str| {
        let mut all = items(pod, "/spec/initContainers").iter();
        all.any(|c| c["name"] == name && c["restartPolicy"] == "Always")
    };
    (
        most("/status/containerStatuses", &|_| true),
        most("/status/initContainerStatuses", &sidecar),
    )
}

/// The `count` Pods that go first. `company` has how many related Pods are on each node.
pub(crate) fn victims(
    pods: &[Arc<Value>],
    count: usize,
    company: &HashMap<String, usize>,
    ages: Ages,
) -> Vec<Arc<Value>> {
    let rank = |pod: &Arc<Value>| {
        let cost = annotation(pod, "controller.kubernetes.io/pod-deletion-cost");
        let cost: i64 = cost.parse().unwrap_or(0);
        let phase = match text(pod, "/status/phase") {
            "Running" => 2,
            "Unknown" => 1,
            _ => 0,
        };
        let node = text(pod, "/spec/nodeName");
        let is_ready = ready(pod);
        let readiness = match condition(pod, "Ready") {
            Some(since) if is_ready => ages.of(text(since, "/lastTransitionTime")),
            _ => 0,
        };
        let (ordinary, sidecars) = restarts(pod);
        (
            (!node.is_empty(), phase, is_ready, cost),
            Reverse(company.get(node).copied().unwrap_or(0)),
            readiness,
            (Reverse(ordinary), Reverse(sidecars)),
            ages.of(meta(pod, "creationTimestamp")),
            meta(pod, "uid").to_owned(),
        )
    };
    let mut sorted = pods.to_vec();
    sorted.sort_by_cached_key(rank);
    sorted.truncate(count);
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn who_goes_first() {
        let now: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let pod = |uid: &str, node: &str, ready: &str, restarts: i64, cost: &str| {
            Arc::new(json!({
                "metadata": {"uid": uid, "creationTimestamp": "2026-01-01T10:00:00Z",
                    "annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}},
                "spec": {"nodeName": node},
                "status": {"phase": "Running",
                    "conditions": [{"type": "Ready", "lastTransitionTime": ready,
                        "status": if ready.is_empty() { "False" } else { "True" }}],
                    "containerStatuses": [{"name": "c", "restartCount": restarts}]},
            }))
        };
        let old = "2026-01-01T10:00:00Z";
        let cases = [
            (
                "a cheaper one",
                pod("b", "n", old, 0, "-1"),
                pod("a", "n", old, 9, "0"),
            ),
            (
                "one not ready",
                pod("b", "n", "", 0, "5"),
                pod("a", "n", old, 0, "0"),
            ),
            (
                "in larger company",
                pod("b", "full", old, 0, "0"),
                pod("a", "n", old, 9, "0"),
            ),
            (
                "ready for much less time",
                pod("b", "n", "2026-01-01T11:59:00Z", 0, "0"),
                pod("a", "n", old, 9, "0"),
            ),
            (
                "more often restarted",
                pod("b", "n", old, 3, "0"),
                pod("a", "n", old, 1, "0"),
            ),
            (
                "of about the same age, chance",
                pod("a", "n", old, 0, "0"),
                pod("b", "n", "2026-01-01T10:00:09Z", 0, "0"),
            ),
        ];
        let company = HashMap::from([("full".to_owned(), 2), ("n".to_owned(), 1)]);
        for (what, first, second) in cases {
            for pods in [[first.clone(), second.clone()], [second, first.clone()]] {
                let gone = victims(&pods, 1, &company, Ages::Rough(now));
                assert_eq!(gone[0]["metadata"]["uid"], first["metadata"]["uid"], "{what}");
            }
        }
    }
}
