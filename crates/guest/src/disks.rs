//! Block devices by the serial number that the host gave them, and their mounts.

use std::fs;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{PermissionsExt, lchown};
use std::path::{Path, PathBuf};
use std::time::Duration;

use guest_api::v1::{Disk, VolumeStats};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::{boot, sys, users};

/// How long a disk may take to appear: SCSI scans in the background.
const APPEAR_LIMIT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);
/// Targets on a bus.
const PLACES: u32 = 256;
/// Where images are mounted.
const IMAGES: &str = "/run/images";
/// Where PersistentVolumes are mounted.
const VOLUMES: &str = "/run/disks";
/// Where the writable disk is mounted, or a directory in memory without one.
pub const SCRATCH: &str = "/run/scratch";

/// Waits for the disk of a serial number.
async fn find(serial: &str) -> io::Result<PathBuf> {
    let look = async {
        if let Some(device) = look_for(serial) {
            return device;
        }
        scan();
        loop {
            if let Some(device) = look_for(serial) {
                return device;
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(APPEAR_LIMIT, look).await.map_err(|_| {
        io::Error::new(
            io::ErrorKind::NotFound,
            format!("no disk with serial number {serial}"),
        )
    })
}

/// Looks at the bus, place after place up to the first empty one, for disks that were there at boot. The kernel is told
/// not to (`scsi_mod.scan=manual`): it would look at 256 places, which takes a fifth of the whole boot under emulation.
/// Disks that are plugged in later announce themselves.
fn scan() {
    for host in fs::read_dir("/sys/class/scsi_host")
        .into_iter()
        .flatten()
        .flatten()
    {
        let name = host.file_name();
        let number = name.to_string_lossy().trim_start_matches("host").to_owned();
        for target in 0..PLACES {
            let place = format!("/sys/class/scsi_device/{number}:0:{target}:0");
            let there = || Path::new(&place).exists();
            if !there() && (fs::write(host.path().join("scan"), format!("0 {target} 0")).is_err() || !there())
            {
                break;
            }
        }
    }
}

fn look_for(serial: &str) -> Option<PathBuf> {
    for entry in fs::read_dir("/sys/block").ok()?.flatten() {
        // Vital product data page 0x80: four bytes of header, then the serial number.
        let Ok(page) = fs::read(entry.path().join("device/vpd_pg80")) else {
            continue;
        };
        let found = page
            .get(4..)
            .map(|bytes| String::from_utf8_lossy(bytes).trim().to_owned());
        let device = Path::new("/dev").join(entry.file_name());
        if found.as_deref() == Some(serial) && is_live(&device) {
            return Some(device);
        }
    }
    None
}

/// Whether a disk has come all the way: it has its name a moment before it can be opened.
fn is_live(device: &Path) -> bool {
    let error = fs::File::open(device)
        .err()
        .and_then(|error| error.raw_os_error());
    !matches!(error, Some(libc::ENOENT | libc::ENXIO))
}

/// Mounts an image once and returns its root.
pub async fn image(serial: &str) -> io::Result<PathBuf> {
    let target = Path::new(IMAGES).join(serial);
    if target.is_dir() {
        return Ok(target);
    }
    let device = find(serial).await?;
    if target.is_dir() {
        // Another container of the same image came first.
        return Ok(target);
    }
    fs::create_dir_all(&target)?;
    mount(
        Some(&device),
        &target,
        Some("erofs"),
        MsFlags::MS_RDONLY,
        None::<&str>,
    )?;
    Ok(target)
}

/// Mounts the writable disk, or makes a directory in memory without one.
pub async fn scratch(serial: &str) -> io::Result<()> {
    if Path::new(SCRATCH).is_dir() {
        return Ok(());
    }
    if serial.is_empty() {
        return fs::create_dir_all(SCRATCH);
    }
    let device = find(serial).await?;
    fs::create_dir_all(SCRATCH)?;
    // The disk dies with the VM: nothing on it must survive a crash of the host.
    mount(
        Some(&device),
        SCRATCH,
        Some("ext4"),
        MsFlags::MS_NOATIME,
        Some("nobarrier,data=writeback"),
    )?;
    Ok(())
}

/// A volume of the Pod's own: its device, or the root of its file system, which is mounted once and made as big as the
/// disk; or a directory that other VMs have too.
pub async fn volume(disk: &Disk) -> io::Result<PathBuf> {
    // A share is named by its tag.
    let device = match disk.shared {
        true => PathBuf::from(&disk.serial),
        false => find(&disk.serial).await?,
    };
    if disk.block {
        return Ok(device);
    }
    // Nothing waits from here on, so that a disk is not mounted twice.
    let target = Path::new(VOLUMES).join(&disk.serial);
    if target.is_dir() {
        return Ok(target);
    }
    fs::create_dir_all(&target)?;
    let (mut flags, mut options) = mount_options(&disk.mount_options);
    if disk.read_only {
        flags |= MsFlags::MS_RDONLY;
    }
    // Others may read the disk too: its journal stays as it is.
    if disk.read_only && !disk.shared {
        options.push("noload");
    }
    let kind = if disk.shared { "virtiofs" } else { "ext4" };
    let options = (!options.is_empty()).then(|| options.join(","));
    let ready = mount(Some(&device), &target, Some(kind), flags, options.as_deref())
        .map_err(io::Error::from)
        .and_then(|()| match disk.read_only {
            true => Ok(()),
            false => prepare(disk, &device, &target),
        });
    if let Err(error) = ready {
        // The next attempt begins anew.
        let _ = umount2(&target, MntFlags::MNT_DETACH);
        let _ = fs::remove_dir(&target);
        let text = format!("volume {}: {error}", device.display());
        return Err(io::Error::new(error.kind(), text));
    }
    Ok(target)
}

/// Options of mount(8) as the system call takes them: flags, and what the file system itself understands.
fn mount_options(options: &[String]) -> (MsFlags, Vec<&str>) {
    let mut flags = MsFlags::empty();
    let mut others = Vec::new();
    for option in options.iter().flat_map(|option| option.split(',')) {
        match option {
            "" | "rw" | "defaults" | "suid" | "dev" | "exec" | "async" | "auto" | "noauto" | "nouser" => {}
            "ro" => flags |= MsFlags::MS_RDONLY,
            "nosuid" => flags |= MsFlags::MS_NOSUID,
            "nodev" => flags |= MsFlags::MS_NODEV,
            "noexec" => flags |= MsFlags::MS_NOEXEC,
            "sync" => flags |= MsFlags::MS_SYNCHRONOUS,
            "dirsync" => flags |= MsFlags::MS_DIRSYNC,
            "noatime" => flags |= MsFlags::MS_NOATIME,
            "nodiratime" => flags |= MsFlags::MS_NODIRATIME,
            "relatime" => flags |= MsFlags::MS_RELATIME,
            "strictatime" => flags |= MsFlags::MS_STRICTATIME,
            other => others.push(other),
        }
    }
    (flags, others)
}

fn prepare(disk: &Disk, device: &Path, target: &Path) -> io::Result<()> {
    // The size of a share is the host's affair.
    if !disk.shared
        && let Err(error) = fill(device, target)
    {
        boot::log(&format!(
            "guest agent: {} keeps its size: {error}",
            device.display()
        ));
    }
    match disk.group {
        Some(group) => give(target, group, disk.group_on_root_mismatch),
        None => Ok(()),
    }
}

/// Makes a mounted file system as big as its device.
fn fill(device: &Path, target: &Path) -> io::Result<()> {
    let name = device.file_name().unwrap_or_default();
    let sectors = fs::read_to_string(Path::new("/sys/class/block").join(name).join("size"))?;
    let bytes = sectors.trim().parse::<u64>().unwrap_or(0) * 512;
    let block = rustix::fs::statvfs(target)?.f_frsize.max(1024);
    sys::resize_ext4(fs::File::open(target)?.as_fd(), bytes / block)
}

/// Gives a tree to a group that may write to all of it (kubelet: `SetVolumeOwnership`).
fn give(root: &Path, group: u32, only_on_mismatch: bool) -> io::Result<()> {
    use std::os::unix::fs::MetadataExt;
    let data = fs::metadata(root)?;
    if only_on_mismatch && data.gid() == group && data.mode() & 0o2770 == 0o2770 {
        return Ok(());
    }
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        own(&directory, group)?;
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            match entry.file_type()?.is_dir() {
                true => directories.push(entry.path()),
                false => own(&entry.path(), group)?,
            }
        }
    }
    Ok(())
}

fn own(path: &Path, group: u32) -> io::Result<()> {
    lchown(path, None, Some(group))?;
    let data = fs::symlink_metadata(path)?;
    let more = match (data.is_symlink(), data.is_dir()) {
        (true, _) => return Ok(()),
        (_, true) => 0o2770,
        (_, false) => 0o660,
    };
    fs::set_permissions(path, fs::Permissions::from_mode(data.permissions().mode() | more))
}

/// A disk has grown: waits until the kernel knows, then makes the file system follow.
pub async fn resize(serial: &str, bytes: u64) -> io::Result<()> {
    let device = find(serial).await?;
    let name = device.file_name().unwrap_or_default();
    let system = Path::new("/sys/class/block").join(name);
    let grown = async {
        loop {
            fs::write(system.join("device/rescan"), "1")?;
            let sectors = fs::read_to_string(system.join("size"))?;
            if sectors.trim().parse::<u64>().unwrap_or(0) * 512 >= bytes {
                return Ok::<(), io::Error>(());
            }
            tokio::time::sleep(LOOK * 10).await;
        }
    };
    tokio::time::timeout(APPEAR_LIMIT, grown)
        .await
        .map_err(|_| io::Error::new(io::ErrorKind::TimedOut, "the disk has not grown"))??;
    let target = Path::new(VOLUMES).join(serial);
    match target.is_dir() {
        true => fill(&device, &target),
        false => Ok(()),
    }
}

/// Holds back writers of a mounted volume after writing out what there is, or lets them go on. A volume that is not
/// mounted has no writers.
pub fn freeze(serial: &str, frozen: bool) -> io::Result<()> {
    let directory = match fs::File::open(Path::new(VOLUMES).join(serial)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        result => result?,
    };
    match sys::freeze(directory.as_fd(), frozen) {
        // It is as it should be already.
        Err(error) if matches!(error.raw_os_error(), Some(libc::EBUSY | libc::EINVAL)) => Ok(()),
        result => result,
    }
}

/// Sizes of the mounted volumes.
pub fn volume_stats() -> Vec<VolumeStats> {
    let entries = fs::read_dir(VOLUMES).into_iter().flatten().flatten();
    entries
        .filter_map(|entry| {
            let stat = rustix::fs::statvfs(entry.path()).ok()?;
            Some(VolumeStats {
                serial: entry.file_name().to_string_lossy().into_owned(),
                capacity: stat.f_blocks * stat.f_frsize,
                available: stat.f_bavail * stat.f_frsize,
                inodes: stat.f_files,
                inodes_free: stat.f_ffree,
            })
        })
        .collect()
}

/// Bytes read from and written to all disks, out of `/proc/diskstats`.
pub fn traffic() -> (u64, u64) {
    traffic_of(&fs::read_to_string("/proc/diskstats").unwrap_or_default())
}

fn traffic_of(text: &str) -> (u64, u64) {
    let mut sum = (0, 0);
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let sectors = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok());
        let disk = fields.get(2).is_some_and(|name| name.starts_with("sd"));
        if let (true, Some(read), Some(written)) = (disk, sectors(5), sectors(9)) {
            sum.0 += read * 512;
            sum.1 += written * 512;
        }
    }
    sum
}

