//! A container's cgroup (v2): limits, membership, use.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use guest_api::v1::{ContainerStats, Resources};

/// The period that CPU limits refer to, in microseconds.
const PERIOD: u64 = 100_000;
/// The kernel takes no smaller limit of a period.
const MIN_QUOTA: u64 = 1_000;

/// Where a container's cgroup is.
pub fn path(id: &str) -> PathBuf {
    Path::new("/sys/fs/cgroup").join(id)
}

/// Makes the cgroup with its limits.
pub fn create(id: &str, resources: &Resources) -> io::Result<()> {
    let path = path(id);
    fs::create_dir_all(&path)?;
    // A container is killed as a whole, as Kubernetes does (KEP-4205).
    fs::write(path.join("memory.oom.group"), "1")?;
    set(&path, resources)
}

/// Gives a running container other limits (KEP-1287).
pub fn update(id: &str, resources: &Resources) -> io::Result<()> {
    let path = path(id);
    let text = fs::read_to_string(path.join("memory.current"))?;
    let used: u64 = text.trim().parse().unwrap_or(0);
    if resources.memory_limit > 0 && used > resources.memory_limit {
        // The kernel would kill the container.
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!(
                "attempting to set a memory limit ({}) below current usage ({used})",
                resources.memory_limit
            ),
        ));
    }
    set(&path, resources)
}

fn set(path: &Path, resources: &Resources) -> io::Result<()> {
    let limit = |value: u64| {
        if value == 0 {
            "max".to_owned()
        } else {
            value.to_string()
        }
    };
    fs::write(path.join("memory.max"), limit(resources.memory_limit))?;
    let quota = limit(quota(resources.cpu_limit_millis));
    fs::write(path.join("cpu.max"), format!("{quota} {PERIOD}"))?;
    let weight = weight(resources.cpu_request_millis);
    fs::write(path.join("cpu.weight"), weight.to_string())
}

/// Microseconds of each period for a limit in thousandths of a CPU; 0 is none.
fn quota(millis: u64) -> u64 {
    match millis {
        0 => 0,
        millis => (millis * PERIOD / 1000).max(MIN_QUOTA),
    }
}

/// The weight of a request in thousandths of a CPU, as container runtimes have it: shares of cgroup v1 (1,024 a CPU, at
/// least 2) on a curve on which 2 is 1, 1,024 is 100 and 262,144 is 10,000.
fn weight(millis: u64) -> u64 {
    let shares = (millis * 1024 / 1000).clamp(2, 262_144);
    let log = (shares as f64).log2();
    let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
    10_f64.powf(exponent).ceil() as u64
}

/// Moves a process into the cgroup.
pub fn enter(id: &str, pid: i32) -> io::Result<()> {
    fs::write(path(id).join("cgroup.procs"), pid.to_string())
}

/// Kills every process in it.
pub fn kill(id: &str) {
    // Gone already is as good as killed.
    let _ = fs::write(path(id).join("cgroup.kill"), "1");
}

/// Whether the kernel killed something in it for want of memory.
pub fn was_oom_killed(id: &str) -> bool {
    number(&path(id).join("memory.events"), "oom_kill") > 0
}

/// Removes the cgroup; processes in it must have ended.
pub fn remove(id: &str) {
    // A process that is still being torn down keeps it for a moment; the VM's end removes it for certain.
    let _ = fs::remove_dir(path(id));
}

/// Resource use.
pub fn stats(id: &str, name: &str) -> ContainerStats {
    let path = path(id);
    let plain = |file: &str| {
        fs::read_to_string(path.join(file))
            .ok()
            .and_then(|text| text.trim().parse().ok())
    };
    let usage: u64 = plain("memory.current").unwrap_or(0);
    let read = |file: &str| fs::read_to_string(path.join(file)).unwrap_or_default();
    let (memory, cpu) = (read("memory.stat"), read("cpu.stat"));
    ContainerStats {
        id: id.to_owned(),
        name: name.to_owned(),
        cpu_usage_ns: after(&cpu, "usage_usec") * 1000,
        memory_working_set: usage.saturating_sub(after(&memory, "inactive_file")),
        memory_usage: usage,
        disk_used: 0,
        memory_rss: after(&memory, "anon"),
        memory_cache: after(&memory, "file"),
        page_faults: after(&memory, "pgfault"),
        major_page_faults: after(&memory, "pgmajfault"),
        cpu_periods: after(&cpu, "nr_periods"),
        cpu_throttled_periods: after(&cpu, "nr_throttled"),
        cpu_throttled_ns: after(&cpu, "throttled_usec") * 1000,
        pressures: pressures(&path, ".pressure"),
    }
}

/// For how long tasks waited for CPUs, disks and memory, in the kernel's words.
pub fn pressures(directory: &Path, ending: &str) -> Vec<String> {
    let read = |kind| fs::read_to_string(directory.join(format!("{kind}{ending}"))).unwrap_or_default();
    ["cpu", "io", "memory"].map(read).into()
}

/// The number after a word at the start of a line of a file.
fn number(file: &Path, word: &str) -> u64 {
    after(&fs::read_to_string(file).unwrap_or_default(), word)
}

fn after(text: &str, word: &str) -> u64 {
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix(word)?.strip_prefix(' '));
    value.and_then(|value| value.trim().parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotas() {
        for (millis, expected) in [(0, 0), (5, 1_000), (10, 1_000), (500, 50_000), (2_000, 200_000)] {
            assert_eq!(quota(millis), expected, "{millis}m");
        }
    }

    #[test]
    fn weights() {
        for (millis, expected) in [
            (0, 1),
            (2, 1),
            (10, 4),
            (100, 17),
            (500, 59),
            (1_000, 100),
            (1_000_000, 10_000),
        ] {
            assert_eq!(weight(millis), expected, "{millis}m");
        }
    }
}
