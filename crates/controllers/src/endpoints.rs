//! EndpointSlices and Endpoints: which Pods stand behind a Service.
//!
//! One pass over the Pods of a Service gives both. Slices hold at most 100 endpoints; Endpoints objects at most 1000.

use crate::claim::Sweep;
use crate::concern::{By, Concern, Ties, same_name};
use crate::manager::Reconciler;
use crate::obj::{
    annotation, controlled_by, deleting, finished, int, items, label, meta, owner_ref, ready, text,
};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use cache::Object;
use cache::fields::pod::ADDRESS;
use kinds::selector::LabelSelector;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SERVICES: &str = "services";
const PODS: &str = "pods";
const ENDPOINTS: &str = "endpoints";
const NODES: &str = "nodes";
const SLICES: &str = "endpointslices.discovery.k8s.io";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslice-controller.k8s.io";
const HEADLESS: &str = "service.kubernetes.io/headless";
const TRIGGER: &str = "endpoints.kubernetes.io/last-change-trigger-time";
const CAPACITY: &str = "endpoints.kubernetes.io/over-capacity";
const ZONE: &str = "topology.kubernetes.io/zone";
const PER_SLICE: usize = 100;
const PER_ENDPOINTS: usize = 1000;

/// Ports, addresses that are ready, addresses that are not.
type Subset = (Vec<Value>, Vec<Value>, Vec<Value>);

/// The controller of both kinds.
pub(crate) struct EndpointsOfServices {
    services: Concern,
    /// Endpoints that may have lost their Service.
    endpoints: Concern,
}

/// What the objects of a Service depend on, and they themselves.
const TIES: Ties = &[
    (PODS, &[By::Labels]),
    (ENDPOINTS, &[By::Name(same_name)]),
    (SLICES, &[By::Name(service_of)]),
    (NODES, &[By::All(moved)]),
];

impl Default for EndpointsOfServices {
    fn default() -> EndpointsOfServices {
        EndpointsOfServices {
            services: Concern::new(SERVICES, TIES).selecting(selector),
            endpoints: Concern::new(ENDPOINTS, &[(SERVICES, &[By::Name(same_name)])]),
        }
    }
}

/// Which Pods a Service selects, if it does.
fn selector(service: &Value) -> Option<LabelSelector> {
    let labels = &service["spec"]["selector"];
    let selects = labels.as_object().is_some_and(|labels| !labels.is_empty());
    selects.then(|| LabelSelector::from_map(labels))
}

/// The Service of a slice, if it says so.
pub(crate) fn service_of(slice: &Object) -> Vec<String> {
    let service = slice.label(SERVICE_NAME);
    let key = service.map(|service| format!("{}/{service}", slice.namespace()));
    key.into_iter().collect()
}

/// Whether a node has come to a zone or left one.
fn moved(before: Option<&Value>, after: Option<&Value>) -> bool {
    fn zone(node: Option<&Value>) -> &str {
        node.map_or("", |node| label(node, ZONE))
    }
    zone(before) != zone(after)
}

/// The containers of a Pod that stay: of its init containers only sidecars.
fn lasting(pod: &Value) -> impl Iterator<Item = &Value> {
    let sidecars = items(pod, "/spec/initContainers").iter();
    let sidecars = sidecars.filter(|c| c["restartPolicy"] == "Always");
    items(pod, "/spec/containers").iter().chain(sidecars)
}

/// Ports of a Service as one Pod serves them.
fn ports_of(service: &Value, pod: &Value) -> Vec<Value> {
    let mut found = Vec::new();
    for port in items(service, "/spec/ports") {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        let target = &port["targetPort"];
        let number = match (target.as_i64(), target.as_str()) {
            (Some(0), _) | (None, None | Some("")) => port["port"].as_i64(),
            (Some(n), _) => Some(n),
            (None, Some(name)) => lasting(pod)
                .flat_map(|c| items(c, "/ports"))
                .find(|p| p["name"] == name && p["protocol"].as_str().unwrap_or("TCP") == protocol)
                .and_then(|p| p["containerPort"].as_i64()),
        };
        if let Some(number) = number {
            let mut entry =
                json!({"name": port["name"].as_str().unwrap_or(""), "port": number, "protocol": protocol});
            if let Some(app) = port["appProtocol"].as_str() {
                entry["appProtocol"] = json!(app);
            }
            found.push(entry);
        }
    }
    found
}

