//! A container: its root file system, its processes, its cgroup, its output.
//!
//! ```text
//! Created ──start──> Running ──the process ends──> Exited ──remove──> gone
//! ```
//! The network, IPC and UTS namespaces are the VM's, shared by all containers of the Pod; mounts are each container's
//! own, and so are process ids unless the Pod shares them.

pub mod cgroup;
pub mod devices;
pub mod image_users;
pub mod output;
pub mod pause;
pub mod process;
pub mod rootfs;
mod spill;
pub mod streams;
mod terminal;

use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use guest_api::probing::Probing;
use guest_api::v1::{self, CreateContainerRequest};

use crate::sync::lock;
use output::Output;
use streams::Streams;

/// A container of this Pod.
pub struct Container {
    /// What the host asked for.
    pub request: CreateContainerRequest,
    /// What it is now.
    pub status: Mutex<v1::Container>,
    /// Its log.
    pub output: Arc<Output>,
    /// Its open streams while it runs.
    pub streams: Mutex<Option<Arc<Streams>>>,
    /// Its probes while it runs.
    pub probing: Mutex<Option<Probing>>,
}

impl Container {
    /// A container that has been prepared.
    pub fn new(request: CreateContainerRequest) -> Self {
        let status = v1::Container {
            id: request.id.clone(),
            name: request.name.clone(),
            ..Default::default()
        };
        Self {
            request,
            status: Mutex::new(status),
            output: Arc::new(Output::new(output::directory())),
            streams: Mutex::new(None),
            probing: Mutex::new(None),
        }
    }

    /// What it is now, with what its probes have found.
    pub fn told(&self) -> v1::Container {
        let mut status = lock(&self.status).clone();
        if let Some(probing) = &*lock(&self.probing) {
            status.probes = probing.states();
        }
        status
    }

    /// The same for a host that has just come.
    pub fn listed(&self) -> v1::Container {
        let mut status = lock(&self.status).clone();
        if let Some(probing) = &*lock(&self.probing) {
            status.probes = probing.list();
        }
        status.log_records = self.output.records();
        status
    }

    /// Nobody asks it any more; what was found stays.
    pub fn end_probing(&self) {
        if let Some(probing) = lock(&self.probing).take() {
            lock(&self.status).probes = probing.states();
        }
    }

    /// The process id while it runs.
    pub fn running_pid(&self) -> Option<i32> {
        let status = lock(&self.status);
        (status.state() == v1::State::Running).then_some(status.pid as i32)
    }
}

/// Nanoseconds since 1970.
pub fn now_ns() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}
