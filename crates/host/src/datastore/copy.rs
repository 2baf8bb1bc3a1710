//! Copies of volumes: of a claim for a clone or a snapshot, of a snapshot for a claim.
//!
//! A copy shares its blocks with the original where the file system can (`FICLONE`), else only what is written is
//! copied. While a VM has the volume, its guest holds writers back and writes everything out, so that the copy is what
//! a clean unmount would have left; of a raw block device, the VM stands still meanwhile.

use std::time::{Duration, SystemTime};

use guest_api::v1::FreezeVolumeRequest;

use super::attach::DiskKind;
use super::provision::Provisioner;
use super::shared::run_within;
use super::{Datastore, DatastoreError, expand, serial};
use crate::podvm::Machine;

/// Longest copy. Guests let writers go on by themselves after this time.
const COPY: Duration = Duration::from_secs(600);
/// How long a guest may take to write everything out.
const FREEZE: Duration = Duration::from_secs(60);

impl Datastore {
    /// Copies a file of the datastore under another name, at least `bytes` big. One that is there already stays.
    pub async fn copy(&self, from: &str, to: &str, bytes: u64) -> Result<(), DatastoreError> {
        use std::os::unix::fs::MetadataExt as _;
        let (source, path) = (self.path(from)?, self.path(to)?);
        if path.exists() {
            return Ok(());
        }
        let fail = |source| DatastoreError::File {
            path: path.clone(),
            source,
        };
        let data = std::fs::metadata(&source).map_err(fail)?;
        self.room(data.blocks() * 512)?;
        let draft = self.directory.join(format!("{to}.new"));
        let arguments = [
            "--reflink=auto".as_ref(),
            "--sparse=auto".as_ref(),
            source.as_os_str(),
            draft.as_os_str(),
        ];
        run_within(COPY, &format!("copying {from}"), "cp", &arguments).await?;
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(&draft)
            .map_err(fail)?;
        if data.len() < bytes {
            file.set_len(bytes).map_err(fail)?;
        }
        self.publish(&file, &draft, &path)
    }

    /// When a file was last written to: of a snapshot, when it was taken.
    pub(super) fn time(&self, handle: &str) -> Option<SystemTime> {
        std::fs::metadata(self.path(handle).ok()?).ok()?.modified().ok()
    }
}

/// Copies a volume, in use or not.
pub(super) async fn volume(
    provisioner: &Provisioner,
    from: &str,
    to: &str,
    bytes: u64,
) -> Result<(), DatastoreError> {
    let store = &provisioner.context.datastore;
    if store.size(to).is_some() {
        return Ok(());
    }
    let Some(machine) = expand::user(provisioner, from) else {
        let uid = store.hold(from)?;
        let copied = store.copy(from, to, bytes).await;
        store.release(&uid);
        return copied;
    };
    let kind = machine.disks.iter().find(|disk| disk.handle == from);
    match kind.map(|disk| disk.kind) {
        Some(DiskKind::Shared) => {
            let _alone = store.mounts.lock().await;
            store.freeze_mounted(from, true).await?;
            let copied = store.copy(from, to, bytes).await;
            store.freeze_mounted(from, false).await?;
            copied
        }
        Some(DiskKind::Block) => {
            let fail = |error: std::io::Error| DatastoreError::Command {
                what: "stopping the VM".to_owned(),
                problem: error.to_string(),
            };
            machine.vm.set_running(false).await.map_err(fail)?;
            let copied = store.copy(from, to, bytes).await;
            machine.vm.set_running(true).await.map_err(fail)?;
            copied
        }
        _ => {
            freeze(&machine, from, COPY).await?;
            let copied = store.copy(from, to, bytes).await;
            // A guest that is gone meanwhile holds nobody back.
            let thawed = freeze(&machine, from, Duration::ZERO).await;
            if let Err(error) = thawed {
                tracing::warn!(volume = from, %error, "the guest lets writers go on by itself");
            }
            copied
        }
    }
}

/// Holds back writers for a time; none: lets them go on.
async fn freeze(machine: &Machine, handle: &str, time: Duration) -> Result<(), DatastoreError> {
    let fail = |problem: String| DatastoreError::Command {
        what: "holding back writers".to_owned(),
        problem,
    };
    let mut client = machine
        .guest
        .client()
        .await
        .map_err(|error| fail(error.to_string()))?;
    let request = FreezeVolumeRequest {
        serial: serial(handle),
        seconds: u32::try_from(time.as_secs()).unwrap_or(u32::MAX),
    };
    let answer = tokio::time::timeout(FREEZE, client.freeze_volume(request)).await;
    answer
        .map_err(|_| fail("the guest does not answer".to_owned()))?
        .map_err(|status| fail(status.message().to_owned()))?;
    Ok(())
}
