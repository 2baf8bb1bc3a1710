//! `cargo xtask bench api`: the API server under load from another process, over TLS and HTTP/2, as JSON.
//!
//! What is measured is the whole `podvisor up` process: API server, store, controllers, scheduler and a simulated
//! host. CPU is read from `/proc` and counted until the process is at rest again, so that what controllers do with the
//! objects is in it. CPU an operation does not move with the noise of the machine; rates and latencies do.
//! Upstream's kube-apiserver, when the user has one, gets the same load afterwards (without controllers beside it).

mod client;
mod crowds;
mod load;
mod objects;
mod server;
mod upstream;

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use http::Method;

use self::load::Make;
use self::server::{Cost, Program, Server};
use super::{Report, median, percentile};
use crate::build::{self, Profile};
use crate::run::{cargo, make_dir, show, step};

const PODS: &str = "/api/v1/namespaces/default/pods";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const WATCHED: &str = "/api/v1/namespaces/bench-watch/configmaps";
/// Connections of the rows "at 64 clients".
const CLIENTS: usize = 64;

/// Arguments of `cargo xtask bench api`.
#[derive(clap::Args)]
pub struct Arguments {
    /// Measure the unoptimised binary, by an unoptimised client.
    #[arg(long)]
    dev: bool,
    /// A hundredth of the load, to see that the bench works: its figures mean nothing.
    #[arg(long)]
    small: bool,
    /// Measure this binary instead of building one.
    #[arg(long, value_name = "FILE")]
    binary: Option<PathBuf>,
    /// Measure this kube-apiserver as well, with etcd from the path, and compare with it instead of written-down figures.
    #[arg(long, value_name = "KUBE_APISERVER")]
    upstream: Option<PathBuf>,
}

/// How much of everything.
struct Sizes {
    alone: usize,
    objects: usize,
    gets: usize,
    patches: usize,
    lists: usize,
    watchers: usize,
    events: usize,
    paced: usize,
    stored: usize,
    crowd: usize,
    idle: Duration,
}

impl Sizes {
    const FULL: Sizes = Sizes {
        alone: 500,
        objects: 10_000,
        gets: 20_000,
        patches: 5000,
        lists: 100,
        watchers: 100,
        events: 1000,
        paced: 250,
        stored: 100_000,
        crowd: 2000,
        idle: Duration::from_secs(10),
    };
    const SMALL: Sizes = Sizes {
        alone: 20,
        objects: 100,
        gets: 200,
        patches: 50,
        lists: 4,
        watchers: 5,
        events: 20,
        paced: 10,
        stored: 300,
        crowd: 80,
        idle: Duration::from_secs(1),
    };
}

