//! `hostPath`: paths in a file system that the host shares with its VMs by virtiofs. It looks like a node's root and is
//! a directory that Podvisor owns; no link in it leads out, neither here nor at the host's end.

use std::fs;
use std::io;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};

use guest_api::v1::HostPath;
use nix::mount::{MsFlags, mount};
use rustix::fs::OFlags;

use crate::boot;
use crate::files::{make_directory_in, make_file_in, open_in, path_of};

/// Where shares are mounted.
const SHARES: &str = "/run/shares";

/// The root of a share, mounted once.
fn root(tag: &str) -> io::Result<PathBuf> {
    let plain = |c: char| c.is_ascii_alphanumeric();
    if tag.is_empty() || !tag.chars().all(plain) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "a share without a name",
        ));
    }
    let target = Path::new(SHARES).join(tag);
    if target.is_dir() {
        return Ok(target);
    }
    fs::create_dir_all(&target)?;
    let mounted = mount(
        Some(tag),
        &target,
        Some("virtiofs"),
        MsFlags::empty(),
        None::<&str>,
    );
    if let Err(error) = mounted {
        let _ = fs::remove_dir(&target);
        return Err(io::Error::other(format!(
            "the node's file system cannot be mounted: {error}"
        )));
    }
    if let Err(error) = show_logs(&target) {
        boot::log(&format!(
            "guest agent: no logs in the node's file system: {error}"
        ));
    }
    Ok(target)
}

/// Shows the logs of the host's Pods where a node has them. They are a share of their own, which the host lets nobody
/// write to.
fn show_logs(node: &Path) -> io::Result<()> {
    let logs = Path::new(SHARES).join("logs");
    fs::create_dir_all(&logs)?;
    mount(
        Some("logs"),
        &logs,
        Some("virtiofs"),
        MsFlags::MS_RDONLY,
        None::<&str>,
    )?;
    for name in ["pods", "containers"] {
        // Resolved inside the share: whatever guests have left there, this stays below it.
        let target = make_directory_in(node, &Path::new("/var/log").join(name))?;
        let source = logs.join(name);
        mount(
            Some(&source),
            &path_of(&target),
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?;
    }
    Ok(())
}

/// What a `hostPath` volume stands for, checked or made as its type says (kubelet: `hostpath/host_path.go`).
pub fn host_path(wanted: &HostPath) -> io::Result<PathBuf> {
    let root = root(&wanted.tag)?;
    let path = Path::new(&wanted.path);
    if !path.is_absolute() {
        let text = format!("hostPath {} is not absolute", wanted.path);
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let there = match open_in(&root, path, OFlags::PATH) {
        Ok(fd) => Some(fd),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(error),
    };
    let fd = match (there, wanted.r#type.as_str()) {
        (Some(fd), _) => fd,
        (None, "" | "DirectoryOrCreate") => make_directory_in(&root, path)?,
        (None, "FileOrCreate") => {
            // Its directory is not made (documentation of hostPath).
            open_in(
                &root,
                path.parent().unwrap_or(path),
                OFlags::PATH | OFlags::DIRECTORY,
            )?;
            make_file_in(&root, path)?
        }
        (None, _) => return Err(mismatch(wanted, "does not exist")),
    };
    let place = path_of(&fd);
    let kind = fs::metadata(&place)?.file_type();
    let (right, problem) = match wanted.r#type.as_str() {
        "Directory" | "DirectoryOrCreate" => (kind.is_dir(), "is not a directory"),
        "File" | "FileOrCreate" => (kind.is_file(), "is not a file"),
        "Socket" => (kind.is_socket(), "is not a socket file"),
        "CharDevice" => (kind.is_char_device(), "is not a character device"),
        "BlockDevice" => (kind.is_block_device(), "is not a block device"),
        _ => (true, ""),
    };
    if !right {
        return Err(mismatch(wanted, problem));
    }
    // The name without links, so that the mount is of what was checked.
    fs::read_link(place)
}

fn mismatch(wanted: &HostPath, problem: &str) -> io::Error {
    let text = format!("hostPath type check failed: {} {problem}", wanted.path);
    io::Error::new(io::ErrorKind::InvalidInput, text)
}
