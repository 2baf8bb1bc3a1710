//! A VM's cgroup on the host, in the v2 tree or in v1 hierarchies: whichever holds the controllers.
//!
//! Written by hand and not with a library: three files a controller, two layouts, and removal that must be complete.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

const ROOT: &str = "/sys/fs/cgroup";
/// The v1 hierarchies that are used, where mounted.
const HIERARCHIES: [&str; 4] = ["cpu", "cpuacct", "memory", "pids"];
/// The period that CPU limits refer to, in microseconds.
const PERIOD: u64 = 100_000;
/// QEMU's threads and processes: a VM never needs more.
const MAX_TASKS: u32 = 256;
/// What QEMU itself needs beside the guest's memory: code, translation cache, buffers.
const OVERHEAD_BYTES: u64 = 192 << 20;
/// What a VM needs for itself beside its containers' CPU time, in thousandths of a CPU: its kernel, its agent, QEMU. The
/// guest holds containers to their own limits; a limit of 10m for a whole VM would not let it start.
const OVERHEAD_MILLIS: u64 = 250;
/// The least that a VM's request counts as, beside those of others, in thousandths of a CPU. By a request of 2m alone a VM would
/// be given nothing for minutes on a busy host, and who cannot answer at all is taken for hung.
const MIN_REQUEST_MILLIS: u64 = 100;
/// The kernel needs a moment after the last process to let a group go.
const REMOVE_LIMIT: Duration = Duration::from_secs(5);

/// Limits of a VM.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub memory_mib: u64,
    pub cpu_request_millis: Option<u64>,
    pub cpu_limit_millis: Option<u64>,
}

/// Makes this process a member of a group with that much memory.
///
/// # Errors
/// The group cannot be made, or does not take it.
pub fn enter_cgroup(name: &str, memory_mib: u64) -> io::Result<()> {
    let group = Cgroup::named(name);
    group.create(&Limits {
        // What a VM has beside is this process's, too.
        memory_mib: memory_mib.saturating_sub(OVERHEAD_BYTES >> 20),
        cpu_request_millis: None,
        cpu_limit_millis: None,
    })?;
    for file in group.member_files() {
        fs::write(&file, std::process::id().to_string())?;
    }
    Ok(())
}

/// Removes the group of a process that has ended.
///
/// # Errors
/// Somebody is in it still.
pub async fn remove_cgroup(name: &str) -> io::Result<()> {
    Cgroup::named(name).remove().await
}

/// The cgroup of a path such as `podvisor/abc`.
#[derive(Debug, Clone)]
pub(super) struct Cgroup {
    name: String,
}

fn is_v2() -> bool {
    let controllers = fs::read_to_string(Path::new(ROOT).join("cgroup.controllers")).unwrap_or_default();
    controllers
        .split_whitespace()
        .any(|controller| controller == "memory")
}

/// Microseconds of each period for a VM whose containers are limited to that many thousandths of a CPU.
fn quota(millis: u64) -> u64 {
    (millis + OVERHEAD_MILLIS) * PERIOD / 1000
}

/// What a request counts as, in thousandths of a CPU.
fn counted(request: u64) -> u64 {
    request.max(MIN_REQUEST_MILLIS)
}

