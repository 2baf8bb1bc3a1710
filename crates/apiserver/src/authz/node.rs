//! The Node authorizer: a host agent sees its own Node, the Pods bound to it, and what those Pods use; nothing of the
//! other hosts' (KEP-279, KEP-4601).
//!
//! What a Pod uses is found by looking at the Pods of the namespace that are bound to the node; a Secret nobody on
//! this node mounts is out of its reach.

use super::rules::Rule;
use crate::authorize::Decision;
use crate::request::Attributes;
use crate::user::User;
use crate::view::{GroupResource, View};
use kinds::selector::FieldSelector;
use serde_json::Value;
use std::sync::Arc;

/// The group of host agents.
pub const GROUP: &str = "system:nodes";
/// Prefix of their user names.
pub const PREFIX: &str = "system:node:";
/// The namespace of the Leases that say a node is alive.
const LEASES: &str = "kube-node-lease";

/// The name of the node that a user is; `None` for everyone else.
pub fn identity(user: &User) -> Option<&str> {
    let name = user.name.strip_prefix(PREFIX).filter(|n| !n.is_empty())?;
    user.is_in(GROUP).then_some(name)
}

/// Decides for host agents.
pub struct NodeAuthorizer {
    view: Arc<dyn View>,
    /// What every node may do, whatever runs on it.
    rules: Vec<Rule>,
}

impl NodeAuthorizer {
    /// Looks at Pods, volumes and claims through `view`.
    pub fn new(view: Arc<dyn View>) -> NodeAuthorizer {
        NodeAuthorizer {
            view,
            rules: super::bootstrap::node_rules(),
        }
    }

    /// No opinion on users who are no host agents.
    pub fn authorize(&self, user: &User, a: &Attributes) -> Decision {
        let Some(node) = identity(user) else {
            return Decision::NoOpinion(String::new());
        };
        if !a.is_resource {
            return Decision::NoOpinion(String::new());
        }
        let special = match (a.group.as_str(), a.resource.as_str()) {
            ("", "secrets") if self.volume_secret(node, a) => Some(Decision::Allow(String::new())),
            ("", "secrets") => Some(self.of_used(node, a, read_namespaced(a), uses_secret)),
            ("", "configmaps") => Some(self.of_used(node, a, read_namespaced(a), uses_config_map)),
            ("", "persistentvolumeclaims") if a.subresource == "status" => {
                Some(self.of_used(node, a, update_status(a), uses_claim))
            }
            ("", "persistentvolumeclaims") => Some(self.of_used(node, a, get(a), uses_claim)),
            ("", "persistentvolumes") => Some(self.persistent_volume(node, a)),
            ("", "serviceaccounts") if a.verb == "get" && a.subresource.is_empty() => {
                Some(self.of_used(node, a, read_namespaced(a), uses_account))
            }
            ("", "serviceaccounts") => Some(self.of_used(node, a, create_token(a), uses_account)),
            ("", "pods") => self.pods(node, a),
            ("", "nodes") => self.nodes(node, a),
            ("coordination.k8s.io", "leases") => Some(lease(node, a)),
            ("storage.k8s.io", "csinodes") => Some(csi_node(node, a)),
            ("storage.k8s.io", "volumeattachments") => Some(self.own_object(node, a, &["get"])),
            ("resource.k8s.io", "resourceclaims") => Some(self.of_used(node, a, get(a), uses_device_claim)),
            ("resource.k8s.io", "resourceslices") => Some(self.slice(node, a)),
            _ => None,
        };
        if let Some(decision) = special {
            return decision;
        }
        match self.rules.iter().any(|r| r.allows(a)) {
            true => Decision::Allow(String::new()),
            false => Decision::NoOpinion(String::new()),
        }
    }

    /// What may be done, if `possible`, with one named object that a Pod of the node uses.
    fn of_used(
        &self,
        node: &str,
        a: &Attributes,
        possible: Result<(), &str>,
        uses: impl Fn(&Value, &str) -> bool,
    ) -> Decision {
        let refused = |why: String| Decision::NoOpinion(why);
        if let Err(why) = possible {
            return refused(why.into());
        }
        if a.name.is_empty() {
            return refused("No Object name found".into());
        }
        if self
            .view
            .pods_on(node, Some(&a.namespace))
            .iter()
            .any(|pod| uses(pod, &a.name))
        {
            return Decision::Allow(String::new());
        }
        unrelated(node)
    }

