//! Policies -> chains and sets.
//!
//! ```text
//! forward ── from an isolated Pod ──> out/IP ── jump ──> np/UID/out ── allowed ──> may_in ── to an isolated Pod ──> in/IP
//!                                       └ drop                                       └ accept                       └ drop
//! ```
//! `in/IP` and `out/IP` ask every policy that selects the Pod; what none allows is dropped. Answers pass by their connection, and what
//! the host itself sends or receives passes no forward hook: both are allowed always, as policies have it.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use super::Ruleset;
use crate::policy::{Peers, Policy, Port, Rule};

/// One direction of traffic, as the rules of a Pod see it.
struct Direction {
    /// Part of the names of chains.
    name: &'static str,
    /// The map from isolated Pods to their chains.
    map: &'static str,
    /// Where the other side's address stands.
    peer: &'static str,
    /// What becomes of allowed traffic.
    allowed: &'static str,
}

const INGRESS: Direction = Direction {
    name: "in",
    map: "isolated_in",
    peer: "ip saddr",
    allowed: "accept",
};
const EGRESS: Direction = Direction {
    name: "out",
    map: "isolated_out",
    peer: "ip daddr",
    allowed: "goto may_in",
};

impl Ruleset {
    /// Adds what policies want.
    pub(super) fn policies(&mut self, policies: &[Policy]) {
        for direction in [INGRESS, EGRESS] {
            let mut isolated: BTreeMap<Ipv4Addr, Vec<String>> = BTreeMap::new();
            for policy in policies {
                let rules = match direction.name {
                    "in" => &policy.ingress,
                    _ => &policy.egress,
                };
                let Some(rules) = rules else { continue };
                let chain = format!("np/{}/{}", policy.uid, direction.name);
                let text = rules
                    .iter()
                    .enumerate()
                    .flat_map(|(number, rule)| self.allow(rule, &format!("{chain}/{number}"), &direction))
                    .collect();
                self.chains.insert(chain.clone(), text);
                for pod in &policy.pods {
                    isolated.entry(*pod).or_default().push(format!("jump {chain}"));
                }
            }
            for (pod, jumps) in isolated {
                let chain = format!("{}/{pod}", direction.name);
                // A Pod always reaches itself, though by the way of a Service.
                let mut rules = vec![format!("{} {pod} {}", direction.peer, direction.allowed)];
                rules.extend(jumps);
                rules.push("drop".to_owned());
                self.element(direction.map, pod.to_string(), &format!("goto {chain}"));
                self.chains.insert(chain, rules);
            }
        }
    }

    /// The rules of nftables for one rule of a policy: every peer with every port.
    fn allow(&mut self, rule: &Rule, name: &str, direction: &Direction) -> Vec<String> {
        let peer = direction.peer;
        let mut peers = Vec::new();
        match &rule.peers {
            Peers::Any => peers.push(String::new()),
            Peers::Some { pods, blocks } => {
                if !pods.is_empty() {
                    let members = pods.iter().map(ToString::to_string).collect();
                    self.addresses
                        .insert(name.to_owned(), ("ipv4_addr".to_owned(), members));
                    peers.push(format!("{peer} @{name} "));
                }
                for block in blocks {
                    let mut text = format!("{peer} {} ", block.cidr);
                    for except in &block.except {
                        text += &format!("{peer} != {except} ");
                    }
                    peers.push(text);
                }
            }
        }
        let ports: Vec<String> = match &rule.ports {
            None => vec![String::new()],
            Some(ports) => {
                let text = ports.iter().enumerate();
                text.filter_map(|(number, port)| self.port(port, &format!("{name}/{number}")))
                    .collect()
            }
        };
        let allowed = direction.allowed;
        let pairs = peers
            .iter()
            .flat_map(|peer| ports.iter().map(move |port| format!("{peer}{port}{allowed}")));
        pairs.collect()
    }

    fn port(&mut self, port: &Port, name: &str) -> Option<String> {
        Some(match port {
            Port::All(protocol) => format!("meta l4proto {} ", protocol.name()),
            Port::Range(protocol, first, last) if first == last => {
                format!("meta l4proto {} th dport {first} ", protocol.name())
            }
            Port::Range(protocol, first, last) => {
                format!("meta l4proto {} th dport {first}-{last} ", protocol.name())
            }
            Port::Named(_, destinations) if destinations.is_empty() => return None,
            Port::Named(protocol, destinations) => {
                let members = destinations.iter().map(|(ip, port)| format!("{ip} . {port}"));
                self.addresses.insert(
                    name.to_owned(),
                    ("ipv4_addr . inet_service".to_owned(), members.collect()),
                );
                format!("meta l4proto {} ip daddr . th dport @{name} ", protocol.name())
            }
        })
    }
}
