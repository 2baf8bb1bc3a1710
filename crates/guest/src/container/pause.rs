//! The first process of a namespace that all containers of a Pod share (`shareProcessNamespace`).
//!
//! It takes in the orphans of all of them, and is what a container sees as process 1: nobody, with no capability, in an
//! empty root. The agent starts itself a second time under this name, since the initramfs holds no other program.

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::{Gid, Pid, Uid, pipe2};

use super::{process, rootfs};
use crate::sys;

/// Its name, by which the program knows what it is to be.
pub const NAME: &str = "/pause";
/// User and group, those of upstream's image.
const NOBODY: u32 = 65535;
/// The empty root is mounted over this directory, where only the process itself sees it.
const PLACE: &str = "/run";

/// Starts it; answers its number.
pub fn start() -> io::Result<i32> {
    let program = File::open("/proc/self/exe")?;
    let (report_read, report_write) = pipe2(OFlag::O_CLOEXEC)?;
    // SAFETY: the agent has one thread (see `main`).
    let pid = unsafe { sys::fork_with(libc::CLONE_NEWPID | libc::CLONE_NEWNS) }?;
    if pid == 0 {
        process::fail(report_write, become_it(&program));
    }
    drop(report_write);
    match process::report(report_read) {
        Some(error) => Err(io::Error::new(error.kind(), format!("{NAME}: {error}"))),
        None => Ok(pid),
    }
}

/// Whether others can still be born into its namespace.
pub fn is_alive(pid: i32) -> bool {
    std::fs::read_link(format!("/proc/{pid}/ns/pid")).is_ok()
}

/// Returns only on failure.
fn become_it(program: &File) -> io::Result<()> {
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)?;
    mount(
        Some("none"),
        PLACE,
        Some("tmpfs"),
        flags,
        Some("size=4k,mode=555"),
    )?;
    rootfs::change_root(PLACE.as_ref())?;
    nix::unistd::setsid()?;
    nix::unistd::setgroups(&[])?;
    nix::unistd::setgid(Gid::from_raw(NOBODY))?;
    // Whoever leaves user 0 leaves its capabilities, too.
    nix::unistd::setuid(Uid::from_raw(NOBODY))?;
    let name = CString::new(NAME)?;
    let none: [CString; 0] = [];
    nix::unistd::execveat(
        program.as_fd(),
        c"",
        std::slice::from_ref(&name),
        &none,
        nix::fcntl::AtFlags::AT_EMPTY_PATH,
    )?;
    Ok(())
}

/// Whether this process was started as it.
pub fn is_wanted() -> bool {
    std::env::args_os().next().is_some_and(|name| name == NAME)
}

/// Waits for orphans, for ever: the namespace and everything in it end with this process.
pub fn run() -> io::Error {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    let wait = || -> io::Result<()> {
        nix::sys::prctl::set_name(c"pause")?;
        children.thread_block()?;
        loop {
            while waitpid(None::<Pid>, Some(WaitPidFlag::WNOHANG))
                .is_ok_and(|status| status != WaitStatus::StillAlive)
            {}
            children.wait()?;
        }
    };
    match wait() {
        Err(error) => error,
        Ok(()) => io::Error::other("an end that there is not"),
    }
}
