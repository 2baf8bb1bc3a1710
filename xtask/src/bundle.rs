//! The guest bundle: an uncompressed kernel and an initramfs that is the guest agent and a few modules.
//!
//! The kernel is Debian's `linux-image-cloud-amd64`, downloaded and unpacked but never installed. Everything is kept
//! in `target/guest-bundle`; a second run rebuilds only the agent, and the archive when the agent has changed.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde_json::json;

use crate::run::{cargo, make_dir, quiet, show};

/// What the guest needs beyond the kernel itself; dependencies are found in the modules.
const MODULES: &[&str] = &[
    "virtio_mmio",
    "virtio_scsi",
    "sd_mod",
    "virtio_net",
    "virtio_console",
    "crc32c_generic",
    "erofs",
    "overlay",
    "virtiofs",
];
/// The only target: static, no other libc than the one linked in.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Builds what is missing or old.
pub fn build() -> Result<()> {
    let bundle = e2e::paths::guest_bundle();
    make_dir(&bundle)?;
    let agent = build_agent()?;
    let kernel = bundle.join("kernel");
    if !bundle.join("vmlinux").exists() {
        fetch_kernel(&kernel)?;
        fs::write(bundle.join("vmlinux"), vmlinux(&kernel)?)?;
    }
    let archive = archive(&agent, &kernel)?;
    let path = bundle.join("initramfs.cpio");
    if fs::read(&path).is_ok_and(|old| old == archive) && bundle.join("bundle.json").exists() {
        return Ok(());
    }
    fs::write(&path, archive)?;
    let release = release(&kernel)?;
    // Debian's kernels find virtio-mmio devices through ACPI.
    let description = json!({"kernel": release, "acpi": true, "cmdline": ""});
    fs::write(bundle.join("bundle.json"), format!("{description:#}\n"))?;
    Ok(())
}

/// The agent as one static file.
fn build_agent() -> Result<Vec<u8>> {
    let mut command = cargo();
    command.args([
        "build",
        "--quiet",
        "--package",
        "guest",
        "--profile",
        "guest",
        "--target",
        TARGET,
    ]);
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    show(&mut command)?;
    let path = e2e::paths::target().join(TARGET).join("guest/guest");
    fs::read(&path).with_context(|| format!("cannot read {}", path.display()))
}

fn fetch_kernel(into: &Path) -> Result<()> {
    let meta = quiet(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]))?;
    let package = meta
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Depends: "))
        .find(|name| name.starts_with("linux-image-"))
        .context("apt knows no linux-image-cloud-amd64: run `apt-get update`")?;
    let scratch = tempfile::tempdir()?;
    quiet(
        Command::new("apt-get")
            .args(["-qq", "download", package])
            .current_dir(scratch.path()),
    )?;
    let archive = fs::read_dir(scratch.path())?
        .flatten()
        .map(|entry| entry.path())
        .next();
    let archive = archive.with_context(|| format!("apt-get downloaded no file for {package}"))?;
    make_dir(into)?;
    quiet(Command::new("dpkg-deb").arg("-x").arg(archive).arg(into)).map(drop)
}

