//! scheduler: which host runs which Pod.
//!
//! [`plan::plan`] is a pure function of a snapshot (nodes, Pods); [`run`] keeps the snapshot with watches, binds
//! what the plan placed, and says on the Pod and in Events why the rest waits.

pub mod between;
pub mod filter;
pub mod plan;
mod preempt;
mod score;
pub mod volumes;

use cache::fields::pod::{NODE, PHASE, SCHEDULER};
use controllers::obj::{condition, items, meta, set_condition, text};
use controllers::storage::{SELECTED_NODE, matching::reserve};
use controllers::timed;
use controllers::world::{World, WorldError, settled};
use plan::{Outcome, Snapshot, plan};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use volumes::{Need, Storage};

const SOURCE: &str = "default-scheduler";
const READS: [&str; 6] = ["pods", "nodes", "namespaces", CLAIMS, VOLUMES, CLASSES];
const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";
const CLASSES: &str = "storageclasses.storage.k8s.io";
/// Pods that found no place are tried again after this time even if nothing changed.
const RETRY: Duration = Duration::from_secs(30);
/// Changes within this time are planned together.
const GATHER: Duration = Duration::from_millis(10);
/// Rest for each time unit that a round computed, and its bound: many Pods are looked at less often, more at once.
const REST: u32 = 4;
const LONGEST_REST: Duration = Duration::from_millis(100);
/// The same complaint is recorded no more often than this.
const COMPLAIN: Duration = Duration::from_secs(60);

/// Schedules Pods until `stop`.
pub async fn run(world: &Arc<World>, stop: CancellationToken) {
    let mut changes = world.subscribe();
    let mut complaints: HashMap<String, (String, Instant)> = HashMap::new();
    let mut seen = u64::MAX;
    let mut wake = Instant::now();
    let mut gather = GATHER;
    loop {
        let revision = world.revision(&READS);
        let due = Instant::now() >= wake;
        if due {
            wake = Instant::now() + RETRY;
        }
        if revision != seen || due {
            seen = revision;
            let (outcome, computed) = timed(Box::pin(round(world, &mut complaints))).await;
            gather = (computed * REST).clamp(GATHER, LONGEST_REST);
            if let Err(error) = outcome {
                tracing::warn!(%error, "scheduling will be tried again");
                wake = Instant::now() + Duration::from_secs(1);
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(wake) => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                tokio::time::sleep(gather).await;
            }
        }
    }
}

/// Whether a Pod takes room or wants some from this scheduler.
fn concerns(pod: &cache::Object) -> bool {
    let ended = matches!(pod.field(PHASE), "Succeeded" | "Failed");
    let ours = matches!(pod.field(SCHEDULER), "" | SOURCE);
    !ended && (ours || !pod.field(NODE).is_empty())
}

