//! ReplicaSets: as many Pods as wished for, made in growing bursts, and the least useful removed first.

use crate::manager::Reconciler;
use crate::obj::{
    active, available, controlled_by, controller_of, deleting, int, items, meta, owner_ref, ready,
    set_condition, text,
};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use kinds::selector::LabelSelector;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SETS: &str = "replicasets.apps";
const PODS: &str = "pods";
const SOURCE: &str = "replicaset-controller";
/// At most so many Pods are made or removed in one round, as upstream.
const BURST: usize = 500;

/// The controller of ReplicaSets.
pub(crate) struct ReplicaSets;

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

/// Who goes first when there are too many: unscheduled, then pending, then not ready, then the youngest.
pub(crate) fn victims(pods: &[Arc<Value>], count: usize) -> Vec<Arc<Value>> {
    let rank = |pod: &Value| {
        let cost: i64 = crate::obj::annotation(pod, "controller.kubernetes.io/pod-deletion-cost")
            .parse()
            .unwrap_or(0);
        let phase = match text(pod, "/status/phase") {
            "Running" => 2,
            "Unknown" => 1,
            _ => 0,
        };
        (!text(pod, "/spec/nodeName").is_empty(), phase, ready(pod), cost)
    };
    let mut sorted = pods.to_vec();
    sorted.sort_by(|a, b| {
        rank(a)
            .cmp(&rank(b))
            .then_with(|| meta(b, "creationTimestamp").cmp(meta(a, "creationTimestamp")))
            .then_with(|| meta(a, "name").cmp(meta(b, "name")))
    });
    sorted.truncate(count);
    sorted
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
        ("terminatingReplicas", terminating),
    ] {
        match n {
            0 => drop(status.remove(field)),
            n => drop(status.insert(field.into(), json!(n))),
        }
    }
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
        let (namespace, uid) = (meta(set, "namespace"), meta(set, "uid"));
        let Ok(selector) = LabelSelector::from_json(&set["spec"]["selector"]) else {
            return Ok(None);
        };
        let mut pods = Vec::new();
        let mut terminating = 0;
        for pod in world.list(PODS, namespace) {
            let mine = controlled_by(&pod, uid);
            if mine && deleting(&pod) {
                terminating += 1;
            }
            if !active(&pod) {
                continue;
            }
            if mine && !selector.matches_object(&pod) && !deleting(set) {
                let mut freed = (*pod).clone();
                let mut owners = items(&pod, "/metadata/ownerReferences").to_vec();
                owners.retain(|o| o["uid"] != uid);
                freed["metadata"]["ownerReferences"] = json!(owners);
                settled(world.update(PODS, &pod, &freed).await)?;
            } else if mine {
                pods.push(pod);
            } else if controller_of(&pod).is_none() && !deleting(set) && selector.matches_object(&pod) {
                let mut adopted = (*pod).clone();
                let mut owners = items(&pod, "/metadata/ownerReferences").to_vec();
                owners.push(owner_ref(set));
                adopted["metadata"]["ownerReferences"] = json!(owners);
                if settled(world.update(PODS, &pod, &adopted).await)?.is_some() {
                    pods.push(pod);
                }
            }
        }
        let wanted = int(set, "/spec/replicas", 1).max(0) as usize;
        let mut failure = None;
        if !deleting(set) {
            if pods.len() < wanted {
                let missing = (wanted - pods.len()).min(BURST);
                failure = create(world, set, missing, &mut pods).await;
            } else if pods.len() > wanted {
                for pod in victims(&pods, (pods.len() - wanted).min(BURST)) {
                    if let Err(e) = world.delete(PODS, &pod, "Background").await {
                        let message = format!("Error deleting: {}", e.message());
                        world.event(SOURCE, set, true, "FailedDelete", &message).await;
                        failure = Some(("FailedDelete", e.message()));
                        break;
                    }
                    pods.retain(|p| meta(p, "uid") != meta(&pod, "uid"));
                    let message = format!("Deleted pod: {}", meta(&pod, "name"));
                    world
                        .event(SOURCE, set, false, "SuccessfulDelete", &message)
                        .await;
                }
            }
        }
        let next = status(set, &pods, terminating, failure.as_ref());
        settled(world.update_status(SETS, set, &next).await)?;
        let min_ready = int(set, "/spec/minReadySeconds", 0);
        let waits = min_ready > 0 && pods.iter().any(|p| ready(p) && !available(p, min_ready));
        Ok(match (failure.is_some(), waits) {
            (true, _) => Some(Duration::from_secs(5)),
            (_, true) => Some(Duration::from_secs(1)),
            _ => None,
        })
    }
}

/// Makes Pods, 1, 2, 4, … at a time, so that a refusal (a full quota) costs one request.
async fn create(
    world: &World,
    set: &Value,
    missing: usize,
    pods: &mut Vec<Arc<Value>>,
) -> Option<(&'static str, String)> {
    let pod = pod_from(set, &set["spec"]["template"]);
    let (mut left, mut batch) = (missing, 1);
    while left > 0 {
        let size = batch.min(left);
        let made = futures::future::join_all((0..size).map(|_| world.create(PODS, &pod))).await;
        let mut refused = None;
        for result in made {
            match result {
                Ok(pod) => {
                    let message = format!("Created pod: {}", meta(&pod, "name"));
                    world
                        .event(SOURCE, set, false, "SuccessfulCreate", &message)
                        .await;
                    pods.push(Arc::new(pod));
                }
                Err(e) => refused = Some(e.message()),
            }
        }
        if let Some(message) = refused {
            world
                .event(
                    SOURCE,
                    set,
                    true,
                    "FailedCreate",
                    &format!("Error creating: {message}"),
                )
                .await;
            return Some(("FailedCreate", message));
        }
        left -= size;
        batch *= 2;
    }
    None
}

#[async_trait]
impl Reconciler for ReplicaSets {
    fn name(&self) -> &'static str {
        "replicaset"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[SETS, PODS]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut soonest: Option<Duration> = None;
        let mut failed = None;
        for set in world.all(SETS) {
            match self.one(world, &set).await {
                Ok(Some(wake)) => soonest = Some(soonest.map_or(wake, |s| s.min(wake))),
                Ok(None) => {}
                Err(e) => failed = Some(e),
            }
        }
        failed.map_or(Ok(soonest), Err)
    }
}
