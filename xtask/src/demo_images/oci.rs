//! OCI image layouts on disk (OCI image specification 1.1), byte for byte the same for the same input.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::hex;
use super::recipe::Image;
use crate::run::{make_dir, quiet};

/// What `PATH` is in every image.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A packed layer.
#[derive(Clone)]
pub struct Layer {
    /// The gzip file.
    file: PathBuf,
    /// Digest of the gzip file.
    digest: String,
    size: u64,
    /// Digest of the tar inside.
    diff_id: String,
}

impl Layer {
    /// Packs a directory: names sorted, everything owned by root and of the epoch.
    pub fn pack(root: &Path, into: &Path, name: &str) -> Result<Self> {
        make_dir(into)?;
        let tar = into.join(format!("{name}.tar"));
        quiet(
            Command::new("tar")
                .args([
                    "--create",
                    "--sort=name",
                    "--owner=0",
                    "--group=0",
                    "--numeric-owner",
                ])
                .args(["--mtime=@0", "--format=gnu", "--file"])
                .arg(&tar)
                .arg("--directory")
                .arg(root)
                .arg("."),
        )?;
        let diff_id = digest(&fs::read(&tar)?);
        quiet(Command::new("gzip").args(["--no-name", "--force"]).arg(&tar))?;
        let file = into.join(format!("{name}.tar.gz"));
        let packed = fs::read(&file)?;
        Ok(Self {
            digest: digest(&packed),
            size: packed.len() as u64,
            diff_id,
            file,
        })
    }
}

/// Writes the layout of one image.
pub fn write(layout: &Path, image: &Image, layers: &[Layer]) -> Result<()> {
    let blobs = layout.join("blobs/sha256");
    make_dir(&blobs)?;
    for layer in layers {
        fs::copy(&layer.file, blobs.join(file_name(&layer.digest)))?;
    }
    let (config_digest, config_size) = blob(&blobs, &config(image, layers))?;
    let descriptors: Vec<Value> = layers
        .iter()
        .map(|layer| {
            json!({
                "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
                "digest": layer.digest,
                "size": layer.size,
            })
        })
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": config_digest,
            "size": config_size,
        },
        "layers": descriptors,
    });
    let (digest, size) = blob(&blobs, &manifest)?;
    let index = json!({
        "schemaVersion": 2,
        "manifests": [{
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "digest": digest,
            "size": size,
        }],
    });
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(
        layout.join("oci-layout"),
        json!({"imageLayoutVersion": "1.0.0"}).to_string(),
    )?;
    Ok(())
}

fn config(image: &Image, layers: &[Layer]) -> Value {
    let mut config = json!({"Env": [PATH], "WorkingDir": image.working_dir});
    if !image.entrypoint.is_empty() {
        config["Entrypoint"] = json!(image.entrypoint);
    }
    if !image.cmd.is_empty() {
        config["Cmd"] = json!(image.cmd);
    }
    if !image.ports.is_empty() {
        let ports: Map<String, Value> = image.ports.iter().map(|port| (port.clone(), json!({}))).collect();
        config["ExposedPorts"] = Value::Object(ports);
    }
    let diff_ids: Vec<&str> = layers.iter().map(|layer| layer.diff_id.as_str()).collect();
    json!({
        "created": "1970-01-01T00:00:00Z",
        "architecture": image.architecture,
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    })
}

/// Stores a document under its digest.
fn blob(blobs: &Path, document: &Value) -> Result<(String, u64)> {
    let bytes = document.to_string().into_bytes();
    let digest = digest(&bytes);
    fs::write(blobs.join(file_name(&digest)), &bytes)?;
    Ok((digest, bytes.len() as u64))
}

fn digest(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

fn file_name(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}
