//! Reads on one state of the store: what the log holds lies over what the store file holds.

use super::Open;
use super::layout::{self, LOG, META, META_OLDEST, VERSIONS};
use super::recent::{Recent, Version};
use crate::contract::{Event, EventKind, Page, Record, Revision, StoreError};
use bytes::Bytes;
use parking_lot::RwLock;
use redb::{ReadOnlyTable, ReadableDatabase, ReadableTable};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A state that was answered to somebody. Later writes may be seen in the layers; their revisions tell them apart.
pub(crate) struct Snapshot {
    /// The newest first. What has been moved to the file meanwhile is the same there.
    layers: Vec<Arc<RwLock<Recent>>>,
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

fn damaged(revision: u64) -> StoreError {
    StoreError::unavailable(format!(
        "the entry of revision {revision} is damaged; restore a backup"
    ))
}

impl Snapshot {
    /// The state at `current`, which must have been read before `open` was: nothing can be missing then.
    pub(crate) fn begin(open: &Open, current: u64) -> Result<Snapshot, StoreError> {
        // The layers first: what leaves them meanwhile is in the file.
        let layers = open.layers();
        let read = open.database.begin_read().map_err(failed)?;
        let meta = read.open_table(META).map_err(failed)?;
        let oldest = meta.get(META_OLDEST).map_err(failed)?;
        Ok(Snapshot {
            layers,
            current,
            oldest: oldest.map_or(0, |v| v.value()),
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

    /// The last version of `key` not after `at`, deletions included.
    pub(crate) fn version(&self, key: &[u8], at: u64) -> Result<Option<Version>, StoreError> {
        for layer in &self.layers {
            if let Some(found) = layer.read().version(key, at) {
                return Ok(Some(found.clone()));
            }
        }
        self.settled(key, at)
    }

    /// The same, of the file alone.
    pub(crate) fn settled(&self, key: &[u8], at: u64) -> Result<Option<Version>, StoreError> {
        let found = version(&self.versions, key, at)?;
        Ok(found.map(|(revision, kind, created, value)| Version {
            revision,
            kind,
            created,
            value,
        }))
    }

    /// The live record of `key` at `at`.
    pub(crate) fn record(&self, key: &[u8], at: u64) -> Result<Option<Record>, StoreError> {
        let found = self.version(key, at)?;
        Ok(found.and_then(|version| version.record(&Bytes::copy_from_slice(key))))
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
        let mut page = Collector {
            page: Page {
                revision: Revision(at),
                ..Page::default()
            },
            limit,
        };
        // Few in comparison: the layers are bounded. The newest comes last and wins.
        let mut recent = BTreeMap::new();
        for layer in self.layers.iter().rev() {
            layer.read().standing(prefix, after, at, &mut recent);
        }
        let start = match after {
            Some(after) if after >= prefix => (after, u64::MAX),
            _ => (prefix, 0),
        };
        // The key that is being looked at, and what the file says of it; `None` when it was deleted.
        let mut best: Option<(Bytes, Option<Record>)> = None;
        for entry in self.versions.range(start..).map_err(failed)? {
            let (k, v) = entry.map_err(failed)?;
            let (key, revision) = k.value();
            if !key.starts_with(prefix) {
                break;
            }
            if after.is_some_and(|a| key <= a) {
                continue;
            }
            if best.as_ref().is_some_and(|(b, _)| b != key) && !page.take(&mut recent, best.take()) {
                return Ok(page.page);
            }
            if revision > at {
                continue;
            }
            let decoded = layout::decode(v.value()).ok_or_else(|| damaged(revision))?;
            let version = Version {
                revision,
                kind: decoded.kind,
                created: decoded.created,
                value: Bytes::copy_from_slice(decoded.value),
            };
            let key = Bytes::copy_from_slice(key);
            let record = version.record(&key);
            best = Some((key, record));
        }
        if page.take(&mut recent, best) {
            for (_, record) in recent {
                if !page.add(record) {
                    break;
                }
            }
        }
        Ok(page.page)
    }

    /// The events under `prefix` with revisions in `(after, until]`.
    pub(crate) fn history(&self, prefix: &[u8], after: u64, until: u64) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        let mut reached = after;
        for entry in self.log.range(after + 1..until + 1).map_err(failed)? {
            let (revision, key) = entry.map_err(failed)?;
            let (revision, key) = (revision.value(), key.value());
            reached = revision;
            if key.starts_with(prefix) {
                events.extend(self.event(&Bytes::copy_from_slice(key), revision)?);
            }
        }
        for layer in self.layers.iter().rev() {
            let wanted: Vec<(u64, Bytes)> = {
                let layer = layer.read();
                let all = layer.by_revision();
                let from = all.partition_point(|(revision, _)| *revision <= reached);
                let part = all[from..].iter().take_while(|(revision, _)| *revision <= until);
                part.cloned().collect()
            };
            for (revision, key) in wanted {
                reached = revision;
                if key.starts_with(prefix) {
                    events.extend(self.event(&key, revision)?);
                }
            }
        }
        Ok(events)
    }

    fn event(&self, key: &Bytes, revision: u64) -> Result<Option<Event>, StoreError> {
        let Some(Version {
            kind,
            created,
            mut value,
            ..
        }) = self.version(key, revision)?
        else {
            return Ok(None);
        };
        if kind == EventKind::Deleted
            && let Some(last) = self.version(key, revision - 1)?
        {
            value = last.value;
        }
        let record = Record {
            key: key.clone(),
            value,
            revision: Revision(revision),
            created: Revision(created),
        };
        Ok(Some(Event { kind, record }))
    }
}

/// A page on its way, until it is full.
struct Collector {
    page: Page,
    limit: usize,
}

impl Collector {
    /// Adds what stands up to the key that the file has next, and that key; `false` when no more is wanted.
    fn take(
        &mut self,
        recent: &mut BTreeMap<Bytes, Option<Record>>,
        settled: Option<(Bytes, Option<Record>)>,
    ) -> bool {
        let Some((key, mut record)) = settled else {
            return true;
        };
        while let Some(entry) = recent.first_entry().filter(|entry| *entry.key() <= key) {
            let same = *entry.key() == key;
            let newer = entry.remove();
            if same {
                record = newer;
                break;
            }
            if !self.add(newer) {
                return false;
            }
        }
        self.add(record)
    }

    fn add(&mut self, record: Option<Record>) -> bool {
        let Some(record) = record else { return true };
        if self.limit > 0 && self.page.records.len() == self.limit {
            self.page.more = true;
            return false;
        }
        self.page.records.push(record);
        true
    }
}
