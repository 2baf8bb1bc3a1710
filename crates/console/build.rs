//! Makes sure that the app's output directory exists, so that the crate compiles before the app is built.
//!
//! `cargo xtask build` builds the app first. Without it the console answers with a page that says so.

use std::path::Path;

fn main() {
    let dist = Path::new("app/dist");
    println!("cargo::rerun-if-changed=app/dist");
    if let Err(error) = std::fs::create_dir_all(dist) {
        println!("cargo::error=cannot make {}: {error}", dist.display());
    }
}
