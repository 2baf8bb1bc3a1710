//! The writer thread: drains the queue into one frame of the log, makes it durable, publishes, answers.

use super::Shared;
use super::log::{Frame, Log};
use super::read::Snapshot;
use super::recent::{Recent, Version};
use super::settle::{Task, guarded};
use crate::contract::{Event, EventKind, Record, Revision, StoreError};
use bytes::Bytes;
use parking_lot::RwLock;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError};
use tokio::sync::{mpsc, oneshot};

/// Writes that one frame carries at most.
const GROUP: usize = 512;
/// Bytes of values after which a group is closed.
const GROUP_BYTES: usize = 16 << 20;
/// At this multiple of a full log writers wait for the move before.
const OVERFULL: u64 = 3;

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

/// What the thread works with.
pub(crate) struct Writer {
    pub(crate) shared: Arc<Shared>,
    pub(crate) log: Log,
    /// Bytes of log after which its writes are moved into the store file.
    pub(crate) full: u64,
    /// Moves of writes into the store file, and how they went.
    pub(crate) tasks: mpsc::Sender<Task>,
    pub(crate) outcomes: Receiver<Result<(), StoreError>>,
    /// A move is under way.
    pub(crate) moving: bool,
    pub(crate) frame: Frame,
}

impl Writer {
    /// Runs until the queue is closed or `Close` comes.
    pub(crate) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        // What the log held at the start comes into the file first: the log may only be written to then.
        let mut broken = self.settle_all().is_err();
        while let Some(first) = jobs.blocking_recv() {
            let mut bytes = first.write.bytes();
            let mut group = vec![first];
            while group.len() < GROUP && bytes < GROUP_BYTES {
                let Ok(next) = jobs.try_recv() else { break };
                bytes += next.write.bytes();
                group.push(next);
            }
            let mut outcome = self.make_room();
            if broken || outcome.is_err() {
                outcome = self.reopen();
            }
            match outcome.and_then(|()| self.commit(&group)) {
                Ok(done) => {
                    broken = false;
                    if done.durable {
                        *self.shared.trouble.lock() = None;
                    }
                    self.shared.publish(done.events, done.current);
                    let mut close = Vec::new();
                    for (job, outcome) in group.into_iter().zip(done.outcomes) {
                        match job.write {
                            Write::Close => close.push(job.answer),
                            _ => drop(job.answer.send(outcome)),
                        }
                    }
                    if !close.is_empty() {
                        self.close(jobs, close);
                        return;
                    }
                }
                Err(error) => {
                    if !broken {
                        tracing::error!(%error, "the store cannot write; it will be opened anew");
                    }
                    broken = true;
                    *self.shared.trouble.lock() = Some(error.clone());
                    let closing = group.iter().any(|job| matches!(job.write, Write::Close));
                    group
                        .into_iter()
                        .for_each(|job| drop(job.answer.send(Err(error.clone()))));
                    if closing {
                        return;
                    }
                }
            }
        }
    }

    /// Has full files moved, and waits when both are.
    fn make_room(&mut self) -> Result<(), StoreError> {
        if self.moving {
            let overfull = self.log.bytes() >= OVERFULL * self.full;
            let outcome = match overfull {
                true => self.outcomes.recv().map_err(|_| TryRecvError::Disconnected),
                false => self.outcomes.try_recv(),
            };
            match outcome {
                Err(TryRecvError::Empty) => return Ok(()),
                Err(TryRecvError::Disconnected) => {
                    return Err(StoreError::unavailable("the store file is not written any more"));
                }
                Ok(outcome) => {
                    self.moving = false;
                    outcome?;
                }
            }
        } else if let Ok(failed) = self.outcomes.try_recv() {
            // Of a compaction; only failures are told.
            failed?;
        }
        if self.log.bytes() >= self.full
            && let Some(settling) = self.shared.turn()
        {
            self.log.turn();
            let sent = self.tasks.blocking_send(Task::Settle(settling));
            sent.map_err(|_| StoreError::unavailable("the store file is not written any more"))?;
            self.moving = true;
        }
        Ok(())
    }

    /// Moves everything there is into the store file, and waits for it.
    fn settle_all(&mut self) -> Result<(), StoreError> {
        let outcome = self.try_settle_all();
        if let Err(error) = &outcome {
            tracing::error!(%error, "the log's writes could not be moved into the store file");
            *self.shared.trouble.lock() = Some(error.clone());
        }
        outcome
    }

    fn try_settle_all(&mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.moving) {
            let outcome = self.outcomes.recv();
            outcome.unwrap_or_else(|_| Err(StoreError::unavailable("the store file is not written")))?;
        }
        // A layer that is there already has been left by a move that failed, or by a crash; then the newer one.
        for _ in 0..2 {
            let Some(settling) = self.shared.settling_or_turn() else {
                break;
            };
            guarded(|| self.shared.settle(&settling))?;
        }
        self.log.turn();
        Ok(())
    }

    /// After an I/O error nothing is known: everything is read anew from disk.
    fn reopen(&mut self) -> Result<(), StoreError> {
        if std::mem::take(&mut self.moving) {
            // It has an end, and its outcome does not matter any more.
            let _ = self.outcomes.recv();
        }
        while self.outcomes.try_recv().is_ok() {}
        self.log = self.shared.reopen().map_err(StoreError::unavailable)?;
        self.try_settle_all()
    }

    fn close(&mut self, mut jobs: mpsc::Receiver<Job>, close: Vec<Answer>) {
        jobs.close();
        while let Ok(job) = jobs.try_recv() {
            let _ = job.answer.send(Err(StoreError::unavailable("closed")));
        }
        // Where it fails, the next start does it.
        if self.settle_all().is_ok() {
            self.log.clear();
        }
        close
            .into_iter()
            .for_each(|answer| drop(answer.send(Ok(Revision(0)))));
    }

    /// Applies a group, durably. A refused write is an outcome; an error means nothing is known.
    fn commit(&mut self, group: &[Job]) -> Result<Done, StoreError> {
        let current = self.shared.current();
        self.frame.begin(current + 1);
        let mut applying = Applying {
            snapshot: self.shared.snapshot()?,
            active: self.shared.open()?.active,
            frame: &mut self.frame,
            current,
            events: Vec::with_capacity(group.len()),
        };
        let mut outcomes = Vec::with_capacity(group.len());
        let mut probe = false;
        for job in group {
            outcomes.push(match &job.write {
                Write::Create { key, value } => applying.write(key, Some(value), None)?,
                Write::Update { key, value, expected } => {
                    applying.write(key, Some(value), Some(*expected))?
                }
                Write::Delete { key, expected } => applying.write(key, None, Some(*expected))?,
                Write::Probe => {
                    probe = true;
                    Ok(Revision(0))
                }
                Write::Close => Ok(Revision(0)),
            });
        }
        let (events, current) = (applying.events, applying.current);
        let durable = probe || !events.is_empty();
        if durable {
            let written = self.log.append(&mut self.frame);
            written.map_err(|e| StoreError::unavailable(format_args!("the log cannot be written: {e}")))?;
        }
        Ok(Done {
            outcomes,
            events,
            current,
            durable,
        })
    }
}

