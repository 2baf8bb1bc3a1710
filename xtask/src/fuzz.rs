//! `cargo xtask fuzz`: mutated samples for every parser of foreign bytes.

use anyhow::Result;

use crate::run::{cargo, show};

/// Arguments of `cargo xtask fuzz`.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask fuzz --seconds 600
  cargo xtask fuzz --seconds 60 yaml cel")]
pub struct Arguments {
    /// How long each target runs: seconds of a processor.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// The targets; all of them when none is named (`crates/fuzz/corpus` has a directory for each).
    targets: Vec<String>,
}

/// Builds the fuzzer and runs it.
pub fn run(arguments: &Arguments) -> Result<()> {
    let mut fuzz = cargo();
    fuzz.args(["run", "-p", "fuzz", "--", &arguments.seconds.to_string()]);
    show(fuzz.args(&arguments.targets))
}
