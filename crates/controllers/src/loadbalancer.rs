//! Virtual addresses for Services of type LoadBalancer, from `VirtualIPPool` objects.

use crate::concern::{By, Concern};
use crate::manager::{Config, Reconciler};
use crate::obj::{deleting, items, meta, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

const SERVICES: &str = "services";
const POOLS: &str = "virtualippools.podvisor.io";
const SOURCE: &str = "service-controller";
/// Release is this controller's business; kept off Services that have no address to give back.
const FINALIZER: &str = "service.kubernetes.io/load-balancer-cleanup";

/// Who found no address is told so again after this time.
const AGAIN: Duration = Duration::from_secs(30);

/// The controller of virtual addresses.
pub(crate) struct LoadBalancers {
    config: Arc<Config>,
    services: Concern,
    book: Mutex<Book>,
}

/// Who has which address, and who waits for one, by namespace and name.
#[derive(Default)]
struct Book {
    given: HashMap<String, Ipv4Addr>,
    waiting: BTreeSet<String>,
    /// It differs from what the status of the pools shows.
    moved: bool,
    /// The pools are as they were when their status was shown.
    shown: u64,
}

impl Book {
    /// Takes in what Services are now; true when somebody has another address than before.
    fn follow(&mut self, services: &[(String, Option<Arc<Value>>)]) -> bool {
        let mut changed = false;
        for (key, service) in services {
            let wanting = service.as_ref().filter(|service| wants(service));
            changed |= match wanting.and_then(|service| given(service)) {
                Some(address) => self.given.insert(key.clone(), address) != Some(address),
                None => self.given.remove(key).is_some(),
            };
            if wanting.is_none() {
                self.waiting.remove(key);
            }
        }
        self.moved |= changed;
        changed
    }

    fn taken(&self) -> BTreeSet<Ipv4Addr> {
        self.given.values().copied().collect()
    }
}

/// Whether a pool has come, gone or changed.
fn offers_others(before: Option<&Value>, after: Option<&Value>) -> bool {
    let offer = |pool: Option<&Value>| {
        pool.filter(|pool| !deleting(pool))
            .map(|pool| pool["spec"].clone())
    };
    offer(before) != offer(after)
}

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
    /// Gives out what this configuration has, and what is in pools.
    pub(crate) fn new(config: Arc<Config>) -> LoadBalancers {
        LoadBalancers {
            config,
            services: Concern::new(SERVICES, &[(POOLS, &[By::All(offers_others)])]),
            book: Mutex::default(),
        }
    }

    async fn pool(&self, world: &World) -> Result<(), WorldError> {
        if self.config.vip_pool.is_empty() {
            return Ok(());
        }
        match world.get(POOLS, "", "default") {
            None => {
                let pool = json!({
                    "apiVersion": "podvisor.io/v1alpha1", "kind": "VirtualIPPool",
                    "metadata": {"name": "default"}, "spec": {"cidrs": self.config.vip_pool},
                });
                settled(world.create(POOLS, &pool).await)?;
            }
            Some(have) if have["spec"]["cidrs"] != json!(self.config.vip_pool) => {
                let mut next = (*have).clone();
                next["spec"]["cidrs"] = json!(self.config.vip_pool);
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

impl LoadBalancers {
    /// Gives one Service its address, or says why there is none; takes back what it has no right to any more.
    async fn one(
        &self,
        world: &World,
        service: &Value,
        cidrs: &[String],
    ) -> Result<Option<Duration>, WorldError> {
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
                let mut next = service.clone();
                next["metadata"]["finalizers"] = held.iter().filter(|f| *f != FINALIZER).cloned().collect();
                settled(world.update(SERVICES, service, &next).await)?;
            }
            return Ok(None);
        }
        let key = format!("{}/{}", meta(service, "namespace"), meta(service, "name"));
        let asked = text(service, "/spec/loadBalancerIP");
        if given(service).is_some_and(|g| asked.is_empty() || asked == g.to_string()) {
            self.book.lock().waiting.remove(&key);
            return Ok(None);
        }
        let chosen = choose(service, cidrs, &self.book.lock().taken());
        match chosen {
            Ok(address) => {
                let status =
                    json!({"loadBalancer": {"ingress": [{"ip": address.to_string(), "ipMode": "VIP"}]}});
                let patch = json!({"status": status});
                if settled(world.patch(SERVICES, service, "status", &patch).await)?.is_some() {
                    {
                        let mut book = self.book.lock();
                        book.waiting.remove(&key);
                        book.given.insert(key, address);
                        book.moved = true;
                    }
                    let message = "Ensured load balancer";
                    world
                        .event(SOURCE, service, false, "EnsuredLoadBalancer", message)
                        .await;
                }
                Ok(None)
            }
            Err(why) => {
                self.book.lock().waiting.insert(key);
                let message = format!("Error syncing load balancer: failed to ensure load balancer: {why}");
                world
                    .event(SOURCE, service, true, "SyncLoadBalancerFailed", &message)
                    .await;
                Ok(Some(AGAIN))
            }
        }
    }
}

#[async_trait]
impl Reconciler for LoadBalancers {
    fn name(&self) -> &'static str {
        "load balancer"
    }
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.services]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        self.pool(world).await?;
        let pools = world.all(POOLS);
        let cidrs: Vec<String> = pools
            .iter()
            .filter(|p| !deleting(p))
            .flat_map(|p| cidrs(p))
            .collect();
        let mut round = self.services.begin(world);
        {
            let mut book = self.book.lock();
            if book.follow(&round.ahead(world)) {
                // What somebody gave back may be what others wait for.
                round.join(book.waiting.iter().cloned());
            }
        }
        while let Some(service) = round.next(world) {
            round.note(self.one(world, &service, &cidrs).await);
        }
        let revision = world.revision(&[POOLS]);
        let taken = {
            let book = self.book.lock();
            (book.moved || book.shown != revision).then(|| book.taken())
        };
        if let Some(taken) = taken {
            self.show(world, &taken).await?;
            let mut book = self.book.lock();
            (book.moved, book.shown) = (false, revision);
        }
        round.end()
    }
}
