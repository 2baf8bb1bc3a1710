//! NetworkPolicies as the host's network takes them: selectors become the addresses of Pods.
//!
//! A host knows its own Pods alone (Node authorizer), which are all there are while there is one host.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;
use std::sync::Arc;

use dataplane::model::Protocol;
use dataplane::policy::{Block, Peers, Policy, Port, Rule};
use k8s_openapi::api::core::v1::{Container, Namespace, Pod};
use k8s_openapi::api::networking::v1::{IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector as Selector, ObjectMeta};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kinds::selector::LabelSelector;

use crate::size::is_sidecar;

/// What selectors choose from.
struct World<'a> {
    namespaces: BTreeMap<&'a str, &'a ObjectMeta>,
    /// Pods that have an address and may send or take something.
    pods: Vec<(Ipv4Addr, &'a Pod)>,
}

/// The policies, in a stable order.
pub fn translate(
    policies: &[Arc<NetworkPolicy>],
    namespaces: &[Arc<Namespace>],
    pods: &[Arc<Pod>],
) -> Vec<Policy> {
    let world = World {
        namespaces: namespaces
            .iter()
            .filter_map(|namespace| Some((namespace.metadata.name.as_deref()?, &namespace.metadata)))
            .collect(),
        pods: pods
            .iter()
            .filter_map(|pod| Some((address(pod)?, &**pod)))
            .collect(),
    };
    let mut result: Vec<Policy> = policies
        .iter()
        .filter_map(|policy| world.policy(policy))
        .collect();
    result.sort_by(|a, b| a.uid.cmp(&b.uid));
    result
}

/// The address of a Pod that is not over: that of one that is may be another's already.
pub fn address(pod: &Pod) -> Option<Ipv4Addr> {
    let status = pod.status.as_ref()?;
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        return None;
    }
    status.pod_ip.as_deref()?.parse().ok()
}

impl World<'_> {
    fn policy(&self, policy: &NetworkPolicy) -> Option<Policy> {
        let spec = policy.spec.as_ref()?;
        let namespace = policy.metadata.namespace.as_deref()?;
        let chosen = spec.pod_selector.clone().unwrap_or_default();
        let selected = self.choose(Some(&chosen), Where::In(namespace));
        let about = |direction: &str| spec.policy_types.iter().flatten().any(|kind| kind == direction);
        let pods: BTreeSet<Ipv4Addr> = selected.iter().map(|(ip, _)| *ip).collect();
        let ingress = about("Ingress").then(|| {
            let rules = spec.ingress.iter().flatten();
            rules
                .map(|rule| {
                    self.rule(
                        namespace,
                        rule.from.as_deref(),
                        rule.ports.as_deref(),
                        Some(&selected),
                    )
                })
                .collect()
        });
        let egress = about("Egress").then(|| {
            let rules = spec.egress.iter().flatten();
            rules
                .map(|rule| self.rule(namespace, rule.to.as_deref(), rule.ports.as_deref(), None))
                .collect()
        });
        Some(Policy {
            uid: policy.metadata.uid.clone()?,
            pods,
            ingress,
            egress,
        })
    }

    /// `destinations`: the Pods whose ports may be named; without them those of the peers.
    fn rule(
        &self,
        namespace: &str,
        peers: Option<&[NetworkPolicyPeer]>,
        ports: Option<&[NetworkPolicyPort]>,
        destinations: Option<&[(Ipv4Addr, &Pod)]>,
    ) -> Rule {
        let peers = peers.filter(|peers| !peers.is_empty());
        let ports = ports.filter(|ports| !ports.is_empty());
        let chosen: Vec<(Ipv4Addr, &Pod)> = match peers {
            None => self.pods.clone(),
            Some(peers) => peers.iter().flat_map(|peer| self.peer(namespace, peer)).collect(),
        };
        let named = destinations.unwrap_or(&chosen);
        Rule {
            ports: ports.map(|ports| ports.iter().map(|wanted| port(wanted, named)).collect()),
            peers: match peers {
                None => Peers::Any,
                Some(peers) => Peers::Some {
                    pods: chosen.iter().map(|(ip, _)| *ip).collect(),
                    blocks: peers
                        .iter()
                        .filter_map(|peer| block(peer.ip_block.as_ref()?))
                        .collect(),
                },
            },
        }
    }

    fn peer(&self, namespace: &str, peer: &NetworkPolicyPeer) -> Vec<(Ipv4Addr, &Pod)> {
        match (&peer.namespace_selector, &peer.pod_selector) {
            (None, None) => Vec::new(),
            (None, pods) => self.choose(pods.as_ref(), Where::In(namespace)),
            (Some(namespaces), pods) => self.choose(pods.as_ref(), Where::Labelled(namespaces)),
        }
    }

    /// The Pods that a selector chooses in some namespaces; all of them without one.
    fn choose(&self, selector: Option<&Selector>, place: Where<'_>) -> Vec<(Ipv4Addr, &Pod)> {
        let (Some(wanted), Some(place)) = (parse(selector), place.parse()) else {
            return Vec::new();
        };
        let fits = |pod: &Pod| {
            let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
            let there = match &place {
                Parsed::In(name) => *name == namespace,
                Parsed::Labelled(selector) => {
                    let known = self.namespaces.get(namespace);
                    known.is_some_and(|metadata| matches(selector, metadata))
                }
            };
            there && matches(&wanted, &pod.metadata)
        };
        self.pods.iter().filter(|(_, pod)| fits(pod)).copied().collect()
    }
}

