//! `pods/log`, `pods/exec`, `pods/attach`, `pods/portforward`: at the agent of the Pod's host, by the kubelet's paths.

use super::exchange::{Outgoing, exchange, no_redirect};
use crate::admit::Operation;
use crate::dispatch::Incoming;
use crate::request::{Attributes, query_firsts, query_pairs, query_true};
use crate::rest::{Ctx, meta};
use crate::wire::{Response, body};
use http::{Method, StatusCode};
use http_body_util::BodyExt;
use kinds::status::Status;
use serde_json::{Value, json};
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

/// The container a request means: the one it names, the Pod's only one, or the annotated default.
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
    let main: Vec<&str> = pod
        .pointer("/spec/containers")
        .and_then(Value::as_array)
        .map(|l| l.iter().filter_map(|c| c["name"].as_str()).collect())
        .unwrap_or_default();
    let annotated = pod
        .pointer("/metadata/annotations")
        .and_then(|a| a.get("kubectl.kubernetes.io/default-container"));
    match (
        annotated
            .and_then(Value::as_str)
            .filter(|a| all.iter().any(|c| c == a)),
        main.as_slice(),
    ) {
        (_, [only]) => Ok(only.to_string()),
        (Some(default), _) => Ok(default.to_string()),
        (None, many) => Err(Status::bad_request(format!(
            "a container name must be specified for pod {name}, choose one of: [{}]",
            many.join(" ")
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
        return Ok(body::text(StatusCode::OK, ""));
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
    ctx.server.fresh().await?;
    let pod = pod(ctx)?;
    let sub = ctx.attributes.subresource.clone();
    let path = if sub == "portforward" {
        format!("/portForward/{}/{}?{}", ctx.namespace(), ctx.name(), ctx.query)
    } else {
        let (container, query) = stream_options(&pod, &ctx.query, &sub)?;
        let word = if sub == "exec" { "exec" } else { "attach" };
        format!("/{word}/{}/{}/{container}?{query}", ctx.namespace(), ctx.name())
    };
    if node(&pod).is_empty() {
        return Err(Status::bad_request(format!(
            "pod {} does not have a host assigned",
            ctx.name()
        )));
    }
    let mut options = json!({"kind": "PodExecOptions", "apiVersion": "v1"});
    if sub == "attach" {
        options["kind"] = json!("PodAttachOptions");
    } else if sub == "portforward" {
        options["kind"] = json!("PodPortForwardOptions");
    }
    connected(ctx, &mut options, &ctx.query).await?;
    if incoming.upgrade.is_none() || !incoming.head.headers.contains_key(http::header::UPGRADE) {
        return Err(Status::bad_request("Upgrade request required"));
    }
    let method = incoming.head.method.clone();
    to_agent(ctx, node(&pod), method, path, incoming).await
}

/// Admission of a connection, by its options.
async fn connected(ctx: &Ctx, options: &mut Value, query: &str) -> Result<(), Status> {
    for (key, value) in query_firsts(query) {
        match key.as_str() {
            "stdin" | "stdout" | "stderr" | "tty" => options[key] = json!(query_true(&value)),
            "container" => options[key] = json!(value),
            "command" => options[key] = json!(commands(query).collect::<Vec<_>>()),
            _ => {}
        }
    }
    ctx.admit(Operation::Connect, options, None, &Value::Null, false)
        .await?;
    let passed = ctx
        .validate(Operation::Connect, options, None, &Value::Null, false)
        .await?;
    ctx.settle(
        passed,
        Operation::Connect,
        options,
        None,
        &Value::Null,
        false,
        true,
    )
    .await;
    Ok(())
}

/// The words of a command, each of which is a parameter.
fn commands(query: &str) -> impl Iterator<Item = String> + '_ {
    let given = query_pairs(query).filter(|(key, _)| key == "command");
    given.map(|(_, word)| word)
}

/// The container and the agent's query of `exec` and `attach`.
fn stream_options(pod: &Value, query: &str, sub: &str) -> Result<(String, String), Status> {
    let (mut asked, mut parts) = (String::new(), Vec::new());
    let mut any = false;
    for (key, value) in query_firsts(query) {
        let flag = |name: &str| query_true(&value).then(|| format!("{name}=1"));
        match key.as_str() {
            "container" => asked = value,
            "stdin" => parts.extend(flag("input").inspect(|_| any = true)),
            "stdout" => parts.extend(flag("output").inspect(|_| any = true)),
            "stderr" => parts.extend(flag("error").inspect(|_| any = true)),
            "tty" => parts.extend(flag("tty")),
            _ => {}
        }
    }
    if !any {
        return Err(Status::bad_request(
            "you must specify at least 1 of stdin, stdout, stderr",
        ));
    }
    let commands = commands(query).map(|word| format!("command={}", encode(&word)));
    let before = parts.len();
    parts.extend(commands);
    if sub == "exec" && parts.len() == before {
        return Err(Status::bad_request(
            "you must specify at least one command for the container",
        ));
    }
    let container = container(pod, &asked)?;
    Ok((container, parts.join("&")))
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
