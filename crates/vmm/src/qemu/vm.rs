//! A running QEMU: boot, adoption, end.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::net::UnixStream;

use super::bundle::Bundle;
use super::cgroup::{Cgroup, Limits};
use super::process::{self, Process};
use super::shares::{self, Server};
use super::{QemuConfig, arguments, qmp};
use crate::vm::{BootError, ExitReason, KillError, Stream, Vm, VmId, VmSpec, VmStats};

/// How long QEMU may take to open its sockets.
const START_LIMIT: Duration = Duration::from_secs(30);
const LOOK: Duration = Duration::from_millis(5);
/// Files in the run directory that are this driver's.
const FILES: [&str; 5] = ["vm.json", "qmp.sock", "channel.sock", "console.log", "qemu.log"];

/// `vm.json`: what adoption needs.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    id: VmId,
    pid: u32,
    started: u64,
    cgroup: String,
    #[serde(default)]
    shares: Vec<Server>,
}

pub(super) struct QemuVm {
    id: VmId,
    run_dir: PathBuf,
    process: Process,
    cgroup: Cgroup,
    shares: Vec<Server>,
}

pub(super) async fn boot(
    config: &QemuConfig,
    bundle: &Bundle,
    accel: &str,
    spec: VmSpec,
) -> Result<QemuVm, BootError> {
    let io = |what: &str| {
        let what = what.to_owned();
        move |source: io::Error| BootError::Io { what, source }
    };
    let cgroup = Cgroup::named(&format!("{}/{}", config.cgroup_parent, spec.id));
    let root = spec.run_dir.join("root");
    fs::create_dir_all(&root).map_err(io("the VM's empty root"))?;
    let tap = spec.nic.as_ref().and_then(|nic| nic.tap.as_ref());
    let number = tap.map(std::os::fd::AsRawFd::as_raw_fd);
    let arguments = arguments::arguments(config, bundle, accel, &spec, number);
    let limits = Limits {
        memory_mib: spec.memory_mib,
        cpu_request_millis: spec.cpu_request_millis,
        cpu_limit_millis: spec.cpu_limit_millis,
    };
    let result = async {
        cgroup.create(&limits).map_err(io("the VM's cgroup"))?;
        let log = spec.run_dir.join("qemu.log");
        let shares = shares::start(&spec, &cgroup).map_err(BootError::Qemu)?;
        let process = process::start(arguments::PROGRAM, &arguments, &log, &cgroup, tap)
            .inspect_err(|_| shares::end(&shares))
            .map_err(io(arguments::PROGRAM))?;
        let vm = QemuVm {
            id: spec.id.clone(),
            run_dir: spec.run_dir.clone(),
            process,
            cgroup: cgroup.clone(),
            shares,
        };
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

pub(super) fn adopt(run_dir: &Path) -> Result<Option<QemuVm>, String> {
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
    Ok(Some(QemuVm {
        id: record.id,
        run_dir: run_dir.to_path_buf(),
        process,
        cgroup,
        shares: record.shares,
    }))
}

impl QemuVm {
    fn record(&self) -> io::Result<()> {
        let record = Record {
            id: self.id.clone(),
            pid: self.process.pid,
            started: self.process.started,
            cgroup: self.cgroup.name().to_owned(),
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
                    return Err(BootError::Qemu(self.last_words()));
                }
                if UnixStream::connect(self.run_dir.join("qmp.sock")).await.is_ok() {
                    return Ok(());
                }
                tokio::time::sleep(LOOK).await;
            }
        };
        let slow = |_| BootError::Control(format!("no socket within {} s", START_LIMIT.as_secs()));
        tokio::time::timeout(START_LIMIT, look).await.map_err(slow)?
    }

    fn last_words(&self) -> String {
        let text = fs::read_to_string(self.run_dir.join("qemu.log")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().rev().take(3).collect();
        if lines.is_empty() {
            "it said nothing".to_owned()
        } else {
            lines.join("; ")
        }
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

    async fn channel(&self) -> io::Result<Box<dyn Stream>> {
        Ok(Box::new(
            UnixStream::connect(self.run_dir.join("channel.sock")).await?,
        ))
    }

    async fn exited(&self) -> ExitReason {
        self.process.wait().await;
        let console = fs::read(self.run_dir.join("console.log")).unwrap_or_default();
        let tail = &console[console.len().saturating_sub(16 << 10)..];
        if String::from_utf8_lossy(tail).contains("Kernel panic") {
            return ExitReason::Panicked;
        }
        let words = fs::read_to_string(self.run_dir.join("qemu.log")).unwrap_or_default();
        if words.trim().is_empty() {
            ExitReason::Shutdown
        } else {
            ExitReason::Crashed(self.last_words())
        }
    }

    async fn kill(&self) -> Result<(), KillError> {
        let mut problems = Vec::new();
        if !self.process.has_ended() {
            // `quit` flushes disks; a QEMU that does not listen is killed.
            let quit = qmp::command(&self.run_dir.join("qmp.sock"), "quit", json!({})).await;
            let asked = quit.is_ok()
                && tokio::time::timeout(Duration::from_secs(2), self.process.wait())
                    .await
                    .is_ok();
            if !asked && let Err(error) = self.process.signal(Signal::KILL) {
                problems.push(format!("kill: {error}"));
            }
            if tokio::time::timeout(START_LIMIT, self.process.wait())
                .await
                .is_err()
            {
                problems.push(format!("process {} does not end", self.process.pid));
            }
        }
        shares::end(&self.shares);
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

    async fn resize_disk(&self, serial: &str, bytes: u64) -> io::Result<()> {
        let arguments = json!({"node-name": format!("disk-{serial}"), "size": bytes});
        qmp::command(&self.run_dir.join("qmp.sock"), "block_resize", arguments)
            .await
            .map(|_| ())
            .map_err(io::Error::other)
    }

    async fn set_cpu(&self, request_millis: Option<u64>, limit_millis: Option<u64>) -> io::Result<()> {
        self.cgroup.set_cpu(request_millis, limit_millis)
    }

    async fn stats(&self) -> VmStats {
        VmStats {
            cpu_usage_ns: self.cgroup.cpu_usage_ns(),
            memory_rss_bytes: self.process.resident_bytes(),
        }
    }
}
