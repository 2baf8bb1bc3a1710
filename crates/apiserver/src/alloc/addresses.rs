//! IPAddress objects, one for every address of a Service, and the conditions of ServiceCIDRs (KEP-1880). The allocator
//! itself looks at Services; these objects tell others what is taken, and addresses that people reserve by them are kept
//! out of its hands.

use crate::bootstrap::context;
use crate::cache::Caches;
use crate::rest::{create, meta, now};
use crate::server::ApiServer;
use crate::view::{GroupResource, View};
use crate::wire::options::WriteOptions;
use kinds::status::Status;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;

/// The label by which our own are known.
const MANAGED: &str = "ipaddress.kubernetes.io/managed-by";
const MANAGER: &str = "ipallocator.k8s.io";

/// IPAddresses.
pub(super) fn resource() -> GroupResource {
    GroupResource::new("networking.k8s.io", "ipaddresses")
}

/// Whether somebody else than the allocator has made an IPAddress.
pub(super) fn is_foreign(address: &Value) -> bool {
    address["metadata"]["labels"][MANAGED] != MANAGER
}

/// The names of the IPAddresses that are somebody else's.
pub(super) fn reserved(caches: &Caches) -> Vec<String> {
    let Some(addresses) = caches.existing(&resource()) else {
        return Vec::new();
    };
    let foreign = addresses.select("", |address| address.label(MANAGED) != Some(MANAGER));
    foreign.iter().map(|address| address.name().to_owned()).collect()
}

/// Brings the IPAddresses in step with the Services.
pub async fn settle(server: &Arc<ApiServer>) {
    let mut wanted: BTreeMap<String, Value> = BTreeMap::new();
    for service in server.caches.list(&GroupResource::new("", "services"), None) {
        let addresses = service["spec"]["clusterIPs"].as_array();
        for ip in addresses.into_iter().flatten().filter_map(Value::as_str) {
            if ip.parse::<std::net::IpAddr>().is_ok() {
                // As it is stored: without the group, which is empty.
                let of = json!({"resource": "services", "namespace": meta(&service, "namespace"),
                    "name": meta(&service, "name")});
                wanted.insert(ip.to_string(), of);
            }
        }
    }
    for present in server.caches.list(&resource(), None) {
        let name = meta(&present, "name");
        match wanted.remove(name) {
            Some(of) if of == present["spec"]["parentRef"] || is_foreign(&present) => {}
            Some(of) => {
                remove(server, &present).await;
                make(server, name, of).await;
            }
            None if is_foreign(&present) => {}
            None => remove(server, &present).await,
        }
    }
    for (ip, of) in wanted {
        make(server, &ip, of).await;
    }
}

async fn make(server: &Arc<ApiServer>, ip: &str, of: Value) {
    let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
    let object = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "IPAddress",
        "metadata": {"name": ip, "labels": {"ipaddress.kubernetes.io/ip-family": family, MANAGED: MANAGER}},
        "spec": {"parentRef": of},
    });
    let Some(ctx) = context(server, &object, "create") else {
        return;
    };
    let options = WriteOptions {
        field_manager: "kube-apiserver".into(),
        ..WriteOptions::default()
    };
    let made = create::store_new(&ctx, object, &options, None).await;
    tell(made.err(), ip);
}

async fn remove(server: &Arc<ApiServer>, address: &Value) {
    let Some(ctx) = context(server, address, "delete") else {
        return;
    };
    let removed = crate::rest::delete::remove(&ctx, "", meta(address, "name"), &Default::default()).await;
    tell(removed.err(), meta(address, "name"));
}

/// What somebody else did in the meantime is no fault; the next change of a Service brings another look.
fn tell(error: Option<Status>, ip: &str) {
    if let Some(error) = error.filter(|e| !matches!(e.code, 404 | 409)) {
        tracing::warn!(ip, %error, "an IPAddress could not be brought in step with its Service");
    }
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
        } else if !leaves(range) {
            note(server, range, "True", "", "Kubernetes Service CIDR is ready").await;
        }
    }
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
