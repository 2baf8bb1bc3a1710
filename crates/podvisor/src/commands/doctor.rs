//! `podvisor doctor`: what a host needs, whether it is here, and the cure for each thing that is not.
//!
//! A check is a value: a name and a function that returns what it found or the cure. `up` makes the same checks
//! through the drivers themselves; this page shows them all at once, before anything is started.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::config::{Config, UpArguments};

/// Arguments of `podvisor doctor`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Kernel and initramfs of Pod VMs, where `up` would look for them by default.
    #[arg(long, env = "PODVISOR_GUEST_BUNDLE", value_name = "DIR")]
    guest_bundle: Option<PathBuf>,
    /// The data directory that `up` would use.
    #[arg(long, env = "PODVISOR_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// What a check found.
enum Finding {
    /// It is there; a word about it.
    Good(String),
    /// It works without, at a price that the text names.
    Worse(String),
    /// It is missing; the text is the cure.
    Missing(String),
}

/// Prints every check; fails when something is missing.
pub fn run(arguments: &Arguments) -> Result<()> {
    let mut up = UpArguments {
        guest_bundle: arguments.guest_bundle.clone(),
        ..UpArguments::default()
    };
    up.places.data_dir.clone_from(&arguments.data_dir);
    let config = Config::resolve(&up)?;
    let checks = [
        ("root", root()),
        (
            "QEMU",
            program(
                "qemu-system-x86_64",
                "--version",
                "apt-get install qemu-system-x86",
            ),
        ),
        (
            "nftables",
            program("nft", "--version", "apt-get install nftables"),
        ),
        ("routes", program("ip", "-V", "apt-get install iproute2")),
        (
            "flow table",
            program("conntrack", "--version", "apt-get install conntrack"),
        ),
        (
            "EROFS tools",
            program("mkfs.erofs", "--version", "apt-get install erofs-utils"),
        ),
        (
            "ext4 tools",
            program("mkfs.ext4", "-V", "apt-get install e2fsprogs"),
        ),
        ("shared directories", virtiofsd()),
        (
            "tap devices",
            device("/dev/net/tun", "load the kernel module: modprobe tun"),
        ),
        ("guest bundle", bundle(&config.guest_bundle)),
        ("cgroups", cgroups()),
        ("accelerator", accelerator()),
        ("data directory", data_directory(&config.data_dir)),
    ];
    let mut missing = 0;
    for (name, finding) in checks {
        let (mark, text) = match finding {
            Finding::Good(text) => ("ok", text),
            Finding::Worse(text) => ("warning", text),
            Finding::Missing(text) => {
                missing += 1;
                ("MISSING", text)
            }
        };
        println!("{mark:<8} {name:<15} {text}");
    }
    if missing > 0 {
        bail!("{missing} thing(s) missing; each line above names its cure");
    }
    Ok(())
}

fn root() -> Finding {
    if rustix::process::geteuid().is_root() {
        Finding::Good("running as root".to_owned())
    } else {
        Finding::Missing("a host needs root for taps, routes and cgroups: run with sudo".to_owned())
    }
}

fn program(name: &str, version: &str, cure: &str) -> Finding {
    match Command::new(name).arg(version).output() {
        Ok(output) => {
            let text = if output.stdout.is_empty() {
                output.stderr
            } else {
                output.stdout
            };
            let text = String::from_utf8_lossy(&text);
            Finding::Good(text.lines().next().unwrap_or(name).trim().to_owned())
        }
        Err(error) => Finding::Missing(format!("{name}: {error}: {cure}")),
    }
}

fn virtiofsd() -> Finding {
    match vmm::qemu::virtiofsd() {
        Some(path) => Finding::Good(path.to_owned()),
        None => Finding::Worse(
            "virtiofsd is not installed: Pods with a hostPath or a ReadWriteMany volume cannot start: apt-get install \
             qemu-system-common, or virtiofsd"
                .to_owned(),
        ),
    }
}

fn device(path: &str, cure: &str) -> Finding {
    match fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => Finding::Good(path.to_owned()),
        Err(error) => Finding::Missing(format!("{path}: {error}: {cure}")),
    }
}

fn bundle(path: &Path) -> Finding {
    let parts = ["bundle.json", "vmlinux", "initramfs.cpio"];
    match parts.iter().find(|part| !path.join(part).exists()) {
        None => Finding::Good(path.display().to_string()),
        Some(part) => Finding::Missing(format!(
            "{} has no {part}: build it with `cargo xtask build`, or name it with --guest-bundle DIR",
            path.display()
        )),
    }
}

fn cgroups() -> Finding {
    let root = Path::new("/sys/fs/cgroup");
    let v2 = fs::read_to_string(root.join("cgroup.controllers")).unwrap_or_default();
    if v2.split_whitespace().any(|controller| controller == "memory") {
        Finding::Good("version 2".to_owned())
    } else if root.join("memory").is_dir() && root.join("cpu").exists() {
        Finding::Good("version 1".to_owned())
    } else {
        Finding::Missing("no memory controller: mount cgroup2 on /sys/fs/cgroup".to_owned())
    }
}

fn accelerator() -> Finding {
    let modules = ["kvm_intel", "kvm_amd"];
    let backed = modules
        .iter()
        .any(|module| Path::new("/sys/module").join(module).exists());
    let usable = fs::OpenOptions::new().read(true).write(true).open("/dev/kvm");
    match (backed, usable) {
        (true, Ok(_)) => Finding::Good("KVM".to_owned()),
        (true, Err(error)) => Finding::Worse(format!(
            "/dev/kvm: {error}; Pods will run under TCG: slow, and no security boundary"
        )),
        (false, _) => Finding::Worse(
            "no hardware KVM (neither kvm_intel nor kvm_amd is loaded); Pods will run under TCG: slow, and no \
             security boundary"
                .to_owned(),
        ),
    }
}

fn data_directory(path: &Path) -> Finding {
    let existing = path.ancestors().find(|ancestor| ancestor.exists());
    match existing.map(|existing| {
        (
            existing,
            rustix::fs::access(existing, rustix::fs::Access::WRITE_OK),
        )
    }) {
        Some((_, Ok(()))) => Finding::Good(path.display().to_string()),
        Some((existing, Err(error))) => Finding::Missing(format!(
            "{} cannot be written: {error}: choose another with --data-dir",
            existing.display()
        )),
        None => Finding::Missing(format!(
            "{}: no such path: choose another with --data-dir",
            path.display()
        )),
    }
}
