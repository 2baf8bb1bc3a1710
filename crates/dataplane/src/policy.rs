//! What NetworkPolicies mean for the Pods of this host: addresses and ports, no labels any more.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use crate::Ipv4Net;
use crate::model::Protocol;

/// One policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Policy {
    /// Its uid, which its chains are named after.
    pub uid: String,
    /// The addresses of the Pods that it selects.
    pub pods: BTreeSet<Ipv4Addr>,
    /// What may come to them; `None`: the policy is not about that.
    pub ingress: Option<Vec<Rule>>,
    /// What may leave them; likewise.
    pub egress: Option<Vec<Rule>>,
}

/// Traffic that a policy allows: that with one of the peers, on one of the ports.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// The other side.
    pub peers: Peers,
    /// Destinations; `None`: all of all protocols.
    pub ports: Option<Vec<Port>>,
}

/// The other side of allowed traffic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Peers {
    /// Everybody.
    Any,
    /// These.
    Some {
        /// Pods.
        pods: BTreeSet<Ipv4Addr>,
        /// Blocks of addresses.
        blocks: Vec<Block>,
    },
}

/// An `ipBlock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// The block.
    pub cidr: Ipv4Net,
    /// Parts of it that do not count.
    pub except: Vec<Ipv4Net>,
}

/// Ports of a protocol.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Port {
    /// All.
    All(Protocol),
    /// From the first to the last.
    Range(Protocol, u16, u16),
    /// Those of a name, which each Pod gives to a port of its own: destinations.
    Named(Protocol, BTreeSet<(Ipv4Addr, u16)>),
}
