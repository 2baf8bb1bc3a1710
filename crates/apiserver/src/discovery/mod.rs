//! Paths that describe the server: discovery, OpenAPI, version, health, metrics. Nothing here reads objects.

mod aggregated;
mod descriptions;
mod openapi;
mod ordered;
mod plain;

pub use descriptions::{Descriptions, meaning};
pub use plain::{Tie, priority};

use crate::aggregation::Remotes;
use crate::health;
use crate::registry::Registry;
use crate::server::ApiServer;
use crate::wire::negotiate::{self, Encoding, Offer, Wanted, negotiate, producible};
use crate::wire::{Response, body, compress};
use bytes::Bytes;
use http::header::{
    CACHE_CONTROL, CONTENT_ENCODING, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, VARY,
};
use http::{Method, StatusCode};
use kinds::status::Status;
use ordered::Ordered;
use parking_lot::Mutex;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;

/// The version of Kubernetes whose API is served.
pub const GIT_VERSION: &str = "v1.35.0";

/// A document made once and served until the set of resources changes.
#[derive(Clone)]
pub struct Document {
    media: &'static str,
    etag: String,
    /// Large ones are kept packed: nearly every client takes them so, and they are most of an idle server's memory.
    packed: bool,
    bytes: Bytes,
}

impl Document {
    fn new(media: &'static str, bytes: Vec<u8>) -> Document {
        let etag = format!("\"{}\"", hash(&bytes));
        let packed = (bytes.len() > compress::THRESHOLD).then(|| compress::pack(&bytes));
        Document {
            media,
            etag,
            packed: packed.is_some(),
            bytes: packed.unwrap_or(bytes).into(),
        }
    }

    /// The answer with the document, as the client takes it.
    fn answer(&self, headers: &HeaderMap) -> Response {
        match (self.packed, compress::accepts_gzip(headers)) {
            (false, _) => body::answer(StatusCode::OK, self.media, self.bytes.clone()),
            (true, true) => {
                let mut response = body::answer(StatusCode::OK, self.media, self.bytes.clone());
                let gzip = HeaderValue::from_static("gzip");
                response.headers_mut().insert(CONTENT_ENCODING, gzip);
                let vary = HeaderValue::from_static("Accept-Encoding");
                response.headers_mut().append(VARY, vary);
                response
            }
            (true, false) => body::answer(StatusCode::OK, self.media, compress::unpack(&self.bytes)),
        }
    }

    fn json(value: &Value) -> Document {
        Document::new(body::JSON, serde_json::to_vec(value).unwrap_or_default())
    }

    /// The document as it was before it was packed.
    fn value(&self) -> Result<Value, Status> {
        let bytes = match self.packed {
            true => compress::unpack(&self.bytes).into(),
            false => self.bytes.clone(),
        };
        serde_json::from_slice(&bytes).map_err(|e| Status::internal(e.to_string()))
    }

    /// A list of what is served, in upstream's order of fields: scripts look for parts of the text.
    fn listed(value: &Value) -> Document {
        let text = serde_json::to_vec(&Ordered(value)).unwrap_or_default();
        Document::new(body::JSON, body::ended(text))
    }
}

/// Upper-case hexadecimal SHA-256.
pub fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .fold(String::new(), |mut text, byte| {
            // Writing into a string cannot fail.
            let _ = write!(text, "{byte:02X}");
            text
        })
}

/// Documents by name, for one state of the registry.
#[derive(Default)]
pub struct Documents {
    made: Mutex<Made>,
}

#[derive(Default)]
struct Made {
    /// How often all were forgotten.
    state: u64,
    by_name: HashMap<String, Document>,
}

impl Documents {
    /// Forgets all documents: the set of resources has changed, and is in place.
    pub fn clear(&self) {
        let mut made = self.made.lock();
        made.state += 1;
        made.by_name.clear();
    }
}

/// The document of a name, made off the async threads when it is not there.
async fn document(
    server: &Arc<ApiServer>,
    name: &str,
    make: impl FnOnce(&Registry, &Remotes) -> Document + Send + 'static,
) -> Result<Document, Status> {
    let state = {
        let made = server.documents.made.lock();
        if let Some(found) = made.by_name.get(name) {
            return Ok(found.clone());
        }
        made.state
    };
    // Read after the state: what is older than it is not kept.
    let (registry, remotes) = (server.registry.load_full(), server.remotes.load_full());
    let document = tokio::task::spawn_blocking(move || make(&registry, &remotes))
        .await
        .map_err(|e| Status::internal(e.to_string()))?;
    let mut made = server.documents.made.lock();
    if made.state == state {
        made.by_name.insert(name.to_string(), document.clone());
    }
    Ok(document)
}

/// Answers a document, or 304 to a client that has it.
fn respond(document: &Document, headers: &HeaderMap) -> Response {
    let etag = document.etag.clone();
    or_unchanged(headers, &etag, || document.answer(headers))
}

