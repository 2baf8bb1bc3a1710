//! What is done to a Pod before it is stored: labels that stand for its own values are written into its selectors, profiles
//! from before they had fields into those fields; and what a report of its status leaves out is kept. Source:
//! `pkg/registry/core/pod/strategy.go` of Kubernetes v1.35.

use crate::walk::{At, each_mut, get_mut, keep, or_set_empty, same, set};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The beginning of the annotation that gives a container its AppArmor profile.
pub(crate) const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const LISTS: [&str; 3] = [
    "spec.initContainers",
    "spec.containers",
    "spec.ephemeralContainers",
];

/// Completes a new Pod.
pub(super) fn create(pod: &mut Value) {
    selectors(pod);
    if has_annotation_below(pod, APP_ARMOR) {
        profiles(pod);
    }
}

/// Whether an annotation's name begins so.
pub(crate) fn has_annotation_below(pod: &Value, prefix: &str) -> bool {
    let annotations = pod.at("metadata.annotations").as_object();
    annotations.is_some_and(|all| all.keys().any(|name| name.starts_with(prefix)))
}

fn selectors(pod: &mut Value) {
    if !pod.has("spec.affinity") && !pod.has("spec.topologySpreadConstraints") {
        return;
    }
    let labels = pod.at("metadata.labels").clone();
    for kind in ["podAffinity", "podAntiAffinity"] {
        let at = |list: &str| format!("spec.affinity.{kind}.{list}DuringSchedulingIgnoredDuringExecution");
        each_mut(pod, &at("preferred"), |weighted| {
            if let Some(term) = get_mut(weighted, "podAffinityTerm") {
                own_labels(term, &labels);
            }
        });
        each_mut(pod, &at("required"), |term| own_labels(term, &labels));
    }
    each_mut(pod, "spec.topologySpreadConstraints", |term| {
        own_labels(term, &labels)
    });
}

/// Adds what is said of the Pod's own labels to a selector, if there is one.
fn own_labels(term: &mut Value, labels: &Value) {
    if !term.has("labelSelector") {
        return;
    }
    for (field, operator) in [("matchLabelKeys", "In"), ("mismatchLabelKeys", "NotIn")] {
        let keys: Vec<String> = term.strings_at(field).into_iter().map(str::to_owned).collect();
        for key in keys {
            let Some(value) = labels.get(&key) else {
                continue;
            };
            let mut list = term.list_at("labelSelector.matchExpressions").to_vec();
            list.push(json!({"key": key, "operator": operator, "values": [value]}));
            set(term, "labelSelector.matchExpressions", list);
        }
    }
}

/// The profile that an annotation means; none: it means no good one.
pub(crate) fn app_armor(annotation: &str) -> Option<Value> {
    match (annotation, annotation.strip_prefix("localhost/")) {
        ("unconfined", _) => Some(json!({"type": "Unconfined"})),
        ("runtime/default", _) => Some(json!({"type": "RuntimeDefault"})),
        (_, Some(name)) if !name.is_empty() && name.trim() == name && name.len() < 4096 => {
            Some(json!({"type": "Localhost", "localhostProfile": name}))
        }
        _ => None,
    }
}

fn profiles(pod: &mut Value) {
    if pod.str_at("spec.os.name") == "windows" {
        return;
    }
    let annotations = pod.at("metadata.annotations").clone();
    let whole = pod.at("spec.securityContext.appArmorProfile").clone();
    for list in LISTS {
        each_mut(pod, list, |container| {
            let name = format!("{APP_ARMOR}{}", container.str_at("name"));
            let annotation = annotations.get(&name).and_then(Value::as_str);
            if container.has("securityContext.appArmorProfile") {
                return;
            }
            if let Some(profile) = annotation.and_then(app_armor)
                && (whole.is_null() || !same(&profile, &whole))
            {
                set(container, "securityContext.appArmorProfile", profile);
            }
        });
    }
}

/// Completes a reported status. Old agents drop the quality of service, and the generation that they do not know.
pub(super) fn status(pod: &mut Value, old: &Value) {
    or_set_empty(pod, "status.qosClass", old.at("status.qosClass").clone());
    if pod.int_at("status.observedGeneration").unwrap_or(0) == 0 {
        keep(pod, old, "status.observedGeneration");
    }
    let mut before: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for condition in old.list_at("status.conditions").iter().rev() {
        before
            .entry(condition.str_at("type"))
            .or_default()
            .push(condition);
    }
    each_mut(pod, "status.conditions", |condition| {
        let kind = condition.str_at("type").to_owned();
        let same_type = before.get_mut(kind.as_str()).and_then(Vec::pop);
        if condition.int_at("observedGeneration").unwrap_or(0) == 0
            && let Some(generation) = same_type.and_then(|c| c.int_at("observedGeneration"))
        {
            set(condition, "observedGeneration", generation);
        }
    });
    addresses(pod);
}

/// One address and the list of all of them say the same; where they do not, the single one is right.
pub(crate) fn addresses(pod: &mut Value) {
    let single = pod.str_at("status.podIP").to_owned();
    let first = pod
        .list_at("status.podIPs")
        .first()
        .map(|ip| ip.str_at("ip").to_owned());
    match first {
        Some(first) if single.is_empty() => set(pod, "status.podIP", first),
        Some(first) if first == single => {}
        _ if single.is_empty() => {}
        _ => set(pod, "status.podIPs", json!([{"ip": single}])),
    }
}
