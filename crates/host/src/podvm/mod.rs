//! One Pod as one VM: the state machine.
//!
//! ```text
//!              first images, all volumes       queue, tap, VM, session, identity
//!  Admitted ─► Preparing ───────────────────► Booting ─────────────────────────► Running ◄─┐ containers start,
//!                 ▲                              │                                  │   └──┘ end, restart (`plan`)
//!                 │ the VM ended by itself and   │ failed: removed, after a pause   │
//!                 │ something is still to run    ▼                                  ▼
//!                 └───────────────────────── Stopping: hooks, SIGTERM, grace, SIGKILL, VM, tap, files
//!                                                │ all of it gone
//!                                                ├─► Finished   the Pod ended: its status stays, nothing else does
//!                                                └─► Gone       the Pod was deleted: now the object goes too
//! ```
//! One owner task per Pod holds the state; it takes API changes, guest events, and the results of its own jobs from one
//! queue, one at a time. Jobs (pulling, booting, starting, stopping) run beside it and only report. "Booting" may later
//! be "cloning": nothing before or after it would notice. [`crate::status`] maps the state to the Pod's status.
//!
//! A Pod object is finalised only after VM, tap, run directory and disks are gone, so whoever sees the object vanish
//! finds nothing left.

mod actions;
mod boot;
mod end;
pub mod evict;
mod fetch;
pub mod handler;
mod launch;
mod names;
mod owner;
pub mod plan;
mod prepare;
mod probes;
mod publish;
mod pump;
pub mod record;
mod refresh;
pub mod requests;
pub mod resize;
mod runs;
mod seed;
mod stop;
mod tokens;

use std::collections::{BTreeMap, HashMap};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use guest_api::v1::Extent;
use images::Image;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use vmm::Vm;

use crate::config::HostConfig;
use crate::datastore::Datastore;
use crate::datastore::attach::VolumeDisk;
use crate::deps::HostDeps;
use crate::env::Facts;
use crate::events::Recorder;
use crate::guest::{Guest, GuestEvent};
use crate::ipam::Ipam;
use crate::logs::PodLogs;
use crate::objects::Objects;
use crate::services::Services;
use crate::size::{Most, VmSize};
pub(crate) use boot::{NODE_FILES, SCRATCH, image_serial, make_file_system};
pub(crate) use end::NEVER_SEEN;
use record::{PodFile, Record, State, Timing};
pub(crate) use runs::START_ERROR;

/// Inputs that may wait for an owner.
const QUEUE: usize = 256;

/// What all Pods of a host share.
pub struct Context {
    /// Settings.
    pub config: HostConfig,
    /// API, hypervisor, images, network.
    pub deps: HostDeps,
    /// Addresses.
    pub ipam: Ipam,
    /// PersistentVolumes.
    pub datastore: Datastore,
    /// Results of probes.
    pub probes: crate::metrics::probes::ProbeCounts,
    /// How many starts there were.
    pub starts: crate::metrics::starts::Starts,
    /// What is known of the use of images.
    pub sights: crate::image_gc::Sights,
    /// What the Pods have asked for.
    pub requests: requests::Requests,
    /// Name, labels, taints and allocatable resources of the Node as it was last seen.
    pub node: parking_lot::RwLock<Option<Arc<serde_json::Value>>>,
    /// Measured memory of all VMs beyond what their containers use, in bytes.
    pub overhead_bytes: std::sync::atomic::AtomicU64,
    /// Whether the host's clock was set.
    pub clock: crate::clock::Clock,
    /// Whether the host runs low on something.
    pub pressure: crate::pressure::Pressure,
    /// ConfigMaps and Secrets.
    pub objects: Arc<Objects>,
    /// Services.
    pub services: Services,
    /// Events.
    pub recorder: Recorder,
    /// Who may boot now: a fair queue.
    pub boot_slots: Arc<Semaphore>,
    /// The agent ends; VMs go on.
    pub cancel: CancellationToken,
}

