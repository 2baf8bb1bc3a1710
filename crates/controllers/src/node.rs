//! Nodes: a block of Pod addresses for each, and what follows when one is not ready or not heard of.

use crate::manager::{Config, Reconciler};
use crate::obj::{condition, deleting, finished, int, items, meta, now, set_condition, since, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use cache::Uid;
use cache::fields::pod::NODE;
use kinds::placement::tolerates;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NODES: &str = "nodes";
const PODS: &str = "pods";
const LEASES: &str = "leases.coordination.k8s.io";
const NOT_READY: &str = "node.kubernetes.io/not-ready";
const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// A node that has not renewed its lease for so long is unknown, as upstream.
const GRACE: Duration = Duration::from_secs(40);
/// How often everything is looked at although nothing has changed, and how often all Pods are searched at most.
const LOOK: Duration = Duration::from_secs(5);
const SOURCE: &str = "node-controller";

/// Gives out `spec.podCIDR`.
pub(crate) struct Addresses(pub(crate) Arc<Config>);

/// The blocks of `prefix` length in a network, in order.
pub(crate) fn blocks(cidr: &str, prefix: u8) -> impl Iterator<Item = String> {
    let (base, length) = cidr.split_once('/').unwrap_or((cidr, "32"));
    let base = base.parse::<Ipv4Addr>().map_or(0, u32::from);
    let length: u8 = length.parse().unwrap_or(32);
    let count = match (1..=32).contains(&prefix) && length <= prefix {
        true => 1u64 << (prefix - length),
        false => 0,
    };
    let size = 1u64 << (32 - prefix.min(32));
    (0..count).map(move |n| {
        format!(
            "{}/{prefix}",
            Ipv4Addr::from(base.wrapping_add((n * size) as u32))
        )
    })
}

#[async_trait]
impl Reconciler for Addresses {
    fn name(&self) -> &'static str {
        "node addresses"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[NODES]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let nodes = world.all(NODES);
        let mut taken: BTreeSet<String> = nodes
            .iter()
            .map(|n| text(n, "/spec/podCIDR").to_string())
            .filter(|c| !c.is_empty())
            .collect();
        for node in nodes
            .iter()
            .filter(|n| text(n, "/spec/podCIDR").is_empty() && !deleting(n))
        {
            let free = blocks(&self.0.pod_cidr, self.0.node_block_prefix).find(|b| !taken.contains(b));
            let Some(free) = free else {
                world
                    .event(
                        SOURCE,
                        node,
                        false,
                        "CIDRNotAvailable",
                        &format!("Node {} status is now: CIDRNotAvailable", meta(node, "name")),
                    )
                    .await;
                continue;
            };
            let mut next = (**node).clone();
            next["spec"]["podCIDR"] = json!(free);
            next["spec"]["podCIDRs"] = json!([free]);
            settled(world.update(NODES, node, &next).await)?;
            taken.insert(free);
        }
        Ok(None)
    }
}

/// Watches over nodes' health.
#[derive(Default)]
pub(crate) struct Lifecycle {
    /// The last lease renewal seen of each node, and when it was seen here: clocks of hosts are not compared.
    heard: Mutex<HashMap<String, (String, Instant)>>,
    /// Since when a Pod has been seen to bear a taint that does not say since when it is there: by uid and taint.
    bears: Mutex<HashMap<(String, String), Instant>>,
    /// When it was last looked for Pods whose Node is gone.
    searched: Mutex<Option<Instant>>,
}

/// The taints a node should have, keeping everybody else's; `ready` is the status of condition `Ready`.
pub(crate) fn taints(node: &Value, ready: &str) -> Vec<Value> {
    let cordoned = node["spec"]["unschedulable"] == true;
    let own = |t: &Value| {
        let key = text(t, "/key");
        key == NOT_READY
            || key == UNREACHABLE
            || key == "node.kubernetes.io/unschedulable"
            || PRESSURE.iter().any(|(_, k)| *k == key)
    };
    let old = items(node, "/spec/taints");
    let mut next: Vec<Value> = old.iter().filter(|t| !own(t)).cloned().collect();
    let mut put = |key: &str, effect: &str| {
        let had = old.iter().find(|t| t["key"] == key && t["effect"] == effect);
        next.push(had.cloned().unwrap_or_else(|| match effect {
            "NoExecute" => json!({"key": key, "effect": effect, "timeAdded": now()}),
            _ => json!({"key": key, "effect": effect}),
        }));
    };
    let key = match ready {
        "True" => "",
        "Unknown" => UNREACHABLE,
        _ => NOT_READY,
    };
    if !key.is_empty() {
        put(key, "NoSchedule");
        put(key, "NoExecute");
    }
    for (kind, key) in PRESSURE {
        if condition(node, kind).is_some_and(|c| c["status"] == "True") {
            put(key, "NoSchedule");
        }
    }
    if cordoned {
        put("node.kubernetes.io/unschedulable", "NoSchedule");
    }
    next
}

const PRESSURE: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

