//! Writing files that hold secrets: complete or not at all, and readable by the owner only from the first byte.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// A file operation that failed; names the file and what was tried.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}", path.display())]
pub struct FileError {
    /// What was tried: `read`, `write`, `create`.
    pub action: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// Why it failed.
    pub source: io::Error,
}

fn failed(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> FileError + use<> {
    let path = path.to_path_buf();
    move |source| FileError { action, path, source }
}

/// Makes a directory (and its parents) that only the owner may enter; an existing one is left as it is.
pub fn private_dir(path: &Path) -> Result<(), FileError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(failed("create", path))
}

/// Writes a file with mode 0600 by way of a temporary neighbour, so readers see the old or the new content.
pub fn write_private(path: &Path, content: &[u8]) -> Result<(), FileError> {
    write_with_mode(path, content, 0o600, true)
}

/// Writes a file that everyone may read, as [`write_private`] does otherwise.
pub fn write_public(path: &Path, content: &[u8]) -> Result<(), FileError> {
    write_with_mode(path, content, 0o644, true)
}

/// Writes a file that is made anew when it is found damaged: a power cut may leave it empty, so nobody waits for the disk.
pub fn write_remade(path: &Path, content: &[u8], private: bool) -> Result<(), FileError> {
    let mode = if private { 0o600 } else { 0o644 };
    write_with_mode(path, content, mode, false)
}

fn write_with_mode(path: &Path, content: &[u8], mode: u32, durable: bool) -> Result<(), FileError> {
    // A symbolic link (a kubeconfig kept elsewhere) is followed, not replaced.
    let path = &fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = path.with_file_name(name);
    let write = || -> io::Result<()> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(mode)
            .open(&temporary)?;
        file.write_all(content)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)
    };
    write().map_err(|e| {
        // The write failed already; a leftover temporary file is the lesser evil.
        let _ = fs::remove_file(&temporary);
        failed("write", path)(e)
    })
}

/// Reads a text file; `None` when it does not exist.
pub fn read_optional(path: &Path) -> Result<Option<String>, FileError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn private_from_the_first_byte_and_links_followed() {
        let dir = tempfile::tempdir().unwrap();
        let real = dir.path().join("real");
        write_private(&real, b"one").unwrap();
        let mode = fs::metadata(&real).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);

        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&real, &link).unwrap();
        write_private(&link, b"two").unwrap();
        assert_eq!(read_optional(&real).unwrap().as_deref(), Some("two"));
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());

        let missing = dir.path().join("no/such/dir/file");
        let error = write_private(&missing, b"").unwrap_err().to_string();
        assert!(
            error.starts_with("cannot write ") && error.contains("no/such/dir/file"),
            "{error}"
        );
        assert!(read_optional(&missing).unwrap().is_none());
    }
}
