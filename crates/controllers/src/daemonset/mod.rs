//! DaemonSets: one Pod on every node that can take it; rolled out by removing old Pods a few at a time.

use crate::claim::{Sweep, claim, create_pods, remove_pod};
use crate::manager::Reconciler;
use crate::obj::{
    available, deleting, finished, int, int_or_percent, items, label, meta, ready, since, text,
};
use crate::replicaset::pod_from;
use crate::revision::{self, HASH, hash_of};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use kinds::placement::{affine, tolerates};
use kinds::selector::LabelSelector;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SETS: &str = "daemonsets.apps";
const PODS: &str = "pods";
const NODES: &str = "nodes";
const SOURCE: &str = "daemonset-controller";
/// A failed Pod is replaced no sooner than this after it was made, seconds: the simplest bound on a crash loop.
const FAILED_PAUSE: i64 = 10;

/// The controller of DaemonSets.
pub(crate) struct DaemonSets;

/// What every Pod of a DaemonSet tolerates, as upstream adds it.
fn tolerations(template: &Value) -> Vec<Value> {
    let mut list = items(template, "/spec/tolerations").to_vec();
    let mut add = |key: &str, effect: &str| {
        let key = format!("node.kubernetes.io/{key}");
        if !list
            .iter()
            .any(|t| t["key"] == key.as_str() && t["effect"] == effect && t["operator"] == "Exists")
        {
            list.push(json!({"key": key, "operator": "Exists", "effect": effect}));
        }
    };
    add("not-ready", "NoExecute");
    add("unreachable", "NoExecute");
    add("disk-pressure", "NoSchedule");
    add("memory-pressure", "NoSchedule");
    add("pid-pressure", "NoSchedule");
    add("unschedulable", "NoSchedule");
    if template["spec"]["hostNetwork"] == true {
        add("network-unavailable", "NoSchedule");
    }
    list
}

/// Binds a Pod's affinity to one node by its name; the scheduler then decides about nothing else.
fn pin(spec: &mut Value, node: &str) {
    let field = json!({"key": "metadata.name", "operator": "In", "values": [node]});
    let at = &mut spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    match at["nodeSelectorTerms"]
        .as_array_mut()
        .filter(|terms| !terms.is_empty())
    {
        Some(terms) => terms
            .iter_mut()
            .for_each(|term| term["matchFields"] = json!([field])),
        None => *at = json!({"nodeSelectorTerms": [{"matchFields": [field]}]}),
    }
}

/// The Pod of a DaemonSet for a node.
pub(crate) fn pod_for(set: &Value, node: &str, hash: &str) -> Value {
    let mut pod = pod_from(set, &set["spec"]["template"]);
    pod["metadata"]["labels"][HASH] = json!(hash);
    pod["spec"]["tolerations"] = json!(tolerations(&set["spec"]["template"]));
    pin(&mut pod["spec"], node);
    pod
}

/// Whether a node should have a Pod (first), and whether one that runs there may go on (second).
pub(crate) fn fits(set: &Value, node: &Value) -> (bool, bool) {
    let template = &set["spec"]["template"];
    if !affine(template, node) {
        return (false, false);
    }
    let tolerations = tolerations(template);
    let suffers = |effect: &str| {
        items(node, "/spec/taints")
            .iter()
            .any(|t| t["effect"] == effect && !tolerations.iter().any(|o| tolerates(o, t)))
    };
    (
        !suffers("NoSchedule") && !suffers("NoExecute"),
        !suffers("NoExecute"),
    )
}

/// What to do: nodes that get a Pod, Pods that go.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) create: Vec<String>,
    pub(crate) delete: Vec<Arc<Value>>,
    pub(crate) wake: Option<Duration>,
}

