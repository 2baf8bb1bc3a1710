//! `cargo xtask build`: the binary, the guest bundle, the console, the demo images.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result};

use crate::gen_profile;
use crate::run::{cargo, quiet, show, step};
use crate::setup;

/// Arguments of `cargo xtask build`.
#[derive(clap::Args, Default)]
pub struct Arguments {
    /// Build the optimised binary.
    #[arg(long)]
    release: bool,
    /// Build the guest bundle alone.
    #[arg(long)]
    guest_only: bool,
    /// Build the guest bundle alone, with a kernel from the newest source that Debian has.
    #[arg(long)]
    newest_kernel: bool,
    /// Build the demo images alone.
    #[arg(long, conflicts_with = "guest_only")]
    images_only: bool,
}

/// Which of cargo's profiles the binary is built with.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build: tests.
    Dev,
    /// Optimised: figures, users.
    Release,
}

impl Profile {
    /// Release when asked for.
    pub fn of(release: bool) -> Self {
        if release { Self::Release } else { Self::Dev }
    }

    /// Where cargo puts the binary.
    pub fn podvisor(self) -> PathBuf {
        let target = e2e::paths::target();
        let directory = match self {
            Self::Dev => target.join("debug"),
            Self::Release => target.join(gen_profile::TRIPLE).join("release"),
        };
        directory.join("podvisor")
    }
}

/// Builds everything a Lab needs but the images.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.guest_only || arguments.newest_kernel {
        return guest(arguments.newest_kernel);
    }
    if arguments.images_only {
        return demo_images();
    }
    all(Profile::of(arguments.release))
}

/// The console first: it is embedded into the binary.
pub fn all(profile: Profile) -> Result<()> {
    console()?;
    step("Building the guest bundle (kernel and initramfs)", || {
        crate::bundle::build(false)
    })?;
    step("Building podvisor", || {
        let mut command = cargo();
        // Not `--package`: see the alias in .cargo/config.toml.
        command.args(["build", "--quiet", "--bin", "podvisor"]);
        if profile == Profile::Release {
            command.args(["--release", "--target", gen_profile::TRIPLE]);
            command.env("RUSTFLAGS", gen_profile::flags());
        }
        show(&mut command)?;
        match profile {
            Profile::Dev => Ok(()),
            Profile::Release => {
                quiet(Command::new("strip").arg("--strip-debug").arg(profile.podvisor())).map(drop)
            }
        }
    })
}

fn guest(newest_kernel: bool) -> Result<()> {
    step("Building the guest bundle (kernel and initramfs)", || {
        crate::bundle::build(newest_kernel)
    })
}

/// The example images, pushed to the demo registry's storage.
pub fn demo_images() -> Result<()> {
    step("Building the demo images", crate::demo_images::build_all)
}

/// The console's app, when its sources are newer than what was built.
pub fn console() -> Result<()> {
    let app = e2e::paths::workspace().join("crates/console/app");
    let built = app.join("dist/index.html");
    let sources = [
        "src",
        "public",
        "index.html",
        "vite.config.ts",
        "package-lock.json",
    ];
    let newest = sources
        .iter()
        .filter_map(|source| newest(&app.join(source)))
        .max();
    // The packages are also what its tests run with.
    let fresh = app.join("node_modules").exists()
        && built
            .metadata()
            .and_then(|data| data.modified())
            .is_ok_and(|time| Some(time) >= newest);
    if fresh {
        return Ok(());
    }
    step("Building the console", || {
        if !app.join("node_modules").exists() {
            quiet(npm().args(["ci", "--no-audit", "--no-fund"]).current_dir(&app))?;
        }
        quiet(npm().args(["run", "build"]).current_dir(&app)).map(drop)
    })
}

/// `npm`, run with the Node that suits it.
pub fn npm() -> Command {
    let mut command = Command::new("npm");
    with_node(&mut command);
    command
}

/// Puts the brought Node first on a command's path where the system's is too old.
pub fn with_node(command: &mut Command) {
    let brought = setup::node_dir();
    if brought.exists() {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let entries = std::iter::once(brought).chain(std::env::split_paths(&path));
        if let Ok(joined) = std::env::join_paths(entries) {
            command.env("PATH", joined);
        }
    }
}

/// The time of the newest file below a path.
fn newest(path: &std::path::Path) -> Option<std::time::SystemTime> {
    let data = path.metadata().context("stat").ok()?;
    if data.is_file() {
        return data.modified().ok();
    }
    std::fs::read_dir(path)
        .ok()?
        .flatten()
        .filter_map(|entry| newest(&entry.path()))
        .max()
}
