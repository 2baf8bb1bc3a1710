//! The cache of one resource: objects by namespace and name, kept right however late news arrive.
//!
//! Two streams write into it, the watch and the answers to our own writes, and either may be behind the other. The
//! resourceVersion decides between two forms of an object; an object that has ended stays out.

use super::Resource;
use super::raw::Place;
use crate::obj::meta;
use parking_lot::RwLock;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Namespace and name.
pub(super) type Key = (String, String);

/// See the module's words.
pub(super) struct Cache {
    /// What it caches.
    pub(super) resource: Resource,
    pub(super) whole: bool,
    /// Listed at least once.
    pub(super) synced: AtomicBool,
    /// Rises with every change.
    pub(super) revision: AtomicU64,
    /// The objects.
    pub(super) objects: RwLock<BTreeMap<Key, Arc<Value>>>,
    gone: RwLock<Graves>,
}

/// So many deleted objects of a kind are remembered.
const GRAVES: usize = 4096;

/// Uids of deleted objects. The answer to a write may arrive after the watch has told of the object's end; without this
/// memory the answer would bring it back into the cache for good.
#[derive(Default)]
struct Graves {
    uids: HashSet<String>,
    order: VecDeque<String>,
}

impl Graves {
    fn add(&mut self, uid: &str) {
        if uid.is_empty() || !self.uids.insert(uid.to_string()) {
            return;
        }
        self.order.push_back(uid.to_string());
        if self.order.len() > GRAVES
            && let Some(oldest) = self.order.pop_front()
        {
            self.uids.remove(&oldest);
        }
    }
}

impl Cache {
    /// An empty cache; `whole` keeps whole objects, otherwise metadata only.
    pub(super) fn new(resource: Resource, whole: bool) -> Cache {
        Cache {
            resource,
            whole,
            synced: AtomicBool::new(false),
            revision: AtomicU64::new(0),
            objects: RwLock::default(),
            gone: RwLock::default(),
        }
    }

    /// Takes over a complete list: what it does not name has ended, unless it was written after the list was made.
    pub(super) fn replace(&self, listed: Vec<Value>) {
        let newest = listed.iter().map(version).max().unwrap_or(0);
        let present: BTreeSet<Key> = listed
            .iter()
            .map(|o| (meta(o, "namespace").to_string(), meta(o, "name").to_string()))
            .collect();
        self.objects
            .write()
            .retain(|key, o| present.contains(key) || version(o) > newest);
        listed.into_iter().for_each(|o| self.put(o));
        self.synced.store(true, Ordering::Release);
    }

    /// Puts an object in, unless a newer one is there.
    pub(super) fn put(&self, mut object: Value) {
        object["apiVersion"] = json!(self.resource.api_version());
        object["kind"] = json!(self.resource.kind);
        Place::root(self.whole).prune(&mut object);
        let key = (
            meta(&object, "namespace").to_string(),
            meta(&object, "name").to_string(),
        );
        let mut objects = self.objects.write();
        if self.gone.read().uids.contains(meta(&object, "uid")) {
            return;
        }
        if objects
            .get(&key)
            .is_some_and(|old| version(old) > version(&object))
        {
            return;
        }
        objects.insert(key, Arc::new(object));
    }

    /// The object with this uid has ended; a new one of the same name may be there already and stays.
    pub(super) fn bury(&self, namespace: &str, name: &str, uid: &str) {
        let mut objects = self.objects.write();
        self.gone.write().add(uid);
        let key = (namespace.to_string(), name.to_string());
        if objects.get(&key).is_some_and(|o| meta(o, "uid") == uid) {
            objects.remove(&key);
        }
    }
}

/// The resourceVersion as a number, which our API server's are.
fn version(object: &Value) -> u64 {
    meta(object, "resourceVersion").parse().unwrap_or(0)
}
