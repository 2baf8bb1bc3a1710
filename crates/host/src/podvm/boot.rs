//! Booting: from an address to a configured guest; and the way back, step by step, when that fails or ends.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dataplane::model::PodNic;
use guest_api::v1::{ConfigureRequest, Extent, Interface};
use images::Image;
use k8s_openapi::api::core::v1::Pod;
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vmm::{Disk, Nic, Share, Vm, VmId, VmSpec};

use super::names::{Names, Resolver};
use super::prepare::Prepared;
use super::record::{PodFile, Record, Timing};
use super::refresh::Written;
use super::{Context, Input, Machine, Report};
use crate::admit;
use crate::datastore::attach::{DiskKind, VolumeDisk};
use crate::events::Kind;
use crate::guest::{Guest, GuestEvent};
use crate::ipam;
use crate::size::{Most, VmSize};
use crate::volumes;

/// How long a guest may take from the start of its VM to an answer: emulated guests share two cores with many others.
const BOOT: Duration = Duration::from_secs(180);
/// How long one call may take.
const CALL: Duration = Duration::from_secs(60);
/// Serial number of the writable disk.
pub(crate) const SCRATCH: &str = "scratch";
/// The directory that `hostPath` volumes see as the root of the node, in the data directory.
pub(crate) const NODE_FILES: &str = "node";
/// The share with the logs of Pods; the guest shows it at `/var/log` of the node.
const LOGS_TAG: &str = "logs";
/// Size of a writable disk that has no limit; it is sparse.
pub(crate) const SCRATCH_BYTES: u64 = 10 << 30;
/// Least room of a writable disk beyond its limit.
const SCRATCH_MARGIN: u64 = 64 << 20;

/// One attempt to make a VM.
pub struct Boot {
    /// Shared things.
    pub context: Arc<Context>,
    /// The Pod.
    pub pod: Arc<Pod>,
    /// The VM's size.
    pub size: VmSize,
    /// What it can grow to.
    pub most: Most,
    /// Images, and what volumes are made of.
    pub prepared: Arc<Prepared>,
    /// The containers as they stand, for the file.
    pub records: Vec<Record>,
    /// Number of this VM among those of the Pod.
    pub number: u64,
    /// Where to report.
    pub owner: mpsc::Sender<Input>,
    /// Ends the attempt.
    pub cancel: CancellationToken,
}

/// Reason and words of the event that a volume is another Pod's: those of the kubelet for one that no second Pod may have, of
/// the controller that attaches disks for others.
fn in_use(volume: &str, users: &str, one_pod: bool) -> (&'static str, String) {
    match one_pod {
        true => (
            "FailedMount",
            format!(
                "MountVolume.SetUp failed for volume \"{volume}\" : volume uses the ReadWriteOncePod access mode and is already in use by another pod"
            ),
        ),
        false => (
            "FailedAttachVolume",
            format!("Multi-Attach error for volume \"{volume}\" Volume is already used by pod(s) {users}"),
        ),
    }
}

impl Boot {
    /// Makes the VM and reports. On failure, or when cancelled, nothing of it is left.
    pub async fn run(self) {
        let cancel = self.cancel.clone();
        self.context.starts.pod(&self.pod, false);
        let result = match cancel.run_until_cancelled(self.attempt()).await {
            Some(result) => result.inspect_err(|_| self.context.starts.pod(&self.pod, true)),
            None => Err("the Pod is no longer wanted".to_owned()),
        };
        let result = match result {
            Ok(machine) => Ok(Box::new(machine)),
            Err(problem) => {
                let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
                let left = take_down(&self.context, uid, None).await;
                if left.is_empty() {
                    Err(problem)
                } else {
                    Err(format!("{problem}; and cleaning up: {}", left.join("; ")))
                }
            }
        };
        let _ = self.owner.send(Input::Job(Report::Booted(result))).await;
    }

