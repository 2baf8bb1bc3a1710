//! A disk that fails: full, read-only, torn. The store then refuses, says why, and goes on when it can; what it has
//! answered is there.
//!
//! The full disk is a small tmpfs, which takes root; without it these tests say so and end.

#![allow(clippy::unwrap_used)]

use bytes::Bytes;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};
use store::embedded::EmbeddedStore;
use store::{Revision, Store, StoreError};

/// A small file system, gone when dropped.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new(size: &str) -> Option<Disk> {
        let dir = tempfile::tempdir().unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"])
            .arg(dir.path())
            .status();
        if !mounted.is_ok_and(|s| s.success()) {
            eprintln!("no tmpfs can be mounted here; a full disk was not tested");
            return None;
        }
        Some(Disk(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn remount(&self, option: &str) {
        let done = Command::new("mount")
            .args(["-o", &format!("remount,{option}")])
            .arg(self.path())
            .status();
        assert!(done.unwrap().success());
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(self.path()).status();
    }
}

fn key(n: usize) -> Bytes {
    Bytes::from(format!("cp/{n:05}"))
}

/// Everything in the store, by key.
async fn contents(store: &dyn Store) -> BTreeMap<Bytes, (Bytes, Revision)> {
    let page = store.list(b"cp/", None, 0, None).await.unwrap();
    let records = page.records.into_iter();
    records.map(|r| (r.key, (r.value, r.revision))).collect()
}

#[tokio::test]
async fn a_full_disk() {
    let Some(disk) = Disk::new("24m") else { return };
    let path = disk.path().join("s.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    let mut answered = BTreeMap::new();
    let first = store.create(key(0), Bytes::from("first")).await.unwrap();
    answered.insert(key(0), (Bytes::from("first"), first));
    let ballast = disk.path().join("ballast");
    let mut watch = store.watch(b"cp/", first).await.unwrap();
    assert!(watch.next().await.unwrap().is_ok());
    // Somebody else takes the room; then values are written until none fits.
    let zero = vec![0; 256 << 10];
    let mut taken = std::fs::File::create(&ballast).unwrap();
    while std::io::Write::write_all(&mut taken, &zero).is_ok() {}
    let value = Bytes::from(vec![b'x'; 200 << 10]);
    let mut refusal = None;
    for n in 1..200 {
        match store.create(key(n), value.clone()).await {
            Ok(revision) => drop(answered.insert(key(n), (value.clone(), revision))),
            Err(e) => {
                refusal = Some(e);
                break;
            }
        }
    }
    let Some(StoreError::Unavailable(why)) = refusal else {
        panic!("a disk without room took everything: {refusal:?}")
    };
    assert!(why.contains("No space left on device"), "{why}");
    let sick = store.health().await.unwrap_err().to_string();
    assert!(sick.contains("No space left on device"), "{sick}");
    // There is room again: it recovers by itself, and with what it has answered.
    std::fs::remove_file(&ballast).unwrap();
    drop(taken);
    let deadline = Instant::now() + Duration::from_secs(20);
    while let Err(e) = store.health().await {
        assert!(Instant::now() < deadline, "{e}");
    }
    let now = contents(&store).await;
    for (key, (value, revision)) in &answered {
        assert_eq!(now.get(key), Some(&(value.clone(), *revision)), "{key:?}");
    }
    // What was refused is wholly there or not at all.
    assert!(now.len() <= answered.len() + 1);
    let highest = now.values().map(|(_, r)| *r).max().unwrap();
    let next = store.create(Bytes::from("cp/z"), Bytes::from("z")).await.unwrap();
    assert!(next > highest, "{next} after {highest}");
    store.close().await;
    let store = EmbeddedStore::open(&path).unwrap();
    assert_eq!(contents(&store).await.len(), now.len() + 1);
}

#[tokio::test]
async fn a_read_only_disk() {
    let Some(disk) = Disk::new("24m") else { return };
    let path = disk.path().join("s.redb");
    let store = EmbeddedStore::open(&path).unwrap();
    let at = store.create(key(0), Bytes::from("first")).await.unwrap();
    store.close().await;
    drop(store);
    disk.remount("ro");
    let refused = EmbeddedStore::open(&path).err().expect("refused").to_string();
    assert!(
        refused.contains("Read-only file system") && refused.contains("is writable"),
        "{refused}"
    );
    let missing = EmbeddedStore::open(&disk.path().join("new.redb"));
    let missing = missing.err().expect("refused").to_string();
    assert!(missing.contains("Read-only file system"), "{missing}");
    disk.remount("rw");
    let store = EmbeddedStore::open(&path).unwrap();
    assert_eq!(store.current().await.unwrap(), at);
    store.create(key(1), Bytes::from("second")).await.unwrap();
}

/// Numbers that look random and are the same each time.
fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

/// The files of a store, as they are now: the store file and the two of its log.
fn image(path: &Path) -> [Vec<u8>; 3] {
    ["redb", "log0", "log1"].map(|e| std::fs::read(path.with_extension(e)).unwrap())
}

fn put(path: &Path, image: &[Vec<u8>; 3]) {
    for (extension, bytes) in ["redb", "log0", "log1"].iter().zip(image) {
        std::fs::write(path.with_extension(extension), bytes).unwrap();
    }
}

/// Of the sectors that changed, any may be on disk and any not.
fn torn(before: &[u8], after: &[u8], seed: &mut u64) -> Vec<u8> {
    const SECTOR: usize = 512;
    let mut mixed = before.to_vec();
    mixed.resize(before.len().max(after.len()), 0);
    for (old, new) in mixed.chunks_mut(SECTOR).zip(after.chunks(SECTOR)) {
        if old != new && random(seed).is_multiple_of(2) {
            old.copy_from_slice(new);
        }
    }
    mixed
}

/// A power cut in the middle of a write: what is opened afterwards is the state before it or after it, never another.
#[tokio::test]
async fn torn_writes() {
    let dir = tempfile::tempdir().unwrap();
    let (path, broken) = (dir.path().join("s.redb"), dir.path().join("torn.redb"));
    let mut seed = 0x9e37_79b9_7f4a_7c15;
    let store = EmbeddedStore::open(&path).unwrap();
    for n in 0..200 {
        let value = vec![n as u8; (n * 37) % 3000];
        store.create(key(n), value.into()).await.unwrap();
    }
    let mut opened = [0, 0];
    for round in 0..12usize {
        let before = contents(&store).await;
        let old = image(&path);
        let value = vec![b'a' + round as u8; 100 + round * 700];
        let at = before[&key(round)].1;
        let last = store.update(key(round), value.into(), at).await.unwrap();
        let after = contents(&store).await;
        let new = image(&path);
        for _ in 0..12 {
            let mixed = [0, 1, 2].map(|n| torn(&old[n], &new[n], &mut seed));
            put(&broken, &mixed);
            let found = EmbeddedStore::open(&broken).unwrap();
            let now = contents(&found).await;
            assert!(
                now == before || now == after,
                "round {round}: a state that never was"
            );
            opened[usize::from(now == after)] += 1;
            // It can be written to.
            let next = found.create(Bytes::from("cp/z"), Bytes::from("z")).await.unwrap();
            assert!(next.0 == last.0 || next.0 == last.0 + 1);
            found.close().await;
        }
    }
    println!("{opened:?} opened before and after the torn write");
    assert!(opened[0] > 0 && opened[1] > 0, "{opened:?}");
}

/// Writes in the log's middle that cannot be read are told, and never passed over.
#[tokio::test]
async fn a_damaged_log() {
    let dir = tempfile::tempdir().unwrap();
    let (path, broken) = (dir.path().join("s.redb"), dir.path().join("broken.redb"));
    let store = EmbeddedStore::open(&path).unwrap();
    for n in 0..50 {
        store.create(key(n), Bytes::from(vec![b'v'; 900])).await.unwrap();
    }
    let truth = image(&path);
    let mut used = [1usize, 2].into_iter();
    let used = used.find(|n| truth[*n].len() > 50 * 1024).unwrap();
    for sector in 0..99 {
        let mut image = truth.clone();
        image[used][sector * 512 + 100] ^= 1;
        put(&broken, &image);
        match EmbeddedStore::open(&broken) {
            // Each write takes two sectors; the last one may have been torn, and the padding means nothing.
            Ok(found) => {
                let all = contents(&found).await.len() == 50;
                assert!(sector >= 98 || all, "sector {sector}");
                found.close().await;
            }
            Err(e) => assert!(e.to_string().contains("restore a backup"), "{e}"),
        }
    }
    // A log of another store.
    let other = dir.path().join("other.redb");
    let stranger = EmbeddedStore::open(&other).unwrap();
    stranger.create(key(0), Bytes::from("other")).await.unwrap();
    stranger.close().await;
    let mut mixed = truth.clone();
    mixed[0] = std::fs::read(&other).unwrap();
    put(&broken, &mixed);
    let refused = EmbeddedStore::open(&broken).err().expect("refused").to_string();
    assert!(refused.contains("another store file; move it away"), "{refused}");
}

/// A file that lost its end, or whose pages were overwritten, is refused or read right: no wrong value, no panic.
#[tokio::test]
async fn a_damaged_file() {
    let dir = tempfile::tempdir().unwrap();
    let (path, broken) = (dir.path().join("s.redb"), dir.path().join("broken.redb"));
    let store = EmbeddedStore::open(&path).unwrap();
    for n in 0..200 {
        store
            .create(key(n), Bytes::from(format!("{n}:{}", "v".repeat(900))))
            .await
            .unwrap();
    }
    let truth = contents(&store).await;
    store.close().await;
    let image = std::fs::read(&path).unwrap();
    let mut seed = 0x2545_f491_4f6c_dd1d;
    let (mut refused, mut right) = (0, 0);
    for case in 0..60usize {
        let mut bytes = image.clone();
        if case % 3 == 0 {
            bytes.truncate(bytes.len() - (1 + case) * 4096);
        } else {
            let page = (random(&mut seed) as usize % (bytes.len() / 4096)) * 4096;
            let end = page + 512 * (1 + case % 8);
            bytes[page..end].iter_mut().for_each(|b| *b = 0xa5);
        }
        std::fs::write(&broken, &bytes).unwrap();
        let path = broken.clone();
        let work = tokio::spawn(async move {
            let store = EmbeddedStore::open(&path).map_err(|e| e.to_string())?;
            let page = store.list(b"cp/", None, 0, None).await;
            let page = page.map_err(|e| e.to_string())?;
            Ok::<_, String>(page.records)
        });
        match work.await {
            Ok(Ok(records)) => {
                for r in records {
                    assert_eq!(truth.get(&r.key), Some(&(r.value, r.revision)), "case {case}");
                }
                right += 1;
            }
            Ok(Err(why)) => {
                assert!(why.len() > 20, "{why}");
                refused += 1;
            }
            Err(panic) => panic!("case {case}: {panic}"),
        }
    }
    assert!(refused > 0 && right > 0, "{refused} refused, {right} right");
}
