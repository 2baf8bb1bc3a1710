//! Host agents: the real one of this machine, or simulated ones that run nothing.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, Result};
use apiserver::user::User;
use dataplane::{Dataplane, NetConfig};
use host::{Agent, HostConfig, HostDeps, NoImages, NoNetwork, ResolvConf};
use images::{ImageStore, ImagesConfig, Mirrors};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vmm::qemu::{Accel, FIRST_USER, QemuConfig, QemuDriver};
use vmm::simulated::SimulatedDriver;

use super::supervisor::Supervisor;
use super::trust::{AGENT_CLIENT, Trust};
use crate::config::{self, Config};

/// Who may open the taps: root alone, since QEMU is handed an open one.
const TAP_OWNER: u32 = 0;
/// Where a simulated host says that its Pods may go.
const SIMULATED_CPU_MILLIS: u64 = 32_000;
const SIMULATED_MEMORY: u64 = 128 << 30;
/// Simulated hosts answer the API server alone.
const SIMULATED_ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// The running agents of this process.
pub struct Hosts {
    agents: Vec<Arc<Agent>>,
    network: Option<Arc<Dataplane>>,
    tasks: JoinSet<()>,
}

impl Hosts {
    /// Starts what the settings ask for.
    pub async fn start(config: &Config, supervisor: &Supervisor, stop: CancellationToken) -> Result<Self> {
        let mut hosts = Self {
            agents: Vec::new(),
            network: None,
            tasks: JoinSet::new(),
        };
        match config.simulated_hosts {
            Some(count) => {
                for number in 1..=count {
                    let (settings, deps) = simulated(config, supervisor, number)?;
                    hosts.run(settings, deps, stop.clone()).await?;
                }
            }
            None => {
                let (settings, deps) = real(config, supervisor, &mut hosts.network).await?;
                hosts.run(settings, deps, stop).await?;
            }
        }
        Ok(hosts)
    }

    async fn run(&mut self, settings: HostConfig, deps: HostDeps, stop: CancellationToken) -> Result<()> {
        let name = settings.node_name.clone();
        let agent = Agent::start(settings, deps)
            .await
            .with_context(|| format!("host {name}"))?;
        let running = Arc::clone(&agent);
        self.tasks.spawn(async move { running.run(stop).await });
        self.agents.push(agent);
        Ok(())
    }

    /// Ends the agents; VMs go on.
    pub async fn shut_down(mut self) {
        while self.tasks.join_next().await.is_some() {}
        if let Some(network) = &self.network {
            network.shutdown();
        }
    }
}

/// Makes the certificates of this process's hosts that are missing, before the API serves: a disk without room for
/// them ends the start, not a Supervisor that has answered already.
pub fn make_certificates(config: &Config, trust: &Trust) -> Result<()> {
    match config.simulated_hosts {
        Some(count) => {
            for number in 1..=count {
                trust.host(&simulated_name(number), SIMULATED_ADDRESS)?;
            }
        }
        None => {
            trust.host(&config.node_name, IpAddr::V4(config.host_address))?;
        }
    }
    Ok(())
}

fn simulated_name(number: u32) -> String {
    format!("simulated-{number}")
}

/// Where the host's lasting things are.
pub fn host_data(config: &Config) -> PathBuf {
    config.data_dir.join("host")
}

/// The network of this machine, as `up` makes and `down` removes it.
pub fn network_config(config: &Config) -> Result<NetConfig> {
    Ok(NetConfig {
        node_ip: config.host_address,
        pod_cidr: config.pod_cidr.to_string().parse()?,
        service_cidr: config.service_cidr.to_string().parse()?,
        cluster_dns: config.cluster_dns(),
        domain: "cluster.local".to_owned(),
        open_tcp_ports: vec![config.api_address().port()],
        own_tcp_ports: vec![host::PORT],
        upstream_dns: resolvers().servers,
        dns_program: ["/proc/self/exe", "dns", "--cgroup", &dns_cgroup(config)]
            .map(str::to_owned)
            .to_vec(),
        tap_owner: TAP_OWNER,
        flows_per_pod: dataplane::FLOWS_PER_POD,
        state_dir: config.run_dir.join("network"),
    })
}

