//! What a QEMU process could do if its guest took it over: nothing. And what the server of a shared directory could: give the
//! files in it other owners. Read from the kernel's own account of the processes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use guest_api::v1::*;
use vmm::Share;

use crate::machine::{BOOT_LIMIT, Machine, container, exec, privileged, start};

/// A field of `/proc/PID/status`.
fn status(pid: u32, field: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).expect("a status");
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    line.expect("a field").trim().to_owned()
}

/// Waits for the ends of processes that were told to: their last steps come after they have left their cgroup.
async fn end_of(pids: &[u32]) {
    let end = Instant::now() + BOOT_LIMIT;
    while !pids.iter().all(|pid| ended(*pid)) {
        assert!(Instant::now() < end, "of {pids:?} some run on");
        tokio::task::yield_now().await;
    }
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
    end_of(&[pid]).await;
    one.end().await;
}

/// What a server needs: to give files their owners and modes, to act as their owners, to make device nodes.
const SERVER_CAPABILITIES: u64 = 0x8800_00db;

fn mounted(tag: &str, destination: &str) -> Mount {
    Mount {
        destination: destination.to_owned(),
        source: Some(mount::Source::HostPath(HostPath {
            tag: tag.to_owned(),
            path: "/".to_owned(),
            r#type: String::new(),
        })),
        ..Mount::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn servers_of_shares_see_their_directory_alone() {
    let place = tempfile::tempdir().expect("a directory");
    let secret = place.path().join("secret");
    fs::write(&secret, "not for guests").expect("written");
    let share = |tag: &str, read_only| {
        let directory = place.path().join(tag);
        fs::create_dir_all(directory.join("pods")).expect("made");
        fs::create_dir_all(directory.join("containers")).expect("made");
        fs::write(directory.join(tag), "its own").expect("written");
        Share {
            tag: tag.to_owned(),
            directory,
            read_only,
        }
    };
    let shares = vec![share("node", false), share("logs", true)];
    let (machine, mut client) = Machine::boot_with("shares", |spec| spec.shares = shares).await;
    let request = CreateContainerRequest {
        mounts: vec![mounted("node", "/node"), mounted("logs", "/logs")],
        ..privileged("main", "while :; do sleep 1; done")
    };
    start(&mut client, request).await;

    // It does its work: owners, modes, programs, nodes.
    let work = format!(
        "cd /node; cat node; echo 'echo runs' > run; busybox chown 7:8 run; busybox chmod 4755 run; sh -c ./run; \
         busybox stat -c %u:%g:%a run; busybox mknod disk b 254 0 && echo made; \
         busybox ln -s {path} link; cat link {path} ../../secret 2>/dev/null; \
         (echo x > /logs/x) 2>/dev/null || echo read only",
        path = secret.display()
    );
    let (text, _) = exec(&mut client, "main", &["/bin/sh", "-c", &work]).await;
    assert_eq!(text, "its ownruns\n7:8:4755\nmade\nread only\n");

    let members = machine.members();
    let servers: Vec<u32> = members.into_iter().filter(|pid| *pid != machine.pid()).collect();
    let (mut serving, mut read_only) = (0, 0);
    for pid in &servers {
        let mask = |field: &str| u64::from_str_radix(&status(*pid, field), 16).expect("a mask");
        for field in ["CapInh", "CapAmb"] {
            assert_eq!(mask(field), 0, "{field}");
        }
        assert_eq!(status(*pid, "NoNewPrivs"), "1");
        let id = pid.to_string();
        for namespace in ["ns/mnt", "ns/net", "ns/ipc", "ns/uts"] {
            assert_ne!(link(&id, namespace), link("self", namespace), "{namespace}");
        }
        if mask("CapPrm") == 0 && mask("CapBnd") == 0 {
            continue;
        }
        serving += 1;
        for field in ["CapPrm", "CapEff", "CapBnd"] {
            let more = mask(field) & !SERVER_CAPABILITIES;
            assert_eq!(more, 0, "{field}");
        }
        assert_eq!(status(*pid, "Seccomp"), "2");
        assert_ne!(link(&id, "ns/pid"), link("self", "ns/pid"));
        let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).expect("mounts");
        let options: Vec<&str> = mounts.lines().filter_map(|line| line.split(' ').nth(5)).collect();
        assert_eq!(options.len(), 1, "{mounts}");
        for option in ["nosuid", "nodev", "noexec"] {
            assert!(options[0].split(',').any(|found| found == option), "{mounts}");
        }
        read_only += usize::from(options[0].split(',').any(|option| option == "ro"));
        // Nothing that it has open leads up to the host's files.
        for entry in fs::read_dir(format!("/proc/{pid}/fd"))
            .expect("descriptors")
            .flatten()
        {
            let up = entry.path().join("../../../../../../../../etc/passwd");
            assert!(!up.exists(), "{:?}", fs::read_link(entry.path()));
        }
        let root: Vec<String> = fs::read_dir(format!("/proc/{pid}/root"))
            .expect("a root")
            .map(|entry| entry.expect("one").file_name().to_string_lossy().into_owned())
            .collect();
        assert!(
            root.contains(&"node".to_owned()) != root.contains(&"logs".to_owned()),
            "{root:?}"
        );
    }
    assert_eq!((serving, read_only), (2, 1), "of {servers:?}");
    machine.end().await;
    end_of(&servers).await;
}

/// Without privileges a container opens the devices that it was given, and no other one of its VM.
#[tokio::test(flavor = "multi_thread")]
async fn a_container_opens_its_own_devices_alone() {
    let place = tempfile::tempdir().expect("a directory");
    let (machine, mut client) = Machine::boot_with("devices", |spec| {
        for (serial, read_only) in [("given", false), ("shown", true), ("foreign", false)] {
            let path = place.path().join(serial);
            fs::write(&path, vec![b'x'; 1 << 20]).expect("written");
            spec.disks.push(vmm::Disk {
                serial: serial.to_owned(),
                path,
                read_only,
            });
        }
    })
    .await;
    let device = |serial: &str, read_only| Mount {
        destination: format!("/dev/{serial}"),
        read_only,
        source: Some(mount::Source::Disk(Disk {
            serial: serial.to_owned(),
            block: true,
            read_only,
            ..Disk::default()
        })),
        ..Mount::default()
    };
    let forever = "while :; do sleep 1; done";
    let plain = CreateContainerRequest {
        mounts: vec![device("given", false), device("shown", true)],
        ..container("plain", forever)
    };
    start(&mut client, plain).await;
    start(&mut client, privileged("mighty", forever)).await;

    // Nodes of everything that the VM has, made by root with the usual capabilities.
    let try_all = "cd /tmp 2>/dev/null || { busybox mkdir /tmp; cd /tmp; }
        for disk in /sys/class/block/*; do
            name=${disk##*/}; busybox mknod $name b $(busybox tr : ' ' < $disk/dev) || echo no node
            serial=$(busybox tr -dc a-z < $disk/device/vpd_pg80)
            busybox dd if=$name of=/dev/null bs=512 count=1 2>/dev/null && echo reads $serial
            busybox dd if=/dev/zero of=$name bs=512 count=1 conv=notrunc 2>/dev/null && echo writes $serial
        done
        busybox mknod port c $(cat /sys/class/virtio-ports/vport*/dev | busybox tr : ' ') || echo no node
        (: < port) 2>/dev/null && echo reads the port
        (echo x > port) 2>/dev/null && echo writes to the port
        for name in null zero full random urandom; do (: < /dev/$name) || echo no $name; done
        busybox dd if=/dev/given bs=2 count=1 2>/dev/null; busybox dd if=/dev/shown bs=1 count=1 2>/dev/null";
    let (text, _) = exec(&mut client, "plain", &["/bin/sh", "-c", try_all]).await;
    let mut lines: Vec<&str> = text.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["\0\0x", "reads given", "reads shown", "writes given"],
        "{text}"
    );
    let words = "for disk in /sys/class/block/*; do cat /tmp/${disk##*/} > /dev/null; done";
    let (text, _) = exec(&mut client, "plain", &["/bin/sh", "-c", words]).await;
    assert!(text.contains("Operation not permitted"), "{text}");

    let (text, _) = exec(&mut client, "mighty", &["/bin/sh", "-c", try_all]).await;
    for expected in ["reads foreign", "writes foreign", "reads given", "reads image"] {
        assert!(text.contains(expected), "{expected}: {text}");
    }
    machine.end().await;
}
