//! The provisioner of this host: makes volumes for claims that are to live here, and deletes what was released
//! (the part of upstream's `external-provisioner` in its distributed form, one a node).
//!
//! Level-triggered: whatever changes among claims and volumes, everything of this host is looked at again.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{DeleteParams, DynamicObject, Patch, PatchParams, PostParams};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::reflector::{self, Store};
use kube::runtime::watcher;
use kube::{Api, Resource, ResourceExt as _};
use serde_json::{Value, json};

use super::attach::words;
use super::{DatastoreError, PROVISIONER, SHARED, expand, file_size, snapshot};
use crate::agent::Pods;
use crate::events::Kind;
use crate::podvm::Context;
use crate::size;

/// Annotations, as in `controllers::storage`.
const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// Keeps a volume's object until its file is gone; the name is the one of upstream's provisioners.
const FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";
/// The label by which a volume is tied to its host.
const HOSTNAME: &str = "kubernetes.io/hostname";
/// What failed, or waits for a Pod, is looked at again after this time at the latest.
const AGAIN: Duration = Duration::from_secs(5);
/// Changes that come within this time are looked at together.
const GATHER: Duration = Duration::from_millis(10);

/// What is known of claims and volumes, and how to act on it.
pub(super) struct Provisioner {
    pub(super) context: Arc<Context>,
    pub(super) pods: Pods,
    claims: Store<PersistentVolumeClaim>,
    volumes: Store<PersistentVolume>,
    pub(super) contents: Store<DynamicObject>,
    /// Words of the last failure by claim: not every attempt is an event.
    told: HashMap<String, String>,
}

/// Provisions until the agent ends.
pub(crate) async fn run(context: Arc<Context>, pods: Pods) {
    let client = context.deps.client.clone();
    let (claims, claim_events) = reflector::store();
    let (volumes, volume_events) = reflector::store();
    let follow_claims = watcher::watcher(
        Api::<PersistentVolumeClaim>::all(client.clone()),
        watcher::Config::default(),
    )
    .default_backoff()
    .reflect(claim_events)
    .map(|_| ());
    let follow_volumes = watcher::watcher(
        Api::<PersistentVolume>::all(client.clone()),
        watcher::Config::default(),
    )
    .default_backoff()
    .reflect(volume_events)
    .map(|_| ());
    let kind = snapshot::contents();
    let content_events = reflector::store::Writer::new(kind.clone());
    let contents = content_events.as_reader();
    let follow_contents = watcher::watcher(
        Api::<DynamicObject>::all_with(client, &kind),
        watcher::Config::default(),
    )
    .default_backoff()
    .reflect(content_events)
    .map(|_| ());
    let follow_objects = futures::stream::select(follow_claims, follow_volumes);
    let mut changes = std::pin::pin!(futures::stream::select(follow_objects, follow_contents));
    context.datastore.thaw_all().await;
    let cancel = context.cancel.clone();
    let mut provisioner = Provisioner {
        context,
        pods,
        claims,
        volumes,
        contents,
        told: HashMap::new(),
    };
    let work = async {
        loop {
            let _ = tokio::time::timeout(AGAIN, changes.next()).await;
            let until = tokio::time::Instant::now() + GATHER;
            while let Ok(Some(())) = tokio::time::timeout_at(until, changes.next()).await {}
            provisioner.sweep().await;
        }
    };
    cancel.run_until_cancelled(work).await;
}

/// The node that a volume is tied to.
pub(super) fn home(volume: &PersistentVolume) -> Option<&str> {
    let required = volume.spec.as_ref()?.node_affinity.as_ref()?.required.as_ref()?;
    let expressions = required.node_selector_terms.first()?.match_expressions.as_ref()?;
    let at = expressions
        .iter()
        .find(|e| e.key == HOSTNAME && e.operator == "In")?;
    at.values.as_ref()?.first().map(String::as_str)
}

/// The name in the datastore of a volume that this host's provisioner made.
fn handle<'a>(volume: &'a PersistentVolume, node: &str) -> Option<&'a str> {
    let ours = volume
        .annotations()
        .get(PROVISIONED_BY)
        .is_some_and(|by| by == PROVISIONER);
    let source = volume.spec.as_ref()?.csi.as_ref()?;
    (ours && source.driver == PROVISIONER && home(volume) == Some(node))
        .then_some(source.volume_handle.as_str())
}

/// Whether a claim waits for a volume from this host.
fn wanted(claim: &PersistentVolumeClaim, node: &str) -> bool {
    let annotated = |key: &str, value: &str| claim.annotations().get(key).is_some_and(|v| v == value);
    let unbound = claim
        .spec
        .as_ref()
        .is_some_and(|spec| spec.volume_name.as_deref().unwrap_or_default().is_empty());
    unbound
        && claim.metadata.deletion_timestamp.is_none()
        && annotated(STORAGE_PROVISIONER, PROVISIONER)
        && annotated(SELECTED_NODE, node)
}

