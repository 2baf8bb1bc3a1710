//! `podvisor down`: ends the process of `podvisor up`, then every VM, then the network. The data directory stays.
//!
//! It works from what is on the machine and not from what a process remembers, so it also cleans up after a crash.
//! Every error is collected; everything that can be removed is removed.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use dataplane::Dataplane;
use rustix::process::{Pid, Signal, kill_process};
use vmm::qemu::QemuDriver;

use crate::config::{Config, Places, UpArguments};
use crate::wiring::hosts;
use crate::wiring::lock::Lock;

/// How long the process may take to end after SIGTERM.
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// Removes everything but the data directory.
pub fn run(places: &Places) -> Result<()> {
    let arguments = UpArguments {
        places: places.clone(),
        ..UpArguments::default()
    };
    let config = Config::resolve(&arguments)?;
    stop_process(&config.data_dir)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let problems = runtime.block_on(remove(&config))?;
    if !problems.is_empty() {
        bail!("not everything could be removed:\n  {}", problems.join("\n  "));
    }
    println!("Podvisor is down; its data is in {}", config.data_dir.display());
    Ok(())
}

fn stop_process(data_dir: &Path) -> Result<()> {
    let Some(holder) = Lock::holder(data_dir)? else {
        return Ok(());
    };
    let pid = i32::try_from(holder)
        .ok()
        .and_then(Pid::from_raw)
        .context("the lock file names no process")?;
    kill_process(pid, Signal::TERM).with_context(|| format!("cannot stop process {holder}"))?;
    let end = Instant::now() + STOP_LIMIT;
    while Lock::holder(data_dir)?.is_some() {
        if Instant::now() >= end {
            bail!(
                "process {holder} did not end within {} s after SIGTERM",
                STOP_LIMIT.as_secs()
            );
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

async fn remove(config: &Config) -> Result<Vec<String>> {
    let mut problems = remove_vms(config).await;
    problems.extend(host::datastore::shared::unmount_all(&hosts::host_data(config)).await);
    // Simulated hosts have no network, and need no privilege to go.
    if config.run_dir.join("network").exists() {
        problems.extend(Dataplane::remove(&hosts::network_config(config)?).await);
        if let Err(error) = vmm::qemu::remove_cgroup(&hosts::dns_cgroup(config)).await {
            problems.push(error.to_string());
        }
    }
    match fs::remove_dir_all(&config.run_dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            problems.push(format!("{}: {error}", config.run_dir.display()));
        }
        _ => {}
    }
    problems.extend(remove_cgroup_parent(&config.cgroup_parent));
    Ok(problems)
}

async fn remove_vms(config: &Config) -> Vec<String> {
    let mut problems = Vec::new();
    let Ok(entries) = fs::read_dir(config.run_dir.join("vms")) else {
        return problems;
    };
    for entry in entries.flatten() {
        match QemuDriver::find(&entry.path()).await {
            Ok(Some(vm)) => {
                if let Err(error) = vm.kill().await {
                    problems.push(error.to_string());
                }
            }
            Ok(None) => {}
            Err(error) => problems.push(error.to_string()),
        }
    }
    problems
}

/// The group above those of the VMs, in whichever hierarchies it was made.
fn remove_cgroup_parent(parent: &str) -> Vec<String> {
    let mut problems = Vec::new();
    let root = Path::new("/sys/fs/cgroup");
    let hierarchies = fs::read_dir(root)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    for hierarchy in hierarchies.chain([root.to_path_buf()]) {
        // Only groups of ours, deepest first, and never one that others still use.
        for ancestor in Path::new(parent)
            .ancestors()
            .filter(|path| !path.as_os_str().is_empty())
        {
            let path = hierarchy.join(ancestor);
            match fs::remove_dir(&path) {
                Err(error) if path.exists() && error.raw_os_error() != Some(16) => {
                    problems.push(format!("{}: {error}", path.display()));
                }
                _ => {}
            }
        }
    }
    problems
}
