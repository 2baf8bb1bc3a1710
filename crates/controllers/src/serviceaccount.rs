//! What every namespace has: the service account `default` and the cluster's root certificates.

use crate::concern::{By, Concern};
use crate::manager::{Config, Reconciler};
use crate::obj::{deleting, meta};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use cache::Object;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

const NAMESPACES: &str = "namespaces";
const ACCOUNTS: &str = "serviceaccounts";
const MAPS: &str = "configmaps";
const ROOT_CA: &str = "kube-root-ca.crt";

const DEFAULT: &str = "default";

/// The controller of both.
pub(crate) struct Accounts {
    config: Arc<Config>,
    namespaces: Concern,
}

/// The namespace of an account or a map that every one should have.
fn of_all(object: &Object) -> Vec<String> {
    let named = matches!(object.name(), DEFAULT | ROOT_CA);
    named.then(|| object.namespace().to_owned()).into_iter().collect()
}

impl Accounts {
    /// Shows the root certificates of this configuration.
    pub(crate) fn new(config: Arc<Config>) -> Accounts {
        let namespaces = Concern::new(
            NAMESPACES,
            &[(ACCOUNTS, &[By::Name(of_all)]), (MAPS, &[By::Name(of_all)])],
        );
        Accounts { config, namespaces }
    }

    async fn one(&self, world: &World, namespace: &str) -> Result<(), WorldError> {
        if world.get(ACCOUNTS, namespace, DEFAULT).is_none() {
            let account = json!({
                "apiVersion": "v1", "kind": "ServiceAccount",
                "metadata": {"name": DEFAULT, "namespace": namespace},
            });
            settled(world.create(ACCOUNTS, &account).await)?;
        }
        let data = json!({"ca.crt": self.config.root_ca_pem});
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
    fn concerns(&self) -> Vec<&Concern> {
        vec![&self.namespaces]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut round = self.namespaces.begin(world);
        while let Some(namespace) = round.next(world) {
            let made = match deleting(&namespace) {
                true => Ok(()),
                false => self.one(world, meta(&namespace, "name")).await,
            };
            round.note(match made {
                // Deletion began meanwhile: nothing may be made there any more.
                Err(e) if e.code() == 403 => Ok(None),
                made => made.map(|()| None),
            });
        }
        round.end()
    }
}
