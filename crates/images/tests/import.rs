//! Archives into a store: both forms, and what is refused.

#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use images::{ImageStore, ImagesConfig};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

/// Files of an archive by name.
type Files = Vec<(String, Vec<u8>)>;

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

fn tar(files: &[(String, Vec<u8>)]) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (name, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        // Not through the builder's path check: hostile names are wanted too.
        header.as_gnu_mut().unwrap().name[..name.len()].copy_from_slice(name.as_bytes());
        header.set_cksum();
        builder.append(&header, bytes.as_slice()).unwrap();
    }
    builder.into_inner().unwrap()
}

fn layer() -> Vec<u8> {
    tar(&[("hello".to_owned(), b"world".to_vec())])
}

fn config(architecture: &str, layer: &[u8]) -> Vec<u8> {
    let value = json!({"architecture": architecture, "os": "linux", "config": {"Cmd": ["sh"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex(layer))]}});
    serde_json::to_vec(&value).unwrap()
}

/// What `docker save` writes.
fn saved(architecture: &str) -> Files {
    let (layer, manifest) = (
        layer(),
        |tags: Value| json!([{"Config": "c.json", "RepoTags": tags, "Layers": ["l/layer.tar"]}]),
    );
    vec![
        ("c.json".into(), config(architecture, &layer)),
        ("l/layer.tar".into(), layer),
        (
            "manifest.json".into(),
            serde_json::to_vec(&manifest(json!(["web:1", "web:2"]))).unwrap(),
        ),
    ]
}

/// An OCI layout with a compressed layer.
fn layout(name: Option<&str>) -> Files {
    let plain = layer();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&plain).unwrap();
    let packed = gzip.finish().unwrap();
    let config = config("amd64", &plain);
    let digest = |bytes: &[u8]| format!("sha256:{}", hex(bytes));
    let manifest = serde_json::to_vec(&json!({"schemaVersion": 2,
        "config": {"digest": digest(&config)}, "layers": [{"digest": digest(&packed)}]}))
    .unwrap();
    let mut descriptor = json!({"digest": digest(&manifest)});
    if let Some(name) = name {
        descriptor["annotations"] = json!({"org.opencontainers.image.ref.name": name});
    }
    let index = serde_json::to_vec(&json!({"schemaVersion": 2, "manifests": [descriptor]})).unwrap();
    let blob = |bytes: Vec<u8>| (format!("blobs/sha256/{}", hex(&bytes)), bytes);
    vec![
        ("index.json".into(), index),
        blob(manifest),
        blob(config),
        blob(packed),
    ]
}

fn write(directory: &Path, files: &[(String, Vec<u8>)]) -> PathBuf {
    let path = directory.join("archive.tar");
    fs::write(&path, tar(files)).unwrap();
    path
}

#[tokio::test]
async fn archives_become_images() {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&directory.path().join("images"), ImagesConfig::default()).unwrap();
    let taken = store
        .import(&write(directory.path(), &saved("amd64")), None)
        .await
        .unwrap();
    assert_eq!(taken.len(), 2);
    let image = store.get("web:2").unwrap();
    assert_eq!(image.config.cmd, ["sh"]);
    assert!(image.disk.exists());
    // The same image by another way is the same disk.
    let name = "registry.example/web:1";
    store
        .import(&write(directory.path(), &layout(Some(name))), None)
        .await
        .unwrap();
    assert_eq!(store.get(name).unwrap().id, image.id);
    store
        .import(&write(directory.path(), &layout(None)), Some("mine:3"))
        .await
        .unwrap();
    assert_eq!(store.get("mine:3").unwrap().id, image.id);
    assert_eq!(
        fs::read_dir(directory.path().join("images/tmp")).unwrap().count(),
        0
    );
    let (capacity, free) = store.space().unwrap();
    assert!(free <= capacity && capacity > 0);
}

#[tokio::test]
async fn what_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let store = ImageStore::open(&directory.path().join("images"), ImagesConfig::default()).unwrap();
    let mut altered = saved("amd64");
    altered[1].1 = tar(&[("hello".to_owned(), b"evil!".to_vec())]);
    let mut escaping = saved("amd64");
    escaping.push(("../evil".into(), b"x".to_vec()));
    let mut blob = layout(Some("a:1"));
    blob[2].1.push(b' ');
    let cases: [(&str, Files, &str); 6] = [
        ("another processor", saved("arm64"), "is for linux/arm64"),
        ("no name", layout(None), "give it one with --name"),
        (
            "no archive of images",
            vec![("x".into(), b"x".to_vec())],
            "this is no image archive",
        ),
        ("altered layer", altered, "digest mismatch"),
        ("altered blob", blob, "digest mismatch"),
        (
            "a way out",
            escaping,
            "../evil is no name inside an image archive",
        ),
    ];
    for (what, files, expected) in cases {
        let error = store
            .import(&write(directory.path(), &files), None)
            .await
            .expect_err(what)
            .to_string();
        assert!(error.contains(expected), "{what}: {error}");
    }
    assert!(!directory.path().join("evil").exists() && !directory.path().join("images/evil").exists());
    assert!(store.list().is_empty());
    assert_eq!(
        fs::read_dir(directory.path().join("images/tmp")).unwrap().count(),
        0
    );
}