/// Whether the file of a volume is to go.
fn over(volume: &PersistentVolume) -> bool {
    let policy = volume
        .spec
        .as_ref()
        .and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
    policy == Some("Delete") && matches!(phase, Some("Released" | "Failed"))
}

/// The bytes that a claim asks for.
pub(super) fn wanted_bytes(claim: &PersistentVolumeClaim) -> Option<u64> {
    let requests = claim.spec.as_ref()?.resources.as_ref()?.requests.as_ref()?;
    size::whole(requests.get("storage")?)
}

/// Whether several Pods are to write to the volume at once.
fn many_write(claim: &PersistentVolumeClaim) -> bool {
    let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_ref());
    modes.is_some_and(|modes| modes.iter().any(|mode| mode == "ReadWriteMany"))
}

/// Whether a class gives its volumes the form of those that several Pods write to, so that Pods of one host can follow each
/// other without a gap although the claim is `ReadWriteOnce`, as a Deployment that rolls out has it.
fn shares(class: &StorageClass) -> bool {
    let parameters = class.parameters.as_ref();
    parameters.is_some_and(|all| all.get(SHARED).is_some_and(|value| value == "true"))
}

/// Whether a claim's volume is a directory of the host instead of a disk of one VM.
fn is_directory(claim: &PersistentVolumeClaim, class: &StorageClass) -> bool {
    let spec = claim.spec.as_ref();
    let block = spec.and_then(|spec| spec.volume_mode.as_deref()) == Some("Block");
    let modes = spec.and_then(|spec| spec.access_modes.as_deref());
    let alone = modes.is_some_and(|modes| modes.iter().all(|mode| mode == "ReadWriteOncePod"));
    many_write(claim) || shares(class) && !block && !alone
}

/// What cannot be made here, with the reason.
fn unsupported(claim: &PersistentVolumeClaim, class: &StorageClass) -> Option<String> {
    let spec = claim.spec.as_ref()?;
    if many_write(claim) && spec.volume_mode.as_deref() == Some("Block") {
        return Some(
            "access mode ReadWriteMany is not supported with volumeMode Block: VMs share directories, not disks".into(),
        );
    }
    if spec.selector.is_some() {
        return Some("claim Selector is not supported".into());
    }
    let kind = class
        .parameters
        .as_ref()
        .and_then(|all| all.get("csi.storage.k8s.io/fstype"))
        .filter(|kind| *kind != "ext4");
    kind.map(|kind| format!("file system {kind} is not supported: use ext4"))
}

/// The object of a new volume.
fn object(claim: &PersistentVolumeClaim, class: &StorageClass, node: &str, name: &str, bytes: u64) -> Value {
    let spec = claim.spec.clone().unwrap_or_default();
    let mut volume = json!({
        "apiVersion": "v1", "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            "annotations": {PROVISIONED_BY: PROVISIONER},
            "finalizers": [FINALIZER],
        },
        "spec": {
            "accessModes": spec.access_modes,
            "capacity": {"storage": quantity(bytes)},
            "volumeMode": spec.volume_mode,
            "persistentVolumeReclaimPolicy": class.reclaim_policy.as_deref().unwrap_or("Delete"),
            "storageClassName": class.metadata.name,
            "claimRef": {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "namespace": claim.metadata.namespace, "name": claim.metadata.name,
                "uid": claim.metadata.uid, "resourceVersion": claim.metadata.resource_version,
            },
            "csi": {"driver": PROVISIONER, "volumeHandle": name, "fsType": "ext4"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": HOSTNAME, "operator": "In", "values": [node]}]}]}},
        },
    });
    if is_directory(claim, class) {
        volume["spec"]["csi"]["volumeAttributes"] = json!({SHARED: "true"});
    }
    if let Some(options) = &class.mount_options {
        volume["spec"]["mountOptions"] = json!(options);
    }
    volume
}

/// Bytes as a quantity that people read.
pub(super) fn quantity(bytes: u64) -> String {
    for (unit, name) in [(1 << 40, "Ti"), (1 << 30, "Gi"), (1_u64 << 20, "Mi")] {
        if bytes.is_multiple_of(unit) {
            return format!("{}{name}", bytes / unit);
        }
    }
    bytes.to_string()
}

pub(super) fn reference<K: Resource<DynamicType = ()>>(object: &K) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::api_version(&()).into_owned()),
        kind: Some(K::kind(&()).into_owned()),
        namespace: object.meta().namespace.clone(),
        name: object.meta().name.clone(),
        uid: object.meta().uid.clone(),
        resource_version: object.meta().resource_version.clone(),
        ..ObjectReference::default()
    }
}