impl Lifecycle {
    /// Whether the last search is long enough ago; then the next one begins.
    fn may_search(&self) -> bool {
        let mut searched = self.searched.lock();
        let due = searched.is_none_or(|at| at.elapsed() >= LOOK);
        if due {
            *searched = Some(Instant::now());
        }
        due
    }

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
        entry.1.elapsed() < GRACE
    }

    async fn one(&self, world: &World, node: &Value) -> Result<(), WorldError> {
        let mut ready = condition(node, "Ready")
            .map_or("False", |c| text(c, "/status"))
            .to_string();
        if !self.heard_of(world, node) && ready != "Unknown" {
            ready = "Unknown".into();
            let mut conditions = items(node, "/status/conditions").to_vec();
            for kind in ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"] {
                set_condition(
                    &mut conditions,
                    kind,
                    "Unknown",
                    "NodeStatusUnknown",
                    "Kubelet stopped posting node status.",
                    None,
                );
            }
            let mut status = node["status"].clone();
            status["conditions"] = json!(conditions);
            settled(world.update_status(NODES, node, &status).await)?;
            world
                .event(
                    SOURCE,
                    node,
                    false,
                    "NodeNotReady",
                    &format!("Node {} status is now: NodeNotReady", meta(node, "name")),
                )
                .await;
        }
        // A status just written gave the node a new version; the cache has it.
        let Some(node) = world.get(NODES, "", meta(node, "name")) else {
            return Ok(());
        };
        let wanted = taints(&node, &ready);
        if wanted != items(&node, "/spec/taints") {
            let mut next = (*node).clone();
            match wanted.is_empty() {
                true => drop(next["spec"].as_object_mut().and_then(|s| s.remove("taints"))),
                false => next["spec"]["taints"] = json!(wanted),
            }
            settled(world.update(NODES, &node, &next).await)?;
        }
        // A host that still speaks says itself which of its Pods are ready.
        if ready == "Unknown" {
            self.withdraw(world, &node).await?;
        }
        self.evict(world, &node, &wanted).await
    }

    /// Pods of a node that is not heard of do not count as ready: Services leave them out.
    async fn withdraw(&self, world: &World, node: &Value) -> Result<(), WorldError> {
        for pod in of_node(world, node) {
            if !crate::obj::ready(&pod) {
                continue;
            }
            let mut status = pod["status"].clone();
            let mut conditions = items(&pod, "/status/conditions").to_vec();
            let message = "";
            set_condition(&mut conditions, "Ready", "False", "NodeNotReady", message, None);
            status["conditions"] = json!(conditions);
            settled(world.update_status(PODS, &pod, &status).await)?;
        }
        Ok(())
    }

    /// For how long a Pod has borne a taint, in seconds.
    fn borne(&self, pod: &Value, taint: &Value) -> i64 {
        if !text(taint, "/timeAdded").is_empty() {
            return since(text(taint, "/timeAdded")).as_secs();
        }
        let key = (
            meta(pod, "uid").to_owned(),
            format!("{}={}", text(taint, "/key"), text(taint, "/value")),
        );
        let mut bears = self.bears.lock();
        let first = bears.entry(key).or_insert_with(Instant::now);
        i64::try_from(first.elapsed().as_secs()).unwrap_or(i64::MAX)
    }

    /// Deletes Pods that do not, or no longer, tolerate a `NoExecute` taint.
    async fn evict(&self, world: &World, node: &Value, taints: &[Value]) -> Result<(), WorldError> {
        let taints: Vec<&Value> = taints.iter().filter(|t| t["effect"] == "NoExecute").collect();
        if taints.is_empty() {
            return Ok(());
        }
        for pod in of_node(world, node) {
            if deleting(&pod) || finished(&pod) {
                continue;
            }
            if taints.iter().any(|t| !endures(&pod, t, self.borne(&pod, t))) {
                let message = format!(
                    "Marking for deletion Pod {}/{}",
                    meta(&pod, "namespace"),
                    meta(&pod, "name")
                );
                world
                    .event(
                        "taint-eviction-controller",
                        &pod,
                        false,
                        "TaintManagerEviction",
                        &message,
                    )
                    .await;
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
}

/// The Pod may stay for now, having borne the taint for `since` seconds.
fn endures(pod: &Value, taint: &Value, since: i64) -> bool {
    let mut covering = items(pod, "/spec/tolerations")
        .iter()
        .filter(|t| tolerates(t, taint))
        .peekable();
    if covering.peek().is_none() {
        return false;
    }
    covering.all(|t| t["tolerationSeconds"].is_null() || since < int(t, "/tolerationSeconds", 0))
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
        let nodes = world.all(NODES);
        self.heard
            .lock()
            .retain(|name, _| nodes.iter().any(|n| meta(n, "name") == name));
        let tainted = |uid: &str, taint: &str| {
            let pod = world.by_uid(Uid::of(uid));
            pod.is_some_and(|pod| {
                nodes.iter().any(|node| {
                    meta(node, "name") == pod.field(NODE)
                        && items(node, "/spec/taints")
                            .iter()
                            .any(|t| format!("{}={}", text(t, "/key"), text(t, "/value")) == taint)
                })
            })
        };
        self.bears.lock().retain(|(uid, taint), _| tainted(uid, taint));
        let mut failed = None;
        for node in &nodes {
            if let Err(e) = self.one(world, node).await {
                failed = Some(e);
            }
        }
        if !self.may_search() {
            return failed.map_or(Ok(Some(LOOK)), Err);
        }
        // Pods of a node that is gone for good have nobody who would end them.
        let stray = |pod: &cache::Object| {
            let on = pod.field(NODE);
            !on.is_empty() && !nodes.iter().any(|n| meta(n, "name") == on)
        };
        for pod in world.select(PODS, "", stray) {
            if since(meta(&pod, "creationTimestamp")) > jiff::SignedDuration::from_secs(40) {
                force(world, &pod).await?;
            }
        }
        failed.map_or(Ok(Some(LOOK)), Err)
    }
}

/// The Pods that are bound to a node.
fn of_node(world: &World, node: &Value) -> Vec<Arc<Value>> {
    world.select(PODS, "", |pod| pod.field(NODE) == meta(node, "name"))
}

/// Removes a Pod without waiting for its host.
async fn force(world: &World, pod: &Value) -> Result<(), WorldError> {
    settled(world.delete_now(PODS, pod).await).map(|_| ())
}
