//! Images out of an archive, without any registry: what `docker save` writes (`manifest.json`) and OCI layouts
//! (`index.json`), as a tar file, compressed or not.
//!
//! The archive is hostile by assumption: only plain files with plain relative names are taken out of it, into a directory
//! of their own, and what they claim to be is checked by digest.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::config::ConfigFile;
use crate::layer;
use crate::reference::ImageReference;
use crate::registry::hex_digest;

/// A larger description is none.
const MAX_DOCUMENT: u64 = 16 << 20;
/// Where OCI layouts keep a full name, and a tag or a name.
const NAMES: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
/// How deep indexes may lie in each other.
const MAX_DEPTH: usize = 4;

/// Why an archive's images could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum ImportError {
    /// The archive cannot be read.
    #[error("{path}: {source}")]
    Read {
        /// The archive.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no image archive, or a damaged one.
    #[error("{0}")]
    Content(String),
}

/// An image in an archive.
#[derive(Debug)]
pub(crate) struct Found {
    /// Its names.
    pub names: Vec<ImageReference>,
    /// The digest of its configuration.
    pub id: String,
    /// The digest of its manifest, where it has one.
    pub digest: Option<String>,
    pub config: ConfigFile,
    /// Its layers, lowest first.
    pub layers: Vec<PathBuf>,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Saved {
    config: String,
    #[serde(default)]
    repo_tags: Option<Vec<String>>,
    #[serde(default)]
    layers: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    #[serde(default)]
    manifests: Vec<Descriptor>,
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
}

#[derive(Deserialize, Clone)]
#[serde(rename_all = "camelCase")]
struct Descriptor {
    digest: String,
    #[serde(default)]
    annotations: Option<BTreeMap<String, String>>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Deserialize, Clone)]
struct Platform {
    architecture: String,
    os: String,
}

fn content(reason: impl ToString) -> ImportError {
    ImportError::Content(reason.to_string())
}

/// The path of an entry below `root`; `None` for one that could lead elsewhere.
fn inside(root: &Path, name: &Path) -> Option<PathBuf> {
    let mut path = root.to_path_buf();
    for component in name.components() {
        match component {
            Component::Normal(part) => path.push(part),
            Component::CurDir => {}
            _ => return None,
        }
    }
    Some(path)
}

/// Takes the files of an archive apart. Links, which older archives use for layers that occur twice, become copies.
pub(crate) fn unpack(archive: &Path, root: &Path) -> Result<(), ImportError> {
    let read = |source| ImportError::Read {
        path: archive.to_path_buf(),
        source,
    };
    let file = File::open(archive).map_err(read)?;
    let mut tar = tar::Archive::new(layer::decompress(file).map_err(read)?);
    let mut links = Vec::new();
    for entry in tar.entries().map_err(read)? {
        let mut entry = entry.map_err(read)?;
        let kind = entry.header().entry_type();
        let name = entry.path().map_err(read)?.into_owned();
        let Some(target) = inside(root, &name) else {
            return Err(content(format!(
                "{} is no name inside an image archive",
                name.display()
            )));
        };
        if kind.is_file() {
            if let Some(parent) = target.parent() {
                fs::create_dir_all(parent).map_err(read)?;
            }
            let mut out = File::options()
                .write(true)
                .create_new(true)
                .open(&target)
                .map_err(read)?;
            io::copy(&mut entry, &mut out).map_err(read)?;
        } else if kind.is_symlink()
            && let Some(link) = entry.link_name().map_err(read)?
        {
            links.push((target, link.into_owned()));
        }
    }
    for (target, link) in links {
        // `../ID/layer.tar`: resolved by hand, since a link must not lead out.
        let sibling = link.strip_prefix("..").ok().and_then(|rest| inside(root, rest));
        if let Some(source) = sibling.filter(|source| source.is_file()) {
            fs::copy(source, target).map_err(read)?;
        }
    }
    Ok(())
}

fn document(path: &Path) -> Result<Vec<u8>, ImportError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_DOCUMENT).read_to_end(&mut bytes))
        .map_err(|source| ImportError::Read {
            path: path.to_path_buf(),
            source,
        })?;
    Ok(bytes)
}

fn parse<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ImportError> {
    serde_json::from_slice(bytes).map_err(|error| content(format!("{what}: {error}")))
}

fn digest(bytes: &[u8]) -> String {
    hex_digest(&Sha256::digest(bytes))
}

/// The images of an unpacked archive. `name` is for one that has none.
pub(crate) fn images(root: &Path, name: Option<&str>) -> Result<Vec<Found>, ImportError> {
    let mut found = if root.join("index.json").exists() {
        layout(root)?
    } else if root.join("manifest.json").exists() {
        saved(root)?
    } else {
        return Err(content(
            "this is no image archive: neither index.json (OCI layout) nor manifest.json (docker save) is in it",
        ));
    };
    if let Some(name) = name {
        let name: ImageReference = name.parse().map_err(content)?;
        match found.as_mut_slice() {
            [one] => one.names = vec![name],
            _ => {
                return Err(content(
                    "the archive has several images: a name can be given to one only",
                ));
            }
        }
    }
    if found.iter().any(|image| image.names.is_empty()) {
        return Err(content(
            "an image in the archive has no name: give it one with --name",
        ));
    }
    for image in &found {
        let (os, architecture) = (&image.config.os, &image.config.architecture);
        if (os.as_str(), architecture.as_str()) != ("linux", "amd64") {
            return Err(content(format!(
                "{} is for {os}/{architecture}: this host runs linux/amd64",
                image.names[0]
            )));
        }
    }
    Ok(found)
}

