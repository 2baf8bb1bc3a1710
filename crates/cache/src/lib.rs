//! The watch cache: every object of a control plane in memory, once, as encoded bytes plus a small index.
//!
//! The API server answers reads and watches from it, and the controllers and the scheduler of the same process look at
//! the world through it: there is no second copy of the cluster. [`feed`] follows the log of the store and applies it,
//! in order, to one [`ResourceCache`] per resource. Reads copy stored bytes; watches get the changes as they are
//! applied. A client that wants to see the latest write waits until the cache has reached the revision of the log
//! ([`Caches::wait_for`]), which takes microseconds.

pub mod feed;
pub mod fields;
mod json;
pub mod object;
pub mod pluck;
pub mod resource;
mod scan;
pub mod view;
pub mod watcher;

pub use object::{Object, Uid};
pub use resource::{Listing, ResourceCache, Since, TooOld};
pub use watcher::{Change, ChangeKind, Filter, Subscription};

use parking_lot::RwLock;
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use view::{GroupResource, View};

/// How long a read waits for the cache to reach a revision before it answers 504.
const WAIT: Duration = Duration::from_secs(3);

/// All resource caches of one control plane.
pub struct Caches {
    resources: RwLock<HashMap<GroupResource, Arc<ResourceCache>>>,
    applied: watch::Sender<u64>,
    /// Lists of states before this one are not served any more.
    forgotten: AtomicU64,
    /// Nothing will be applied any more: who waits need not wait out its time.
    ended: CancellationToken,
}

impl Default for Caches {
    fn default() -> Caches {
        Caches {
            resources: RwLock::default(),
            applied: watch::Sender::new(0),
            forgotten: AtomicU64::new(0),
            ended: CancellationToken::new(),
        }
    }
}

impl Caches {
    /// The cache of a resource, made empty on first use.
    pub fn resource(&self, resource: &GroupResource) -> Arc<ResourceCache> {
        if let Some(found) = self.resources.read().get(resource) {
            return found.clone();
        }
        let mut all = self.resources.write();
        all.entry(resource.clone())
            .or_insert_with(|| Arc::new(ResourceCache::new(resource.clone(), self.revision())))
            .clone()
    }

    /// All resources that were ever seen or served.
    pub fn all(&self) -> Vec<Arc<ResourceCache>> {
        self.resources.read().values().cloned().collect()
    }

    /// The revision up to which everything is applied.
    pub fn revision(&self) -> u64 {
        *self.applied.borrow()
    }

    /// Marks everything up to `revision` as applied and wakes who waits for it.
    pub(crate) fn advance(&self, revision: u64) {
        self.applied.send_if_modified(|r| {
            let later = revision > *r;
            *r = revision.max(*r);
            later
        });
    }

    /// Waits until `revision` is applied; `Err` holds the revision reached when time ran out.
    pub async fn wait_for(&self, revision: u64) -> Result<(), u64> {
        if self.revision() >= revision {
            return Ok(());
        }
        let mut applied = self.applied.subscribe();
        let reached = tokio::time::timeout(WAIT, applied.wait_for(|r| *r >= revision));
        tokio::select! {
            reached = reached => match reached {
                Ok(Ok(_)) => Ok(()),
                _ => Err(self.revision()),
            },
            () = self.ended.cancelled() => Err(self.revision()),
        }
    }

    /// A receiver that is woken whenever the applied revision changes.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Tells that the log was compacted: what changed until `revision` can still be watched while the windows hold it,
    /// but pages of a list end there, as clients know it.
    pub fn forget(&self, revision: u64) {
        self.forgotten.fetch_max(revision, Ordering::Relaxed);
    }

    /// The oldest state of which a list is served.
    pub fn forgotten(&self) -> u64 {
        self.forgotten.load(Ordering::Relaxed)
    }

    /// The cache of a resource, if it was ever seen or served.
    pub fn existing(&self, resource: &GroupResource) -> Option<Arc<ResourceCache>> {
        self.resources.read().get(resource).cloned()
    }
}

impl View for Caches {
    fn get(&self, resource: &GroupResource, ns: Option<&str>, name: &str) -> Option<Arc<Value>> {
        Some(self.existing(resource)?.get(ns.unwrap_or(""), name)?.value())
    }

    fn list(&self, resource: &GroupResource, ns: Option<&str>) -> Vec<Arc<Value>> {
        let Some(cache) = self.existing(resource) else {
            return Vec::new();
        };
        cache
            .current(ns.unwrap_or(""))
            .iter()
            .map(|o| o.value())
            .collect()
    }

    fn pods_on(&self, node: &str, ns: Option<&str>) -> Vec<Arc<Value>> {
        // By the index: only what is wanted is decoded.
        let Some(cache) = self.existing(&GroupResource::new("", "pods")) else {
            return Vec::new();
        };
        let found = cache.select(ns.unwrap_or(""), |pod| pod.field(fields::pod::NODE) == node);
        found.iter().map(|pod| pod.value()).collect()
    }

    fn touched(&self, resource: &GroupResource, ns: &str, since: u64) -> Option<BTreeSet<String>> {
        self.existing(resource)?.touched_since(ns, since)
    }

    fn revision(&self) -> u64 {
        Caches::revision(self)
    }

    fn resource_revision(&self, resource: &GroupResource) -> u64 {
        self.existing(resource).map_or(0, |c| c.changed())
    }
}
