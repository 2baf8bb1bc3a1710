//! The QEMU driver: machine `microvm`, direct PVH boot, virtio-mmio only, one unprivileged process a VM.
//!
//! ```text
//! RUN_DIR/vm.json       what adoption needs: pid, its start time, the cgroup, the user
//! RUN_DIR/qmp.sock      commands           RUN_DIR/events.sock    how the VM ends
//! RUN_DIR/channel.sock  the guest agent's port
//! RUN_DIR/qemu.log      QEMU's own words   RUN_DIR/root/          the empty directory that QEMU changes its root to
//! ```
//! QEMU opens everything at start, then changes root and user, then runs the guest; what is plugged in later is handed
//! over as an open file. Every VM has a user of its own. QEMU leads a session of its own and does not die with the host
//! agent.

mod arguments;
mod bundle;
mod cgroup;
mod disks;
mod end;
mod process;
mod qmp;
mod room;
mod shares;
mod users;
mod vm;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::vm::{AccelInfo, AdoptError, BootError, Hypervisor, Vm, VmSpec};
use bundle::Bundle;
pub use cgroup::{enter_cgroup, remove_cgroup};
use users::Users;

/// The first user id of a range that no distribution gives to an account or a container.
pub const FIRST_USER: u32 = 0x5056_0000;

/// Which accelerator is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accel {
    /// KVM where it works, else TCG.
    Auto,
    /// KVM or nothing.
    Kvm,
    /// Emulation.
    Tcg,
}

/// Settings of the driver.
#[derive(Debug, Clone)]
pub struct QemuConfig {
    /// Which accelerator is wanted.
    pub accel: Accel,
    /// The guest bundle: kernel, initramfs and their description.
    pub bundle: PathBuf,
    /// The first of 65,536 user ids, one a VM; [`FIRST_USER`] unless the machine uses that range.
    pub first_user: u32,
    /// The cgroup below which every VM gets its own.
    pub cgroup_parent: String,
}

/// Why the driver cannot be used; each text names the cure.
#[derive(Debug, thiserror::Error)]
pub enum DriverError {
    /// QEMU is not there.
    #[error("cannot run qemu-system-x86_64: {0}: install it with `apt-get install qemu-system-x86`")]
    Missing(std::io::Error),
    /// The guest bundle is not there or damaged.
    #[error(
        "guest bundle {path}: {reason}: build it with `cargo xtask build`, or name it with --guest-bundle DIR"
    )]
    Bundle {
        /// The directory.
        path: PathBuf,
        /// What was wrong.
        reason: String,
    },
    /// KVM was demanded and does not work.
    #[error("KVM cannot be used: {0}: choose --accel auto or --accel tcg")]
    Kvm(String),
}

/// The driver.
pub struct QemuDriver {
    config: QemuConfig,
    bundle: Bundle,
    accel: AccelInfo,
    users: Users,
}

impl QemuDriver {
    /// Checks everything that can be checked before a VM is wanted.
    pub fn new(config: QemuConfig) -> Result<Self, DriverError> {
        std::process::Command::new(arguments::PROGRAM)
            .arg("--version")
            .output()
            .map_err(DriverError::Missing)?;
        let bundle = Bundle::read(&config.bundle).map_err(|reason| DriverError::Bundle {
            path: config.bundle.clone(),
            reason,
        })?;
        let accel = choose_accel(config.accel)?;
        Ok(Self {
            config,
            bundle,
            accel,
            users: Users::default(),
        })
    }
}

/// The program that shares directories of the host with VMs, if it is installed: Pods with a `hostPath` or a shared
/// volume want it.
pub fn virtiofsd() -> Option<&'static str> {
    shares::program()
}

impl QemuDriver {
    /// The VM of a run directory, whoever started it. Needs neither QEMU nor a guest bundle, so that what runs can
    /// be removed even when they are gone.
    pub async fn find(run_dir: &Path) -> Result<Option<Arc<dyn Vm>>, AdoptError> {
        adopt(run_dir, &Users::default())
    }
}

fn adopt(run_dir: &Path, users: &Users) -> Result<Option<Arc<dyn Vm>>, AdoptError> {
    let vm = vm::adopt(run_dir, users).map_err(|reason| AdoptError {
        run_dir: run_dir.to_path_buf(),
        reason,
    })?;
    Ok(vm.map(|vm| Arc::new(vm) as Arc<dyn Vm>))
}

fn choose_accel(wanted: Accel) -> Result<AccelInfo, DriverError> {
    let kvm = AccelInfo {
        name: "kvm",
        warning: None,
    };
    let tcg = |reason: &str| AccelInfo {
        name: "tcg",
        warning: Some(format!(
            "Pods run under TCG emulation ({reason}): slow, and no security boundary"
        )),
    };
    match (wanted, kvm_problem()) {
        (Accel::Tcg, _) => Ok(tcg("chosen by --accel tcg")),
        (Accel::Auto | Accel::Kvm, None) => Ok(kvm),
        (Accel::Auto, Some(problem)) => Ok(tcg(&problem)),
        (Accel::Kvm, Some(problem)) => Err(DriverError::Kvm(problem)),
    }
}

/// Why KVM cannot be used. A `/dev/kvm` that another module stands behind does not count: guests crawl on it.
fn kvm_problem() -> Option<String> {
    let backed = ["kvm_intel", "kvm_amd"]
        .iter()
        .any(|module| Path::new("/sys/module").join(module).exists());
    if !backed {
        return Some("neither kvm_intel nor kvm_amd is loaded".to_owned());
    }
    let open = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    open.err().map(|error| format!("/dev/kvm: {error}"))
}

#[async_trait]
impl Hypervisor for QemuDriver {
    fn name(&self) -> &'static str {
        "qemu"
    }

    fn accel(&self) -> AccelInfo {
        self.accel.clone()
    }

    fn grows(&self) -> bool {
        // 2: what is promised counts as used, and QEMU refuses memory that is not to be reserved.
        let policy = fs::read_to_string("/proc/sys/vm/overcommit_memory").unwrap_or_default();
        policy.trim() != "2"
    }

    async fn boot(&self, spec: VmSpec) -> Result<Arc<dyn Vm>, BootError> {
        let user = self.users.take(self.config.first_user, &spec.run_dir);
        let parent = &self.config.cgroup_parent;
        let vm = vm::boot(parent, &self.bundle, self.accel.name, spec, user).await?;
        Ok(Arc::new(vm))
    }

    async fn adopt(&self, run_dir: &Path) -> Result<Option<Arc<dyn Vm>>, AdoptError> {
        adopt(run_dir, &self.users)
    }
}
