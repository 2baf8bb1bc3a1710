//! Deployments: one ReplicaSet per Pod template, the newest scaled up as the others go down.
//!
//! [`plan`] decides from the Deployment and its ReplicaSets; the executor carries out one step, and the changes that
//! step makes bring it back. Numbers, annotations, reasons and messages are upstream's.

mod progress;

use crate::claim::claim_kind;
use crate::concern::{By, Concern};
use crate::manager::Reconciler;
use crate::obj::{
    annotation, condition, controlled_by, deleting, digest, finished, int, int_or_percent, items, meta, now,
    owner_ref, set_condition, text,
};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use cache::Uid;
use kinds::selector::LabelSelector;
use progress::Found;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

const DEPLOYMENTS: &str = "deployments.apps";
const SETS: &str = "replicasets.apps";
const PODS: &str = "pods";
/// Pause after a ReplicaSet was refused.
const AGAIN: Duration = Duration::from_secs(5);
const HASH: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// As much as is kept of it, in bytes.
const MOST_HISTORY: usize = 2000;
const FAILURE: &str = "ReplicaFailure";
const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
const MAXIMUM: &str = "deployment.kubernetes.io/max-replicas";
const SOURCE: &str = "deployment-controller";

/// The controller of Deployments.
pub(crate) struct Deployments(Concern);

impl Default for Deployments {
    fn default() -> Deployments {
        let concern = Concern::new(DEPLOYMENTS, &[(SETS, &[By::Owner, By::Labels])]);
        Deployments(concern.selecting(|d| LabelSelector::from_json(&d["spec"]["selector"]).ok()))
    }
}

/// What is to be done next.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    /// The ReplicaSet for the present template is missing: make it with so many replicas.
    pub create: Option<i64>,
    /// ReplicaSets (by name) and their new numbers.
    pub scale: Vec<(String, i64)>,
    /// ReplicaSets beyond the history limit.
    pub remove: Vec<String>,
}

fn replicas(o: &Value) -> i64 {
    int(o, "/spec/replicas", 1)
}

/// The template as the Deployment wrote it.
fn same_template(d: &Value, set: &Value) -> bool {
    let mut template = set["spec"]["template"].clone();
    if let Some(labels) = template
        .pointer_mut("/metadata/labels")
        .and_then(Value::as_object_mut)
    {
        labels.remove(HASH);
    }
    strip(&template) == strip(&d["spec"]["template"])
}

/// Without what only says "nothing".
fn strip(v: &Value) -> Value {
    match v {
        Value::Object(map) => map
            .iter()
            .filter(|(k, v)| !v.is_null() && k.as_str() != "creationTimestamp")
            .map(|(k, v)| (k.clone(), strip(v)))
            .collect::<serde_json::Map<_, _>>()
            .into(),
        Value::Array(list) => list.iter().map(strip).collect(),
        other => other.clone(),
    }
}

fn surge_and_unavailable(d: &Value) -> (i64, i64) {
    if text(d, "/spec/strategy/type") == "Recreate" {
        return (0, 0);
    }
    let wanted = replicas(d);
    let rolling = &d["spec"]["strategy"]["rollingUpdate"];
    let share = |field: &str, up| match rolling[field].is_null() {
        true => int_or_percent(&json!("25%"), wanted, up),
        false => int_or_percent(&rolling[field], wanted, up),
    };
    let (surge, unavailable) = (share("maxSurge", true), share("maxUnavailable", false));
    match (surge, unavailable) {
        (0, 0) => (0, 1),
        other => other,
    }
}

/// The ReplicaSet of the present template; of several the oldest.
pub(crate) fn newest<'a>(d: &Value, sets: &'a [Arc<Value>]) -> Option<&'a Arc<Value>> {
    sets.iter().filter(|s| same_template(d, s)).min_by_key(|s| {
        (
            meta(s, "creationTimestamp").to_string(),
            meta(s, "name").to_string(),
        )
    })
}

