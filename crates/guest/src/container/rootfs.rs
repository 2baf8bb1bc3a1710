//! The root file system of a container: the image below, a writable layer above, volumes and system files on top.

use std::fs;
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use guest_api::SUB_PATH_PROBLEM;
use guest_api::v1::{CreateContainerRequest, Mount, mount::Source};
use nix::mount::{MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};

use crate::disks::{self, SCRATCH};
use crate::files::{make_directory_in, make_directory_with, make_file_in, open_below, open_in, path_of};
use crate::identity::ETC;
use crate::{shares, sys, users, volumes};

/// Where roots are assembled.
const CONTAINERS: &str = "/run/containers";
/// The file of a container's last words, in its directory.
pub const TERMINATION: &str = "termination";
/// Device nodes of every container: name, major, minor.
const DEVICES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];
/// Not to be seen in a container that is not privileged: what the kubelet asks of runtimes. (It names the throttling of
/// CPUs for their heat as well, which this kernel does not know.)
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
    "/sys/devices/virtual/powercap",
];
/// Not to be changed there.
const READ_ONLY: [&str; 5] = [
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
];

/// The directory of a container.
pub fn directory(id: &str) -> PathBuf {
    Path::new(CONTAINERS).join(id)
}

/// The root as the agent sees it.
pub fn root(id: &str) -> PathBuf {
    directory(id).join("rootfs")
}

fn layers(id: &str) -> PathBuf {
    Path::new(SCRATCH).join("layers").join(id)
}

/// The writable layer of a container.
pub fn upper(id: &str) -> PathBuf {
    layers(id).join("upper")
}

/// Mounts the overlay.
pub async fn prepare(request: &CreateContainerRequest) -> io::Result<()> {
    let serial = &request.image_serial;
    let image = users::mapped(disks::image(serial).await?, serial)?;
    let root = root(&request.id);
    fs::create_dir_all(&root)?;
    let (upper, work) = (upper(&request.id), layers(&request.id).join("work"));
    fs::create_dir_all(&upper)?;
    fs::create_dir_all(&work)?;
    // The top of the tree keeps the image's mode and owner.
    let data = fs::metadata(&image)?;
    chown(&upper, Some(data.uid()), Some(data.gid()))?;
    fs::set_permissions(&upper, data.permissions())?;
    let options = format!(
        "lowerdir={},upperdir={},workdir={}",
        image.display(),
        upper.display(),
        work.display()
    );
    mount(
        Some("overlay"),
        &root,
        Some("overlay"),
        MsFlags::empty(),
        Some(options.as_str()),
    )?;
    Ok(())
}

