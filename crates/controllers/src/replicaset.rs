//! ReplicaSets: as many Pods as wished for, made in growing bursts, and the least useful removed first.

use crate::claim::{Sweep, claim, create_pods, remove_pod};
use crate::manager::Reconciler;
use crate::obj::{
    active, available, controlled_by, controller_of, deleting, finished, int, items, meta, owner_ref, ready,
    set_condition, text,
};
use crate::victims::{Ages, per_node, victims};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use cache::Uid;
use jiff::Timestamp;
use kinds::selector::LabelSelector;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

const SETS: &str = "replicasets.apps";
const CONTROLLERS: &str = "replicationcontrollers";
/// At most so many Pods are made or removed in one round, as upstream.
const BURST: usize = 500;

/// The controller of ReplicaSets, or of their elder sister, the ReplicationControllers.
pub(crate) struct ReplicaSets {
    key: &'static str,
    source: &'static str,
    reads: &'static [&'static str],
}

impl ReplicaSets {
    /// Looks after ReplicaSets.
    pub(crate) const SETS: ReplicaSets = ReplicaSets {
        key: SETS,
        source: "replicaset-controller",
        reads: &[SETS, "pods"],
    };
    /// Looks after ReplicationControllers.
    pub(crate) const CONTROLLERS: ReplicaSets = ReplicaSets {
        key: CONTROLLERS,
        source: "replication-controller",
        reads: &[CONTROLLERS, "pods"],
    };
}

/// A Pod from a template, owned by `owner`.
pub(crate) fn pod_from(owner: &Value, template: &Value) -> Value {
    let mut metadata = json!({
        "generateName": format!("{}-", meta(owner, "name")), "namespace": meta(owner, "namespace"),
        "ownerReferences": [owner_ref(owner)],
    });
    for field in ["labels", "annotations", "finalizers"] {
        if let Some(value) = template["metadata"].get(field).filter(|v| !v.is_null()) {
            metadata[field] = value.clone();
        }
    }
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
}

/// The status of a ReplicaSet with these Pods.
fn status(set: &Value, pods: &[Arc<Value>], terminating: usize, failure: Option<&(&str, String)>) -> Value {
    let min_ready = int(set, "/spec/minReadySeconds", 0);
    let Ok(template) =
        LabelSelector::from_json(&json!({"matchLabels": set["spec"]["template"]["metadata"]["labels"]}))
    else {
        return set["status"].clone();
    };
    let count = |f: &dyn Fn(&Value) -> bool| pods.iter().filter(|p| f(p)).count();
    let mut status = set["status"].as_object().cloned().unwrap_or_default();
    status.insert("replicas".into(), json!(pods.len()));
    for (field, n) in [
        ("fullyLabeledReplicas", count(&|p| template.matches_object(p))),
        ("readyReplicas", count(&ready)),
        ("availableReplicas", count(&|p| available(p, min_ready))),
    ] {
        match n {
            0 => drop(status.remove(field)),
            n => drop(status.insert(field.into(), json!(n))),
        }
    }
    status.insert("terminatingReplicas".into(), json!(terminating));
    status.insert("observedGeneration".into(), set["metadata"]["generation"].clone());
    let mut conditions = items(set, "/status/conditions").to_vec();
    match failure {
        Some((reason, message)) => {
            set_condition(&mut conditions, "ReplicaFailure", "True", reason, message, None)
        }
        None => conditions.retain(|c| c["type"] != "ReplicaFailure"),
    }
    match conditions.is_empty() {
        true => drop(status.remove("conditions")),
        false => drop(status.insert("conditions".into(), json!(conditions))),
    }
    Value::Object(status)
}

impl ReplicaSets {
    async fn one(&self, world: &World, set: &Value) -> Result<Option<Duration>, WorldError> {
        let Some(selector) = self.selector(set) else {
            return Ok(None);
        };
        let all = claim(world, set, &selector).await?;
        let terminating = all.iter().filter(|p| deleting(p) && !finished(p)).count();
        let mut pods: Vec<_> = all.into_iter().filter(|p| active(p)).collect();
        let wanted = int(set, "/spec/replicas", 1).max(0) as usize;
        let mut failure = None;
        if !deleting(set) {
            if pods.len() < wanted {
                let missing = (wanted - pods.len()).min(BURST);
                let new = vec![pod_from(set, &set["spec"]["template"]); missing];
                let made = create_pods(world, self.source, set, &new, &mut pods).await;
                failure = made.err().map(|why| ("FailedCreate", why));
            } else if pods.len() > wanted {
                let company = per_node(self.related(world, set, &pods).iter().map(|pod| &**pod));
                let ages = Ages::Rough(Timestamp::now());
                for pod in victims(&pods, (pods.len() - wanted).min(BURST), &company, ages) {
                    if let Err(why) = remove_pod(world, self.source, set, &pod).await {
                        failure = Some(("FailedDelete", why));
                        break;
                    }
                    pods.retain(|p| meta(p, "uid") != meta(&pod, "uid"));
                }
            }
        }
        let next = status(set, &pods, terminating, failure.as_ref());
        settled(world.update_status(self.key, set, &next).await)?;
        let min_ready = int(set, "/spec/minReadySeconds", 0);
        let waits = min_ready > 0 && pods.iter().any(|p| ready(p) && !available(p, min_ready));
        Ok(match (failure.is_some(), waits) {
            (true, _) => Some(Duration::from_secs(5)),
            (_, true) => Some(Duration::from_secs(1)),
            _ => None,
        })
    }

    /// The Pods of this set and of those that have the same owner, such as the sets of one Deployment.
    fn related(&self, world: &World, set: &Value, own: &[Arc<Value>]) -> Vec<Arc<Value>> {
        let Some(owner) = controller_of(set) else {
            return own.to_vec();
        };
        let sisters = world.list(self.key, meta(set, "namespace")).into_iter();
        let sisters: HashSet<Uid> = sisters
            .filter(|sister| controlled_by(sister, text(owner, "/uid")))
            .map(|sister| Uid::of(meta(&sister, "uid")))
            .collect();
        let mut pods = world.select("pods", meta(set, "namespace"), |pod| {
            pod.links().owners.iter().any(|owner| sisters.contains(owner))
        });
        pods.retain(|pod| active(pod));
        pods
    }

    /// A ReplicationController's selector is a plain map of labels.
    fn selector(&self, set: &Value) -> Option<LabelSelector> {
        let selector = &set["spec"]["selector"];
        match self.key == SETS {
            true => LabelSelector::from_json(selector),
            false => LabelSelector::from_json(&json!({"matchLabels": selector})),
        }
        .ok()
    }
}

#[async_trait]
impl Reconciler for ReplicaSets {
    fn name(&self) -> &'static str {
        self.source
    }
    fn reads(&self) -> &'static [&'static str] {
        self.reads
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut sweep = Sweep::default();
        for set in world.all(self.key) {
            sweep.note(self.one(world, &set).await);
        }
        sweep.outcome()
    }
}
