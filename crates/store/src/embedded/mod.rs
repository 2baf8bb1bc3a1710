//! The embedded store: a write-ahead log, and one redb file behind it.
//!
//! A writer thread drains its queue, appends every waiting write to the log ([`log`]) in one frame, flushes it, hands
//! the events to watchers and only then answers. Under load one flush carries many writes; alone, a write costs one.
//! What the log holds is in memory as well ([`recent`]); when it is full it is moved into the file, in one large
//! transaction, by a second thread ([`settle`]). Readers look through both ([`read`]) and never wait for a writer.
//!
//! Tables of the file (see [`layout`]): every version of every key under `(key, revision)`, the log
//! `revision -> key`, and some counters. Compaction drops versions that nobody can read any more.

mod layout;
mod log;
mod read;
mod recent;
mod restore;
mod settle;
mod writer;

pub use restore::{RestoreError, Restored, restore};

use crate::contract::{Event, Page, Record, Revision, Store, StoreError, Watch};
use crate::watchers::Watchers;
use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use recent::Recent;
use redb::Database;
use settle::Task;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, oneshot};
use writer::{Job, Write, Writer};

/// Writes that may wait; more callers wait for a place in the queue.
const QUEUE: usize = 1024;
/// Bytes of log that are moved into the store file at a time: what memory holds twice over and a crash makes the next
/// start read, against how often a page of the file is written.
pub const LOG_BYTES: u64 = 8 << 20;
/// Moves and compactions that may wait.
const TASKS: usize = 16;
/// Log entries that one compaction transaction looks at, so that moves never wait long behind it.
const COMPACTION_STEP: u64 = 2000;

/// What is said of a file with pages that cannot be right.
const DAMAGED: &str = "the store file is damaged: a page of it cannot be right; restore a backup";

/// A [`Store`] in one file and its log.
pub struct EmbeddedStore {
    shared: Arc<Shared>,
    queue: mpsc::Sender<Job>,
    tasks: mpsc::Sender<Task>,
    threads: Mutex<Vec<std::thread::JoinHandle<()>>>,
}

/// What the threads and readers share.
pub(crate) struct Shared {
    path: PathBuf,
    /// `None` while the files are being reopened after an I/O error, and after `close`.
    open: RwLock<Option<Open>>,
    /// The revision that was published last: the one of [`Published`], for readers that need no lock.
    current: AtomicU64,
    published: Mutex<Published>,
    /// Why the last write could not be made durable; `None` when it could.
    trouble: Mutex<Option<StoreError>>,
}

/// The store file and what lies over it.
#[derive(Clone)]
pub(crate) struct Open {
    database: Arc<Database>,
    /// Full, and being moved into the file.
    settling: Option<Arc<RwLock<Recent>>>,
    /// What is being written to.
    active: Arc<RwLock<Recent>>,
}

impl Open {
    /// What lies over the file, the newest first.
    fn layers(&self) -> Vec<Arc<RwLock<Recent>>> {
        let both = [Some(&self.active), self.settling.as_ref()];
        both.into_iter().flatten().cloned().collect()
    }
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
    /// The log beside the file cannot be read, written or made.
    #[error("cannot open the log {0}; check that the directory exists, is writable and its disk is not full")]
    Log(std::io::Error),
    /// The log beside the file is not what was written.
    #[error("the log {0}")]
    LogDamaged(String),
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
    /// Opens the store file and its log, making them when they are missing. Repairs them after a crash.
    pub fn open(path: &Path) -> Result<EmbeddedStore, OpenError> {
        EmbeddedStore::open_with(path, LOG_BYTES)
    }

