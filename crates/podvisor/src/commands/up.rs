//! `podvisor up`: the Supervisor and this machine's host agent in one process, until a signal.
//!
//! Ctrl-C and SIGTERM end the process and leave the VMs running, as the end of any host agent does; `podvisor down`
//! removes them.

use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, UpArguments};
use crate::wiring::hosts::Hosts;
use crate::wiring::lock::Lock;
use crate::wiring::supervisor::Supervisor;

/// How long the parts may take to end.
const STOP_LIMIT: Duration = Duration::from_secs(20);

/// Runs until a signal.
pub fn run(arguments: &UpArguments) -> Result<()> {
    let config = Config::resolve(arguments)?;
    tracing_subscriber::fmt()
        .with_env_filter(
            tracing_subscriber::EnvFilter::try_from_default_env().unwrap_or_else(|_| "info".into()),
        )
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .init();
    if config.simulated_hosts.is_none() && !rustix::process::geteuid().is_root() {
        bail!("a host needs root for taps, routes and cgroups: run with sudo, or try --simulated-hosts 1");
    }
    let _lock = Lock::take(&config.data_dir)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(serve(&config))
}

async fn serve(config: &Config) -> Result<()> {
    std::fs::create_dir_all(&config.run_dir).with_context(|| {
        format!(
            "cannot make the run directory {}: choose another with --run-dir",
            config.run_dir.display()
        )
    })?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let stop = CancellationToken::new();
    prepare_address(config).await?;
    let supervisor = Supervisor::start(config, stop.clone()).await?;
    let hosts = Hosts::start(config, &supervisor, stop.clone()).await;
    let hosts = match hosts {
        Ok(hosts) => hosts,
        Err(error) => {
            supervisor.shut_down().await;
            return Err(error);
        }
    };
    println!(
        "Supervisor: https://{}    console: https://{0}/console",
        config.api_address()
    );
    println!("kubeconfig: {}", config.kubeconfig_out.display());
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    tracing::info!("stopping; VMs go on (remove them with `podvisor down`)");
    stop.cancel();
    let ending = async {
        hosts.shut_down().await;
        supervisor.shut_down().await;
    };
    if tokio::time::timeout(STOP_LIMIT, ending).await.is_err() {
        tracing::warn!("some parts did not end within {} s", STOP_LIMIT.as_secs());
    }
    Ok(())
}

/// The API server listens on the host's address before the host's network is started.
async fn prepare_address(config: &Config) -> Result<()> {
    if config.simulated_hosts.is_some() {
        return Ok(());
    }
    dataplane::Dataplane::prepare(&crate::wiring::hosts::network_config(config)?).await?;
    Ok(())
}