impl Context {
    /// What the downward API tells about a Pod with this address.
    fn facts(&self, ip: Option<Ipv4Addr>) -> Facts {
        let allocatable = crate::node::allocatable(self);
        Facts {
            host_ip: self.config.node_ip.to_string(),
            pod_ip: ip.map(|ip| ip.to_string()).unwrap_or_default(),
            cpu_millis: allocatable.cpu_millis,
            memory_bytes: allocatable.memory_bytes,
            ephemeral_bytes: allocatable.ephemeral_bytes,
        }
    }

    /// The run directory of a VM.
    pub(crate) fn run_dir(&self, uid: &str) -> PathBuf {
        record::vm_dirs(&self.config.run_dir).join(uid)
    }

    /// The persistent directory of a VM: its writable disk.
    pub(crate) fn disk_dir(&self, uid: &str) -> PathBuf {
        self.config.data_dir.join("disks").join(uid)
    }
}

/// Where a Pod stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Volumes are gathered, and images with which to begin.
    Preparing,
    /// The VM is on its way.
    Booting,
    /// The VM is up.
    Running,
    /// Everything is taken down.
    Stopping,
    /// The Pod ended; only its status is left.
    Finished,
    /// Nothing is left.
    Gone,
}

/// A VM and what belongs to it.
#[derive(Clone)]
pub struct Machine {
    /// The VM.
    pub vm: Arc<dyn Vm>,
    /// The session with its guest.
    pub guest: Guest,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Image of each container, by the container's name.
    pub images: Arc<BTreeMap<String, Arc<Image>>>,
    /// PersistentVolumes among its disks.
    pub disks: Arc<Vec<VolumeDisk>>,
    /// How long its start took, step by step.
    pub timings: Arc<Vec<Timing>>,
    /// What was written into its volumes; nothing when that was done by an agent before this one.
    pub written: Arc<refresh::Written>,
    /// Ends the session and everything that lives with the VM.
    pub life: CancellationToken,
}

/// What others may see of a Pod: a snapshot that follows the owner.
#[derive(Clone)]
pub struct View {
    /// The object.
    pub pod: Arc<Pod>,
    /// Where it stands.
    pub stage: Stage,
    /// Its containers.
    pub records: Arc<Vec<Record>>,
    /// Its VM, if there is one.
    pub machine: Option<Machine>,
    /// Its VM's size.
    pub size: VmSize,
    /// What its VM can grow to.
    pub most: Most,
    /// Number of its VM: 1 for the first.
    pub number: u64,
    /// Nothing of it runs any more, or will: its VM may be on its way down.
    pub over: bool,
}

impl View {
    /// The record of a container.
    pub fn record(&self, container: &str) -> Option<&Record> {
        self.records.iter().find(|record| record.name == container)
    }

    /// Whether this run is going on.
    pub fn runs(&self, run: &str) -> bool {
        self.records
            .iter()
            .any(|record| matches!(&record.state, State::Running { id, .. } if id == run))
    }
}

/// How a Pod comes to an agent.
#[derive(Debug)]
pub enum Origin {
    /// It was bound to this host.
    New,
    /// An earlier agent made its VM.
    Adopted(Box<PodFile>),
    /// The host does not take it: reason and words of its failure.
    Rejected(String, String),
}

/// What comes to an owner.
pub(crate) enum Input {
    /// The object changed.
    Pod(Arc<Pod>),
    /// The object is gone.
    Forgotten,
    /// The host goes down for good: end everything, keep the object.
    Evacuate,
    /// From the guest.
    Guest(u64, GuestEvent),
    /// A job's report.
    Job(Report),
}

