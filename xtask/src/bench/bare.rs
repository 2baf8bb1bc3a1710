//! A Pod's VM booted by QEMU alone, as the baseline for what Kubernetes, host agent and guest agent add.
//!
//! The command line is that of a running Pod VM, without its disks, its network and its confinement; the boot is over
//! when the guest agent answers on its channel.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use e2e::machines::{cpu_seconds, resident_kib};
use e2e::process::Process;
use e2e::{Machine, wait_for};

/// How long a boot may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);
/// What begins a session on the channel; the guest sends the same sixteen bytes back (see `guest_api::session`).
const HELLO: &[u8; 16] = b"\x00PVSESS\xffbaseline";
/// Options, each with one value, that say what machine it is; all others are left out.
const KEPT: &[&str] = &[
    "-machine", "-accel", "-cpu", "-smp", "-m", "-kernel", "-initrd", "-append",
];

/// What one boot cost.
pub struct Boot {
    pub wall: Duration,
    pub cpu_seconds: f64,
    pub resident_mib: f64,
}

/// Boots the VM of `machine` again in `directory`, waits for its agent, and ends it.
pub fn boot(machine: &Machine, directory: &Path) -> Result<Boot> {
    let arguments = fs::read(format!("/proc/{}/cmdline", machine.pid))?;
    let words: Vec<String> = arguments
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let program = words.first().context("an empty command line")?;
    let socket = directory.join("bare-channel.sock");
    let mut command = Command::new(program);
    command.args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"]);
    for pair in words.windows(2).filter(|pair| KEPT.contains(&pair[0].as_str())) {
        command.args(pair);
    }
    let channel = format!("socket,id=channel,path={},server=on,wait=off", socket.display());
    command.args(["-device", "virtio-serial-device", "-chardev", &channel]);
    command.args(["-device", "virtserialport,chardev=channel,name=podvisor"]);
    command.args(["-chardev", "null,id=console", "-serial", "chardev:console"]);

    let start = Instant::now();
    let mut process = Process::start("bare QEMU", command, &directory.join("bare.log"))?;
    let mut stream = wait_for("QEMU's channel", LIMIT, || {
        process.check_alive()?;
        Ok(UnixStream::connect(&socket)?)
    })?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.write_all(HELLO)?;
    let mut answer = [0; HELLO.len()];
    stream
        .read_exact(&mut answer)
        .with_context(|| format!("no answer of the guest agent: {}", process.log_tail()))?;
    let wall = start.elapsed();
    if answer != *HELLO {
        bail!("the guest agent answered {answer:?}");
    }
    let pid = i32::try_from(process.id())?;
    let boot = Boot {
        wall,
        cpu_seconds: cpu_seconds(pid)?,
        resident_mib: resident_kib(pid)? as f64 / 1024.0,
    };
    process.stop(nix::sys::signal::Signal::SIGKILL, LIMIT)?;
    fs::remove_file(&socket)?;
    Ok(boot)
}