/// Unmounts and deletes what [`prepare`] made.
pub fn remove(id: &str) -> io::Result<()> {
    match umount2(&root(id), nix::mount::MntFlags::MNT_DETACH) {
        Ok(()) | Err(nix::errno::Errno::EINVAL | nix::errno::Errno::ENOENT) => {}
        Err(error) => return Err(error.into()),
    }
    for path in [directory(id), layers(id)] {
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// The host paths of all mounts, made ready before the fork: (source, mount).
pub async fn sources(request: &CreateContainerRequest) -> io::Result<Vec<(PathBuf, Mount)>> {
    let mut sources = Vec::new();
    for wanted in &request.mounts {
        let mut disk_root = None;
        let mut source = match &wanted.source {
            Some(Source::Volume(name)) => volumes::path(name),
            Some(Source::EmptyDir(dir)) => volumes::empty_dir(dir)?,
            Some(Source::DiskSerial(serial)) => users::mapped(disks::image(serial).await?, serial)?,
            Some(Source::Disk(disk)) if disk.block => {
                let device = disks::volume(disk).await?;
                users::give(&device)?;
                device
            }
            Some(Source::Disk(disk)) => {
                let root = disk_root.insert(disks::volume(disk).await?);
                users::mapped(root.clone(), &disk.serial)?
            }
            Some(Source::HostPath(_)) if users::separate() => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "failed to set MOUNT_ATTR_IDMAP on a hostPath: its file system does not support idmap mounts",
                ));
            }
            Some(Source::HostPath(wanted)) => shares::host_path(wanted)?,
            None => continue,
        };
        if let Some(group) = wanted.group {
            chown(&source, None, Some(users::outside(group)))?;
            let mode = fs::metadata(&source)?.permissions().mode();
            fs::set_permissions(&source, fs::Permissions::from_mode(mode | 0o2070))?;
        }
        if !wanted.propagation.is_empty() && source.is_dir() {
            share(&source)?;
        }
        if !wanted.sub_path.is_empty() {
            let path = Path::new(&wanted.sub_path);
            let of_image = matches!(wanted.source, Some(Source::DiskSerial(_)));
            let open = || match of_image {
                true => open_in(&source, path, rustix::fs::OFlags::PATH),
                false => open_below(&source, path, rustix::fs::OFlags::PATH),
            };
            let problem = |_| io::Error::other(format!("{SUB_PATH_PROBLEM}{}", wanted.destination));
            let fd = match open() {
                // An image has what it has, and nobody can add to it.
                Err(error) if of_image => {
                    return Err(io::Error::new(
                        error.kind(),
                        format!(
                            "ImageVolumeMountFailed: failed to ensure image subpath {:?}: {}",
                            wanted.sub_path,
                            go_words(&error)
                        ),
                    ));
                }
                // As open as the volume itself (kubelet: `SafeMakeDir`).
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let mode = fs::metadata(&source)?.permissions().mode() & 0o3777;
                    // Where owners are mapped the agent is nobody: on the disk itself root is the Pod's root.
                    let made_in = disk_root.as_ref().unwrap_or(&source);
                    make_directory_with(made_in, path, mode, disk_root.is_none()).map_err(problem)?;
                    open().map_err(problem)?
                }
                // It leads out of the volume, most likely.
                result => result.map_err(problem)?,
            };
            source = fs::read_link(path_of(&fd))?;
        }
        sources.push((source, wanted.clone()));
    }
    if request.termination_message_path.starts_with('/') {
        // A file of its own: the agent can read it, whatever is mounted around the path inside.
        let file = directory(&request.id).join(TERMINATION);
        fs::write(&file, "")?;
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
        users::give(&file)?;
        let destination = request.termination_message_path.clone();
        sources.push((
            file,
            Mount {
                destination,
                ..Mount::default()
            },
        ));
    }
    Ok(sources)
}

/// An error of the system as Go words it, without its number.
fn go_words(error: &io::Error) -> String {
    let text = error.to_string().to_lowercase();
    let end = text.find(" (os error").unwrap_or(text.len());
    text[..end].to_owned()
}

/// In the child, in its own mount namespace: everything on top of the overlay, then the change of root.
pub fn enter(request: &CreateContainerRequest, sources: &[(PathBuf, Mount)]) -> io::Result<()> {
    let root = root(&request.id);
    let security = request.security.clone().unwrap_or_default();
    // Everything is private here already (`boot`), but for volumes that pass mounts on.
    system_mounts(&root, request.tty, security.privileged).map_err(about("system mounts"))?;
    for name in ["hosts", "resolv.conf", "hostname"] {
        let target = make_file_in(&root, &Path::new("/etc").join(name)).map_err(about(name))?;
        bind(&Path::new(ETC).join(name), &path_of(&target), false)?;
    }
    for (source, wanted) in sources {
        let destination = Path::new(&wanted.destination);
        let target = if source.is_dir() {
            make_directory_in(&root, destination)?
        } else {
            make_file_in(&root, destination)?
        };
        // Nothing in an image volume is to be run (KEP-4639).
        let more = match wanted.source {
            Some(Source::DiskSerial(_)) => MsFlags::MS_NOEXEC,
            _ => MsFlags::empty(),
        };
        bind_with(
            source,
            &path_of(&target),
            wanted.read_only,
            more,
            propagation(wanted),
        )?;
        if wanted.recursive_read_only {
            let target = fs::read_link(path_of(&target))?;
            sys::read_only_below(&target).map_err(about("recursive read-only mount"))?;
        }
    }
    if !security.privileged && !security.unmasked_proc {
        mask(&root).map_err(about("masked paths"))?;
    }
    change_root(&root).map_err(about("change of root"))?;
    if security.read_only_root {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(None::<&str>, "/", None::<&str>, flags, None::<&str>)?;
    }
    Ok(())
}

