//! A running QEMU: boot, adoption, end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::net::UnixStream;

use super::bundle::Bundle;
use super::cgroup::{Cgroup, Limits};
use super::end::{self, End};
use super::process::{self, Process};
use super::qmp::Qmp;
use super::shares::{self, Server};
use super::users::{User, Users};
use super::{arguments, disks};
use crate::vm::{BootError, Disk, DiskError, ExitReason, KillError, Stream, Vm, VmId, VmSpec, VmStats};

/// How long QEMU may take to open its sockets.
const START_LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);
/// Files in the run directory that are this driver's.
const FILES: [&str; 5] = ["vm.json", "qmp.sock", "events.sock", "channel.sock", "qemu.log"];
/// QEMU's own last lines in an error.
const LAST_WORDS: usize = 3;

/// `vm.json`: what adoption needs.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    id: VmId,
    pid: u32,
    started: u64,
    cgroup: String,
    user: u32,
    #[serde(default)]
    shares: Vec<Server>,
}

pub(super) struct QemuVm {
    id: VmId,
    run_dir: PathBuf,
    process: Arc<Process>,
    cgroup: Cgroup,
    user: User,
    end: End,
    shares: Vec<Server>,
}

pub(super) async fn boot(
    cgroup_parent: &str,
    bundle: &Bundle,
    accel: &str,
    spec: VmSpec,
    user: User,
) -> Result<QemuVm, BootError> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |source: io::Error| BootError::Io { what, source }
    };
    let cgroup = Cgroup::named(&format!("{cgroup_parent}/{}", spec.id));
    let root = spec.run_dir.join("root");
    fs::create_dir_all(&root).map_err(io("the VM's empty root"))?;
    let tap = spec.nic.as_ref().and_then(|nic| nic.tap.as_ref());
    let number = tap.map(std::os::fd::AsRawFd::as_raw_fd);
    let arguments = arguments::arguments(bundle, accel, &spec, user.id(), number);
    let limits = Limits {
        memory_mib: spec.memory_mib,
        cpu_request_millis: spec.cpu_request_millis,
        cpu_limit_millis: spec.cpu_limit_millis,
    };
    let result = async {
        cgroup.create(&limits).map_err(io("the VM's cgroup"))?;
        let log = spec.run_dir.join("qemu.log");
        let shares = shares::start(&spec, &cgroup).await.map_err(BootError::Qemu)?;
        let process = match process::start(arguments::PROGRAM, &arguments, &log, &cgroup, tap, None) {
            Ok(process) => process,
            Err(error) => {
                shares::end(&shares, &cgroup).await;
                return Err(io(arguments::PROGRAM)(error));
            }
        };
        let vm = QemuVm::new(
            spec.id.clone(),
            &spec.run_dir,
            process,
            cgroup.clone(),
            user,
            shares,
        );
        // Recorded before anything can go wrong: a crash of the agent now must not lose the process.
        vm.record().map_err(io("vm.json"))?;
        match vm.wait_for_start().await {
            Ok(()) => Ok(vm),
            Err(error) => {
                let _ = vm.kill().await;
                Err(error)
            }
        }
    }
    .await;
    if result.is_err() {
        // The first error is the one that matters.
        let _ = cgroup.remove().await;
        let _ = fs::remove_dir(&root);
    }
    result
}

pub(super) fn adopt(run_dir: &Path, users: &Users) -> Result<Option<QemuVm>, String> {
    let text = match fs::read(run_dir.join("vm.json")) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(format!("vm.json: {error}")),
    };
    let record: Record = serde_json::from_slice(&text).map_err(|error| format!("vm.json: {error}"))?;
    // A number that another process has by now is not our VM.
    if process::start_time(record.pid).ok() != Some(record.started) {
        return Ok(None);
    }
    let Ok(process) = Process::open(record.pid) else {
        return Ok(None);
    };
    if process.started != record.started || process.has_ended() {
        return Ok(None);
    }
    let cgroup = Cgroup::named(&record.cgroup);
    let user = users.claim(record.user);
    let shares = record.shares;
    Ok(Some(QemuVm::new(
        record.id, run_dir, process, cgroup, user, shares,
    )))
}

impl QemuVm {
    fn new(
        id: VmId,
        run_dir: &Path,
        process: Process,
        cgroup: Cgroup,
        user: User,
        shares: Vec<Server>,
    ) -> Self {
        let process = Arc::new(process);
        let log = run_dir.join("qemu.log");
        let end = End::watch(run_dir.join("events.sock"), Arc::clone(&process), move || {
            last_words(&log)
        });
        Self {
            id,
            run_dir: run_dir.to_path_buf(),
            process,
            cgroup,
            user,
            end,
            shares,
        }
    }

    fn control(&self) -> PathBuf {
        self.run_dir.join("qmp.sock")
    }

