//! Reads on one committed snapshot of the store file.

use super::layout::{self, LOG, META, META_CURRENT, META_OLDEST, VERSIONS};
use crate::contract::{Event, EventKind, Page, Record, Revision, StoreError};
use bytes::Bytes;
use redb::{Database, ReadOnlyTable, ReadableDatabase, ReadableTable};

/// A committed state of the file.
pub(crate) struct Snapshot {
    versions: ReadOnlyTable<(&'static [u8], u64), &'static [u8]>,
    log: ReadOnlyTable<u64, &'static [u8]>,
    pub(crate) current: u64,
    pub(crate) oldest: u64,
}

/// Any redb error is "cannot serve" to our callers.
pub(crate) fn failed(e: impl Into<redb::Error>) -> StoreError {
    StoreError::unavailable(e.into())
}

/// The last version of `key` at or below revision `at`, deletions included: revision, kind, created, value.
pub(crate) fn version(
    versions: &impl ReadableTable<(&'static [u8], u64), &'static [u8]>,
    key: &[u8],
    at: u64,
) -> Result<Option<(u64, EventKind, u64, Bytes)>, StoreError> {
    let mut range = versions.range((key, 0)..=(key, at)).map_err(failed)?;
    let Some(entry) = range.next_back() else {
        return Ok(None);
    };
    let (k, v) = entry.map_err(failed)?;
    let revision = k.value().1;
    let decoded = layout::decode(v.value()).ok_or_else(|| damaged(revision))?;
    Ok(Some((
        revision,
        decoded.kind,
        decoded.created,
        Bytes::copy_from_slice(decoded.value),
    )))
}

/// The live record of `key` at revision `at`.
pub(crate) fn record(
    versions: &impl ReadableTable<(&'static [u8], u64), &'static [u8]>,
    key: &[u8],
    at: u64,
) -> Result<Option<Record>, StoreError> {
    Ok(match version(versions, key, at)? {
        Some((revision, kind, created, value)) if kind != EventKind::Deleted => Some(Record {
            key: Bytes::copy_from_slice(key),
            value,
            revision: Revision(revision),
            created: Revision(created),
        }),
        _ => None,
    })
}

fn damaged(revision: u64) -> StoreError {
    StoreError::unavailable(format!(
        "the entry of revision {revision} is damaged; restore a backup"
    ))
}

impl Snapshot {
    pub(crate) fn begin(database: &Database) -> Result<Snapshot, StoreError> {
        let read = database.begin_read().map_err(failed)?;
        let meta = read.open_table(META).map_err(failed)?;
        let get = |name| meta.get(name).map(|v| v.map_or(0, |v| v.value())).map_err(failed);
        Ok(Snapshot {
            current: get(META_CURRENT)?,
            oldest: get(META_OLDEST)?,
            versions: read.open_table(VERSIONS).map_err(failed)?,
            log: read.open_table(LOG).map_err(failed)?,
        })
    }

    /// Checks that the state at a revision can be read; answers the revision.
    pub(crate) fn at(&self, at: Option<Revision>) -> Result<u64, StoreError> {
        let at = at.map_or(self.current, |r| r.0);
        if at > self.current {
            return Err(StoreError::Future {
                current: Revision(self.current),
            });
        }
        if at < self.oldest {
            return Err(StoreError::Compacted {
                oldest: Revision(self.oldest),
            });
        }
        Ok(at)
    }

    pub(crate) fn record(&self, key: &[u8], at: u64) -> Result<Option<Record>, StoreError> {
        record(&self.versions, key, at)
    }

    /// Walks all versions under the prefix once; of each key the last one not above `at` counts.
    pub(crate) fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, StoreError> {
        let at = self.at(at)?;
        let mut page = Page {
            revision: Revision(at),
            ..Page::default()
        };
        let start = match after {
            Some(after) if after >= prefix => (after, u64::MAX),
            _ => (prefix, 0),
        };
        let mut best: Option<Record> = None;
        let full = |page: &Page| limit > 0 && page.records.len() == limit;
        for entry in self.versions.range(start..).map_err(failed)? {
            let (k, v) = entry.map_err(failed)?;
            let (key, revision) = k.value();
            if !key.starts_with(prefix) {
                break;
            }
            if after.is_some_and(|a| key <= a) {
                continue;
            }
            if best.as_ref().is_some_and(|b| b.key != key) {
                if full(&page) {
                    page.more = true;
                    return Ok(page);
                }
                page.records.extend(best.take());
            }
            if revision > at {
                continue;
            }
            let decoded = layout::decode(v.value()).ok_or_else(|| damaged(revision))?;
            best = match decoded.kind {
                EventKind::Deleted => None,
                _ => Some(Record {
                    key: Bytes::copy_from_slice(key),
                    value: Bytes::copy_from_slice(decoded.value),
                    revision: Revision(revision),
                    created: Revision(decoded.created),
                }),
            };
        }
        if best.is_some() && full(&page) {
            page.more = true;
        } else {
            page.records.extend(best);
        }
        Ok(page)
    }

    /// The events under `prefix` with revisions in `(after, until]`.
    pub(crate) fn history(&self, prefix: &[u8], after: u64, until: u64) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        for entry in self.log.range(after + 1..until + 1).map_err(failed)? {
            let (revision, key) = entry.map_err(failed)?;
            let (revision, key) = (revision.value(), key.value());
            if !key.starts_with(prefix) {
                continue;
            }
            let Some((_, kind, created, mut value)) = version(&self.versions, key, revision)? else {
                continue;
            };
            if kind == EventKind::Deleted
                && let Some((_, _, _, last)) = version(&self.versions, key, revision - 1)?
            {
                value = last;
            }
            let record = Record {
                key: Bytes::copy_from_slice(key),
                value,
                revision: Revision(revision),
                created: Revision(created),
            };
            events.push(Event { kind, record });
        }
        Ok(events)
    }
}
