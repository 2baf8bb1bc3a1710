//! Services and Pods as the network sees them. The host agent translates Kubernetes objects into these.

use std::net::Ipv4Addr;

use crate::Ipv4Net;

/// A Pod's interface on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PodNic {
    /// The VM's id; the tap's name is derived from it.
    pub vm_id: String,
    /// The Pod's address.
    pub ip: Ipv4Addr,
    /// The guest's hardware address.
    pub mac: [u8; 6],
}

/// Transport protocol of a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

impl Protocol {
    /// As nftables and DNS write it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

/// What a Service is to the network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServiceAddress {
    /// Has a cluster IP.
    Cluster(Ipv4Addr),
    /// `clusterIP: None`: DNS names of its endpoints only.
    Headless,
    /// `type: ExternalName`: an alias in DNS.
    External(String),
}

/// One Service with its endpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its address.
    pub address: ServiceAddress,
    /// Load-balancer VIPs and `externalIPs` that lead to it.
    pub vips: Vec<Ipv4Addr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// `sessionAffinity: ClientIP`: for how many seconds after its latest connection a client keeps its endpoint.
    pub client_affinity: Option<u32>,
    /// Another proxy than ours leads to it; its names are here all the same.
    pub served_elsewhere: bool,
    /// Where this host says whether it has endpoints of it, if it shall.
    pub health_port: Option<u16>,
    /// Who may come to the addresses of its load balancer; none: everybody.
    pub guard: Option<Guard>,
    /// Who is led to endpoints of this host alone.
    pub only_here: OnlyHere,
    /// Endpoints count even when they are not ready.
    pub publish_not_ready: bool,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// `internalTrafficPolicy: Local` and `externalTrafficPolicy: Local`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OnlyHere {
    /// Who comes to the cluster IP.
    pub inside: bool,
    /// Who comes from outside to a VIP or a node port.
    pub outside: bool,
}

/// `loadBalancerSourceRanges`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Guard {
    /// The VIPs that it guards.
    pub vips: Vec<Ipv4Addr>,
    /// Where clients may come from.
    pub sources: Vec<Ipv4Net>,
}

/// One port of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServicePort {
    /// Name, empty for a single unnamed port.
    pub name: String,
    /// Protocol.
    pub protocol: Protocol,
    /// Port on the Service's addresses.
    pub port: u16,
    /// Port on the host's addresses, if any.
    pub node_port: Option<u16>,
}

/// A port of the host that is a container's (`hostPort`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    /// The host's address that it is at; none: all of them.
    pub at: Option<Ipv4Addr>,
    /// Protocol.
    pub protocol: Protocol,
    /// Its number.
    pub port: u16,
    /// Where it leads: a Pod of this host, and a port of it.
    pub to: (Ipv4Addr, u16),
}

/// One endpoint of a Service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// Its address.
    pub ip: Ipv4Addr,
    /// `(port name, target port)` pairs.
    pub ports: Vec<(String, u16)>,
    /// Whether it is on this host.
    pub here: bool,
    /// Whether it takes traffic.
    pub ready: bool,
    /// It is going and still serves: it takes traffic while there is nobody else.
    pub ending: bool,
    /// `hostname` of a Pod of a headless Service.
    pub hostname: Option<String>,
}

impl Service {
    /// The endpoints that count, with the target port for a port name.
    pub fn targets(&self, port_name: &str) -> Vec<(Ipv4Addr, u16)> {
        self.targets_among(port_name, &|_| true)
    }

    /// Those on this host.
    pub fn targets_here(&self, port_name: &str) -> Vec<(Ipv4Addr, u16)> {
        self.targets_among(port_name, &|endpoint| endpoint.here)
    }

    fn targets_among(&self, port_name: &str, among: &dyn Fn(&Endpoint) -> bool) -> Vec<(Ipv4Addr, u16)> {
        let all = |counts: &dyn Fn(&Endpoint) -> bool| -> Vec<(Ipv4Addr, u16)> {
            let counted = self
                .endpoints
                .iter()
                .filter(|endpoint| among(endpoint) && counts(endpoint));
            counted
                .filter_map(|endpoint| {
                    let (_, port) = endpoint.ports.iter().find(|(name, _)| name == port_name)?;
                    Some((endpoint.ip, *port))
                })
                .collect()
        };
        let mut targets = all(&|endpoint| endpoint.ready || self.publish_not_ready);
        if targets.is_empty() {
            targets = all(&|endpoint| endpoint.ending);
        }
        targets.sort_unstable();
        targets.dedup();
        targets
    }
}
