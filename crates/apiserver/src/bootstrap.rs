//! What every cluster has from its first moment: system namespaces, default roles, priority classes, and the Service
//! by which Pods find this server. Made when missing at every start, through the same path as any other write.

use crate::admission;
use crate::aggregation::ProxyClient;
use crate::alloc::Range;
use crate::authz::{bootstrap as defaults, rbac};
use crate::request::Attributes;
use crate::rest::{Ctx, create, meta};
use crate::server::{ApiServer, StartError};
use crate::user::User;
use crate::wire::options::WriteOptions;
use http::HeaderMap;
use kinds::status::Status;
use serde_json::{Value, json};
use std::net::IpAddr;
use std::sync::Arc;

const NAMESPACES: [&str; 4] = ["kube-system", "kube-public", "kube-node-lease", "default"];

/// Makes everything that is missing.
pub(crate) async fn run(server: &Arc<ApiServer>, range: Range) -> Result<(), StartError> {
    for name in NAMESPACES {
        ensure(
            server,
            json!({"apiVersion":"v1","kind":"Namespace","metadata":{"name":name}}),
        )
        .await?;
    }
    for object in defaults::objects()
        .into_iter()
        .chain(admission::bootstrap_objects())
        .chain(crate::flow::bootstrap_objects())
    {
        ensure(server, object).await?;
    }
    if let Some(proxy) = &server.config.proxy_client {
        let object = authentication_map(proxy, &server.config.client_ca_der);
        ensure(server, object.clone()).await?;
        renew(server, &object, &["data"]).await?;
    }
    kubernetes_service(server, range).await
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
    Some(Ctx {
        server: server.clone(),
        user: User::system(),
        attributes,
        query: String::new(),
        headers: HeaderMap::new(),
        served,
        notes: Arc::default(),
    })
}

fn options() -> WriteOptions {
    WriteOptions {
        field_manager: "podvisor-apiserver".into(),
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
        None => match create::store_new(&ctx, object, &options(), "CreateOptions", None).await {
            Ok(_) => Ok(()),
            Err(status) if status.is_already_exists() => Ok(()),
            Err(status) => Err(failed(status)),
        },
        Some(present) => reconcile(&ctx, &present.value(), &object).await.map_err(failed),
    }
}

/// Default roles and bindings get what was added to them since; nothing else of an object that exists is touched.
async fn reconcile(ctx: &Ctx, present: &Value, wanted: &Value) -> Result<(), Status> {
    if ctx.served.kind.group != rbac::GROUP || defaults::reconcile(present, wanted).is_none() {
        return Ok(());
    }
    let edit = |present: &Value| Ok(defaults::reconcile(present, wanted).unwrap_or_else(|| present.clone()));
    ctx.server
        .edit(&ctx.served, ctx.namespace(), ctx.name(), edit)
        .await
        .map(|_| ())
}

/// Service `default/kubernetes` at the first address of the range, and its endpoints: this server.
async fn kubernetes_service(server: &Arc<ApiServer>, range: Range) -> Result<(), StartError> {
    let (ip, port) = server.config.advertise;
    let address = range.nth(1).to_string();
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    ensure(
        server,
        json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "kubernetes"}, "spec": {"cidrs": [range.to_string()]},
        }),
    )
    .await?;
    ensure(
        server,
        json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
            "spec": {
                "type": "ClusterIP", "clusterIP": address, "clusterIPs": [address],
                "sessionAffinity": "None",
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}],
            },
        }),
    )
    .await?;
    if ip.is_loopback() || ip.is_unspecified() {
        // Endpoints may not name such an address; inside the cluster nobody could reach it anyway.
        return Ok(());
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
    for (object, fields) in [
        (endpoints, &["subsets"][..]),
        (slice, &["endpoints", "ports", "addressType"][..]),
    ] {
        ensure(server, object.clone()).await?;
        renew(server, &object, fields).await?;
    }
    Ok(())
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
