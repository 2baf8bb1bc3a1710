//! Container logs on the host: files in the CRI format, laid out as under `/var/log/pods`, written from the guest's
//! output and read back for `kubectl logs`.
//!
//! ```text
//! DATA/logs/pods/NAMESPACE_POD_UID/CONTAINER/RUN.log          the run's current file
//! DATA/logs/pods/NAMESPACE_POD_UID/CONTAINER/RUN.log.RECORDS  rotated; RECORDS have been written when it was closed
//! DATA/logs/containers/POD_NAMESPACE_CONTAINER-ID.log         a link to the first, as collectors of logs know it
//! ```
//! Pods with a `hostPath` see both as `/var/log/pods` and `/var/log/containers`, through a server that can only read:
//! where the agent writes no guest does, so that none can lead it astray by links.
//!
//! A record's number in its run is where an agent that was restarted tells the guest to go on: it is found from the
//! name of the newest rotated file and the lines of the current one, so nothing else has to be kept.

mod line;
mod read;
mod write;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use tokio::sync::watch;

pub use line::{Line, Source};
pub use read::{Options, read};
pub use write::{MAX_BYTES, MAX_FILES, Writer};

/// Everything of logs, in the data directory.
pub const DIRECTORY: &str = "logs";
/// The logs themselves, and the links to them.
const PODS: &str = "logs/pods";
const LINKS: &str = "logs/containers";

/// What followers of a run wait for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Progress {
    /// Changes with every record.
    pub version: u64,
    /// Records in the files so far.
    pub records: u64,
    /// Somebody writes.
    pub writing: bool,
    /// Since when, by the host's clock: that of a guest may go wrong.
    pub since: Option<Instant>,
    /// Nothing more will come.
    pub ended: bool,
}

/// The logs of one Pod.
#[derive(Debug)]
pub struct PodLogs {
    directory: PathBuf,
    /// Where links are, and what their names begin with.
    links: (PathBuf, String),
    progress: Mutex<HashMap<(String, u32), watch::Sender<Progress>>>,
}

impl PodLogs {
    /// The logs of a Pod under a host's data directory.
    pub fn new(data_dir: &Path, namespace: &str, name: &str, uid: &str) -> Arc<Self> {
        Arc::new(Self {
            directory: data_dir.join(PODS).join(format!("{namespace}_{name}_{uid}")),
            links: (data_dir.join(LINKS), format!("{name}_{namespace}")),
            progress: Mutex::default(),
        })
    }

    /// The directory of the Pod's logs.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The current file of a run.
    pub fn path(&self, container: &str, run: u32) -> PathBuf {
        self.directory.join(container).join(format!("{run}.log"))
    }

    /// Opens a run for writing, going on where an earlier agent stopped.
    pub fn writer(self: &Arc<Self>, container: &str, run: u32) -> io::Result<Writer> {
        let path = self.path(container, run);
        std::fs::create_dir_all(self.directory.join(container))?;
        if let Err(error) = self.link(container, run) {
            tracing::warn!(path = %path.display(), %error, "collectors will not find a log");
        }
        let writer = Writer::open(path, self.signal(container, run))?;
        let records = writer.records();
        // Whoever writes goes on, whatever was thought of this run before.
        self.signal(container, run).send_modify(|progress| {
            *progress = Progress {
                version: progress.version + 1,
                records,
                writing: true,
                since: Some(Instant::now()),
                ended: false,
            };
        });
        Ok(writer)
    }

    /// The name by which collectors know a run: they expect an id of 64 hexadecimal digits.
    fn link_path(&self, container: &str, run: u32) -> PathBuf {
        use sha2::Digest as _;
        let whole = format!("{}/{container}/{run}", self.directory_name());
        let id: String = sha2::Sha256::digest(whole)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let (directory, prefix) = &self.links;
        directory.join(format!("{prefix}_{container}-{id}.log"))
    }

    fn directory_name(&self) -> String {
        let name = self.directory.file_name().unwrap_or_default();
        name.to_string_lossy().into_owned()
    }

    fn link(&self, container: &str, run: u32) -> io::Result<()> {
        std::fs::create_dir_all(&self.links.0)?;
        let target = format!("{SEEN}/{}/{container}/{run}.log", self.directory_name());
        match std::os::unix::fs::symlink(target, self.link_path(container, run)) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
            _ => Ok(()),
        }
    }

    /// How a run progresses.
    pub fn progress(&self, container: &str, run: u32) -> watch::Receiver<Progress> {
        self.signal(container, run).subscribe()
    }

    /// Says that a run is over and its output complete.
    pub fn end(&self, container: &str, run: u32) {
        self.signal(container, run).send_modify(|progress| {
            progress.ended = true;
            progress.writing = false;
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
            let Some(run) = run_of(&path).filter(|run| *run < keep_from) else {
                continue;
            };
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(path = %path.display(), %error, "an old log stays");
            }
            // Each of a run's files has it removed: it is gone after the first.
            let _ = std::fs::remove_file(self.link_path(container, run));
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
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        remove_links(&self.links.0, |target| target == self.directory_name());
        Ok(())
    }
}

/// Where Pods with a `hostPath` see the logs.
const SEEN: &str = "/var/log/pods";

/// The directories of all Pods' logs.
pub fn directories(data_dir: &Path) -> PathBuf {
    data_dir.join(PODS)
}

/// Makes the directories, so that they can be shared before the first log.
pub fn prepare(data_dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(data_dir.join(PODS))?;
    std::fs::create_dir_all(data_dir.join(LINKS))
}

/// Removes links to logs that are no more.
pub fn remove_stray_links(data_dir: &Path) {
    let pods = data_dir.join(PODS);
    remove_links(&data_dir.join(LINKS), |target| !pods.join(target).exists());
}

/// Removes the links that lead into directories of which this is true.
fn remove_links(links: &Path, gone: impl Fn(&str) -> bool) {
    for path in std::fs::read_dir(links)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
    {
        let target = std::fs::read_link(&path).unwrap_or_default();
        let inside = target.strip_prefix(SEEN).ok().and_then(|rest| rest.iter().next());
        if inside.is_some_and(|name| gone(&name.to_string_lossy()))
            && let Err(error) = std::fs::remove_file(&path)
        {
            tracing::warn!(path = %path.display(), %error, "a link to a log stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn collectors_find_logs_by_links() {
        let data = tempfile::tempdir().expect("a directory");
        let links = || {
            let entries = std::fs::read_dir(data.path().join(LINKS)).into_iter().flatten();
            entries
                .filter_map(Result::ok)
                .map(|entry| entry.path())
                .collect::<Vec<_>>()
        };
        let logs = PodLogs::new(data.path(), "shop", "web", "u1");
        for run in 0..3 {
            drop(logs.writer("app", run).expect("opened"));
        }
        assert_eq!(links().len(), 3);
        logs.prune("app", 2);
        let found = links();
        let name = found[0]
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let id = name
            .strip_prefix("web_shop_app-")
            .and_then(|rest| rest.strip_suffix(".log"));
        assert_eq!((found.len(), id.map(str::len)), (1, Some(64)), "{name}");
        let target = std::fs::read_link(&found[0]).expect("a link");
        assert_eq!(target, Path::new("/var/log/pods/shop_web_u1/app/2.log"));
        remove_stray_links(data.path());
        assert_eq!(links().len(), 1);
        logs.remove().expect("removed");
        assert!(links().is_empty());
    }
}
