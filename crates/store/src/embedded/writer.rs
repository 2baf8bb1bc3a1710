//! The writer thread: drains the queue into one transaction, commits, publishes, answers.

use super::layout::{self, LOG, META, META_CURRENT, META_OLDEST, VERSIONS};
use super::read::{failed, record, version};
use super::{DAMAGED, Published, Shared};
use crate::contract::{Event, EventKind, Record, Revision, StoreError};
use bytes::Bytes;
use redb::{ReadableTable, Table};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Writes that one commit carries at most.
const GROUP: usize = 512;
/// Bytes of values after which a group is closed.
const GROUP_BYTES: usize = 16 << 20;

/// One write.
pub(crate) enum Write {
    Create {
        key: Bytes,
        value: Bytes,
    },
    Update {
        key: Bytes,
        value: Bytes,
        expected: Revision,
    },
    Delete {
        key: Bytes,
        expected: Revision,
    },
    Compact {
        keep: u64,
    },
    /// Changes nothing, durably.
    Probe,
    Close,
}

impl Write {
    fn bytes(&self) -> usize {
        match self {
            Write::Create { value, .. } | Write::Update { value, .. } => value.len(),
            _ => 0,
        }
    }
}

type Answer = oneshot::Sender<Result<Revision, StoreError>>;

/// A write and who waits for it.
pub(crate) struct Job {
    pub(crate) write: Write,
    pub(crate) answer: Answer,
}

/// Runs until the queue is closed or `Close` comes.
pub(crate) fn run(shared: &Arc<Shared>, mut jobs: mpsc::Receiver<Job>) {
    let mut broken = false;
    while let Some(first) = jobs.blocking_recv() {
        let mut bytes = first.write.bytes();
        let mut group = vec![first];
        while group.len() < GROUP && bytes < GROUP_BYTES {
            let Ok(next) = jobs.try_recv() else { break };
            bytes += next.write.bytes();
            group.push(next);
        }
        if broken {
            match shared.reopen() {
                Ok(()) => broken = false,
                Err(e) => {
                    let error = StoreError::unavailable(e);
                    *shared.trouble.lock() = Some(error.clone());
                    group
                        .into_iter()
                        .for_each(|job| drop(job.answer.send(Err(error.clone()))));
                    continue;
                }
            }
        }
        let mut close = Vec::new();
        // A page that cannot be right makes the library panic; the transaction is gone then, and the file opened anew.
        let work = std::panic::AssertUnwindSafe(|| commit(shared, &group));
        let outcome =
            std::panic::catch_unwind(work).unwrap_or_else(|_| Err(StoreError::unavailable(DAMAGED)));
        match outcome {
            Ok(done) => {
                if done.durable {
                    *shared.trouble.lock() = None;
                }
                let mut published = shared.published.lock();
                publish(&mut published, done.events, done.current);
                drop(published);
                for (job, outcome) in group.into_iter().zip(done.outcomes) {
                    if matches!(job.write, Write::Close) {
                        close.push(job.answer);
                    } else {
                        let _ = job.answer.send(outcome);
                    }
                }
            }
            Err(error) => {
                tracing::error!(%error, "a commit failed; the store file will be opened anew");
                broken = true;
                *shared.trouble.lock() = Some(error.clone());
                group
                    .into_iter()
                    .for_each(|job| drop(job.answer.send(Err(error.clone()))));
            }
        }
        if !close.is_empty() {
            jobs.close();
            while let Ok(job) = jobs.try_recv() {
                let _ = job.answer.send(Err(StoreError::unavailable("closed")));
            }
            close
                .into_iter()
                .for_each(|answer| drop(answer.send(Ok(Revision(0)))));
            return;
        }
    }
}

fn publish(published: &mut Published, events: Vec<Event>, current: u64) {
    published.current = current;
    if !events.is_empty() {
        published.watchers.publish(&Arc::from(events), Revision(current));
    }
}

struct Done {
    outcomes: Vec<Result<Revision, StoreError>>,
    events: Vec<Event>,
    current: u64,
    /// Something was written to disk.
    durable: bool,
}

