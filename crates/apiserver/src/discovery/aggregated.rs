//! Aggregated discovery: everything in one document, which is what current clients ask for.

use super::Document;
use super::plain::grouped;
use crate::aggregation::{self, Remotes};
use crate::registry::{Registry, Served};
use serde_json::{Value, json};

/// The document of `/api` (`core`) or `/apis`.
pub fn document(registry: &Registry, remotes: &Remotes, core: bool) -> Document {
    let mut items = Vec::new();
    for (group, versions) in grouped(registry, remotes, |group, _| group.to_owned()) {
        if group.is_empty() != core {
            continue;
        }
        let versions: Vec<Value> = versions
            .iter()
            .map(|v| {
                aggregation::v2_item(remotes, &group, v).unwrap_or_else(|| version_value(registry, &group, v))
            })
            .collect();
        let mut metadata = json!({});
        if !group.is_empty() {
            metadata["name"] = json!(group);
        }
        items.push(json!({"metadata": metadata, "versions": versions}));
    }
    let value = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    });
    Document::listed(&value)
}

fn version_value(registry: &Registry, group: &str, version: &str) -> Value {
    let mut resources: Vec<Value> = registry.told(group, version).map(|s| resource(s)).collect();
    resources.sort_by(|a, b| a["resource"].as_str().cmp(&b["resource"].as_str()));
    json!({"version": version, "resources": resources, "freshness": "Current"})
}

/// Built-in kinds leave group and version of their answers empty where those are of the document's own group.
fn response_kind(served: &Served, group: &str, version: &str, kind: &str) -> Value {
    let own = (group, version) == (served.kind.group, served.kind.version);
    let (group, version) = match own && served.custom.is_none() {
        true => ("", ""),
        false => (group, version),
    };
    json!({"group": group, "version": version, "kind": kind})
}

fn resource(served: &Served) -> Value {
    let kind = served.kind;
    let mut value = json!({
        "resource": kind.plural,
        "responseKind": response_kind(served, kind.group, kind.version, kind.kind),
        "scope": if kind.namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        value["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        value["categories"] = json!(kind.categories);
    }
    if !kind.subresources.is_empty() {
        let subs = kind.subresources.iter().map(|sub| {
            let (group, version) = if sub.version.is_empty() {
                (kind.group, kind.version)
            } else {
                (sub.group, sub.version)
            };
            json!({
                "subresource": sub.name,
                "responseKind": response_kind(served, group, version, if sub.kind.is_empty() { kind.kind } else { sub.kind }),
                "verbs": sub.verbs,
            })
        });
        let mut subs: Vec<Value> = subs.collect();
        subs.sort_by(|a, b| a["subresource"].as_str().cmp(&b["subresource"].as_str()));
        if served.custom.is_some() {
            subs.reverse();
        }
        value["subresources"] = json!(subs);
    }
    value
}
