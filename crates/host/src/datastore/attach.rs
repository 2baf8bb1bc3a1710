//! From the claims and image volumes of a Pod to the disks of its VM.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube::Api;
use serde::{Deserialize, Serialize};

use super::{Datastore, PROVISIONER, serial};
use crate::volumes::VolumeError;

/// What a disk of a Pod VM is to its containers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskKind {
    /// A PersistentVolume with a file system.
    FileSystem,
    /// A PersistentVolume handed on as a device.
    Block,
    /// A PersistentVolume of several VMs: a directory of the host, by virtiofs.
    Shared,
    /// The content of an image, read-only (KEP-4639).
    Image,
    /// A PersistentVolume of kind `hostPath`: a path of the node's file system.
    HostPath,
    /// The same of kind `local`: there already, and for the Pod's group.
    Local,
}

impl DiskKind {
    /// Whether it lies in the node's file system.
    pub fn of_node(self) -> bool {
        matches!(self, Self::HostPath | Self::Local)
    }
}

/// A disk of a Pod VM that is a volume of the Pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VolumeDisk {
    /// Name of the Pod's volume.
    pub volume: String,
    /// Name in the datastore, the image's id, or the name of the PersistentVolume.
    pub handle: String,
    /// The file; of one in the node's file system the path there.
    pub path: PathBuf,
    /// The Pod may only read it.
    pub read_only: bool,
    /// What it is to containers.
    pub kind: DiskKind,
    /// Options of its mount (`mountOptions` of the PersistentVolume).
    #[serde(default)]
    pub mount_options: Vec<String>,
    /// What a `hostPath` must be (`type`).
    #[serde(default)]
    pub path_type: String,
}

impl VolumeDisk {
    /// The disk of an image.
    pub fn image(volume: &str, image: &images::Image) -> Self {
        Self {
            volume: volume.to_owned(),
            handle: image.id.clone(),
            path: image.disk.clone(),
            read_only: true,
            kind: DiskKind::Image,
            mount_options: Vec::new(),
            path_type: String::new(),
        }
    }

    /// By which the guest finds it. An image has the same as when a container runs from it.
    pub fn serial(&self) -> String {
        match self.kind {
            DiskKind::Image => crate::podvm::image_serial(&self.handle),
            _ => serial(&self.handle),
        }
    }

    /// As the hypervisor takes it; a shared directory is no disk.
    pub fn disk(&self) -> Option<vmm::Disk> {
        (self.kind != DiskKind::Shared && !self.kind.of_node()).then(|| vmm::Disk {
            serial: self.serial(),
            path: self.path.clone(),
            read_only: self.read_only,
        })
    }
}

/// The claim of a Pod's volume, and whether the Pod may only read it.
pub fn claim(pod: &Pod, volume: &Volume) -> Option<(String, bool)> {
    if let Some(source) = &volume.persistent_volume_claim {
        return Some((source.claim_name.clone(), source.read_only == Some(true)));
    }
    volume.ephemeral.as_ref()?;
    let pod = pod.metadata.name.as_deref().unwrap_or_default();
    Some((format!("{pod}-{}", volume.name), false))
}

/// Whether a Pod has volumes that become disks.
pub fn is_claimed(volume: &Volume) -> bool {
    volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()
}

/// The disks for all claims of a Pod, as soon as all are bound to volumes of this host.
pub async fn resolve(
    client: &kube::Client,
    datastore: &Datastore,
    pod: &Pod,
) -> Result<Vec<VolumeDisk>, VolumeError> {
    let mut disks = Vec::new();
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
    for volume in volumes.unwrap_or_default() {
        let Some((name, read_only)) = claim(pod, volume) else {
            continue;
        };
        let found = bound(client, pod, &name).await.and_then(|(claim, persistent)| {
            let found = disk(datastore, volume, &claim, &persistent, read_only)?;
            Ok(found)
        });
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        disks.push(found.map_err(|reason| VolumeError {
            volume: volume.name.clone(),
            reason: format!("error processing PVC {namespace}/{name}: {reason}"),
        })?);
    }
    Ok(disks)
}

