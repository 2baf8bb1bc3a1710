//! Datagram flows that must be forgotten: conntrack remembers which endpoint a client was given, and a client that goes
//! on sending would keep to one that is gone. TCP needs no such thing: a connection to nobody is reset or times out.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::model::{HostPort, Protocol, Service, ServiceAddress};

/// Flows from anybody through one address of a Service, or one port of the host, to one endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Flow {
    /// Where clients send to; `None` is any address, for node ports.
    address: Option<Ipv4Addr>,
    port: u16,
    /// `None`: to whoever it was.
    endpoint: Option<(Ipv4Addr, u16)>,
}

impl Flow {
    /// The arguments that make `conntrack` forget them.
    pub fn forget(&self) -> Vec<String> {
        let mut words: Vec<String> = ["--delete", "--proto", "udp"].map(str::to_owned).into();
        if let Some(address) = self.address {
            words.extend(["--orig-dst".to_owned(), address.to_string()]);
        }
        words.extend(["--orig-port-dst".to_owned(), self.port.to_string()]);
        if let Some((ip, port)) = self.endpoint {
            words.extend(["--reply-src".to_owned(), ip.to_string()]);
            words.extend(["--reply-port-src".to_owned(), port.to_string()]);
        }
        words
    }
}

/// What was possible with the old Services and is not with the new ones.
pub(crate) fn stale(old: &[Service], new: &[Service]) -> BTreeSet<Flow> {
    &flows(old) - &flows(new)
}

/// The same of ports of the host. Of one that is new, too, whatever there was: a client that sent to it when it was nobody's,
/// and goes on, would be heard by nobody still.
pub(crate) fn stale_ports(old: &[HostPort], new: &[HostPort]) -> BTreeSet<Flow> {
    let flow = |port: &HostPort, endpoint| Flow {
        address: port.at,
        port: port.port,
        endpoint,
    };
    let only = |these: &[HostPort], those: &[HostPort]| {
        let datagrams = these.iter().filter(|port| port.protocol == Protocol::Udp);
        let only = datagrams.filter(|port| !those.contains(port)).copied();
        only.collect::<Vec<HostPort>>()
    };
    let (left, came) = (only(old, new), only(new, old));
    let left = left.iter().map(|port| flow(port, Some(port.to)));
    left.chain(came.iter().map(|port| flow(port, None))).collect()
}

fn flows(services: &[Service]) -> BTreeSet<Flow> {
    let mut flows = BTreeSet::new();
    for service in services {
        let ServiceAddress::Cluster(cluster_ip) = service.address else {
            continue;
        };
        for port in service.ports.iter().filter(|port| port.protocol == Protocol::Udp) {
            let addresses = std::iter::once(cluster_ip)
                .chain(service.vips.iter().copied())
                .map(|address| (Some(address), port.port));
            for (address, port_number) in addresses.chain(port.node_port.map(|number| (None, number))) {
                let targets = [service.targets(&port.name), service.targets_here(&port.name)].concat();
                flows.extend(targets.into_iter().map(|endpoint| Flow {
                    address,
                    port: port_number,
                    endpoint: Some(endpoint),
                }));
            }
        }
    }
    flows
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, OnlyHere, ServicePort};

    fn service(protocol: Protocol, endpoints: &[[u8; 4]]) -> Service {
        Service {
            namespace: "demo".to_owned(),
            name: "names".to_owned(),
            address: ServiceAddress::Cluster([10, 96, 0, 9].into()),
            vips: vec![[198, 51, 100, 1].into()],
            ports: vec![ServicePort {
                name: String::new(),
                protocol,
                port: 53,
                node_port: Some(30053),
            }],
            client_affinity: None,
            served_elsewhere: false,
            health_port: None,
            guard: None,
            only_here: OnlyHere::default(),
            publish_not_ready: false,
            endpoints: endpoints
                .iter()
                .map(|ip| Endpoint {
                    ip: (*ip).into(),
                    ports: vec![(String::new(), 5353)],
                    here: true,
                    ready: true,
                    ending: false,
                    hostname: None,
                })
                .collect(),
        }
    }

    #[test]
    fn flows_to_who_left_are_forgotten_on_every_way() {
        let (one, two) = ([10, 244, 0, 2], [10, 244, 0, 3]);
        let old = [service(Protocol::Udp, &[one, two])];
        let new = [service(Protocol::Udp, &[two])];
        let words: Vec<String> = stale(&old, &new)
            .iter()
            .map(|flow| flow.forget().join(" "))
            .collect();
        let end = "--reply-src 10.244.0.2 --reply-port-src 5353";
        assert_eq!(
            words,
            [
                format!("--delete --proto udp --orig-port-dst 30053 {end}"),
                format!("--delete --proto udp --orig-dst 10.96.0.9 --orig-port-dst 53 {end}"),
                format!("--delete --proto udp --orig-dst 198.51.100.1 --orig-port-dst 53 {end}"),
            ]
        );
        assert!(stale(&new, &old).is_empty());
        let streams = [service(Protocol::Tcp, &[one])];
        assert!(stale(&streams, &[]).is_empty());
    }

    #[test]
    fn flows_of_ports_of_the_host_are_forgotten_when_their_pod_changes() {
        let port = |protocol, at: Option<[u8; 4]>, pod| HostPort {
            at: at.map(Ipv4Addr::from),
            protocol,
            port: 53,
            to: ([10, 244, 0, pod].into(), 5353),
        };
        let at = Some([192, 0, 2, 7]);
        let old = [port(Protocol::Udp, at, 2), port(Protocol::Tcp, at, 2)];
        let new = [
            port(Protocol::Udp, at, 3),
            port(Protocol::Udp, None, 4),
            port(Protocol::Tcp, at, 3),
        ];
        let words: Vec<String> = stale_ports(&old, &new)
            .iter()
            .map(|flow| flow.forget().join(" "))
            .collect();
        assert_eq!(
            words,
            [
                "--delete --proto udp --orig-port-dst 53",
                "--delete --proto udp --orig-dst 192.0.2.7 --orig-port-dst 53",
                "--delete --proto udp --orig-dst 192.0.2.7 --orig-port-dst 53 --reply-src 10.244.0.2 --reply-port-src 5353",
            ]
        );
        assert!(stale_ports(&new, &new).is_empty());
    }
}
