//! The API server as a value: its parts, how it starts, and what its other modules share.

use crate::admit::AdmissionPlugin;
use crate::aggregation::Remotes;
use crate::alloc::{Allocators, Range};
use crate::audit::Audit;
use crate::authorize::Authorizer;
use crate::cache::Caches;
use crate::cache::feed::{self, Keys};
use crate::config::Config;
use crate::connection::Authenticator;
use crate::discovery::Documents;
use crate::limits::Limits;
use crate::metrics::Metrics;
use crate::outbound::Outbound;
use crate::proxy::Agents;
use crate::registry::Registry;
use arc_swap::ArcSwap;
use std::sync::Arc;
use store::{Revision, Store, StoreError};
use tokio_util::sync::CancellationToken;

/// Who may do what: the parts that authentication, authorization and admission bring.
pub struct Access {
    /// Finds out who asks.
    pub authenticator: Arc<dyn Authenticator>,
    /// Decides what they may do.
    pub authorizer: Arc<dyn Authorizer>,
    /// Looks at every write, in this order.
    pub admission: Vec<Arc<dyn AdmissionPlugin>>,
    /// Issues and reviews tokens; without it TokenReview and TokenRequest are refused.
    pub authentication: Option<Arc<crate::authn::Authentication>>,
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store cannot be read.
    #[error("the store cannot be read: {0}")]
    Store(#[from] StoreError),
    /// A setting is wrong.
    #[error("{field}: {why}")]
    Setting {
        /// Which one.
        field: &'static str,
        /// What is wrong with it, and what would be right.
        why: String,
    },
    /// The objects that every cluster has could not be made.
    #[error("{what} could not be made: {why}")]
    Bootstrap {
        /// Which object.
        what: String,
        /// Why not.
        why: String,
    },
}

/// One API server.
pub struct ApiServer {
    pub(crate) config: Config,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) keys: Keys,
    pub(crate) caches: Arc<Caches>,
    pub(crate) registry: ArcSwap<Registry>,
    pub(crate) access: Access,
    pub(crate) alloc: Allocators,
    pub(crate) limits: Limits,
    pub(crate) metrics: Metrics,
    pub(crate) flows: crate::flow::Flows,
    pub(crate) documents: Documents,
    pub(crate) agents: Agents,
    pub(crate) outbound: Outbound,
    pub(crate) remotes: ArcSwap<Remotes>,
    pub(crate) audit: Option<Arc<Audit>>,
    pub(crate) extra_metrics: Option<Arc<dyn Fn() -> String + Send + Sync>>,
    pub(crate) stop: CancellationToken,
    pub(crate) extra: Option<axum::Router>,
}

impl ApiServer {
    /// Starts a server: loads the cache, makes what every cluster has, and answers when it can serve.
    pub async fn start(config: Config) -> Result<Arc<ApiServer>, StartError> {
        ApiServer::start_with(config, crate::access::build).await
    }

    /// Starts a server whose access control is built by `access` from the configuration and the cache.
    pub async fn start_with(
        mut config: Config,
        access: impl FnOnce(&Config, Arc<Caches>) -> Result<Access, StartError>,
    ) -> Result<Arc<ApiServer>, StartError> {
        let range = Range::parse(&config.service_cidr).ok_or_else(|| StartError::Setting {
            field: "service CIDR",
            why: format!(
                "{:?} is no IPv4 range between /8 and /30; say e.g. 10.96.0.0/16",
                config.service_cidr
            ),
        })?;
        let store = config.store.clone();
        let keys = Keys::new(&config.control_plane);
        let caches = Arc::new(Caches::default());
        let registry = Registry::builtin(&caches);
        let watch = feed::load(&*store, &keys, &caches).await?;
        let access = access(&config, caches.clone())?;
        let audit = match &config.audit {
            Some(wanted) => Some(Audit::open(wanted).map_err(|e| StartError::Setting {
                field: "audit",
                why: e.to_string(),
            })?),
            None => None,
        };
        let stop = CancellationToken::new();
        let server = Arc::new(ApiServer {
            alloc: Allocators::new(caches.clone(), range, config.node_port_range),
            limits: Limits::new(config.max_requests_per_user, config.max_watches_per_user),
            metrics: Metrics::default(),
            flows: crate::flow::Flows::default(),
            documents: Documents::default(),
            agents: Agents::new(config.agent_tls.clone()),
            outbound: Outbound::default(),
            remotes: ArcSwap::default(),
            audit,
            extra_metrics: config.extra_metrics.clone(),
            registry: ArcSwap::from_pointee(registry),
            extra: config.extra_routes.take(),
            keys: keys.clone(),
            caches: caches.clone(),
            stop: stop.clone(),
            store: store.clone(),
            access,
            config,
        });
        tokio::spawn(feed::run(store, keys, caches, watch, stop));
        server.clone().spawn_compaction();
        crate::crd::start(&server);
        crate::sweep::start(server.clone());
        crate::bootstrap::run(&server, range).await?;
        crate::aggregation::start(&server);
        crate::follow::start(&server);
        crate::authn::legacy::start(&server);
        Ok(server)
    }

    /// Ends all watches and background tasks. The store stays open: it belongs to the caller.
    pub fn stop(&self) {
        self.stop.cancel();
    }

    /// The objects, for parts of the same process that only look.
    pub fn view(&self) -> Arc<Caches> {
        self.caches.clone()
    }

    /// The admission chain.
    pub(crate) fn admission(&self) -> &[Arc<dyn AdmissionPlugin>] {
        &self.access.admission
    }

    /// Forgets history of the log that is older than one interval.
    fn spawn_compaction(self: Arc<Self>) {
        tokio::spawn(async move {
            let mut last = Revision(self.caches.revision());
            loop {
                tokio::select! {
                    () = self.stop.cancelled() => return,
                    () = tokio::time::sleep(self.config.compaction_interval) => {}
                }
                let now = Revision(self.caches.revision());
                if now > last {
                    match self.store.compact(last).await {
                        Ok(()) => self.caches.forget(last.0),
                        Err(error) => {
                            tracing::warn!(%error, "the log could not be compacted; it is tried again later");
                        }
                    }
                }
                last = now;
            }
        });
    }
}
