//! `cargo xtask test`: unit, API and end-to-end tests by nextest (the console in Chromium among them), then the
//! console's unit tests.

use std::process::Command;

use anyhow::{Result, bail};

use crate::build::{self, Profile, npm, with_node};
use crate::run::{cargo, on_path, quiet, show, step};
use crate::setup;

/// Arguments of `cargo xtask test`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask test
  cargo xtask test -- -p scheduler              one crate
  cargo xtask test -- -E 'binary(guestbook)'    one end-to-end test
  cargo xtask test -- -p e2e --test console     the console in Chromium")]
pub struct Arguments {
    /// Passed on to `cargo nextest run`; the console's tests are then left out.
    #[arg(last = true)]
    nextest: Vec<String>,
}

/// Builds what the tests use, runs all of them, and fails with the list of parts that failed.
pub fn run(arguments: &Arguments) -> Result<()> {
    setup::programs(true)?;
    build::all(Profile::Dev)?;
    build::demo_images()?;
    if !on_path("cargo-nextest") {
        step("Installing cargo-nextest", || {
            quiet(cargo().args(["install", "--locked", "cargo-nextest"])).map(drop)
        })?;
    }
    let mut failed = Vec::new();
    let mut part = |title: &str, command: &mut Command| {
        if let Err(error) = step(title, || show(command)) {
            failed.push(format!("{error:#}"));
        }
    };
    let mut nextest = cargo();
    nextest.args(["nextest", "run", "--no-fail-fast"]);
    // The console's end-to-end test among them drives Chromium by a script.
    with_node(&mut nextest);
    if arguments.nextest.is_empty() {
        nextest.arg("--workspace");
    }
    part("Rust tests", nextest.args(&arguments.nextest));
    if arguments.nextest.is_empty() {
        let app = e2e::paths::workspace().join("crates/console/app");
        part("Console, unit tests", npm().args(["test"]).current_dir(&app));
    }
    if !failed.is_empty() {
        bail!(
            "{} part(s) of the tests failed:\n  {}",
            failed.len(),
            failed.join("\n  ")
        );
    }
    Ok(())
}
