//! One process a data directory: a lock that the kernel lets go with the process, however it ends.

use std::fs::{self, File};
use std::io::{Read, Seek, Write};
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::fs::{FlockOperation, flock};

/// The name of the lock file in the data directory; it holds the process id.
const FILE: &str = "podvisor.pid";

/// A held lock.
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock, or says which process holds it.
    pub fn take(data_dir: &Path) -> Result<Self> {
        fs::create_dir_all(data_dir).with_context(|| {
            format!(
                "cannot make the data directory {}: choose another with --data-dir",
                data_dir.display()
            )
        })?;
        let path = data_dir.join(FILE);
        let mut file = File::options()
            .create(true)
            .read(true)
            .write(true)
            .truncate(false)
            .open(&path)
            .with_context(|| {
                format!(
                    "cannot write the data directory {}: choose another with --data-dir",
                    data_dir.display()
                )
            })?;
        if flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut pid = String::new();
            file.read_to_string(&mut pid)?;
            bail!(
                "{} is in use by process {}: stop it with `podvisor down`, or choose another --data-dir",
                data_dir.display(),
                pid.trim()
            );
        }
        let mut lock = Self { file };
        lock.file.set_len(0)?;
        lock.file.rewind()?;
        write!(lock.file, "{}", std::process::id())?;
        lock.file.flush()?;
        Ok(lock)
    }

    /// The process that holds the lock of a data directory, if one does.
    pub fn holder(data_dir: &Path) -> Result<Option<u32>> {
        let path = data_dir.join(FILE);
        if !path.exists() {
            return Ok(None);
        }
        let mut file = File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        if flock(&file, FlockOperation::NonBlockingLockShared).is_ok() {
            return Ok(None);
        }
        let mut pid = String::new();
        file.read_to_string(&mut pid)?;
        Ok(pid.trim().parse().ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_taker_is_told_who_holds_it() {
        let directory = tempfile::tempdir().expect("a directory");
        let held = Lock::take(directory.path()).expect("free");
        let me = std::process::id();
        assert_eq!(Lock::holder(directory.path()).expect("readable"), Some(me));
        let error = Lock::take(directory.path()).err().expect("refused").to_string();
        assert!(
            error.contains(&format!("process {me}")) && error.contains("podvisor down"),
            "{error}"
        );
        drop(held);
        assert_eq!(Lock::holder(directory.path()).expect("readable"), None);
        Lock::take(directory.path()).expect("free again");
    }
}
