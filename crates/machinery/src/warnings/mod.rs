//! What is allowed in a Pod and hardly meant: answered beside the object, as `Warning` headers. Source:
//! `pkg/api/pod/warnings.go` of Kubernetes v1.35.

mod key_pair;
mod objects;
mod overlaps;

use crate::ip;
use crate::strategy::pod as strategy;
use crate::validation::names;
use crate::walk::{At, same};
use kinds::KindInfo;
use kinds::field::Path;
use kinds::quantity::Quantity;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Labels of Nodes that have other names now, or none.
const NODE_LABELS: [(&str, &str); 8] = [
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
        "beta.kubernetes.io/instance-type",
        "deprecated since v1.17; use \"node.kubernetes.io/instance-type\" instead",
    ),
    ("app.kubernetes.io/created-by", "deprecated since v1.9"),
    (
        "scheduler.alpha.kubernetes.io/preferAvoidPods",
        "deprecated since v1.22; use Taints and Tolerations instead",
    ),
    (
        "node-role.kubernetes.io/master",
        "use \"node-role.kubernetes.io/control-plane\" instead",
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
        ("", "Pod") if old.is_some() => return Vec::new(),
        ("", "Pod") => {
            let mut out = of_name(new, "the Pod's hostname");
            out.extend(of_pod(new, None));
            return out;
        }
        ("", "Service") => return objects::service(new),
        ("", "PersistentVolume") => return objects::volume(new),
        ("", "PersistentVolumeClaim") => return objects::claim(new),
        ("", "Secret") => return objects::secret(new),
        ("", "ServiceAccount") => return objects::account(new, old),
        ("", "Endpoints") => return objects::endpoints(new),
        ("", "Node") => return objects::node(new),
        ("", "ResourceQuota") if old.is_none() => return objects::quota(new),
        ("discovery.k8s.io", "EndpointSlice") => return objects::slice(new, old),
        ("storage.k8s.io", "StorageClass") => return objects::class(new),
        ("storage.k8s.io", "CSIDriver") => return objects::driver(new, old),
        ("storage.k8s.io", "CSIStorageCapacity") => return objects::capacity(new),
        ("node.k8s.io", "RuntimeClass") => return objects::runtime_class(new),
        ("resource.k8s.io", "ResourceSlice") => return objects::device_slice(new),
        ("networking.k8s.io", "Ingress") => return objects::ingress(new, old),
        ("networking.k8s.io", "NetworkPolicy") => return objects::policy(new),
        ("", "PodTemplate") => "template",
        ("apps", "Deployment" | "ReplicaSet" | "StatefulSet" | "DaemonSet")
        | ("batch", "Job")
        | ("", "ReplicationController") => "spec.template",
        ("batch", "CronJob") => "spec.jobTemplate.spec.template",
        _ => return Vec::new(),
    };
    let mut out = Vec::new();
    // Their Pods have the name of the set, which is a label, and one that says nothing of hosts.
    if old.is_none() && !["PodTemplate", "StatefulSet", "DaemonSet"].contains(&kind.kind) {
        out.extend(of_name(new, "Pod names and hostnames"));
    }
    if new.has(template) && old.is_none_or(|old| grown(kind, new, old)) {
        let mut steps = template.split('.');
        let first = Path::new(steps.next().unwrap_or_default());
        let at = steps.fold(first, |at, step| at.child(step));
        if kind.group == "batch" {
            let job = template.strip_suffix(".template").unwrap_or_default();
            out.extend(objects::job(new.at(job), job));
        }
        // Upstream looks at the template that a ReplicationController had.
        let looked = match old {
            Some(old) if kind.kind == "ReplicationController" => old,
            _ => new,
        };
        out.extend(of_pod(looked.at(template), Some(&at)));
    }
    if kind.kind == "StatefulSet" {
        out.extend(objects::stateful_set(new.at("spec"), old.is_some()));
    }
    out
}

/// Whether a change gave an object a new generation, or a DaemonSet one of its template.
fn grown(kind: &KindInfo, new: &Value, old: &Value) -> bool {
    let of_template = |object: &Value| {
        let annotations = object.at("metadata.annotations");
        annotations.get(crate::strategy::TEMPLATE_GENERATION).cloned()
    };
    match kind.kind {
        "DaemonSet" => of_template(new) != of_template(old),
        _ => new.at("metadata.generation") != old.at("metadata.generation"),
    }
}

fn of_name(object: &Value, used: &str) -> Vec<String> {
    let wrong = names::dns_label(object.str_at("metadata.name"));
    if wrong.is_empty() {
        return Vec::new();
    }
    vec![format!(
        "metadata.name: this is used in {used}, which can result in surprising behavior; a DNS label is recommended: [{}]",
        wrong.join(" ")
    )]
}

/// Warnings about a Pod as it was sent: of annotations that are fields since, before they are written into those.
pub fn early_warnings(kind: &KindInfo, new: &Value) -> Vec<String> {
    if (kind.group, kind.kind) != ("", "Pod")
        || !strategy::has_annotation_below(new, strategy::APP_ARMOR)
        || new.str_at("spec.os.name") == "windows"
    {
        return Vec::new();
    }
    let all = all_containers(new.at("spec"), &Path::new("spec"));
    all.into_iter()
        .filter_map(|(c, _)| app_armor(c, new, &Path::new("metadata")))
        .collect()
}

