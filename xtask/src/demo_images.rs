//! The demo registry's images: built from Debian packages and our own programs, pushed with `skopeo`.
//!
//! ```text
//! examples/guestbook/images.toml ─ recipe ─> rootfs (packages, files) ─> oci (layout on disk) ─ skopeo ─> registry
//! ```
//! The registry is Debian's `docker-registry` on a free loopback port; it runs only while it is being filled. A stamp
//! with the hash of every input makes the second run instant; the storage is replaced as a whole or not at all.

mod oci;
mod recipe;
mod rootfs;

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use e2e::process::Process;
use e2e::wait::wait_for;
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};

use crate::run::{make_dir, quiet, static_program};
use recipe::{Image, Recipes};

/// Where the recipes stand, below the checkout.
const RECIPES: &str = "examples/guestbook/images.toml";
/// Raised when the same recipes give other images.
const FORMAT: u32 = 1;
/// How long the registry may take to start and to stop.
const REGISTRY_LIMIT: Duration = Duration::from_secs(30);

/// Builds every image of the recipes and fills the registry's storage, unless both are there already.
pub fn build_all() -> Result<()> {
    let path = e2e::paths::workspace().join(RECIPES);
    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let recipes = Recipes::parse(&text).with_context(|| format!("in {RECIPES}"))?;
    let programs = programs(&recipes)?;
    let storage = e2e::paths::registry_storage();
    let work = e2e::paths::target().join("demo");
    make_dir(&work)?;
    let stamp_file = work.join("images.stamp");
    let stamp = stamp(&text, &programs)?;
    if storage.exists() && fs::read_to_string(&stamp_file).is_ok_and(|old| old == stamp) {
        return Ok(());
    }
    let scratch = tempfile::Builder::new().prefix("images-").tempdir_in(&work)?;
    let packages = work.join("packages");
    make_dir(&packages)?;
    let mut built: BTreeMap<&str, Vec<oci::Layer>> = BTreeMap::new();
    let mut layouts = Vec::new();
    for image in &recipes.image {
        let layers = layers(image, &built, &programs, &packages, scratch.path())?;
        let layout = scratch.path().join("oci").join(&image.name);
        oci::write(&layout, image, &layers).with_context(|| format!("image {}", image.name))?;
        built.insert(&image.name, layers);
        layouts.push((image, layout));
    }
    let fresh = scratch.path().join("registry");
    push_all(&layouts, &fresh, scratch.path())?;
    if storage.exists() {
        fs::remove_dir_all(&storage)?;
    }
    fs::rename(&fresh, &storage)?;
    fs::write(&stamp_file, stamp)?;
    Ok(())
}

/// The layers of the base, then the image's own when it adds files.
fn layers(
    image: &Image,
    built: &BTreeMap<&str, Vec<oci::Layer>>,
    programs: &BTreeMap<String, PathBuf>,
    packages: &Path,
    scratch: &Path,
) -> Result<Vec<oci::Layer>> {
    let mut layers = match &image.base {
        Some(base) => built
            .get(base.as_str())
            .with_context(|| format!("image {}: its base {base} must stand before it", image.name))?
            .clone(),
        None => Vec::new(),
    };
    if image.adds_files() {
        let root = scratch.join("rootfs").join(&image.name);
        rootfs::build(image, &root, packages, programs).with_context(|| format!("image {}", image.name))?;
        layers.push(oci::Layer::pack(&root, &scratch.join("layers"), &image.name)?);
        fs::remove_dir_all(&root)?;
    }
    Ok(layers)
}

/// Builds the workspace's programs that go into images: package → static binary.
fn programs(recipes: &Recipes) -> Result<BTreeMap<String, PathBuf>> {
    let mut built = BTreeMap::new();
    for package in recipes.image.iter().flat_map(|image| image.programs.values()) {
        built.insert(package.clone(), static_program(package)?);
    }
    Ok(built)
}

/// A hash of everything that goes into the images. (Debian packages are fetched again when a recipe changes.)
fn stamp(recipes: &str, programs: &BTreeMap<String, PathBuf>) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(FORMAT.to_le_bytes());
    hash.update(recipes);
    for (name, path) in programs {
        hash.update(name);
        hash.update(fs::read(path).with_context(|| format!("cannot read {}", path.display()))?);
    }
    Ok(format!("sha256:{}\n", hex(&hash.finalize())))
}

/// Starts a registry over `storage`, copies every layout to each of its tags, stops the registry.
fn push_all(layouts: &[(&Image, PathBuf)], storage: &Path, scratch: &Path) -> Result<()> {
    make_dir(storage)?;
    // Free now and, on loopback, still free a moment later; the registry cannot be asked for a port of its choice.
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
    let config = scratch.join("registry.yml");
    fs::write(
        &config,
        format!(
            "version: 0.1\nlog: {{level: warn}}\nstorage:\n  filesystem: {{rootdirectory: '{}'}}\n\
             http: {{addr: '127.0.0.1:{port}'}}\n",
            storage.display()
        ),
    )?;
    let mut command = Command::new(registry_program()?);
    command.arg("serve").arg(&config);
    let mut registry = Process::start("docker-registry", command, &scratch.join("registry.log"))?;
    wait_for("the registry", REGISTRY_LIMIT, || {
        registry.check_alive()?;
        Ok(TcpStream::connect((Ipv4Addr::LOCALHOST, port))?)
    })?;
    for (image, layout) in layouts {
        for tag in &image.tags {
            let source = format!("oci:{}", layout.display());
            let target = format!("docker://127.0.0.1:{port}/{tag}");
            let fixed = ["copy", "--quiet", "--insecure-policy", "--dest-tls-verify=false"];
            quiet(Command::new("skopeo").args(fixed).args([&source, &target]))
                .with_context(|| format!("cannot push {tag}; the registry says:\n{}", registry.log_tail()))?;
        }
    }
    registry.stop(Signal::SIGTERM, REGISTRY_LIMIT)?;
    Ok(())
}

/// The system's registry, or the one that the set-up unpacked.
fn registry_program() -> Result<PathBuf> {
    let name = "docker-registry";
    let brought = e2e::paths::tools().join(name);
    if crate::run::on_path(name) {
        Ok(PathBuf::from(name))
    } else if brought.exists() {
        Ok(brought)
    } else {
        bail!("{name} is missing: run `cargo xtask setup`")
    }
}

/// Lower-case hexadecimal.
fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
