//! Figures of Pods and the host: what the hypervisor charges to each VM and what the guest says of its containers, with
//! CPU as a rate between two samples. [`summary`] and [`prometheus`] write them as the kubelet does; [`history`] keeps
//! those of the last hour.

pub mod history;
mod kubelet;
pub mod probes;
pub mod prometheus;
mod specs;
pub mod stalls;
pub mod starts;
pub mod summary;

use std::collections::HashMap;
use std::path::Path;
use std::time::{Duration, Instant};

use guest_api::v1::StatsReply;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kinds::quantity::Quantity;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::podvm::{PodVm, View};
use crate::size::VmSize;

/// How long a guest may take to answer: a chart waits for nobody.
const CALL: Duration = Duration::from_millis(800);
/// Samples closer than this to each other share one rate.
const SHORTEST: Duration = Duration::from_millis(400);
/// A sample is at most this old when somebody asks; otherwise a new one is taken.
const FRESH: Duration = Duration::from_millis(700);

/// What was measured of one Pod.
#[derive(Debug, Clone)]
pub struct Sample {
    /// When.
    pub time: Timestamp,
    at: Instant,
    /// CPU time of the VM since its start, in nanoseconds.
    pub cpu_ns: u64,
    /// CPU of the VM in billionths of a core.
    pub cpu_nano_cores: u64,
    /// Time for which the VM's threads were ready to run and no processor was free, in nanoseconds since its start.
    pub cpu_ready_ns: u64,
    /// Time over which the rate was measured.
    pub window: Duration,
    /// Memory of the VM that the host has given, in bytes.
    pub memory_bytes: u64,
    /// What the guest says.
    pub guest: Option<StatsReply>,
    /// CPU of each container in billionths of a core, by run.
    pub containers: HashMap<String, u64>,
}

impl Sample {
    /// Memory that the VM costs the host beyond what its containers use: guest kernel and agent, and the hypervisor's own.
    pub fn overhead_bytes(&self) -> Option<u64> {
        let guest = self.guest.as_ref()?;
        let inside: u64 = guest.containers.iter().map(|c| c.memory_usage).sum();
        Some(self.memory_bytes.saturating_sub(inside))
    }

    /// Memory of the VM that the host has for others: what its guest has never taken, or has given back by the balloon (free
    /// page reporting).
    pub fn ballooned_bytes(&self, size: &VmSize) -> u64 {
        (size.memory_mib << 20).saturating_sub(self.memory_bytes)
    }
}

/// The last samples of all Pods, by uid.
#[derive(Default)]
pub struct Sampler {
    last: Mutex<HashMap<String, Sample>>,
    histories: Mutex<HashMap<String, history::Ring>>,
}

impl Sampler {
    /// Takes the figures of all Pods into their histories, and returns the memory that all VMs together cost the host
    /// beyond what their containers use or request, in bytes.
    pub async fn remember(&self, pods: Vec<PodVm>) -> u64 {
        let samples = self.sample(pods).await;
        let mut histories = self.histories.lock();
        for (view, sample) in &samples {
            if let Some(uid) = &view.pod.metadata.uid {
                histories.entry(uid.clone()).or_default().push(&view.size, sample);
            }
        }
        let known = |uid: &String| {
            let mut views = samples.iter().map(|(view, _)| view);
            views.any(|view| view.pod.metadata.uid.as_ref() == Some(uid))
        };
        histories.retain(|uid, _| known(uid));
        // What a Pod requests is counted already, whether it uses it or not.
        let beyond = |(view, sample): &(View, Sample)| {
            let requested = crate::pressure::total(&view.pod, "memory");
            let used = sample.memory_bytes.saturating_sub(sample.overhead_bytes()?);
            Some(sample.memory_bytes.saturating_sub(used.max(requested)))
        };
        samples.iter().filter_map(beyond).sum()
    }

    /// The history of a Pod.
    pub fn history(&self, view: &View) -> Option<Value> {
        let histories = self.histories.lock();
        histories
            .get(view.pod.metadata.uid.as_ref()?)
            .map(history::Ring::to_json)
    }

    /// The figures of all Pods with a VM: fresh enough, or taken now.
    pub async fn sample(&self, pods: Vec<PodVm>) -> Vec<(View, Sample)> {
        let views: Vec<View> = pods
            .iter()
            .map(PodVm::view)
            .filter(|view| view.machine.is_some())
            .collect();
        let samples = futures::future::join_all(views.iter().map(|view| self.one(view))).await;
        let known: Vec<&str> = views
            .iter()
            .filter_map(|view| view.pod.metadata.uid.as_deref())
            .collect();
        self.last.lock().retain(|uid, _| known.contains(&uid.as_str()));
        views
            .iter()
            .cloned()
            .zip(samples)
            .filter_map(|(view, sample)| Some((view, sample?)))
            .collect()
    }