fn app_armor(container: &Value, pod: &Value, metadata: &Path) -> Option<String> {
    let name = format!("{}{}", strategy::APP_ARMOR, container.str_at("name"));
    let annotation = pod.at("metadata.annotations").get(&name)?.as_str()?;
    let whole = pod.at("spec.securityContext.appArmorProfile");
    let meant = strategy::app_armor(annotation);
    if container.has("securityContext.appArmorProfile") || meant.is_some_and(|meant| same(&meant, whole)) {
        return None;
    }
    let place = metadata.child("annotations").key(&name);
    Some(format!(
        "{place}: deprecated since v1.30; use the \"appArmorProfile\" field instead"
    ))
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
        let fields = volume.as_object().into_iter().flatten();
        let sources = fields.filter(|(name, source)| *name != "name" && !source.is_null());
        for (field, _) in sources {
            let place = at.child("volumes").index(i);
            if let Some((_, shown, text)) = VOLUMES.iter().find(|(old, ..)| old == field) {
                out.push(format!("{}: {text}", place.child(shown)));
            } else if field == "ephemeral" {
                let place = place
                    .child("ephemeral")
                    .child("volumeClaimTemplate")
                    .child("spec");
                out.extend(objects::claim_spec(
                    volume.at("ephemeral.volumeClaimTemplate.spec"),
                    &place,
                ));
            }
        }
    }
    out.extend(overlaps::of(spec.list_at("volumes")));
    repeated(spec, &at, &mut out);
    fractions(&[(spec.at("overhead"), at.child("overhead"))], &mut out);
    let profile = "securityContext.seccompProfile";
    let seccomp = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    if !spec.has(profile) && annotations.get(SECCOMP).is_some() {
        out.push(format!("{}: {seccomp}", annotation(SECCOMP)));
    }
    let (by_seccomp, by_app_armor) = (
        strategy::has_annotation_below(pod, CONTAINER_SECCOMP),
        strategy::has_annotation_below(pod, strategy::APP_ARMOR),
    );
    for (container, place) in all_containers(spec, &at) {
        if by_seccomp && !container.has(profile) {
            let name = format!("{CONTAINER_SECCOMP}{}", container.str_at("name"));
            if annotations.get(&name).is_some() {
                out.push(format!("{}: {seccomp}", annotation(&name)));
            }
        }
        if by_app_armor && above.is_some() {
            out.extend(app_armor(container, pod, &below("metadata")));
        }
        let amounts = ["limits", "requests"].map(|field| {
            let of = container.at("resources").at(field);
            (of, place.child("resources").child(field))
        });
        fractions(&amounts, &mut out);
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
    let place = at.child("dnsConfig").child("nameservers");
    for (i, server) in spec.strings_at("dnsConfig.nameservers").into_iter().enumerate() {
        out.extend(ip::address_warning(&place.index(i), server));
    }
    for (i, alias) in spec.list_at("hostAliases").iter().enumerate() {
        let place = at.child("hostAliases").index(i).child("ip");
        out.extend(ip::address_warning(&place, alias.str_at("ip")));
    }
    out
}

/// Warnings about what is reported of an object.
pub fn status_warnings(kind: &KindInfo, new: &Value) -> Vec<String> {
    let mut out = Vec::new();
    match (kind.group, kind.kind) {
        ("", "Pod") => {}
        ("", "Service") | ("networking.k8s.io", "Ingress") => return objects::balancer_status(new),
        _ => return out,
    }
    for list in ["podIPs", "hostIPs"] {
        for (i, address) in new.at("status").list_at(list).iter().enumerate() {
            let place = Path::new("status").child(list).index(i).child("ip");
            out.extend(ip::address_warning(&place, address.str_at("ip")));
        }
    }
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
    let (place, affinity) = (
        at.child("affinity").child("nodeAffinity"),
        spec.at("affinity.nodeAffinity"),
    );
    let required = "requiredDuringSchedulingIgnoredDuringExecution";
    for (i, term) in affinity
        .at(required)
        .list_at("nodeSelectorTerms")
        .iter()
        .enumerate()
    {
        let place = place.child(required).child("nodeSelectorTerms").index(i);
        node_term(term, false, &place, out);
    }
    let preferred = "preferredDuringSchedulingIgnoredDuringExecution";
    for (i, term) in affinity.list_at(preferred).iter().enumerate() {
        let place = place.child(preferred).index(i).child("preference");
        node_term(term.at("preference"), true, &place, out);
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

/// Old labels in a term about Nodes, and values that can be no label's where nothing refuses them.
fn node_term(term: &Value, values: bool, at: &Path, out: &mut Vec<String>) {
    for (i, expression) in term.list_at("matchExpressions").iter().enumerate() {
        let (place, key) = (at.child("matchExpressions").index(i), expression.str_at("key"));
        if let Some(text) = node_label(key) {
            out.push(format!("{}: {key} is {text}", place.child("key")));
        }
        for (j, value) in expression
            .strings_at("values")
            .into_iter()
            .enumerate()
            .filter(|_| values)
        {
            let place = place.child("values").index(j);
            let wrong = names::label_value(value);
            out.extend(
                wrong
                    .into_iter()
                    .map(|text| format!("{place}: {value} is invalid, {text}")),
            );
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
fn fractions(amounts: &[(&Value, Path)], out: &mut Vec<String>) {
    for name in ["memory", "ephemeral-storage"] {
        for (holder, at) in amounts {
            let amount = holder.get(name).and_then(|a| Quantity::from_json(a).ok());
            let Some(amount) = amount.filter(|amount| amount.as_milli() % 1000 != 0) else {
                continue;
            };
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
        if seen.insert(name) {
            continue;
        }
        let reference = format!("$({name})");
        let builds = !variable.has("valueFrom") && value != reference && value.contains(&reference);
        if !builds {
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
