//! The revision log: what the API server writes to and nothing else knows about.
//!
//! The contract is [`Store`]: bytes under keys, every write a new revision of one global counter, all writes in
//! one order that watchers see. It knows no Kubernetes kind. Backends: [`memory`] for tests, [`embedded`] (redb,
//! one file, durable group commit) for one Supervisor, [`etcd`] for several. [`conformance`] is the suite that every backend passes;
//! [`backup`] copies a store while it serves.
//!
//! Key layout is the caller's; all keys of one control plane begin with its id and a slash.

mod contract;
mod watchers;

pub mod backup;
pub mod conformance;
pub mod embedded;
pub mod etcd;
pub mod memory;

pub use contract::{Batch, Event, EventKind, Page, Record, Revision, Store, StoreError, Watch};