    /// The same with a log that is moved into the store file at `log_bytes` instead of [`LOG_BYTES`].
    pub fn open_with(path: &Path, log_bytes: u64) -> Result<EmbeddedStore, OpenError> {
        let (open, log, current) = open_files(path)?;
        let shared = Arc::new(Shared {
            path: path.to_path_buf(),
            open: RwLock::new(Some(open)),
            current: AtomicU64::new(current),
            published: Mutex::new(Published {
                current,
                watchers: Watchers::default(),
            }),
            trouble: Mutex::new(None),
        });
        let thread = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.into()).spawn(work);
            thread.map_err(|e| OpenError::Io {
                path: path.to_path_buf(),
                source: redb::Error::Io(e),
            })
        };
        let (tasks, waiting) = mpsc::channel(TASKS);
        let (tell, outcomes) = std::sync::mpsc::channel();
        let for_thread = shared.clone();
        let settler = thread(
            "store-settler",
            Box::new(move || settle::run(&for_thread, waiting, &tell)),
        )?;
        let (queue, jobs) = mpsc::channel(QUEUE);
        let writer = Writer {
            shared: shared.clone(),
            log,
            full: log_bytes.max(1),
            tasks: tasks.clone(),
            outcomes,
            moving: false,
            frame: log::Frame::default(),
        };
        let writer = thread("store-writer", Box::new(move || writer.run(jobs)))?;
        Ok(EmbeddedStore {
            shared,
            queue,
            tasks,
            threads: Mutex::new(vec![writer, settler]),
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
    fn open(&self) -> Result<Open, StoreError> {
        let open = self.open.read().clone();
        open.ok_or_else(|| self.not_open())
    }

    fn database(&self) -> Result<Arc<Database>, StoreError> {
        Ok(self.open()?.database)
    }

    /// The revision that was published last.
    fn current(&self) -> u64 {
        self.current.load(Ordering::Acquire)
    }

    /// Tells watchers of writes that are on disk.
    fn publish(&self, events: Vec<Event>, current: u64) {
        let mut published = self.published.lock();
        published.current = current;
        self.current.store(current, Ordering::Release);
        if !events.is_empty() {
            published.watchers.publish(&Arc::from(events), Revision(current));
        }
    }

    /// Begins a new layer; the answer is the one before, which is to be moved into the file. `None` while an earlier
    /// one is being moved.
    fn turn(&self) -> Option<Arc<RwLock<Recent>>> {
        let mut slot = self.open.write();
        let open = slot.as_mut().filter(|open| open.settling.is_none())?;
        let full = std::mem::take(&mut open.active);
        open.settling = Some(full.clone());
        Some(full)
    }

    /// The layer that is to be moved into the file next, if there is any.
    fn settling_or_turn(&self) -> Option<Arc<RwLock<Recent>>> {
        let open = self.open.read().clone()?;
        match open.settling {
            None if open.active.read().is_empty() => None,
            None => self.turn(),
            there => there,
        }
    }

    /// Why there is no open file, as far as it is known.
    fn not_open(&self) -> StoreError {
        let trouble = self.trouble.lock().clone();
        trouble.unwrap_or_else(|| StoreError::unavailable("the store file is not open"))
    }

    fn snapshot(&self) -> Result<read::Snapshot, StoreError> {
        // In this order, so that whatever was published is there.
        let current = self.current();
        read::Snapshot::begin(&self.open()?, current)
    }

    /// After an I/O error redb refuses all work on the handle: open everything anew. Watchers start over, since it is
    /// unknown whether the failed write happened.
    fn reopen(&self) -> Result<log::Log, OpenError> {
        let mut slot = self.open.write();
        *slot = None;
        let (open, log, current) = open_files(&self.path)?;
        *slot = Some(open);
        let mut published = self.published.lock();
        published.watchers.clear();
        published.current = current;
        self.current.store(current, Ordering::Release);
        Ok(log)
    }
}

fn open_files(path: &Path) -> Result<(Open, log::Log, u64), OpenError> {
    let (database, head) = open_file(path)?;
    let (log, recent) = log::Log::open(path, head.store, head.current).map_err(|e| match e {
        log::LogError::Io { path, source } => OpenError::Log(std::io::Error::new(
            source.kind(),
            format!("{}: {source}", path.display()),
        )),
        damaged @ log::LogError::Damaged { .. } => OpenError::LogDamaged(damaged.to_string()),
    })?;
    let current = recent.last().unwrap_or(head.current);
    let open = Open {
        database,
        settling: (!recent.is_empty()).then(|| Arc::new(RwLock::new(recent))),
        active: Arc::default(),
    };
    Ok((open, log, current))
}

fn open_file(path: &Path) -> Result<(Arc<Database>, layout::Head), OpenError> {
    // Nothing of ours is changed before it returns.
    let opened = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| try_open(path)));
    opened.unwrap_or_else(|_| {
        Err(OpenError::Damaged {
            path: path.to_path_buf(),
        })
    })
}

fn try_open(path: &Path) -> Result<(Arc<Database>, layout::Head), OpenError> {
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
    let head = layout::prepare(&database).map_err(io)?;
    if head.format != layout::FORMAT {
        return Err(OpenError::Format {
            path: path.to_path_buf(),
            found: head.format,
        });
    }
    Ok((Arc::new(database), head))
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
            let (answer, answered) = oneshot::channel();
            let task = Task::Compact { keep: step, answer };
            let sent = self.tasks.send(task).await;
            sent.map_err(|_| StoreError::unavailable("closed"))?;
            let answered = answered.await;
            answered.map_err(|_| StoreError::unavailable("closed"))??;
        }
        Ok(())
    }

    async fn current(&self) -> Result<Revision, StoreError> {
        if self.shared.open.read().is_none() {
            return Err(self.shared.not_open());
        }
        Ok(Revision(self.shared.current()))
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
        // Behind what was asked of it before; nobody listens when it has ended already.
        let _ = self.tasks.send(Task::End).await;
        let threads = std::mem::take(&mut *self.threads.lock());
        for thread in threads {
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
        self.shared.published.lock().watchers.clear();
        *self.shared.open.write() = None;
    }
}
