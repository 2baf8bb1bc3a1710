//! The host's datastore: PersistentVolumes as sparse raw disk files in the host's data directory.
//!
//! ```text
//! claim, node chosen ──► provision: HANDLE.img, PersistentVolume ──► claim bound ──► Pod starts: attach, a disk of its VM
//! volume released    ──► the file goes, then the object                               └► guest mounts it, or hands it on
//! ```
//! A file is a disk of at most one VM that writes to it: ext4 does not survive two. What several VMs write to
//! (ReadWriteMany) is mounted by the host, and they share the directory ([`shared`]). Who has which is known here and
//! stands in the run directory of each VM, for the next agent. Writes that the guest has synced are on the host's disk
//! (QEMU's cache mode `writeback` hands flushes on), so that a killed VM loses none of them.

pub mod attach;
mod copy;
mod expand;
pub mod provision;
pub mod shared;
mod snapshot;

use std::collections::HashMap;
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::PersistentVolume;
use parking_lot::Mutex;
use tokio::sync::watch;

use attach::DiskKind;

/// The provisioner, which is also the CSI driver's name in the volumes' sources.
pub const PROVISIONER: &str = "datastore.podvisor.io";
/// Volumes are at least so big: a file system with a journal needs room. Bytes.
pub const SMALLEST: u64 = 16 << 20;
/// Sizes are rounded up to this. Bytes.
const GRAIN: u64 = 1 << 20;

/// Why something could not be done to a volume's file.
#[derive(Debug, thiserror::Error)]
pub enum DatastoreError {
    /// A name that could lead elsewhere.
    #[error("\"{0}\" is no name of a volume: letters, digits, '-' and '.' only")]
    Handle(String),
    /// The disk file.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system in it.
    #[error("{0}")]
    Format(String),
    /// What a program of the system said when it mounted, copied or froze.
    #[error("{what}: {problem}")]
    Command {
        /// What was to be done.
        what: String,
        /// What it printed.
        problem: String,
    },
    /// Not enough space.
    #[error("not enough free space: {wanted} bytes are wanted, {free} bytes are free")]
    Full {
        /// What was asked for, in bytes.
        wanted: u64,
        /// What the file system has, in bytes.
        free: u64,
    },
    /// A VM has it.
    #[error("the volume is in use by pod(s) {0}")]
    InUse(String),
}

/// Who uses a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
struct User {
    uid: String,
    pod: String,
    read_only: bool,
    shared: bool,
}

/// The files and who uses them.
pub struct Datastore {
    directory: PathBuf,
    /// Simulated hosts put no file system into their files.
    format: bool,
    users: Mutex<HashMap<String, Vec<User>>>,
    changed: watch::Sender<u64>,
    /// One at a time mounts, unmounts, freezes and grows what the host itself has mounted.
    mounts: tokio::sync::Mutex<()>,
}

/// Attribute of volumes that several VMs may write to.
const SHARED: &str = "shared";

/// Whether a volume is of the kind that several VMs may write to.
fn is_shared(volume: &PersistentVolume) -> bool {
    let source = volume.spec.as_ref().and_then(|spec| spec.csi.as_ref());
    let attributes = source.and_then(|source| source.volume_attributes.as_ref());
    attributes.is_some_and(|all| all.get(SHARED).is_some_and(|value| value == "true"))
}

/// The size of the file for a claim.
pub fn file_size(wanted: u64) -> u64 {
    wanted.max(SMALLEST).div_ceil(GRAIN).saturating_mul(GRAIN)
}

