//! scheduler: which host runs which Pod.
//!
//! [`plan::plan`] is a pure function of a snapshot (nodes, Pods); [`run`] keeps the snapshot with watches, binds
//! what the plan placed, and says on the Pod and in Events why the rest waits.

pub mod filter;
pub mod plan;

use controllers::obj::{condition, items, meta, set_condition};
use controllers::world::{World, WorldError, settled};
use kube::Client;
use plan::{Outcome, Snapshot, plan};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const SOURCE: &str = "default-scheduler";
const READS: [&str; 3] = ["pods", "nodes", "namespaces"];
/// Pods that found no place are tried again after this time even if nothing changed.
const RETRY: Duration = Duration::from_secs(30);
/// Changes within this time are planned together.
const GATHER: Duration = Duration::from_millis(10);
/// The same complaint is recorded no more often than this.
const COMPLAIN: Duration = Duration::from_secs(60);

/// Schedules Pods until `stop`.
pub async fn run(client: Client, stop: CancellationToken) {
    let world = World::new(client, stop.clone());
    READS.iter().for_each(|r| world.watch_builtin(r));
    let mut changes = world.subscribe();
    let mut complaints: HashMap<String, (String, Instant)> = HashMap::new();
    let mut seen = u64::MAX;
    let mut wake = Instant::now();
    loop {
        let revision = world.revision(&READS);
        let due = Instant::now() >= wake;
        if due {
            wake = Instant::now() + RETRY;
        }
        if world.synced(&READS) && (revision != seen || due) {
            seen = revision;
            if let Err(error) = round(&world, &mut complaints).await {
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
                tokio::time::sleep(GATHER).await;
            }
        }
    }
}

/// Plans once and carries the plan out.
async fn round(
    world: &Arc<World>,
    complaints: &mut HashMap<String, (String, Instant)>,
) -> Result<(), WorldError> {
    let snapshot = Snapshot {
        nodes: world.all("nodes"),
        pods: world.all("pods"),
    };
    complaints.retain(|uid, _| snapshot.pods.iter().any(|p| meta(p, "uid") == uid));
    for (pod, outcome) in plan(&snapshot) {
        match outcome {
            Outcome::Place(node) => bind(world, &pod, &node).await?,
            Outcome::Wait(why) => wait(world, &pod, &why, complaints).await?,
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
        world.assume("pods", pod, node);
        let message = format!("Successfully assigned {namespace}/{name} to {node}");
        world.event(SOURCE, pod, false, "Scheduled", &message).await;
    }
    Ok(())
}

async fn wait(
    world: &World,
    pod: &Value,
    why: &str,
    complaints: &mut HashMap<String, (String, Instant)>,
) -> Result<(), WorldError> {
    let told = condition(pod, "PodScheduled").is_some_and(|c| c["message"] == why && c["status"] == "False");
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
        status["conditions"] = json!(conditions);
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