/// Decides the next step. `pods_of_old` says whether old ReplicaSets still have Pods (Recreate waits for them).
pub(crate) fn plan(d: &Value, sets: &[Arc<Value>], pods_of_old: bool) -> Plan {
    let mut plan = Plan::default();
    let wanted = replicas(d);
    let (surge, unavailable) = surge_and_unavailable(d);
    let new = newest(d, sets);
    let new_name = new.map_or("", |n| meta(n, "name"));
    let mut old: Vec<&Arc<Value>> = sets.iter().filter(|s| meta(s, "name") != new_name).collect();
    old.sort_by_key(|s| meta(s, "creationTimestamp").to_string());
    let total: i64 = sets.iter().map(|s| replicas(s)).sum();
    let old_total = total - new.map_or(0, |n| replicas(n));
    let paused = d["spec"]["paused"] == true;
    let scaled = sets
        .iter()
        .any(|s| replicas(s) > 0 && annotation(s, DESIRED).parse().is_ok_and(|n: i64| n != wanted));
    if paused || scaled {
        let rolling = text(d, "/spec/strategy/type") != "Recreate";
        scale_all(&mut plan, new, &old, wanted, rolling.then_some(wanted + surge));
        if paused {
            plan.remove = beyond_history(d, &old);
        }
        return plan;
    }
    if text(d, "/spec/strategy/type") == "Recreate" {
        for set in old.iter().filter(|s| replicas(s) > 0) {
            plan.scale.push((meta(set, "name").into(), 0));
        }
        if plan.scale.is_empty() && !pods_of_old {
            match new {
                None => plan.create = Some(wanted),
                Some(n) if replicas(n) != wanted => plan.scale.push((new_name.into(), wanted)),
                Some(_) => {}
            }
        }
    } else {
        let room = (wanted + surge - total).max(0);
        match new {
            None => plan.create = Some(if old_total == 0 { wanted } else { room.min(wanted) }),
            Some(n) if replicas(n) > wanted => plan.scale.push((new_name.into(), wanted)),
            Some(n) if replicas(n) < wanted && room > 0 => {
                plan.scale
                    .push((new_name.into(), replicas(n) + room.min(wanted - replicas(n))));
            }
            Some(_) => {}
        }
        if let (Some(n), true) = (new, plan.scale.is_empty()) {
            roll_down(&mut plan, n, &old, total, wanted - unavailable);
        }
    }
    let complete = new.is_some_and(|n| int(n, "/status/availableReplicas", 0) >= wanted) && old_total == 0;
    if plan.create.is_none() && plan.scale.is_empty() && complete {
        plan.remove = beyond_history(d, &old);
    }
    plan
}

/// The oldest of the old ReplicaSets beyond the history limit, of those that are idle.
fn beyond_history(d: &Value, old: &[&Arc<Value>]) -> Vec<String> {
    let limit = int(d, "/spec/revisionHistoryLimit", 10);
    let mut old: Vec<&&Arc<Value>> = old.iter().filter(|s| !deleting(s)).collect();
    old.sort_by_key(|s| revision(s));
    let excess = usize::try_from(old.len() as i64 - limit).unwrap_or(0);
    let idle = |s: &Value| {
        let seen = int(s, "/status/observedGeneration", 0) >= int(s, "/metadata/generation", 0);
        replicas(s) == 0 && int(s, "/status/replicas", 0) == 0 && seen
    };
    let first = old.iter().take(excess).filter(|s| idle(s));
    first.map(|s| meta(s, "name").to_string()).collect()
}

