//! The StorageClass `datastore` and its CSIDriver: made at the start when they are missing, and the user's from then on.

use super::{CLASSES, DEFAULT_CLASS, PROVISIONER};
use crate::manager::Reconciler;
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const DRIVERS: &str = "csidrivers.storage.k8s.io";
/// Name of the class.
const NAME: &str = "datastore";

/// Makes the class once a start, so that an administrator's deletion lasts at least until the next.
#[derive(Default)]
pub(crate) struct Classes(AtomicBool);

fn class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass",
        "metadata": {
            "name": NAME,
            "annotations": {
                DEFAULT_CLASS: "true",
                "podvisor.io/description": "Disks in the data directory of the host that runs the Pod",
            },
        },
        "provisioner": PROVISIONER,
        "reclaimPolicy": "Delete",
        "allowVolumeExpansion": true,
        // A volume lives on one host: the scheduler chooses it with the first Pod.
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

fn driver() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver",
        "metadata": {"name": PROVISIONER},
        "spec": {
            "attachRequired": false, "podInfoOnMount": false, "fsGroupPolicy": "File",
            "volumeLifecycleModes": ["Persistent"],
        },
    })
}

#[async_trait]
impl Reconciler for Classes {
    fn name(&self) -> &'static str {
        "storage class"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[CLASSES, DRIVERS]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        if self.0.load(Ordering::Acquire) {
            return Ok(None);
        }
        for (key, object) in [(CLASSES, class()), (DRIVERS, driver())] {
            if world.get(key, "", crate::obj::meta(&object, "name")).is_none() {
                settled(world.create(key, &object).await)?;
            }
        }
        self.0.store(true, Ordering::Release);
        Ok(None)
    }
}
