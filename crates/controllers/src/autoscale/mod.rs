//! HorizontalPodAutoscalers: the count of a target follows metrics (upstream: `pkg/controller/podautoscaler`).
//!
//! ```text
//! scale of the target ─► each metric proposes a count ─► the greatest ─► windows, rates, bounds ─► scale
//!      (target)            (proposal: metrics, replicas)                       (limits)
//! ```
//! Each autoscaler is looked at every 15 seconds, and at once when its spec changed. What was recommended and done is
//! remembered here only, as upstream does: after a restart the windows begin anew.

mod limits;
mod metrics;
mod proposal;
mod replicas;
mod target;
#[cfg(test)]
mod tests;

use crate::concern::Concern;
use crate::manager::Reconciler;
use crate::obj::{deleting, int, items, meta, now, set_condition};
use crate::world::{Resource, World, WorldError, settled};
use async_trait::async_trait;
use cache::Uid;
use jiff::Timestamp;
use kinds::selector::LabelSelector;
use limits::{Bounds, Memory};
use parking_lot::Mutex;
use proposal::{Problem, Situation};
use replicas::Tolerance;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use target::Target;

const AUTOSCALERS: &str = "horizontalpodautoscalers.autoscaling";
const SOURCE: &str = "horizontal-pod-autoscaler";
/// How often an autoscaler is looked at.
const PERIOD: Duration = Duration::from_secs(15);

/// The controller of HorizontalPodAutoscalers.
pub(crate) struct Autoscalers {
    all: Concern,
    known: Mutex<BTreeMap<String, Known>>,
}

impl Default for Autoscalers {
    fn default() -> Autoscalers {
        Autoscalers {
            all: Concern::new(AUTOSCALERS, &[]),
            known: Mutex::default(),
        }
    }
}

/// What is remembered of an autoscaler, by its uid.
#[derive(Default)]
struct Known {
    memory: Memory,
    /// Spec and moment of the last look: these objects have no generation.
    looked: Option<(Value, Instant)>,
    /// Namespace and selector of its Pods.
    pods: Option<(String, LabelSelector)>,
    name: String,
}

/// What a round makes of the status.
struct Round {
    status: Map<String, Value>,
    conditions: Vec<Value>,
}

impl Round {
    fn condition(&mut self, kind: &str, holds: bool, (reason, message): (&str, &str)) {
        let state = if holds { "True" } else { "False" };
        set_condition(&mut self.conditions, kind, state, reason, message, None);
    }

    fn counts(&mut self, current: i64, desired: i64, metrics: Vec<Value>) {
        self.status.insert("currentReplicas".into(), json!(current));
        self.status.insert("desiredReplicas".into(), json!(desired));
        match metrics.is_empty() {
            true => drop(self.status.remove("currentMetrics")),
            false => drop(self.status.insert("currentMetrics".into(), json!(metrics))),
        }
    }
}

/// The text of a metric's own selector.
fn selector_text(metric: &Value) -> Result<String, String> {
    let selector = LabelSelector::from_json(&metric["selector"]);
    selector.map(|s| s.to_string()).map_err(|e| e.to_string())
}

impl Autoscalers {
    /// How long this one may wait; nothing when it is due.
    fn rest(&self, hpa: &Value) -> Option<Duration> {
        let known = self.known.lock();
        let (spec, at) = known.get(meta(hpa, "uid"))?.looked.as_ref()?;
        (*spec == hpa["spec"])
            .then(|| PERIOD.saturating_sub(at.elapsed()))
            .filter(|rest| !rest.is_zero())
    }

    fn remember<T>(&self, hpa: &Value, change: impl FnOnce(&mut Known) -> T) -> T {
        change(self.known.lock().entry(meta(hpa, "uid").to_owned()).or_default())
    }

    async fn one(&self, world: &World, hpa: &Value) -> Result<Option<Duration>, WorldError> {
        if let Some(rest) = self.rest(hpa) {
            return Ok(Some(rest));
        }
        self.remember(hpa, |known| {
            known.looked = Some((hpa["spec"].clone(), Instant::now()));
            known.name = meta(hpa, "name").to_owned();
        });
        let mut round = Round {
            status: hpa["status"].as_object().cloned().unwrap_or_default(),
            conditions: items(hpa, "/status/conditions").to_vec(),
        };
        if let Err(words) = self.round(world, hpa, &mut round).await {
            tracing::debug!(name = meta(hpa, "name"), words, "not scaled");
        }
        round.status.insert("conditions".into(), json!(round.conditions));
        settled(
            world
                .update_status(AUTOSCALERS, hpa, &Value::Object(round.status))
                .await,
        )?;
        Ok(Some(PERIOD))
    }

