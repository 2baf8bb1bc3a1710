//! The write-ahead log: where a write is durable before the store file has it.
//!
//! The store file is a tree; a commit into it touches pages all over it. One group of writes is one *frame* instead,
//! appended to a file whose blocks exist already, so that it costs a single sequential write and one flush. What is in
//! the log is moved into the store file in large batches ([`super::settle`]).
//!
//! Two files are used in turn: while the writes of one are moved, the other grows. Neither is ever shortened; a turn
//! begins at its start again, with a new *epoch*, which tells new frames from old ones behind them.
//!
//! ```text
//! a frame, beginning at a sector:
//!   magic:u32  crc32:u32  length:u32  count:u32  store:u64  epoch:u64  first:u64     the checksum covers what follows it
//!   count times  kind:u8  created:u64  key:u32+bytes  value:u32+bytes                revisions first, first + 1, ...
//! ```
//! Numbers are big-endian. A frame is torn by a power cut only as the last one: a bad frame that others follow is damage.

use super::layout;
use super::recent::{Recent, Version};
use bytes::{Buf, Bytes};
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// The two files, beside the store file.
const EXTENSIONS: [&str; 2] = ["log0", "log1"];
/// Frames begin at multiples of this, so that no write touches a sector of an earlier one.
const SECTOR: usize = 512;
/// Bytes that a file grows by; they are written, so that a later flush changes no metadata.
const CHUNK: u64 = 1 << 20;
/// What disks want of an address, in bytes; 512 is enough for most.
const ALIGNMENT: usize = 4096;
/// What a frame begins with.
const MAGIC: u32 = 0x7076_6c31;
/// Bytes of magic and checksum, and of the whole head.
const CHECKED_FROM: usize = 8;
const HEAD: usize = 40;

/// Why the log cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LogError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{}: {why}", path.display())]
    Damaged { path: PathBuf, why: &'static str },
}

/// Where the log of a store file lies.
pub(crate) fn paths(store: &Path) -> [PathBuf; 2] {
    EXTENSIONS.map(|extension| store.with_extension(extension))
}

/// One of the two files.
struct Half {
    /// Grows it.
    file: File,
    length: u64,
    /// Each write to it is on disk on return.
    direct: File,
}

/// The log of one open store.
pub(crate) struct Log {
    halves: [Half; 2],
    active: usize,
    /// Room for one frame at an address that the disk can read from, of [`ALIGNMENT`] bytes more.
    buffer: Vec<u8>,
    /// Where the next frame goes.
    end: u64,
    store: u64,
    epoch: u64,
}

impl Log {
    /// Opens the files, making them when they are missing; answers the writes after revision `settled` as well.
    pub(crate) fn open(path: &Path, store: u64, settled: u64) -> Result<(Log, Recent), LogError> {
        let paths = paths(path);
        let io = |path: &Path| {
            let path = path.to_path_buf();
            move |source| LogError::Io { path, source }
        };
        let mut halves = Vec::new();
        let mut found = Vec::new();
        for path in &paths {
            super::keep_private(path).map_err(io(path))?;
            let opened = File::options().read(true).write(true).open(path);
            let file = opened.map_err(io(path))?;
            let direct = direct(path).map_err(io(path))?;
            let frames = frames(&file, store, settled, path)?;
            if let Some(first) = frames.first() {
                found.push((first.first, path, frames));
            }
            let length = length(&file, path)?;
            halves.push(Half { file, length, direct });
        }
        found.sort_by_key(|(first, ..)| *first);
        let mut recent = Recent::default();
        let mut reached = settled;
        for (_, path, frames) in found {
            for frame in frames {
                if frame.first > reached + 1 {
                    return Err(LogError::Damaged {
                        path: path.clone(),
                        why: "writes before its beginning are missing from the store file; restore a backup",
                    });
                }
                frame.replay(&mut reached, &mut recent).ok_or(LogError::Damaged {
                    path: path.clone(),
                    why: "an entry cannot be right; restore a backup",
                })?;
            }
        }
        let halves = <[Half; 2]>::try_from(halves).unwrap_or_else(|_| unreachable!("two paths are opened"));
        let log = Log {
            halves,
            active: 0,
            buffer: Vec::new(),
            end: 0,
            store,
            epoch: layout::random(),
        };
        Ok((log, recent))
    }

    /// Goes on at the start of the other file, whose writes must be in the store file by now.
    pub(crate) fn turn(&mut self) {
        self.active = 1 - self.active;
        self.end = 0;
        self.epoch = layout::random();
    }

    /// Bytes since the last turn.
    pub(crate) fn bytes(&self) -> u64 {
        self.end
    }