/// Applies a group in one durable transaction. A refused write is an outcome; an error means nothing is known.
fn commit(shared: &Shared, group: &[Job]) -> Result<Done, StoreError> {
    let database = shared.database()?;
    let transaction = database.begin_write().map_err(failed)?;
    let mut done = Done {
        outcomes: Vec::with_capacity(group.len()),
        events: Vec::new(),
        current: 0,
        durable: false,
    };
    let mut dirty = false;
    {
        let mut meta = transaction.open_table(META).map_err(failed)?;
        let mut tables = Tables {
            versions: transaction.open_table(VERSIONS).map_err(failed)?,
            log: transaction.open_table(LOG).map_err(failed)?,
            current: meta.get(META_CURRENT).map_err(failed)?.map_or(0, |v| v.value()),
        };
        for job in group {
            let outcome = match &job.write {
                Write::Compact { keep } => {
                    let oldest = meta.get(META_OLDEST).map_err(failed)?.map_or(0, |v| v.value());
                    tables.compact(oldest, *keep)?;
                    meta.insert(META_OLDEST, (*keep).max(oldest)).map_err(failed)?;
                    dirty = true;
                    Ok(Revision(*keep))
                }
                Write::Probe => {
                    dirty = true;
                    Ok(Revision(0))
                }
                Write::Close => Ok(Revision(0)),
                write => match tables.apply(write)? {
                    Ok(event) => {
                        dirty = true;
                        let revision = event.record.revision;
                        done.events.push(event);
                        Ok(revision)
                    }
                    Err(refused) => Err(refused),
                },
            };
            done.outcomes.push(outcome);
        }
        done.current = tables.current;
        if dirty {
            meta.insert(META_CURRENT, tables.current).map_err(failed)?;
        }
    }
    done.durable = dirty;
    if dirty {
        // redb's default durability: the commit returns after fsync.
        transaction.commit().map_err(failed)?;
    } else {
        transaction.abort().map_err(failed)?;
    }
    Ok(done)
}

struct Tables<'t> {
    versions: Table<'t, (&'static [u8], u64), &'static [u8]>,
    log: Table<'t, u64, &'static [u8]>,
    current: u64,
}

impl Tables<'_> {
    /// Applies one write: outer error is I/O, inner error a refusal.
    fn apply(&mut self, write: &Write) -> Result<Result<Event, StoreError>, StoreError> {
        let (key, expected) = match write {
            Write::Create { key, .. } => (key, None),
            Write::Update { key, expected, .. } | Write::Delete { key, expected } => (key, Some(*expected)),
            Write::Compact { .. } | Write::Probe | Write::Close => return Ok(Err(StoreError::NotFound)),
        };
        let found = record(&self.versions, key, u64::MAX)?;
        match (&found, expected) {
            (Some(there), None) => return Ok(Err(StoreError::Exists(Box::new(there.clone())))),
            (None, Some(_)) => return Ok(Err(StoreError::NotFound)),
            (Some(there), Some(want)) if there.revision != want => {
                return Ok(Err(StoreError::Conflict(Box::new(there.clone()))));
            }
            _ => {}
        }
        self.current += 1;
        let revision = self.current;
        let created = found.as_ref().map_or(revision, |r| r.created.0);
        let (kind, value) = match write {
            Write::Create { value, .. } => (EventKind::Created, value.clone()),
            Write::Update { value, .. } => (EventKind::Updated, value.clone()),
            _ => (EventKind::Deleted, found.map(|r| r.value).unwrap_or_default()),
        };
        // A deletion's last value is found under its previous revision; no need to store it twice.
        let stored: &[u8] = if kind == EventKind::Deleted { &[] } else { &value };
        let entry = layout::encode(kind, created, stored);
        self.versions
            .insert((&key[..], revision), &entry[..])
            .map_err(failed)?;
        self.log.insert(revision, &key[..]).map_err(failed)?;
        let record = Record {
            key: key.clone(),
            value,
            revision: Revision(revision),
            created: Revision(created),
        };
        Ok(Ok(Event { kind, record }))
    }

    /// Drops what nobody can read once `keep` is the oldest revision.
    fn compact(&mut self, oldest: u64, keep: u64) -> Result<(), StoreError> {
        if keep <= oldest {
            return Ok(());
        }
        let mut keys = std::collections::BTreeSet::new();
        for entry in self.log.range(..=keep).map_err(failed)? {
            let (_, key) = entry.map_err(failed)?;
            keys.insert(key.value().to_vec());
        }
        for key in keys {
            let Some((last, kind, ..)) = version(&self.versions, &key, keep)? else {
                continue;
            };
            // The last version not above `keep` is still the state at `keep`, unless it says "deleted".
            let below = if kind == EventKind::Deleted {
                last + 1
            } else {
                last
            };
            let old: Vec<u64> = self
                .versions
                .range((&key[..], 0)..(&key[..], below))
                .map_err(failed)?
                .map(|e| e.map(|(k, _)| k.value().1).map_err(failed))
                .collect::<Result<_, _>>()?;
            for revision in old {
                self.versions.remove((&key[..], revision)).map_err(failed)?;
            }
        }
        self.log.retain_in(..=keep, |_, _| false).map_err(failed)?;
        Ok(())
    }
}