    async fn attempt(&self) -> Result<Arrived, String> {
        let context = &self.context;
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        let mut steps = Steps::new(self.prepared.took);
        self.take_volumes(uid).await;
        steps.done("volumes free");
        let slot = Arc::clone(&context.boot_slots).acquire_owned().await;
        let ip = self.address().await;
        steps.done("turn to boot");
        let _ = self.owner.send(Input::Job(Report::Addressed(ip))).await;
        let run_dir = context.run_dir(uid);
        std::fs::create_dir_all(&run_dir).map_err(|error| format!("{}: {error}", run_dir.display()))?;
        let file = PodFile {
            uid: uid.to_owned(),
            namespace: self.pod.metadata.namespace.clone().unwrap_or_default(),
            name: self.pod.metadata.name.clone().unwrap_or_default(),
            ip,
            mac: ipam::mac(ip),
            records: self.records.clone(),
            images: self.prepared.images.clone(),
            disks: self.prepared.disks.clone(),
            resources: super::resize::of(&self.pod),
            most: Some(self.most),
            boots: u32::try_from(self.number).unwrap_or(u32::MAX),
            timings: Vec::new(),
            verdict: None,
        };
        // Before anything else exists: whoever finds the directory knows what else to look for.
        file.write(&run_dir)
            .map_err(|error| format!("{}: {error}", run_dir.display()))?;
        let nic = file.nic();
        let tap = context
            .deps
            .network
            .attach(&nic)
            .await
            .map_err(|error| format!("network: {error}"))?;
        steps.done("network");
        let scratch = self.scratch(uid).await?;
        steps.done("writable disk");
        let mut disks = image_disks(&self.prepared.images);
        disks.extend(scratch.clone());
        for disk in self.prepared.disks.iter().filter_map(VolumeDisk::disk) {
            // An image that a container runs from is there already.
            if !disks.iter().any(|known| known.serial == disk.serial) {
                disks.push(disk);
            }
        }
        let label = format!("{}/{}", file.namespace, file.name);
        let spec = VmSpec {
            id: VmId::new(uid),
            run_dir,
            vcpus: self.size.vcpus,
            memory_mib: self.size.memory_mib,
            most_vcpus: self.most.vcpus,
            most_memory_mib: self.most.memory_mib,
            cpu_request_millis: self.size.cpu_request_millis,
            cpu_limit_millis: self.size.cpu_limit_millis,
            disks,
            shares: self.shares().await?,
            nic: Some(Nic {
                tap: tap.fd,
                tap_name: tap.name,
                mac: nic.mac,
            }),
            label,
        };
        let vm = context
            .deps
            .hypervisor
            .boot(spec)
            .await
            .map_err(|error| error.to_string())?;
        steps.done("VM process");
        let configured = self.configure(&vm, &nic, scratch.is_some(), steps);
        let result = tokio::select! {
            result = tokio::time::timeout(BOOT, configured) => match result {
                Ok(result) => result,
                Err(_) => Err(format!("the guest did not come up within {} s", BOOT.as_secs())),
            },
            reason = vm.exited() => Err(format!("during its boot {reason}")),
        };
        drop(slot);
        if result.is_err()
            && let Err(error) = vm.kill().await
        {
            tracing::warn!(%error, "after a failed boot");
        }
        result
    }

    /// Waits until no other VM writes to the Pod's volumes.
    async fn take_volumes(&self, uid: &str) {
        let pod = self.pod.metadata.name.as_deref().unwrap_or_default();
        let mut freed = self.context.datastore.freed();
        let mut told = String::new();
        while let Err((handle, users)) = self.context.datastore.take(uid, pod, &self.prepared.disks) {
            let alone = |disk: &VolumeDisk| disk.handle == handle && disk.one_pod;
            let (reason, message) = in_use(&handle, &users, self.prepared.disks.iter().any(alone));
            if message != told {
                self.context
                    .recorder
                    .pod(&self.pod, Kind::Warning, reason, message.clone());
                told = message;
            }
            if freed.changed().await.is_err() {
                return;
            }
        }
    }

