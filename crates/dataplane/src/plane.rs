//! [`Dataplane`]: what is in force on this host, and the one place that changes it.
//!
//! Changes are applied one at a time under a lock: plan the wanted ruleset, send the difference, remember it. The
//! first `set_services` after a start replaces the whole table in one transaction, so that a restarted agent neither
//! interrupts running Pods (the old table stays until then) nor trusts what it did not write.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio_util::sync::CancellationToken;

use crate::config::NetConfig;
use crate::dns::{self, Names};
use crate::exec::{self, ExecError};
use crate::health::{Health, HealthPorts};
use crate::model::{Endpoint, HostPort, PodNic, Service};
use crate::nft::{self, Ruleset};
use crate::policy::Policy;
use crate::{announce, flows, link, tap, tap_name};

/// The sysctl without which no packet goes from one Pod to another.
const IP_FORWARD: &str = "/proc/sys/net/ipv4/ip_forward";

/// How long a new Pod waits for the Services to be known while the table of an earlier agent is in force.
const SERVICES_LIMIT: Duration = Duration::from_secs(10);

/// Why the network of the host cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// `nft` or `ip` is missing or refuses.
    #[error("the host's network: {0}")]
    Exec(#[from] ExecError),
    /// A file of the system or of the state directory.
    #[error("the host's network: {path}: {source}{cure}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do about it, if anything is known.
        cure: &'static str,
    },
    /// Cluster DNS cannot listen.
    #[error("cluster DNS cannot listen on {address}:53: {source}")]
    Dns {
        /// The address.
        address: Ipv4Addr,
        /// What the system said.
        source: io::Error,
    },
}

/// Why a Pod's interface cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// `nft` or `ip` refused.
    #[error(transparent)]
    Exec(#[from] ExecError),
    /// The tap cannot be made.
    #[error("tap {name}: {source}: a host needs root and /dev/net/tun")]
    Tap {
        /// The device's name.
        name: String,
        /// What the system said.
        source: io::Error,
    },
}

/// A Pod's tap, ready for a VM.
#[derive(Debug)]
pub struct Tap {
    /// The device's name.
    pub name: String,
    /// An open descriptor of it, for QEMU to inherit.
    pub fd: OwnedFd,
}

#[derive(Default)]
struct State {
    pods: BTreeMap<String, PodNic>,
    services: Vec<Service>,
    policies: Vec<Policy>,
    host_ports: Vec<HostPort>,
    vips: BTreeSet<Ipv4Addr>,
    health: HealthPorts,
    /// What is known to be in force; `None` until the whole table has been written once.
    in_force: Option<Ruleset>,
}

/// The network of this host.
pub struct Dataplane {
    config: NetConfig,
    state: Mutex<State>,
    /// Whether the table in force is ours and no longer an earlier agent's.
    taken_over: watch::Sender<bool>,
    names: Names,
    stop: CancellationToken,
}

impl Dataplane {
    /// Gives the host its addresses and the way to Services, without any Pod yet. Idempotent; [`Self::start`] does it
    /// too, but servers that listen on the host's address want it before.
    pub async fn prepare(config: &NetConfig) -> Result<(), StartError> {
        prepare_host(config).await
    }

    /// Prepares the host and starts DNS. `running` are the Pods that an earlier agent left running.
    pub async fn start(config: NetConfig, running: Vec<PodNic>) -> Result<Arc<Self>, StartError> {
        prepare_host(&config).await?;
        let stop = CancellationToken::new();
        let names = Names::start(&config, stop.clone())
            .await
            .map_err(|source| StartError::Dns {
                address: config.cluster_dns,
                source,
            })?;
        let pods = running.into_iter().map(|pod| (pod.vm_id.clone(), pod)).collect();
        let plane = Arc::new(Self {
            state: Mutex::new(State {
                pods,
                ..State::default()
            }),
            config,
            taken_over: watch::Sender::new(false),
            names,
            stop,
        });
        if !exec::nft_table_exists().await? {
            let mut state = plane.state.lock().await;
            plane.write_whole(&mut state).await?;
        }
        Ok(plane)
    }

