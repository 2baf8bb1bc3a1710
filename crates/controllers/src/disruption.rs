//! PodDisruptionBudgets: how many of the Pods a budget guards may be evicted now. The eviction endpoint of the API
//! server counts `disruptionsAllowed` down; this keeps it true.

use crate::concern::{By, Concern, Ties};
use crate::manager::Reconciler;
use crate::obj::{
    controller_of, deleting, go_selector, int, int_or_percent, items, meta, ready, set_condition, since, text,
};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use cache::Object;
use kinds::selector::LabelSelector;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

const BUDGETS: &str = "poddisruptionbudgets.policy";
const PODS: &str = "pods";
const SETS: &str = "replicasets.apps";
const SOURCE: &str = "controllermanager";
/// An eviction that was allowed but did not happen within this time is forgotten, seconds, as upstream.
const EVICTION: i64 = 120;
/// Controllers of kinds that are not watched here are asked again after this time.
const AGAIN: Duration = Duration::from_secs(15);

/// Budgets that ask controllers of other kinds look again after this time: nobody tells of their changes.
const LOOK: Duration = Duration::from_secs(60);

/// The controller of budgets.
pub(crate) struct Budgets(Concern);

const TIES: Ties = &[
    (PODS, &[By::Labels]),
    (SETS, &[By::LabelsOf(pods_of)]),
    ("deployments.apps", &[By::LabelsOf(pods_of_sets)]),
    ("statefulsets.apps", &[By::LabelsOf(pods_of)]),
    ("replicationcontrollers", &[By::LabelsOf(pods_of)]),
];

/// The Pods of one that says how many it wants.
fn pods_of(world: &World, owner: &Object) -> Vec<Arc<Object>> {
    world.owned(PODS, owner.links().uid)
}

/// The same of a Deployment, for which ReplicaSets speak.
fn pods_of_sets(world: &World, deployment: &Object) -> Vec<Arc<Object>> {
    let sets = world.owned(SETS, deployment.links().uid);
    sets.iter().flat_map(|set| pods_of(world, set)).collect()
}

/// The labels that a budget is about; one without a selector is about nothing.
fn selector(budget: &Value) -> Option<LabelSelector> {
    let selector = &budget["spec"]["selector"];
    (!selector.is_null()).then(|| LabelSelector::from_json(selector).ok())?
}

impl Default for Budgets {
    fn default() -> Budgets {
        Budgets(Concern::new(BUDGETS, TIES).selecting(selector))
    }
}

/// Numbers of a budget.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Numbers {
    pub(crate) expected: i64,
    pub(crate) desired: i64,
}

/// How many Pods there should be and how many must be healthy. `wished` is how many the controllers of these Pods want
/// together; a budget whose numbers do not hang on that asks for none.
pub(crate) fn numbers(budget: &Value, pods: usize, wished: i64) -> Numbers {
    let (least, most) = (&budget["spec"]["minAvailable"], &budget["spec"]["maxUnavailable"]);
    let (expected, desired) = if !most.is_null() {
        let unavailable = int_or_percent(most, wished, true);
        (wished, (wished - unavailable).max(0))
    } else if least.is_string() {
        (wished, int_or_percent(least, wished, true))
    } else if least.is_null() {
        (0, 0)
    } else {
        (pods as i64, int_or_percent(least, 0, true))
    };
    Numbers { expected, desired }
}

/// Whether a budget's numbers hang on what the controllers of its Pods want.
fn asks_for_scales(budget: &Value) -> bool {
    !budget["spec"]["maxUnavailable"].is_null() || budget["spec"]["minAvailable"].is_string()
}

/// A controller that wants Pods: its uid, and how many.
type Wish = (String, i64);

