//! What a VM is to the rest of the house.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tokio::io::{AsyncRead, AsyncWrite};

/// The id of a VM: lower-case letters, digits and dashes; part of paths, cgroups and device names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
pub struct VmId(String);

impl VmId {
    /// Takes an id; characters that paths must not have become dashes.
    pub fn new(id: &str) -> Self {
        let safe = |c: char| {
            if c.is_ascii_alphanumeric() || c == '-' {
                c.to_ascii_lowercase()
            } else {
                '-'
            }
        };
        Self(id.chars().map(safe).collect())
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VmId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// A disk of a VM, found in the guest by its serial number.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Disk {
    /// At most 20 letters and digits (SCSI has no room for more).
    pub serial: String,
    /// The raw image on the host.
    pub path: PathBuf,
    /// Whether the guest may only read it; such disks are shared between VMs.
    pub read_only: bool,
}

/// A directory of the host that a VM shares with others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// By which the guest finds it: at most 36 letters.
    pub tag: String,
    /// The directory: nothing outside of it can be reached.
    pub directory: PathBuf,
    /// Whether guests may only read it: the host's kernel sees to that.
    pub read_only: bool,
}

/// The network device of a VM.
#[derive(Debug)]
pub struct Nic {
    /// An open descriptor of the tap; none on a simulated network.
    pub tap: Option<OwnedFd>,
    /// The tap's name, for logs.
    pub tap_name: String,
    /// Hardware address.
    pub mac: [u8; 6],
}

/// What a VM shall be.
#[derive(Debug)]
pub struct VmSpec {
    /// Its id.
    pub id: VmId,
    /// A directory of its own, existing, for sockets and state.
    pub run_dir: PathBuf,
    /// Number of virtual CPUs.
    pub vcpus: u32,
    /// Memory in MiB.
    pub memory_mib: u64,
    /// Number of virtual CPUs that it may grow to while it runs.
    pub most_vcpus: u32,
    /// Memory in MiB that it may grow to while it runs.
    pub most_memory_mib: u64,
    /// Thousandths of a CPU that are its own under contention.
    pub cpu_request_millis: Option<u64>,
    /// Thousandths of a CPU that it never exceeds.
    pub cpu_limit_millis: Option<u64>,
    /// Disks from the start.
    pub disks: Vec<Disk>,
    /// Directories of the host.
    pub shares: Vec<Share>,
    /// Its network device.
    pub nic: Option<Nic>,
    /// What `ps` shows: namespace and name of the Pod.
    pub label: String,
}

/// How guests are executed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AccelInfo {
    /// `kvm`, `tcg` or `simulated`.
    pub name: &'static str,
    /// What an operator must know about it.
    pub warning: Option<String>,
}

/// How a VM ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ExitReason {
    /// The guest powered off.
    Shutdown,
    /// The guest's kernel panicked; its words.
    Panicked(String),
    /// The VM ran on, but its guest no longer answered: found by whoever holds the channel, who then kills it.
    Hung,
    /// The hypervisor ended without the guest's doing; the text says what is known.
    Crashed(String),
}

impl fmt::Display for ExitReason {
    /// As the end of a sentence about a Pod.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shutdown => formatter.write_str("its VM powered off"),
            Self::Panicked(words) => write!(formatter, "the kernel of its VM panicked: {words}"),
            Self::Hung => formatter.write_str("its VM no longer answered"),
            Self::Crashed(words) => write!(formatter, "its VM ended: {words}"),
        }
    }
}

/// Resource use of a VM as the host sees it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VmStats {
    /// CPU time in nanoseconds since its start.
    pub cpu_usage_ns: u64,
    /// Resident memory in bytes.
    pub memory_rss_bytes: u64,
}

/// Why a VM did not start.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// A file or program of the host.
    #[error("{what}: {source}")]
    Io {
        /// What was tried.
        what: String,
        /// What the system said.
        source: io::Error,
    },
    /// QEMU ended at once.
    #[error("QEMU ended at once: {0}")]
    Qemu(String),
    /// QEMU does not do what it is told.
    #[error("QEMU's control channel: {0}")]
    Control(String),
}

