//! Where the built things lie, all under the workspace's one target directory.

use std::env;
use std::path::{Path, PathBuf};

/// The checkout: two levels above this crate's manifest.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// The target directory, `CARGO_TARGET_DIR` respected.
pub fn target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from)
}

/// The `podvisor` binary under test: `PODVISOR_BIN`, else the one of the dev profile.
pub fn podvisor() -> PathBuf {
    env::var_os("PODVISOR_BIN").map_or_else(|| target().join("debug/podvisor"), PathBuf::from)
}

/// The guest bundle (kernel and initramfs) made by `cargo xtask build-guest`.
pub fn guest_bundle() -> PathBuf {
    target().join("guest-bundle")
}

/// The storage of the demo registry, filled by `cargo xtask setup`.
pub fn registry_storage() -> PathBuf {
    target().join("demo/registry")
}

/// Programs that the set-up installs where the system has none (kubectl, node).
pub fn tools() -> PathBuf {
    target().join("tools/bin")
}
