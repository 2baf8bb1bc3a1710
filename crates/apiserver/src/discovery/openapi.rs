//! `/openapi/v2` (JSON and protobuf) and `/openapi/v3` (an index, one document per group and version).

use super::descriptions::Descriptions;
use super::{Document, document, respond};
use crate::aggregation::{self, Remotes};
use crate::registry::Registry;
use crate::server::ApiServer;
use crate::wire::{Response, body};
use http::StatusCode;
use http::header::{ACCEPT, HeaderMap};
use kinds::status::Status;
use std::sync::Arc;

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

/// Answers a path below `/openapi`.
pub async fn answer(server: &Arc<ApiServer>, headers: &HeaderMap, path: &[&str]) -> Result<Response, Status> {
    let found = match path {
        ["v2"] if wants_protobuf(headers) => {
            let make = |registry: &Registry, remotes: &Remotes| {
                Document::new(
                    V2_PROTOBUF,
                    machinery::openapi::v2_protobuf(&v2(registry, remotes)),
                )
            };
            document(server, "openapi v2 protobuf", make).await?
        }
        ["v2"] => {
            document(server, "openapi v2", |registry, remotes| {
                Document::json(&v2(registry, remotes))
            })
            .await?
        }
        ["v3"] => {
            document(server, "openapi v3", |registry, remotes| {
                Document::json(&index(registry, remotes))
            })
            .await?
        }
        ["v3", rest @ ..] => {
            let Some((group, version)) = group_version(rest) else {
                let key = rest.join("/");
                if !machinery::openapi::is_root(&server.registry.load().kinds(), &key) {
                    return Ok(body::text(StatusCode::NOT_FOUND, "404 page not found\n"));
                }
                let name = format!("openapi v3 {key}");
                let made = document(server, &name, move |registry, _| {
                    Document::json(&root(registry, &key))
                });
                return Ok(respond(&made.await?, headers));
            };
            if !server.registry.load().has_version(group, version) {
                let remotes = server.remotes.load_full();
                if let Some(answer) = aggregation::v3(server, &remotes, group, version).await {
                    return Ok(answer);
                }
                return Ok(body::text(StatusCode::NOT_FOUND, "404 page not found\n"));
            }
            let group_version = if group.is_empty() {
                version.to_string()
            } else {
                format!("{group}/{version}")
            };
            let name = format!("openapi v3 {group_version}");
            document(server, &name, move |registry, _| {
                Document::json(&v3(registry, &group_version))
            })
            .await?
        }
        _ => return Ok(body::text(StatusCode::NOT_FOUND, "404 page not found\n")),
    };
    Ok(respond(&found, headers))
}

fn wants_protobuf(headers: &HeaderMap) -> bool {
    let accept = headers.get_all(ACCEPT).iter().filter_map(|v| v.to_str().ok());
    let first = accept
        .flat_map(|v| v.split(','))
        .map(str::trim)
        .next()
        .unwrap_or("")
        .to_string();
    first.starts_with("application/com.github.proto-openapi.spec.v2") && first.contains("protobuf")
}

/// `api/v1` and `apis/GROUP/VERSION`.
fn group_version<'a>(path: &[&'a str]) -> Option<(&'a str, &'a str)> {
    match path {
        ["api", version] => Some(("", version)),
        ["apis", group, version] => Some((group, version)),
        _ => None,
    }
}

fn v2(registry: &Registry, remotes: &Remotes) -> serde_json::Value {
    let mut document = machinery::openapi::v2(&registry.kinds());
    let descriptions = Descriptions::read();
    descriptions.add_to_v2(&mut document);
    crate::crd::openapi::add_to_v2(registry, &mut document, &descriptions);
    aggregation::add_to_v2(remotes, &mut document);
    document
}

fn index(registry: &Registry, remotes: &Remotes) -> serde_json::Value {
    let mut document = machinery::openapi::v3_index(&registry.kinds());
    crate::crd::openapi::add_to_index(registry, &mut document);
    // Clients keep documents by their hash for ever: those with other descriptions need another.
    let digest = super::descriptions::digest();
    for (_, entry) in document["paths"].as_object_mut().into_iter().flatten() {
        if let Some((path, hash)) = entry["serverRelativeURL"]
            .as_str()
            .and_then(|u| u.split_once("?hash="))
        {
            let hash = super::hash(format!("{hash}{digest}").as_bytes());
            entry["serverRelativeURL"] = format!("{path}?hash={}", &hash[..32]).into();
        }
    }
    aggregation::add_to_index(remotes, &mut document);
    document
}

fn root(registry: &Registry, key: &str) -> serde_json::Value {
    let mut document = machinery::openapi::v3_root(&registry.kinds(), key);
    Descriptions::read().add_to_v3(&mut document);
    document
}

fn v3(registry: &Registry, group_version: &str) -> serde_json::Value {
    let mut document = machinery::openapi::v3_group_version(&registry.kinds(), group_version);
    let descriptions = Descriptions::read();
    descriptions.add_to_v3(&mut document);
    crate::crd::openapi::add_to_v3(registry, group_version, &mut document, Some(&descriptions));
    document
}