/// The wish itself changed (or nothing may roll): shares the difference among the ReplicaSets that have Pods, up to `most`
/// of them while they roll.
fn scale_all(plan: &mut Plan, new: Option<&Arc<Value>>, old: &[&Arc<Value>], wanted: i64, most: Option<i64>) {
    let mut live: Vec<&Arc<Value>> = old.iter().copied().filter(|s| replicas(s) > 0).collect();
    if let Some(n) = new
        && (replicas(n) > 0 || live.is_empty())
    {
        live.push(n);
    }
    if live.is_empty() {
        live.extend(old.last());
    }
    if let [only] = live[..] {
        plan.scale.push((meta(only, "name").into(), wanted));
        return;
    }
    let saturated = |set: &Value| {
        replicas(set) == wanted
            && annotation(set, DESIRED) == wanted.to_string()
            && int(set, "/status/availableReplicas", 0) == wanted
    };
    if new.is_some_and(|new| saturated(new)) {
        let fewer = old.iter().filter(|set| replicas(set) > 0);
        plan.scale
            .extend(fewer.map(|set| (meta(set, "name").to_string(), 0)));
        return;
    }
    let Some(most) = most else {
        return;
    };
    let total: i64 = live.iter().map(|s| replicas(s)).sum();
    let goal = if wanted > 0 { most } else { 0 };
    let mut left = goal - total;
    // The largest first, as they bear the largest share; among equals the newest grow and the oldest shrink.
    live.sort_by(|a, b| {
        let by_age = meta(a, "creationTimestamp").cmp(meta(b, "creationTimestamp"));
        let by_age = if left > 0 { by_age.reverse() } else { by_age };
        replicas(b).cmp(&replicas(a)).then(by_age)
    });
    let mut next: Vec<i64> = live.iter().map(|s| replicas(s)).collect();
    for (at, set) in live.iter().enumerate() {
        let base = annotation(set, MAXIMUM).parse::<i64>().unwrap_or(total).max(1);
        let fair = (replicas(set) as f64 * goal as f64 / base as f64).round() as i64 - replicas(set);
        let step = if left > 0 {
            fair.clamp(0, left)
        } else {
            fair.clamp(left, 0)
        };
        next[at] = (next[at] + step).max(0);
        left -= step;
    }
    if let Some(first) = next.first_mut() {
        *first = (*first + left).max(0);
    }
    plan.scale.extend(
        live.iter()
            .zip(next)
            .map(|(s, n)| (meta(s, "name").to_string(), n)),
    );
}

/// Takes Pods from old ReplicaSets: first those that never became ready, then as many as availability allows.
fn roll_down(plan: &mut Plan, new: &Value, old: &[&Arc<Value>], total: i64, least: i64) {
    let available = |s: &Value| int(s, "/status/availableReplicas", 0);
    let mut most = total - least - (replicas(new) - available(new));
    if most <= 0 {
        return;
    }
    let mut next: Vec<i64> = old.iter().map(|s| replicas(s)).collect();
    for (at, set) in old.iter().enumerate() {
        let sick = (replicas(set) - available(set)).clamp(0, most);
        next[at] -= sick;
        most -= sick;
    }
    let mut spare = old.iter().map(|s| available(s)).sum::<i64>() + available(new) - least;
    for n in &mut next {
        let fewer = (*n).min(spare.max(0));
        *n -= fewer;
        spare -= fewer;
    }
    for (set, n) in old.iter().zip(next) {
        if n != replicas(set) {
            plan.scale.push((meta(set, "name").into(), n));
        }
    }
}

fn revision(set: &Value) -> i64 {
    annotation(set, REVISION).parse().unwrap_or(0)
}

/// The annotations of a Deployment that its newest ReplicaSet has, too.
fn inherited(d: &Value) -> serde_json::Map<String, Value> {
    let all = d["metadata"]["annotations"].as_object().cloned();
    let mut annotations = all.unwrap_or_default();
    annotations.retain(|k, _| {
        let own = k.starts_with("deployment.kubernetes.io/") || k == "deprecated.deployment.rollback.to";
        k != "kubectl.kubernetes.io/last-applied-configuration" && !own
    });
    annotations
}

/// The history of a ReplicaSet's revisions when it gets another one.
fn history(set: &Value) -> Option<String> {
    let last = annotation(set, REVISION);
    if last.is_empty() {
        return None;
    }
    let mut past: Vec<&str> = annotation(set, HISTORY).split(',').collect();
    past.retain(|revision| !revision.is_empty());
    past.push(last);
    while past.len() > 1 && past.iter().map(|r| r.len() + 1).sum::<usize>() > MOST_HISTORY + 1 {
        past.remove(0);
    }
    Some(past.join(","))
}