/// Decides which nodes lack a Pod and which Pods are too many, failed, or of an old template.
pub(crate) fn plan(set: &Value, nodes: &[Arc<Value>], pods: &[Arc<Value>], hash: &str) -> Plan {
    let mut plan = Plan::default();
    let by_node = by_node(pods);
    let mut wanted = 0;
    for node in nodes {
        let name = meta(node, "name");
        let (should, may) = fits(set, node);
        wanted += i64::from(should);
        let here = by_node.get(name).map_or(&[][..], Vec::as_slice);
        let mut alive: Vec<&Arc<Value>> = Vec::new();
        for pod in here {
            if finished(pod) && !deleting(pod) && may {
                let age = since(meta(pod, "creationTimestamp")).as_secs();
                match FAILED_PAUSE - age {
                    left if left > 0 && text(pod, "/status/phase") == "Failed" => {
                        plan.wake = Some(Duration::from_secs(left.unsigned_abs()));
                    }
                    _ => plan.delete.push(pod.clone()),
                }
            } else if !deleting(pod) {
                alive.push(pod);
            }
        }
        if !may {
            plan.delete.extend(alive.into_iter().cloned());
        } else if should && here.is_empty() {
            plan.create.push(name.to_string());
        } else if alive.len() > 1 {
            // The oldest that is ready stays; during a surge roll-out the new one takes over below.
            let surplus = surplus(set, &alive, hash);
            plan.delete.extend(surplus);
        }
    }
    let known = |name: &str| nodes.iter().any(|n| meta(n, "name") == name);
    for (node, pods) in &by_node {
        if !node.is_empty() && !known(node) {
            plan.delete.extend(pods.iter().filter(|p| !deleting(p)).cloned());
        }
    }
    if text(set, "/spec/updateStrategy/type") != "OnDelete" {
        roll(set, nodes, &by_node, hash, wanted, &mut plan);
    }
    plan
}

type ByNode = BTreeMap<String, Vec<Arc<Value>>>;

fn by_node(pods: &[Arc<Value>]) -> ByNode {
    let mut map: ByNode = BTreeMap::new();
    for pod in pods {
        map.entry(node_of(pod).to_string()).or_default().push(pod.clone());
    }
    map
}

/// The node a Pod is on, or is meant for.
fn node_of(pod: &Value) -> &str {
    let on = text(pod, "/spec/nodeName");
    if !on.is_empty() {
        return on;
    }
    let terms =
        "/spec/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
    let fields = items(pod, terms).iter().flat_map(|t| items(t, "/matchFields"));
    fields
        .filter(|f| f["key"] == "metadata.name")
        .map(|f| text(f, "/values/0"))
        .next()
        .unwrap_or("")
}

/// Of several Pods on a node all but one go: but an old one stays until the new one beside it is available.
fn surplus(set: &Value, alive: &[&Arc<Value>], hash: &str) -> Vec<Arc<Value>> {
    let min_ready = int(set, "/spec/minReadySeconds", 0);
    let mut sorted = alive.to_vec();
    sorted.sort_by_key(|p| {
        (
            !ready(p),
            meta(p, "creationTimestamp").to_string(),
            meta(p, "name").to_string(),
        )
    });
    let surge = |p: &Value| hash_of(p) == hash;
    let (new, old): (Vec<_>, Vec<_>) = sorted.into_iter().partition(|p| surge(p));
    match (new.first(), old.first()) {
        (Some(new), Some(_)) if available(new, min_ready) => old.into_iter().cloned().collect(),
        (Some(_), Some(_)) => new
            .iter()
            .skip(1)
            .chain(old.iter().skip(1))
            .map(|p| (*p).clone())
            .collect(),
        _ => new.iter().chain(&old).skip(1).map(|p| (*p).clone()).collect(),
    }
}

/// Rolls the template out: replaces old Pods within `maxUnavailable`, or adds new ones beside them within `maxSurge`.
fn roll(set: &Value, nodes: &[Arc<Value>], by_node: &ByNode, hash: &str, wanted: i64, plan: &mut Plan) {
    let rolling = &set["spec"]["updateStrategy"]["rollingUpdate"];
    let share = |field: &str, or: i64| match rolling[field].is_null() {
        true => or,
        false => int_or_percent(&rolling[field], wanted, true),
    };
    let surge = share("maxSurge", 0);
    let unavailable = share("maxUnavailable", 1).max(i64::from(surge == 0));
    let min_ready = int(set, "/spec/minReadySeconds", 0);
    let (mut down, mut beside) = (0, 0);
    let mut candidates: Vec<(bool, &Arc<Value>)> = Vec::new();
    for node in nodes.iter().filter(|n| fits(set, n).0) {
        let here = by_node.get(meta(node, "name")).map_or(&[][..], Vec::as_slice);
        let alive: Vec<&Arc<Value>> = here.iter().filter(|p| !deleting(p) && !finished(p)).collect();
        let up = alive.iter().any(|p| available(p, min_ready));
        down += i64::from(!up);
        let new = alive.iter().any(|p| hash_of(p) == hash);
        match alive.iter().find(|p| hash_of(p) != hash) {
            Some(_) if new => beside += 1,
            Some(old) => candidates.push((up, old)),
            None => {}
        }
    }
    // What is down already costs nothing to replace.
    candidates.sort_by_key(|(up, _)| *up);
    for (up, old) in candidates {
        if surge > 0 {
            if beside < surge {
                beside += 1;
                plan.create.push(node_of(old).to_string());
            }
        } else if !up {
            plan.delete.push(old.clone());
        } else if down < unavailable {
            down += 1;
            plan.delete.push(old.clone());
        }
    }
    let mut seen = std::collections::BTreeSet::new();
    plan.delete.retain(|p| seen.insert(meta(p, "uid").to_string()));
}