    /// Whether a Secret is one that a volume names for hosts, and a Pod of the node has the volume's claim.
    fn volume_secret(&self, node: &str, a: &Attributes) -> bool {
        if !matches!(a.verb.as_str(), "get" | "list" | "watch")
            || !a.subresource.is_empty()
            || a.name.is_empty()
            || a.namespace.is_empty()
        {
            return false;
        }
        self.view.pods_on(node, None).iter().any(|pod| {
            let namespace = pod["metadata"]["namespace"].as_str();
            claims(pod).iter().any(|claim| {
                let kind = |resource| GroupResource::new("", resource);
                let found = self.view.get(&kind("persistentvolumeclaims"), namespace, claim);
                let volume = found.and_then(|c| {
                    let volume = c["spec"]["volumeName"].as_str()?;
                    self.view.get(&kind("persistentvolumes"), None, volume)
                });
                // Both must know each other: a claim alone may name any volume.
                volume.is_some_and(|v| {
                    let bound = &v["spec"]["claimRef"];
                    bound["namespace"].as_str() == namespace
                        && bound["name"] == **claim
                        && volume_names_secret(&v, &a.namespace, &a.name)
                })
            })
        })
    }

    /// Requests on one object whose `spec.nodeName` says that it is the node's.
    fn own_object(&self, node: &str, a: &Attributes, verbs: &[&str]) -> Decision {
        let refused = |why: &str| Decision::NoOpinion(why.into());
        if !verbs.contains(&a.verb.as_str()) {
            return refused("can only get individual resources of this type");
        }
        if !a.subresource.is_empty() {
            return refused("cannot get subresource");
        }
        if a.name.is_empty() {
            return refused("No Object name found");
        }
        let kind = GroupResource::new(&a.group, &a.resource);
        match self.view.get(&kind, None, &a.name) {
            Some(object) if object["spec"]["nodeName"] == node => Decision::Allow(String::new()),
            _ => unrelated(node),
        }
    }

    /// Devices that a driver on the node announces. What is made is looked at by NodeRestriction.
    fn slice(&self, node: &str, a: &Attributes) -> Decision {
        if !a.subresource.is_empty() {
            return Decision::NoOpinion("cannot authorize ResourceSlice subresources".into());
        }
        match a.verb.as_str() {
            "create" => Decision::Allow(String::new()),
            "get" | "update" | "patch" | "delete" => {
                self.own_object(node, a, &["get", "update", "patch", "delete"])
            }
            "watch" | "list" | "deletecollection" if selects(&a.field_selector, "spec.nodeName", node) => {
                Decision::Allow(String::new())
            }
            "watch" | "list" | "deletecollection" => Decision::NoOpinion(
                "can only list/watch/deletecollection resourceslices with nodeName field selector".into(),
            ),
            _ => Decision::NoOpinion(
                "only the following verbs are allowed for a ResourceSlice: get, watch, list, create, update, patch, \
                 delete, deletecollection"
                    .into(),
            ),
        }
    }

    fn persistent_volume(&self, node: &str, a: &Attributes) -> Decision {
        if let Err(why) = get(a) {
            return Decision::NoOpinion(why.into());
        }
        if a.name.is_empty() {
            return Decision::NoOpinion("No Object name found".into());
        }
        let volume = self
            .view
            .get(&GroupResource::new("", "persistentvolumes"), None, &a.name);
        let claim = volume.as_ref().map(|v| &v["spec"]["claimRef"]);
        let used = claim.is_some_and(|c| {
            let (namespace, name) = (c["namespace"].as_str(), c["name"].as_str());
            name.is_some_and(|name| {
                self.view
                    .pods_on(node, namespace)
                    .iter()
                    .any(|pod| uses_claim(pod, name))
            })
        });
        match used {
            true => Decision::Allow(String::new()),
            false => unrelated(node),
        }
    }

