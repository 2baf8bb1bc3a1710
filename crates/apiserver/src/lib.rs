//! The Kubernetes API server: request -> authentication -> authorization -> admission -> registry -> store.
//!
//! An [`ApiServer`] is a value, made of a store prefix, a table of kinds and an authorizer; a process may hold many.
//! Objects are JSON (`serde_json::Value` or stored bytes) plus schema. Reads are served from the watch cache, which
//! holds every object as encoded bytes; a LIST or WATCH copies them and decodes nothing.
//!
//! Words that the parts share live in small modules ([`user`], [`request`], [`authorize`], [`admit`], [`view`],
//! [`config`], [`connection`]). [`wire`] knows bodies and negotiation, [`cache`] the objects, [`registry`] what is
//! served, [`rest`] the verbs, [`subresources`] what hangs below a name, [`dispatch`] the way of a request.

pub mod access;
pub mod admission;
pub mod admit;
pub mod aggregation;
pub mod alloc;
pub mod audit;
pub mod authn;
pub mod authorize;
pub mod authz;
mod bootstrap;
pub mod config;
pub mod connection;
pub mod crd;
pub mod discovery;
pub mod dispatch;
pub mod flow;
mod follow;
mod health;
pub mod limits;
mod local;
mod metrics;
mod outbound;
mod pod_metrics;
mod proxy;
pub mod registry;
pub mod request;
pub mod rest;
mod serve;
mod server;
mod stall;
mod stalled_stream;
pub mod subresources;
mod sweep;
#[cfg(test)]
mod testing;
pub mod user;
pub mod wire;

pub use proxy::get_from;

pub use ::cache;
pub use ::cache::view;
pub use local::LocalService;
pub use server::{Access, ApiServer, StartError};
