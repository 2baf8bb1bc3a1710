//! Services and Pods -> [`Ruleset`].

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::Ruleset;
use crate::config::NetConfig;
use crate::model::{PodNic, Service, ServiceAddress, ServicePort};
use crate::tap_name;

impl Ruleset {
    /// Plans the whole changing part.
    pub fn of(config: &NetConfig, pods: &[PodNic], services: &[Service]) -> Self {
        let mut rules = Self::default();
        for port in &config.open_tcp_ports {
            rules.element("host_ports", format!("{} . tcp . {port}", config.node_ip), "");
        }
        for protocol in ["tcp", "udp"] {
            rules.element(
                "host_ports",
                format!("{} . {protocol} . 53", config.cluster_dns),
                "",
            );
        }
        for pod in pods {
            let mac = pod.mac.map(|byte| format!("{byte:02x}")).join(":");
            rules.element(
                super::PODS,
                format!("\"{}\" . {mac} . {}", tap_name(&pod.vm_id), pod.ip),
                "",
            );
        }
        let local: BTreeSet<Ipv4Addr> = pods.iter().map(|pod| pod.ip).collect();
        for service in services {
            rules.service(service, &local);
        }
        rules
    }

    fn service(&mut self, service: &Service, local: &BTreeSet<Ipv4Addr>) {
        let ServiceAddress::Cluster(cluster_ip) = service.address else {
            return;
        };
        let addresses: BTreeSet<Ipv4Addr> = std::iter::once(cluster_ip)
            .chain(service.vips.iter().copied())
            .collect();
        for address in &addresses {
            self.element("service_addresses", address.to_string(), "");
        }
        for port in &service.ports {
            let targets = service.targets(&port.name);
            let protocol = port.protocol.name();
            let (map, node_map, verdict) = if targets.is_empty() {
                ("refused", "refused_nodeports", "goto refuse".to_owned())
            } else {
                let chain = chain_name(service, port);
                self.chains
                    .insert(chain.clone(), vec![balance(service, port, &targets)]);
                ("services", "nodeports", format!("goto {chain}"))
            };
            for address in &addresses {
                self.element(map, format!("{address} . {protocol} . {}", port.port), &verdict);
            }
            if let Some(node_port) = port.node_port {
                self.element(node_map, format!("{protocol} . {node_port}"), &verdict);
            }
            for (ip, _) in targets.iter().filter(|(ip, _)| local.contains(ip)) {
                // A Pod that reaches itself through a Service must see an answer from that Service.
                self.element("hairpin", format!("{ip} . {ip}"), "");
            }
        }
    }

    fn element(&mut self, set: &'static str, key: String, value: &str) {
        self.elements.insert((set, key), value.to_owned());
    }
}

/// Characters of names that chains may have: a namespace and a Service name are DNS labels.
fn chain_name(service: &Service, port: &ServicePort) -> String {
    format!(
        "svc/{}/{}/{}/{}",
        service.namespace,
        service.name,
        port.protocol.name(),
        port.port
    )
}

/// The one rule that picks an endpoint: at random, or by the client's address where affinity is wanted (which
/// keeps a client with its endpoint for as long as the set of endpoints stays).
fn balance(service: &Service, port: &ServicePort, targets: &[(Ipv4Addr, u16)]) -> String {
    let protocol = port.protocol.name();
    if let [(ip, target)] = targets {
        return format!("meta l4proto {protocol} dnat ip to {ip}:{target}");
    }
    let count = targets.len();
    let pick = if service.client_affinity {
        format!("jhash ip saddr mod {count} seed 0x706f6476")
    } else {
        format!("numgen random mod {count}")
    };
    let choices: Vec<String> = targets
        .iter()
        .enumerate()
        .map(|(number, (ip, target))| format!("{number} : {ip} . {target}"))
        .collect();
    format!(
        "meta l4proto {protocol} dnat ip to {pick} map {{ {} }}",
        choices.join(", ")
    )
}
