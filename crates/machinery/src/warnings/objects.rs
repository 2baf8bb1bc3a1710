//! Warnings of kinds that have no Pods. Sources: `pkg/api/*/warnings.go` and `util.go` of Kubernetes v1.35.

use super::{VOLUMES, key_pair, node_label};
use crate::ip;
use crate::walk::{At, same};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kinds::field::Path;
use kinds::quantity::Quantity;
use serde_json::Value;

pub(super) fn service(service: &Value) -> Vec<String> {
    const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
    let (spec, at) = (service.at("spec"), Path::new("spec"));
    let (kind, headless) = (spec.str_at("type"), spec.str_at("clusterIP") == "None");
    let mut out = Vec::new();
    if service.at("metadata.annotations").get(HINTS).is_some() {
        out.push(format!(
            "annotation {HINTS} is deprecated, please use service.kubernetes.io/topology-mode instead"
        ));
    }
    let addresses = |field: &str| -> Vec<String> {
        let list = spec.strings_at(field).into_iter().enumerate();
        list.filter_map(|(i, ip)| ip::address_warning(&at.child(field).index(i), ip))
            .collect()
    };
    if kind != "ExternalName" && !headless {
        out.extend(addresses("clusterIPs"));
    }
    if kind == "ClusterIP" && headless {
        let ignored = |field: &str| format!("spec.{field} is ignored for headless services");
        if !spec.str_at("loadBalancerIP").is_empty() {
            out.push(ignored("loadBalancerIP"));
        }
        if !spec.is_empty_at("externalIPs") {
            out.push(ignored("externalIPs"));
        }
        if spec.str_at("sessionAffinity") != "None" {
            out.push(ignored("SessionAffinity"));
        }
    }
    out.extend(addresses("externalIPs"));
    out.extend(ip::address_warning(
        &at.child("loadBalancerIP"),
        spec.str_at("loadBalancerIP"),
    ));
    let ranges = at.child("loadBalancerSourceRanges");
    let list = spec
        .strings_at("loadBalancerSourceRanges")
        .into_iter()
        .enumerate();
    out.extend(list.flat_map(|(i, range)| ip::network_warnings(&ranges.index(i), range)));
    if kind == "ExternalName" && !spec.is_empty_at("externalIPs") {
        out.push("spec.externalIPs is ignored when spec.type is \"ExternalName\"".into());
    }
    if kind != "ExternalName" && !spec.str_at("externalName").is_empty() {
        out.push("spec.externalName is ignored when spec.type is not \"ExternalName\"".into());
    }
    if spec.str_at("trafficDistribution") == "PreferClose" {
        out.push("spec.trafficDistribution: \"PreferClose\" is deprecated; use \"PreferSameZone\"".into());
    }
    out
}

pub(super) fn volume(volume: &Value) -> Vec<String> {
    let (spec, at) = (volume.at("spec"), Path::new("spec"));
    let mut out = storage_annotations(volume, 2);
    if spec.str_at("persistentVolumeReclaimPolicy") == "Recycle" {
        let text = "The Recycle reclaim policy is deprecated. Instead, the recommended approach is to use dynamic \
                    provisioning.";
        out.push(format!("{}: {text}", at.child("persistentVolumeReclaimPolicy")));
    }
    let terms = at
        .child("nodeAffinity")
        .child("required")
        .child("nodeSelectorTerms");
    for (i, term) in spec
        .list_at("nodeAffinity.required.nodeSelectorTerms")
        .iter()
        .enumerate()
    {
        let place = terms.index(i).child("matchExpressions");
        for (j, expression) in term.list_at("matchExpressions").iter().enumerate() {
            let key = expression.str_at("key");
            if let Some(text) = node_label(key) {
                out.push(format!("{}: {key} is {text}", place.index(j).child("key")));
            }
        }
    }
    // The others of them are told of in Pods alone.
    let told = |field: &str| field != "flocker" && field != "quobyte";
    for (field, shown, text) in VOLUMES {
        if told(field) && spec.has(field) {
            out.push(format!("{}: {text}", at.child(shown)));
        }
    }
    out
}

/// Annotations of volumes that have become fields; claims have the first of them alone.
fn storage_annotations(object: &Value, count: usize) -> Vec<String> {
    let known = [
        (
            "volume.beta.kubernetes.io/storage-class",
            "deprecated since v1.8; use \"storageClassName\" attribute instead",
        ),
        (
            "volume.beta.kubernetes.io/mount-options",
            "deprecated since v1.31; use \"mountOptions\" attribute instead",
        ),
    ];
    let at = Path::new("metadata").child("annotations");
    let annotations = object.at("metadata.annotations");
    let there = known[..count]
        .iter()
        .filter(|(key, _)| annotations.get(*key).is_some());
    there
        .map(|(key, text)| format!("{}: {text}", at.key(key)))
        .collect()
}

pub(super) fn claim(claim: &Value) -> Vec<String> {
    let mut out = storage_annotations(claim, 1);
    out.extend(claim_spec(claim.at("spec"), &Path::new("spec")));
    out
}

