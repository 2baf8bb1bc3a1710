//! The host runs low on disk or memory: its Node says so, new Pods are refused, and running ones are evicted, one at a
//! time, in the kubelet's order and words (`pkg/kubelet/eviction`).
//!
//! A VM cannot take more than it was given, but hosts promise more than they have: disks are sparse, and memory is only
//! reserved as far as it is requested.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::{Container, Pod};
use kinds::placement;
use kinds::quantity::Quantity;
use parking_lot::Mutex;
use serde_json::json;

use crate::agent::Pods;
use crate::deps::ImageSource;
use crate::events::{self, Kind};
use crate::image_gc;
use crate::podvm::{Context, PodVm, Stage, View};
use crate::size;

/// Between two looks (kubelet: the eviction manager's 10 seconds).
const LOOK: Duration = Duration::from_secs(10);
/// Pods of at least this priority stay (`SystemCriticalPriority`).
const CRITICAL: i32 = 2_000_000_000;

/// From where on a host is under pressure (kubelet: `--eviction-hard`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Thresholds {
    /// Per cent of the data directory's file system that must be free (`nodefs.available`).
    pub disk_percent: u8,
    /// No more than so many bytes of it need be free: a tenth of a large disk is no emergency.
    pub disk_bytes: u64,
    /// Per cent of its files that must be free (`nodefs.inodesFree`).
    pub inodes_percent: u8,
    /// Bytes of memory that must be available (`memory.available`).
    pub memory_bytes: u64,
    /// How long pressure is shown after it was last seen (`--eviction-pressure-transition-period`).
    pub calm: Duration,
}

impl Default for Thresholds {
    fn default() -> Self {
        Self {
            disk_percent: 10,
            disk_bytes: 2 << 30,
            inodes_percent: 5,
            memory_bytes: 100 << 20,
            calm: Duration::from_secs(300),
        }
    }
}

/// A resource of the host that can run low.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Signal {
    Memory,
    Disk,
    Images,
    Inodes,
}

impl Signal {
    /// The resource's name in messages.
    fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Disk | Self::Images => "ephemeral-storage",
            Self::Inodes => "inodes",
        }
    }
}

/// A signal beyond its threshold: threshold and what is available.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Low {
    signal: Signal,
    threshold: u64,
    available: u64,
}

/// When pressure was seen last.
#[derive(Default)]
pub struct Pressure(Mutex<(Option<Instant>, Option<Instant>)>);

impl Pressure {
    fn note(&self, low: &[Low]) {
        let now = Instant::now();
        let mut seen = self.0.lock();
        for low in low {
            match low.signal {
                Signal::Memory => seen.0 = Some(now),
                Signal::Disk | Signal::Images | Signal::Inodes => seen.1 = Some(now),
            }
        }
    }

    /// Whether memory, and whether disk, is or was low a moment ago.
    pub fn state(&self, thresholds: &Thresholds) -> (bool, bool) {
        let seen = self.0.lock();
        let recent = |at: Option<Instant>| at.is_some_and(|at| at.elapsed() <= thresholds.calm);
        (recent(seen.0), recent(seen.1))
    }

    /// Why a new Pod is not taken (kubelet: `managerImpl.Admit`): low memory alone keeps out only those that ask for nothing
    /// and do not tolerate it, as those of DaemonSets do.
    pub fn refusal(&self, thresholds: &Thresholds, pod: &Pod) -> Option<(String, String)> {
        if priority(pod) >= CRITICAL {
            return None;
        }
        let (memory, disk) = self.state(thresholds);
        let bears_memory = || size::class_of(pod) != "BestEffort" || tolerates_low_memory(pod);
        let found = match (memory, disk) {
            (false, false) => return None,
            (true, true) => "MemoryPressure DiskPressure",
            (false, true) => "DiskPressure",
            (true, false) if bears_memory() => return None,
            (true, false) => "MemoryPressure",
        };
        Some((
            "Evicted".to_owned(),
            format!("The node had condition: [{found}]. "),
        ))
    }
}

fn tolerates_low_memory(pod: &Pod) -> bool {
    let taint = json!({"key": "node.kubernetes.io/memory-pressure", "effect": "NoSchedule"});
    let node = json!({"spec": {"taints": [taint]}});
    let tolerations = pod.spec.as_ref().map(|spec| &spec.tolerations);
    let pod = json!({"spec": {"tolerations": tolerations}});
    placement::untolerated(&pod, &node, "NoSchedule").is_none()
}

fn priority(pod: &Pod) -> i32 {
    pod.spec.as_ref().and_then(|spec| spec.priority).unwrap_or(0)
}

fn containers(pod: &Pod) -> &[Container] {
    pod.spec.as_ref().map_or(&[], |spec| &spec.containers)
}

