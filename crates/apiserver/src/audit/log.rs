//! The file of the audit log: written by one thread, begun anew when it is large, old files bounded in number.

use super::AuditConfig;
use std::fs::{File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// Lines that wait to be written.
const QUEUE: usize = 10_000;

/// The way to the writing thread.
pub(super) struct Log {
    lines: mpsc::Sender<String>,
}

impl Log {
    /// Opens the file and starts the thread, which ends when the log is dropped.
    pub(super) fn open(config: &AuditConfig) -> std::io::Result<Log> {
        let (lines, queue) = mpsc::channel(QUEUE);
        let writer = Writer::open(config)?;
        std::thread::Builder::new()
            .name("audit-log".into())
            .spawn(move || writer.run(queue))?;
        Ok(Log { lines })
    }

    /// Hands a line over; waits when the writer is behind.
    pub(super) async fn write(&self, line: String) {
        if self.lines.send(line).await.is_err() {
            tracing::error!("the audit log has ended; an event was lost");
        }
    }

    /// Hands a line over from where nobody can wait; when the writer is behind, a task waits.
    pub(super) fn write_later(&self, line: String) {
        let Err(mpsc::error::TrySendError::Full(line)) = self.lines.try_send(line) else {
            return;
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => {
                let lines = self.lines.clone();
                runtime.spawn(async move { lines.send(line).await.ok() });
            }
            Err(_) => tracing::error!("the audit log is behind at the end; an event was lost"),
        }
    }
}

struct Writer {
    path: PathBuf,
    file: BufWriter<File>,
    size: u64,
    max_bytes: u64,
    max_files: usize,
}

fn append(path: &Path) -> std::io::Result<(BufWriter<File>, u64)> {
    let file = OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(path)?;
    let size = file.metadata()?.len();
    Ok((BufWriter::new(file), size))
}

impl Writer {
    fn open(config: &AuditConfig) -> std::io::Result<Writer> {
        let (file, size) = append(&config.path)?;
        Ok(Writer {
            path: config.path.clone(),
            file,
            size,
            max_bytes: config.max_bytes.max(1),
            max_files: config.max_files,
        })
    }

    fn run(mut self, mut queue: mpsc::Receiver<String>) {
        while let Some(line) = queue.blocking_recv() {
            let outcome = self.line(&line).and_then(|()| match queue.is_empty() {
                true => self.file.flush(),
                false => Ok(()),
            });
            if let Err(error) = outcome {
                tracing::error!(%error, path = %self.path.display(), "the audit log could not be written");
            }
        }
    }

    fn line(&mut self, line: &str) -> std::io::Result<()> {
        let length = line.len() as u64 + 1;
        if self.size > 0 && self.size + length > self.max_bytes {
            self.rotate()?;
        }
        self.file.write_all(line.as_bytes())?;
        self.file.write_all(b"\n")?;
        self.size += length;
        Ok(())
    }

    /// `audit.log` becomes `audit.log.1`, that `audit.log.2`, and so on; what is beyond the bound goes.
    fn rotate(&mut self) -> std::io::Result<()> {
        self.file.flush()?;
        let numbered = |n: usize| {
            let mut name = self.path.as_os_str().to_owned();
            name.push(format!(".{n}"));
            PathBuf::from(name)
        };
        for n in (1..=self.max_files).rev() {
            let from = if n == 1 {
                self.path.clone()
            } else {
                numbered(n - 1)
            };
            if from.exists() {
                std::fs::rename(&from, numbered(n))?;
            }
        }
        if self.max_files == 0 {
            std::fs::remove_file(&self.path)?;
        }
        (self.file, self.size) = append(&self.path)?;
        Ok(())
    }
}