/// Namespaces.
enum Where<'a> {
    In(&'a str),
    Labelled(&'a Selector),
}

enum Parsed<'a> {
    In(&'a str),
    Labelled(LabelSelector),
}

impl<'a> Where<'a> {
    fn parse(self) -> Option<Parsed<'a>> {
        Some(match self {
            Self::In(name) => Parsed::In(name),
            Self::Labelled(selector) => Parsed::Labelled(parse(Some(selector))?),
        })
    }
}

fn matches(selector: &LabelSelector, metadata: &ObjectMeta) -> bool {
    selector.matches_with(|key| metadata.labels.as_ref()?.get(key).map(String::as_str))
}

/// A selector that the API has let through can be read; another would choose nothing.
fn parse(selector: Option<&Selector>) -> Option<LabelSelector> {
    match selector {
        None => Some(LabelSelector::default()),
        Some(selector) => LabelSelector::from_json(&serde_json::to_value(selector).ok()?).ok(),
    }
}

/// A block of IPv4; Pods have no other addresses.
fn block(block: &IPBlock) -> Option<Block> {
    let except = block.except.iter().flatten();
    Some(Block {
        cidr: block.cidr.parse().ok()?,
        except: except.filter_map(|part| part.parse().ok()).collect(),
    })
}

fn port(wanted: &NetworkPolicyPort, destinations: &[(Ipv4Addr, &Pod)]) -> Port {
    let protocol = crate::services::protocol(wanted.protocol.as_deref());
    match &wanted.port {
        None => Port::All(protocol),
        Some(IntOrString::Int(first)) => {
            let number = |value: i32| u16::try_from(value).unwrap_or_default();
            Port::Range(
                protocol,
                number(*first),
                number(wanted.end_port.unwrap_or(*first)),
            )
        }
        Some(IntOrString::String(name)) => {
            let found = destinations
                .iter()
                .flat_map(|(ip, pod)| ports_named(pod, name, protocol).map(|port| (*ip, port)));
            Port::Named(protocol, found.collect())
        }
    }
}

