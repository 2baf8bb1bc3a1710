//! PodDisruptionBudgets: how many of the Pods a budget guards may be evicted now. The eviction endpoint of the API
//! server counts `disruptionsAllowed` down; this keeps it true.

use crate::claim::Sweep;
use crate::manager::Reconciler;
use crate::obj::{
    active, controller_of, deleting, int, int_or_percent, items, meta, ready, set_condition, since, text,
};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use kinds::selector::LabelSelector;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const BUDGETS: &str = "poddisruptionbudgets.policy";
const PODS: &str = "pods";
const SETS: &str = "replicasets.apps";
const SOURCE: &str = "controllermanager";
/// An eviction that was allowed but did not happen within this time is forgotten, seconds, as upstream.
const EVICTION: i64 = 120;

/// The controller of budgets.
pub(crate) struct Budgets;

/// Numbers of a budget.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) expected: i64,
    pub(crate) desired: i64,
}

/// How many Pods there should be and how many must be healthy. `scales` has, for each controller of these Pods, how
/// many it wants; shares need it.
pub(crate) fn numbers(budget: &Value, pods: usize, scales: &BTreeMap<String, i64>) -> Numbers {
    let (least, most) = (&budget["spec"]["minAvailable"], &budget["spec"]["maxUnavailable"]);
    if !most.is_null() {
        let expected = scales.values().sum();
        return Numbers {
            expected,
            desired: (expected - int_or_percent(most, expected, true)).max(0),
        };
    }
    if least.is_string() {
        let expected = scales.values().sum();
        return Numbers {
            expected,
            desired: int_or_percent(least, expected, true),
        };
    }
    Numbers {
        expected: pods as i64,
        desired: int_or_percent(least, pods as i64, true),
    }
}

/// The number of Pods that the controller of a Pod wants, under that controller's uid. A ReplicaSet speaks for its
/// Deployment.
fn scale(world: &World, pod: &Value) -> Option<(String, i64)> {
    let owner = controller_of(pod)?;
    let namespace = meta(pod, "namespace");
    let find = |owner: &Value| {
        let key = match text(owner, "/kind") {
            "ReplicaSet" => SETS,
            "Deployment" => "deployments.apps",
            "StatefulSet" => "statefulsets.apps",
            "ReplicationController" => "replicationcontrollers",
            _ => return None,
        };
        let found = world.get(key, namespace, text(owner, "/name"))?;
        (meta(&found, "uid") == text(owner, "/uid")).then_some(found)
    };
    let mut found = find(owner)?;
    if let Some(above) = controller_of(&found).and_then(find) {
        found = above;
    }
    Some((meta(&found, "uid").to_string(), int(&found, "/spec/replicas", 1)))
}

/// The status of a budget.
pub(crate) fn status(budget: &Value, pods: &[Arc<Value>], numbers: &Numbers) -> Value {
    let mut disrupted = Map::new();
    for (name, at) in budget["status"]["disruptedPods"]
        .as_object()
        .into_iter()
        .flatten()
    {
        let pod = pods.iter().find(|p| meta(p, "name") == name);
        if pod.is_some_and(|p| !deleting(p)) && since(at.as_str().unwrap_or("")).as_secs() < EVICTION {
            disrupted.insert(name.clone(), at.clone());
        }
    }
    let healthy = pods
        .iter()
        .filter(|p| active(p) && ready(p) && !disrupted.contains_key(meta(p, "name")))
        .count() as i64;
    // A budget that guards nothing allows nothing.
    let allowed = if numbers.expected <= 0 {
        0
    } else {
        (healthy - numbers.desired).max(0)
    };
    let mut status = budget["status"].as_object().cloned().unwrap_or_default();
    for (field, n) in [
        ("currentHealthy", healthy),
        ("desiredHealthy", numbers.desired),
        ("expectedPods", numbers.expected),
        ("disruptionsAllowed", allowed),
    ] {
        status.insert(field.into(), json!(n));
    }
    match disrupted.is_empty() {
        true => drop(status.remove("disruptedPods")),
        false => drop(status.insert("disruptedPods".into(), Value::Object(disrupted))),
    }
    let mut conditions = items(budget, "/status/conditions").to_vec();
    let (state, reason) = if allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    set_condition(&mut conditions, "DisruptionAllowed", state, reason, "", None);
    for condition in conditions.iter_mut().filter(|c| c["type"] == "DisruptionAllowed") {
        condition["observedGeneration"] = budget["metadata"]["generation"].clone();
    }
    status.insert("conditions".into(), json!(conditions));
    status.insert(
        "observedGeneration".into(),
        budget["metadata"]["generation"].clone(),
    );
    Value::Object(status)
}

impl Budgets {
    async fn one(&self, world: &World, budget: &Value) -> Result<Option<Duration>, WorldError> {
        let Ok(selector) = LabelSelector::from_json(&budget["spec"]["selector"]) else {
            return Ok(None);
        };
        let mut pods = world.select(PODS, meta(budget, "namespace"), |pod| {
            !budget["spec"]["selector"].is_null() && selector.matches_with(|key| pod.label(key))
        });
        pods.retain(|p| active(p));
        let scales: BTreeMap<String, i64> = pods.iter().filter_map(|p| scale(world, p)).collect();
        if pods.is_empty() && budget["status"].is_null() {
            world
                .event(SOURCE, budget, false, "NoPods", "No matching pods found")
                .await;
        }
        let next = status(budget, &pods, &numbers(budget, pods.len(), &scales));
        settled(world.update_status(BUDGETS, budget, &next).await)?;
        let waits = next["disruptedPods"].is_object();
        Ok(waits.then(|| Duration::from_secs(EVICTION.unsigned_abs())))
    }
}

#[async_trait]
impl Reconciler for Budgets {
    fn name(&self) -> &'static str {
        "disruption budgets"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[
            BUDGETS,
            PODS,
            SETS,
            "deployments.apps",
            "statefulsets.apps",
            "replicationcontrollers",
        ]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut sweep = Sweep::default();
        for budget in world.all(BUDGETS).iter().filter(|b| !deleting(b)) {
            sweep.note(self.one(world, budget).await);
        }
        sweep.outcome()
    }
}
