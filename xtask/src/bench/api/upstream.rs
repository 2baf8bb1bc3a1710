//! Upstream beside us: its API server measured here, what it cost elsewhere as constants, and etcd alone.
//!
//! A kube-apiserver that the user names gets the same load as we on the same machine. Without one the constants stand in:
//! medians of kube-apiserver 1.20 with etcd 3.4 on two cores, whole server side, as written down in the project's goals
//! (SPECIFICATION.md, "Figures"). The baseline is Debian's etcd alone on the same disk with the requests that such an
//! API server would make of it, so it bounds upstream from below.

use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use bytes::Bytes;
use e2e::machines::cpu_seconds;
use e2e::process::Process;
use identity::authority::{Authority, Request};
use identity::kubeconfig::Kubeconfig;
use nix::sys::signal::Signal;
use store::Store;
use store::etcd::EtcdStore;
use tokio::task::JoinSet;

use super::super::{Report, median};
use super::Sizes;
use crate::run::on_path;

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

/// Starts `binary`, a kube-apiserver, on an etcd of its own: RBAC, certificates, and upstream's defaults otherwise.
///
/// Nobody makes the service accounts that its admission would ask for, since no controllers run beside it.
pub async fn start(binary: &Path, directory: &Path, kubeconfig: &Path) -> Result<Vec<Process>> {
    anyhow::ensure!(
        on_path("etcd"),
        "kube-apiserver needs etcd: run `cargo xtask setup --tests`"
    );
    let (etcd, store) = start_etcd(directory).await?;
    let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
    let pki = directory.join("upstream-pki");
    let authority = Authority::load_or_create(&pki)?;
    let server = authority.issue(&Request::server("kube-apiserver", ["127.0.0.1", "localhost"]))?;
    let admin = authority.issue(&Request::client("admin", Some("system:masters")))?;
    let file = |name: &str, text: &str| -> Result<String> {
        let path = pki.join(name);
        identity::files::write_private(&path, text.as_bytes())?;
        Ok(path.display().to_string())
    };
    let (certificate, key) = (
        file("server.pem", &server.certificate_pem)?,
        file("server-key.pem", &server.key_pem)?,
    );
    let mut command = Command::new(binary);
    for (flag, value) in [
        ("etcd-servers", store.as_str()),
        ("bind-address", "127.0.0.1"),
        ("secure-port", &port.to_string()),
        // Only written into an object: an address for documentation, which nobody is asked at.
        ("advertise-address", "192.0.2.1"),
        ("endpoint-reconciler-type", "none"),
        ("service-cluster-ip-range", "10.96.0.0/16"),
        ("authorization-mode", "Node,RBAC"),
        ("disable-admission-plugins", "ServiceAccount"),
        ("client-ca-file", &file("ca.pem", authority.certificate_pem())?),
        ("tls-cert-file", &certificate),
        ("tls-private-key-file", &key),
        ("service-account-issuer", "https://kubernetes.default.svc"),
        ("service-account-key-file", &certificate),
        ("service-account-signing-key-file", &key),
    ] {
        command.arg(format!("--{flag}={value}"));
    }
    Kubeconfig::for_certificate(
        "upstream",
        &format!("https://127.0.0.1:{port}"),
        authority.certificate_pem(),
        "admin",
        &admin,
    )
    .save(kubeconfig)?;
    let log = directory.join("kube-apiserver.log");
    Ok(vec![Process::start("kube-apiserver", command, &log)?, etcd])
}

/// Starts etcd on loopback, with its data in `directory`; answers it and its address when it serves.
async fn start_etcd(directory: &Path) -> Result<(Process, String)> {
    let free = || -> Result<String> {
        Ok(format!(
            "http://{}",
            TcpListener::bind("127.0.0.1:0")?.local_addr()?
        ))
    };
    let (client, peer) = (free()?, free()?);
    let mut command = Command::new("etcd");
    command.arg("--data-dir").arg(directory.join("etcd"));
    for (flag, value) in [
        ("listen-client-urls", client.as_str()),
        ("advertise-client-urls", &client),
        ("listen-peer-urls", &peer),
        ("initial-advertise-peer-urls", &peer),
        ("initial-cluster", &format!("default={peer}")),
        ("quota-backend-bytes", "4294967296"),
    ] {
        command.arg(format!("--{flag}={value}"));
    }
    let mut process = Process::start("etcd", command, &directory.join("etcd.log"))?;
    let store = EtcdStore::connect(std::slice::from_ref(&client))?;
    let end = Instant::now() + Duration::from_secs(20);
    while let Err(error) = store.health().await {
        process.check_alive()?;
        anyhow::ensure!(Instant::now() < end, "etcd does not serve: {error}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok((process, client))
}

/// Puts, gets and ranges of Debian's etcd, left out where it is not installed.
pub async fn etcd(directory: &Path, sizes: &Sizes, pod_bytes: usize, report: &mut Report) -> Result<()> {
    if !on_path("etcd") {
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