/// What a controller wants that this process knows. A ReplicaSet speaks for its Deployment.
fn known(world: &World, namespace: &str, owner: &Value) -> Option<Wish> {
    let find = |owner: &Value| {
        let key = match text(owner, "/kind") {
            "ReplicaSet" => SETS,
            "Deployment" => "deployments.apps",
            "StatefulSet" => "statefulsets.apps",
            "ReplicationController" => "replicationcontrollers",
            _ => return None,
        };
        let found = world.get(key, namespace, text(owner, "/name"))?;
        let group = text(&found, "/apiVersion")
            .split_once('/')
            .map(|(group, _)| group);
        let named = text(owner, "/apiVersion").split_once('/').map(|(group, _)| group);
        (group == named && meta(&found, "uid") == text(owner, "/uid")).then_some(found)
    };
    let mut found = find(owner)?;
    if let Some(above) = controller_of(&found)
        .filter(|above| above["kind"] == "Deployment")
        .and_then(find)
    {
        found = above;
    }
    Some((meta(&found, "uid").to_string(), int(&found, "/spec/replicas", 1)))
}

/// What any other controller wants, as its `scale` says.
async fn told(world: &World, namespace: &str, owner: &Value) -> Result<Option<Wish>, String> {
    let resource = crate::scale::resource(world, text(owner, "/apiVersion"), text(owner, "/kind")).await?;
    let path = resource.path(namespace, text(owner, "/name"), "scale");
    let scale = match world.read(&path).await {
        Ok(scale) => scale,
        Err(e) if e.code() == 404 => {
            // Either the object is not there, or its kind has no scale at all.
            let list = world.read(&resource.place()).await.map_err(|e| e.message())?;
            let wanted = format!("{}/scale", resource.plural);
            return match items(&list, "/resources").iter().any(|r| r["name"] == wanted) {
                true => Ok(None),
                false => Err(format!(
                    "{}, Resource={} does not implement the scale subresource",
                    resource.api_version(),
                    resource.plural
                )),
            };
        }
        Err(e) => return Err(e.message()),
    };
    let same = meta(&scale, "uid") == text(owner, "/uid");
    Ok(same.then(|| (meta(&scale, "uid").to_owned(), int(&scale, "/spec/replicas", 0))))
}

/// What the controllers of some Pods want.
#[derive(Default)]
struct Wished {
    /// How many Pods together.
    count: i64,
    /// Some Pods have no controller.
    unmanaged: bool,
    /// Somebody was asked of whose changes nobody tells.
    asked: bool,
}

async fn wished(world: &World, pods: &[Arc<Value>]) -> Result<Wished, String> {
    let mut wishes: BTreeMap<String, i64> = BTreeMap::new();
    let mut asked = HashSet::new();
    let mut found = Wished::default();
    for pod in pods {
        let Some(owner) = controller_of(pod) else {
            found.unmanaged = true;
            continue;
        };
        if !asked.insert(text(owner, "/uid")) {
            continue;
        }
        let namespace = meta(pod, "namespace");
        let wish = match known(world, namespace, owner) {
            Some(wish) => Some(wish),
            None => {
                found.asked = true;
                told(world, namespace, owner).await?
            }
        };
        let (uid, count) =
            wish.ok_or_else(|| format!("found no controllers for pod {:?}", meta(pod, "name")))?;
        wishes.insert(uid, count);
    }
    found.count = wishes.values().sum();
    Ok(found)
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
        .filter(|p| !deleting(p) && ready(p) && !disrupted.contains_key(meta(p, "name")))
        .count() as i64;
    // A budget that guards nothing allows nothing.
    let allowed = if numbers.expected <= 0 {
        0
    } else {
        (healthy - numbers.desired).max(0)
    };
    let mut status = budget["status"].as_object().cloned().unwrap_or_default();
    let generation = budget["metadata"]["generation"].clone();
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
    let (state, reason) = if allowed > 0 {
        ("True", "SufficientPods")
    } else {
        ("False", "InsufficientPods")
    };
    status.insert(
        "conditions".into(),
        conditions(budget, state, reason, "", &generation),
    );
    status.insert("observedGeneration".into(), generation);
    Value::Object(status)
}

