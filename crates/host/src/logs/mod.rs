//! Container logs on the host: files in the CRI format, laid out as under `/var/log/pods`, written from the guest's
//! output and read back for `kubectl logs`.
//!
//! ```text
//! DATA/logs/NAMESPACE_POD_UID/CONTAINER/RUN.log          the run's current file
//! DATA/logs/NAMESPACE_POD_UID/CONTAINER/RUN.log.RECORDS  rotated; RECORDS have been written when it was closed
//! ```
//! A record's number in its run is where an agent that was restarted tells the guest to go on: it is found from the
//! name of the newest rotated file and the lines of the current one, so nothing else has to be kept.

mod line;
mod read;
mod write;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::watch;

pub use line::{Line, Source};
pub use read::{Options, read};
pub use write::Writer;

/// What followers of a run wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Changes with every record.
    pub version: u64,
    /// Nothing more will come.
    pub ended: bool,
}

/// The logs of one Pod.
#[derive(Debug)]
pub struct PodLogs {
    directory: PathBuf,
    progress: Mutex<HashMap<(String, u32), watch::Sender<Progress>>>,
}

impl PodLogs {
    /// The logs of a Pod under a host's data directory.
    pub fn new(data_dir: &Path, namespace: &str, name: &str, uid: &str) -> Arc<Self> {
        Arc::new(Self {
            directory: data_dir.join("logs").join(format!("{namespace}_{name}_{uid}")),
            progress: Mutex::default(),
        })
    }

    /// The current file of a run.
    pub fn path(&self, container: &str, run: u32) -> PathBuf {
        self.directory.join(container).join(format!("{run}.log"))
    }

    /// Opens a run for writing, going on where an earlier agent stopped.
    pub fn writer(self: &Arc<Self>, container: &str, run: u32) -> io::Result<Writer> {
        let path = self.path(container, run);
        std::fs::create_dir_all(self.directory.join(container))?;
        let signal = self.signal(container, run);
        // Whoever writes goes on, whatever was thought of this run before.
        signal.send_modify(|progress| progress.ended = false);
        Writer::open(path, signal)
    }

    /// How a run progresses.
    pub fn progress(&self, container: &str, run: u32) -> watch::Receiver<Progress> {
        self.signal(container, run).subscribe()
    }

    /// Says that a run is over and its output complete.
    pub fn end(&self, container: &str, run: u32) {
        self.signal(container, run).send_modify(|progress| {
            progress.ended = true;
            progress.version += 1;
        });
    }

    fn signal(&self, container: &str, run: u32) -> watch::Sender<Progress> {
        self.progress
            .lock()
            .entry((container.to_owned(), run))
            .or_default()
            .clone()
    }

    /// Removes the files of all runs before `keep_from`: the kubelet too keeps the current run and the one before.
    pub fn prune(&self, container: &str, keep_from: u32) {
        let run_of =
            |path: &Path| -> Option<u32> { path.file_name()?.to_str()?.split('.').next()?.parse().ok() };
        let Ok(entries) = std::fs::read_dir(self.directory.join(container)) else {
            return;
        };
        for path in entries.filter_map(Result::ok).map(|entry| entry.path()) {
            if run_of(&path).is_some_and(|run| run < keep_from)
                && let Err(error) = std::fs::remove_file(&path)
            {
                tracing::warn!(path = %path.display(), %error, "an old log stays");
            }
        }
        self.progress
            .lock()
            .retain(|(name, run), _| name != container || *run >= keep_from);
    }

    /// Bytes of all files of a container.
    pub fn bytes(&self, container: &str) -> u64 {
        let entries = std::fs::read_dir(self.directory.join(container));
        let files = entries.into_iter().flatten().filter_map(Result::ok);
        files
            .filter_map(|entry| entry.metadata().ok())
            .map(|data| data.len())
            .sum()
    }

    /// Removes everything.
    pub fn remove(&self) -> io::Result<()> {
        match std::fs::remove_dir_all(&self.directory) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}
