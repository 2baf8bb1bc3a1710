//! A hypervisor without VMs: the guest is an in-process fake behind the same channel.
//!
//! It keeps to the contract of the real one as far as a host agent can see, adoption included: guests live in the
//! driver, so a second agent on the same driver finds the VMs of the first.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use guest_api::simulated::SimulatedGuest;
use guest_api::v1::Extent;
use tokio_util::sync::CancellationToken;

use crate::vm::{
    AccelInfo, AdoptError, BootError, Disk, DiskError, ExitReason, Hypervisor, KillError, Stream, Vm, VmId,
    VmSpec, VmStats,
};

/// Bytes in flight on the channel.
const CHANNEL_BUFFER: usize = 1 << 16;

/// The driver of simulated hosts.
#[derive(Default)]
pub struct SimulatedDriver {
    machines: Arc<Mutex<HashMap<PathBuf, Arc<SimulatedVm>>>>,
}

impl SimulatedDriver {
    /// A driver without VMs.
    pub fn new() -> Self {
        Self::default()
    }

    /// The guest of a run directory, for tests.
    pub fn guest(&self, run_dir: &Path) -> Option<SimulatedGuest> {
        lock(&self.machines).get(run_dir).map(|vm| vm.guest.clone())
    }

    /// How much memory the host lets the VM of a run directory have, in MiB, for tests.
    pub fn memory_mib(&self, run_dir: &Path) -> Option<u64> {
        let machines = lock(&self.machines);
        Some(machines.get(run_dir)?.memory_mib.load(Ordering::Relaxed))
    }

    /// From now on the guest of a run directory does nothing any more, though its VM runs: its session ends, as one does
    /// whose keep-alive is not answered, and there is no other.
    pub fn hang(&self, run_dir: &Path) {
        if let Some(vm) = lock(&self.machines).get(run_dir) {
            vm.hung.cancel();
        }
    }

    /// How many VMs run.
    pub fn count(&self) -> usize {
        lock(&self.machines).len()
    }
}

struct SimulatedVm {
    id: VmId,
    run_dir: PathBuf,
    guest: SimulatedGuest,
    /// What the host lets it have.
    memory_mib: AtomicU64,
    disks: Mutex<BTreeSet<String>>,
    machines: Arc<Mutex<HashMap<PathBuf, Arc<SimulatedVm>>>>,
    killed: CancellationToken,
    hung: CancellationToken,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The maps stay consistent: nothing in the critical sections can panic halfway.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[async_trait]
impl Hypervisor for SimulatedDriver {
    fn name(&self) -> &'static str {
        "simulated"
    }

    fn accel(&self) -> AccelInfo {
        AccelInfo {
            name: "simulated",
            warning: Some("this host is simulated: nothing runs".to_owned()),
        }
    }

    async fn boot(&self, spec: VmSpec) -> Result<Arc<dyn Vm>, BootError> {
        let vm = Arc::new(SimulatedVm {
            id: spec.id,
            run_dir: spec.run_dir.clone(),
            guest: SimulatedGuest::sized(
                Extent {
                    vcpus: spec.vcpus,
                    memory_mib: spec.memory_mib,
                },
                Extent {
                    vcpus: spec.most_vcpus,
                    memory_mib: spec.most_memory_mib,
                },
            ),
            memory_mib: AtomicU64::new(spec.memory_mib),
            disks: Mutex::new(spec.disks.into_iter().map(|disk| disk.serial).collect()),
            machines: Arc::clone(&self.machines),
            killed: CancellationToken::new(),
            hung: CancellationToken::new(),
        });
        lock(&self.machines).insert(spec.run_dir, Arc::clone(&vm));
        Ok(vm)
    }

    async fn adopt(&self, run_dir: &Path) -> Result<Option<Arc<dyn Vm>>, AdoptError> {
        Ok(lock(&self.machines)
            .get(run_dir)
            .map(|vm| Arc::clone(vm) as Arc<dyn Vm>))
    }
}

