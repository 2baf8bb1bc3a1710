//! From the kernel's hands to a working system: mounts. The kernel has everything built in.

use std::fs::{self, File};
use std::io::{self, Write};

use nix::mount::{MsFlags, mount};

/// Writes a line to the console, where the host keeps the last of them.
pub fn log(text: &str) {
    if let Ok(mut console) = File::options().write(true).open("/dev/console") {
        // Nobody can be told when even the console fails.
        let _ = writeln!(console, "{text}");
    }
}

/// Mounts what every program expects.
pub fn prepare() -> io::Result<()> {
    let nodev = MsFlags::MS_NODEV | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount_at("proc", "/proc", "proc", nodev, "")?;
    mount_at("sysfs", "/sys", "sysfs", nodev, "")?;
    mount_at("devtmpfs", "/dev", "devtmpfs", MsFlags::MS_NOSUID, "mode=0755")?;
    mount_at(
        "devpts",
        "/dev/pts",
        "devpts",
        MsFlags::MS_NOSUID,
        "mode=0620,ptmxmode=0666,gid=5",
    )?;
    mount_at("tmpfs", "/run", "tmpfs", MsFlags::MS_NOSUID, "mode=0755")?;
    mount_at("cgroup2", "/sys/fs/cgroup", "cgroup2", nodev, "")?;
    // Containers get memory and CPU limits of their own.
    fs::write("/sys/fs/cgroup/cgroup.subtree_control", "+cpu +memory +pids")?;
    mount_at("tmpfs", "/dev/shm", "tmpfs", nodev, "mode=1777")?;
    // As distributions have it: programs for the kernel are root's.
    fs::write("/proc/sys/kernel/unprivileged_bpf_disabled", "2")?;
    // Later mounts of containers must not come back to us, nor ours go to them unasked.
    mount(
        None::<&str>,
        "/",
        None::<&str>,
        MsFlags::MS_REC | MsFlags::MS_PRIVATE,
        None::<&str>,
    )?;
    Ok(())
}

fn mount_at(source: &str, target: &str, kind: &str, flags: MsFlags, data: &str) -> io::Result<()> {
    fs::create_dir_all(target)?;
    mount(Some(source), target, Some(kind), flags, Some(data)).map_err(|error| {
        io::Error::new(
            io::Error::from(error).kind(),
            format!("cannot mount {kind} on {target}: {error}"),
        )
    })
}
