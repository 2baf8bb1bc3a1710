//! The guest kernel: built from Debian's `linux-source` with the few options that `guest/kernel.config` names.
//!
//! A kernel that has only what a Pod VM uses boots in a third of the time of Debian's generic one and leaves three times
//! as much memory free. The source is downloaded with apt and unpacked without what is never compiled; the result is kept
//! as `VERSION-DIGEST`, the digest being that of configuration and recipe. A newer revision of Debian's source is told and
//! not compiled unasked: nobody waits for minutes because a package list was refreshed.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};

use crate::run::{make_dir, quiet};

/// Raised when this file changes what comes out.
const RECIPE: &str = "1";
/// What `allnoconfig` with our lines never compiles. Its Kconfig and Makefiles stay: they are read all the same.
const LEFT_OUT: [&str; 10] = [
    "*/Documentation/*.rst",
    "*/drivers/gpu/*.[ch]",
    "*/drivers/media/*.[ch]",
    "*/drivers/infiniband/*.[ch]",
    "*/drivers/staging/*.[ch]",
    "*/drivers/net/ethernet/*.[ch]",
    "*/drivers/net/wireless/*.[ch]",
    "*/sound/*.[ch]",
    "*/tools/testing/*",
    "*/tools/perf/*",
];

/// Brings `vmlinux` in the bundle up to date; returns the kernel's release. With `newest` an older source is not enough.
pub fn build(bundle: &Path, newest: bool) -> Result<String> {
    let config = e2e::paths::workspace().join("guest/kernel.config");
    let wanted = fs::read_to_string(&config).with_context(|| format!("cannot read {}", config.display()))?;
    let package = source_package()?;
    let (version, digest) = (version(&package)?, digest(&wanted));
    let cache = cache();
    make_dir(&cache)?;
    // Two checkouts that want the same kernel compile it once.
    let lock = fs::File::create(cache.join("lock")).context("cannot make the lock of the kernel cache")?;
    lock.lock().context("cannot take the lock of the kernel cache")?;
    let mut stamp = format!("{version}-{digest}");
    if !is_built(&cache.join(&stamp)) {
        match latest(&cache, &digest)?.filter(|_| !newest) {
            Some(other) => {
                println!(
                    "    {other} serves; Debian has {version} now: `cargo xtask build --newest-kernel` takes it"
                );
                stamp = other;
            }
            None => compile(&package, &config, &wanted, &cache.join(&stamp))?,
        }
    }
    let built = cache.join(&stamp);
    let vmlinux = bundle.join("vmlinux");
    let in_use = fs::read_to_string(bundle.join("kernel.stamp"));
    if !vmlinux.exists() || in_use.ok().as_ref() != Some(&stamp) {
        fs::copy(built.join("vmlinux"), &vmlinux).context("cannot copy the kernel")?;
        fs::write(bundle.join("kernel.stamp"), &stamp)?;
    }
    fs::read_to_string(built.join("release")).context("the kernel's release")
}

/// Built kernels, by stamp: outside of the target directory, for all checkouts of a user and across `cargo clean`.
fn cache() -> PathBuf {
    e2e::clients::cache().join("guest-kernel")
}

/// Compiles `vmlinux` into a directory, whose `release` comes last and shows that everything is there.
fn compile(package: &str, config: &Path, wanted: &str, into: &Path) -> Result<()> {
    let work = e2e::paths::target().join("guest-kernel");
    if work.exists() {
        fs::remove_dir_all(&work)?;
    }
    make_dir(&work)?;
    make_dir(into)?;
    println!("    compiling {package}: once for each configuration, some minutes");
    let source = unpack(package, &work)?;
    configure(&source, config, wanted)?;
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    quiet(make(&source).arg(format!("-j{jobs}")).arg("vmlinux"))?;
    quiet(
        Command::new("strip")
            .args(["--strip-all", "-o"])
            .arg(into.join("vmlinux"))
            .arg(source.join("vmlinux")),
    )?;
    let release = fs::read_to_string(source.join("include/config/kernel.release"))?;
    fs::write(into.join("release"), release.trim())?;
    // Over a gigabyte, for nothing.
    fs::remove_dir_all(&work)?;
    Ok(())
}

/// Stands for all but the source: two kernels of the same digest differ by Debian's corrections only.
fn digest(config: &str) -> String {
    let digest = Sha256::digest(format!("{RECIPE}\n{config}"));
    digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

fn is_built(directory: &Path) -> bool {
    directory.join("release").exists()
}

/// The kernel of this digest that was compiled last.
fn latest(cache: &Path, digest: &str) -> Result<Option<String>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(cache)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.ends_with(&format!("-{digest}")) && is_built(&entry.path()) {
            found.push((entry.metadata()?.modified()?, name));
        }
    }
    Ok(found.into_iter().max().map(|(_, name)| name))
}

/// The package that Debian's `linux-source` stands for.
fn source_package() -> Result<String> {
    let text = quiet(Command::new("apt-cache").args(["depends", "linux-source"]))?;
    let found = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-source-"));
    let found = found.context("apt knows no linux-source: run `apt-get update`")?;
    Ok(found.to_owned())
}

