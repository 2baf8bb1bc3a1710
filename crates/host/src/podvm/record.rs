//! What the owner of a Pod VM remembers: one record a container, and the file in the run directory from which the
//! next agent goes on.
//!
//! The file is written (atomically) after every change that an adopter could not learn from the guest: the address,
//! how often a container was started, how it ended. What runs at the moment is asked of the guest.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use dataplane::model::PodNic;
use images::Image;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Container, Pod};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use super::end::Verdict;
use super::resize::Resources;
use crate::backoff::Backoff;
use crate::datastore::attach::VolumeDisk;
use crate::size::{self, Most};

/// The file in a VM's run directory.
const FILE: &str = "pod.json";

/// What a container is to its Pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that goes on beside the others (KEP-753).
    Sidecar,
    /// An ordinary container.
    Main,
    /// Added to a running Pod; never restarted.
    Ephemeral,
}

/// How a run of a container ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Exit code; 128 + signal where one ended it.
    pub code: i32,
    /// The signal, if one ended it.
    pub signal: Option<i32>,
    /// `Completed`, `Error`, `OOMKilled`, `ContainerCannotRun`, …
    pub reason: String,
    /// The termination message.
    pub message: String,
    /// When it began.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Timestamp,
    /// The run's id.
    pub id: String,
}

/// Where a container stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// Not running, with the reason that the Pod's status shows; empty: the usual `ContainerCreating`.
    Waiting {
        /// `ErrImagePull`, `CrashLoopBackOff`, …
        reason: String,
        /// The words beside it.
        message: String,
    },
    /// On its way: image, disk, creation. Shown as waiting with what was said last.
    Starting {
        /// The reason shown meanwhile.
        reason: String,
        /// The words shown meanwhile.
        message: String,
    },
    /// Runs.
    Running {
        /// Since when.
        started_at: Timestamp,
        /// The run's id.
        id: String,
    },
    /// Ended.
    Exited(Exit),
}

impl State {
    /// Waiting with nothing to say.
    pub fn fresh() -> Self {
        Self::Waiting {
            reason: String::new(),
            message: String::new(),
        }
    }
}

/// One container of the Pod.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Its name.
    pub name: String,
    /// What it is.
    pub role: Role,
    /// Runs begun so far; `restartCount` is one less.
    pub runs: u32,
    /// Where it stands.
    pub state: State,
    /// How the run before ended.
    pub last: Option<Exit>,
    /// Back-off of restarts.
    pub backoff: Backoff,
    /// `imageID` of the status, once known.
    pub image_id: String,
    /// The readiness probe's word (or that there is none).
    pub ready: bool,
    /// The startup probe's word (or that there is none).
    pub started: bool,
    /// It has begun in the present VM: init containers are not run again for it.
    pub begun: bool,
    /// Whom its latest run was started as: user, group, all groups.
    #[serde(default)]
    pub identity: Option<(u32, u32, Vec<u32>)>,
    /// Its `postStart` hook is still at work: it is not shown as running, and those after it wait.
    #[serde(default)]
    pub hooking: bool,
    /// The words of the `postStart` hook that failed, for which its latest run was ended.
    #[serde(default)]
    pub unhooked: Option<String>,
    /// The image that its latest run was started from, as the spec named it.
    #[serde(default)]
    pub image: Option<String>,
    /// Not before this moment, after something about its configuration was missing.
    pub retry_at: Option<Timestamp>,
    /// Its run is being ended for another one to begin, however it ends.
    #[serde(default)]
    pub again: bool,
    /// When this agent learnt that its latest run had begun; not of runs that an earlier agent began.
    #[serde(skip)]
    pub learnt: Option<Instant>,
}

impl Record {
    /// A container that never ran.
    pub fn new(name: &str, role: Role) -> Self {
        Self {
            name: name.to_owned(),
            role,
            runs: 0,
            state: State::fresh(),
            last: None,
            backoff: Backoff::default(),
            image_id: String::new(),
            ready: false,
            started: false,
            begun: false,
            identity: None,
            hooking: false,
            unhooked: None,
            image: None,
            retry_at: None,
            again: false,
            learnt: None,
        }
    }

