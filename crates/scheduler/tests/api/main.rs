//! Plans over snapshots, as text; and the scheduler against a real API server.

#![allow(clippy::unwrap_used)]

mod cluster;
mod messages;
mod plans;
mod preemption;
mod relations;
mod rig;
mod volumes;
