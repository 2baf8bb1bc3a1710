//! The users of a Pod with `hostUsers: false`: a user namespace that all its containers share, in which 0 to 65,535 stand
//! for ids of the VM that nobody else has. Network, names and IPC belong to it too, so that whoever is root inside may do
//! with them what root may (bind low ports, with the capability for it set addresses), and nothing to the VM.
//!
//! The namespaces are kept as files, as `ip netns` keeps them; without them a Pod has the users of its VM.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{chown, lchown};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::fcntl::OFlag;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, setns, unshare};
use nix::unistd::{Gid, Uid, pipe2};
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::sys;

/// Where the namespaces are kept.
const DIRECTORY: &str = "/run/users";
/// Where file systems are mounted once more, their owners mapped.
pub const MOUNTS: &str = "/run/users/mounts";
/// How many ids there are inside.
const COUNT: u32 = 65_536;
/// The id of the VM that 0 inside stands for; once it is told, the first of the next so many.
static FIRST: AtomicU32 = AtomicU32::new(COUNT);

fn first() -> u32 {
    FIRST.load(Ordering::Relaxed)
}

fn kept(name: &str) -> PathBuf {
    Path::new(DIRECTORY).join(name)
}

/// Whether the Pod has users of its own.
pub fn separate() -> bool {
    kept("user").exists()
}

/// Makes the namespaces, moves a network device into them, and the agent itself into all but that of the users: what it
/// asks and serves in the Pod's name is asked and served there. `first`: the id that 0 stands for.
pub fn make(device: Option<&str>, first: u32) -> io::Result<()> {
    FIRST.store(first.max(COUNT), Ordering::Relaxed);
    fs::create_dir_all(DIRECTORY)?;
    let (wait, go) = pipe2(OFlag::O_CLOEXEC)?;
    let flags = libc::CLONE_NEWUSER | libc::CLONE_NEWNET | libc::CLONE_NEWUTS | libc::CLONE_NEWIPC;
    // SAFETY: the agent has one thread (see `main`).
    let pid = unsafe { sys::fork_with(flags) }?;
    if pid == 0 {
        drop(go);
        // Until the agent closes its end: the namespaces live on by their files.
        let _ = File::from(wait).read(&mut [0]);
        sys::exit_child(0);
    }
    for map in ["uid_map", "gid_map"] {
        fs::write(
            format!("/proc/{pid}/{map}"),
            format!("0 {} {COUNT}\n", self::first()),
        )?;
    }
    if let Some(device) = device {
        let index = fs::read_to_string(format!("/sys/class/net/{device}/ifindex"))?;
        let index = index.trim().parse().map_err(io::Error::other)?;
        sys::move_interface(index, File::open(format!("/proc/{pid}/ns/net"))?.as_fd())?;
    }
    for (name, flag) in [
        ("net", CloneFlags::CLONE_NEWNET),
        ("uts", CloneFlags::CLONE_NEWUTS),
        ("ipc", CloneFlags::CLONE_NEWIPC),
    ] {
        setns(File::open(format!("/proc/{pid}/ns/{name}"))?, flag)?;
    }
    let file = kept("user");
    File::create(&file)?;
    let source = format!("/proc/{pid}/ns/user");
    let bound = mount(
        Some(source.as_str()),
        &file,
        None::<&str>,
        MsFlags::MS_BIND,
        None::<&str>,
    );
    if bound.is_err() {
        // An empty file would look like a namespace.
        let _ = fs::remove_file(&file);
    }
    drop(go);
    Ok(bound?)
}

/// The namespace, opened for a process that is about to be made.
pub fn open() -> io::Result<Option<File>> {
    match separate() {
        true => File::open(kept("user")).map(Some),
        false => Ok(None),
    }
}

/// In a child, all mounts in place: becomes root of the namespace. The first process of a container (`owns_mounts`) has
/// its mounts in a namespace of these users too: it may add mounts, if it has the capability, and not take away any.
pub fn enter(namespace: &File, owns_mounts: bool) -> io::Result<()> {
    setns(namespace.as_fd(), CloneFlags::CLONE_NEWUSER)?;
    nix::unistd::setgroups(&[])?;
    let (user, group) = (Uid::from_raw(0), Gid::from_raw(0));
    nix::unistd::setresgid(group, group, group)?;
    nix::unistd::setresuid(user, user, user)?;
    if owns_mounts {
        unshare(CloneFlags::CLONE_NEWNS)?;
    }
    Ok(())
}

/// What a user or group of the Pod is in the VM.
pub fn outside(id: u32) -> u32 {
    if separate() {
        id.saturating_add(first())
    } else {
        id
    }
}

/// Gives what the agent made to the Pod's root.
pub fn give(path: &Path) -> io::Result<()> {
    match separate() {
        true => chown(path, Some(first()), Some(first())),
        false => Ok(()),
    }
}

/// Gives a symbolic link, not what it leads to.
pub fn give_link(path: &Path) -> io::Result<()> {
    match separate() {
        true => lchown(path, Some(first()), Some(first())),
        false => Ok(()),
    }
}

/// The same files with their owners mapped: what belongs to 0 on the disk belongs to the Pod's root. `name` tells it
/// from others.
pub fn mapped(source: PathBuf, name: &str) -> io::Result<PathBuf> {
    let Some(namespace) = open()? else {
        return Ok(source);
    };
    let target = Path::new(MOUNTS).join(name);
    if target.is_dir() {
        return Ok(target);
    }
    let words = |error: io::Error| {
        let text = match error.raw_os_error() {
            Some(libc::EINVAL) => "its file system does not support idmap mounts".to_owned(),
            _ => error.to_string(),
        };
        io::Error::new(
            error.kind(),
            format!("failed to set MOUNT_ATTR_IDMAP on {}: {text}", source.display()),
        )
    };
    let tree: OwnedFd = open_tree(
        rustix::fs::CWD,
        &source,
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC,
    )?;
    sys::map_users(tree.as_fd(), namespace.as_fd()).map_err(words)?;
    fs::create_dir_all(&target)?;
    let moved = move_mount(
        &tree,
        "",
        rustix::fs::CWD,
        &target,
        MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
    );
    if moved.is_err() {
        let _ = fs::remove_dir(&target);
    }
    moved?;
    Ok(target)
}