/// The Pods that count: with an address, not ended, selected.
fn behind(service: &Value, pods: &[Arc<Value>]) -> Vec<Arc<Value>> {
    let selector = LabelSelector::from_map(&service["spec"]["selector"]);
    let mut found: Vec<Arc<Value>> = pods
        .iter()
        .filter(|p| selector.matches_object(p) && !finished(p) && !text(p, "/status/podIP").is_empty())
        .cloned()
        .collect();
    found.sort_by(|a, b| meta(a, "name").cmp(meta(b, "name")));
    found
}

fn hostname<'a>(service: &Value, pod: &'a Value) -> Option<&'a str> {
    let name = text(pod, "/spec/hostname");
    (!name.is_empty() && text(pod, "/spec/subdomain") == meta(service, "name")).then_some(name)
}

fn reference(pod: &Value) -> Value {
    json!({"kind": "Pod", "namespace": meta(pod, "namespace"), "name": meta(pod, "name"), "uid": meta(pod, "uid")})
}

/// In which zone a node is, if it says so.
pub(crate) type Zones<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Where traffic to a ready endpoint should come from (KEP-4444, KEP-3015); `null` for anywhere.
fn hints(service: &Value, endpoint: &Value) -> Value {
    let distribution = text(service, "/spec/trafficDistribution");
    let close = ["PreferClose", "PreferSameZone", "PreferSameNode"].contains(&distribution);
    if !close || endpoint["conditions"]["ready"] != true {
        return Value::Null;
    }
    let mut hints = Value::Null;
    if let Some(zone) = endpoint.get("zone") {
        hints["forZones"] = json!([{"name": zone}]);
    }
    if let (Some(node), "PreferSameNode") = (endpoint.get("nodeName"), distribution) {
        hints["forNodes"] = json!([{"name": node}]);
    }
    hints
}

/// Endpoints by the set of ports they serve.
fn groups(
    service: &Value,
    pods: &[Arc<Value>],
    zones: Zones<'_>,
) -> BTreeMap<String, (Vec<Value>, Vec<Value>)> {
    let publish = service["spec"]["publishNotReadyAddresses"] == true;
    let mut groups: BTreeMap<String, (Vec<Value>, Vec<Value>)> = BTreeMap::new();
    for pod in behind(service, pods) {
        let ports = ports_of(service, &pod);
        let (serving, terminating) = (ready(&pod), deleting(&pod));
        let mut endpoint = json!({
            "addresses": [text(&pod, "/status/podIP")],
            "conditions": {"ready": publish || (serving && !terminating), "serving": serving, "terminating": terminating},
            "targetRef": reference(&pod),
        });
        let node = text(&pod, "/spec/nodeName");
        if !node.is_empty() {
            endpoint["nodeName"] = json!(node);
        }
        if let Some(zone) = zones(node) {
            endpoint["zone"] = json!(zone);
        }
        if let Some(name) = hostname(service, &pod) {
            endpoint["hostname"] = json!(name);
        }
        let hints = hints(service, &endpoint);
        if !hints.is_null() {
            endpoint["hints"] = hints;
        }
        let key = json!(ports).to_string();
        groups
            .entry(key)
            .or_insert_with(|| (ports, Vec::new()))
            .1
            .push(endpoint);
    }
    if groups.is_empty() {
        groups.insert(String::new(), (Vec::new(), Vec::new()));
    }
    groups
}