impl Provisioner {
    /// A claim.
    pub(super) fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        self.claims
            .get(&reflector::ObjectRef::new(name).within(namespace))
    }

    /// A volume by the name of its object.
    pub(super) fn volume_named(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes.get(&reflector::ObjectRef::new(name))
    }

    /// A volume of this host by its name in the datastore.
    pub(super) fn volume(&self, wanted: &str) -> Option<Arc<PersistentVolume>> {
        let node = &self.context.config.node_name;
        let all = self.volumes.state();
        all.into_iter().find(|volume| {
            let source = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
            source.is_some_and(|source| source.volume_handle == wanted) && home(volume) == Some(node)
        })
    }

    /// Where contents of snapshots are written.
    pub(super) fn contents_api(&self) -> Api<DynamicObject> {
        Api::all_with(self.context.deps.client.clone(), &snapshot::contents())
    }

    async fn sweep(&mut self) {
        let node = self.context.config.node_name.clone();
        let claims = self.claims.state();
        self.told.retain(|uid, _| {
            claims
                .iter()
                .any(|claim| claim.metadata.uid.as_deref() == Some(uid))
        });
        for claim in claims.iter().filter(|claim| wanted(claim, &node)) {
            self.provision(claim, &node).await;
        }
        for volume in self.volumes.state() {
            let Some(handle) = handle(&volume, &node).map(str::to_owned) else {
                continue;
            };
            if over(&volume) || volume.metadata.deletion_timestamp.is_some() {
                self.finish(&volume, &handle).await;
            } else if let Some(claim) = claims.iter().find(|claim| belongs(&volume, claim)) {
                expand::run(self, claim, &volume, &handle).await;
            }
        }
        snapshot::sweep(self).await;
    }

    async fn provision(&mut self, claim: &PersistentVolumeClaim, node: &str) {
        let name = format!("pvc-{}", claim.metadata.uid.as_deref().unwrap_or_default());
        if self
            .volumes
            .state()
            .iter()
            .any(|volume| volume.metadata.name.as_deref() == Some(&name))
        {
            return;
        }
        let recorder = &self.context.recorder;
        let uid = claim.metadata.uid.clone().unwrap_or_default();
        if !self.told.contains_key(&uid) {
            let message = format!(
                "External provisioner is provisioning volume for claim \"{}/{}\"",
                claim.metadata.namespace.as_deref().unwrap_or_default(),
                claim.metadata.name.as_deref().unwrap_or_default()
            );
            recorder.record(reference(claim), Kind::Normal, "Provisioning", message);
        }
        match self.make(claim, node, &name).await {
            Ok(()) => {
                self.told.remove(&uid);
                let message = format!("Successfully provisioned volume {name}");
                recorder.record(reference(claim), Kind::Normal, "ProvisioningSucceeded", message);
            }
            Err((class, problem, elsewhere)) => {
                let message = format!("failed to provision volume with StorageClass \"{class}\": {problem}");
                if self.told.get(&uid) != Some(&message) {
                    recorder.record(
                        reference(claim),
                        Kind::Warning,
                        "ProvisioningFailed",
                        message.clone(),
                    );
                    self.told.insert(uid, message);
                }
                if elsewhere {
                    self.give_back(claim).await;
                }
            }
        }
    }

    /// Makes file and object. The error: class, words, and whether another host may do better.
    async fn make(
        &self,
        claim: &PersistentVolumeClaim,
        node: &str,
        name: &str,
    ) -> Result<(), (String, String, bool)> {
        let client = &self.context.deps.client;
        let spec = claim.spec.as_ref();
        let class_name = spec
            .and_then(|spec| spec.storage_class_name.clone())
            .unwrap_or_default();
        let fail = |problem: String, elsewhere| (class_name.clone(), problem, elsewhere);
        let class = Api::<StorageClass>::all(client.clone())
            .get(&class_name)
            .await
            .map_err(|error| fail(words(&error), false))?;
        if let Some(problem) = unsupported(claim, &class) {
            return Err(fail(problem, false));
        }
        let bytes = file_size(wanted_bytes(claim).unwrap_or(0));
        let block = spec.and_then(|spec| spec.volume_mode.as_deref()) == Some("Block");
        let origin = snapshot::origin(self, claim)
            .await
            .map_err(|problem| fail(problem, false))?;
        let problem = origin
            .as_ref()
            .and_then(|origin| origin.problem(bytes, block, is_directory(claim, &class)));
        if let Some(problem) = problem {
            return Err(fail(problem, false));
        }
        let made = match &origin {
            Some(origin) => snapshot::fill(self, origin, name, bytes).await,
            None => self.context.datastore.create(name, bytes, !block).await,
        };
        made.map_err(|error| fail(error.to_string(), matches!(error, DatastoreError::Full { .. })))?;
        let object = serde_json::from_value(object(claim, &class, node, name, bytes))
            .map_err(|error| fail(error.to_string(), false))?;
        let volumes: Api<PersistentVolume> = Api::all(client.clone());
        match volumes.create(&PostParams::default(), &object).await {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
            Err(error) => Err(fail(words(&error), false)),
        }
    }

    /// Lets the scheduler choose another host.
    async fn give_back(&self, claim: &PersistentVolumeClaim) {
        let claims: Api<PersistentVolumeClaim> = Api::namespaced(
            self.context.deps.client.clone(),
            claim.metadata.namespace.as_deref().unwrap_or_default(),
        );
        let patch = json!({"metadata": {
            "resourceVersion": claim.metadata.resource_version, "annotations": {SELECTED_NODE: null}}});
        let result = claims
            .patch(&claim.name_any(), &PatchParams::default(), &Patch::Merge(patch))
            .await;
        if let Err(error) = result {
            tracing::debug!(%error, "a claim is not given back");
        }
    }

    /// Deletes the file where that is the policy, then the object.
    async fn finish(&self, volume: &PersistentVolume, handle: &str) {
        if let Err(error) = self.context.datastore.unmount_unused().await {
            tracing::warn!(%error, "a shared volume stays mounted for now");
        }
        if over(volume)
            && let Err(error) = self.context.datastore.delete(handle)
        {
            // A VM that is on its way down still has it.
            if !matches!(error, DatastoreError::InUse(_)) {
                let message = error.to_string();
                self.context
                    .recorder
                    .record(reference(volume), Kind::Warning, "VolumeFailedDelete", message);
            }
            return;
        }
        let retained = volume
            .spec
            .as_ref()
            .is_none_or(|spec| spec.persistent_volume_reclaim_policy.as_deref() != Some("Delete"));
        if !over(volume) && !retained {
            // Somebody deletes the object while its claim is there: the binder says when that has gone.
            return;
        }
        let volumes: Api<PersistentVolume> = Api::all(self.context.deps.client.clone());
        let name = volume.name_any();
        let result = async {
            if volume.metadata.deletion_timestamp.is_none() {
                let same = DeleteParams::default().preconditions(kube::api::Preconditions {
                    uid: volume.metadata.uid.clone(),
                    resource_version: None,
                });
                volumes.delete(&name, &same).await?;
            }
            let Some(now) = volumes.get_opt(&name).await? else {
                return Ok(());
            };
            let left: Vec<&String> = now.finalizers().iter().filter(|f| *f != FINALIZER).collect();
            if left.len() == now.finalizers().len() {
                return Ok(());
            }
            let patch =
                json!({"metadata": {"resourceVersion": now.metadata.resource_version, "finalizers": left}});
            volumes
                .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
                .await?;
            Ok::<(), kube::Error>(())
        };
        match result.await {
            Ok(()) => tracing::info!(volume = name, "volume deleted"),
            Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
            Err(error) => tracing::warn!(volume = name, %error, "a volume's object stays for now"),
        }
    }
}

