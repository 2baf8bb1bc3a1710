//! What a QEMU process could do if its guest took it over: nothing. Read from the kernel's own account of the process.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::machine::Machine;

/// A field of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.expect("a field").trim().to_owned()
}

/// Whether nothing of a process runs; its parent may not have asked for its end yet.
fn ended(pid: u32) -> bool {
    let Ok(text) = fs::read_to_string(format!("/proc/{pid}/status")) else {
        return true;
    };
    text.lines()
        .any(|line| line.starts_with("State:\tZ") || line.starts_with("State:\tX"))
}

fn link(pid: &str, name: &str) -> PathBuf {
    fs::read_link(format!("/proc/{pid}/{name}")).expect("a link")
}

/// Files of the host that the process has open.
fn open_files(pid: u32) -> BTreeSet<PathBuf> {
    fs::read_dir(format!("/proc/{pid}/fd"))
        .expect("descriptors")
        .flatten()
        .filter_map(|entry| fs::read_link(entry.path()).ok())
        .filter(|path| path.is_absolute())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn qemu_holds_nothing_that_it_could_misuse() {
    let (machine, _client) = Machine::boot("apart").await;
    let pid = machine.pid();
    for (field, expected) in [
        ("CapInh", "0000000000000000"),
        ("CapPrm", "0000000000000000"),
        ("CapEff", "0000000000000000"),
        ("CapAmb", "0000000000000000"),
        ("NoNewPrivs", "1"),
        ("Seccomp", "2"),
    ] {
        assert_eq!(status(pid, field), expected, "{field}");
    }
    for field in ["Uid", "Gid", "Groups"] {
        let ids: BTreeSet<u32> = status(pid, field)
            .split_whitespace()
            .map(|id| id.parse().expect("a number"))
            .collect();
        let first = vmm::qemu::FIRST_USER;
        assert_eq!(ids.len(), 1, "{field}: one for all purposes");
        assert!(
            ids.iter().all(|id| (first..first + (1 << 16)).contains(id)),
            "{field}: {ids:?}"
        );
    }

    // It sees an empty directory and no network, no shared memory and no host name of the host.
    let id = pid.to_string();
    let root = machine.run_dir().join("root");
    assert_eq!(link(&id, "root"), root);
    assert_eq!(link(&id, "cwd"), root);
    assert_eq!(fs::read_dir(&root).expect("there").count(), 0);
    for namespace in ["ns/net", "ns/ipc", "ns/uts"] {
        assert_ne!(link(&id, namespace), link("self", namespace), "{namespace}");
    }
    let interfaces = fs::read_to_string(format!("/proc/{pid}/net/dev")).expect("interfaces");
    assert_eq!(interfaces.lines().count(), 3, "only lo: {interfaces}");

    // What it has open is its own.
    let scratch = machine.scratch.path();
    let own = [scratch.join("image.erofs"), machine.run_dir().join("qemu.log")];
    let foreign: Vec<PathBuf> = open_files(pid)
        .into_iter()
        .filter(|path| !own.contains(path) && !path.starts_with("/dev"))
        .collect();
    assert!(foreign.is_empty(), "{foreign:?}");
    let devices: Vec<PathBuf> = open_files(pid)
        .into_iter()
        .filter(|path| path.starts_with("/dev"))
        .filter(|path| ![Path::new("/dev/null"), Path::new("/dev/kvm")].contains(&path.as_path()))
        .collect();
    assert!(devices.is_empty(), "{devices:?}");
    machine.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_two_vms_have_the_same_user() {
    let (one, _client) = Machine::boot("one").await;
    let (two, _client) = one.second("two").await;
    assert_ne!(status(one.pid(), "Uid"), status(two.pid(), "Uid"));
    // As a test that fails leaves it: a drop is enough.
    let pid = two.pid();
    drop(two);
    let end = Instant::now() + Duration::from_secs(10);
    // Its last steps come after it left its cgroup.
    while !ended(pid) {
        assert!(Instant::now() < end, "the process runs on");
        tokio::task::yield_now().await;
    }
    one.end().await;
}
