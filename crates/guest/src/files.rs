//! Paths inside a container's root, resolved as the container would resolve them.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use crate::users;

use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

/// Opens a path below `root`; symbolic links and `..` never lead out of it: to them `root` is the root.
pub fn open_in(root: &Path, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    open_with(root, path, flags, ResolveFlags::IN_ROOT)
}

/// Opens a path below `root`, and nothing when a symbolic link or `..` would lead out of it.
pub fn open_below(root: &Path, path: &Path, flags: OFlags) -> io::Result<OwnedFd> {
    open_with(root, path, flags, ResolveFlags::BENEATH)
}

fn open_with(root: &Path, path: &Path, flags: OFlags, resolve: ResolveFlags) -> io::Result<OwnedFd> {
    let root = rustix::fs::openat(CWD, root, OFlags::PATH | OFlags::DIRECTORY, Mode::empty())?;
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    };
    Ok(rustix::fs::openat2(
        &root,
        relative,
        flags | OFlags::CLOEXEC,
        Mode::empty(),
        resolve,
    )?)
}

/// Reads a text file below `root`; nothing when it is not there.
pub fn read_in(root: &Path, path: &str) -> String {
    let read = || io::read_to_string(File::from(open_in(root, Path::new(path), OFlags::RDONLY)?));
    read().unwrap_or_default()
}

/// A path by which the kernel finds what a descriptor stands for.
pub fn path_of(fd: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()))
}

/// Makes a directory below `root`, with its parents, each step resolved inside the root.
pub fn make_directory_in(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    make_directory_with(root, path, 0o755, true)
}

/// Likewise; whatever is new has this mode, whatever the umask, and belongs to the Pod's root (`give`) or the agent's.
pub fn make_directory_with(root: &Path, path: &Path, mode: u32, give: bool) -> io::Result<OwnedFd> {
    match open_in(root, path, OFlags::PATH | OFlags::DIRECTORY) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        result => return result,
    }
    let parent = make_directory_with(root, path.parent().unwrap_or(Path::new("/")), mode, give)?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let made = match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(mode)) {
        Ok(()) => true,
        Err(rustix::io::Errno::EXIST) => false,
        Err(error) => return Err(error.into()),
    };
    let directory = open_in(root, path, OFlags::PATH | OFlags::DIRECTORY)?;
    if made {
        // A directory made in one with the set-group-id bit has it too, and keeps it.
        let inherited = rustix::fs::fstat(&directory)?.st_mode & 0o2000;
        if give {
            users::give(&path_of(&directory))?;
        }
        rustix::fs::chmod(path_of(&directory), Mode::from_raw_mode(mode | inherited))?;
    }
    Ok(directory)
}

/// Makes an empty file below `root` as the target of a bind mount.
pub fn make_file_in(root: &Path, path: &Path) -> io::Result<OwnedFd> {
    let parent = make_directory_in(root, path.parent().unwrap_or(Path::new("/")))?;
    let name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?;
    let flags = OFlags::CREATE | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    match rustix::fs::openat(&parent, name, flags, Mode::from_raw_mode(0o644)) {
        Ok(file) => {
            // Empty: made just now, or of no use to anybody else.
            if rustix::fs::fstat(&file)?.st_size == 0 {
                users::give(&path_of(&file))?;
            }
        }
        Err(rustix::io::Errno::LOOP) => {}
        Err(error) => return Err(error.into()),
    }
    open_in(root, path, OFlags::PATH)
}

/// Bytes of the disk that a tree takes; other file systems mounted in it do not count. Lets others work meanwhile.
pub async fn bytes_below(root: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    /// Entries between two pauses.
    const STEP: usize = 128;
    let Ok(top) = std::fs::symlink_metadata(root) else {
        return 0;
    };
    let (mut sum, mut seen) = (0, 0);
    let mut directories = vec![root.to_path_buf()];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            seen += 1;
            if seen % STEP == 0 {
                tokio::task::yield_now().await;
            }
            // Gone meanwhile.
            let Ok(data) = entry.metadata() else { continue };
            if data.dev() != top.dev() {
                continue;
            }
            sum += data.blocks() * 512;
            if data.is_dir() {
                directories.push(entry.path());
            }
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn links_that_lead_out() {
        let root = std::env::temp_dir().join(format!("podvisor-files-{}", std::process::id()));
        std::fs::create_dir_all(root.join("in/deep")).expect("made");
        for (target, link) in [
            ("in/deep", "good"),
            ("/in", "absolute"),
            ("..", "up"),
            ("../../in", "in/over"),
        ] {
            symlink(target, root.join(link)).expect("made");
        }
        // A path, and whether it is found by a root of its own, and below a plain directory.
        let cases = [
            ("in/deep", true, true),
            ("good", true, true),
            ("in/../in", true, true),
            ("absolute", true, false),
            ("up", true, false),
            ("in/over", true, false),
            ("none", false, false),
        ];
        for (path, as_root, below) in cases {
            let path = Path::new(path);
            let found = (
                open_in(&root, path, OFlags::PATH).is_ok(),
                open_below(&root, path, OFlags::PATH).is_ok(),
            );
            assert_eq!(found, (as_root, below), "{}", path.display());
        }
        std::fs::remove_dir_all(&root).expect("removed");
    }
}