impl Cgroup {
    pub fn named(name: &str) -> Self {
        Self {
            name: name.trim_matches('/').to_owned(),
        }
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    /// Makes the group with its limits.
    pub fn create(&self, limits: &Limits) -> io::Result<()> {
        if is_v2() {
            self.delegate_v2()?;
            let path = Path::new(ROOT).join(&self.name);
            write(&path, "pids.max", &MAX_TASKS.to_string())?;
        } else {
            for hierarchy in self.hierarchies() {
                fs::create_dir_all(&hierarchy)?;
                write_if_there(&hierarchy, "pids.max", &MAX_TASKS.to_string())?;
            }
        }
        self.set_memory(limits.memory_mib)?;
        self.set_cpu(limits.cpu_request_millis, limits.cpu_limit_millis)
    }

    /// Sets how much memory the group gets for a VM of this size.
    pub fn set_memory(&self, memory_mib: u64) -> io::Result<()> {
        let memory = ((memory_mib << 20) + OVERHEAD_BYTES).to_string();
        if is_v2() {
            return write(&Path::new(ROOT).join(&self.name), "memory.max", &memory);
        }
        for hierarchy in self.hierarchies() {
            write_if_there(&hierarchy, "memory.limit_in_bytes", &memory)?;
        }
        Ok(())
    }

    /// Sets how much CPU time the group gets; nothing requested counts as a whole CPU, nothing limited is unlimited.
    pub fn set_cpu(&self, request: Option<u64>, limit: Option<u64>) -> io::Result<()> {
        let quota = limit.map(quota);
        let request = request.map(counted);
        if is_v2() {
            let path = Path::new(ROOT).join(&self.name);
            let quota = quota.map_or_else(|| "max".to_owned(), |quota| quota.to_string());
            write(&path, "cpu.max", &format!("{quota} {PERIOD}"))?;
            let weight = request.map_or(100, |millis| (millis / 10).min(10_000));
            return write(&path, "cpu.weight", &weight.to_string());
        }
        for hierarchy in self.hierarchies() {
            let shares = request.map_or(1024, |millis| millis * 1024 / 1000);
            write_if_there(&hierarchy, "cpu.shares", &shares.to_string())?;
            write_if_there(&hierarchy, "cpu.cfs_period_us", &PERIOD.to_string())?;
            let quota = quota.map_or_else(|| "-1".to_owned(), |quota| quota.to_string());
            write_if_there(&hierarchy, "cpu.cfs_quota_us", &quota)?;
        }
        Ok(())
    }

    /// Files to which a process writes its id to become a member.
    pub fn member_files(&self) -> Vec<PathBuf> {
        self.directories()
            .into_iter()
            .map(|path| path.join("cgroup.procs"))
            .collect()
    }

    /// Kills whoever is in it. A number that somebody else has by now is not touched.
    pub fn kill_members(&self) {
        use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
        for file in self.member_files() {
            let members = || fs::read_to_string(&file).unwrap_or_default();
            for line in members().lines() {
                let Some(pid) = line.parse().ok().and_then(Pid::from_raw) else {
                    continue;
                };
                let Ok(process) = pidfd_open(pid, PidfdFlags::empty()) else {
                    continue;
                };
                if members().lines().any(|other| other == line) {
                    // Gone in this very moment is as good.
                    let _ = pidfd_send_signal(process, Signal::KILL);
                }
            }
        }
    }

    /// CPU time in nanoseconds.
    pub fn cpu_usage_ns(&self) -> u64 {
        if is_v2() {
            let text =
                fs::read_to_string(Path::new(ROOT).join(&self.name).join("cpu.stat")).unwrap_or_default();
            let usage = text.lines().find_map(|line| line.strip_prefix("usage_usec "));
            return usage.and_then(|usage| usage.parse::<u64>().ok()).unwrap_or(0) * 1000;
        }
        let file = Path::new(ROOT)
            .join("cpuacct")
            .join(&self.name)
            .join("cpuacct.usage");
        fs::read_to_string(file)
            .ok()
            .and_then(|text| text.trim().parse().ok())
            .unwrap_or(0)
    }

    /// Removes the group; its processes must have ended.
    pub async fn remove(&self) -> io::Result<()> {
        let end = Instant::now() + REMOVE_LIMIT;
        for path in self.directories() {
            loop {
                match fs::remove_dir(&path) {
                    Ok(()) => break,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => break,
                    Err(error) if Instant::now() >= end => {
                        let text = format!("cannot remove {}: {error}", path.display());
                        return Err(io::Error::new(error.kind(), text));
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        }
        Ok(())
    }

    fn directories(&self) -> Vec<PathBuf> {
        if is_v2() {
            vec![Path::new(ROOT).join(&self.name)]
        } else {
            self.hierarchies()
        }
    }

    /// Directories in the mounted v1 hierarchies, each once: `cpu` and `cpuacct` are often one.
    fn hierarchies(&self) -> Vec<PathBuf> {
        let mut found: Vec<PathBuf> = HIERARCHIES
            .iter()
            .filter_map(|name| fs::canonicalize(Path::new(ROOT).join(name)).ok())
            .filter(|path| path.join("cgroup.procs").exists())
            .collect();
        found.sort();
        found.dedup();
        found.into_iter().map(|path| path.join(&self.name)).collect()
    }

    /// In v2 every group on the way must hand its controllers down.
    fn delegate_v2(&self) -> io::Result<()> {
        let mut path = PathBuf::from(ROOT);
        for part in self.name.split('/') {
            write(&path, "cgroup.subtree_control", "+cpu +memory +pids")?;
            path.push(part);
            fs::create_dir_all(&path)?;
        }
        Ok(())
    }
}

/// Not every v1 hierarchy has every controller.
fn write_if_there(directory: &Path, file: &str, value: &str) -> io::Result<()> {
    if directory.join(file).exists() {
        write(directory, file, value)?;
    }
    Ok(())
}

fn write(directory: &Path, file: &str, value: &str) -> io::Result<()> {
    let path = directory.join(file);
    fs::write(&path, value)
        .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_vm_is_held_back_for_good() {
        for (millis, expected) in [(0, 100), (2, 100), (100, 100), (500, 500)] {
            assert_eq!(counted(millis), expected, "{millis}m");
        }
    }

    #[test]
    fn a_vm_has_time_for_itself() {
        for (millis, expected) in [(10, 26_000), (500, 75_000), (2_000, 225_000)] {
            assert_eq!(quota(millis), expected, "{millis}m");
        }
    }
}
