//! The measured server, and what `/proc` says of its processes.
//!
//! It is `podvisor up` with one simulated host on loopback, or upstream's kube-apiserver with an etcd of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use e2e::machines::{cpu_seconds, resident_kib};
use e2e::process::Process;
use http::Method;
use nix::sys::signal::Signal;

use super::client::Target;
use crate::kube_apiserver;

/// How long a start or an end may take.
const LIMIT: Duration = Duration::from_secs(120);
/// Pause between two looks at a starting server: part of the figure's error.
const LOOK: Duration = Duration::from_millis(2);
/// A server that uses no more than one tick (10 ms) above its idle use in this time is at rest.
const REST: Duration = Duration::from_millis(400);
/// How long to wait for that rest.
const REST_LIMIT: Duration = Duration::from_secs(30);

/// What to measure.
pub enum Program {
    /// This `podvisor`.
    Podvisor(PathBuf),
    /// This `kube-apiserver`, on the etcd of the path.
    Upstream(PathBuf),
}

/// A running server.
pub struct Server {
    /// All that belongs to it, in the order in which they are to end.
    processes: Vec<Process>,
    directory: PathBuf,
    /// CPU seconds that it uses a second when nobody asks for anything.
    idle: f64,
    /// How to reach it.
    pub target: Target,
    /// From the start of the first process to the first good answer of `/readyz`.
    pub ready: Duration,
}

impl Server {
    /// Starts `program` on the data in `directory` (none at first) and waits until it is ready.
    pub async fn start(program: &Program, directory: &Path) -> Result<Server> {
        let kubeconfig = directory.join("kubeconfig");
        let _ = std::fs::remove_file(&kubeconfig);
        let start = Instant::now();
        let mut processes = match program {
            Program::Podvisor(binary) => vec![podvisor(binary, directory, &kubeconfig)?],
            Program::Upstream(binary) => {
                // Nobody makes the service accounts that its admission would ask for, since no controllers run beside it.
                let flags = [
                    ("authorization-mode", "Node,RBAC"),
                    ("disable-admission-plugins", "ServiceAccount"),
                ];
                kube_apiserver::start(binary, directory, &kubeconfig, &flags).await?
            }
        };
        let (target, ready) = loop {
            match ask(&kubeconfig).await {
                Ok(target) => break (target, start.elapsed()),
                Err(error) if start.elapsed() > LIMIT => bail!("the server is not ready: {error:#}"),
                Err(_) => {
                    for process in &mut processes {
                        process.check_alive()?;
                    }
                }
            }
            tokio::time::sleep(LOOK).await;
        };
        Ok(Server {
            processes,
            directory: directory.to_path_buf(),
            idle: 0.0,
            target,
            ready,
        })
    }

    /// Ends it in order.
    pub fn stop(mut self) -> Result<PathBuf> {
        for process in &mut self.processes {
            process.stop(Signal::SIGTERM, LIMIT)?;
        }
        Ok(self.directory)
    }

    /// Ends it in order and starts it again on the same data.
    pub async fn restart(self, program: &Program) -> Result<Server> {
        let directory = self.stop()?;
        Server::start(program, &directory).await
    }

    /// Waits for so long with nothing to do, and learns what it uses then: more than that is work.
    pub async fn settle(&mut self, time: Duration) -> Result<()> {
        tokio::time::sleep(time).await;
        self.rest().await?;
        let before = self.cpu()?;
        tokio::time::sleep(time).await;
        self.idle = (self.cpu()? - before) / time.as_secs_f64();
        Ok(())
    }

    fn sum<T: std::iter::Sum>(&self, of: impl Fn(i32) -> Result<T>) -> Result<T> {
        let each = self
            .processes
            .iter()
            .map(|process| of(i32::try_from(process.id())?));
        each.sum()
    }

    /// CPU seconds so far, of all threads.
    pub fn cpu(&self) -> Result<f64> {
        self.sum(cpu_seconds)
    }

    /// Resident memory in MiB: everything that is mapped and in memory, files included.
    pub fn resident(&self) -> Result<f64> {
        Ok(self.sum(resident_kib)? as f64 / 1024.0)
    }

    /// The part of the resident memory that is not pages of files, in MiB.
    pub fn anonymous(&self) -> Result<f64> {
        let kib = self.sum(|pid| number(&format!("/proc/{pid}/status"), "RssAnon:"))?;
        Ok(kib as f64 / 1024.0)
    }

    /// MiB that it had the disk write so far.
    pub fn written(&self) -> Result<f64> {
        let bytes = self.sum(|pid| number(&format!("/proc/{pid}/io"), "write_bytes:"))?;
        Ok(bytes as f64 / f64::from(1 << 20))
    }

    /// Begins to measure.
    pub fn meter(&self) -> Result<Meter<'_>> {
        Ok(Meter {
            server: self,
            start: Instant::now(),
            cpu: self.cpu()?,
        })
    }

    /// Waits until it does no more than when it is idle: controllers have looked at what was written, too.
    pub async fn rest(&self) -> Result<()> {
        let end = Instant::now() + REST_LIMIT;
        let mut before = self.cpu()?;
        while Instant::now() < end {
            tokio::time::sleep(REST).await;
            let now = self.cpu()?;
            if now - before < 0.015 + self.idle * REST.as_secs_f64() {
                break;
            }
            before = now;
        }
        Ok(())
    }
}

/// CPU and time of a piece of work.
pub struct Meter<'s> {
    server: &'s Server,
    start: Instant,
    cpu: f64,
}

/// What a piece of work took.
pub struct Cost {
    /// Until the last answer.
    pub wall: Duration,
    /// Of the whole process until it was at rest again.
    pub cpu_seconds: f64,
}

impl Meter<'_> {
    /// The work is done: what did it take?
    pub async fn stop(self) -> Result<Cost> {
        let wall = self.start.elapsed();
        self.server.rest().await?;
        Ok(Cost {
            wall,
            cpu_seconds: self.server.cpu()? - self.cpu,
        })
    }
}

fn podvisor(binary: &Path, directory: &Path, kubeconfig: &Path) -> Result<Process> {
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let mut command = Command::new(binary);
    command.args([
        "up",
        "--simulated-hosts",
        "1",
        "--listen",
        &format!("127.0.0.1:{port}"),
    ]);
    command.arg("--data-dir").arg(directory.join("data"));
    command.arg("--run-dir").arg(directory.join("run"));
    command.arg("--kubeconfig-out").arg(kubeconfig);
    Process::start("podvisor", command, &directory.join("podvisor.log"))
}

async fn ask(kubeconfig: &Path) -> Result<Target> {
    let target = Target::of_kubeconfig(kubeconfig)?;
    let mut client = target.connect().await?;
    client.call(Method::GET, "/readyz", Bytes::new()).await?;
    Ok(target)
}

/// The first number behind `name` in a file of `/proc`.
fn number(file: &str, name: &str) -> Result<u64> {
    let text = std::fs::read_to_string(file)?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let word = line.and_then(|rest| rest.split_whitespace().next());
    Ok(word.with_context(|| format!("{file}: no {name}"))?.parse()?)
}
