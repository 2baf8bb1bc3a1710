//! Moves writes from the log into the store file, and forgets old states there: all that ever writes to that file.
//!
//! A thread of its own, so that neither keeps a write waiting. One batch is one durable transaction; only when it is
//! on disk may the log's file be used again.

use super::layout::{self, LOG, META, META_CURRENT, META_OLDEST, VERSIONS};
use super::read::{failed, version};
use super::recent::Recent;
use super::{DAMAGED, Shared};
use crate::contract::{EventKind, StoreError};
use parking_lot::RwLock;
use redb::{Database, ReadableTable, Table};
use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use tokio::sync::{mpsc, oneshot};

/// What the thread is asked for.
pub(crate) enum Task {
    /// Moves the writes that [`super::Open::settling`] holds. The answer goes to the writer.
    Settle(Arc<RwLock<Recent>>),
    /// Forgets states before a revision. The answer goes to the caller, and a failure to the writer as well.
    Compact {
        keep: u64,
        answer: oneshot::Sender<Result<(), StoreError>>,
    },
    End,
}

/// Runs until `End`, or until the queue is closed. `outcomes` tells the writer how each move went.
pub(crate) fn run(
    shared: &Shared,
    mut tasks: mpsc::Receiver<Task>,
    outcomes: &Sender<Result<(), StoreError>>,
) {
    while let Some(task) = tasks.blocking_recv() {
        match task {
            Task::Settle(recent) => {
                let outcome = guarded(|| shared.settle(&recent));
                // The writer is gone at the end only.
                let _ = outcomes.send(outcome);
            }
            Task::Compact { keep, answer } => {
                let outcome = guarded(|| compact(&*shared.database()?, keep));
                if let Err(error) = &outcome {
                    *shared.trouble.lock() = Some(error.clone());
                    let _ = outcomes.send(Err(error.clone()));
                }
                let _ = answer.send(outcome);
            }
            Task::End => return,
        }
    }
}

/// A page that cannot be right makes the library panic; the transaction is gone then.
pub(crate) fn guarded(work: impl FnOnce() -> Result<(), StoreError>) -> Result<(), StoreError> {
    let outcome = catch_unwind(AssertUnwindSafe(work));
    outcome.unwrap_or_else(|_| Err(StoreError::unavailable(DAMAGED)))
}

impl Shared {
    /// Writes `recent` into the store file, durably; readers find it there from then on.
    pub(crate) fn settle(&self, recent: &Arc<RwLock<Recent>>) -> Result<(), StoreError> {
        // The caller was handed the layer, so that nobody adds to it any more.
        write(&*self.database()?, &recent.read())?;
        if let Some(open) = &mut *self.open.write() {
            open.settling.take_if(|settling| Arc::ptr_eq(settling, recent));
        }
        Ok(())
    }
}

fn write(database: &Database, recent: &Recent) -> Result<(), StoreError> {
    let Some(last) = recent.last() else { return Ok(()) };
    let transaction = database.begin_write().map_err(failed)?;
    {
        let mut versions = transaction.open_table(VERSIONS).map_err(failed)?;
        let mut entry = Vec::new();
        for (key, version) in recent.by_key() {
            layout::encode(&mut entry, version.kind, version.created, &version.value);
            let place = (&key[..], version.revision);
            versions.insert(place, &entry[..]).map_err(failed)?;
        }
        let mut log = transaction.open_table(LOG).map_err(failed)?;
        for (revision, key) in recent.by_revision() {
            log.insert(revision, &key[..]).map_err(failed)?;
        }
        let mut meta = transaction.open_table(META).map_err(failed)?;
        meta.insert(META_CURRENT, last).map_err(failed)?;
    }
    // redb's default durability: the commit returns after fsync.
    transaction.commit().map_err(failed)
}

