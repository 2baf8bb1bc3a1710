//! `/openapi/v2` and `/openapi/v3` (an index, one document per group and version); the documents as JSON and protobuf.
//!
//! The index names each document with a hash of what it says. Whoever asks with the hash may keep the document for ever; with
//! another one they are led to the present one.

use super::descriptions::Descriptions;
use super::{Document, document, or_unchanged, respond};
use crate::aggregation::{self, Remotes};
use crate::registry::Registry;
use crate::server::ApiServer;
use crate::wire::{Response, body, negotiate};
use http::StatusCode;
use http::header::{CACHE_CONTROL, EXPIRES, HeaderMap, HeaderValue, LOCATION, VARY};
use kinds::status::Status;
use std::sync::Arc;

const V2_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
const V2_PROTOBUF_ONCE: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
const V3_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
const V3_PROTOBUF_ONCE: &str = "application/com.github.proto-openapi.spec.v3@v1.0+protobuf";

/// Answers a path below `/openapi`.
pub async fn answer(
    server: &Arc<ApiServer>,
    headers: &HeaderMap,
    path: &[&str],
    query: &str,
) -> Result<Response, Status> {
    let offered: &[&str] = match path {
        ["v2"] => &[body::JSON, V2_PROTOBUF_ONCE, V2_PROTOBUF],
        ["v3", _, ..] => &[body::JSON, V3_PROTOBUF, V3_PROTOBUF_ONCE],
        // Whoever asks for the index gets it as it is.
        _ => &[],
    };
    let picked = match negotiate::pick(headers, offered) {
        Some(picked) => picked,
        None if offered.is_empty() => 0,
        None => return Ok(not_acceptable()),
    };
    let found = match path {
        ["v2"] if picked > 0 => {
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
                // Upstream leaves it to Go to guess what it is.
                let text = index(registry, remotes).to_string();
                Document::new("text/plain; charset=utf-8", text.into_bytes())
            })
            .await?
        }
        ["v3", rest @ ..] => {
            let Some((group, version)) = group_version(rest) else {
                let key = rest.join("/");
                if !machinery::openapi::is_root(&server.registry.load().kinds(), &key) {
                    return Ok(bare(StatusCode::NOT_FOUND));
                }
                let (name, form) = of_form(picked, &key);
                let place = key.clone();
                let made = document(server, &name, move |registry, _| form(&root(registry, &key)));
                return named(server, &made.await?, &place, headers, query).await;
            };
            if !server.registry.load().has_version(group, version) {
                let remotes = server.remotes.load_full();
                if let Some(answer) = aggregation::v3(server, &remotes, group, version).await {
                    return Ok(answer);
                }
                return Ok(bare(StatusCode::NOT_FOUND));
            }
            let group_version = if group.is_empty() {
                version.to_string()
            } else {
                format!("{group}/{version}")
            };
            let (name, form) = of_form(picked, &group_version);
            let made = document(server, &name, move |registry, _| {
                form(&v3(registry, &group_version))
            });
            return named(server, &made.await?, &rest.join("/"), headers, query).await;
        }
        _ => return Ok(body::text(StatusCode::NOT_FOUND, "404 page not found\n")),
    };
    Ok(respond(&found, headers))
}

/// Under which name a document of v3 is kept in the form that was picked of those offered, and what makes that form.
fn of_form(picked: usize, place: &str) -> (String, fn(&serde_json::Value) -> Document) {
    match picked {
        0 => (format!("openapi v3 {place}"), Document::json),
        _ => (format!("openapi v3 protobuf {place}"), |document| {
            Document::new(V3_PROTOBUF, machinery::openapi::v3_protobuf(document))
        }),
    }
}

/// An answer that has nothing but its code.
fn bare(code: StatusCode) -> Response {
    let mut response = http::Response::new(body::full(bytes::Bytes::new()));
    *response.status_mut() = code;
    response
}

/// The answer to who takes nothing that there is.
fn not_acceptable() -> Response {
    let mut response = bare(StatusCode::NOT_ACCEPTABLE);
    let accept = HeaderValue::from_static("Accept");
    response.headers_mut().insert(VARY, accept);
    response
}

/// Answers the document of a place in the index, under the hash that it has there.
async fn named(
    server: &Arc<ApiServer>,
    found: &Document,
    place: &str,
    headers: &HeaderMap,
    query: &str,
) -> Result<Response, Status> {
    let index = document(server, "openapi v3", |registry, remotes| {
        Document::json(&index(registry, remotes))
    });
    let index = index.await?.value()?;
    let address = index["paths"][place]["serverRelativeURL"].as_str().unwrap_or("");
    let Some((_, hash)) = address.split_once("?hash=") else {
        return Ok(respond(found, headers));
    };
    let asked = crate::request::parameter(query, "hash").filter(|asked| !asked.is_empty());
    if asked.as_ref().is_some_and(|asked| asked != hash) {
        let mut response = http::Response::new(body::full(bytes::Bytes::new()));
        *response.status_mut() = StatusCode::MOVED_PERMANENTLY;
        if let Ok(address) = HeaderValue::from_str(address) {
            response.headers_mut().insert(LOCATION, address);
        }
        return Ok(response);
    }
    let mut response = or_unchanged(headers, &format!("\"{hash}\""), || found.answer(headers));
    if asked.is_some() {
        let headers = response.headers_mut();
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("public, immutable"));
        let in_a_year = jiff::Timestamp::now() + jiff::SignedDuration::from_hours(365 * 24);
        let text = in_a_year.strftime("%a, %d %b %Y %H:%M:%S UTC").to_string();
        if let Ok(text) = HeaderValue::from_str(&text) {
            headers.insert(EXPIRES, text);
        }
    }
    Ok(response)
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
