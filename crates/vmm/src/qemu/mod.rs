//! The QEMU driver: machine `microvm`, direct PVH boot, virtio-mmio only, one unprivileged process a VM.
//!
//! ```text
//! RUN_DIR/vm.json       what adoption needs: pid, its start time, the cgroup, the spec's numbers
//! RUN_DIR/qmp.sock      control            RUN_DIR/channel.sock   the guest agent's port
//! RUN_DIR/console.log   the guest's console (bounded by the guest: quiet)    RUN_DIR/qemu.log   QEMU's own words
//! RUN_DIR/root/         the empty directory that QEMU changes its root to
//! ```
//! QEMU opens everything at start, then changes root and user, then runs the guest. It leads a session of its own and
//! does not die with the host agent.

mod arguments;
mod bundle;
mod cgroup;
mod process;
mod qmp;
mod shares;
mod vm;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;

use crate::vm::{AccelInfo, AdoptError, BootError, Hypervisor, Vm, VmSpec};
use bundle::Bundle;

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
    /// User and group that QEMU runs as.
    pub user: u32,
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
        })
    }
}

impl QemuDriver {
    /// The VM of a run directory, whoever started it. Needs neither QEMU nor a guest bundle, so that what runs can
    /// be removed even when they are gone.
    pub async fn find(run_dir: &Path) -> Result<Option<Arc<dyn Vm>>, AdoptError> {
        let vm = vm::adopt(run_dir).map_err(|reason| AdoptError {
            run_dir: run_dir.to_path_buf(),
            reason,
        })?;
        Ok(vm.map(|vm| Arc::new(vm) as Arc<dyn Vm>))
    }
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

    async fn boot(&self, spec: VmSpec) -> Result<Arc<dyn Vm>, BootError> {
        let vm = vm::boot(&self.config, &self.bundle, self.accel.name, spec).await?;
        Ok(Arc::new(vm))
    }

    async fn adopt(&self, run_dir: &Path) -> Result<Option<Arc<dyn Vm>>, AdoptError> {
        Self::find(run_dir).await
    }
}
