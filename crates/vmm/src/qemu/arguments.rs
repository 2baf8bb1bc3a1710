//! QEMU's command line. Pure: tests read it.

use std::path::Path;

use super::bundle::Bundle;
use super::{disks, end, room, shares};
use crate::vm::VmSpec;

pub(super) const PROGRAM: &str = "qemu-system-x86_64";
/// Name of the virtio-serial port; the guest agent looks for it.
const PORT: &str = "podvisor";
/// Size of the translation cache in MiB. A boot and the start of a Pod fill 44; when it is full, everything goes and what is
/// used again is translated again: with 24 a start costs 2.2 s of CPU instead of 1.7, and the VM 20 MiB less.
const TCG_CACHE_MIB: u32 = 48;
/// An emulated processor: without instructions that are quick only in silicon. A kernel that finds them copies byte by byte,
/// which under emulation is a tenth of a boot.
const CPU: &str = "max,-erms,-fsrm";

/// Ticks a second of the guest's kernel (`CONFIG_HZ`).
const GUEST_HZ: u64 = 100;

/// All arguments. `user` is the VM's own; `tap` is the number that the tap's descriptor will have in QEMU.
pub(super) fn arguments(
    bundle: &Bundle,
    accel: &str,
    spec: &VmSpec,
    user: u32,
    tap: Option<i32>,
) -> Vec<String> {
    let run = |name: &str| path(&spec.run_dir.join(name));
    let acpi = if bundle.description.acpi { "on" } else { "off" };
    let mut arguments = Vec::new();
    let mut add = |words: &[&str]| arguments.extend(words.iter().map(|word| (*word).to_owned()));
    add(&[
        "-name",
        &format!("podvisor-{},process={}", spec.id, process_name(&spec.label)),
    ]);
    add(&["-nodefaults", "-no-user-config", "-display", "none"]);
    // A guest that resets has ended; an ended one waits until its last words are read (see `end`).
    add(&["-action", "reboot=shutdown,shutdown=pause"]);
    add(&[
        "-machine",
        &format!("microvm,acpi={acpi},pit=on,pic=on,rtc=on,isa-serial=on,auto-kernel-cmdline=on"),
    ]);
    match accel {
        "kvm" => add(&["-accel", "kvm", "-cpu", "host"]),
        _ => add(&[
            "-accel",
            &format!("tcg,thread=single,tb-size={TCG_CACHE_MIB}"),
            "-cpu",
            CPU,
        ]),
    }
    add(&[
        "-smp",
        &spec.vcpus.max(spec.most_vcpus).to_string(),
        "-m",
        &format!("{}M", room::memory_mib(spec)),
    ]);
    add(&["-object", &memory(spec), "-machine", "memory-backend=memory"]);
    add(&[
        "-kernel",
        &path(&bundle.kernel),
        "-initrd",
        &path(&bundle.initramfs),
    ]);
    add(&["-append", &command_line(bundle, accel, spec)]);
    // A guest that floods its console overwrites its own words.
    add(&[
        "-chardev",
        &format!("ringbuf,id={},size={}", end::CONSOLE, end::CONSOLE_BYTES),
        "-serial",
        &format!("chardev:{}", end::CONSOLE),
    ]);
    // The one port of ours and the one that is reserved for a console: each more costs buffers in the guest.
    add(&["-device", "virtio-serial-device,max_ports=2"]);
    add(&[
        "-chardev",
        &format!(
            "socket,id=channel,path={},server=on,wait=off",
            run("channel.sock")
        ),
    ]);
    add(&["-device", &format!("virtserialport,chardev=channel,name={PORT}")]);
    // Commands and events have a socket each: either serves one client at a time.
    for name in ["qmp", "events"] {
        let socket = run(&format!("{name}.sock"));
        add(&[
            "-chardev",
            &format!("socket,id={name},path={socket},server=on,wait=off"),
            "-mon",
            &format!("chardev={name},mode=control"),
        ]);
    }
    add(&["-device", &format!("virtio-scsi-device,id={}", disks::BUS)]);
    for disk in &spec.disks {
        let file = disk.path.display().to_string();
        add(&["-blockdev", &disks::node(disk, &file).to_string()]);
        add(&["-device", &disks::device(disk).to_string()]);
    }
    for word in shares::arguments(spec) {
        add(&[&word]);
    }
    // Not to take memory away: the guest tells which of its memory is free, and the host has it back.
    add(&["-device", "virtio-balloon-device,free-page-reporting=on"]);
    if let (Some(nic), Some(tap)) = (&spec.nic, tap) {
        let mac = nic.mac.map(|byte| format!("{byte:02x}")).join(":");
        add(&["-netdev", &format!("tap,id=net,fd={tap}")]);
        add(&["-device", &format!("virtio-net-device,netdev=net,mac={mac}")]);
    }
    add(&["-chroot", &run("root"), "-runas", &format!("{user}:{user}")]);
    // QEMU itself still has to change its user once; it gains nothing afterwards (see `process`: no_new_privs).
    add(&[
        "-sandbox",
        "on,obsolete=deny,elevateprivileges=allow,spawn=deny,resourcecontrol=deny",
    ]);
    arguments
}

/// The VM's memory: the host pays for a page when the guest touches it, and promises none before. Servers of shares read it.
fn memory(spec: &VmSpec) -> String {
    let size = room::memory_mib(spec);
    let kind = match spec.shares.is_empty() {
        true => "memory-backend-ram,share=off",
        false => "memory-backend-memfd,share=on",
    };
    let reserve = if size > spec.memory_mib { "off" } else { "on" };
    format!("{kind},id=memory,size={size}M,reserve={reserve}")
}

