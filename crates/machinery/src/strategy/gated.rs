//! Fields of the API that no request can set in v1.35, since the feature they belong to is off by default: they are dropped,
//! unless the object has them already. Sources: `pkg/api/*/util.go` and `pkg/registry/*/strategy.go` of Kubernetes v1.35.

use crate::walk::{At, each_mut, set, unset};
use kinds::KindInfo;
use serde_json::Value;

/// Drops them from the status that an object gets.
pub(super) fn drop_of_status(kind: &KindInfo, obj: &mut Value, old: &Value) {
    // What a Node declares is judged instead, and kept.
    let declared = obj.at("status.declaredFeatures").clone();
    drop(kind, obj, old);
    if (kind.group, kind.kind) == ("", "Node") && !declared.is_null() {
        set(obj, "status.declaredFeatures", declared);
    }
}

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
        // DynamicKubeletConfig, which is gone (KEP-281), and NodeDeclaredFeatures
        ("", "Node") => {
            for field in ["spec.configSource", "status.config", "status.declaredFeatures"] {
                if !old.has(field) {
                    unset(obj, field);
                }
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
            if !obj.at(field).is_empty_at("namespace") && !old.has(field) {
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
        ("resource.k8s.io", _) => devices(kind, obj, old),
        _ => {}
    }
}

/// DRAPartitionableDevices, DRADeviceTaints, DRADeviceBindingConditions, DRAConsumableCapacity, DRAExtendedResource: fields
/// of what stands where, by kind. A place is a path, in which `*` is every element of a list, or every entry of a map.
fn devices(kind: &KindInfo, obj: &mut Value, old: &Value) {
    const REQUESTS: [&str; 2] = ["tolerations", "capacity"];
    const RESULTS: [&str; 4] = [
        "bindingConditions",
        "bindingFailureConditions",
        "consumedCapacity",
        "shareID",
    ];
    let claim: &[(&str, &[&str])] = &[
        ("spec.devices.requests.*.exactly", &REQUESTS),
        ("spec.devices.requests.*.firstAvailable.*", &REQUESTS),
        ("spec.devices.constraints.*", &["distinctAttribute"]),
        ("status.allocation.devices.results.*", &RESULTS),
        ("status.devices.*", &["shareID"]),
    ];
    let slice: &[(&str, &[&str])] = &[
        ("spec", &["sharedCounters", "perDeviceNodeSelection"]),
        (
            "spec.devices.*",
            &[
                "consumesCounters",
                "nodeName",
                "nodeSelector",
                "allNodes",
                "taints",
                "bindsToNode",
                "bindingConditions",
                "bindingFailureConditions",
                "allowMultipleAllocations",
            ],
        ),
        ("spec.devices.*.capacity.*", &["requestPolicy"]),
    ];
    let (below, fields) = match kind.kind {
        "ResourceClaim" => ("", claim),
        "ResourceClaimTemplate" => ("spec.", &claim[..3]),
        "ResourceSlice" => ("", slice),
        "DeviceClass" => ("", &[("spec", &["extendedResourceName"][..])][..]),
        _ => return,
    };
    for (place, names) in fields {
        let place = format!("{below}{place}");
        let steps: Vec<&str> = place.split('.').collect();
        let mut gone: Vec<&str> = names.to_vec();
        let mut kept = old.clone();
        at_places(&mut kept, &steps, &mut |holder| {
            gone.retain(|name| !holder.has(name));
        });
        at_places(obj, &steps, &mut |holder| {
            for name in &gone {
                unset(holder, name);
            }
        });
    }
}

/// Calls for every value at a place.
fn at_places(value: &mut Value, steps: &[&str], call: &mut dyn FnMut(&mut Value)) {
    let Some((first, rest)) = steps.split_first() else {
        return call(value);
    };
    match value {
        Value::Array(list) if *first == "*" => {
            list.iter_mut().for_each(|one| at_places(one, rest, call));
        }
        Value::Object(map) if *first == "*" => {
            map.values_mut().for_each(|one| at_places(one, rest, call));
        }
        Value::Object(map) => {
            if let Some(below) = map.get_mut(*first) {
                at_places(below, rest, call);
            }
        }
        _ => {}
    }
}

const LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

fn pod_spec(obj: &mut Value, old: &Value, at: &str) {
    stop_signals(obj, old.at(at), at);
    // GenericWorkload
    let workload = format!("{at}.workloadRef");
    if !old.has(&workload) {
        unset(obj, &workload);
    }
    // PodCertificateRequest
    let kind = "podCertificate";
    let volumes = old.at(at).list_at("volumes").iter();
    let mut before = volumes.flat_map(|v| v.list_at("projected.sources"));
    if !before.any(|source| source.has(kind)) {
        each_mut(obj, &format!("{at}.volumes"), |volume| {
            each_mut(volume, "projected.sources", |source| unset(source, kind));
        });
    }
}

/// ContainerStopSignals
fn stop_signals(obj: &mut Value, old: &Value, at: &str) {
    let has = |spec: &Value| {
        let mut all = LISTS.iter().flat_map(|list| spec.list_at(list));
        all.any(|container| container.has("lifecycle.stopSignal"))
    };
    if !has(obj.at(at)) || has(old) {
        return;
    }
    for list in LISTS {
        each_mut(obj, &format!("{at}.{list}"), |container| {
            if !container.has("lifecycle.stopSignal") {
                return;
            }
            unset(container, "lifecycle.stopSignal");
            if container.is_empty_at("lifecycle") {
                unset(container, "lifecycle");
            }
        });
    }
}

/// Drops what only a feature reports that is off: InPlacePodLevelResourcesVerticalScaling, DRAExtendedResource,
/// ResourceHealthStatus, ImageVolumeWithDigest.
pub(super) fn drop_pod_status(pod: &mut Value, old: &Value) {
    let whole = ["status.resources", "status.allocatedResources"];
    if !whole.iter().any(|field| old.has(field)) {
        whole.iter().for_each(|field| unset(pod, field));
    }
    if !old.has("status.extendedResourceClaimStatus") {
        unset(pod, "status.extendedResourceClaimStatus");
    }
    let lists = LISTS.map(|list| format!("status.{}Statuses", list.trim_end_matches('s')));
    let statuses = |list: &String| old.list_at(list).iter();
    let health = "allocatedResourcesStatus";
    let healthy = lists
        .iter()
        .flat_map(statuses)
        .any(|status| !status.is_empty_at(health));
    let mut mounts = lists
        .iter()
        .flat_map(statuses)
        .flat_map(|status| status.list_at("volumeMounts"));
    let digests = mounts.any(|mount| mount.has("volumeStatus"));
    for list in lists {
        each_mut(pod, &list, |status| {
            if !healthy {
                unset(status, health);
            }
            if !digests {
                each_mut(status, "volumeMounts", |mount| unset(mount, "volumeStatus"));
            }
        });
    }
}
