//! Claims of generic ephemeral volumes (KEP-1698): made for a Pod, owned by it, gone with it.

use super::events::Teller;
use super::{CLAIMS, PODS, claim_name};
use crate::manager::Reconciler;
use crate::obj::{active, controlled_by, items, meta, owner_ref, text};
use crate::world::{World, WorldError};
use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// The controller.
#[derive(Default)]
pub(crate) struct EphemeralClaims {
    teller: Teller,
    /// The revisions of claims and of Pods up to which all is well: while no claim changes, only newer Pods matter.
    settled: Mutex<(u64, u64)>,
}

fn claim(pod: &Value, volume: &Value, name: &str) -> Value {
    let template = &volume["ephemeral"]["volumeClaimTemplate"];
    let mut claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": meta(pod, "namespace"), "ownerReferences": [owner_ref(pod)]},
        "spec": template["spec"],
    });
    for field in ["labels", "annotations"] {
        if template["metadata"][field].is_object() {
            claim["metadata"][field] = template["metadata"][field].clone();
        }
    }
    claim
}

#[async_trait]
impl Reconciler for EphemeralClaims {
    fn name(&self) -> &'static str {
        "ephemeral volume"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[PODS, CLAIMS]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut failed = None;
        let now = (world.revision(&[CLAIMS]), world.revision(&[PODS]));
        let settled = *self.settled.lock();
        let since = if settled.0 == now.0 { settled.1 } else { 0 };
        for pod in world.changed(PODS, since, |pod| pod.mentions("\"ephemeral\":")) {
            if !active(&pod) {
                continue;
            }
            for volume in items(&pod, "/spec/volumes") {
                if volume["ephemeral"].is_null() {
                    continue;
                }
                let Some(name) = claim_name(&pod, volume) else {
                    continue;
                };
                let problem = match world.get(CLAIMS, meta(&pod, "namespace"), &name) {
                    Some(claim) if controlled_by(&claim, meta(&pod, "uid")) => continue,
                    Some(_) => format!(
                        "PVC \"{}/{name}\" was not created for pod \"{}/{}\" (pod is not the owner)",
                        meta(&pod, "namespace"),
                        meta(&pod, "namespace"),
                        meta(&pod, "name")
                    ),
                    None => match world.create(CLAIMS, &claim(&pod, volume, &name)).await {
                        Ok(_) => continue,
                        Err(error) => {
                            let message = format!("create PVC {name}: {}", error.message());
                            failed = Some(error);
                            message
                        }
                    },
                };
                let message = format!("ephemeral volume {}: {problem}", text(volume, "/name"));
                self.teller
                    .tell(world, &pod, true, "FailedBinding", &message)
                    .await;
            }
        }
        if failed.is_none() {
            *self.settled.lock() = now;
        }
        failed.map_or(Ok(None), Err)
    }
}
