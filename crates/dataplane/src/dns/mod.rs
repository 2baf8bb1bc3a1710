//! Cluster DNS (Kubernetes DNS specification 1.1): names of Services and Pods, everything else forwarded.
//!
//! [`zone`] answers from a snapshot and does no I/O; [`server`] listens on UDP and TCP and forwards; [`places`] keep one client
//! from taking all of it. Messages are read and written by `hickory-proto`.

mod places;
mod server;
mod zone;

pub(crate) use server::DnsServer;
pub use server::answer_from;
