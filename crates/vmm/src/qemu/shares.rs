//! Directories of the host in a VM: one `virtiofsd` for each, which serves that directory and sees nothing else.
//!
//! A guest speaks to it directly, so that it is confined as QEMU is, as far as its work allows: it must be root to give files
//! their owners, and keeps eight capabilities for that. It has a process, mount and network namespace of its own, in which
//! there is nothing but the directory, without devices, and a filter of system calls. A second process of the program, which
//! can do nothing, waits for it outside.
//!
//! They join the VM's cgroup and end when QEMU hangs up, so that a killed QEMU leaves none; those that QEMU never came to
//! are killed. Only VMs with shares have shared memory and modern virtio-mmio, which vhost-user needs.

use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::cgroup::Cgroup;
use super::process::{self, Process, Served};
use crate::vm::{Share, VmSpec};

/// Where distributions put the program: QEMU's own, and its successor.
const PROGRAMS: [&str; 3] = [
    "/usr/lib/qemu/virtiofsd",
    "/usr/libexec/virtiofsd",
    "/usr/bin/virtiofsd",
];
/// Threads of a server: a Pod VM has few vCPUs.
const THREADS: u32 = 4;

/// How long a killed server may take to end.
const END_LIMIT: Duration = Duration::from_secs(10);

/// A server, as the record of its VM names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Server {
    pid: u32,
    started: u64,
}

/// The program, if it is installed.
pub fn program() -> Option<&'static str> {
    PROGRAMS.into_iter().find(|program| Path::new(program).exists())
}

fn socket(run_dir: &Path, number: usize) -> PathBuf {
    run_dir.join(format!("share{number}.sock"))
}

/// Starts the servers of a VM; on failure none is left.
pub(super) async fn start(spec: &VmSpec, cgroup: &Cgroup) -> Result<Vec<Server>, String> {
    let mut servers = Vec::new();
    for (number, share) in spec.shares.iter().enumerate() {
        match one(spec, cgroup, number, share) {
            Ok(server) => servers.push(server),
            Err(error) => {
                end(&servers, cgroup).await;
                return Err(format!("sharing {}: {error}", share.directory.display()));
            }
        }
    }
    Ok(servers)
}

fn one(spec: &VmSpec, cgroup: &Cgroup, number: usize, share: &Share) -> Result<Server, String> {
    let text = |error: std::io::Error| error.to_string();
    let program =
        program().ok_or("virtiofsd is not installed (apt-get install qemu-system-common, or virtiofsd)")?;
    // It is given the listening socket: QEMU need not wait for it, and it writes no file of its own anywhere.
    let listener: OwnedFd = UnixListener::bind(socket(&spec.run_dir, number))
        .map_err(text)?
        .into();
    let arguments = [
        format!("--fd={}", listener.as_raw_fd()),
        format!("--thread-pool-size={THREADS}"),
        "-o".to_owned(),
        // The directory is all that there is in its mount namespace: no link in it leads out.
        format!(
            "source={},sandbox=namespace,xattr,flock",
            share.directory.display()
        ),
    ];
    let log = spec.run_dir.join(format!("share{number}.log"));
    let served = Served {
        directory: share.directory.clone(),
        read_only: share.read_only,
    };
    let process =
        process::start(program, &arguments, &log, cgroup, Some(&listener), Some(served)).map_err(text)?;
    Ok(Server {
        pid: process.pid,
        started: process.started,
    })
}

/// Kills what is left of servers and waits for their end; they have served nobody since their VM ended. Whoever is still in
/// the VM's cgroup then is one of theirs, and has left it when the cgroup can be removed.
pub(super) async fn end(servers: &[Server], cgroup: &Cgroup) -> Vec<String> {
    let left: Vec<Process> = servers
        .iter()
        .filter(|server| process::start_time(server.pid).ok() == Some(server.started))
        .filter_map(|server| Some((server, Process::open(server.pid).ok()?)))
        .filter(|(server, process)| process.started == server.started && !process.has_ended())
        .map(|(_, process)| process)
        .collect();
    for process in &left {
        // Gone in this very moment is as good.
        let _ = process.signal(Signal::KILL);
    }
    let mut problems = Vec::new();
    for process in &left {
        if tokio::time::timeout(END_LIMIT, process.wait()).await.is_err() {
            problems.push(format!("process {} does not end", process.pid));
        }
    }
    if !servers.is_empty() {
        cgroup.kill_members();
    }
    problems
}

/// Files in a run directory that belong to shares.
pub(super) fn files(run_dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(run_dir).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .unwrap_or_default();
            name.starts_with("share") && (name.ends_with(".sock") || name.ends_with(".log"))
        })
        .collect()
}

/// QEMU's arguments for the shares of a VM.
pub(super) fn arguments(spec: &VmSpec) -> Vec<String> {
    if spec.shares.is_empty() {
        return Vec::new();
    }
    let mut arguments = vec!["-global".to_owned(), "virtio-mmio.force-legacy=false".to_owned()];
    for (number, share) in spec.shares.iter().enumerate() {
        let path = socket(&spec.run_dir, number)
            .display()
            .to_string()
            .replace(',', ",,");
        arguments.extend([
            "-chardev".to_owned(),
            format!("socket,id=share{number},path={path}"),
            "-device".to_owned(),
            format!("vhost-user-fs-device,chardev=share{number},tag={}", share.tag),
        ]);
    }
    arguments
}
