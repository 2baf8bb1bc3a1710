//! Booting: from an address to a configured guest; and the way back, step by step, when that fails or ends.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use dataplane::model::PodNic;
use guest_api::v1::{ConfigureRequest, Interface};
use images::Image;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use vmm::{Disk, Nic, Share, Vm, VmId, VmSpec};

use super::prepare::Prepared;
use super::record::{PodFile, Record};
use super::{Context, Input, Machine, Report};
use crate::datastore::attach::{DiskKind, VolumeDisk};
use crate::guest::{Guest, GuestEvent};
use crate::ipam;
use crate::size::VmSize;
use crate::volumes;

/// How long a guest may take from the start of its VM to an answer: emulated guests share two cores with many others.
const BOOT: Duration = Duration::from_secs(180);
/// How long one call may take.
const CALL: Duration = Duration::from_secs(60);
/// Serial number of the writable disk.
const SCRATCH: &str = "scratch";
/// The directory that `hostPath` volumes see as the root of the node, in the data directory.
const NODE_FILES: &str = "node";
/// Size of a writable disk that has no limit; it is sparse.
const SCRATCH_BYTES: u64 = 10 << 30;
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

impl Boot {
    /// Makes the VM and reports. On failure, or when cancelled, nothing of it is left.
    pub async fn run(self) {
        let cancel = self.cancel.clone();
        let result = cancel
            .run_until_cancelled(self.attempt())
            .await
            .unwrap_or_else(|| Err("the Pod is no longer wanted".to_owned()));
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

    async fn attempt(&self) -> Result<Machine, String> {
        let context = &self.context;
        let uid = self.pod.metadata.uid.as_deref().unwrap_or_default();
        self.take_volumes(uid).await;
        let slot = Arc::clone(&context.boot_slots).acquire_owned().await;
        let ip = self.address().await;
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
            boots: u32::try_from(self.number).unwrap_or(u32::MAX),
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
        let scratch = self.scratch(uid).await?;
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
        let since = std::time::Instant::now();
        let vm = context
            .deps
            .hypervisor
            .boot(spec)
            .await
            .map_err(|error| error.to_string())?;
        tracing::debug!(uid, millis = since.elapsed().as_millis(), "the VM's process runs");
        let configured = self.configure(&vm, &nic, scratch.is_some());
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
            let message = format!(
                "Multi-Attach error for volume \"{handle}\" Volume is already used by pod(s) {users}"
            );
            if message != told {
                self.context.recorder.pod(
                    &self.pod,
                    crate::events::Kind::Warning,
                    "FailedAttachVolume",
                    message.clone(),
                );
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
                    crate::events::Kind::Warning,
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

    /// The node's file system, for Pods that mount some of it, and the volumes that are not this Pod's alone.
    async fn shares(&self) -> Result<Vec<Share>, String> {
        let mut shares = Vec::new();
        if volumes::uses_node(&self.pod) {
            let directory = self.context.config.data_dir.join(NODE_FILES);
            std::fs::create_dir_all(&directory)
                .map_err(|error| format!("{}: {error}", directory.display()))?;
            shares.push(Share {
                tag: volumes::NODE_TAG.to_owned(),
                directory,
            });
        }
        let disks = self.prepared.disks.iter();
        for disk in disks.filter(|disk| disk.kind == DiskKind::Shared) {
            let tag = disk.serial();
            if shares.iter().all(|share| share.tag != tag) {
                let mounted = self.context.datastore.mount(&disk.handle).await;
                let directory = mounted.map_err(|error| error.to_string())?;
                shares.push(Share { tag, directory });
            }
        }
        Ok(shares)
    }

    async fn configure(&self, vm: &Arc<dyn Vm>, nic: &PodNic, scratch: bool) -> Result<Machine, String> {
        let since = std::time::Instant::now();
        let life = self.context.cancel.child_token();
        let (events, inbox) = mpsc::channel(64);
        let guest = Guest::attach(Arc::clone(vm), events, life.clone());
        let guard = life.clone().drop_guard();
        let mut client = loop {
            if let Ok(client) = guest.client().await {
                break client;
            }
        };
        tracing::debug!(vm = %vm.id(), millis = since.elapsed().as_millis(), "the guest answers");
        let request = configuration(&self.context, &self.pod, nic, scratch);
        let facts = self.context.facts(Some(nic.ip), self.size);
        let writes = volumes::files(&self.pod, &self.prepared.sources, &self.prepared.tokens, &facts)
            .map_err(|error| error.to_string())?;
        let calls = async {
            client.configure(request).await?;
            for write in writes {
                client.write_volume(write).await?;
            }
            Ok::<_, tonic::Status>(())
        };
        tokio::time::timeout(CALL, calls)
            .await
            .map_err(|_| "the guest does not answer".to_owned())?
            .map_err(|status| format!("the guest refuses its configuration: {}", status.message()))?;
        tracing::debug!(vm = %vm.id(), millis = since.elapsed().as_millis(), "the guest is configured");
        guard.disarm();
        forward(inbox, self.number, self.owner.clone());
        watch_end(Arc::clone(vm), self.number, self.owner.clone(), life.clone());
        Ok(Machine {
            vm: Arc::clone(vm),
            guest,
            ip: nic.ip,
            images: Arc::new(self.prepared.images.clone()),
            disks: Arc::new(self.prepared.disks.clone()),
            life,
        })
    }
}

/// Takes over a VM that an earlier agent made. `None`: there is none, or it was not far enough; then it is gone.
pub async fn adopt(
    context: &Arc<Context>,
    file: &PodFile,
    number: u64,
    owner: &mpsc::Sender<Input>,
) -> Option<Machine> {
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
    let guest = Guest::attach(Arc::clone(&vm), events, life.clone());
    let hello = async {
        let mut client = guest.client().await.ok()?;
        let hello = client.hello(guest_api::v1::HelloRequest {}).await.ok()?;
        hello.into_inner().configured.then_some(())
    };
    if hello.await.is_none() {
        // It was killed between boot and identity, or hangs.
        life.cancel();
        if let Err(error) = vm.kill().await {
            tracing::warn!(%error, "a VM that was never configured");
        }
        return None;
    }
    forward(inbox, number, owner.clone());
    watch_end(Arc::clone(&vm), number, owner.clone(), life.clone());
    Some(Machine {
        vm,
        guest,
        ip: file.ip,
        images: Arc::new(file.images.clone()),
        disks: Arc::new(file.disks.clone()),
        life,
    })
}

/// Passes guest events on to the owner, with the VM's number: events of an earlier VM are told apart.
fn forward(mut inbox: mpsc::Receiver<GuestEvent>, number: u64, owner: mpsc::Sender<Input>) {
    tokio::spawn(async move {
        while let Some(event) = inbox.recv().await {
            if owner.send(Input::Guest(number, event)).await.is_err() {
                return;
            }
        }
    });
}

fn watch_end(vm: Arc<dyn Vm>, number: u64, owner: mpsc::Sender<Input>, life: CancellationToken) {
    tokio::spawn(life.run_until_cancelled_owned(async move {
        let reason = vm.exited().await;
        let _ = owner.send(Input::Job(Report::VmEnded(number, reason))).await;
    }));
}

/// The serial number of the disk of an image with this id.
pub fn image_serial(id: &str) -> String {
    let digest = id.rsplit(':').next().unwrap_or_default();
    format!("i{}", digest.get(..16).unwrap_or(digest))
}

fn image_disks(images: &BTreeMap<String, Arc<Image>>) -> Vec<Disk> {
    let disks: BTreeMap<String, Disk> = images
        .values()
        .map(|image| {
            let serial = image_serial(&image.id);
            let disk = Disk {
                serial: serial.clone(),
                path: image.disk.clone(),
                read_only: true,
            };
            (serial, disk)
        })
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
            "lazy_itable_init=1,lazy_journal_init=1,nodiscard",
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

/// The identity of a guest.
fn configuration(context: &Context, pod: &Pod, nic: &PodNic, scratch: bool) -> ConfigureRequest {
    let names = Names::of(pod, &context.config.cluster_domain);
    let now = jiff::Timestamp::now();
    let spec = pod.spec.as_ref();
    let sysctls = spec
        .and_then(|spec| spec.security_context.as_ref()?.sysctls.as_ref())
        .into_iter()
        .flatten()
        .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()));
    ConfigureRequest {
        hosts: hosts(pod, nic.ip, &names),
        resolv_conf: resolv_conf(context, pod),
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
        share_process_namespace: spec.and_then(|spec| spec.share_process_namespace) == Some(true),
        domain_name: names.domain,
        hostname: names.hostname,
    }
}

/// How a Pod is called inside.
struct Names {
    hostname: String,
    domain: String,
    fqdn: Option<String>,
}

impl Names {
    fn of(pod: &Pod, cluster_domain: &str) -> Self {
        let spec = pod.spec.as_ref();
        let name = pod.metadata.name.clone().unwrap_or_default();
        let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
        let over = spec.and_then(|spec| spec.hostname_override.clone());
        let own = over
            .clone()
            .or_else(|| spec.and_then(|spec| spec.hostname.clone()));
        // A host name has at most 63 characters (`truncatePodHostnameIfNeeded`).
        let mut short: String = own.unwrap_or(name).chars().take(63).collect();
        short.truncate(short.trim_end_matches(['-', '.']).len());
        let subdomain = spec
            .and_then(|spec| spec.subdomain.as_deref())
            .filter(|subdomain| !subdomain.is_empty() && over.is_none());
        let domain = subdomain.map(|subdomain| format!("{subdomain}.{namespace}.svc.{cluster_domain}"));
        let fqdn = domain.as_ref().map(|domain| format!("{short}.{domain}"));
        let as_fqdn = spec.and_then(|spec| spec.set_hostname_as_fqdn) == Some(true);
        Self {
            hostname: fqdn.clone().filter(|_| as_fqdn).unwrap_or(short),
            domain: domain.unwrap_or_default(),
            fqdn,
        }
    }
}

/// `/etc/hosts`, with the kubelet's words at its top.
fn hosts(pod: &Pod, ip: Ipv4Addr, names: &Names) -> String {
    let mut text = "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost \
                    ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\n\
                    fe00::2\tip6-allrouters\n"
        .to_owned();
    let short = names.hostname.split('.').next().unwrap_or_default();
    match &names.fqdn {
        Some(fqdn) => text += &format!("{ip}\t{fqdn}\t{short}\n"),
        None => text += &format!("{ip}\t{short}\n"),
    }
    let aliases = pod.spec.as_ref().and_then(|spec| spec.host_aliases.as_ref());
    let mut header = "\n# Entries added by HostAliases.\n";
    for alias in aliases.into_iter().flatten() {
        let names = alias
            .hostnames
            .iter()
            .flatten()
            .cloned()
            .collect::<Vec<_>>()
            .join("\t");
        text += header;
        text += &format!("{}\t{names}\n", alias.ip);
        header = "";
    }
    text
}

/// `/etc/resolv.conf` by `dnsPolicy` and `dnsConfig`.
fn resolv_conf(context: &Context, pod: &Pod) -> String {
    let spec = pod.spec.as_ref();
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = &context.config.cluster_domain;
    let policy = spec
        .and_then(|spec| spec.dns_policy.as_deref())
        .unwrap_or("ClusterFirst");
    let (mut servers, mut searches, mut options) = match policy {
        "None" => (Vec::new(), Vec::new(), Vec::new()),
        "Default" => {
            let servers = context
                .config
                .upstream_dns
                .iter()
                .map(ToString::to_string)
                .collect();
            (servers, Vec::new(), Vec::new())
        }
        // `ClusterFirst`, and `ClusterFirstWithHostNet`: host network means the VM's own here.
        _ => (
            vec![context.config.cluster_dns.to_string()],
            vec![
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.clone(),
            ],
            vec!["ndots:5".to_owned()],
        ),
    };
    if let Some(config) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        servers.extend(config.nameservers.iter().flatten().cloned());
        searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            options.retain(|known: &String| known.split(':').next() != Some(name));
            options.push(match &option.value {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.clone(),
            });
        }
    }
    let mut text: String = servers
        .iter()
        .map(|server| format!("nameserver {server}\n"))
        .collect();
    if !searches.is_empty() {
        text += &format!("search {}\n", searches.join(" "));
    }
    if !options.is_empty() {
        text += &format!("options {}\n", options.join(" "));
    }
    text
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

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": spec}))
            .expect("a Pod")
    }

    #[test]
    fn names_inside() {
        let cases = [
            (json!({"containers": []}), ("web-0", "")),
            (json!({"containers": [], "hostname": "h"}), ("h", "")),
            (
                json!({"containers": [], "subdomain": "s"}),
                ("web-0", "s.shop.svc.cluster.local"),
            ),
            (
                json!({"containers": [], "subdomain": "s", "setHostnameAsFQDN": true}),
                ("web-0.s.shop.svc.cluster.local", "s.shop.svc.cluster.local"),
            ),
        ];
        for (spec, expected) in cases {
            let names = Names::of(&pod(spec.clone()), "cluster.local");
            assert_eq!(
                (names.hostname.as_str(), names.domain.as_str()),
                expected,
                "{spec}"
            );
        }
    }

    #[test]
    fn hosts_file() {
        let pod = pod(
            json!({"containers": [], "subdomain": "s", "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]}),
        );
        let names = Names::of(&pod, "cluster.local");
        let text = hosts(&pod, Ipv4Addr::new(10, 244, 0, 9), &names);
        assert!(
            text.ends_with(
                "10.244.0.9\tweb-0.s.shop.svc.cluster.local\tweb-0\n\n# Entries added by HostAliases.\n1.2.3.4\ta\tb\n"
            ),
            "{text}"
        );
    }
}