/// Says at which step a container could not be set up.
fn about(step: &str) -> impl Fn(io::Error) -> io::Error {
    let step = step.to_owned();
    move |error| io::Error::new(error.kind(), format!("{step}: {error}"))
}

fn system_mounts(root: &Path, tty: bool, privileged: bool) -> io::Result<()> {
    let plain = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let read_only = if privileged {
        MsFlags::empty()
    } else {
        MsFlags::MS_RDONLY
    };
    let mounts = [
        ("proc", "/proc", plain, None),
        ("sysfs", "/sys", plain | read_only, None),
        ("cgroup2", "/sys/fs/cgroup", plain | read_only, None),
        ("tmpfs", "/dev", MsFlags::MS_NOSUID, Some("mode=755,size=65536k")),
    ];
    for (kind, path, flags, options) in mounts {
        // The descriptor must stay open while its path is used.
        let target = make_directory_in(root, Path::new(path))?;
        mount(Some(kind), &path_of(&target), Some(kind), flags, options)?;
    }
    let dev = root.join("dev");
    users::give(&dev)?;
    for (name, major, minor) in DEVICES {
        mknod(
            &dev.join(name),
            SFlag::S_IFCHR,
            Mode::from_bits_truncate(0o666),
            makedev(major, minor),
        )?;
        // mknod heeds the umask.
        fs::set_permissions(dev.join(name), fs::Permissions::from_mode(0o666))?;
        users::give(&dev.join(name))?;
    }
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
        ("ptmx", "pts/ptmx"),
    ] {
        symlink(target, dev.join(name))?;
        users::give_link(&dev.join(name))?;
    }
    for name in ["pts", "shm"] {
        fs::create_dir(dev.join(name))?;
    }
    if privileged {
        all_devices(Path::new("/dev"), &dev)?;
    }
    let options = format!("newinstance,ptmxmode=0666,mode=0620,gid={}", users::outside(5));
    let quiet = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount(
        Some("devpts"),
        &dev.join("pts"),
        Some("devpts"),
        quiet,
        Some(options.as_str()),
    )?;
    // Shared memory is the Pod's, as Kubernetes has it.
    bind(Path::new("/dev/shm"), &dev.join("shm"), false)?;
    if tty {
        fs::write(dev.join("console"), "")?;
        users::give(&dev.join("console"))?;
    }
    Ok(())
}

/// Gives a privileged container every device of its VM, as it has every device of a node elsewhere: `/dev/fuse`,
/// `/dev/net/tun`, loop devices. What is there already stays.
fn all_devices(from: &Path, to: &Path) -> io::Result<()> {
    for entry in fs::read_dir(from)? {
        let (entry, data) = match entry.and_then(|entry| entry.metadata().map(|data| (entry, data))) {
            Ok(found) => found,
            // Unplugged just now.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(error),
        };
        let (kind, target) = (data.file_type(), to.join(entry.file_name()));
        // A link that leads nowhere yet, as that of `ptmx`, is there too.
        let taken = target.symlink_metadata().is_ok();
        if kind.is_dir() && !taken {
            fs::create_dir(&target)?;
            all_devices(&entry.path(), &target)?;
        } else if (kind.is_char_device() || kind.is_block_device())
            && !taken
            // The first is the container's own terminal, if it has one.
            && entry.file_name() != "console"
        {
            let node = if kind.is_block_device() {
                SFlag::S_IFBLK
            } else {
                SFlag::S_IFCHR
            };
            mknod(&target, node, Mode::empty(), data.rdev())?;
            chown(&target, Some(data.uid()), Some(data.gid()))?;
            // mknod heeds the umask.
            fs::set_permissions(&target, data.permissions())?;
        }
    }
    Ok(())
}