/// Bytes come whole.
pub(super) fn claim_spec(spec: &Value, at: &Path) -> Vec<String> {
    let mut out = Vec::new();
    let at = at.child("resources");
    for field in ["requests", "limits"] {
        let value = spec.at("resources").at(field).at("storage");
        let amount = Quantity::from_json(value).ok();
        if let Some(amount) = amount.filter(|amount| amount.as_milli() % 1000 != 0) {
            let place = at.child(field).key("storage");
            let shown = amount.to_string();
            out.push(format!(
                "{place}: fractional byte value {shown:?} is invalid, must be an integer"
            ));
        }
    }
    out
}

/// A certificate and its key that are not what they should be are stored all the same.
pub(super) fn secret(secret: &Value) -> Vec<String> {
    if secret.str_at("type") != "kubernetes.io/tls" {
        return Vec::new();
    }
    let part = |key: &str| {
        let text = secret
            .at("data")
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default();
        STANDARD.decode(text).unwrap_or_default()
    };
    key_pair::fault(&part("tls.crt"), &part("tls.key"))
        .into_iter()
        .collect()
}

/// Who the label says makes an object: controllers write addresses as they should be.
fn is_managed(object: &Value, label: &str, by: &[&str]) -> bool {
    let manager = object.at("metadata.labels").get(label);
    manager
        .and_then(Value::as_str)
        .is_some_and(|manager| by.contains(&manager))
}

pub(super) fn endpoints(endpoints: &Value) -> Vec<String> {
    let mut out = Vec::new();
    if is_managed(
        endpoints,
        "endpoints.kubernetes.io/managed-by",
        &["endpoint-controller"],
    ) {
        return out;
    }
    for (i, subset) in endpoints.list_at("subsets").iter().enumerate() {
        for field in ["addresses", "notReadyAddresses"] {
            for (j, address) in subset.list_at(field).iter().enumerate() {
                let place = Path::new("subsets").index(i).child(field).index(j).child("ip");
                out.extend(ip::address_warning(&place, address.str_at("ip")));
            }
        }
    }
    out
}

pub(super) fn slice(slice: &Value, old: Option<&Value>) -> Vec<String> {
    let controllers = [
        "endpointslice-controller.k8s.io",
        "endpointslicemirroring-controller.k8s.io",
    ];
    let mut out = Vec::new();
    if old.is_none() && slice.str_at("addressType") == "FQDN" {
        out.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
    }
    if is_managed(slice, "endpointslice.kubernetes.io/managed-by", &controllers) {
        return out;
    }
    for (i, endpoint) in slice.list_at("endpoints").iter().enumerate() {
        for (j, address) in endpoint.strings_at("addresses").into_iter().enumerate() {
            let place = Path::new("endpoints").index(i).child("addresses").index(j);
            out.extend(ip::address_warning(&place, address));
        }
    }
    out
}

pub(super) fn class(class: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for (i, term) in class.list_at("allowedTopologies").iter().enumerate() {
        let place = Path::new("allowedTopologies")
            .index(i)
            .child("matchLabelExpressions");
        for (j, expression) in term.list_at("matchLabelExpressions").iter().enumerate() {
            if let Some(text) = node_label(expression.str_at("key")) {
                out.push(format!("{}: {text}", place.index(j).child("key")));
            }
        }
    }
    out
}

pub(super) fn driver(driver: &Value, old: Option<&Value>) -> Vec<String> {
    let (spec, requests) = (driver.at("spec"), "spec.tokenRequests");
    let stays = old.is_some_and(|old| same(old.at(requests), driver.at(requests)));
    if stays || spec.is_empty_at("tokenRequests") || spec.has("serviceAccountTokenInSecrets") {
        return Vec::new();
    }
    vec![
        "spec.serviceAccountTokenInSecrets is unset; if supported by this CSI driver, set to true to prevent possible logging \
         of tokens in volume attributes"
            .to_owned(),
    ]
}

pub(super) fn policy(policy: &Value) -> Vec<String> {
    let mut out = Vec::new();
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in policy.at("spec").list_at(rules).iter().enumerate() {
            let place = Path::new("spec").child(rules).index(i).child(peers);
            for (j, peer) in rule.list_at(peers).iter().enumerate() {
                let place = place.index(j).child("ipBlock");
                out.extend(ip::network_warnings(
                    &place.child("cidr"),
                    peer.str_at("ipBlock.cidr"),
                ));
                for (k, except) in peer.strings_at("ipBlock.except").into_iter().enumerate() {
                    out.extend(ip::network_warnings(&place.child("except").index(k), except));
                }
            }
        }
    }
    out
}

pub(super) fn ingress(ingress: &Value, old: Option<&Value>) -> Vec<String> {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let has = |object: &Value| object.at("metadata.annotations").get(CLASS).is_some();
    if has(ingress) && old.is_none() && !ingress.has("spec.ingressClassName") {
        return vec![format!(
            "annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"
        )];
    }
    Vec::new()
}

