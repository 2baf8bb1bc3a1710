//! ResourceQuota status: what a namespace uses. Admission shows at once what it lets in; here is shown what goes, what
//! time frees, and what stood there before the quota.

use crate::manager::Reconciler;
use crate::obj::{deleting, meta};
use crate::world::{World, WorldError, difference, settled};
use async_trait::async_trait;
use parking_lot::Mutex;
use quota::Ledger;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

const QUOTAS: &str = "resourcequotas";

/// The controller of quotas.
#[derive(Default)]
pub(crate) struct Quotas {
    /// By the uid of the quota.
    ledgers: Mutex<HashMap<String, Ledger>>,
}

impl Quotas {
    /// The status of a quota as it should be.
    fn status(&self, world: &World, quota: &Value) -> Value {
        let mut ledgers = self.ledgers.lock();
        let ledger = ledgers
            .entry(meta(quota, "uid").to_owned())
            .or_insert_with(|| Ledger::new(quota));
        if !ledger.is_of(quota) {
            *ledger = Ledger::new(quota);
        }
        ledger.follow(world.view());
        ledger.status(&quota["status"])
    }
}

#[async_trait]
impl Reconciler for Quotas {
    fn name(&self) -> &'static str {
        "resourcequota"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[
            QUOTAS,
            "pods",
            "persistentvolumeclaims",
            "services",
            "resourceclaims.resource.k8s.io",
            "configmaps",
            "secrets",
            "replicationcontrollers",
            "deployments.apps",
            "replicasets.apps",
            "statefulsets.apps",
            "daemonsets.apps",
            "jobs.batch",
            "cronjobs.batch",
            "ingresses.networking.k8s.io",
        ]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut quotas = world.all(QUOTAS);
        quotas.retain(|quota| !deleting(quota));
        self.ledgers
            .lock()
            .retain(|uid, _| quotas.iter().any(|quota| meta(quota, "uid") == uid));
        for quota in quotas {
            if let Some(status) = difference(&quota["status"], &self.status(world, &quota)) {
                // Admission writes here too, at every creation: only the version that was counted may be replaced.
                let patch = json!({"metadata": {"resourceVersion": meta(&quota, "resourceVersion")}, "status": status});
                settled(world.patch(QUOTAS, &quota, "status", &patch).await)?;
            }
        }
        // Of what is counted beside these, and of Pods that are going and whose time runs out.
        Ok(Some(Duration::from_secs(20)))
    }
}
