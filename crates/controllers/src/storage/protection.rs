//! Protection of what is in use: a claim goes after the last Pod that uses it, a volume after its claim, a class of
//! attributes after the last claim and volume that name it (KEP-3751).

use super::{CLAIMS, PODS, VOLUMES, claim_name, has_finalizer, with_finalizer, without_finalizer};
use crate::concern::{By, Concern};
use crate::manager::Reconciler;
use crate::obj::{controlled_by, deleting, finished, items, meta, text};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use cache::Object;
use cache::fields::pod::NODE;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;

const OF_CLAIMS: &str = "kubernetes.io/pvc-protection";
const OF_VOLUMES: &str = "kubernetes.io/pv-protection";
const OF_ATTRIBUTES: &str = "kubernetes.io/vac-protection";
const ATTRIBUTES: &str = "volumeattributesclasses.storage.k8s.io";

/// Keeps claims.
pub(crate) struct ClaimProtection(Concern);
/// Keeps volumes.
pub(crate) struct VolumeProtection(Concern);
/// Keeps classes of attributes.
pub(crate) struct AttributesProtection;

impl Default for ClaimProtection {
    fn default() -> ClaimProtection {
        ClaimProtection(Concern::new(CLAIMS, &[(PODS, &[By::Name(claims_of)])]))
    }
}

impl Default for VolumeProtection {
    fn default() -> VolumeProtection {
        VolumeProtection(Concern::new(VOLUMES, &[]))
    }
}

/// The claims that a Pod uses, by namespace and name.
fn claims_of(pod: &Object) -> Vec<String> {
    if !["\"persistentVolumeClaim\"", "\"ephemeral\""]
        .iter()
        .any(|kind| pod.mentions(kind))
    {
        return Vec::new();
    }
    let value = pod.value();
    let volumes = items(&value, "/spec/volumes").iter();
    let names = volumes.filter_map(|volume| claim_name(&value, volume));
    names.map(|name| format!("{}/{name}", pod.namespace())).collect()
}

/// Whether a claim or a volume has, or is to have, the attributes of a class.
fn has_attributes(object: &Value, class: &str) -> bool {
    let places = [
        "/spec/volumeAttributesClassName",
        "/status/currentVolumeAttributesClassName",
        "/status/modifyVolumeStatus/targetVolumeAttributesClassName",
    ];
    places.iter().any(|place| text(object, place) == class)
}

/// Whether a scheduled Pod uses a claim. An ephemeral claim goes with its Pod once that has ended.
fn uses(pod: &Value, claim: &Value) -> bool {
    !text(pod, "/spec/nodeName").is_empty()
        && items(pod, "/spec/volumes").iter().any(|volume| {
            let ephemeral = !volume["ephemeral"].is_null();
            claim_name(pod, volume).is_some_and(|name| name == meta(claim, "name"))
                && (!ephemeral
                    || (controlled_by(claim, meta(pod, "uid")) && !(finished(pod) && deleting(pod))))
        })
}

/// Gives an object its finalizer, or takes it away at the end.
async fn protect(
    world: &World,
    key: &str,
    object: &Value,
    finalizer: &str,
    in_use: impl FnOnce() -> bool,
) -> Result<(), WorldError> {
    let next = match (deleting(object), has_finalizer(object, finalizer)) {
        (false, false) => with_finalizer(object, finalizer),
        (true, true) if !in_use() => without_finalizer(object, finalizer),
        _ => return Ok(()),
    };
    settled(world.update(key, object, &next).await).map(|_| ())
}

#[async_trait]
impl Reconciler for ClaimProtection {
    fn name(&self) -> &'static str {
        "claim protection"
    }
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.0]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut round = self.0.begin(world);
        while let Some(claim) = round.next(world) {
            let in_use = || {
                let scheduled = |pod: &Object| !pod.field(NODE).is_empty();
                let pods = world.select(PODS, meta(&claim, "namespace"), scheduled);
                pods.iter().any(|pod| uses(pod, &claim))
            };
            let protected = protect(world, CLAIMS, &claim, OF_CLAIMS, in_use).await;
            round.note(protected.map(|()| None));
        }
        round.end()
    }
}

#[async_trait]
impl Reconciler for VolumeProtection {
    fn name(&self) -> &'static str {
        "volume protection"
    }
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.0]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut round = self.0.begin(world);
        while let Some(volume) = round.next(world) {
            let in_use = || text(&volume, "/status/phase") == "Bound";
            let protected = protect(world, VOLUMES, &volume, OF_VOLUMES, in_use).await;
            round.note(protected.map(|()| None));
        }
        round.end()
    }
}

#[async_trait]
impl Reconciler for AttributesProtection {
    fn name(&self) -> &'static str {
        "attributes class protection"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[ATTRIBUTES, CLAIMS, VOLUMES]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        for class in world.all(ATTRIBUTES) {
            let in_use = || {
                let users = world.all(CLAIMS).into_iter().chain(world.all(VOLUMES));
                users
                    .into_iter()
                    .any(|user| has_attributes(&user, meta(&class, "name")))
            };
            protect(world, ATTRIBUTES, &class, OF_ATTRIBUTES, in_use).await?;
        }
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn attributes_in_use() {
        let cases = [
            (json!({"spec": {"volumeAttributesClassName": "gold"}}), true),
            (
                json!({"status": {"currentVolumeAttributesClassName": "gold"}}),
                true,
            ),
            (
                json!({"status": {"modifyVolumeStatus": {"targetVolumeAttributesClassName": "gold"}}}),
                true,
            ),
            (json!({"spec": {"volumeAttributesClassName": "silver"}}), false),
            (json!({}), false),
        ];
        for (object, expected) in cases {
            assert_eq!(has_attributes(&object, "gold"), expected, "{object}");
        }
    }

    #[test]
    fn in_use() {
        let claim = |owner: &str| json!({"metadata": {"name": "web-data", "ownerReferences": [{"uid": owner, "controller": true}]}});
        let pod = |node: &str, volume: Value, more: Value| {
            let mut pod = json!({"metadata": {"name": "web", "uid": "u"},
                "spec": {"nodeName": node, "volumes": [volume]}, "status": {"phase": "Running"}});
            for (key, value) in more.as_object().into_iter().flatten() {
                pod[key] = value.clone();
            }
            pod
        };
        let plain = json!({"name": "data", "persistentVolumeClaim": {"claimName": "web-data"}});
        let ephemeral = json!({"name": "data", "ephemeral": {}});
        let ended = json!({"status": {"phase": "Succeeded"},
            "metadata": {"name": "web", "uid": "u", "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let cases = [
            ("runs", pod("h", plain.clone(), json!({})), "u", true),
            (
                "ended, still there",
                pod("h", plain.clone(), ended.clone()),
                "u",
                true,
            ),
            ("not scheduled", pod("", plain, json!({})), "u", false),
            ("ephemeral", pod("h", ephemeral.clone(), json!({})), "u", true),
            (
                "ephemeral, of another",
                pod("h", ephemeral.clone(), json!({})),
                "v",
                false,
            ),
            ("ephemeral, ended", pod("h", ephemeral, ended), "u", false),
        ];
        for (what, pod, owner, expected) in cases {
            assert_eq!(uses(&pod, &claim(owner)), expected, "{what}");
        }
    }
}
