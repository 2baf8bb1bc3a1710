//! Which volume fits a claim: pure, used by the binder and by the scheduler.

use super::BOUND_BY_CONTROLLER;
use crate::obj::{annotation, deleting, items, meta, text};
use kinds::placement;
use kinds::quantity::Quantity;
use kinds::selector::LabelSelector;
use serde_json::{Value, json};
use std::sync::Arc;

const OLD_CLASS: &str = "volume.beta.kubernetes.io/storage-class";

/// The class of a volume or a claim; the beta annotation still counts.
pub fn class_of(object: &Value) -> &str {
    match annotation(object, OLD_CLASS) {
        "" => text(object, "/spec/storageClassName"),
        old => old,
    }
}

/// `Filesystem` or `Block`.
pub fn mode_of(object: &Value) -> &str {
    match text(object, "/spec/volumeMode") {
        "" => "Filesystem",
        mode => mode,
    }
}

/// The size that a claim asks for.
pub fn wanted_size(claim: &Value) -> Option<Quantity> {
    Quantity::from_json(&claim["spec"]["resources"]["requests"]["storage"]).ok()
}

fn capacity(volume: &Value) -> Option<Quantity> {
    Quantity::from_json(&volume["spec"]["capacity"]["storage"]).ok()
}

fn big_enough(volume: &Value, claim: &Value) -> bool {
    match (capacity(volume), wanted_size(claim)) {
        (Some(has), Some(wants)) => has >= wants,
        (_, None) => true,
        (None, _) => false,
    }
}

fn modes_fit(volume: &Value, claim: &Value) -> bool {
    let offered = items(volume, "/spec/accessModes");
    items(claim, "/spec/accessModes")
        .iter()
        .all(|m| offered.contains(m))
}

/// Whether a volume's `claimRef` means this claim.
pub fn refers_to(volume: &Value, claim: &Value) -> bool {
    let reference = &volume["spec"]["claimRef"];
    let uid = reference["uid"].as_str().unwrap_or_default();
    reference["name"] == meta(claim, "name")
        && reference["namespace"] == meta(claim, "namespace")
        && (uid.is_empty() || uid == meta(claim, "uid"))
}

/// Whether a volume is reserved for somebody.
pub fn reserved(volume: &Value) -> bool {
    !text(volume, "/spec/claimRef/name").is_empty()
}

/// The volume reserved for a claim: the first half of a binding.
pub fn reserve(volume: &Value, claim: &Value) -> Value {
    let mut next = volume.clone();
    if !refers_to(volume, claim) || !reserved(volume) {
        next["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
    }
    next["spec"]["claimRef"] = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": meta(claim, "name"),
        "namespace": meta(claim, "namespace"), "uid": meta(claim, "uid"),
        "resourceVersion": meta(claim, "resourceVersion"),
    });
    next
}

/// Why a claim cannot have the volume that it names (upstream: `checkVolumeSatisfyClaim`).
pub fn mismatch(volume: &Value, claim: &Value) -> Option<&'static str> {
    if !big_enough(volume, claim) {
        Some("requested PV is too small")
    } else if class_of(volume) != class_of(claim) {
        Some("storageClassName does not match")
    } else if mode_of(volume) != mode_of(claim) {
        Some("incompatible volumeMode")
    } else if !modes_fit(volume, claim) {
        Some("incompatible accessMode")
    } else {
        None
    }
}

/// Whether the node can use the volume.
pub fn reaches(volume: &Value, node: &Value) -> bool {
    let terms = items(volume, "/spec/nodeAffinity/required/nodeSelectorTerms");
    volume["spec"]["nodeAffinity"]["required"].is_null() || terms.iter().any(|t| placement::term(t, node))
}

