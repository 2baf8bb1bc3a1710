//! The streams of a process: pipes or a terminal, read without blocking, fanned out to whoever listens.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};

use crate::sync::lock;
use crate::sys;

/// Bytes read at once.
const CHUNK: usize = 16 << 10;
/// Chunks that an attached client may be behind before the process waits for it.
const BEHIND: usize = 64;
/// How long a process waits for an attached client.
const PATIENCE: Duration = Duration::from_secs(60);
/// After a process's end, how long a pipe that others hold may say nothing before it counts as done.
const QUIET: Duration = Duration::from_secs(2);

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
    /// Attached clients.
    listeners: Mutex<Vec<mpsc::Sender<Chunk>>>,
}

/// Output as it comes: (1 or 2, bytes).
pub type Chunk = (u32, Arc<[u8]>);

impl Streams {
    /// Without any listener yet.
    pub fn new(stdin: Option<Arc<Pipe>>, terminal: Option<Arc<Pipe>>) -> Self {
        Self {
            stdin: Mutex::new(stdin),
            terminal,
            listeners: Mutex::default(),
        }
    }

    /// Output from now on; ends with the process.
    pub fn listen(&self) -> mpsc::Receiver<Chunk> {
        let (sender, receiver) = mpsc::channel(BEHIND);
        lock(&self.listeners).push(sender);
        receiver
    }

    /// Gives output to all attached clients. A slow one holds the process back and loses nothing; one that stands
    /// still is let go.
    pub async fn tell(&self, stream: u32, bytes: &[u8]) {
        let listeners = lock(&self.listeners).clone();
        if listeners.is_empty() {
            return;
        }
        let bytes: Arc<[u8]> = bytes.into();
        for listener in listeners {
            let sent = tokio::time::timeout(PATIENCE, listener.send((stream, Arc::clone(&bytes)))).await;
            if !matches!(sent, Ok(Ok(()))) {
                lock(&self.listeners).retain(|other| !other.same_channel(&listener));
            }
        }
    }
}

/// What a process writes to a pipe, in full, however long each chunk takes to be used.
pub struct Drain {
    pipe: Arc<Pipe>,
    ended: watch::Receiver<bool>,
}

impl Drain {
    /// `ended` tells of the process's end.
    pub fn new(pipe: Arc<Pipe>, ended: watch::Receiver<bool>) -> Self {
        Self { pipe, ended }
    }

    /// The next chunk. None at the end of the pipe, or when the process has ended and a stray that holds the pipe says
    /// nothing more.
    pub async fn next(&mut self) -> Option<Vec<u8>> {
        let quiet = async {
            // Without a sender nobody will tell any more.
            let _ = self.ended.wait_for(|ended| *ended).await;
            tokio::time::sleep(QUIET).await;
        };
        tokio::select! {
            biased;
            read = self.pipe.read() => read.ok().filter(|bytes| !bytes.is_empty()),
            () = quiet => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_slow_listener_loses_nothing() {
        let streams = Arc::new(Streams::new(None, None));
        let mut listener = streams.listen();
        let writer = Arc::clone(&streams);
        let count = 4 * BEHIND;
        tokio::spawn(async move {
            for number in 0..count {
                writer.tell(1, &number.to_ne_bytes()).await;
            }
        });
        drop(streams);
        let mut expected = 0..count;
        while let Some((_, bytes)) = listener.recv().await {
            assert_eq!(
                expected.next().map(|number| number.to_ne_bytes().to_vec()),
                Some(bytes.to_vec())
            );
            tokio::task::yield_now().await;
        }
        assert_eq!(expected.next(), None);
    }

    #[tokio::test]
    async fn a_stray_that_holds_the_pipe_is_not_waited_for() {
        let (read, write) = nix::unistd::pipe().expect("a pipe");
        let pipe = Arc::new(Pipe::new(read).expect("watched"));
        nix::unistd::write(&write, b"last words").expect("written");
        let (_sender, ended) = watch::channel(true);
        let mut text = Vec::new();
        let mut drain = Drain::new(pipe, ended);
        while let Some(bytes) = drain.next().await {
            text.extend(bytes);
        }
        assert_eq!(text, b"last words");
        drop(write);
    }
}
