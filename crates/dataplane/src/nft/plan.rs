//! Services, Pods and policies -> [`Ruleset`].

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::Ruleset;
use crate::config::NetConfig;
use crate::model::{Guard, HostPort, OnlyHere, PodNic, Protocol, Service, ServiceAddress, ServicePort};
use crate::policy::Policy;
use crate::tap_name;

impl Ruleset {
    /// Plans the whole changing part.
    pub fn of(config: &NetConfig, pods: &[PodNic], services: &[Service], policies: &[Policy]) -> Self {
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
            // Pods may ask, too.
            if let Some(port) = service.health_port {
                rules.element("host_ports", format!("{} . tcp . {port}", config.node_ip), "");
            }
            rules.service(config, service, &local);
        }
        rules.policies(policies);
        rules
    }

    /// Adds the ports of the host that are containers'. Those that the host needs itself are nobody's.
    pub fn host_ports(&mut self, config: &NetConfig, ports: &[HostPort]) {
        let own = |port: u16| config.open_tcp_ports.contains(&port) || config.own_tcp_ports.contains(&port);
        for HostPort {
            at,
            protocol,
            port,
            to,
        } in ports
        {
            if *protocol == Protocol::Tcp && own(*port) {
                tracing::warn!(
                    port,
                    "a container wants a port of the host that Podvisor itself has"
                );
                continue;
            }
            let key = format!("{} . {port}", protocol.name());
            let target = format!("{} . {}", to.0, to.1);
            match at {
                None => self.element("container_ports", key, &target),
                Some(at) => self.element("container_ports_at", format!("{at} . {key}"), &target),
            }
            self.element("hairpin", format!("{0} . {0}", to.0), "");
        }
    }

    fn service(&mut self, config: &NetConfig, service: &Service, local: &BTreeSet<Ipv4Addr>) {
        let ServiceAddress::Cluster(cluster_ip) = service.address else {
            return;
        };
        if service.served_elsewhere {
            return;
        }
        let addresses: BTreeSet<Ipv4Addr> = std::iter::once(cluster_ip)
            .chain(service.vips.iter().copied())
            .collect();
        for address in &addresses {
            self.element("service_addresses", address.to_string(), "");
        }
        for port in &service.ports {
            let targets = service.targets(&port.name);
            let here = service.targets_here(&port.name);
            let protocol = port.protocol.name();
            let (map, node_map, inside, outside) = if targets.is_empty() {
                let refuse = "goto refuse".to_owned();
                ("refused", "refused_nodeports", refuse.clone(), refuse)
            } else {
                let (inside, outside) = self.ways(config, service, port, [&targets, &here]);
                ("services", "nodeports", inside, outside)
            };
            let guarded = match &service.guard {
                Some(guard) if !targets.is_empty() => self.guarded(service, port, guard, &outside),
                _ => None,
            };
            for address in &addresses {
                let verdict = match &guarded {
                    Some((vips, verdict)) if vips.contains(address) => verdict,
                    _ if *address == cluster_ip => &inside,
                    _ => &outside,
                };
                self.element(map, format!("{address} . {protocol} . {}", port.port), verdict);
            }
            if let Some(node_port) = port.node_port {
                self.element(node_map, format!("{protocol} . {node_port}"), &outside);
            }
            for (ip, _) in targets.iter().chain(&here).filter(|(ip, _)| local.contains(ip)) {
                // A Pod that reaches itself through a Service must see an answer from that Service.
                self.element("hairpin", format!("{ip} . {ip}"), "");
            }
        }
    }

    /// The chains of a port, given all targets and those of this host: where the cluster IP leads, and where VIPs and
    /// node port do.
    fn ways(
        &mut self,
        config: &NetConfig,
        service: &Service,
        port: &ServicePort,
        [all, here]: [&[(Ipv4Addr, u16)]; 2],
    ) -> (String, String) {
        let place = place(service, port);
        let anywhere = format!("goto svc/{place}");
        let rules = self.choose(service, port, all);
        self.chains.insert(format!("svc/{place}"), rules);
        let only_here = service.only_here;
        if only_here == OnlyHere::default() {
            return (anywhere.clone(), anywhere);
        }
        let rules = match here {
            // Other hosts have endpoints: whoever balances over hosts is told by silence, and by the health port.
            [] => vec!["drop".to_owned()],
            here => self.choose(service, port, here),
        };
        self.chains.insert(format!("here/{place}"), rules);
        let nearby = format!("goto here/{place}");
        let inside = if only_here.inside { &nearby } else { &anywhere }.clone();
        if !only_here.outside {
            return (inside, anywhere);
        }
        // Pods and the host itself are no outside, whatever address they use (kube-proxy).
        let rules = vec![
            format!("ip saddr {} {anywhere}", config.pod_cidr),
            format!("fib saddr type local {anywhere}"),
            nearby,
        ];
        self.chains.insert(format!("out/{place}"), rules);
        (inside, format!("goto out/{place}"))
    }

    /// Rules that lead to one of these targets.
    fn choose(&mut self, service: &Service, port: &ServicePort, targets: &[(Ipv4Addr, u16)]) -> Vec<String> {
        match service.client_affinity {
            Some(seconds) => self.sticky(service, port, targets, seconds),
            None => vec![balance(port, targets)],
        }
    }

    /// A chain before that of a port, for VIPs that do not take everybody; the VIPs and the way to the chain.
    fn guarded<'g>(
        &mut self,
        service: &Service,
        port: &ServicePort,
        guard: &'g Guard,
        outside: &str,
    ) -> Option<(&'g [Ipv4Addr], String)> {
        let place = place(service, port);
        let chain = format!("lb/{place}");
        let mut rules: Vec<String> = guard
            .sources
            .iter()
            .map(|source| format!("ip saddr {source} {outside}"))
            .collect();
        rules.push("drop".to_owned());
        self.chains.insert(chain.clone(), rules);
        Some((&guard.vips, format!("goto {chain}")))
    }

    /// Rules that lead a client to the endpoint of its latest connection, if that was not too long ago, and else to any:
    /// each endpoint has a chain, which remembers who comes.
    fn sticky(
        &mut self,
        service: &Service,
        port: &ServicePort,
        targets: &[(Ipv4Addr, u16)],
        seconds: u32,
    ) -> Vec<String> {
        let place = place(service, port);
        let protocol = port.protocol.name();
        let mut rules = Vec::new();
        let mut choices = Vec::new();
        for (number, (ip, target)) in targets.iter().enumerate() {
            let chain = format!("ep/{place}/{ip}/{target}");
            // The time is part of the name: that of a set that exists cannot be changed.
            let clients = format!("clients/{seconds}/{place}/{ip}/{target}");
            rules.push(format!("ip saddr @{clients} goto {chain}"));
            choices.push(format!("{number} : goto {chain}"));
            let remember = format!("update @{clients} {{ ip saddr }}");
            let lead = format!("meta l4proto {protocol} dnat ip to {ip}:{target}");
            self.chains.insert(chain, vec![remember, lead]);
            self.clients.insert(clients, seconds);
        }
        rules.push(format!(
            "numgen random mod {} vmap {{ {} }}",
            targets.len(),
            choices.join(", ")
        ));
        rules
    }

    pub(super) fn element(&mut self, set: &'static str, key: String, value: &str) {
        self.elements.insert((set, key), value.to_owned());
    }
}

/// What the chains of a port are named after, in characters that nft takes: a namespace and a Service name are DNS labels.
fn place(service: &Service, port: &ServicePort) -> String {
    format!(
        "{}/{}/{}/{}",
        service.namespace,
        service.name,
        port.protocol.name(),
        port.port
    )
}

/// The one rule that picks an endpoint at random.
fn balance(port: &ServicePort, targets: &[(Ipv4Addr, u16)]) -> String {
    let protocol = port.protocol.name();
    if let [(ip, target)] = targets {
        return format!("meta l4proto {protocol} dnat ip to {ip}:{target}");
    }
    let choices: Vec<String> = targets
        .iter()
        .enumerate()
        .map(|(number, (ip, target))| format!("{number} : {ip} . {target}"))
        .collect();
    format!(
        "meta l4proto {protocol} dnat ip to numgen random mod {} map {{ {} }}",
        targets.len(),
        choices.join(", ")
    )
}
