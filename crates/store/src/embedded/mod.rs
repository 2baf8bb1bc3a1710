//! The embedded store: one redb file, one writer, group commit.
//!
//! A writer thread drains its queue, applies every waiting write in one transaction, commits it durably, hands the
//! events to watchers and only then answers. Under load one fsync carries many writes; alone, a write costs one.
//! Readers see committed snapshots and never wait for the writer.
//!
//! Tables (see [`layout`]): every version of every key under `(key, revision)`, the log `revision -> key`, and
//! three counters. Compaction drops versions that nobody can read any more.

mod layout;
mod read;
mod restore;
mod writer;

pub use restore::{RestoreError, Restored, restore};

use crate::contract::{Page, Record, Revision, Store, StoreError, Watch};
use crate::watchers::Watchers;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use redb::Database;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};
use writer::{Job, Write};

/// Writes that may wait; more callers wait for a place in the queue.
const QUEUE: usize = 1024;
/// Log entries that one compaction transaction looks at, so that writers never wait long behind it.
const COMPACTION_STEP: u64 = 2000;

/// What is said of a file with pages that cannot be right.
const DAMAGED: &str = "the store file is damaged: a page of it cannot be right; restore a backup";

/// A [`Store`] in one file.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Job>,
    thread: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// What the writer thread and readers share.
pub(crate) struct Shared {
    path: PathBuf,
    /// `None` while the file is being reopened after an I/O error, and after `close`.
    database: RwLock<Option<Arc<Database>>>,
    published: Mutex<Published>,
    /// Why the last write could not be made durable; `None` when it could.
    trouble: Mutex<Option<StoreError>>,
}

/// What watchers have been told; the writer changes it after each commit.
#[derive(Default)]
pub(crate) struct Published {
    pub(crate) current: u64,
    pub(crate) watchers: Watchers,
}

/// Why a store file could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has the file open.
    #[error("{} is in use by another process; stop that one first", path.display())]
    InUse {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read, written or made.
    #[error("cannot open the store {}: {source}; check that the directory exists, is writable and its disk is not full", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: redb::Error,
    },
    /// Pages of the file cannot be right.
    #[error("{}: {DAMAGED}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// The file was written by a version of Podvisor that this one does not understand.
    #[error("{} has store format {found}, this program understands {}", path.display(), layout::FORMAT)]
    Format {
        /// The file.
        path: PathBuf,
        /// The format it has.
        found: u64,
    },
}

impl EmbeddedStore {
    /// Opens the store file, making it when it is missing. Repairs it after a crash.
    pub fn open(path: &Path) -> Result<EmbeddedStore, OpenError> {
        let (database, current) = open_file(path)?;
        let shared = Arc::new(Shared {
            path: path.to_path_buf(),
            database: RwLock::new(Some(database)),
            published: Mutex::new(Published {
                current,
                watchers: Watchers::default(),
            }),
            trouble: Mutex::new(None),
        });
        let (queue, jobs) = mpsc::channel(QUEUE);
        let for_thread = shared.clone();
        let thread = std::thread::Builder::new()
            .name("store-writer".into())
            .spawn(move || writer::run(&for_thread, jobs))
            .map_err(|e| OpenError::Io {
                path: path.to_path_buf(),
                source: redb::Error::Io(e),
            })?;
        Ok(EmbeddedStore {
            shared,
            queue,
            thread: Mutex::new(Some(thread)),
        })
    }

    async fn submit(&self, write: Write) -> Result<Revision, StoreError> {
        let (answer, answered) = oneshot::channel();
        self.queue
            .send(Job { write, answer })
            .await
            .map_err(|_| StoreError::unavailable("closed"))?;
        answered
            .await
            .map_err(|_| StoreError::unavailable("the writer ended before it answered"))?
    }

    /// Runs `work` on a committed snapshot, off the async threads.
    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&read::Snapshot) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let shared = self.shared.clone();
        tokio::task::spawn_blocking(move || work(&shared.snapshot()?))
            .await
            .map_err(|e| reader_failed(&e))?
    }
}

/// The library that reads the file panics at pages that cannot be right.
fn reader_failed(error: &tokio::task::JoinError) -> StoreError {
    match error.is_panic() {
        true => StoreError::unavailable(DAMAGED),
        false => StoreError::unavailable("the reader was cancelled"),
    }
}

impl Shared {
    fn database(&self) -> Result<Arc<Database>, StoreError> {
        let open = self.database.read().clone();
        open.ok_or_else(|| self.not_open())
    }

    /// Why there is no open file, as far as it is known.
    fn not_open(&self) -> StoreError {
        let trouble = self.trouble.lock().clone();
        trouble.unwrap_or_else(|| StoreError::unavailable("the store file is not open"))
    }

    fn snapshot(&self) -> Result<read::Snapshot, StoreError> {
        let database = self.database()?;
        read::Snapshot::begin(&database)
    }

    /// After an I/O error redb refuses all work on the handle: open the file anew. Watchers start over, since
    /// it is unknown whether the failed commit happened.
    fn reopen(&self) -> Result<(), OpenError> {
        let mut slot = self.database.write();
        *slot = None;
        let (database, current) = open_file(&self.path)?;
        *slot = Some(database);
        let mut published = self.published.lock();
        published.watchers.clear();
        published.current = current;
        Ok(())
    }
}