    /// An address; waits while the Node has no block or the block is exhausted.
    async fn address(&self) -> Ipv4Addr {
        let mut told = false;
        loop {
            if let Some(ip) = self.context.ipam.allocate() {
                return ip;
            }
            if !std::mem::replace(&mut told, true) && self.context.ipam.ready() {
                self.context.recorder.pod(
                    &self.pod,
                    Kind::Warning,
                    "FailedCreatePodSandBox",
                    "Failed to create pod sandbox: no address is left in the host's block",
                );
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// The writable disk: a sparse file with an empty file system. Simulated hosts need none.
    async fn scratch(&self, uid: &str) -> Result<Option<Disk>, String> {
        if self.context.deps.hypervisor.name() == "simulated" {
            return Ok(None);
        }
        let directory = self.context.disk_dir(uid);
        std::fs::create_dir_all(&directory).map_err(|error| format!("{}: {error}", directory.display()))?;
        let path = directory.join("scratch.img");
        // Some room beyond the limit: who exceeds it is evicted, and does not just find the disk full.
        let limited = |limit: u64| limit.saturating_add((limit / 4).max(SCRATCH_MARGIN));
        let bytes = self.size.ephemeral_bytes.map_or(SCRATCH_BYTES, limited);
        // The disk dies with the VM: a small journal is enough.
        make_file_system(&path, bytes, &["-J", "size=4"]).await?;
        Ok(Some(Disk {
            serial: SCRATCH.to_owned(),
            path,
            read_only: false,
        }))
    }

    /// The node's file system, for Pods that mount some of it, with the logs of all Pods, for reading only; and the volumes
    /// that are not this Pod's alone.
    async fn shares(&self) -> Result<Vec<Share>, String> {
        let mut shares = Vec::new();
        if volumes::uses_node(&self.pod, &self.prepared.disks) {
            let data_dir = &self.context.config.data_dir;
            let directory = data_dir.join(NODE_FILES);
            furnish(&directory, &self.context.config)
                .map_err(|error| format!("{}: {error}", directory.display()))?;
            crate::logs::prepare(data_dir).map_err(|error| format!("logs: {error}"))?;
            shares.push(Share {
                tag: volumes::NODE_TAG.to_owned(),
                directory,
                read_only: false,
            });
            shares.push(Share {
                tag: LOGS_TAG.to_owned(),
                directory: data_dir.join(crate::logs::DIRECTORY),
                read_only: true,
            });
        }
        let disks = self.prepared.disks.iter();
        for disk in disks.filter(|disk| disk.kind == DiskKind::Shared) {
            let tag = disk.serial();
            if shares.iter().all(|share| share.tag != tag) {
                let mounted = self.context.datastore.mount(&disk.handle).await;
                let directory = mounted.map_err(|error| error.to_string())?;
                shares.push(Share {
                    tag,
                    directory,
                    read_only: false,
                });
            }
        }
        Ok(shares)
    }

    /// The identity of the guest.
    fn configuration(&self, nic: &PodNic, scratch: bool) -> Result<ConfigureRequest, String> {
        let config = &self.context.config;
        let names = Names::of(&self.pod, &config.cluster_domain)?;
        let resolver = Resolver::of(&self.pod, config);
        for message in &resolver.omitted {
            let recorder = &self.context.recorder;
            recorder.pod(&self.pod, Kind::Warning, "DNSConfigForming", message.clone());
        }
        let spec = self.pod.spec.as_ref();
        let sysctls = spec
            .and_then(|spec| spec.security_context.as_ref()?.sysctls.as_ref())
            .into_iter()
            .flatten()
            .map(|sysctl| (admit::dotted(&sysctl.name), sysctl.value.clone()));
        let now = jiff::Timestamp::now();
        Ok(ConfigureRequest {
            hosts: names.hosts(&self.pod, nic.ip),
            resolv_conf: resolver.text(),
            interface: Some(Interface {
                mac: nic.mac.to_vec(),
                address: nic.ip.to_string(),
                gateway: dataplane::GATEWAY.to_string(),
                mtu: 1500,
            }),
            unix_time_ns: i64::try_from(now.as_nanosecond()).unwrap_or(i64::MAX),
            random_seed: rand::random::<[u8; 32]>().to_vec(),
            scratch_serial: if scratch {
                SCRATCH.to_owned()
            } else {
                String::new()
            },
            sysctls: sysctls.collect(),
            user_namespace: spec.is_some_and(|spec| spec.host_users == Some(false)),
            first_user: first_user(self.pod.metadata.uid.as_deref().unwrap_or_default()),
            share_process_namespace: spec.is_some_and(|spec| spec.share_process_namespace == Some(true)),
            node_processes: spec.is_some_and(|spec| spec.host_pid == Some(true)),
            domain_name: names.domain,
            hostname: names.node,
        })
    }

    async fn configure(
        &self,
        vm: &Arc<dyn Vm>,
        nic: &PodNic,
        scratch: bool,
        mut steps: Steps,
    ) -> Result<Arrived, String> {
        let life = self.context.cancel.child_token();
        let (events, inbox) = mpsc::channel(64);
        let clock = self.context.clock.steps();
        let guest = Guest::attach(
            Arc::clone(vm),
            events,
            life.clone(),
            self.context.config.silence,
            clock,
        );
        let guard = life.clone().drop_guard();
        let mut client = loop {
            if let Ok(client) = guest.client().await {
                break client;
            }
        };
        steps.done("guest kernel and agent");
        let request = self.configuration(nic, scratch)?;
        let facts = self.context.facts(Some(nic.ip));
        // Images may have been long in coming, and tokens age meanwhile.
        let mut written = Written::default();
        written.tokens.clone_from(&self.prepared.tokens);
        let wanted = volumes::references(&self.pod).tokens;
        written.tokens.renew(&self.context, &self.pod, &wanted).await;
        let writes = volumes::files(&self.pod, &self.prepared.sources, &written.tokens.texts(), &facts)
            .map_err(|error| error.to_string())?;
        let calls = async {
            client.configure(request).await?;
            for write in writes {
                written.note(&write);
                client.write_volume(write).await?;
            }
            Ok::<_, tonic::Status>(())
        };
        tokio::time::timeout(CALL, calls)
            .await
            .map_err(|_| "the guest does not answer".to_owned())?
            .map_err(|status| format!("the guest refuses its configuration: {}", status.message()))?;
        steps.done("guest identity and volumes");
        tracing::debug!(vm = %vm.id(), timings = ?steps.timings, "the guest is configured");
        guard.disarm();
        let machine = Machine {
            vm: Arc::clone(vm),
            guest,
            ip: nic.ip,
            images: Arc::new(self.prepared.images.clone()),
            disks: Arc::new(self.prepared.disks.clone()),
            timings: Arc::new(steps.timings),
            written: Arc::new(written),
            life,
        };
        Ok(Arrived {
            machine,
            inbox,
            extent: None,
        })
    }
}

/// Makes the node's file system with what any node has, before the first guest sees it: later its content is theirs.
pub(super) fn furnish(directory: &Path, config: &crate::config::HostConfig) -> std::io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    let draft = directory.with_extension(format!("{:08x}", rand::random::<u32>()));
    let etc = draft.join("etc");
    std::fs::create_dir_all(&etc)?;
    for open in ["tmp", "var/tmp"] {
        let path = draft.join(open);
        std::fs::create_dir_all(&path)?;
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o1777))?;
    }
    let name = &config.node_name;
    std::fs::write(etc.join("hostname"), format!("{name}\n"))?;
    let hosts = format!("127.0.0.1\tlocalhost\n{}\t{name}\n", config.node_ip);
    std::fs::write(etc.join("hosts"), hosts)?;
    match std::fs::rename(&draft, directory) {
        // Another Pod's boot was faster.
        Err(_) if directory.is_dir() => std::fs::remove_dir_all(&draft),
        result => result,
    }
}

