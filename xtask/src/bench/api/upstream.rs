//! Upstream beside us: its API server measured here, what it cost elsewhere as constants, and etcd alone.
//!
//! A kube-apiserver that the user names gets the same load as we on the same machine. Without one the constants stand in:
//! medians of kube-apiserver 1.20 with etcd 3.4 on two cores, whole server side, as written down in the project's goals
//! (SPECIFICATION.md, "Figures"). The baseline is Debian's etcd alone on the same disk with the requests that such an
//! API server would make of it, so it bounds upstream from below.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use e2e::machines::cpu_seconds;
use nix::sys::signal::Signal;
use store::Store;
use store::etcd::EtcdStore;
use tokio::task::JoinSet;

use super::super::{Report, median};
use super::Sizes;
use crate::kube_apiserver::{etcd_program, start_etcd};

/// Upstream's figure for a metric of ours, and our goal.
pub struct Row {
    /// Our metric.
    pub metric: &'static str,
    /// Upstream's figure, if there is one.
    pub upstream: Option<f64>,
    /// At most (or, for rates, at least) this is wanted.
    pub goal: Option<f64>,
}

const fn row(metric: &'static str, upstream: Option<f64>, goal: Option<f64>) -> Row {
    Row {
        metric,
        upstream,
        goal,
    }
}

/// All rows with something to compare.
pub const ROWS: &[Row] = &[
    row("ready_empty_ms", Some(6500.0), Some(200.0)),
    row("idle_resident_mib", Some(360.0), Some(40.0)),
    row("create_configmap_1_p50_ms", Some(3.6), Some(1.5)),
    row("create_pod_1_p50_ms", Some(7.5), Some(1.5)),
    row("create_configmap_64_cpu_ms", Some(1.66), Some(0.166)),
    row("create_configmap_64_per_s", Some(1045.0), None),
    row("create_pod_64_cpu_ms", Some(4.0), Some(0.4)),
    row("create_pod_64_per_s", Some(441.0), None),
    row("get_pod_64_cpu_ms", Some(1.0), Some(0.1)),
    row("get_pod_64_per_s", Some(1713.0), None),
    row("get_pod_from_cache_64_cpu_ms", Some(0.62), Some(0.062)),
    row("get_pod_from_cache_64_per_s", Some(2647.0), None),
    row("list_pods_cpu_ms", Some(2800.0), Some(280.0)),
    row("list_pods_wall_ms", Some(2200.0), None),
    row("list_pods_mib_per_cpu_s", Some(35.0), Some(1024.0)),
    row("patch_pod_64_cpu_ms", Some(6.2), Some(0.62)),
    row("patch_pod_64_per_s", Some(305.0), None),
    row("watch_cpu_ms", Some(5500.0), Some(550.0)),
    row("watch_events_per_s", Some(26_900.0), None),
    row("watch_events_per_cpu_s", None, Some(100_000.0)),
    row("watch_paced_lag_p99_ms", Some(8.0), Some(2.0)),
    row("delete_collection_wall_ms", Some(78_000.0), Some(3000.0)),
    row("delete_collection_cpu_ms", Some(95_000.0), Some(9500.0)),
    row("full_resident_mib", None, Some(200.0)),
    row("end_resident_mib", Some(2480.0), None),
    row("written_mib", Some(655.0), None),
    row("create_quota_pod_growth", None, Some(2.0)),
    row("create_service_growth", None, Some(2.0)),
    row("create_deployment_growth", None, Some(3.0)),
    row("create_statefulset_growth", None, Some(3.0)),
    row("ready_full_ms", None, Some(2000.0)),
];

/// Puts, gets and ranges of Debian's etcd, left out where it is not installed.
pub async fn etcd(directory: &Path, sizes: &Sizes, pod_bytes: usize, report: &mut Report) -> Result<()> {
    if etcd_program().is_none() {
        println!("    etcd is not installed: no baseline beside our figures");
        return Ok(());
    }
    let (mut process, address) = start_etcd(directory).await?;
    let store = Arc::new(EtcdStore::connect(std::slice::from_ref(&address))?);
    let pid = i32::try_from(process.id())?;
    let put = |prefix: &'static str, bytes: usize| {
        let value = Bytes::from(vec![b'x'; bytes]);
        move |store: Arc<EtcdStore>, number: usize| {
            let (key, value) = (Bytes::from(format!("/{prefix}/{number:06}")), value.clone());
            async move { store.create(key, value).await.map(drop) }
        }
    };
    let alone = many(&store, 1, sizes.alone, put("alone", pod_bytes)).await?;
    report.add("etcd_put_8k_1_p50_ms", median(&alone));
    for (metric, rate, prefix, bytes) in [
        ("etcd_put_1k_64_cpu_ms", "etcd_put_1k_64_per_s", "small", 1500),
        ("etcd_put_8k_64_cpu_ms", "etcd_put_8k_64_per_s", "pods", pod_bytes),
    ] {
        let (start, cpu) = (Instant::now(), cpu_seconds(pid)?);
        many(&store, 64, sizes.objects, put(prefix, bytes)).await?;
        report.add(metric, (cpu_seconds(pid)? - cpu) * 1000.0 / sizes.objects as f64);
        report.add(rate, sizes.objects as f64 / start.elapsed().as_secs_f64());
    }
    let cpu = cpu_seconds(pid)?;
    let objects = sizes.objects;
    many(&store, 64, sizes.gets, move |store, number| async move {
        let key = format!("/pods/{:06}", number % objects);
        store.get(key.as_bytes(), None).await.map(drop)
    })
    .await?;
    report.add(
        "etcd_get_8k_64_cpu_ms",
        (cpu_seconds(pid)? - cpu) * 1000.0 / sizes.gets as f64,
    );
    let (start, cpu) = (Instant::now(), cpu_seconds(pid)?);
    store.list(b"/pods/", None, 0, None).await?;
    report.add("etcd_range_cpu_ms", (cpu_seconds(pid)? - cpu) * 1000.0);
    report.add("etcd_range_wall_ms", start.elapsed().as_secs_f64() * 1000.0);
    process.stop(Signal::SIGTERM, Duration::from_secs(20))?;
    Ok(())
}

/// Does `work` for `0..count` by `clients` at the same time; answers the latencies in ms.
async fn many<W, F>(store: &Arc<EtcdStore>, clients: usize, count: usize, work: W) -> Result<Vec<f64>>
where
    W: Fn(Arc<EtcdStore>, usize) -> F + Clone + Send + 'static,
    F: Future<Output = Result<(), store::StoreError>> + Send,
{
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let (store, work) = (store.clone(), work.clone());
        tasks.spawn(async move {
            let mut latencies = Vec::new();
            for number in (client..count).step_by(clients) {
                let start = Instant::now();
                work(store.clone(), number).await.context("etcd")?;
                latencies.push(start.elapsed().as_secs_f64() * 1000.0);
            }
            Ok::<_, anyhow::Error>(latencies)
        });
    }
    let mut all = Vec::with_capacity(count);
    while let Some(done) = tasks.join_next().await {
        all.extend(done??);
    }
    Ok(all)
}
