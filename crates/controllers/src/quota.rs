//! ResourceQuota status: recounts what a namespace uses, as admission only adds.

use crate::manager::Reconciler;
use crate::obj::{deleting, finished, int, items, meta, since, text};
use crate::world::{World, WorldError, difference, settled};
use async_trait::async_trait;
use cache::Uid;
use kinds::quantity::Quantity;
use parking_lot::Mutex;
use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

const QUOTAS: &str = "resourcequotas";
const PODS: &str = "pods";
const CLAIMS: &str = "persistentvolumeclaims";
const SERVICES: &str = "services";
const DEVICE_CLAIMS: &str = "resourceclaims.resource.k8s.io";

/// Amounts by the name of what is counted.
pub type Amounts = BTreeMap<String, Quantity>;

/// What one quota counts of each Pod, by uid, with the Pod's revision: of many Pods few change between two sweeps.
/// A quota's scopes never change.
type Counted = HashMap<Uid, (u64, Amounts)>;

/// The controller of quotas.
#[derive(Default)]
pub(crate) struct Quotas {
    /// By the uid of the quota.
    counted: Mutex<HashMap<String, Counted>>,
}

/// The amounts of a resource map.
pub fn amounts(v: &Value) -> Amounts {
    let map = v.as_object().into_iter().flatten();
    map.filter_map(|(k, v)| Quantity::from_json(v).ok().map(|q| (k.clone(), q)))
        .collect()
}

fn add(to: &mut Amounts, name: &str, amount: &Quantity) {
    let sum = to.get(name).map_or_else(|| *amount, |have| have.add(amount));
    to.insert(name.to_string(), sum);
}

/// Makes each amount at least as large as another.
pub fn raise(to: &mut Amounts, from: &Amounts) {
    for (name, amount) in from {
        if to.get(name).is_none_or(|have| have < amount) {
            to.insert(name.clone(), *amount);
        }
    }
}

/// What a Pod asks for (`requests` or `limits`).
pub fn pod_amounts(pod: &Value, which: &str) -> Amounts {
    pod_amounts_by(pod, which, |container| amounts(&container["resources"][which]))
}

/// What a Pod asks for when each of its containers asks for what `of` says: its containers together, or its init
/// containers if those ask for more; sidecars (init containers that stay) count with both; what the Pod itself says
/// in its containers' place; overhead on top. Source: KEP-753, KEP-2837.
pub fn pod_amounts_by(pod: &Value, which: &str, of: impl Fn(&Value) -> Amounts) -> Amounts {
    let mut sum = Amounts::new();
    for container in items(pod, "/spec/containers") {
        for (name, amount) in of(container) {
            add(&mut sum, &name, &amount);
        }
    }
    let (mut sidecars, mut most) = (Amounts::new(), Amounts::new());
    for container in items(pod, "/spec/initContainers") {
        let own = of(container);
        if container["restartPolicy"] == "Always" {
            for (name, amount) in &own {
                add(&mut sum, name, amount);
                add(&mut sidecars, name, amount);
            }
            raise(&mut most, &sidecars);
        } else {
            let mut at_once = sidecars.clone();
            for (name, amount) in &own {
                add(&mut at_once, name, amount);
            }
            raise(&mut most, &at_once);
        }
    }
    raise(&mut sum, &most);
    for (name, amount) in amounts(&pod["spec"]["resources"][which]) {
        sum.insert(name, amount);
    }
    for (name, amount) in amounts(&pod["spec"]["overhead"]) {
        add(&mut sum, &name, &amount);
    }
    sum
}

/// Whether an affinity of the Pod looks into other namespaces.
fn crosses_namespaces(pod: &Value) -> bool {
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let at = |when: &str| {
            items(
                pod,
                &format!("/spec/affinity/{kind}/{when}DuringSchedulingIgnoredDuringExecution"),
            )
        };
        let preferred = at("preferred").iter().map(|p| &p["podAffinityTerm"]);
        at("required")
            .iter()
            .chain(preferred)
            .any(|term| !items(term, "/namespaces").is_empty() || term["namespaceSelector"].is_object())
    })
}

