//! Volumes in the plan: which nodes reach the volumes of a Pod, and what has to happen to its unbound claims before it
//! can be bound (upstream: plugins VolumeBinding and VolumeRestrictions).
//!
//! A claim of a class that waits for its first consumer gets a free volume that the node reaches, or the node's name:
//! whoever provisions for that node makes a volume then. The Pod is bound in the round that finds all claims bound.

use crate::filter::Host;
use controllers::obj::{annotation, deleting, items, meta, text};
use controllers::storage::matching::{class_of, find, reaches, reserved};
use controllers::storage::{SELECTED_NODE, claim_name, origin};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A bound volume is out of the node's reach.
pub(crate) const OUT_OF_REACH: &str = "node(s) didn't match PersistentVolume's node affinity";
/// No free volume, and none can be made for this node.
pub(crate) const NONE_TO_BIND: &str = "node(s) didn't find available persistent volumes to bind";
/// A claim's volume does not exist.
pub(crate) const NO_VOLUME: &str =
    "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
const ONE_POD: &str =
    "node has pod using PersistentVolumeClaim with the same name and ReadWriteOncePod access mode";

/// All claims, volumes and classes.
#[derive(Debug, Default, Clone)]
pub struct Storage {
    claims: HashMap<(String, String), Arc<Value>>,
    volumes: Vec<Arc<Value>>,
    classes: Vec<Arc<Value>>,
}

/// What an unbound claim needs.
#[derive(Debug, Clone, PartialEq)]
pub enum Need {
    /// This volume is to be reserved for it.
    Reserve(Arc<Value>, Arc<Value>),
    /// This node is to be named in it.
    Select(Arc<Value>, String),
}

impl Storage {
    /// Of these objects.
    pub fn new(claims: Vec<Arc<Value>>, volumes: Vec<Arc<Value>>, classes: Vec<Arc<Value>>) -> Storage {
        let key = |c: &Value| (meta(c, "namespace").to_string(), meta(c, "name").to_string());
        Storage {
            claims: claims.into_iter().map(|c| (key(&c), c)).collect(),
            volumes,
            classes,
        }
    }

    fn claims_of(&self, pod: &Value) -> impl Iterator<Item = (String, Option<&Arc<Value>>)> {
        let namespace = meta(pod, "namespace").to_string();
        let names = items(pod, "/spec/volumes")
            .iter()
            .filter_map(|v| claim_name(pod, v))
            .collect::<Vec<_>>();
        names.into_iter().map(move |name| {
            let claim = self.claims.get(&(namespace.clone(), name.clone()));
            (name, claim)
        })
    }

    fn class(&self, claim: &Value) -> Option<&Arc<Value>> {
        self.classes.iter().find(|c| meta(c, "name") == class_of(claim))
    }

    fn delayed(&self, claim: &Value) -> bool {
        self.class(claim)
            .is_some_and(|c| text(c, "/volumeBindingMode") == "WaitForFirstConsumer")
    }

    /// Why no node at all will do for the Pod.
    pub fn problem(&self, pod: &Value) -> Option<String> {
        for (name, claim) in self.claims_of(pod) {
            let Some(claim) = claim else {
                let own = items(pod, "/spec/volumes")
                    .iter()
                    .any(|v| v["persistentVolumeClaim"]["claimName"] == name.as_str());
                return Some(match own {
                    true => format!("persistentvolumeclaim \"{name}\" not found"),
                    false => format!(
                        "waiting for ephemeral volume controller to create the persistentvolumeclaim \"{name}\""
                    ),
                });
            };
            if text(claim, "/status/phase") == "Lost" {
                let volume = text(claim, "/spec/volumeName");
                return Some(format!(
                    "persistentvolumeclaim \"{name}\" bound to non-existent persistentvolume \"{volume}\""
                ));
            }
            if deleting(claim) {
                return Some(format!("persistentvolumeclaim \"{name}\" is being deleted"));
            }
            if !bound(claim) && !self.delayed(claim) {
                return Some("pod has unbound immediate PersistentVolumeClaims".into());
            }
        }
        None
    }

