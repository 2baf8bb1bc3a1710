//! StatefulSets: Pods with names and claims of their own, made and replaced in order.

mod identity;
mod plan;

use crate::claim::{Sweep, claim, create_pods, remove_pod};
use crate::manager::Reconciler;
use crate::obj::{available, deleting, finished, int, items, meta, ready, text};
use crate::revision;
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use kinds::selector::LabelSelector;
use plan::{Revisions, Step, ordinals};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SETS: &str = "statefulsets.apps";
const PODS: &str = "pods";
const CLAIMS: &str = "persistentvolumeclaims";
const SOURCE: &str = "statefulset-controller";

/// The controller of StatefulSets.
pub(crate) struct StatefulSets;

fn status(set: &Value, pods: &[Arc<Value>], revisions: Revisions<'_>) -> Value {
    let min_ready = int(set, "/spec/minReadySeconds", 0);
    let made: Vec<&Arc<Value>> = pods.iter().filter(|p| !finished(p)).collect();
    let count = |f: &dyn Fn(&Value) -> bool| made.iter().filter(|p| f(p)).count();
    let at = |p: &Value, revision: &str| !deleting(p) && identity::revision_of(p) == revision;
    let running = |p: &Value| text(p, "/status/phase") == "Running" && ready(p);
    let updated = count(&|p| at(p, revisions.update));
    let all_ready = count(&running);
    let mut status = set["status"].as_object().cloned().unwrap_or_default();
    status.insert("replicas".into(), json!(made.len()));
    status.insert(
        "availableReplicas".into(),
        json!(count(&|p| running(p) && available(p, min_ready))),
    );
    // The update is complete: what was the update is now the current revision.
    let wanted = ordinals(set);
    let size = usize::try_from(wanted.end - wanted.start).unwrap_or(0);
    let rolling = text(set, "/spec/updateStrategy/type") != "OnDelete";
    let complete = rolling && updated == size && made.len() == size && all_ready == size;
    let current = if complete {
        revisions.update
    } else {
        revisions.current
    };
    for (field, n) in [
        ("readyReplicas", all_ready),
        ("currentReplicas", count(&|p| at(p, current))),
        ("updatedReplicas", updated),
    ] {
        match n {
            0 => drop(status.remove(field)),
            n => drop(status.insert(field.into(), json!(n))),
        }
    }
    status.insert("currentRevision".into(), json!(current));
    status.insert("updateRevision".into(), json!(revisions.update));
    status.insert("observedGeneration".into(), set["metadata"]["generation"].clone());
    status.entry("collisionCount").or_insert(json!(0));
    Value::Object(status)
}

impl StatefulSets {
    async fn one(&self, world: &World, set: &Value) -> Result<Option<Duration>, WorldError> {
        let Ok(selector) = LabelSelector::from_json(&set["spec"]["selector"]) else {
            return Ok(None);
        };
        let mut pods = claim(world, set, &selector).await?;
        pods.retain(|p| identity::ordinal(set, p).is_some());
        if deleting(set) {
            return Ok(None);
        }
        let mut history = revision::history(world, set, &selector).await?;
        let Some(update) = revision::current(world, set, &mut history).await? else {
            return Ok(None);
        };
        let before = text(set, "/status/currentRevision");
        let current = history
            .iter()
            .find(|r| meta(r, "name") == before)
            .cloned()
            .unwrap_or_else(|| update.clone());
        let revisions = Revisions {
            current: meta(&current, "name"),
            update: meta(&update, "name"),
        };
        self.keep_claims(world, set, &pods).await?;
        let mut wake = None;
        for step in plan::plan(set, &pods, revisions) {
            let done = match step {
                Step::Create(n, new) => {
                    let revision = if new { &update } else { &current };
                    self.create(world, set, n, revision, &mut pods).await?
                }
                Step::Delete(pod) => {
                    let gone = remove_pod(world, SOURCE, set, &pod).await.is_ok();
                    if let Some(left) = world.get(PODS, meta(&pod, "namespace"), meta(&pod, "name")) {
                        pods.iter_mut()
                            .filter(|p| meta(p, "uid") == meta(&pod, "uid"))
                            .for_each(|p| *p = left.clone());
                    } else {
                        pods.retain(|p| meta(p, "uid") != meta(&pod, "uid"));
                    }
                    gone
                }
            };
            if !done {
                wake = Some(Duration::from_secs(5));
            }
        }
        let next = status(set, &pods, revisions);
        settled(world.update_status(SETS, set, &next).await)?;
        revision::prune(
            world,
            set,
            &history,
            &pods,
            &[revisions.current, revisions.update],
        )
        .await?;
        let min_ready = int(set, "/spec/minReadySeconds", 0);
        if min_ready > 0 && pods.iter().any(|p| ready(p) && !available(p, min_ready)) {
            wake = Some(Duration::from_secs(1));
        }
        Ok(wake)
    }

    /// Makes the claims of an ordinal, then its Pod.
    async fn create(
        &self,
        world: &World,
        set: &Value,
        ordinal: i64,
        revision: &Value,
        pods: &mut Vec<Arc<Value>>,
    ) -> Result<bool, WorldError> {
        for claim in identity::claims(set, ordinal) {
            let name = meta(&claim, "name");
            if world.get(CLAIMS, meta(set, "namespace"), name).is_some() {
                continue;
            }
            match world.create(CLAIMS, &claim).await {
                Ok(_) => {
                    let message = format!(
                        "create Claim {name} Pod {}-{ordinal} in StatefulSet {} success",
                        meta(set, "name"),
                        meta(set, "name")
                    );
                    world
                        .event(SOURCE, set, false, "SuccessfulCreate", &message)
                        .await;
                }
                Err(e) if e.code() == 409 => {}
                Err(e) => {
                    let message = format!(
                        "create Claim {name} for Pod {}-{ordinal} in StatefulSet {} failed error: {}",
                        meta(set, "name"),
                        meta(set, "name"),
                        e.message()
                    );
                    world.event(SOURCE, set, true, "FailedCreate", &message).await;
                    return Ok(false);
                }
            }
        }
        let pod = identity::pod(set, ordinal, revision);
        Ok(create_pods(world, SOURCE, set, &[pod], pods).await.is_ok())
    }

    /// Gives claims the owners that the retention policy asks for.
    async fn keep_claims(&self, world: &World, set: &Value, pods: &[Arc<Value>]) -> Result<(), WorldError> {
        let wanted = ordinals(set);
        for pod in pods {
            let Some(n) = identity::ordinal(set, pod) else {
                continue;
            };
            for claim in identity::claims(set, n) {
                let Some(claim) = world.get(CLAIMS, meta(set, "namespace"), meta(&claim, "name")) else {
                    continue;
                };
                let owners = identity::claim_owners(set, &claim, Some(pod.as_ref()), !wanted.contains(&n));
                if owners != items(&claim, "/metadata/ownerReferences") {
                    let mut next = (*claim).clone();
                    next["metadata"]["ownerReferences"] = json!(owners);
                    settled(world.update(CLAIMS, &claim, &next).await)?;
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Reconciler for StatefulSets {
    fn name(&self) -> &'static str {
        "statefulset"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[SETS, PODS, CLAIMS, "controllerrevisions.apps"]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut sweep = Sweep::default();
        for set in world.all(SETS) {
            sweep.note(self.one(world, &set).await);
        }
        sweep.outcome()
    }
}
