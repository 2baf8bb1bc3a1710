//! Writing a run's log, with rotation.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use tokio::sync::watch;

use super::Progress;
use super::line::{self, Source};

/// A file is closed when it has this many bytes (kubelet: `containerLogMaxSize`).
pub const MAX_BYTES: u64 = 10 << 20;
/// Files of a run that stay, the current one included (kubelet: `containerLogMaxFiles`).
pub const MAX_FILES: usize = 5;

/// The writer of a run.
pub struct Writer {
    path: PathBuf,
    file: File,
    bytes: u64,
    records: u64,
    buffer: Vec<u8>,
    progress: watch::Sender<Progress>,
}

impl Writer {
    pub(super) fn open(path: PathBuf, progress: watch::Sender<Progress>) -> io::Result<Self> {
        let rotated = rotated(&path)?.last().map_or(0, |(records, _)| *records);
        let mut file = File::options().create(true).append(true).read(true).open(&path)?;
        let (lines, whole) = count_lines(&file)?;
        let mut bytes = file.metadata()?.len();
        if bytes > whole {
            // A record that an agent was killed over: the guest sends it again.
            file.set_len(whole)?;
            bytes = whole;
            file = File::options().append(true).open(&path)?;
        }
        Ok(Self {
            path,
            file,
            bytes,
            records: rotated + lines,
            buffer: Vec::new(),
            progress,
        })
    }

    /// Records written so far in this run, by whatever agent.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Adds a record to the buffer.
    pub fn push(&mut self, time: Timestamp, source: Source, partial: bool, content: &[u8]) {
        line::push(&mut self.buffer, time, source, partial, content);
        self.records += 1;
    }

    /// Writes the buffer and wakes the followers.
    pub fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.file.write_all(&self.buffer)?;
        self.bytes += self.buffer.len() as u64;
        self.buffer.clear();
        if self.bytes >= MAX_BYTES {
            self.rotate()?;
        }
        let records = self.records;
        self.progress.send_modify(|progress| {
            progress.version += 1;
            progress.records = records;
        });
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let mut name = self.path.clone().into_os_string();
        name.push(format!(".{}", self.records));
        std::fs::rename(&self.path, name)?;
        self.file = File::options().create(true).append(true).open(&self.path)?;
        self.bytes = 0;
        let old = rotated(&self.path)?;
        let surplus = (old.len() + 1).saturating_sub(MAX_FILES);
        for (_, path) in old.iter().take(surplus) {
            std::fs::remove_file(path)?;
        }
        Ok(())
    }
}

impl std::fmt::Debug for Writer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("Writer")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The rotated files of a run, oldest first, each with the number of records when it was closed.
pub(super) fn rotated(path: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str()))
    else {
        return Ok(Vec::new());
    };
    let prefix = format!("{name}.");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        if let Some(records) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.strip_prefix(&prefix)?.parse().ok())
        {
            files.push((records, entry.path()));
        }
    }
    files.sort_unstable();
    Ok(files)
}

/// Lines of a file, and the bytes that belong to whole ones.
fn count_lines(file: &File) -> io::Result<(u64, u64)> {
    let mut reader = BufReader::with_capacity(256 << 10, file);
    let (mut lines, mut whole, mut at) = (0, 0, 0);
    loop {
        let chunk = reader.fill_buf()?;
        if chunk.is_empty() {
            return Ok((lines, whole));
        }
        for (offset, byte) in chunk.iter().enumerate() {
            if *byte == b'\n' {
                lines += 1;
                whole = at + offset as u64 + 1;
            }
        }
        at += chunk.len() as u64;
        let length = chunk.len();
        reader.consume(length);
    }
}

#[cfg(test)]
mod tests {
    use super::super::PodLogs;
    use super::*;

    #[test]
    fn an_agent_goes_on_where_the_last_one_stopped() {
        let data = tempfile::tempdir().expect("a directory");
        let logs = PodLogs::new(data.path(), "shop", "web", "u1");
        let mut writer = logs.writer("c", 0).expect("opened");
        let line = [b'x'; 1000];
        for _ in 0..11_000 {
            writer.push(Timestamp::UNIX_EPOCH, Source::Stdout, false, &line);
            if writer.records().is_multiple_of(100) {
                writer.flush().expect("written");
            }
        }
        drop(writer);
        let path = logs.path("c", 0);
        assert_eq!(rotated(&path).expect("listed").len(), 1);
        // Half a record, as a kill leaves it.
        File::options()
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(b"2026-"))
            .expect("written");
        assert_eq!(logs.writer("c", 0).expect("opened").records(), 11_000);
        logs.remove().expect("removed");
        assert!(!path.exists());
    }
}
