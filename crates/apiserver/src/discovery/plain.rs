//! Discovery as every client knows it: groups, their versions, the resources of a version.

use crate::aggregation::{self, Remotes};
use crate::registry::{self, Registry, Served};
use base64::Engine as _;
use kinds::KindInfo;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// `/api`.
pub fn api_versions((ip, port): (std::net::IpAddr, u16)) -> Value {
    json!({
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [
            {"clientCIDR": "0.0.0.0/0", "serverAddress": std::net::SocketAddr::new(ip, port).to_string()},
        ],
    })
}

/// By what groups of the same priority are told apart.
pub type Tie = fn(&str, &[String]) -> String;

/// By the first of their APIServices: so the plain documents have them.
pub fn by_service(group: &str, versions: &[String]) -> String {
    let names = versions.iter().map(|version| format!("{version}.{group}"));
    names.min().unwrap_or_default()
}

/// Groups in the order of their priorities, each with its versions, the preferred one first.
pub fn grouped(registry: &Registry, remotes: &Remotes, tie: Tie) -> Vec<(String, Vec<String>)> {
    let mut groups: Vec<(String, Vec<String>)> = Vec::new();
    for served in registry.all() {
        let (group, version) = (served.kind.group, served.kind.version);
        let at = match groups.iter().position(|(g, _)| g == group) {
            Some(at) => at,
            None => {
                groups.push((group.to_string(), Vec::new()));
                groups.len() - 1
            }
        };
        if !groups[at].1.iter().any(|v| v == version) {
            groups[at].1.push(version.to_string());
        }
    }
    for (_, versions) in &mut groups {
        versions.sort_by(|a, b| priority(b).cmp(&priority(a)).then_with(|| a.cmp(b)));
    }
    // Clients that know a resource by its name alone take the first group that has it.
    aggregation::add_groups(remotes, &mut groups, tie);
    groups
}

/// Upstream's order of versions: stable before beta before alpha, then higher numbers first.
pub fn priority(version: &str) -> (u8, u32, u32) {
    let Some(rest) = version.strip_prefix('v') else {
        return (0, 0, 0);
    };
    let digits = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let major = rest[..digits].parse().unwrap_or(0);
    match &rest[digits..] {
        "" if digits > 0 => (3, major, 0),
        other => match (other.strip_prefix("beta"), other.strip_prefix("alpha")) {
            (Some(n), _) => (2, major, n.parse().unwrap_or(0)),
            (_, Some(n)) => (1, major, n.parse().unwrap_or(0)),
            _ => (0, 0, 0),
        },
    }
}

fn group_value(group: &str, versions: &[String]) -> Value {
    let entry = |v: &String| json!({"groupVersion": format!("{group}/{v}"), "version": v});
    json!({
        "name": group,
        "versions": versions.iter().map(entry).collect::<Vec<_>>(),
        "preferredVersion": versions.first().map(entry),
    })
}

/// `/apis`.
pub fn groups(registry: &Registry, remotes: &Remotes) -> Value {
    let groups = grouped(registry, remotes, by_service);
    let list: Vec<Value> = groups
        .iter()
        .filter(|(g, _)| !g.is_empty())
        .map(|(g, v)| group_value(g, v))
        .collect();
    json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": list})
}

/// `/apis/GROUP`.
pub fn group(registry: &Registry, remotes: &Remotes, group: &str) -> Option<Value> {
    let groups = grouped(registry, remotes, by_service);
    let (name, versions) = groups.iter().find(|(g, _)| g == group && !g.is_empty())?;
    Some(aggregation::group_document(name, versions))
}

/// `/api/v1` and `/apis/GROUP/VERSION`.
pub fn resources(registry: &Registry, group: &str, version: &str) -> Value {
    let mut list = Vec::new();
    for served in registry.told(group, version) {
        let kind = served.kind;
        list.push(resource(served));
        list.extend(kind.subresources.iter().map(|sub| subresource(kind, sub)));
    }
    // Built-in resources stand by name, custom ones with their status before their scale.
    list.sort_by_key(|r| {
        let name = r["name"].as_str().unwrap_or_default();
        let scale = name.ends_with("/scale") && is_custom(registry, group, version, name);
        match scale {
            true => format!("{name}~").replacen("/scale", "/~", 1),
            false => name.to_owned(),
        }
    });
    let group_version = if group.is_empty() {
        version.to_string()
    } else {
        format!("{group}/{version}")
    };
    let mut document = json!({
        "kind": "APIResourceList",
        "groupVersion": group_version,
        "resources": list,
    });
    // Clients older than that field know the core group.
    if !group.is_empty() {
        document["apiVersion"] = json!("v1");
    }
    document
}

fn is_custom(registry: &Registry, group: &str, version: &str, name: &str) -> bool {
    let plural = name.split('/').next().unwrap_or_default();
    let found = registry.find(group, version, plural);
    found.is_some_and(|served| served.custom.is_some())
}

/// The hash by which clients tell whether two versions are stored as one.
fn storage_hash(stored: &KindInfo) -> String {
    let name = format!("{}/{}/{}", stored.group, stored.version, stored.kind);
    base64::engine::general_purpose::STANDARD.encode(&Sha256::digest(name)[..8])
}

fn resource(served: &Served) -> Value {
    let kind = served.kind;
    let mut value = json!({
        "name": kind.plural,
        "singularName": kind.singular,
        "namespaced": kind.namespaced,
        "kind": kind.kind,
        "verbs": kind.verbs,
    });
    if !kind.short_names.is_empty() {
        value["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        value["categories"] = json!(kind.categories);
    }
    if kind.verbs.contains(&"list") && kind.kind != "ComponentStatus" && !registry::is_virtual(kind) {
        value["storageVersionHash"] = json!(storage_hash(served.stored));
    }
    value
}

fn subresource(kind: &KindInfo, sub: &kinds::Subresource) -> Value {
    let mut value = json!({
        "name": format!("{}/{}", kind.plural, sub.name),
        "singularName": "",
        "namespaced": kind.namespaced,
        "kind": if sub.kind.is_empty() { kind.kind } else { sub.kind },
        "verbs": sub.verbs,
    });
    // Said only when the body belongs elsewhere, as Scale and Eviction do.
    if (sub.group, sub.version) != (kind.group, kind.version) && !sub.version.is_empty() {
        value["group"] = json!(sub.group);
        value["version"] = json!(sub.version);
    }
    value
}