fn labels(service: &Value) -> Value {
    let mut labels = service["metadata"]["labels"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    // What the Service says of itself here does not count.
    match text(service, "/spec/clusterIP") {
        "None" => drop(labels.insert(HEADLESS.into(), json!(""))),
        _ => drop(labels.remove(HEADLESS)),
    }
    Value::Object(labels)
}

/// The slices a Service should have, without names; `have` is kept where it can be.
pub(crate) fn slices(service: &Value, pods: &[Arc<Value>], zones: Zones<'_>) -> Vec<Value> {
    let mut labels = labels(service);
    labels[SERVICE_NAME] = json!(meta(service, "name"));
    labels[MANAGED_BY] = json!(MANAGER);
    let mut wanted = Vec::new();
    for (ports, endpoints) in groups(service, pods, zones).into_values() {
        let chunks: Vec<&[Value]> = match endpoints.is_empty() {
            true => vec![&[]],
            false => endpoints.chunks(PER_SLICE).collect(),
        };
        for chunk in chunks {
            wanted.push(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "generateName": format!("{}-", meta(service, "name")), "namespace": meta(service, "namespace"),
                    "labels": labels, "ownerReferences": [owner_ref(service)],
                },
                "addressType": "IPv4", "endpoints": chunk, "ports": ports,
            }));
        }
    }
    wanted
}

/// The `subsets` of a Service's Endpoints.
pub(crate) fn subsets(service: &Value, pods: &[Arc<Value>]) -> Vec<Value> {
    let publish = service["spec"]["publishNotReadyAddresses"] == true;
    let mut groups: BTreeMap<String, Subset> = BTreeMap::new();
    let mut behind = behind(service, pods);
    behind.retain(|pod| publish || !deleting(pod));
    if behind.len() > PER_ENDPOINTS {
        // Those that answer are worth more than those that do not.
        behind.sort_by_key(|pod| !(publish || ready(pod)));
    }
    for pod in behind.into_iter().take(PER_ENDPOINTS) {
        let ports = ports_of(service, &pod);
        if ports.is_empty() && !items(service, "/spec/ports").is_empty() {
            continue;
        }
        let mut address = json!({"ip": text(&pod, "/status/podIP"), "targetRef": reference(&pod)});
        if !text(&pod, "/spec/nodeName").is_empty() {
            address["nodeName"] = json!(text(&pod, "/spec/nodeName"));
        }
        if let Some(name) = hostname(service, &pod) {
            address["hostname"] = json!(name);
        }
        let group = groups
            .entry(json!(ports).to_string())
            .or_insert_with(|| (ports, Vec::new(), Vec::new()));
        match publish || ready(&pod) {
            true => group.1.push(address),
            false => group.2.push(address),
        }
    }
    let subset = |(ports, up, down): Subset| {
        let mut subset = json!({});
        for (field, list) in [("addresses", up), ("notReadyAddresses", down), ("ports", ports)] {
            if !list.is_empty() {
                subset[field] = json!(list);
            }
        }
        subset
    };
    groups.into_values().map(subset).collect()
}

/// Says of an Endpoints object that it does not name all that are there, or takes that back.
fn note_capacity(endpoints: &mut Value, over: bool) {
    if over {
        endpoints["metadata"]["annotations"][CAPACITY] = json!("truncated");
    } else if let Some(notes) = endpoints["metadata"]["annotations"].as_object_mut() {
        notes.remove(CAPACITY);
    }
}

impl EndpointsOfServices {
    /// Brings one Service's objects in step.
    async fn one(&self, world: &World, service: &Value) -> Result<(), WorldError> {
        let namespace = meta(service, "namespace");
        let Some(selector) = selector(service) else {
            return Ok(());
        };
        if text(service, "/spec/type") == "ExternalName" || deleting(service) {
            return Ok(());
        }
        let pods = world.select(PODS, namespace, |pod| {
            !pod.field(ADDRESS).is_empty() && selector.matches_with(|key| pod.label(key))
        });
        let mut have = world.labelled(SLICES, namespace, meta(service, "name"));
        // Nobody else makes such slices.
        have.retain(|slice| slice.label(MANAGED_BY) == Some(MANAGER) && !slice.links().deleting);
        let have = have.iter().map(|slice| world.value(slice)).collect();
        self.slices(world, service, &pods, have).await?;
        let subsets = subsets(service, &pods);
        let over_capacity = behind(service, &pods).len() > PER_ENDPOINTS;
        let name = meta(service, "name");
        let mut labels = labels(service);
        labels["endpoints.kubernetes.io/managed-by"] = json!("endpoint-controller");
        match world.get(ENDPOINTS, namespace, name) {
            None => {
                let mut object = json!({
                    "apiVersion": "v1", "kind": "Endpoints",
                    "metadata": {"name": name, "namespace": namespace, "labels": labels},
                    "subsets": subsets,
                });
                note_capacity(&mut object, over_capacity);
                object["metadata"]["annotations"][TRIGGER] = json!(crate::obj::now());
                settled(world.create(ENDPOINTS, &object).await)?;
            }
            Some(have) => {
                let mut next = (*have).clone();
                next["metadata"]["labels"] = labels;
                match subsets.is_empty() {
                    true => drop(next.as_object_mut().and_then(|o| o.remove("subsets"))),
                    false => next["subsets"] = json!(subsets),
                }
                note_capacity(&mut next, over_capacity);
                if next != *have {
                    next["metadata"]["annotations"][TRIGGER] = json!(crate::obj::now());
                }
                settled(world.update(ENDPOINTS, &have, &next).await)?;
            }
        }
        Ok(())
    }

