//! Every backend passes the conformance suite; the embedded one also survives being opened again.

#![allow(clippy::unwrap_used)]

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

#[tokio::test]
async fn embedded_conforms() {
    let dir = tempfile::tempdir().unwrap();
    let count = std::sync::atomic::AtomicUsize::new(0);
    store::conformance::all(|| {
        let n = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = dir.path().join(format!("{n}.redb"));
        async move { Arc::new(EmbeddedStore::open(&path).unwrap()) as Arc<dyn Store> }
    })
    .await;
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

/// A real etcd on loopback ports; ended when dropped. `None` where it is not installed.
struct Etcd {
    process: std::process::Child,
    _dir: tempfile::TempDir,
    address: String,
}

impl Drop for Etcd {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

impl Etcd {
    fn start() -> Option<Etcd> {
        let dir = tempfile::tempdir().unwrap();
        let free = || {
            std::net::TcpListener::bind("127.0.0.1:0")
                .unwrap()
                .local_addr()
                .unwrap()
        };
        let (client, peer) = (format!("http://{}", free()), format!("http://{}", free()));
        let process = std::process::Command::new("etcd")
            .arg("--data-dir")
            .arg(dir.path())
            .args([
                "--listen-client-urls",
                &client,
                "--advertise-client-urls",
                &client,
            ])
            .args([
                "--listen-peer-urls",
                &peer,
                "--initial-advertise-peer-urls",
                &peer,
            ])
            .args([
                "--initial-cluster",
                &format!("default={peer}"),
                "--unsafe-no-fsync",
            ])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .ok()?;
        Some(Etcd {
            process,
            _dir: dir,
            address: client,
        })
    }
}

#[tokio::test]
async fn etcd_conforms() {
    if Etcd::start().is_none() {
        eprintln!("etcd is not installed; its store was not tested");
        return;
    }
    let running = parking_lot::Mutex::new(Vec::new());
    store::conformance::all(|| {
        let etcd = Etcd::start().unwrap();
        let store = EtcdStore::connect(std::slice::from_ref(&etcd.address)).unwrap();
        running.lock().push(etcd);
        async move {
            let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
            while store.health().await.is_err() {
                assert!(std::time::Instant::now() < deadline, "etcd did not start");
                tokio::task::yield_now().await;
            }
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
