//! The ruleset: what is wanted, and the text that brings what is in force to it.
//!
//! A [`Ruleset`] is data: named chains of rules, and elements of named sets and maps, on top of a fixed frame of
//! tables, hooks and declarations. [`Ruleset::of`] plans it from Services and Pods, [`frame`] renders it whole,
//! [`delta`] renders the difference of two as one transaction.

mod delta;
mod frame;
mod plan;
mod policies;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use delta::delta;
pub(crate) use frame::whole;

/// The second table: what Pods may say of themselves by ARP.
pub(crate) const ARP_TABLE: &str = "arp podvisor";
/// All tables of ours.
pub(crate) const TABLES: [&str; 2] = ["inet podvisor", ARP_TABLE];
/// The set that both tables have: device, hardware address and address of each Pod.
const PODS: &str = "pods";

/// The part of the table that changes while the host runs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    /// Sets that packets fill with clients' addresses -> for how many seconds one stays.
    pub clients: BTreeMap<String, u32>,
    /// Name of a set of addresses -> the type of its members, and these.
    pub addresses: BTreeMap<String, (String, BTreeSet<String>)>,
    /// Chain name -> rules.
    pub chains: BTreeMap<String, Vec<String>>,
    /// (set or map, element's key) -> the value after the colon; empty for sets.
    pub elements: BTreeMap<(&'static str, String), String>,
}
