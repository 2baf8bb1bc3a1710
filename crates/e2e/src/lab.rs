//! The Lab itself: namespace, registry, `podvisor up`, and a `kubectl` that is ready to use.
//!
//! ```text
//! Lab::start ── Netns ── docker-registry on 127.0.0.1:5000 (inside)
//!                    └── podvisor up      on 127.0.0.1:6443 (inside), KUBECONFIG in the Lab's directory
//! ```
//! `stop` runs `podvisor down`, as a user would; dropping the Lab does the same and reports to stderr.

use std::env;
use std::ffi::OsStr;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::heir::Heir;
use crate::machines::{Machine, machines};
use crate::netns::Netns;
use crate::process::Process;
use crate::wait::wait_for;
use crate::{paths, publish, traces::Traces};

/// Where the registry listens inside the Lab.
pub const REGISTRY: &str = "127.0.0.1:5000";
/// Where the API server listens inside the Lab.
pub const API: &str = "127.0.0.1:6443";
/// Where `kubectl proxy` listens inside the Lab.
const PROXY_PORT: &str = "8001";
/// The addresses that LoadBalancer Services get. TEST-NET-2 (RFC 5737): nobody's.
pub const VIP_POOL: &str = "198.51.100.0/24";
/// The administrator's sign-in inside the Lab.
pub const ADMIN_USER: &str = "administrator@podvisor.local";

/// How long a Supervisor may take to become ready, on a busy machine.
const READY_LIMIT: Duration = Duration::from_secs(120);
/// How long `podvisor up` may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Makes names of Labs in one process differ.
static COUNTER: AtomicU32 = AtomicU32::new(0);

/// What a Lab shall be.
#[derive(Debug, Clone, Default)]
pub struct LabOptions {
    /// Run this many simulated hosts and no VM at all.
    pub simulated_hosts: Option<u32>,
    /// Start no registry (images cannot be pulled then).
    pub no_registry: bool,
    /// Pull images of this registry alone from the Lab's; by default those of all.
    pub registry_mirror_of: Option<String>,
    /// Run an etcd cluster of so many members, and keep the objects there.
    pub etcd_members: usize,
    /// More arguments for `podvisor up`.
    pub arguments: Vec<String>,
    /// The binary; by default [`paths::podvisor`].
    pub podvisor: Option<PathBuf>,
}

/// A running Lab.
#[derive(Debug)]
pub struct Lab {
    // Fields drop in this order: first the processes, then the namespace, last the files.
    supervisor: Option<Process>,
    etcd: Vec<Process>,
    registry: Option<Process>,
    proxy: OnceLock<Process>,
    netns: Arc<Netns>,
    name: String,
    podvisor: PathBuf,
    options: LabOptions,
    removed: bool,
    heir: Option<Heir>,
    directory: TempDir,
}

impl Lab {
    /// Makes the namespace, starts what is in it and waits until the API server is ready.
    pub fn start(options: LabOptions) -> Result<Self> {
        let podvisor = options.podvisor.clone().unwrap_or_else(paths::podvisor);
        if !podvisor.exists() {
            bail!("{} is not built: run `cargo xtask build`", podvisor.display());
        }
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let name = format!("lab-{}-{number}", std::process::id());
        let directory = tempfile::Builder::new().prefix("podvisor-lab-").tempdir()?;
        let netns = Arc::new(Netns::create(&format!("podvisor-{name}"))?);
        fs::write(directory.path().join("admin-password"), random_password()?)?;
        let mut lab = Self {
            supervisor: None,
            etcd: Vec::new(),
            registry: None,
            proxy: OnceLock::new(),
            netns,
            name,
            podvisor,
            options,
            removed: false,
            heir: None,
            directory,
        };
        lab.heir = Some(Heir::start(&lab)?);
        lab.link_programs()?;
        if !lab.options.no_registry {
            lab.start_registry()?;
        }
        lab.start_etcd()?;
        lab.start_supervisor()?;
        Ok(lab)
    }