fn open_file(path: &Path) -> Result<(Arc<Database>, u64), OpenError> {
    // Nothing of ours is changed before it returns.
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| try_open(path)));
    opened.unwrap_or_else(|_| {
        Err(OpenError::Damaged {
            path: path.to_path_buf(),
        })
    })
}

fn try_open(path: &Path) -> Result<(Arc<Database>, u64), OpenError> {
    let io = |source: redb::Error| OpenError::Io {
        path: path.to_path_buf(),
        source,
    };
    keep_private(path).map_err(|error| io(redb::Error::Io(error)))?;
    let opened = Database::builder()
        .set_cache_size(layout::CACHE_BYTES)
        .create(path);
    let database = match opened {
        Ok(d) => d,
        Err(redb::DatabaseError::DatabaseAlreadyOpen) => {
            return Err(OpenError::InUse {
                path: path.to_path_buf(),
            });
        }
        Err(e) => return Err(io(e.into())),
    };
    let (format, current) = layout::prepare(&database).map_err(io)?;
    if format != layout::FORMAT {
        return Err(OpenError::Format {
            path: path.to_path_buf(),
            found: format,
        });
    }
    Ok((Arc::new(database), current))
}

/// Secrets lie in the file: nobody but its owner may read it.
fn keep_private(path: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    const OWNER_ONLY: u32 = 0o600;
    let file = std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(OWNER_ONLY)
        .open(path)?;
    if file.metadata()?.permissions().mode() & 0o777 != OWNER_ONLY {
        file.set_permissions(std::fs::Permissions::from_mode(OWNER_ONLY))?;
    }
    Ok(())
}

#[async_trait::async_trait]
impl Store for EmbeddedStore {
    fn name(&self) -> &'static str {
        "embedded"
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(Option<Record>, Revision), StoreError> {
        let key = key.to_vec();
        self.read(move |snapshot| {
            let at = snapshot.at(at)?;
            Ok((snapshot.record(&key, at)?, Revision(at)))
        })
        .await
    }

    async fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, StoreError> {
        let (prefix, after) = (prefix.to_vec(), after.map(<[u8]>::to_vec));
        self.read(move |snapshot| snapshot.list(&prefix, after.as_deref(), limit, at))
            .await
    }

    async fn create(&self, key: Bytes, value: Bytes) -> Result<Revision, StoreError> {
        self.submit(Write::Create { key, value }).await
    }

    async fn update(&self, key: Bytes, value: Bytes, expected: Revision) -> Result<Revision, StoreError> {
        self.submit(Write::Update { key, value, expected }).await
    }

    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, StoreError> {
        self.submit(Write::Delete { key, expected }).await
    }

    async fn watch(&self, prefix: &[u8], after: Revision) -> Result<Watch, StoreError> {
        let (prefix, shared) = (prefix.to_vec(), self.shared.clone());
        tokio::task::spawn_blocking(move || {
            // While the lock is held nothing is published: history ends exactly where the live events begin.
            let mut published = shared.published.lock();
            let snapshot = shared.snapshot()?;
            snapshot.at(Some(after))?;
            let history = snapshot.history(&prefix, after.0, published.current)?;
            let current = Revision(published.current);
            Ok(published.watchers.add(&prefix, history, current))
        })
        .await
        .map_err(|e| reader_failed(&e))?
    }

    async fn compact(&self, keep: Revision) -> Result<(), StoreError> {
        let (oldest, current) = (self.oldest().await?, self.current().await?);
        if keep > current {
            return Err(StoreError::Future { current });
        }
        let mut step = oldest.0;
        while step < keep.0 {
            step = (step + COMPACTION_STEP).min(keep.0);
            self.submit(Write::Compact { keep: step }).await?;
        }
        Ok(())
    }

    async fn current(&self) -> Result<Revision, StoreError> {
        if self.shared.database.read().is_none() {
            return Err(self.shared.not_open());
        }
        Ok(Revision(self.shared.published.lock().current))
    }

    async fn oldest(&self) -> Result<Revision, StoreError> {
        self.read(|snapshot| Ok(Revision(snapshot.oldest))).await
    }

    async fn health(&self) -> Result<(), StoreError> {
        if self.queue.is_closed() {
            return Err(StoreError::unavailable("closed"));
        }
        let trouble = self.shared.trouble.lock().is_some();
        match trouble {
            // A write tells whether it has passed, so that a store recovers without being written to by others.
            true => self.submit(Write::Probe).await.map(drop),
            false => self.read(|_| Ok(())).await,
        }
    }

    async fn close(&self) {
        let (answer, answered) = oneshot::channel();
        if self
            .queue
            .send(Job {
                write: Write::Close,
                answer,
            })
            .await
            .is_ok()
        {
            let _ = answered.await;
        }
        let thread = self.thread.lock().take();
        if let Some(thread) = thread {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        self.shared.published.lock().watchers.clear();
        *self.shared.database.write() = None;
    }
}