fn mask(root: &Path) -> io::Result<()> {
    for path in MASKED {
        let target = root.join(path.trim_start_matches('/'));
        if target.is_dir() {
            mount(
                Some("tmpfs"),
                &target,
                Some("tmpfs"),
                MsFlags::MS_RDONLY,
                Some("size=0"),
            )?;
        } else if target.exists() {
            bind(Path::new("/dev/null"), &target, false)?;
        }
    }
    for path in READ_ONLY {
        let target = root.join(path.trim_start_matches('/'));
        if target.exists() {
            bind(&target, &target, true)?;
        }
    }
    Ok(())
}

fn bind(source: &Path, target: &Path, read_only: bool) -> io::Result<()> {
    bind_with(source, target, read_only, MsFlags::empty(), MsFlags::MS_PRIVATE)
}

/// How mounts that appear inside are passed on (`mountPropagation`).
fn propagation(wanted: &Mount) -> MsFlags {
    match wanted.propagation.as_str() {
        "Bidirectional" => MsFlags::MS_SHARED,
        "HostToContainer" => MsFlags::MS_SLAVE,
        _ => MsFlags::MS_PRIVATE,
    }
}

/// Makes a volume one in which mounts are passed on between those containers of the Pod that ask for it.
fn share(path: &Path) -> io::Result<()> {
    let mounts = fs::read_to_string("/proc/self/mountinfo")?;
    let wanted = path.display().to_string();
    // `36 35 98:0 /root /mount/point options shared:1 - …`, escaped spaces; none of our paths has one.
    let found = mounts
        .lines()
        .rfind(|line| line.split(' ').nth(4) == Some(wanted.as_str()));
    if found.is_some_and(|line| {
        line.split(" - ")
            .next()
            .is_some_and(|line| line.contains(" shared:"))
    }) {
        return Ok(());
    }
    if found.is_none() {
        bind(path, path, false)?;
    }
    let flags = MsFlags::MS_REC | MsFlags::MS_SHARED;
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)?;
    Ok(())
}

fn bind_with(
    source: &Path,
    target: &Path,
    read_only: bool,
    more: MsFlags,
    propagation: MsFlags,
) -> io::Result<()> {
    let annotate = |error: nix::errno::Errno| {
        let text = format!(
            "cannot mount {} on {}: {error}",
            source.display(),
            target.display()
        );
        io::Error::new(io::Error::from(error).kind(), text)
    };
    mount(
        Some(source),
        target,
        None::<&str>,
        MsFlags::MS_BIND | MsFlags::MS_REC,
        None::<&str>,
    )
    .map_err(annotate)?;
    // The descriptor behind a /proc path still names what was there before; resolve the new mount by its path.
    let target = fs::read_link(target).unwrap_or_else(|_| target.to_path_buf());
    let kind = propagation | MsFlags::MS_REC;
    mount(None::<&str>, &target, None::<&str>, kind, None::<&str>).map_err(annotate)?;
    if read_only {
        let flags = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY | more;
        mount(None::<&str>, &target, None::<&str>, flags, None::<&str>).map_err(annotate)?;
    }
    Ok(())
}

/// The initramfs cannot be pivoted away from, so the new root is moved over it.
pub fn change_root(root: &Path) -> io::Result<()> {
    std::env::set_current_dir(root)?;
    mount(Some("."), "/", None::<&str>, MsFlags::MS_MOVE, None::<&str>)?;
    nix::unistd::chroot(".")?;
    std::env::set_current_dir("/")
}