/// A ReplicaSet for the Deployment's template.
fn new_set(d: &Value, count: i64, revision: i64) -> Value {
    let collisions = int(d, "/status/collisionCount", 0);
    let hash = digest(&format!("{}{collisions}", strip(&d["spec"]["template"])), 10);
    let mut template = d["spec"]["template"].clone();
    template["metadata"]["labels"][HASH] = json!(hash);
    let mut selector = d["spec"]["selector"].clone();
    selector["matchLabels"][HASH] = json!(hash);
    let mut annotations = inherited(d);
    let (surge, _) = surge_and_unavailable(d);
    annotations.insert(REVISION.into(), json!(revision.to_string()));
    annotations.insert(DESIRED.into(), json!(replicas(d).to_string()));
    annotations.insert(MAXIMUM.into(), json!((replicas(d) + surge).to_string()));
    json!({
        "apiVersion": "apps/v1", "kind": "ReplicaSet",
        "metadata": {
            "name": format!("{}-{hash}", meta(d, "name")), "namespace": meta(d, "namespace"),
            "labels": template["metadata"]["labels"], "annotations": annotations, "ownerReferences": [owner_ref(d)],
        },
        "spec": {
            "replicas": count, "minReadySeconds": int(d, "/spec/minReadySeconds", 0),
            "selector": selector, "template": template,
        },
    })
}

/// What a round did about the ReplicaSet of the present template.
enum Made {
    /// Nothing.
    Not,
    /// It is new.
    Now,
    /// It was refused, with the words of the condition.
    Refused(String),
}

/// The Deployment's status from its ReplicaSets; with the time after which progress is overdue.
fn status(d: &Value, sets: &[Arc<Value>], made: &Made) -> (Value, Option<Duration>) {
    let sum = |at: &str| sets.iter().map(|s| int(s, at, 0)).sum::<i64>();
    let new = newest(d, sets);
    let wanted = replicas(d);
    let (all, available) = (sum("/status/replicas"), sum("/status/availableReplicas"));
    let updated = new.map_or(0, |n| int(n, "/status/replicas", 0));
    let (_, unavailable) = surge_and_unavailable(d);
    let mut status = d["status"].as_object().cloned().unwrap_or_default();
    let mut conditions = items(d, "/status/conditions").to_vec();
    match available >= wanted - unavailable {
        true => set_condition(
            &mut conditions,
            "Available",
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
            Some("lastUpdateTime"),
        ),
        false => set_condition(
            &mut conditions,
            "Available",
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
            Some("lastUpdateTime"),
        ),
    }
    let counted = |field: &str| progress::counted(d, field);
    let ready = sum("/status/readyReplicas");
    let found = Found {
        new: new.map(|n| meta(n, "name")),
        created: matches!(made, Made::Now),
        refused: match made {
            Made::Refused(words) => Some(words),
            _ => None,
        },
        alone: all == updated,
        complete: updated == wanted && all == wanted && available >= wanted && new.is_some(),
        moved: updated > counted("updatedReplicas")
            || ready > counted("readyReplicas")
            || available > counted("availableReplicas")
            || all - updated < counted("replicas") - counted("updatedReplicas"),
    };
    // One that goes tells its numbers to the end, and nothing of progress.
    let wake = match deleting(d) {
        true => None,
        false => progress::follow(d, &found, &mut conditions),
    };
    if !deleting(d) {
        let failing = |s: &Arc<Value>| condition(s, FAILURE).cloned();
        let failure = new.and_then(failing).or_else(|| sets.iter().find_map(failing));
        let at = conditions.iter().position(|c| c["type"] == FAILURE);
        let before = at.map(|at| conditions.remove(at));
        conditions.extend(failure.map(|failure| same_or(before, failure)));
    }
    let mut number = |field: &str, n: i64| match n {
        0 => drop(status.remove(field)),
        n => drop(status.insert(field.into(), json!(n))),
    };
    number("replicas", all);
    number("updatedReplicas", updated);
    number("readyReplicas", ready);
    number("availableReplicas", available);
    number(
        "unavailableReplicas",
        (sets.iter().map(|s| replicas(s)).sum::<i64>() - available).max(0),
    );
    // Unknown while a set that was looked at does not tell (KEP-3973).
    let silent = |s: &Value| {
        int(s, "/status/observedGeneration", 0) != 0 && s["status"].get("terminatingReplicas").is_none()
    };
    match sets.iter().any(|s| silent(s)) {
        true => drop(status.remove("terminatingReplicas")),
        false => drop(status.insert(
            "terminatingReplicas".into(),
            json!(sum("/status/terminatingReplicas")),
        )),
    }
    status.insert("observedGeneration".into(), d["metadata"]["generation"].clone());
    status.insert("conditions".into(), json!(conditions));
    (Value::Object(status), wake)
}