/// Measures a start.
struct Steps {
    since: std::time::Instant,
    timings: Vec<Timing>,
}

impl Steps {
    fn new(prepared: Duration) -> Self {
        let mut steps = Self {
            since: std::time::Instant::now(),
            timings: Vec::new(),
        };
        steps.note("images and volumes", prepared);
        steps
    }

    /// This ended just now; it began when the one before ended.
    fn done(&mut self, phase: &str) {
        let now = std::time::Instant::now();
        self.note(phase, now.duration_since(self.since));
        self.since = now;
    }

    fn note(&mut self, phase: &str, took: Duration) {
        self.timings.push(Timing {
            phase: phase.to_owned(),
            millis: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        });
    }
}

/// Takes over a VM that an earlier agent made. `None`: there is none, or it was not far enough; then it is gone.
pub async fn adopt(context: &Arc<Context>, file: &PodFile) -> Option<Arrived> {
    let run_dir = context.run_dir(&file.uid);
    let vm = match context.deps.hypervisor.adopt(&run_dir).await {
        Ok(vm) => vm?,
        Err(error) => {
            tracing::warn!(%error, "a VM cannot be taken over; it is made anew");
            return None;
        }
    };
    let life = context.cancel.child_token();
    let (events, inbox) = mpsc::channel(64);
    let guest = Guest::attach(
        Arc::clone(&vm),
        events,
        life.clone(),
        context.config.silence,
        context.clock.steps(),
    );
    let hello = async {
        let mut client = guest.client().await.ok()?;
        let hello = client.hello(guest_api::v1::HelloRequest {}).await.ok()?;
        Some(hello.into_inner()).filter(|hello| hello.configured)
    };
    let Some(hello) = hello.await else {
        // It was killed between boot and identity, or hangs.
        life.cancel();
        if let Err(error) = vm.kill().await {
            tracing::warn!(%error, "a VM that was never configured");
        }
        return None;
    };
    let machine = Machine {
        vm,
        guest,
        ip: file.ip,
        images: Arc::new(file.images.clone()),
        disks: Arc::new(file.disks.clone()),
        timings: Arc::new(file.timings.clone()),
        written: Arc::default(),
        life,
    };
    Some(Arrived {
        machine,
        inbox,
        extent: hello.extent,
    })
}

