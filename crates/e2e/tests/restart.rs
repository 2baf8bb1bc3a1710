//! A Supervisor that is killed again and again keeps every write that it has answered; a Lab whose test is killed is removed.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use e2e::{Lab, LabOptions, wait_for};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, ObjectMeta, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};

const KILLS: u32 = 50;
const WRITERS: usize = 4;
/// So many writes are answered between two kills, that each kill meets a Supervisor at work.
const WRITES_BETWEEN: u64 = 20;
/// How long a writer waits after a write that was not answered.
const PAUSE: Duration = Duration::from_millis(50);
const LIMIT: Duration = Duration::from_secs(120);

#[test]
fn fifty_kills_under_load_lose_no_answered_write() -> Result<()> {
    let mut lab = Lab::start(LabOptions {
        simulated_hosts: Some(1),
        no_registry: true,
        ..LabOptions::default()
    })?;
    let deployment = ["create", "deployment", "web", "--image=web", "--replicas=3"];
    lab.kubectl(&deployment)?;
    lab.kubectl(&["rollout", "status", "deployment/web", "--timeout=120s"])?;
    let uids = |lab: &Lab| {
        let uids = lab.kubectl(&[
            "get",
            "pods",
            "-l",
            "app=web",
            "-o",
            "jsonpath={.items[*].metadata.uid}",
        ])?;
        anyhow::Ok(uids.split(' ').map(str::to_owned).collect::<BTreeSet<_>>())
    };
    let pods = uids(&lab)?;
    let port = lab.publish(0, e2e::lab::API.parse::<SocketAddr>()?)?;

    let kubeconfig = Kubeconfig::read_from(lab.kubeconfig())?;
    let runtime = tokio::runtime::Runtime::new()?;
    let api = runtime.block_on(config_maps(kubeconfig, port))?;
    let load = Load::default();
    for writer in 0..WRITERS {
        runtime.spawn(load.clone().write(api.clone(), writer));
    }
    for kill in 1..=KILLS {
        let goal = load.count.load(Ordering::Relaxed) + WRITES_BETWEEN;
        wait_for(&format!("writes before kill {kill}"), LIMIT, || {
            let answered = load.count.load(Ordering::Relaxed);
            ensure!(answered >= goal, "{answered} of {goal} writes are answered");
            Ok(())
        })?;
        lab.kill_supervisor()?;
        lab.start_supervisor()
            .with_context(|| format!("the start after kill {kill}"))?;
    }
    load.stop.store(true, Ordering::Relaxed);

    let answered = load
        .answered
        .lock()
        .map_err(|_| anyhow::anyhow!("a writer panicked"))?
        .clone();
    let list = runtime.block_on(api.list(&ListParams::default()))?;
    let kept: BTreeSet<String> = list
        .items
        .into_iter()
        .filter_map(|map| map.metadata.name)
        .collect();
    let lost: Vec<&String> = answered.iter().filter(|name| !kept.contains(*name)).collect();
    ensure!(
        lost.is_empty(),
        "{} of {} answered writes are lost: {lost:?}",
        lost.len(),
        answered.len()
    );
    ensure!(uids(&lab)? == pods, "other Pods run than before the kills");
    println!("{} writes answered through {KILLS} kills", answered.len());
    lab.stop()
}

/// Holds a Lab until it is killed.
#[test]
#[ignore = "the other half of the next"]
fn held() -> Result<()> {
    let lab = Lab::start(LabOptions {
        simulated_hosts: Some(1),
        no_registry: true,
        ..LabOptions::default()
    })?;
    println!(
        "\nheld: {} {}",
        lab.netns().path().display(),
        lab.directory().display()
    );
    std::io::stdin().read_line(&mut String::new())?;
    lab.stop()
}

#[test]
fn a_lab_ends_with_its_test() -> Result<()> {
    let mut test = Command::new(std::env::current_exe()?)
        .args(["--exact", "held", "--ignored", "--nocapture"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let said = BufReader::new(test.stdout.take().context("a pipe")?).lines();
    let held = said
        .map_while(Result::ok)
        .find_map(|line| line.strip_prefix("held: ").map(str::to_owned));
    test.kill()?;
    test.wait()?;
    let held = held.context("no Lab is held")?;
    let places = held.split(' ').map(Path::new).collect::<Vec<_>>();
    let directory = places[1].display().to_string();
    wait_for("the end of the Lab", LIMIT, || {
        ensure!(places.iter().all(|place| !place.exists()), "{held} is there");
        for entry in std::fs::read_dir("/proc")?.flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            ensure!(!line.contains(&directory), "{line} runs");
        }
        Ok(())
    })
}

/// What the writers share.
#[derive(Clone, Default)]
struct Load {
    stop: Arc<AtomicBool>,
    count: Arc<AtomicU64>,
    answered: Arc<Mutex<BTreeSet<String>>>,
}

impl Load {
    /// Creates one ConfigMap after another and notes those that the server has confirmed.
    async fn write(self, api: Api<ConfigMap>, writer: usize) {
        for number in 0.. {
            if self.stop.load(Ordering::Relaxed) {
                return;
            }
            let name = format!("writer-{writer}-{number}");
            let map = ConfigMap {
                metadata: ObjectMeta {
                    name: Some(name.clone()),
                    ..ObjectMeta::default()
                },
                ..ConfigMap::default()
            };
            if api.create(&PostParams::default(), &map).await.is_err() {
                // The server is down, as it often is here; a pause leaves it the processor to come back.
                tokio::time::sleep(PAUSE).await;
                continue;
            }
            if let Ok(mut answered) = self.answered.lock() {
                answered.insert(name);
                self.count.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

async fn config_maps(mut kubeconfig: Kubeconfig, port: u16) -> Result<Api<ConfigMap>> {
    for cluster in &mut kubeconfig.clusters {
        let cluster = cluster.cluster.as_mut().context("a cluster without settings")?;
        cluster.server = Some(format!("https://127.0.0.1:{port}"));
    }
    let mut config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.connect_timeout = Some(Duration::from_secs(2));
    config.read_timeout = Some(Duration::from_secs(5));
    Ok(Api::default_namespaced(kube::Client::try_from(config)?))
}
