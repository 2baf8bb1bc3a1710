//! What aggregated servers say of their APIs, in our OpenAPI documents: merged into v2, and found through the index of v3.

use super::{Remote, Remotes};
use crate::outbound::Target;
use crate::server::ApiServer;
use crate::wire::{Response, body};
use http::StatusCode;
use serde_json::{Map, Value, json};
use std::time::Duration;

/// Time for a document to come; those of large APIs take the other server a while.
const LIMIT: Duration = Duration::from_secs(15);
const REFERENCE: &str = "#/definitions/";

/// The OpenAPI of one version that another server answers.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Spec {
    /// The part of its v2 document that is about this version; `null` when it has none.
    v2: Value,
    /// Where its v3 document is on the other server, with the hash of its content.
    v3: Option<String>,
}

impl Spec {
    /// Whether the other server has told anything.
    pub fn is_empty(&self) -> bool {
        self.v2.is_null() && self.v3.is_none()
    }
}

/// Asks another server for its documents. What it does not have is left out.
pub async fn fetch(server: &ApiServer, target: &Target, (group, version): &(String, String)) -> Spec {
    let ask =
        async |path: &str| match tokio::time::timeout(LIMIT, server.remote_json(target, path, path)).await {
            Ok(Ok(document)) => document,
            Ok(Err(error)) => {
                tracing::debug!(group, version, path, error, "no OpenAPI of an aggregated server");
                Value::Null
            }
            Err(_) => Value::Null,
        };
    let index = ask("/openapi/v3").await;
    let address = &index["paths"][format!("apis/{group}/{version}")]["serverRelativeURL"];
    Spec {
        v2: cut(ask("/openapi/v2").await, group, version),
        v3: address.as_str().map(str::to_owned),
    }
}

/// The paths of a version, and the definitions that they need.
fn cut(document: Value, group: &str, version: &str) -> Value {
    let own = format!("/apis/{group}/{version}");
    let group_path = format!("/apis/{group}/");
    let paths = document["paths"].as_object().into_iter().flatten();
    let paths: Map<String, Value> = paths
        .filter(|(path, _)| {
            let below = path
                .strip_prefix(&own)
                .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'));
            below || **path == group_path
        })
        .map(|(path, item)| (path.clone(), item.clone()))
        .collect();
    if paths.is_empty() {
        return Value::Null;
    }
    let mut definitions = Map::new();
    let mut wanted = Vec::new();
    let paths = Value::Object(paths);
    references(&paths, &mut wanted);
    // Kinds are there even when no path names them.
    let of_version = |d: &Value| {
        let kinds = d["x-kubernetes-group-version-kind"].as_array();
        let mut kinds = kinds.into_iter().flatten();
        kinds.any(|k| k["group"] == group && k["version"] == version)
    };
    let all = document["definitions"].as_object().into_iter().flatten();
    wanted.extend(all.filter(|(_, d)| of_version(d)).map(|(name, _)| name.clone()));
    while let Some(name) = wanted.pop() {
        if definitions.contains_key(&name) {
            continue;
        }
        let definition = document["definitions"][&name].clone();
        references(&definition, &mut wanted);
        definitions.insert(name, definition);
    }
    json!({"paths": paths, "definitions": definitions})
}

/// The names of the definitions that a part of a document refers to.
fn references(part: &Value, found: &mut Vec<String>) {
    match part {
        Value::Object(fields) => {
            if let Some(name) = fields.get("$ref").and_then(Value::as_str) {
                found.extend(name.strip_prefix(REFERENCE).map(str::to_owned));
            }
            fields.values().for_each(|v| references(v, found));
        }
        Value::Array(items) => items.iter().for_each(|v| references(v, found)),
        _ => {}
    }
}

