//! A directory tree into an EROFS disk, by Debian's `mkfs.erofs`.

use std::path::Path;
use std::process::Stdio;

use tokio::process::Command;

/// Writes `disk` from the tree at `root`. The error text names the cure where there is one.
///
/// Uncompressed: guests read through the page cache, and decompression would be paid in every VM.
pub(crate) async fn build(root: &Path, disk: &Path) -> Result<(), String> {
    let output = Command::new("mkfs.erofs")
        .args(["--preserve-mtime", "--quiet"])
        .arg(disk)
        .arg(root)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| {
            format!("cannot run mkfs.erofs: {error}: install it with `apt-get install erofs-utils`")
        })?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!(
        "mkfs.erofs failed with {}: {}",
        output.status,
        said.trim()
    ))
}