/// The failure of a ReplicaSet as a condition of its Deployment; the one that is there stays if it says the same.
fn same_or(before: Option<Value>, failure: Value) -> Value {
    match before {
        Some(before) if before["status"] == failure["status"] && before["reason"] == failure["reason"] => {
            before
        }
        _ => {
            let mut next = failure;
            next["lastUpdateTime"] = next["lastTransitionTime"].clone();
            next
        }
    }
}

impl Deployments {
    async fn one(&self, world: &World, d: &Value) -> Result<Option<Duration>, WorldError> {
        let Ok(selector) = LabelSelector::from_json(&d["spec"]["selector"]) else {
            return Ok(None);
        };
        if selector.is_everything() {
            return Ok(None);
        }
        let mut sets = claim_kind(world, SETS, d, &selector).await?;
        if deleting(d) {
            let (status, _) = status(d, &sets, &Made::Not);
            settled(world.update_status(DEPLOYMENTS, d, &status).await)?;
            return Ok(None);
        }
        let pods_of_old = text(d, "/spec/strategy/type") == "Recreate" && pods_of_old(world, d, &sets);
        let plan = plan(d, &sets, pods_of_old);
        let latest = sets.iter().map(|s| revision(s)).max().unwrap_or(0);
        let (mut made, mut again) = (Made::Not, None);
        if let Some(count) = plan.create {
            let set = new_set(d, count, latest + 1);
            let name = meta(&set, "name");
            match world.create(SETS, &set).await {
                Ok(new) => {
                    if count > 0 {
                        let message = format!("Scaled up replica set {name} from 0 to {count}");
                        world.event(SOURCE, d, false, "ScalingReplicaSet", &message).await;
                    }
                    sets.push(Arc::new(new));
                    made = Made::Now;
                }
                Err(e) if e.code() == 409 => {
                    self.collision(world, d, &set).await?;
                    again = Some(AGAIN);
                }
                Err(e) if e.names("NamespaceTerminating") => {}
                Err(e) => {
                    let message = format!("Failed to create new replica set {name:?}: {}", e.message());
                    world
                        .event(SOURCE, d, true, "ReplicaSetCreateError", &message)
                        .await;
                    made = Made::Refused(message);
                }
            }
        }
        let (surge, _) = surge_and_unavailable(d);
        for (name, count) in &plan.scale {
            let Some(set) = sets.iter().find(|s| meta(s, "name") == name) else {
                continue;
            };
            let before = replicas(set);
            let mut next = (**set).clone();
            next["spec"]["replicas"] = json!(count);
            next["metadata"]["annotations"][DESIRED] = json!(replicas(d).to_string());
            next["metadata"]["annotations"][MAXIMUM] = json!((replicas(d) + surge).to_string());
            if settled(world.update(SETS, set, &next).await)?.is_some() && before != *count {
                let way = if *count > before { "up" } else { "down" };
                let message = format!("Scaled {way} replica set {name} from {before} to {count}");
                world.event(SOURCE, d, false, "ScalingReplicaSet", &message).await;
            }
        }
        for set in sets
            .iter()
            .filter(|s| plan.remove.iter().any(|n| n == meta(s, "name")))
        {
            world.delete(SETS, set, "Background").await?;
        }
        let mut annotations = Map::new();
        if let Some(number) = self.revise(world, d, &sets, latest).await? {
            annotations.insert(REVISION.into(), json!(number.to_string()));
        }
        let (status, wake) = status(d, &sets, &made);
        // In one step with the status, which is no new generation.
        let written = world.update_status_and(DEPLOYMENTS, d, &status, annotations);
        settled(written.await)?;
        Ok(match made {
            Made::Refused(_) => Some(AGAIN),
            _ => [wake, again].into_iter().flatten().min(),
        })
    }

