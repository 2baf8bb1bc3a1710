//! What every cluster has from its first moment: system namespaces, default roles, priority classes, and the Service
//! by which Pods find this server. Made when missing at every start, through the same path as any other write; what the
//! cluster cannot do without is made again when somebody deletes it.

use crate::admission;
use crate::aggregation::ProxyClient;
use crate::alloc::Range;
use crate::authn::legacy;
use crate::authz::{bootstrap as defaults, rbac};
use crate::flow;
use crate::registry::Served;
use crate::request::Attributes;
use crate::rest::{Ctx, create, delete, meta, now};
use crate::server::{ApiServer, StartError};
use crate::user::User;
use crate::view::{GroupResource, View};
use crate::wire::options::WriteOptions;
use http::HeaderMap;
use kinds::status::Status;
use serde_json::{Value, json};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

const NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];

/// Makes everything that is missing.
pub(crate) async fn run(server: &Arc<ApiServer>, range: Range) -> Result<(), StartError> {
    let namespaces =
        NAMESPACES.map(|name| json!({"apiVersion":"v1","kind":"Namespace","metadata":{"name":name}}));
    together(server, namespaces.clone().map(|namespace| (namespace, NOTHING))).await?;
    let mut wanted: Vec<_> = defaults::objects()
        .into_iter()
        .chain(admission::bootstrap_objects())
        .map(|object| (object, NOTHING))
        .collect();
    wanted.push((legacy::tracking_since(), NOTHING));
    let lasting = lasting(server, range);
    wanted.extend(lasting.clone());
    together(server, wanted).await?;
    tokio::spawn(keep(server.clone(), namespaces, lasting));
    Ok(())
}

/// An object, and those of its fields that are brought up to date where it exists.
type Wanted = (Value, &'static [&'static str]);

/// Fields whose present values are not touched.
const NOTHING: &[&str] = &[];
/// What must be there is looked at when anything changes, this long after it, and at least this often.
const PAUSE: Duration = Duration::from_millis(200);
const PERIOD: Duration = Duration::from_secs(10);

/// What must be there as long as the server runs, beside namespaces.
fn lasting(server: &ApiServer, range: Range) -> Vec<Wanted> {
    let flows = flow::bootstrap_objects().into_iter();
    let mut wanted: Vec<Wanted> = flows.map(|object| (object, NOTHING)).collect();
    if let Some(proxy) = &server.config.proxy_client {
        let map = authentication_map(proxy, &server.config.client_ca_der);
        wanted.push((map, &["data"]));
    }
    wanted.extend(kubernetes_service(server, range));
    wanted.extend(
        server
            .config
            .cluster_dns
            .iter()
            .flat_map(|ip| dns_service(server, *ip)),
    );
    wanted
}

/// Makes again what somebody deleted, until the server stops.
async fn keep(server: Arc<ApiServer>, namespaces: [Value; 4], lasting: Vec<Wanted>) {
    let namespaces = namespaces.map(|namespace| (namespace, NOTHING));
    let mut changes = server.caches.subscribe();
    let mut period = tokio::time::interval_at(tokio::time::Instant::now() + PERIOD, PERIOD);
    period.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let thorough = tokio::select! {
            () = server.stop.cancelled() => return,
            _ = period.tick() => true,
            changed = changes.changed() => match changed {
                Ok(()) => false,
                Err(_) => return,
            },
        };
        tokio::time::sleep(PAUSE).await;
        changes.mark_unchanged();
        // Namespaces first, and the others in the next round when it was theirs that lacked.
        for wanted in [&namespaces[..], &lasting[..]] {
            let lacking = wanted.iter().filter(|wanted| lacks(&server, wanted, thorough));
            let lacking: Vec<Wanted> = lacking.cloned().collect();
            if let Err(error) = together(&server, lacking).await {
                tracing::warn!(%error, "what every cluster has could not be made again; it is tried again");
            }
        }
    }
}

/// Whether an object is missing, or says other things than it should. `thorough`: what only costs time is looked at too.
fn lacks(server: &Arc<ApiServer>, (object, fields): &Wanted, thorough: bool) -> bool {
    let present = context(server, object, "get").map(|ctx| ctx.served.cache.get(ctx.namespace(), ctx.name()));
    match present {
        Some(Some(present)) => {
            if fields.is_empty() && !thorough {
                return false;
            }
            let present = present.value();
            let flows = object["apiVersion"] == "flowcontrol.apiserver.k8s.io/v1";
            let stale = flows && flow::renewed(&present, object).is_some();
            stale || fields.iter().any(|field| present[*field] != object[*field])
        }
        _ => true,
    }
}

