//! Volumes in the plan: which nodes reach the volumes of a Pod, and what has to happen to its unbound claims before it
//! can be bound (upstream: plugins VolumeBinding and VolumeRestrictions).
//!
//! A claim of a class that waits for its first consumer gets a free volume that the node reaches, or the node's name:
//! whoever provisions for that node makes a volume then. The Pod is bound in the round that finds all claims bound.

use crate::filter::{Host, Refusal};
use controllers::obj::{annotation, deleting, items, meta, text};
use controllers::storage::matching::{class_of, find, reaches, reserved, wanted_size};
use controllers::storage::{SELECTED_NODE, claim_name, origin};
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// A bound volume is out of the node's reach.
const OUT_OF_REACH: &str = "node(s) didn't match PersistentVolume's node affinity";
/// No free volume, and none can be made for this node.
const NONE_TO_BIND: &str = "node(s) didn't find available persistent volumes to bind";
/// A claim's volume does not exist.
const NO_VOLUME: &str = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)";
/// Another Pod, wherever, has a volume that is for one Pod alone.
const ONE_POD: &str = "node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";

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
    pub(crate) fn refusal(
        &self,
        pod: &Value,
        host: &Host,
        hosts: &[Host],
        taken: &HashSet<String>,
    ) -> Option<Refusal> {
        if self.in_use(pod, hosts) {
            return Some(Refusal::crowded(ONE_POD));
        }
        for (_, claim) in self.claims_of(pod) {
            let Some(claim) = claim.filter(|c| bound(c)) else {
                continue;
            };
            let named = text(claim, "/spec/volumeName");
            match self.volumes.iter().find(|v| meta(v, "name") == named) {
                None => return Some(Refusal::lasting(NO_VOLUME)),
                Some(volume) if !reaches(volume, &host.node) => {
                    return Some(Refusal::lasting(OUT_OF_REACH));
                }
                Some(_) => {}
            }
        }
        let all_served = self
            .choices(pod, host, taken)
            .iter()
            .all(|(_, choice)| choice.is_some());
        (!all_served).then(|| Refusal::lasting(NONE_TO_BIND))
    }

    /// A claim of the Pod is for one Pod alone and some Pod has it.
    fn in_use(&self, pod: &Value, hosts: &[Host]) -> bool {
        let exclusive = self.claims_of(pod).filter(|(_, claim)| {
            let modes = claim.map_or(&[][..], |claim| items(claim, "/spec/accessModes"));
            modes.iter().any(|mode| mode == "ReadWriteOncePod")
        });
        let names: Vec<String> = exclusive.map(|(name, _)| name).collect();
        let used = |other: &Arc<Value>| names.iter().any(|n| uses(other, meta(pod, "namespace"), n));
        !names.is_empty() && hosts.iter().flat_map(|h| &h.pods).any(used)
    }

    /// How each unbound claim could be served on a node: the smallest claim chooses first, no volume serves two.
    fn choices(
        &self,
        pod: &Value,
        host: &Host,
        taken: &HashSet<String>,
    ) -> Vec<(&Arc<Value>, Option<Choice>)> {
        let unbound = self
            .claims_of(pod)
            .filter_map(|(_, claim)| claim.filter(|c| !bound(c)));
        let mut claims: Vec<&Arc<Value>> = unbound.collect();
        claims.sort_by_key(|claim| wanted_size(claim));
        let mut taken = taken.clone();
        let mut choices = Vec::new();
        for claim in claims {
            let choice = self.choose(claim, host, &taken);
            if let Some(Choice::Volume(volume)) = &choice {
                taken.insert(meta(volume, "name").to_string());
            }
            choices.push((claim, choice));
        }
        choices
    }

    /// How an unbound claim could be served on a node, if at all.
    fn choose(&self, claim: &Value, host: &Host, taken: &HashSet<String>) -> Option<Choice> {
        let selected = annotation(claim, SELECTED_NODE);
        if !selected.is_empty() {
            return (selected == host.name()).then_some(Choice::Provisioning);
        }
        // Data are copied where they are.
        if let Some(node) = origin(claim)
            && node != host.name()
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
            return Some(Choice::Volume(volume.clone()));
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
        (here && text(class, "/provisioner") != "kubernetes.io/no-provisioner")
            .then_some(Choice::Provisioning)
    }

    /// What the unbound claims of a Pod need on its node; `None` when all are bound. Promised volumes go into `taken`.
    pub(crate) fn needs(&self, pod: &Value, host: &Host, taken: &mut HashSet<String>) -> Option<Vec<Need>> {
        let choices = self.choices(pod, host, taken);
        let waits = !choices.is_empty();
        let mut needs = Vec::new();
        for (claim, choice) in choices {
            match choice {
                Some(Choice::Volume(volume)) if !reserved(&volume) => {
                    taken.insert(meta(&volume, "name").to_string());
                    needs.push(Need::Reserve(claim.clone(), volume));
                }
                Some(Choice::Provisioning) if annotation(claim, SELECTED_NODE).is_empty() => {
                    needs.push(Need::Select(claim.clone(), host.name().to_string()));
                }
                _ => {}
            }
        }
        waits.then_some(needs)
    }
}

/// How a claim is served.
enum Choice {
    /// By this volume.
    Volume(Arc<Value>),
    /// By one that is made for it.
    Provisioning,
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