/// The Pod is in a quota's scopes.
fn in_scope(quota: &Value, pod: &Value) -> bool {
    let holds = |scope: &str| match scope {
        "Terminating" => !pod["spec"]["activeDeadlineSeconds"].is_null(),
        "NotTerminating" => pod["spec"]["activeDeadlineSeconds"].is_null(),
        "BestEffort" => text(pod, "/status/qosClass") == "BestEffort",
        "NotBestEffort" => text(pod, "/status/qosClass") != "BestEffort",
        "CrossNamespacePodAffinity" => crosses_namespaces(pod),
        _ => true,
    };
    let plain = items(quota, "/spec/scopes")
        .iter()
        .filter_map(Value::as_str)
        .all(holds);
    plain
        && items(quota, "/spec/scopeSelector/matchExpressions")
            .iter()
            .all(|e| {
                let class = text(pod, "/spec/priorityClassName");
                match (text(e, "/scopeName"), text(e, "/operator")) {
                    ("PriorityClass", "In") => items(e, "/values").iter().any(|v| v == class),
                    ("PriorityClass", "NotIn") => !items(e, "/values").iter().any(|v| v == class),
                    ("PriorityClass", "Exists") => !class.is_empty(),
                    ("PriorityClass", _) => class.is_empty(),
                    (scope, _) => holds(scope),
                }
            })
}

/// The claim of a volume is in a quota's scopes: only one scope is about claims.
fn claim_in_scope(quota: &Value, claim: &Value) -> bool {
    let names = [
        "/spec/volumeAttributesClassName",
        "/status/currentVolumeAttributesClassName",
        "/status/modifyVolumeStatus/targetVolumeAttributesClassName",
    ];
    let names: Vec<&str> = names
        .iter()
        .map(|at| text(claim, at))
        .filter(|name| !name.is_empty())
        .collect();
    let expressions = items(quota, "/spec/scopeSelector/matchExpressions");
    let scopes = items(quota, "/spec/scopes");
    let known = |scope: &str| scope == "VolumeAttributesClass";
    scopes
        .iter()
        .all(|scope| scope.as_str().is_some_and(known) && !names.is_empty())
        && expressions.iter().all(|e| {
            let listed = || {
                names
                    .iter()
                    .any(|name| items(e, "/values").iter().any(|v| v == name))
            };
            known(text(e, "/scopeName"))
                && match text(e, "/operator") {
                    "Exists" => !names.is_empty(),
                    "DoesNotExist" => names.is_empty(),
                    "In" => listed(),
                    _ => !listed(),
                }
        })
}

/// Devices that a claim may take, by class: of alternatives the one that takes most.
fn of_devices(claim: &Value) -> Amounts {
    /// What a claim for all devices of a class may take.
    const MOST: i64 = 32;
    let mut used = Amounts::new();
    for request in items(claim, "/spec/devices/requests") {
        let mut most: HashMap<&str, i64> = HashMap::new();
        let choices = items(request, "/firstAvailable").iter();
        for choice in choices.chain(request.get("exactly")) {
            let count = match text(choice, "/allocationMode") {
                "All" => MOST,
                "ExactCount" => int(choice, "/count", 1),
                _ => 0,
            };
            let most = most.entry(text(choice, "/deviceClassName")).or_default();
            *most = count.max(*most);
        }
        for (class, count) in most {
            let name = format!("{class}.deviceclass.resource.k8s.io/devices");
            add(&mut used, &name, &Quantity::from_units(count.into()));
        }
    }
    used
}

/// The time that a Pod had to stop is over twice: its host may be gone, and it holds no quota any more.
fn past_grace(pod: &Value) -> bool {
    let grace = int(pod, "/metadata/deletionGracePeriodSeconds", 0);
    deleting(pod) && since(meta(pod, "deletionTimestamp")).as_secs() >= grace
}

/// What a Pod adds to a quota.
fn of_pod(quota: &Value, pod: &Value) -> Amounts {
    let mut used = Amounts::new();
    if finished(pod) || past_grace(pod) || !in_scope(quota, pod) {
        return used;
    }
    add(&mut used, "pods", &Quantity::from_units(1));
    for (name, amount) in pod_amounts(pod, "requests") {
        add(&mut used, &name, &amount);
        add(&mut used, &format!("requests.{name}"), &amount);
    }
    for (name, amount) in pod_amounts(pod, "limits") {
        add(&mut used, &format!("limits.{name}"), &amount);
    }
    used
}

