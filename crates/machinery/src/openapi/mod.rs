//! OpenAPI documents of what is served: v2 in one piece (JSON and protobuf), v3 one per group and version.
//!
//! Definitions are the schema table's raw material, cut down to what the served kinds reach; paths are made from
//! the table of kinds, so that only what is served appears. kubectl reads from them which patch types and query
//! parameters a kind has, and how its lists merge. Everything is built on demand: keep the result, not the parts.

mod defaults;
mod definitions;
mod enums;
mod gnostic;
mod operations;
mod parameters;
mod render;
mod roots;
mod texts;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use kinds::KindInfo;
use serde_json::{Map, Value, json};

use definitions::{Definitions, Dialect};
use operations::{PathItem, paths_of};
use roots::Root;

pub use gnostic::{v2_protobuf, v3_protobuf};

/// The Kubernetes level that documents name, as upstream gives it there: without a patch.
const VERSION: &str = "1.35";

/// `/openapi/v2` as JSON: all kinds in one document.
pub fn v2(kinds: &[&'static KindInfo]) -> Value {
    let paths = all_paths(kinds);
    let more = roots::all(kinds);
    let mut definitions = Definitions::read();
    definitions.add_lists(kinds);
    let mut written = render::v2_paths(&paths);
    for root in &more {
        written[&root.path] = root.v2();
    }
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": written,
        "parameters": render::v2_parameters(&paths),
        "definitions": definitions.closure(needed(kinds, &paths, &more), Dialect::V2),
        "securityDefinitions": {"BearerToken": {
            "description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"}},
        "security": [{"BearerToken": []}],
    })
}

/// `/openapi/v3`: where the documents are. The hash in each address changes with the document's content, so clients
/// may keep what they fetched for ever.
pub fn v3_index(kinds: &[&'static KindInfo]) -> Value {
    let mut keys: Vec<String> = kinds.iter().map(|kind| key(&kind.api_version())).collect();
    keys.extend(roots::all(kinds).into_iter().map(|root| root.document));
    keys.sort();
    keys.dedup();
    let mut paths = Map::new();
    let definitions = Definitions::read();
    for key in keys {
        let hash = content_hash(
            v3_document(definitions.clone(), kinds, &key)
                .to_string()
                .as_bytes(),
        );
        let address = format!("/openapi/v3/{key}?hash={hash}");
        paths.insert(key, json!({"serverRelativeURL": address}));
    }
    json!({"paths": paths})
}

/// `/openapi/v3/api/v1` and its like; `group_version` is `v1` or `apps/v1`.
pub fn v3_group_version(kinds: &[&'static KindInfo], group_version: &str) -> Value {
    v3_document(Definitions::read(), kinds, &key(group_version))
}

/// Whether the index has a document of this name that is about no kind, such as `apis/apps` and `version`.
pub fn is_root(kinds: &[&'static KindInfo], name: &str) -> bool {
    roots::all(kinds).iter().any(|root| root.document == name)
}

/// That document.
pub fn v3_root(kinds: &[&'static KindInfo], name: &str) -> Value {
    v3_document(Definitions::read(), kinds, name)
}

/// The name in the index of the document of a group and version.
fn key(group_version: &str) -> String {
    match group_version.contains('/') {
        true => format!("apis/{group_version}"),
        false => format!("api/{group_version}"),
    }
}

fn v3_document(mut definitions: Definitions, kinds: &[&'static KindInfo], name: &str) -> Value {
    let own: Vec<&'static KindInfo> = kinds
        .iter()
        .copied()
        .filter(|kind| key(&kind.api_version()) == name)
        .collect();
    let paths = all_paths(&own);
    let mut more = roots::all(kinds);
    more.retain(|root| root.document == name);
    definitions.add_lists(&own);
    let mut written = render::v3_paths(&paths);
    for root in &more {
        written[&root.path] = root.v3();
    }
    let mut schemas = definitions.closure(needed(&own, &paths, &more), Dialect::V3);
    schemas.values_mut().for_each(|schema| keep_own(schema, name));
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": written,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"BearerToken": {
                "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"}},
        },
    })
}

/// Of what belongs to all groups, such as DeleteOptions, a document tells that it belongs to its own.
fn keep_own(schema: &mut Value, document: &str) {
    let Some(kinds) = schema
        .get_mut("x-kubernetes-group-version-kind")
        .and_then(Value::as_array_mut)
        .filter(|kinds| kinds.len() > 1)
    else {
        return;
    };
    kinds.retain(|kind| match (kind["group"].as_str(), kind["version"].as_str()) {
        (Some(""), _) => true,
        (Some(group), Some(version)) => key(&format!("{group}/{version}")) == document,
        _ => false,
    });
}

fn all_paths(kinds: &[&'static KindInfo]) -> BTreeMap<String, PathItem> {
    kinds.iter().flat_map(|kind| paths_of(kind)).collect()
}

/// Definitions that must be there: the kinds themselves and whatever an operation sends or answers.
fn needed(kinds: &[&'static KindInfo], paths: &BTreeMap<String, PathItem>, more: &[Root]) -> Vec<String> {
    let mut roots: Vec<String> = kinds.iter().map(|kind| kind.schema.to_owned()).collect();
    // The schemas of custom kinds come from elsewhere; all of them refer to this.
    if kinds.iter().any(|kind| operations::is_custom(kind)) {
        roots.push("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta".to_owned());
    }
    if kinds.iter().any(|kind| kind.has_verb("watch")) {
        roots.push("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent".to_owned());
    }
    roots.extend(more.iter().filter_map(|root| root.definition.clone()));
    for operation in paths.values().flat_map(|item| &item.operations) {
        roots.extend(operation.definitions());
    }
    roots
}

/// 128 bits of hash in the form upstream uses (upper-case hexadecimal). It guards nothing; it only tells contents apart.
fn content_hash(bytes: &[u8]) -> String {
    let mut text = String::new();
    for salt in [1_u8, 2] {
        let mut hasher = DefaultHasher::new();
        hasher.write_u8(salt);
        hasher.write(bytes);
        text.push_str(&format!("{:016X}", hasher.finish()));
    }
    text
}