    /// Makes a Pod's tap with its rules and its route. Idempotent: the tap of a Pod that is here is opened again.
    pub async fn attach_pod(&self, nic: &PodNic) -> Result<Tap, AttachError> {
        let name = tap_name(&nic.vm_id);
        // Written without Services, the table would cut off the Pods that an earlier agent left running.
        let mut taken_over = self.taken_over.subscribe();
        let known = taken_over.wait_for(|is| *is);
        if tokio::time::timeout(SERVICES_LIMIT, known).await.is_err() {
            tracing::warn!("the Services are not known yet: the network goes on without them");
        }
        let mut state = self.state.lock().await;
        state.pods.insert(nic.vm_id.clone(), nic.clone());
        // Rules first: the device has no packet before it is up.
        self.apply(&mut state).await?;
        let tap_error = |source| AttachError::Tap {
            name: name.clone(),
            source,
        };
        let fd = tap::open(&name, self.config.tap_owner).map_err(tap_error)?;
        exec::ip_batch(&link::pod(&name, nic.ip, self.config.node_ip), false).await?;
        Ok(Tap { name, fd })
    }

    /// Removes a Pod's tap, route and rules. Idempotent.
    pub async fn detach_pod(&self, vm_id: &str) -> Result<(), ExecError> {
        let name = tap_name(vm_id);
        let mut state = self.state.lock().await;
        if link_exists(&name).await? {
            exec::ip_batch(&link::remove_pod(&name), true).await?;
        }
        state.pods.remove(vm_id);
        if state.in_force.is_none() {
            // An earlier agent's table has elements for a device that is gone: harmless until it is replaced as a whole.
            return Ok(());
        }
        self.apply(&mut state).await
    }

    /// Replaces all Services: rules, VIPs and names follow.
    pub async fn set_services(&self, services: Vec<Service>) -> Result<(), ExecError> {
        let mut state = self.state.lock().await;
        self.names.set_services(&services).await;
        let vips: BTreeSet<Ipv4Addr> = services.iter().flat_map(|service| service.vips.clone()).collect();
        let added: String = vips
            .difference(&state.vips)
            .map(|vip| link::vip(*vip, self.config.node_ip))
            .collect();
        let removed: String = state
            .vips
            .difference(&vips)
            .map(|vip| link::remove_vip(*vip))
            .collect();
        let stale = flows::stale(&state.services, &services);
        state.services = services;
        if state.in_force.is_none() {
            self.write_whole(&mut state).await?;
            remove_stale_vips(&vips).await?;
        } else {
            self.apply(&mut state).await?;
        }
        self.tell_health(&mut state).await;
        exec::ip_batch(&added, false).await?;
        announce::announce(vips.difference(&state.vips).copied()).await;
        exec::ip_batch(&removed, true).await?;
        state.vips = vips;
        // After the rules: a datagram in between is given an endpoint that is there.
        forget(stale).await;
        Ok(())
    }

    async fn tell_health(&self, state: &mut State) {
        let ports = state.services.iter().filter_map(|service| {
            let here = |endpoint: &&Endpoint| endpoint.ready && endpoint.here;
            let health = Health {
                service: (service.namespace.clone(), service.name.clone()),
                endpoints: service.endpoints.iter().filter(here).count(),
            };
            Some((service.health_port?, health))
        });
        let ports = ports.collect();
        state.health.set(ports).await;
    }

    /// Replaces all policies. Before the first Services they are only noted.
    pub async fn set_policies(&self, policies: Vec<Policy>) -> Result<(), ExecError> {
        let mut state = self.state.lock().await;
        state.policies = policies;
        if state.in_force.is_none() {
            return Ok(());
        }
        self.apply(&mut state).await
    }

    /// Replaces the ports of the host that are containers'. Before the first Services they are only noted.
    pub async fn set_host_ports(&self, ports: Vec<HostPort>) -> Result<(), ExecError> {
        let mut state = self.state.lock().await;
        let stale = flows::stale_ports(&state.host_ports, &ports);
        state.host_ports = ports;
        if state.in_force.is_none() {
            return Ok(());
        }
        self.apply(&mut state).await?;
        forget(stale).await;
        Ok(())
    }

    /// Stops DNS and forgets everything; Pods and their network go on.
    pub fn shutdown(&self) {
        self.stop.cancel();
    }