    /// `None` leaves it to the general rules.
    fn pods(&self, node: &str, a: &Attributes) -> Option<Decision> {
        match (a.verb.as_str(), a.subresource.as_str()) {
            ("list" | "watch", "") if selects(&a.field_selector, "spec.nodeName", node) => {
                Some(Decision::Allow(String::new()))
            }
            ("list" | "watch", "") if a.name.is_empty() => Some(Decision::NoOpinion(
                "can only list/watch pods with spec.nodeName field selector".into(),
            )),
            ("list" | "watch", "") => {
                let pods = self.view.pods_on(node, Some(&a.namespace));
                let own = pods.iter().any(|pod| pod["metadata"]["name"] == *a.name);
                match own && !a.namespace.is_empty() {
                    true => Some(Decision::Allow(String::new())),
                    false => Some(unrelated(node)),
                }
            }
            ("get", "") => {
                let pods = GroupResource::new("", "pods");
                let pod = self.view.get(&pods, Some(&a.namespace), &a.name);
                // Of one that is gone nobody knows whose it was.
                match pod.is_some_and(|p| p["spec"]["nodeName"] == node) {
                    true => Some(Decision::Allow(String::new())),
                    false => Some(unrelated(node)),
                }
            }
            _ => None,
        }
    }

    fn nodes(&self, node: &str, a: &Attributes) -> Option<Decision> {
        let own = a.name == node || (a.verb == "create" && a.subresource.is_empty());
        match a.verb.as_str() {
            "get" | "list" | "watch" if !own => Some(Decision::NoOpinion(format!(
                "node '{node}' cannot read {}, only its own Node object",
                match a.name.as_str() {
                    "" => "all nodes".to_string(),
                    other => format!("'{other}'"),
                }
            ))),
            _ => None,
        }
    }
}

fn unrelated(node: &str) -> Decision {
    Decision::NoOpinion(format!(
        "no relationship found between node '{node}' and this object"
    ))
}

/// Upstream's `authorizeGet`.
fn get(a: &Attributes) -> Result<(), &'static str> {
    match (a.verb.as_str(), a.subresource.as_str()) {
        ("get", "") => Ok(()),
        ("get", _) => Err("cannot get subresource"),
        _ => Err("can only get individual resources of this type"),
    }
}

/// Upstream's `authorizeReadNamespacedObject`.
fn read_namespaced(a: &Attributes) -> Result<(), &'static str> {
    if !matches!(a.verb.as_str(), "get" | "list" | "watch") {
        return Err("can only read resources of this type");
    }
    if !a.subresource.is_empty() {
        return Err("cannot read subresource");
    }
    match a.namespace.is_empty() {
        true => Err("can only read namespaced object of this type"),
        false => Ok(()),
    }
}

/// Upstream's `authorizeStatusUpdate`, which does not do all that its words say.
fn update_status(a: &Attributes) -> Result<(), &'static str> {
    match a.verb.as_str() {
        "update" | "patch" => Ok(()),
        _ => Err("can only get/update/patch this type"),
    }
}

/// Upstream's `authorizeCreateToken`.
fn create_token(a: &Attributes) -> Result<(), &'static str> {
    if a.verb != "create" || a.name.is_empty() {
        return Err("can only create tokens for individual service accounts");
    }
    match a.subresource.as_str() {
        "token" => Ok(()),
        _ => Err("can only create token subresource of serviceaccount"),
    }
}

/// What is made is looked at by NodeRestriction, which knows its name.
fn lease(node: &str, a: &Attributes) -> Decision {
    let refused = |why: &str| Decision::NoOpinion(why.into());
    match a.verb.as_str() {
        "get" | "create" | "update" | "patch" | "delete" => {}
        _ => return refused("can only get, create, update, patch, or delete a node lease"),
    }
    if a.namespace != LEASES {
        return refused(&format!(
            "can only access leases in the {LEASES:?} system namespace"
        ));
    }
    match a.verb == "create" || a.name == node {
        true => Decision::Allow(String::new()),
        false => refused("can only access node lease with the same name as the requesting node"),
    }
}

/// What is made is looked at by NodeRestriction.
fn csi_node(node: &str, a: &Attributes) -> Decision {
    let refused = |why: &str| Decision::NoOpinion(why.into());
    match a.verb.as_str() {
        "get" | "create" | "update" | "patch" | "delete" => {}
        _ => return refused("can only get, create, update, patch, or delete a CSINode"),
    }
    if !a.subresource.is_empty() {
        return refused("cannot authorize CSINode subresources");
    }
    match a.verb == "create" || a.name == node {
        true => Decision::Allow(String::new()),
        false => refused("can only access CSINode with the same name as the requesting node"),
    }
}

/// Whether a field selector narrows to `field` = `value`.
fn selects(selector: &str, field: &str, value: &str) -> bool {
    let selector = FieldSelector::parse(selector).unwrap_or_default();
    let mut terms = selector.terms().iter();
    terms.any(|term| term.equals && term.field == field && term.value == value)
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .into_iter()
        .flat_map(|list| pod["spec"][list].as_array().into_iter().flatten())
}

