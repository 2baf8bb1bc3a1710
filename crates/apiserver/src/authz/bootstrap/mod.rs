//! The roles and bindings every control plane begins with: upstream's defaults of v1.35, and ours for controllers and hosts.
//!
//! They are data (`upstream.txt`, `own.txt`), turned into objects by [`table`]. At every start [`reconcile`] adds what an
//! older version lacked, and leaves what an administrator added.

mod table;

use super::rules::{Rule, uncovered};
use serde_json::{Map, Value, json};

const UPSTREAM: &str = include_str!("upstream.txt");
const OWN: &str = include_str!("own.txt");
/// The annotation that keeps an object up to date with these defaults.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

impl Rule {
    fn to_json(&self) -> Value {
        let mut rule = Map::new();
        for (key, list) in [
            ("apiGroups", &self.api_groups),
            ("nonResourceURLs", &self.non_resource_urls),
            ("resourceNames", &self.resource_names),
            ("resources", &self.resources),
            ("verbs", &self.verbs),
        ] {
            if !list.is_empty() {
                rule.insert(key.into(), json!(list));
            }
        }
        Value::Object(rule)
    }
}

/// All default objects, roles before bindings (the namespaces `kube-system` and `kube-public` must exist).
pub fn objects() -> Vec<Value> {
    let mut all = table::parse(UPSTREAM);
    all.extend(table::parse(OWN));
    all.sort_by_key(|object| object.get("roleRef").is_some());
    all
}

/// What every host agent may do, as upstream's `system:node`; the Node authorizer narrows reads of Pods, Nodes, Secrets
/// and the like further, and NodeRestriction the writes.
pub fn node_rules() -> Vec<Rule> {
    table::parse(UPSTREAM)
        .iter()
        .filter(|object| object["metadata"]["name"] == "system:node")
        .flat_map(Rule::parse_all)
        .collect()
}

/// The existing object with what the default has and it lacks; `None` when nothing is lacking, or the administrator
/// has switched updates off by the annotation.
pub fn reconcile(existing: &Value, wanted: &Value) -> Option<Value> {
    if existing["metadata"]["annotations"][AUTOUPDATE] == "false" {
        return None;
    }
    let mut merged = existing.clone();
    if wanted.get("rules").is_some() {
        if wanted.get("aggregationRule").is_some() {
            if existing["aggregationRule"] == wanted["aggregationRule"] {
                return None;
            }
            merged["aggregationRule"] = wanted["aggregationRule"].clone();
            return Some(merged);
        }
        let missing = uncovered(&Rule::parse_all(existing), &Rule::parse_all(wanted));
        let labels_missing = missing_entries(&mut merged, wanted, "labels");
        if missing.is_empty() && !labels_missing {
            return None;
        }
        let rules = missing.iter().map(Rule::to_json);
        append(&mut merged["rules"], rules.collect());
        return Some(merged);
    }
    if existing["roleRef"] != wanted["roleRef"] {
        return None;
    }
    let have = existing["subjects"].as_array().cloned().unwrap_or_default();
    let lacking: Vec<Value> = wanted["subjects"]
        .as_array()
        .into_iter()
        .flatten()
        .filter(|s| {
            !have
                .iter()
                .any(|h| ["kind", "name", "namespace"].iter().all(|k| h[k] == s[k]))
        })
        .cloned()
        .collect();
    if lacking.is_empty() {
        return None;
    }
    append(&mut merged["subjects"], lacking);
    Some(merged)
}

/// Whether an existing binding is one of the defaults, but to another role: it has to be made anew.
pub fn leads_elsewhere(existing: &Value, wanted: &Value) -> bool {
    wanted.get("roleRef").is_some()
        && existing["roleRef"] != wanted["roleRef"]
        && existing["metadata"]["annotations"][AUTOUPDATE] != "false"
}

fn missing_entries(object: &mut Value, wanted: &Value, map: &str) -> bool {
    let mut changed = false;
    for (key, value) in wanted["metadata"][map].as_object().into_iter().flatten() {
        if object["metadata"][map][key] != *value {
            object["metadata"][map][key] = value.clone();
            changed = true;
        }
    }
    changed
}

fn append(list: &mut Value, more: Vec<Value>) {
    match list.as_array_mut() {
        Some(existing) => existing.extend(more),
        None => *list = Value::Array(more),
    }
}
