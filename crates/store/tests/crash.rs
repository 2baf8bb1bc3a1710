//! `kill -9` under load: every answered write is there afterwards, none is half there, revisions never go back.
//!
//! The parent starts this same test binary as a child that writes with 16 tasks and prints each answered write. It
//! kills the child at a random moment, opens the file and compares. The file lives on over all rounds.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::embedded::EmbeddedStore;
use store::{EventKind, Revision, Store};

/// Tells the child that it is one, and where its file is.
const CHILD: &str = "PODVISOR_STORE_CRASH_CHILD";
const WRITERS: usize = 16;
const ROUNDS: u64 = 50;
/// So little that most rounds see the log turn.
const LOG_BYTES: u64 = 128 << 10;

fn value(key: &str, n: u64) -> String {
    format!("{key}:{n}:{}", "x".repeat(200 + (n as usize * 37) % 1800))
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
}

/// Writes until it is killed. Not a check of its own: without its variable it does nothing.
#[test]
fn child() {
    let Ok(path) = std::env::var(CHILD) else { return };
    let (path, round) = path.rsplit_once('#').unwrap();
    let round: u64 = round.parse().unwrap();
    runtime().block_on(async {
        let store = Arc::new(EmbeddedStore::open_with(Path::new(path), LOG_BYTES).unwrap());
        let mut tasks = Vec::new();
        for writer in 0..WRITERS {
            let store = store.clone();
            tasks.push(tokio::spawn(async move {
                let say = |line: String| std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
                let own = format!("cp/r{round}/w{writer}");
                let mut last: Option<Revision> = None;
                for n in 0.. {
                    // One key that changes all the time, and one new key each time.
                    let bytes = Bytes::from(value(&own, n));
                    let done = match last {
                        None => store.create(Bytes::from(own.clone()), bytes).await,
                        Some(at) => store.update(Bytes::from(own.clone()), bytes, at).await,
                    };
                    last = Some(done.unwrap());
                    say(format!("ack {own} {n} {}\n", done_revision(last)));
                    let key = format!("{own}/{n}");
                    let made = store
                        .create(Bytes::from(key.clone()), Bytes::from(value(&key, n)))
                        .await;
                    say(format!("ack {key} {n} {}\n", made.unwrap()));
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
    });
}

fn done_revision(r: Option<Revision>) -> u64 {
    r.map_or(0, |r| r.0)
}

/// Runs a child for a while, kills it, and answers what it said: key, n, revision.
fn run_and_kill(path: &Path, round: u64) -> Vec<(String, u64, u64)> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(CHILD, format!("{}#{round}", path.display()))
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acks = Vec::new();
    let mut until: Option<Instant> = None;
    // Spread over the rounds without randomness of its own: from "just begun" to "well under way".
    let running = Duration::from_millis(5 + (round * 7919) % 120);
    let mut killed = false;
    while let Some(Ok(line)) = lines.next() {
        let mut words = line.split(' ');
        if words.next() == Some("ack")
            && let (Some(key), Some(n), Some(revision)) = (words.next(), words.next(), words.next())
            && let (Ok(n), Ok(revision)) = (n.parse(), revision.parse())
        {
            acks.push((key.to_string(), n, revision));
            let until = *until.get_or_insert_with(|| Instant::now() + running);
            if !killed && Instant::now() >= until {
                child.kill().unwrap();
                killed = true;
            }
        }
    }
    child.wait().unwrap();
    assert!(killed, "the child ended by itself in round {round}");
    acks
}

#[test]
fn answered_writes_survive_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("crash.redb");
    let runtime = runtime();
    let (mut expected, mut highest) = (BTreeMap::<String, (u64, u64)>::new(), 0);
    for round in 0..ROUNDS {
        let acks = run_and_kill(&path, round);
        for (key, n, revision) in &acks {
            assert!(
                *revision > highest,
                "round {round}: revision {revision} was given before"
            );
            expected.insert(key.clone(), (*n, *revision));
        }
        runtime.block_on(async {
            let store = EmbeddedStore::open(&path).unwrap();
            let current = store.current().await.unwrap();
            let answered = acks.iter().map(|(_, _, r)| *r).max().unwrap();
            assert!(
                current.0 >= answered,
                "round {round}: the log ends before an answered write"
            );
            let page = store
                .list(format!("cp/r{round}/").as_bytes(), None, 0, None)
                .await
                .unwrap();
            let mut there = BTreeMap::new();
            for record in &page.records {
                let key = String::from_utf8(record.key.to_vec()).unwrap();
                let text = String::from_utf8(record.value.to_vec()).unwrap();
                let n: u64 = text.split(':').nth(1).unwrap().parse().unwrap();
                assert_eq!(text, value(&key, n), "round {round}: {key} is half there");
                there.insert(key, (n, record.revision.0));
            }
            for (key, (n, revision)) in expected
                .iter()
                .filter(|(k, _)| k.starts_with(&format!("cp/r{round}/")))
            {
                let (has, at) = there
                    .get(key)
                    .unwrap_or_else(|| panic!("round {round}: {key} is lost"));
                // A later write of the same key may have happened without its answer getting out.
                assert!(
                    has >= n && at >= revision,
                    "round {round}: {key} is at {has}, answered was {n}"
                );
            }
            // The history has no gap and no duplicate.
            let mut watch = store.watch(b"cp/", Revision(highest)).await.unwrap();
            let batch = watch.next().await.unwrap().unwrap();
            let revisions: Vec<u64> = batch.events.iter().map(|e| e.record.revision.0).collect();
            assert_eq!(
                revisions,
                (highest + 1..=current.0).collect::<Vec<_>>(),
                "round {round}"
            );
            assert!(batch.events.iter().all(|e| e.kind != EventKind::Deleted));
            highest = current.0;
            if round % 10 == 9 {
                store.compact(current).await.unwrap();
            }
            store.close().await;
        });
    }
    assert!(
        expected.len() > ROUNDS as usize * WRITERS,
        "too little was written to mean anything"
    );
}
