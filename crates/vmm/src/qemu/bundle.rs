//! The guest bundle on disk.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

/// Kernel, initramfs, and how this kernel wants to be booted.
#[derive(Debug, Clone)]
pub(super) struct Bundle {
    pub kernel: PathBuf,
    pub initramfs: PathBuf,
    pub description: Description,
}

/// `bundle.json`
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Description {
    /// Whether the kernel finds its devices through ACPI; otherwise from its command line.
    pub acpi: bool,
    /// More words for the kernel's command line.
    #[serde(default)]
    pub cmdline: String,
}

impl Bundle {
    /// Reads the description and checks that everything is there.
    pub fn read(directory: &Path) -> Result<Self, String> {
        let file = directory.join("bundle.json");
        let text = fs::read(&file).map_err(|error| format!("bundle.json: {error}"))?;
        let description = serde_json::from_slice(&text).map_err(|error| format!("bundle.json: {error}"))?;
        let bundle = Self {
            kernel: directory.join("vmlinux"),
            initramfs: directory.join("initramfs.cpio"),
            description,
        };
        for path in [&bundle.kernel, &bundle.initramfs] {
            fs::metadata(path).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(bundle)
    }
}
