//! Pods that nobody looks after any more: those of hosts that are gone or that somebody has declared lost, those that were
//! never bound and are being deleted, and the oldest of very many that have ended (upstream: pkg/controller/podgc).

use crate::claim::Sweep;
use crate::manager::Reconciler;
use crate::obj::{condition, deleting, finished, items, meta, set_condition, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use cache::fields::pod::{NODE, PHASE};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

const PODS: &str = "pods";
const NODES: &str = "nodes";
/// So many ended Pods are kept, as upstream.
const KEPT: usize = 12_500;
/// A Node must have been missing for so long before its Pods are taken for lost, as upstream.
const QUARANTINE: Duration = Duration::from_secs(40);
/// Nothing here is urgent, so changes of Pods wake nobody: they are looked at this often (upstream: 20 s).
const LOOK: Duration = Duration::from_secs(5);

/// The collector of leftover Pods.
#[derive(Default)]
pub(crate) struct Leftovers {
    /// Since when a Node that Pods name has been missing.
    missing: Mutex<HashMap<String, Instant>>,
}

impl Leftovers {
    /// The Nodes that have been missing long enough, and when the next one will have been.
    fn lost(&self, named: &HashSet<String>) -> (HashSet<String>, Option<Duration>) {
        let mut missing = self.missing.lock();
        missing.retain(|node, _| named.contains(node));
        let mut lost = HashSet::new();
        let mut next: Option<Duration> = None;
        for node in named {
            let since = missing.entry(node.clone()).or_insert_with(Instant::now);
            match QUARANTINE
                .checked_sub(since.elapsed())
                .filter(|left| !left.is_zero())
            {
                Some(left) => next = Some(next.map_or(left, |n| n.min(left))),
                None => drop(lost.insert(node.clone())),
            }
        }
        (lost, next)
    }
}

/// Somebody has made sure that a node runs nothing any more, although it cannot say so (non-graceful node shutdown).
fn out_of_service(node: &Value) -> bool {
    let marked = items(node, "/spec/taints")
        .iter()
        .any(|t| t["key"] == "node.kubernetes.io/out-of-service");
    marked && condition(node, "Ready").is_none_or(|c| c["status"] != "True")
}

/// Ended Pods beyond the number that is kept, evicted ones first, then the oldest.
pub(crate) fn surplus(pods: &[Arc<Value>], keep: usize) -> Vec<Arc<Value>> {
    let mut ended: Vec<_> = pods
        .iter()
        .filter(|p| finished(p) && !deleting(p))
        .cloned()
        .collect();
    if ended.len() <= keep {
        return Vec::new();
    }
    ended.sort_by_cached_key(|p| {
        (
            text(p, "/status/reason") != "Evicted",
            meta(p, "creationTimestamp").to_string(),
            meta(p, "name").to_string(),
        )
    });
    ended.truncate(ended.len() - keep);
    ended
}

/// A Pod that has been marked, and that somebody else still holds: there is nothing more to do.
fn waits(pod: &Value) -> bool {
    finished(pod) && !items(pod, "/metadata/finalizers").is_empty()
}

fn is_ended(pod: &cache::Object) -> bool {
    matches!(pod.field(PHASE), "Succeeded" | "Failed")
}

/// Marks a Pod as failed, so that whoever counts ends sees one, and removes it without waiting for its host; `why` is said
/// where it is a disruption.
async fn force(world: &World, pod: &Value, why: Option<&str>) -> Result<Option<Duration>, WorldError> {
    if !finished(pod) {
        let mut status = pod["status"].clone();
        if let Some(why) = why {
            let mut conditions = items(pod, "/status/conditions").to_vec();
            let (kind, reason) = ("DisruptionTarget", "DeletionByPodGC");
            set_condition(&mut conditions, kind, "True", reason, why, None);
            status["conditions"] = json!(conditions);
        }
        status["phase"] = json!("Failed");
        settled(world.update_status(PODS, pod, &status).await)?;
    }
    settled(world.delete_now(PODS, pod).await).map(|_| None)
}

#[async_trait]
impl Reconciler for Leftovers {
    fn name(&self) -> &'static str {
        "pod leftovers"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[NODES]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let all = world.all(NODES);
        let names = |nodes: &mut dyn Iterator<Item = &Arc<Value>>| -> HashSet<String> {
            nodes.map(|n| meta(n, "name").to_string()).collect()
        };
        let nodes = names(&mut all.iter());
        let dead = names(&mut all.iter().filter(|n| out_of_service(n)));
        // Decoded is only what may have to go.
        let mut named = HashSet::new();
        let mut ended = 0;
        let stray = |pod: &cache::Object| {
            let node = pod.field(NODE);
            if !node.is_empty() && !nodes.contains(node) {
                named.insert(node.to_string());
                return true;
            }
            ended += usize::from(is_ended(pod));
            pod.links().deleting && (node.is_empty() || dead.contains(node))
        };
        let pods = world.select(PODS, "", stray);
        let (mut lost, next) = self.lost(&named);
        let mut sweep = Sweep::default();
        // The cache of Nodes may lag: the API server has the last word.
        for node in lost.clone() {
            match world.live(NODES, "", &node).await {
                Ok(None) => {}
                Ok(Some(_)) => drop(lost.remove(&node)),
                Err(e) => {
                    lost.remove(&node);
                    sweep.note(Err(e));
                }
            }
        }
        for pod in &pods {
            let node = text(pod, "/spec/nodeName");
            if lost.contains(node) {
                sweep.note(force(world, pod, Some("PodGC: node no longer exists")).await);
            } else if dead.contains(node) || (node.is_empty() && !waits(pod)) {
                sweep.note(force(world, pod, None).await);
            }
        }
        if ended > KEPT {
            for pod in surplus(&world.select(PODS, "", is_ended), KEPT) {
                sweep.note(force(world, &pod, None).await);
            }
        }
        sweep.note(Ok(Some(next.map_or(LOOK, |next| next.min(LOOK)))));
        sweep.outcome()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn evicted_pods_go_first() {
        let pod = |name: &str, at: u8, reason: &str| {
            Arc::new(
                json!({"metadata": {"name": name, "creationTimestamp": format!("2026-01-0{at}T00:00:00Z")},
                "status": {"phase": "Failed", "reason": reason}}),
            )
        };
        let pods = [
            pod("old", 1, ""),
            pod("evicted", 3, "Evicted"),
            pod("young", 4, ""),
            pod("evicted-before", 2, "Evicted"),
        ];
        let gone = |keep| {
            let gone = surplus(&pods, keep);
            let names: Vec<&str> = gone.iter().map(|pod| meta(pod, "name")).collect();
            names.join(" ")
        };
        assert_eq!(gone(4), "");
        assert_eq!(gone(1), "evicted-before evicted old");
    }

    #[test]
    fn out_of_service_are_marked_nodes_that_are_not_ready() {
        let node = |key: &str, ready: &str| {
            json!({"spec": {"taints": [{"key": key, "effect": "NoExecute"}]},
                "status": {"conditions": [{"type": "Ready", "status": ready}]}})
        };
        let mark = "node.kubernetes.io/out-of-service";
        let cases = [
            (node(mark, "Unknown"), true),
            (node(mark, "False"), true),
            (node(mark, "True"), false),
            (node("other", "Unknown"), false),
        ];
        for (node, expected) in cases {
            assert_eq!(out_of_service(&node), expected, "{node}");
        }
    }
}
