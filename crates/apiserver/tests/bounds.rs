//! Bounds: a flood by one user does not slow another, slow watchers are cut off, sizes are limited.

#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use common::Server;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::memory::MemoryStore;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

fn map(name: &str, size: usize) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "x".repeat(size)}})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_users_flood_is_not_anothers_wait() {
    let s = Arc::new(Server::with(Arc::new(MemoryStore::new()), |c| c.max_requests_per_user = 8).await);
    for i in 0..200 {
        s.json("POST", MAPS, &map(&format!("m{i}"), 10_000)).await;
    }
    let mut flood = Vec::new();
    for _ in 0..64 {
        let s = s.clone();
        flood.push(tokio::spawn(async move {
            for _ in 0..5 {
                let response = s.send("GET", MAPS, &[("x-user", "flood")], Bytes::new()).await;
                let _ = response.into_body().collect().await;
            }
        }));
    }
    let mut worst = Duration::ZERO;
    for _ in 0..20 {
        let begun = Instant::now();
        let response = s
            .send("GET", &format!("{MAPS}/m1"), &[("x-user", "calm")], Bytes::new())
            .await;
        assert_eq!(response.status(), 200);
        worst = worst.max(begun.elapsed());
    }
    for task in flood {
        task.await.unwrap();
    }
    assert!(
        worst < Duration::from_secs(2),
        "a GET took {worst:?} beside a flood"
    );
}

#[tokio::test]
async fn a_watcher_that_does_not_read_is_cut_off() {
    let s = Server::start().await;
    let response = s.send("GET", &format!("{MAPS}?watch=1"), &[], Bytes::new()).await;
    let (code, first) = s.json("POST", MAPS, &map("a", 60_000)).await;
    assert_eq!(code, 201);
    let mut sender = s.connect().await;
    // Written in this process, so that it takes no time: more than the queue and all buffers hold.
    let mut n = 0;
    let mut last = first;
    while n < 6000 {
        last["data"]["k"] = json!(format!("{n}{}", "y".repeat(2000)));
        let request = http::Request::builder()
            .method("PUT")
            .uri(format!("{MAPS}/a"))
            .header("host", "x");
        let body = http_body_util::Full::new(Bytes::from(last.to_string()));
        let answer = sender.send_request(request.body(body).unwrap()).await.unwrap();
        let bytes = answer.into_body().collect().await.unwrap().to_bytes();
        last = serde_json::from_slice(&bytes).unwrap();
        n += 1;
    }
    // Now it reads: what was queued comes, then the end.
    let mut body = response.into_body();
    let deadline = Instant::now() + Duration::from_secs(30);
    while let Some(frame) = tokio::time::timeout(Duration::from_secs(10), body.frame())
        .await
        .unwrap()
    {
        assert!(frame.is_ok() && Instant::now() < deadline);
    }
}

#[tokio::test]
async fn sizes() {
    let s = Server::start().await;
    let (code, _) = s.json("POST", MAPS, &map("big", 1_400_000)).await;
    assert!(code == 201 || code == 422, "{code}");
    let (code, answer) = s.json("POST", MAPS, &map("bigger", 1_700_000)).await;
    assert!(code == 413 || code == 422, "{answer}");
    let long = format!("{MAPS}?labelSelector={}", "a".repeat(40_000));
    let (code, _) = s.get(&long).await;
    assert_eq!(code, 414);
}

/// One client lists everything, again and again, on many connections; another's reads stay quick.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flood_of_lists_leaves_others_alone() {
    let s = Arc::new(Server::start().await);
    let maps = "/api/v1/namespaces/default/configmaps";
    for i in 0..300 {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": format!("m{i}")},
            "data": {"k": "x".repeat(2000)}});
        assert_eq!(s.json("POST", maps, &map).await.0, 201);
    }
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    // The flood has a thread of its own, so that what is measured is the server.
    let (server, ended) = (s.clone(), stop.clone());
    let flood = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let mut clients = tokio::task::JoinSet::new();
            for _ in 0..40 {
                let (s, ended) = (server.clone(), ended.clone());
                clients.spawn(async move {
                    let mut lists = 0;
                    while !ended.load(std::sync::atomic::Ordering::Relaxed) {
                        let response = s.send("GET", MAPS, &[("x-user", "flood")], Vec::new()).await;
                        let whole = response.status() == 200;
                        let _ = response.into_body().collect().await;
                        lists += u32::from(whole);
                    }
                    lists
                });
            }
            clients.join_all().await.into_iter().sum::<u32>()
        })
    });
    let mut took = Vec::new();
    let end = Instant::now() + Duration::from_secs(2);
    while Instant::now() < end {
        let begun = Instant::now();
        let response = s
            .send("GET", &format!("{maps}/m1"), &[("x-user", "reader")], Vec::new())
            .await;
        assert_eq!(response.status(), 200);
        let _ = response.into_body().collect().await;
        took.push(begun.elapsed());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let lists = tokio::task::spawn_blocking(move || flood.join().unwrap())
        .await
        .unwrap();
    took.sort();
    let median = took[took.len() / 2];
    assert!(
        lists > 0 && median < Duration::from_millis(100),
        "{lists} lists, median {median:?} of {}",
        took.len()
    );
}
