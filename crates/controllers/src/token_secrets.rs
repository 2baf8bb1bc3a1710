//! Secrets of type `kubernetes.io/service-account-token`: whoever makes one gets a token without end in it, with the namespace
//! and the cluster's root certificates. It goes with its service account.

use crate::manager::{Config, Reconciler};
use crate::obj::{annotation, deleting, items, meta};
use crate::world::{World, WorldError, settled};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

const SECRETS: &str = "secrets";
const ACCOUNTS: &str = "serviceaccounts";
const TYPE: &str = "kubernetes.io/service-account-token";
/// Where the type stands in the cache's fields of a Secret.
const TYPE_FIELD: usize = 0;
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";

/// Who holds the key of service-account tokens.
pub trait TokenMaker: Send + Sync + Debug {
    /// A token of the service account (by name and uid) that is good while the Secret of this name holds it.
    ///
    /// # Errors
    /// Why none can be made.
    fn token(&self, namespace: &str, secret: &str, account: &str, uid: &str) -> Result<String, String>;
}

/// Namespace and name of a Secret.
type Place = (String, String);

/// The controller.
pub(crate) struct TokenSecrets {
    config: Arc<Config>,
    /// The service accounts of the Secrets seen last.
    seen: Mutex<BTreeMap<Place, String>>,
}

impl TokenSecrets {
    pub(crate) fn new(config: Arc<Config>) -> TokenSecrets {
        TokenSecrets {
            config,
            seen: Mutex::default(),
        }
    }

    async fn one(&self, world: &World, secret: &Value) -> Result<(), WorldError> {
        let (namespace, name) = (meta(secret, "namespace"), annotation(secret, ACCOUNT));
        let uid = annotation(secret, ACCOUNT_UID);
        let account = world.get(ACCOUNTS, namespace, name);
        let Some(account) = account.filter(|a| uid.is_empty() || uid == meta(a, "uid")) else {
            return settled(world.delete(SECRETS, secret, "Background").await).map(|_| ());
        };
        let Some(maker) = &self.config.tokens else {
            return Ok(());
        };
        let mut next = secret.clone();
        let encoded = |text: &str| Value::from(STANDARD.encode(text));
        next["data"]["ca.crt"] = encoded(&self.config.root_ca_pem);
        let empty = |data: &Value| data.as_str().unwrap_or_default().is_empty();
        if empty(&next["data"]["namespace"]) {
            next["data"]["namespace"] = encoded(namespace);
        }
        if empty(&next["data"]["token"]) {
            match maker.token(namespace, meta(secret, "name"), name, meta(&account, "uid")) {
                Ok(token) => next["data"]["token"] = encoded(&token),
                Err(why) => {
                    tracing::error!(secret = meta(secret, "name"), why, "no token can be made");
                    return Ok(());
                }
            }
        }
        next["metadata"]["annotations"][ACCOUNT_UID] = meta(&account, "uid").into();
        settled(world.update(SECRETS, secret, &next).await).map(|_| ())
    }
}

/// Takes a Secret that is gone out of its service account's list.
async fn forget(world: &World, (namespace, secret): &Place, account: &str) -> Result<(), WorldError> {
    let Some(account) = world.get(ACCOUNTS, namespace, account) else {
        return Ok(());
    };
    let listed = items(&account, "/secrets");
    let kept: Vec<&Value> = listed.iter().filter(|s| s["name"] != secret.as_str()).collect();
    if kept.len() == listed.len() {
        return Ok(());
    }
    let mut next = (*account).clone();
    next["secrets"] = json!(kept);
    settled(world.update(ACCOUNTS, &account, &next).await).map(|_| ())
}

#[async_trait]
impl Reconciler for TokenSecrets {
    fn name(&self) -> &'static str {
        "serviceaccount-token"
    }
    fn reads(&self) -> &'static [&'static str] {
        &[SECRETS, ACCOUNTS]
    }
    async fn sweep(&self, world: &Arc<World>) -> Result<Option<Duration>, WorldError> {
        let mut failed = None;
        let mut seen = BTreeMap::new();
        for secret in world.select(SECRETS, "", |s| s.field(TYPE_FIELD) == TYPE) {
            let place = (
                meta(&secret, "namespace").to_owned(),
                meta(&secret, "name").to_owned(),
            );
            seen.insert(place, annotation(&secret, ACCOUNT).to_owned());
            if deleting(&secret) {
                continue;
            }
            if let Err(error) = self.one(world, &secret).await {
                failed = Some(error);
            }
        }
        let before = std::mem::replace(&mut *self.seen.lock(), seen.clone());
        for (place, account) in before.iter().filter(|(place, _)| !seen.contains_key(*place)) {
            if let Err(error) = forget(world, place, account).await {
                failed = Some(error);
            }
        }
        failed.map_or(Ok(None), Err)
    }
}
