//! The Supervisor: store, API server, sign-on, console, controllers, scheduler.

use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use apiserver::ApiServer;
use apiserver::audit::AuditConfig;
use apiserver::config::Config as ApiConfig;
use apiserver::user::User;
use identity::kubeconfig::Kubeconfig;
use store::Store;
use store::embedded::EmbeddedStore;
use store::etcd::{EtcdStore, EtcdTls};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::trust::Trust;
use super::{advertised, sign_on, start_code};
use crate::config::{Config, StoreAddress};

/// Each host gets a block of this size out of the Pod addresses.
const NODE_BLOCK_PREFIX: u8 = 24;

/// The embedded store in the data directory.
pub const STORE_FILE: &str = "state.redb";

/// Size in bytes at which the audit log is begun anew, and how many older ones are kept.
const AUDIT_BYTES: u64 = 100 << 20;
const AUDIT_FILES: usize = 10;

/// A running Supervisor.
pub struct Supervisor {
    pub api: Arc<ApiServer>,
    pub trust: Trust,
    store: Arc<dyn Store>,
    tasks: JoinSet<()>,
    stop: CancellationToken,
}

impl Supervisor {
    /// Starts everything; on return the API answers.
    pub async fn start(config: &Config, stop: CancellationToken) -> Result<Self> {
        let mut phases = Phases::default();
        // Ports first: a taken one is the most likely mistake, and nothing has been changed yet.
        let listeners = listen(&config.listen).await?;
        let (address, file) = (config.store.clone(), config.data_dir.join(STORE_FILE));
        let opening = tokio::task::spawn_blocking(move || open_store(&address, &file));
        let trust = tokio::task::block_in_place(|| Trust::load(config))?;
        phases.done("keys");
        let store = opening.await.context("the store was not opened")??;
        phases.done("store opened");
        let sign_on = sign_on::Later::new(config, &trust);
        let mut settings = ApiConfig::new("main", Arc::clone(&store));
        settings.service_cidr = config.service_cidr.to_string();
        settings.cluster_dns = Some(config.cluster_dns());
        settings
            .service_account_key_pem
            .clone_from(&trust.service_account_key_pem);
        settings.client_ca_der = vec![trust.authority.certificate_der().to_vec()];
        settings.jwt_issuers = vec![sign_on.issuer()];
        settings.agent_tls = Some(trust.agent_client()?);
        settings.proxy_client = Some(trust.proxy_client()?);
        settings.audit = audit(config)?;
        let queues = controllers::WorkQueues::new();
        let shown = Arc::clone(&queues);
        settings.extra_metrics = Some(Arc::new(move || shown.render()));
        settings.extra_routes = Some(sign_on.routes());
        super::hosts::make_certificates(config, &trust)?;
        phases.done("credentials");
        settings.advertise = (
            advertised::address(config.host_address),
            config.api_address().port(),
        );
        let api = ApiServer::start(settings).await;
        let api = api.with_context(|| match &config.store {
            StoreAddress::Embedded => "the API server".to_owned(),
            StoreAddress::Etcd(members) | StoreAddress::EtcdTls { members, .. } => {
                format!("the API server on etcd at {} (--store)", members.join(", "))
            }
        })?;
        phases.done("API server");
        let client = kube::Client::new(api.local_service(User::system()), "default");
        let password_file = config.admin_password_file.as_deref();
        let first = identity::bootstrap::first_password(&client, &config.data_dir, password_file);
        let first = first.await.context("the first administrator")?;
        write_kubeconfig(config, &trust)?;
        phases.done("kubeconfig");
        let mut supervisor = Self {
            api,
            trust,
            store,
            tasks: JoinSet::new(),
            stop,
        };
        supervisor.serve(config, listeners).await?;
        phases.done("serving");
        let stop = supervisor.stop.clone();
        supervisor.tasks.spawn(sign_on.keep_trying(client, first, stop));
        supervisor.run_controllers(config, queues)?;
        supervisor
            .tasks
            .spawn(start_code::when_over(supervisor.stop.clone()));
        Ok(supervisor)
    }

    /// A client of the API as a user, without any socket.
    pub fn client(&self, user: User) -> kube::Client {
        kube::Client::new(self.api.local_service(user), "default")
    }

    /// Ends everything in order; the store is on disk afterwards.
    pub async fn shut_down(mut self) {
        self.stop.cancel();
        self.api.stop();
        while self.tasks.join_next().await.is_some() {}
        self.store.close().await;
    }

