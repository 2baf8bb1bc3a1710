//! Aggregated versions in the discovery documents.

use super::Remotes;
use crate::discovery::Tie;
use serde_json::{Value, json};
use std::cmp::Reverse;
use std::collections::HashSet;

/// Adds the groups and versions of others to lists of groups (name, versions), each by its priority: that of a group is the
/// highest that any of its versions has. Nothing comes before the core group and the one that others register with.
pub fn add_groups(remotes: &Remotes, groups: &mut Vec<(String, Vec<String>)>, tie: Tie) {
    let ours: HashSet<String> = groups.iter().map(|(group, _)| group.clone()).collect();
    for (group, version) in remotes.keys() {
        match groups.iter_mut().find(|(g, _)| g == group) {
            Some((_, versions)) if versions.contains(version) => {}
            Some((_, versions)) => versions.push(version.clone()),
            None => groups.push((group.clone(), vec![version.clone()])),
        }
    }
    groups.sort_by_cached_key(|(group, versions)| {
        let others = remotes
            .iter()
            .filter(|((g, _), _)| g == group)
            .map(|(_, r)| r.priority.0);
        let own = ours.contains(group).then(|| super::priority(group));
        let first = match group.as_str() {
            "" => 2,
            "apiregistration.k8s.io" => 1,
            _ => 0,
        };
        (Reverse((first, others.chain(own).max())), tie(group, versions))
    });
    for (group, versions) in groups.iter_mut() {
        let of = |v: &String| {
            remotes
                .get(&(group.clone(), v.clone()))
                .map_or(0, |r| r.priority.1)
        };
        if versions.iter().any(|v| of(v) > 0) {
            versions.sort_by_key(|v| Reverse((of(v), crate::discovery::priority(v))));
        }
    }
}

/// `/apis/GROUP` of a group that others serve.
pub fn group_document(group: &str, versions: &[String]) -> Value {
    let entry = |v: &String| json!({"groupVersion": format!("{group}/{v}"), "version": v});
    json!({
        "kind": "APIGroup", "apiVersion": "v1", "name": group,
        "versions": versions.iter().map(entry).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(entry),
    })
}

/// The resources of a version for the aggregated document, made of its plain list.
pub fn v2_item(remotes: &Remotes, group: &str, version: &str) -> Option<Value> {
    let remote = remotes.get(&(group.to_string(), version.to_string()))?;
    let freshness = if remote.available { "Current" } else { "Stale" };
    let listed = remote.resources["resources"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    let kind = |r: &Value| {
        let text = |f: &str, or: &str| r[f].as_str().filter(|t| !t.is_empty()).unwrap_or(or).to_string();
        json!({"group": text("group", group), "version": text("version", version), "kind": text("kind", "")})
    };
    let mut resources: Vec<Value> = Vec::new();
    for resource in listed
        .iter()
        .filter(|r| !r["name"].as_str().unwrap_or("").contains('/'))
    {
        let name = resource["name"].as_str().unwrap_or("");
        let mut item = json!({
            "resource": name,
            "responseKind": kind(resource),
            "scope": if resource["namespaced"] == true { "Namespaced" } else { "Cluster" },
            "singularResource": resource["singularName"].as_str().unwrap_or(""),
            "verbs": resource["verbs"],
        });
        for field in ["shortNames", "categories"] {
            if let Some(value) = resource.get(field) {
                item[field] = value.clone();
            }
        }
        let below = listed
            .iter()
            .filter_map(|r| Some((r["name"].as_str()?.strip_prefix(&format!("{name}/"))?, r)));
        let subs: Vec<Value> = below
            .map(|(sub, r)| json!({"subresource": sub, "responseKind": kind(r), "verbs": r["verbs"]}))
            .collect();
        if !subs.is_empty() {
            item["subresources"] = json!(subs);
        }
        resources.push(item);
    }
    Some(json!({"version": version, "resources": resources, "freshness": freshness}))
}