/// Whether a volume is the claim's.
fn belongs(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    let reference = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    reference.is_some_and(|reference| reference.uid.is_some() && reference.uid == claim.metadata.uid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn disks_and_directories() {
        let class = |shared: Option<&str>| -> StorageClass {
            let parameters = shared.map(|value| json!({"shared": value}));
            let class =
                json!({"metadata": {"name": "c"}, "provisioner": PROVISIONER, "parameters": parameters});
            serde_json::from_value(class).expect("a class")
        };
        let claim = |mode: &str, block: bool| -> PersistentVolumeClaim {
            let kind = if block { "Block" } else { "Filesystem" };
            let claim = json!({"spec": {"accessModes": [mode], "volumeMode": kind}});
            serde_json::from_value(claim).expect("a claim")
        };
        let cases = [
            ("ReadWriteOnce", None, false, false),
            ("ReadWriteOnce", Some("false"), false, false),
            ("ReadWriteOnce", Some("true"), false, true),
            ("ReadWriteOnce", Some("true"), true, false),
            ("ReadWriteOncePod", Some("true"), false, false),
            ("ReadWriteMany", None, false, true),
        ];
        for (mode, shared, block, expected) in cases {
            let is = is_directory(&claim(mode, block), &class(shared));
            assert_eq!(is, expected, "{mode} {shared:?} block: {block}");
        }
    }

    #[test]
    fn quantities_that_people_read() {
        let cases = [
            (16 << 20, "16Mi"),
            (3 << 30, "3Gi"),
            (2 << 40, "2Ti"),
            (1500 << 20, "1500Mi"),
            (7, "7"),
        ];
        for (bytes, expected) in cases {
            assert_eq!(quantity(bytes), expected);
        }
    }
}
