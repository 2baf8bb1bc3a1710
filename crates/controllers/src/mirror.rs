//! EndpointSlices for Endpoints that people write by hand: Services without a selector have no other (KEP-1412).

use crate::concern::{By, Concern, same_name};
use crate::endpoints::service_of;
use crate::manager::Reconciler;
use crate::obj::{annotation, controlled_by, deleting, items, label, meta, owner_ref, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const SERVICES: &str = "services";
const ENDPOINTS: &str = "endpoints";
const SLICES: &str = "endpointslices.discovery.k8s.io";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
const MANAGER: &str = "endpointslicemirroring-controller.k8s.io";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Annotations that speak of the Endpoints themselves.
const NOT_MIRRORED: [&str; 2] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "endpoints.kubernetes.io/last-change-trigger-time",
];
/// Addresses of one subset that are mirrored.
const MOST: usize = 1000;

/// The controller.
pub(crate) struct Mirror(Concern);

impl Default for Mirror {
    fn default() -> Mirror {
        Mirror(Concern::new(
            ENDPOINTS,
            &[
                (SERVICES, &[By::Name(same_name)]),
                (SLICES, &[By::Name(service_of)]),
            ],
        ))
    }
}

/// Whether a Service's slices are made of its Endpoints.
fn mirrored(world: &World, endpoints: &Value) -> bool {
    let service = world.get(SERVICES, meta(endpoints, "namespace"), meta(endpoints, "name"));
    let unselected = service.is_some_and(|s| {
        s["spec"]["selector"].as_object().is_none_or(|map| map.is_empty())
            && text(&s, "/spec/type") != "ExternalName"
    });
    unselected
        && !deleting(endpoints)
        && label(endpoints, "endpointslice.kubernetes.io/skip-mirror") != "true"
        && annotation(endpoints, "control-plane.alpha.kubernetes.io/leader").is_empty()
}

fn endpoint(address: &Value, ready: bool) -> Value {
    let mut endpoint = json!({"addresses": [address["ip"]], "conditions": {"ready": ready}});
    for field in ["hostname", "nodeName", "targetRef"] {
        if let Some(value) = address.get(field) {
            endpoint[field] = value.clone();
        }
    }
    endpoint
}

/// The slices that Endpoints should have, without names.
fn slices(endpoints: &Value) -> Vec<Value> {
    let mut labels = endpoints["metadata"]["labels"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    labels.insert(SERVICE_NAME.into(), json!(meta(endpoints, "name")));
    labels.insert(MANAGED_BY.into(), json!(MANAGER));
    let mut annotations = endpoints["metadata"]["annotations"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    annotations.retain(|key, _| !NOT_MIRRORED.contains(&key.as_str()));
    let mut wanted = Vec::new();
    for subset in items(endpoints, "/subsets") {
        let mut families: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
        for (field, ready) in [("/addresses", true), ("/notReadyAddresses", false)] {
            for address in items(subset, field).iter().take(MOST) {
                let family = if text(address, "/ip").contains(':') {
                    "IPv6"
                } else {
                    "IPv4"
                };
                families.entry(family).or_default().push(endpoint(address, ready));
            }
        }
        for (family, list) in families {
            wanted.push(json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
                "metadata": {
                    "generateName": format!("{}-", meta(endpoints, "name")), "namespace": meta(endpoints, "namespace"),
                    "labels": labels, "annotations": annotations, "ownerReferences": [owner_ref(endpoints)],
                },
                "addressType": family, "endpoints": list,
                "ports": subset.get("ports").cloned().unwrap_or_else(|| json!([])),
            }));
        }
    }
    wanted
}

/// The annotations of an object.
fn notes(object: &Value) -> Option<&serde_json::Map<String, Value>> {
    let map = object["metadata"]["annotations"].as_object();
    map.filter(|map| !map.is_empty())
}

impl Mirror {
    async fn one(&self, world: &World, endpoints: &Value) -> Result<(), WorldError> {
        let mut have = world.labelled(SLICES, meta(endpoints, "namespace"), meta(endpoints, "name"));
        have.retain(|slice| slice.label(MANAGED_BY) == Some(MANAGER) && !slice.links().deleting);
        let mut have: Vec<_> = have.iter().map(|slice| world.value(slice)).collect();
        let wanted = if mirrored(world, endpoints) {
            slices(endpoints)
        } else {
            Vec::new()
        };
        let mut left = Vec::new();
        for wanted in wanted {
            let same = |s: &Arc<Value>| {
                ["endpoints", "ports", "addressType"]
                    .iter()
                    .all(|f| s[*f] == wanted[*f])
                    && s["metadata"]["labels"] == wanted["metadata"]["labels"]
                    && notes(s) == notes(&wanted)
                    && controlled_by(s, meta(endpoints, "uid"))
            };
            match have.iter().position(same) {
                Some(at) => drop(have.swap_remove(at)),
                None => left.push(wanted),
            }
        }
        for wanted in left {
            let reusable = have
                .iter()
                .position(|s| s["addressType"] == wanted["addressType"]);
            let Some(old) = reusable.map(|at| have.swap_remove(at)) else {
                settled(world.create(SLICES, &wanted).await)?;
                continue;
            };
            let mut next = (*old).clone();
            for field in ["endpoints", "ports"] {
                next[field] = wanted[field].clone();
            }
            for field in ["labels", "annotations", "ownerReferences"] {
                next["metadata"][field] = wanted["metadata"][field].clone();
            }
            settled(world.update(SLICES, &old, &next).await)?;
        }
        for surplus in have {
            settled(world.delete(SLICES, &surplus, "Background").await)?;
        }
        Ok(())
    }
}

#[async_trait]
impl Reconciler for Mirror {
    fn name(&self) -> &'static str {
        "endpoint slice mirroring"
    }
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.0]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut round = self.0.begin(world);
        while let Some(endpoints) = round.next(world) {
            // Slices of Endpoints that are gone are the garbage collector's: the Endpoints own them.
            let written_by_us =
                label(&endpoints, "endpoints.kubernetes.io/managed-by") == "endpoint-controller";
            let done = match written_by_us {
                true => Ok(()),
                false => self.one(world, &endpoints).await,
            };
            round.note(done.map(|()| None));
        }
        round.end()
    }
}
