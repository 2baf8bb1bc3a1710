//! Warnings of kinds that have no Pods. Sources: `pkg/api/*/warnings.go` and `util.go` of Kubernetes v1.35.

use super::{VOLUMES, node_label};
use crate::ip;
use crate::walk::At;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kinds::field::Path;
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
    let mut addresses = |field: &str| {
        let list = spec.strings_at(field).into_iter().enumerate();
        out.extend(list.filter_map(|(i, ip)| ip::address_warning(&at.child(field).index(i), ip)));
    };
    if kind != "ExternalName" && !headless {
        addresses("clusterIPs");
    }
    addresses("externalIPs");
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
    let mut out = storage_annotations(volume);
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

/// Annotations of volumes and claims that have become fields.
fn storage_annotations(object: &Value) -> Vec<String> {
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
    let there = known.iter().filter(|(key, _)| annotations.get(*key).is_some());
    there
        .map(|(key, text)| format!("{}: {text}", at.key(key)))
        .collect()
}

pub(super) fn claim(claim: &Value) -> Vec<String> {
    let mut out = storage_annotations(claim);
    out.truncate(1);
    let at = Path::new("spec").child("resources");
    for field in ["requests", "limits"] {
        let value = claim.at("spec.resources").at(field).at("storage");
        let amount = kinds::quantity::Quantity::from_json(value).ok();
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
    let begins = |bytes: &[u8]| bytes.windows(11).any(|piece| piece == b"-----BEGIN ");
    let (certificate, key) = (part("tls.crt"), part("tls.key"));
    let what = match (begins(&certificate), begins(&key)) {
        (false, _) => "certificate",
        (true, false) => "key",
        (true, true) => return Vec::new(),
    };
    vec![format!("tls: failed to find any PEM data in {what} input")]
}

pub(super) fn endpoints(endpoints: &Value) -> Vec<String> {
    let mut out = Vec::new();
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

pub(super) fn slice(slice: &Value) -> Vec<String> {
    let mut out = Vec::new();
    if slice.str_at("addressType") == "FQDN" {
        out.push("spec.addressType: FQDN endpoints are deprecated".to_owned());
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

pub(super) fn driver(driver: &Value) -> Vec<String> {
    let spec = driver.at("spec");
    if spec.is_empty_at("tokenRequests") || spec.has("serviceAccountTokenInSecrets") {
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
