//! Growth of volumes: the file, the disk of a running VM, the file system in it, and the words at each step (upstream:
//! `external-resizer`, the kubelet's `NodeExpandVolume`, and pkg/volume/util/resize_util.go for what the claim shows).
//!
//! A file grows at once. Of a volume that a VM has, disk and file system follow at once too; of any other, the guest
//! makes the file system as big as the disk when it mounts it. What VMs share is mounted, and grown, by the host.

use std::time::Duration;

use guest_api::v1::ResizeVolumeRequest;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::api::{Patch, PatchParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use super::provision::{Provisioner, quantity, reference, wanted_bytes};
use super::{file_size, serial};
use crate::events::Kind;
use crate::podvm::{Machine, Stage};
use crate::size;

/// How long a guest may take: growing writes block groups.
const CALL: Duration = Duration::from_secs(60);

fn bytes(
    list: Option<
        &std::collections::BTreeMap<String, k8s_openapi::apimachinery::pkg::api::resource::Quantity>,
    >,
) -> u64 {
    list.and_then(|all| all.get("storage"))
        .and_then(size::whole)
        .unwrap_or(0)
}

/// Brings volume and claim to the size that the claim asks for.
pub(super) async fn run(
    provisioner: &Provisioner,
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    handle: &str,
) {
    let Some(wanted) = wanted_bytes(claim).map(file_size) else {
        return;
    };
    let has = bytes(volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()));
    let shows = bytes(claim.status.as_ref().and_then(|status| status.capacity.as_ref()));
    // A claim that is not bound yet gets its size with the binding.
    if shows == 0 || (wanted <= has && shows >= has) {
        return;
    }
    if let Err(problem) = steps(provisioner, claim, volume, handle, wanted, has).await {
        tracing::debug!(handle, problem, "a volume does not grow yet");
    }
}

async fn steps(
    provisioner: &Provisioner,
    claim: &PersistentVolumeClaim,
    volume: &PersistentVolume,
    handle: &str,
    wanted: u64,
    has: u64,
) -> Result<(), String> {
    let context = &provisioner.context;
    let say =
        |kind, reason, message: String| context.recorder.record(reference(claim), kind, reason, message);
    let name = volume.name_any();
    let volumes: Api<PersistentVolume> = Api::all(context.deps.client.clone());
    let total = wanted.max(has);
    if wanted > has {
        say(
            Kind::Normal,
            "Resizing",
            format!("External resizer is resizing volume {name}"),
        );
        let resizing = condition("Resizing", "");
        write_status(
            provisioner,
            claim,
            &json!({"conditions": [resizing], "allocatedResources": {"storage": quantity(wanted)},
                "allocatedResourceStatuses": {"storage": "ControllerResizeInProgress"}}),
        )
        .await?;
        if let Err(error) = context.datastore.grow(handle, wanted) {
            let message = format!(
                "resize volume \"{name}\" by resizer \"{}\" failed: {error}",
                super::PROVISIONER
            );
            say(Kind::Warning, "VolumeResizeFailed", message.clone());
            return Err(message);
        }
        let patch = json!({"spec": {"capacity": {"storage": quantity(wanted)}}});
        volumes
            .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(|error| error.to_string())?;
    }
    let shared = super::is_shared(volume);
    let block = volume.spec.as_ref().and_then(|spec| spec.volume_mode.as_deref()) == Some("Block");
    let user = user(provisioner, handle);
    let done = match &user {
        _ if shared => match context.datastore.grow_shared(handle).await {
            Ok(()) => true,
            // As soon as nobody has it, it can be done.
            Err(error) => {
                tracing::debug!(handle, %error, "a shared volume does not grow while it is mounted");
                false
            }
        },
        Some(machine) => {
            grow_in_vm(machine, handle, total).await?;
            true
        }
        None => block,
    };
    if done {
        write_status(
            provisioner,
            claim,
            &json!({"capacity": {"storage": quantity(total)}, "conditions": null,
                "allocatedResources": {"storage": quantity(total)}, "allocatedResourceStatuses": null}),
        )
        .await?;
        let message = format!("MountVolume.NodeExpandVolume succeeded for volume \"{name}\"");
        say(Kind::Normal, "FileSystemResizeSuccessful", message);
        return Ok(());
    }
    let waiting = "Waiting for user to (re-)start a pod to finish file system resize of volume on node.";
    let told = claim
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    if told
        .clone()
        .all(|condition| condition.type_ != "FileSystemResizePending")
    {
        let pending = condition("FileSystemResizePending", waiting);
        write_status(
            provisioner,
            claim,
            &json!({"conditions": [pending], "allocatedResourceStatuses": {"storage": "NodeResizePending"}}),
        )
        .await?;
        say(
            Kind::Normal,
            "FileSystemResizeRequired",
            "Require file system resize of volume on node".to_owned(),
        );
    }
    Ok(())
}

/// A condition of a claim that grows.
fn condition(kind: &str, message: &str) -> Value {
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let mut condition = json!({"type": kind, "status": "True", "lastTransitionTime": now});
    if !message.is_empty() {
        condition["message"] = json!(message);
    }
    condition
}

/// The running VM that has the volume.
pub(super) fn user(provisioner: &Provisioner, handle: &str) -> Option<Machine> {
    let views = provisioner.pods.all().into_iter().map(|pod| pod.view());
    views
        .filter(|view| view.stage == Stage::Running)
        .filter_map(|view| view.machine)
        .find(|machine| {
            machine
                .disks
                .iter()
                .any(|disk| disk.handle == handle && !disk.read_only)
        })
}

async fn grow_in_vm(machine: &Machine, handle: &str, bytes: u64) -> Result<(), String> {
    let serial = serial(handle);
    machine
        .vm
        .resize_disk(&serial, bytes)
        .await
        .map_err(|error| error.to_string())?;
    let mut client = machine.guest.client().await.map_err(|error| error.to_string())?;
    let request = ResizeVolumeRequest { serial, bytes };
    tokio::time::timeout(CALL, client.resize_volume(request))
        .await
        .map_err(|_| "the guest does not answer".to_owned())?
        .map_err(|status| status.message().to_owned())?;
    Ok(())
}

async fn write_status(
    provisioner: &Provisioner,
    claim: &PersistentVolumeClaim,
    status: &Value,
) -> Result<(), String> {
    let claims: Api<PersistentVolumeClaim> = Api::namespaced(
        provisioner.context.deps.client.clone(),
        claim.metadata.namespace.as_deref().unwrap_or_default(),
    );
    claims
        .patch_status(
            &claim.name_any(),
            &PatchParams::default(),
            &Patch::Merge(json!({"status": status})),
        )
        .await
        .map(|_| ())
        .map_err(|error| error.to_string())
}
