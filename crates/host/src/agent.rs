//! The agent of one host: starts everything, gives each Pod its owner, and ends without ending the VMs.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::admit;
use crate::config::HostConfig;
use crate::datastore::{self, Datastore};
use crate::deps::HostDeps;
use crate::events::Recorder;
use crate::ipam::Ipam;
use crate::metrics::{HostSampler, Sampler};
use crate::objects::Objects;
use crate::podvm::record::{self, PodFile};
use crate::podvm::{self, Context, Origin, PodVm};
use crate::server::{self, Server};
use crate::{node, services};

/// Between background samples: `kubectl top` finds a rate without waiting.
const SAMPLE: Duration = Duration::from_secs(15);
/// How long the removal of everything may take.
const REMOVE_ALL: Duration = Duration::from_secs(120);

/// Why an agent does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A directory.
    #[error("the host agent's directory {path}: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The port.
    #[error("the host agent cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
}

/// The Pods of this host, by uid.
#[derive(Clone, Default)]
pub(crate) struct Pods(Arc<Mutex<HashMap<String, PodVm>>>);

impl Pods {
    /// All of them.
    pub fn all(&self) -> Vec<PodVm> {
        self.0.lock().values().cloned().collect()
    }
}

/// A host agent.
pub struct Agent {
    context: Arc<Context>,
    pods: Pods,
    sampler: Arc<Sampler>,
    listener: Mutex<Option<TcpListener>>,
    address: SocketAddr,
    /// VMs that an earlier agent left and whose Pods have not been seen yet.
    left: Mutex<HashMap<String, Option<PodFile>>>,
}

