//! The QEMU processes of one Lab, as `/proc` shows them: who they are, what they may do, where they are confined.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// One VM's process.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Machine {
    /// The process id.
    pub pid: i32,
    /// Program and arguments, separated by blanks.
    pub command_line: String,
    /// The effective user.
    pub uid: u32,
    /// The effective capabilities, as the kernel's hexadecimal mask.
    pub capabilities: String,
    /// The cgroup of each hierarchy, without the line's number.
    pub cgroups: BTreeMap<String, PathBuf>,
    /// Resident memory in KiB.
    pub resident_kib: u64,
}

impl Machine {
    /// The memory that the VM was started with, in MiB: what it may grow to (`-m`), without what its kernel leaves out.
    pub fn memory_mib(&self) -> Option<u64> {
        let mut words = self.command_line.split(' ');
        words.find(|word| *word == "-m")?;
        let all: u64 = words.next()?.trim_end_matches('M').parse().ok()?;
        let left_out = words.find_map(|word| word.strip_prefix("memmap="));
        let sizes = left_out.into_iter().flat_map(|ranges| ranges.split(','));
        let sizes = sizes.filter_map(|range| range.split_once("M%")?.0.parse::<u64>().ok());
        Some(all - sizes.sum::<u64>())
    }

    /// A file of its cgroup on the host: the name in the v2 tree, or the one in a v1 hierarchy.
    pub fn limit(&self, v2: &str, v1: &str) -> Result<String> {
        let root = Path::new("/sys/fs/cgroup");
        let candidates = self.cgroups.iter().flat_map(|(controllers, path)| {
            let path = path.strip_prefix("/").unwrap_or(path);
            let first = controllers.split(',').next().unwrap_or_default();
            let unified = root.join(path).join(v2);
            [unified, root.join(first).join(path).join(v1)]
        });
        let file = candidates.into_iter().find(|file| file.exists());
        let file = file.with_context(|| format!("no {v2} or {v1} in {:?}", self.cgroups))?;
        Ok(fs::read_to_string(file)?.trim().to_owned())
    }

    /// Everybody in the cgroup that it has for itself on the host, itself among them.
    pub fn members(&self, parent: &str) -> Result<Vec<i32>> {
        let root = Path::new("/sys/fs/cgroup");
        let mut own = self.cgroups.iter().filter_map(|(controllers, path)| {
            let path = path.strip_prefix("/").unwrap_or(path);
            let first = controllers.split(',').next().unwrap_or_default();
            let places = [root.join(path), root.join(first).join(path)];
            let mut places = places.into_iter().map(|place| place.join("cgroup.procs"));
            path.starts_with(parent)
                .then(|| places.find(|file| file.exists()))?
        });
        let file = own.next().with_context(|| format!("no cgroup below {parent}"))?;
        let text = fs::read_to_string(file)?;
        Ok(text.lines().map(str::parse).collect::<Result<_, _>>()?)
    }

    /// The CPU seconds that the process has used so far.
    pub fn cpu_seconds(&self) -> Result<f64> {
        cpu_seconds(self.pid)
    }
}

/// The CPU seconds, user and system, of a process; `/proc/PID/stat` counts in hundredths on Linux.
pub fn cpu_seconds(pid: i32) -> Result<f64> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name may hold blanks; what follows its closing parenthesis does not.
    let rest = text.rsplit_once(')').context("no name in stat")?.1;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let ticks = |index: usize| -> Result<f64> { Ok(fields.get(index).context("a short stat")?.parse()?) };
    Ok((ticks(11)? + ticks(12)?) / 100.0)
}

/// The resident memory of a process in KiB.
pub fn resident_kib(pid: i32) -> Result<u64> {
    status_kib(pid, "VmRSS:")
}

/// The same without what is a copy of its program file: a program with debug information has tens of megabytes of that.
pub fn anonymous_kib(pid: i32) -> Result<u64> {
    status_kib(pid, "RssAnon:")
}

fn status_kib(pid: i32, name: &str) -> Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let text = field(&status, name).with_context(|| format!("no {name}"))?;
    Ok(text.split(' ').next().unwrap_or_default().parse()?)
}

/// The QEMU processes that name `run_dir` on their command line.
pub fn machines(run_dir: &Path) -> Result<Vec<Machine>> {
    let run_dir = run_dir.display().to_string();
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")?.flatten() {
        // A process may end at any moment between the listing and the reading.
        let Ok(command_line) = fs::read(entry.path().join("cmdline")) else {
            continue;
        };
        let command_line = String::from_utf8_lossy(&command_line)
            .trim_end_matches('\0')
            .replace('\0', " ");
        let program = command_line.split(' ').next().unwrap_or_default();
        if !program.contains("qemu-system") || !command_line.contains(&run_dir) {
            continue;
        }
        let Ok(status) = fs::read_to_string(entry.path().join("status")) else {
            continue;
        };
        let cgroups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
        let number = |name: &str, index: usize| -> Option<u64> {
            let text = field(&status, name)?;
            text.split_whitespace().nth(index)?.parse().ok()
        };
        // A process without memory of its own has ended and waits to be reaped.
        let (Some(pid), Some(uid), Some(resident_kib)) =
            (number("Pid:", 0), number("Uid:", 1), number("VmRSS:", 0))
        else {
            continue;
        };
        found.push(Machine {
            pid: i32::try_from(pid)?,
            uid: u32::try_from(uid)?,
            capabilities: field(&status, "CapEff:").unwrap_or_default().to_owned(),
            cgroups: cgroups.lines().filter_map(hierarchy).collect(),
            resident_kib,
            command_line,
        });
    }
    found.sort();
    Ok(found)
}

fn field<'a>(status: &'a str, name: &str) -> Option<&'a str> {
    let line = status.lines().find(|line| line.starts_with(name))?;
    Some(line[name.len()..].trim())
}

/// `4:memory:/podvisor/x` names the hierarchy and the group.
fn hierarchy(line: &str) -> Option<(String, PathBuf)> {
    let mut parts = line.splitn(3, ':').skip(1);
    Some((parts.next()?.to_owned(), PathBuf::from(parts.next()?)))
}