/// A VM on its way to its owner, who hears nothing of it before he has it: he would take what its guest lists for news
/// of no VM at all, attend to nothing, and never be told again.
pub struct Arrived {
    machine: Machine,
    inbox: mpsc::Receiver<GuestEvent>,
    /// What the guest of an adopted VM uses of it: the agent before this one may not have come to note that it grew.
    pub extent: Option<Extent>,
}

impl Arrived {
    /// The owner has it: what its guest says goes to him from here on, with the VM's number, by which events of an
    /// earlier one are told apart; and its end.
    pub fn follow(self, number: u64, owner: &mpsc::Sender<Input>) -> Machine {
        let Self {
            machine, mut inbox, ..
        } = self;
        let listener = owner.clone();
        tokio::spawn(async move {
            while let Some(event) = inbox.recv().await {
                if listener.send(Input::Guest(number, event)).await.is_err() {
                    return;
                }
            }
        });
        let (vm, owner) = (Arc::clone(&machine.vm), owner.clone());
        let life = machine.life.clone();
        tokio::spawn(life.run_until_cancelled_owned(async move {
            let reason = vm.exited().await;
            let _ = owner.send(Input::Job(Report::VmEnded(number, reason))).await;
        }));
        machine
    }
}

/// The serial number of the disk of an image with this id.
pub fn image_serial(id: &str) -> String {
    let digest = id.rsplit(':').next().unwrap_or_default();
    format!("i{}", digest.get(..16).unwrap_or(digest))
}

/// The disk of an image.
pub(super) fn image_disk(image: &Image) -> Disk {
    Disk {
        serial: image_serial(&image.id),
        path: image.disk.clone(),
        read_only: true,
    }
}

fn image_disks(images: &BTreeMap<String, Arc<Image>>) -> Vec<Disk> {
    let disks: BTreeMap<String, Disk> = images
        .values()
        .map(|image| (image_serial(&image.id), image_disk(image)))
        .collect();
    disks.into_values().collect()
}