fn version(package: &str) -> Result<String> {
    let text = quiet(Command::new("apt-cache").args(["show", "--no-all-versions", package]))?;
    let version = text.lines().find_map(|line| line.strip_prefix("Version: "));
    Ok(version
        .with_context(|| format!("apt knows no version of {package}: run `apt-get update`"))?
        .to_owned())
}

/// Downloads the package and unpacks the source inside it; returns its directory.
fn unpack(package: &str, work: &Path) -> Result<PathBuf> {
    quiet(
        Command::new("apt-get")
            .args(["-qq", "-o", "Acquire::Retries=3", "download", package])
            .current_dir(work),
    )?;
    let archive = only(work, "deb")?;
    let data = Command::new("dpkg-deb")
        .arg("--extract")
        .arg(&archive)
        .arg(work)
        .output();
    let data = data.context("cannot run dpkg-deb")?;
    if !data.status.success() {
        bail!("dpkg-deb: {}", String::from_utf8_lossy(&data.stderr).trim());
    }
    fs::remove_file(archive)?;
    let tar = only(&work.join("usr/src"), "xz")?;
    let mut command = Command::new("tar");
    command.arg("--extract").arg("--file").arg(&tar);
    command.args(["--wildcards", "--wildcards-match-slash"]);
    for pattern in LEFT_OUT {
        command.arg(format!("--exclude={pattern}"));
    }
    quiet(command.current_dir(work))?;
    let source = work.join(package);
    if !source.join("Kconfig").exists() {
        bail!("{} holds no kernel source", tar.display());
    }
    Ok(source)
}

/// The only file of a directory with this extension.
fn only(directory: &Path, extension: &str) -> Result<PathBuf> {
    fs::read_dir(directory)
        .with_context(|| format!("cannot read {}", directory.display()))?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|found| found == extension))
        .with_context(|| format!("{} has no .{extension} file", directory.display()))
}

/// `make` with everything fixed that would differ between two machines.
fn make(source: &Path) -> Command {
    let mut command = Command::new("make");
    command.arg("-C").arg(source).args(["-s", "ARCH=x86"]);
    for (name, value) in [
        ("KBUILD_BUILD_USER", "podvisor"),
        ("KBUILD_BUILD_HOST", "podvisor"),
        ("KBUILD_BUILD_TIMESTAMP", "1970-01-01"),
    ] {
        command.env(name, value);
    }
    // Variables of an outer make would change this one.
    command.env_remove("MAKEFLAGS").env_remove("MAKELEVEL");
    command
}

/// Everything off but our lines and what they need; and no line of ours may have been dropped on the way.
fn configure(source: &Path, config: &Path, wanted: &str) -> Result<()> {
    quiet(make(source).env("KCONFIG_ALLCONFIG", config).arg("allnoconfig"))?;
    let got = fs::read_to_string(source.join(".config"))?;
    let lost = lost(wanted, &got);
    if !lost.is_empty() {
        bail!(
            "guest/kernel.config: this kernel does not take: {}; name what these options need, or drop them",
            lost.join(", ")
        );
    }
    Ok(())
}

/// Lines of ours that the final configuration does not have.
fn lost(wanted: &str, got: &str) -> Vec<String> {
    let has = |line: &str| got.lines().any(|other| other == line);
    let is_set = |name: &str| {
        got.lines()
            .any(|other| other.strip_prefix(name).is_some_and(|rest| rest.starts_with('=')))
    };
    let kept = |line: &str| match line.strip_suffix("=n") {
        Some(name) => !is_set(name),
        None => has(line),
    };
    wanted
        .lines()
        .map(str::trim)
        .filter(|line| line.starts_with("CONFIG_") && !kept(line))
        .map(str::to_owned)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_that_the_kernel_dropped_is_named() {
        let wanted = "# Machine\nCONFIG_SMP=y\nCONFIG_USB=n\nCONFIG_PCI=n\nCONFIG_NET=y\nCONFIG_HZ=100\n";
        let got = "CONFIG_SMP=y\n# CONFIG_NET is not set\nCONFIG_PCI=y\nCONFIG_USB_X=y\nCONFIG_HZ=250\n";
        assert_eq!(
            lost(wanted, got),
            ["CONFIG_PCI=n", "CONFIG_NET=y", "CONFIG_HZ=100"]
        );
    }

    #[test]
    fn an_older_source_serves_and_another_configuration_does_not() {
        let cache = tempfile::tempdir().expect("a temporary directory");
        let (ours, other) = (digest("a"), digest("b"));
        assert_ne!(ours, other);
        for (name, finished) in [
            (format!("6.1.1-1-{ours}"), true),
            (format!("6.1.2-1-{ours}"), false),
            (format!("6.1.3-1-{other}"), true),
        ] {
            let directory = cache.path().join(name);
            fs::create_dir(&directory).expect("made");
            if finished {
                fs::write(directory.join("release"), "6.1").expect("written");
            }
        }
        let found = latest(cache.path(), &ours).expect("readable");
        assert_eq!(found, Some(format!("6.1.1-1-{ours}")));
        assert_eq!(latest(cache.path(), &digest("c")).expect("readable"), None);
    }
}
