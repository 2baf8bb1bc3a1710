//! What `cargo deny` would say, read from `cargo metadata`: licences, duplicate majors, banned crates.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use cargo_metadata::Metadata;

use crate::run::{cargo, quiet};

/// Licences that may be in the tree.
const LICENCES: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "MIT-0",
    "OpenSSL",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];
/// Crates that must not come in, and why.
const BANNED: &[(&str, &str)] = &[
    ("ring", "aws-lc-rs is the only crypto provider"),
    ("openssl-sys", "TLS is rustls"),
    ("native-tls", "TLS is rustls"),
    ("rsa", "RUSTSEC-2023-0071; aws-lc-rs signs RS256"),
    ("serde_yaml", "unmaintained; use serde-saphyr"),
];
/// Crates that may be there in several majors, because two dependencies of ours disagree.
/// Shorten this list whenever an update allows it.
const SEVERAL_MAJORS: &[&str] = &[
    "base64",
    "foldhash",
    "getrandom",
    "hashbrown",
    "pem",
    "prettyplease",
    "syn",
    "synstructure",
    "tower-http",
    "unicode-width",
    "untrusted",
];

/// Returns what is wrong, a line each.
pub fn check(metadata: &Metadata) -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    let mut majors: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    let used = used_packages()?;
    for package in metadata
        .packages
        .iter()
        .filter(|package| used.contains(&format!("{} {}", package.name, package.version)))
    {
        let name = package.name.as_str();
        if let Some((_, reason)) = BANNED.iter().find(|(banned, _)| *banned == name) {
            wrong.push(format!("crate {name} is banned: {reason}"));
        }
        match &package.license {
            Some(expression) if licence_allowed(expression) => {}
            Some(expression) => wrong.push(format!("crate {name}: licence `{expression}` is not allowed")),
            None if package.license_file.is_some() => {
                wrong.push(format!(
                    "crate {name}: licence only in a file: read it and decide"
                ));
            }
            None => wrong.push(format!("crate {name} names no licence")),
        }
        let ours = metadata.workspace_members.contains(&package.id);
        if !ours {
            majors.entry(name).or_default().insert(major(&package.version));
        }
    }
    for (name, versions) in majors {
        let allowed = SEVERAL_MAJORS.contains(&name);
        let listed = versions.iter().cloned().collect::<Vec<_>>().join(", ");
        if versions.len() > 1 && !allowed {
            wrong.push(format!(
                "crate {name} is there in several majors ({listed}): agree on one"
            ));
        } else if versions.len() == 1 && allowed {
            wrong.push(format!(
                "crate {name} has one major now: take it off SEVERAL_MAJORS"
            ));
        }
    }
    Ok(wrong)
}

/// `name version` of every package that is built for our one target. `cargo tree` knows which optional
/// dependencies are on; `cargo metadata` lists those that are off as well.
fn used_packages() -> Result<BTreeSet<String>> {
    let mut command = cargo();
    command.args([
        "tree",
        "--workspace",
        "--locked",
        "--edges",
        "all",
        "--prefix",
        "none",
    ]);
    command.args(["--target", "x86_64-unknown-linux-gnu", "--format", "{p}"]);
    let text = quiet(&mut command)?;
    let used = text.lines().filter_map(|line| {
        let (name, rest) = line.split_once(" v")?;
        Some(format!("{name} {}", rest.split_whitespace().next()?))
    });
    Ok(used.collect())
}

/// Semantic versions are compatible within the first non-zero number.
fn major(version: &cargo_metadata::semver::Version) -> String {
    match (version.major, version.minor) {
        (0, 0) => format!("0.0.{}", version.patch),
        (0, minor) => format!("0.{minor}"),
        (major, _) => major.to_string(),
    }
}

/// Evaluates an SPDX expression: one branch of every OR, all parts of every AND must be allowed.
fn licence_allowed(expression: &str) -> bool {
    let text = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let tokens: Vec<&str> = text.split_whitespace().collect();
    let mut position = 0;
    let allowed = any_of(&tokens, &mut position);
    allowed && position == tokens.len()
}

fn any_of(tokens: &[&str], position: &mut usize) -> bool {
    let mut allowed = all_of(tokens, position);
    while tokens.get(*position) == Some(&"OR") {
        *position += 1;
        allowed |= all_of(tokens, position);
    }
    allowed
}

fn all_of(tokens: &[&str], position: &mut usize) -> bool {
    let mut allowed = one(tokens, position);
    while tokens.get(*position) == Some(&"AND") {
        *position += 1;
        allowed &= one(tokens, position);
    }
    allowed
}

fn one(tokens: &[&str], position: &mut usize) -> bool {
    let Some(token) = tokens.get(*position) else {
        return false;
    };
    *position += 1;
    if *token == "(" {
        let allowed = any_of(tokens, position);
        *position += 1;
        return allowed;
    }
    if tokens.get(*position) == Some(&"WITH") {
        let exception = tokens.get(*position + 1).copied().unwrap_or_default();
        *position += 2;
        return LICENCES.contains(&format!("{token} WITH {exception}").as_str());
    }
    LICENCES.contains(token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_licence_expressions() {
        let cases = [
            ("MIT", true),
            ("MIT/Apache-2.0", true),
            ("GPL-3.0-or-later", false),
            ("MIT OR GPL-3.0", true),
            ("MIT AND GPL-3.0", false),
            ("(MIT OR Apache-2.0) AND Unicode-3.0", true),
            ("Apache-2.0 WITH LLVM-exception OR MIT", true),
            ("(MIT OR GPL-2.0) AND (GPL-2.0)", false),
            ("", false),
        ];
        for (expression, expected) in cases {
            assert_eq!(licence_allowed(expression), expected, "{expression}");
        }
    }

    #[test]
    fn majors_are_cargos() {
        let cases = [("1.2.3", "1"), ("0.3.4", "0.3"), ("0.0.5", "0.0.5")];
        for (version, expected) in cases {
            assert_eq!(major(&version.parse().expect("a version")), expected);
        }
    }
}