/// The smallest volume that a claim can be bound to; one that is reserved for it comes first. With a node, only those
/// that it reaches. `delayed` finds only reserved ones: the rest is the scheduler's choice.
pub fn find<'a>(
    claim: &Value,
    volumes: &'a [Arc<Value>],
    node: Option<&Value>,
    delayed: bool,
) -> Option<&'a Arc<Value>> {
    let selector = &claim["spec"]["selector"];
    let selector = match selector.is_null() {
        true => None,
        false => Some(LabelSelector::from_json(selector).ok()?),
    };
    let mut best: Option<(&Arc<Value>, Quantity)> = None;
    for volume in volumes {
        if deleting(volume) || mode_of(volume) != mode_of(claim) || !big_enough(volume, claim) {
            continue;
        }
        let near = node.is_none_or(|node| reaches(volume, node));
        if reserved(volume) {
            if near && refers_to(volume, claim) {
                return Some(volume);
            }
            continue;
        }
        let fits = near
            && !(delayed && node.is_none())
            && text(volume, "/status/phase") == "Available"
            && class_of(volume) == class_of(claim)
            && modes_fit(volume, claim)
            && selector.as_ref().is_none_or(|s| s.matches_object(volume));
        let Some(size) = capacity(volume).filter(|_| fits) else {
            continue;
        };
        if best.as_ref().is_none_or(|(_, least)| size < *least) {
            best = Some((volume, size));
        }
    }
    best.map(|(volume, _)| volume)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, size: &str, more: Value) -> Arc<Value> {
        let mut volume = json!({
            "metadata": {"name": name, "labels": {"disk": name}},
            "spec": {"capacity": {"storage": size}, "accessModes": ["ReadWriteOnce"], "storageClassName": "c"},
            "status": {"phase": "Available"},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            volume["spec"][key] = value.clone();
        }
        Arc::new(volume)
    }

    fn claim(more: Value) -> Value {
        let mut claim = json!({
            "metadata": {"name": "x", "namespace": "n", "uid": "u"},
            "spec": {"resources": {"requests": {"storage": "2Gi"}}, "accessModes": ["ReadWriteOnce"],
                "storageClassName": "c"},
        });
        for (key, value) in more.as_object().into_iter().flatten() {
            claim["spec"][key] = value.clone();
        }
        claim
    }

    #[test]
    fn the_smallest_that_fits() {
        let node = json!({"metadata": {"name": "h1", "labels": {"kubernetes.io/hostname": "h1"}}});
        let on = |host: &str| {
            json!({"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}}})
        };
        let volumes = [
            volume("small", "1Gi", json!({})),
            volume("large", "9Gi", json!({})),
            volume("right", "3Gi", json!({})),
            volume("block", "2Gi", json!({"volumeMode": "Block"})),
            volume("other", "2Gi", json!({"storageClassName": "d"})),
            volume(
                "taken",
                "2Gi",
                json!({"claimRef": {"name": "y", "namespace": "n"}}),
            ),
            volume("far", "2Gi", on("h2")),
            volume(
                "many",
                "7Gi",
                json!({"accessModes": ["ReadWriteOnce", "ReadWriteMany"]}),
            ),
        ];
        let cases = [
            ("by size, anywhere", json!({}), None, false, Some("far")),
            ("by size, near", json!({}), Some(&node), false, Some("right")),
            ("delayed, no node", json!({}), None, true, None),
            ("delayed, with node", json!({}), Some(&node), true, Some("right")),
            (
                "block",
                json!({"volumeMode": "Block"}),
                None,
                false,
                Some("block"),
            ),
            (
                "another class",
                json!({"storageClassName": "d"}),
                None,
                false,
                Some("other"),
            ),
            (
                "more modes",
                json!({"accessModes": ["ReadWriteMany"]}),
                None,
                false,
                Some("many"),
            ),
            (
                "by label",
                json!({"selector": {"matchLabels": {"disk": "large"}}}),
                None,
                false,
                Some("large"),
            ),
            (
                "too much",
                json!({"resources": {"requests": {"storage": "10Gi"}}}),
                None,
                false,
                None,
            ),
        ];
        for (what, more, node, delayed, expected) in cases {
            let found = find(&claim(more), &volumes, node, delayed).map(|v| meta(v, "name"));
            assert_eq!(found, expected, "{what}");
        }
        let mut reserved = volumes.to_vec();
        reserved.push(volume(
            "mine",
            "5Gi",
            json!({"claimRef": {"name": "x", "namespace": "n", "uid": "u"}}),
        ));
        reserved.push(volume(
            "former",
            "2Gi",
            json!({"claimRef": {"name": "x", "namespace": "n", "uid": "old"}}),
        ));
        let found = find(&claim(json!({})), &reserved, None, true).map(|v| meta(v, "name"));
        assert_eq!(found, Some("mine"), "reserved for it");
    }

    #[test]
    fn why_not() {
        let cases = [
            (json!({}), None),
            (
                json!({"capacity": {"storage": "1Gi"}}),
                Some("requested PV is too small"),
            ),
            (
                json!({"storageClassName": "d"}),
                Some("storageClassName does not match"),
            ),
            (json!({"volumeMode": "Block"}), Some("incompatible volumeMode")),
            (
                json!({"accessModes": ["ReadOnlyMany"]}),
                Some("incompatible accessMode"),
            ),
        ];
        for (more, expected) in cases {
            assert_eq!(
                mismatch(&volume("v", "2Gi", more.clone()), &claim(json!({}))),
                expected,
                "{more}"
            );
        }
    }
}