fn saved(root: &Path) -> Result<Vec<Found>, ImportError> {
    let entries: Vec<Saved> = parse("manifest.json", &document(&root.join("manifest.json"))?)?;
    let file = |name: &str| {
        inside(root, Path::new(name)).ok_or_else(|| content(format!("manifest.json: {name} is no file name")))
    };
    let mut found = Vec::new();
    for entry in entries {
        let config = document(&file(&entry.config)?)?;
        let names = entry.repo_tags.unwrap_or_default();
        found.push(Found {
            names: names
                .iter()
                .map(|name| name.parse().map_err(content))
                .collect::<Result<_, _>>()?,
            id: digest(&config),
            digest: None,
            config: parse(&entry.config, &config)?,
            layers: entry
                .layers
                .iter()
                .map(|name| file(name))
                .collect::<Result<_, _>>()?,
        });
    }
    Ok(found)
}

/// A checked blob of a layout.
fn blob(root: &Path, digest_wanted: &str) -> Result<Vec<u8>, ImportError> {
    let bytes = document(&blob_path(root, digest_wanted)?)?;
    match digest(&bytes) {
        is if is == digest_wanted => Ok(bytes),
        is => Err(content(format!("digest mismatch: {digest_wanted} is {is}"))),
    }
}

fn blob_path(root: &Path, digest: &str) -> Result<PathBuf, ImportError> {
    let hex = digest.strip_prefix("sha256:").unwrap_or_default();
    if hex.len() != 64 || !hex.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(content(format!("\"{digest}\" is no SHA-256 digest")));
    }
    Ok(root.join("blobs/sha256").join(hex))
}

fn layout(root: &Path) -> Result<Vec<Found>, ImportError> {
    let index: Document = parse("index.json", &document(&root.join("index.json"))?)?;
    let mut found = Vec::new();
    for descriptor in &index.manifests {
        let annotation = |key: &&str| descriptor.annotations.as_ref()?.get(*key).cloned();
        // A bare tag is no name.
        let name = NAMES
            .iter()
            .filter_map(annotation)
            .find(|name| name.contains(['/', ':']))
            .map(|name| name.parse().map_err(content))
            .transpose()?;
        let (manifest, bytes) = manifest(root, descriptor, 0)?;
        let document: Document = parse(&manifest, &bytes)?;
        let config = document
            .config
            .ok_or_else(|| content("a manifest without a configuration"))?;
        let config_bytes = blob(root, &config.digest)?;
        found.push(Found {
            names: name.into_iter().collect(),
            id: config.digest.clone(),
            digest: Some(manifest),
            config: parse(&config.digest, &config_bytes)?,
            layers: document
                .layers
                .iter()
                .map(|layer| blob_path(root, &layer.digest))
                .collect::<Result<_, _>>()?,
        });
    }
    Ok(found)
}

/// The manifest behind a descriptor: of an index, the one for this platform.
fn manifest(root: &Path, descriptor: &Descriptor, depth: usize) -> Result<(String, Vec<u8>), ImportError> {
    let bytes = blob(root, &descriptor.digest)?;
    let document: Document = parse(&descriptor.digest, &bytes)?;
    if document.manifests.is_empty() {
        return Ok((descriptor.digest.clone(), bytes));
    }
    let ours = document.manifests.iter().find(|one| {
        let platform = one.platform.as_ref();
        platform.is_none_or(|platform| platform.os == "linux" && platform.architecture == "amd64")
    });
    match ours {
        Some(one) if depth < MAX_DEPTH => manifest(root, one, depth + 1),
        _ => Err(content(
            "no match for platform linux/amd64 in the archive's index",
        )),
    }
}

/// Unpacks layers one over the other, each checked against the configuration.
pub(crate) fn apply(layers: &[PathBuf], diff_ids: &[String], root: &Path) -> Result<(), ImportError> {
    let read = |path: &Path| {
        let path = path.to_path_buf();
        move |source| ImportError::Read { path, source }
    };
    fs::create_dir_all(root).map_err(read(root))?;
    if layers.len() != diff_ids.len() {
        return Err(content(format!(
            "the configuration speaks of {} layers, the archive has {}",
            diff_ids.len(),
            layers.len()
        )));
    }
    for (path, expected) in layers.iter().zip(diff_ids) {
        let file = File::open(path).map_err(read(path))?;
        let is = layer::unpack(file, root, layer::MAX_UNPACKED).map_err(read(path))?;
        if is != *expected {
            return Err(content(format!(
                "digest mismatch: the configuration says {expected}, the content is {is}"
            )));
        }
    }
    Ok(())
}
