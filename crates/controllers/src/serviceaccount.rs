//! What every namespace has: the service account `default` and the cluster's root certificates.

use crate::manager::{Config, Reconciler};
use crate::obj::{deleting, meta};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const NAMESPACES: &str = "namespaces";
const ACCOUNTS: &str = "serviceaccounts";
const MAPS: &str = "configmaps";
const ROOT_CA: &str = "kube-root-ca.crt";

/// The controller of both.
pub(crate) struct Accounts(pub(crate) Arc<Config>);

impl Accounts {
    async fn one(&self, world: &World, namespace: &str) -> Result<(), WorldError> {
        if world.get(ACCOUNTS, namespace, "default").is_none() {
            let account = json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": "default", "namespace": namespace},
            });
            settled(world.create(ACCOUNTS, &account).await)?;
        }
        let data = json!({"ca.crt": self.0.root_ca_pem});
        match world.get(MAPS, namespace, ROOT_CA) {
            None => {
                let why = "Contains a CA bundle that can be used to verify the kube-apiserver when using internal endpoints such as the internal service IP or kubernetes.default.svc.";
                let map: Value = json!({
                    "apiVersion": "v1", "kind": "ConfigMap",
                    "metadata": {
                        "name": ROOT_CA, "namespace": namespace,
                        "annotations": {"kubernetes.io/description": why},
                    },
                    "data": data,
                });
                settled(world.create(MAPS, &map).await)?;
            }
            Some(have) if have["data"] != data => {
                let mut next = (*have).clone();
                next["data"] = data;
                settled(world.update(MAPS, &have, &next).await)?;
            }
            Some(_) => {}
        }
        Ok(())
    }
}

#[async_trait]
impl Reconciler for Accounts {
    fn name(&self) -> &'static str {
        "serviceaccount"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[NAMESPACES, ACCOUNTS, MAPS]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut failed = None;
        for namespace in world.all(NAMESPACES) {
            if deleting(&namespace) {
                continue;
            }
            match self.one(world, meta(&namespace, "name")).await {
                // Deletion began meanwhile: nothing may be made there any more.
                Err(e) if e.code() == 403 => {}
                Err(e) => failed = Some(e),
                Ok(()) => {}
            }
        }
        failed.map_or(Ok(None), Err)
    }
}
