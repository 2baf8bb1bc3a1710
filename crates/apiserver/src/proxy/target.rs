//! `nodes/NAME/proxy`, `pods/[SCHEME:]NAME[:PORT]/proxy`, `services/[SCHEME:]NAME[:PORT]/proxy`.

use super::exchange::{Outgoing, exchange};
use super::pods::to_agent;
use crate::dispatch::Incoming;
use crate::rest::Ctx;
use crate::view::{GroupResource, View};
use crate::wire::Response;
use kinds::status::Status;
use rand::RngExt;
use serde_json::Value;
use std::net::IpAddr;
use std::time::Duration;
use tokio::net::TcpStream;

/// Time to connect.
const DIAL: Duration = Duration::from_secs(10);

/// Answers `proxy`.
pub async fn proxy(ctx: &Ctx, incoming: Incoming) -> Result<Response, Status> {
    let rest = remaining_path(&incoming);
    let method = incoming.head.method.clone();
    if ctx.served.kind.plural == "nodes" {
        // The agent's own paths; a port in the name would lead past its authorization.
        if ctx.name().contains(':') {
            return Err(Status::bad_request("a node is proxied by its name only"));
        }
        return to_agent(ctx, ctx.name(), method, rest, incoming).await;
    }
    ctx.server.fresh().await?;
    let (scheme, name, port) = split(ctx.name());
    if scheme == "https" {
        return Err(Status::bad_request(
            "https backends are not proxied: their certificates cannot be checked",
        ));
    }
    let (address, port) = match ctx.served.kind.plural {
        "pods" => pod_address(ctx, name, port)?,
        _ => service_address(ctx, name, port)?,
    };
    if !is_proxyable(address) {
        return Err(Status::bad_request(format!(
            "address {address} is not allowed as a proxy target"
        )));
    }
    let failed = |why: String| {
        Status::service_unavailable(format!(
            "error trying to reach service: dial tcp {address}:{port}: {why}"
        ))
    };
    let stream = match tokio::time::timeout(DIAL, TcpStream::connect((address, port))).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(e)) => return Err(failed(e.to_string())),
        Err(_) => return Err(failed("i/o timeout".into())),
    };
    let outgoing = Outgoing {
        method,
        path: rest,
        headers: incoming.head.headers,
        add: http::HeaderMap::new(),
        body: incoming.body,
        upgrade: incoming.upgrade,
    };
    exchange(Box::new(stream), &format!("{address}:{port}"), outgoing).await
}

/// What follows `/proxy` in the path as it was sent, with the query.
fn remaining_path(incoming: &Incoming) -> String {
    let path = incoming.head.uri.path();
    // .../NAMESPACE-OR-KIND/NAME/proxy/REST: the first `proxy` that follows a name.
    let rest = path.find("/proxy").map_or("", |at| &path[at + "/proxy".len()..]);
    let rest = if rest.starts_with('/') {
        rest.to_string()
    } else {
        format!("/{rest}")
    };
    match incoming.head.uri.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest,
    }
}

/// `[SCHEME:]NAME[:PORT]`.
fn split(text: &str) -> (&str, &str, &str) {
    match text.split(':').collect::<Vec<_>>().as_slice() {
        [name] => ("", name, ""),
        [name, port] => ("", name, port),
        [scheme, name, port] => (scheme, name, port),
        _ => ("", text, ""),
    }
}

/// Neither this machine's own services nor the metadata services of clouds can be reached through us.
fn is_proxyable(address: IpAddr) -> bool {
    // `::ffff:127.0.0.1` is 127.0.0.1, too.
    let address = address.to_canonical();
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local() || v4.is_broadcast(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !(address.is_loopback() || address.is_unspecified() || address.is_multicast() || link_local)
}

fn pod_address(ctx: &Ctx, name: &str, port: &str) -> Result<(IpAddr, u16), Status> {
    let not_found = || Status::not_found("pods", "", name);
    let pod = ctx
        .server
        .caches
        .get(&GroupResource::new("", "pods"), Some(ctx.namespace()), name);
    let pod = pod.ok_or_else(not_found)?;
    let ip = pod
        .pointer("/status/podIP")
        .and_then(Value::as_str)
        .and_then(|ip| ip.parse().ok());
    let ip = ip.ok_or_else(|| Status::bad_request(format!("pod {name} has no address yet")))?;
    let first = pod
        .pointer("/spec/containers/0/ports/0/containerPort")
        .and_then(Value::as_u64);
    let port = match port {
        "" => first.and_then(|p| u16::try_from(p).ok()).unwrap_or(80),
        text => text
            .parse()
            .map_err(|_| Status::bad_request(format!("invalid port {text:?}")))?,
    };
    Ok((ip, port))
}

/// A ready endpoint of the Service; the port by its name or number, the only one when none is named.
fn service_address(ctx: &Ctx, name: &str, wanted: &str) -> Result<(IpAddr, u16), Status> {
    let view = &ctx.server.caches;
    let namespace = Some(ctx.namespace());
    let service = view.get(&GroupResource::new("", "services"), namespace, name);
    let service = service.ok_or_else(|| Status::not_found("services", "", name))?;
    let ports = service
        .pointer("/spec/ports")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let port = match wanted {
        "" if ports.len() == 1 => ports.first(),
        "" => ports.iter().find(|p| p["name"].as_str().unwrap_or("").is_empty()),
        text => ports
            .iter()
            .find(|p| p["name"] == text || p["port"].as_u64().is_some_and(|n| text.parse() == Ok(n))),
    };
    let none = || Status::service_unavailable(format!("no endpoints available for service {name:?}"));
    let port = port.ok_or_else(|| {
        Status::service_unavailable(format!("no service port {wanted:?} found for service {name:?}"))
    })?;
    let port_name = port["name"].as_str().unwrap_or("");
    let endpoints = view
        .get(&GroupResource::new("", "endpoints"), namespace, name)
        .ok_or_else(none)?;
    let mut found = Vec::new();
    for subset in endpoints["subsets"].as_array().into_iter().flatten() {
        let same = |p: &&Value| p["name"].as_str().unwrap_or("") == port_name;
        let number = subset["ports"].as_array().into_iter().flatten().find(same);
        let Some(number) = number
            .and_then(|p| p["port"].as_u64())
            .and_then(|p| u16::try_from(p).ok())
        else {
            continue;
        };
        for address in subset["addresses"].as_array().into_iter().flatten() {
            if let Some(ip) = address["ip"].as_str().and_then(|ip| ip.parse().ok()) {
                found.push((ip, number));
            }
        }
    }
    if found.is_empty() {
        return Err(none());
    }
    Ok(found[rand::rng().random_range(0..found.len())])
}
