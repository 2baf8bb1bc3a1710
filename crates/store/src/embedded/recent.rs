//! Writes that are in the log and not in the store file yet, as a small store of their own in memory.

use crate::contract::{EventKind, Record, Revision};
use bytes::Bytes;
use std::collections::BTreeMap;

/// One write of a key. The value of a deletion is empty.
#[derive(Debug, Clone)]
pub(crate) struct Version {
    pub(crate) revision: u64,
    pub(crate) kind: EventKind,
    pub(crate) created: u64,
    pub(crate) value: Bytes,
}

impl Version {
    /// The record that it makes; `None` for a deletion.
    pub(crate) fn record(&self, key: &Bytes) -> Option<Record> {
        (self.kind != EventKind::Deleted).then(|| Record {
            key: key.clone(),
            value: self.value.clone(),
            revision: Revision(self.revision),
            created: Revision(self.created),
        })
    }
}

/// Consecutive writes.
#[derive(Debug, Default)]
pub(crate) struct Recent {
    keys: BTreeMap<Bytes, Vec<Version>>,
    /// Which key each revision wrote, ascending.
    log: Vec<(u64, Bytes)>,
}

impl Recent {
    /// Adds a write, whose revision is higher than all before.
    pub(crate) fn push(&mut self, key: Bytes, version: Version) {
        self.log.push((version.revision, key.clone()));
        self.keys.entry(key).or_default().push(version);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.log.is_empty()
    }

    /// The revision of the last write.
    pub(crate) fn last(&self) -> Option<u64> {
        self.log.last().map(|(revision, _)| *revision)
    }

    /// All writes, by key and then by revision.
    pub(crate) fn by_key(&self) -> impl Iterator<Item = (&Bytes, &Version)> {
        self.keys
            .iter()
            .flat_map(|(key, versions)| versions.iter().map(move |version| (key, version)))
    }

    /// Revisions and keys, ascending.
    pub(crate) fn by_revision(&self) -> &[(u64, Bytes)] {
        &self.log
    }

    /// The last write of `key` not after `at`.
    pub(crate) fn version(&self, key: &[u8], at: u64) -> Option<&Version> {
        last_until(self.keys.get(key)?, at)
    }

    /// What stands at `at` under a prefix, behind `after`, as far as it is known here; `None` for what was deleted.
    pub(crate) fn standing(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        at: u64,
        into: &mut BTreeMap<Bytes, Option<Record>>,
    ) {
        let start = after.filter(|after| *after >= prefix).unwrap_or(prefix);
        let range = self
            .keys
            .range::<[u8], _>((std::ops::Bound::Included(start), std::ops::Bound::Unbounded));
        for (key, versions) in range.take_while(|(key, _)| key.starts_with(prefix)) {
            if after.is_some_and(|after| &key[..] <= after) {
                continue;
            }
            if let Some(version) = last_until(versions, at) {
                into.insert(key.clone(), version.record(key));
            }
        }
    }
}

fn last_until(versions: &[Version], at: u64) -> Option<&Version> {
    versions.iter().rev().find(|version| version.revision <= at)
}
