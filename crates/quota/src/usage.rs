//! What an object uses of a namespace's quota: `count/RESOURCE.GROUP` for every kind, and more for Pods, Services and
//! volume claims.

use crate::amounts::{Amounts, amounts, total};
use crate::{containers, items};
use cache::view::GroupResource;
use jiff::{SignedDuration, Timestamp};
use kinds::quantity::Quantity;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Kinds whose plain name is a quota's resource too.
const COUNTED_BY_NAME: [&str; 6] = [
    "configmaps",
    "persistentvolumeclaims",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
];
/// After the name of a class: its devices, as a quota's resource.
const DEVICE_CLASS: &str = ".deviceclass.resource.k8s.io/devices";
/// Devices that one claim can have at most, which it may take when it asks for all.
const MOST_DEVICES: i128 = 32;
/// Compute resources that a quota can name without `requests.`.
const SHORT: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];

/// What `object`, one of `resource`, uses.
pub fn usage_of(resource: &GroupResource, object: &Value) -> Amounts {
    let one = || Quantity::from_units(1);
    let mut usage = Amounts::new();
    usage.insert(format!("count/{resource}"), one());
    if (resource.group.as_str(), resource.resource.as_str()) == ("resource.k8s.io", "resourceclaims") {
        devices(object, &mut usage);
    }
    if !resource.group.is_empty() {
        return usage;
    }
    if COUNTED_BY_NAME.contains(&resource.resource.as_str()) {
        usage.insert(resource.resource.clone(), one());
    }
    match resource.resource.as_str() {
        "pods" => pod(object, &mut usage),
        "services" => service(object, &mut usage),
        "persistentvolumeclaims" => claim(object, &mut usage),
        _ => {}
    }
    usage
}

