//! Pods that nobody looks after any more: those of hosts that are gone, those that were never bound and are being
//! deleted, and the oldest of very many that have ended.

use crate::claim::Sweep;
use crate::manager::Reconciler;
use crate::obj::{deleting, finished, items, meta, set_condition, text};
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

/// Ended Pods beyond the number that is kept, oldest first.
pub(crate) fn surplus(pods: &[Arc<Value>], keep: usize) -> Vec<Arc<Value>> {
    let mut ended: Vec<_> = pods
        .iter()
        .filter(|p| finished(p) && !deleting(p))
        .cloned()
        .collect();
    if ended.len() <= keep {
        return Vec::new();
    }
    ended.sort_by_key(|p| {
        (
            meta(p, "creationTimestamp").to_string(),
            meta(p, "name").to_string(),
        )
    });
    ended.truncate(ended.len() - keep);
    ended
}

fn is_ended(pod: &cache::Object) -> bool {
    matches!(pod.field(PHASE), "Succeeded" | "Failed")
}

/// Marks a Pod as failed, so that whoever counts ends sees one, and removes it without waiting for its host.
async fn force(world: &World, pod: &Value, why: Option<&str>) -> Result<(), WorldError> {
    if let (Some(why), false) = (why, finished(pod)) {
        let mut status = pod["status"].clone();
        let mut conditions = items(pod, "/status/conditions").to_vec();
        set_condition(
            &mut conditions,
            "DisruptionTarget",
            "True",
            "DeletionByPodGC",
            why,
            None,
        );
        status["phase"] = json!("Failed");
        status["conditions"] = json!(conditions);
        settled(world.update_status(PODS, pod, &status).await)?;
    }
    settled(world.delete_now(PODS, pod).await).map(drop)
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
        let nodes: HashSet<String> = world
            .all(NODES)
            .iter()
            .map(|n| meta(n, "name").to_string())
            .collect();
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
            node.is_empty() && pod.links().deleting
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
                sweep.note(
                    force(world, pod, Some("PodGC: node no longer exists"))
                        .await
                        .map(|()| None),
                );
            } else if node.is_empty() && deleting(pod) && items(pod, "/metadata/finalizers").is_empty() {
                sweep.note(force(world, pod, None).await.map(|()| None));
            }
        }
        if ended > KEPT {
            for pod in surplus(&world.select(PODS, "", is_ended), KEPT) {
                sweep.note(force(world, &pod, None).await.map(|()| None));
            }
        }
        sweep.note(Ok(Some(next.map_or(LOOK, |next| next.min(LOOK)))));
        sweep.outcome()
    }
}
