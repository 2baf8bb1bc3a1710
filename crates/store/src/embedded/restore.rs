//! A new store file from a backup.

use super::layout::{self, META, META_CURRENT, META_OLDEST, VERSIONS};
use crate::backup::{Backup, BackupError, SKIPPED};
use crate::contract::{EventKind, Record, Revision};
use redb::Database;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Records that one transaction writes.
const BATCH: usize = 1000;

/// Why no store file was made.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// There is one already.
    #[error("{} exists; a backup is only restored into an empty place", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The backup is to blame.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The file cannot be written.
    #[error("cannot write {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: redb::Error,
    },
}

/// What a restored store holds.
#[derive(Debug, Clone, Copy)]
pub struct Restored {
    /// Objects.
    pub records: u64,
    /// The revision that the backup is the state of.
    pub revision: Revision,
    /// The revision at which the new store begins; nothing older can be watched.
    pub begins: Revision,
}

/// Makes the store file `path` from a backup. The file appears when all of it is there and checked, or not at all.
///
/// # Errors
/// See [`RestoreError`]; nothing is left behind.
pub fn restore(path: &Path, mut backup: Backup<impl Read>) -> Result<Restored, RestoreError> {
    let exists = || RestoreError::Exists {
        path: path.to_path_buf(),
    };
    let [first, second] = super::log::paths(path);
    for path in [path, &first, &second] {
        if path.exists() {
            let path = path.to_path_buf();
            return Err(RestoreError::Exists { path });
        }
    }
    let unfinished = path.with_extension("restoring");
    let io = |source: redb::Error| RestoreError::Io {
        path: path.to_path_buf(),
        source,
    };
    // One of an earlier attempt is of no use.
    let _ = std::fs::remove_file(&unfinished);
    let written = write(&unfinished, &mut backup, &io).and_then(|restored| {
        // A link does not replace what has come there meanwhile.
        std::fs::hard_link(&unfinished, path).map_err(|e| match e.kind() {
            std::io::ErrorKind::AlreadyExists => exists(),
            _ => io(redb::Error::Io(e)),
        })?;
        Ok(restored)
    });
    let _ = std::fs::remove_file(&unfinished);
    let restored = written?;
    if let Some(directory) = path.parent() {
        let synced = std::fs::File::open(directory).and_then(|d| d.sync_all());
        synced.map_err(|e| io(redb::Error::Io(e)))?;
    }
    Ok(restored)
}

fn write(
    path: &Path,
    backup: &mut Backup<impl Read>,
    io: &impl Fn(redb::Error) -> RestoreError,
) -> Result<Restored, RestoreError> {
    super::keep_private(path).map_err(|error| io(redb::Error::Io(error)))?;
    let database = Database::builder()
        .set_cache_size(layout::CACHE_BYTES)
        .create(path)
        .map_err(|e| io(e.into()))?;
    layout::prepare(&database).map_err(io)?;
    let begins = Revision(backup.revision().0 + SKIPPED);
    let mut restored = Restored {
        records: 0,
        revision: backup.revision(),
        begins,
    };
    loop {
        let batch = backup.by_ref().take(BATCH).collect::<Result<Vec<Record>, _>>()?;
        if batch.is_empty() {
            break;
        }
        restored.records += batch.len() as u64;
        put(&database, &batch).map_err(io)?;
    }
    let finish = || -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        {
            let mut meta = transaction.open_table(META)?;
            meta.insert(META_CURRENT, begins.0)?;
            meta.insert(META_OLDEST, begins.0)?;
        }
        Ok(transaction.commit()?)
    };
    finish().map_err(io)?;
    Ok(restored)
}

fn put(database: &Database, batch: &[Record]) -> Result<(), redb::Error> {
    let transaction = database.begin_write()?;
    {
        let mut versions = transaction.open_table(VERSIONS)?;
        let mut entry = Vec::new();
        for record in batch {
            let kind = match record.created == record.revision {
                true => EventKind::Created,
                false => EventKind::Updated,
            };
            layout::encode(&mut entry, kind, record.created.0, &record.value);
            versions.insert((&record.key[..], record.revision.0), &entry[..])?;
        }
    }
    Ok(transaction.commit()?)
}