impl Agent {
    /// Makes directories, opens the port, and looks for VMs of an earlier agent. Nothing runs before [`Agent::run`].
    pub async fn start(config: HostConfig, deps: HostDeps) -> Result<Arc<Self>, StartError> {
        for path in [
            config.data_dir.clone(),
            crate::logs::directories(&config.data_dir),
            config.data_dir.join("disks"),
            record::vm_dirs(&config.run_dir),
        ] {
            std::fs::create_dir_all(&path).map_err(|source| StartError::Directory { path, source })?;
        }
        let listen = |source| StartError::Listen {
            address: config.listen,
            source,
        };
        let listener = TcpListener::bind(config.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;
        let ipam = Ipam::default();
        let real = deps.hypervisor.name() != "simulated";
        let volumes = datastore::directory_of(&config.data_dir);
        let datastore = Datastore::open(volumes.clone(), real).map_err(|source| StartError::Directory {
            path: volumes,
            source,
        })?;
        let mut left = HashMap::new();
        for (path, file) in record::found(&config.run_dir) {
            let uid = path.file_name().map(|name| name.to_string_lossy().into_owned());
            if let Ok(file) = &file {
                ipam.claim(file.ip);
                // One writer each was the rule when they were given out.
                if let Err((handle, others)) = datastore.take(&file.uid, &file.name, &file.disks) {
                    tracing::error!(handle, others, pod = file.name, "two VMs have one volume");
                }
            }
            left.insert(uid.unwrap_or_default(), file.ok());
        }
        let cancel = CancellationToken::new();
        let context = Arc::new(Context {
            objects: Objects::new(deps.client.clone()),
            services: services::follow(
                &deps.client,
                &config.node_name,
                Arc::clone(&deps.network),
                cancel.child_token(),
            ),
            recorder: Recorder::new(deps.client.clone(), &config.node_name),
            boot_slots: Arc::new(Semaphore::new(config.max_booting.max(1))),
            ipam,
            datastore,
            probes: crate::metrics::probes::ProbeCounts::default(),
            starts: crate::metrics::starts::Starts::default(),
            pressure: crate::pressure::Pressure::default(),
            clock: crate::clock::Clock::default(),
            requests: podvm::requests::Requests::default(),
            sights: crate::image_gc::Sights::default(),
            overhead_bytes: std::sync::atomic::AtomicU64::new(0),
            node: parking_lot::RwLock::default(),
            cancel,
            config,
            deps,
        });
        Ok(Arc::new(Self {
            context,
            pods: Pods::default(),
            sampler: Arc::default(),
            listener: Mutex::new(Some(listener)),
            address,
            left: Mutex::new(left),
        }))
    }

    /// Where the agent's HTTPS interface listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Works until cancelled, or until [`Agent::shutdown`].
    pub async fn run(self: &Arc<Self>, cancel: CancellationToken) {
        let context = &self.context;
        let _stop = {
            let inner = context.cancel.clone();
            let outer = cancel.clone();
            tokio::spawn(async move {
                outer.cancelled().await;
                inner.cancel();
            })
        };
        let listener = self.listener.lock().take();
        let server = Arc::new(Server {
            context: Arc::clone(context),
            pods: self.pods.clone(),
            sampler: Arc::clone(&self.sampler),
            host: Arc::<HostSampler>::default(),
        });
        let serve = async {
            if let Some(listener) = listener {
                server::serve(server, listener, context.cancel.child_token()).await;
            }
        };
        let node = node::run(
            Arc::clone(context),
            self.address.port(),
            context.cancel.child_token(),
        );
        let provision = datastore::provision::run(Arc::clone(context), self.pods.clone());
        let collect = crate::image_gc::run(Arc::clone(context), self.pods.clone());
        let pressure = crate::pressure::run(Arc::clone(context), self.pods.clone());
        let control = crate::control::serve(Arc::clone(context));
        let clock = context.cancel.run_until_cancelled(context.clock.watch());
        tokio::join!(
            serve,
            node,
            self.watch_pods(),
            self.sample(),
            provision,
            collect,
            pressure,
            control,
            clock
        );
    }

    /// Ends the agent. VMs go on for the next one, unless everything is to be removed.
    pub async fn shutdown(&self, remove_all: bool) {
        if remove_all {
            let pods = self.pods.all();
            for pod in &pods {
                pod.evacuate().await;
            }
            let gone = futures::future::join_all(pods.iter().map(PodVm::gone));
            if tokio::time::timeout(REMOVE_ALL, gone).await.is_err() {
                tracing::warn!("some VMs did not end in time");
            }
        }
        self.context.cancel.cancel();
    }

    async fn sample(&self) {
        loop {
            let pause = tokio::time::sleep(SAMPLE);
            if self.context.cancel.run_until_cancelled(pause).await.is_none() {
                return;
            }
            let overhead = self.sampler.remember(self.pods.all()).await;
            self.context
                .overhead_bytes
                .store(overhead, std::sync::atomic::Ordering::Relaxed);
        }
    }

    async fn watch_pods(&self) {
        let context = &self.context;
        let config =
            watcher::Config::default().fields(&format!("spec.nodeName={}", context.config.node_name));
        let api: Api<Pod> = Api::all(context.deps.client.clone());
        let stream = watcher::watcher(api, config).default_backoff().modify(|pod| {
            pod.metadata.managed_fields = None;
        });
        let mut stream = std::pin::pin!(stream);
        let mut listed: HashSet<String> = HashSet::new();
        while let Some(Some(event)) = context.cancel.run_until_cancelled(stream.next()).await {
            match event {
                Ok(Event::Init) => listed.clear(),
                Ok(Event::InitApply(pod)) => {
                    listed.extend(pod.metadata.uid.clone());
                    self.apply(pod).await;
                }
                Ok(Event::InitDone) => self.forget_others(&listed).await,
                Ok(Event::Apply(pod)) => self.apply(pod).await,
                Ok(Event::Delete(pod)) => {
                    if let Some(uid) = &pod.metadata.uid {
                        self.forget(uid).await;
                    }
                }
                Err(error) => tracing::warn!(%error, "watching the Pods of this host"),
            }
        }
    }

    async fn apply(&self, pod: Pod) {
        let Some(uid) = pod.metadata.uid.clone() else {
            return;
        };
        let known = self.pods.0.lock().get(&uid).cloned();
        let pod = Arc::new(pod);
        if let Some(known) = known {
            if !known.ended() {
                return known.update(pod).await;
            }
            if pod.metadata.deletion_grace_period_seconds == Some(0) {
                // The mark with which its object goes: nothing is to begin again for it.
                return;
            }
        }
        let left = self.left.lock().remove(&uid);
        let origin = match left {
            Some(Some(file)) => Origin::Adopted(Box::new(file)),
            Some(None) => {
                podvm::remove_leftovers(&self.context, &uid, None).await;
                Origin::New
            }
            None => match self.admit(&pod).await {
                Some((reason, message)) => Origin::Rejected(reason, message),
                None => Origin::New,
            },
        };
        let owner = PodVm::start(Arc::clone(&self.context), pod, origin);
        let mut pods = self.pods.0.lock();
        pods.retain(|_, pod| !pod.ended());
        pods.insert(uid, owner);
    }

    /// Whether the host has no room for a Pod; then reason and words (kubelet: `lifecycle/predicate.go`).
    async fn admit(&self, pod: &Pod) -> Option<(String, String)> {
        if pod.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let ended = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
            matches!(phase, Some("Succeeded" | "Failed"))
        };
        if ended(pod) {
            return None;
        }
        let others: Vec<Arc<Pod>> = self
            .pods
            .all()
            .iter()
            .map(PodVm::view)
            // As the scheduler counts, though a VM may take a moment to go: who is let in takes longer to come up.
            .filter(|view| !view.over && (view.machine.is_some() || !ended(&view.pod)))
            .map(|view| view.pod)
            .collect();
        let thresholds = &self.context.config.pressure;
        // As the Node says it, since so the scheduler counts.
        let allocatable = node::allocatable(&self.context);
        let node = self.context.node.read().clone();
        let extended = node.map(|node| admit::extended(&node)).unwrap_or_default();
        let refusal = admit::refusal(pod, &self.context.config.unsafe_sysctls)
            .or_else(|| self.context.pressure.refusal(thresholds, pod))
            .or_else(|| admit::no_room(pod, &others, &allocatable, &extended));
        if refusal.is_some() {
            return refusal;
        }
        self.misplaced(pod)
            .await
            .or_else(|| admit::ports_taken(pod, &others))
    }