impl Datastore {
    /// Opens the directory, which is made when it is missing; unfinished files of an earlier agent go.
    pub fn open(directory: PathBuf, format: bool) -> io::Result<Self> {
        std::fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&directory)?;
        for entry in std::fs::read_dir(&directory)?.filter_map(Result::ok) {
            if entry.path().extension().is_some_and(|end| end == "new") {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(Self {
            directory,
            format,
            users: Mutex::default(),
            changed: watch::channel(0).0,
            mounts: tokio::sync::Mutex::default(),
        })
    }

    /// The file of a volume. Handles come out of API objects: nothing in them may lead out of the directory.
    pub fn path(&self, handle: &str) -> Result<PathBuf, DatastoreError> {
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
        if handle.is_empty() || handle.starts_with('.') || handle.len() > 200 || !handle.chars().all(plain) {
            return Err(DatastoreError::Handle(handle.to_owned()));
        }
        Ok(self.directory.join(format!("{handle}.img")))
    }

    /// The size of a volume's file in bytes, if it is here.
    pub fn size(&self, handle: &str) -> Option<u64> {
        std::fs::metadata(self.path(handle).ok()?)
            .ok()
            .map(|data| data.len())
    }

    /// Makes the file of a volume, with an ext4 file system unless it is to be a raw block device. A volume that is
    /// there already stays as it is.
    pub async fn create(&self, handle: &str, bytes: u64, file_system: bool) -> Result<(), DatastoreError> {
        let path = self.path(handle)?;
        if path.exists() {
            return Ok(());
        }
        self.room(bytes)?;
        let draft = self.directory.join(format!("{handle}.new"));
        let fail = |source| DatastoreError::File {
            path: path.clone(),
            source,
        };
        let file = std::fs::File::create(&draft).map_err(fail)?;
        file.set_len(bytes).map_err(fail)?;
        if file_system && self.format {
            crate::podvm::make_file_system(&draft, bytes, &[])
                .await
                .map_err(DatastoreError::Format)?;
        }
        self.publish(&file, &draft, &path)
    }

    /// Gives a file its name, which appears only for what is whole and on disk.
    fn publish(&self, file: &std::fs::File, draft: &Path, path: &Path) -> Result<(), DatastoreError> {
        let fail = |source| DatastoreError::File {
            path: path.to_path_buf(),
            source,
        };
        file.sync_all().map_err(fail)?;
        std::fs::rename(draft, path).map_err(fail)?;
        self.sync().map_err(fail)
    }

    /// Makes a volume's file bigger; it never becomes smaller.
    pub fn grow(&self, handle: &str, bytes: u64) -> Result<(), DatastoreError> {
        let path = self.path(handle)?;
        let fail = |source| DatastoreError::File {
            path: path.clone(),
            source,
        };
        let file = std::fs::OpenOptions::new()
            .write(true)
            .open(&path)
            .map_err(fail)?;
        let now = file.metadata().map_err(fail)?.len();
        if now >= bytes {
            return Ok(());
        }
        self.room(bytes - now)?;
        file.set_len(bytes).map_err(fail)?;
        file.sync_all().map_err(fail)
    }

    /// Deletes the file of a volume that nobody uses. Idempotent.
    pub fn delete(&self, handle: &str) -> Result<(), DatastoreError> {
        let path = self.path(handle)?;
        // Held over the removal: nobody takes it meanwhile.
        let users = self.users.lock();
        if let Some(users) = users.get(handle) {
            return Err(DatastoreError::InUse(names(users)));
        }
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(DatastoreError::File { path, source: error })
            }
            _ => Ok(()),
        }
    }

    /// Gives volumes to a Pod, all or none: to one that writes alone, or to many that read, or that share a directory. The
    /// error names who has one.
    pub fn take(&self, uid: &str, pod: &str, disks: &[attach::VolumeDisk]) -> Result<(), (String, String)> {
        let mut users = self.users.lock();
        // Paths of the node are anybody's at any time.
        let disks = || disks.iter().filter(|disk| !disk.kind.of_node());
        for disk in disks() {
            let others: Vec<User> = users
                .get(&disk.handle)
                .into_iter()
                .flatten()
                .filter(|user| user.uid != uid)
                .cloned()
                .collect();
            let shared = match disk.kind {
                DiskKind::Shared => others.iter().all(|user| user.shared),
                _ => disk.read_only && others.iter().all(|user| user.read_only),
            };
            if !others.is_empty() && !shared {
                return Err((disk.handle.clone(), names(&others)));
            }
        }
        for disk in disks() {
            let all = users.entry(disk.handle.clone()).or_default();
            all.retain(|user| user.uid != uid);
            all.push(User {
                uid: uid.to_owned(),
                pod: pod.to_owned(),
                read_only: disk.read_only,
                shared: disk.kind == DiskKind::Shared,
            });
        }
        Ok(())
    }

    /// Keeps writers away from a volume that nobody writes to, until the returned name is released.
    fn hold(&self, handle: &str) -> Result<String, DatastoreError> {
        let mut users = self.users.lock();
        let all = users.entry(handle.to_owned()).or_default();
        let writers: Vec<User> = all.iter().filter(|user| !user.read_only).cloned().collect();
        if !writers.is_empty() {
            // On its way up or down: whoever asks comes again.
            return Err(DatastoreError::InUse(names(&writers)));
        }
        let uid = format!("copy of {handle}");
        all.push(User {
            uid: uid.clone(),
            pod: uid.clone(),
            read_only: true,
            shared: false,
        });
        Ok(uid)
    }

    /// Takes back everything that a Pod has.
    pub fn release(&self, uid: &str) {
        let mut users = self.users.lock();
        let before = users.len();
        for all in users.values_mut() {
            all.retain(|user| user.uid != uid);
        }
        users.retain(|_, all| !all.is_empty());
        if users.len() != before {
            self.changed.send_modify(|n| *n += 1);
        }
    }

    /// Told whenever a volume becomes free.
    pub fn freed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Sparse files may promise more than there is, but none more than is free now.
    fn room(&self, wanted: u64) -> Result<(), DatastoreError> {
        let stat = rustix::fs::statvfs(&self.directory).map_err(|error| DatastoreError::File {
            path: self.directory.clone(),
            source: error.into(),
        })?;
        let free = stat.f_bavail.saturating_mul(stat.f_frsize);
        if wanted > free {
            return Err(DatastoreError::Full { wanted, free });
        }
        Ok(())
    }

    fn sync(&self) -> io::Result<()> {
        std::fs::File::open(&self.directory)?.sync_all()
    }
}