    async fn one(&self, view: &View) -> Option<Sample> {
        let uid = view.pod.metadata.uid.clone()?;
        let before = self.last.lock().get(&uid).cloned();
        if let Some(sample) = before.as_ref().filter(|sample| sample.at.elapsed() < FRESH) {
            return Some(sample.clone());
        }
        let machine = view.machine.as_ref()?;
        let stats = machine.vm.stats().await;
        let guest = async {
            let mut client = machine.guest.client().await.ok()?;
            Some(
                client
                    .stats(guest_api::v1::StatsRequest::default())
                    .await
                    .ok()?
                    .into_inner(),
            )
        };
        let guest = tokio::time::timeout(CALL, guest).await.ok().flatten();
        let at = Instant::now();
        let window = before
            .as_ref()
            .map(|before| at.duration_since(before.at))
            .unwrap_or_default();
        let rate = |now: u64, then: Option<u64>| match then {
            Some(then) if window >= SHORTEST => {
                let nanos = u128::from(now.saturating_sub(then)) * 1_000_000_000 / window.as_nanos().max(1);
                u64::try_from(nanos).unwrap_or(u64::MAX)
            }
            _ => 0,
        };
        let usage_before = |id: &str| {
            let reply = before.as_ref()?.guest.as_ref()?;
            reply
                .containers
                .iter()
                .find(|c| c.id == id)
                .map(|c| c.cpu_usage_ns)
        };
        let containers = guest
            .iter()
            .flat_map(|reply| &reply.containers)
            .map(|c| (c.id.clone(), rate(c.cpu_usage_ns, usage_before(&c.id))))
            .collect();
        let sample = Sample {
            time: Timestamp::now(),
            at,
            cpu_ns: stats.cpu_usage_ns,
            cpu_nano_cores: rate(stats.cpu_usage_ns, before.as_ref().map(|before| before.cpu_ns)),
            cpu_ready_ns: machine.vm.pid().map_or(0, ready_ns),
            window,
            memory_bytes: stats.memory_rss_bytes,
            guest,
            containers,
        };
        self.last.lock().insert(uid, sample.clone());
        Some(sample)
    }
}

/// The guest's figures with the bytes in writable layers and emptyDirs, which take it a while to count.
pub async fn files(view: &View) -> Option<guest_api::v1::StatsReply> {
    let machine = view.machine.as_ref()?;
    let ask = async {
        let mut client = machine.guest.client().await.ok()?;
        let request = guest_api::v1::StatsRequest { disk: true };
        Some(client.stats(request).await.ok()?.into_inner())
    };
    tokio::time::timeout(CALL, ask).await.ok().flatten()
}

/// Waiting time of all threads of a process, out of `/proc/PID/task/*/schedstat`: run time, waiting time, slices.
fn ready_ns(pid: u32) -> u64 {
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"));
    let of = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split_whitespace().nth(1)?.parse::<u64>().ok()
    };
    threads.into_iter().flatten().flatten().filter_map(of).sum()
}

/// `metrics.k8s.io` figures of a Pod, with a `vm` block of ours.
pub fn pod_metrics(view: &View, sample: &Sample) -> Value {
    let metadata = &view.pod.metadata;
    let guest = sample.guest.as_ref();
    let containers: Vec<Value> = view
        .records
        .iter()
        .filter(|record| record.running())
        .map(|record| {
            let run = record.run_id();
            let nano = sample.containers.get(&run).copied().unwrap_or(0);
            let memory = guest
                .and_then(|reply| reply.containers.iter().find(|c| c.id == run))
                .map_or(0, |c| c.memory_working_set);
            json!({
                "name": record.name,
                "usage": {"cpu": format!("{nano}n"), "memory": format!("{}Ki", memory / 1024)},
            })
        })
        .collect();
    json!({
        "kind": "PodMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {
            "name": metadata.name,
            "namespace": metadata.namespace,
            "labels": metadata.labels,
            "creationTimestamp": Time(sample.time),
        },
        "timestamp": Time(sample.time),
        "window": format!("{:.3}s", sample.window.as_secs_f64()),
        "containers": containers,
        "vm": {
            "vcpus": view.size.vcpus,
            "memory": Quantity::from_bytes(i128::from(view.size.memory_mib) << 20).to_string(),
            "usage": {
                "cpu": format!("{}n", sample.cpu_nano_cores),
                "memory": format!("{}Ki", sample.memory_bytes / 1024),
            },
            "guestMemoryAvailable": guest.map(|g| format!("{}Ki", g.memory_available / 1024)),
            "networkRxBytes": guest.map(|g| g.rx_bytes),
            "networkTxBytes": guest.map(|g| g.tx_bytes),
            "diskUsedBytes": guest.map(|g| g.scratch_used),
            "diskReadBytes": guest.map(|g| g.disk_read_bytes),
            "diskWrittenBytes": guest.map(|g| g.disk_written_bytes),
            "cpuReadyNanoseconds": sample.cpu_ready_ns,
            "memoryBallooned": format!("{}Ki", sample.ballooned_bytes(&view.size) / 1024),
        },
    })
}