    /// Removes everything of ours from this network namespace, whoever made it. Goes on after an error.
    pub async fn remove(config: &NetConfig) -> Vec<String> {
        let mut failed = match dns::earlier(&config.state_dir) {
            Ok(files) => dns::end_all(files),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            Err(error) => vec![format!("{}: {error}", config.state_dir.display())],
        };
        let mut note = |result: Result<(), ExecError>| {
            if let Err(error) = result {
                failed.push(error.to_string());
            }
        };
        for table in nft::TABLES {
            note(exec::nft(&format!("add table {table}\ndelete table {table}\n")).await);
        }
        match taps().await {
            Ok(taps) => {
                let text: String = taps.iter().map(|name| link::remove_pod(name)).collect();
                note(exec::ip_batch(&text, true).await);
            }
            Err(error) => note(Err(error)),
        }
        note(remove_stale_vips(&BTreeSet::new()).await);
        let marker = config.state_dir.join("node-ip-is-ours");
        note(exec::ip_batch(&link::remove_host(config, marker.exists()), true).await);
        let forward = config.state_dir.join("ip-forward-before");
        if let Ok(before) = fs::read_to_string(&forward)
            && let Err(error) = fs::write(IP_FORWARD, before)
        {
            failed.push(format!("{IP_FORWARD}: {error}"));
        }
        for file in [marker, forward] {
            match fs::remove_file(&file) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    failed.push(format!("{}: {error}", file.display()));
                }
                _ => {}
            }
        }
        failed
    }

    /// Brings what is in force to what is wanted.
    async fn apply(&self, state: &mut State) -> Result<(), ExecError> {
        let Some(in_force) = &state.in_force else {
            // A table of an earlier agent, and the Services did not become known in time.
            return self.write_whole(state).await;
        };
        let wanted = self.wanted(state);
        let text = nft::delta(in_force, &wanted);
        if !text.is_empty() {
            exec::nft(&text).await?;
        }
        state.in_force = Some(wanted);
        Ok(())
    }

    async fn write_whole(&self, state: &mut State) -> Result<(), ExecError> {
        let wanted = self.wanted(state);
        exec::nft(&nft::whole(&self.config, &wanted)).await?;
        state.in_force = Some(wanted);
        self.taken_over.send_replace(true);
        Ok(())
    }

    fn wanted(&self, state: &State) -> Ruleset {
        let pods: Vec<PodNic> = state.pods.values().cloned().collect();
        let mut rules = Ruleset::of(&self.config, &pods, &state.services, &state.policies);
        rules.host_ports(&self.config, &state.host_ports);
        rules
    }
}

/// Forgets flows to whom they can no longer lead.
async fn forget(stale: BTreeSet<flows::Flow>) {
    for flow in stale {
        if let Err(error) = exec::conntrack(&flow.forget()).await {
            // Flows end by themselves, only later; the rules are in force.
            tracing::warn!("UDP clients may keep to an endpoint that left for up to three minutes: {error}");
            break;
        }
    }
}

async fn prepare_host(config: &NetConfig) -> Result<(), StartError> {
    let file = |path: PathBuf, cure| move |source| StartError::File { path, source, cure };
    fs::create_dir_all(&config.state_dir).map_err(file(config.state_dir.clone(), ""))?;
    let marker = config.state_dir.join("node-ip-is-ours");
    let addresses = exec::ip_query(&["-4", "-o", "address", "show"]).await?;
    let there = addresses.contains(&format!(" {}/", config.node_ip));
    if !there {
        fs::write(&marker, "").map_err(file(marker.clone(), ""))?;
    }
    let before = fs::read_to_string(IP_FORWARD).map_err(file(IP_FORWARD.into(), ""))?;
    if before.trim() != "1" {
        let saved = config.state_dir.join("ip-forward-before");
        fs::write(&saved, &before).map_err(file(saved, ""))?;
        fs::write(IP_FORWARD, "1").map_err(file(IP_FORWARD.into(), ": a host needs root"))?;
    }
    exec::ip_batch(&link::host(config, marker.exists()), false).await?;
    Ok(())
}

/// Names of the taps in this namespace.
async fn taps() -> Result<Vec<String>, ExecError> {
    let group = crate::TAP_GROUP.to_string();
    let text = exec::ip_query(&["-o", "link", "show", "group", &group]).await?;
    let name = |line: &str| Some(line.split(": ").nth(1)?.split('@').next()?.to_owned());
    Ok(text.lines().filter_map(name).collect())
}

async fn link_exists(name: &str) -> Result<bool, ExecError> {
    let text = exec::ip_query(&["-o", "link", "show"]).await?;
    Ok(text.lines().any(|line| line.split(": ").nth(1) == Some(name)))
}

/// Removes the VIPs of an earlier agent that are not wanted any more.
async fn remove_stale_vips(wanted: &BTreeSet<Ipv4Addr>) -> Result<(), ExecError> {
    let protocol = crate::ROUTE_PROTOCOL.to_string();
    let text = exec::ip_query(&["route", "show", "table", "local", "proto", &protocol]).await?;
    let stale: String = text
        .lines()
        .filter_map(|line| {
            line.strip_prefix("local ")?
                .split_whitespace()
                .next()?
                .parse()
                .ok()
        })
        .filter(|vip| !wanted.contains(vip))
        .map(link::remove_vip)
        .collect();
    exec::ip_batch(&stale, true).await
}
