//! `nodes/NAME/proxy`, `pods/[SCHEME:]NAME[:PORT]/proxy`, `services/[SCHEME:]NAME[:PORT]/proxy`.

use super::agent::{Stream, agent_port};
use super::connect::Options;
use super::exchange::{Outgoing, exchange};
use super::links::{Links, lead_back};
use super::pods::to_agent;
use crate::dispatch::Incoming;
use crate::rest::Ctx;
use crate::view::{GroupResource, View};
use crate::wire::{Response, body};
use http::header::{self, HeaderValue};
use http::{Method, StatusCode};
use kinds::status::Status;
use rand::RngExt;
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// Time to connect.
const DIAL: Duration = Duration::from_secs(10);

/// Answers `proxy`.
pub async fn proxy(ctx: &Ctx, incoming: Incoming) -> Result<Response, Status> {
    let below = remaining_path(&incoming, ctx.served.kind.namespaced);
    let rest = Options::of_proxy(ctx, &below).await?.path(below);
    let method = incoming.head.method.clone();
    let (scheme, name, port) = split(ctx.name());
    if ctx.served.kind.plural == "nodes" {
        // Nothing but the agent: another port of its address would lead past authorization.
        let theirs = agent_port(&*ctx.server.caches, name)?;
        if scheme == "http" || !(port.is_empty() || port.parse() == Ok(theirs)) {
            return Err(Status::bad_request(format!(
                "of a node only its agent is proxied, https at port {theirs}"
            )));
        }
        let name = name.to_string();
        return match redirected(&incoming, &rest) {
            Some(answer) => Ok(answer),
            None => to_agent(ctx, &name, method, rooted(rest), incoming).await,
        };
    }
    ctx.server.fresh().await?;
    let (address, port) = match ctx.served.kind.plural {
        "pods" => pod_address(ctx, scheme, name, port)?,
        _ => service_address(ctx, name, port)?,
    };
    if !is_proxyable(address) {
        return Err(Status::bad_request(format!(
            "address {address} is not allowed as a proxy target"
        )));
    }
    if let Some(answer) = redirected(&incoming, &rest) {
        return Ok(answer);
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
    let stream: Box<dyn Stream> = match scheme {
        "https" => match tokio::time::timeout(DIAL, encrypted(stream, address)).await {
            Ok(Ok(stream)) => Box::new(stream),
            Ok(Err(why)) => return Err(failed(why)),
            Err(_) => return Err(failed("net/http: TLS handshake timeout".into())),
        },
        _ => Box::new(stream),
    };
    let asked = incoming.head.uri.path();
    let below = rest.split('?').next().unwrap_or("");
    let links = Links {
        prefix: asked.strip_suffix(below).unwrap_or(asked).to_string(),
        backend: std::net::SocketAddr::new(address, port).to_string(),
    };
    let mut headers = incoming.head.headers;
    // Links can only be followed in a page that is not compressed.
    headers.remove(header::ACCEPT_ENCODING);
    let outgoing = Outgoing {
        method,
        path: rooted(rest),
        headers,
        add: http::HeaderMap::new(),
        body: incoming.body,
        upgrade: incoming.upgrade,
    };
    let answer = exchange(stream, &links.backend, outgoing).await?;
    Ok(lead_back(answer, links))
}

/// TLS towards a backend. Nobody vouches for the certificate of a Pod, so it is not checked, as upstream does not:
/// the connection is as trustworthy as one without TLS.
async fn encrypted<S: AsyncRead + AsyncWrite + Unpin>(
    stream: S,
    address: IpAddr,
) -> Result<TlsStream<S>, String> {
    let settings = crate::outbound::tls::client(&[], true, None)?;
    let connector = TlsConnector::from(Arc::new(settings));
    let shaken = connector.connect(ServerName::from(address), stream).await;
    shaken.map_err(|e| format!("tls: {e}"))
}

/// `.../proxy` without a slash at its end leads to `.../proxy/`: relative links of a page would miss it otherwise.
fn redirected(incoming: &Incoming, rest: &str) -> Option<Response> {
    let head = &incoming.head;
    let reads = head.method == Method::GET || head.method == Method::HEAD;
    if !reads || rest.starts_with('/') || head.headers.contains_key(header::UPGRADE) {
        return None;
    }
    let to = HeaderValue::try_from(format!("{}/{rest}", head.uri.path())).ok()?;
    let mut answer = body::text(StatusCode::MOVED_PERMANENTLY, "");
    answer.headers_mut().insert(header::LOCATION, to);
    Some(answer)
}

/// What follows `/proxy` in the path as it was sent, with the query; neither namespaces nor names that are called
/// `proxy` are mistaken for it.
fn remaining_path(incoming: &Incoming, namespaced: bool) -> String {
    let path = incoming.head.uri.path();
    // /api/v1/nodes/NAME/proxy/..., /api/v1/namespaces/NAMESPACE/KIND/NAME/proxy/...
    let steps = if namespaced { 7 } else { 5 };
    let rest = path
        .match_indices('/')
        .nth(steps)
        .map_or("", |(at, _)| &path[at..]);
    match incoming.head.uri.query() {
        Some(query) => format!("{rest}?{query}"),
        None => rest.to_string(),
    }
}

/// A path begins with a slash, even if there is nothing but a query.
fn rooted(rest: String) -> String {
    match rest.starts_with('/') {
        true => rest,
        false => format!("/{rest}"),
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

fn pod_address(ctx: &Ctx, scheme: &str, name: &str, port: &str) -> Result<(IpAddr, u16), Status> {
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
        "" => first
            .and_then(|p| u16::try_from(p).ok())
            .unwrap_or(if scheme == "https" { 443 } else { 80 }),
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

#[cfg(test)]
mod tests {
    use super::encrypted;
    use std::sync::Arc;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    #[tokio::test]
    async fn certificates_of_pods_are_not_checked() {
        let made = rcgen::generate_simple_self_signed(["elsewhere".to_string()]).unwrap();
        let key = rustls_pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![made.cert.der().clone()], key)
            .unwrap();
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let pod = tokio::spawn(async move {
            let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
            acceptor
                .accept(theirs)
                .await
                .unwrap()
                .write_all(b"tls")
                .await
                .unwrap();
        });
        let mut stream = encrypted(ours, [10, 0, 0, 1].into()).await.unwrap();
        let mut said = [0; 3];
        stream.read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"tls");
        pod.await.unwrap();
    }
}
