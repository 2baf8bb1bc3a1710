//! The process that answers cluster DNS: it goes on with the last names it was told when the agent dies, until the next agent
//! has started another one.
//!
//! Every byte of a question is some Pod's, so that this is a good thing to have apart anyway: the process has a user of its own, no
//! privilege, an empty root and nothing but its sockets. While it lives it holds a lock on a file that is named after
//! its number; so it is found and ended without any memory of its making.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::process::{Pid, Resource, Rlimit, Signal, kill_process, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::net::unix::pipe::Receiver;

use super::frame;
use super::server::{Resolver, Sockets};
use super::zone::Zone;
use crate::config::NetConfig;
use crate::sys;

/// What a process says when it answers.
pub(super) const READY: &str = "ready";
/// Who it is: the number before those of VMs.
const USER: u32 = 0x5055_ffff;
/// More than all places for clients and for questions to others need together.
const MAX_FILES: u64 = 2048;
/// Files by which processes are found: this and the number.
const PREFIX: &str = "dns-";

/// What a process is told first.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Settings {
    address: Ipv4Addr,
    upstream: Vec<Ipv4Addr>,
    pub state_dir: PathBuf,
}

impl Settings {
    pub fn of(config: &NetConfig) -> Self {
        Self {
            address: config.cluster_dns,
            upstream: config.upstream_dns.clone(),
            state_dir: config.state_dir.clone(),
        }
    }
}

/// Is that process: answers cluster DNS by what it reads from its standard input, for ever.
///
/// # Errors
/// Settings or names are not readable, or the address is taken.
pub fn answer() -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut pipe = Receiver::from_owned_fd(io::stdin().as_fd().try_clone_to_owned()?)?;
        let started = start(&mut pipe).await;
        let word = match &started {
            Ok(_) => READY.to_owned(),
            Err(error) => error.to_string(),
        };
        writeln!(io::stdout(), "{word}")?;
        let (resolver, sockets, _lock) = started?;
        let follow = async {
            // The agent's end is the end of the pipe; what it wrote half is not missed.
            while let Ok(zone) = frame::read(&mut pipe).await {
                resolver.set(zone);
            }
        };
        tokio::join!(resolver.serve(sockets), follow);
        Ok(())
    })
}

async fn start(pipe: &mut Receiver) -> io::Result<(std::sync::Arc<Resolver>, Sockets, File)> {
    let settings: Settings = frame::read(pipe).await?;
    let zone: std::sync::Arc<Zone> = frame::read(pipe).await?;
    let lock = File::create(settings.state_dir.join(format!("{PREFIX}{}", std::process::id())))?;
    lock.try_lock()?;
    let sockets = Sockets::bind(settings.address, true)?;
    confine(&settings.state_dir)?;
    Ok((Resolver::new(zone, settings.upstream), sockets, lock))
}

/// Gives up all that answering does not need.
fn confine(state_dir: &Path) -> io::Result<()> {
    for (resource, most) in [
        (Resource::Nofile, MAX_FILES),
        (Resource::Fsize, 0),
        (Resource::Core, 0),
    ] {
        let limit = Rlimit {
            current: Some(most),
            maximum: Some(most),
        };
        setrlimit(resource, limit)?;
    }
    let root = state_dir.join("empty");
    fs::create_dir_all(&root)?;
    std::os::unix::fs::chroot(&root)?;
    std::env::set_current_dir("/")?;
    sys::become_user(USER)?;
    rustix::thread::set_no_new_privs(true)?;
    Ok(())
}

/// The files of processes that answer, or did.
pub(crate) fn earlier(state_dir: &Path) -> io::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(state_dir)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(PREFIX) {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Whether a process that an agent has started answers.
pub(super) fn is_answered(state_dir: &Path) -> io::Result<bool> {
    let answers = |file: &PathBuf| File::open(file).is_ok_and(|file| is_held(&file));
    Ok(earlier(state_dir)?.iter().any(answers))
}

fn is_held(file: &File) -> bool {
    matches!(file.try_lock_shared(), Err(TryLockError::WouldBlock))
}

/// Ends those processes, as far as they live; what went wrong.
pub(crate) fn end_all(files: Vec<PathBuf>) -> Vec<String> {
    let end = |file: &PathBuf| {
        end(file)
            .err()
            .map(|error| format!("{}: {error}", file.display()))
    };
    files.iter().filter_map(end).collect()
}

fn end(path: &Path) -> io::Result<()> {
    let file = File::open(path)?;
    if is_held(&file) {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = name.strip_prefix(PREFIX).and_then(|number| number.parse().ok());
        let process = number.and_then(Pid::from_raw);
        kill_process(
            process.ok_or_else(|| io::Error::other("no process is named so"))?,
            Signal::KILL,
        )?;
        // Its end lets go of the lock.
        file.lock()?;
    }
    fs::remove_file(path)
}