fn status(set: &Value, nodes: &[Arc<Value>], pods: &[Arc<Value>], hash: &str) -> Value {
    let by_node = by_node(pods);
    let min_ready = int(set, "/spec/minReadySeconds", 0);
    let [
        mut current,
        mut misplaced,
        mut desired,
        mut up,
        mut updated,
        mut usable,
    ] = [0_i64; 6];
    for node in nodes {
        let here = by_node.get(meta(node, "name")).map_or(&[][..], Vec::as_slice);
        let mut alive: Vec<&Arc<Value>> = here.iter().filter(|p| !deleting(p) && !finished(p)).collect();
        let (should, _) = fits(set, node);
        if !should {
            misplaced += i64::from(!alive.is_empty());
            continue;
        }
        desired += 1;
        alive.sort_by_key(|p| meta(p, "creationTimestamp"));
        let Some(first) = alive.first() else { continue };
        current += 1;
        up += i64::from(alive.iter().any(|p| ready(p)));
        usable += i64::from(alive.iter().any(|p| available(p, min_ready)));
        updated += i64::from(hash_of(first) == hash || alive.iter().any(|p| hash_of(p) == hash));
    }
    let mut status = set["status"].as_object().cloned().unwrap_or_default();
    for (field, n) in [
        ("currentNumberScheduled", current),
        ("numberMisscheduled", misplaced),
        ("desiredNumberScheduled", desired),
        ("numberReady", up),
    ] {
        status.insert(field.into(), json!(n));
    }
    for (field, n) in [
        ("updatedNumberScheduled", updated),
        ("numberAvailable", usable),
        ("numberUnavailable", desired - usable),
    ] {
        match n {
            0 => drop(status.remove(field)),
            n => drop(status.insert(field.into(), json!(n))),
        }
    }
    status.insert("observedGeneration".into(), set["metadata"]["generation"].clone());
    Value::Object(status)
}

impl DaemonSets {
    async fn one(&self, world: &World, set: &Value) -> Result<Option<Duration>, WorldError> {
        let Ok(selector) = LabelSelector::from_json(&set["spec"]["selector"]) else {
            return Ok(None);
        };
        if selector.is_everything() {
            return Ok(None);
        }
        let mut pods = claim(world, set, &selector).await?;
        if deleting(set) {
            return Ok(None);
        }
        let mut history = revision::history(world, set, &selector).await?;
        let Some(now) = revision::current(world, set, &mut history).await? else {
            return Ok(None);
        };
        let hash = label(&now, HASH);
        let nodes: Vec<_> = world.all(NODES).into_iter().filter(|n| !deleting(n)).collect();
        let plan = plan(set, &nodes, &pods, hash);
        let mut wake = plan.wake;
        for pod in &plan.delete {
            if text(pod, "/status/phase") == "Failed" {
                let message = format!(
                    "Found failed daemon pod {}/{} on node {}, will try to kill it",
                    meta(pod, "namespace"),
                    meta(pod, "name"),
                    node_of(pod)
                );
                world.event(SOURCE, set, true, "FailedDaemonPod", &message).await;
            }
            if remove_pod(world, SOURCE, set, pod).await.is_err() {
                wake = Some(Duration::from_secs(1));
            }
        }
        let new: Vec<Value> = plan.create.iter().map(|node| pod_for(set, node, hash)).collect();
        if create_pods(world, SOURCE, set, &new, &mut pods).await.is_err() {
            wake = Some(Duration::from_secs(5));
        }
        pods.retain(|p| !plan.delete.iter().any(|d| meta(d, "uid") == meta(p, "uid")));
        settled(
            world
                .update_status(SETS, set, &status(set, &nodes, &pods, hash))
                .await,
        )?;
        revision::prune(world, set, &history, &pods, &[meta(&now, "name")]).await?;
        let min_ready = int(set, "/spec/minReadySeconds", 0);
        if min_ready > 0 && pods.iter().any(|p| ready(p) && !available(p, min_ready)) {
            wake = Some(Duration::from_secs(1));
        }
        Ok(wake)
    }
}

#[async_trait]
impl Reconciler for DaemonSets {
    fn name(&self) -> &'static str {
        "daemonset"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[SETS, PODS, NODES, "controllerrevisions.apps"]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut sweep = Sweep::default();
        for set in world.all(SETS) {
            sweep.note(self.one(world, &set).await);
        }
        sweep.outcome()
    }
}
