//! Cluster DNS (Kubernetes DNS specification 1.1): names of Services and Pods, everything else forwarded.
//!
//! ```text
//! set_services -> Zone -> names::Names --pipe--> process::answer  (a process of its own that outlives the agent)
//!                                      \-------> server::Resolver (in this process, where no program is named)
//! ```
//! [`zone`] answers from a snapshot and does no I/O; [`server`] listens on UDP and TCP and forwards; [`places`] keep one client
//! from taking all of it. Messages are read and written by `hickory-proto`. Nobody reads a question before the first
//! snapshot is known: until then the kernel keeps them, where an answer would be that the name does not exist.

mod frame;
mod names;
mod process;
mod server;
mod zone;

pub(crate) use names::Names;
pub use process::answer as answer_names;
pub(crate) use process::{earlier, end_all};
pub use server::answer_from;
