//! IPAddress objects, one for every address of a Service, and the conditions of ServiceCIDRs (KEP-1880). The allocator
//! itself looks at Services; these objects tell others what is taken, and addresses that people reserve by them are kept
//! out of its hands.

use crate::bootstrap::context;
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

/// Brings the IPAddresses in step with the Services.
pub async fn settle(server: &Arc<ApiServer>) {
    let mut wanted: BTreeMap<String, Value> = BTreeMap::new();
    for service in server.caches.list(&GroupResource::new("", "services"), None) {
        let addresses = service["spec"]["clusterIPs"].as_array();
        for ip in addresses.into_iter().flatten().filter_map(Value::as_str) {
            if ip.parse::<std::net::IpAddr>().is_ok() {
                let of = json!({"group": "", "resource": "services", "namespace": meta(&service, "namespace"),
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
        field_manager: "podvisor-apiserver".into(),
        ..WriteOptions::default()
    };
    let made = create::store_new(&ctx, object, &options, "CreateOptions", None).await;
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

/// Tells of every ServiceCIDR that it is in use.
pub async fn settle_ranges(server: &Arc<ApiServer>) {
    for range in server
        .caches
        .list(&GroupResource::new("networking.k8s.io", "servicecidrs"), None)
    {
        let conditions = range["status"]["conditions"].as_array();
        if !meta(&range, "deletionTimestamp").is_empty()
            || conditions.is_some_and(|c| c.iter().any(|c| c["type"] == "Ready"))
        {
            continue;
        }
        let Some(ctx) = context(server, &range, "update") else {
            continue;
        };
        let edit = |present: &Value| {
            let mut next = present.clone();
            let mut conditions = next["status"]["conditions"]
                .as_array()
                .cloned()
                .unwrap_or_default();
            conditions.push(
                json!({"type": "Ready", "status": "True", "lastTransitionTime": now(), "reason": "",
                "message": "Kubernetes Service CIDR is ready"}),
            );
            next["status"]["conditions"] = json!(conditions);
            Ok(next)
        };
        let done = server.edit(&ctx.served, "", ctx.name(), edit).await;
        tell(done.err(), ctx.name());
    }
}
