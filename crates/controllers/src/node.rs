//! Nodes: a block of Pod addresses for each; and their health, in the modules below.

mod evictions;
mod health;
mod lifecycle;
mod taints;

pub(crate) use lifecycle::Lifecycle;

use crate::manager::{Config, Reconciler};
use crate::obj::{deleting, meta, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use serde_json::json;
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

const NODES: &str = "nodes";
const SOURCE: &str = "node-controller";

/// Gives out `spec.podCIDR`.
pub(crate) struct Addresses(pub(crate) Arc<Config>);

/// The blocks of `prefix` length in a network, in order.
pub(crate) fn blocks(cidr: &str, prefix: u8) -> impl Iterator<Item = String> {
    let (base, length) = cidr.split_once('/').unwrap_or((cidr, "32"));
    let base = base.parse::<Ipv4Addr>().map_or(0, u32::from);
    let length: u8 = length.parse().unwrap_or(32);
    let count = match (1..=32).contains(&prefix) && length <= prefix {
        true => 1u64 << (prefix - length),
        false => 0,
    };
    let size = 1u64 << (32 - prefix.min(32));
    (0..count).map(move |n| {
        format!(
            "{}/{prefix}",
            Ipv4Addr::from(base.wrapping_add((n * size) as u32))
        )
    })
}

#[async_trait]
impl Reconciler for Addresses {
    fn name(&self) -> &'static str {
        "node addresses"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[NODES]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let nodes = world.all(NODES);
        let mut taken: BTreeSet<String> = nodes
            .iter()
            .map(|n| text(n, "/spec/podCIDR").to_string())
            .filter(|c| !c.is_empty())
            .collect();
        for node in nodes
            .iter()
            .filter(|n| text(n, "/spec/podCIDR").is_empty() && !deleting(n))
        {
            let free = blocks(&self.0.pod_cidr, self.0.node_block_prefix).find(|b| !taken.contains(b));
            let Some(free) = free else {
                world
                    .event(
                        SOURCE,
                        node,
                        false,
                        "CIDRNotAvailable",
                        &format!("Node {} status is now: CIDRNotAvailable", meta(node, "name")),
                    )
                    .await;
                continue;
            };
            let mut next = (**node).clone();
            next["spec"]["podCIDR"] = json!(free);
            next["spec"]["podCIDRs"] = json!([free]);
            settled(world.update(NODES, node, &next).await)?;
            taken.insert(free);
        }
        Ok(None)
    }
}