/// Builds, measures in a fresh directory on the disk of `target`, writes `target/bench/api.json`.
pub fn run(arguments: &Arguments) -> Result<()> {
    let profile = Profile::of(!arguments.dev);
    let binary = match &arguments.binary {
        Some(binary) => binary.clone(),
        None => {
            build::all(profile)?;
            if profile == Profile::Release && cfg!(debug_assertions) {
                return optimised(arguments);
            }
            profile.podvisor()
        }
    };
    let base = e2e::paths::target().join("bench");
    make_dir(&base)?;
    let sizes = if arguments.small {
        &Sizes::SMALL
    } else {
        &Sizes::FULL
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let measured = |program: Program, name: &str| -> Result<Report> {
        let directory = tempfile::tempdir_in(&base)?;
        let mut report = Report::default();
        runtime.block_on(measure(&program, directory.path(), sizes, &mut report))?;
        report.write(name)?;
        Ok(report)
    };
    let ours = measured(Program::Podvisor(binary), "api")?;
    let upstream = match &arguments.upstream {
        Some(binary) => {
            println!("\n{}, with etcd", binary.display());
            Some(measured(Program::Upstream(binary.clone()), "api-upstream")?)
        }
        None => None,
    };
    compare(&ours, upstream.as_ref());
    Ok(())
}

/// The client shares the cores with the server, so it is built optimised as well and takes over.
fn optimised(arguments: &Arguments) -> Result<()> {
    step("Building the client", || {
        show(cargo().args(["build", "--quiet", "--release", "--package", "xtask"]))
    })?;
    let mut command = std::process::Command::new(e2e::paths::target().join("release/xtask"));
    command
        .args(["bench", "api", "--binary"])
        .arg(Profile::Release.podvisor());
    if arguments.small {
        command.arg("--small");
    }
    if let Some(upstream) = &arguments.upstream {
        command.arg("--upstream").arg(upstream);
    }
    Err(command.exec()).context("cannot run the optimised client")
}

async fn measure(program: &Program, directory: &Path, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let mut server = Server::start(program, directory).await?;
    report.add("ready_empty_ms", millis(server.ready));
    server.settle(sizes.idle).await?;
    report.add("idle_resident_mib", server.resident()?);
    report.add("idle_anonymous_mib", server.anonymous()?);
    let before = server.written()?;

    writes(&server, sizes, report).await?;
    let pod_bytes = reads(&server, sizes, report).await?;
    // Upstream breaks lists off that take longer than a minute, as so many at once do.
    if matches!(program, Program::Podvisor(_)) {
        crowd(&server, sizes, report).await?;
    }
    watches(&server, sizes, report).await?;
    deletion(&server, report).await?;
    report.add("end_resident_mib", server.resident()?);
    report.add("written_mib", server.written()? - before);
    if matches!(program, Program::Podvisor(_)) {
        crowds::measure(&server, sizes.crowd, report).await?;
    }
    match program {
        Program::Podvisor(_) => {
            start_full(server, program, sizes, report).await?;
            upstream::etcd(directory, sizes, pod_bytes, report).await
        }
        Program::Upstream(_) => server.stop().map(drop),
    }
}

async fn writes(server: &Server, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let target = &server.target;
    let maps = |prefix: &'static str| post(MAPS, prefix, objects::config_map);
    let pods = |prefix: &'static str| post(PODS, prefix, objects::pod);
    let latencies = load::requests(target, 1, sizes.alone, maps("alone")).await?;
    report.add("create_configmap_1_p50_ms", median(&latencies));
    let latencies = load::requests(target, 1, sizes.alone, pods("alone")).await?;
    report.add("create_pod_1_p50_ms", median(&latencies));

    // Together with those of the one client: 10,000 of each.
    let rest = sizes.objects - sizes.alone;
    let meter = server.meter()?;
    let latencies = load::requests(target, CLIENTS, rest, maps("many")).await?;
    let cost = meter.stop().await?;
    report.add("create_configmap_64_cpu_ms", each(&cost, rest));
    report.add("create_configmap_64_per_s", rate(&cost, rest));
    report.add("create_configmap_64_p50_ms", median(&latencies));
    let meter = server.meter()?;
    let latencies = load::requests(target, CLIENTS, rest, pods("many")).await?;
    let cost = meter.stop().await?;
    report.add("create_pod_64_cpu_ms", each(&cost, rest));
    report.add("create_pod_64_per_s", rate(&cost, rest));
    report.add("create_pod_64_p50_ms", median(&latencies));
    tokio::time::sleep(sizes.idle).await;
    report.add("full_resident_mib", server.resident()?);
    report.add("full_anonymous_mib", server.anonymous()?);
    Ok(())
}

/// Answers the bytes of a listed Pod.
async fn reads(server: &Server, sizes: &Sizes, report: &mut Report) -> Result<usize> {
    let target = &server.target;
    let there = sizes.objects - sizes.alone;
    for (cpu, per_second, query) in [
        ("get_pod_64_cpu_ms", "get_pod_64_per_s", ""),
        (
            "get_pod_from_cache_64_cpu_ms",
            "get_pod_from_cache_64_per_s",
            "?resourceVersion=0",
        ),
    ] {
        let make: Make = Arc::new(move |n| {
            (
                Method::GET,
                format!("{PODS}/many-{}{query}", n * 7 % there),
                Bytes::new(),
            )
        });
        let meter = server.meter()?;
        load::requests(target, CLIENTS, sizes.gets, make).await?;
        let cost = meter.stop().await?;
        report.add(cpu, each(&cost, sizes.gets));
        report.add(per_second, rate(&cost, sizes.gets));
    }

    const LISTS: usize = 5;
    let meter = server.meter()?;
    let mut bytes = 0;
    for _ in 0..LISTS {
        bytes = load::lists(target, 1, PODS).await?;
    }
    let cost = meter.stop().await?;
    let mib = bytes as f64 / f64::from(1 << 20);
    report.add("list_pods_mib", mib);
    report.add("list_pods_cpu_ms", each(&cost, LISTS));
    report.add("list_pods_wall_ms", millis(cost.wall) / LISTS as f64);
    report.add("list_pods_mib_per_cpu_s", mib * LISTS as f64 / cost.cpu_seconds);

    let make: Make = Arc::new(move |n| {
        let patch = format!(r#"{{"metadata":{{"labels":{{"patched":"v{n}"}}}}}}"#);
        (
            Method::PATCH,
            format!("{PODS}/many-{}", n * 7 % there),
            Bytes::from(patch),
        )
    });
    let meter = server.meter()?;
    load::requests(target, CLIENTS, sizes.patches, make).await?;
    let cost = meter.stop().await?;
    report.add("patch_pod_64_cpu_ms", each(&cost, sizes.patches));
    report.add("patch_pod_64_per_s", rate(&cost, sizes.patches));
    Ok(bytes / sizes.objects)
}

/// By how much many LISTs at once make the server larger.
async fn crowd(server: &Server, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let before = server.resident()?;
    let mut largest = before;
    let mut listing = std::pin::pin!(load::lists(&server.target, sizes.lists, PODS));
    loop {
        tokio::select! {
            done = &mut listing => {
                done?;
                break;
            }
            () = tokio::time::sleep(Duration::from_millis(20)) => largest = largest.max(server.resident()?),
        }
    }
    report.add("list_pods_100_parallel_growth_mib", largest - before);
    Ok(())
}

async fn watches(server: &Server, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let target = &server.target;
    let namespace =
        Bytes::from(r#"{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"bench-watch"}}"#);
    let mut client = target.connect().await?;
    client.call(Method::POST, "/api/v1/namespaces", namespace).await?;
    server.rest().await?;
    // The list of the namespace says from where to watch; its ConfigMap of the authority is there by then.
    let path = format!("{WATCHED}?watch=1&labelSelector=bench&resourceVersion=0");
    let labelled = |prefix: &str, number: usize| {
        let text = "x".repeat(860);
        let name = format!("{prefix}-{number}");
        Bytes::from(format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}","labels":{{"bench":"yes"}}}},"data":{{"pad":"{text}"}}}}"#
        ))
    };

    let watching = load::watches(target, sizes.watchers, &path, sizes.events, "burst").await?;
    server.rest().await?;
    let meter = server.meter()?;
    let start = Instant::now();
    let make: Make = Arc::new(move |n| (Method::POST, WATCHED.to_owned(), labelled("burst", n)));
    load::requests(target, 16, sizes.events, make).await?;
    for watch in watching {
        watch.await??;
    }
    let wall = start.elapsed().as_secs_f64();
    let cost = meter.stop().await?;
    let events = (sizes.watchers * sizes.events) as f64;
    report.add("watch_cpu_ms", cost.cpu_seconds * 1000.0);
    report.add("watch_events_per_s", events / wall);
    report.add("watch_events_per_cpu_s", events / cost.cpu_seconds);
    client.call(Method::DELETE, WATCHED, Bytes::new()).await?;
    server.rest().await?;

    // Evenly paced: how long after the answer of the create does each watcher have the event?
    let watching = load::watches(target, sizes.watchers, &path, sizes.paced, "paced").await?;
    let mut answered = Vec::new();
    let mut pace = tokio::time::interval(Duration::from_millis(20));
    for number in 0..sizes.paced {
        pace.tick().await;
        client
            .call(Method::POST, WATCHED, labelled("paced", number))
            .await?;
        answered.push(Instant::now());
    }
    let mut lags = Vec::new();
    for watch in watching {
        let arrivals = watch.await??;
        lags.extend(
            arrivals
                .iter()
                .map(|(number, at)| millis(at.saturating_duration_since(answered[*number]))),
        );
    }
    report.add("watch_paced_lag_p50_ms", median(&lags));
    report.add("watch_paced_lag_p99_ms", percentile(&lags, 99));
    Ok(())
}

async fn deletion(server: &Server, report: &mut Report) -> Result<()> {
    let mut client = server.target.connect().await?;
    server.rest().await?;
    let meter = server.meter()?;
    client.call(Method::DELETE, PODS, Bytes::new()).await?;
    let cost = meter.stop().await?;
    report.add("delete_collection_wall_ms", millis(cost.wall));
    report.add("delete_collection_cpu_ms", cost.cpu_seconds * 1000.0);
    Ok(())
}

async fn start_full(server: Server, program: &Program, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let more = sizes.stored - sizes.objects;
    load::requests(
        &server.target,
        CLIENTS,
        more,
        post(MAPS, "stored", objects::config_map),
    )
    .await?;
    server.rest().await?;
    let server = server.restart(program).await?;
    report.add("ready_full_ms", millis(server.ready));
    tokio::time::sleep(sizes.idle).await;
    report.add("restarted_full_resident_mib", server.resident()?);
    Ok(())
}

fn post(path: &'static str, prefix: &'static str, object: fn(&str) -> Bytes) -> Make {
    Arc::new(move |n| (Method::POST, path.to_owned(), object(&format!("{prefix}-{n}"))))
}

fn each(cost: &Cost, count: usize) -> f64 {
    cost.cpu_seconds * 1000.0 / count as f64
}

fn rate(cost: &Cost, count: usize) -> f64 {
    count as f64 / cost.wall.as_secs_f64()
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// Our figures beside upstream's, measured or written down, and the goals.
fn compare(report: &Report, measured: Option<&Report>) {
    println!(
        "\n{:<34} {:>12} {:>12} {:>10} {:>10}",
        "metric", "podvisor", "upstream", "better by", "goal"
    );
    for row in upstream::ROWS {
        let Some(ours) = report.get(row.metric) else {
            continue;
        };
        let higher_is_better = row.metric.ends_with("_per_s") || row.metric.ends_with("_per_cpu_s");
        let theirs = match measured {
            Some(measured) => measured.get(row.metric),
            None => row.upstream,
        };
        let (upstream, factor) = match theirs {
            Some(theirs) => {
                let factor = if higher_is_better {
                    ours / theirs
                } else {
                    theirs / ours
                };
                (format!("{theirs:.3}"), format!("{factor:.1} x"))
            }
            None => (String::new(), String::new()),
        };
        let goal = row.goal.map_or(String::new(), |goal| {
            let met = if higher_is_better {
                ours >= goal
            } else {
                ours <= goal
            };
            format!("{goal} {}", if met { "met" } else { "MISSED" })
        });
        println!(
            "{:<34} {ours:>12.3} {upstream:>12} {factor:>10} {goal:>10}",
            row.metric
        );
    }
}