/// Makes a sparse file of this many bytes with an empty ext4 file system.
pub(crate) async fn make_file_system(path: &Path, bytes: u64, options: &[&str]) -> Result<(), String> {
    let fail = |error: &dyn std::fmt::Display| format!("disk {}: {error}", path.display());
    let file = std::fs::File::create(path).map_err(|error| fail(&error))?;
    file.set_len(bytes).map_err(|error| fail(&error))?;
    drop(file);
    let output = tokio::process::Command::new("mkfs.ext4")
        .args([
            "-q",
            "-F",
            "-m",
            "0",
            "-E",
            // A new file reads as zeros and need not be written with them, neither now nor by the guest's kernel later:
            // `mkfs` finds that out by a discard and notes it in the file system.
            "lazy_itable_init=1,lazy_journal_init=1,discard",
        ])
        .args(options)
        .arg(path)
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| fail(&format!("mkfs.ext4: {error} (apt-get install e2fsprogs)")))?;
    if output.status.success() {
        return Ok(());
    }
    Err(fail(&format!(
        "mkfs.ext4: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    )))
}

/// Removes VM, tap, run directory, disk and address. Goes on after a failure; returns what failed.
pub async fn take_down(context: &Context, uid: &str, vm: Option<&Arc<dyn Vm>>) -> Vec<String> {
    let mut problems = Vec::new();
    let run_dir = context.run_dir(uid);
    let found = match vm {
        Some(vm) => Some(Arc::clone(vm)),
        // Not known to us, but perhaps there.
        None => context
            .deps
            .hypervisor
            .adopt(&run_dir)
            .await
            .unwrap_or_else(|error| {
                problems.push(error.to_string());
                None
            }),
    };
    if let Some(vm) = found
        && let Err(error) = vm.kill().await
    {
        problems.push(error.to_string());
    }
    if let Err(error) = context.deps.network.detach(uid).await {
        problems.push(error.to_string());
    }
    // The file is the last to go: as long as something is left, the next agent can find it.
    let address = PodFile::read(&run_dir).ok().map(|file| file.ip);
    if problems.is_empty() {
        for directory in [context.disk_dir(uid), run_dir] {
            match std::fs::remove_dir_all(&directory) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    problems.push(format!("{}: {error}", directory.display()));
                    break;
                }
                _ => {}
            }
        }
    }
    if problems.is_empty()
        && let Some(address) = address
    {
        context.ipam.release(address);
    }
    if problems.is_empty() {
        context.datastore.release(uid);
        if let Err(error) = context.datastore.unmount_unused().await {
            tracing::warn!(%error, "a shared volume stays mounted for now");
        }
    }
    problems
}

/// [`take_down`] for a Pod whose object is gone, with its logs.
pub async fn remove_leftovers(context: &Context, uid: &str, file: Option<&PodFile>) {
    let problems = take_down(context, uid, None).await;
    if !problems.is_empty() {
        tracing::warn!(uid, problems = problems.join("; "), "leftovers of a Pod stay");
    }
    if let Some(file) = file {
        let logs =
            crate::logs::PodLogs::new(&context.config.data_dir, &file.namespace, &file.name, &file.uid);
        if let Err(error) = logs.remove() {
            tracing::warn!(uid, %error, "logs of a Pod stay");
        }
    }
}

/// How many ids a Pod with users of its own has.
const USERS: u32 = 65_536;

/// The first of a Pod's ids outside: each Pod has others, though it be alone in its VM, so that nobody takes two for one.
fn first_user(uid: &str) -> u32 {
    let hash = Sha256::digest(uid);
    // Not the first range, which is the VM's own; and options of file systems (devpts) take ids as signed numbers.
    let number = u32::from(u16::from_be_bytes([hash[0], hash[1]])) % (USERS / 2 - 2);
    USERS * (number + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_pods_are_apart_and_positive() {
        let all: std::collections::BTreeSet<u32> =
            (0..500).map(|n| first_user(&format!("uid-{n}"))).collect();
        assert!(all.len() > 480, "{}", all.len());
        for first in all {
            assert!(first >= USERS && first % USERS == 0, "{first}");
            assert!(i32::try_from(first + USERS).is_ok(), "{first}");
        }
    }
}