    /// Why this node will not do; volumes in `taken` are promised to others.
    pub(crate) fn refusal(&self, pod: &Value, host: &Host, taken: &HashSet<String>) -> Option<&'static str> {
        for (name, claim) in self.claims_of(pod) {
            let Some(claim) = claim else { continue };
            if items(claim, "/spec/accessModes")
                .iter()
                .any(|m| m == "ReadWriteOncePod")
                && host
                    .pods
                    .iter()
                    .any(|other| uses(other, meta(pod, "namespace"), &name))
            {
                return Some(ONE_POD);
            }
            if bound(claim) {
                let named = text(claim, "/spec/volumeName");
                match self.volumes.iter().find(|v| meta(v, "name") == named) {
                    None => return Some(NO_VOLUME),
                    Some(volume) if !reaches(volume, &host.node) => return Some(OUT_OF_REACH),
                    Some(_) => continue,
                }
            }
            if self.choose(claim, host, taken).is_none() {
                return Some(NONE_TO_BIND);
            }
        }
        None
    }

    /// How an unbound claim could be served on a node: a volume, or (`None` inside) by provisioning.
    fn choose(&self, claim: &Value, host: &Host, taken: &HashSet<String>) -> Option<Option<Arc<Value>>> {
        let selected = annotation(claim, SELECTED_NODE);
        if !selected.is_empty() {
            return (selected == meta(&host.node, "name")).then_some(None);
        }
        // Data are copied where they are.
        if let Some(node) = origin(claim)
            && node != meta(&host.node, "name")
        {
            return None;
        }
        let free: Vec<Arc<Value>> = self
            .volumes
            .iter()
            .filter(|v| reserved(v) || !taken.contains(meta(v, "name")))
            .cloned()
            .collect();
        if let Some(volume) = find(claim, &free, Some(&host.node), true) {
            return Some(Some(volume.clone()));
        }
        let class = self.class(claim)?;
        let allowed = items(class, "/allowedTopologies");
        let here = allowed.is_empty()
            || allowed.iter().any(|term| {
                items(term, "/matchLabelExpressions").iter().all(|e| {
                    let value = host.domain(text(e, "/key"));
                    value.is_some_and(|value| items(e, "/values").iter().any(|v| v == value))
                })
            });
        (here && text(class, "/provisioner") != "kubernetes.io/no-provisioner").then_some(None)
    }

    /// What the unbound claims of a Pod need on its node; `None` when all are bound. Promised volumes go into `taken`.
    pub(crate) fn needs(&self, pod: &Value, host: &Host, taken: &mut HashSet<String>) -> Option<Vec<Need>> {
        let mut needs = Vec::new();
        let mut waits = false;
        for (_, claim) in self.claims_of(pod) {
            let Some(claim) = claim.filter(|c| !bound(c)) else {
                continue;
            };
            waits = true;
            match self.choose(claim, host, taken) {
                Some(Some(volume)) if !reserved(&volume) => {
                    taken.insert(meta(&volume, "name").to_string());
                    needs.push(Need::Reserve(claim.clone(), volume));
                }
                Some(None) if annotation(claim, SELECTED_NODE).is_empty() => {
                    needs.push(Need::Select(claim.clone(), meta(&host.node, "name").to_string()));
                }
                _ => {}
            }
        }
        waits.then_some(needs)
    }
}

/// The binding of the claim is complete.
fn bound(claim: &Value) -> bool {
    !text(claim, "/spec/volumeName").is_empty()
        && !annotation(claim, "pv.kubernetes.io/bind-completed").is_empty()
}

fn uses(pod: &Value, namespace: &str, claim: &str) -> bool {
    meta(pod, "namespace") == namespace
        && items(pod, "/spec/volumes")
            .iter()
            .any(|v| claim_name(pod, v).is_some_and(|name| name == claim))
}

#[cfg(test)]
mod tests {
    //! Where Pods with claims go, and what happens to the claims.

    use crate::plan::{Outcome, Snapshot, plan};

    use super::*;
    use serde_json::json;

