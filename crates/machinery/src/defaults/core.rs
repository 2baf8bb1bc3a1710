//! Defaults of the core group (without Pods) and of EndpointSlices. Source: `pkg/apis/core/v1/defaults.go`,
//! `pkg/apis/discovery/v1/defaults.go` and the few conversions that clients see as defaults (Secret.stringData).

use super::pod::volume_source;
use crate::walk::{At, each_mut, fields_mut, get_mut, or_set, or_set_empty, set, unset};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

/// Seconds that a client stays with one backend by default: three hours.
const SESSION_SECONDS: i64 = 10_800;

pub(super) fn service(obj: &mut Value) {
    fields_mut(obj, "spec");
    let Some(spec) = get_mut(obj, "spec") else { return };
    or_set_empty(spec, "sessionAffinity", "None");
    match spec.str_at("sessionAffinity") {
        "None" => unset(spec, "sessionAffinityConfig"),
        "ClientIP" => or_set(
            spec,
            "sessionAffinityConfig.clientIP.timeoutSeconds",
            SESSION_SECONDS,
        ),
        _ => {}
    }
    or_set_empty(spec, "type", "ClusterIP");
    each_mut(spec, "ports", |port| {
        or_set_empty(port, "protocol", "TCP");
        let target = port.at("targetPort");
        if target.is_null() || target == &json!(0) || target == &json!("") {
            let same = port.at("port").clone();
            if !same.is_null() {
                set(port, "targetPort", same);
            }
        }
    });
    let kind = spec.str_at("type").to_string();
    let outside = matches!(kind.as_str(), "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && !spec.is_empty_at("externalIPs"));
    if outside {
        or_set_empty(spec, "externalTrafficPolicy", "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        or_set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        or_set(spec, "allocateLoadBalancerNodePorts", true);
    }
    or_set(obj, "status.loadBalancer", json!({}));
    if kind == "LoadBalancer" {
        each_mut(obj, "status.loadBalancer.ingress", |point| {
            if !point.str_at("ip").is_empty() {
                or_set(point, "ipMode", "VIP");
            }
        });
    }
}

pub(super) fn endpoints(obj: &mut Value) {
    each_mut(obj, "subsets", |subset| {
        each_mut(subset, "ports", |port| or_set_empty(port, "protocol", "TCP"));
    });
}

pub(super) fn endpoint_slice(obj: &mut Value) {
    each_mut(obj, "ports", |port| {
        or_set(port, "name", "");
        or_set(port, "protocol", "TCP");
    });
}

/// The type, and `stringData` folded into `data`: what is written in plain text wins.
pub(super) fn secret(obj: &mut Value) {
    let plain: Vec<(String, String)> = obj
        .entries_at("stringData")
        .into_iter()
        .map(|(k, v)| (k.clone(), STANDARD.encode(v.as_str().unwrap_or(""))))
        .collect();
    if !plain.is_empty()
        && let Some(data) = fields_mut(obj, "data")
    {
        for (key, value) in plain {
            data.insert(key, value.into());
        }
    }
    unset(obj, "stringData");
    or_set_empty(obj, "type", "Opaque");
}

pub(super) fn namespace(obj: &mut Value) {
    name_label(obj);
    or_set(obj, "spec", json!({}));
    or_set_empty(obj, "status.phase", "Active");
}

/// The label by which selectors name a namespace. A namespace whose name is yet to be generated gets it later.
pub(crate) fn name_label(obj: &mut Value) {
    let name = obj.str_at("metadata.name").to_string();
    if !name.is_empty()
        && let Some(labels) = fields_mut(obj, "metadata.labels")
    {
        labels.insert("kubernetes.io/metadata.name".into(), name.into());
    }
}

pub(super) fn node(obj: &mut Value) {
    or_set(obj, "spec", json!({}));
    // The one range of old clients is the first of all (conversion of `core/v1`).
    let (one, all) = (
        obj.str_at("spec.podCIDR").to_owned(),
        obj.strings_at("spec.podCIDRs"),
    );
    match all.first().map(|first| (*first).to_owned()) {
        Some(first) if one.is_empty() => set(obj, "spec.podCIDR", first),
        Some(first) if first == one => {}
        _ if one.is_empty() => {}
        _ => set(obj, "spec.podCIDRs", json!([one])),
    }
    if obj.has("status.capacity") && !obj.has("status.allocatable") {
        let capacity = obj.at("status.capacity").clone();
        set(obj, "status.allocatable", capacity);
    }
}

pub(super) fn volume(obj: &mut Value) {
    or_set_empty(obj, "status.phase", "Pending");
    fields_mut(obj, "spec");
    if let Some(spec) = get_mut(obj, "spec") {
        or_set_empty(spec, "persistentVolumeReclaimPolicy", "Retain");
        or_set(spec, "volumeMode", "Filesystem");
        volume_source(spec);
    }
}

pub(super) fn claim(obj: &mut Value) {
    or_set_empty(obj, "status.phase", "Pending");
    or_set(obj, "spec.volumeMode", "Filesystem");
    or_set(obj, "spec.resources", json!({}));
}

/// Container limits follow from each other: the limit from the maximum, the request from the limit or the minimum.
pub(super) fn limit_range(obj: &mut Value) {
    each_mut(obj, "spec.limits", |item| {
        if item.str_at("type") != "Container" {
            return;
        }
        for (to, from) in [
            ("default", "max"),
            ("defaultRequest", "default"),
            ("defaultRequest", "min"),
        ] {
            let given: Vec<(String, Value)> = item
                .entries_at(from)
                .into_iter()
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect();
            if given.is_empty() {
                continue;
            }
            if let Some(map) = fields_mut(item, to) {
                for (name, value) in given {
                    map.entry(name).or_insert(value);
                }
            }
        }
    });
}

/// A quota always has a spec and a status to be read.
pub(super) fn quantities_of_quota(obj: &mut Value) {
    or_set(obj, "spec", json!({}));
    or_set(obj, "status", json!({}));
}
