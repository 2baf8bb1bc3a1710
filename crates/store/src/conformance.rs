//! The suite that every backend passes: call [`all`] with a way to make empty stores.
//!
//! Each check states one clause of the contract. They are ordinary functions that panic on failure, so a backend's
//! tests are one line.

use crate::contract::{EventKind, Revision, Store, StoreError};
use bytes::Bytes;
use std::future::Future;
use std::sync::Arc;

fn key(name: &str) -> Bytes {
    Bytes::from(format!("cp/{name}"))
}

fn val(text: &str) -> Bytes {
    Bytes::copy_from_slice(text.as_bytes())
}

/// Runs every check, each on a new store.
pub async fn all<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Store>>,
{
    let checks = every(make);
    // A backend that hangs fails like one that answers wrongly.
    tokio::time::timeout(DEADLINE, checks)
        .await
        .expect("the suite ended in time");
}

/// Time for the whole suite, in which a backend may have to start a cluster for each check.
const DEADLINE: std::time::Duration = std::time::Duration::from_secs(300);

async fn every<F, Fut>(make: F)
where
    F: Fn() -> Fut,
    Fut: Future<Output = Arc<dyn Store>>,
{
    writes_and_reads(&*make().await).await;
    refusals(&*make().await).await;
    lists_in_pages(&*make().await).await;
    reads_the_past(&*make().await).await;
    watch_has_no_gap(make().await).await;
    watch_keeps_to_its_prefix(&*make().await).await;
    compaction_forgets(&*make().await).await;
    concurrent_writers(make().await).await;
    closed_store_refuses(&*make().await).await;
}

/// A write is read back, with strictly increasing revisions and a stable creating revision.
pub async fn writes_and_reads(s: &dyn Store) {
    let a = s.create(key("a"), val("1")).await.expect("create");
    let b = s.update(key("a"), val("2"), a).await.expect("update");
    assert!(b > a);
    let (record, at) = s.get(&key("a"), None).await.expect("get");
    let record = record.expect("there");
    assert_eq!(
        (&record.value[..], record.revision, record.created),
        (&b"2"[..], b, a)
    );
    assert_eq!(at, b);
    let c = s.delete(key("a"), b).await.expect("delete");
    assert!(c > b);
    assert_eq!(s.get(&key("a"), None).await.expect("get").0, None);
    assert_eq!(s.current().await.expect("current"), c);
    let d = s.create(key("a"), val("3")).await.expect("create again");
    assert_eq!(
        s.get(&key("a"), None)
            .await
            .expect("get")
            .0
            .expect("there")
            .created,
        d
    );
    s.health().await.expect("healthy");
}

/// Each refusal is told from the others and changes nothing.
pub async fn refusals(s: &dyn Store) {
    let a = s.create(key("a"), val("1")).await.expect("create");
    let b = s.update(key("a"), val("2"), a).await.expect("update");
    match s.create(key("a"), val("x")).await {
        Err(StoreError::Exists(r)) => assert_eq!(r.revision, b),
        other => panic!("create over a key: {other:?}"),
    }
    match s.update(key("a"), val("x"), a).await {
        Err(StoreError::Conflict(r)) => assert_eq!((r.revision, &r.value[..]), (b, &b"2"[..])),
        other => panic!("update at an old revision: {other:?}"),
    }
    match s.delete(key("a"), a).await {
        Err(StoreError::Conflict(r)) => assert_eq!(r.revision, b),
        other => panic!("delete at an old revision: {other:?}"),
    }
    assert!(matches!(
        s.update(key("none"), val("x"), a).await,
        Err(StoreError::NotFound)
    ));
    assert!(matches!(
        s.delete(key("none"), a).await,
        Err(StoreError::NotFound)
    ));
    let future = Revision(b.0 + 1000);
    assert!(matches!(
        s.get(&key("a"), Some(future)).await,
        Err(StoreError::Future { .. })
    ));
    assert!(matches!(
        s.list(b"cp/", None, 0, Some(future)).await,
        Err(StoreError::Future { .. })
    ));
    assert_eq!(s.current().await.expect("current"), b);
}

