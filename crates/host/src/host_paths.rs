//! `hostPath` volumes whose type says what must be there: looked at before the Pod gets a VM, as a kubelet looks before it
//! makes a sandbox. The guest looks again when it mounts them, for much may change meanwhile.

use std::os::unix::fs::FileTypeExt;
use std::path::Path;

use k8s_openapi::api::core::v1::{HostPathVolumeSource, Pod};
use rustix::fs::{CWD, Mode, OFlags, ResolveFlags};

use crate::datastore::attach::{DiskKind, VolumeDisk};
use crate::volumes::VolumeError;

/// What only guests see: logs are a share of their own.
const LOGS: [&str; 2] = ["/var/log/pods", "/var/log/containers"];

/// Whether everything is there that a Pod's volumes name, below the directory of the node's file system.
///
/// # Errors
/// Something is not, or is something else.
pub fn check(pod: &Pod, node_files: &Path) -> Result<(), VolumeError> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    for volume in volumes {
        let Some(source) = &volume.host_path else {
            continue;
        };
        typed(&volume.name, source, node_files)?;
    }
    Ok(())
}

/// The same of the paths that claims stand for. A local volume must be there, whatever it is.
///
/// # Errors
/// Something is not, or is something else.
pub fn check_claimed(disks: &[VolumeDisk], node_files: &Path) -> Result<(), VolumeError> {
    for disk in disks {
        match disk.kind {
            DiskKind::HostPath => {
                let source = HostPathVolumeSource {
                    path: disk.path.to_string_lossy().into_owned(),
                    type_: Some(disk.path_type.clone()),
                };
                typed(&disk.volume, &source, node_files)?;
            }
            DiskKind::Local if kind(&disk.path, node_files).is_err() => {
                return Err(VolumeError {
                    volume: disk.handle.clone(),
                    reason: format!("path \"{}\" does not exist", disk.path.display()),
                });
            }
            _ => {}
        }
    }
    Ok(())
}

fn typed(volume: &str, source: &HostPathVolumeSource, node_files: &Path) -> Result<(), VolumeError> {
    one(source, node_files).map_err(|problem| VolumeError {
        volume: volume.to_owned(),
        reason: format!("hostPath type check failed: {} {problem}", source.path),
    })
}

fn one(source: &HostPathVolumeSource, node_files: &Path) -> Result<(), &'static str> {
    let path = Path::new(&source.path);
    let of_guests = |logs: &str| path.starts_with(logs) || Path::new(logs).starts_with(path);
    if LOGS.iter().any(|logs| of_guests(logs)) {
        return Ok(());
    }
    let wanted = source.type_.as_deref().unwrap_or_default();
    let problem = match wanted {
        "Directory" | "DirectoryOrCreate" => "is not a directory",
        "File" | "FileOrCreate" => "is not a file",
        "Socket" => "is not a socket file",
        "CharDevice" => "is not a character device",
        "BlockDevice" => "is not a block device",
        _ => return Ok(()),
    };
    let kind = match kind(path, node_files) {
        Ok(kind) => kind,
        Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) if !wanted.ends_with("OrCreate") => {
            return Err(problem);
        }
        // Made, or told, by the guest.
        Err(_) => return Ok(()),
    };
    let right = match wanted {
        "Directory" | "DirectoryOrCreate" => kind.is_dir(),
        "File" | "FileOrCreate" => kind.is_file(),
        "Socket" => kind.is_socket(),
        "CharDevice" => kind.is_char_device(),
        _ => kind.is_block_device(),
    };
    if right { Ok(()) } else { Err(problem) }
}

/// What lies at a path. Guests write there: nothing is followed out of the directory.
fn kind(path: &Path, node_files: &Path) -> rustix::io::Result<std::fs::FileType> {
    let flags = OFlags::PATH | OFlags::CLOEXEC;
    let root = rustix::fs::openat(CWD, node_files, flags | OFlags::DIRECTORY, Mode::empty())?;
    let relative = path.strip_prefix("/").unwrap_or(path);
    let relative = if relative.as_os_str().is_empty() {
        Path::new(".")
    } else {
        relative
    };
    let found = rustix::fs::openat2(&root, relative, flags, Mode::empty(), ResolveFlags::IN_ROOT)?;
    let data = std::fs::File::from(found).metadata();
    Ok(data.map_err(|_| rustix::io::Errno::IO)?.file_type())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn types_are_checked() {
        let node = tempfile::tempdir().expect("a directory");
        let root = node.path();
        std::fs::create_dir_all(root.join("srv/dir")).expect("made");
        std::fs::write(root.join("srv/file"), "").expect("written");
        std::os::unix::fs::symlink("/srv/file", root.join("srv/link")).expect("linked");
        // Outside this is a directory; here it leads to nothing.
        std::os::unix::fs::symlink("../../../../usr", root.join("srv/out")).expect("linked");
        let _socket = std::os::unix::net::UnixListener::bind(root.join("srv/socket")).expect("bound");
        let cases = [
            ("/srv/dir", "Directory", ""),
            ("/srv/dir", "", ""),
            ("/srv/none", "", ""),
            ("/srv/none", "FileOrCreate", ""),
            ("/srv/link", "File", ""),
            ("/srv/socket", "Socket", ""),
            ("/", "Directory", ""),
            ("/var/log", "Directory", ""),
            ("/var/log/pods/x", "Directory", ""),
            ("/srv/none", "Directory", "is not a directory"),
            ("/srv/file/x", "File", "is not a file"),
            ("/srv/out", "Directory", "is not a directory"),
            ("/srv/file", "DirectoryOrCreate", "is not a directory"),
            ("/srv/dir", "FileOrCreate", "is not a file"),
            ("/srv/file", "Socket", "is not a socket file"),
            ("/srv/file", "CharDevice", "is not a character device"),
            ("/srv/file", "BlockDevice", "is not a block device"),
        ];
        for (path, kind, problem) in cases {
            let spec = json!({"containers": [], "volumes": [{"name": "v", "hostPath": {"path": path, "type": kind}}]});
            let pod: Pod = serde_json::from_value(json!({ "spec": spec })).expect("a Pod");
            let told = check(&pod, root)
                .map_err(|error| error.to_string())
                .err()
                .unwrap_or_default();
            let expected = match problem {
                "" => String::new(),
                problem => format!(
                    "MountVolume.SetUp failed for volume \"v\" : hostPath type check failed: {path} {problem}"
                ),
            };
            assert_eq!(told, expected, "{path} {kind}");
        }
    }
}