/// What a job reports.
pub(crate) enum Report {
    /// A container cannot get its image yet.
    Pulling {
        container: String,
        reason: &'static str,
        message: String,
    },
    /// A container that came later has its image, as a disk of the VM.
    Imaged { container: String, image: Arc<Image> },
    /// A container's `postStart` hook is over: well, or with these words.
    Hooked { run: String, result: Result<(), String> },
    /// Volumes are at hand, and images with which to begin; and what becomes of the images of each container.
    Prepared(Box<prepare::Prepared>, HashMap<String, fetch::First>),
    /// The VM has its address.
    Addressed(Ipv4Addr),
    /// The VM is up, or why not.
    Booted(Result<Box<boot::Arrived>, String>),
    /// A container was started, or the reason and the words why not.
    Launched {
        index: usize,
        run: String,
        result: Result<(), (&'static str, String)>,
    },
    /// The VM ended.
    VmEnded(u64, vmm::ExitReason),
    /// These resources are in force now, or why not; and what the VM has grown to, if it has.
    Resized(resize::Resources, Option<Extent>, Result<(), String>),
    /// The Pod has used more local storage than it may, or (`disrupted`) its host needs what it has.
    Evicted { message: String, disrupted: bool },
    /// The VM of an earlier agent, if it still lives.
    Adopted(Option<Box<boot::Arrived>>),
    /// Everything is taken down.
    Stopped,
    /// The last status is with the API.
    Published,
}

/// A Pod in the messages of statuses and events (kubelet: `format.Pod`).
fn described(pod: &Pod) -> String {
    let metadata = &pod.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (name, namespace, uid) = (
        text(&metadata.name),
        text(&metadata.namespace),
        text(&metadata.uid),
    );
    format!("{name}_{namespace}({uid})")
}

/// How long somebody waits for a VM that is being found again.
const ADOPTION: Duration = Duration::from_secs(15);

/// A Pod of this host, seen from outside its task.
#[derive(Clone)]
pub struct PodVm {
    inputs: mpsc::Sender<Input>,
    view: watch::Receiver<View>,
    /// Its logs.
    pub logs: Arc<PodLogs>,
}

impl PodVm {
    /// Starts the owner of a Pod.
    pub fn start(context: Arc<Context>, pod: Arc<Pod>, origin: Origin) -> Self {
        let metadata = &pod.metadata;
        let text = |value: &Option<String>| value.clone().unwrap_or_default();
        let logs = PodLogs::new(
            &context.config.data_dir,
            &text(&metadata.namespace),
            &text(&metadata.name),
            &text(&metadata.uid),
        );
        let (inputs, queue) = mpsc::channel(QUEUE);
        let view = owner::spawn(context, pod, origin, Arc::clone(&logs), inputs.clone(), queue);
        Self { inputs, view, logs }
    }

    /// Tells of a new version of the object.
    pub async fn update(&self, pod: Arc<Pod>) {
        let _ = self.inputs.send(Input::Pod(pod)).await;
    }

    /// Tells that the object is gone.
    pub async fn forget(&self) {
        let _ = self.inputs.send(Input::Forgotten).await;
    }

    /// Ends the VM and everything of it, but leaves the object alone.
    pub async fn evacuate(&self) {
        let _ = self.inputs.send(Input::Evacuate).await;
    }

    /// Ends the Pod for the host's sake, with these words.
    pub(crate) async fn evict(&self, message: String) {
        let disrupted = true;
        let report = Report::Evicted { message, disrupted };
        let _ = self.inputs.send(Input::Job(report)).await;
    }

    /// The present state.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }

    /// The state for somebody who wants to speak to the VM: an agent that has just come needs a moment to find it again,
    /// and until then knows only that containers run in it.
    pub async fn view_with_vm(&self) -> View {
        let lost = |view: &View| {
            let running = |record: &Record| matches!(record.state, State::Running { .. });
            view.machine.is_none() && view.records.iter().any(running)
        };
        let _ = tokio::time::timeout(ADOPTION, self.wait_for(|view| !lost(view))).await;
        self.view()
    }

    /// Waits until the Pod is so, or its owner has ended.
    pub async fn wait_for(&self, is: impl FnMut(&View) -> bool) {
        let mut view = self.view.clone();
        let _ = view.wait_for(is).await;
    }

    /// Waits until nothing is left.
    pub async fn gone(&self) {
        self.wait_for(|view| matches!(view.stage, Stage::Gone | Stage::Finished))
            .await;
    }

    /// Whether the owner has ended.
    pub fn ended(&self) -> bool {
        self.inputs.is_closed()
    }
}

/// Removes what an earlier agent left of a Pod that is no more.
pub async fn remove_leftovers(context: &Context, uid: &str, file: Option<&PodFile>) {
    boot::remove_leftovers(context, uid, file).await;
}