/// Answers what has a tag, or 304 to a client that has it.
fn or_unchanged(headers: &HeaderMap, etag: &str, answer: impl FnOnce() -> Response) -> Response {
    let known = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|v| v.to_str().ok());
    let unchanged = known.flat_map(|v| v.split(',')).any(|tag| tag.trim() == etag);
    let mut response = if unchanged {
        let mut response = http::Response::new(body::full(Bytes::new()));
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response
    } else {
        answer()
    };
    if let Ok(etag) = HeaderValue::from_str(etag) {
        response.headers_mut().insert(ETAG, etag);
    }
    response
        .headers_mut()
        .append(VARY, HeaderValue::from_static("Accept"));
    response
}

/// Answers the one list of everything that is served.
fn aggregated_list(document: &Document, headers: &HeaderMap, wanted: Wanted) -> Result<Response, Status> {
    let plain = wanted.encoding == Encoding::Json && !wanted.pretty;
    let encoded = match plain {
        true => None,
        false => Some(encoded(&document.value()?, wanted)?),
    };
    let mut response = or_unchanged(headers, &document.etag, || match encoded {
        None => document.answer(headers),
        Some((media, bytes)) => body::answer(StatusCode::OK, media, bytes),
    });
    if response.status() == StatusCode::OK {
        let media = format!(
            "{};g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList",
            wanted.encoding.media_type()
        );
        if let Ok(media) = HeaderValue::from_str(&media) {
            response.headers_mut().insert(CONTENT_TYPE, media);
        }
    }
    let public = HeaderValue::from_static("public");
    response.headers_mut().insert(CACHE_CONTROL, public);
    Ok(response)
}

/// A list of what is served in an encoding, with upstream's order of fields where there is one.
fn encoded(value: &Value, wanted: Wanted) -> Result<(&'static str, Vec<u8>), Status> {
    if wanted.encoding == Encoding::Json {
        let ordered = Ordered(value);
        let text = match wanted.pretty {
            true => serde_json::to_vec_pretty(&ordered),
            false => serde_json::to_vec(&ordered).map(body::ended),
        };
        return Ok((body::JSON, text.unwrap_or_default()));
    }
    crate::rest::render::encode(value, wanted)
}

/// Answers a list of what is served in whatever encoding the client takes. Only JSON is kept.
fn negotiated(document: &Document, head: &http::request::Parts) -> Result<Response, Status> {
    let offer = Offer {
        shapes: false,
        tables: false,
        protobuf: crate::wire::protobuf::OFFERED,
    };
    let wanted = negotiate(&head.headers, head.uri.query().unwrap_or_default(), offer)?;
    if wanted.encoding == Encoding::Json && !wanted.pretty {
        return Ok(document.answer(&head.headers));
    }
    let (media, bytes) = encoded(&document.value()?, wanted)?;
    Ok(body::answer(StatusCode::OK, media, bytes))
}

/// The paths of `/` beside those of groups and of health.
const PATHS: [&str; 10] = [
    "/.well-known/openid-configuration",
    "/api",
    "/apis",
    "/apis/",
    "/metrics",
    "/metrics/slis",
    "/openapi/v2",
    "/openapi/v3",
    "/openid/v1/jwks",
    "/version",
];

/// All paths, as `/` lists them.
fn paths(server: &ApiServer) -> Vec<String> {
    let (registry, remotes) = (server.registry.load_full(), server.remotes.load());
    let mut all: Vec<String> = PATHS.iter().map(ToString::to_string).collect();
    for (group, versions) in plain::grouped(&registry, &remotes, plain::by_service) {
        let at = if group.is_empty() {
            "/api".to_string()
        } else {
            format!("/apis/{group}")
        };
        all.extend(versions.iter().map(|version| format!("{at}/{version}")));
        all.push(at);
    }
    for endpoint in ["healthz", "livez", "readyz"] {
        all.push(format!("/{endpoint}"));
        all.extend(
            health::names(endpoint)
                .iter()
                .map(|name| format!("/{endpoint}/{name}")),
        );
    }
    all.sort();
    all.dedup();
    all
}

/// JSON for people, as upstream's own pages have it.
fn page(value: &Value) -> Response {
    // A JSON value always encodes.
    let text = serde_json::to_vec_pretty(&Ordered(value)).unwrap_or_default();
    body::answer(StatusCode::OK, body::JSON, text)
}

/// Metrics as Prometheus reads them, in which names have no letters that older readers do not know.
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8; escaping=underscores";

/// Whether a path takes GET alone. The others do not look at the method, nor do the versions of custom resources.
fn only_read(parts: &[&str]) -> bool {
    let built_in = |group: &str| kinds::builtin().iter().any(|kind| kind.group == group);
    match parts {
        ["version"] | ["api"] | ["api", _] | ["openid", ..] | [".well-known", ..] => true,
        ["apis", group, _] => built_in(group),
        _ => false,
    }
}