/// Lists are ordered, bounded and resumable; keys that only share letters with the prefix stay out.
pub async fn lists_in_pages(s: &dyn Store) {
    for name in ["p/b", "p/a", "p/c", "p/aa", "q/a"] {
        s.create(key(name), val(name)).await.expect("create");
    }
    let page = s.list(b"cp/p/", None, 0, None).await.expect("list");
    let names = |page: &crate::Page| -> Vec<String> {
        page.records
            .iter()
            .map(|r| String::from_utf8_lossy(&r.key).into_owned())
            .collect()
    };
    assert_eq!(names(&page), ["cp/p/a", "cp/p/aa", "cp/p/b", "cp/p/c"]);
    assert!(!page.more);
    let first = s.list(b"cp/p/", None, 2, None).await.expect("list");
    assert_eq!((names(&first).len(), first.more), (2, true));
    let after = first.records[1].key.clone();
    let second = s
        .list(b"cp/p/", Some(&after), 2, Some(first.revision))
        .await
        .expect("list");
    assert_eq!(names(&second), ["cp/p/b", "cp/p/c"]);
    assert!(!second.more);
}

/// The state at a revision does not change.
pub async fn reads_the_past(s: &dyn Store) {
    let a = s.create(key("a"), val("1")).await.expect("create");
    let b = s.create(key("b"), val("1")).await.expect("create");
    let a2 = s.update(key("a"), val("2"), a).await.expect("update");
    s.delete(key("b"), b).await.expect("delete");
    let at_b = s.list(b"cp/", None, 0, Some(b)).await.expect("list");
    let state: Vec<_> = at_b
        .records
        .iter()
        .map(|r| (r.key.clone(), r.value.clone()))
        .collect();
    assert_eq!(state, [(key("a"), val("1")), (key("b"), val("1"))]);
    assert_eq!(
        s.get(&key("a"), Some(a))
            .await
            .expect("get")
            .0
            .expect("there")
            .value,
        val("1")
    );
    assert_eq!(s.get(&key("b"), Some(a)).await.expect("get").0, None);
    assert_eq!(
        s.get(&key("b"), Some(a2))
            .await
            .expect("get")
            .0
            .expect("there")
            .value,
        val("1")
    );
}

/// A watch from the past sees every later write once, in order, and goes over into live events.
pub async fn watch_has_no_gap(s: Arc<dyn Store>) {
    let mut expected = Vec::new();
    let a = s.create(key("a"), val("1")).await.expect("create");
    let a2 = s.update(key("a"), val("2"), a).await.expect("update");
    expected.push((EventKind::Updated, a2, val("2")));
    let a3 = s.delete(key("a"), a2).await.expect("delete");
    expected.push((EventKind::Deleted, a3, val("2")));
    let writer = {
        let s = s.clone();
        tokio::spawn(async move {
            let mut made = Vec::new();
            for i in 0..50 {
                let r = s
                    .create(key(&format!("k{i:02}")), val("x"))
                    .await
                    .expect("create");
                made.push((EventKind::Created, r, val("x")));
            }
            made
        })
    };
    let mut watch = s.watch(b"cp/", a).await.expect("watch");
    expected.extend(writer.await.expect("writer"));
    let mut seen = Vec::new();
    while seen.len() < expected.len() {
        let batch = watch.next().await.expect("open").expect("no error");
        seen.extend(
            batch
                .events
                .iter()
                .map(|e| (e.kind, e.record.revision, e.record.value.clone())),
        );
    }
    assert_eq!(seen, expected);
}

