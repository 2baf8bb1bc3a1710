//! Changes and who is told of them: bounded queues, filters evaluated once, slow watchers cut off.

use crate::object::Object;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::sync::mpsc;

/// Changes that may wait for one watcher; beyond that it is cut off and its client starts again.
pub const QUEUE: usize = 4096;

/// What a change did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChangeKind {
    /// New.
    Added,
    /// Changed.
    Modified,
    /// Gone; the object is its last state at the revision of the deletion.
    Deleted,
}

impl ChangeKind {
    /// The `type` of a watch event.
    pub fn as_str(self) -> &'static str {
        match self {
            ChangeKind::Added => "ADDED",
            ChangeKind::Modified => "MODIFIED",
            ChangeKind::Deleted => "DELETED",
        }
    }
}

/// One change of one object.
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The state after it.
    pub object: Arc<Object>,
    /// The state before it; `None` when it is new.
    pub previous: Option<Arc<Object>>,
}

impl Change {
    /// The revision of the change.
    pub fn revision(&self) -> u64 {
        self.object.revision()
    }
}

/// A condition on objects.
pub type Predicate = Arc<dyn Fn(&Object) -> bool + Send + Sync>;

/// Which objects a list or watch wants. Selectors are closures so that this module knows no syntax.
#[derive(Clone, Default)]
pub struct Filter {
    /// Only this namespace; empty for all.
    pub namespace: String,
    /// Only this name; empty for all.
    pub name: String,
    /// Label and field selectors; `None` when everything matches.
    pub matches: Option<Predicate>,
}

impl Filter {
    /// Whether an object is wanted.
    pub fn accepts(&self, object: &Object) -> bool {
        (self.namespace.is_empty() || object.namespace() == self.namespace)
            && (self.name.is_empty() || object.name() == self.name)
            && self.matches.as_ref().is_none_or(|m| m(object))
    }

    /// Whether everything in the namespace is wanted.
    pub fn is_everything(&self) -> bool {
        self.name.is_empty() && self.matches.is_none()
    }

    /// What a change is to somebody with this filter: an object that enters or leaves the selection is added or
    /// deleted for them, whatever happened to it. `None` when it is none of theirs.
    pub fn translate(&self, change: &Change) -> Option<(ChangeKind, Arc<Object>)> {
        if self.is_everything() && self.namespace.is_empty() {
            return Some((change.kind, change.object.clone()));
        }
        let now = change.kind != ChangeKind::Deleted && self.accepts(&change.object);
        let before = change.previous.as_ref().is_some_and(|p| self.accepts(p));
        match (before, now) {
            (false, true) => Some((ChangeKind::Added, change.object.clone())),
            (true, true) => Some((ChangeKind::Modified, change.object.clone())),
            (true, false) if change.kind == ChangeKind::Deleted => {
                Some((ChangeKind::Deleted, change.object.clone()))
            }
            (true, false) => {
                // It left the selection: show the state that was in it, at the revision at which it left.
                let last = change
                    .previous
                    .as_ref()
                    .map(|p| Arc::new(p.at_revision(change.revision())))?;
                Some((ChangeKind::Deleted, last))
            }
            (false, false) => None,
        }
    }
}

/// One event as a watcher gets it.
pub type Told = (ChangeKind, Arc<Object>);

/// A registered watcher, on the cache's side.
pub(crate) struct Watcher {
    filter: Filter,
    queue: mpsc::UnboundedSender<Vec<Told>>,
    /// Events in the queue: what bounds it, as batches differ in size.
    behind: Arc<AtomicUsize>,
}

impl Watcher {
    pub(crate) fn new(filter: Filter) -> (Watcher, Live) {
        let (queue, batches) = mpsc::unbounded_channel();
        let behind = Arc::new(AtomicUsize::new(0));
        let live = Live {
            batches,
            behind: behind.clone(),
        };
        let watcher = Watcher {
            filter,
            queue,
            behind,
        };
        (watcher, live)
    }

    /// Tells the watcher of changes; false when it is gone or too slow.
    pub(crate) fn tell(&self, changes: &[Arc<Change>]) -> bool {
        let told: Vec<Told> = changes
            .iter()
            .filter_map(|change| self.filter.translate(change))
            .collect();
        if told.is_empty() {
            return !self.queue.is_closed();
        }
        let before = self.behind.fetch_add(told.len(), Ordering::AcqRel);
        before + told.len() <= QUEUE && self.queue.send(told).is_ok()
    }
}

/// The live events of a watch, in the batches in which they were committed.
pub struct Live {
    batches: mpsc::UnboundedReceiver<Vec<Told>>,
    behind: Arc<AtomicUsize>,
}

impl Live {
    /// The next batch; `None` when the watcher was too slow or the cache started over.
    pub async fn recv(&mut self) -> Option<Vec<Told>> {
        let batch = self.batches.recv().await?;
        self.behind.fetch_sub(batch.len(), Ordering::AcqRel);
        Some(batch)
    }

    /// The next batch if there is one now.
    pub fn try_recv(&mut self) -> Option<Vec<Told>> {
        let batch = self.batches.try_recv().ok()?;
        self.behind.fetch_sub(batch.len(), Ordering::AcqRel);
        Some(batch)
    }

    /// Whether no batch waits.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }
}

/// The watcher's own side: first what happened since the revision it asked for, then what happens.
pub struct Subscription {
    /// Events that had happened when the watch began.
    pub backlog: std::collections::VecDeque<Told>,
    /// Live events; they end when the watcher was too slow or the cache started over.
    pub live: Live,
    /// The revision at which live events begin.
    pub since: u64,
}
