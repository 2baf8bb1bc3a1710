//! Bounds: a flood by one user does not slow another, slow watchers are cut off, sizes are limited.

#![allow(clippy::unwrap_used)]

use super::common;
use super::raw;

use bytes::Bytes;
use common::Server;
use http_body_util::BodyExt;
use raw::{Raw, number};
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
    let mut took = Vec::new();
    for _ in 0..20 {
        let begun = Instant::now();
        let response = s
            .send("GET", &format!("{MAPS}/m1"), &[("x-user", "calm")], Bytes::new())
            .await;
        assert_eq!(response.status(), 200);
        took.push(begun.elapsed());
    }
    for task in flood {
        task.await.unwrap();
    }
    // The machine may stand still for any one of them.
    took.sort();
    let median = took[took.len() / 2];
    assert!(
        median < Duration::from_secs(2),
        "a GET took {median:?} beside a flood"
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
    // Now it reads: what was queued comes, then the end; an abrupt one when its connection was given up, too.
    let mut body = response.into_body();
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Some(Ok(_)) = tokio::time::timeout(Duration::from_secs(20), body.frame())
        .await
        .unwrap()
    {
        assert!(Instant::now() < deadline);
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

/// So many at the same time.
const FLOOD: u32 = 40;

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
            for _ in 0..FLOOD {
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
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(2) {
        let begun = Instant::now();
        let response = s
            .send("GET", &format!("{maps}/m1"), &[("x-user", "reader")], Vec::new())
            .await;
        assert_eq!(response.status(), 200);
        let _ = response.into_body().collect().await;
        took.push(begun.elapsed());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    let flooded = start.elapsed();
    let lists = tokio::task::spawn_blocking(move || flood.join().unwrap())
        .await
        .unwrap();
    took.sort();
    let median = took[took.len() / 2];
    // Where the machine has other work, too, both are slow: then a read takes less than half of what a list does.
    let list = flooded * FLOOD / lists.max(1);
    assert!(
        lists > 0 && median < Duration::from_millis(100).max(list / 2),
        "{lists} lists, {list:?} each, median {median:?} of {}",
        took.len()
    );
}

/// One request after the other on a new connection each; the code, or none when the connection was cut off.
async fn code(s: &Server, text: &str) -> Option<u16> {
    let mut raw = Raw::connect(s.address).await;
    raw.send(text.as_bytes()).await;
    raw.answer().await.map(|(code, ..)| code)
}

#[tokio::test]
async fn heads_of_requests() {
    let s = Server::start().await;
    let long = "a".repeat(40_000);
    let large = "a".repeat(300_000);
    let many = (0..500).map(|i| format!("x-{i}: y\r\n")).collect::<String>();
    let cases = [
        (format!("GET /version?{long} HTTP/1.1\r\nhost: x\r\n\r\n"), 414),
        (
            format!("GET /version HTTP/1.1\r\nhost: x\r\nx: {large}\r\n\r\n"),
            431,
        ),
        (format!("GET /version HTTP/1.1\r\nhost: x\r\n{many}\r\n"), 431),
        (
            "POST /api/v1/namespaces HTTP/1.1\r\nhost: x\r\ncontent-length: 3145729\r\n\r\n".into(),
            413,
        ),
    ];
    for (text, want) in cases {
        assert_eq!(code(&s, &text).await, Some(want), "{:.60}", text);
    }
}

/// A head that comes byte by byte, or not at all, does not hold its connection for long.
#[tokio::test]
async fn slow_loris() {
    let s = Server::with(Arc::new(MemoryStore::new()), |c| {
        c.head_limit = Duration::from_millis(300)
    })
    .await;
    // Nothing, the beginning of HTTP/2, of a method, of a head.
    for begun in ["", "PRI * HT", "P", "GET /version HTTP/1.1\r\nhost: x\r\nx-a: "] {
        let mut raw = Raw::connect(s.address).await;
        raw.send(begun.as_bytes()).await;
        let begin = Instant::now();
        raw.rest().await;
        assert!(begin.elapsed() < Duration::from_secs(10), "{begun:?}");
    }
}

/// Clients keep connections, and use them again after pauses that the head of a first request may not take.
#[tokio::test]
async fn resting_connections_stay_until_their_time_is_over() {
    const GET: &[u8] = b"GET /version HTTP/1.1\r\nhost: x\r\n\r\n";
    let head = Duration::from_secs(2);
    let s = Server::with(Arc::new(MemoryStore::new()), |c| c.head_limit = head).await;
    let mut raw = Raw::connect(s.address).await;
    for pause in [head + Duration::from_millis(500), Duration::ZERO] {
        raw.send(GET).await;
        assert_eq!(raw.answer().await.unwrap().0, 200);
        // Time is what this is about.
        tokio::time::sleep(pause).await;
    }
    let s = Server::with(Arc::new(MemoryStore::new()), |c| {
        c.idle_limit = Duration::from_millis(300)
    })
    .await;
    let mut raw = Raw::connect(s.address).await;
    raw.send(GET).await;
    assert_eq!(raw.answer().await.unwrap().0, 200);
    assert_eq!(raw.rest().await, 0);
}

/// However many connections one address opens, there are places for the next.
#[tokio::test]
async fn connections_are_shared() {
    let s = Server::with(Arc::new(MemoryStore::new()), |c| c.max_connections = 8).await;
    let mut greedy = Vec::new();
    for _ in 0..20 {
        greedy.push(Raw::connect(s.address).await);
    }
    let other = tokio::net::TcpSocket::new_v4().unwrap();
    other.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let mut other = Raw(other.connect(s.address).await.unwrap());
    other
        .send(b"GET /version HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .await;
    assert!(other.rest().await > 0, "it was refused");
}

/// Who asks for lists and does not read them loses the connection, and with it the places that it held.
#[tokio::test]
async fn slow_readers() {
    let s = Server::with(Arc::new(MemoryStore::new()), |c| {
        c.stall_limit = Duration::from_millis(400)
    })
    .await;
    let mut length = 0;
    for i in 0..15 {
        let (code, _) = s.json("POST", MAPS, &map(&format!("m{i}"), 1_000_000)).await;
        assert_eq!(code, 201);
        length += 1_000_000;
    }
    let mut stalled = Vec::new();
    for _ in 0..4 {
        let mut raw = Raw::connect(s.address).await;
        raw.send(
            format!("GET {MAPS} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nx-user: slow\r\n\r\n").as_bytes(),
        )
        .await;
        stalled.push(raw);
    }
    // A fifth list of this user waits for one of the four places.
    let response = s
        .send(
            "GET",
            &format!("{MAPS}?limit=1"),
            &[("x-user", "slow")],
            Bytes::new(),
        )
        .await;
    assert_eq!(response.status(), 200);
    let mut cut_off = 0;
    for mut raw in stalled {
        cut_off += usize::from(raw.rest().await < length);
    }
    assert!(cut_off > 0, "all lists came to their end");
}

/// Who reads the connection but opens no window for one of its answers loses that answer and nothing else; a watch that
/// has nothing to tell stays.
#[tokio::test]
async fn slow_streams() {
    let s = Server::with(Arc::new(MemoryStore::new()), |c| {
        c.stall_limit = Duration::from_millis(400)
    })
    .await;
    for i in 0..3 {
        let (code, _) = s.json("POST", MAPS, &map(&format!("m{i}"), 1_000_000)).await;
        assert_eq!(code, 201);
    }
    let mut raw = Raw::http2(s.address).await;
    let flags = raw::END_STREAM | raw::END_HEADERS;
    for (stream, path) in [
        (1, format!("{MAPS}?watch=1&fieldSelector=metadata.name%3Dnone")),
        (3, MAPS.to_owned()),
        (5, "/version".to_owned()),
    ] {
        raw.send(&raw::frame(raw::HEADERS, flags, stream, &raw::get(&path)))
            .await;
    }
    // The connection's window is opened, that of stream 3 is not.
    raw.send(&raw::frame(raw::WINDOW_UPDATE, 0, 0, &(1u32 << 30).to_be_bytes()))
        .await;
    let mut answered = Vec::new();
    let reset = loop {
        let frame = raw.frame().await.expect("the connection stays");
        match frame.kind {
            raw::HEADERS => answered.push(frame.stream),
            raw::RST_STREAM => break frame.stream,
            _ => {}
        }
    };
    answered.sort();
    assert_eq!((reset, &answered[..]), (3, &[1, 3, 5][..]));
    raw.send(&raw::frame(raw::HEADERS, flags, 7, &raw::get("/version")))
        .await;
    loop {
        let frame = raw.frame().await.expect("the connection stays");
        assert_ne!(frame.kind, raw::RST_STREAM, "{frame:?}");
        if frame.kind == raw::HEADERS {
            break assert_eq!(frame.stream, 7);
        }
    }
}

#[tokio::test]
async fn watches_of_one_user() {
    let s = Server::with(Arc::new(MemoryStore::new()), |c| c.max_watches_per_user = 3).await;
    let path = format!("{MAPS}?watch=1");
    let mut open = Vec::new();
    for _ in 0..3 {
        let response = s.send("GET", &path, &[], Bytes::new()).await;
        assert_eq!(response.status(), 200);
        open.push(response);
    }
    let response = s.send("GET", &path, &[], Bytes::new()).await;
    assert_eq!(response.status(), 429);
    assert_eq!(response.headers()["retry-after"], "1");
    let other = s.send("GET", &path, &[("x-user", "other")], Bytes::new()).await;
    assert_eq!(other.status(), 200);
    // One ends; there is room again.
    open.pop();
    let deadline = Instant::now() + Duration::from_secs(10);
    while s.send("GET", &path, &[], Bytes::new()).await.status() != 200 {
        assert!(
            Instant::now() < deadline,
            "the place of a closed watch stays taken"
        );
    }
}

/// An HTTP/2 connection carries 250 streams; more of them are refused and harm nobody.
#[tokio::test]
async fn streams_of_one_connection() {
    let s = Server::start().await;
    let mut raw = Raw::http2(s.address).await;
    let watch = raw::get(&format!("{MAPS}?watch=1"));
    let flags = raw::END_STREAM | raw::END_HEADERS;
    let frames: Vec<u8> = (0..260)
        .flat_map(|i| raw::frame(raw::HEADERS, flags, 2 * i + 1, &watch))
        .collect();
    raw.send(&frames).await;
    let (mut limit, mut answered, mut refused) = (0, 0, 0);
    while answered + refused < 260 {
        let frame = raw.frame().await.expect("the connection stays");
        match frame.kind {
            raw::SETTINGS => {
                let settings = frame.payload.chunks(6);
                // SETTINGS_MAX_CONCURRENT_STREAMS
                let mut found = settings.filter(|s| s[..2] == [0, 3]).map(|s| number(&s[2..]));
                limit = found.next_back().unwrap_or(limit);
            }
            raw::HEADERS => answered += 1,
            raw::RST_STREAM => {
                assert_eq!(number(&frame.payload), 7, "REFUSED_STREAM");
                refused += 1;
            }
            raw::GOAWAY => panic!("{frame:?}"),
            _ => {}
        }
    }
    assert_eq!((limit, answered, refused), (250, 250, 10));
}

/// Headers that never end are ended by us.
#[tokio::test]
async fn a_flood_of_continuations() {
    let s = Server::start().await;
    let mut raw = Raw::http2(s.address).await;
    raw.send(&raw::frame(
        raw::HEADERS,
        raw::END_STREAM,
        1,
        &raw::get("/version"),
    ))
    .await;
    // A literal header of 16 KiB a frame.
    let mut block = vec![0x00, 1, b'a', 0x7f];
    let mut length = 16_000 - 127;
    while length >= 128 {
        block.push((length % 128) as u8 | 0x80);
        length /= 128;
    }
    block.push(length as u8);
    block.extend(vec![b'b'; 16_000]);
    for _ in 0..2000 {
        raw.send(&raw::frame(raw::CONTINUATION, 0, 1, &block)).await;
    }
    let mut last = None;
    while let Some(frame) = raw.frame().await {
        last = Some(frame);
    }
    let told = last.map(|f| f.kind);
    assert!(
        matches!(told, None | Some(raw::GOAWAY | raw::SETTINGS)),
        "the connection ended otherwise: {told:?}"
    );
    assert_eq!(s.get("/version").await.0, 200);
}