/// Makes what is missing of some objects, and brings the named fields of each up to date. All at the same time: writes
/// that wait together share a commit, so that a new cluster costs a few of them and not a hundred.
async fn together(
    server: &Arc<ApiServer>,
    wanted: impl IntoIterator<Item = Wanted>,
) -> Result<(), StartError> {
    let mut writes = tokio::task::JoinSet::new();
    for (object, fields) in wanted {
        let server = server.clone();
        writes.spawn(async move {
            ensure(&server, object.clone()).await?;
            match fields.is_empty() {
                true => Ok(()),
                false => renew(&server, &object, fields).await,
            }
        });
    }
    while let Some(outcome) = writes.join_next().await {
        outcome.map_err(|error| StartError::Bootstrap {
            what: "what every cluster has".into(),
            why: error.to_string(),
        })??;
    }
    Ok(())
}

/// `kube-system/extension-apiserver-authentication`: by what aggregated servers know us and our users.
fn authentication_map(proxy: &ProxyClient, client_ca: &[Vec<u8>]) -> Value {
    let list = |name: &str| json!([name]).to_string();
    json!({
        "apiVersion": "v1", "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {
            "client-ca-file": client_ca.iter().map(|der| pem(der)).collect::<String>(),
            // Other certificates of the same authority must not speak for users.
            "requestheader-allowed-names": json!(proxy.common_names()).to_string(),
            "requestheader-client-ca-file": proxy.ca_pem,
            "requestheader-extra-headers-prefix": list("X-Remote-Extra-"),
            "requestheader-group-headers": list("X-Remote-Group"),
            "requestheader-uid-headers": list("X-Remote-Uid"),
            "requestheader-username-headers": list("X-Remote-User"),
        },
    })
}

/// A certificate as PEM.
fn pem(der: &[u8]) -> String {
    use base64::Engine;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for start in (0..text.len()).step_by(64) {
        out.push_str(&text[start..text.len().min(start + 64)]);
        out.push('\n');
    }
    out.push_str("-----END CERTIFICATE-----\n");
    out
}

/// A context for a write of the server itself.
pub(crate) fn context(server: &Arc<ApiServer>, object: &Value, verb: &str) -> Option<Ctx> {
    let text = |f: &str| object.get(f).and_then(Value::as_str).unwrap_or("");
    let served = server
        .registry
        .load()
        .find_kind(text("apiVersion"), text("kind"))?;
    Some(context_of(server, served, object, verb))
}

/// Such a context for a resource that may not be registered.
pub(crate) fn context_of(server: &Arc<ApiServer>, served: Arc<Served>, object: &Value, verb: &str) -> Ctx {
    let attributes = Attributes {
        verb: verb.into(),
        group: served.kind.group.into(),
        version: served.kind.version.into(),
        resource: served.kind.plural.into(),
        namespace: meta(object, "namespace").into(),
        name: meta(object, "name").into(),
        is_resource: true,
        ..Attributes::default()
    };
    Ctx {
        server: server.clone(),
        user: User::system(),
        attributes: Arc::new(attributes),
        query: String::new(),
        headers: HeaderMap::new(),
        served,
        notes: Arc::default(),
        deadline: std::time::Instant::now() + crate::rest::LONGEST,
    }
}

/// By whom objects of a group are written at a start.
fn options(group: &str) -> WriteOptions {
    let manager = match group {
        flow::GROUP => "api-priority-and-fairness-config-producer-v1",
        _ => "kube-apiserver",
    };
    WriteOptions {
        field_manager: manager.into(),
        ..WriteOptions::default()
    }
}

async fn ensure(server: &Arc<ApiServer>, object: Value) -> Result<(), StartError> {
    let what = format!(
        "{} {}",
        object["kind"].as_str().unwrap_or(""),
        meta(&object, "name")
    );
    let failed = |status: Status| StartError::Bootstrap {
        what: what.clone(),
        why: status.to_string(),
    };
    let Some(ctx) = context(server, &object, "create") else {
        return Err(StartError::Bootstrap {
            what,
            why: "its kind is not served".into(),
        });
    };
    match ctx.served.cache.get(ctx.namespace(), ctx.name()) {
        None => match create::store_new(&ctx, object, &options(ctx.served.kind.group), None).await {
            Ok(_) => Ok(()),
            Err(status) if status.is_already_exists() => Ok(()),
            Err(status) => Err(failed(status)),
        },
        Some(present) => reconcile(&ctx, &present.value(), &object).await.map_err(failed),
    }
}