fn command_line(bundle: &Bundle, accel: &str, spec: &VmSpec) -> String {
    let mut words = vec![
        "console=ttyS0".to_owned(),
        "quiet".to_owned(),
        "panic=-1".to_owned(),
        // A reset is how the guest ends: not every kernel can power off here.
        "reboot=t".to_owned(),
        "rdinit=/init".to_owned(),
        "random.trust_cpu=on".to_owned(),
        "i8042.noaux".to_owned(),
        "cgroup_no_v1=all".to_owned(),
        // The agent looks for its disks itself, at the few places where some are.
        "scsi_mod.scan=manual".to_owned(),
        // One processor needs its lock prefixes as little as they hurt; taking them out costs a tenth of a boot.
        "noreplace-smp".to_owned(),
    ];
    if accel != "kvm" {
        // Calibration fails under load, and then the boot hangs now and then.
        if let Some(khz) = host_tsc_khz() {
            words.push(format!("tsc_early_khz={khz}"));
            // A loop of a delay counts that counter. Unless told, each processor but the first measures it for a second.
            words.push(format!("lpj={}", khz * 1000 / GUEST_HZ));
        }
        words.extend(["no_timer_check".to_owned(), "mitigations=off".to_owned()]);
        // All processors read one counter. Unless told, the kernel distrusts it as soon as there may be several, and
        // has no finer clock than its tick then.
        words.push("tsc=reliable".to_owned());
    }
    words.extend(room::words(spec));
    if !bundle.description.cmdline.is_empty() {
        words.push(bundle.description.cmdline.clone());
    }
    words.join(" ")
}

/// The frequency of the host's time stamp counter, which the guest sees under TCG.
fn host_tsc_khz() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|line| line.starts_with("cpu MHz"))?;
    let mhz: f64 = line.split(':').nth(1)?.trim().parse().ok()?;
    Some((mhz * 1000.0) as u64)
}

/// Commas end an option's value in QEMU unless doubled.
fn path(path: &Path) -> String {
    path.display().to_string().replace(',', ",,")
}

/// What `ps` shows; the kernel keeps 15 bytes.
fn process_name(label: &str) -> String {
    let safe = |c: char| {
        if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '/') {
            c
        } else {
            '-'
        }
    };
    format!("vm:{}", label.chars().map(safe).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::super::bundle::Description;
    use super::*;
    use crate::vm::{Disk, Nic, VmId};

    fn bundle() -> Bundle {
        Bundle {
            kernel: "/b/vmlinux".into(),
            initramfs: "/b/initramfs.cpio".into(),
            description: Description {
                acpi: true,
                cmdline: "extra".to_owned(),
            },
        }
    }

    fn spec() -> VmSpec {
        VmSpec {
            id: VmId::new("abc"),
            run_dir: "/run/p,q/abc".into(),
            vcpus: 2,
            memory_mib: 128,
            most_vcpus: 2,
            most_memory_mib: 128,
            cpu_request_millis: None,
            cpu_limit_millis: None,
            disks: vec![Disk {
                serial: "img0".to_owned(),
                path: "/d/a.erofs".into(),
                read_only: true,
            }],
            shares: vec![crate::vm::Share {
                read_only: false,
                tag: "node".to_owned(),
                directory: "/d/node".into(),
            }],
            nic: Some(Nic {
                tap: None,
                tap_name: "pvabc".to_owned(),
                mac: [2, 0, 10, 244, 0, 2],
            }),
            label: "demo/web".to_owned(),
        }
    }

    #[test]
    fn the_command_line_says_everything_once() {
        let line = arguments(&bundle(), "tcg", &spec(), 70001, Some(9)).join(" ");
        for expected in [
            "-name podvisor-abc,process=vm:demo/web",
            "-machine microvm,acpi=on",
            "-accel tcg,thread=single,tb-size=48",
            "-cpu max,-erms,-fsrm -smp 2 -m 128M",
            "path=/run/p,,q/abc/channel.sock",
            r#""read-only":true"#,
            r#""serial":"img0""#,
            "tap,id=net,fd=9",
            "mac=02:00:0a:f4:00:02",
            "-runas 70001:70001",
            "-sandbox on",
            "memory-backend-memfd,share=on,id=memory,size=128M,reserve=on",
            "memory-backend=memory",
            "tsc=reliable",
            "vhost-user-fs-device,chardev=share0,tag=node",
            "scsi_mod.scan=manual",
            "virtio-serial-device,max_ports=2",
            "free-page-reporting=on",
            "extra",
        ] {
            assert_eq!(line.matches(expected).count(), 1, "{expected} in {line}");
        }
    }

    #[test]
    fn room_to_grow_is_there_from_the_start_and_not_in_use() {
        let grows = VmSpec {
            most_vcpus: 8,
            most_memory_mib: 1000,
            shares: Vec::new(),
            ..spec()
        };
        let line = arguments(&bundle(), "kvm", &grows, 70001, Some(9)).join(" ");
        for expected in [
            "-smp 8 -m 1280M",
            "memory-backend-ram,share=off,id=memory,size=1280M,reserve=off",
            "memmap=1152M%64M-1 maxcpus=2",
        ] {
            assert_eq!(line.matches(expected).count(), 1, "{expected} in {line}");
        }
        // One that cannot grow is told nothing of it.
        let line = arguments(&bundle(), "kvm", &spec(), 70001, Some(9)).join(" ");
        for word in ["memmap=", "maxcpus="] {
            assert!(!line.contains(word), "{word} in {line}");
        }
    }
}
