//! `cargo xtask gen-profile`: which ways the code takes under load, for the compiler of releases.
//!
//! A release that counts is driven by the bench of the API server; what it counted is kept beside the binary's sources, as
//! Go programs keep their `default.pgo`. A profile of older sources stays right: functions that have changed meanwhile
//! are compiled without it.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, ensure};

use crate::build;
use crate::run::{cargo, make_dir, on_path, quiet, show, step};
use crate::setup::apt;

/// Releases name their target, so that the profile is not for build scripts and macros.
pub const TRIPLE: &str = "x86_64-unknown-linux-gnu";

/// Arguments of `cargo xtask gen-profile`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask gen-profile             half an hour on two cores; commit the file that it writes")]
pub struct Arguments {}

/// The profile that releases are compiled with.
pub fn file() -> PathBuf {
    e2e::paths::workspace().join("crates/podvisor/release.profdata")
}

/// What tells the compiler of a release to use it.
pub fn flags() -> String {
    format!("-Cprofile-use={}", file().display())
}

/// Builds a release that counts, drives it, and writes what it counted.
pub fn run(_: &Arguments) -> Result<()> {
    let merge = merger()?;
    build::console()?;
    let directory = e2e::paths::target().join("profile");
    let counts = directory.join("counts");
    if counts.exists() {
        std::fs::remove_dir_all(&counts)?;
    }
    make_dir(&counts)?;
    step("Building a release that counts", || {
        let mut build = cargo();
        build.env("RUSTFLAGS", format!("-Cprofile-generate={}", counts.display()));
        build.args(["build", "--release", "--bin", "podvisor", "--target", TRIPLE]);
        show(build.arg("--target-dir").arg(&directory))
    })?;
    let podvisor = directory.join(TRIPLE).join("release/podvisor");
    step("Driving it", || {
        show(
            cargo()
                .args([
                    "run",
                    "--quiet",
                    "--release",
                    "--package",
                    "xtask",
                    "--",
                    "bench",
                    "api",
                    "--binary",
                ])
                .arg(podvisor),
        )
    })?;
    step("Writing what it counted", || {
        let mut merge = Command::new(merge);
        merge
            .args(["merge", "--sparse", "--output"])
            .arg(file())
            .arg(&counts);
        quiet(&mut merge).map(drop)
    })
}

/// The program that puts counts together: that of the LLVM which the compiler is built on.
fn merger() -> Result<String> {
    let said = quiet(Command::new("rustc").arg("-vV"))?;
    let version = said.lines().find_map(|line| line.strip_prefix("LLVM version: "));
    let version = version.context("rustc does not name its LLVM")?;
    let major = version.split('.').next().unwrap_or(version);
    let program = format!("llvm-profdata-{major}");
    if on_path(&program) {
        return Ok(program);
    }
    let package = format!("llvm-{major}");
    step(&format!("Installing {package}"), || {
        quiet(&mut apt(&["update"]))?;
        quiet(&mut apt(&[
            "install",
            "--yes",
            "--no-install-recommends",
            &package,
        ]))
        .map(drop)
    })?;
    ensure!(on_path(&program), "{package} brings no {program}");
    Ok(program)
}
