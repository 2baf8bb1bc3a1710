//! ControllerRevisions: the history of a DaemonSet's or StatefulSet's Pod template.
//!
//! A template is kept as the patch that would restore it; equal templates share one revision, and a template that
//! comes back (a rollback) gets a new, highest number on its old object.

use crate::claim::claim_kind;
use crate::obj::{deleting, digest, int, items, label, meta, owner_ref};
use crate::world::{World, WorldError, settled};
use kinds::selector::LabelSelector;
use serde_json::{Value, json};
use std::sync::Arc;

const REVISIONS: &str = "controllerrevisions.apps";
/// The label that ties a Pod to the template it was made from.
pub(crate) const HASH: &str = "controller-revision-hash";

/// The label that names a revision by its hash, as upstream has it for each kind of owner
/// (pkg/controller/history/controller_history.go, pkg/controller/daemon/update.go).
fn name_label(owner: &Value) -> &'static str {
    match owner["kind"].as_str() {
        Some("StatefulSet") => "controller.kubernetes.io/hash",
        _ => HASH,
    }
}

/// What a revision stores of its owner: enough to put the template back by a patch.
fn data(owner: &Value) -> Value {
    let mut template = owner["spec"]["template"].clone();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The revisions of an owner, oldest first. Those of an owner that went without them (`--cascade=orphan`) belong to whoever
/// takes over its Pods, which would be replaced otherwise.
pub(crate) async fn history(
    world: &World,
    owner: &Value,
    selector: &LabelSelector,
) -> Result<Vec<Arc<Value>>, WorldError> {
    let mut all = claim_kind(world, REVISIONS, owner, selector).await?;
    all.retain(|r| !deleting(r));
    all.sort_by_key(|r| (int(r, "/revision", 0), meta(r, "creationTimestamp").to_string()));
    Ok(all)
}

/// The revision of the owner's present template, made or renumbered when need be. Appended to `history` when new.
pub(crate) async fn current(
    world: &World,
    owner: &Value,
    history: &mut Vec<Arc<Value>>,
) -> Result<Option<Arc<Value>>, WorldError> {
    let data = data(owner);
    let next = history.iter().map(|r| int(r, "/revision", 0)).max().unwrap_or(0) + 1;
    if let Some(at) = history.iter().rposition(|r| r["data"] == data) {
        let same = history[at].clone();
        let mut patch = json!({});
        if at + 1 < history.len() {
            patch["revision"] = json!(next);
        }
        // One that somebody else has made is known by its name (upstream: `constructHistory`).
        if name_label(owner) == HASH && label(&same, HASH).is_empty() {
            patch["metadata"]["labels"] = json!({HASH: meta(&same, "name")});
        }
        if patch == json!({}) {
            return Ok(Some(same));
        }
        let patched = settled(world.patch(REVISIONS, &same, "", &patch).await)?;
        return Ok(Some(patched.map_or(same, Arc::new)));
    }
    // A name taken by something else (a collision of hashes) leads to the next name.
    for collision in int(owner, "/status/collisionCount", 0).. {
        let hash = digest(&format!("{}{collision}", data["spec"]["template"]), 10);
        let mut labels = owner["spec"]["template"]["metadata"]["labels"].clone();
        labels[name_label(owner)] = json!(hash);
        let mut new = json!({
            "apiVersion": "apps/v1", "kind": "ControllerRevision",
            "metadata": {"name": format!("{}-{hash}", meta(owner, "name")), "namespace": meta(owner, "namespace"),
                "labels": labels, "ownerReferences": [owner_ref(owner)]},
            "data": data, "revision": next,
        });
        // Among them is why the template was changed, which `kubectl rollout history` shows.
        if let Some(annotations) = owner.pointer("/metadata/annotations") {
            new["metadata"]["annotations"] = annotations.clone();
        }
        match world.create(REVISIONS, &new).await {
            Ok(made) => {
                let made = Arc::new(made);
                history.push(made.clone());
                return Ok(Some(made));
            }
            Err(e) if e.code() == 409 && collision < 10 => {}
            Err(e) => return Err(e),
        }
    }
    Ok(None)
}

/// Pods of other revisions with the same template as `now` are its own: they need no replacement. Those revisions go at the
/// next change of their owner, as upstream, which does not look when a revision appears (`dedupCurHistories`).
pub(crate) async fn merge_equals(
    world: &World,
    owner: &Value,
    history: &mut Vec<Arc<Value>>,
    now: &Value,
    pods: &mut [Arc<Value>],
) -> Result<(), WorldError> {
    let same = |r: &&Arc<Value>| r["data"] == now["data"] && meta(r, "uid") != meta(now, "uid");
    let doubles: Vec<_> = history.iter().filter(same).cloned().collect();
    let changed = owner["metadata"]["generation"] != owner["status"]["observedGeneration"];
    for double in doubles {
        for pod in pods.iter_mut().filter(|p| hash_of(p) == label(&double, HASH)) {
            let patch = json!({"metadata": {"labels": {HASH: label(now, HASH)}}});
            settled(world.patch("pods", pod, "", &patch).await)?;
            if let Some(relabelled) = world.get("pods", meta(pod, "namespace"), meta(pod, "name")) {
                *pod = relabelled;
            }
        }
        if changed {
            settled(world.delete(REVISIONS, &double, "Background").await)?;
            history.retain(|r| meta(r, "uid") != meta(&double, "uid"));
        }
    }
    Ok(())
}

/// Removes the oldest revisions beyond `spec.revisionHistoryLimit` that no Pod and no status field uses.
pub(crate) async fn prune(
    world: &World,
    owner: &Value,
    history: &[Arc<Value>],
    pods: &[Arc<Value>],
    keep: &[&str],
) -> Result<(), WorldError> {
    let limit = usize::try_from(int(owner, "/spec/revisionHistoryLimit", 10)).unwrap_or(10);
    let used = |r: &Value| {
        keep.contains(&meta(r, "name"))
            || pods
                .iter()
                .any(|p| hash_of(p) == label(r, name_label(owner)) || hash_of(p) == meta(r, "name"))
    };
    let idle: Vec<_> = history.iter().filter(|r| !used(r)).collect();
    for old in idle.iter().take(idle.len().saturating_sub(limit)) {
        settled(world.delete(REVISIONS, old, "Background").await)?;
    }
    Ok(())
}

/// The revision hash a Pod carries.
pub(crate) fn hash_of(pod: &Value) -> &str {
    label(pod, HASH)
}

/// The owner's object as it was at a revision: its Pod template replaced.
pub(crate) fn template_at(owner: &Value, revision: &Value) -> Value {
    let mut template = revision["data"]["spec"]["template"].clone();
    if let Some(map) = template.as_object_mut() {
        map.remove("$patch");
    }
    let mut then = owner.clone();
    if items(&template, "/spec/containers").is_empty() {
        return then;
    }
    then["spec"]["template"] = template;
    then
}