/// Default roles and bindings get what was added to them since; nothing else of an object that exists is touched.
async fn reconcile(ctx: &Ctx, present: &Value, wanted: &Value) -> Result<(), Status> {
    match ctx.served.kind.group {
        flow::GROUP => return renew_flow(ctx, wanted).await,
        rbac::GROUP => {}
        _ => return Ok(()),
    }
    if defaults::leads_elsewhere(present, wanted) {
        // Where a binding leads cannot be changed in place.
        delete::remove(ctx, ctx.namespace(), ctx.name(), &Default::default()).await?;
        return create::store_new(ctx, wanted.clone(), &options(ctx.served.kind.group), None)
            .await
            .map(drop);
    }
    if defaults::reconcile(present, wanted).is_none() {
        return Ok(());
    }
    let edit = |present: &Value| Ok(defaults::reconcile(present, wanted).unwrap_or_else(|| present.clone()));
    ctx.server
        .edit(&ctx.served, ctx.namespace(), ctx.name(), edit)
        .await
        .map(|_| ())
}

/// A FlowSchema or PriorityLevelConfiguration gets the spec of this server, where it follows it.
async fn renew_flow(ctx: &Ctx, wanted: &Value) -> Result<(), Status> {
    let edit = |present: &Value| {
        let Some(mut next) = flow::renewed(present, wanted) else {
            return Ok(present.clone());
        };
        let manager = options(flow::GROUP).field_manager;
        machinery::apply::update_managers(
            ctx.served.typed(),
            Some(present),
            &mut next,
            &manager,
            "Update",
            None,
            &now(),
        );
        Ok(next)
    };
    let edited = ctx
        .server
        .edit(&ctx.served, ctx.namespace(), ctx.name(), edit)
        .await;
    edited.map(drop)
}

/// Service `default/kubernetes` at the first address of the range, and its endpoints: this server.
fn kubernetes_service(server: &ApiServer, range: Range) -> Vec<Wanted> {
    let (ip, port) = server.config.advertise;
    let address = range.nth(1).to_string();
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let addresses = json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": [range.to_string()]},
    });
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {
            "type": "ClusterIP", "clusterIP": address, "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
        },
    });
    let mut objects = vec![(addresses, NOTHING), (service, NOTHING)];
    if ip.is_loopback() || ip.is_unspecified() {
        // Endpoints may not name such an address.
        return objects;
    }
    let family = if matches!(ip, IpAddr::V4(_)) {
        "IPv4"
    } else {
        "IPv6"
    };
    let endpoints = json!({
        "apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": ip.to_string()}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}],
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": family,
        "endpoints": [{"addresses": [ip.to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    });
    objects.push((endpoints, &["subsets"]));
    objects.push((slice, &["endpoints", "ports", "addressType"]));
    objects
}

/// Service `kube-system/kube-dns`, by which programs find the cluster's DNS, as kubeadm makes it
/// (`cmd/kubeadm/app/phases/addons/dns/manifests.go`); its endpoint is its own address, where the hosts answer. Without
/// it where somebody has the address from the time before there was such a Service.
fn dns_service(server: &ApiServer, ip: Ipv4Addr) -> Vec<Wanted> {
    let (name, namespace, ip) = ("kube-dns", "kube-system", ip.to_string());
    let services = server.caches.list(&GroupResource::new("", "services"), None);
    let taken = services.iter().any(|service| {
        let own = meta(service, "name") == name && meta(service, "namespace") == namespace;
        service["spec"]["clusterIP"] == ip.as_str() && !own
    });
    if taken {
        tracing::warn!(
            address = ip,
            "another Service has the address of the cluster's DNS"
        );
        return Vec::new();
    }
    let ports = [("dns", "UDP"), ("dns-tcp", "TCP")]
        .map(|(name, protocol)| json!({"name": name, "port": 53, "protocol": protocol}));
    let service = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": namespace, "labels": {
            "k8s-app": name, "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"}},
        "spec": {
            "type": "ClusterIP", "clusterIP": ip, "clusterIPs": [ip], "sessionAffinity": "None",
            "ports": ports.clone().map(|mut port| {
                port["targetPort"] = json!(53);
                port
            }),
        },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": namespace,
            "labels": {"k8s-app": name, "kubernetes.io/service-name": name}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [ip], "conditions": {"ready": true, "serving": true, "terminating": false}}],
        "ports": ports,
    });
    vec![(service, NOTHING), (slice, NOTHING)]
}

/// Where this server listens may have changed since the last start.
async fn renew(
    server: &Arc<ApiServer>,
    wanted: &Value,
    fields: &'static [&'static str],
) -> Result<(), StartError> {
    let Some(ctx) = context(server, wanted, "update") else {
        return Ok(());
    };
    let source = wanted.clone();
    let edit = move |present: &Value| {
        let mut next = present.clone();
        for field in fields {
            next[*field] = source[*field].clone();
        }
        Ok(next)
    };
    let done = server.edit(&ctx.served, ctx.namespace(), ctx.name(), edit).await;
    done.map(|_| ()).map_err(|status| StartError::Bootstrap {
        what: format!("{} default/kubernetes", ctx.served.kind.kind),
        why: status.to_string(),
    })
}
