//! IPAddress objects, one for every address of a Service, and the conditions of ServiceCIDRs (KEP-1880). The allocator
//! itself looks at Services; these objects tell others what is taken, and addresses that people reserve by them are kept
//! out of its hands.

use crate::bootstrap::context;
use crate::cache::{Caches, ChangeKind};
use crate::rest::{create, meta, now};
use crate::server::ApiServer;
use crate::view::{GroupResource, View};
use crate::wire::options::WriteOptions;
use kinds::status::Status;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The label by which our own are known.
pub(super) const MANAGED: &str = "ipaddress.kubernetes.io/managed-by";
pub(super) const MANAGER: &str = "ipallocator.k8s.io";

/// IPAddresses.
pub(super) fn resource() -> GroupResource {
    GroupResource::new("networking.k8s.io", "ipaddresses")
}

/// Whether somebody else than the allocator has made an IPAddress.
pub(super) fn is_foreign(address: &Value) -> bool {
    address["metadata"]["labels"][MANAGED] != MANAGER
}

/// Services.
fn services() -> GroupResource {
    GroupResource::new("", "services")
}

/// The addresses that a Service has.
fn addresses_of(service: &Value) -> impl Iterator<Item = &str> {
    let addresses = service["spec"]["clusterIPs"].as_array();
    let addresses = addresses.into_iter().flatten().filter_map(Value::as_str);
    addresses.filter(|ip| ip.parse::<std::net::IpAddr>().is_ok())
}

/// Brings IPAddresses in step with Services, looking only at what has changed since it last did.
#[derive(Default)]
pub struct Follower {
    /// The revisions of Services and of IPAddresses up to which that is done.
    seen: Option<(u64, u64)>,
    /// Those that could not be brought in step, with their Services: the next change brings another look.
    again: BTreeMap<String, Option<Value>>,
}

impl Follower {
    /// Catches up with the cache.
    pub async fn settle(&mut self, server: &Arc<ApiServer>) {
        for (ip, of) in self.news(&server.caches) {
            if !settle(server, &ip, of.as_ref()).await {
                self.again.insert(ip, of);
            }
        }
    }

    /// The addresses that may be out of step, with the Service that has each, if one has.
    fn news(&mut self, caches: &Caches) -> BTreeMap<String, Option<Value>> {
        let (services, addresses) = (caches.resource(&services()), caches.resource(&resource()));
        let (upto_service, upto_address) = self.seen.unwrap_or((u64::MAX, u64::MAX));
        let (changed, touched) = (services.since(upto_service), addresses.since(upto_address));
        let known = self.seen.replace((changed.upto, touched.upto)).is_some();
        let holder = |of: &Value, ip: &str| {
            let service = services.get(meta_of(of, "namespace"), meta_of(of, "name"));
            let service = service.map(|service| service.value());
            service.filter(|service| addresses_of(service).any(|own| own == ip))
        };
        let mut news = std::mem::take(&mut self.again);
        for (ip, of) in &mut news {
            *of = of.take().filter(|of| holder(of, ip).is_some());
        }
        let mut mention = |service: &Value, has: bool| {
            for ip in addresses_of(service) {
                let of = news.entry(ip.to_owned()).or_insert(None);
                if has {
                    *of = Some(reference(service));
                }
            }
        };
        let present = |key: &str| {
            let (namespace, name) = key.split_once('/')?;
            services.get(namespace, name)
        };
        match (changed.changes, touched.changes) {
            (Some(changes), Some(touched)) if known => {
                for change in &changes {
                    let states = std::iter::once(&change.object).chain(&change.previous);
                    states.for_each(|state| mention(&state.value(), false));
                }
                let keys: BTreeSet<&str> = changes.iter().map(|change| change.object.key()).collect();
                for service in keys.into_iter().filter_map(present) {
                    mention(&service.value(), true);
                }
                // One that somebody has taken away is made again.
                for change in touched.iter().filter(|change| change.kind == ChangeKind::Deleted) {
                    let of = &change.object.value()["spec"]["parentRef"];
                    if let Some(service) = holder(of, change.object.name()) {
                        mention(&service, true);
                    }
                }
            }
            _ => {
                let known = addresses.current("");
                for service in services.current("") {
                    mention(&service.value(), true);
                }
                for address in known {
                    news.entry(address.name().to_owned()).or_insert(None);
                }
            }
        }
        news
    }
}

/// A Service as an IPAddress names it, as that is stored: without the group, which is empty.
fn reference(service: &Value) -> Value {
    json!({"resource": "services", "namespace": meta(service, "namespace"), "name": meta(service, "name")})
}

fn meta_of<'v>(reference: &'v Value, field: &str) -> &'v str {
    reference[field].as_str().unwrap_or_default()
}

/// Brings one IPAddress in step with the Service that has its address, or with there being none. False when somebody else
/// did something in the meantime, or something failed.
async fn settle(server: &Arc<ApiServer>, ip: &str, of: Option<&Value>) -> bool {
    let present = server.caches.get(&resource(), None, ip);
    match (present, of) {
        (Some(present), _) if is_foreign(&present) => true,
        (Some(present), Some(of)) if *of == present["spec"]["parentRef"] => true,
        (Some(present), Some(of)) => remove(server, &present).await && make(server, ip, of).await,
        (Some(present), None) => remove(server, &present).await,
        (None, Some(of)) => make(server, ip, of).await,
        (None, None) => true,
    }
}

async fn make(server: &Arc<ApiServer>, ip: &str, of: &Value) -> bool {
    let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": ip, "labels": {"ipaddress.kubernetes.io/ip-family": family, MANAGED: MANAGER}},
        "spec": {"parentRef": of},
    });
    let Some(ctx) = context(server, &object, "create") else {
        return false;
    };
    let options = WriteOptions {
        field_manager: "kube-apiserver".into(),
        ..WriteOptions::default()
    };
    let made = create::store_new(&ctx, object, &options, None).await;
    tell(made.err(), ip)
}