    fn node(name: &str) -> Arc<Value> {
        Arc::new(json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
            "status": {"allocatable": {"cpu": "8", "memory": "8Gi", "pods": "10"}},
        }))
    }

    fn pod(name: &str) -> Arc<Value> {
        Arc::new(json!({
            "metadata": {"name": name, "namespace": "a", "uid": name},
            "spec": {"containers": [{"name": "c"}],
                "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]},
        }))
    }

    fn claim(class: &str, volume: &str, selected: &str) -> Value {
        let mut claim = json!({
            "metadata": {"name": "x", "namespace": "a", "uid": "x", "annotations": {}},
            "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}}},
        });
        if !volume.is_empty() {
            claim["spec"]["volumeName"] = json!(volume);
            claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
        }
        if !selected.is_empty() {
            claim["metadata"]["annotations"][SELECTED_NODE] = json!(selected);
        }
        claim
    }

    fn volume(name: &str, host: &str) -> Arc<Value> {
        Arc::new(json!({
            "metadata": {"name": name}, "status": {"phase": "Available"},
            "spec": {"storageClassName": "later", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
                "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                    {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}}},
        }))
    }

    fn class(name: &str, mode: &str, provisioner: &str) -> Arc<Value> {
        Arc::new(json!({"metadata": {"name": name}, "volumeBindingMode": mode, "provisioner": provisioner}))
    }

    fn check(what: &str, claims: Vec<Value>, volumes: Vec<Arc<Value>>, expected: &str) {
        let classes = vec![
            class("later", "WaitForFirstConsumer", "datastore.podvisor.io"),
            class("none", "WaitForFirstConsumer", "kubernetes.io/no-provisioner"),
            class("now", "Immediate", "datastore.podvisor.io"),
        ];
        let claims = claims.into_iter().map(Arc::new).collect();
        let snapshot = Snapshot {
            nodes: vec![node("m"), node("n")],
            pods: vec![pod("p")],
            storage: Storage::new(claims, volumes, classes),
        };
        let said: Vec<String> = plan(&snapshot)
            .into_iter()
            .map(|(_, outcome)| match outcome {
                Outcome::Place(node) => format!("-> {node}"),
                Outcome::Volumes { node, needs } => {
                    let needs = needs.iter().map(|need| match need {
                        Need::Reserve(_, volume) => format!("reserve {}", meta(volume, "name")),
                        Need::Select(_, node) => format!("select {node}"),
                    });
                    format!("{node}: {}", needs.collect::<Vec<_>>().join(", "))
                }
                Outcome::Wait(why) => why
                    .split(". no new claims")
                    .next()
                    .unwrap_or_default()
                    .to_string(),
                Outcome::Preempt { .. } => "preempts".into(),
            })
            .collect();
        assert_eq!(said, [expected], "{what}");
    }

    #[test]
    fn claims_decide() {
        let of = |claim: Value| vec![claim];
        check(
            "no claim",
            vec![],
            vec![],
            "0/2 nodes are available: persistentvolumeclaim \"x\" not found",
        );
        check("first Pod", of(claim("later", "", "")), vec![], "m: select m");
        check("chosen", of(claim("later", "", "n")), vec![], "n: ");
        check(
            "bound",
            of(claim("later", "v", "n")),
            vec![volume("v", "n")],
            "-> n",
        );
        check(
            "free volume",
            of(claim("later", "", "")),
            vec![volume("v", "n")],
            "m: select m",
        );
        check(
            "cannot be made",
            of(claim("none", "", "")),
            vec![volume("v", "n")],
            "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind",
        );
        check(
            "immediate",
            of(claim("now", "", "")),
            vec![],
            "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims",
        );
        check(
            "elsewhere",
            of(claim("later", "v", "")),
            vec![volume("v", "k")],
            "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity",
        );
        check(
            "volume gone",
            of(claim("later", "v", "")),
            vec![],
            "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
        );
        let mut free = (*volume("v", "n")).clone();
        free["spec"]["storageClassName"] = json!("none");
        check(
            "only where a free one is",
            of(claim("none", "", "")),
            vec![Arc::new(free)],
            "n: reserve v",
        );
    }
}
