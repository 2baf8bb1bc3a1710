//! What Podvisor has on the machine: VMs, taps, routes, rules, mounts, cgroups, run directories.
//!
//! Two readings are compared by equality; [`Traces::difference`] names what was left.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::lab::Lab;
use crate::machines::machines;

/// Everything of one Lab that must be gone when its Pods are gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traces {
    /// Command lines of the QEMU processes of this Lab's run directory.
    pub vms: BTreeSet<String>,
    /// Children of the Supervisor that have ended and are still in the kernel's table.
    pub ended: BTreeSet<String>,
    /// Network devices but loopback.
    pub devices: BTreeSet<String>,
    /// Routes that carry our protocol number.
    pub routes: BTreeSet<String>,
    /// The nftables ruleset, a chain, map or set each: their order is that of their making and means nothing.
    pub rules: BTreeSet<String>,
    /// Mounts under the Lab's directory.
    pub mounts: BTreeSet<String>,
    /// Cgroups below the Lab's parent.
    pub cgroups: BTreeSet<PathBuf>,
    /// Directories of VMs in the run directory.
    pub run_directories: BTreeSet<PathBuf>,
}

impl Traces {
    /// Reads everything anew.
    pub fn read(lab: &Lab) -> Result<Self> {
        let lines = |text: String| {
            text.lines()
                .map(|line| line.trim().to_owned())
                .collect::<Vec<_>>()
        };
        Ok(Self {
            vms: machines(&lab.run_dir())?
                .into_iter()
                .map(|machine| machine.command_line)
                .collect(),
            ended: lab.supervisor_id().map(ended_children).unwrap_or_default(),
            devices: lines(lab.run("ip", &["-o", "link"])?)
                .iter()
                .filter_map(|line| line.split(": ").nth(1).map(str::to_owned))
                .filter(|name| name != "lo")
                .collect(),
            routes: lines(lab.run("ip", &["route", "show", "table", "all", "proto", "112"])?)
                .into_iter()
                .collect(),
            rules: blocks(&lab.run("nft", &["list", "ruleset"])?),
            mounts: fs::read_to_string("/proc/self/mounts")?
                .lines()
                .filter(|line| line.contains(&lab.directory().display().to_string()))
                .map(str::to_owned)
                .collect(),
            cgroups: cgroups_below(&lab.cgroup_parent()),
            run_directories: children(&lab.run_dir().join("vms")),
        })
    }

    /// What only one of the two readings has, a line each; empty when they are the same.
    pub fn difference(&self, later: &Self) -> String {
        let text = |traces: &Self| -> BTreeSet<String> {
            let texts = [
                &traces.vms,
                &traces.ended,
                &traces.devices,
                &traces.routes,
                &traces.mounts,
                &traces.rules,
            ];
            let paths = [&traces.cgroups, &traces.run_directories];
            let paths = paths.into_iter().flatten().map(|path| path.display().to_string());
            texts.into_iter().flatten().cloned().chain(paths).collect()
        };
        let (before, after) = (text(self), text(later));
        let gone = before.difference(&after).map(|line| format!("gone: {line}"));
        let new = after.difference(&before).map(|line| format!("new:  {line}"));
        gone.chain(new).collect::<Vec<_>>().join("\n")
    }

    /// How many VMs run.
    pub fn vm_count(&self) -> usize {
        self.vms.len()
    }
}

/// Names and numbers of children of `parent` that have ended and that it has not waited for.
fn ended_children(parent: u32) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        // A process may end at any moment between the listing and the reading.
        let Ok(stat) = fs::read_to_string(entry.path().join("stat")) else {
            continue;
        };
        // The program's name may hold blanks; what follows its closing parenthesis does not.
        let Some((name, rest)) = stat.rsplit_once(')') else {
            continue;
        };
        let mut fields = rest.split_whitespace();
        if (fields.next(), fields.next()) == (Some("Z"), Some(&parent.to_string())) {
            found.insert(format!("ended child {name})"));
        }
    }
    found
}

/// The chains, maps and sets of a ruleset, each with the table it is in, white space made even. `nft` indents what is in a
/// table by one tab and what is in a chain, map or set by two.
fn blocks(ruleset: &str) -> BTreeSet<String> {
    let (mut table, mut found) = ("", Vec::<String>::new());
    for line in ruleset.lines() {
        let words = line.split_whitespace().collect::<Vec<_>>().join(" ");
        if line.starts_with("table") {
            table = line.trim_end_matches(['{', ' ']);
            found.push(table.to_owned());
        } else if line.starts_with('\t') && !line.starts_with("\t\t") && words != "}" {
            found.push(format!("{table}: {words}"));
        } else if let Some(block) = found.last_mut().filter(|_| line.starts_with("\t\t")) {
            *block = format!("{block} {words}");
        }
    }
    found.into_iter().collect()
}

/// Every directory below `parent` in the v2 tree or any v1 hierarchy.
fn cgroups_below(parent: &str) -> BTreeSet<PathBuf> {
    let root = Path::new("/sys/fs/cgroup");
    let mut roots: Vec<PathBuf> = children(root).into_iter().filter(|path| path.is_dir()).collect();
    roots.push(root.to_path_buf());
    let mut pending: Vec<PathBuf> = roots.iter().map(|root| root.join(parent)).collect();
    let mut found = BTreeSet::new();
    while let Some(directory) = pending.pop() {
        for child in children(&directory).into_iter().filter(|path| path.is_dir()) {
            pending.push(child.clone());
            found.insert(child);
        }
    }
    found
}

fn children(directory: &Path) -> BTreeSet<PathBuf> {
    fs::read_dir(directory)
        .map(|entries| entries.flatten().map(|entry| entry.path()).collect())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_of_making_means_nothing() {
        let one = "table inet p {\n\tset a {\n\t\ttype x\n\t}\n\n\tchain b {\n\t\tdrop\n\t}\n}\ntable arp p {\n\tset a {\n\t\ttype y\n\t}\n}\n";
        let other = "table arp p {\n\tset a {\n\t\ttype y\n\t}\n}\ntable inet p {\n\tchain b {\n\t\tdrop\n\t}\n\n\tset a {\n\t\ttype x\n\t}\n}\n";
        assert_eq!(blocks(one), blocks(other));
        assert_eq!(
            blocks(one).into_iter().collect::<Vec<_>>(),
            [
                "table arp p",
                "table arp p: set a { type y",
                "table inet p",
                "table inet p: chain b { drop",
                "table inet p: set a { type x"
            ]
        );
    }
}
