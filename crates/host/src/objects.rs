//! ConfigMaps and Secrets that Pods of this host use, each watched by name for as long as somebody uses it.
//!
//! A host may see only the objects of its own Pods (Node authorizer), so there is one small watch an object and no
//! list of all. Users of the same object share the watch. Trust bundles are all watched while some Pod wants any of
//! them, since they are found by their signer and labels.

use std::collections::HashMap;
use std::fmt::Debug;
use std::hash::Hash;
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures::StreamExt;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::certificates::v1beta1::ClusterTrustBundle;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt as _};
use parking_lot::Mutex;
use serde::de::DeserializeOwned;
use tokio::sync::watch;

use crate::trust::TrustBundles;

/// How long the first answer of the API is waited for.
const FIRST_ANSWER: Duration = Duration::from_secs(10);

/// What is known of an object.
#[derive(Debug, Clone, Default)]
pub enum Lookup<K> {
    /// The API has not answered yet.
    #[default]
    Unknown,
    /// It does not exist.
    Absent,
    /// It is this.
    Present(Arc<K>),
}

/// An object that is watched.
pub type Subscription<K> = watch::Receiver<Lookup<K>>;

/// All objects in use.
pub struct Objects {
    client: kube::Client,
    config_maps: Shared<ConfigMap>,
    secrets: Shared<Secret>,
    trust_bundles: Mutex<Weak<watch::Sender<Option<Arc<TrustBundles>>>>>,
}

/// Who publishes an object, for as long as somebody follows it.
type Publisher<K> = Weak<watch::Sender<Lookup<K>>>;

/// Publishers by namespace and name.
struct Shared<K>(Mutex<HashMap<(String, String), Publisher<K>>>);

impl<K> Default for Shared<K> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl Objects {
    /// Nothing is watched yet.
    pub fn new(client: kube::Client) -> Arc<Self> {
        Arc::new(Self {
            client,
            config_maps: Shared::default(),
            secrets: Shared::default(),
            trust_bundles: Mutex::default(),
        })
    }

    /// Watches a ConfigMap.
    pub fn config_map(&self, namespace: &str, name: &str) -> Subscription<ConfigMap> {
        self.config_maps.subscribe(&self.client, namespace, name)
    }

    /// Watches all trust bundles; none: the API has not answered yet.
    pub fn trust_bundles(&self) -> watch::Receiver<Option<Arc<TrustBundles>>> {
        let mut publisher = self.trust_bundles.lock();
        if let Some(sender) = publisher.upgrade() {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(None);
        let sender = Arc::new(sender);
        *publisher = Arc::downgrade(&sender);
        tokio::spawn(follow_bundles(Api::all(self.client.clone()), sender));
        receiver
    }

    /// The trust bundles as soon as the API has answered; none when it does not in time.
    pub async fn known_trust_bundles(&self) -> Arc<TrustBundles> {
        let mut bundles = self.trust_bundles();
        let known = bundles.wait_for(Option::is_some);
        match tokio::time::timeout(FIRST_ANSWER, known).await {
            Ok(Ok(known)) => known.clone().unwrap_or_default(),
            _ => Arc::default(),
        }
    }

    /// Watches a Secret.
    pub fn secret(&self, namespace: &str, name: &str) -> Subscription<Secret> {
        self.secrets.subscribe(&self.client, namespace, name)
    }
}

/// The object as soon as the API has answered; `None` when it does not exist, or nothing is known in time.
pub async fn settled<K: Clone>(subscription: &mut Subscription<K>) -> Option<Arc<K>> {
    let known = subscription.wait_for(|lookup| !matches!(lookup, Lookup::Unknown));
    match tokio::time::timeout(FIRST_ANSWER, known).await {
        Ok(Ok(lookup)) => match &*lookup {
            Lookup::Present(object) => Some(Arc::clone(object)),
            Lookup::Absent | Lookup::Unknown => None,
        },
        _ => None,
    }
}

impl<K> Shared<K>
where
    K: Resource<Scope = NamespaceResourceScope> + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default + Eq + Hash + Clone,
{
    fn subscribe(&self, client: &kube::Client, namespace: &str, name: &str) -> Subscription<K> {
        let mut all = self.0.lock();
        all.retain(|_, sender| sender.strong_count() > 0);
        let key = (namespace.to_owned(), name.to_owned());
        if let Some(sender) = all.get(&key).and_then(Weak::upgrade) {
            return sender.subscribe();
        }
        let (sender, receiver) = watch::channel(Lookup::Unknown);
        let sender = Arc::new(sender);
        all.insert(key, Arc::downgrade(&sender));
        let api: Api<K> = Api::namespaced(client.clone(), namespace);
        tokio::spawn(follow(api, name.to_owned(), sender));
        receiver
    }
}

async fn follow<K>(api: Api<K>, name: String, sender: Arc<watch::Sender<Lookup<K>>>)
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
{
    let config = watcher::Config::default().fields(&format!("metadata.name={name}"));
    let mut events = std::pin::pin!(watcher::watcher(api, config).default_backoff());
    let mut seen = false;
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            // Somebody may have come between the last one's leaving and this look.
            () = sender.closed() => if sender.receiver_count() == 0 { return } else { continue },
        };
        match event {
            Some(Ok(Event::Init)) => seen = false,
            Some(Ok(Event::InitApply(object) | Event::Apply(object))) => {
                seen = true;
                sender.send_replace(Lookup::Present(Arc::new(object)));
            }
            Some(Ok(Event::InitDone)) if !seen => {
                sender.send_replace(Lookup::Absent);
            }
            Some(Ok(Event::Delete(_))) => {
                sender.send_replace(Lookup::Absent);
            }
            Some(Ok(Event::InitDone)) => {}
            // The last known state holds; the watcher tries again with back-off.
            Some(Err(error)) => tracing::debug!(%error, name, "watching an object"),
            None => return,
        }
    }
}

async fn follow_bundles(api: Api<ClusterTrustBundle>, sender: Arc<watch::Sender<Option<Arc<TrustBundles>>>>) {
    let watched = watcher::watcher(api, watcher::Config::default()).default_backoff();
    let mut events = std::pin::pin!(watched);
    let (mut all, mut complete) = (TrustBundles::new(), false);
    loop {
        let event = tokio::select! {
            event = events.next() => event,
            () = sender.closed() => if sender.receiver_count() == 0 { return } else { continue },
        };
        match event {
            Some(Ok(Event::Init)) => (all, complete) = (TrustBundles::new(), false),
            Some(Ok(Event::InitApply(bundle) | Event::Apply(bundle))) => {
                all.insert(bundle.name_any(), Arc::new(bundle));
            }
            Some(Ok(Event::Delete(bundle))) => {
                all.remove(&bundle.name_any());
            }
            Some(Ok(Event::InitDone)) => complete = true,
            Some(Err(error)) => tracing::debug!(%error, "watching trust bundles"),
            None => return,
        }
        if complete {
            sender.send_if_modified(|known| {
                let changed = known.as_deref() != Some(&all);
                if changed {
                    *known = Some(Arc::new(all.clone()));
                }
                changed
            });
        }
    }
}
