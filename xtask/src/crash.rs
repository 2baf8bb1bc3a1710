//! `cargo xtask crash`: a Supervisor is killed again and again under load, and the history of all clients is judged.

use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::build::{self, Profile};
use crate::run::{cargo, show};

/// Arguments of `cargo xtask crash`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask crash --kills 500
  cargo xtask crash --kills 500 --binary target/x86_64-unknown-linux-gnu/release/podvisor     a fast build starts again at once
  cargo xtask crash --kills 20 --seed 1764339000000000000            the same choices again")]
pub struct Arguments {
    /// How often it is killed.
    #[arg(long, default_value_t = 500)]
    kills: u64,
    /// Where the random choices begin; a failing run prints its own.
    #[arg(long)]
    seed: Option<u64>,
    /// Kill this binary instead of building one.
    #[arg(long)]
    binary: Option<PathBuf>,
}

/// Builds, and runs the test with its progress shown.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.binary.is_none() {
        build::all(Profile::Dev)?;
    }
    let mut test = cargo();
    test.args([
        "test",
        "-p",
        "e2e",
        "--test",
        "crash",
        "--",
        "--nocapture",
        "--exact",
        "kills_lose_nothing",
    ]);
    test.env("PODVISOR_CRASH_KILLS", arguments.kills.to_string());
    if let Some(binary) = &arguments.binary {
        let binary = binary.canonicalize();
        test.env("PODVISOR_BIN", binary.context("--binary names no file")?);
    }
    if let Some(seed) = arguments.seed {
        test.env("PODVISOR_CRASH_SEED", seed.to_string());
    }
    show(&mut test)
}