/// Answers a request that is not about a resource.
pub async fn route(
    server: &Arc<ApiServer>,
    head: &http::request::Parts,
    path: &str,
) -> Result<Response, Status> {
    let headers = &head.headers;
    let trimmed = path.trim_end_matches('/');
    let parts: Vec<&str> = trimmed.trim_start_matches('/').split('/').collect();
    let not_found = || Ok(body::text(StatusCode::NOT_FOUND, "404 page not found\n"));
    if only_read(&parts) && head.method != Method::GET {
        return Err(Status::method_not_allowed());
    }
    if matches!(parts.as_slice(), ["podvisor", ..]) && !matches!(head.method, Method::GET | Method::HEAD) {
        return Ok(body::text(
            StatusCode::METHOD_NOT_ALLOWED,
            "405 method not allowed\n",
        ));
    }
    if path.ends_with('/') && matches!(parts[0], "healthz" | "livez" | "readyz" | "metrics" | "openapi") {
        return not_found();
    }
    let query = head.uri.query().unwrap_or_default();
    let aggregated = negotiate::aggregated(headers, query);
    if matches!(parts[0], "api" | "apis") && parts.len() < 4 && aggregated.is_none() {
        producible(headers, false)?;
    }
    match parts.as_slice() {
        [""] | ["index.html"] => Ok(page(&json!({"paths": paths(server)}))),
        ["healthz" | "livez" | "readyz", ..] => Ok(health::answer(server, trimmed, query).await),
        ["podvisor", "backup"] => Ok(backup(server)),
        ["version"] => {
            negotiate::producible_as(headers, body::JSON, "")?;
            Ok(page(&version()))
        }
        ["metrics"] if head.method == Method::DELETE => {
            server.metrics.reset();
            Ok(body::text(StatusCode::OK, "metrics reset\n"))
        }
        ["metrics"] => {
            let mut text = server
                .metrics
                .render(&server.caches, server.config.max_requests_per_user);
            if let Some(more) = &server.extra_metrics {
                text.push_str(&more());
            }
            Ok(body::answer(StatusCode::OK, METRICS, text))
        }
        ["metrics", "slis"] => Ok(body::answer(
            StatusCode::OK,
            METRICS,
            server.metrics.render_checks(),
        )),
        [".well-known", "openid-configuration"] | ["openid", "v1", "jwks"] => {
            crate::access::open_id(server, trimmed).map_or_else(not_found, Ok)
        }
        ["api"] | ["apis"] => {
            let document = root(server, parts[0], aggregated.is_some()).await?;
            match aggregated {
                Some(wanted) => aggregated_list(&document, headers, wanted),
                None => negotiated(&document, head),
            }
        }
        ["api", version] => versions(server, head, "", version).await,
        ["apis", group] => {
            let registry = server.registry.load_full();
            match plain::group(&registry, &server.remotes.load(), group) {
                Some(value) => negotiated(&Document::listed(&value), head),
                None => not_found(),
            }
        }
        ["apis", group, version] => versions(server, head, group, version).await,
        ["openapi", rest @ ..] => openapi::answer(server, headers, rest, query).await,
        _ => not_found(),
    }
}

/// Everything in the store, as it stands now: for whoever may read this path, which is the administrators.
fn backup(server: &ApiServer) -> Response {
    use futures::StreamExt;
    let copy = store::backup::copy(server.store.clone(), server.keys.prefix());
    let mut response = http::Response::new(body::stream(copy.map(|chunk| chunk.map_err(Into::into))));
    let media = HeaderValue::from_static("application/octet-stream");
    response.headers_mut().insert(http::header::CONTENT_TYPE, media);
    response
}

async fn root(server: &Arc<ApiServer>, which: &str, aggregated: bool) -> Result<Document, Status> {
    let (core, advertise) = (which == "api", server.config.advertise);
    match aggregated {
        true => {
            let name = format!("{which} aggregated");
            document(server, &name, move |registry, remotes| {
                aggregated::document(registry, remotes, core)
            })
            .await
        }
        false => {
            document(server, which, move |registry, remotes| {
                Document::listed(&if core {
                    plain::api_versions(advertise)
                } else {
                    plain::groups(registry, remotes)
                })
            })
            .await
        }
    }
}

async fn versions(
    server: &Arc<ApiServer>,
    head: &http::request::Parts,
    group: &str,
    version: &str,
) -> Result<Response, Status> {
    if !server.registry.load().has_version(group, version) {
        // A group that is built in knows its versions.
        return match kinds::builtin().iter().any(|kind| kind.group == group) {
            true => Err(Status::no_resource()),
            false => Ok(body::text(StatusCode::NOT_FOUND, "404 page not found\n")),
        };
    }
    let (group, version) = (group.to_string(), version.to_string());
    let name = format!("resources {group}/{version}");
    let listed = document(server, &name, move |registry, _| {
        Document::listed(&plain::resources(registry, &group, &version))
    });
    negotiated(&listed.await?, head)
}

fn version() -> Value {
    json!({
        "major": "1",
        "minor": "35",
        "emulationMajor": "1",
        "emulationMinor": "35",
        "minCompatibilityMajor": "1",
        "minCompatibilityMinor": "34",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("linux/{}", arch()),
    })
}

fn arch() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