struct Done {
    outcomes: Vec<Result<Revision, StoreError>>,
    events: Vec<Event>,
    current: u64,
    /// Something was written to disk.
    durable: bool,
}

/// A group being applied. Its writes are in the newest layer at once; nobody sees them before they are published.
struct Applying<'w> {
    snapshot: Snapshot,
    active: Arc<RwLock<Recent>>,
    frame: &'w mut Frame,
    current: u64,
    events: Vec<Event>,
}

impl Applying<'_> {
    /// Applies one write; no value deletes. The outer error is I/O, the inner one a refusal.
    fn write(
        &mut self,
        key: &Bytes,
        value: Option<&Bytes>,
        expected: Option<Revision>,
    ) -> Result<Result<Revision, StoreError>, StoreError> {
        let found = self.snapshot.version(key, u64::MAX)?;
        let found = found.and_then(|version| version.record(key));
        match (&found, expected) {
            (Some(there), None) => return Ok(Err(StoreError::Exists(Box::new(there.clone())))),
            (None, Some(_)) => return Ok(Err(StoreError::NotFound)),
            (Some(there), Some(want)) if there.revision != want => {
                return Ok(Err(StoreError::Conflict(Box::new(there.clone()))));
            }
            _ => {}
        }
        self.current += 1;
        let revision = Revision(self.current);
        let created = found.as_ref().map_or(revision, |there| there.created);
        let kind = match (value, &found) {
            (None, _) => EventKind::Deleted,
            (Some(_), None) => EventKind::Created,
            (Some(_), Some(_)) => EventKind::Updated,
        };
        let version = Version {
            revision: revision.0,
            kind,
            created: created.0,
            // A deletion's last value is found under its previous revision; no need to store it twice.
            value: value.cloned().unwrap_or_default(),
        };
        self.frame.add(key, &version);
        let last = || found.map(|there| there.value).unwrap_or_default();
        let record = Record {
            key: key.clone(),
            value: value.cloned().unwrap_or_else(last),
            revision,
            created,
        };
        self.active.write().push(key.clone(), version);
        self.events.push(Event { kind, record });
        Ok(Ok(revision))
    }
}
