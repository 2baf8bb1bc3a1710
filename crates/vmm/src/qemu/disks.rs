//! Disks as QEMU wants them: the same two descriptions at start and when plugged in later.

use std::fs::OpenOptions;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::qmp::{Qmp, QmpError};
use crate::vm::{Disk, DiskError};

/// Name of the SCSI controller.
pub(super) const BUS: &str = "scsi";
/// An unplugged device needs a moment until its last request is done.
const UNPLUG_LIMIT: Duration = Duration::from_secs(10);
const LOOK: Duration = Duration::from_millis(10);

/// The node that reads and writes the file. Shared images are protected by being opened for reading only.
pub(super) fn node(disk: &Disk, file: &str) -> Value {
    json!({
        "driver": "raw",
        "node-name": node_name(&disk.serial),
        "read-only": disk.read_only,
        "discard": "unmap",
        "file": {"driver": "file", "filename": file, "locking": "off"},
    })
}

/// The device that the guest sees.
pub(super) fn device(disk: &Disk) -> Value {
    json!({
        "driver": "scsi-hd",
        "id": device_name(&disk.serial),
        "bus": format!("{BUS}.0"),
        "drive": node_name(&disk.serial),
        "serial": disk.serial,
        "share-rw": disk.read_only,
        // While the host has no room for what the guest writes, the VM stands still (see `end`): told of it, the guest's
        // file system would lose the data and turn read-only for good. Other errors are the guest's to know.
        "werror": "enospc",
        "rerror": "report",
    })
}

fn node_name(serial: &str) -> String {
    format!("node-{serial}")
}

fn device_name(serial: &str) -> String {
    format!("disk-{serial}")
}

/// Plugs a disk in. QEMU sees no file system any more, so the open file is handed over.
pub(super) async fn attach(socket: &Path, disk: &Disk) -> Result<(), DiskError> {
    let file = OpenOptions::new()
        .read(true)
        .write(!disk.read_only)
        .open(&disk.path)
        .map_err(|source| DiskError::File {
            path: disk.path.clone(),
            source,
        })?;
    let work = async {
        let mut qmp = Qmp::connect(socket).await?;
        let set = qmp.command_with_file("add-fd", json!({}), file.as_fd()).await?;
        let set = set["fdset-id"].as_u64().unwrap_or_default();
        let result = async {
            let name = format!("/dev/fdset/{set}");
            let added = qmp.command("blockdev-add", node(disk, &name)).await.map(drop);
            known(disk, added)?;
            let plugged = qmp.command("device_add", device(disk)).await.map(drop);
            let plugged = known(disk, plugged);
            if plugged.is_err() {
                let node = json!({"node-name": node_name(&disk.serial)});
                // The first refusal is the one to tell.
                let _ = qmp.command("blockdev-del", node).await;
            }
            plugged
        }
        .await;
        // The node has its own copy of the descriptor; the set goes when that is closed.
        let _ = qmp.command("remove-fd", json!({"fdset-id": set})).await;
        result
    };
    work.await.map_err(|error| refused(disk, error))
}

/// A disk for reading is named by its content: one that is there already, by an agent that did not live to note it, is
/// the one that is wanted.
fn known(disk: &Disk, result: Result<(), QmpError>) -> Result<(), QmpError> {
    match result {
        Err(QmpError::Refused { reason, .. }) if disk.read_only && reason.starts_with("Duplicate ") => Ok(()),
        result => result,
    }
}

/// Unplugs a disk and waits until its file is closed.
pub(super) async fn detach(socket: &Path, serial: &str) -> Result<(), DiskError> {
    let work = async {
        let mut qmp = Qmp::connect(socket).await?;
        qmp.command("device_del", json!({"id": device_name(serial)}))
            .await?;
        let end = Instant::now() + UNPLUG_LIMIT;
        loop {
            let deleted = qmp
                .command("blockdev-del", json!({"node-name": node_name(serial)}))
                .await;
            match deleted {
                Err(QmpError::Refused { .. }) if Instant::now() < end => tokio::time::sleep(LOOK).await,
                result => return result.map(drop),
            }
        }
    };
    work.await.map_err(|error| DiskError::Refused {
        serial: serial.to_owned(),
        reason: error.to_string(),
    })
}

/// Makes a disk this many bytes big, and its file if that is smaller.
pub(super) async fn resize(socket: &Path, serial: &str, bytes: u64) -> Result<(), QmpError> {
    let mut qmp = Qmp::connect(socket).await?;
    let arguments = json!({"node-name": node_name(serial), "size": bytes});
    qmp.command("block_resize", arguments).await.map(drop)
}

fn refused(disk: &Disk, error: QmpError) -> DiskError {
    DiskError::Refused {
        serial: disk.serial.clone(),
        reason: error.to_string(),
    }
}
