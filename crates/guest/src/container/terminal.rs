//! Pseudo-terminals out of a container's own devpts, so that `tty` names one and job control works.
//!
//! The agent opens the master by the container's root; the process gets the slave as `/dev/pts/N` of its own mounts.
//! What a container may have put in the place of `ptmx` is never followed out of its root, and is looked at before use.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::mount::{MsFlags, mount};
use rustix::fs::OFlags;

use crate::files::open_in;
use crate::sys;

/// `DEVPTS_SUPER_MAGIC`.
const DEVPTS: u64 = 0x1cd1;

/// A new terminal of the container whose process this is: master and number.
pub fn open(pid: i32) -> io::Result<(OwnedFd, u32)> {
    let root = PathBuf::from(format!("/proc/{pid}/root"));
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::NOFOLLOW;
    let annotate =
        |error: io::Error| io::Error::new(error.kind(), format!("/dev/pts/ptmx of the container: {error}"));
    let master = open_in(&root, Path::new("/dev/pts/ptmx"), flags).map_err(annotate)?;
    let kind = rustix::fs::fstatfs(&master)?.f_type;
    if u64::try_from(kind).unwrap_or(0) != DEVPTS {
        return Err(annotate(io::Error::other("it is no terminal multiplexer")));
    }
    sys::unlock_terminal(master.as_fd())?;
    let number = sys::terminal_number(master.as_fd())?;
    Ok((master, number))
}

/// The other end of a terminal, wherever its devpts is mounted.
pub fn peer(master: &OwnedFd) -> io::Result<OwnedFd> {
    sys::terminal_peer(master.as_fd())
}

/// In the first process of a container, its root in place: the slave of this number, which `/dev/console` shows too.
pub fn first(number: u32) -> io::Result<OwnedFd> {
    let path = format!("/dev/pts/{number}");
    let slave = rustix::fs::open(
        path.as_str(),
        OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC,
        rustix::fs::Mode::empty(),
    )?;
    let console = Path::new("/dev/console");
    drop(File::options().create(true).append(true).open(console)?);
    mount(
        Some(path.as_str()),
        console,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    )?;
    Ok(slave)
}
