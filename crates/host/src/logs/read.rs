//! Reading a run's log as `kubectl logs` wants it.

use std::fs::File;
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use tokio::io::AsyncReadExt;
use tokio::sync::{mpsc, watch};

use super::Progress;
use super::line::{Line, Source};
use super::write::rotated;

/// Chunks between the reader and the response.
const QUEUE: usize = 4;
/// Bytes gathered into one chunk.
const CHUNK: usize = 32 << 10;

/// What is wanted of a log (`PodLogOptions`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Options {
    /// Go on until the run ends.
    pub follow: bool,
    /// Only so many last lines.
    pub tail: Option<u64>,
    /// Only what was written since.
    pub since: Option<Timestamp>,
    /// The time before each line.
    pub timestamps: bool,
    /// At most so many bytes.
    pub limit_bytes: Option<u64>,
    /// Only one of the two streams.
    pub source: Option<Source>,
}

/// Opens the log and reads it in a task of its own, which ends with the receiver.
pub async fn read(
    path: PathBuf,
    options: Options,
    progress: watch::Receiver<Progress>,
) -> io::Result<mpsc::Receiver<Bytes>> {
    let tail = options.tail;
    let at = path.clone();
    // One open file for both: the place of its last lines means nothing in the file of the same name after a rotation.
    let file = tokio::task::spawn_blocking(move || {
        let mut file = File::open(at)?;
        let offset = match tail {
            Some(lines) => tail_offset(&mut file, lines)?,
            None => 0,
        };
        file.seek(SeekFrom::Start(offset))?;
        Ok::<_, io::Error>(file)
    })
    .await
    .map_err(io::Error::other)??;
    let file = tokio::fs::File::from_std(file);
    let (chunks, receiver) = mpsc::channel(QUEUE);
    tokio::spawn(async move {
        let mut reader = Reader {
            path,
            file,
            left: options.limit_bytes.unwrap_or(u64::MAX),
            options,
            input: BytesMut::new(),
            output: BytesMut::new(),
            chunks,
        };
        if let Err(error) = reader.run(progress).await {
            tracing::debug!(path = %reader.path.display(), %error, "a log reader ended early");
        }
    });
    Ok(receiver)
}

struct Reader {
    path: PathBuf,
    file: tokio::fs::File,
    options: Options,
    left: u64,
    input: BytesMut,
    output: BytesMut,
    chunks: mpsc::Sender<Bytes>,
}

impl Reader {
    async fn run(&mut self, mut progress: watch::Receiver<Progress>) -> io::Result<()> {
        loop {
            // What is written after this look raises the version again.
            let ended = progress.borrow_and_update().ended;
            while self.file.read_buf(&mut self.input).await? > 0 {
                if !self.take_lines().await {
                    return Ok(());
                }
            }
            if !self.send().await {
                return Ok(());
            }
            if self.reopen_if_rotated().await? {
                continue;
            }
            if !self.options.follow || ended {
                return Ok(());
            }
            tokio::select! {
                changed = progress.changed() => if changed.is_err() { return Ok(()) },
                () = self.chunks.closed() => return Ok(()),
            }
        }
    }

