//! Every backend passes the conformance suite; the embedded one also survives being opened again.

#![allow(clippy::unwrap_used)]

mod common;

use bytes::Bytes;
use std::sync::Arc;
use store::embedded::EmbeddedStore;
use store::etcd::EtcdStore;
use store::memory::MemoryStore;
use store::{Revision, Store};

#[tokio::test]
async fn memory_conforms() {
    store::conformance::all(|| async { Arc::new(MemoryStore::new()) as Arc<dyn Store> }).await;
}

/// With everything in the log, and with writes that move into the store file at different times.
#[tokio::test]
async fn embedded_conforms() {
    for log_bytes in [store::embedded::LOG_BYTES, 1, 3000] {
        let dir = tempfile::tempdir().unwrap();
        let count = std::sync::atomic::AtomicUsize::new(0);
        store::conformance::all(|| {
            let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let path = dir.path().join(format!("{n}.redb"));
            async move { Arc::new(EmbeddedStore::open_with(&path, log_bytes).unwrap()) as Arc<dyn Store> }
        })
        .await;
    }
}

#[tokio::test]
async fn embedded_keeps_everything_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    let a = store.create(Bytes::from("cp/a"), Bytes::from("1")).await.unwrap();
    let b = store
        .update(Bytes::from("cp/a"), Bytes::from("2"), a)
        .await
        .unwrap();
    let message = EmbeddedStore::open(&path)
        .err()
        .expect("the file is locked")
        .to_string();
    assert!(message.contains("in use by another process"), "{message}");
    store.close().await;
    let store = EmbeddedStore::open(&path).unwrap();
    assert_eq!(store.current().await.unwrap(), b);
    let mut watch = store.watch(b"cp/", a).await.unwrap();
    assert_eq!(watch.next().await.unwrap().unwrap().events[0].record.revision, b);
    let c = store.delete(Bytes::from("cp/a"), b).await.unwrap();
    assert_eq!(c, Revision(b.0 + 1));
}

/// Members of a cluster.
const MEMBERS: usize = 3;

/// A real etcd cluster on loopback ports; ended when dropped.
struct Etcd {
    processes: Vec<std::process::Child>,
    _dir: tempfile::TempDir,
    addresses: Vec<String>,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

impl Etcd {
    fn start() -> Etcd {
        let unpacked = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/tools/bin/etcd");
        let program = if unpacked.exists() {
            unpacked
        } else {
            "etcd".into()
        };
        let dir = tempfile::tempdir().unwrap();
        let urls = || -> Vec<String> {
            let each = (0..MEMBERS).map(|_| format!("http://{}", common::address()));
            each.collect()
        };
        let (clients, peers) = (urls(), urls());
        let cluster: Vec<String> = peers
            .iter()
            .enumerate()
            .map(|(i, p)| format!("m{i}={p}"))
            .collect();
        let mut etcd = Etcd {
            processes: Vec::new(),
            addresses: clients.clone(),
            _dir: dir,
        };
        for (i, (client, peer)) in clients.iter().zip(&peers).enumerate() {
            let data = etcd._dir.path().join(format!("m{i}"));
            let process = std::process::Command::new(&program)
                .args(["--name", &format!("m{i}"), "--unsafe-no-fsync", "--data-dir"])
                .arg(data)
                .args(["--listen-client-urls", client, "--advertise-client-urls", client])
                .args(["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer])
                .args(["--initial-cluster", &cluster.join(",")])
                .stdout(std::process::Stdio::null())
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("etcd: run `cargo xtask setup --tests`");
            etcd.processes.push(process);
        }
        etcd
    }
}

/// Waits until each member answers for itself: requests go to any of them.
async fn all_serve(members: &[String]) {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    for member in members {
        let store = EtcdStore::connect(std::slice::from_ref(member)).unwrap();
        while store.health().await.is_err() {
            assert!(std::time::Instant::now() < deadline, "{member} did not start");
            tokio::task::yield_now().await;
        }
    }
}

/// Three members, any of which may be asked.
#[tokio::test]
async fn etcd_conforms() {
    let running = parking_lot::Mutex::new(Vec::new());
    store::conformance::all(|| {
        // One cluster at a time.
        running.lock().clear();
        let etcd = Etcd::start();
        let store = EtcdStore::connect(&etcd.addresses).unwrap();
        let members = etcd.addresses.clone();
        running.lock().push(etcd);
        async move {
            all_serve(&members).await;
            Arc::new(store) as Arc<dyn Store>
        }
    })
    .await;
}

#[tokio::test]
async fn nobody_but_the_owner_reads_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state.redb");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    EmbeddedStore::open(&path).unwrap().close().await;
    assert_eq!(mode(&path), 0o600);
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    EmbeddedStore::open(&path).unwrap().close().await;
    assert_eq!(mode(&path), 0o600);
}

/// One of three members dies: what was answered is there, and writes go on.
#[tokio::test]
async fn etcd_survives_a_member() {
    let mut etcd = Etcd::start();
    let store = EtcdStore::connect(&etcd.addresses).unwrap();
    all_serve(&etcd.addresses).await;
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(60);
    let mut answered = Vec::new();
    for i in 0..60 {
        if i == 20 {
            etcd.processes[0].kill().unwrap();
        }
        let key = Bytes::from(format!("cp/{i}"));
        loop {
            assert!(std::time::Instant::now() < deadline, "no write goes through");
            match store.create(key.clone(), Bytes::from("x")).await {
                Ok(revision) => break answered.push(revision),
                // An earlier attempt whose answer was lost.
                Err(store::StoreError::Exists(there)) => break answered.push(there.revision),
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
    assert!(answered.is_sorted());
    let page = store.list(b"cp/", None, 0, None).await.unwrap();
    assert_eq!(page.records.len(), 60);
}