    /// Writes a frame; it is on disk on return.
    pub(crate) fn append(&mut self, frame: &mut Frame) -> io::Result<()> {
        let bytes = frame.finish(self.store, self.epoch);
        let needed = self.end + bytes.len() as u64;
        let half = &mut self.halves[self.active];
        if needed > half.length {
            let (mut at, until) = (half.length, needed.next_multiple_of(CHUNK));
            let zero = vec![0; 64 << 10];
            while at < until {
                let part = (until - at).min(zero.len() as u64);
                half.file.write_all_at(&zero[..part as usize], at)?;
                at += part;
            }
            half.file.sync_all()?;
            half.length = until;
        }
        if self.buffer.len() < bytes.len() + ALIGNMENT {
            self.buffer = vec![0; bytes.len() + ALIGNMENT];
        }
        let start = self.buffer.as_ptr().align_offset(ALIGNMENT);
        let aligned = &mut self.buffer[start..start + bytes.len()];
        aligned.copy_from_slice(bytes);
        match half.direct.write_all_at(aligned, self.end) {
            Ok(()) => {}
            // A disk with larger sectors than ours: by the page cache then, from now on.
            Err(e) if e.kind() == io::ErrorKind::InvalidInput => {
                half.direct = half.file.try_clone()?;
                half.direct.write_all_at(aligned, self.end)?;
            }
            Err(e) => return Err(e),
        }
        half.direct.sync_data()?;
        // A large frame's room is not kept.
        if self.buffer.len() > CHUNK as usize {
            self.buffer = Vec::new();
        }
        self.end = needed;
        Ok(())
    }

    /// Marks both files as empty. Everything is in the store file; should this get lost, they are merely read once more.
    pub(crate) fn clear(&mut self) {
        for half in &self.halves {
            if half.length >= SECTOR as u64 {
                let _ = half.file.write_all_at(&[0; SECTOR], 0);
            }
        }
    }
}

/// Opens a file for writes past the page cache, or through it where the file system knows no other way.
fn direct(path: &Path) -> io::Result<File> {
    let flag = nix::fcntl::OFlag::O_DIRECT.bits();
    match File::options().write(true).custom_flags(flag).open(path) {
        Err(e) if e.kind() == io::ErrorKind::InvalidInput => File::options().write(true).open(path),
        opened => opened,
    }
}

fn length(file: &File, path: &Path) -> Result<u64, LogError> {
    let metadata = file.metadata().map_err(|source| LogError::Io {
        path: path.to_path_buf(),
        source,
    })?;
    Ok(metadata.len())
}

/// A group of writes on its way into the log.
#[derive(Default)]
pub(crate) struct Frame {
    bytes: Vec<u8>,
    first: u64,
    count: u32,
}

impl Frame {
    /// Begins anew; the next write has revision `first`.
    pub(crate) fn begin(&mut self, first: u64) {
        self.bytes.clear();
        self.bytes.resize(HEAD, 0);
        (self.first, self.count) = (first, 0);
    }

    /// Adds a write.
    pub(crate) fn add(&mut self, key: &[u8], version: &Version) {
        self.bytes.push(layout::kind_byte(version.kind));
        self.bytes.extend_from_slice(&version.created.to_be_bytes());
        for part in [key, &version.value] {
            // The API server's limits are far below four gigabytes.
            self.bytes.extend_from_slice(&(part.len() as u32).to_be_bytes());
            self.bytes.extend_from_slice(part);
        }
        self.count += 1;
    }

    /// Fills in the head and pads to whole sectors.
    fn finish(&mut self, store: u64, epoch: u64) -> &[u8] {
        let length = (self.bytes.len() - HEAD) as u32;
        let mut head = &mut self.bytes[CHECKED_FROM..HEAD];
        for field in [&length.to_be_bytes()[..], &self.count.to_be_bytes()] {
            // A slice of the right size takes everything.
            let _ = head.write_all(field);
        }
        for field in [store, epoch, self.first] {
            let _ = head.write_all(&field.to_be_bytes());
        }
        let sum = crc32fast::hash(&self.bytes[CHECKED_FROM..]);
        self.bytes[..4].copy_from_slice(&MAGIC.to_be_bytes());
        self.bytes[4..CHECKED_FROM].copy_from_slice(&sum.to_be_bytes());
        self.bytes.resize(self.bytes.len().next_multiple_of(SECTOR), 0);
        &self.bytes
    }
}

/// A frame as it was found.
struct Found {
    first: u64,
    count: u32,
    store: u64,
    epoch: u64,
    entries: Bytes,
    /// Where the next one begins.
    next: usize,
}

impl Found {
    /// The revision of its last write.
    fn last(&self) -> u64 {
        (self.first + u64::from(self.count)).saturating_sub(1)
    }

