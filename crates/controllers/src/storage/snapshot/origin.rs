//! Where the data are that a claim is to be filled with: `dataSource` and `dataSourceRef` of kinds VolumeSnapshot and
//! PersistentVolumeClaim. A volume of the datastore is copied on its host, so the claim's Pod goes there.

use super::{CONTENTS, GROUP, NODE, SNAPSHOTS, home};
use crate::obj::{annotation, meta, text};
use crate::storage::{CLAIMS, VOLUMES};
use crate::world::{World, WorldError, settled};
use serde_json::{Value, json};

/// A source: kind and name.
fn source(claim: &Value) -> Option<(&str, &str)> {
    let spec = &claim["spec"];
    let source = match spec["dataSourceRef"].is_object() {
        true => &spec["dataSourceRef"],
        false => &spec["dataSource"],
    };
    let kind = (text(source, "/apiGroup"), text(source, "/kind"));
    let known = matches!(kind, ("", "PersistentVolumeClaim") | (GROUP, "VolumeSnapshot"));
    known.then(|| (kind.1, text(source, "/name")))
}

/// The node that holds the data of a claim that is to be filled: `None` for one that starts empty (or that somebody
/// else fills), an empty name while it is not known.
pub fn origin(claim: &Value) -> Option<&str> {
    source(claim).map(|_| annotation(claim, NODE))
}

/// Whether a claim still waits for the data of a snapshot.
pub(super) fn is_filled_from(claim: &Value, snapshot: &str) -> bool {
    source(claim) == Some(("VolumeSnapshot", snapshot)) && text(claim, "/status/phase") == "Pending"
}

fn node(world: &World, claim: &Value) -> Option<String> {
    let (kind, name) = source(claim)?;
    let namespace = meta(claim, "namespace");
    if kind == "PersistentVolumeClaim" {
        let from = world.get(CLAIMS, namespace, name)?;
        let volume = world.get(VOLUMES, "", text(&from, "/spec/volumeName"))?;
        return Some(home(&volume).to_string());
    }
    let snapshot = world.get(SNAPSHOTS, namespace, name)?;
    let bound = text(&snapshot, "/status/boundVolumeSnapshotContentName");
    let content = world.get(CONTENTS, "", bound)?;
    let ready = snapshot["status"]["readyToUse"] == true;
    ready.then(|| annotation(&content, NODE).to_string())
}

/// Writes into all unbound claims where their data are, as soon as it is known.
pub(super) async fn note(world: &World) -> Result<(), WorldError> {
    for claim in world.all(CLAIMS) {
        let waits = text(&claim, "/spec/volumeName").is_empty() && origin(&claim) == Some("");
        let Some(node) = waits.then(|| node(world, &claim)).flatten() else {
            continue;
        };
        if node.is_empty() {
            continue;
        }
        let mut next = (*claim).clone();
        next["metadata"]["annotations"][NODE] = json!(node);
        settled(world.update(CLAIMS, &claim, &next).await)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins() {
        let claim =
            |spec: Value, node: &str| json!({"metadata": {"annotations": {NODE: node}}, "spec": spec});
        let snapshot = json!({"apiGroup": GROUP, "kind": "VolumeSnapshot", "name": "s"});
        let other = json!({"apiGroup": "example.org", "kind": "Bucket", "name": "b"});
        let cases = [
            (json!({}), "", None),
            (json!({"dataSource": snapshot}), "", Some("")),
            (json!({"dataSourceRef": snapshot}), "h1", Some("h1")),
            (
                json!({"dataSource": {"kind": "PersistentVolumeClaim", "name": "c"}}),
                "h2",
                Some("h2"),
            ),
            (json!({"dataSourceRef": other}), "", None),
        ];
        for (spec, node, expected) in cases {
            assert_eq!(origin(&claim(spec.clone(), node)), expected, "{spec}");
        }
    }
}
