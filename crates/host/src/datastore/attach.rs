//! From the claims and image volumes of a Pod to the disks of its VM.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod, Volume};
use kube::Api;
use serde::{Deserialize, Serialize};

use super::{Datastore, PROVISIONER, serial};
use crate::env;

/// Keeps a claim as long as Pods use it; those that have it already go on with it.
const PROTECTION: &str = "kubernetes.io/pvc-protection";
/// The access mode of volumes for one Pod of the whole cluster.
const ONE_POD: &str = "ReadWriteOncePod";

/// Volumes that cannot be made out: the text of the `FailedMount` event (upstream: `WaitForAttachAndMount` in
/// pkg/kubelet/volumemanager/volume_manager.go).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "Unable to attach or mount volumes: unmounted volumes=[{names}], unattached volumes=[], failed to process volumes=[{names}]: {reasons}",
    names = .0.iter().map(|(volume, _)| volume.as_str()).collect::<Vec<_>>().join(" "),
    reasons = .0.iter().map(|(_, reason)| reason.as_str()).collect::<Vec<_>>().join("; ")
)]
pub struct Unprocessed(Vec<(String, String)>);

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
    /// No second Pod may have it, here or elsewhere.
    #[serde(default)]
    pub one_pod: bool,
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
            one_pod: false,
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
) -> Result<Vec<VolumeDisk>, Unprocessed> {
    let (mut disks, mut problems) = (Vec::new(), Vec::new());
    let volumes = pod.spec.as_ref().and_then(|spec| spec.volumes.as_deref());
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for volume in volumes.unwrap_or_default() {
        let Some((name, read_only)) = claim(pod, volume) else {
            continue;
        };
        let found = match bound(client, pod, &name).await {
            Ok((claim, persistent)) => mode_fits(pod, &volume.name, &persistent)
                .and_then(|()| disk(datastore, volume, &claim, &persistent, read_only)),
            Err(reason) => Err(format!("error processing PVC {namespace}/{name}: {reason}")),
        };
        match found {
            Ok(disk) => disks.push(disk),
            Err(reason) => problems.push((volume.name.clone(), reason)),
        }
    }
    match problems.is_empty() {
        true => Ok(disks),
        false => Err(Unprocessed(problems)),
    }
}

/// A device is no directory, and a file system no device.
fn mode_fits(pod: &Pod, volume: &str, persistent: &PersistentVolume) -> Result<(), String> {
    let mode = persistent
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_mode.as_deref());
    let mode = mode.unwrap_or("Filesystem");
    let wrong = |used: bool, wanted: &str, place: &str| match used && mode != wanted {
        true => Err(format!(
            "volume {volume} has volumeMode {mode}, but is specified in {place}"
        )),
        false => Ok(()),
    };
    let mut all = env::all_containers(pod);
    let mounted = all.any(|c| c.volume_mounts.iter().flatten().any(|m| m.name == volume));
    let mut all = env::all_containers(pod);
    let device = all.any(|c| c.volume_devices.iter().flatten().any(|d| d.name == volume));
    wrong(mounted, "Filesystem", "volumeMounts")?;
    wrong(device, "Block", "volumeDevices")
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
    if is_going(&claim) {
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

/// Whether a claim in deletion is to be given to nobody. While it is protected, those that use it may begin anew: after a
/// crash, or a restart of their host (upstream: `getPVCExtractPV`).
fn is_going(claim: &PersistentVolumeClaim) -> bool {
    let finalizers = claim.metadata.finalizers.as_deref().unwrap_or_default();
    claim.metadata.deletion_timestamp.is_some() && !finalizers.iter().any(|name| name == PROTECTION)
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
        one_pod: persistent
            .spec
            .as_ref()
            .and_then(|spec| spec.access_modes.as_ref())
            .is_some_and(|modes| modes.as_slice() == [ONE_POD]),
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
        one_pod: false,
    }))
}

/// The API server's words.
pub(super) fn words(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn volumes_in_the_wrong_place() {
        let pod = |container: serde_json::Value| -> Pod {
            serde_json::from_value(json!({"spec": {"containers": [container]}})).expect("a Pod")
        };
        let mounts = || pod(json!({"name": "c", "volumeMounts": [{"name": "v", "mountPath": "/v"}]}));
        let devices = || pod(json!({"name": "c", "volumeDevices": [{"name": "v", "devicePath": "/dev/v"}]}));
        let volume = |mode: Option<&str>| -> PersistentVolume {
            serde_json::from_value(json!({"spec": {"volumeMode": mode}})).expect("a volume")
        };
        let cases = [
            (mounts(), None, ""),
            (mounts(), Some("Filesystem"), ""),
            (
                mounts(),
                Some("Block"),
                "volume v has volumeMode Block, but is specified in volumeMounts",
            ),
            (devices(), Some("Block"), ""),
            (
                devices(),
                None,
                "volume v has volumeMode Filesystem, but is specified in volumeDevices",
            ),
        ];
        for (pod, mode, expected) in cases {
            let found = mode_fits(&pod, "v", &volume(mode)).err().unwrap_or_default();
            assert_eq!(found, expected, "{mode:?}");
        }
        let problems = ["a", "b"].map(|name| (name.to_owned(), format!("no {name}")));
        assert_eq!(
            Unprocessed(problems.to_vec()).to_string(),
            "Unable to attach or mount volumes: unmounted volumes=[a b], unattached volumes=[], failed to process volumes=[a b]: no a; no b"
        );
    }

    #[test]
    fn protected_claims_serve_those_that_have_them() {
        let claim = |deleted: bool, finalizers: &[&str]| -> PersistentVolumeClaim {
            let time = deleted.then_some("2026-01-01T00:00:00Z");
            let claim = json!({"metadata": {"deletionTimestamp": time, "finalizers": finalizers}});
            serde_json::from_value(claim).expect("a claim")
        };
        let cases = [
            (claim(false, &[PROTECTION]), false),
            (claim(false, &[]), false),
            (claim(true, &["example.com/x", PROTECTION]), false),
            (claim(true, &["example.com/x"]), true),
            (claim(true, &[]), true),
        ];
        for (claim, expected) in cases {
            assert_eq!(is_going(&claim), expected, "{:?}", claim.metadata);
        }
    }
}