/// The status of a budget whose numbers nobody knows: nothing may be evicted.
fn unknown(budget: &Value, why: &str) -> Value {
    let mut status = budget["status"].as_object().cloned().unwrap_or_default();
    status.insert("disruptionsAllowed".into(), json!(0));
    for field in ["currentHealthy", "desiredHealthy", "expectedPods"] {
        status.entry(field).or_insert(json!(0));
    }
    let generation = budget["status"]["observedGeneration"].clone();
    let conditions = conditions(budget, "False", "SyncFailed", why, &generation);
    status.insert("conditions".into(), conditions);
    Value::Object(status)
}

fn conditions(budget: &Value, state: &str, reason: &str, why: &str, generation: &Value) -> Value {
    let mut conditions = items(budget, "/status/conditions").to_vec();
    set_condition(&mut conditions, "DisruptionAllowed", state, reason, why, None);
    for condition in conditions.iter_mut().filter(|c| c["type"] == "DisruptionAllowed") {
        match generation.is_null() {
            true => drop(
                condition
                    .as_object_mut()
                    .and_then(|c| c.remove("observedGeneration")),
            ),
            false => condition["observedGeneration"] = generation.clone(),
        }
    }
    json!(conditions)
}

impl Budgets {
    async fn one(&self, world: &World, budget: &Value) -> Result<Option<Duration>, WorldError> {
        let Ok(selector) = LabelSelector::from_json(&budget["spec"]["selector"]) else {
            return Ok(None);
        };
        let pods = world.select(PODS, meta(budget, "namespace"), |pod| {
            !budget["spec"]["selector"].is_null() && selector.matches_with(|key| pod.label(key))
        });
        if pods.is_empty() && budget["status"].is_null() {
            world
                .event(SOURCE, budget, false, "NoPods", "No matching pods found")
                .await;
        }
        let wished = match asks_for_scales(budget) {
            true => wished(world, &pods).await,
            false => Ok(Wished::default()),
        };
        let wished = match wished {
            Ok(found) => found,
            Err(why) => {
                let next = unknown(budget, &why);
                if crate::world::difference(&budget["status"], &next).is_some() {
                    let message = format!("Failed to calculate the number of expected pods: {why}");
                    world
                        .event(SOURCE, budget, true, "CalculateExpectedPodCountFailed", &message)
                        .await;
                }
                settled(world.replace_status(BUDGETS, budget, &next).await)?;
                return Ok(Some(AGAIN));
            }
        };
        let next = status(budget, &pods, &numbers(budget, pods.len(), wished.count));
        if wished.unmanaged && crate::world::difference(&budget["status"], &next).is_some() {
            let selector = go_selector(&budget["spec"]["selector"]);
            let message = format!(
                "Pods selected by this PodDisruptionBudget (selector: {selector}) were found to be unmanaged. As a result, \
                 the status of the PDB cannot be calculated correctly, which may result in undefined behavior. To account \
                 for these pods please set \".spec.minAvailable\" field of the PDB to an integer value."
            );
            world.event(SOURCE, budget, true, "UnmanagedPods", &message).await;
        }
        settled(world.replace_status(BUDGETS, budget, &next).await)?;
        let evicted = next["disruptedPods"].as_object().into_iter().flatten();
        let left = evicted.map(|(_, at)| EVICTION - since(at.as_str().unwrap_or("")).as_secs());
        let left = left.map(|left| Duration::from_secs(left.max(1).unsigned_abs()));
        Ok(left.chain(wished.asked.then_some(LOOK)).min())
    }
}

#[async_trait]
impl Reconciler for Budgets {
    fn name(&self) -> &'static str {
        "disruption budgets"
    }
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.0]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut round = self.0.begin(world);
        while let Some(budget) = round.next(world) {
            if deleting(&budget) {
                round.note(Ok(None));
            } else {
                round.note(self.one(world, &budget).await);
            }
        }
        round.end()
    }
}
