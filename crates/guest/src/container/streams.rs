//! The streams of a process: pipes or a terminal, read without blocking, fanned out to whoever listens.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;
use tokio::sync::broadcast;

use crate::sys;

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// Chunks that an attached client may be behind before it loses some.
const BEHIND: usize = 64;

/// One end of a pipe or terminal, without blocking.
pub struct Pipe(AsyncFd<File>);

impl Pipe {
    /// Takes a descriptor.
    pub fn new(fd: OwnedFd) -> io::Result<Self> {
        let flags = OFlag::from_bits_retain(fcntl(&fd, FcntlArg::F_GETFL)?);
        fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
        Ok(Self(sys::watch(File::from(fd))?))
    }

    /// Reads a chunk; empty at the end.
    pub async fn read(&self) -> io::Result<Vec<u8>> {
        let mut buffer = vec![0; CHUNK];
        let result = self
            .0
            .async_io(tokio::io::Interest::READABLE, |mut file| file.read(&mut buffer))
            .await;
        match result {
            Ok(length) => {
                buffer.truncate(length);
                Ok(buffer)
            }
            // The other end of a terminal is gone.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Writes all bytes.
    pub async fn write(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let interest = tokio::io::Interest::WRITABLE;
            let length = self.0.async_io(interest, |mut file| file.write(bytes)).await?;
            bytes = &bytes[length..];
        }
        Ok(())
    }

    /// Sets the size when this is a terminal.
    pub fn resize(&self, columns: u16, rows: u16) -> io::Result<()> {
        sys::resize_terminal(self.0.get_ref().as_fd(), columns, rows)
    }
}

/// The host's side of a process's streams.
pub struct Streams {
    /// Where its input goes; none when it has none or it was closed.
    pub stdin: Mutex<Option<Arc<Pipe>>>,
    /// The terminal, for its size.
    pub terminal: Option<Arc<Pipe>>,
    /// Output as it comes: (1 or 2, bytes).
    pub output: broadcast::Sender<(u32, Arc<[u8]>)>,
}

impl Streams {
    /// Without any listener yet.
    pub fn new(stdin: Option<Arc<Pipe>>, terminal: Option<Arc<Pipe>>) -> Self {
        let (output, _) = broadcast::channel(BEHIND);
        Self {
            stdin: Mutex::new(stdin),
            terminal,
            output,
        }
    }
}