/// The requests of a Pod's containers.
pub(crate) fn total(pod: &Pod, resource: &str) -> u64 {
    let of = |container: &Container| {
        let requests = container.resources.as_ref()?.requests.as_ref()?;
        let quantity = requests.get(resource)?;
        match resource {
            "cpu" => size::milli(quantity),
            _ => size::whole(quantity),
        }
    };
    containers(pod).iter().filter_map(of).sum()
}

/// Figures of the host.
#[derive(Debug, Clone, Copy)]
struct Figures {
    disk: (u64, u64),
    /// The file system of the images, which may be another one (`imagefs.available`).
    images: (u64, u64),
    inodes: (u64, u64),
    memory_available: u64,
}

fn measure(data_dir: &Path, images: &dyn ImageSource) -> Option<Figures> {
    let stat = rustix::fs::statvfs(data_dir).ok()?;
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemAvailable:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(Figures {
        disk: (stat.f_blocks * stat.f_frsize, stat.f_bavail * stat.f_frsize),
        images: images.space().ok()?,
        inodes: (stat.f_files, stat.f_ffree),
        memory_available: kib * 1024,
    })
}

fn low(figures: &Figures, thresholds: &Thresholds) -> Vec<Low> {
    let share = |total: u64, percent: u8| total / 100 * u64::from(percent);
    let disk = |signal, (total, available): (u64, u64)| Low {
        signal,
        threshold: share(total, thresholds.disk_percent).min(thresholds.disk_bytes),
        available,
    };
    let all = [
        Low {
            signal: Signal::Memory,
            threshold: thresholds.memory_bytes,
            available: figures.memory_available,
        },
        disk(Signal::Disk, figures.disk),
        disk(Signal::Images, figures.images),
        Low {
            signal: Signal::Inodes,
            threshold: share(figures.inodes.0, thresholds.inodes_percent),
            available: figures.inodes.1,
        },
    ];
    all.into_iter()
        .filter(|low| low.available < low.threshold)
        .collect()
}

/// Who goes first: who has more than was asked for, then the less important, then who has most beyond it.
fn rank(pods: &mut [(Arc<Pod>, u64)], resource: &str) {
    pods.sort_by_cached_key(|(pod, used)| {
        let requested = total(pod, resource);
        let beyond = i128::from(*used) - i128::from(requested);
        (beyond <= 0, priority(pod), -beyond)
    });
}

/// The words of an eviction.
fn message(low: &Low, pod: &Pod, used: u64) -> String {
    let bytes = |value: u64| Quantity::from_bytes(i128::from(value)).to_string();
    let words = |value: u64| match low.signal {
        Signal::Inodes => value.to_string(),
        _ => bytes(value),
    };
    let resource = low.signal.resource();
    let mut text = format!(
        "The node was low on resource: {resource}. Threshold quantity: {}, available: {}. ",
        words(low.threshold),
        words(low.available)
    );
    let requested = total(pod, resource);
    // What a VM takes is known as a whole: with one container it is that one's.
    if let ([only], true) = (containers(pod), used > requested && low.signal != Signal::Inodes) {
        let (used, requested) = (bytes(used), bytes(requested));
        text += &format!(
            "Container {} was using {used}, request is {requested}, has larger consumption of {resource}. ",
            only.name
        );
    }
    text
}

/// Bytes that a Pod really takes of a resource.
async fn usage(context: &Context, pod: &PodVm, view: &View, signal: Signal) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    if signal == Signal::Memory {
        return match &view.machine {
            Some(machine) => machine.vm.stats().await.memory_rss_bytes,
            None => 0,
        };
    }
    let uid = view.pod.metadata.uid.as_deref().unwrap_or_default();
    let disks = std::fs::read_dir(context.disk_dir(uid));
    let blocks = |entry: std::fs::DirEntry| entry.metadata().map_or(0, |data| data.blocks() * 512);
    let disks: u64 = disks.into_iter().flatten().flatten().map(blocks).sum();
    let logs = containers(&view.pod).iter();
    disks + logs.map(|container| pod.logs.bytes(&container.name)).sum::<u64>()
}

/// Watches the host until the agent ends.
pub(crate) async fn run(context: Arc<Context>, pods: Pods) {
    let work = async {
        loop {
            sweep(&context, &pods).await;
            tokio::time::sleep(context.config.eviction_pause.unwrap_or(LOOK)).await;
        }
    };
    context.cancel.run_until_cancelled(work).await;
}

/// What is low now.
fn look(context: &Context) -> Vec<Low> {
    let figures = measure(&context.config.data_dir, &*context.deps.images);
    let low = figures.map_or(Vec::new(), |figures| low(&figures, &context.config.pressure));
    context.pressure.note(&low);
    low
}

