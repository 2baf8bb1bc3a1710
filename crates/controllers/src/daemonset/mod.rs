//! DaemonSets: one Pod on every node that can take it; rolled out by removing old Pods a few at a time.

mod pauses;
mod plan;

use crate::claim::{claim, create_pods, remove_pod};
use crate::concern::{By, Concern};
use crate::manager::Reconciler;
use crate::obj::{annotation, available, deleting, int, items, label, meta, ready, text, until_available};
use crate::replicaset::pod_from;
use crate::revision::{self, HASH, hash_of};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use kinds::placement::{affine, tolerates};
use kinds::selector::LabelSelector;
use pauses::Pauses;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SETS: &str = "daemonsets.apps";
const PODS: &str = "pods";
const NODES: &str = "nodes";
const REVISIONS: &str = "controllerrevisions.apps";
const SOURCE: &str = "daemonset-controller";
/// The label by which extensions/v1beta1 told templates apart.
const TEMPLATE_GENERATION: &str = "pod-template-generation";

/// The controller of DaemonSets.
pub(crate) struct DaemonSets {
    concern: Concern,
    /// Failed Pods are replaced ever more slowly.
    failed: Pauses,
}

impl Default for DaemonSets {
    fn default() -> DaemonSets {
        let concern = Concern::new(
            SETS,
            &[
                (PODS, &[By::Owner, By::Labels]),
                (NODES, &[By::All(fits_others)]),
                (REVISIONS, &[By::Owner, By::Labels]),
            ],
        );
        DaemonSets {
            concern: concern.selecting(|set| LabelSelector::from_json(&set["spec"]["selector"]).ok()),
            failed: Pauses::default(),
        }
    }
}

/// Whether a node has come, gone or changed in what decides which Pods it should have. Its heartbeats do not.
fn fits_others(before: Option<&Value>, after: Option<&Value>) -> bool {
    let (Some(before), Some(after)) = (before, after) else {
        return true;
    };
    before["spec"] != after["spec"]
        || before["metadata"]["labels"] != after["metadata"]["labels"]
        || deleting(before) != deleting(after)
}

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
    if let Some(generation) = template_generation(set) {
        pod["metadata"]["labels"][TEMPLATE_GENERATION] = json!(generation);
    }
    pod["spec"]["tolerations"] = json!(tolerations(&set["spec"]["template"]));
    pin(&mut pod["spec"], node);
    pod
}

/// The number of the set's template, which upstream keeps from the days of extensions/v1beta1 in an annotation.
fn template_generation(set: &Value) -> Option<String> {
    let generation = annotation(set, "deprecated.daemonset.template.generation");
    generation.parse::<i64>().ok().map(|n| n.to_string())
}

/// The Pod is of the revision with this hash.
fn hash_matches(pod: &Value, hash: &str) -> bool {
    hash_of(pod) == hash
}

/// The Pod is of the set's present template, by either label.
fn updated(set: &Value, pod: &Value, hash: &str) -> bool {
    let generation = template_generation(set);
    hash_matches(pod, hash) || generation.is_some_and(|g| label(pod, TEMPLATE_GENERATION) == g)
}

/// Whether a set's Pod belongs on a node.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Fit {
    /// There should be one.
    pub(crate) should: bool,
    /// One that is there may go on.
    pub(crate) may: bool,
}

/// Decides whether a node should have a Pod of the set (upstream: `NodeShouldRunDaemonPod`).
pub(crate) fn fits(set: &Value, node: &Value) -> Fit {
    let template = &set["spec"]["template"];
    let named = text(template, "/spec/nodeName");
    if !affine(template, node) || (!named.is_empty() && named != meta(node, "name")) {
        return Fit {
            should: false,
            may: false,
        };
    }
    let tolerations = tolerations(template);
    let suffers = |effect: &str| {
        items(node, "/spec/taints")
            .iter()
            .any(|t| t["effect"] == effect && !tolerations.iter().any(|o| tolerates(o, t)))
    };
    let may = !suffers("NoExecute");
    Fit {
        should: may && !suffers("NoSchedule"),
        may,
    }
}

