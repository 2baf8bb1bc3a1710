//! One layer onto a directory: decompress, untar, apply whiteouts. Blocking; runs on a thread of its own.
//!
//! The archive is hostile by assumption. Every parent directory is opened with `openat2(RESOLVE_IN_ROOT)`, so that
//! neither `..` nor a symbolic link from an earlier entry or layer leads out of the root; the last component is
//! never followed. Owners, modes, xattrs, hard links and device nodes are kept (the tree becomes a guest's root).

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use bytes::{Buf, Bytes};
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, ResolveFlags, Timespec, Timestamps, Uid, XattrFlags,
};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc::Receiver;

use crate::registry::hex_digest;

/// Marks a removed file of a lower layer.
const WHITEOUT: &[u8] = b".wh.";
/// Marks a directory whose lower contents are hidden.
const OPAQUE: &[u8] = b".wh..wh..opq";

/// A reader over chunks that arrive from the network.
pub(crate) struct ChunkReader {
    chunks: Receiver<io::Result<Bytes>>,
    current: Bytes,
}

impl ChunkReader {
    pub fn new(chunks: Receiver<io::Result<Bytes>>) -> Self {
        Self {
            chunks,
            current: Bytes::new(),
        }
    }
}

impl Read for ChunkReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.chunks.blocking_recv() {
                Some(chunk) => self.current = chunk?,
                None => return Ok(0),
            }
        }
        let length = self.current.len().min(buffer.len());
        self.current.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Bytes of a layer at most, unpacked: a few kilobytes of a hostile one would otherwise fill any disk.
pub(crate) const MAX_UNPACKED: u64 = 64 << 30;

fn too_large() -> io::Error {
    io::Error::new(
        io::ErrorKind::FileTooLarge,
        "the layer is larger, unpacked, than a layer may be",
    )
}

/// Hashes what passes through, up to a limit.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
    left: u64,
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.left = self.left.checked_sub(length as u64).ok_or_else(too_large)?;
        self.hash.update(&buffer[..length]);
        Ok(length)
    }
}

/// Unpacks a layer and returns the digest of its uncompressed bytes. The compressed bytes' digest is checked by
/// the source of the stream.
///
/// # Errors
/// When the layer cannot be read, has names that lead nowhere good, or is larger than `limit` bytes unpacked.
pub fn unpack(layer: impl Read, root: &Path, limit: u64) -> io::Result<String> {
    let mut plain = Hashing {
        inner: decompress(layer)?,
        hash: Sha256::new(),
        left: limit,
    };
    let mut target = Target::open(root, limit)?;
    let mut archive = tar::Archive::new(&mut plain);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let path = entry.path()?.into_owned();
        target
            .apply(&mut entry)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
    }
    target.finish()?;
    // What follows the end of the archive counts for the digest.
    io::copy(&mut plain, &mut io::sink())?;
    Ok(hex_digest(plain.hash.finalize().as_ref()))
}

/// Recognises gzip and zstd by their magic: media types in the wild are often wrong.
pub(crate) fn decompress<'a>(mut layer: impl Read + 'a) -> io::Result<Box<dyn Read + 'a>> {
    let mut magic = Vec::new();
    layer.by_ref().take(4).read_to_end(&mut magic)?;
    let compression = magic.clone();
    let whole = Read::chain(io::Cursor::new(magic), layer);
    Ok(match compression.as_slice() {
        [0x1f, 0x8b, ..] => Box::new(flate2::read::MultiGzDecoder::new(whole)),
        [0x28, 0xb5, 0x2f, 0xfd] => {
            Box::new(ruzstd::decoding::StreamingDecoder::new(whole).map_err(io::Error::other)?)
        }
        _ => Box::new(whole),
    })
}

/// The directory that layers are applied to.
struct Target {
    root: OwnedFd,
    /// Bytes that files may still take: a sparse one has more of them than the archive.
    left: u64,
    /// Paths that this layer made: an opaque marker hides lower layers only.
    made: HashSet<PathBuf>,
    /// Times of directories, set at the end because every new child changes them.
    directory_times: Vec<(PathBuf, u64)>,
}

impl Target {
    fn open(root: &Path, limit: u64) -> io::Result<Self> {
        let root = rustix::fs::openat(CWD, root, OFlags::DIRECTORY | OFlags::RDONLY, Mode::empty())?;
        Ok(Self {
            root,
            left: limit,
            made: HashSet::new(),
            directory_times: Vec::new(),
        })
    }