/// The numbers that a Pod has under the name of a port.
fn ports_named(pod: &Pod, name: &str, protocol: Protocol) -> impl Iterator<Item = u16> {
    let spec = pod.spec.iter();
    let containers = spec.flat_map(|spec| {
        let sidecars = spec.init_containers.iter().flatten().filter(|c| is_sidecar(c));
        spec.containers.iter().chain(sidecars)
    });
    let ports = containers.flat_map(|container: &Container| container.ports.iter().flatten());
    ports.filter_map(move |port| {
        let fits = port.name.as_deref() == Some(name)
            && crate::services::protocol(port.protocol.as_deref()) == protocol;
        fits.then(|| u16::try_from(port.container_port).ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn read<K: serde::de::DeserializeOwned>(value: Value) -> Arc<K> {
        Arc::new(serde_json::from_value(value).expect("an object"))
    }

    fn pod(namespace: &str, name: &str, ip: &str, port: u16) -> Arc<Pod> {
        read(
            json!({"metadata": {"namespace": namespace, "name": name, "labels": {"app": name}},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "web", "containerPort": port}]}]},
            "status": {"phase": "Running", "podIP": ip}}),
        )
    }

    #[test]
    fn selectors_become_addresses() {
        let namespaces = ["shop", "tools"].map(|name| {
            read::<Namespace>(
                json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}),
            )
        });
        let mut over = Pod::clone(&pod("shop", "web", "10.244.0.9", 80));
        over.status.get_or_insert_default().phase = Some("Succeeded".to_owned());
        let pods = [
            pod("shop", "web", "10.244.0.2", 8080),
            pod("shop", "db", "10.244.0.3", 5432),
            pod("tools", "probe", "10.244.0.4", 80),
            Arc::new(over),
        ];
        let shop = |spec: Value| {
            read::<NetworkPolicy>(
                json!({"metadata": {"namespace": "shop", "name": "p", "uid": "u"}, "spec": spec}),
            )
        };
        let web = json!({"matchLabels": {"app": "web"}});
        let cases = [
            // Nothing comes in; of what leaves the policy does not speak.
            (
                json!({"podSelector": {}, "policyTypes": ["Ingress"]}),
                vec!["10.244.0.2", "10.244.0.3"],
                Some(Vec::new()),
                None,
            ),
            (
                json!({"podSelector": web, "policyTypes": ["Ingress", "Egress"],
                    "ingress": [{"ports": [{"port": "web"}],
                        "from": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "tools"}}}]}],
                    "egress": [{}, {"to": [{"podSelector": {"matchLabels": {"app": "db"}}},
                        {"ipBlock": {"cidr": "192.0.2.0/24", "except": ["192.0.2.8/29"]}}],
                        "ports": [{"protocol": "UDP", "port": 53, "endPort": 54}, {"protocol": "TCP", "port": "web"}]}]}),
                vec!["10.244.0.2"],
                Some(vec![
                    "from 10.244.0.4 to [Named(Tcp, {(10.244.0.2, 8080)})]".to_owned(),
                ]),
                Some(vec![
                    "any".to_owned(),
                    "from 10.244.0.3 + 192.0.2.0/24-192.0.2.8/29 to [Range(Udp, 53, 54), Named(Tcp, \
                     {(10.244.0.3, 5432)})]"
                        .to_owned(),
                ]),
            ),
        ];
        let show = |rule: &Rule| match (&rule.peers, &rule.ports) {
            (Peers::Any, None) => "any".to_owned(),
            (Peers::Any, Some(ports)) => format!("any to {ports:?}"),
            (Peers::Some { pods, blocks }, ports) => {
                let mut text: Vec<String> = pods.iter().map(ToString::to_string).collect();
                let blocks = blocks.iter().map(|b| format!("{}-{}", b.cidr, b.except[0]));
                text.extend(blocks);
                format!(
                    "from {} to {:?}",
                    text.join(" + "),
                    ports.as_deref().unwrap_or_default()
                )
            }
        };
        for (spec, selected, ingress, egress) in cases {
            let found = translate(&[shop(spec.clone())], &namespaces, &pods);
            let ips: Vec<String> = found[0].pods.iter().map(ToString::to_string).collect();
            assert_eq!(ips, selected, "{spec}");
            let rules = |rules: &Option<Vec<Rule>>| {
                rules
                    .as_ref()
                    .map(|rules| rules.iter().map(show).collect::<Vec<_>>())
            };
            assert_eq!(rules(&found[0].ingress), ingress, "{spec}");
            assert_eq!(rules(&found[0].egress), egress, "{spec}");
        }
    }
}
