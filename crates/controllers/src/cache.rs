//! A watched, shared, in-memory copy of one kind of object: the informer that every reconciler reads from.
//!
//! One watch per kind serves all reconcilers of the process; what nobody reads (`managedFields`) is dropped before an
//! object is kept, because this copy is most of the memory the controllers use. Handlers are told of every change and
//! only enqueue keys: the cache never waits for a reconciler.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::{self, Debug};
use std::sync::Arc;

use futures::StreamExt;
use kube::api::Api;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Resource, ResourceExt};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Namespace and name of an object; the namespace of a cluster-scoped object is empty.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Key {
    /// Namespace, or the empty string.
    pub namespace: String,
    /// Object name.
    pub name: String,
}

impl Key {
    /// A key from its two halves.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Self { namespace: namespace.into(), name: name.into() }
    }

    /// The key of an object.
    pub fn of<K: Resource>(object: &K) -> Self {
        let meta = object.meta();
        Self {
            namespace: meta.namespace.clone().unwrap_or_default(),
            name: meta.name.clone().unwrap_or_default(),
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            f.write_str(&self.name)
        } else {
            write!(f, "{}/{}", self.namespace, self.name)
        }
    }
}

/// One change of one object: added (`old` absent), updated (both), deleted (`new` absent).
pub struct Change<'a, K> {
    /// What the cache held before.
    pub old: Option<&'a Arc<K>>,
    /// What it holds now.
    pub new: Option<&'a Arc<K>>,
}

impl<K> Change<'_, K> {
    /// The newest form of the object that is known.
    pub fn latest(&self) -> Option<&Arc<K>> {
        self.new.or(self.old)
    }

    /// Old and new form, whichever exist.
    pub fn both(&self) -> impl Iterator<Item = &Arc<K>> {
        self.old.into_iter().chain(self.new)
    }

    /// True when the object appeared or its resourceVersion moved: a re-list of the same object is no change.
    fn is_real(&self) -> bool
    where
        K: Resource,
    {
        match (self.old, self.new) {
            (Some(old), Some(new)) => old.meta().resource_version != new.meta().resource_version,
            _ => true,
        }
    }
}

type Handler<K> = Box<dyn Fn(&Change<'_, K>) + Send + Sync>;
type Shelf<K> = HashMap<String, BTreeMap<String, Arc<K>>>;

/// The shared copy. Cloning is cheap and gives another handle on the same copy.
pub struct Cache<K> {
    inner: Arc<Inner<K>>,
}

struct Inner<K> {
    objects: RwLock<Shelf<K>>,
    handlers: RwLock<Vec<Handler<K>>>,
    ready: watch::Sender<bool>,
}

impl<K> Clone for Cache<K> {
    fn clone(&self) -> Self {
        Self { inner: self.inner.clone() }
    }
}

impl<K> Default for Cache<K> {
    fn default() -> Self {
        Self {
            inner: Arc::new(Inner {
                objects: RwLock::new(HashMap::new()),
                handlers: RwLock::new(Vec::new()),
                ready: watch::Sender::new(false),
            }),
        }
    }
}

impl<K> Cache<K> {
    /// The object of that namespace (empty for cluster-scoped kinds) and name.
    pub fn get(&self, namespace: &str, name: &str) -> Option<Arc<K>> {
        self.inner.objects.read().get(namespace)?.get(name).cloned()
    }

    /// All objects of a namespace, by name.
    pub fn list(&self, namespace: &str) -> Vec<Arc<K>> {
        self.inner.objects.read().get(namespace).map(|m| m.values().cloned().collect()).unwrap_or_default()
    }

    /// All objects.
    pub fn all(&self) -> Vec<Arc<K>> {
        self.inner.objects.read().values().flat_map(|m| m.values().cloned()).collect()
    }

    /// Calls `handler` on every change from now on. Handlers run on the watch task and must not block.
    pub fn on_change(&self, handler: impl Fn(&Change<'_, K>) + Send + Sync + 'static) {
        self.inner.handlers.write().push(Box::new(handler));
    }

    /// Resolves when the first complete list has arrived.
    pub async fn ready(&self) {
        // The sender lives in `inner`, which `self` holds: the wait cannot fail.
        let _ = self.inner.ready.subscribe().wait_for(|ready| *ready).await;
    }
}

impl<K: Resource + Clone + Debug + DeserializeOwned + Send + Sync + 'static> Cache<K> {
    /// Watches until cancelled. Interruptions are retried with back-off; the copy stays as it was meanwhile.
    pub async fn run(self, api: Api<K>, config: watcher::Config, cancel: CancellationToken) {
        let mut stream = Box::pin(watcher::watcher(api, config).default_backoff());
        let mut seen: Option<HashSet<Key>> = None;
        loop {
            let event = tokio::select! {
                () = cancel.cancelled() => return,
                event = stream.next() => event,
            };
            match event {
                None => return,
                Some(Err(error)) => {
                    tracing::warn!(kind = std::any::type_name::<K>(), error = %error, "watch interrupted; retrying");
                }
                Some(Ok(Event::Init)) => seen = Some(HashSet::new()),
                Some(Ok(Event::InitApply(object))) => {
                    if let Some(seen) = &mut seen {
                        seen.insert(Key::of(&object));
                    }
                    self.put(object);
                }
                Some(Ok(Event::InitDone)) => {
                    if let Some(seen) = seen.take() {
                        self.retain(&seen);
                    }
                    self.inner.ready.send_replace(true);
                }
                Some(Ok(Event::Apply(object))) => self.put(object),
                Some(Ok(Event::Delete(object))) => self.remove(&Key::of(&object)),
            }
        }
    }

    /// Stores an object as if a watch had delivered it.
    pub fn put(&self, mut object: K) {
        object.managed_fields_mut().clear();
        let key = Key::of(&object);
        let new = Arc::new(object);
        let old = self.inner.objects.write().entry(key.namespace).or_default().insert(key.name, new.clone());
        self.tell(&Change { old: old.as_ref(), new: Some(&new) });
    }

    fn remove(&self, key: &Key) {
        let old = {
            let mut objects = self.inner.objects.write();
            let Some(shelf) = objects.get_mut(&key.namespace) else { return };
            let old = shelf.remove(&key.name);
            if shelf.is_empty() {
                objects.remove(&key.namespace);
            }
            old
        };
        if old.is_some() {
            self.tell(&Change { old: old.as_ref(), new: None });
        }
    }

    /// After a new list: what it did not name is gone.
    fn retain(&self, seen: &HashSet<Key>) {
        let gone: Vec<Key> =
            self.all().iter().map(|object| Key::of(object.as_ref())).filter(|key| !seen.contains(key)).collect();
        for key in gone {
            self.remove(&key);
        }
    }

    fn tell(&self, change: &Change<'_, K>) {
        if change.is_real() {
            for handler in self.inner.handlers.read().iter() {
                handler(change);
            }
        }
    }
}