    fn apply<R: Read>(&mut self, entry: &mut tar::Entry<'_, R>) -> io::Result<()> {
        let path = clean(&entry.path()?)?;
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            // The root itself: its mode and owner count.
            return self.set_attributes_of_root(entry);
        };
        let parent_fd = self.open_directory(parent, true)?;
        if name.as_bytes() == OPAQUE {
            return self.hide_lower(parent, &parent_fd);
        }
        if let Some(hidden) = name.as_bytes().strip_prefix(WHITEOUT) {
            return remove(&parent_fd, OsStr::from_bytes(hidden));
        }
        self.create(entry, &path, &parent_fd, name)?;
        self.made.insert(path);
        Ok(())
    }

    fn create<R: Read>(
        &mut self,
        entry: &mut tar::Entry<'_, R>,
        path: &Path,
        parent: &OwnedFd,
        name: &OsStr,
    ) -> io::Result<()> {
        let kind = entry.header().entry_type();
        let mode = Mode::from_raw_mode(entry.header().mode()? & 0o7777);
        let is_directory = kind.is_dir();
        match rustix::fs::statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(found) if is_directory && FileType::from_raw_mode(found.st_mode).is_dir() => {}
            Ok(_) => remove(parent, name)?,
            Err(rustix::io::Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        match kind {
            tar::EntryType::Directory => {
                match rustix::fs::mkdirat(parent, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) | Err(rustix::io::Errno::EXIST) => {}
                    Err(error) => return Err(error.into()),
                }
                self.directory_times
                    .push((path.to_path_buf(), entry.header().mtime().unwrap_or(0)));
            }
            tar::EntryType::Regular | tar::EntryType::Continuous | tar::EntryType::GNUSparse => {
                self.left = self.left.checked_sub(entry.size()).ok_or_else(too_large)?;
                let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW;
                let file = rustix::fs::openat(parent, name, flags, Mode::from_raw_mode(0o600))?;
                io::copy(entry, &mut std::fs::File::from(file))?;
            }
            tar::EntryType::Symlink => {
                let target = link_target(entry)?;
                rustix::fs::symlinkat(target.as_os_str(), parent, name)?;
            }
            tar::EntryType::Link => {
                let target = clean(&link_target(entry)?)?;
                let (Some(directory), Some(target_name)) = (target.parent(), target.file_name()) else {
                    return Err(io::Error::other("a hard link to the root"));
                };
                let directory = self.open_directory(directory, false)?;
                // Attributes belong to the file that is linked to.
                return Ok(rustix::fs::linkat(
                    &directory,
                    target_name,
                    parent,
                    name,
                    AtFlags::empty(),
                )?);
            }
            tar::EntryType::Char | tar::EntryType::Block | tar::EntryType::Fifo => {
                let file_type = match kind {
                    tar::EntryType::Char => FileType::CharacterDevice,
                    tar::EntryType::Block => FileType::BlockDevice,
                    _ => FileType::Fifo,
                };
                let major = entry.header().device_major()?.unwrap_or(0);
                let minor = entry.header().device_minor()?.unwrap_or(0);
                let device = rustix::fs::makedev(major, minor);
                rustix::fs::mknodat(parent, name, file_type, mode, device)?;
            }
            // Global headers and vendors' own records carry nothing to unpack.
            _ => return Ok(()),
        }
        set_attributes(
            entry,
            parent,
            name,
            (!kind.is_symlink()).then_some(mode),
            !is_directory,
        )
    }

    fn set_attributes_of_root<R: Read>(&self, entry: &tar::Entry<'_, R>) -> io::Result<()> {
        let mode = Mode::from_raw_mode(entry.header().mode()? & 0o7777);
        Ok(rustix::fs::fchmod(&self.root, mode)?)
    }

    /// Opens a directory inside the root, links resolved inside the root; makes what is missing when asked.
    fn open_directory(&self, path: &Path, make: bool) -> io::Result<OwnedFd> {
        let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC;
        let open = |path: &Path| {
            let path = if path.as_os_str().is_empty() {
                Path::new(".")
            } else {
                path
            };
            rustix::fs::openat2(&self.root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
        };
        match open(path) {
            Ok(directory) => return Ok(directory),
            Err(rustix::io::Errno::NOENT) if make => {}
            Err(error) => return Err(error.into()),
        }
        let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let parent = self.open_directory(parent, true)?;
        match rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755)) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(open(path)?),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes from a directory what lower layers put there.
    fn hide_lower(&self, path: &Path, directory: &OwnedFd) -> io::Result<()> {
        for name in names(directory)? {
            let child = path.join(&name);
            let ours = self.made.iter().any(|made| made.starts_with(&child));
            if !ours {
                remove(directory, &name)?;
            }
        }
        Ok(())
    }

    fn finish(&self) -> io::Result<()> {
        for (path, seconds) in self.directory_times.iter().rev() {
            // A later entry may have replaced the directory.
            if let Ok(directory) = self.open_directory(path, false) {
                rustix::fs::futimens(&directory, &times(*seconds))?;
            }
        }
        Ok(())
    }
}

