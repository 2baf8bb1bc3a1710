//! A network namespace of our own: made with loopback up, entered by `nsenter`, removed on drop.
//!
//! `nsenter` and not `ip netns exec`: the latter mounts a fresh `/sys`, which hides the cgroup
//! hierarchies that a host needs.

use std::fs::File;
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};

/// A named network namespace under `/run/netns`.
#[derive(Debug)]
pub struct Netns {
    name: String,
    removed: AtomicBool,
}

impl Netns {
    /// Makes the namespace and brings its loopback up. Needs root and `ip` (package iproute2).
    pub fn create(name: &str) -> Result<Self> {
        ip(&["netns", "add", name])?;
        let netns = Self {
            name: name.to_owned(),
            removed: AtomicBool::new(false),
        };
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(netns)
    }

    /// The namespace's name, as `ip netns` lists it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that stands for the namespace.
    pub fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(&self.name)
    }

    /// A command that will run inside the namespace.
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net={}", self.path().display()))
            .arg("--")
            .arg(program);
        command
    }

    /// Runs `work` on a thread of its own that has entered the namespace. Sockets made there stay there.
    pub fn run<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let path = self.path();
        let thread = std::thread::spawn(move || {
            let file = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
            setns(file.as_fd(), CloneFlags::CLONE_NEWNET).context("cannot enter the network namespace")?;
            work()
        });
        match thread.join() {
            Ok(result) => result,
            Err(_) => bail!("the thread inside the network namespace panicked"),
        }
    }

    /// Removes the namespace's name, once; the namespace itself goes with its last process. For those who share it
    /// with a thread that outlives them, such as a published port's.
    pub fn remove(&self) -> Result<()> {
        if self.removed.swap(true, Ordering::Relaxed) {
            return Ok(());
        }
        ip(&["netns", "delete", &self.name])
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if let Err(error) = self.remove() {
            eprintln!("cannot remove the network namespace {}: {error:#}", self.name);
        }
    }
}

fn ip(args: &[&str]) -> Result<()> {
    let output = Command::new("ip")
        .args(args)
        .output()
        .context("cannot run `ip`: install it with `apt-get install iproute2`")?;
    if !output.status.success() {
        bail!(
            "`ip {}` failed: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(())
}
