//! Block devices by the serial number that the host gave them, and their mounts.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use nix::mount::{MsFlags, mount};

/// How long a disk may take to appear: SCSI scans in the background.
const APPEAR_LIMIT: Duration = Duration::from_secs(20);
const LOOK: Duration = Duration::from_millis(5);
/// Targets on a bus.
const PLACES: u32 = 256;
/// Where images are mounted.
const IMAGES: &str = "/run/images";
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
        if found.as_deref() == Some(serial) && device.exists() {
            return Some(device);
        }
    }
    None
}

/// Mounts an image once and returns its root.
pub async fn image(serial: &str) -> io::Result<PathBuf> {
    let target = Path::new(IMAGES).join(serial);
    if target.is_dir() {
        return Ok(target);
    }
    let device = find(serial).await?;
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