/// What failed Pods are counted by: a new template begins anew.
fn fail_key(set: &Value, node: &str) -> String {
    let generation = int(set, "/status/observedGeneration", 0);
    format!("{}/{generation}/{node}", meta(set, "uid"))
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

fn status(set: &Value, nodes: &[Arc<Value>], pods: &[Arc<Value>], hash: &str) -> Value {
    let by_node = plan::by_node(pods);
    let min_ready = int(set, "/spec/minReadySeconds", 0);
    let [
        mut current,
        mut misplaced,
        mut desired,
        mut up,
        mut renewed,
        mut usable,
    ] = [0_i64; 6];
    for node in nodes {
        let should = fits(set, node).should;
        desired += i64::from(should);
        // Of several the one that has been there longest stands for the node.
        let Some(pod) = by_node.get(meta(node, "name")).and_then(|here| here.first()) else {
            continue;
        };
        if !should {
            misplaced += 1;
            continue;
        }
        current += 1;
        up += i64::from(ready(pod));
        usable += i64::from(ready(pod) && available(pod, min_ready));
        renewed += i64::from(updated(set, pod, hash));
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
        ("updatedNumberScheduled", renewed),
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
    /// Says of a Pod that ended by itself that it goes.
    async fn tell_end(&self, world: &World, set: &Value, pod: &Value) {
        let (failed, reason, what) = match text(pod, "/status/phase") {
            "Failed" => (true, "FailedDaemonPod", "kill"),
            "Succeeded" => (false, "SucceededDaemonPod", "delete"),
            _ => return,
        };
        let message = format!(
            "Found {} daemon pod {}/{} on node {}, will try to {what} it",
            if failed { "failed" } else { "succeeded" },
            meta(pod, "namespace"),
            meta(pod, "name"),
            node_of(pod)
        );
        world.event(SOURCE, set, failed, reason, &message).await;
    }

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
        revision::merge_equals(world, set, &mut history, &now, &mut pods).await?;
        let mut wake = None;
        let plan = plan::plan(set, &nodes, &pods, hash, |node| {
            let left = self.failed.wait(&fail_key(set, node));
            wake = wake.into_iter().chain(left).min();
            left.is_some()
        });
        for pod in &plan.delete {
            self.tell_end(world, set, pod).await;
            if remove_pod(world, SOURCE, set, pod).await.is_err() {
                wake = Some(Duration::from_secs(1));
            }
        }
        let new: Vec<Value> = plan.create.iter().map(|node| pod_for(set, node, hash)).collect();
        if create_pods(world, SOURCE, set, &new, &mut pods).await.is_err() {
            wake = Some(Duration::from_secs(5));
        }
        // Those in deletion count as long as they are there.
        for gone in &plan.delete {
            let left = world.get(PODS, meta(gone, "namespace"), meta(gone, "name"));
            pods.retain(|p| left.is_some() || meta(p, "uid") != meta(gone, "uid"));
        }
        settled(
            world
                .update_status(SETS, set, &status(set, &nodes, &pods, hash))
                .await,
        )?;
        revision::prune(world, set, &history, &pods, &[meta(&now, "name")]).await?;
        let min_ready = int(set, "/spec/minReadySeconds", 0);
        let available = until_available(pods.iter().map(|pod| &**pod), min_ready);
        Ok([wake, available].into_iter().flatten().min())
    }
}

#[async_trait]
impl Reconciler for DaemonSets {
    fn name(&self) -> &'static str {
        "daemonset"
    }
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.concern]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut round = self.concern.begin(world);
        while let Some(set) = round.next(world) {
            round.note(self.one(world, &set).await);
        }
        round.end()
    }
}