    /// Whether a Pod asks for another node. What is known of this one may be old, so a refusal asks first.
    async fn misplaced(&self, pod: &Pod) -> Option<(String, String)> {
        let pod = serde_json::to_value(pod).ok()?;
        let known = self.context.node.read().clone();
        if let Some(node) = known
            && admit::misplaced(&pod, &node).is_none()
        {
            return None;
        }
        let nodes: Api<Node> = Api::all(self.context.deps.client.clone());
        match nodes.get(&self.context.config.node_name).await {
            Ok(node) => admit::misplaced(&pod, &serde_json::to_value(node).ok()?),
            Err(error) => {
                tracing::warn!(%error, "whether a Pod fits this node is left to who sent it");
                None
            }
        }
    }

    async fn forget(&self, uid: &str) {
        let known = self.pods.0.lock().get(uid).cloned();
        if let Some(known) = known {
            known.forget().await;
        }
    }

    /// Ends what the API no longer has: Pods that went while this host did not look, and leftovers of earlier agents.
    async fn forget_others(&self, listed: &HashSet<String>) {
        let gone: Vec<PodVm> = {
            let pods = self.pods.0.lock();
            pods.iter()
                .filter(|(uid, _)| !listed.contains(*uid))
                .map(|(_, pod)| pod.clone())
                .collect()
        };
        for pod in gone {
            pod.forget().await;
        }
        let left: Vec<(String, Option<PodFile>)> = self.left.lock().drain().collect();
        for (uid, file) in left {
            podvm::remove_leftovers(&self.context, &uid, file.as_ref()).await;
        }
        self.remove_stray_files(listed);
    }

    /// Disks and logs of Pods that are no more: what a power cut leaves, since run directories go with the machine.
    fn remove_stray_files(&self, listed: &HashSet<String>) {
        let data_dir = &self.context.config.data_dir;
        for directory in [data_dir.join("disks"), crate::logs::directories(data_dir)] {
            let Ok(entries) = std::fs::read_dir(&directory) else {
                continue;
            };
            for entry in entries.filter_map(Result::ok) {
                let file_name = entry.file_name().to_string_lossy().into_owned();
                // NAMESPACE_POD_UID or UID: no part of a name has an underscore.
                let uid = file_name.rsplit('_').next().unwrap_or_default();
                if !listed.contains(uid)
                    && let Err(error) = std::fs::remove_dir_all(entry.path())
                {
                    tracing::warn!(path = %entry.path().display(), %error, "a stray directory stays");
                }
            }
        }
        crate::logs::remove_stray_links(data_dir);
    }
}