    /// Whether the file was rotated away; then the one that was begun after it is read next.
    async fn reopen_if_rotated(&mut self) -> io::Result<bool> {
        let ours = self.file.metadata().await?.ino();
        match tokio::fs::metadata(&self.path).await {
            Ok(current) if current.ino() != ours => {
                // The last bytes may have come between reading and rotating.
                if self.file.read_buf(&mut self.input).await? == 0 {
                    let path = self.path.clone();
                    let next = tokio::task::spawn_blocking(move || next_file(&path, ours));
                    let next = next.await.map_err(io::Error::other)??;
                    self.file = tokio::fs::File::from_std(next);
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    /// Formats the whole lines of the input. False: the end.
    async fn take_lines(&mut self) -> bool {
        while let Some(end) = self.input.iter().position(|byte| *byte == b'\n') {
            let line = self.input.split_to(end + 1);
            self.format(&line[..end]);
            if self.left == 0 {
                self.send().await;
                return false;
            }
            if self.output.len() >= CHUNK && !self.send().await {
                return false;
            }
        }
        self.input.reserve(CHUNK);
        true
    }

    fn format(&mut self, line: &[u8]) {
        let Some(line) = Line::parse(line) else {
            return;
        };
        if self.options.source.is_some_and(|source| source != line.source) {
            return;
        }
        let old = |since| line.timestamp().is_some_and(|time| time < since);
        if self.options.since.is_some_and(old) {
            return;
        }
        let stamp = self.options.timestamps.then_some([line.time.as_bytes(), b" "]);
        let end: &[u8] = if line.partial { b"" } else { b"\n" };
        for part in stamp.into_iter().flatten().chain([line.content, end]) {
            let take = part.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
            self.output.extend_from_slice(&part[..take]);
            self.left -= take as u64;
        }
    }

    async fn send(&mut self) -> bool {
        if self.output.is_empty() {
            return true;
        }
        self.chunks.send(self.output.split().freeze()).await.is_ok()
    }
}

/// The file that was begun after the one with this inode: a reader that is slow may be more than one behind.
fn next_file(path: &Path, inode: u64) -> io::Result<File> {
    let position = |files: &[(u64, PathBuf)]| {
        let ours = |file: &(u64, PathBuf)| std::fs::metadata(&file.1).is_ok_and(|data| data.ino() == inode);
        files.iter().position(ours)
    };
    loop {
        let files = rotated(path)?;
        // One that has been removed already was older than all that are left.
        let next = position(&files).map_or(0, |position| position + 1);
        let Some((_, rotated_away)) = files.get(next) else {
            let file = File::open(path)?;
            // It may have been rotated away since the look: then it is another one by now.
            let files = rotated(path)?;
            if position(&files).map_or(0, |position| position + 1) == files.len() {
                return Ok(file);
            }
            continue;
        };
        match File::open(rotated_away) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            result => return result,
        }
    }
}

/// Where the last so many lines of a file begin.
fn tail_offset(file: &mut File, lines: u64) -> io::Result<u64> {
    let mut end = file.seek(SeekFrom::End(0))?;
    if lines == 0 {
        return Ok(end);
    }
    let mut found = 0;
    let mut buffer = vec![0; 64 << 10];
    // The line end of the last line is not the start of another one.
    let mut last = true;
    while end > 0 {
        let length = end.min(buffer.len() as u64);
        let start = end - length;
        file.seek(SeekFrom::Start(start))?;
        let chunk = buffer
            .get_mut(..usize::try_from(length).unwrap_or(0))
            .unwrap_or_default();
        file.read_exact(chunk)?;
        for (index, byte) in chunk.iter().enumerate().rev() {
            if *byte == b'\n' && !std::mem::take(&mut last) {
                found += 1;
                if found == lines {
                    return Ok(start + index as u64 + 1);
                }
            }
            last = false;
        }
        end = start;
    }
    Ok(0)
}

#[cfg(test)]
mod tests {
    use super::super::PodLogs;
    use super::*;

    async fn text(mut receiver: mpsc::Receiver<Bytes>) -> String {
        let mut all = Vec::new();
        while let Some(chunk) = receiver.recv().await {
            all.extend_from_slice(&chunk);
        }
        String::from_utf8(all).expect("text")
    }

    #[tokio::test]
    async fn options() {
        let data = tempfile::tempdir().expect("a directory");
        let logs = PodLogs::new(data.path(), "shop", "web", "u1");
        let mut writer = logs.writer("c", 0).expect("opened");
        let at = |second| Timestamp::from_second(second).expect("in range");
        writer.push(at(1), Source::Stdout, false, b"one");
        writer.push(at(2), Source::Stderr, false, b"two");
        writer.push(at(3), Source::Stdout, true, b"thr");
        writer.push(at(3), Source::Stdout, false, b"ee");
        writer.flush().expect("written");
        let base = Options::default();
        let cases = [
            (base.clone(), "one\ntwo\nthree\n"),
            (
                Options {
                    tail: Some(1),
                    ..base.clone()
                },
                "ee\n",
            ),
            (
                Options {
                    tail: Some(0),
                    ..base.clone()
                },
                "",
            ),
            (
                Options {
                    tail: Some(99),
                    ..base.clone()
                },
                "one\ntwo\nthree\n",
            ),
            (
                Options {
                    since: Some(at(2)),
                    ..base.clone()
                },
                "two\nthree\n",
            ),
            (
                Options {
                    limit_bytes: Some(5),
                    ..base.clone()
                },
                "one\nt",
            ),
            (
                Options {
                    source: Some(Source::Stderr),
                    ..base.clone()
                },
                "two\n",
            ),
            (
                Options {
                    timestamps: true,
                    tail: Some(4),
                    limit_bytes: Some(35),
                    ..base.clone()
                },
                "1970-01-01T00:00:01.000000000Z one\n",
            ),
        ];
        for (options, expected) in cases {
            let receiver = read(logs.path("c", 0), options.clone(), logs.progress("c", 0))
                .await
                .expect("opened");
            assert_eq!(text(receiver).await, expected, "{options:?}");
        }
    }

    #[tokio::test]
    async fn a_run_that_is_written_has_not_ended() {
        let data = tempfile::tempdir().expect("a directory");
        let logs = PodLogs::new(data.path(), "shop", "web", "u1");
        // Given up for lost while it was starting.
        logs.end("c", 0);
        let mut writer = logs.writer("c", 0).expect("opened");
        assert!(!logs.progress("c", 0).borrow().ended);
        let options = Options {
            follow: true,
            ..Options::default()
        };
        let receiver = read(logs.path("c", 0), options, logs.progress("c", 0))
            .await
            .expect("opened");
        let reader = tokio::spawn(text(receiver));
        writer.push(Timestamp::UNIX_EPOCH, Source::Stdout, false, b"said later");
        writer.flush().expect("written");
        logs.end("c", 0);
        assert_eq!(reader.await.expect("read"), "said later\n");
    }

    #[tokio::test]
    async fn follows_to_the_end() {
        let data = tempfile::tempdir().expect("a directory");
        let logs = PodLogs::new(data.path(), "shop", "web", "u1");
        let mut writer = logs.writer("c", 0).expect("opened");
        let options = Options {
            follow: true,
            ..Options::default()
        };
        let receiver = read(logs.path("c", 0), options, logs.progress("c", 0))
            .await
            .expect("opened");
        let reader = tokio::spawn(text(receiver));
        let line = [b'y'; 2000];
        for number in 0..12_000 {
            writer.push(Timestamp::UNIX_EPOCH, Source::Stdout, false, &line);
            if number % 50 == 0 {
                writer.flush().expect("written");
                tokio::task::yield_now().await;
            }
        }
        writer.flush().expect("written");
        logs.end("c", 0);
        // Rotated twice in between, perhaps before the reader had its turn even once: nothing is lost that is still there.
        assert_eq!(reader.await.expect("read").len(), 12_000 * 2001);
    }
}
