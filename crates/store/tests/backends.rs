//! Every backend passes the conformance suite; the embedded one also survives being opened again.

use bytes::Bytes;
use std::sync::Arc;
use store::embedded::EmbeddedStore;
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
