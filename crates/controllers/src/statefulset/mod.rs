//! StatefulSets: Pods with names and claims of their own, made and replaced in order.

mod claims;
mod identity;
mod plan;

use crate::claim::claim_members;
use crate::concern::{By, Concern};
use crate::manager::Reconciler;
use crate::obj::{available, deleting, finished, int, meta, ready, text, until_available};
use crate::revision;
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use claims::Verdict;
use kinds::selector::LabelSelector;
use plan::{Revisions, Step, ordinals};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const SETS: &str = "statefulsets.apps";
const PODS: &str = "pods";
const CLAIMS: &str = "persistentvolumeclaims";
const REVISIONS: &str = "controllerrevisions.apps";
const SOURCE: &str = "statefulset-controller";

/// What did not succeed is tried again after this time.
const RETRY: Duration = Duration::from_secs(5);

/// The controller of StatefulSets.
pub(crate) struct StatefulSets(Concern);

impl Default for StatefulSets {
    fn default() -> StatefulSets {
        let concern = Concern::new(
            SETS,
            &[
                (PODS, &[By::Owner, By::Labels]),
                (CLAIMS, &[By::Owner, By::Name(identity::sets_of_claim)]),
                (REVISIONS, &[By::Owner, By::Labels]),
            ],
        );
        StatefulSets(concern.selecting(|set| LabelSelector::from_json(&set["spec"]["selector"]).ok()))
    }
}

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
        let member = |pod: &Value| identity::ordinal(set, pod).is_some();
        let mut pods = claim_members(world, set, &selector, member).await?;
        pods.retain(|p| member(p));
        if deleting(set) {
            let revisions = Revisions {
                current: text(set, "/status/currentRevision"),
                update: text(set, "/status/updateRevision"),
            };
            settled(
                world
                    .update_status(SETS, set, &status(set, &pods, revisions))
                    .await,
            )?;
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
        let mut wake = None;
        for pod in &pods {
            if !self.mend(world, set, pod).await {
                wake = Some(RETRY);
            }
        }
        for step in plan::plan(set, &pods, revisions) {
            let done = match step {
                Step::Create(n, new) => {
                    let revision = if new { &update } else { &current };
                    let pod = identity::pod(set, n, revision);
                    self.create(world, set, pod, n, &mut pods).await
                }
                Step::Delete(pod) => self.delete(world, set, &pod, &mut pods).await,
            };
            if !done {
                wake = Some(RETRY);
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
        let available = until_available(pods.iter().map(|pod| &**pod), min_ready);
        Ok([wake, available].into_iter().flatten().min())
    }

    /// Makes the claims of an ordinal, then its Pod. False when that has to be tried again.
    async fn create(
        &self,
        world: &World,
        set: &Value,
        pod: Value,
        ordinal: i64,
        pods: &mut Vec<Arc<Value>>,
    ) -> bool {
        let claims = identity::claims(set, ordinal);
        let known = |claim: &Value| world.get(CLAIMS, meta(set, "namespace"), meta(claim, "name"));
        if claims
            .iter()
            .filter_map(known)
            .any(|claim| claims::going(set, &pod, &claim))
        {
            return false;
        }
        let made = match self.claims(world, set, &pod, &claims).await {
            Ok(()) => world
                .create(PODS, &pod)
                .await
                .map_err(|e| (e.code(), e.message())),
            Err(message) => Err((0, message)),
        };
        match made {
            // It is there already, which the next look will show.
            Err((409, _)) => false,
            made => {
                let result = made
                    .map(|pod| pods.push(Arc::new(pod)))
                    .map_err(|(_, message)| message);
                tell(world, set, "create", &pod, &result).await;
                result.is_ok()
            }
        }
    }

    /// Deletes a Pod, which stays among `pods` as long as it is there.
    async fn delete(&self, world: &World, set: &Value, pod: &Value, pods: &mut Vec<Arc<Value>>) -> bool {
        let result = match world.delete(PODS, pod, "Background").await {
            Err(e) if e.code() != 404 => Err(e.message()),
            _ => Ok(()),
        };
        tell(world, set, "delete", pod, &result).await;
        if let Some(left) = world.get(PODS, meta(pod, "namespace"), meta(pod, "name")) {
            pods.iter_mut()
                .filter(|p| meta(p, "uid") == meta(pod, "uid"))
                .for_each(|p| *p = left.clone());
        } else {
            pods.retain(|p| meta(p, "uid") != meta(pod, "uid"));
        }
        result.is_ok()
    }

    /// Makes those claims of a Pod that are missing; all of them must be there to stay.
    async fn claims(&self, world: &World, set: &Value, pod: &Value, claims: &[Value]) -> Result<(), String> {
        let mut problems = Vec::new();
        let place = format!("Pod {} in StatefulSet {}", meta(pod, "name"), meta(set, "name"));
        for claim in claims {
            let name = meta(claim, "name");
            match world.get(CLAIMS, meta(set, "namespace"), name) {
                Some(known) if deleting(&known) => problems.push(format!("pvc {name} is being deleted")),
                Some(known) if claims::conflicting(set, pod, &known) => conflict(world, set, name).await,
                Some(_) => {}
                None => match world.create(CLAIMS, &owned(set, pod, claim)).await {
                    Ok(_) => {
                        let message = format!("create Claim {name} {place} success");
                        world
                            .event(SOURCE, set, false, "SuccessfulCreate", &message)
                            .await;
                    }
                    Err(e) if e.code() == 409 => {}
                    Err(e) => {
                        let message =
                            format!("create Claim {name} for {place} failed error: {}", e.message());
                        world.event(SOURCE, set, true, "FailedCreate", &message).await;
                        problems.push(format!("failed to create PVC {name}: {}", e.message()));
                    }
                },
            }
        }
        match problems.as_slice() {
            [] => Ok(()),
            [one] => Err(one.clone()),
            several => Err(format!("[{}]", several.join(", "))),
        }
    }

    /// Gives a Pod what makes it the set's again: its labels, claims that are missing while it waits, and their owners. What
    /// one Pod lacks holds up no other. False when it has to be tried again.
    async fn mend(&self, world: &World, set: &Value, pod: &Value) -> bool {
        let Some(n) = identity::ordinal(set, pod) else {
            return true;
        };
        let wanted = ordinals(set).contains(&n);
        let claims = identity::claims(set, n);
        let mut complete = true;
        if wanted && text(pod, "/status/phase") == "Pending" {
            complete = self.claims(world, set, pod, &claims).await.is_ok();
        }
        let mut result = Ok(false);
        if let Some(patch) = identity::mending(pod, n).filter(|_| wanted && !deleting(pod)) {
            let mended = settled(world.patch(PODS, pod, "", &patch).await);
            result = mended.map(|_| true).map_err(|e| e.message());
        }
        for claim in &claims {
            let Some(claim) = world.get(CLAIMS, meta(set, "namespace"), meta(claim, "name")) else {
                continue;
            };
            let owners = match claims::judge(set, pod, &claim, !wanted) {
                Verdict::Right => continue,
                Verdict::Conflict(owners) => {
                    conflict(world, set, meta(&claim, "name")).await;
                    owners
                }
                Verdict::Wrong(owners) => owners,
            };
            let mut next = (*claim).clone();
            next["metadata"]["ownerReferences"] = json!(owners);
            match settled(world.update(CLAIMS, &claim, &next).await) {
                Ok(_) => result = result.map(|_| true),
                Err(e) => {
                    let name = meta(&claim, "name");
                    result = Err(format!(
                        "could not update claim {name} for delete policy ownerRefs: {}",
                        e.message()
                    ));
                }
            }
        }
        if result != Ok(false) {
            tell(world, set, "update", pod, &result).await;
        }
        complete && result.is_ok()
    }
}

/// A new claim with the owner that the policy gives it.
fn owned(set: &Value, pod: &Value, claim: &Value) -> Value {
    let mut new = claim.clone();
    if let Verdict::Wrong(owners) = claims::judge(set, pod, claim, false) {
        new["metadata"]["ownerReferences"] = json!(owners);
    }
    new
}

/// Says what was done with a Pod, or why it was not, in upstream's words (`recordPodEvent`).
async fn tell<T>(world: &World, set: &Value, verb: &str, pod: &Value, result: &Result<T, String>) {
    let what = format!(
        "{verb} Pod {} in StatefulSet {}",
        meta(pod, "name"),
        meta(set, "name")
    );
    let (reason, message) = match result {
        Ok(_) => ("Successful", format!("{what} successful")),
        Err(problem) => ("Failed", format!("{what} failed error: {problem}")),
    };
    let verb = match verb {
        "create" => "Create",
        "delete" => "Delete",
        _ => "Update",
    };
    let reason = format!("{reason}{verb}");
    world.event(SOURCE, set, result.is_err(), &reason, &message).await;
}

/// Says that a claim is somebody else's.
async fn conflict(world: &World, set: &Value, claim: &str) {
    // Upstream's words, its slip included.
    let message = format!(
        "PersistentVolumeClaim {claim} has a conflicting OwnerReference that acts as a manging controller, the retention policy is ignored for this claim"
    );
    world
        .event(SOURCE, set, true, "ConflictingController", &message)
        .await;
}

#[async_trait]
impl Reconciler for StatefulSets {
    fn name(&self) -> &'static str {
        "statefulset"
    }
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.0]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut round = self.0.begin(world);
        while let Some(set) = round.next(world) {
            round.note(self.one(world, &set).await);
        }
        round.end()
    }
}