/// A service account that begins to be confined to its Secrets.
pub(super) fn account(account: &Value, old: Option<&Value>) -> Vec<String> {
    const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";
    let has = |object: &Value| object.at("metadata.annotations").get(ENFORCE).is_some();
    if has(account) && !old.is_some_and(has) {
        return vec![format!(
            "metadata.annotations[{ENFORCE}]: deprecated in v1.32+; prefer separate namespaces to isolate access to mounted secrets"
        )];
    }
    Vec::new()
}

/// Requests that are to be more than limits.
pub(super) fn quota(quota: &Value) -> Vec<String> {
    let amount = |name: &str| {
        let amount = quota.at("spec.hard").get(name)?;
        Quantity::from_json(amount).ok()
    };
    let mut out = Vec::new();
    for resource in ["cpu", "memory", "storage", "ephemeral-storage"] {
        let (whole, limit) = (format!("requests.{resource}"), format!("limits.{resource}"));
        // Those two may be told by their bare names.
        let bare = ["cpu", "memory"].contains(&resource) && amount(&whole).is_none();
        let request = if bare { resource } else { &whole };
        if let (Some(asked), Some(most)) = (amount(request), amount(&limit))
            && asked > most
        {
            out.push(format!(
                "ResourceQuota {request} ({asked}) should be less than {limit} ({most})"
            ));
        }
    }
    out
}

pub(super) fn node(node: &Value) -> Vec<String> {
    let spec = node.at("spec");
    let mut out = Vec::new();
    if spec.has("configSource") {
        out.push("spec.configSource: the feature is removed".to_owned());
    }
    if !spec.is_empty_at("externalID") {
        let text = "this field is deprecated, and is unused by Kubernetes";
        out.push(format!("spec.externalID: {text}"));
    }
    let at = Path::new("spec").child("podCIDRs");
    for (i, range) in spec.strings_at("podCIDRs").into_iter().enumerate() {
        out.extend(ip::network_warnings(&at.index(i), range));
    }
    out
}

pub(super) fn runtime_class(class: &Value) -> Vec<String> {
    let labels = class.entries_at("scheduling.nodeSelector").into_iter();
    let texts = labels.filter_map(|(label, _)| node_label(label));
    texts
        .map(|text| format!("scheduling.nodeSelector: {text}"))
        .collect()
}

pub(super) fn capacity(capacity: &Value) -> Vec<String> {
    let (topology, at) = (capacity.at("nodeTopology"), Path::new("nodeTopology"));
    let mut out = Vec::new();
    for (i, expression) in topology.list_at("matchExpressions").iter().enumerate() {
        let (key, place) = (expression.str_at("key"), at.child("matchExpressions").index(i));
        if let Some(text) = node_label(key) {
            out.push(format!("{}: {key} is {text}", place.child("key")));
        }
    }
    for (label, _) in topology.entries_at("matchLabels") {
        if let Some(text) = node_label(label) {
            out.push(format!("{}: {text}", at.child("matchLabels").child(label)));
        }
    }
    out
}

pub(super) fn device_slice(slice: &Value) -> Vec<String> {
    let driver = slice.str_at("spec.driver");
    if driver == driver.to_lowercase() {
        return Vec::new();
    }
    vec![format!(
        "spec.driver: driver names should be lowercase; {driver:?} contains uppercase characters"
    )]
}

/// Very many Pods with numbers are hard to keep in mind (KEP-3850).
pub(super) fn job(spec: &Value, at: &str) -> Vec<String> {
    let above = |field: &str, bound: i64| spec.int_at(field).is_some_and(|number| number > bound);
    let many = above("completions", 100_000) && above("parallelism", 10_000);
    if spec.str_at("completionMode") != "Indexed" || !many {
        return Vec::new();
    }
    vec![format!(
        "{at}: In Indexed Jobs with a number of completions higher than 10^5 and a parallelism higher than 10^4, Kubernetes \
         might not be able to track completedIndexes when a big number of indexes fail"
    )]
}

/// Claims and revisions of a StatefulSet.
pub(super) fn stateful_set(spec: &Value, is_update: bool) -> Vec<String> {
    let mut out = Vec::new();
    for (i, claim) in spec.list_at("volumeClaimTemplates").iter().enumerate() {
        let place = Path::new("spec").child("volumeClaimTemplates").index(i);
        // So upstream names it.
        let place = if is_update { place.child("Spec") } else { place };
        out.extend(claim_spec(claim.at("spec"), &place));
    }
    if spec.int_at("revisionHistoryLimit").is_some_and(|limit| limit < 0) {
        let text = "a negative value retains all historical revisions; a value >= 0 is recommended";
        out.push(format!("spec.revisionHistoryLimit: {text}"));
    }
    out
}

/// Addresses that a controller reports.
pub(super) fn balancer_status(object: &Value) -> Vec<String> {
    let at = Path::new("status").child("loadBalancer").child("ingress");
    let list = object.list_at("status.loadBalancer.ingress").iter().enumerate();
    list.filter_map(|(i, entry)| ip::address_warning(&at.index(i), entry.str_at("ip")))
        .collect()
}