fn compact(database: &Database, keep: u64) -> Result<(), StoreError> {
    let transaction = database.begin_write().map_err(failed)?;
    {
        let mut meta = transaction.open_table(META).map_err(failed)?;
        let oldest = meta.get(META_OLDEST).map_err(failed)?.map_or(0, |v| v.value());
        if keep <= oldest {
            return Ok(());
        }
        let mut versions = transaction.open_table(VERSIONS).map_err(failed)?;
        let mut log = transaction.open_table(LOG).map_err(failed)?;
        forget(&mut versions, &mut log, keep)?;
        meta.insert(META_OLDEST, keep).map_err(failed)?;
    }
    transaction.commit().map_err(failed)
}

/// Drops what nobody can read once `keep` is the oldest revision.
fn forget(
    versions: &mut Table<(&'static [u8], u64), &'static [u8]>,
    log: &mut Table<u64, &'static [u8]>,
    keep: u64,
) -> Result<(), StoreError> {
    let mut keys = BTreeSet::new();
    for entry in log.range(..=keep).map_err(failed)? {
        let (_, key) = entry.map_err(failed)?;
        keys.insert(key.value().to_vec());
    }
    for key in keys {
        let Some((last, kind, ..)) = version(versions, &key, keep)? else {
            continue;
        };
        // The last version not above `keep` is still the state at `keep`, unless it says "deleted".
        let below = if kind == EventKind::Deleted {
            last + 1
        } else {
            last
        };
        let old: Vec<u64> = versions
            .range((&key[..], 0)..(&key[..], below))
            .map_err(failed)?
            .map(|e| e.map(|(k, _)| k.value().1).map_err(failed))
            .collect::<Result<_, _>>()?;
        for revision in old {
            versions.remove((&key[..], revision)).map_err(failed)?;
        }
    }
    log.retain_in(..=keep, |_, _| false).map_err(failed)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::super::{EmbeddedStore, log};
    use crate::contract::{Record, Store};
    use bytes::Bytes;
    use std::path::Path;

    const SECTOR: usize = 512;

    async fn contents(store: &EmbeddedStore) -> Vec<Record> {
        store.list(b"cp/", None, 0, None).await.unwrap().records
    }

    fn image(path: &Path) -> [Vec<u8>; 3] {
        let [first, second] = log::paths(path);
        [path, &first, &second].map(|path| std::fs::read(path).unwrap())
    }

    /// A power cut while the log is moved into the file: nothing is lost, whatever sectors of the file are new.
    #[tokio::test]
    async fn torn_moves() {
        let dir = tempfile::tempdir().unwrap();
        let (path, broken) = (dir.path().join("s.redb"), dir.path().join("torn.redb"));
        let [first, second] = log::paths(&broken);
        let store = EmbeddedStore::open(&path).unwrap();
        let mut seed: u64 = 0x5851_f42d_4c95_7f2d;
        for round in 0..6u8 {
            for n in 0..60usize {
                let key = Bytes::from(format!("cp/{n:03}/{round}"));
                store
                    .create(key, vec![round; (n * 37) % 3000].into())
                    .await
                    .unwrap();
            }
            let truth = contents(&store).await;
            let old = image(&path);
            let settling = store.shared.settling_or_turn().unwrap();
            store.shared.settle(&settling).unwrap();
            assert_eq!(contents(&store).await, truth);
            let new = image(&path);
            for _ in 0..8 {
                let mut mixed = old[0].clone();
                mixed.resize(new[0].len().max(mixed.len()), 0);
                for (old, new) in mixed.chunks_mut(SECTOR).zip(new[0].chunks(SECTOR)) {
                    seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    if seed >> 63 == 1 {
                        old.copy_from_slice(new);
                    }
                }
                // The log is the same before and after.
                for (path, bytes) in [(&broken, &mixed), (&first, &old[1]), (&second, &old[2])] {
                    std::fs::write(path, bytes).unwrap();
                }
                let found = EmbeddedStore::open(&broken).unwrap();
                assert_eq!(contents(&found).await, truth, "round {round}");
                found.create(Bytes::from("cp/z"), Bytes::from("z")).await.unwrap();
                found.close().await;
            }
        }
        store.close().await;
        assert_eq!(contents(&EmbeddedStore::open(&path).unwrap()).await.len(), 360);
    }
}
