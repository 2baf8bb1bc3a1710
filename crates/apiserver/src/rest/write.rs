//! From an object to the log: encoding, size limit, the store's refusals in the words of the API.

use super::meta;
use crate::cache::object;
use crate::metrics::Histogram;
use crate::registry::Served;
use crate::server::ApiServer;
use bytes::Bytes;
use kinds::status::Status;
use serde_json::Value;
use std::time::Instant;
use store::{Record, Revision, StoreError};

/// Largest encoded object, in bytes: upstream's limit by etcd.
pub const MAX_OBJECT: usize = 3 << 19;

/// An object as the store answered it.
pub struct Stored {
    /// Its bytes, resourceVersion included, in the storage version.
    pub bytes: Bytes,
    /// Its revision.
    pub revision: u64,
}

/// Why a conditional write did not happen.
pub enum Refused {
    /// Somebody was faster; the record that stands there now, or none when the object is gone.
    Raced(Option<Box<Record>>),
    /// Anything else, for the client.
    Status(Status),
}

impl From<Status> for Refused {
    fn from(s: Status) -> Refused {
        Refused::Status(s)
    }
}

impl ApiServer {
    /// Writes a new object.
    pub async fn insert(&self, served: &Served, value: &Value) -> Result<Stored, Status> {
        let (namespace, name) = place(served, value);
        let bytes = bounded(object::encode(value))?;
        let key = self.keys.object(served.storage(), namespace, name);
        let started = Instant::now();
        let written = self.store.create(key, bytes.clone()).await;
        self.told("create", served, started);
        match written {
            Ok(revision) => self.stored(&bytes, revision).await,
            Err(StoreError::Exists(_)) => Err(Status::already_exists(
                served.kind.plural,
                served.kind.group,
                name,
            )),
            Err(e) => Err(unavailable(&e)),
        }
    }

    /// Replaces an object that must stand at `expected` by `value`, which is `bytes` when encoded.
    pub async fn replace(
        &self,
        served: &Served,
        value: &Value,
        bytes: Bytes,
        expected: u64,
    ) -> Result<Stored, Refused> {
        let (namespace, name) = place(served, value);
        let bytes = bounded(bytes)?;
        let key = self.keys.object(served.storage(), namespace, name);
        let started = Instant::now();
        let written = self.store.update(key, bytes.clone(), Revision(expected)).await;
        self.told("update", served, started);
        match written {
            Ok(revision) => Ok(self.stored(&bytes, revision).await?),
            Err(e) => Err(refused(e)),
        }
    }

    /// Removes an object that must stand at `expected`; answers the revision of the removal.
    pub async fn remove(
        &self,
        served: &Served,
        namespace: &str,
        name: &str,
        expected: u64,
    ) -> Result<u64, Refused> {
        let key = self.keys.object(served.storage(), namespace, name);
        let started = Instant::now();
        let written = self.store.delete(key, Revision(expected)).await;
        self.told("delete", served, started);
        match written {
            Ok(revision) => {
                self.reached(revision.0).await?;
                Ok(revision.0)
            }
            Err(e) => Err(refused(e)),
        }
    }

    /// Counts the time that the store took.
    fn told(&self, operation: &str, served: &Served, started: Instant) {
        let (group, plural) = (served.kind.group, served.kind.plural);
        let dot = if group.is_empty() { "" } else { "." };
        let labels = format!("operation=\"{operation}\",type=\"{plural}{dot}{group}\"");
        self.metrics.observe(Histogram::Store, labels, started.elapsed());
    }

    /// After a write: who reads next, by whatever way, sees it.
    async fn stored(&self, bytes: &[u8], revision: Revision) -> Result<Stored, Status> {
        self.reached(revision.0).await?;
        Ok(Stored {
            bytes: object::with_revision(bytes, revision.0),
            revision: revision.0,
        })
    }

    async fn reached(&self, revision: u64) -> Result<(), Status> {
        self.caches
            .wait_for(revision)
            .await
            .map_err(|at| too_large_version(revision, at))
    }

    /// Makes the cache as new as the log: what a read without resourceVersion waits for.
    pub async fn fresh(&self) -> Result<u64, Status> {
        let current = self.store.current().await.map_err(|e| unavailable(&e))?;
        self.reached(current.0).await?;
        Ok(current.0)
    }
}

/// Namespace and name that an object is stored under.
fn place<'a>(served: &Served, value: &'a Value) -> (&'a str, &'a str) {
    let namespace = if served.kind.namespaced {
        meta(value, "namespace")
    } else {
        ""
    };
    (namespace, meta(value, "name"))
}

fn bounded(bytes: Bytes) -> Result<Bytes, Status> {
    if bytes.len() > MAX_OBJECT {
        return Err(Status::request_entity_too_large(
            "etcdserver: request is too large",
        ));
    }
    Ok(bytes)
}

/// Whether an object was too large to be written. It is better written without who owns its fields than not at all, unless
/// that is what the write is about.
pub fn is_too_large(status: &Status) -> bool {
    status.code == 413
}

fn refused(e: StoreError) -> Refused {
    match e {
        StoreError::Conflict(record) => Refused::Raced(Some(record)),
        StoreError::NotFound => Refused::Raced(None),
        other => Refused::Status(unavailable(&other)),
    }
}

/// A store that cannot serve, to the client.
pub fn unavailable(e: &StoreError) -> Status {
    tracing::error!(error = %e, "the store refused");
    Status::internal(e.to_string())
}

/// The 504 for a revision that has not happened.
pub fn too_large_version(asked: u64, current: u64) -> Status {
    let mut status = Status::timeout(
        format!("Too large resource version: {asked}, current: {current}"),
        1,
    );
    status.add_cause("ResourceVersionTooLarge", "Too large resource version", "");
    status
}

/// Attempts of a server's own change that loses races.
const EDITS: usize = 50;

impl ApiServer {
    /// Changes a stored object by a function of its present state, without admission: for changes whose rules the
    /// caller knows (binding, eviction, bootstrap). An unchanged object is not written.
    pub async fn edit(
        &self,
        served: &Served,
        namespace: &str,
        name: &str,
        edit: impl Fn(&Value) -> Result<Value, Status>,
    ) -> Result<Stored, Status> {
        self.fresh().await?;
        let mut present = served
            .cache
            .get(namespace, name)
            .map(|o| (o.bytes().clone(), o.revision()));
        for _ in 0..EDITS {
            let Some((bytes, revision)) = present.take() else {
                return Err(Status::not_found(served.kind.plural, served.kind.group, name));
            };
            let old: Value = serde_json::from_slice(&bytes).map_err(|e| Status::internal(e.to_string()))?;
            let new = edit(&old)?;
            if new == old {
                return Ok(Stored { bytes, revision });
            }
            match self.replace(served, &new, object::encode(&new), revision).await {
                Ok(stored) => return Ok(stored),
                Err(Refused::Status(status)) => return Err(status),
                Err(Refused::Raced(record)) => {
                    present = record.map(|r| (object::with_revision(&r.value, r.revision.0), r.revision.0));
                }
            }
        }
        Err(Status::conflict(
            served.kind.plural,
            served.kind.group,
            name,
            super::update::MODIFIED,
        ))
    }
}
