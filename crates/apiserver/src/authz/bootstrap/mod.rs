//! The roles and bindings every control plane begins with: upstream's defaults of v1.35, and ours for controllers and hosts.
//!
//! They are data ([`user_roles`], [`component_roles`]) turned into objects by [`objects`]. At every start
//! [`reconcile`] adds what an older version lacked, and leaves what an administrator added.

mod component_roles;
mod user_roles;

use super::rules::{Rule, uncovered};
use serde_json::{Map, Value, json};

pub use component_roles::node_rules;

/// Reads.
const READ: &[&str] = &["get", "list", "watch"];
/// Writes.
const WRITE: &[&str] = &["create", "delete", "deletecollection", "patch", "update"];
/// The annotation that keeps an object up to date with these defaults.
const AUTOUPDATE: &str = "rbac.authorization.kubernetes.io/autoupdate";

/// A rule on resources, written down.
fn on(groups: &[&str], resources: &[&str], verbs: &[&str]) -> Rule {
    let own = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
    Rule {
        api_groups: own(groups),
        resources: own(resources),
        verbs: own(verbs),
        ..Rule::default()
    }
}

/// A rule on paths, for GET.
fn paths(urls: &[&str]) -> Rule {
    Rule {
        non_resource_urls: urls.iter().map(|s| s.to_string()).collect(),
        verbs: vec!["get".into()],
        ..Rule::default()
    }
}

impl Rule {
    /// The rule limited to some names.
    fn named(mut self, names: &[&str]) -> Rule {
        self.resource_names = names.iter().map(|s| s.to_string()).collect();
        self
    }

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

/// A default role.
struct Role {
    /// `None` for ClusterRoles.
    namespace: Option<&'static str>,
    name: &'static str,
    rules: Vec<Rule>,
    /// The user-facing role it is part of.
    part_of: Option<&'static str>,
    /// For user-facing roles: made of the roles that are part of it.
    aggregates: bool,
}

impl Role {
    fn cluster(name: &'static str, rules: Vec<Rule>) -> Role {
        Role {
            namespace: None,
            name,
            rules,
            part_of: None,
            aggregates: false,
        }
    }

    fn part_of(mut self, role: &'static str) -> Role {
        self.part_of = Some(role);
        self
    }

    fn aggregate(name: &'static str) -> Role {
        Role {
            aggregates: true,
            ..Role::cluster(name, Vec::new())
        }
    }

    fn to_json(&self) -> Value {
        let mut metadata = metadata(self.name, self.namespace);
        if let Some(role) = self.part_of {
            metadata["labels"][format!("rbac.authorization.k8s.io/aggregate-to-{role}")] = "true".into();
        }
        let mut object = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": if self.namespace.is_some() { "Role" } else { "ClusterRole" },
            "metadata": metadata,
            "rules": self.rules.iter().map(Rule::to_json).collect::<Vec<_>>(),
        });
        if self.aggregates {
            let label = format!("rbac.authorization.k8s.io/aggregate-to-{}", self.name);
            object["aggregationRule"] = json!({
                "clusterRoleSelectors": [{ "matchLabels": { label: "true" } }],
            });
        }
        object
    }
}

fn metadata(name: &str, namespace: Option<&str>) -> Value {
    let mut metadata = json!({
        "name": name,
        "labels": { "kubernetes.io/bootstrapping": "rbac-defaults" },
        "annotations": { AUTOUPDATE: "true" },
    });
    if let Some(namespace) = namespace {
        metadata["namespace"] = namespace.into();
    }
    metadata
}

/// A default ClusterRoleBinding: name (also the role's), and the users or groups bound.
struct Binding {
    name: &'static str,
    role: &'static str,
    users: &'static [&'static str],
    groups: &'static [&'static str],
}

impl Binding {
    fn to_json(&self) -> Value {
        let subject =
            |kind: &str, name: &&str| json!({ "apiGroup": super::rbac::GROUP, "kind": kind, "name": name });
        let users = self.users.iter().map(|n| subject("User", n));
        let groups = self.groups.iter().map(|n| subject("Group", n));
        json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": metadata(self.name, None),
            "roleRef": { "apiGroup": super::rbac::GROUP, "kind": "ClusterRole", "name": self.role },
            "subjects": users.chain(groups).collect::<Vec<_>>(),
        })
    }
}

/// All default objects, in an order in which they can be created (the namespace `kube-system` must exist).
pub fn objects() -> Vec<Value> {
    let mut roles = user_roles::roles();
    roles.extend(component_roles::roles());
    let bindings = user_roles::BINDINGS.iter().chain(component_roles::BINDINGS);
    roles
        .iter()
        .map(Role::to_json)
        .chain(bindings.map(Binding::to_json))
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
    // A binding to another role cannot be changed in place; it is the administrator's.
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
                .any(|h| h["kind"] == s["kind"] && h["name"] == s["name"])
        })
        .cloned()
        .collect();
    if lacking.is_empty() {
        return None;
    }
    append(&mut merged["subjects"], lacking);
    Some(merged)
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
