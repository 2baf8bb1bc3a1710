//! What writes cost: time, CPU and bytes on the disk. `cargo test --release -p store --test speed -- --ignored --nocapture`

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use store::Store;
use store::embedded::EmbeddedStore;

/// Writers and objects of each case: bytes of a value, writers, writes.
const CASES: [(usize, usize, usize); 4] = [
    (1300, 1, 500),
    (1300, 64, 20_000),
    (7500, 1, 500),
    (7500, 64, 20_000),
];

fn number(file: &str, name: &str) -> u64 {
    let text = std::fs::read_to_string(file).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// CPU time of this process, to a hundredth of a second.
fn cpu() -> Duration {
    let text = std::fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = text.rsplit_once(')').unwrap();
    // utime and stime, in ticks of 10 ms (proc_pid_stat(5)).
    let ticks = fields.split_whitespace().skip(11).take(2);
    let ticks: u64 = ticks.map(|n| n.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

#[test]
#[ignore = "measures, which means nothing beside other tests"]
fn writes() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    for (n, (bytes, writers, writes)) in CASES.into_iter().enumerate() {
        let store = Arc::new(EmbeddedStore::open(&dir.path().join(format!("{n}.redb"))).unwrap());
        let (written, used, start) = (number("/proc/self/io", "write_bytes"), cpu(), Instant::now());
        let next = Arc::new(AtomicUsize::new(0));
        let mut latencies = runtime.block_on(async {
            let tasks: Vec<_> = (0..writers)
                .map(|_| {
                    let (store, next) = (store.clone(), next.clone());
                    tokio::spawn(async move {
                        let mut latencies = Vec::new();
                        loop {
                            let n = next.fetch_add(1, Ordering::Relaxed);
                            if n >= writes {
                                return latencies;
                            }
                            let key = Bytes::from(format!("main/pods/default/many-{n}"));
                            let start = Instant::now();
                            store.create(key, vec![b'x'; bytes].into()).await.unwrap();
                            latencies.push(start.elapsed());
                        }
                    })
                })
                .collect();
            let mut all = Vec::new();
            for task in tasks {
                all.extend(task.await.unwrap());
            }
            all
        });
        let wall = start.elapsed();
        latencies.sort();
        let (used, written) = (cpu() - used, number("/proc/self/io", "write_bytes") - written);
        println!(
            "{writers} x {bytes} bytes: {:.0}/s, p50 {:.2} ms, p99 {:.2} ms, {:.1} us of CPU each, {:.2} bytes written for each byte",
            writes as f64 / wall.as_secs_f64(),
            latencies[writes / 2].as_secs_f64() * 1000.0,
            latencies[writes * 99 / 100].as_secs_f64() * 1000.0,
            used.as_secs_f64() * 1e6 / writes as f64,
            written as f64 / (writes * bytes) as f64,
        );
        runtime.block_on(store.close());
    }
}
