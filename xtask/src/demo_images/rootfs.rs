//! An image's own files: packages unpacked and thinned out, then what the recipe adds.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::recipe::Image;
use crate::run::{make_dir, quiet};

/// Fills the directory `root`, which must not exist.
pub fn build(image: &Image, root: &Path, cache: &Path, programs: &BTreeMap<String, PathBuf>) -> Result<()> {
    make_dir(root)?;
    for package in &image.packages {
        let archive = fetch(package, cache)?;
        quiet(Command::new("dpkg-deb").arg("-x").arg(archive).arg(root))?;
    }
    thin_out(root, root, &image.keep)?;
    if let Some(program) = &image.applets {
        link_applets(root, program)?;
    }
    for directory in &image.directories {
        let path = root.join(directory);
        make_dir(&path)?;
        let mode = if directory.ends_with("tmp") { 0o1777 } else { 0o755 };
        fs::set_permissions(&path, Permissions::from_mode(mode))?;
    }
    for (path, text) in &image.files {
        put(root, path, text.trim_start_matches('\n').as_bytes(), 0o644)?;
    }
    for (path, package) in &image.programs {
        let binary = programs
            .get(package)
            .with_context(|| format!("the program {package} was not built"))?;
        put(root, path, &fs::read(binary)?, 0o755)?;
    }
    Ok(())
}

/// The package's file in the cache, downloaded when it is not there.
fn fetch(package: &str, cache: &Path) -> Result<PathBuf> {
    let directory = cache.join(package);
    if let Some(found) = archive(&directory) {
        return Ok(found);
    }
    make_dir(&directory)?;
    quiet(
        Command::new("apt-get")
            .args(["-qq", "-o", "Acquire::Retries=3", "download", package])
            .current_dir(&directory),
    )
    .with_context(|| format!("cannot fetch {package}: run `apt-get update` and try again"))?;
    archive(&directory).with_context(|| format!("apt-get downloaded no file for {package}"))
}

/// apt writes to a `.FAILED` or partial name first: a `.deb` is whole.
fn archive(directory: &Path) -> Option<PathBuf> {
    let mut files = fs::read_dir(directory).ok()?.flatten().map(|entry| entry.path());
    files.find(|path| path.extension().is_some_and(|extension| extension == "deb"))
}

/// Removes every file that no prefix keeps, and the directories that become empty.
fn thin_out(root: &Path, directory: &Path, keep: &[String]) -> Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            thin_out(root, &path, keep)?;
            if fs::read_dir(&path)?.next().is_none() {
                fs::remove_dir(&path)?;
            }
        } else {
            let inside = path.strip_prefix(root)?.to_string_lossy().into_owned();
            if !keep.iter().any(|prefix| inside.starts_with(prefix)) {
                fs::remove_file(&path)?;
            }
        }
    }
    Ok(())
}

/// A link for each applet at the place where BusyBox itself would install it.
fn link_applets(root: &Path, program: &str) -> Result<()> {
    let list = quiet(Command::new(root.join(program)).arg("--list-full"))?;
    let target = Path::new("/").join(program);
    for applet in list.lines().filter(|line| *line != program) {
        let path = root.join(applet);
        if let Some(parent) = path.parent() {
            make_dir(parent)?;
        }
        symlink(&target, &path).with_context(|| format!("cannot link {applet}"))?;
    }
    Ok(())
}

fn put(root: &Path, path: &str, content: &[u8], mode: u32) -> Result<()> {
    let path = root.join(path);
    if let Some(parent) = path.parent() {
        make_dir(parent)?;
    }
    fs::write(&path, content)?;
    fs::set_permissions(&path, Permissions::from_mode(mode))?;
    Ok(())
}