async fn sweep(context: &Context, pods: &Pods) {
    let mut low = look(context);
    let Some(first) = low.first() else { return };
    let node = events::node(&context.config.node_name);
    let words = format!("Attempting to reclaim {}", first.signal.resource());
    context
        .recorder
        .record(node, Kind::Warning, "EvictionThresholdMet", words);
    // What nobody uses goes before what somebody does (kubelet: `reclaimNodeLevelResources`).
    if first.signal != Signal::Memory {
        image_gc::reclaim(context, pods);
        low = look(context);
    }
    let Some(first) = low.first() else { return };
    let mut candidates = Vec::new();
    let mut owners = Vec::new();
    for pod in pods.all() {
        let view = pod.view();
        match view.stage {
            // One is on its way already: what it leaves is waited for.
            Stage::Stopping => return,
            Stage::Running if priority(&view.pod) < CRITICAL => {
                let used = usage(context, &pod, &view, first.signal).await;
                candidates.push((Arc::clone(&view.pod), used));
                owners.push(pod);
            }
            _ => {}
        }
    }
    rank(&mut candidates, first.signal.resource());
    let Some((chosen, used)) = candidates.first() else {
        return;
    };
    let owner = owners
        .iter()
        .find(|owner| owner.view().pod.metadata.uid == chosen.metadata.uid);
    if let Some(owner) = owner {
        owner.evict(message(first, chosen, *used)).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pod(name: &str, priority: i32, requests: &str) -> Arc<Pod> {
        let requests = json!({"ephemeral-storage": requests, "memory": requests});
        let pod = json!({"metadata": {"name": name}, "spec": {"priority": priority,
            "containers": [{"name": "c", "resources": {"requests": requests}}]}});
        Arc::new(serde_json::from_value(pod).expect("a Pod"))
    }

    #[test]
    fn figures_against_thresholds() {
        let thresholds = Thresholds::default();
        let figures = Figures {
            disk: (1000, 99),
            images: (1000, 101),
            inodes: (1000, 50),
            memory_available: 100 << 20,
        };
        let found: Vec<Signal> = low(&figures, &thresholds).iter().map(|low| low.signal).collect();
        assert_eq!(found, [Signal::Disk]);
        let images = Figures {
            disk: (1000, 100),
            images: (1000, 99),
            ..figures
        };
        let found: Vec<Signal> = low(&images, &thresholds).iter().map(|low| low.signal).collect();
        assert_eq!(found, [Signal::Images]);
    }

    #[test]
    fn the_greedy_go_first() {
        let mut pods = [
            (pod("modest", 0, "10Mi"), 5 << 20),
            (pod("important", 9, "1Mi"), 900 << 20),
            (pod("greedy", 0, "1Mi"), 30 << 20),
            (pod("greedier", 0, "1Mi"), 40 << 20),
        ];
        rank(&mut pods, "ephemeral-storage");
        let order: Vec<&str> = pods
            .iter()
            .filter_map(|(pod, _)| pod.metadata.name.as_deref())
            .collect();
        assert_eq!(order, ["greedier", "greedy", "important", "modest"]);
        let low = Low {
            signal: Signal::Disk,
            threshold: 10 << 30,
            available: 1 << 30,
        };
        assert_eq!(
            message(&low, &pods[0].0, 40 << 20),
            "The node was low on resource: ephemeral-storage. Threshold quantity: 10Gi, available: 1Gi. Container c \
             was using 40Mi, request is 1Mi, has larger consumption of ephemeral-storage. "
        );
    }

    #[test]
    fn who_is_not_taken() {
        let thresholds = Thresholds::default();
        let pressure = Pressure::default();
        let with = pod("with", 0, "1Mi");
        assert_eq!(pressure.refusal(&thresholds, &with), None);
        let memory = Low {
            signal: Signal::Memory,
            threshold: 2,
            available: 1,
        };
        pressure.note(&[memory]);
        assert_eq!(pressure.refusal(&thresholds, &with), None);
        let without: Pod =
            serde_json::from_value(json!({"spec": {"containers": [{"name": "c"}]}})).expect("a Pod");
        let (reason, message) = pressure.refusal(&thresholds, &without).expect("refused");
        assert_eq!(
            (reason.as_str(), message.as_str()),
            ("Evicted", "The node had condition: [MemoryPressure]. ")
        );
        let tolerates = json!({"key": "node.kubernetes.io/memory-pressure", "operator": "Exists"});
        let daemon: Pod = serde_json::from_value(
            json!({"spec": {"tolerations": [tolerates], "containers": [{"name": "c"}]}}),
        )
        .expect("a Pod");
        assert_eq!(pressure.refusal(&thresholds, &daemon), None);
        pressure.note(&[Low {
            signal: Signal::Inodes,
            ..memory
        }]);
        for pod in [&*with, &daemon] {
            let (_, message) = pressure.refusal(&thresholds, pod).expect("refused");
            assert_eq!(message, "The node had condition: [MemoryPressure DiskPressure]. ");
        }
        assert_eq!(
            pressure.refusal(&thresholds, &pod("critical", CRITICAL, "1Mi")),
            None
        );
    }
}
