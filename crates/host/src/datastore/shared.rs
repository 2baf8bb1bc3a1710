//! Volumes that several VMs write to: the host mounts the disk file, and each VM gets the directory by a virtiofsd of
//! its own.
//!
//! The file is the same ext4 image as that of any other volume, so that its size is a limit that holds, and that copies
//! and snapshots are made in one way. Only images that the host itself has made and written come here: a file system
//! that a guest has written as a disk is never mounted by the host's kernel.
//!
//! A mount outlives the agent, as the VMs do. Should the next agent live in another mount namespace, `mount` takes the
//! loop device that is there already, and both see one file system.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{Datastore, DatastoreError, GRAIN};

/// Nothing here takes long unless the disk is dying.
const LIMIT: Duration = Duration::from_secs(120);
/// Set-uid programs and devices in a volume are the guests' affair; the host sees neither.
const OPTIONS: &str = "loop,nosuid,nodev,noexec,errors=remount-ro";

/// Runs a program of the system to its end.
async fn run(what: &str, program: &str, arguments: &[&str]) -> Result<(), DatastoreError> {
    let arguments: Vec<&OsStr> = arguments.iter().map(OsStr::new).collect();
    run_within(LIMIT, what, program, &arguments).await
}

/// The same with another limit.
pub(super) async fn run_within(
    limit: Duration,
    what: &str,
    program: &str,
    arguments: &[&OsStr],
) -> Result<(), DatastoreError> {
    let fail = |problem: String| DatastoreError::Command {
        what: what.to_owned(),
        problem,
    };
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(limit, command.output())
        .await
        .map_err(|_| fail(format!("{program} does not end")))?
        .map_err(|error| fail(format!("{program}: {error}")))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(fail(format!("{program}: {}", said.trim())))
        }
    }
}

/// Whether a directory is the root of another file system than its parent's.
fn is_mounted(directory: &Path) -> bool {
    let device = |path: &Path| std::fs::metadata(path).ok().map(|data| data.dev());
    let parent = directory.parent().and_then(device);
    device(directory).is_some_and(|own| Some(own) != parent)
}

/// The block device of a mounted directory.
fn device_of(directory: &Path) -> Option<String> {
    let device = std::fs::metadata(directory).ok()?.dev();
    let (major, minor) = (rustix::fs::major(device), rustix::fs::minor(device));
    let text = std::fs::read_to_string(format!("/sys/dev/block/{major}:{minor}/uevent")).ok()?;
    let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
    Some(format!("/dev/{name}"))
}

impl Datastore {
    fn mount_point(&self, handle: &str) -> Result<PathBuf, DatastoreError> {
        Ok(self.path(handle)?.with_extension("mnt"))
    }

    /// Mounts a volume, if it is not, and returns its directory. It stays for as long as somebody has the volume.
    pub async fn mount(&self, handle: &str) -> Result<PathBuf, DatastoreError> {
        let (image, directory) = (self.path(handle)?, self.mount_point(handle)?);
        let _alone = self.mounts.lock().await;
        std::fs::create_dir_all(&directory).map_err(|source| DatastoreError::File {
            path: directory.clone(),
            source,
        })?;
        if self.format && !is_mounted(&directory) {
            // It may have grown while nobody had it.
            fill(handle, &image).await?;
            let what = format!("mounting volume {handle}");
            let (from, to) = (text(&image)?, text(&directory)?);
            run(&what, "mount", &["-t", "ext4", "-o", OPTIONS, from, to]).await?;
        }
        Ok(directory)
    }

    /// Makes the file system of a volume as big as its file. While it is mounted the kernel wants the right to use
    /// resources without limit for it (`CAP_SYS_RESOURCE`), which an agent in a container may lack.
    pub(super) async fn grow_shared(&self, handle: &str) -> Result<(), DatastoreError> {
        let (image, directory) = (self.path(handle)?, self.mount_point(handle)?);
        let _alone = self.mounts.lock().await;
        if !self.format {
            return Ok(());
        }
        if !is_mounted(&directory) {
            return fill(handle, &image).await;
        }
        let what = format!("growing volume {handle}");
        let device = device_of(&directory).ok_or_else(|| DatastoreError::Command {
            what: what.clone(),
            problem: "its device is not found".to_owned(),
        })?;
        run(&what, "losetup", &["--set-capacity", &device]).await?;
        run(&what, "resize2fs", &[&device]).await
    }

    /// Unmounts what nobody has any more.
    pub async fn unmount_unused(&self) -> Result<(), DatastoreError> {
        let _alone = self.mounts.lock().await;
        for (handle, directory) in mount_points(&self.directory) {
            if !self.users.lock().contains_key(&handle) {
                unmount(&directory).await?;
            }
        }
        Ok(())
    }

