//! Reads roles and bindings from their short form, one line a rule or subject:
//!
//! ```text
//! ClusterRole NAME [part-of=ROLE] [aggregates]        Role NAMESPACE/NAME
//!   VERB … | GROUP … | RESOURCE … [| NAME …]          (`core` is the group without a name)
//!   VERB … | paths | PATH …
//! ClusterRoleBinding NAME [of KIND NAME]              RoleBinding NAMESPACE/NAME [of KIND NAME]
//!   User NAME                                         ServiceAccount NAMESPACE/NAME
//! ```
//!
//! `part-of` makes a role part of the user-facing role of that name, `aggregates` makes one of its parts. A binding is to the
//! role of its own name unless it says otherwise.

use crate::authz::rbac::GROUP;
use serde_json::{Map, Value, json};

/// The label that makes a role part of a user-facing one.
fn aggregation_label(role: &str) -> String {
    format!("rbac.authorization.k8s.io/aggregate-to-{role}")
}

/// The objects that a table describes, in its order.
pub(super) fn parse(table: &str) -> Vec<Value> {
    let mut objects: Vec<Value> = Vec::new();
    for line in table.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        match (line.strip_prefix("  "), objects.last_mut()) {
            (None, _) => objects.push(heading(line)),
            (Some(part), Some(object)) => {
                let (list, entry) = match object.get("roleRef") {
                    Some(_) => ("subjects", subject(part)),
                    None => ("rules", rule(part)),
                };
                if let Some(list) = object[list].as_array_mut() {
                    list.push(entry);
                }
            }
            (Some(_), None) => {}
        }
    }
    objects
}

fn split_name(full: &str) -> (Option<&str>, &str) {
    match full.split_once('/') {
        Some((namespace, name)) => (Some(namespace), name),
        None => (None, full),
    }
}

fn heading(line: &str) -> Value {
    let mut words = line.split(' ');
    let (kind, full) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let (namespace, name) = split_name(full);
    let mut metadata = json!({
        "name": name,
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
        "annotations": { super::AUTOUPDATE: "true" },
    });
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    let mut object = json!({"apiVersion": format!("{GROUP}/v1"), "kind": kind});
    if let Some(role) = kind.strip_suffix("Binding") {
        let (kind, name) = match words.next() {
            Some("of") => (words.next().unwrap_or_default(), words.next().unwrap_or_default()),
            _ => (role, name),
        };
        object["roleRef"] = json!({"apiGroup": GROUP, "kind": kind, "name": name});
        object["subjects"] = json!([]);
    } else {
        object["rules"] = json!([]);
        for word in words {
            if let Some(role) = word.strip_prefix("part-of=") {
                metadata["labels"][aggregation_label(role)] = "true".into();
            } else if word == "aggregates" {
                object["aggregationRule"] = json!({
                    "clusterRoleSelectors": [{"matchLabels": {aggregation_label(name): "true"}}],
                });
            }
        }
    }
    object["metadata"] = metadata;
    object
}

fn subject(line: &str) -> Value {
    let (kind, full) = line.split_once(' ').unwrap_or((line, ""));
    match (kind, split_name(full)) {
        ("ServiceAccount", (Some(namespace), name)) => {
            json!({"kind": kind, "name": name, "namespace": namespace})
        }
        _ => json!({"apiGroup": GROUP, "kind": kind, "name": full}),
    }
}

fn rule(line: &str) -> Value {
    let columns: Vec<Vec<&str>> = line
        .split(" | ")
        .map(|column| {
            column
                .split(' ')
                .map(|w| if w == "core" { "" } else { w })
                .collect()
        })
        .collect();
    let keys: &[&str] = match columns.get(1).map(Vec::as_slice) {
        Some(["paths"]) => &["verbs", "", "nonResourceURLs"],
        _ => &["verbs", "apiGroups", "resources", "resourceNames"],
    };
    let rule: Map<String, Value> = keys
        .iter()
        .zip(columns)
        .filter(|(key, _)| !key.is_empty())
        .map(|(key, words)| ((*key).to_owned(), json!(words)))
        .collect();
    Value::Object(rule)
}