fn rename(part: &mut Value, renamed: &Map<String, Value>) {
    match part {
        Value::Object(fields) => {
            let new = fields.get("$ref").and_then(Value::as_str).and_then(|name| {
                let name = renamed.get(name.strip_prefix(REFERENCE)?)?.as_str()?;
                Some(format!("{REFERENCE}{name}"))
            });
            if let Some(new) = new {
                fields.insert("$ref".into(), new.into());
            }
            fields.values_mut().for_each(|v| rename(v, renamed));
        }
        Value::Array(items) => items.iter_mut().for_each(|v| rename(v, renamed)),
        _ => {}
    }
}

/// Adds the versions of others to the v2 document. A definition that differs from ours of the same name gets another name
/// (`NAME_v2`), as upstream's aggregator gives it; descriptions make no difference.
pub fn add_to_v2(remotes: &Remotes, document: &mut Value) {
    for remote in remotes.values() {
        let mut spec = remote.spec.v2.clone();
        let (Some(_), Some(theirs)) = (spec["paths"].as_object(), spec["definitions"].as_object()) else {
            continue;
        };
        let mut renamed = Map::new();
        for (name, definition) in theirs {
            let differs = |ours: &Value| !alike(ours, definition);
            if document["definitions"].get(name).is_some_and(differs) {
                let free = (2..).map(|n| format!("{name}_v{n}"));
                let mut free = free.filter(|n| {
                    document["definitions"]
                        .get(n)
                        .is_none_or(|d| alike(d, definition))
                });
                renamed.insert(name.clone(), free.next().unwrap_or_default().into());
            }
        }
        rename(&mut spec, &renamed);
        for (name, definition) in spec["definitions"].as_object().into_iter().flatten() {
            let name = renamed.get(name).and_then(Value::as_str).unwrap_or(name);
            if document["definitions"].get(name).is_none() {
                document["definitions"][name] = definition.clone();
            }
        }
        for (path, item) in spec["paths"].as_object().into_iter().flatten() {
            if document["paths"].get(path).is_none() {
                document["paths"][path] = item.clone();
            }
        }
    }
}

/// Whether two definitions say the same, but for descriptions and what only tells where a type is used.
fn alike(a: &Value, b: &Value) -> bool {
    let beside = |name: &str| matches!(name, "description" | "x-kubernetes-group-version-kind");
    match (a, b) {
        (Value::Object(x), Value::Object(y)) => {
            let all = |x: &Map<String, Value>, y: &Map<String, Value>| {
                x.iter()
                    .filter(|(k, _)| !beside(k))
                    .all(|(k, v)| y.get(k).is_some_and(|w| alike(v, w)))
            };
            all(x, y) && y.keys().filter(|k| !beside(k)).all(|k| x.contains_key(k))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(a, b)| alike(a, b)),
        _ => a == b,
    }
}

/// Adds the addresses of the others' documents to the index of v3.
pub fn add_to_index(remotes: &Remotes, document: &mut Value) {
    for ((group, version), remote) in remotes {
        let Some(address) = &remote.spec.v3 else { continue };
        let path = format!("apis/{group}/{version}");
        let query = address
            .split_once('?')
            .map_or(String::new(), |(_, query)| format!("?{query}"));
        document["paths"][&path] = json!({"serverRelativeURL": format!("/openapi/v3/{path}{query}")});
    }
}

/// Answers the v3 document of a version of others; none when there is no such version.
pub async fn v3(server: &ApiServer, remotes: &Remotes, group: &str, version: &str) -> Option<Response> {
    let remote: &Remote = remotes.get(&(group.to_owned(), version.to_owned()))?;
    let address = remote.spec.v3.as_ref()?;
    let unavailable = || body::text(StatusCode::SERVICE_UNAVAILABLE, "service unavailable\n");
    if !remote.available {
        return Some(unavailable());
    }
    Some(match server.remote_json(&remote.target, address, address).await {
        Ok(document) => body::json(StatusCode::OK, &document),
        Err(error) => {
            tracing::debug!(group, version, error, "no OpenAPI of an aggregated server");
            unavailable()
        }
    })
}
