//! `cargo xtask tidy`: the rules of the house that a program can check.
//!
//! - [`sources`]: every Rust file has a header and stays under the size limit; no absolute paths;
//! - [`layers`]: dependencies between our crates point down only;
//! - [`dependencies`]: licences, duplicate majors and banned crates, read from `cargo metadata`.
//!
//! Each check returns the list of what is wrong; all are reported at once.

mod dependencies;
mod layers;
mod sources;

use anyhow::{Result, bail};

/// Runs every check.
pub fn run() -> Result<()> {
    let metadata = cargo_metadata::MetadataCommand::new()
        .current_dir(e2e::paths::workspace())
        // What other platforms would need does not count.
        .other_options(
            ["--locked", "--filter-platform", "x86_64-unknown-linux-gnu"]
                .map(str::to_owned)
                .to_vec(),
        )
        .exec()?;
    let mut wrong = sources::check(&e2e::paths::workspace())?;
    wrong.extend(layers::check(&metadata));
    wrong.extend(dependencies::check(&metadata)?);
    for line in &wrong {
        eprintln!("tidy: {line}");
    }
    if !wrong.is_empty() {
        bail!("{} finding(s)", wrong.len());
    }
    println!("tidy: no findings");
    Ok(())
}