fn pod(pod: &Value, usage: &mut Amounts) {
    if is_over(pod) {
        return;
    }
    usage.insert("pods".into(), Quantity::from_units(1));
    for (name, amount) in total(&pod["spec"], "requests") {
        if SHORT.contains(&name.as_str()) || name.starts_with("hugepages-") {
            usage.insert(name.clone(), amount);
        }
        usage.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in total(&pod["spec"], "limits") {
        if SHORT.contains(&name.as_str()) {
            usage.insert(format!("limits.{name}"), amount);
        }
    }
}

/// A Pod that has ended, or should have by now, uses no compute resources.
fn is_over(pod: &Value) -> bool {
    if matches!(pod["status"]["phase"].as_str(), Some("Succeeded" | "Failed")) {
        return true;
    }
    let deleted = pod["metadata"]["deletionTimestamp"]
        .as_str()
        .and_then(|t| t.parse::<Timestamp>().ok());
    let grace = pod["metadata"]["deletionGracePeriodSeconds"].as_i64();
    // deletionTimestamp already lies at the end of the grace period; the same time again is leeway for slow hosts.
    matches!((deleted, grace), (Some(at), Some(grace)) if Timestamp::now() > at + SignedDuration::from_secs(grace))
}

fn service(service: &Value, usage: &mut Amounts) {
    let spec = &service["spec"];
    let ports = items(spec, "ports").count() as i128;
    match spec["type"].as_str() {
        Some("NodePort") => {
            usage.insert("services.nodeports".into(), Quantity::from_units(ports));
        }
        Some("LoadBalancer") => {
            usage.insert("services.loadbalancers".into(), Quantity::from_units(1));
            let opened = match spec["allocateLoadBalancerNodePorts"].as_bool() {
                Some(false) => items(spec, "ports")
                    .filter(|p| p["nodePort"].as_i64().unwrap_or(0) > 0)
                    .count() as i128,
                _ => ports,
            };
            usage.insert("services.nodeports".into(), Quantity::from_units(opened));
        }
        _ => {}
    }
}

/// The storage class that a claim names, in the annotation that stood for the field once or in the field.
pub fn class_of(claim: &Value) -> &str {
    let old = claim["metadata"]["annotations"]["volume.beta.kubernetes.io/storage-class"].as_str();
    old.or_else(|| claim["spec"]["storageClassName"].as_str())
        .unwrap_or_default()
}

fn claim(claim: &Value, usage: &mut Amounts) {
    let size = |of: &Value| Quantity::from_json(&of["storage"]).ok();
    let requested = size(&claim["spec"]["resources"]["requests"]);
    // What a growth that failed had been given stays given until it is taken back.
    let given = size(&claim["status"]["allocatedResources"]);
    let size = requested.map(|requested| given.map_or(requested, |given| given.max(requested)).whole());
    let mut put = |name: &str| {
        usage.insert(format!("{name}persistentvolumeclaims"), Quantity::from_units(1));
        if let Some(size) = size {
            usage.insert(format!("{name}requests.storage"), size);
        }
    };
    put("");
    let class = class_of(claim);
    if !class.is_empty() {
        put(&format!("{class}.storageclass.storage.k8s.io/"));
    }
}

/// Devices of each class that a claim may take: of alternatives the one that takes most.
fn devices(claim: &Value, usage: &mut Amounts) {
    let mut all: BTreeMap<String, i128> = BTreeMap::new();
    for request in items(&claim["spec"]["devices"], "requests") {
        let mut most: BTreeMap<String, i128> = BTreeMap::new();
        for choice in items(request, "firstAvailable").chain(request.get("exactly")) {
            let count = match choice["allocationMode"].as_str() {
                Some("All") => MOST_DEVICES,
                Some("ExactCount") => choice["count"].as_i64().unwrap_or(1).into(),
                _ => 0,
            };
            let class = choice["deviceClassName"].as_str().unwrap_or_default();
            let most = most.entry(format!("{class}{DEVICE_CLASS}")).or_default();
            *most = count.max(*most);
        }
        for (class, count) in most {
            *all.entry(class).or_default() += count;
        }
    }
    usage.extend(
        all.into_iter()
            .map(|(class, count)| (class, Quantity::from_units(count))),
    );
}

/// The resources whose objects use what the quota names `names` stand for.
pub fn resources<'a>(names: impl Iterator<Item = &'a String>) -> BTreeSet<GroupResource> {
    names
        .map(|name| {
            if let Some(counted) = name.strip_prefix("count/") {
                let (resource, group) = counted.split_once('.').unwrap_or((counted, ""));
                return GroupResource::new(group, resource);
            }
            if name.ends_with(DEVICE_CLASS) {
                return GroupResource::new("resource.k8s.io", "resourceclaims");
            }
            let core = match name.as_str() {
                n if COUNTED_BY_NAME.contains(&n) => n,
                n if n.starts_with("services.") => "services",
                n if n == "requests.storage" || n.contains(".storageclass.storage.k8s.io/") => {
                    "persistentvolumeclaims"
                }
                _ => "pods",
            };
            GroupResource::new("", core)
        })
        .collect()
}

/// What containers of a new Pod leave unsaid that a quota on `hard` counts: `limits.cpu for: a,b; …`.
pub fn missing_in_pod(hard: &Amounts, pod: &Value) -> Option<String> {
    let mut missing: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    let spec = &pod["spec"];
    let counted = |name: &String| name == "cpu" || name == "memory" || name.starts_with("hugepages-");
    // A Pod that says anything as a whole need not say it of its containers.
    let whole = |which: &&str| amounts(&spec["resources"][*which]).keys().any(counted);
    if ["requests", "limits"].iter().any(whole) {
        return None;
    }
    for resource in hard.keys() {
        let (which, name) = match resource.split_once('.') {
            Some(("limits", name)) => ("limits", name),
            Some(("requests", name)) => ("requests", name),
            _ => ("requests", resource.as_str()),
        };
        // Only what upstream counts for every Pod; an extended resource not asked for is not used.
        if !["cpu", "memory"].contains(&name) {
            continue;
        }
        for container in containers(spec) {
            if !amounts(&container["resources"][which]).contains_key(name) {
                let container = container["name"].as_str().unwrap_or_default();
                missing.entry(resource.clone()).or_default().insert(container);
            }
        }
    }
    if missing.is_empty() {
        return None;
    }
    let parts: Vec<String> = missing
        .iter()
        .map(|(name, who)| {
            let who: Vec<&str> = who.iter().copied().collect();
            format!("{name} for: {}", who.join(","))
        })
        .collect();
    Some(parts.join("; "))
}
