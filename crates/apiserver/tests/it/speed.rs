//! Figures of the hot paths, for a developer's eye; run with `--release -- --ignored --nocapture`. The bench that counts
//! drives a real binary over TLS from another process.

#![allow(clippy::unwrap_used)]

use super::common;

use bytes::Bytes;
use common::Server;
use http_body_util::{BodyExt, Full};
use serde_json::json;
use std::sync::Arc;
use std::time::Instant;
use store::Store;
use store::embedded::EmbeddedStore;

/// CPU seconds of this process, client included.
fn cpu() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn rss() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4 / 1024
}

struct Meter(Instant, f64);

impl Meter {
    fn start() -> Meter {
        Meter(Instant::now(), cpu())
    }
    fn show(&self, what: &str, count: usize) {
        let (wall, used) = (self.0.elapsed().as_secs_f64(), cpu() - self.1);
        let (rate, each) = (count as f64 / wall, used * 1000.0 / count as f64);
        println!(
            "{what}: {rate:.0}/s, {each:.3} CPU ms each, {wall:.2} s, rss {} MiB",
            rss()
        );
    }
}

async fn many(
    server: &Arc<Server>,
    clients: usize,
    each: usize,
    request: fn(usize) -> http::Request<Full<Bytes>>,
) {
    let mut tasks = Vec::new();
    for client in 0..clients {
        let server = server.clone();
        tasks.push(tokio::spawn(async move {
            let mut sender = server.connect().await;
            for i in 0..each {
                let answer = sender.send_request(request(client * each + i)).await.unwrap();
                assert!(answer.status().is_success(), "{}", answer.status());
                answer.into_body().collect().await.unwrap();
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
}

const PODS: &str = "/api/v1/namespaces/default/pods";

fn request(method: &str, path: &str, body: String) -> http::Request<Full<Bytes>> {
    let builder = http::Request::builder()
        .method(method)
        .uri(path)
        .header("host", "x");
    builder
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(body)))
        .unwrap()
}

fn pod(i: usize) -> http::Request<Full<Bytes>> {
    let env: Vec<_> = (0..40)
        .map(|n| json!({"name": format!("VAR_{n}"), "value": "some value of some length"}))
        .collect();
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": format!("p{i:05}"), "labels": {"app": "x"}},
        "spec": {"containers": [{"name": "c", "image": "example.com/image:1", "env": env}]}});
    request("POST", PODS, pod.to_string())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "figures, no check"]
async fn figures() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(EmbeddedStore::open(&dir.path().join("s.redb")).unwrap());
    let server = Arc::new(Server::on(store).await);
    println!("idle: rss {} MiB", rss());
    let meter = Meter::start();
    many(&server, 1, 300, |i| pod(90_000 + i)).await;
    meter.show("create Pod, one client", 300);
    let meter = Meter::start();
    many(&server, 64, 156, pod).await;
    meter.show("create Pod, 64 clients", 64 * 156);
    let meter = Meter::start();
    many(&server, 64, 300, |i| {
        request("GET", &format!("{PODS}/p{:05}", i % 9000), String::new())
    })
    .await;
    meter.show("get Pod, 64 clients", 64 * 300);
    let meter = Meter::start();
    let mut bytes = 0;
    for _ in 0..5 {
        let answer = server
            .connect()
            .await
            .send_request(request("GET", PODS, String::new()))
            .await
            .unwrap();
        bytes += answer.into_body().collect().await.unwrap().to_bytes().len();
    }
    meter.show("list MiB", bytes >> 20);
    let meter = Meter::start();
    let mut watches = Vec::new();
    for _ in 0..100 {
        let mut watch = server
            .watch("/api/v1/namespaces/default/configmaps?watch=1")
            .await;
        watches.push(tokio::spawn(async move { watch.count(1000).await }));
    }
    many(&server, 16, 63, |i| {
        let map = json!({"metadata": {"name": format!("m{i}")}, "data": {"k": "x".repeat(900)}});
        request("POST", "/api/v1/namespaces/default/configmaps", map.to_string())
    })
    .await;
    for watch in watches {
        watch.await.unwrap();
    }
    meter.show("watch events, 100 watchers", 100 * 1000);
    let meter = Meter::start();
    let answer = server
        .connect()
        .await
        .send_request(request("DELETE", PODS, String::new()))
        .await
        .unwrap();
    answer.into_body().collect().await.unwrap();
    meter.show("delete collection of Pods", 64 * 156 + 300);
}

/// From the opening of a store with 100,000 objects to a server that answers.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a figure"]
async fn start_with_a_hundred_thousand_objects() {
    const OBJECTS: usize = 100_000;
    const TOGETHER: usize = 512;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    let padding = "x".repeat(900);
    for first in (0..OBJECTS).step_by(TOGETHER) {
        let writes = (first..(first + TOGETHER).min(OBJECTS)).map(|i| {
            let object = json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": format!("m{i:06}"), "namespace": "default", "labels": {"app": "a"},
                    "uid": format!("00000000-0000-4000-8000-{i:012}"), "creationTimestamp": "2026-01-01T00:00:00Z"},
                "data": {"v": padding},
            });
            let key = format!("cp/core/configmaps/default/m{i:06}");
            store.create(Bytes::from(key), apiserver::cache::object::encode(&object))
        });
        for outcome in futures::future::join_all(writes).await {
            outcome.unwrap();
        }
    }
    store.close().await;
    drop(store);
    for kind in ["after a close", "after a crash"] {
        let meter = Meter::start();
        let store = Arc::new(EmbeddedStore::open(&path).unwrap());
        meter.show(&format!("{kind}: store opened"), OBJECTS);
        let server = Server::on(store.clone()).await;
        meter.show(&format!("{kind}: server started"), OBJECTS);
        assert_eq!(server.get(&format!("{MAPS}/m099999")).await.0, 200);
        drop(server);
        if kind == "after a close" {
            // As a process leaves it that is killed: the copy was never closed.
            std::fs::copy(&path, dir.path().join("copy")).unwrap();
        }
        store.close().await;
        std::fs::rename(dir.path().join("copy"), &path).ok();
    }
}

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