/// The only version below `lib/modules`.
fn release(kernel: &Path) -> Result<String> {
    let mut entries = fs::read_dir(kernel.join("lib/modules"))?.flatten();
    let entry = entries.next().context("the kernel package has no modules")?;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

/// The ELF image inside the bzImage: QEMU boots it by PVH, without any firmware.
fn vmlinux(kernel: &Path) -> Result<Vec<u8>> {
    let image = fs::read(kernel.join("boot").join(format!("vmlinuz-{}", release(kernel)?)))?;
    let payload = payload(&image).context("the kernel is no bzImage")?;
    let (program, arguments): (_, &[&str]) = match payload {
        [0x02, 0x21, 0x4c, 0x18, ..] => ("lz4", &["-dc"]),
        [0x28, 0xb5, 0x2f, 0xfd, ..] => ("zstd", &["-dc"]),
        [0xfd, b'7', b'z', b'X', ..] => ("xz", &["-dc"]),
        [0x1f, 0x8b, ..] => ("gzip", &["-dc"]),
        other => bail!(
            "the kernel is compressed in an unknown way: {:02x?}",
            &other[..4.min(other.len())]
        ),
    };
    let scratch = tempfile::NamedTempFile::new()?;
    fs::write(scratch.path(), payload)?;
    let output = Command::new(program)
        .args(arguments)
        .stdin(scratch.reopen()?)
        .output();
    let output = output.with_context(|| format!("cannot run {program}"))?;
    // What follows the compressed stream in the payload makes some tools complain; the ELF magic decides.
    if !output.stdout.starts_with(b"\x7fELF") {
        bail!(
            "{program} made no ELF image: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
    }
    Ok(output.stdout)
}

/// The compressed kernel inside a bzImage (Documentation/arch/x86/boot.rst), without its trailing size.
fn payload(image: &[u8]) -> Option<&[u8]> {
    let number = |at: usize| Some(u32::from_le_bytes(image.get(at..at + 4)?.try_into().ok()?) as usize);
    let setup_sectors = match *image.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = (setup_sectors + 1) * 512 + number(0x248)?;
    image.get(start..start + number(0x24c)?.checked_sub(4)?)
}

/// The initramfs: agent as /init, modules, their order.
fn archive(agent: &[u8], kernel: &Path) -> Result<Vec<u8>> {
    let mut archive = Cpio::default();
    for directory in ["dev", "proc", "sys", "run", "etc", "lib", "lib/modules"] {
        archive.directory(directory);
    }
    archive.file("init", 0o755, agent);
    let mut order = Vec::new();
    let root = kernel.join("lib/modules").join(release(kernel)?);
    for module in MODULES {
        load_order(&root, module, &mut order)?;
    }
    let mut list = String::new();
    for (name, path) in &order {
        let target = format!("lib/modules/{name}.ko");
        archive.file(&target, 0o644, &fs::read(path)?);
        list += &format!("/{target}\n");
    }
    archive.file("etc/modules", 0o644, list.as_bytes());
    Ok(archive.finish())
}

/// Appends a module after the modules that it depends on. A module that is not there is built in.
fn load_order(root: &Path, name: &str, order: &mut Vec<(String, PathBuf)>) -> Result<()> {
    if order.iter().any(|(known, _)| known == name) {
        return Ok(());
    }
    let Some(path) = find_module(root, name)? else {
        return Ok(());
    };
    for dependency in dependencies(&fs::read(&path)?) {
        load_order(root, &dependency, order)?;
    }
    order.push((name.to_owned(), path));
    Ok(())
}

fn find_module(root: &Path, name: &str) -> Result<Option<PathBuf>> {
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory)?.flatten() {
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                pending.push(path);
            } else if path
                .file_stem()
                .is_some_and(|stem| stem.to_string_lossy().replace('-', "_") == name)
                && path.extension().is_some_and(|extension| extension == "ko")
            {
                return Ok(Some(path));
            }
        }
    }
    Ok(None)
}

/// The `depends=` line of a module's information section.
fn dependencies(module: &[u8]) -> BTreeSet<String> {
    const KEY: &[u8] = b"\0depends=";
    let Some(start) = module.windows(KEY.len()).position(|window| window == KEY) else {
        return BTreeSet::new();
    };
    let value = module[start + KEY.len()..]
        .split(|byte| *byte == 0)
        .next()
        .unwrap_or_default();
    let text = String::from_utf8_lossy(value);
    text.split(',')
        .filter(|name| !name.is_empty())
        .map(|name| name.replace('-', "_"))
        .collect()
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
    fn dependencies_are_read_from_a_module() {
        let names = |text: &[u8]| dependencies(text).into_iter().collect::<Vec<_>>();
        assert_eq!(
            names(b"license=GPL\0depends=virtio,virtio-ring\0name=x\0"),
            ["virtio", "virtio_ring"]
        );
        assert!(names(b"\0depends=\0").is_empty());
        assert!(names(b"nothing").is_empty());
    }

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

    #[test]
    fn what_is_no_kernel_is_refused() {
        assert!(payload(b"short").is_none());
        assert!(payload(&vec![0xff; 4096]).is_none());
    }
}
