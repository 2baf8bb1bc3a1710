//! Which Pods, ReplicaSets and revisions belong to a controller: those it controls, strays that match its selector (adopted),
//! and those that no longer match (set free). The same rule for every workload, as upstream's `PodControllerRefManager`.

use crate::obj::{active, controlled_by, controller_of, deleting, items, meta, owner_ref};
use crate::world::{World, WorldError, settled};
use cache::Uid;
use kinds::selector::LabelSelector;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const PODS: &str = "pods";

/// The Pods of `owner`, ended and deleting ones included. Adopts strays and frees those that do not match any more;
/// an owner that is being deleted takes and frees nothing.
pub(crate) async fn claim(
    world: &World,
    owner: &Value,
    selector: &LabelSelector,
) -> Result<Vec<Arc<Value>>, WorldError> {
    claim_members(world, owner, selector, |_| true).await
}

/// As `claim`, of an owner to whom not every Pod that its selector matches can belong.
pub(crate) async fn claim_members(
    world: &World,
    owner: &Value,
    selector: &LabelSelector,
    member: impl Fn(&Value) -> bool + Send,
) -> Result<Vec<Arc<Value>>, WorldError> {
    let uid = meta(owner, "uid");
    let mut mine = Vec::new();
    let candidates = world.claimable(PODS, meta(owner, "namespace"), Uid::of(uid), |pod| {
        selector.matches_with(|key| pod.label(key))
    });
    for pod in candidates {
        let owned = controlled_by(&pod, uid);
        let matches = selector.matches_object(&pod) && member(&pod);
        if owned && (matches || deleting(owner) || !active(&pod)) {
            mine.push(pod);
        } else if owned {
            settled(world.update(PODS, &pod, &set_free(&pod, uid)).await)?;
        } else if matches && controller_of(&pod).is_none() && active(&pod) && !deleting(owner) {
            mine.extend(adopt(world, PODS, pod, owner).await?);
        }
    }
    Ok(mine)
}

/// The objects of a kind that belong to `owner`, other than Pods: those that it controls and that match, and strays, which it
/// adopts; those that no longer match are set free.
pub(crate) async fn claim_kind(
    world: &World,
    key: &str,
    owner: &Value,
    selector: &LabelSelector,
) -> Result<Vec<Arc<Value>>, WorldError> {
    let uid = meta(owner, "uid");
    let mut mine = Vec::new();
    let candidates = world.claimable(key, meta(owner, "namespace"), Uid::of(uid), |object| {
        selector.matches_with(|key| object.label(key))
    });
    for object in candidates {
        let matches = selector.matches_object(&object);
        match controlled_by(&object, uid) {
            true if matches => mine.push(object),
            true if !deleting(owner) => {
                settled(world.update(key, &object, &set_free(&object, uid)).await)?;
            }
            false
                if matches && controller_of(&object).is_none() && !deleting(&object) && !deleting(owner) =>
            {
                mine.extend(adopt(world, key, object, owner).await?);
            }
            _ => {}
        }
    }
    Ok(mine)
}

/// Makes `owner` the controller of a stray: the object as it is then, unless it has gone or has another controller by now.
/// Whoever else changes it meanwhile, its host above all, is no hindrance: uncounted, another would be made beside it.
async fn adopt(
    world: &World,
    key: &str,
    stray: Arc<Value>,
    owner: &Value,
) -> Result<Option<Arc<Value>>, WorldError> {
    let more = json!({"metadata": {"ownerReferences": [owner_ref(owner)]}});
    match world.add(key, &stray, more).await {
        Ok(adopted) => Ok(Some(Arc::new(adopted))),
        Err(error) if matches!(error.code(), 404 | 409 | 422) => Ok(None),
        Err(error) => Err(error),
    }
}

/// The object without that owner.
fn set_free(object: &Value, uid: &str) -> Value {
    let mut owners = items(object, "/metadata/ownerReferences").to_vec();
    owners.retain(|o| o["uid"] != uid);
    with_owners(object, owners)
}

fn with_owners(object: &Value, owners: Vec<Value>) -> Value {
    let mut next = object.clone();
    next["metadata"]["ownerReferences"] = json!(owners);
    next
}

/// Deletes a Pod on behalf of `owner` and says so; the server's words when it refuses.
pub(crate) async fn remove_pod(
    world: &World,
    source: &str,
    owner: &Value,
    pod: &Value,
) -> Result<(), String> {
    match world.delete(PODS, pod, "Background").await {
        Ok(()) => {
            let message = format!("Deleted pod: {}", meta(pod, "name"));
            world
                .event(source, owner, false, "SuccessfulDelete", &message)
                .await;
            Ok(())
        }
        Err(e) => {
            let message = format!("Error deleting: {}", e.message());
            world.event(source, owner, true, "FailedDelete", &message).await;
            Err(e.message())
        }
    }
}

/// Makes Pods, 1, 2, 4, … at a time, so that a refusal (a full quota) costs one request. Made Pods are appended to
/// `made`; the server's words when it refuses.
pub(crate) async fn create_pods(
    world: &World,
    source: &str,
    owner: &Value,
    pods: &[Value],
    made: &mut Vec<Arc<Value>>,
) -> Result<(), String> {
    let (mut rest, mut batch) = (pods, 1);
    while !rest.is_empty() {
        let (now, later) = rest.split_at(batch.min(rest.len()));
        let mut refused = None;
        for result in futures::future::join_all(now.iter().map(|pod| world.create(PODS, pod))).await {
            match result {
                Ok(pod) => {
                    let message = format!("Created pod: {}", meta(&pod, "name"));
                    world
                        .event(source, owner, false, "SuccessfulCreate", &message)
                        .await;
                    made.push(Arc::new(pod));
                }
                // Nothing is made in a namespace that goes, and everybody knows it.
                Err(e) if e.names("NamespaceTerminating") => return Ok(()),
                Err(e) => refused = Some(e.message()),
            }
        }
        if let Some(message) = refused {
            let words = format!("Error creating: {message}");
            world.event(source, owner, true, "FailedCreate", &words).await;
            return Err(message);
        }
        (rest, batch) = (later, batch * 2);
    }
    Ok(())
}

/// The earliest of the times that the objects of a sweep ask for; an error of one does not keep the others waiting.
#[derive(Default)]
pub(crate) struct Sweep {
    soonest: Option<Duration>,
    failed: Option<WorldError>,
}

impl Sweep {
    /// Takes note of how one object went.
    pub(crate) fn note(&mut self, result: Result<Option<Duration>, WorldError>) {
        match result {
            Ok(Some(wake)) => self.soonest = Some(self.soonest.map_or(wake, |s| s.min(wake))),
            Ok(None) => {}
            Err(e) => self.failed = Some(e),
        }
    }

    /// The outcome of the whole sweep.
    pub(crate) fn outcome(self) -> Result<Option<Duration>, WorldError> {
        self.failed.map_or(Ok(self.soonest), Err)
    }
}
