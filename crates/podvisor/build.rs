//! Links `podvisor` with packed relative relocations where the machine's C library can read them (glibc 2.36): more than a
//! megabyte less that every start reads and that stays in memory.

use std::process::Command;

/// The first version of glibc that can.
const SINCE: (u32, u32) = (2, 36);

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // Whoever builds for another machine knows what that one has.
    if std::env::var("HOST") == std::env::var("TARGET") && glibc().is_some_and(|version| version >= SINCE) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of this machine's glibc, if it has one.
fn glibc() -> Option<(u32, u32)> {
    let output = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let (major, minor) = text.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}
