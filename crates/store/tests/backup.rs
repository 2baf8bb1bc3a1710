//! A copy is the state of one moment, whatever is written meanwhile; a changed one is refused as a whole; what is
//! restored goes on with greater revisions.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use futures::StreamExt;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use store::backup::{Backup, SKIPPED, copy};
use store::embedded::{EmbeddedStore, restore};
use store::memory::MemoryStore;
use store::{Record, Revision, Store, StoreError};

async fn bytes_of(store: &Arc<dyn Store>) -> Vec<u8> {
    let chunks: Vec<_> = copy(store.clone(), b"cp/").collect().await;
    chunks.into_iter().flat_map(|chunk| chunk.unwrap()).collect()
}

async fn all(store: &Arc<dyn Store>, at: Option<Revision>) -> Vec<Record> {
    store.list(b"cp/", None, 0, at).await.unwrap().records
}

/// Keys that were written once, several times, and deleted; some of another control plane.
async fn filled(store: Arc<dyn Store>) -> Arc<dyn Store> {
    for i in 0..300u32 {
        let key = Bytes::from(format!("cp/{i:03}"));
        let mut at = store
            .create(key.clone(), Bytes::from(vec![7; i as usize]))
            .await
            .unwrap();
        if i % 3 == 0 {
            at = store.update(key.clone(), Bytes::from("new"), at).await.unwrap();
        }
        if i % 5 == 0 {
            store.delete(key, at).await.unwrap();
        }
    }
    store
        .create(Bytes::from("other/a"), Bytes::from("x"))
        .await
        .unwrap();
    store
}

#[tokio::test]
async fn a_copy_is_restored_and_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let embedded: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&dir.path().join("a.redb")).unwrap());
    for (name, store) in [
        ("memory", filled(Arc::new(MemoryStore::new())).await),
        ("embedded", filled(embedded).await),
    ] {
        let path = dir.path().join(format!("of-{name}.redb"));
        let before = all(&store, None).await;
        let current = store.current().await.unwrap();
        // Written while the copy is made: not in it.
        let mut copying = Box::pin(copy(store.clone(), b"cp/"));
        let mut bytes = copying.next().await.unwrap().unwrap().to_vec();
        let late = Bytes::from("cp/150-late");
        store.create(late.clone(), Bytes::from("x")).await.unwrap();
        while let Some(chunk) = copying.next().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        let backup = Backup::open(&bytes[..]).unwrap();
        assert_eq!(backup.revision(), current);
        let restored = restore(&path, backup).unwrap();
        assert_eq!(
            (restored.records as usize, restored.begins.0),
            (before.len(), current.0 + SKIPPED)
        );
        let again: Arc<dyn Store> = Arc::new(EmbeddedStore::open(&path).unwrap());
        assert_eq!(all(&again, None).await, before, "{name}");
        assert_eq!(again.current().await.unwrap(), restored.begins);
        // Who has seen what came after the copy is told to begin anew.
        let lost = store.current().await.unwrap();
        assert!(matches!(
            again.watch(b"cp/", lost).await.map(drop),
            Err(StoreError::Compacted { .. })
        ));
        // Life goes on.
        let at = again.create(late, Bytes::from("y")).await.unwrap();
        assert_eq!(at.0, restored.begins.0 + 1);
        let first = &before[0];
        let changed = again
            .update(first.key.clone(), Bytes::from("z"), first.revision)
            .await;
        assert_eq!(changed.unwrap().0, at.0 + 1);
        let mut watch = again.watch(b"cp/", restored.begins).await.unwrap();
        assert_eq!(watch.next().await.unwrap().unwrap().events.len(), 2);
        again.compact(Revision(at.0 + 1)).await.unwrap();
        assert_eq!(all(&again, None).await.len(), before.len() + 1);
        again.close().await;
        // Nothing is overwritten.
        let refused = restore(&path, Backup::open(&bytes[..]).unwrap()).unwrap_err();
        assert!(refused.to_string().contains("only restored into an empty place"));
    }
}

fn refusal(path: &Path, bytes: &[u8]) -> String {
    let why = match Backup::open(bytes) {
        Ok(backup) => restore(path, backup).unwrap_err().to_string(),
        Err(e) => e.to_string(),
    };
    assert!(!path.exists(), "{why}, but something was restored");
    why
}

#[tokio::test]
async fn a_changed_copy_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("x.redb");
    let store = filled(Arc::new(MemoryStore::new())).await;
    let good = bytes_of(&store).await;
    assert!(refusal(&path, b"").contains("no backup of Podvisor"));
    assert!(refusal(&path, b"#!/bin/sh\necho this is something else\n").contains("no backup of Podvisor"));
    let mut whys = BTreeMap::<String, usize>::new();
    for at in (0..good.len()).step_by(97).chain(good.len() - 45..good.len()) {
        *whys.entry(refusal(&path, &good[..at])).or_default() += 1;
        let mut flipped = good.clone();
        flipped[at] ^= 0x10;
        *whys.entry(refusal(&path, &flipped)).or_default() += 1;
    }
    let mut longer = good.clone();
    longer.push(0);
    assert!(refusal(&path, &longer).contains("something follows its end"));
    assert!(
        whys.keys().any(|w| w.contains("cut off")) && whys.keys().any(|w| w.contains("checksum")),
        "{whys:?}"
    );
    restore(&path, Backup::open(&good[..]).unwrap()).unwrap();
}
