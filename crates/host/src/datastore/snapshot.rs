//! Snapshots on this host: copies that are made for VolumeSnapshotContents and go with them (the part of upstream's
//! `csi-snapshotter`), and what claims are filled from.
//!
//! A snapshot is a file of the datastore like a volume's. Its name tells whether the host may mount what is made of it:
//! only what no guest has written as a disk.

use std::time::UNIX_EPOCH;

use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim};
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::attach::words;
use super::provision::Provisioner;
use super::{DatastoreError, PROVISIONER, copy, is_shared};
use crate::events::Kind;

const GROUP: &str = "snapshot.storage.k8s.io";
/// Annotation: the host of a snapshot, as in `controllers::storage`.
const NODE: &str = "datastore.podvisor.io/node";
const BEING_DELETED: &str = "snapshot.storage.kubernetes.io/volumesnapshot-being-deleted";
const FINALIZER: &str = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";
const MODE_CHANGE: &str = "snapshot.storage.kubernetes.io/allow-volume-mode-change";
/// What names of snapshots begin with: of directories that VMs share, and of disks.
const KINDS: [&str; 2] = ["snapshot-", "shared-snapshot-"];

/// One of the kinds of the group.
pub(super) fn resource(kind: &str, plural: &str) -> ApiResource {
    ApiResource {
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        api_version: format!("{GROUP}/v1"),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    }
}

/// `volumesnapshotcontents`.
pub(super) fn contents() -> ApiResource {
    resource("VolumeSnapshotContent", "volumesnapshotcontents")
}

fn text<'a>(object: &'a DynamicObject, at: &str) -> &'a str {
    object
        .data
        .pointer(at)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn reference(object: &DynamicObject) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP}/v1")),
        kind: Some("VolumeSnapshotContent".to_owned()),
        name: object.metadata.name.clone(),
        uid: object.metadata.uid.clone(),
        resource_version: object.metadata.resource_version.clone(),
        ..ObjectReference::default()
    }
}

/// Makes the snapshots of this host that are missing, and deletes those that are over.
pub(super) async fn sweep(provisioner: &Provisioner) {
    let node = provisioner.context.config.node_name.as_str();
    for content in provisioner.contents.state() {
        let here = content.annotations().get(NODE).is_some_and(|at| at == node);
        if !here || text(&content, "/spec/driver") != PROVISIONER {
            continue;
        }
        if content.metadata.deletion_timestamp.is_some() {
            finish(provisioner, &content).await;
        } else if content.data["status"]["readyToUse"] != true {
            make(provisioner, &content).await;
        }
    }
}

async fn make(provisioner: &Provisioner, content: &DynamicObject) {
    let store = &provisioner.context.datastore;
    let from = text(content, "/spec/source/volumeHandle");
    let result = match from.is_empty() {
        true => Ok(text(content, "/spec/source/snapshotHandle").to_owned()),
        false => {
            let uid = content.metadata.uid.clone().unwrap_or_default();
            let shared = provisioner.volume(from).is_some_and(|volume| is_shared(&volume));
            let to = format!("{}{uid}", KINDS[usize::from(shared)]);
            match store.size(from) {
                None => Err("the volume is not in the datastore of this host".to_owned()),
                Some(bytes) => match copy::volume(provisioner, from, &to, bytes).await {
                    // Its VM starts or ends just now.
                    Err(DatastoreError::InUse(_)) => return,
                    result => result.map(|()| to).map_err(|error| error.to_string()),
                },
            }
        }
    };
    let result = result.and_then(|handle| {
        let bytes = store.size(&handle);
        let bytes = bytes.ok_or_else(|| format!("snapshot {handle} is not in the datastore of this host"))?;
        Ok((handle, bytes))
    });
    let status = match result {
        Ok((handle, bytes)) => {
            let time = store
                .time(&handle)
                .and_then(|time| time.duration_since(UNIX_EPOCH).ok());
            let nanos = time.and_then(|time| i64::try_from(time.as_nanos()).ok());
            json!({"snapshotHandle": handle, "creationTime": nanos, "restoreSize": bytes,
                "readyToUse": true, "error": null})
        }
        Err(problem) => {
            let message = format!(
                "Failed to check and update snapshot content: failed to take snapshot of the volume {from}: \"{problem}\""
            );
            if text(content, "/status/error/message") == message {
                return;
            }
            let recorder = &provisioner.context.recorder;
            recorder.record(
                reference(content),
                Kind::Warning,
                "SnapshotCreationFailed",
                message.clone(),
            );
            let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
            json!({"readyToUse": false, "error": {"message": message, "time": now}})
        }
    };
    let patch = Patch::Merge(json!({"status": status}));
    let name = content.name_any();
    let written = provisioner
        .contents_api()
        .patch_status(&name, &PatchParams::default(), &patch)
        .await;
    if let Err(error) = written {
        tracing::debug!(name, %error, "the state of a snapshot is not written yet");
    }
}

