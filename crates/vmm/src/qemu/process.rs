//! A QEMU process: started apart from the agent, found again by pid and start time, watched by a pidfd.

use std::fs::{self, File};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sched::CloneFlags;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
};
use tokio::io::unix::AsyncFd;

use super::cgroup::Cgroup;

/// The namespaces that QEMU has for itself.
const APART: CloneFlags = CloneFlags::CLONE_NEWNET
    .union(CloneFlags::CLONE_NEWIPC)
    .union(CloneFlags::CLONE_NEWUTS);

/// A process that cannot be mistaken for a later one of the same number.
pub(super) struct Process {
    pub pid: u32,
    /// Clock ticks since boot at its start.
    pub started: u64,
    /// Readable when it has ended.
    handle: AsyncFd<OwnedFd>,
}

/// A directory that a process is to serve.
#[derive(Debug, Clone)]
pub(super) struct Served {
    pub directory: PathBuf,
    /// Nobody writes to it by this process, whatever it may do elsewhere.
    pub read_only: bool,
}

/// Starts QEMU (or a server of its) in its cgroup, in a session of its own, with its output in a file.
pub(super) fn start(
    program: &str,
    arguments: &[String],
    log: &Path,
    cgroup: &Cgroup,
    tap: Option<&OwnedFd>,
    served: Option<Served>,
) -> io::Result<Process> {
    let log = File::create(log)?;
    let members = cgroup.member_files();
    let tap = tap.map(AsRawFd::as_raw_fd);
    let mut command = Command::new(program);
    command
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(log.try_clone()?)
        .stderr(log);
    // SAFETY: between fork and exec only plain system calls are made, on values made before the fork.
    unsafe {
        command.pre_exec(move || {
            // The cgroup first: its limits hold from the first instruction.
            for file in &members {
                fs::write(file, "0")?;
            }
            if let Some(served) = &served {
                protect(served)?;
            }
            nix::unistd::setsid()?;
            nix::sys::prctl::set_no_new_privs()?;
            // An empty network, so that a QEMU that was taken over has no way to any port of the host: the tap is an open
            // file and the sockets are paths.
            nix::sched::unshare(APART)?;
            // With huge pages a guest that touches a byte here and there holds 2 MiB for each.
            rustix::thread::disable_transparent_huge_pages(true)?;
            close_inherited();
            if let Some(tap) = tap {
                inherit(tap)?;
            }
            Ok(())
        });
    }
    let child = command.spawn()?;
    Process::open(child.id())
}

/// Closes at the exec what whoever started the agent left open in it: none of a VM's business. Kernels before 5.11 do not
/// know how; there it stays.
fn close_inherited() {
    let (first, flags) = (3, nix::libc::CLOSE_RANGE_CLOEXEC);
    // SAFETY: no descriptor is closed here, only marked; the program that the exec starts knows of none of them.
    unsafe { nix::libc::close_range(first, nix::libc::c_uint::MAX, flags.cast_signed()) };
}

/// Lets a descriptor survive the exec.
fn inherit(fd: i32) -> io::Result<()> {
    // SAFETY: the descriptor belongs to the caller of `start`, who keeps it open until the exec.
    let fd = unsafe { std::os::fd::BorrowedFd::borrow_raw(fd) };
    Ok(rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?)
}

/// Gives this process mounts of its own, in which nothing in the directory that it serves is a device, a program, or a way to
/// other rights, whatever a guest makes there.
fn protect(served: &Served) -> io::Result<()> {
    use nix::mount::{MsFlags, mount};
    nix::sched::unshare(CloneFlags::CLONE_NEWNS)?;
    let (none, directory) = (None::<&str>, &served.directory);
    // What the host takes away goes here too; nothing goes back.
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_SLAVE, none)?;
    let with_others = MsFlags::MS_BIND | MsFlags::MS_REC;
    mount(Some(directory), directory, none, with_others, none)?;
    let mut flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND;
    flags |= MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    if served.read_only {
        flags |= MsFlags::MS_RDONLY;
    }
    mount(none, directory, none, flags, none)?;
    Ok(())
}

impl Process {
    /// A running process.
    pub fn open(pid: u32) -> io::Result<Self> {
        let handle = pidfd_open(raw(pid)?, PidfdFlags::empty())?;
        let started = start_time(pid)?;
        // SAFETY: an `OwnedFd` owns its descriptor and always gives the same one, for as long as it lives.
        let handle = unsafe { AsyncFd::register_with_interest(handle, tokio::io::Interest::READABLE) }?;
        Ok(Self { pid, started, handle })
    }

    /// Whether it has ended, all its threads included; reaps it when it was a child of this process.
    pub fn has_ended(&self) -> bool {
        let handle = self.handle.get_ref();
        // `/proc` calls it a zombie as soon as its first thread has ended, while others may still hold its files.
        let mut polled = [PollFd::new(handle, PollFlags::IN)];
        let now = Timespec::default();
        if !poll(&mut polled, Some(&now)).is_ok_and(|ready| ready > 0) {
            return false;
        }
        // Not a child of ours, or reaped before: then there is nothing to do.
        let _ = waitid(
            WaitId::PidFd(handle.as_fd()),
            WaitIdOptions::EXITED | WaitIdOptions::NOHANG,
        );
        true
    }

    /// Waits for the end.
    pub async fn wait(&self) {
        while !self.has_ended() {
            match self.handle.readable().await {
                // A pidfd stays readable after the end; the check above decides.
                Ok(mut guard) if self.has_ended() => {
                    guard.retain_ready();
                    return;
                }
                Ok(mut guard) => guard.clear_ready(),
                Err(_) => return,
            }
        }
    }

    /// Sends a signal; a process that has ended takes none.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        match pidfd_send_signal(self.handle.get_ref(), signal) {
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Resident memory in bytes.
    pub fn resident_bytes(&self) -> u64 {
        let text = fs::read_to_string(format!("/proc/{}/statm", self.pid)).unwrap_or_default();
        let pages = text
            .split(' ')
            .nth(1)
            .and_then(|pages| pages.parse::<u64>().ok())
            .unwrap_or(0);
        pages * rustix::param::page_size() as u64
    }
}

fn raw(pid: u32) -> io::Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::ErrorKind::InvalidInput.into())
}

fn stat_fields(pid: u32) -> io::Result<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The name in parentheses may hold anything, spaces included.
    let rest = text.rsplit_once(')').map_or("", |(_, rest)| rest);
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

/// Field 22 of `/proc/PID/stat`.
pub(super) fn start_time(pid: u32) -> io::Result<u64> {
    let fields = stat_fields(pid)?;
    fields
        .get(19)
        .and_then(|field| field.parse().ok())
        .ok_or_else(|| io::ErrorKind::InvalidData.into())
}