    /// The Lab's directory: kubeconfig, passwords, logs and data.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.directory.path().join("kubeconfig")
    }

    /// The Supervisor's data directory.
    pub fn data_dir(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// Where running VMs keep their sockets and state.
    pub fn run_dir(&self) -> PathBuf {
        self.directory.path().join("run")
    }

    /// The cgroup under which all VMs of this Lab live.
    pub fn cgroup_parent(&self) -> String {
        format!("podvisor/{}", self.name)
    }

    /// The namespace.
    pub fn netns(&self) -> &Arc<Netns> {
        &self.netns
    }

    /// The binary under test.
    pub fn podvisor(&self) -> &Path {
        &self.podvisor
    }

    /// The administrator's password.
    pub fn admin_password(&self) -> Result<String> {
        Ok(fs::read_to_string(self.directory.path().join("admin-password"))?
            .trim()
            .to_owned())
    }

    /// The process id of `podvisor up`.
    pub fn supervisor_id(&self) -> Option<u32> {
        self.supervisor.as_ref().map(Process::id)
    }

    /// The process that answers cluster DNS.
    pub fn dns_process(&self) -> Result<i32> {
        let mut found = Vec::new();
        for entry in fs::read_dir(self.run_dir().join("network"))? {
            let name = entry?.file_name().to_string_lossy().into_owned();
            let number = name.strip_prefix("dns-").map(str::parse::<i32>).transpose()?;
            found.extend(number);
        }
        match found.as_slice() {
            [one] => Ok(*one),
            other => bail!("cluster DNS is answered by {other:?}"),
        }
    }

    /// The end of the Supervisor's log.
    pub fn log_tail(&self) -> String {
        self.supervisor
            .as_ref()
            .map(Process::log_tail)
            .unwrap_or_default()
    }

    /// The whole log of the Supervisor.
    pub fn log(&self) -> Result<String> {
        Ok(fs::read_to_string(self.directory.path().join("podvisor.log"))?)
    }

    /// A command inside the Lab with `KUBECONFIG` set and the project's tools on the path.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.netns.command(program);
        let path = env::var_os("PATH").unwrap_or_default();
        // The binary under its own name and under the names by which kubectl finds it.
        let mut entries = vec![self.directory.path().join("bin")];
        entries.extend(env::split_paths(&path));
        entries.push(paths::tools());
        if let Ok(joined) = env::join_paths(entries) {
            command.env("PATH", joined);
        }
        command.env("KUBECONFIG", self.kubeconfig());
        command.envs(self.places());
        command
    }

    /// Where this Lab's `podvisor` has its things, as it takes them from the environment.
    pub fn places(&self) -> [(&'static str, PathBuf); 3] {
        [
            ("PODVISOR_DATA_DIR", self.data_dir()),
            ("PODVISOR_RUN_DIR", self.run_dir()),
            ("PODVISOR_CGROUP_PARENT", self.cgroup_parent().into()),
        ]
    }

    /// Runs a program inside the Lab and returns its standard output; fails with both outputs otherwise.
    pub fn run(&self, program: &str, arguments: &[&str]) -> Result<String> {
        let output = self.output(program, arguments)?;
        if !output.status.success() {
            bail!(
                "`{program} {}` ended with {}:\n{}{}",
                arguments.join(" "),
                output.status,
                String::from_utf8_lossy(&output.stdout),
                String::from_utf8_lossy(&output.stderr)
            );
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// Runs a program inside the Lab, whatever its exit status.
    pub fn output(&self, program: &str, arguments: &[&str]) -> Result<Output> {
        self.command(program)
            .args(arguments)
            .output()
            .with_context(|| format!("cannot run {program}"))
    }

    /// `kubectl` as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.run("kubectl", arguments)
    }

    /// The answer to a GET of this path as the administrator. For questions that are asked again and again: `kubectl` costs
    /// as much as the VMs that it waits for.
    pub fn get(&self, path: &str) -> Result<Value> {
        if self.proxy.get().is_none() {
            let mut command = self.command("kubectl");
            command.args(["proxy", "--port", PROXY_PORT]);
            let log = self.directory.path().join("proxy.log");
            // Another thread may have been faster; then this one ends here.
            let _ = self.proxy.set(Process::start("kubectl proxy", command, &log)?);
        }
        let url = format!("http://127.0.0.1:{PROXY_PORT}{path}");
        let retry = ["--retry", "5", "--retry-connrefused", "--retry-delay", "1"];
        let text = self.run(
            "curl",
            &[&["-sSf", "--max-time", "20", &url][..], &retry].concat(),
        )?;
        Ok(serde_json::from_str(&text)?)
    }

    /// `kubectl` that must fail; returns what it wrote to stderr.
    pub fn kubectl_refused(&self, arguments: &[&str]) -> Result<String> {
        let output = self.output("kubectl", arguments)?;
        if output.status.success() {
            bail!("`kubectl {}` was expected to fail", arguments.join(" "));
        }
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }

    /// `kubectl apply -f -` of a manifest.
    pub fn apply(&self, manifest: &str) -> Result<String> {
        let file = self.directory.path().join("apply.yaml");
        fs::write(&file, manifest)?;
        self.kubectl(&["apply", "-f", &file.display().to_string()])
    }

    /// Opens a loopback port of the machine onto `to` inside the Lab.
    pub fn publish(&self, port: u16, to: SocketAddr) -> Result<u16> {
        publish::publish(Arc::clone(&self.netns), port, to)
    }

    /// What Podvisor has on the machine now, for a comparison before and after.
    pub fn traces(&self) -> Result<Traces> {
        Traces::read(self)
    }

    /// Likewise, for the side before: a program of the agent's that has ended just now, and that it has not waited for yet,
    /// is nothing that may be there afterwards, too.
    pub fn untouched(&self) -> Result<Traces> {
        let mut traces = self.traces()?;
        traces.ended.clear();
        Ok(traces)
    }

    /// The QEMU processes of this Lab.
    pub fn machines(&self) -> Result<Vec<Machine>> {
        machines(&self.run_dir())
    }

    /// `podvisor` inside the Lab.
    pub fn run_podvisor(&self, arguments: &[&str]) -> Result<String> {
        self.run("podvisor", arguments)
    }

    /// Ends `podvisor up` as a power cut of the process would; VMs go on.
    pub fn kill_supervisor(&mut self) -> Result<()> {
        if let Some(mut supervisor) = self.supervisor.take() {
            supervisor.stop(Signal::SIGKILL, STOP_LIMIT)?;
        }
        Ok(())
    }

    /// Ends `podvisor up` in order; VMs go on.
    pub fn stop_supervisor(&mut self) -> Result<()> {
        if let Some(mut supervisor) = self.supervisor.take() {
            supervisor
                .stop(Signal::SIGTERM, STOP_LIMIT)
                .with_context(|| supervisor.log_tail())?;
        }
        Ok(())
    }

    /// Starts `podvisor up` (again, on the same data directory) and waits until it is ready.
    pub fn start_supervisor(&mut self) -> Result<()> {
        // As times of Leases are written, so that they compare as words.
        let begun = self.run("date", &["--utc", "+%Y-%m-%dT%H:%M:%S.%6NZ"])?;
        let mut command = self.command(&self.podvisor);
        command.arg("up").args(self.up_arguments());
        let mut process = Process::start(
            "podvisor up",
            command,
            &self.directory.path().join("podvisor.log"),
        )?;
        let ready = wait_for("a ready Supervisor", READY_LIMIT, || {
            // A dead process will not become ready: say so at once, with its own words.
            if let Err(error) = process.check_alive() {
                return Ok(Err(error));
            }
            self.kubectl(&["get", "--raw", "/readyz"]).map(|_| Ok(()))
        });
        ready?.with_context(|| "the Supervisor did not start")?;
        self.supervisor = Some(process);
        self.wait_for_hosts(begun.trim())
    }

    /// Every Node ready, and a real host's network told of the first Service, `kubernetes`. What a Node says, and its rules,
    /// may be of the agent before; its Lease is renewed since this one has begun.
    fn wait_for_hosts(&self, begun: &str) -> Result<()> {
        let status = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
        let renewed = "jsonpath={.items[*].spec.renewTime}";
        wait_for("ready hosts", READY_LIMIT, || {
            let wanted = self.options.simulated_hosts.unwrap_or(1) as usize;
            let times = self.kubectl(&["get", "leases", "-n", "kube-node-lease", "-o", renewed])?;
            let alive = times.split_whitespace().filter(|time| *time > begun).count();
            ensure!(
                alive == wanted,
                "{alive} of {wanted} are there since {begun}: {times}"
            );
            let ready = self.kubectl(&["get", "nodes", "-o", status])?;
            let count = ready.split_whitespace().filter(|word| *word == "True").count();
            ensure!(count == wanted, "{count} of {wanted} are ready");
            if self.options.simulated_hosts.is_none() {
                let rules = self.run("nft", &["list", "ruleset"])?;
                ensure!(
                    rules.contains("svc/default/kubernetes/"),
                    "the Service kubernetes is not there"
                );
            }
            Ok(())
        })
    }

    /// `podvisor down`, then the registry and the namespace go.
    pub fn stop(mut self) -> Result<()> {
        self.teardown()
    }

    fn link_programs(&self) -> Result<()> {
        let directory = self.directory.path().join("bin");
        let binary = fs::canonicalize(&self.podvisor)?;
        fs::create_dir(&directory)?;
        for name in ["podvisor", "kubectl-podvisor", "kubectl-vsphere"] {
            std::os::unix::fs::symlink(&binary, directory.join(name))?;
        }
        Ok(())
    }

    fn up_arguments(&self) -> Vec<String> {
        let directory = self.directory.path();
        let mut arguments: Vec<String> = [
            ("--listen", API.to_owned()),
            ("--kubeconfig-out", self.kubeconfig().display().to_string()),
            (
                "--admin-password-file",
                directory.join("admin-password").display().to_string(),
            ),
            ("--guest-bundle", paths::guest_bundle().display().to_string()),
        ]
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect();
        // What the caller's environment sets is handed on instead, so that a Lab can be tried with other settings.
        if env::var_os("PODVISOR_VIP_POOL").is_none() {
            arguments.extend(["--vip-pool".to_owned(), VIP_POOL.to_owned()]);
        }
        if !self.options.no_registry && env::var_os("PODVISOR_REGISTRY_MIRROR").is_none() {
            let host = self.options.registry_mirror_of.as_deref().unwrap_or("*");
            arguments.extend([
                "--registry-mirror".to_owned(),
                format!("{host}=http://{REGISTRY}"),
            ]);
        }
        if self.options.etcd_members > 0 {
            let member = |number| format!("127.0.0.1:{}", etcd_ports(number).0);
            let members: Vec<String> = (0..self.options.etcd_members).map(member).collect();
            arguments.extend(["--store".to_owned(), format!("etcd://{}", members.join(","))]);
        }
        if let Some(hosts) = self.options.simulated_hosts {
            arguments.extend(["--simulated-hosts".to_owned(), hosts.to_string()]);
        }
        arguments.extend(self.options.arguments.iter().cloned());
        arguments
    }

    /// Members on loopback ports of the Lab; they elect a leader while the Supervisor starts.
    fn start_etcd(&mut self) -> Result<()> {
        let members = self.options.etcd_members;
        let url = |port: u16| format!("http://127.0.0.1:{port}");
        let cluster: Vec<String> = (0..members)
            .map(|number| format!("m{number}={}", url(etcd_ports(number).1)))
            .collect();
        for number in 0..members {
            let name = format!("m{number}");
            let (client, peer) = etcd_ports(number);
            let (client, peer) = (url(client), url(peer));
            let mut command = self.command("etcd");
            command.args(["--name", &name, "--initial-cluster", &cluster.join(",")]);
            command.args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ]);
            command.args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ]);
            let directory = self.directory.path();
            command
                .arg("--data-dir")
                .arg(directory.join(format!("etcd-{name}")));
            let log = directory.join(format!("etcd-{name}.log"));
            self.etcd.push(Process::start("etcd", command, &log)?);
        }
        wait_for("an etcd with a leader", READY_LIMIT, || {
            if members == 0 {
                return Ok(());
            }
            let health = format!("{}/health", url(etcd_ports(0).0));
            let text = self.run("curl", &["-sf", &health])?;
            ensure!(text.contains("true"), "{text}");
            Ok(())
        })
    }

    /// Ends a member of etcd as a power cut of its machine would.
    pub fn kill_etcd_member(&mut self, number: usize) -> Result<()> {
        let member = self.etcd.get_mut(number).context("no such member")?;
        member.stop(Signal::SIGKILL, STOP_LIMIT)?;
        Ok(())
    }

    fn start_registry(&mut self) -> Result<()> {
        let storage = paths::registry_storage();
        if !storage.exists() {
            bail!("{} is missing: run `cargo xtask setup`", storage.display());
        }
        let config = self.directory.path().join("registry.yml");
        fs::write(
            &config,
            format!(
                "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: {}}}\n  \
                 maintenance: {{readonly: {{enabled: true}}}}\nhttp: {{addr: '{REGISTRY}'}}\n",
                storage.display()
            ),
        )?;
        let mut command = self.command("docker-registry");
        command.arg("serve").arg(&config);
        let log = self.directory.path().join("registry.log");
        let mut process = Process::start("docker-registry", command, &log)?;
        wait_for("the registry", READY_LIMIT, || {
            process.check_alive()?;
            self.run("curl", &["-sf", &format!("http://{REGISTRY}/v2/")])
        })?;
        self.registry = Some(process);
        Ok(())
    }

    fn teardown(&mut self) -> Result<()> {
        if std::mem::replace(&mut self.removed, true) {
            return Ok(());
        }
        if let Some(mut proxy) = self.proxy.take() {
            proxy.stop(Signal::SIGTERM, STOP_LIMIT)?;
        }
        self.stop_supervisor()?;
        self.run_podvisor(&["down"])?;
        for mut member in self.etcd.drain(..) {
            member.stop(Signal::SIGTERM, STOP_LIMIT)?;
        }
        if let Some(mut registry) = self.registry.take() {
            registry.stop(Signal::SIGTERM, STOP_LIMIT)?;
        }
        // A published port's thread shares the namespace until the process ends.
        self.netns.remove()?;
        self.heir.take().map_or(Ok(()), Heir::dismiss)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if let Err(error) = self.teardown() {
            eprintln!("the Lab could not be removed whole: {error:#}");
        }
        if let Err(error) = self.netns.remove() {
            eprintln!("the Lab's network namespace stays: {error:#}");
        }
    }
}

/// Ports of a member of etcd: for clients and for other members.
fn etcd_ports(number: usize) -> (u16, u16) {
    let base = 2379 + 10 * number as u16;
    (base, base + 1)
}

/// 120 random bits, readable.
fn random_password() -> Result<String> {
    let mut bytes = [0_u8; 15];
    std::io::Read::read_exact(&mut fs::File::open("/dev/urandom")?, &mut bytes)?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
