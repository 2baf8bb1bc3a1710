//! `pods/log`, `pods/exec`, `pods/attach`, `pods/portforward`: at the agent of the Pod's host, by the kubelet's paths.

use super::connect::Options;
use super::exchange::{Outgoing, exchange, no_redirect};
use crate::dispatch::Incoming;
use crate::request::{Attributes, query_firsts};
use crate::rest::{Ctx, meta};
use crate::wire::{Response, body};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use kinds::status::Status;
use serde_json::Value;
use std::pin::Pin;
use std::sync::Arc;

/// Options of `log` that the agent reads.
const LOG_OPTIONS: [&str; 7] = [
    "follow",
    "previous",
    "sinceSeconds",
    "sinceTime",
    "timestamps",
    "tailLines",
    "limitBytes",
];

/// Percent-encodes a query value.
pub fn encode(text: &str) -> String {
    text.bytes().fold(String::new(), |mut out, b| {
        match b {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(b as char),
            other => out.push_str(&format!("%{other:02X}")),
        }
        out
    })
}

fn pod(ctx: &Ctx) -> Result<Arc<Value>, Status> {
    let found = ctx
        .served
        .cache
        .get(ctx.namespace(), ctx.name())
        .ok_or_else(|| ctx.not_found())?;
    Ok(found.value())
}

fn containers(pod: &Value) -> Vec<String> {
    let names = |list: &str| {
        let list = pod.pointer(&format!("/spec/{list}")).and_then(Value::as_array);
        list.into_iter()
            .flatten()
            .filter_map(|c| c["name"].as_str().map(String::from))
            .collect::<Vec<_>>()
    };
    [
        names("initContainers"),
        names("containers"),
        names("ephemeralContainers"),
    ]
    .concat()
}

/// The container a request means: the one it names, or the Pod's only one. (Annotated defaults are the clients' affair.)
fn container(pod: &Value, asked: &str) -> Result<String, Status> {
    let all = containers(pod);
    let name = meta(pod, "name");
    if !asked.is_empty() {
        return match all.iter().any(|c| c == asked) {
            true => Ok(asked.to_string()),
            false => Err(Status::bad_request(format!(
                "container {asked} is not valid for pod {name}"
            ))),
        };
    }
    let main = pod.pointer("/spec/containers").and_then(Value::as_array);
    match main.map(Vec::as_slice) {
        Some([only]) => Ok(only["name"].as_str().unwrap_or_default().to_string()),
        _ => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            all.join(" ")
        ))),
    }
}

fn node(pod: &Value) -> &str {
    pod.pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// Answers `log`.
pub async fn log(ctx: &Ctx, incoming: Incoming) -> Result<Response, Status> {
    super::log_options::check(&ctx.query, ctx.name())?;
    ctx.server.fresh().await?;
    let pod = pod(ctx)?;
    let mut asked = String::new();
    let mut query = Vec::new();
    for (key, value) in query_firsts(&ctx.query) {
        match key.as_str() {
            "container" => asked = value,
            key if LOG_OPTIONS.contains(&key) => query.push(format!("{key}={}", encode(&value))),
            _ => {}
        }
    }
    let container = container(&pod, &asked)?;
    if node(&pod).is_empty() {
        // Nothing has run, so nothing was said.
        let mut nothing = http::Response::new(body::full(bytes::Bytes::new()));
        *nothing.status_mut() = StatusCode::NO_CONTENT;
        return Ok(nothing);
    }
    let path = format!(
        "/containerLogs/{}/{}/{container}?{}",
        ctx.namespace(),
        ctx.name(),
        query.join("&")
    );
    refused(to_agent(ctx, node(&pod), Method::GET, path, incoming).await?).await
}

/// An agent's refusal in plain words becomes a `Status`, as clients expect it (upstream: `GenericHttpResponseChecker`).
fn refused(answer: Response) -> Pin<Box<dyn Future<Output = Result<Response, Status>> + Send>> {
    const MAX_WORDS: usize = 50_000;
    Box::pin(async move {
        let code = answer.status();
        if code.is_success() || code == StatusCode::SWITCHING_PROTOCOLS {
            return Ok(answer);
        }
        let mut body = answer.into_body();
        let mut words = Vec::new();
        while let Some(Ok(frame)) = body.frame().await {
            if let Some(data) = frame.data_ref() {
                words.extend_from_slice(data);
            }
            if words.len() > MAX_WORDS {
                break;
            }
        }
        let words = String::from_utf8_lossy(&words).into_owned();
        Err(match code {
            StatusCode::INTERNAL_SERVER_ERROR => Status::internal(words),
            StatusCode::NOT_FOUND => Status {
                message: words,
                ..Status::no_such_path()
            },
            StatusCode::BAD_REQUEST => Status::bad_request(words),
            // Every other code stays what it is.
            code => Status {
                code: code.as_u16(),
                reason: match code.is_server_error() {
                    true => "InternalError".into(),
                    false => "".into(),
                },
                message: words,
                ..Status::bad_request("")
            },
        })
    })
}

/// Answers `exec`, `attach` and `portforward`.
pub async fn stream(ctx: &Ctx, incoming: Incoming) -> Result<Response, Status> {
    if incoming.head.method == Method::GET {
        // WebSocket clients come with GET; what they do is no less than what POST does.
        let attributes = Attributes {
            verb: "create".into(),
            ..(*ctx.attributes).clone()
        };
        ctx.server.authorized(&ctx.user, &attributes).await?;
    }
    let options = Options::of_stream(ctx).await?;
    ctx.server.fresh().await?;
    let pod = pod(ctx)?;
    let place = format!("{}/{}", ctx.namespace(), ctx.name());
    let path = match ctx.attributes.subresource.as_str() {
        "portforward" => format!("/portForward/{place}"),
        sub => format!("/{sub}/{place}/{}", container(&pod, options.container())?),
    };
    if node(&pod).is_empty() {
        return Err(Status::bad_request(format!(
            "pod {} does not have a host assigned",
            ctx.name()
        )));
    }
    carries(&ctx.attributes.subresource, &options)?;
    if incoming.upgrade.is_none() || !incoming.head.headers.contains_key(http::header::UPGRADE) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let method = incoming.head.method.clone();
    let path = format!("{path}?{}", options.query());
    to_agent(ctx, node(&pod), method, path, incoming).await
}

/// Refuses what would have nothing to do, in the words of upstream's kubelet.
fn carries(subresource: &str, options: &Options) -> Result<(), Status> {
    if subresource != "portforward" && !options.has_streams() {
        return Err(Status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    if subresource == "exec" && !options.has_command() {
        return Err(Status::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    Ok(())
}

/// Passes a request on to the agent of a node.
pub async fn to_agent(
    ctx: &Ctx,
    node: &str,
    method: Method,
    path: String,
    incoming: Incoming,
) -> Result<Response, Status> {
    let (stream, host) = ctx.server.agents.dial(&*ctx.server.caches, node).await?;
    let outgoing = Outgoing {
        method,
        path,
        headers: incoming.head.headers,
        add: http::HeaderMap::new(),
        body: incoming.body,
        upgrade: incoming.upgrade,
    };
    Ok(no_redirect(exchange(stream, &host, outgoing).await?))
}
