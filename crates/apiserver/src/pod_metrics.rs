//! `metrics.k8s.io`: usage of Pods and nodes, asked of the host agents when somebody wants to know.
//!
//! Besides upstream's get and list, Pods can be watched: each agent sends its figures once a second and they are
//! passed on as MODIFIED events, for live charts. With `history=1` the first of them has the last hour in `vm.history`.

use crate::dispatch::Incoming;
use crate::proxy::agent_json;
use crate::registry::select;
use crate::rest::{Ctx, meta, render};
use crate::view::{GroupResource, View};
use crate::wire::options::ListOptions;
use crate::wire::{Response, body};
use bytes::Bytes;
use futures::StreamExt;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HeaderValue};
use kinds::selector::LabelSelector;
use kinds::status::Status;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Figures that wait for a watcher; older ones are dropped when it is slow.
const QUEUE: usize = 64;
/// A watch of figures ends after this time when it names none.
const WATCH: Duration = Duration::from_secs(3600);

/// Answers a request on `metrics.k8s.io`.
pub async fn answer(ctx: &Ctx, _incoming: Incoming) -> Result<Response, Status> {
    let mut options = ListOptions::parse(&ctx.query)?;
    if ctx.attributes.verb != "get" {
        options.narrow_to(ctx.name())?;
    }
    let nodes = ctx.served.kind.plural == "nodes";
    match ctx.attributes.verb.as_str() {
        "get" => {
            let found = read(ctx, nodes, ctx.name())
                .await
                .into_iter()
                .find(|m| matches(ctx, m));
            let value = found.ok_or_else(|| ctx.not_found())?;
            render::value_answer(ctx, StatusCode::OK, &value, ctx.wanted(false)?)
        }
        "list" => {
            let labels = labels(ctx, &options)?;
            let items: Vec<Value> = read(ctx, nodes, "")
                .await
                .into_iter()
                .filter(|m| matches(ctx, m) && labels.as_ref().is_none_or(|l| selected(ctx, l, m)))
                .collect();
            let wanted = ctx.wanted(true)?;
            let list = match wanted.shape {
                crate::wire::negotiate::Shape::Table(version) => {
                    render::table(&ctx.served, &items, version, &options.include_object)?
                }
                _ => json!({
                    "kind": ctx.served.kind.list_kind,
                    "apiVersion": ctx.served.api_version(),
                    "metadata": {},
                    "items": items,
                }),
            };
            render::value_answer(ctx, StatusCode::OK, &list, wanted)
        }
        "watch" if !nodes => watch(ctx, &options),
        _ => Err(Status::method_not_allowed()),
    }
}

fn labels(ctx: &Ctx, options: &ListOptions) -> Result<Option<LabelSelector>, Status> {
    // The same words for a bad selector as everywhere.
    select::filter(
        ctx,
        &ListOptions {
            field_selector: String::new(),
            ..options.clone()
        },
    )?;
    if options.label_selector.is_empty() {
        return Ok(None);
    }
    LabelSelector::parse(&options.label_selector)
        .map(Some)
        .map_err(|e| Status::bad_request(e.to_string()))
}

/// Whether figures are of the namespace, and of the name if there is one in path or selector.
fn matches(ctx: &Ctx, metrics: &Value) -> bool {
    let of = |asked: &str, field: &str| asked.is_empty() || meta(metrics, field) == asked;
    of(ctx.namespace(), "namespace") && of(ctx.name(), "name")
}

/// Figures carry no labels of their own: those of the Pod or node count.
fn selected(ctx: &Ctx, selector: &LabelSelector, metrics: &Value) -> bool {
    let namespace = Some(meta(metrics, "namespace")).filter(|n| !n.is_empty());
    let resource = GroupResource::new("", ctx.served.kind.plural);
    let Some(object) = ctx.server.caches.get(&resource, namespace, meta(metrics, "name")) else {
        return false;
    };
    let labels = object.pointer("/metadata/labels").and_then(Value::as_object);
    selector.matches_with(|key| labels.and_then(|l| l.get(key)).and_then(Value::as_str))
}

fn node_names(ctx: &Ctx) -> Vec<String> {
    let nodes = ctx.server.caches.list(&GroupResource::new("", "nodes"), None);
    nodes.iter().map(|n| meta(n, "name").to_string()).collect()
}