/// The path inside the root: no root, no `.`; `..` is refused.
fn clean(path: &Path) -> io::Result<PathBuf> {
    let mut cleaned = PathBuf::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => {
                return Err(io::Error::new(
                    io::ErrorKind::InvalidData,
                    "the path leads out of the image",
                ));
            }
        }
    }
    Ok(cleaned)
}

fn link_target<R: Read>(entry: &tar::Entry<'_, R>) -> io::Result<PathBuf> {
    let target = entry
        .link_name()?
        .ok_or_else(|| io::Error::other("a link without a target"))?;
    Ok(target.into_owned())
}

fn set_attributes<R: Read>(
    entry: &mut tar::Entry<'_, R>,
    parent: &OwnedFd,
    name: &OsStr,
    mode: Option<Mode>,
    set_time: bool,
) -> io::Result<()> {
    // Some writers leave numeric fields blank; readers everywhere take that as zero.
    let uid = Uid::from_raw(u32::try_from(entry.header().uid().unwrap_or(0)).map_err(io::Error::other)?);
    let gid = Gid::from_raw(u32::try_from(entry.header().gid().unwrap_or(0)).map_err(io::Error::other)?);
    rustix::fs::chownat(parent, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW)?;
    if let Some(mode) = mode {
        // After chown, which clears set-id bits. The last component was made by us just now and is no link.
        rustix::fs::chmodat(parent, name, mode, AtFlags::empty())?;
        set_xattrs(entry, parent, name)?;
    }
    if set_time {
        let seconds = entry.header().mtime().unwrap_or(0);
        rustix::fs::utimensat(parent, name, &times(seconds), AtFlags::SYMLINK_NOFOLLOW)?;
    }
    Ok(())
}

/// Extended attributes travel as PAX records, for example the capabilities of `ping`.
fn set_xattrs<R: Read>(entry: &mut tar::Entry<'_, R>, parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    let Some(extensions) = entry.pax_extensions()? else {
        return Ok(());
    };
    let mut wanted: Vec<(String, Vec<u8>)> = Vec::new();
    for extension in extensions {
        let extension = extension?;
        if let Some(key) = extension
            .key()
            .ok()
            .and_then(|key| key.strip_prefix("SCHILY.xattr."))
        {
            wanted.push((key.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let file = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for (key, value) in wanted {
        rustix::fs::fsetxattr(file.as_fd(), key.as_str(), &value, XattrFlags::empty())?;
    }
    Ok(())
}

fn times(seconds: u64) -> Timestamps {
    let time = Timespec {
        tv_sec: i64::try_from(seconds).unwrap_or(0),
        tv_nsec: 0,
    };
    Timestamps {
        last_access: time,
        last_modification: time,
    }
}

/// Removes a name and, when it is a directory, what is below; links are not followed.
fn remove(parent: &OwnedFd, name: &OsStr) -> io::Result<()> {
    match rustix::fs::unlinkat(parent, name, AtFlags::empty()) {
        Ok(()) | Err(rustix::io::Errno::NOENT) => return Ok(()),
        Err(rustix::io::Errno::ISDIR) => {}
        Err(error) => return Err(error.into()),
    }
    let flags = OFlags::DIRECTORY | OFlags::RDONLY | OFlags::NOFOLLOW;
    let directory = rustix::fs::openat(parent, name, flags, Mode::empty())?;
    for child in names(&directory)? {
        remove(&directory, &child)?;
    }
    Ok(rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR)?)
}

fn names(directory: &OwnedFd) -> io::Result<Vec<OsString>> {
    let mut names = Vec::new();
    for entry in rustix::fs::Dir::read_from(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

#[cfg(test)]
mod tests;
