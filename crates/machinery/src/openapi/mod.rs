//! OpenAPI documents of what is served: v2 in one piece (JSON and protobuf), v3 one per group and version.
//!
//! Definitions are the schema table's raw material, cut down to what the served kinds reach; paths are made from
//! the table of kinds, so that only what is served appears. kubectl reads from them which patch types and query
//! parameters a kind has, and how its lists merge. Everything is built on demand: keep the result, not the parts.

mod definitions;
mod enums;
mod gnostic;
mod operations;
mod render;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hasher};

use kinds::KindInfo;
use serde_json::{Map, Value, json};

use definitions::{Definitions, Dialect};
use operations::{PathItem, paths_of};

pub use gnostic::v2_protobuf;

/// The Kubernetes level that documents name.
const VERSION: &str = "v1.35.0";

/// `/openapi/v2` as JSON: all kinds in one document.
pub fn v2(kinds: &[&'static KindInfo]) -> Value {
    let paths = all_paths(kinds);
    let mut definitions = Definitions::read();
    definitions.add_lists(kinds);
    let roots = roots(kinds, &paths);
    json!({
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": render::v2_paths(&paths),
        "definitions": definitions.closure(roots, Dialect::V2),
        "securityDefinitions": {"BearerToken": {
            "description": "Bearer Token authentication", "type": "apiKey", "name": "authorization", "in": "header"}},
        "security": [{"BearerToken": []}],
    })
}

/// `/openapi/v3`: where the documents are. The hash in each address changes with the document's content, so clients
/// may keep what they fetched for ever.
pub fn v3_index(kinds: &[&'static KindInfo]) -> Value {
    let mut versions: Vec<String> = kinds.iter().map(|kind| kind.api_version()).collect();
    versions.sort();
    versions.dedup();
    let mut paths = Map::new();
    let definitions = Definitions::read();
    for version in versions {
        let key = if version.contains('/') {
            format!("apis/{version}")
        } else {
            format!("api/{version}")
        };
        let hash = content_hash(
            v3_document(definitions.clone(), kinds, &version)
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
    v3_document(Definitions::read(), kinds, group_version)
}

fn v3_document(mut definitions: Definitions, kinds: &[&'static KindInfo], group_version: &str) -> Value {
    let own: Vec<&'static KindInfo> = kinds
        .iter()
        .copied()
        .filter(|kind| kind.api_version() == group_version)
        .collect();
    let paths = all_paths(&own);
    definitions.add_lists(&own);
    let roots = roots(&own, &paths);
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": VERSION},
        "paths": render::v3_paths(&paths),
        "components": {
            "schemas": definitions.closure(roots, Dialect::V3),
            "securitySchemes": {"BearerToken": {
                "type": "apiKey", "description": "Bearer Token authentication", "name": "authorization", "in": "header"}},
        },
    })
}

fn all_paths(kinds: &[&'static KindInfo]) -> BTreeMap<String, PathItem> {
    kinds.iter().flat_map(|kind| paths_of(kind)).collect()
}

/// Definitions that must be there: the kinds themselves and whatever an operation sends or answers.
fn roots(kinds: &[&'static KindInfo], paths: &BTreeMap<String, PathItem>) -> Vec<String> {
    let mut roots: Vec<String> = kinds.iter().map(|kind| kind.schema.to_owned()).collect();
    // The schemas of custom kinds come from elsewhere; all of them refer to this.
    if kinds.iter().any(|kind| operations::is_custom(kind)) {
        roots.push("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta".to_owned());
    }
    roots.push("io.k8s.apimachinery.pkg.apis.meta.v1.WatchEvent".to_owned());
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
