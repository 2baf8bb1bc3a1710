//! An in-memory [`View`] for tests of what looks through it.

use crate::view::{GroupResource, View};
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

type Key = (GroupResource, String, String);

/// Objects by resource, namespace and name.
#[derive(Default)]
pub(crate) struct MemoryView {
    objects: Mutex<BTreeMap<Key, Arc<Value>>>,
    revision: AtomicU64,
}

impl MemoryView {
    /// A view of some objects; `(resource.group, object)`.
    pub(crate) fn of(objects: impl IntoIterator<Item = (&'static str, Value)>) -> Arc<MemoryView> {
        let view = Arc::new(MemoryView::default());
        for (resource, object) in objects {
            view.put(resource, object);
        }
        view
    }

    fn key(resource: &str, object: &Value) -> Key {
        let (resource, group) = resource.split_once('.').unwrap_or((resource, ""));
        let text = |key: &str| object["metadata"][key].as_str().unwrap_or_default().to_string();
        (
            GroupResource::new(group, resource),
            text("namespace"),
            text("name"),
        )
    }

    /// Adds or replaces an object.
    pub(crate) fn put(&self, resource: &str, object: Value) {
        self.objects
            .lock()
            .insert(Self::key(resource, &object), Arc::new(object));
        self.revision.fetch_add(1, Ordering::Relaxed);
    }

    /// Removes an object.
    pub(crate) fn remove(&self, resource: &str, object: &Value) {
        self.objects.lock().remove(&Self::key(resource, object));
        self.revision.fetch_add(1, Ordering::Relaxed);
    }
}

impl View for MemoryView {
    fn get(&self, resource: &GroupResource, ns: Option<&str>, name: &str) -> Option<Arc<Value>> {
        let key = (
            resource.clone(),
            ns.unwrap_or_default().to_string(),
            name.to_string(),
        );
        self.objects.lock().get(&key).cloned()
    }

    fn list(&self, resource: &GroupResource, ns: Option<&str>) -> Vec<Arc<Value>> {
        let objects = self.objects.lock();
        let wanted = objects
            .iter()
            .filter(|((r, n, _), _)| r == resource && ns.is_none_or(|ns| ns == n));
        wanted.map(|(_, object)| object.clone()).collect()
    }

    fn revision(&self) -> u64 {
        self.revision.load(Ordering::Relaxed)
    }

    fn resource_revision(&self, _: &GroupResource) -> u64 {
        self.revision()
    }
}
