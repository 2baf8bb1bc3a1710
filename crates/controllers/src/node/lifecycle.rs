//! What follows when a node is not ready or not heard of: its conditions, its taints, and the end of Pods that do not bear them.

use super::evictions::Evictions;
use super::taints::{Disruption, Evicting, taints};
use super::{NODES, SOURCE, health};
use crate::claim::Sweep;
use crate::manager::Reconciler;
use crate::obj::{condition, deleting, finished, items, meta, now, ready, set_condition, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use cache::fields::pod::NODE;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const PODS: &str = "pods";
const LEASES: &str = "leases.coordination.k8s.io";
/// How often everything is looked at although nothing has changed.
const LOOK: Duration = Duration::from_secs(5);
const EVICTING: &str = "taint-eviction-controller";

/// Watches over nodes' health.
#[derive(Default)]
pub(crate) struct Lifecycle {
    /// The last lease renewal seen of each node, and when it was seen here: clocks of hosts are not compared.
    heard: Mutex<HashMap<String, (String, Instant)>>,
    /// The nodes of the last look, by uid.
    known: Mutex<HashMap<String, Arc<Value>>>,
    /// No node was ready at the last look.
    cut_off: Mutex<bool>,
    evictions: Evictions,
}

impl Lifecycle {
    /// True while the node is heard of.
    fn heard_of(&self, world: &World, node: &Value) -> bool {
        let name = meta(node, "name");
        let lease = world.get(LEASES, "kube-node-lease", name);
        let beat = format!(
            "{}{}",
            lease.as_ref().map_or("", |l| text(l, "/spec/renewTime")),
            condition(node, "Ready").map_or("", |c| text(c, "/lastHeartbeatTime"))
        );
        let mut heard = self.heard.lock();
        let entry = heard
            .entry(name.to_string())
            .or_insert_with(|| (beat.clone(), Instant::now()));
        if entry.0 != beat {
            *entry = (beat, Instant::now());
        }
        entry.1.elapsed() < health::patience(node)
    }

    /// Says which nodes have come and gone.
    async fn introduce(&self, world: &World, nodes: &[Arc<Value>]) {
        let now: HashMap<String, Arc<Value>> = nodes
            .iter()
            .map(|node| (meta(node, "uid").to_owned(), node.clone()))
            .collect();
        let before = std::mem::replace(&mut *self.known.lock(), now.clone());
        let new = now.iter().filter(|(uid, _)| !before.contains_key(*uid));
        let gone = before.iter().filter(|(uid, _)| !now.contains_key(*uid));
        let new = new.map(|(_, node)| (node, "RegisteredNode", "Registered", "in"));
        let gone = gone.map(|(_, node)| (node, "RemovingNode", "Removing", "from"));
        for (node, reason, verb, place) in new.chain(gone) {
            let name = meta(node, "name");
            let message = format!("Node {name} event: {verb} Node {name} {place} Controller");
            world.event(SOURCE, node, false, reason, &message).await;
        }
    }

    /// Notes of a node that is not heard of that nothing is known about it.
    async fn examine(&self, world: &World, node: &Value) -> Result<(), WorldError> {
        if self.heard_of(world, node) {
            return Ok(());
        }
        let Some(conditions) = health::unknown(node) else {
            return Ok(());
        };
        let was_ready = condition(node, "Ready").is_some_and(|c| c["status"] == "True");
        let mut status = node["status"].clone();
        status["conditions"] = json!(conditions);
        // One that has spoken meanwhile is not unknown.
        let written = settled(world.replace_status(NODES, node, &status).await)?;
        if written.is_some() && was_ready {
            let message = format!("Node {} status is now: NodeNotReady", meta(node, "name"));
            world.event(SOURCE, node, false, "NodeNotReady", &message).await;
        }
        Ok(())
    }

    /// Gives a node its taints, and its Pods what follows from them.
    async fn one(&self, world: &World, node: &Value, evicting: Evicting) -> Result<(), WorldError> {
        let wanted = taints(node, evicting);
        if wanted != items(node, "/spec/taints") {
            let mut next = node.clone();
            match wanted.is_empty() {
                true => drop(next["spec"].as_object_mut().and_then(|s| s.remove("taints"))),
                false => next["spec"]["taints"] = json!(wanted),
            }
            settled(world.update(NODES, node, &next).await)?;
        }
        // A host that still speaks says itself which of its Pods are ready.
        if condition(node, "Ready").is_some_and(|c| c["status"] == "Unknown") {
            self.withdraw(world, node).await?;
        }
        self.evict(world, node, &wanted).await
    }

    /// Pods of a node that is not heard of do not count as ready: Services leave them out.
    async fn withdraw(&self, world: &World, node: &Value) -> Result<(), WorldError> {
        for pod in of_node(world, node).iter().filter(|pod| ready(pod)) {
            let mut status = pod["status"].clone();
            let conditions = status["conditions"].as_array_mut().into_iter().flatten();
            for condition in conditions.filter(|c| c["type"] == "Ready") {
                condition["status"] = json!("False");
                condition["lastTransitionTime"] = json!(now());
            }
            settled(world.update_status(PODS, pod, &status).await)?;
            world
                .event(SOURCE, pod, true, "NodeNotReady", "Node is not ready")
                .await;
        }
        Ok(())
    }

    /// Deletes Pods that do not, or no longer, tolerate a `NoExecute` taint.
    async fn evict(&self, world: &World, node: &Value, taints: &[Value]) -> Result<(), WorldError> {
        let tainted = taints.iter().any(|t| t["effect"] == "NoExecute");
        if !tainted && self.evictions.are_none() {
            return Ok(());
        }
        let name = meta(node, "name");
        // Decoded is only what has something to do with it.
        let concerned = |pod: &cache::Object| {
            pod.field(NODE) == name && (tainted || self.evictions.plans(pod.links().uid))
        };
        for pod in world.select(PODS, "", concerned) {
            if deleting(&pod) || finished(&pod) {
                continue;
            }
            let step = self.evictions.look(&pod, taints, Instant::now());
            let place = format!("{}/{}", meta(&pod, "namespace"), meta(&pod, "name"));
            if step.cancelled {
                let message = format!("Cancelling deletion of Pod {place}");
                tell_eviction(world, &pod, &message).await;
            }
            if step.delete {
                tell_eviction(world, &pod, &format!("Marking for deletion Pod {place}")).await;
                let mut status = pod["status"].clone();
                let mut conditions = items(&pod, "/status/conditions").to_vec();
                let why = "Taint manager: deleting due to NoExecute taint";
                let reason = "DeletionByTaintManager";
                set_condition(&mut conditions, "DisruptionTarget", "True", reason, why, None);
                status["conditions"] = json!(conditions);
                settled(world.update_status(PODS, &pod, &status).await)?;
                settled(world.delete(PODS, &pod, "Background").await)?;
            }
        }
        Ok(())
    }

    /// Forgets nodes and Pods that are gone.
    fn forget(&self, world: &World, nodes: &[Arc<Value>]) {
        self.heard
            .lock()
            .retain(|name, _| nodes.iter().any(|n| meta(n, "name") == name));
        self.evictions.keep(|uid| world.by_uid(uid).is_some());
    }

    /// Takes note of whether any node is ready. When the first one is again, all have time to be heard of.
    fn reconnect(&self, cut_off: bool) {
        if std::mem::replace(&mut *self.cut_off.lock(), cut_off) && !cut_off {
            let now = Instant::now();
            self.heard.lock().values_mut().for_each(|(_, at)| *at = now);
        }
    }
}

async fn tell_eviction(world: &World, pod: &Value, message: &str) {
    world
        .event(EVICTING, pod, false, "TaintManagerEviction", message)
        .await;
}

#[async_trait]
impl Reconciler for Lifecycle {
    fn name(&self) -> &'static str {
        "node lifecycle"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[NODES, LEASES, PODS]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut sweep = Sweep::default();
        let nodes = world.all(NODES);
        self.forget(world, &nodes);
        self.introduce(world, &nodes).await;
        for node in &nodes {
            sweep.note(self.examine(world, node).await.map(|()| None));
        }
        // A status just written gave its node a new version; the cache has it.
        let nodes = world.all(NODES);
        let disruption = Disruption::of(&nodes);
        self.reconnect(disruption.everywhere());
        for node in &nodes {
            let evicting = disruption.evicting(node);
            sweep.note(self.one(world, node, evicting).await.map(|()| None));
        }
        let next = self.evictions.next(Instant::now());
        sweep.note(Ok(Some(next.map_or(LOOK, |next| next.min(LOOK)))));
        sweep.outcome()
    }
}

/// The Pods that are bound to a node.
fn of_node(world: &World, node: &Value) -> Vec<Arc<Value>> {
    world.select(PODS, "", |pod| pod.field(NODE) == meta(node, "name"))
}
