//! The network of a host: taps, routes, nftables, cluster DNS and VIPs.
//!
//! Every Pod VM has one tap, a /32 route and the gateway 169.254.1.1: layer 3 only, so every packet passes our
//! nftables hooks and no bridge floods. Everything here is a pure plan, written as the text that `nft -f -` or
//! `ip -batch -` reads, and a thin executor without choices; golden tests read the text.
//!
//! - [`model`]: Services and Pods as this crate sees them, free of Kubernetes types;
//! - [`policy`]: NetworkPolicies, their selectors resolved;
//! - `nft`: Services, Pods and policies -> ruleset -> the difference to what is in force;
//! - `link`: addresses, routes and taps as `ip` commands; `tap` opens the device (`sys` has the ioctls);
//! - `flows`: datagram flows to endpoints that left, which `conntrack` must forget;
//! - `health`: tells load balancers outside how many endpoints are here;
//! - `dns`: answers for `cluster.local` from the same snapshot, forwards the rest, in a process that outlives the agent;
//! - [`Dataplane`]: holds what is in force and applies differences, one at a time.
//!
//! Invariants: policy is in force before a Pod's first packet (the tap is brought up after its rules); the ruleset
//! is never listed on the hot path; everything of ours carries our marks (tables `inet podvisor` and `arp podvisor`,
//! route protocol 112, link group 28790), so that it can be found and removed without any memory of its making.

mod announce;
mod config;
mod dns;
mod exec;
mod flows;
mod health;
mod link;
pub mod model;
mod nft;
mod plane;
pub mod policy;
mod sys;
mod tap;

pub use config::{Ipv4Net, NetConfig, ParseNetError};
pub use dns::{answer_from as dns_answer, answer_names};
pub use exec::ExecError;
pub use plane::{AttachError, Dataplane, StartError, Tap};
pub use tap::tap_name;

/// The default gateway of every Pod: link-local, the same on every host.
pub const GATEWAY: std::net::Ipv4Addr = std::net::Ipv4Addr::new(169, 254, 1, 1);
/// The link group of Pod taps, by which rules match them.
pub const TAP_GROUP: u32 = 28790;
/// Connections and datagram exchanges that one Pod may have under way at a time, by default. The kernel's table of them (262,144 by
/// default) is one for the whole host; who fills its share can open no more, and nobody else notices.
pub const FLOWS_PER_POD: u32 = 16384;
/// The protocol number on our routes.
pub const ROUTE_PROTOCOL: u8 = 112;