    /// Holds back everybody who writes to a mounted volume, or lets them go on.
    pub(super) async fn freeze_mounted(&self, handle: &str, frozen: bool) -> Result<(), DatastoreError> {
        let directory = self.mount_point(handle)?;
        if !self.format || !is_mounted(&directory) {
            return Ok(());
        }
        let flag = if frozen { "--freeze" } else { "--unfreeze" };
        run("holding back writers", "fsfreeze", &[flag, text(&directory)?]).await
    }

    /// Lets everybody go on whom an agent has held back that died over it.
    pub(super) async fn thaw_all(&self) {
        let _alone = self.mounts.lock().await;
        for (handle, _) in mount_points(&self.directory) {
            if let Err(error) = self.freeze_mounted(&handle, false).await {
                // As a rule: there is nothing frozen.
                tracing::debug!(handle, %error, "not thawed");
            }
        }
    }
}

/// Makes the file system in an image that is not mounted as big as the image.
async fn fill(handle: &str, image: &Path) -> Result<(), DatastoreError> {
    let size = std::fs::metadata(image).map_or(0, |data| data.len());
    if file_system_bytes(image).is_none_or(|has| has >= size / GRAIN * GRAIN) {
        return Ok(());
    }
    let what = format!("growing volume {handle}");
    let name = text(image)?;
    // Without a fresh check it is not made bigger; what the check mends by itself is no failure.
    if let Err(error) = run(&what, "e2fsck", &["-f", "-p", name]).await {
        tracing::warn!(handle, %error, "the file system was mended");
    }
    run(&what, "resize2fs", &[name]).await
}

/// The size of an ext4 file system by its superblock: blocks at byte 4, the logarithm of their size in KiB at byte 24.
fn file_system_bytes(image: &Path) -> Option<u64> {
    use std::os::unix::fs::FileExt as _;
    let mut block = [0_u8; 28];
    std::fs::File::open(image)
        .ok()?
        .read_exact_at(&mut block, 1024)
        .ok()?;
    let number = |at: usize| {
        let bytes = block.get(at..at + 4)?;
        Some(u64::from(u32::from_le_bytes(bytes.try_into().ok()?)))
    };
    number(4)?.checked_mul(1024_u64.checked_shl(u32::try_from(number(24)?).ok()?)?)
}

fn text(path: &Path) -> Result<&str, DatastoreError> {
    path.to_str()
        .ok_or_else(|| DatastoreError::Handle(path.display().to_string()))
}

fn mount_points(volumes: &Path) -> Vec<(String, PathBuf)> {
    let entries = std::fs::read_dir(volumes).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let path = entry.path();
            let handle = path.file_stem()?.to_str()?.to_owned();
            (path.extension()? == "mnt").then_some((handle, path))
        })
        .collect()
}

async fn unmount(directory: &Path) -> Result<(), DatastoreError> {
    if is_mounted(directory) {
        let what = format!("unmounting {}", directory.display());
        run(&what, "umount", &[text(directory)?]).await?;
    }
    std::fs::remove_dir(directory).map_err(|source| DatastoreError::File {
        path: directory.to_path_buf(),
        source,
    })
}

/// Unmounts all shared volumes below a data directory, whose VMs are gone; for `podvisor down`.
pub async fn unmount_all(data_dir: &Path) -> Vec<String> {
    let mut problems = Vec::new();
    for (_, directory) in mount_points(&super::directory_of(data_dir)) {
        if let Err(error) = unmount(&directory).await {
            problems.push(error.to_string());
        }
    }
    problems
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn images_grow_while_nobody_has_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Datastore::open(directory.path().to_path_buf(), true).expect("opened");
        store.create("pvc-1", 16 << 20, true).await.expect("created");
        let image = store.path("pvc-1").expect("a name");
        assert_eq!(file_system_bytes(&image), Some(16 << 20));
        store.grow("pvc-1", 40 << 20).expect("grown");
        store.grow_shared("pvc-1").await.expect("filled");
        assert_eq!(file_system_bytes(&image), Some(40 << 20));
        // A copy may be bigger than what it is of.
        store.copy("pvc-1", "snapshot-1", 48 << 20).await.expect("copied");
        assert_eq!(store.size("snapshot-1"), Some(48 << 20));
        store.grow_shared("snapshot-1").await.expect("filled");
        assert_eq!(
            file_system_bytes(&store.path("snapshot-1").expect("a name")),
            Some(48 << 20)
        );
    }
}