/// Deletes the copy where that is the policy, then lets the object go.
async fn finish(provisioner: &Provisioner, content: &DynamicObject) {
    if !content
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == FINALIZER)
    {
        return;
    }
    let bound = !text(content, "/spec/volumeSnapshotRef/uid").is_empty();
    let marked = content.annotations().contains_key(BEING_DELETED);
    if bound && !marked {
        // Somebody deletes the object while its snapshot is there.
        return;
    }
    let handle = match text(content, "/status/snapshotHandle") {
        "" => text(content, "/spec/source/snapshotHandle"),
        handle => handle,
    };
    if text(content, "/spec/deletionPolicy") == "Delete"
        && !handle.is_empty()
        && let Err(error) = provisioner.context.datastore.delete(handle)
    {
        let recorder = &provisioner.context.recorder;
        let message = format!("Failed to delete snapshot: {error}");
        recorder.record(reference(content), Kind::Warning, "SnapshotDeleteError", message);
        return;
    }
    let left: Vec<&String> = content
        .finalizers()
        .iter()
        .filter(|finalizer| *finalizer != FINALIZER)
        .collect();
    let patch = json!({"metadata": {
        "resourceVersion": content.metadata.resource_version, "finalizers": left}});
    let name = content.name_any();
    let result = provisioner
        .contents_api()
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await;
    match result {
        Ok(_) => tracing::info!(name, "snapshot deleted"),
        Err(kube::Error::Api(status)) if matches!(status.code, 404 | 409) => {}
        Err(error) => tracing::warn!(name, %error, "a snapshot's object stays for now"),
    }
}

/// What a claim is to be filled with.
pub(super) struct Origin {
    /// The file.
    pub handle: String,
    /// Its size in bytes.
    pub bytes: u64,
    /// It is a raw block device.
    block: bool,
    /// The host may mount it.
    shared: bool,
    /// What a refusal calls it.
    what: String,
    /// A volume that somebody may write to just now.
    pub live: bool,
    /// An administrator lets the volume mode change.
    mode_change: bool,
}

impl Origin {
    /// Why a claim cannot be filled with it.
    pub fn problem(&self, bytes: u64, block: bool, shared: bool) -> Option<String> {
        if bytes < self.bytes {
            return Some(format!(
                "requested volume size {bytes} is less than the size {} for the source {}",
                self.bytes, self.what
            ));
        }
        if block != self.block && !self.mode_change {
            return Some(format!(
                "requested volume modifies the mode of the source {} but does not have permission to do so. \
                 {MODE_CHANGE} annotation is not present on snapshotcontent",
                self.what
            ));
        }
        (shared && !self.shared).then(|| {
            format!(
                "access mode ReadWriteMany, or a class that shares, is not supported for the source {}: the host mounts \
                 only what no Pod has had as a disk",
                self.what
            )
        })
    }
}

/// The source of a claim, `None` for one that starts empty.
pub(super) async fn origin(
    provisioner: &Provisioner,
    claim: &PersistentVolumeClaim,
) -> Result<Option<Origin>, String> {
    let Some(spec) = &claim.spec else {
        return Ok(None);
    };
    let (group, kind, name) = match (&spec.data_source_ref, &spec.data_source) {
        (Some(source), _) => {
            let own = claim.metadata.namespace.as_deref();
            if source.namespace.as_deref().is_some_and(|from| Some(from) != own) {
                return Err("a dataSourceRef to another namespace is not supported".to_owned());
            }
            (source.api_group.as_deref(), source.kind.as_str(), &source.name)
        }
        (None, Some(source)) => (source.api_group.as_deref(), source.kind.as_str(), &source.name),
        (None, None) => return Ok(None),
    };
    let found = match (group.unwrap_or_default(), kind) {
        ("", "PersistentVolumeClaim") => of_claim(provisioner, claim, name),
        (GROUP, "VolumeSnapshot") => of_snapshot(provisioner, claim, name).await?,
        _ => return Err(format!("dataSource of kind {kind} is not supported")),
    };
    found.map(Some)
}