fn used(world: &World, quota: &Value, counted: &mut Counted) -> Amounts {
    let namespace = meta(quota, "namespace");
    let mut used = Amounts::new();
    let one = Quantity::from_units(1);
    let mut next = Counted::new();
    for pod in world.entries(PODS, namespace, |_| true) {
        let known = counted
            .remove(&pod.links().uid)
            // Of one that is going, time alone changes what it counts.
            .filter(|(revision, _)| *revision == pod.revision() && !pod.links().deleting);
        let (_, amounts) = known.unwrap_or_else(|| (0, of_pod(quota, &world.value(&pod))));
        for (name, amount) in &amounts {
            add(&mut used, name, amount);
        }
        next.insert(pod.links().uid, (pod.revision(), amounts));
    }
    *counted = next;
    for service in world.list(SERVICES, namespace) {
        let kind = text(&service, "/spec/type");
        if kind == "LoadBalancer" {
            add(&mut used, "services.loadbalancers", &one);
        }
        let ports = items(&service, "/spec/ports")
            .iter()
            .filter(|p| int(p, "/nodePort", 0) > 0)
            .count();
        if matches!(kind, "NodePort" | "LoadBalancer") {
            add(
                &mut used,
                "services.nodeports",
                &Quantity::from_units(ports as i128),
            );
        }
    }
    for claim in world.list(DEVICE_CLAIMS, namespace) {
        for (name, amount) in of_devices(&claim) {
            add(&mut used, &name, &amount);
        }
    }
    for claim in world.list(CLAIMS, namespace) {
        if !claim_in_scope(quota, &claim) {
            continue;
        }
        let class = text(&claim, "/spec/storageClassName");
        for prefix in [String::new(), format!("{class}.storageclass.storage.k8s.io/")] {
            if prefix.is_empty() || !class.is_empty() {
                add(&mut used, &format!("{prefix}persistentvolumeclaims"), &one);
                if let Ok(size) = Quantity::from_json(&claim["spec"]["resources"]["requests"]["storage"]) {
                    add(&mut used, &format!("{prefix}requests.storage"), &size);
                }
            }
        }
    }
    for name in quota["spec"]["hard"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(k, _)| k)
    {
        let counted = match name.strip_prefix("count/") {
            Some(key) => key,
            None if [
                "configmaps",
                "secrets",
                "services",
                "resourcequotas",
                "replicationcontrollers",
            ]
            .contains(&name.as_str()) =>
            {
                name
            }
            None => continue,
        };
        let count = world.count(counted, namespace);
        used.insert(name.clone(), Quantity::from_units(count as i128));
    }
    used
}

#[async_trait]
impl Reconciler for Quotas {
    fn name(&self) -> &'static str {
        "resourcequota"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[QUOTAS, PODS, CLAIMS, SERVICES, DEVICE_CLAIMS]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut quotas = world.all(QUOTAS);
        quotas.retain(|quota| !deleting(quota));
        self.counted
            .lock()
            .retain(|uid, _| quotas.iter().any(|quota| meta(quota, "uid") == uid));
        for quota in quotas {
            let used = {
                let mut counted = self.counted.lock();
                used(
                    world,
                    &quota,
                    counted.entry(meta(&quota, "uid").to_owned()).or_default(),
                )
            };
            let hard = quota["spec"]["hard"].as_object().cloned().unwrap_or_default();
            let zero = Quantity::from_units(0);
            let shown: Map<String, Value> = hard
                .keys()
                .map(|k| (k.clone(), json!(used.get(k).unwrap_or(&zero).to_string())))
                .collect();
            // Admission writes here too, at every creation: only the version that was counted may be replaced.
            let status = json!({"hard": hard, "used": shown});
            if let Some(status) = difference(&quota["status"], &status) {
                let patch = json!({"metadata": {"resourceVersion": meta(&quota, "resourceVersion")}, "status": status});
                settled(world.patch(QUOTAS, &quota, "status", &patch).await)?;
            }
        }
        Ok(Some(Duration::from_secs(20)))
    }
}