    /// Opens the listeners. Pods reach the API at the host's address, so that is served as well.
    async fn serve(&mut self, config: &Config, mut listeners: Vec<TcpListener>) -> Result<()> {
        let tls = self.trust.api_server(config)?;
        let for_pods = SocketAddr::new(IpAddr::V4(config.host_address), config.api_address().port());
        let covered = config
            .listen
            .iter()
            .any(|address| *address == for_pods || address.ip().is_unspecified());
        if !covered && config.simulated_hosts.is_none() {
            listeners.extend(listen(&[for_pods]).await?);
        }
        for listener in listeners {
            let serving = Arc::clone(&self.api).serve(listener, Arc::clone(&tls), self.stop.clone());
            self.tasks.spawn(serving);
        }
        Ok(())
    }

    fn run_controllers(&mut self, config: &Config, queues: Arc<controllers::WorkQueues>) -> Result<()> {
        let tokens = super::trust::AccountTokens::new(&self.trust.service_account_key_pem)?;
        let settings = controllers::Config {
            pod_cidr: config.pod_cidr.to_string(),
            node_block_prefix: NODE_BLOCK_PREFIX.max(config.pod_cidr.prefix),
            root_ca_pem: self.trust.authority.certificate_pem().to_owned(),
            vip_pool: config.vip_pool.iter().map(ToString::to_string).collect(),
            signer: Some(Arc::new(super::trust::RequestSigner(Arc::clone(
                &self.trust.authority,
            )))),
            tokens: Some(Arc::new(tokens)),
        };
        let client = self.client(User::new(
            "system:kube-controller-manager",
            &["system:authenticated"],
        ));
        // One copy of the cluster serves both; each acts under its own name.
        let world = controllers::world::World::new(client, self.api.view());
        let client = self.client(User::new("system:kube-scheduler", &["system:authenticated"]));
        let for_scheduler = world.acting_through(client);
        let stop = self.stop.clone();
        self.tasks.spawn(
            controllers::Manager::new(world, settings)
                .told_to(queues)
                .run(stop),
        );
        let stop = self.stop.clone();
        self.tasks
            .spawn(async move { scheduler::run(&for_scheduler, stop).await });
        Ok(())
    }
}

/// Where the time of a start goes, in the log of level `debug`.
struct Phases {
    since: Instant,
    before: Duration,
}

impl Default for Phases {
    fn default() -> Self {
        Self {
            since: Instant::now(),
            before: Duration::ZERO,
        }
    }
}

impl Phases {
    fn done(&mut self, phase: &str) {
        let now = self.since.elapsed();
        let took = now.saturating_sub(std::mem::replace(&mut self.before, now));
        tracing::debug!(phase, ?took, so_far = ?now, "start");
    }
}

fn open_store(address: &StoreAddress, file: &Path) -> Result<Arc<dyn Store>> {
    let store: Arc<dyn Store> = match address {
        StoreAddress::Embedded => Arc::new(EmbeddedStore::open(file)?),
        StoreAddress::Etcd(members) => Arc::new(EtcdStore::connect(members)?),
        StoreAddress::EtcdTls { members, ca, client } => {
            let read = |file: &Path, flag: &str| {
                std::fs::read_to_string(file)
                    .with_context(|| format!("cannot read {}: correct {flag}", file.display()))
            };
            let tls = EtcdTls {
                ca_pem: read(ca, "--etcd-cafile")?,
                client_pem: match client {
                    Some((certificate, key)) => Some((
                        read(certificate, "--etcd-certfile")?,
                        read(key, "--etcd-keyfile")?,
                    )),
                    None => None,
                },
            };
            Arc::new(EtcdStore::connect_tls(members, &tls)?)
        }
    };
    Ok(store)
}

async fn listen(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for address in addresses {
        let listener = TcpListener::bind(address).await.with_context(|| {
            format!("cannot listen on {address}: is another server there? choose another with --listen")
        })?;
        listeners.push(listener);
    }
    Ok(listeners)
}

/// The audit log that the operator asked for.
fn audit(config: &Config) -> Result<Option<AuditConfig>> {
    let Some(file) = &config.audit_policy_file else {
        return Ok(None);
    };
    let policy = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read {}: correct --audit-policy-file", file.display()))?;
    Ok(Some(AuditConfig {
        policy,
        path: config.data_dir.join("audit.log"),
        max_bytes: AUDIT_BYTES,
        max_files: AUDIT_FILES,
    }))
}

fn write_kubeconfig(config: &Config, trust: &Trust) -> Result<()> {
    let server = format!("https://{}", config.api_address());
    let authority = trust.authority.certificate_pem();
    let credential = trust.administrator()?;
    let kubeconfig =
        Kubeconfig::for_certificate("podvisor", &server, authority, "kubernetes-admin", &credential);
    kubeconfig.save(&config.kubeconfig_out).with_context(|| {
        format!(
            "cannot write {}: choose another with --kubeconfig-out",
            config.kubeconfig_out.display()
        )
    })
}
