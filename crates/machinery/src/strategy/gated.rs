//! Fields of the API that no request can set in v1.35, since the feature they belong to is off by default: they are dropped,
//! unless the object has them already. Sources: `pkg/api/*/util.go` and `pkg/registry/*/strategy.go` of Kubernetes v1.35.

use crate::walk::{At, each_mut, unset};
use kinds::KindInfo;
use serde_json::Value;

/// Drops them from an object that is made, or that replaces `old`.
pub(super) fn drop(kind: &KindInfo, obj: &mut Value, old: &Value) {
    match (kind.group, kind.kind) {
        ("", "Pod") => pod_spec(obj, old, "spec"),
        ("batch", "CronJob") => pod_spec(obj, old, "spec.jobTemplate.spec.template.spec"),
        ("", "PodTemplate") => pod_spec(obj, old, "template.spec"),
        ("apps" | "batch", _) | ("", "ReplicationController") => {
            pod_spec(obj, old, "spec.template.spec");
            // MaxUnavailableStatefulSet
            let field = "spec.updateStrategy.rollingUpdate.maxUnavailable";
            if kind.kind == "StatefulSet" && !old.has(field) {
                unset(obj, field);
            }
        }
        // NodeDeclaredFeatures
        ("", "Node") => {
            if !old.has("status.declaredFeatures") {
                unset(obj, "status.declaredFeatures");
            }
        }
        // CoordinatedLeaderElection
        ("coordination.k8s.io", "Lease") => {
            for field in ["spec.strategy", "spec.preferredHolder"] {
                if !old.has(field) {
                    unset(obj, field);
                }
            }
        }
        // CrossNamespaceVolumeDataSource
        ("", "PersistentVolumeClaim") => {
            let field = "spec.dataSourceRef";
            if !obj.at(field).is_empty_at("namespace") && old.at(field).is_empty_at("namespace") {
                unset(obj, field);
            }
        }
        // What has a place of its own in v1 is not said in this way.
        ("discovery.k8s.io", "EndpointSlice") => {
            let has = |slice: &Value| {
                let mut all = slice.list_at("endpoints").iter();
                all.any(|endpoint| endpoint.has("deprecatedTopology"))
            };
            if has(obj) && !has(old) {
                each_mut(obj, "endpoints", |endpoint| unset(endpoint, "deprecatedTopology"));
            }
        }
        _ => {}
    }
}

const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

/// ContainerStopSignals
fn pod_spec(obj: &mut Value, old: &Value, at: &str) {
    let has = |spec: &Value| {
        let mut all = LISTS.iter().flat_map(|list| spec.list_at(list));
        all.any(|container| container.has("lifecycle.stopSignal"))
    };
    if !has(obj.at(at)) || has(old.at(at)) {
        return;
    }
    for list in LISTS {
        each_mut(obj, &format!("{at}.{list}"), |container| {
            unset(container, "lifecycle.stopSignal");
            if container.is_empty_at("lifecycle") {
                unset(container, "lifecycle");
            }
        });
    }
}