    /// Reads what stands at `at`; `None` when that is no whole frame.
    fn read(file: &Bytes, at: usize) -> Option<Found> {
        let mut head = file.get(at..at + HEAD)?;
        if head.get_u32() != MAGIC {
            return None;
        }
        let (sum, length, count) = (head.get_u32(), head.get_u32() as usize, head.get_u32());
        let (store, epoch, first) = (head.get_u64(), head.get_u64(), head.get_u64());
        let end = (at + HEAD).checked_add(length).filter(|end| *end <= file.len())?;
        if crc32fast::hash(&file[at + CHECKED_FROM..end]) != sum {
            return None;
        }
        Some(Found {
            first,
            count,
            store,
            epoch,
            entries: file.slice(at + HEAD..end),
            next: end.next_multiple_of(SECTOR),
        })
    }

    /// Adds the writes after `reached`; `None` when the entries are not what the head says.
    fn replay(mut self, reached: &mut u64, recent: &mut Recent) -> Option<()> {
        for revision in self.first..self.first + u64::from(self.count) {
            let kind = layout::kind_of(self.entries.try_get_u8().ok()?)?;
            let created = self.entries.try_get_u64().ok()?;
            let (key, value) = (self.part()?, self.part()?);
            if revision <= *reached {
                continue;
            }
            let version = Version {
                revision,
                kind,
                created,
                value,
            };
            recent.push(key, version);
            *reached = revision;
        }
        self.entries.is_empty().then_some(())
    }

    fn part(&mut self) -> Option<Bytes> {
        let length = self.entries.try_get_u32().ok()? as usize;
        (length <= self.entries.len()).then(|| self.entries.split_to(length))
    }
}

/// The frames of a file's last epoch. Behind them there are only older ones, or the last one was torn; a frame behind
/// them that nobody can know of yet means that one before it is damaged.
fn frames(file: &File, store: u64, settled: u64, path: &Path) -> Result<Vec<Found>, LogError> {
    let io = |source| LogError::Io {
        path: path.to_path_buf(),
        source,
    };
    let damaged = |why| LogError::Damaged {
        path: path.to_path_buf(),
        why,
    };
    let length = length(file, path)? as usize;
    let mut magic = [0; 4];
    let mut bytes = Bytes::new();
    // An empty file, or one that was cleared, need not be held in memory.
    if length >= SECTOR {
        file.read_exact_at(&mut magic, 0).map_err(io)?;
    }
    if magic == MAGIC.to_be_bytes() {
        let mut all = vec![0; length];
        file.read_exact_at(&mut all, 0).map_err(io)?;
        bytes = all.into();
    }
    let mut frames: Vec<Found> = Vec::new();
    let (mut at, mut reached) = (0, settled);
    while let Some(frame) = Found::read(&bytes, at) {
        let follows = frames
            .last()
            .is_none_or(|last| last.epoch == frame.epoch && last.last() + 1 == frame.first);
        if !follows {
            break;
        }
        if frame.store != store {
            return Err(damaged("it is the log of another store file; move it away"));
        }
        at = frame.next;
        reached = reached.max(frame.last());
        frames.push(frame);
    }
    match unknown_behind(file, at, length, store, reached).map_err(io)? {
        true => Err(damaged("writes in its middle cannot be read; restore a backup")),
        false => Ok(frames),
    }
}

/// Whether a whole frame with later writes than `reached` lies at or behind `at`.
fn unknown_behind(file: &File, at: usize, length: usize, store: u64, reached: u64) -> io::Result<bool> {
    let mut part = vec![0; CHUNK as usize];
    let mut start = at;
    while start + SECTOR <= length {
        let size = part.len().min((length - start) / SECTOR * SECTOR);
        file.read_exact_at(&mut part[..size], start as u64)?;
        for (n, sector) in part[..size].chunks(SECTOR).enumerate() {
            let mut head = &sector[..HEAD];
            let (magic, _sum, entries, count) =
                (head.get_u32(), head.get_u32(), head.get_u32(), head.get_u32());
            let (of, _epoch, first) = (head.get_u64(), head.get_u64(), head.get_u64());
            let last = first.saturating_add(u64::from(count));
            let whole = start + n * SECTOR + HEAD + entries as usize <= length;
            if magic != MAGIC || of != store || last <= reached + 1 || !whole {
                continue;
            }
            let mut frame = vec![0; HEAD + entries as usize];
            file.read_exact_at(&mut frame, (start + n * SECTOR) as u64)?;
            if Found::read(&frame.into(), 0).is_some() {
                return Ok(true);
            }
        }
        start += size;
    }
    Ok(false)
}
