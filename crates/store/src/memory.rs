//! The store of tests: the same contract in memory, nothing kept when the value is dropped.

use crate::contract::{Event, EventKind, Page, Record, Revision, Store, StoreError, Watch};
use crate::watchers::Watchers;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// One version of a key; no value means it was deleted.
#[derive(Clone)]
struct Version {
    revision: u64,
    created: u64,
    value: Option<Bytes>,
}

#[derive(Default)]
struct State {
    current: u64,
    oldest: u64,
    keys: BTreeMap<Bytes, Vec<Version>>,
    log: Vec<Event>,
    watchers: Watchers,
    closed: bool,
}

/// A [`Store`] in memory.
#[derive(Default)]
pub struct MemoryStore {
    state: Mutex<State>,
}

impl MemoryStore {
    /// An empty store.
    pub fn new() -> MemoryStore {
        MemoryStore::default()
    }
}

impl State {
    fn at(&self, at: Option<Revision>) -> Result<u64, StoreError> {
        if self.closed {
            return Err(StoreError::unavailable("closed"));
        }
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

    fn record(key: &Bytes, versions: &[Version], at: u64) -> Option<Record> {
        let version = versions.iter().rev().find(|v| v.revision <= at)?;
        Some(Record {
            key: key.clone(),
            value: version.value.clone()?,
            revision: Revision(version.revision),
            created: Revision(version.created),
        })
    }

    fn find(&self, key: &[u8]) -> Option<Record> {
        let (key, versions) = self.keys.get_key_value(key)?;
        State::record(key, versions, self.current)
    }

    /// Appends one write; `value` is none for a deletion.
    fn write(&mut self, key: Bytes, value: Option<Bytes>, old: Option<Record>) -> Revision {
        self.current += 1;
        let revision = self.current;
        let created = old.as_ref().map_or(revision, |r| r.created.0);
        let kind = match (&value, &old) {
            (None, _) => EventKind::Deleted,
            (Some(_), None) => EventKind::Created,
            (Some(_), Some(_)) => EventKind::Updated,
        };
        let shown = value.clone().or_else(|| old.map(|r| r.value)).unwrap_or_default();
        self.keys.entry(key.clone()).or_default().push(Version {
            revision,
            created,
            value,
        });
        let record = Record {
            key,
            value: shown,
            revision: Revision(revision),
            created: Revision(created),
        };
        let event = Event { kind, record };
        self.log.push(event.clone());
        let batch: Arc<[Event]> = Arc::from(vec![event]);
        self.watchers.publish(&batch, Revision(revision));
        Revision(revision)
    }

    /// The record that stands at `expected`, or the reason why a write must fail.
    fn expect(&self, key: &[u8], expected: Revision) -> Result<Record, StoreError> {
        let found = self.find(key).ok_or(StoreError::NotFound)?;
        if found.revision != expected {
            return Err(StoreError::Conflict(Box::new(found)));
        }
        Ok(found)
    }
}

#[async_trait::async_trait]
impl Store for MemoryStore {
    fn name(&self) -> &'static str {
        "memory"
    }

    async fn get(&self, key: &[u8], at: Option<Revision>) -> Result<(Option<Record>, Revision), StoreError> {
        let state = self.state.lock();
        let at = state.at(at)?;
        let found = state
            .keys
            .get_key_value(key)
            .and_then(|(k, v)| State::record(k, v, at));
        Ok((found, Revision(at)))
    }

    async fn list(
        &self,
        prefix: &[u8],
        after: Option<&[u8]>,
        limit: usize,
        at: Option<Revision>,
    ) -> Result<Page, StoreError> {
        let state = self.state.lock();
        let at = state.at(at)?;
        let mut page = Page {
            revision: Revision(at),
            ..Page::default()
        };
        let from = Bytes::copy_from_slice(prefix);
        for (key, versions) in state.keys.range(from..) {
            if !key.starts_with(prefix) {
                break;
            }
            if after.is_some_and(|a| &key[..] <= a) {
                continue;
            }
            if let Some(record) = State::record(key, versions, at) {
                if limit > 0 && page.records.len() == limit {
                    page.more = true;
                    break;
                }
                page.records.push(record);
            }
        }
        Ok(page)
    }

    async fn create(&self, key: Bytes, value: Bytes) -> Result<Revision, StoreError> {
        let mut state = self.state.lock();
        state.at(None)?;
        if let Some(found) = state.find(&key) {
            return Err(StoreError::Exists(Box::new(found)));
        }
        Ok(state.write(key, Some(value), None))
    }

    async fn update(&self, key: Bytes, value: Bytes, expected: Revision) -> Result<Revision, StoreError> {
        let mut state = self.state.lock();
        state.at(None)?;
        let old = state.expect(&key, expected)?;
        Ok(state.write(key, Some(value), Some(old)))
    }

    async fn delete(&self, key: Bytes, expected: Revision) -> Result<Revision, StoreError> {
        let mut state = self.state.lock();
        state.at(None)?;
        let old = state.expect(&key, expected)?;
        Ok(state.write(key, None, Some(old)))
    }

    async fn watch(&self, prefix: &[u8], after: Revision) -> Result<Watch, StoreError> {
        let mut state = self.state.lock();
        state.at(Some(after))?;
        let history = state
            .log
            .iter()
            .filter(|e| e.record.revision > after && e.record.key.starts_with(prefix))
            .cloned()
            .collect();
        let current = Revision(state.current);
        Ok(state.watchers.add(prefix, history, current))
    }

    async fn compact(&self, keep: Revision) -> Result<(), StoreError> {
        let mut state = self.state.lock();
        state.at(None)?;
        if keep.0 > state.current {
            return Err(StoreError::Future {
                current: Revision(state.current),
            });
        }
        if keep.0 <= state.oldest {
            return Ok(());
        }
        state.oldest = keep.0;
        state.log.retain(|e| e.record.revision > keep);
        state.keys.retain(|_, versions| {
            let last_needed = versions.iter().rposition(|v| v.revision <= keep.0).unwrap_or(0);
            versions.drain(..last_needed);
            !(versions.len() == 1 && versions[0].value.is_none() && versions[0].revision <= keep.0)
        });
        Ok(())
    }

    async fn current(&self) -> Result<Revision, StoreError> {
        let state = self.state.lock();
        state.at(None).map(Revision)
    }

    async fn oldest(&self) -> Result<Revision, StoreError> {
        Ok(Revision(self.state.lock().oldest))
    }

    async fn health(&self) -> Result<(), StoreError> {
        self.state.lock().at(None).map(|_| ())
    }

    async fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        state.watchers.clear();
    }
}
