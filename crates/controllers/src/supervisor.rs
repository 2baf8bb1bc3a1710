//! Supervisor namespaces: each becomes a Namespace with bindings, a quota and container defaults, and stays so:
//! what somebody changes by hand is put back.

use crate::manager::Reconciler;
use crate::obj::{controlled_by, deleting, items, label, meta, owner_ref, set_condition, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use kinds::quantity::Quantity;
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::time::Duration;

const OWN: &str = "supervisornamespaces.podvisor.io";
const NAMESPACES: &str = "namespaces";
const BINDINGS: &str = "rolebindings.rbac.authorization.k8s.io";
const QUOTAS: &str = "resourcequotas";
const RANGES: &str = "limitranges";
const MANAGED: &str = "podvisor.io/supervisor-namespace";
/// Name of the quota and of the defaults.
const NAME: &str = "supervisor";

/// The controller.
pub(crate) struct SupervisorNamespaces;

/// The smaller of a quantity and a share of a limit.
fn default_of(most: Quantity, limit: Option<Quantity>, share: i128) -> String {
    match limit {
        Some(l) if l.as_milli() / share < most.as_milli() => {
            Quantity::from_milli((l.as_milli() / share).max(1)).to_string()
        }
        _ => most.to_string(),
    }
}

/// The quota's `hard`: a limit on cpu or memory bounds both requests and limits.
fn hard(limits: &Value) -> Map<String, Value> {
    let mut hard = Map::new();
    for (name, value) in limits.as_object().into_iter().flatten() {
        match name.as_str() {
            "cpu" | "memory" => {
                hard.insert(format!("requests.{name}"), value.clone());
                hard.insert(format!("limits.{name}"), value.clone());
            }
            "storage" => drop(hard.insert("requests.storage".into(), value.clone())),
            "pods" => drop(hard.insert("pods".into(), value.clone())),
            other => drop(hard.insert(other.into(), value.clone())),
        }
    }
    hard
}

/// Defaults for containers that say nothing, so that ordinary manifests pass the quota. As a Pod VM of its own a
/// container gets up to half a CPU and 512 MiB, less in small namespaces; requests are a fifth of the CPU.
fn defaults(spec: &Value) -> Option<Value> {
    let limit = |name: &str| Quantity::from_json(&spec["limits"][name]).ok();
    let own = &spec["containerDefaults"];
    let (mut limits, mut requests) = (Map::new(), Map::new());
    if let Some(cpu) = limit("cpu") {
        limits.insert(
            "cpu".into(),
            json!(default_of(Quantity::from_milli(500), Some(cpu), 8)),
        );
        requests.insert(
            "cpu".into(),
            json!(default_of(Quantity::from_milli(100), Some(cpu), 40)),
        );
    }
    if let Some(memory) = limit("memory") {
        let value = default_of(Quantity::from_bytes(512 << 20), Some(memory), 8);
        limits.insert("memory".into(), json!(value));
        let value = default_of(Quantity::from_bytes(128 << 20), Some(memory), 32);
        requests.insert("memory".into(), json!(value));
    }
    for (to, from) in [(&mut limits, &own["limits"]), (&mut requests, &own["requests"])] {
        for (name, value) in from.as_object().into_iter().flatten() {
            to.insert(name.clone(), value.clone());
        }
    }
    (!limits.is_empty() || !requests.is_empty())
        .then(|| json!({"type": "Container", "default": limits, "defaultRequest": requests}))
}

fn managed(own: &Value, api_version: &str, kind: &str, namespace: &str, name: &str) -> Value {
    let mut object = json!({
        "apiVersion": api_version, "kind": kind,
        "metadata": {"name": name, "labels": {MANAGED: meta(own, "name")}, "ownerReferences": [owner_ref(own)]},
    });
    if !namespace.is_empty() {
        object["metadata"]["namespace"] = json!(namespace);
    }
    object
}

/// Everything that should be in the namespace: resource and object.
pub(crate) fn wanted(own: &Value) -> Vec<(&'static str, Value)> {
    let name = meta(own, "name");
    let mut wanted = Vec::new();
    for permission in items(own, "/spec/permissions") {
        let (subject, role) = (text(permission, "/subject"), text(permission, "/role"));
        let kind = match text(permission, "/kind") {
            "Group" => "Group",
            _ => "User",
        };
        let cluster_role = if role == "owner" { "admin" } else { role };
        // One binding for each grant; a role cannot be changed in place, so it is part of the name.
        let id = crate::obj::digest(&format!("{kind}{subject}{role}"), 8);
        let mut binding = managed(
            own,
            "rbac.authorization.k8s.io/v1",
            "RoleBinding",
            name,
            &format!("{NAME}-{role}-{id}"),
        );
        binding["subjects"] = json!([{"kind": kind, "apiGroup": "rbac.authorization.k8s.io", "name": format!("sso:{subject}")}]);
        binding["roleRef"] =
            json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": cluster_role});
        wanted.push((BINDINGS, binding));
    }
    let hard = hard(&own["spec"]["limits"]);
    if !hard.is_empty() {
        let mut quota = managed(own, "v1", "ResourceQuota", name, NAME);
        quota["spec"] = json!({"hard": hard});
        wanted.push((QUOTAS, quota));
    }
    if let Some(defaults) = defaults(&own["spec"]) {
        let mut range = managed(own, "v1", "LimitRange", name, NAME);
        range["spec"] = json!({"limits": [defaults]});
        wanted.push((RANGES, range));
    }
    wanted
}

impl SupervisorNamespaces {
    async fn one(&self, world: &World, own: &Value) -> Result<(), WorldError> {
        let name = meta(own, "name");
        let (phase, reason, message) = match self.content(world, own).await {
            Ok(()) => ("Active", "Ready", "The namespace can be used".to_string()),
            Err(e) if e.code() == 0 => return Err(e),
            Err(e) => ("Configuring", "Failed", e.message()),
        };
        let (phase, reason, message) = match world.get(NAMESPACES, "", name) {
            Some(ns) if deleting(&ns) => (
                "Terminating",
                "NamespaceTerminating",
                "The namespace is being deleted".to_string(),
            ),
            Some(ns) if !controlled_by(&ns, meta(own, "uid")) => (
                "Error",
                "NamespaceExists",
                format!(
                    "Namespace {name} exists and is not this object's; delete it, or choose another name"
                ),
            ),
            _ => (phase, reason, message),
        };
        let mut status = own["status"].as_object().cloned().unwrap_or_default();
        let mut conditions = items(own, "/status/conditions").to_vec();
        let ready = if phase == "Active" { "True" } else { "False" };
        set_condition(&mut conditions, "Ready", ready, reason, &message, None);
        status.insert("phase".into(), json!(phase));
        status.insert("observedGeneration".into(), own["metadata"]["generation"].clone());
        status.insert("conditions".into(), json!(conditions));
        let used = world
            .get(QUOTAS, name, NAME)
            .map(|q| q["status"]["used"].clone())
            .filter(|u| u.is_object());
        match used {
            Some(used) => drop(status.insert("used".into(), used)),
            None => drop(status.remove("used")),
        }
        settled(world.update_status(OWN, own, &Value::Object(status)).await)?;
        Ok(())
    }

    async fn content(&self, world: &World, own: &Value) -> Result<(), WorldError> {
        let (name, uid) = (meta(own, "name"), meta(own, "uid"));
        let mut namespace = managed(own, "v1", "Namespace", "", name);
        let description = text(own, "/spec/description");
        if !description.is_empty() {
            namespace["metadata"]["annotations"]["podvisor.io/description"] = json!(description);
        }
        match world.get(NAMESPACES, "", name) {
            None => drop(world.create(NAMESPACES, &namespace).await?),
            Some(have) if deleting(&have) || !controlled_by(&have, uid) => return Ok(()),
            Some(have) => {
                let mut next = (*have).clone();
                next["metadata"]["labels"][MANAGED] = json!(name);
                if !description.is_empty() {
                    next["metadata"]["annotations"]["podvisor.io/description"] = json!(description);
                }
                settled(world.update(NAMESPACES, &have, &next).await)?;
            }
        }
        let wanted = wanted(own);
        for (key, object) in &wanted {
            match world.get(key, name, meta(object, "name")) {
                None => drop(settled(world.create(key, object).await)?),
                Some(have) => {
                    let mut next = (*have).clone();
                    for field in ["spec", "subjects"] {
                        if !object[field].is_null() {
                            next[field] = object[field].clone();
                        }
                    }
                    next["metadata"]["labels"][MANAGED] = json!(name);
                    next["metadata"]["ownerReferences"] = object["metadata"]["ownerReferences"].clone();
                    if have.get("roleRef").is_some() && have["roleRef"] != object["roleRef"] {
                        world.delete(key, &have, "Background").await?;
                        settled(world.create(key, object).await)?;
                    } else {
                        settled(world.update(key, &have, &next).await)?;
                    }
                }
            }
        }
        for key in [BINDINGS, QUOTAS, RANGES] {
            for have in world.list(key, name) {
                let kept = wanted
                    .iter()
                    .any(|(k, o)| *k == key && meta(o, "name") == meta(&have, "name"));
                if label(&have, MANAGED) == name && controlled_by(&have, uid) && !kept {
                    settled(world.delete(key, &have, "Background").await)?;
                }
            }
        }
        Ok(())
    }
}

#[async_trait]
impl Reconciler for SupervisorNamespaces {
    fn name(&self) -> &'static str {
        "supervisor namespace"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[OWN, NAMESPACES, BINDINGS, QUOTAS, RANGES]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut failed = None;
        for own in world.all(OWN) {
            if deleting(&own) {
                continue;
            }
            if let Err(e) = self.one(world, &own).await {
                failed = Some(e);
            }
        }
        failed.map_or(Ok(None), Err)
    }
}
