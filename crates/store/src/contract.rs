//! The contract of a store: about a dozen methods and six errors, the whole of it on one screen.

use bytes::Bytes;
use std::fmt;
use std::sync::Arc;
use tokio::sync::mpsc;

/// A position in the log. The first write of a new store has revision 1 or more; 0 is "before everything".
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Revision(pub u64);

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A key as it stands at some revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The key.
    pub key: Bytes,
    /// Its value.
    pub value: Bytes,
    /// The revision that wrote this value.
    pub revision: Revision,
    /// The revision that created the key (it may have been deleted and created before).
    pub created: Revision,
}

/// What a write did to its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EventKind {
    /// The key did not exist before.
    Created,
    /// The key had another value before.
    Updated,
    /// The key is gone; the record holds the value it had, at the revision of the deletion.
    Deleted,
}

/// One write, as watchers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// What happened.
    pub kind: EventKind,
    /// The new state (for deletions the last one).
    pub record: Record,
}

/// An answer to [`Store::list`].
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Page {
    /// The records, in key order.
    pub records: Vec<Record>,
    /// Whether there is more behind the last record.
    pub more: bool,
    /// The revision that this is the state of.
    pub revision: Revision,
}

/// Why a store refused. Six reasons; a caller can tell each from the others.
#[derive(Debug, thiserror::Error, Clone)]
pub enum StoreError {
    /// `create` found the key.
    #[error("the key exists already")]
    Exists(Box<Record>),
    /// `update` or `delete` found another revision than expected; the record is what stands there.
    #[error("the key is at another revision than expected")]
    Conflict(Box<Record>),
    /// `update` or `delete` found no key.
    #[error("there is no such key")]
    NotFound,
    /// The revision asked for is no longer kept.
    #[error("revision has been compacted; the oldest one kept is {oldest}")]
    Compacted {
        /// The oldest revision that can still be read.
        oldest: Revision,
    },
    /// The revision asked for has not happened yet.
    #[error("revision is in the future; the current one is {current}")]
    Future {
        /// The current revision.
        current: Revision,
    },
    /// The backend cannot serve: disk full, file broken, network down, closed. Nothing is known of a write
    /// that ends so, except that it is either wholly there or not at all.
    #[error("the store is unavailable: {0}")]
    Unavailable(Arc<str>),
}

impl StoreError {
    /// An [`StoreError::Unavailable`] that says why.
    pub fn unavailable(why: impl fmt::Display) -> StoreError {
        StoreError::Unavailable(Arc::from(why.to_string()))
    }
}

/// Some consecutive writes, as one watcher sees them.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The events under the watcher's prefix; empty when only other keys were written.
    pub events: Arc<[Event]>,
    /// The watcher has now seen everything up to this revision.
    pub revision: Revision,
}

/// A running watch: batches of events in revision order, without gap or duplicate. The first batch holds what had
/// happened already, even when that is nothing.
///
/// A watcher that does not keep up is cut off: its stream ends with [`StoreError::Compacted`] and it starts anew.
pub struct Watch {
    pub(crate) events: mpsc::Receiver<Result<Batch, StoreError>>,
}

impl Watch {
    /// The next batch; `None` when the store was closed or the watcher cut off.
    pub async fn next(&mut self) -> Option<Result<Batch, StoreError>> {
        self.events.recv().await
    }

    /// The next batch if one is there already.
    pub fn try_next(&mut self) -> Option<Result<Batch, StoreError>> {
        self.events.try_recv().ok()
    }
}

/// An append-only log of revisions over keys.
///
/// Every successful write returns after it is durable, and its revision is larger than that of any write that
/// was answered before it began.
#[async_trait::async_trait]
pub trait Store: Send + Sync + 'static {
    /// A short name for status pages: `memory`, `embedded`, `etcd`.
    fn name(&self) -> &'static str;

    /// The record of `key`, now or as it stood `at` a revision, and the revision of that state.
    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(Option<Record>, Revision), StoreError>;

    /// Records whose keys begin with `prefix` and sort after `after`, at most `limit` (0: all), now or `at` a revision.
    async fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, StoreError>;

    /// Writes a key that must not exist.
    async fn create(&self, key: Bytes, value: Bytes) -> Result<Revision, StoreError>;

    /// Replaces a value that must stand at `expected`.
    async fn update(&self, key: Bytes, value: Bytes, expected: Revision) -> Result<Revision, StoreError>;

    /// Removes a key that must stand at `expected`. Answers the revision of the removal.
    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, StoreError>;

    /// All writes under `prefix` after revision `after`, first those that happened already.
    async fn watch(&self, prefix: &[u8], after: Revision) -> Result<Watch, StoreError>;

    /// Forgets all states before `keep` that are not current. Reads and watches below it fail from then on.
    async fn compact(&self, keep: Revision) -> Result<(), StoreError>;

    /// The revision of the latest write.
    async fn current(&self) -> Result<Revision, StoreError>;

    /// The oldest revision that can still be read.
    async fn oldest(&self) -> Result<Revision, StoreError>;

    /// Whether a write would probably succeed; the error says why not.
    async fn health(&self) -> Result<(), StoreError>;

    /// Finishes what was accepted and releases files. Later calls fail with `Unavailable`.
    async fn close(&self);
}
