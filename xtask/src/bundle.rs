//! The guest bundle: an uncompressed kernel, an initramfs that is the guest agent and nothing else, and a description.
//!
//! Everything is kept in `target/guest-bundle`; a second run rebuilds only the agent, and the archive when the agent has
//! changed. The kernel comes from `guest_kernel`.

use std::fs;

use anyhow::{Context, Result};
use serde_json::json;

use crate::guest_kernel;
use crate::run::{make_dir, static_program};

/// Builds what is missing or old.
pub fn build(newest_kernel: bool) -> Result<()> {
    let bundle = e2e::paths::guest_bundle();
    let release = kernel(newest_kernel)?;
    write_if_new(&bundle.join("initramfs.cpio"), &archive(&agent()?))?;
    // A kernel without ACPI takes its devices from the command line.
    let description = json!({"kernel": release, "acpi": false, "cmdline": ""});
    write_if_new(
        &bundle.join("bundle.json"),
        format!("{description:#}\n").as_bytes(),
    )
}

/// The kernel alone; returns its release.
pub fn kernel(newest: bool) -> Result<String> {
    let bundle = e2e::paths::guest_bundle();
    make_dir(&bundle)?;
    guest_kernel::build(&bundle, newest)
}

/// Files that did not change keep their time.
fn write_if_new(path: &std::path::Path, bytes: &[u8]) -> Result<()> {
    if fs::read(path).is_ok_and(|old| old == bytes) {
        return Ok(());
    }
    fs::write(path, bytes).with_context(|| format!("cannot write {}", path.display()))
}

/// The agent as one static file.
fn agent() -> Result<Vec<u8>> {
    let path = static_program("guest")?;
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

/// The initramfs: the agent as /init, and where it mounts things.
fn archive(agent: &[u8]) -> Vec<u8> {
    let mut archive = Cpio::default();
    for directory in ["dev", "proc", "sys", "run", "etc"] {
        archive.directory(directory);
    }
    archive.file("init", 0o755, agent);
    archive.finish()
}

/// The "newc" archive that the kernel unpacks.
#[derive(Default)]
struct Cpio {
    bytes: Vec<u8>,
    entries: u32,
}

impl Cpio {
    fn directory(&mut self, path: &str) {
        self.entry(path, 0o040_755, &[]);
    }

    fn file(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.entry(path, 0o100_000 | mode, data);
    }

    fn entry(&mut self, path: &str, mode: u32, data: &[u8]) {
        self.entries += 1;
        let numbers = [
            self.entries,
            mode,
            0,
            0,
            1,
            0,
            data.len() as u32,
            0,
            0,
            0,
            0,
            path.len() as u32 + 1,
            0,
        ];
        self.bytes.extend_from_slice(b"070701");
        for number in numbers {
            self.bytes.extend_from_slice(format!("{number:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(path.as_bytes());
        self.bytes.push(0);
        self.pad();
        self.bytes.extend_from_slice(data);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }

    fn finish(mut self) -> Vec<u8> {
        self.entry("TRAILER!!!", 0, &[]);
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_is_aligned_and_ends() {
        let mut archive = Cpio::default();
        archive.directory("dev");
        archive.file("init", 0o755, b"abc");
        let bytes = archive.finish();
        assert!(bytes.len().is_multiple_of(4));
        assert!(bytes.starts_with(b"070701"));
        assert!(bytes.windows(10).any(|window| window == b"TRAILER!!!"));
    }
}