/// The figures of all hosts; a host that does not answer has none.
async fn read(ctx: &Ctx, nodes: bool, name: &str) -> Vec<Value> {
    let wanted = node_names(ctx)
        .into_iter()
        .filter(|n| !nodes || name.is_empty() || n == name);
    let asked = wanted.map(|node| async move {
        let path = if nodes { "/stats/summary" } else { "/podmetrics" };
        match agent_json(&ctx.server, &node, path).await {
            Ok(value) if nodes => vec![node_metrics(ctx, &node, &value)],
            Ok(value) => items(value),
            Err(error) => {
                tracing::debug!(node, %error, "a host gave no figures");
                Vec::new()
            }
        }
    });
    futures::stream::iter(asked)
        .buffered(16)
        .collect::<Vec<_>>()
        .await
        .into_iter()
        .flatten()
        .collect()
}

/// The figures of an answer: a bare array, or a list.
fn items(value: Value) -> Vec<Value> {
    match value {
        Value::Array(list) => list,
        Value::Object(mut fields) => match fields.remove("items") {
            Some(Value::Array(list)) => list,
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn node_metrics(ctx: &Ctx, node: &str, summary: &Value) -> Value {
    let number = |p: &str| summary.pointer(p).and_then(Value::as_u64).unwrap_or(0);
    let object = ctx
        .server
        .caches
        .get(&GroupResource::new("", "nodes"), None, node);
    let labels = object
        .as_ref()
        .and_then(|n| n.pointer("/metadata/labels"))
        .cloned()
        .unwrap_or_else(|| json!({}));
    let at = summary
        .pointer("/node/cpu/time")
        .cloned()
        .unwrap_or_else(|| json!(crate::rest::now()));
    json!({
        "kind": "NodeMetrics",
        "apiVersion": "metrics.k8s.io/v1beta1",
        "metadata": {"name": node, "labels": labels, "creationTimestamp": crate::rest::now()},
        "timestamp": at,
        "window": "10s",
        "usage": {
            "cpu": format!("{}n", number("/node/cpu/usageNanoCores")),
            "memory": format!("{}Ki", number("/node/memory/workingSetBytes") / 1024),
        },
    })
}

/// Passes the agents' streams on, as long as somebody reads.
fn watch(ctx: &Ctx, options: &ListOptions) -> Result<Response, Status> {
    let selector = labels(ctx, options)?.map(Arc::new);
    let ticket = ctx.server.limits.watch(&ctx.user.name)?;
    let (queue, figures) = mpsc::channel::<Bytes>(QUEUE);
    for node in node_names(ctx) {
        let ctx = Ctx {
            server: ctx.server.clone(),
            user: ctx.user.clone(),
            attributes: ctx.attributes.clone(),
            query: ctx.query.clone(),
            headers: ctx.headers.clone(),
            served: ctx.served.clone(),
            notes: ctx.notes.clone(),
            deadline: ctx.deadline,
        };
        let history = ctx.query.split('&').any(|pair| pair == "history=1");
        let (queue, selector) = (queue.clone(), selector.clone());
        tokio::spawn(async move {
            let follow = follow(&ctx, &node, &queue, selector.as_deref(), history);
            tokio::select! {
                () = ctx.server.stop.cancelled() => {}
                () = queue.closed() => {}
                ended = follow => if let Err(error) = ended {
                    tracing::debug!(node, %error, "a host's figures ended");
                },
            }
        });
    }
    drop(queue);
    let lasts = options
        .timeout_seconds
        .filter(|s| *s > 0)
        .map_or(WATCH, Duration::from_secs);
    let end = tokio::time::Instant::now() + lasts;
    let chunks = futures::stream::unfold((figures, ticket), move |(mut figures, ticket)| async move {
        let next = tokio::time::timeout_at(end, figures.recv()).await.ok()??;
        Some((Ok(next), (figures, ticket)))
    });
    let mut response = http::Response::new(body::stream(chunks));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(body::JSON));
    Ok(response)
}

async fn follow(
    ctx: &Ctx,
    node: &str,
    queue: &mpsc::Sender<Bytes>,
    selector: Option<&LabelSelector>,
    history: bool,
) -> Result<(), Status> {
    let path = match history {
        true => "/podmetrics?watch=1&history=1",
        false => "/podmetrics?watch=1",
    };
    let mut lines = crate::proxy::agent_lines(&ctx.server, node, path).await?;
    while let Some(line) = lines.next_line().await? {
        let value: Value = serde_json::from_slice(&line).map_err(|e| Status::internal(e.to_string()))?;
        for item in items(value) {
            if !matches(ctx, &item) || selector.is_some_and(|s| !selected(ctx, s, &item)) {
                continue;
            }
            let past = item["vm"]["history"].is_object();
            let event = json!({"type": "MODIFIED", "object": item});
            let line = Bytes::from(format!("{event}\n"));
            // A slow reader misses figures; the next ones come in a second. The past comes once.
            if past {
                let _ = queue.send(line).await;
            } else {
                let _ = queue.try_send(line);
            }
        }
    }
    Ok(())
}