    /// Whether the spec names another image by now than the one that was started.
    pub fn changed(&self, container: &Container) -> bool {
        self.image.is_some() && self.image != container.image
    }

    /// The id of the current or the latest run: name and number, unique within the VM and readable.
    pub fn run_id(&self) -> String {
        run_id(&self.name, self.runs.saturating_sub(1))
    }

    /// The id of the run before.
    pub fn previous_run_id(&self) -> Option<String> {
        Some(run_id(&self.name, self.runs.checked_sub(2)?))
    }

    /// `restartCount`.
    pub fn restarts(&self) -> u32 {
        self.runs.saturating_sub(1)
    }

    /// The end of the current run, or of the one before it.
    pub fn latest_exit(&self) -> Option<&Exit> {
        match &self.state {
            State::Exited(exit) => Some(exit),
            _ => self.last.as_ref(),
        }
    }

    /// Whether it runs.
    pub fn running(&self) -> bool {
        matches!(self.state, State::Running { .. })
    }
}

/// The id of a run. Names of containers have no underscore, so no run is called like a container.
pub fn run_id(name: &str, number: u32) -> String {
    format!("{name}_{number}")
}

/// The records that a Pod's spec asks for, in the order in which they start.
pub fn records(pod: &Pod) -> Vec<Record> {
    let Some(spec) = &pod.spec else {
        return Vec::new();
    };
    let init = spec.init_containers.iter().flatten().map(|container| {
        let role = if size::is_sidecar(container) {
            Role::Sidecar
        } else {
            Role::Init
        };
        Record::new(&container.name, role)
    });
    let main = spec
        .containers
        .iter()
        .map(|container| Record::new(&container.name, Role::Main));
    let ephemeral = spec
        .ephemeral_containers
        .iter()
        .flatten()
        .map(|container| Record::new(&container.name, Role::Ephemeral));
    init.chain(main).chain(ephemeral).collect()
}

/// The container that a record stands for. Ephemeral containers are shown as ordinary ones.
pub fn container_of<'a>(pod: &'a Pod, name: &str) -> Option<std::borrow::Cow<'a, Container>> {
    use std::borrow::Cow;
    let spec = pod.spec.as_ref()?;
    let known = spec
        .init_containers
        .iter()
        .flatten()
        .chain(&spec.containers)
        .find(|container| container.name == name);
    if let Some(container) = known {
        return Some(Cow::Borrowed(container));
    }
    let ephemeral = spec
        .ephemeral_containers
        .iter()
        .flatten()
        .find(|container| container.name == name)?;
    // The two types have the same fields but for the target.
    let value = serde_json::to_value(ephemeral).ok()?;
    serde_json::from_value(value).ok().map(Cow::Owned)
}

/// The container whose processes an ephemeral container is to see.
pub fn target_of<'a>(pod: &'a Pod, name: &str) -> Option<&'a str> {
    let spec = pod.spec.as_ref()?;
    let mut all = spec.ephemeral_containers.iter().flatten();
    let own = all.find(|container| container.name == name)?;
    own.target_container_name
        .as_deref()
        .filter(|target| !target.is_empty())
}

/// The file of a VM.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct PodFile {
    /// The Pod's uid, which is the VM's id.
    pub uid: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// Its address.
    pub ip: Ipv4Addr,
    /// The hardware address of its interface.
    pub mac: [u8; 6],
    /// The containers.
    pub records: Vec<Record>,
    /// The image of each container, by the container's name.
    pub images: BTreeMap<String, Arc<Image>>,
    /// PersistentVolumes among its disks.
    #[serde(default)]
    pub disks: Vec<VolumeDisk>,
    /// Resources that are in force; the object may ask for others by now.
    #[serde(default)]
    pub resources: Resources,
    /// What the VM can grow to; nothing: it cannot, having been made before VMs could.
    #[serde(default)]
    pub most: Option<Most>,
    /// How often the VM itself was made anew.
    #[serde(default)]
    pub boots: u32,
    /// How long its start took.
    #[serde(default)]
    pub timings: Vec<Timing>,
    /// Why the Pod ends as a whole, once it does: nothing of it is to go on.
    #[serde(default)]
    pub verdict: Option<Verdict>,
}

