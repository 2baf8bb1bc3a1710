//! Runs every reconciler: waits for changes, calls it, tries again after a failure.

use crate::concern::Concern;
use crate::workqueue::WorkQueues;
use crate::world::{self, World, WorldError};
use crate::{
    aggregation, autoscale, certificates, cronjob, daemonset, deployment, disruption, disruption_target,
    endpoints, gc, job, loadbalancer, mirror, namespace, node, node_ttl, podgc, quota, replicaset,
    serviceaccount, statefulset, storage, supervisor, token_secrets, trust,
};
use async_trait::async_trait;
use futures::future::BoxFuture;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// A controller sweeps after this time even if nothing was seen to change.
const RESYNC: Duration = Duration::from_secs(60);
/// Pause after a failure.
pub(crate) const RETRY: Duration = Duration::from_secs(1);
/// Changes that come within this time are looked at together.
const GATHER: Duration = Duration::from_millis(15);

/// However long a round took, changes are looked at again after this time. Until then a controller rests for several
/// times what its last round computed: under a storm of changes it looks at more of them at once instead of more often,
/// and leaves the processor to those who make the changes.
const LONGEST_REST: Duration = Duration::from_millis(250);
/// Rest for each time unit of computing.
const REST: u32 = 10;

/// What the controllers must be told.
#[derive(Debug, Clone)]
pub struct Config {
    /// Addresses of Pods, `10.244.0.0/16`.
    pub pod_cidr: String,
    /// Prefix length of a host's block of them, 24.
    pub node_block_prefix: u8,
    /// The cluster's root certificates, for `kube-root-ca.crt`.
    pub root_ca_pem: String,
    /// Blocks of virtual addresses for Services of type LoadBalancer; they make the pool `default`.
    pub vip_pool: Vec<String>,
    /// Who signs approved certificate requests; without, they wait.
    pub signer: Option<Arc<dyn certificates::Signer>>,
    /// Who signs the tokens of Secrets that ask for one; without, they wait.
    pub tokens: Option<Arc<dyn token_secrets::TokenMaker>>,
}

/// A controller.
#[async_trait]
pub(crate) trait Reconciler: Send + Sync {
    /// Its name, for the log.
    fn name(&self) -> &'static str;
    /// Resources whose changes wake it, beside those of its concerns.
    fn reads(&self) -> &'static [&'static str] {
        &[]
    }
    /// What it looks after by its changes. Who has none looks at everything in each sweep.
    fn concerns(&self) -> Vec<&Concern> {
        Vec::new()
    }
    /// Resources among them that are not built in.
    fn custom(&self) -> Vec<world::Resource> {
        Vec::new()
    }
    /// Corrects what differs; says when it wants to be called again at the latest.
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError>;
}

/// All controllers.
pub struct Manager {
    world: Arc<World>,
    config: Config,
    queues: Arc<WorkQueues>,
}

impl Manager {
    /// Controllers that see and act through `world`.
    pub fn new(world: Arc<World>, config: Config) -> Manager {
        Manager {
            world,
            config,
            queues: WorkQueues::new(),
        }
    }

    /// Tells those queues what its controllers do.
    pub fn told_to(self, queues: Arc<WorkQueues>) -> Manager {
        Manager { queues, ..self }
    }