/// The group of the process that answers cluster DNS: beside those of VMs, and not the agent's, which a service manager may empty.
pub fn dns_cgroup(config: &Config) -> String {
    format!("{}/dns", config.cgroup_parent)
}

/// The driver of this machine's VMs.
pub fn hypervisor(config: &Config) -> Result<QemuDriver> {
    let accel = match config.accel {
        config::Accel::Auto => Accel::Auto,
        config::Accel::Kvm => Accel::Kvm,
        config::Accel::Tcg => Accel::Tcg,
    };
    Ok(QemuDriver::new(QemuConfig {
        accel,
        bundle: config.guest_bundle.clone(),
        first_user: FIRST_USER,
        cgroup_parent: config.cgroup_parent.clone(),
    })?)
}

async fn real(
    config: &Config,
    supervisor: &Supervisor,
    network: &mut Option<Arc<Dataplane>>,
) -> Result<(HostConfig, HostDeps)> {
    let hypervisor = hypervisor(config)?;
    if let Some(warning) = vmm::Hypervisor::accel(&hypervisor).warning {
        tracing::warn!("{warning}");
    }
    let running = host::running_nics(&config.run_dir);
    let plane = Dataplane::start(network_config(config)?, running).await?;
    *network = Some(Arc::clone(&plane));
    let registries = ImagesConfig {
        mirrors: Mirrors(config.registry_mirrors.clone()),
        authorities: config.registry_authorities.clone(),
        proxies: config.registry_proxies.clone(),
    };
    let images = ImageStore::open(&host_data(config).join("images"), registries)?;
    let name = config.node_name.clone();
    let deps = HostDeps {
        client: node_client(supervisor, &name),
        hypervisor: Arc::new(hypervisor),
        images: Arc::new(images),
        network: plane,
    };
    let address = IpAddr::V4(config.host_address);
    let mut settings = HostConfig::new(name.clone(), host_data(config), config.run_dir.clone(), address);
    settings.tls = Some(supervisor.trust.host(&name, address)?);
    settings.allowed_clients = vec![AGENT_CLIENT.to_owned()];
    settings.unsafe_sysctls.clone_from(&config.allowed_unsafe_sysctls);
    settings.cluster_dns = config.cluster_dns();
    settings.upstream_dns = resolvers();
    Ok((settings, deps))
}

fn simulated(config: &Config, supervisor: &Supervisor, number: u32) -> Result<(HostConfig, HostDeps)> {
    let name = simulated_name(number);
    let address = SIMULATED_ADDRESS;
    let mut settings = HostConfig::new(
        name.clone(),
        config.data_dir.join(&name),
        config.run_dir.join(&name),
        address,
    );
    settings.listen = SocketAddr::new(address, 0);
    settings.tls = Some(supervisor.trust.host(&name, address)?);
    settings.allowed_clients = vec![AGENT_CLIENT.to_owned()];
    settings.capacity.cpu_millis = SIMULATED_CPU_MILLIS;
    settings.capacity.memory_bytes = SIMULATED_MEMORY;
    settings.cluster_dns = config.cluster_dns();
    let deps = HostDeps {
        client: node_client(supervisor, &name),
        hypervisor: Arc::new(SimulatedDriver::new()),
        images: Arc::new(NoImages),
        network: Arc::new(NoNetwork),
    };
    Ok((settings, deps))
}

/// The agent's rights are those of its Node.
fn node_client(supervisor: &Supervisor, name: &str) -> kube::Client {
    let user = User::new(
        format!("system:node:{name}"),
        &["system:nodes", "system:authenticated"],
    );
    supervisor.client(user)
}

/// Whom the machine asks for names.
fn resolvers() -> ResolvConf {
    let text = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    ResolvConf::parse(&text)
}
