//! `kill -9` at random under sixteen writers and three watchers: the whole history is kept and judged.
//!
//! A real `podvisor` with a simulated host on loopback ports. `PODVISOR_CRASH_KILLS` says how often it is killed; a few
//! times without (`cargo xtask crash --kills 500` is the long form).

mod history;
mod load;

use std::env;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context, Result, ensure};
use e2e::process::{Process, own_address};
use e2e::{paths, wait_for};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::Api;
use kube::config::{KubeConfigOptions, Kubeconfig};
use load::{Load, Random};
use nix::sys::signal::Signal;
use tokio::signal::unix::{SignalKind, signal};

const KILLS: u64 = 4;
const WRITERS: u64 = 16;
const WATCHERS: usize = 3;
/// How long a start may take on a busy machine.
const LIMIT: Duration = Duration::from_secs(120);

fn start(directory: &Path) -> Result<Process> {
    let mut command = std::process::Command::new(paths::podvisor());
    command
        .args([
            "up",
            "--simulated-hosts",
            "1",
            "--listen",
            &format!("{}:6443", own_address()),
        ])
        .arg("--data-dir")
        .arg(directory.join("data"))
        .arg("--run-dir")
        .arg(directory.join("run"))
        .arg("--kubeconfig-out")
        .arg(directory.join("kubeconfig"))
        .env("RUST_LOG", "warn");
    Process::start("podvisor up", command, &directory.join("log"))
}

async fn client(directory: &Path) -> Result<Api<ConfigMap>> {
    let kubeconfig = Kubeconfig::read_from(directory.join("kubeconfig"))?;
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(2));
    config.read_timeout = Some(Duration::from_secs(30));
    Ok(Api::default_namespaced(kube::Client::try_from(config)?))
}

#[test]
fn kills_lose_nothing() -> Result<()> {
    let kills = match env::var("PODVISOR_CRASH_KILLS") {
        Ok(text) => text.parse().context("PODVISOR_CRASH_KILLS")?,
        Err(_) => KILLS,
    };
    let seed = match env::var("PODVISOR_CRASH_SEED") {
        Ok(text) => text.parse().context("PODVISOR_CRASH_SEED")?,
        Err(_) => SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)?
            .as_nanos() as u64,
    };
    println!("{kills} kills, PODVISOR_CRASH_SEED={seed}");
    let directory = tempfile::Builder::new().prefix("podvisor-crash-").tempdir()?;
    let mut server = start(directory.path())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let ended = runtime.block_on(async { signals() })?;
    let begin = wait_for("the first start", LIMIT, || {
        runtime.block_on(async {
            let api = client(directory.path()).await?;
            load::beginning(&api).await
        })
    })?;
    let load = Load::new();
    let (goal, until) = tokio::sync::watch::channel(u64::MAX);
    let mut watchers = Vec::new();
    for _ in 0..WATCHERS {
        let api = runtime.block_on(client(directory.path()))?;
        watchers.push(runtime.spawn(load.clone().watch(api, begin, until.clone())));
    }
    let mut writers = Vec::new();
    for writer in 0..WRITERS {
        let api = runtime.block_on(client(directory.path()))?;
        writers.push(runtime.spawn(load.clone().write(api, writer, seed)));
    }

    let mut random = Random(seed | 1);
    let run = Instant::now();
    for kill in 1..=kills {
        // From "just begun" to "well under way".
        let wanted = load.answered.load(Ordering::Relaxed) + 1 + random.below(120);
        wait_for(&format!("writes before kill {kill}"), LIMIT, || {
            let answered = load.answered.load(Ordering::Relaxed);
            ensure!(answered >= wanted, "{answered} of {wanted} writes are answered");
            Ok(())
        })
        .with_context(|| server.log_tail())?;
        ensure!(!*ended.borrow(), "ended by a signal after {kill} kills");
        server.stop(Signal::SIGKILL, LIMIT)?;
        server = start(directory.path())?;
        if kill % 10 == 0 {
            println!(
                "{kill} kills, {} writes answered, {} s",
                load.answered.load(Ordering::Relaxed),
                run.elapsed().as_secs()
            );
        }
    }
    load.stop.store(true, Ordering::Relaxed);
    let api = runtime.block_on(client(directory.path()))?;
    for writer in writers {
        runtime.block_on(tokio_timeout(writer))?;
    }
    let mut attempts = 0..;
    let end = wait_for("the last write", LIMIT, || {
        let attempt: u32 = attempts.next().context("a number")?;
        runtime.block_on(load::ending(&load, &api, attempt))
    })?;
    goal.send_replace(end);
    let mut seen = Vec::new();
    for watcher in watchers {
        seen.push(runtime.block_on(tokio_timeout(watcher))??);
    }
    let calls = load.calls();
    let verdict = history::check(&calls, &seen);
    println!(
        "{} calls: {} writes answered, {} not ({} of them done), {} reads; {} events for each of {WATCHERS} watchers; {} s",
        calls.len(),
        verdict.answered,
        verdict.unknown,
        verdict.unknown_done,
        verdict.reads,
        verdict.events,
        run.elapsed().as_secs()
    );
    ensure!(
        verdict.faults.is_empty(),
        "{} faults, PODVISOR_CRASH_SEED={seed}:\n{}",
        verdict.faults.len(),
        verdict
            .faults
            .iter()
            .take(20)
            .cloned()
            .collect::<Vec<_>>()
            .join("\n")
    );
    ensure!(
        verdict.answered > 0 && verdict.reads > 0,
        "too little was done to mean anything"
    );
    server.stop(Signal::SIGTERM, LIMIT).map(drop)
}

/// Becomes true with the first signal to end: the run is then left in order, and nothing of it stays.
fn signals() -> Result<tokio::sync::watch::Receiver<bool>> {
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let (ended, told) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        ended.send_replace(true);
    });
    Ok(told)
}

/// A task's end, within the limit.
async fn tokio_timeout<T>(task: tokio::task::JoinHandle<T>) -> Result<T> {
    Ok(tokio::time::timeout(LIMIT, task)
        .await
        .context("a client does not end")??)
}