fn of_claim(provisioner: &Provisioner, claim: &PersistentVolumeClaim, name: &str) -> Result<Origin, String> {
    let what = format!("PVC {name}");
    let from = provisioner.claim(claim.metadata.namespace.as_deref().unwrap_or_default(), name);
    let from =
        from.ok_or_else(|| format!("error getting PVC {name} (namespace/name) from api server: not found"))?;
    if from.metadata.deletion_timestamp.is_some() {
        return Err(format!("the source PVC {name} is being deleted"));
    }
    let phase = from.status.as_ref().and_then(|status| status.phase.as_deref());
    if phase != Some("Bound") {
        return Err(format!("the source PVC {name} is not bound"));
    }
    let named = from
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.clone())
        .unwrap_or_default();
    let volume = provisioner
        .volume_named(&named)
        .ok_or_else(|| format!("the PV of the source PVC {name} is missing"))?;
    let handle = handle_of(&volume).ok_or_else(|| format!("the source {what} is not of the datastore"))?;
    let bytes = provisioner.context.datastore.size(&handle);
    Ok(Origin {
        bytes: bytes.ok_or_else(|| format!("the source {what} is not in the datastore of this host"))?,
        block: volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()) == Some("Block"),
        shared: is_shared(&volume),
        handle,
        what,
        live: true,
        mode_change: false,
    })
}

fn handle_of(volume: &PersistentVolume) -> Option<String> {
    let source = volume.spec.as_ref()?.csi.as_ref()?;
    (source.driver == PROVISIONER).then(|| source.volume_handle.clone())
}

async fn of_snapshot(
    provisioner: &Provisioner,
    claim: &PersistentVolumeClaim,
    name: &str,
) -> Result<Result<Origin, String>, String> {
    let what = format!("snapshot {name}");
    let snapshots: Api<DynamicObject> = Api::namespaced_with(
        provisioner.context.deps.client.clone(),
        claim.metadata.namespace.as_deref().unwrap_or_default(),
        &resource("VolumeSnapshot", "volumesnapshots"),
    );
    let snapshot = snapshots
        .get(name)
        .await
        .map_err(|error| format!("error getting snapshot {name} from api server: {}", words(&error)))?;
    if snapshot.data["status"]["readyToUse"] != true {
        return Err(format!("snapshot {name} is not Ready"));
    }
    let bound = text(&snapshot, "/status/boundVolumeSnapshotContentName");
    let content = provisioner.contents_api().get(bound).await.map_err(|error| {
        format!(
            "error getting snapshotcontent {bound} for snapshot {name}: {}",
            words(&error)
        )
    })?;
    if content.data["spec"]["volumeSnapshotRef"]["uid"].as_str() != snapshot.metadata.uid.as_deref() {
        return Err(format!(
            "snapshotcontent {bound} for snapshot {name} is bound to a different snapshot"
        ));
    }
    let handle = text(&content, "/status/snapshotHandle").to_owned();
    let Some(bytes) = provisioner.context.datastore.size(&handle) else {
        return Err(format!("the source {what} is not in the datastore of this host"));
    };
    Ok(Ok(Origin {
        bytes,
        block: text(&content, "/spec/sourceVolumeMode") == "Block",
        shared: handle.starts_with(KINDS[1]),
        handle,
        what,
        live: false,
        mode_change: content
            .annotations()
            .get(MODE_CHANGE)
            .is_some_and(|value| value == "true"),
    }))
}

/// Fills a new volume.
pub(super) async fn fill(
    provisioner: &Provisioner,
    origin: &Origin,
    to: &str,
    bytes: u64,
) -> Result<(), DatastoreError> {
    match origin.live {
        true => copy::volume(provisioner, &origin.handle, to, bytes).await,
        false => {
            let store = &provisioner.context.datastore;
            store.copy(&origin.handle, to, bytes).await
        }
    }
}