/// A claim and its volume.
async fn bound(
    client: &kube::Client,
    pod: &Pod,
    name: &str,
) -> Result<(PersistentVolumeClaim, PersistentVolume), String> {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(client.clone(), namespace);
    let claim = claims
        .get(name)
        .await
        .map_err(|error| format!("failed to fetch PVC from API server: {}", words(&error)))?;
    if claim.metadata.deletion_timestamp.is_some() {
        return Err("PVC is being deleted".to_owned());
    }
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
    let volume = match (phase, volume) {
        (Some("Bound"), Some(volume)) => volume,
        _ => return Err("PVC is not bound".to_owned()),
    };
    let volumes: Api<PersistentVolume> = Api::all(client.clone());
    let persistent = volumes.get(&volume).await.map_err(|error| {
        format!(
            "failed to fetch PV \"{volume}\" from API server: {}",
            words(&error)
        )
    })?;
    let reference = persistent.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref());
    if reference.and_then(|reference| reference.uid.clone()) != claim.metadata.uid {
        return Err(format!("PV \"{volume}\" is bound to another claim"));
    }
    Ok((claim, persistent))
}

/// The disk that a volume is on this host.
fn disk(
    datastore: &Datastore,
    volume: &Volume,
    claim: &PersistentVolumeClaim,
    persistent: &PersistentVolume,
    read_only: bool,
) -> Result<VolumeDisk, String> {
    let name = persistent.metadata.name.as_deref().unwrap_or_default();
    if let Some(disk) = of_node(volume, persistent, read_only) {
        return disk;
    }
    let source = persistent.spec.as_ref().and_then(|spec| spec.csi.as_ref());
    let Some(source) = source.filter(|source| source.driver == PROVISIONER) else {
        return Err(format!(
            "PV \"{name}\" is not of this host's datastore: only volumes of driver {PROVISIONER}, hostPath and local ones can be mounted"
        ));
    };
    let path = datastore
        .path(&source.volume_handle)
        .map_err(|error| error.to_string())?;
    if !path.exists() {
        return Err(format!(
            "the disk of PV \"{name}\" is not in the datastore of this host"
        ));
    }
    let mode = claim.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref());
    let many_read = claim
        .spec
        .as_ref()
        .and_then(|spec| spec.access_modes.as_ref())
        .is_some_and(|modes| !modes.is_empty() && modes.iter().all(|mode| mode == "ReadOnlyMany"));
    Ok(VolumeDisk {
        volume: volume.name.clone(),
        handle: source.volume_handle.clone(),
        path,
        read_only: read_only || source.read_only == Some(true) || many_read,
        kind: match mode {
            Some("Block") => DiskKind::Block,
            _ if super::is_shared(persistent) => DiskKind::Shared,
            _ => DiskKind::FileSystem,
        },
        mount_options: persistent
            .spec
            .as_ref()
            .and_then(|spec| spec.mount_options.clone())
            .unwrap_or_default(),
        path_type: String::new(),
    })
}

/// The place of a static volume in the node's file system, if it is one.
fn of_node(
    volume: &Volume,
    persistent: &PersistentVolume,
    read_only: bool,
) -> Option<Result<VolumeDisk, String>> {
    let spec = persistent.spec.as_ref()?;
    let (kind, path, path_type) = match (&spec.host_path, &spec.local) {
        (Some(source), _) => (DiskKind::HostPath, &source.path, source.type_.clone()),
        (None, Some(source)) => (DiskKind::Local, &source.path, None),
        (None, None) => return None,
    };
    let name = persistent.metadata.name.clone().unwrap_or_default();
    if spec.volume_mode.as_deref() == Some("Block") {
        return Some(Err(format!(
            "PV \"{name}\" is a path of the node, which has no block devices to give to a VM"
        )));
    }
    Some(Ok(VolumeDisk {
        volume: volume.name.clone(),
        handle: name,
        path: PathBuf::from(path),
        read_only,
        kind,
        mount_options: Vec::new(),
        path_type: path_type.unwrap_or_default(),
    }))
}

/// The API server's words.
pub(super) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}
