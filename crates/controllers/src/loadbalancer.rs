//! Virtual addresses for Services of type LoadBalancer, from `VirtualIPPool` objects.

use crate::manager::{Config, Reconciler};
use crate::obj::{deleting, items, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

const SERVICES: &str = "services";
const POOLS: &str = "virtualippools.podvisor.io";
const SOURCE: &str = "service-controller";
/// Release is this controller's business; kept off Services that have no address to give back.
const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

/// The controller of virtual addresses.
pub(crate) struct LoadBalancers(pub(crate) Arc<Config>);

/// Addresses of a block that can be given out: without network and broadcast address, where the block has them.
pub(crate) fn addresses(cidr: &str) -> impl Iterator<Item = Ipv4Addr> + use<> {
    let (base, length) = cidr.split_once('/').unwrap_or((cidr, "32"));
    let length: u32 = length.parse().unwrap_or(32).min(32);
    let mask = u32::MAX.checked_shl(32 - length).unwrap_or(0);
    let base = base.parse::<Ipv4Addr>().ok().map(|a| u32::from(a) & mask);
    let last = base.map_or(0, |b| b | !mask);
    let (from, to) = match (base, length) {
        (None, _) => (1, 0),
        (Some(b), 31 | 32) => (b, last),
        (Some(b), _) => (b + 1, last - 1),
    };
    (from..=to).map(Ipv4Addr::from)
}

fn given(service: &Value) -> Option<Ipv4Addr> {
    text(service, "/status/loadBalancer/ingress/0/ip").parse().ok()
}

/// The Service wants an address from here.
fn wants(service: &Value) -> bool {
    let class = text(service, "/spec/loadBalancerClass");
    text(service, "/spec/type") == "LoadBalancer"
        && !deleting(service)
        && matches!(class, "" | "podvisor.io/vip")
}

/// Picks an address; the error says why there is none.
pub(crate) fn choose(
    service: &Value,
    cidrs: &[String],
    taken: &BTreeSet<Ipv4Addr>,
) -> Result<Ipv4Addr, String> {
    let asked = text(service, "/spec/loadBalancerIP");
    if asked.is_empty() {
        let free = cidrs
            .iter()
            .flat_map(|c| addresses(c))
            .find(|a| !taken.contains(a));
        return free.ok_or_else(|| match cidrs.is_empty() {
            true => "there is no VirtualIPPool: start with --vip-pool CIDR, or create one".into(),
            false => "no free address in any VirtualIPPool".to_string(),
        });
    }
    let Ok(address) = asked.parse::<Ipv4Addr>() else {
        return Err(format!("spec.loadBalancerIP {asked:?} is not an IPv4 address"));
    };
    if !cidrs.iter().flat_map(|c| addresses(c)).any(|a| a == address) {
        return Err(format!("spec.loadBalancerIP {asked} lies in no VirtualIPPool"));
    }
    match taken.contains(&address) {
        true => Err(format!("spec.loadBalancerIP {asked} is used by another Service")),
        false => Ok(address),
    }
}

impl LoadBalancers {
    async fn pool(&self, world: &World) -> Result<(), WorldError> {
        if self.0.vip_pool.is_empty() {
            return Ok(());
        }
        match world.get(POOLS, "", "default") {
            None => {
                let pool = json!({
                    "apiVersion": "podvisor.io/v1alpha1", "kind": "VirtualIPPool",
                    "metadata": {"name": "default"}, "spec": {"cidrs": self.0.vip_pool},
                });
                settled(world.create(POOLS, &pool).await)?;
            }
            Some(have) if have["spec"]["cidrs"] != json!(self.0.vip_pool) => {
                let mut next = (*have).clone();
                next["spec"]["cidrs"] = json!(self.0.vip_pool);
                settled(world.update(POOLS, &have, &next).await)?;
            }
            Some(_) => {}
        }
        Ok(())
    }

    async fn show(&self, world: &World, taken: &BTreeSet<Ipv4Addr>) -> Result<(), WorldError> {
        for pool in world.all(POOLS) {
            let all: Vec<Ipv4Addr> = cidrs(&pool).iter().flat_map(|c| addresses(c)).collect();
            let allocated = all.iter().filter(|a| taken.contains(a)).count();
            let status = json!({"allocated": allocated, "free": all.len() - allocated});
            settled(world.update_status(POOLS, &pool, &status).await)?;
        }
        Ok(())
    }
}

fn cidrs(pool: &Value) -> Vec<String> {
    items(pool, "/spec/cidrs")
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_string)
        .collect()
}

#[async_trait]
impl Reconciler for LoadBalancers {
    fn name(&self) -> &'static str {
        "load balancer"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[SERVICES, POOLS]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        self.pool(world).await?;
        let cidrs: Vec<String> = world
            .all(POOLS)
            .iter()
            .filter(|p| !deleting(p))
            .flat_map(|p| cidrs(p))
            .collect();
        let services = world.all(SERVICES);
        let mut taken: BTreeSet<Ipv4Addr> = services
            .iter()
            .filter(|s| wants(s))
            .filter_map(|s| given(s))
            .collect();
        let mut again = None;
        for service in &services {
            if !wants(service) {
                let ours = items(service, "/status/loadBalancer/ingress")
                    .iter()
                    .any(|i| i["ipMode"] == "VIP");
                if ours && text(service, "/spec/type") != "LoadBalancer" {
                    let patch = json!({"status": {"loadBalancer": null}});
                    settled(world.patch(SERVICES, service, "status", &patch).await)?;
                }
                let held = items(service, "/metadata/finalizers");
                if deleting(service) && held.iter().any(|f| f == FINALIZER) {
                    let mut next = (**service).clone();
                    next["metadata"]["finalizers"] =
                        held.iter().filter(|f| *f != FINALIZER).cloned().collect();
                    settled(world.update(SERVICES, service, &next).await)?;
                }
                continue;
            }
            let asked = text(service, "/spec/loadBalancerIP");
            if given(service).is_some_and(|g| asked.is_empty() || asked == g.to_string()) {
                continue;
            }
            match choose(service, &cidrs, &taken) {
                Ok(address) => {
                    let status =
                        json!({"loadBalancer": {"ingress": [{"ip": address.to_string(), "ipMode": "VIP"}]}});
                    let patch = json!({"status": status});
                    if settled(world.patch(SERVICES, service, "status", &patch).await)?.is_some() {
                        taken.insert(address);
                        world
                            .event(
                                SOURCE,
                                service,
                                false,
                                "EnsuredLoadBalancer",
                                "Ensured load balancer",
                            )
                            .await;
                    }
                }
                Err(why) => {
                    again = Some(Duration::from_secs(30));
                    let message =
                        format!("Error syncing load balancer: failed to ensure load balancer: {why}");
                    world
                        .event(SOURCE, service, true, "SyncLoadBalancerFailed", &message)
                        .await;
                }
            }
        }
        self.show(world, &taken).await?;
        Ok(again)
    }
}