fn volumes(pod: &Value) -> impl Iterator<Item = &Value> {
    pod["spec"]["volumes"].as_array().into_iter().flatten()
}

/// References from the environment: `envFrom[].KIND_Ref.name` and `env[].valueFrom.KIND_KeyRef.name`.
fn env_uses(pod: &Value, from: &str, key: &str, name: &str) -> bool {
    containers(pod).any(|c| {
        let sources = c["envFrom"].as_array().into_iter().flatten();
        let values = c["env"].as_array().into_iter().flatten();
        sources.into_iter().any(|s| s[from]["name"] == name)
            || values.into_iter().any(|v| v["valueFrom"][key]["name"] == name)
    })
}

fn uses_secret(pod: &Value, name: &str) -> bool {
    let pull = pod["spec"]["imagePullSecrets"].as_array().into_iter().flatten();
    pull.into_iter().any(|s| s["name"] == name)
        || env_uses(pod, "secretRef", "secretKeyRef", name)
        || volumes(pod).any(|v| {
            let projected = v["projected"]["sources"].as_array().into_iter().flatten();
            v["secret"]["secretName"] == name
                || projected.into_iter().any(|s| s["secret"]["name"] == name)
                // The drivers that name a Secret in their own field.
                || ["cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"]
                    .iter()
                    .any(|driver| v[driver]["secretRef"]["name"] == name)
                || v["csi"]["nodePublishSecretRef"]["name"] == name
                || v["azureFile"]["secretName"] == name
        })
}

fn uses_config_map(pod: &Value, name: &str) -> bool {
    env_uses(pod, "configMapRef", "configMapKeyRef", name)
        || volumes(pod).any(|v| {
            let projected = v["projected"]["sources"].as_array().into_iter().flatten();
            v["configMap"]["name"] == name || projected.into_iter().any(|s| s["configMap"]["name"] == name)
        })
}

/// The claims of a Pod, by name; those of ephemeral volumes, too.
fn claims(pod: &Value) -> Vec<String> {
    let pod_name = pod["metadata"]["name"].as_str().unwrap_or_default();
    let named = |v: &Value| {
        if let Some(claim) = v["persistentVolumeClaim"]["claimName"].as_str() {
            return Some(claim.to_string());
        }
        v.get("ephemeral")?;
        v["name"].as_str().map(|volume| format!("{pod_name}-{volume}"))
    };
    volumes(pod).filter_map(named).collect()
}

fn uses_claim(pod: &Value, name: &str) -> bool {
    claims(pod).iter().any(|claim| claim == name)
}

/// Whether a volume names a Secret of a namespace that hosts need. Those of a CSI driver's controller are none of theirs.
fn volume_names_secret(volume: &Value, namespace: &str, name: &str) -> bool {
    let spec = &volume["spec"];
    let own = spec["claimRef"]["namespace"].as_str().unwrap_or_default();
    let within = |given: &Value| given.as_str().filter(|n| !n.is_empty()).unwrap_or(own) == namespace;
    let of_driver = ["cephfs", "flexVolume", "iscsi", "rbd", "scaleIO", "storageos"]
        .iter()
        .map(|driver| &spec[*driver]["secretRef"]);
    let of_csi = [
        "nodePublishSecretRef",
        "nodeStageSecretRef",
        "nodeExpandSecretRef",
    ]
    .iter()
    .map(|field| &spec["csi"][*field]);
    let file = &spec["azureFile"];
    (file["secretName"] == name && within(&file["secretNamespace"]))
        || of_driver
            .chain(of_csi)
            .any(|r| r["name"] == name && within(&r["namespace"]))
}

/// Claims on devices: those that the Pod names, and those that were made for it, which its status tells.
fn uses_device_claim(pod: &Value, name: &str) -> bool {
    let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
    let made = list(&pod["status"]["resourceClaimStatuses"]);
    list(&pod["spec"]["resourceClaims"]).iter().any(|claim| {
        claim["resourceClaimName"] == name
            || (claim["resourceClaimTemplateName"].is_string()
                && made
                    .iter()
                    .any(|m| m["name"] == claim["name"] && m["resourceClaimName"] == name))
    })
}

fn uses_account(pod: &Value, name: &str) -> bool {
    pod["spec"]["serviceAccountName"] == name
}
