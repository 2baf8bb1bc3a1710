//! A Supervisor whose disk is full or read-only: it says so, and goes on when there is room again.

use std::fs::{self, File};
use std::io::Write;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::process::{Process, own_address};
use e2e::{paths, wait_for};
use nix::sys::signal::Signal;

const LIMIT: Duration = Duration::from_secs(120);

/// A small file system, gone when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Result<Disk> {
        let disk = Disk(tempfile::Builder::new().prefix("podvisor-disk-").tempdir()?);
        disk.mount(&["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])?;
        Ok(disk)
    }

    fn mount(&self, arguments: &[&str]) -> Result<()> {
        let done = Command::new("mount")
            .args(arguments)
            .arg(self.0.path())
            .status()?;
        ensure!(done.success(), "mount {arguments:?}: {done}");
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.0.path()).status();
    }
}

/// A Supervisor with a simulated host on loopback, its data on the disk, the rest beside it.
struct Supervisor {
    process: Process,
    kubeconfig: String,
}

fn start(data: &Path, beside: &Path) -> Result<Supervisor> {
    let kubeconfig = beside.join("kubeconfig").display().to_string();
    let mut command = Command::new(paths::podvisor());
    command
        .args([
            "up",
            "--simulated-hosts",
            "1",
            "--listen",
            &format!("{}:6443", own_address()),
        ])
        .args(["--kubeconfig-out", &kubeconfig])
        .arg("--data-dir")
        .arg(data)
        .arg("--run-dir")
        .arg(beside.join("run"));
    let process = Process::start("podvisor up", command, &beside.join("log"))?;
    Ok(Supervisor { process, kubeconfig })
}

impl Supervisor {
    fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        let path = std::env::var("PATH").unwrap_or_default();
        let output = Command::new("kubectl")
            .args(arguments)
            .env("KUBECONFIG", &self.kubeconfig)
            .env("PATH", format!("{path}:{}", paths::tools().display()))
            .output()
            .map_err(|e| e.to_string())?;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        match output.status.success() {
            true => Ok(text(&output.stdout)),
            false => Err(text(&output.stderr)),
        }
    }

    fn ready(&mut self) -> Result<()> {
        wait_for("a ready Supervisor", LIMIT, || {
            self.process.check_alive()?;
            self.kubectl(&["get", "--raw", "/readyz"])
                .map(drop)
                .map_err(anyhow::Error::msg)
        })
    }
}

#[test]
fn a_full_disk_is_told_and_survived() -> Result<()> {
    let disk = Disk::new("40m")?;
    let beside = tempfile::tempdir()?;
    let data = disk.0.path().join("data");
    let mut supervisor = start(&data, beside.path())?;
    supervisor.ready()?;
    let big = beside.path().join("big");
    fs::write(&big, "x".repeat(900_000))?;
    let from = format!("--from-file={}", big.display());
    let mut answered = Vec::new();
    let make = |name: &str| supervisor.kubectl(&["create", "configmap", name, &from]);
    make("before").map_err(|why| anyhow::anyhow!("{why}\n{}", supervisor.process.log_tail()))?;
    answered.push("before".to_owned());
    let ballast = disk.0.path().join("ballast");
    let mut file = File::create(&ballast)?;
    while file.write_all(&[0; 65_536]).is_ok() {}
    // Until the room inside the store's file is used up, too.
    let mut refusal = String::new();
    for number in 0..60 {
        let name = format!("map-{number}");
        match make(&name) {
            Ok(_) => answered.push(name),
            Err(why) => {
                refusal = why;
                break;
            }
        }
    }
    ensure!(
        refusal.contains("No space left on device"),
        "refused by: {refusal}\n{}",
        supervisor.process.log_tail()
    );
    for (path, says) in [
        ("/readyz?verbose", "[-]etcd failed"),
        ("/readyz/etcd", "No space left on device"),
    ] {
        let sick = wait_for("/readyz to say that it is not", LIMIT, || {
            match supervisor.kubectl(&["get", "--raw", path]) {
                Ok(text) => Err(anyhow::anyhow!("{text}")),
                Err(text) => Ok(text),
            }
        })?;
        ensure!(sick.contains(says), "{path}: {sick}");
    }
    drop(file);
    fs::remove_file(&ballast)?;
    supervisor.ready()?;
    supervisor
        .kubectl(&["create", "configmap", "after"])
        .map_err(anyhow::Error::msg)?;
    answered.push("after".to_owned());
    let check = |supervisor: &Supervisor| -> Result<()> {
        let names = supervisor
            .kubectl(&["get", "configmaps", "-o", "name"])
            .map_err(anyhow::Error::msg)?;
        for name in &answered {
            ensure!(
                names.contains(&format!("configmap/{name}\n")),
                "{name} is lost: {names}"
            );
        }
        Ok(())
    };
    check(&supervisor)?;
    supervisor.process.stop(Signal::SIGTERM, LIMIT)?;

    // A read-only disk is no place for a Supervisor, and it says so at once.
    disk.mount(&["-o", "remount,ro"])?;
    let mut refused = start(&data, beside.path())?;
    let status = refused.process.wait(LIMIT)?;
    let log = refused.process.log_tail();
    let last = log.lines().last().context("no word")?;
    ensure!(
        !status.success() && last.contains("Read-only file system") && last.contains("--data-dir"),
        "{log}"
    );
    disk.mount(&["-o", "remount,rw"])?;
    let mut supervisor = start(&data, beside.path())?;
    supervisor.ready()?;
    check(&supervisor)?;
    supervisor.process.stop(Signal::SIGTERM, LIMIT)?;
    Ok(())
}