fn names(users: &[User]) -> String {
    let names: Vec<&str> = users.iter().map(|user| user.pod.as_str()).collect();
    names.join(", ")
}

/// The serial number of a volume's disk: at most 20 characters, the same for the same volume.
pub fn serial(handle: &str) -> String {
    let digest = crate::deps::hex(&<sha2::Sha256 as sha2::Digest>::digest(handle.as_bytes()));
    format!("v{}", digest.get(..16).unwrap_or(&digest))
}

/// Whether a directory holds only what this module makes; for messages of `podvisor down`.
pub fn directory_of(data_dir: &Path) -> PathBuf {
    data_dir.join("volumes")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disk(handle: &str, read_only: bool) -> attach::VolumeDisk {
        attach::VolumeDisk {
            volume: "data".to_owned(),
            handle: handle.to_owned(),
            path: PathBuf::new(),
            read_only,
            kind: DiskKind::FileSystem,
            mount_options: Vec::new(),
            path_type: String::new(),
            one_pod: false,
        }
    }

    #[tokio::test]
    async fn files_come_grow_and_go() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Datastore::open(directory.path().join("volumes"), false).expect("opened");
        assert_eq!(file_size(1), SMALLEST);
        assert_eq!(file_size((20 << 20) + 1), 21 << 20);
        store.create("pvc-1", 20 << 20, true).await.expect("created");
        assert_eq!(store.size("pvc-1"), Some(20 << 20));
        store.grow("pvc-1", 30 << 20).expect("grown");
        store.grow("pvc-1", 10 << 20).expect("left alone");
        assert_eq!(store.size("pvc-1"), Some(30 << 20));
        let full = store.create("pvc-2", 1 << 60, true).await.expect_err("full");
        assert!(full.to_string().starts_with("not enough free space"), "{full}");
        for handle in ["", "../x", "a/b", ".hidden", "a\0b", "a_b"] {
            assert!(
                matches!(store.path(handle), Err(DatastoreError::Handle(_))),
                "{handle}"
            );
        }
        store.take("u1", "web-0", &[disk("pvc-1", false)]).expect("free");
        let used = store.delete("pvc-1").expect_err("in use");
        assert_eq!(used.to_string(), "the volume is in use by pod(s) web-0");
        store.release("u1");
        store.delete("pvc-1").expect("deleted");
        store.delete("pvc-1").expect("deleted again");
        assert_eq!(store.size("pvc-1"), None);
    }

    #[test]
    fn one_writes_or_many_read() {
        let directory = tempfile::tempdir().expect("a directory");
        let store = Datastore::open(directory.path().to_path_buf(), false).expect("opened");
        let freed = store.freed();
        store.take("u1", "a", &[disk("x", true)]).expect("free");
        store.take("u2", "b", &[disk("x", true)]).expect("shared");
        assert_eq!(
            store.take("u3", "c", &[disk("y", false), disk("x", false)]),
            Err(("x".to_owned(), "a, b".to_owned()))
        );
        // Nothing of a refused wish is kept.
        store.take("u4", "d", &[disk("y", false)]).expect("free");
        store.take("u4", "d", &[disk("y", false)]).expect("its own");
        store.release("u1");
        store.release("u2");
        assert!(freed.has_changed().expect("open"));
        store.take("u3", "c", &[disk("x", false)]).expect("free by now");
        let many = attach::VolumeDisk {
            kind: DiskKind::Shared,
            ..disk("z", false)
        };
        for uid in ["u5", "u6"] {
            store
                .take(uid, "e", std::slice::from_ref(&many))
                .expect("for everybody");
        }
    }

    #[tokio::test]
    async fn unfinished_files_go() {
        let directory = tempfile::tempdir().expect("a directory");
        std::fs::write(directory.path().join("pvc-1.new"), "").expect("written");
        Datastore::open(directory.path().to_path_buf(), false).expect("opened");
        assert!(!directory.path().join("pvc-1.new").exists());
    }
}
