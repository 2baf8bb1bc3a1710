//! ServiceAccount: every Pod runs as an account that exists, gets its token as a projected volume, and inherits its
//! pull secrets.

use super::mountable;
use super::pod::items;
use super::{forbidden, is_on};
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::view::{GroupResource, View};
use async_trait::async_trait;
use kinds::status::Status;
use rand::RngExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Where programs look for the token.
pub const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// Prefix of the volume's name.
const VOLUME_PREFIX: &str = "kube-api-access-";
/// Life of a projected token in seconds; the seven tell it from tokens asked for by hand.
const TOKEN_SECONDS: u32 = 3607;
/// Characters that spell no words, as in generated names.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// A Pod made right after its namespace waits for the account, at most ten times this long.
const PAUSE: Duration = Duration::from_millis(100);

/// The step.
pub struct ServiceAccount;

#[async_trait]
impl AdmissionPlugin for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        if request.operation != Operation::Create || !is_on(request, "", "pods") {
            return Ok(Vec::new());
        }
        let is_mirror = request.object["metadata"]["annotations"]
            .get("kubernetes.io/config.mirror")
            .is_some();
        if is_mirror {
            return Ok(Vec::new());
        }
        let spec = &request.object["spec"];
        let name = match spec["serviceAccountName"].as_str() {
            Some(name) if !name.is_empty() => name.to_string(),
            _ => "default".to_string(),
        };
        let namespace = request.attributes.namespace.clone();
        let Some(account) = find(view, &namespace, &name).await else {
            return Err(not_found(request, &name));
        };
        let spec = &mut request.object["spec"];
        spec["serviceAccountName"] = name.as_str().into();
        // The old name of the field is still filled in for old readers.
        spec["serviceAccount"] = name.as_str().into();
        let mounts = spec["automountServiceAccountToken"]
            .as_bool()
            .or_else(|| account["automountServiceAccountToken"].as_bool());
        if mounts.unwrap_or(true) {
            mount_token(spec);
        }
        if items(spec, "imagePullSecrets").next().is_none()
            && let Some(secrets) = account["imagePullSecrets"].as_array().filter(|s| !s.is_empty())
        {
            spec["imagePullSecrets"] = Value::Array(secrets.clone());
        }
        Ok(Vec::new())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, view: &dyn View) -> Result<Vec<String>, Status> {
        let a = request.attributes;
        // Containers may also come later, by this one way.
        if a.group.is_empty() && a.resource == "pods" && a.subresource == "ephemeralcontainers" {
            late(request, view).await?;
            return Ok(Vec::new());
        }
        if request.operation != Operation::Create || !is_on(request, "", "pods") {
            return Ok(Vec::new());
        }
        let spec = &request.object["spec"];
        // A mirror Pod stands for one the host runs by itself; it must not borrow rights.
        if request.object["metadata"]["annotations"]
            .get("kubernetes.io/config.mirror")
            .is_some()
        {
            return match mirror(spec) {
                Some(why) => Err(forbidden(request, why)),
                None => Ok(Vec::new()),
            };
        }
        let name = spec["serviceAccountName"].as_str().filter(|n| !n.is_empty());
        let resource = GroupResource::new("", "serviceaccounts");
        let account = name.and_then(|name| view.get(&resource, Some(&a.namespace), name));
        match account.and_then(|account| mountable::violation(&account, spec)) {
            Some(why) => Err(forbidden(request, why)),
            None => Ok(Vec::new()),
        }
    }
}

fn not_found(request: &AdmissionRequest<'_>, name: &str) -> Status {
    let namespace = &request.attributes.namespace;
    let wrong = machinery::path_segment(name);
    let why = match wrong.is_empty() {
        true => format!("serviceaccount {name:?} not found"),
        // What can be no name in a path is not asked for.
        false => format!("invalid resource name {name:?}: [{}]", wrong.join(" ")),
    };
    let why = format!("error looking up service account {namespace}/{name}: {why}");
    forbidden(request, why)
}

/// Judges ephemeral containers alone: what the Pod had before may have been allowed then.
async fn late(request: &AdmissionRequest<'_>, view: &dyn View) -> Result<(), Status> {
    let namespace = &request.attributes.namespace;
    let name = match request.object["spec"]["serviceAccountName"].as_str() {
        Some(name) if !name.is_empty() => name,
        _ => {
            let pod = request.object["metadata"]["name"].as_str().unwrap_or_default();
            let why = format!("no service account specified for pod {namespace}/{pod}");
            return Err(forbidden(request, why));
        }
    };
    let Some(account) = find(view, namespace, name).await else {
        return Err(not_found(request, name));
    };
    match mountable::late_violation(&account, &request.object["spec"]) {
        // So it is upstream: an error of the server.
        Some(why) => Err(Status::plain(why)),
        None => Ok(()),
    }
}

/// What a mirror Pod may not have.
fn mirror(spec: &Value) -> Option<&'static str> {
    if spec["serviceAccountName"].as_str().is_some_and(|n| !n.is_empty()) {
        return Some("a mirror pod may not reference service accounts");
    }
    if mountable::references_secrets(spec) {
        return Some("a mirror pod may not reference secrets");
    }
    let mut sources = items(spec, "volumes").flat_map(|v| items(&v["projected"], "sources"));
    sources
        .any(|s| s.get("serviceAccountToken").is_some())
        .then_some("a mirror pod may not use ServiceAccountToken volume projections")
}

async fn find(view: &dyn View, namespace: &str, name: &str) -> Option<Arc<Value>> {
    let resource = GroupResource::new("", "serviceaccounts");
    // Only the default one makes itself.
    let waits = if name == "default" { 10 } else { 0 };
    for _ in 0..waits {
        if let Some(account) = view.get(&resource, Some(namespace), name) {
            return Some(account);
        }
        tokio::time::sleep(PAUSE).await;
    }
    view.get(&resource, Some(namespace), name)
}

/// Mounts the token into every container that has nothing at its place.
fn mount_token(spec: &mut Value) {
    let existing = items(spec, "volumes")
        .filter_map(|v| v["name"].as_str())
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_string);
    let volume = existing.clone().unwrap_or_else(volume_name);
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            if items(container, "volumeMounts").any(|m| m["mountPath"] == MOUNT_PATH) {
                continue;
            }
            let mount = json!({ "name": volume, "readOnly": true, "mountPath": MOUNT_PATH });
            push(container, "volumeMounts", mount);
            mounted = true;
        }
    }
    if mounted && existing.is_none() {
        let projected = json!({
            "name": volume,
            "projected": {
                "sources": [
                    { "serviceAccountToken": { "expirationSeconds": TOKEN_SECONDS, "path": "token" } },
                    { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
                    { "downwardAPI": { "items": [{
                        "path": "namespace",
                        "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" },
                    }] } },
                ],
                "defaultMode": 0o644,
            },
        });
        push(spec, "volumes", projected);
    }
}

fn push(object: &mut Value, list: &str, item: Value) {
    match object.get_mut(list).and_then(Value::as_array_mut) {
        Some(items) => items.push(item),
        None => object[list] = json!([item]),
    }
}

fn volume_name() -> String {
    let mut rng = rand::rng();
    let suffix: String = (0..5)
        .map(|_| char::from(ALPHABET[rng.random_range(0..ALPHABET.len())]))
        .collect();
    format!("{VOLUME_PREFIX}{suffix}")
}