    /// Runs until `stop`.
    pub async fn run(self, stop: CancellationToken) {
        let (world, queues) = (self.world, self.queues);
        let config = Arc::new(self.config);
        let all: Vec<Arc<dyn Reconciler>> = vec![
            Arc::new(deployment::Deployments::default()),
            Arc::new(replicaset::ReplicaSets::sets()),
            Arc::new(replicaset::ReplicaSets::controllers()),
            Arc::new(job::Jobs::default()),
            Arc::new(daemonset::DaemonSets::default()),
            Arc::new(statefulset::StatefulSets::default()),
            Arc::new(cronjob::CronJobs::default()),
            Arc::new(disruption::Budgets::default()),
            Arc::new(disruption_target::StaleAnnouncements::default()),
            Arc::new(endpoints::EndpointsOfServices::default()),
            Arc::new(mirror::Mirror::default()),
            Arc::new(certificates::Approver::default()),
            Arc::new(certificates::Certificates::new(config.clone())),
            Arc::new(certificates::Cleaner),
            Arc::new(namespace::Namespaces::default()),
            Arc::new(serviceaccount::Accounts::new(config.clone())),
            Arc::new(token_secrets::TokenSecrets::new(config.clone())),
            Arc::new(trust::Anchors(config.clone())),
            Arc::new(gc::Collector::default()),
            Arc::new(node::Addresses(config.clone())),
            Arc::new(node::Lifecycle::default()),
            Arc::new(node_ttl::Ttl::default()),
            Arc::new(loadbalancer::LoadBalancers::new(config)),
            Arc::new(supervisor::SupervisorNamespaces),
            Arc::new(quota::Quotas::default()),
            Arc::new(aggregation::ClusterRoles),
            Arc::new(autoscale::Autoscalers::default()),
            Arc::new(podgc::Leftovers::default()),
            Arc::new(storage::Classes::default()),
            Arc::new(storage::EphemeralClaims::default()),
            Arc::new(storage::Binder::default()),
            Arc::new(storage::ClaimProtection::default()),
            Arc::new(storage::VolumeProtection::default()),
            Arc::new(storage::AttributesProtection),
            Arc::new(storage::SnapshotKinds::default()),
            Arc::new(storage::Snapshots::default()),
        ];
        for reconciler in &all {
            reconciler.custom().into_iter().for_each(|r| world.know(r));
        }
        for kind in kinds::builtin() {
            // The collector looks at all of them; Events are never owned.
            if kind.is_stored()
                && kind.has_verb("watch")
                && kind.has_verb("delete")
                && kind.plural != "events"
            {
                world.know(world::of_kind(kind));
            }
        }
        let tasks = all
            .into_iter()
            .map(|r| tokio::spawn(drive(r, world.clone(), queues.clone(), stop.clone())));
        futures::future::join_all(tasks).await;
    }
}

async fn drive(
    reconciler: Arc<dyn Reconciler>,
    world: Arc<World>,
    queues: Arc<WorkQueues>,
    stop: CancellationToken,
) {
    let (name, concerns) = (reconciler.name(), reconciler.concerns());
    let concerned = concerns.iter().flat_map(|concern| concern.reads());
    let reads: Vec<&str> = reconciler.reads().iter().copied().chain(concerned).collect();
    let mut changes = world.subscribe();
    let mut seen = u64::MAX;
    let mut wake = tokio::time::Instant::now();
    let mut gather = GATHER;
    loop {
        let revision = world.revision(&reads);
        let due = tokio::time::Instant::now() >= wake;
        if revision != seen || due {
            seen = revision;
            queues.add(name);
            queues.begin(name);
            // A sweep may be left anywhere: the next one, of this process or another, begins with what it finds.
            let (swept, computed) = tokio::select! {
                () = stop.cancelled() => return,
                swept = timed(reconciler.sweep(&world)) => swept,
            };
            queues.end(name, swept.is_err());
            queues.looked(name, concerns.iter().map(|concern| concern.looks()).sum());
            let next = match swept {
                Ok(next) => next.unwrap_or(RESYNC).min(RESYNC),
                Err(error) => {
                    tracing::warn!(controller = name, %error, "will be tried again");
                    RETRY
                }
            };
            wake = tokio::time::Instant::now() + next;
            gather = (computed * REST).clamp(GATHER, LONGEST_REST);
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep_until(wake) => {}
            changed = changes.changed() => {
                if changed.is_err() {
                    return;
                }
                if world.revision(&reads) != seen {
                    queues.add(name);
                }
                tokio::time::sleep(gather).await;
            }
        }
    }
}

/// Runs a future and says how long it computed, which is less than it took: waiting for answers does not count.
pub async fn timed<T>(mut future: BoxFuture<'_, T>) -> (T, Duration) {
    let mut computed = Duration::ZERO;
    let output = std::future::poll_fn(|context| {
        let began = std::time::Instant::now();
        let polled = future.as_mut().poll(context);
        computed += began.elapsed();
        polled
    })
    .await;
    (output, computed)
}
