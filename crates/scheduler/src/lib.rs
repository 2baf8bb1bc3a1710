//! scheduler: which host runs which Pod.
//!
//! [`plan::plan`] is a pure function of a snapshot (nodes, Pods); [`run`] keeps the snapshot with watches, binds
//! what the plan placed, and says on the Pod and in Events why the rest waits.

mod amounts;
pub mod between;
pub mod devices;
pub mod filter;
pub mod plan;
mod preempt;
mod score;
pub mod spread;
pub mod volumes;
mod words;

use between::Namespaces;
use cache::fields::pod::{NODE, PHASE, SCHEDULER};
use controllers::obj::{condition, controller_of, deleting, items, meta, set_condition, text};
use controllers::storage::{SELECTED_NODE, matching::reserve};
use controllers::timed;
use controllers::world::{Note, World, WorldError, settled};
use devices::Claims;
use plan::{Outcome, Snapshot, plan};
use serde_json::{Value, json};
use spread::Groups;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use volumes::{Need, Storage};

const SOURCE: &str = "default-scheduler";
const PODS: &str = "pods";
/// What is read beside Pods. Of those only some count, see [`concerns`].
const READS: [&str; 7] = ["nodes", "namespaces", CLAIMS, VOLUMES, CLASSES, BUDGETS, DEVICES];
const CLAIMS: &str = "persistentvolumeclaims";
const VOLUMES: &str = "persistentvolumes";
const CLASSES: &str = "storageclasses.storage.k8s.io";
const BUDGETS: &str = "poddisruptionbudgets.policy";
const DEVICES: &str = "resourceclaims.resource.k8s.io";
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
    let mut seen = (0, 0);
    let mut wake = Instant::now();
    let mut gather = GATHER;
    loop {
        let now = (world.revision(&READS), world.revision(&[PODS]));
        let news = now.0 != seen.0 || (now.1 != seen.1 && world.concerned(PODS, seen.1, concerns));
        let due = Instant::now() >= wake;
        if due {
            wake = Instant::now() + RETRY;
        }
        seen = now;
        if news || due {
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

/// What is known now.
fn snapshot(world: &World) -> Snapshot {
    let nodes = world.all("nodes");
    let pods = world.select(PODS, "", concerns);
    let groups = match nodes.len() {
        // There is nothing to spread over.
        0 | 1 => Groups::default(),
        _ => groups(world, &pods),
    };
    Snapshot {
        nodes,
        pods,
        storage: Storage::new(world.all(CLAIMS), world.all(VOLUMES), world.all(CLASSES)),
        namespaces: Namespaces::new(world.all("namespaces")),
        budgets: world.all(BUDGETS),
        devices: Claims::new(&world.all(DEVICES)),
        groups,
    }
}

/// What the Pods that wait belong to.
fn groups(world: &World, pods: &[Arc<Value>]) -> Groups {
    let waiting: Vec<&Arc<Value>> = pods
        .iter()
        .filter(|pod| text(pod, "/spec/nodeName").is_empty())
        .collect();
    if waiting.is_empty() {
        return Groups::default();
    }
    let mut sets: HashMap<&str, Arc<Value>> = HashMap::new();
    for pod in waiting {
        let Some(owner) = controller_of(pod) else { continue };
        let key = match text(owner, "/kind") {
            "ReplicaSet" => "replicasets.apps",
            "StatefulSet" => "statefulsets.apps",
            "ReplicationController" => "replicationcontrollers",
            _ => continue,
        };
        let uid = text(owner, "/uid");
        if !sets.contains_key(uid)
            && let Some(set) = world.get(key, meta(pod, "namespace"), text(owner, "/name"))
        {
            sets.insert(uid, set);
        }
    }
    Groups {
        services: world.all("services"),
        sets: sets.into_values().collect(),
    }
}

/// Plans once and carries the plan out.
async fn round(
    world: &Arc<World>,
    complaints: &mut HashMap<String, (String, Instant)>,
) -> Result<(), WorldError> {
    let snapshot = snapshot(world);
    complaints.retain(|uid, _| snapshot.pods.iter().any(|p| meta(p, "uid") == uid));
    // One Pod that cannot be written about (a webhook refuses it, say) does not keep the others waiting.
    let mut failed = None;
    for (pod, outcome) in plan(&snapshot) {
        let result = carry_out(world, &pod, outcome, complaints).await;
        if let Err(error) = result {
            tracing::warn!(pod = meta(&pod, "name"), %error, "not scheduled");
            failed = Some(error);
        }
    }
    failed.map_or(Ok(()), Err)
}

async fn carry_out(
    world: &Arc<World>,
    pod: &Value,
    outcome: Outcome,
    complaints: &mut HashMap<String, (String, Instant)>,
) -> Result<(), WorldError> {
    match outcome {
        Outcome::Place(node) => bind(world, pod, &node).await,
        Outcome::Volumes { node, needs } => {
            nominate(world, pod, &node).await?;
            prepare(world, &needs).await
        }
        Outcome::Wait { why, gives_up } => {
            let kept = text(pod, "/status/nominatedNodeName");
            let node = if gives_up { "" } else { kept };
            wait(world, pod, &why, node, complaints).await
        }
        Outcome::Preempt { node, victims, why } => {
            wait(world, pod, &why, &node, complaints).await?;
            evict(world, pod, &node, &victims).await
        }
    }
}

/// A Pod's status with the node where it is going to be, or none.
fn nominated(pod: &Value, node: &str) -> Value {
    let mut status = pod["status"].clone();
    if let Some(fields) = status.as_object_mut() {
        fields.remove("nominatedNodeName");
    }
    if !node.is_empty() {
        status["nominatedNodeName"] = json!(node);
    }
    status
}

/// Says where a Pod will be bound when its volumes are (KEP-5278).
async fn nominate(world: &World, pod: &Value, node: &str) -> Result<(), WorldError> {
    settled(world.update_status("pods", pod, &nominated(pod, node)).await).map(|_| ())
}

/// Notes which generation of a Pod a condition is about (KEP-5067).
fn observed(conditions: &mut [Value], kind: &str, pod: &Value) {
    let generation = pod.pointer("/metadata/generation").cloned();
    let condition = conditions.iter_mut().find(|c| c["type"] == kind);
    if let (Some(condition), Some(generation)) = (condition, generation) {
        condition["observedGeneration"] = generation;
    }
}

/// Makes room: victims end as an eviction would end them; those that are going already are left alone.
async fn evict(world: &World, pod: &Value, node: &str, victims: &[Arc<Value>]) -> Result<(), WorldError> {
    for victim in victims.iter().filter(|victim| !deleting(victim)) {
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
        let note = Note {
            related: Some(pod),
            ..note(victim, "Preempting", "Preempted", &message)
        };
        world.note(note).await;
    }
    Ok(())
}

/// What this scheduler tells of a Pod.
fn note<'n>(about: &'n Value, action: &'n str, reason: &'n str, message: &'n str) -> Note<'n> {
    let (source, related, warning) = (SOURCE, None, false);
    Note {
        source,
        about,
        related,
        warning,
        action,
        reason,
        message,
    }
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
        world.note(note(pod, "Binding", "Scheduled", &message)).await;
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
    let told = condition(pod, "PodScheduled").is_some_and(|c| c["message"] == why && c["status"] == "False")
        && node == text(pod, "/status/nominatedNodeName");
    if !told {
        let mut status = nominated(pod, node);
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
        settled(world.update_status("pods", pod, &status).await)?;
    }
    let uid = meta(pod, "uid");
    let recent = complaints
        .get(uid)
        .is_some_and(|(said, at)| said == why && at.elapsed() < COMPLAIN);
    if !recent {
        complaints.insert(uid.to_string(), (why.to_string(), Instant::now()));
        let warning = Note {
            warning: true,
            ..note(pod, "Scheduling", "FailedScheduling", why)
        };
        world.note(warning).await;
    }
    Ok(())
}
