//! Running other programs with their progress shown, and failing with their own words.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context, Result, bail};

/// A step of a longer job: prints its title, runs it, prints the time it took.
pub fn step<T>(title: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    println!("==> {title}");
    let start = Instant::now();
    let result = work().with_context(|| format!("step failed: {title}"))?;
    println!("    done in {:.1} s", start.elapsed().as_secs_f64());
    Ok(result)
}

/// Runs a program with its output shown; fails when it does.
pub fn show(command: &mut Command) -> Result<()> {
    let status = command
        .status()
        .with_context(|| format!("cannot run {}", name(command)))?;
    if !status.success() {
        bail!("`{}` ended with {status}", line(command));
    }
    Ok(())
}

/// Runs a program quietly; on failure the error carries what it printed.
pub fn quiet(command: &mut Command) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot run {}", name(command)))?;
    if !output.status.success() {
        bail!(
            "`{}` ended with {}:\n{}{}",
            line(command),
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program of this name is on the path.
pub fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|entry| entry.join(program).is_file()))
}

/// `cargo` in the workspace, the same one that runs us.
pub fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(e2e::paths::workspace());
    command
}

/// The target of programs that run inside a VM: static, no other libc than the one linked in.
const STATIC_TARGET: &str = "x86_64-unknown-linux-gnu";
/// Every package with such a program.
const STATIC_PACKAGES: [&str; 2] = ["guest", "guestbook-frontend"];

/// Builds one of the workspace's static programs; returns its path. All their packages are named each time, so that the
/// features of dependencies are chosen for all at once and nothing is compiled twice.
pub fn static_program(name: &str) -> Result<PathBuf> {
    let mut command = cargo();
    command.args([
        "build",
        "--quiet",
        "--profile",
        "guest",
        "--target",
        STATIC_TARGET,
    ]);
    for package in STATIC_PACKAGES {
        command.args(["--package", package]);
    }
    command.args(["--bin", name]);
    command.env("RUSTFLAGS", "-C target-feature=+crt-static");
    show(&mut command)?;
    Ok(e2e::paths::target().join(STATIC_TARGET).join("guest").join(name))
}

/// Makes a directory with its parents.
pub fn make_dir(path: &Path) -> Result<()> {
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

fn name(command: &Command) -> String {
    command.get_program().to_string_lossy().into_owned()
}

fn line(command: &Command) -> String {
    let arguments = command
        .get_args()
        .map(|argument| argument.to_string_lossy().into_owned());
    std::iter::once(name(command))
        .chain(arguments)
        .collect::<Vec<_>>()
        .join(" ")
}