#[async_trait]
impl Vm for SimulatedVm {
    fn id(&self) -> &VmId {
        &self.id
    }

    fn pid(&self) -> Option<u32> {
        None
    }

    async fn channel(&self) -> io::Result<Box<dyn Stream>> {
        if self.killed.is_cancelled() || self.hung.is_cancelled() {
            return Err(io::ErrorKind::NotConnected.into());
        }
        let (host, mut near) = tokio::io::duplex(CHANNEL_BUFFER);
        let (mut far, inside) = tokio::io::duplex(CHANNEL_BUFFER);
        let session = guest_api::serve(inside, self.guest.clone());
        tokio::spawn(self.killed.clone().run_until_cancelled_owned(session));
        // Between the two, so that the channel can break though the server inside goes on.
        let line = async move { tokio::io::copy_bidirectional(&mut near, &mut far).await };
        tokio::spawn(self.hung.clone().run_until_cancelled_owned(line));
        Ok(Box::new(host))
    }

    async fn exited(&self) -> ExitReason {
        self.killed.cancelled().await;
        ExitReason::Shutdown
    }

    async fn kill(&self) -> Result<(), KillError> {
        self.killed.cancel();
        lock(&self.machines).remove(&self.run_dir);
        Ok(())
    }

    async fn attach_disk(&self, disk: Disk) -> Result<(), DiskError> {
        lock(&self.disks).insert(disk.serial);
        Ok(())
    }

    async fn detach_disk(&self, serial: &str) -> Result<(), DiskError> {
        if lock(&self.disks).remove(serial) {
            return Ok(());
        }
        Err(DiskError::Refused {
            serial: serial.to_owned(),
            reason: "is not there".to_owned(),
        })
    }

    async fn set_cpu(&self, _: Option<u64>, _: Option<u64>) -> io::Result<()> {
        Ok(())
    }

    async fn set_memory(&self, memory_mib: u64) -> io::Result<()> {
        self.memory_mib.store(memory_mib, Ordering::Relaxed);
        Ok(())
    }

    async fn resize_disk(&self, _serial: &str, _bytes: u64) -> io::Result<()> {
        Ok(())
    }

    async fn set_running(&self, _running: bool) -> io::Result<()> {
        Ok(())
    }

    async fn console(&self) -> io::Result<String> {
        Ok(String::new())
    }

    async fn stats(&self) -> VmStats {
        VmStats::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_vm_is_adopted_and_gone_when_killed() {
        let driver = SimulatedDriver::new();
        let run_dir = PathBuf::from("/nowhere/a");
        let spec = VmSpec {
            id: VmId::new("A_b"),
            run_dir: run_dir.clone(),
            vcpus: 1,
            memory_mib: 64,
            most_vcpus: 1,
            most_memory_mib: 64,
            cpu_request_millis: None,
            cpu_limit_millis: None,
            disks: Vec::new(),
            shares: Vec::new(),
            nic: None,
            label: "ns/pod".to_owned(),
        };
        assert_eq!(driver.boot(spec).await.expect("booted").id().as_str(), "a-b");
        let vm = driver.adopt(&run_dir).await.expect("looked").expect("found");
        let mut guest = guest_api::connect(vm.channel().await.expect("open"), 7)
            .await
            .expect("connected");
        guest
            .hello(guest_api::v1::HelloRequest {})
            .await
            .expect("answered");
        let disk = Disk {
            serial: "late".to_owned(),
            path: PathBuf::from("/nowhere/disk"),
            read_only: true,
        };
        vm.attach_disk(disk.clone()).await.expect("plugged");
        vm.attach_disk(disk).await.expect("there already");
        vm.detach_disk("late").await.expect("unplugged");
        assert!(vm.detach_disk("late").await.is_err());
        vm.kill().await.expect("killed");
        assert_eq!(vm.exited().await, ExitReason::Shutdown);
        assert!(driver.adopt(&run_dir).await.expect("looked").is_none());
    }
}