/// Use of the machine as a whole.
#[derive(Debug, Clone, Copy, Default)]
pub struct HostUsage {
    /// CPU time since the machine's start in nanoseconds.
    pub cpu_ns: u64,
    /// CPU in billionths of a core.
    pub cpu_nano_cores: u64,
    /// Memory in bytes.
    pub memory_total: u64,
    /// Memory that can be had without swapping.
    pub memory_available: u64,
    /// Memory that belongs to no file.
    pub memory_rss: u64,
    /// Page faults since the machine's start.
    pub page_faults: u64,
    /// Those of them that had to wait for a disk.
    pub major_page_faults: u64,
    /// Bytes of the file system with the data directory.
    pub disk_total: u64,
    /// Bytes of it that are free.
    pub disk_free: u64,
    /// Files that it can hold.
    pub inodes: u64,
    /// Files that it can hold still.
    pub inodes_free: u64,
    /// When the machine started.
    pub boot: Timestamp,
    /// For how long its tasks waited.
    pub stalls: stalls::Stalls,
}

/// Measures the machine: the rate is that since the last call.
#[derive(Default)]
pub struct HostSampler {
    last: Mutex<Option<(Instant, u64)>>,
}

impl HostSampler {
    /// The present figures.
    pub fn sample(&self, data_dir: &Path) -> HostUsage {
        let cpu_ns = busy_ns().unwrap_or(0);
        let now = Instant::now();
        let before = self.last.lock().replace((now, cpu_ns));
        let cpu_nano_cores = before.map_or(0, |(then, ns)| {
            let window = now.duration_since(then).as_nanos().max(1);
            u64::try_from(u128::from(cpu_ns.saturating_sub(ns)) * 1_000_000_000 / window).unwrap_or(0)
        });
        let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
        let field = |name: &str| {
            let line = text.lines().find(|line| line.starts_with(name))?;
            line.split_whitespace().nth(1)?.parse::<u64>().ok()
        };
        let counters = std::fs::read_to_string("/proc/vmstat").unwrap_or_default();
        let counter = |name: &str| {
            let value = counters
                .lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            value.and_then(|value| value.parse().ok()).unwrap_or(0)
        };
        let disk = rustix::fs::statvfs(data_dir).ok();
        let of = |value: fn(&rustix::fs::StatVfs) -> u64| disk.as_ref().map_or(0, value);
        let uptime = std::fs::read_to_string("/proc/uptime").unwrap_or_default();
        let uptime = uptime
            .split_whitespace()
            .next()
            .and_then(|text| text.parse::<f64>().ok());
        let uptime = Duration::try_from_secs_f64(uptime.unwrap_or(0.0)).unwrap_or_default();
        HostUsage {
            disk_total: of(|stat| stat.f_blocks * stat.f_frsize),
            disk_free: of(|stat| stat.f_bavail * stat.f_frsize),
            inodes: of(|stat| stat.f_files),
            inodes_free: of(|stat| stat.f_ffree),
            boot: Timestamp::now()
                .checked_sub(uptime)
                .unwrap_or(Timestamp::UNIX_EPOCH),
            stalls: stalls::read(),
            cpu_ns,
            cpu_nano_cores,
            memory_total: field("MemTotal:").unwrap_or(0) * 1024,
            memory_available: field("MemAvailable:").unwrap_or(0) * 1024,
            memory_rss: field("AnonPages:").unwrap_or(0) * 1024,
            page_faults: counter("pgfault"),
            major_page_faults: counter("pgmajfault"),
        }
    }
}

/// Busy time of all processors out of `/proc/stat`.
fn busy_ns() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/stat").ok()?;
    let fields: Vec<u64> = text
        .lines()
        .next()?
        .split_whitespace()
        .skip(1)
        .filter_map(|field| field.parse().ok())
        .collect();
    // user, nice, system, irq, softirq, steal: everything but idle and iowait; in ticks of 10 ms.
    let busy: u64 = [0, 1, 2, 5, 6, 7]
        .iter()
        .filter_map(|index| fields.get(*index))
        .sum();
    Some(busy * 10_000_000)
}
