//! `cargo xtask compare`: the same random requests to our API server and to upstream's, and what differs in the answers.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use nix::sys::signal::Signal;

use crate::kube_apiserver;
use crate::run::{cargo, show};

/// How long upstream's server may take to be ready, and to end.
const LIMIT: Duration = Duration::from_secs(120);
/// The program that compares, and the profile in which it is soon built and fast enough.
const COMPARE: [&str; 4] = ["--package", "compare", "--profile", "guided"];

/// Arguments of `cargo xtask compare`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask compare --upstream /usr/local/bin/kube-apiserver
  cargo xtask compare --upstream kube-apiserver --emulate 1.35 -- --cases 20000 --parts objects
  cargo xtask compare --upstream kube-apiserver -- --kinds Pod,Service --output target/differences.jsonl")]
pub struct Arguments {
    /// Upstream's kube-apiserver; etcd comes from the path.
    #[arg(long, value_name = "KUBE_APISERVER")]
    upstream: PathBuf,
    /// The version that a newer one is to be.
    #[arg(long, value_name = "VERSION")]
    emulate: Option<String>,
    /// For the program that compares; `-- --help` shows them.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Starts upstream's server and compares.
pub fn run(arguments: &Arguments) -> Result<()> {
    // What takes long comes before what has to wait for it.
    show(cargo().arg("build").args(COMPARE).arg("--quiet"))?;
    let directory = tempfile::tempdir()?;
    let kubeconfig = directory.path().join("kubeconfig");
    let mut flags = vec![
        ("authorization-mode", "AlwaysAllow"),
        ("allow-privileged", "true"),
    ];
    if let Some(version) = &arguments.emulate {
        flags.push(("emulated-version", version.as_str()));
    }
    let runtime = tokio::runtime::Runtime::new()?;
    let start = kube_apiserver::start(&arguments.upstream, directory.path(), &kubeconfig, &flags);
    let mut processes = runtime.block_on(start)?;
    let run = ["--quiet", "--", "--kubeconfig"];
    let mut compare = cargo();
    compare.arg("run").args(COMPARE).args(run).arg(&kubeconfig);
    let outcome = show(compare.args(&arguments.rest));
    for process in &mut processes {
        process.stop(Signal::SIGTERM, LIMIT)?;
    }
    outcome
}