/// Unmounts all volumes: what was written to them is on the disks then.
pub fn unmount_volumes() {
    let places = [users::MOUNTS, VOLUMES].map(fs::read_dir).into_iter().flatten();
    for entry in places.flatten().flatten() {
        // One that passes mounts on is mounted upon itself too.
        for attempt in 0.. {
            match umount2(&entry.path(), MntFlags::empty()) {
                Ok(()) => {}
                Err(nix::errno::Errno::EINVAL) if attempt > 0 => break,
                Err(error) => {
                    boot::log(&format!("guest agent: {}: {error}", entry.path().display()));
                    break;
                }
            }
        }
    }
    nix::unistd::sync();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_flags() {
        let options = ["noatime,nosuid", "ro", "discard", "commit=30"].map(str::to_owned);
        let (flags, others) = mount_options(&options);
        assert_eq!(
            flags,
            MsFlags::MS_NOATIME | MsFlags::MS_NOSUID | MsFlags::MS_RDONLY
        );
        assert_eq!(others, ["discard", "commit=30"]);
    }

    #[test]
    fn traffic_is_that_of_disks() {
        let text = "   8       0 sda 10 0 16 1 5 0 8 1 0 1 1\n   7 0 loop0 9 0 99 1 9 0 99 1 0 1 1\n";
        assert_eq!(traffic_of(text), (16 * 512, 8 * 512));
    }
}