    /// One look at an autoscaler; why nothing was done, in words.
    async fn round(&self, world: &World, hpa: &Value, round: &mut Round) -> Result<(), String> {
        let tell = |warning: bool, reason: &'static str, message: String| async move {
            world.event(SOURCE, hpa, warning, reason, &message).await;
        };
        let mut target = match Target::find(world, hpa).await {
            Ok(target) => target,
            Err(words) => {
                let message =
                    format!("the HPA controller was unable to get the target's current scale: {words}");
                round.condition("AbleToScale", false, ("FailedGetScale", &message));
                tell(true, "FailedGetScale", words.clone()).await;
                return Err(words);
            }
        };
        let message = "the HPA controller was able to get the target's current scale";
        round.condition("AbleToScale", true, ("SucceededGetScale", message));
        let current = target.wanted();
        let (min, max) = (int(hpa, "/spec/minReplicas", 1), int(hpa, "/spec/maxReplicas", 1));
        self.remember(hpa, |known| known.memory.begin(current, Timestamp::now()));
        let (mut desired, mut metrics, mut reason) = (current, Vec::new(), String::new());
        if current == 0 && min != 0 {
            let words = "scaling is disabled since the replica count of the target is zero";
            round.condition("ScalingActive", false, ("ScalingDisabled", words));
        } else if current > max {
            (desired, reason) = (max, "Current number of replicas above Spec.MaxReplicas".into());
        } else if current < min {
            (desired, reason) = (min, "Current number of replicas below Spec.MinReplicas".into());
        } else {
            match self.propose(world, hpa, &target, round, &mut metrics).await {
                Ok((count, name)) => {
                    reason = match count > current {
                        true => format!("{name} above target"),
                        false => "All metrics below target".into(),
                    };
                    desired = self.allow(hpa, round, Bounds { current, min, max }, count);
                }
                Err(words) => {
                    let before = int(hpa, "/status/desiredReplicas", 0);
                    round.counts(current, before, metrics);
                    tell(true, "FailedComputeMetricsReplicas", words.clone()).await;
                    return Err(words);
                }
            }
        }
        if desired != current {
            if let Err(error) = target.scale(world, desired).await {
                let words = error.message();
                let event = format!("New size: {desired}; reason: {reason}; error: {words}");
                tell(true, "FailedRescale", event).await;
                let message = format!("the HPA controller was unable to update the target scale: {words}");
                round.condition("AbleToScale", false, ("FailedUpdateScale", &message));
                round.counts(current, int(hpa, "/status/desiredReplicas", 0), metrics);
                return Err(words);
            }
            let message = format!("the HPA controller was able to update the target scale to {desired}");
            round.condition("AbleToScale", true, ("SucceededRescale", &message));
            let event = format!("New size: {desired}; reason: {reason}");
            tell(false, "SuccessfulRescale", event).await;
            self.remember(hpa, |known| {
                known.memory.changed(current, desired, Timestamp::now());
            });
            round.status.insert("lastScaleTime".into(), json!(now()));
        }
        round.counts(current, desired, metrics);
        Ok(())
    }

    /// The greatest count that a metric asks for, with the metric's name.
    async fn propose(
        &self,
        world: &World,
        hpa: &Value,
        target: &Target,
        round: &mut Round,
        statuses: &mut Vec<Value>,
    ) -> Result<(i64, String), String> {
        let pods = self.pods(world, hpa, target.selector(), round).await?;
        let situation = Situation {
            world,
            namespace: meta(hpa, "namespace"),
            selector: target.selector(),
            pods: &pods,
            wanted: target.wanted(),
            shown: target.shown(),
            tolerance: Tolerance::of(hpa),
        };
        let all = items(hpa, "/spec/metrics");
        let mut best: Option<(i64, String)> = None;
        let mut failed: Vec<Problem> = Vec::new();
        for metric in all {
            match proposal::of(&situation, metric).await {
                Ok(proposed) => {
                    statuses.push(proposed.status);
                    if best.as_ref().is_none_or(|(count, _)| proposed.replicas > *count) {
                        best = Some((proposed.replicas, proposed.name));
                    }
                }
                Err(problem) => {
                    // The list has an entry for each metric, whatever is known of it.
                    statuses.push(json!({"type": ""}));
                    world
                        .event(SOURCE, hpa, true, problem.reason, &problem.message)
                        .await;
                    failed.push(problem);
                }
            }
        }
        let down = best.as_ref().is_none_or(|(count, _)| *count < target.wanted());
        if let Some(first) = failed.first().filter(|_| down) {
            let message = format!(
                "the HPA was unable to compute the replica count: {}",
                first.message
            );
            round.condition("ScalingActive", false, (first.reason, &message));
            return Err(format!(
                "invalid metrics ({} invalid out of {}), first error is: {}",
                failed.len(),
                all.len(),
                first.whole
            ));
        }
        let best = best.ok_or("no metrics are named")?;
        let message = format!(
            "the HPA was able to successfully calculate a replica count from {}",
            best.1
        );
        round.condition("ScalingActive", true, ("ValidMetricFound", &message));
        Ok(best)
    }

    /// The Pods of the target, which no other autoscaler may have.
    async fn pods(
        &self,
        world: &World,
        hpa: &Value,
        selector: &str,
        round: &mut Round,
    ) -> Result<Vec<Arc<Value>>, String> {
        let namespace = meta(hpa, "namespace");
        if selector.is_empty() {
            let words = "selector is required";
            let message = "the HPA target's scale is missing a selector";
            round.condition("ScalingActive", false, ("InvalidSelector", message));
            world.event(SOURCE, hpa, true, "SelectorRequired", words).await;
            return Err(words.into());
        }
        let parsed = match LabelSelector::parse(selector) {
            Ok(parsed) => parsed,
            Err(error) => {
                let words = format!(
                    "couldn't convert selector into a corresponding internal selector object: {error}"
                );
                round.condition("ScalingActive", false, ("InvalidSelector", &words));
                world.event(SOURCE, hpa, true, "InvalidSelector", &words).await;
                return Err(words);
            }
        };
        let pods = world.select("pods", namespace, |pod| parsed.matches_with(|key| pod.label(key)));
        let mut names: Vec<String> = {
            let mut known = self.known.lock();
            if let Some(own) = known.get_mut(meta(hpa, "uid")) {
                own.pods = Some((namespace.to_owned(), parsed));
            }
            let takes = |other: &&Known| {
                let same = other.pods.as_ref().filter(|(of, _)| of == namespace);
                same.is_some_and(|(_, selector)| pods.iter().any(|pod| selector.matches_object(pod)))
            };
            let all = known.values().filter(takes);
            all.map(|other| format!("{{{} {namespace}}}", other.name))
                .collect()
        };
        if names.len() > 1 {
            names.sort();
            let words = format!(
                "pods by selector {selector} are controlled by multiple HPAs: [{}]",
                names.join(" ")
            );
            round.condition("ScalingActive", false, ("AmbiguousSelector", &words));
            world.event(SOURCE, hpa, true, "AmbiguousSelector", &words).await;
            return Err(words);
        }
        Ok(pods)
    }

    fn allow(&self, hpa: &Value, round: &mut Round, bounds: Bounds, desired: i64) -> i64 {
        let behavior = &hpa["spec"]["behavior"];
        let allowed = self.remember(hpa, |known| {
            limits::allowed(&mut known.memory, behavior, bounds, desired, Timestamp::now())
        });
        round.condition("AbleToScale", true, allowed.able);
        round.condition("ScalingLimited", allowed.limited.0, allowed.limited.1);
        allowed.replicas
    }
}

#[async_trait]
impl Reconciler for Autoscalers {
    fn name(&self) -> &'static str {
        "autoscalers"
    }
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.all]
    }
    fn custom(&self) -> Vec<Resource> {
        // Of its two versions the one that has metrics.
        let all = kinds::builtin().iter();
        let of = all.filter(|kind| kind.plural == "horizontalpodautoscalers" && kind.version == "v2");
        of.map(crate::world::of_kind).collect()
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut round = self.all.begin(world);
        while let Some(hpa) = round.next(world) {
            if deleting(&hpa) {
                round.note(Ok(None));
            } else {
                round.note(self.one(world, &hpa).await);
            }
        }
        if round.lost() {
            let there = |uid: &str| world.primary(AUTOSCALERS, Uid::of(uid)).is_some();
            self.known.lock().retain(|uid, _| there(uid));
        }
        round.end()
    }
}