    fn record(&self) -> io::Result<()> {
        let record = Record {
            id: self.id.clone(),
            pid: self.process.pid,
            started: self.process.started,
            cgroup: self.cgroup.name().to_owned(),
            user: self.user.id(),
            shares: self.shares.clone(),
        };
        let draft = self.run_dir.join("vm.json.new");
        fs::write(&draft, serde_json::to_vec(&record)?)?;
        fs::rename(draft, self.run_dir.join("vm.json"))
    }

    async fn wait_for_start(&self) -> Result<(), BootError> {
        let look = async {
            loop {
                if self.process.has_ended() {
                    return Err(BootError::Qemu(last_words(&self.run_dir.join("qemu.log"))));
                }
                // The socket is there early; it is answered when everything else is, too.
                if Qmp::connect(&self.control()).await.is_ok() {
                    return Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let slow = |_| BootError::Control(format!("no socket within {} s", START_LIMIT.as_secs()));
        tokio::time::timeout(START_LIMIT, look).await.map_err(slow)?
    }
}

fn last_words(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_default();
    let skip = text.lines().count().saturating_sub(LAST_WORDS);
    let lines: Vec<&str> = text.lines().skip(skip).collect();
    if lines.is_empty() {
        "it said nothing".to_owned()
    } else {
        lines.join("; ")
    }
}

#[async_trait]
impl Vm for QemuVm {
    fn id(&self) -> &VmId {
        &self.id
    }

    fn pid(&self) -> Option<u32> {
        Some(self.process.pid)
    }

    fn confinement(&self) -> Option<(String, u32)> {
        Some((self.cgroup.name().to_owned(), self.user.id()))
    }

    async fn channel(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(
            UnixStream::connect(self.run_dir.join("channel.sock")).await?,
        ))
    }

    async fn exited(&self) -> ExitReason {
        self.end.reason().await
    }

    async fn kill(&self) -> Result<(), KillError> {
        let mut problems = Vec::new();
        self.end.expect();
        if !self.process.has_ended() {
            // By force: what the guest has written to a disk is in the host's page cache and not in QEMU.
            if let Err(error) = self.process.signal(Signal::KILL) {
                problems.push(format!("kill: {error}"));
            }
            if tokio::time::timeout(START_LIMIT, self.process.wait())
                .await
                .is_err()
            {
                problems.push(format!("process {} does not end", self.process.pid));
            }
        }
        problems.extend(shares::end(&self.shares, &self.cgroup).await);
        if let Err(error) = self.cgroup.remove().await {
            problems.push(error.to_string());
        }
        let files = FILES.iter().map(|name| fs::remove_file(self.run_dir.join(name)));
        let shared = shares::files(&self.run_dir).into_iter().map(fs::remove_file);
        for result in files
            .chain(shared)
            .chain([fs::remove_dir(self.run_dir.join("root"))])
        {
            if let Err(error) = result
                && error.kind() != io::ErrorKind::NotFound
            {
                problems.push(error.to_string());
            }
        }
        if problems.is_empty() {
            return Ok(());
        }
        Err(KillError {
            id: self.id.clone(),
            problems: problems.join("; "),
        })
    }

    async fn attach_disk(&self, disk: Disk) -> Result<(), DiskError> {
        disks::attach(&self.control(), &disk).await
    }

    async fn detach_disk(&self, serial: &str) -> Result<(), DiskError> {
        disks::detach(&self.control(), serial).await
    }

    async fn resize_disk(&self, serial: &str, bytes: u64) -> io::Result<()> {
        let resized = disks::resize(&self.control(), serial, bytes).await;
        resized.map_err(io::Error::other)
    }

    async fn set_running(&self, running: bool) -> io::Result<()> {
        let command = async {
            let mut qmp = Qmp::connect(&self.control()).await?;
            let name = if running { "cont" } else { "stop" };
            qmp.command(name, serde_json::json!({})).await.map(drop)
        };
        command.await.map_err(io::Error::other)
    }

    async fn stands_still(&self) -> bool {
        let asked = async {
            let mut qmp = Qmp::connect(&self.control()).await?;
            qmp.command("query-status", serde_json::json!({})).await
        };
        // One that does not answer is not known to.
        asked.await.is_ok_and(|status| status["running"] == false)
    }

    async fn set_cpu(&self, request: Option<u64>, limit: Option<u64>) -> io::Result<()> {
        self.cgroup.set_cpu(request, limit)
    }

    async fn set_memory(&self, memory_mib: u64) -> io::Result<()> {
        self.cgroup.set_memory(memory_mib)
    }

    async fn console(&self) -> io::Result<String> {
        let read = async { end::read_console(&mut Qmp::connect(&self.control()).await?).await };
        read.await.map_err(io::Error::other)
    }

    async fn stats(&self) -> VmStats {
        VmStats {
            cpu_usage_ns: self.cgroup.cpu_usage_ns(),
            memory_rss_bytes: self.process.resident_bytes(),
        }
    }
}