/// Why a disk could not be plugged in or out.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// The image on the host.
    #[error("{}: {source}", path.display())]
    File {
        /// The image.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The hypervisor does not do it.
    #[error("disk {serial}: {reason}")]
    Refused {
        /// The disk.
        serial: String,
        /// Its words.
        reason: String,
    },
}

/// Why a VM could not be taken over.
#[derive(Debug, thiserror::Error)]
#[error("cannot take over the VM in {run_dir}: {reason}")]
pub struct AdoptError {
    /// Its run directory.
    pub run_dir: PathBuf,
    /// What was wrong.
    pub reason: String,
}

/// Why something of a VM could not be removed; everything else has been.
#[derive(Debug, thiserror::Error)]
#[error("VM {id}: {problems}")]
pub struct KillError {
    /// The VM.
    pub id: VmId,
    /// What is left.
    pub problems: String,
}

/// The host's end of the guest's channel.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// Makes VMs and finds them again.
#[async_trait]
pub trait Hypervisor: Send + Sync {
    /// `qemu` or `simulated`.
    fn name(&self) -> &'static str;
    /// How guests are executed.
    fn accel(&self) -> AccelInfo;
    /// Whether VMs may be promised more memory than they start with: not where the system counts promises as use.
    fn grows(&self) -> bool {
        true
    }
    /// Starts a VM. On failure nothing of it is left but its run directory.
    async fn boot(&self, spec: VmSpec) -> Result<Arc<dyn Vm>, BootError>;
    /// Takes over the VM of a run directory; none when no VM runs there.
    async fn adopt(&self, run_dir: &Path) -> Result<Option<Arc<dyn Vm>>, AdoptError>;
}

/// A running VM.
#[async_trait]
pub trait Vm: Send + Sync {
    /// Its id.
    fn id(&self) -> &VmId;
    /// The hypervisor's process, if there is one.
    fn pid(&self) -> Option<u32>;
    /// The cgroup and the user of that process, for those who look after the host.
    fn confinement(&self) -> Option<(String, u32)> {
        None
    }
    /// Opens the guest's channel. One session at a time; a new one ends the one before.
    async fn channel(&self) -> io::Result<Box<dyn Stream>>;
    /// Waits for the end.
    async fn exited(&self) -> ExitReason;
    /// Ends the VM and removes its process, cgroup, root and sockets. When it returns without an error, nothing is
    /// left but the run directory and the caller's own files in it. Idempotent.
    async fn kill(&self) -> Result<(), KillError>;
    /// Plugs a disk in; the guest finds it by its serial number.
    async fn attach_disk(&self, disk: Disk) -> Result<(), DiskError>;
    /// Unplugs a disk that the guest has unmounted; when it returns, its file is closed.
    async fn detach_disk(&self, serial: &str) -> Result<(), DiskError>;
    /// Tells the guest that a disk of it has this many bytes now; the file grows if it is smaller.
    async fn resize_disk(&self, serial: &str, bytes: u64) -> io::Result<()>;
    /// Lets its processors stand still, with everything that it has written in the files of its disks, or go on.
    async fn set_running(&self, running: bool) -> io::Result<()>;
    /// Whether its processors stand still by the host's doing: it is being copied, or the host has no room for what it
    /// writes. Such a guest says nothing and is not hung.
    async fn stands_still(&self) -> bool {
        false
    }
    /// Changes how much CPU time it gets: `request` under contention, `limit` at most, in thousandths of a CPU.
    async fn set_cpu(&self, request: Option<u64>, limit: Option<u64>) -> io::Result<()>;
    /// Lets it have so much memory, in MiB; its guest is to take it into use then.
    async fn set_memory(&self, memory_mib: u64) -> io::Result<()>;
    /// The last of what the guest wrote to its console, taken out: a second call returns what came since.
    async fn console(&self) -> io::Result<String>;
    /// Resource use.
    async fn stats(&self) -> VmStats;
}
