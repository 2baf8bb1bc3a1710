//! PersistentVolumes and the claims on them: binding, protection, claims of Pods, the default class.
//!
//! ```text
//! claim ── class, size, mode ──► binder ── a free volume fits ──────────────► both point at each other: Bound
//!                                  └────── none: provisioner named ──► host makes a volume of it ──┘
//! ```
//! The host agent of the chosen node makes and deletes the volumes of class `datastore` (`host::datastore`); nothing
//! here touches a file. Semantics and words are those of upstream's `persistentvolume`, `pvc-protection`,
//! `pv-protection` and `ephemeral` controllers; [`snapshot`] adds snapshots and copies of volumes.

mod binder;
mod class;
mod ephemeral;
mod events;
pub mod matching;
mod protection;
mod snapshot;

pub(crate) use binder::Binder;
pub(crate) use class::Classes;
pub(crate) use ephemeral::EphemeralClaims;
pub(crate) use protection::{AttributesProtection, ClaimProtection, VolumeProtection};
pub use snapshot::origin;
pub(crate) use snapshot::{SnapshotKinds, Snapshots};

use crate::obj::{items, meta};
use serde_json::{Value, json};

pub(crate) const CLAIMS: &str = "persistentvolumeclaims";
pub(crate) const VOLUMES: &str = "persistentvolumes";
pub(crate) const CLASSES: &str = "storageclasses.storage.k8s.io";
const PODS: &str = "pods";
const NODES: &str = "nodes";

/// The provisioner of volumes in the hosts' data directories, and the CSI driver's name in their sources.
pub const PROVISIONER: &str = "datastore.podvisor.io";
/// Annotation: the class of claims that name none.
pub(crate) const BETA_DEFAULT_CLASS: &str = "storageclass.beta.kubernetes.io/is-default-class";
pub(crate) const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// Annotation: the node that the scheduler has chosen for the first Pod of a claim.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// Annotation: the binding of a claim is complete; without its volume it is lost.
pub(crate) const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// Annotation: the binder chose, not the user, and may take it back.
pub(crate) const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// Annotation: who made a volume and will delete it.
pub(crate) const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Annotations: who shall make a volume; both names are in use.
pub(crate) const STORAGE_PROVISIONER: [&str; 2] = [
    "volume.beta.kubernetes.io/storage-provisioner",
    "volume.kubernetes.io/storage-provisioner",
];

/// Whether an object has a finalizer.
pub(crate) fn has_finalizer(object: &Value, name: &str) -> bool {
    items(object, "/metadata/finalizers").iter().any(|f| f == name)
}

/// The object without a finalizer.
pub(crate) fn without_finalizer(object: &Value, name: &str) -> Value {
    let mut next = object.clone();
    let left: Vec<Value> = items(object, "/metadata/finalizers")
        .iter()
        .filter(|f| *f != name)
        .cloned()
        .collect();
    next["metadata"]["finalizers"] = json!(left);
    next
}

/// The object with a finalizer.
pub(crate) fn with_finalizer(object: &Value, name: &str) -> Value {
    let mut next = object.clone();
    let mut all = items(object, "/metadata/finalizers").to_vec();
    all.push(json!(name));
    next["metadata"]["finalizers"] = json!(all);
    next
}

/// The claim's name of a Pod's volume: its own, or the one made for a generic ephemeral volume (KEP-1698).
pub fn claim_name(pod: &Value, volume: &Value) -> Option<String> {
    if let Some(name) = volume["persistentVolumeClaim"]["claimName"].as_str() {
        return Some(name.to_string());
    }
    let ephemeral = volume.get("ephemeral").is_some_and(|e| !e.is_null());
    ephemeral.then(|| {
        format!(
            "{}-{}",
            meta(pod, "name"),
            volume["name"].as_str().unwrap_or_default()
        )
    })
}