/// One step of a start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Timing {
    /// What was done.
    pub phase: String,
    /// How long it took, in milliseconds.
    pub millis: u64,
}

impl PodFile {
    /// The interface that belongs to it.
    pub fn nic(&self) -> PodNic {
        PodNic {
            vm_id: self.uid.clone(),
            ip: self.ip,
            mac: self.mac,
        }
    }

    /// Writes the file into its directory, which must exist.
    pub fn write(&self, directory: &Path) -> io::Result<()> {
        let temporary = directory.join(".pod.json.new");
        std::fs::write(&temporary, serde_json::to_vec(self)?)?;
        std::fs::rename(temporary, directory.join(FILE))
    }

    /// Reads the file of a directory.
    pub fn read(directory: &Path) -> io::Result<Self> {
        let bytes = std::fs::read(directory.join(FILE))?;
        serde_json::from_slice(&bytes).map_err(io::Error::from)
    }
}

/// Where the run directories of an agent's VMs are.
pub fn vm_dirs(run_dir: &Path) -> PathBuf {
    run_dir.join("vms")
}

/// The VMs that an earlier agent left, with their directories. A directory without a readable file is listed as an
/// error: it is to be cleaned up.
pub fn found(run_dir: &Path) -> Vec<(PathBuf, io::Result<PodFile>)> {
    let Ok(entries) = std::fs::read_dir(vm_dirs(run_dir)) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .map(|entry| {
            let path = entry.path();
            let file = PodFile::read(&path);
            (path, file)
        })
        .collect()
}

/// The interfaces of the VMs that an earlier agent left running, for `dataplane::Dataplane::start`.
pub fn running_nics(run_dir: &Path) -> Vec<PodNic> {
    found(run_dir)
        .into_iter()
        .filter_map(|(_, file)| Some(file.ok()?.nic()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_come_back() {
        let run = tempfile::tempdir().expect("a directory");
        let directory = vm_dirs(run.path()).join("u1");
        std::fs::create_dir_all(&directory).expect("made");
        std::fs::create_dir_all(vm_dirs(run.path()).join("broken")).expect("made");
        let mut record = Record::new("c", Role::Main);
        record.runs = 2;
        record.state = State::Running {
            started_at: Timestamp::UNIX_EPOCH,
            id: record.run_id(),
        };
        let file = PodFile {
            uid: "u1".into(),
            namespace: "shop".into(),
            name: "web".into(),
            ip: Ipv4Addr::new(10, 244, 0, 3),
            mac: [2, 0, 10, 244, 0, 3],
            records: vec![record.clone()],
            images: BTreeMap::new(),
            disks: Vec::new(),
            resources: Resources::new(),
            most: None,
            boots: 1,
            timings: Vec::new(),
            verdict: None,
        };
        file.write(&directory).expect("written");
        assert_eq!(PodFile::read(&directory).expect("read").records, [record]);
        assert_eq!(running_nics(run.path()), [file.nic()]);
        assert_eq!(found(run.path()).len(), 2);
    }

    #[test]
    fn records_in_starting_order() {
        let pod: Pod = serde_json::from_value(serde_json::json!({"spec": {
            "initContainers": [{"name": "i"}, {"name": "s", "restartPolicy": "Always"}],
            "containers": [{"name": "c"}],
            "ephemeralContainers": [{"name": "e", "image": "x"}],
        }}))
        .expect("a Pod");
        let roles: Vec<(String, Role)> = records(&pod).into_iter().map(|r| (r.name, r.role)).collect();
        assert_eq!(
            roles,
            [
                ("i".to_owned(), Role::Init),
                ("s".to_owned(), Role::Sidecar),
                ("c".to_owned(), Role::Main),
                ("e".to_owned(), Role::Ephemeral)
            ]
        );
        assert_eq!(
            container_of(&pod, "e").expect("there").image.as_deref(),
            Some("x")
        );
    }
}
