//! Volumes whose files the host writes, with the atomic symlink swap of the kubelet, and empty directories.
//!
//! ```text
//! VOLUME/..2/key      the files of the second writing
//! VOLUME/..data       -> ..2, replaced by a rename: readers see all old files or all new ones
//! VOLUME/key          -> ..data/key
//! ```

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Component, Path, PathBuf};

use guest_api::v1::{EmptyDir, WriteVolumeRequest};
use nix::mount::{MsFlags, mount};
use rustix::fs::OFlags;

use crate::disks::SCRATCH;
use crate::files::open_in;
use crate::users;

/// Volumes in memory.
const MEMORY: &str = "/run/volumes";

/// Where a volume's files are.
pub fn path(volume: &str) -> PathBuf {
    Path::new(MEMORY).join(safe(volume))
}

/// Names of volumes are DNS labels; nothing else becomes part of a path.
fn safe(name: &str) -> String {
    name.chars()
        .map(|c| {
            if c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_') {
                c
            } else {
                '-'
            }
        })
        .collect()
}

/// Writes all files and swaps them in.
pub fn write(request: &WriteVolumeRequest) -> io::Result<()> {
    let root = path(&request.volume);
    fs::create_dir_all(&root)?;
    fs::set_permissions(&root, fs::Permissions::from_mode(0o755))?;
    users::give(&root)?;
    let current = fs::read_link(root.join("..data")).ok();
    let number = current
        .as_ref()
        .and_then(|link| {
            link.to_string_lossy()
                .trim_start_matches("..")
                .parse::<u64>()
                .ok()
        })
        .unwrap_or(0);
    let fresh = root.join(format!("..{}", number + 1));
    fs::create_dir_all(&fresh)?;
    let mut tops = BTreeSet::new();
    for file in &request.files {
        let relative = Path::new(&file.path);
        if relative
            .components()
            .any(|component| !matches!(component, Component::Normal(_)))
        {
            let problem = format!(
                "volume {}: `{}` is not a relative path",
                request.volume, file.path
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
        }
        let target = fresh.join(relative);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent)?;
            // The directory of this writing is one of them.
            for directory in parent.ancestors().take_while(|path| path.starts_with(&fresh)) {
                users::give(directory)?;
            }
        }
        fs::write(&target, &file.data)?;
        fs::set_permissions(&target, fs::Permissions::from_mode(file.mode & 0o7777))?;
        chown(
            &target,
            Some(users::outside(file.uid)),
            Some(users::outside(file.gid)),
        )?;
        if let Some(Component::Normal(top)) = relative.components().next() {
            tops.insert(top.to_owned());
        }
    }
    let draft = root.join("..data_tmp");
    let _ = fs::remove_file(&draft);
    symlink(format!("..{}", number + 1), &draft)?;
    users::give_link(&draft)?;
    fs::rename(&draft, root.join("..data"))?;
    for top in &tops {
        let link = root.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(top), &link)?;
            users::give_link(&link)?;
        }
    }
    for entry in fs::read_dir(&root)?.flatten() {
        let name = entry.file_name();
        let hidden = name.to_string_lossy().starts_with("..");
        if !hidden && !tops.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    if let Some(old) = current {
        // A reader with an open file keeps it.
        let _ = fs::remove_dir_all(root.join(old));
    }
    Ok(())
}

/// The largest file that is read for a container's environment.
const MAX_READ: u64 = 64 << 10;

/// A file of an emptyDir; none if there is no such file.
pub fn read(volume: &EmptyDir, path: &str) -> io::Result<Option<Vec<u8>>> {
    let flags = OFlags::RDONLY | OFlags::NONBLOCK;
    let file = match open_in(&empty_dir(volume)?, Path::new(path), flags) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        file => File::from(file?),
    };
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("{path} is not a regular file"),
        ));
    }
    let mut data = Vec::new();
    file.take(MAX_READ + 1).read_to_end(&mut data)?;
    if data.len() as u64 > MAX_READ {
        let problem = format!("{path} has more than {MAX_READ} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, problem));
    }
    Ok(Some(data))
}

/// Where emptyDirs are: in memory, and on disk.
const EMPTY: [&str; 2] = ["/run/memory/empty", "/run/scratch/empty"];

/// The emptyDirs there are, by name.
pub fn empty_dirs() -> Vec<(String, PathBuf)> {
    let entries = EMPTY
        .iter()
        .flat_map(|parent| fs::read_dir(parent).into_iter().flatten());
    entries
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .collect()
}

/// The directory of an emptyDir, made on first use.
pub fn empty_dir(request: &EmptyDir) -> io::Result<PathBuf> {
    let parent = if request.memory { "/run/memory" } else { SCRATCH };
    let path = Path::new(parent).join("empty").join(safe(&request.name));
    if path.is_dir() {
        return Ok(path);
    }
    fs::create_dir_all(&path)?;
    if request.memory {
        let mut options = "mode=1777".to_owned();
        if request.size_limit > 0 {
            options += &format!(",size={}", request.size_limit);
        }
        let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
        mount(Some("tmpfs"), &path, Some("tmpfs"), flags, Some(options.as_str()))?;
    }
    // A file system in memory begins with the sticky bit, and kubelet leaves it there.
    let mode = if request.memory { 0o1777 } else { 0o777 };
    fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
    users::give(&path)?;
    Ok(path)
}
