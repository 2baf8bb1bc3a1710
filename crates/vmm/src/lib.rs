//! The hypervisor seam: the trait [`Hypervisor`] and its drivers. Only this crate knows QEMU.
//!
//! - [`qemu`]: one unprivileged QEMU process a VM, in its own cgroup and an empty root;
//! - [`simulated`]: a guest without a VM, for simulated hosts and tests.
//!
//! A VM outlives the process that made it: everything needed to find it again is in its run directory, and
//! [`Hypervisor::adopt`] takes it over.

pub mod qemu;
pub mod simulated;
mod vm;

pub use vm::{
    AccelInfo, AdoptError, BootError, Disk, DiskError, ExitReason, Hypervisor, KillError, Nic, Share, Stream,
    Vm, VmId, VmSpec, VmStats,
};
