//! The binder: brings claims and volumes together and says where each stands (upstream: `persistentvolume` controller).
//!
//! A binding has two halves, `volume.spec.claimRef` and `claim.spec.volumeName`, written in this order; whatever happens
//! between them, the next sweep sees a volume reserved for the claim and goes on. The annotation `bind-completed` tells
//! a claim that never had a volume from one that lost it.

use super::events::Teller;
use super::matching::{class_of, find, mismatch, mode_of, refers_to, reserve, reserved};
use super::{
    BETA_DEFAULT_CLASS, BIND_COMPLETED, BOUND_BY_CONTROLLER, CLAIMS, CLASSES, DEFAULT_CLASS, NODES, PODS,
    PROVISIONED_BY, PROVISIONER, SELECTED_NODE, STORAGE_PROVISIONER, VOLUMES, claim_name,
};
use crate::manager::Reconciler;
use crate::obj::{annotation, deleting, finished, items, meta, ready, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The controller.
#[derive(Default)]
pub(crate) struct Binder(Teller);

/// Removes an annotation.
fn drop_annotation(object: &mut Value, key: &str) {
    if let Some(all) = object
        .pointer_mut("/metadata/annotations")
        .and_then(Value::as_object_mut)
    {
        all.remove(key);
    }
}

/// The volume without its reservation; a user's own reservation stays, for whoever comes under that name.
fn release(volume: &Value) -> Value {
    let mut next = volume.clone();
    if annotation(volume, BOUND_BY_CONTROLLER).is_empty() {
        next["spec"]["claimRef"]["uid"] = Value::Null;
        next["spec"]["claimRef"]["resourceVersion"] = Value::Null;
    } else {
        next["spec"]["claimRef"] = Value::Null;
        drop_annotation(&mut next, BOUND_BY_CONTROLLER);
    }
    next
}

/// Whether a claim leaves its class to whatever is the default; an empty name is a choice.
fn no_choice(claim: &Value) -> bool {
    claim["spec"]["storageClassName"].is_null() && class_of(claim).is_empty()
}

/// The default class: the newest of several, by name among equals.
fn default_class(world: &World) -> Option<String> {
    let classes = world.all(CLASSES);
    let marked = classes.iter().filter(|class| {
        [DEFAULT_CLASS, BETA_DEFAULT_CLASS]
            .iter()
            .any(|a| annotation(class, a) == "true")
    });
    let first = marked.min_by_key(|class| {
        let made = meta(class, "creationTimestamp").to_string();
        (std::cmp::Reverse(made), meta(class, "name").to_string())
    });
    first.map(|class| meta(class, "name").to_string())
}

impl Binder {
    async fn claim(&self, world: &World, claim: &Value) -> Result<(), WorldError> {
        if annotation(claim, BIND_COMPLETED).is_empty() {
            self.unbound(world, claim).await
        } else {
            self.bound(world, claim).await
        }
    }

    async fn unbound(&self, world: &World, claim: &Value) -> Result<(), WorldError> {
        let named = text(claim, "/spec/volumeName");
        if !named.is_empty() {
            let Some(volume) = world.get(VOLUMES, "", named) else {
                return self.pending(world, claim).await;
            };
            if !reserved(&volume) {
                if let Some(why) = mismatch(&volume, claim) {
                    let message = format!("Cannot bind to requested volume \"{named}\": {why}");
                    self.0.tell(world, claim, true, "VolumeMismatch", &message).await;
                    return self.pending(world, claim).await;
                }
                return self.bind(world, claim, &volume).await;
            }
            if refers_to(&volume, claim) {
                return self.bind(world, claim, &volume).await;
            }
            let message = format!("volume \"{named}\" already bound to a different claim.");
            self.0.tell(world, claim, true, "FailedBinding", &message).await;
            return self.pending(world, claim).await;
        }
        let class = world.get(CLASSES, "", class_of(claim));
        let delayed = class
            .as_ref()
            .is_some_and(|c| text(c, "/volumeBindingMode") == "WaitForFirstConsumer");
        let volumes = world.all(VOLUMES);
        if let Some(volume) = find(claim, &volumes, None, delayed) {
            return self.bind(world, claim, volume).await;
        }
        if no_choice(claim)
            && let Some(class) = default_class(world)
        {
            // The default came after the claim; the next sweep sees the claim with it.
            let mut next = claim.clone();
            next["spec"]["storageClassName"] = json!(class);
            return settled(world.update(CLAIMS, claim, &next).await).map(|_| ());
        }
        if delayed && annotation(claim, SELECTED_NODE).is_empty() {
            let (reason, message) = waits_for(world, claim);
            self.0.tell(world, claim, false, reason, &message).await;
        } else if class_of(claim).is_empty() {
            let message = "no persistent volumes available for this claim and no storage class is set";
            self.0.tell(world, claim, false, "FailedBinding", message).await;
        } else if let Some(class) = class {
            self.provision(world, claim, &class, delayed).await?;
        } else {
            let message = format!("storageclass.storage.k8s.io \"{}\" not found", class_of(claim));
            self.0
                .tell(world, claim, true, "ProvisioningFailed", &message)
                .await;
        }
        let claim = world.get(CLAIMS, meta(claim, "namespace"), meta(claim, "name"));
        match claim {
            Some(claim) => self.pending(world, &claim).await,
            None => Ok(()),
        }
    }

    /// Names the provisioner that shall make a volume.
    async fn provision(
        &self,
        world: &World,
        claim: &Value,
        class: &Value,
        delayed: bool,
    ) -> Result<(), WorldError> {
        let provisioner = text(class, "/provisioner");
        if provisioner == "kubernetes.io/no-provisioner" {
            let message = "no volume plugin matched name: kubernetes.io/no-provisioner";
            self.0
                .tell(world, claim, true, "ProvisioningFailed", message)
                .await;
            return Ok(());
        }
        let mut next = claim.clone();
        for key in STORAGE_PROVISIONER {
            next["metadata"]["annotations"][key] = json!(provisioner);
        }
        // Of an immediate claim nobody has chosen the host yet; any that works will do, the emptiest first. One that is
        // to be filled goes where its data are.
        let choose = || match super::origin(claim) {
            None => emptiest(world),
            Some(node) => (!node.is_empty()).then(|| node.to_string()),
        };
        if !delayed
            && provisioner == PROVISIONER
            && annotation(claim, SELECTED_NODE).is_empty()
            && let Some(node) = choose()
        {
            next["metadata"]["annotations"][SELECTED_NODE] = json!(node);
        }
        settled(world.update(CLAIMS, claim, &next).await)?;
        let message = format!(
            "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by the \
             system administrator. If volume creation is delayed, please verify that the provisioner is running and \
             correctly registered."
        );
        self.0
            .tell(world, claim, false, "ExternalProvisioning", &message)
            .await;
        Ok(())
    }

    async fn bound(&self, world: &World, claim: &Value) -> Result<(), WorldError> {
        let named = text(claim, "/spec/volumeName");
        let lost = if named.is_empty() {
            (
                "ClaimLost",
                "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!",
            )
        } else {
            match world.get(VOLUMES, "", named) {
                None => (
                    "ClaimLost",
                    "Bound claim has lost its PersistentVolume. Data on the volume is lost!",
                ),
                Some(volume) if !reserved(&volume) || refers_to(&volume, claim) => {
                    return self.bind(world, claim, &volume).await;
                }
                Some(_) => (
                    "ClaimMisbound",
                    "Two claims are bound to the same volume, this one is bound incorrectly",
                ),
            }
        };
        if text(claim, "/status/phase") != "Lost" {
            let mut status = claim["status"].clone();
            status["phase"] = json!("Lost");
            settled(world.update_status(CLAIMS, claim, &status).await)?;
            self.0.tell(world, claim, true, lost.0, lost.1).await;
        }
        Ok(())
    }

    /// Writes both halves of a binding, and both phases; what is written already stays.
    async fn bind(&self, world: &World, claim: &Value, volume: &Value) -> Result<(), WorldError> {
        let uid = text(volume, "/spec/claimRef/uid");
        if !reserved(volume) || uid.is_empty() {
            let reserved = reserve(volume, claim);
            if settled(world.update(VOLUMES, volume, &reserved).await)?.is_none() {
                return Ok(());
            }
        }
        let name = meta(volume, "name");
        if let Some(volume) = world.get(VOLUMES, "", name) {
            phase(world, &volume, "Bound").await?;
        }
        let mut next = claim.clone();
        if text(claim, "/spec/volumeName") != name {
            next["spec"]["volumeName"] = json!(name);
            next["metadata"]["annotations"][BOUND_BY_CONTROLLER] = json!("yes");
        }
        next["metadata"]["annotations"][BIND_COMPLETED] = json!("yes");
        if settled(world.update(CLAIMS, claim, &next).await)?.is_none() {
            return Ok(());
        }
        let Some(claim) = world.get(CLAIMS, meta(claim, "namespace"), meta(claim, "name")) else {
            return Ok(());
        };
        if text(&claim, "/status/phase") == "Bound" {
            return Ok(());
        }
        let mut status = claim["status"].clone();
        status["phase"] = json!("Bound");
        status["accessModes"] = volume["spec"]["accessModes"].clone();
        status["capacity"] = volume["spec"]["capacity"].clone();
        // Later on it is the resizer's to say.
        status["currentVolumeAttributesClassName"] = volume["spec"]["volumeAttributesClassName"].clone();
        settled(world.update_status(CLAIMS, &claim, &status).await).map(|_| ())
    }

    /// Says that a claim has no volume, and nothing of one.
    async fn pending(&self, world: &World, claim: &Value) -> Result<(), WorldError> {
        let mut status = claim["status"].clone();
        if let Some(fields) = status.as_object_mut() {
            for field in ["accessModes", "capacity", "currentVolumeAttributesClassName"] {
                fields.remove(field);
            }
        }
        status["phase"] = json!("Pending");
        settled(world.update_status(CLAIMS, claim, &status).await).map(|_| ())
    }

    async fn volume(&self, world: &World, volume: &Value) -> Result<(), WorldError> {
        if !reserved(volume) || text(volume, "/spec/claimRef/uid").is_empty() {
            return phase(world, volume, "Available").await;
        }
        let (namespace, name) = (
            text(volume, "/spec/claimRef/namespace"),
            text(volume, "/spec/claimRef/name"),
        );
        let claim = match world.get(CLAIMS, namespace, name) {
            Some(claim) => Some((*claim).clone()),
            // Releasing cannot be taken back: the cache may lag behind.
            None => world.live(CLAIMS, namespace, name).await?,
        };
        let Some(claim) = claim.filter(|c| refers_to(volume, c)) else {
            return self.reclaim(world, volume).await;
        };
        let named = text(&claim, "/spec/volumeName");
        if named == meta(volume, "name") {
            return phase(world, volume, "Bound").await;
        }
        if named.is_empty() {
            if mode_of(volume) != mode_of(&claim) {
                let message = format!(
                    "Cannot bind PersistentVolume to requested PersistentVolumeClaim \"{name}\" due to incompatible volumeMode."
                );
                self.0.tell(world, volume, true, "VolumeMismatch", &message).await;
            }
            return Ok(());
        }
        // The claim went elsewhere. A volume made for it alone is of no more use.
        let made_for_it = !annotation(volume, PROVISIONED_BY).is_empty()
            && text(volume, "/spec/persistentVolumeReclaimPolicy") == "Delete";
        if made_for_it {
            return self.reclaim(world, volume).await;
        }
        settled(world.update(VOLUMES, volume, &release(volume)).await).map(|_| ())
    }

    /// The claim is gone. What a provisioner made, it deletes as soon as it is `Released`.
    async fn reclaim(&self, world: &World, volume: &Value) -> Result<(), WorldError> {
        let now = text(volume, "/status/phase");
        if now != "Failed" {
            phase(world, volume, "Released").await?;
        }
        let policy = text(volume, "/spec/persistentVolumeReclaimPolicy");
        let path = text(volume, "/spec/hostPath/path");
        let problem = match policy {
            // Upstream deletes what lies there, if its controllers' host has it; these have none.
            "Delete" if !path.is_empty() && !path.contains("/tmp/") => {
                format!("host_path deleter only supports /tmp/.+ but received provided {path}")
            }
            "Delete" if annotation(volume, PROVISIONED_BY).is_empty() => {
                format!(
                    "error getting deleter volume plugin for volume \"{}\": no deletable volume plugin matched",
                    meta(volume, "name")
                )
            }
            "Recycle" => "No recycler plugin found for the volume!".to_string(),
            _ => return Ok(()),
        };
        if now != "Failed"
            && let Some(volume) = world.get(VOLUMES, "", meta(volume, "name"))
        {
            let reason = match policy {
                "Recycle" => "VolumeFailedRecycle",
                _ => "VolumeFailedDelete",
            };
            let status = json!({"phase": "Failed", "message": problem,
                "lastPhaseTransitionTime": crate::obj::now()});
            settled(world.update_status(VOLUMES, &volume, &status).await)?;
            self.0.tell(world, &volume, true, reason, &problem).await;
        }
        Ok(())
    }
}

async fn phase(world: &World, volume: &Value, phase: &str) -> Result<(), WorldError> {
    if text(volume, "/status/phase") == phase {
        return Ok(());
    }
    let status = json!({"phase": phase, "lastPhaseTransitionTime": crate::obj::now()});
    settled(world.update_status(VOLUMES, volume, &status).await).map(|_| ())
}

/// What a claim without a node waits for.
fn waits_for(world: &World, claim: &Value) -> (&'static str, String) {
    let uses = |pod: &Value| {
        items(pod, "/spec/volumes")
            .iter()
            .any(|v| claim_name(pod, v).is_some_and(|name| name == meta(claim, "name")))
    };
    let pods = world.list(PODS, meta(claim, "namespace"));
    // Upstream counts those in deletion, too.
    let users: Vec<&str> = pods
        .iter()
        .filter(|pod| text(pod, "/spec/nodeName").is_empty() && !finished(pod) && uses(pod))
        .map(|pod| meta(pod, "name"))
        .collect();
    match users.as_slice() {
        [] => (
            "WaitForFirstConsumer",
            "waiting for first consumer to be created before binding".to_string(),
        ),
        users => (
            "WaitForPodScheduled",
            format!(
                "waiting for pod{} {} to be scheduled",
                if users.len() > 1 { "s" } else { "" },
                users.join(",")
            ),
        ),
    }
}

/// The ready node with the fewest volumes.
fn emptiest(world: &World) -> Option<String> {
    let volumes = world.all(VOLUMES);
    let nodes = world.all(NODES);
    let usable = nodes
        .iter()
        .filter(|n| ready(n) && !deleting(n) && n["spec"]["unschedulable"] != true);
    let load = |node: &Value| {
        let on = |v: &&Arc<Value>| !v["spec"]["nodeAffinity"].is_null() && super::matching::reaches(v, node);
        volumes.iter().filter(on).count()
    };
    usable
        .min_by_key(|n| (load(n), meta(n, "name").to_string()))
        .map(|n| meta(n, "name").to_string())
}

#[async_trait]
impl Reconciler for Binder {
    fn name(&self) -> &'static str {
        "persistent volume binder"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[CLAIMS, VOLUMES, CLASSES, PODS, NODES]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut failed = None;
        // Volumes first: claims can only take what is known to be available.
        for volume in world.all(VOLUMES) {
            if let Err(error) = self.volume(world, &volume).await {
                failed = Some(error);
            }
        }
        for claim in world.all(CLAIMS) {
            if let Err(error) = self.claim(world, &claim).await {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(None), Err)
    }
}
