//! ReplicaSets: as many Pods as wished for, made in growing bursts, and the least useful removed first.

use crate::claim::{claim, create_pods, remove_pod};
use crate::concern::{By, Concern, Ties};
use crate::manager::Reconciler;
use crate::obj::{
    active, available, condition, controlled_by, controller_of, deleting, finished, int, items, meta,
    owner_ref, ready, set_condition, text, until_available,
};
use crate::pauses::Pauses;
use crate::victims::{Ages, per_node, victims};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use cache::Uid;
use jiff::Timestamp;
use kinds::selector::LabelSelector;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SETS: &str = "replicasets.apps";
const CONTROLLERS: &str = "replicationcontrollers";
const FAILURE: &str = "ReplicaFailure";
const REFUSED: &str = "FailedCreate";
/// At most so many Pods are made or removed in one round, as upstream.
const BURST: usize = 500;

/// The controller of ReplicaSets, or of their elder sister, the ReplicationControllers.
pub(crate) struct ReplicaSets {
    key: &'static str,
    source: &'static str,
    concern: Concern,
    /// Of sets whose Pods were refused.
    pauses: Pauses,
}

/// What both depend on.
const TIES: Ties = &[("pods", &[By::Owner, By::Labels])];

impl ReplicaSets {
    /// Looks after ReplicaSets.
    pub(crate) fn sets() -> ReplicaSets {
        ReplicaSets {
            key: SETS,
            source: "replicaset-controller",
            concern: Concern::new(SETS, TIES).selecting(selector_of_set),
            pauses: Pauses::default(),
        }
    }

    /// Looks after ReplicationControllers.
    pub(crate) fn controllers() -> ReplicaSets {
        ReplicaSets {
            key: CONTROLLERS,
            source: "replication-controller",
            concern: Concern::new(CONTROLLERS, TIES).selecting(selector_of_controller),
            pauses: Pauses::default(),
        }
    }
}

fn selector_of_set(set: &Value) -> Option<LabelSelector> {
    LabelSelector::from_json(&set["spec"]["selector"]).ok()
}

/// A ReplicationController's selector is a plain map of labels.
fn selector_of_controller(controller: &Value) -> Option<LabelSelector> {
    LabelSelector::from_json(&json!({"matchLabels": controller["spec"]["selector"]})).ok()
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

/// What went wrong in a round.
struct Failure {
    reason: &'static str,
    message: String,
}

/// The condition says already that something of the kind goes wrong.
fn stands(set: &Value, reason: &str) -> bool {
    condition(set, FAILURE).is_some_and(|c| c["status"] == "True" && c["reason"] == reason)
}

/// The status of a ReplicaSet with these Pods.
fn status(set: &Value, pods: &[Arc<Value>], terminating: usize, failure: Option<&Failure>) -> Value {
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
    if set["kind"] != "ReplicationController" {
        status.insert("terminatingReplicas".into(), json!(terminating));
    }
    status.insert("observedGeneration".into(), set["metadata"]["generation"].clone());
    let mut conditions = items(set, "/status/conditions").to_vec();
    match failure {
        Some(failure) if !stands(set, failure.reason) => set_condition(
            &mut conditions,
            FAILURE,
            "True",
            failure.reason,
            &failure.message,
            None,
        ),
        // The words of each refusal are others, since they name the Pod: those of the first one stay.
        Some(_) => {}
        None => conditions.retain(|c| c["type"] != FAILURE),
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
        let (mut failure, mut again) = (None, None);
        if !deleting(set) {
            if pods.len() < wanted {
                let missing = (wanted - pods.len()).min(BURST);
                (failure, again) = self.fill(world, set, missing, &mut pods).await;
            } else if pods.len() > wanted {
                let company = per_node(self.related(world, set, &pods).iter().map(|pod| &**pod));
                let ages = Ages::Rough(Timestamp::now());
                for pod in victims(&pods, (pods.len() - wanted).min(BURST), &company, ages) {
                    if let Err(message) = remove_pod(world, self.source, set, &pod).await {
                        let reason = "FailedDelete";
                        failure = Some(Failure { reason, message });
                        again = Some(Duration::from_secs(5));
                        break;
                    }
                    pods.retain(|p| meta(p, "uid") != meta(&pod, "uid"));
                }
            }
        }
        let next = status(set, &pods, terminating, failure.as_ref());
        settled(world.update_status(self.key, set, &next).await)?;
        let min_ready = int(set, "/spec/minReadySeconds", 0);
        let available = until_available(pods.iter().map(|pod| &**pod), min_ready);
        Ok([again, available].into_iter().flatten().min())
    }

    /// Makes missing Pods. Where they were refused, the next attempt waits: a full quota stays full for a while.
    async fn fill(
        &self,
        world: &World,
        set: &Value,
        missing: usize,
        pods: &mut Vec<Arc<Value>>,
    ) -> (Option<Failure>, Option<Duration>) {
        let reason = REFUSED;
        let key = format!("{} {}", meta(set, "uid"), set["metadata"]["generation"]);
        if let Some(left) = self.pauses.left(&key) {
            let message = String::new();
            return (
                stands(set, reason).then_some(Failure { reason, message }),
                Some(left),
            );
        }
        let new = vec![pod_from(set, &set["spec"]["template"]); missing];
        match create_pods(world, self.source, set, &new, pods).await {
            Ok(()) => {
                self.pauses.passed(&key);
                (None, None)
            }
            Err(message) => {
                let pause = self.pauses.refused(&key);
                (Some(Failure { reason, message }), Some(pause))
            }
        }
    }

    /// The Pods of this set and of those that have the same owner, such as the sets of one Deployment.
    fn related(&self, world: &World, set: &Value, own: &[Arc<Value>]) -> Vec<Arc<Value>> {
        let Some(owner) = controller_of(set) else {
            return own.to_vec();
        };
        let uid = text(owner, "/uid");
        let mut sisters = world.owned(self.key, Uid::of(uid));
        sisters.retain(|sister| controlled_by(&world.value(sister), uid));
        let pods = sisters
            .iter()
            .flat_map(|sister| world.owned("pods", sister.links().uid));
        let pods = pods.map(|pod| world.value(&pod));
        pods.filter(|pod| active(pod)).collect()
    }

    fn selector(&self, set: &Value) -> Option<LabelSelector> {
        match self.key == SETS {
            true => selector_of_set(set),
            false => selector_of_controller(set),
        }
    }
}

#[async_trait]
impl Reconciler for ReplicaSets {
    fn name(&self) -> &'static str {
        self.source
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
