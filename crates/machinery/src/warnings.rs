//! What is allowed in a Pod and hardly meant: answered beside the object, as `Warning` headers. Source:
//! `pkg/api/pod/warnings.go` of Kubernetes v1.35.

use crate::ip;
use crate::walk::At;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kinds::KindInfo;
use kinds::field::Path;
use kinds::quantity::Quantity;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Labels of Nodes that have other names now.
const NODE_LABELS: [(&str, &str); 6] = [
    (
        "beta.kubernetes.io/arch",
        "deprecated since v1.14; use \"kubernetes.io/arch\" instead",
    ),
    (
        "beta.kubernetes.io/os",
        "deprecated since v1.14; use \"kubernetes.io/os\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.beta.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
    (
        "failure-domain.kubernetes.io/region",
        "deprecated since v1.17; use \"topology.kubernetes.io/region\" instead",
    ),
    (
        "failure-domain.kubernetes.io/zone",
        "deprecated since v1.17; use \"topology.kubernetes.io/zone\" instead",
    ),
];
/// Annotations that do nothing any more.
const ANNOTATIONS: [(&str, &str); 3] = [
    (
        "scheduler.alpha.kubernetes.io/critical-pod",
        "non-functional in v1.16+; use the \"priorityClassName\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
    (
        "security.alpha.kubernetes.io/unsafe-sysctls",
        "non-functional in v1.11+; use the \"sysctls\" field instead",
    ),
];
/// Kinds of volumes of the past.
const VOLUMES: [(&str, &str, &str); 9] = [
    (
        "photonPersistentDisk",
        "photonPersistentDisk",
        "deprecated in v1.11, non-functional in v1.16+",
    ),
    (
        "gitRepo",
        "gitRepo",
        "deprecated in v1.11, and disabled by default in v1.33+",
    ),
    (
        "scaleIO",
        "scaleIO",
        "deprecated in v1.16, non-functional in v1.22+",
    ),
    (
        "flocker",
        "flocker",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "storageos",
        "storageOS",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "quobyte",
        "quobyte",
        "deprecated in v1.22, non-functional in v1.25+",
    ),
    (
        "glusterfs",
        "glusterfs",
        "deprecated in v1.25, non-functional in v1.26+",
    ),
    (
        "cephfs",
        "cephfs",
        "deprecated in v1.28, non-functional in v1.31+",
    ),
    ("rbd", "rbd", "deprecated in v1.28, non-functional in v1.31+"),
];
const SECCOMP: &str = "seccomp.security.alpha.kubernetes.io/pod";
const CONTAINER_SECCOMP: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// Warnings about a new object; `old` is the one that it changes. Pods are told of when they are made only, templates when
/// their object has a new generation.
pub fn warnings(kind: &KindInfo, new: &Value, old: Option<&Value>) -> Vec<String> {
    let template = match (kind.group, kind.kind) {
        ("", "Pod") => {
            return if old.is_none() {
                of_pod(new, None)
            } else {
                Vec::new()
            };
        }
        ("", "Service") => return of_service(new),
        ("", "PersistentVolume") => return of_volume(new),
        ("", "PersistentVolumeClaim") => return of_claim(new),
        ("", "Secret") => return of_secret(new),
        ("", "Endpoints") => return of_endpoints(new),
        ("discovery.k8s.io", "EndpointSlice") => return of_slice(new),
        ("storage.k8s.io", "StorageClass") => return of_class(new),
        ("storage.k8s.io", "CSIDriver") => return of_driver(new),
        ("networking.k8s.io", "Ingress") => return of_ingress(new, old),
        ("networking.k8s.io", "NetworkPolicy") => return of_policy(new),
        ("", "PodTemplate") => "template",
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
        | ("batch", "Job")
        | ("", "ReplicationController") => "spec.template",
        ("batch", "CronJob") => "spec.jobTemplate.spec.template",
        _ => return Vec::new(),
    };
    let generation = |object: &Value| object.int_at("metadata.generation");
    if old.is_some_and(|old| generation(old) == generation(new)) || !new.has(template) {
        return Vec::new();
    }
    let mut steps = template.split('.');
    let first = Path::new(steps.next().unwrap_or_default());
    let at = steps.fold(first, |at, step| at.child(step));
    of_pod(new.at(template), Some(&at))
}

fn of_service(service: &Value) -> Vec<String> {
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

fn of_volume(volume: &Value) -> Vec<String> {
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

fn of_claim(claim: &Value) -> Vec<String> {
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
fn of_secret(secret: &Value) -> Vec<String> {
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

fn of_endpoints(endpoints: &Value) -> Vec<String> {
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

fn of_slice(slice: &Value) -> Vec<String> {
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

fn of_class(class: &Value) -> Vec<String> {
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

fn of_driver(driver: &Value) -> Vec<String> {
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

fn of_policy(policy: &Value) -> Vec<String> {
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

fn of_ingress(ingress: &Value, old: Option<&Value>) -> Vec<String> {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let has = |object: &Value| object.at("metadata.annotations").get(CLASS).is_some();
    if has(ingress) && old.is_none() && !ingress.has("spec.ingressClassName") {
        return vec![format!(
            "annotation {CLASS:?} is deprecated, please use 'spec.ingressClassName' instead"
        )];
    }
    Vec::new()
}

/// `above` is where the template stands; a Pod stands nowhere.
fn of_pod(pod: &Value, above: Option<&Path>) -> Vec<String> {
    let below = |name: &str| above.map_or_else(|| Path::new(name), |at| at.child(name));
    let (spec, at) = (pod.at("spec"), below("spec"));
    let annotations = pod.at("metadata.annotations");
    let annotation = |name: &str| below("metadata").child("annotations").key(name);
    let mut out = Vec::new();
    node_labels(spec, &at, &mut out);
    for (name, text) in ANNOTATIONS {
        if annotations.get(name).is_some() {
            out.push(format!("{}: {text}", annotation(name)));
        }
    }
    for (i, volume) in spec.list_at("volumes").iter().enumerate() {
        for (field, shown, text) in VOLUMES {
            if volume.has(field) {
                out.push(format!("{}: {text}", at.child("volumes").index(i).child(shown)));
            }
        }
    }
    for volume in spec.list_at("volumes") {
        if volume.has("projected") && volume.list_at("projected.sources").is_empty() {
            out.push(format!(
                "volume {:?} (Projected) has no sources provided",
                volume.str_at("name")
            ));
        }
        let empty = |source: &Value| source.as_object().is_some_and(|s| s.values().all(Value::is_null));
        let sources = volume.list_at("projected.sources");
        if !sources.is_empty() && sources.iter().any(empty) {
            out.push(format!(
                "volume {:?} (Projected) has no sources provided",
                volume.str_at("name")
            ));
        }
    }
    repeated(spec, &at, &mut out);
    fractions(spec.at("overhead"), &at.child("overhead"), &mut out);
    let profile = "securityContext.seccompProfile";
    let seccomp = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    if !spec.has(profile) && annotations.get(SECCOMP).is_some() {
        out.push(format!("{}: {seccomp}", annotation(SECCOMP)));
    }
    for (container, place) in all_containers(spec, &at) {
        let name = format!("{CONTAINER_SECCOMP}{}", container.str_at("name"));
        if !container.has(profile) && annotations.get(&name).is_some() {
            out.push(format!("{}: {seccomp}", annotation(&name)));
        }
        for field in ["limits", "requests"] {
            let of = container.at("resources").at(field);
            fractions(of, &place.child("resources").child(field), &mut out);
        }
        variables(container, &place, &mut out);
    }
    ports(spec, &at, &mut out);
    if spec
        .int_at("terminationGracePeriodSeconds")
        .is_some_and(|grace| grace < 0)
    {
        let place = at.child("terminationGracePeriodSeconds");
        out.push(format!(
            "{place}: must be >= 0; negative values are invalid and will be treated as 1"
        ));
    }
    selectors(spec, &at, &mut out);
    out
}

/// Containers in the order in which upstream visits them.
fn all_containers<'p>(spec: &'p Value, at: &Path) -> Vec<(&'p Value, Path)> {
    let lists = ["initContainers", "containers", "ephemeralContainers"];
    let of = |list: &'static str| {
        let containers = spec.list_at(list).iter().enumerate();
        let at = at.clone();
        containers.map(move |(i, container)| (container, at.child(list).index(i)))
    };
    lists.into_iter().flat_map(of).collect()
}

fn node_label(name: &str) -> Option<&'static str> {
    NODE_LABELS
        .iter()
        .find(|(label, _)| *label == name)
        .map(|(_, text)| *text)
}

fn node_labels(spec: &Value, at: &Path, out: &mut Vec<String>) {
    for (name, _) in spec.entries_at("nodeSelector") {
        if let Some(text) = node_label(name) {
            out.push(format!("{}: {text}", at.child("nodeSelector").key(name)));
        }
    }
    for (i, constraint) in spec.list_at("topologySpreadConstraints").iter().enumerate() {
        let place = at.child("topologySpreadConstraints").index(i);
        let key = constraint.str_at("topologyKey");
        if let Some(text) = node_label(key) {
            out.push(format!("{}: {key} is {text}", place.child("topologyKey")));
        }
        if !constraint.has("labelSelector") {
            out.push(no_selector(&place.child("labelSelector")));
        }
    }
}

fn no_selector(at: &Path) -> String {
    format!("{at}: a null labelSelector results in matching no pod")
}

/// Terms about other Pods that name none.
fn selectors(spec: &Value, at: &Path, out: &mut Vec<String>) {
    for kind in ["podAffinity", "podAntiAffinity"] {
        let place = at.child("affinity").child(kind);
        let affinity = spec.at("affinity").at(kind);
        for (list, term) in [
            ("requiredDuringSchedulingIgnoredDuringExecution", None),
            (
                "preferredDuringSchedulingIgnoredDuringExecution",
                Some("podAffinityTerm"),
            ),
        ] {
            for (i, item) in affinity.list_at(list).iter().enumerate() {
                let (item, place) = match term {
                    Some(term) => (item.at(term), place.child(list).index(i).child(term)),
                    None => (item, place.child(list).index(i)),
                };
                if !item.has("labelSelector") {
                    out.push(no_selector(&place.child("labelSelector")));
                }
            }
        }
    }
}

fn repeated(spec: &Value, at: &Path, out: &mut Vec<String>) {
    for (list, field) in [("hostAliases", "ip"), ("imagePullSecrets", "name")] {
        let mut seen = BTreeSet::new();
        for (i, item) in spec.list_at(list).iter().enumerate() {
            let value = item.str_at(field);
            if !seen.insert(value) {
                let place = at.child(list).index(i).child(field);
                out.push(format!("{place}: duplicate {field} {value:?}"));
            }
        }
    }
    for (i, secret) in spec.list_at("imagePullSecrets").iter().enumerate() {
        if secret.is_empty_at("name") {
            let place = at.child("imagePullSecrets").index(i).child("name");
            out.push(format!("{place}: invalid empty name \"\""));
        }
    }
}

/// Bytes come whole.
fn fractions(amounts: &Value, at: &Path, out: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        let Some(amount) = amounts.get(name).and_then(|a| Quantity::from_json(a).ok()) else {
            continue;
        };
        if amount.as_milli() % 1000 != 0 {
            let text = amount.to_string();
            out.push(format!(
                "{}: fractional byte value {text:?} is invalid, must be an integer",
                at.key(name)
            ));
        }
    }
}

/// A variable that hides an earlier one without building on it.
fn variables(container: &Value, at: &Path, out: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (i, variable) in container.list_at("env").iter().enumerate() {
        let (name, value) = (variable.str_at("name"), variable.str_at("value"));
        let reference = format!("$({name})");
        let builds = !variable.has("valueFrom") && value != reference && value.contains(&reference);
        if !seen.insert(name) && !builds {
            let place = at.child("env").index(i);
            out.push(format!(
                "{place}: hides previous definition of {name:?}, which may be dropped when using apply"
            ));
        }
    }
}

fn ports(spec: &Value, at: &Path, out: &mut Vec<String>) {
    let mut all: BTreeMap<(i64, &str), Vec<(&Value, Path)>> = BTreeMap::new();
    let (host, ip) = (
        |p: &Value| p.int_at("hostPort").unwrap_or(0),
        |p: &Value| p.str_at("hostIP").to_owned(),
    );
    for (container, place) in all_containers(spec, at) {
        for (i, port) in container.list_at("ports").iter().enumerate() {
            let place = place.child("ports").index(i);
            let (number, protocol) = (port.int_at("containerPort").unwrap_or(0), port.str_at("protocol"));
            if !ip(port).is_empty() && host(port) == 0 {
                out.push(format!(
                    "{place}: hostIP set without hostPort: {{Name:{} HostPort:0 ContainerPort:{number} Protocol:{protocol} HostIP:{}}}",
                    port.str_at("name"),
                    ip(port)
                ));
            }
            let others = all.entry((number, protocol)).or_default();
            for (other, there) in others.iter() {
                let one_open = ip(port).is_empty() != ip(other).is_empty();
                let how = if host(port) == host(other) && ip(port) == ip(other) {
                    "duplicate"
                } else if host(port) == 0 || host(other) == 0 {
                    "overlapping"
                } else if host(port) == host(other) && one_open {
                    "dangerously ambiguous"
                } else {
                    continue;
                };
                out.push(format!("{place}: {how} port definition with {there}"));
            }
            others.push((port, place));
        }
    }
    let mut names: BTreeMap<&str, Path> = BTreeMap::new();
    for (container, place) in all_containers(spec, at) {
        for (i, port) in container.list_at("ports").iter().enumerate() {
            let (name, place) = (port.str_at("name"), place.child("ports").index(i));
            if name.is_empty() {
                continue;
            }
            if let Some(other) = names.get(name) {
                out.push(format!(
                    "{place}: duplicate port name {name:?} with {other}, services and probes that select ports by name will use {other}"
                ));
            } else {
                names.insert(name, place);
            }
        }
    }
}