    async fn slices(
        &self,
        world: &World,
        service: &Value,
        pods: &[Arc<Value>],
        mut have: Vec<Arc<Value>>,
    ) -> Result<(), WorldError> {
        let mut left = Vec::new();
        let zones = |node: &str| {
            let node = world.get(NODES, "", node)?;
            let zone = label(&node, ZONE);
            (!zone.is_empty()).then(|| zone.to_owned())
        };
        for wanted in slices(service, pods, &zones) {
            let same = |s: &Arc<Value>| {
                items(s, "/endpoints") == items(&wanted, "/endpoints")
                    && items(s, "/ports") == items(&wanted, "/ports")
                    && s["metadata"]["labels"] == wanted["metadata"]["labels"]
                    && controlled_by(s, meta(service, "uid"))
            };
            match have.iter().position(same) {
                Some(at) => drop(have.swap_remove(at)),
                None => left.push(wanted),
            }
        }
        for wanted in left {
            let trigger = crate::obj::now();
            let Some(old) = have.pop() else {
                let mut made = wanted;
                made["metadata"]["annotations"][TRIGGER] = json!(trigger);
                settled(world.create(SLICES, &made).await)?;
                continue;
            };
            let mut next = (*old).clone();
            for field in ["endpoints", "ports"] {
                next[field] = wanted[field].clone();
            }
            next["metadata"]["labels"] = wanted["metadata"]["labels"].clone();
            next["metadata"]["ownerReferences"] = wanted["metadata"]["ownerReferences"].clone();
            next["metadata"]["annotations"][TRIGGER] = json!(trigger);
            settled(world.update(SLICES, &old, &next).await)?;
        }
        for surplus in have {
            world.delete(SLICES, &surplus, "Background").await?;
        }
        Ok(())
    }
}

/// Endpoints without their Service, made by this controller.
fn orphaned(world: &World, endpoints: &Value) -> bool {
    label(endpoints, "endpoints.kubernetes.io/managed-by") == "endpoint-controller"
        && annotation(endpoints, "control-plane.alpha.kubernetes.io/leader").is_empty()
        && int(endpoints, "/metadata/generation", 0) == 0
        && world
            .get(SERVICES, meta(endpoints, "namespace"), meta(endpoints, "name"))
            .is_none()
}

#[async_trait]
impl Reconciler for EndpointsOfServices {
    fn name(&self) -> &'static str {
        "endpoints"
    }
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.services, &self.endpoints]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut sweep = Sweep::default();
        let mut round = self.services.begin(world);
        while let Some(service) = round.next(world) {
            round.note(self.one(world, &service).await.map(|()| None));
        }
        sweep.note(round.end());
        let mut round = self.endpoints.begin(world);
        while let Some(endpoints) = round.next(world) {
            let removed = match orphaned(world, &endpoints) {
                true => world.delete(ENDPOINTS, &endpoints, "Background").await,
                false => Ok(()),
            };
            round.note(removed.map(|()| None));
        }
        sweep.note(round.end());
        sweep.outcome()
    }
}