async fn remove(server: &Arc<ApiServer>, address: &Value) -> bool {
    let Some(ctx) = context(server, address, "delete") else {
        return false;
    };
    let removed = crate::rest::delete::remove(&ctx, "", meta(address, "name"), &Default::default()).await;
    tell(removed.err(), meta(address, "name"))
}

/// Whether it succeeded. What somebody else did in the meantime is no fault of which anybody has to know.
fn tell(error: Option<Status>, ip: &str) -> bool {
    let succeeded = error.is_none();
    if let Some(error) = error.filter(|e| !matches!(e.code, 404 | 409)) {
        tracing::warn!(ip, %error, "an IPAddress could not be brought in step with its Service");
    }
    succeeded
}

/// ServiceCIDRs.
pub(super) fn ranges() -> GroupResource {
    GroupResource::new("networking.k8s.io", "servicecidrs")
}

/// Keeps a range that is going away until none of its addresses is in use.
const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// Whether a network of a ServiceCIDR contains an address.
fn covers(range: &Value, ip: std::net::IpAddr) -> bool {
    use std::net::IpAddr;
    let networks = range["spec"]["cidrs"].as_array().into_iter().flatten();
    networks.filter_map(Value::as_str).any(|network| {
        let parts = network.split_once('/');
        let parsed = parts.and_then(|(base, bits)| Some((base.parse().ok()?, bits.parse::<u32>().ok()?)));
        match (parsed, ip) {
            (Some((IpAddr::V4(base), bits)), IpAddr::V4(ip)) => {
                let differ = base.to_bits() ^ ip.to_bits();
                differ.checked_shr(32 - bits.min(32)).unwrap_or(0) == 0
            }
            (Some((IpAddr::V6(base), bits)), IpAddr::V6(ip)) => {
                let differ = base.to_bits() ^ ip.to_bits();
                differ.checked_shr(128 - bits.min(128)).unwrap_or(0) == 0
            }
            _ => false,
        }
    })
}

/// Tells of every ServiceCIDR that it is in use, and lets those go that are deleted once nobody has an address that only
/// they contain.
pub async fn settle_ranges(server: &Arc<ApiServer>) {
    let all = server.caches.list(&ranges(), None);
    let leaves = |range: &Value| !meta(range, "deletionTimestamp").is_empty();
    for range in &all {
        let finalizers = range["metadata"]["finalizers"].as_array();
        let held = finalizers.is_some_and(|f| f.iter().any(|f| f == FINALIZER));
        if leaves(range) && held {
            let others: Vec<_> = all.iter().filter(|other| !leaves(other)).collect();
            let needed = |address: &Arc<Value>| {
                let ip = meta(address, "name").parse();
                ip.is_ok_and(|ip| covers(range, ip) && !others.iter().any(|other| covers(other, ip)))
            };
            match server.caches.list(&resource(), None).iter().any(needed) {
                true => {
                    let why = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a \
                               new ServiceCIDR";
                    note(server, range, "False", "Terminating", why).await;
                }
                false => release(server, range).await,
            }
            continue;
        }
        let said = held && is_ready(range);
        if !leaves(range) && !said {
            note(server, range, "True", "", "Kubernetes Service CIDR is ready").await;
        }
    }
}

pub(super) fn is_ready(range: &Value) -> bool {
    let conditions = range["status"]["conditions"].as_array();
    let ready = |c: &Value| c["type"] == "Ready" && c["status"] == "True";
    conditions.is_some_and(|c| c.iter().any(ready))
}

/// Says whether a range is ready; one that stays is held from then on.
async fn note(server: &Arc<ApiServer>, range: &Value, status: &str, reason: &str, message: &str) {
    let Some(ctx) = context(server, range, "update") else {
        return;
    };
    let edit = |present: &Value| {
        let mut next = present.clone();
        let list = |at: &str, field: &str| {
            let list = next[at][field].as_array().cloned();
            list.unwrap_or_default()
        };
        let (mut finalizers, mut conditions) = (list("metadata", "finalizers"), list("status", "conditions"));
        if status == "True" && !finalizers.iter().any(|f| f == FINALIZER) {
            finalizers.push(FINALIZER.into());
            next["metadata"]["finalizers"] = json!(finalizers);
        }
        let ready = conditions.iter().position(|c| c["type"] == "Ready");
        if ready.is_some_and(|at| conditions[at]["status"] == status) {
            return Ok(next);
        }
        let condition = json!({"type": "Ready", "status": status, "lastTransitionTime": now(), "reason": reason,
            "message": message});
        match ready {
            Some(at) => conditions[at] = condition,
            None => conditions.push(condition),
        }
        next["status"]["conditions"] = json!(conditions);
        Ok(next)
    };
    let done = server.edit(&ctx.served, "", ctx.name(), edit).await;
    tell(done.err(), ctx.name());
}

/// Nobody needs the range any more: it goes, unless others hold it.
async fn release(server: &Arc<ApiServer>, range: &Value) {
    let Some(ctx) = context(server, range, "update") else {
        return;
    };
    let edit = |present: &Value| {
        let mut next = present.clone();
        if let Some(list) = next["metadata"]["finalizers"].as_array_mut() {
            list.retain(|f| f != FINALIZER);
        }
        Ok(next)
    };
    let done = server.edit(&ctx.served, "", ctx.name(), edit).await;
    if done.is_ok() {
        remove(server, range).await;
    } else {
        tell(done.err(), ctx.name());
    }
}