/// A watch sees nothing of other prefixes.
pub async fn watch_keeps_to_its_prefix(s: &dyn Store) {
    let mut watch = s.watch(b"cp/p/", Revision(0)).await.expect("watch");
    s.create(key("q"), val("x")).await.expect("create");
    let r = s.create(key("p/1"), val("x")).await.expect("create");
    let mut seen = Vec::new();
    let mut reached = Revision(0);
    while reached < r {
        let batch = watch.next().await.expect("open").expect("no error");
        assert!(batch.revision >= reached, "progress never goes back");
        reached = batch.revision;
        seen.extend(batch.events.iter().map(|e| e.record.revision));
    }
    assert_eq!(seen, [r]);
}

/// After compaction old revisions are refused, current state and newer history stay.
pub async fn compaction_forgets(s: &dyn Store) {
    let a = s.create(key("a"), val("1")).await.expect("create");
    let a2 = s.update(key("a"), val("2"), a).await.expect("update");
    let b = s.create(key("b"), val("1")).await.expect("create");
    let gone = s.delete(key("b"), b).await.expect("delete");
    let c = s.create(key("c"), val("1")).await.expect("create");
    s.compact(gone).await.expect("compact");
    assert_eq!(s.oldest().await.expect("oldest"), gone);
    assert!(matches!(
        s.get(&key("a"), Some(a)).await,
        Err(StoreError::Compacted { .. })
    ));
    assert!(matches!(
        s.watch(b"cp/", a2).await,
        Err(StoreError::Compacted { .. })
    ));
    assert_eq!(
        s.get(&key("a"), Some(gone))
            .await
            .expect("get")
            .0
            .expect("there")
            .value,
        val("2")
    );
    assert_eq!(
        s.list(b"cp/", None, 0, None).await.expect("list").records.len(),
        2
    );
    let mut watch = s.watch(b"cp/", gone).await.expect("watch");
    let batch = watch.next().await.expect("open").expect("no error");
    assert_eq!((batch.events[0].record.revision, batch.revision), (c, c));
    s.compact(gone).await.expect("compacting twice changes nothing");
    let future = Revision(c.0 + 1000);
    assert!(matches!(s.compact(future).await, Err(StoreError::Future { .. })));
}

/// Of several writers that expect the same revision one wins; no revision is given twice.
pub async fn concurrent_writers(s: Arc<dyn Store>) {
    let base = s.create(key("shared"), val("0")).await.expect("create");
    let mut tasks = Vec::new();
    for writer in 0..16 {
        let s = s.clone();
        tasks.push(tokio::spawn(async move {
            let mut revisions = Vec::new();
            for i in 0..20 {
                let made = s.create(key(&format!("w{writer}/{i}")), val("x")).await;
                revisions.push(made.expect("create"));
            }
            let won = s.update(key("shared"), val("1"), base).await.is_ok();
            (won, revisions)
        }));
    }
    let (mut winners, mut revisions) = (0, Vec::new());
    for task in tasks {
        let (won, made) = task.await.expect("writer");
        assert!(made.is_sorted(), "revisions of one writer increase");
        winners += usize::from(won);
        revisions.extend(made);
    }
    assert_eq!(winners, 1);
    let count = revisions.len();
    revisions.sort();
    revisions.dedup();
    assert_eq!(revisions.len(), count);
}

/// A closed store answers `Unavailable` and ends its watches.
pub async fn closed_store_refuses(s: &dyn Store) {
    let mut watch = s.watch(b"cp/", Revision(0)).await.expect("watch");
    assert!(
        watch
            .next()
            .await
            .is_some_and(|b| b.is_ok_and(|b| b.events.is_empty()))
    );
    s.close().await;
    assert!(watch.next().await.is_none());
    assert!(matches!(
        s.create(key("a"), val("1")).await,
        Err(StoreError::Unavailable(_))
    ));
    assert!(matches!(
        s.get(&key("a"), None).await,
        Err(StoreError::Unavailable(_))
    ));
    assert!(s.health().await.is_err());
}
