//! The host agent: turns the Pods bound to one host into micro-VMs, as the kubelet turns them into containers.
//!
//! ```text
//! agent ── watches Pods, Services of the API ──┬── podvm   one owner task a Pod VM: the state machine
//!   ├── node     Node object, Lease            │     ├── plan     (spec, records, now) -> actions; pure
//!   ├── services Services -> network           │     ├── status   records -> PodStatus; pure
//!   ├── datastore PersistentVolumes, as files  │     (their disks are attached at the boot)
//!   ├── objects  ConfigMaps, Secrets, watched  │     ├── env, volumes, size   spec -> what the guest is told; pure
//!   └── server   log, exec, attach, port-      │     └── guest    the session with the guest agent
//!                forward, stats over HTTPS     └── logs    container output, files in CRI format
//! ```
//! The agent is a client of the API and of nothing else of the Supervisor: it never assumes to be on the same machine.
//! It may die at any time; VMs go on, and the next agent adopts them from their run directories.

mod admit;
mod agent;
mod clock;
mod config;
pub mod control;
mod deps;
mod events;
mod host_paths;
mod image_gc;
mod ipam;
mod node;
mod objects;
mod resolv_conf;
mod services;

pub mod backoff;
pub mod datastore;
pub mod env;
mod env_file;
mod guest;
pub mod logs;
mod metrics;
pub mod podvm;
mod policies;
pub mod pressure;
pub mod seccomp;
mod server;
pub mod size;
pub mod status;
pub mod streams;
pub mod trust;
pub mod volumes;

pub use agent::{Agent, StartError};
pub use config::{Capacity, HostConfig, PORT};
pub use deps::{HostDeps, ImageSource, NetworkError, NoImages, NoNetwork, PodNetwork, TapHandle};
pub use image_gc::ImageGc;
pub use podvm::record::running_nics;
pub use resolv_conf::ResolvConf;