    /// A ReplicaSet of that name exists for another template: the next name is tried.
    async fn collision(&self, world: &World, d: &Value, set: &Value) -> Result<(), WorldError> {
        let taken = world.get(SETS, meta(d, "namespace"), meta(set, "name"));
        if taken.is_some_and(|t| !(controlled_by(&t, meta(d, "uid")) && same_template(d, &t))) {
            let mut status = d["status"].clone();
            status["collisionCount"] = json!(int(d, "/status/collisionCount", 0) + 1);
            settled(world.update_status(DEPLOYMENTS, d, &status).await)?;
        }
        Ok(())
    }

    /// A ReplicaSet that became the newest again (a rollback) gets the highest revision, which the Deployment is to show.
    /// What the Deployment says beside its template, the ReplicaSet says after it.
    async fn revise(
        &self,
        world: &World,
        d: &Value,
        sets: &[Arc<Value>],
        latest: i64,
    ) -> Result<Option<i64>, WorldError> {
        let Some(new) = newest(d, sets) else {
            return Ok(None);
        };
        let others = sets
            .iter()
            .filter(|s| meta(s, "name") != meta(new, "name"))
            .map(|s| revision(s))
            .max();
        let mut number = revision(new);
        let renumbered = others.is_some_and(|o| o >= number) || number == 0;
        if renumbered {
            number = latest + 1;
        }
        // Scaling may just have changed it; the cache has the newest.
        if let Some(set) = world.get(SETS, meta(d, "namespace"), meta(new, "name")) {
            let mut next = (*set).clone();
            for (key, value) in inherited(d) {
                next["metadata"]["annotations"][key] = value;
            }
            if renumbered {
                if let Some(history) = history(&set) {
                    next["metadata"]["annotations"][HISTORY] = json!(history);
                }
                next["metadata"]["annotations"][REVISION] = json!(number.to_string());
            }
            let wait = int(d, "/spec/minReadySeconds", 0);
            if int(&next, "/spec/minReadySeconds", 0) != wait {
                next["spec"]["minReadySeconds"] = json!(wait);
            }
            if next != *set {
                settled(world.update(SETS, &set, &next).await)?;
            }
        }
        Ok(Some(number))
    }
}

/// Whether Pods of earlier templates are not over yet, those that are being deleted included: with the strategy Recreate
/// they never run beside the new ones. (The last one's end is told by its ReplicaSet, whose number of them changes.)
fn pods_of_old(world: &World, d: &Value, sets: &[Arc<Value>]) -> bool {
    let new = newest(d, sets).map_or("", |n| meta(n, "uid"));
    let old: Vec<_> = sets.iter().filter(|s| meta(s, "uid") != new).collect();
    if old.iter().any(|s| int(s, "/status/replicas", 0) > 0) {
        return true;
    }
    let old: HashSet<Uid> = old.iter().map(|s| Uid::of(meta(s, "uid"))).collect();
    let mut pods = old.iter().flat_map(|set| world.owned(PODS, *set));
    pods.any(|pod| !finished(&world.value(&pod)))
}

#[async_trait]
impl Reconciler for Deployments {
    fn name(&self) -> &'static str {
        "deployment"
    }
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.0]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        tracing::trace!(at = now(), "deployments");
        let mut round = self.0.begin(world);
        while let Some(d) = round.next(world) {
            round.note(self.one(world, &d).await);
        }
        round.end()
    }
}