/// Plans once and carries the plan out.
async fn round(
    world: &Arc<World>,
    complaints: &mut HashMap<String, (String, Instant)>,
) -> Result<(), WorldError> {
    let snapshot = Snapshot {
        nodes: world.all("nodes"),
        pods: world.select("pods", "", concerns),
        storage: Storage::new(world.all(CLAIMS), world.all(VOLUMES), world.all(CLASSES)),
    };
    complaints.retain(|uid, _| snapshot.pods.iter().any(|p| meta(p, "uid") == uid));
    // One Pod that cannot be written about (a webhook refuses it, say) does not keep the others waiting.
    let mut failed = None;
    for (pod, outcome) in plan(&snapshot) {
        let result = match outcome {
            Outcome::Place(node) => bind(world, &pod, &node).await,
            Outcome::Volumes { needs, .. } => prepare(world, &needs).await,
            Outcome::Wait(why) => wait(world, &pod, &why, "", complaints).await,
            Outcome::Preempt { node, victims, why } => {
                let told = wait(world, &pod, &why, &node, complaints).await;
                match told {
                    Ok(()) => evict(world, &pod, &node, &victims).await,
                    Err(e) => Err(e),
                }
            }
        };
        if let Err(error) = result {
            tracing::warn!(pod = meta(&pod, "name"), %error, "not scheduled");
            failed = Some(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

/// Notes which generation of a Pod a condition is about (KEP-5067).
fn observed(conditions: &mut [Value], kind: &str, pod: &Value) {
    let generation = pod.pointer("/metadata/generation").cloned();
    let condition = conditions.iter_mut().find(|c| c["type"] == kind);
    if let (Some(condition), Some(generation)) = (condition, generation) {
        condition["observedGeneration"] = generation;
    }
}

/// Makes room: victims end as an eviction would end them.
async fn evict(world: &World, pod: &Value, node: &str, victims: &[Arc<Value>]) -> Result<(), WorldError> {
    for victim in victims {
        let message = format!("Preempted by pod {} on node {node}", meta(pod, "uid"));
        let mut status = victim["status"].clone();
        let mut conditions = items(victim, "/status/conditions").to_vec();
        let why = format!("{SOURCE}: preempting to accommodate a higher priority pod");
        set_condition(
            &mut conditions,
            "DisruptionTarget",
            "True",
            "PreemptionByScheduler",
            &why,
            None,
        );
        observed(&mut conditions, "DisruptionTarget", victim);
        status["conditions"] = json!(conditions);
        settled(world.update_status("pods", victim, &status).await)?;
        settled(world.delete("pods", victim, "Background").await)?;
        world.event(SOURCE, victim, false, "Preempted", &message).await;
    }
    Ok(())
}

/// Starts the binding of claims; the binder and the provisioner of the node finish it.
async fn prepare(world: &World, needs: &[Need]) -> Result<(), WorldError> {
    for need in needs {
        match need {
            Need::Reserve(claim, volume) => {
                settled(world.update(VOLUMES, volume, &reserve(volume, claim)).await)?;
            }
            Need::Select(claim, node) => {
                let mut next = (**claim).clone();
                next["metadata"]["annotations"][SELECTED_NODE] = json!(node);
                settled(world.update(CLAIMS, claim, &next).await)?;
            }
        }
    }
    Ok(())
}

async fn bind(world: &World, pod: &Value, node: &str) -> Result<(), WorldError> {
    let (namespace, name) = (meta(pod, "namespace"), meta(pod, "name"));
    let binding = json!({
        "apiVersion": "v1", "kind": "Binding",
        "metadata": {"name": name, "namespace": namespace, "uid": meta(pod, "uid")},
        "target": {"kind": "Node", "name": node},
    });
    let bound = world.post_sub("pods", namespace, name, "binding", &binding).await;
    if settled(bound)?.is_some() {
        let message = format!("Successfully assigned {namespace}/{name} to {node}");
        world.event(SOURCE, pod, false, "Scheduled", &message).await;
    }
    Ok(())
}

/// Says that a Pod waits and why; `node` is where room is being made for it, or empty.
async fn wait(
    world: &World,
    pod: &Value,
    why: &str,
    node: &str,
    complaints: &mut HashMap<String, (String, Instant)>,
) -> Result<(), WorldError> {
    let nominated = text(pod, "/status/nominatedNodeName");
    let told = condition(pod, "PodScheduled").is_some_and(|c| c["message"] == why && c["status"] == "False")
        && (node.is_empty() || node == nominated);
    if !told {
        let mut status = pod["status"].clone();
        let mut conditions = items(pod, "/status/conditions").to_vec();
        set_condition(
            &mut conditions,
            "PodScheduled",
            "False",
            "Unschedulable",
            why,
            None,
        );
        observed(&mut conditions, "PodScheduled", pod);
        status["conditions"] = json!(conditions);
        if !node.is_empty() {
            status["nominatedNodeName"] = json!(node);
        }
        settled(world.update_status("pods", pod, &status).await)?;
    }
    let uid = meta(pod, "uid");
    let recent = complaints
        .get(uid)
        .is_some_and(|(said, at)| said == why && at.elapsed() < COMPLAIN);
    if !recent {
        complaints.insert(uid.to_string(), (why.to_string(), Instant::now()));
        world.event(SOURCE, pod, true, "FailedScheduling", why).await;
    }
    Ok(())
}
