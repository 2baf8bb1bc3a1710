//! A copy of everything under a prefix at one revision, as a stream of bytes that can be a file.
//!
//! The copy is made while the store serves: all pages are read at the revision of the first one. Records keep their
//! revisions, so that a restored object is the same object to everybody who has seen it.
//!
//! ```text
//! "podvisor-backup-1\n"  revision:u64
//! 1  key:u32+bytes  created:u64  revision:u64  value:u32+bytes      for each record, in key order
//! 0  count:u64  SHA-256 of everything before it
//! ```
//! Numbers are big-endian. A file that was cut off or changed does not end so, and is refused as a whole.

use crate::contract::{Record, Revision, Store, StoreError};
use bytes::Bytes;
use futures::Stream;
use sha2::{Digest, Sha256};
use std::io::Read;
use std::sync::Arc;

/// What a copy begins with; the number is the format's.
const MAGIC: &[u8] = b"podvisor-backup-1\n";
/// Records that are read at a time.
const PAGE: usize = 64;
/// Longest key and value that are believed, in bytes: far above what the API server writes.
const MAX_KEY: u32 = 64 << 10;
const MAX_VALUE: u32 = 64 << 20;
/// Revisions that a restored store skips. What was written after the copy is lost, but its revisions are known to
/// clients; they must never be given again to something else.
pub const SKIPPED: u64 = 1_000_000_000;

/// Why bytes are no copy.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// It does not begin like one.
    #[error("this is no backup of Podvisor, or one of a newer version")]
    Foreign,
    /// It ends too early.
    #[error("the backup is cut off; make it anew or take another")]
    CutOff,
    /// Its parts do not fit together.
    #[error("the backup is damaged: {0}; take another")]
    Damaged(&'static str),
    /// It cannot be read.
    #[error("the backup cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

struct Copying {
    store: Arc<dyn Store>,
    prefix: Vec<u8>,
    at: Option<Revision>,
    after: Option<Bytes>,
    count: u64,
    digest: Sha256,
    ended: bool,
}

/// Copies everything under `prefix`, as it stands now. The stream fails when the store does, or when compaction was
/// faster than the copy.
pub fn copy(
    store: Arc<dyn Store>,
    prefix: &[u8],
) -> impl Stream<Item = Result<Bytes, StoreError>> + Send + use<> {
    let copying = Copying {
        store,
        prefix: prefix.to_vec(),
        at: None,
        after: None,
        count: 0,
        digest: Sha256::new(),
        ended: false,
    };
    futures::stream::unfold(copying, |mut c| async move {
        if c.ended {
            return None;
        }
        let chunk = c.next().await;
        c.ended |= chunk.is_err();
        Some((chunk, c))
    })
}

impl Copying {
    async fn next(&mut self) -> Result<Bytes, StoreError> {
        let page = self
            .store
            .list(&self.prefix, self.after.as_deref(), PAGE, self.at)
            .await?;
        let mut out = Vec::new();
        if self.at.is_none() {
            out.extend_from_slice(MAGIC);
            out.extend_from_slice(&page.revision.0.to_be_bytes());
            self.at = Some(page.revision);
        }
        for record in &page.records {
            out.push(1);
            put(&mut out, &record.key);
            out.extend_from_slice(&record.created.0.to_be_bytes());
            out.extend_from_slice(&record.revision.0.to_be_bytes());
            put(&mut out, &record.value);
        }
        self.count += page.records.len() as u64;
        self.after = page.records.last().map(|r| r.key.clone());
        if !page.more {
            out.push(0);
            out.extend_from_slice(&self.count.to_be_bytes());
        }
        self.digest.update(&out);
        if !page.more {
            out.extend_from_slice(&std::mem::take(&mut self.digest).finalize());
            self.ended = true;
        }
        Ok(out.into())
    }
}

fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Reads a copy: an iterator over its records. It is only believed once it has ended without an error.
pub struct Backup<R> {
    input: R,
    digest: Sha256,
    count: u64,
    ended: bool,
    revision: Revision,
}

impl<R: Read> Backup<R> {
    /// Reads the beginning.
    ///
    /// # Errors
    /// [`BackupError::Foreign`] for something else than a copy.
    pub fn open(input: R) -> Result<Backup<R>, BackupError> {
        let mut backup = Backup {
            input,
            digest: Sha256::new(),
            count: 0,
            ended: false,
            revision: Revision(0),
        };
        let magic = backup.chunk(MAGIC.len()).map_err(|e| match e {
            BackupError::CutOff => BackupError::Foreign,
            other => other,
        })?;
        if magic != MAGIC {
            return Err(BackupError::Foreign);
        }
        backup.revision = Revision(backup.number()?);
        Ok(backup)
    }

    /// The revision that this is the state of.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    fn chunk(&mut self, length: usize) -> Result<Vec<u8>, BackupError> {
        // Grows with what comes, so that a length that lies costs nothing.
        let mut bytes = Vec::new();
        (&mut self.input).take(length as u64).read_to_end(&mut bytes)?;
        if bytes.len() < length {
            return Err(BackupError::CutOff);
        }
        self.digest.update(&bytes);
        Ok(bytes)
    }

    fn number(&mut self) -> Result<u64, BackupError> {
        let bytes = self.chunk(8)?;
        let number = bytes.try_into().map_err(|_| BackupError::CutOff)?;
        Ok(u64::from_be_bytes(number))
    }

    fn bytes(&mut self, limit: u32) -> Result<Bytes, BackupError> {
        let length = self.chunk(4)?.try_into().map_err(|_| BackupError::CutOff)?;
        let length = u32::from_be_bytes(length);
        if length > limit {
            return Err(BackupError::Damaged("a length is impossible"));
        }
        Ok(self.chunk(length as usize)?.into())
    }

    fn step(&mut self) -> Result<Option<Record>, BackupError> {
        match self.chunk(1)?.as_slice() {
            [1] => {
                let key = self.bytes(MAX_KEY)?;
                let (created, revision) = (Revision(self.number()?), Revision(self.number()?));
                let value = self.bytes(MAX_VALUE)?;
                if created > revision || revision > self.revision {
                    return Err(BackupError::Damaged("a revision is impossible"));
                }
                self.count += 1;
                Ok(Some(Record {
                    key,
                    value,
                    revision,
                    created,
                }))
            }
            [0] => {
                if self.number()? != self.count {
                    return Err(BackupError::Damaged("records are missing"));
                }
                let expected = std::mem::take(&mut self.digest).finalize();
                if self.chunk(expected.len())? != expected[..] {
                    return Err(BackupError::Damaged("its checksum is wrong"));
                }
                match self.chunk(1) {
                    Err(BackupError::CutOff) => Ok(None),
                    Ok(_) => Err(BackupError::Damaged("something follows its end")),
                    Err(e) => Err(e),
                }
            }
            _ => Err(BackupError::Damaged("a record begins with an unknown sign")),
        }
    }
}

impl<R: Read> Iterator for Backup<R> {
    type Item = Result<Record, BackupError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ended {
            return None;
        }
        let step = self.step();
        self.ended = !matches!(step, Ok(Some(_)));
        step.transpose()
    }
}
