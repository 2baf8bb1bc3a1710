//! What an agent is told at its start, and what it finds out about its machine.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;

use crate::image_gc::ImageGc;
use crate::resolv_conf::ResolvConf;

/// Where an agent listens, as kubelets do.
pub const PORT: u16 = 10250;

/// What the host offers to Pods.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capacity {
    /// Processor time, in thousandths of a core.
    pub cpu_millis: u64,
    /// Memory in bytes.
    pub memory_bytes: u64,
    /// Number of Pods.
    pub pods: u32,
    /// Bytes of local disk for writable layers and emptyDirs.
    pub ephemeral_bytes: u64,
}

impl Capacity {
    /// What this machine has. Values that the system does not tell become the smallest useful ones.
    pub fn detect(data_dir: &std::path::Path) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from) as u64;
        let ephemeral = rustix::fs::statvfs(data_dir)
            .or_else(|_| rustix::fs::statvfs("/"))
            .map_or(1 << 30, |stat| stat.f_blocks.saturating_mul(stat.f_frsize));
        Self {
            cpu_millis: cores * 1000,
            memory_bytes: total_memory().unwrap_or(1 << 30),
            pods: 250,
            ephemeral_bytes: ephemeral,
        }
    }

    /// What is left for Pods when the agent and the system have had theirs: 100 m CPU, and 256 MiB or 5 % of memory,
    /// whichever is more (kubelet: `kube-reserved` and `system-reserved` together).
    pub fn allocatable(&self) -> Self {
        let memory = (self.memory_bytes / 20).max(256 << 20).min(self.memory_bytes / 2);
        Self {
            cpu_millis: self.cpu_millis.saturating_sub(100),
            memory_bytes: self.memory_bytes - memory,
            pods: self.pods,
            ephemeral_bytes: self.ephemeral_bytes / 10 * 9,
        }
    }
}

fn total_memory() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("MemTotal:"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(kib * 1024)
}

/// Settings of one host agent.
#[derive(Clone)]
pub struct HostConfig {
    /// Name of the Node object.
    pub node_name: String,
    /// Persistent directory of this host: container logs, writable disks of Pods.
    pub data_dir: PathBuf,
    /// Directory that lasts as long as the machine runs, e.g. `/run/podvisor/NODE`: one directory a VM.
    pub run_dir: PathBuf,
    /// The host's address, `InternalIP` of the Node.
    pub node_ip: IpAddr,
    /// Where the agent's HTTPS interface listens. Port 0 takes a free one; the Node says which.
    pub listen: SocketAddr,
    /// Serving certificate and the authority of client certificates. It must demand a client certificate.
    pub tls: Option<Arc<rustls::ServerConfig>>,
    /// Common names of client certificates that may use the interface; empty: any that `tls` accepts.
    pub allowed_clients: Vec<String>,
    /// What the host offers.
    pub capacity: Capacity,
    /// Further labels of the Node.
    pub labels: BTreeMap<String, String>,
    /// The nameserver of Pods with `dnsPolicy: ClusterFirst`.
    pub cluster_dns: Ipv4Addr,
    /// The cluster's domain, `cluster.local`.
    pub cluster_domain: String,
    /// Whom Pods with `dnsPolicy: Default` ask for names; its domains count for others too.
    pub upstream_dns: ResolvConf,
    /// How many VMs may be between start and readiness at one time; the rest waits in a fair queue.
    pub max_booting: usize,
    /// When images are removed.
    pub image_gc: ImageGc,
    /// From where on the host is under pressure.
    pub pressure: crate::pressure::Thresholds,
    /// Sysctls beyond the safe ones that Pods may set: names, or beginnings with a `*` at their end. The kernel is each
    /// Pod's own, so that none of them reaches further than its VM.
    pub unsafe_sysctls: Vec<String>,
    /// Between two looks at a Pod's use of local storage; 10 seconds if it is not said.
    pub eviction_pause: Option<std::time::Duration>,
    /// How long a guest that once answered may say nothing before its VM counts as hung.
    pub silence: std::time::Duration,
}

impl HostConfig {
    /// Settings with the defaults of the house for everything that has one.
    pub fn new(node_name: impl Into<String>, data_dir: PathBuf, run_dir: PathBuf, node_ip: IpAddr) -> Self {
        let capacity = Capacity::detect(&data_dir);
        Self {
            node_name: node_name.into(),
            data_dir,
            run_dir,
            node_ip,
            listen: SocketAddr::new(node_ip, PORT),
            tls: None,
            allowed_clients: Vec::new(),
            capacity,
            labels: BTreeMap::new(),
            cluster_dns: Ipv4Addr::new(10, 96, 0, 10),
            cluster_domain: "cluster.local".to_owned(),
            upstream_dns: ResolvConf::default(),
            max_booting: std::thread::available_parallelism().map_or(1, usize::from),
            image_gc: ImageGc::default(),
            pressure: crate::pressure::Thresholds::default(),
            unsafe_sysctls: Vec::new(),
            eviction_pause: None,
            silence: crate::guest::SILENCE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn something_is_kept_for_the_host() {
        let capacity = Capacity {
            cpu_millis: 2000,
            memory_bytes: 8 << 30,
            pods: 250,
            ephemeral_bytes: 100 << 30,
        };
        let allocatable = capacity.allocatable();
        assert_eq!(allocatable.cpu_millis, 1900);
        assert_eq!(allocatable.memory_bytes, (8 << 30) - (8 << 30) / 20);
        assert_eq!(allocatable.pods, 250);
        let small = Capacity {
            memory_bytes: 300 << 20,
            ..capacity
        };
        assert_eq!(small.allocatable().memory_bytes, 150 << 20);
    }
}
