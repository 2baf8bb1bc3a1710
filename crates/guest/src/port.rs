//! The virtio-serial port as a byte stream.
//!
//! The port has no connections of its own. While no host agent has the other end open, reads return nothing and
//! polls report a hang-up; a session then ends, and [`Port::open`] waits for the next host.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The name that the hypervisor gives the port.
const NAME: &str = "podvisor";
/// How often to look for the port, or for a host at its other end: the kernel offers no event for either.
const LOOK: Duration = Duration::from_millis(10);

/// An open port with a host at the other end.
pub struct Port(AsyncFd<File>);

impl Port {
    /// Waits for the port and for a host.
    pub async fn open() -> io::Result<Self> {
        let path = loop {
            if let Some(path) = find()? {
                break path;
            }
            tokio::time::sleep(LOOK).await;
        };
        let file = loop {
            let open = File::options()
                .read(true)
                .write(true)
                .custom_flags(libc::O_NONBLOCK)
                .open(&path);
            match open {
                Ok(file) => break file,
                // The session before still holds it for a moment.
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) => tokio::time::sleep(LOOK).await,
                Err(error) => return Err(error),
            }
        };
        while !host_is_there(&file)? {
            tokio::time::sleep(LOOK).await;
        }
        Ok(Self(crate::sys::watch(file)?))
    }
}

fn find() -> io::Result<Option<PathBuf>> {
    let Ok(entries) = fs::read_dir("/sys/class/virtio-ports") else {
        return Ok(None);
    };
    for entry in entries {
        let entry = entry?;
        let name = fs::read_to_string(entry.path().join("name")).unwrap_or_default();
        if name.trim() == NAME {
            return Ok(Some(PathBuf::from("/dev").join(entry.file_name())));
        }
    }
    Ok(None)
}

fn host_is_there(file: &File) -> io::Result<bool> {
    let mut fds = [PollFd::new(file.as_fd(), PollFlags::POLLIN)];
    poll(&mut fds, PollTimeout::ZERO)?;
    Ok(!fds[0]
        .revents()
        .unwrap_or(PollFlags::empty())
        .contains(PollFlags::POLLHUP))
}

impl AsyncRead for Port {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let mut guard = ready!(self.0.poll_read_ready(context))?;
            let target = buffer.initialize_unfilled();
            match guard.try_io(|port| port.get_ref().read(target)) {
                Ok(Ok(length)) => {
                    buffer.advance(length);
                    return Poll::Ready(Ok(()));
                }
                Ok(Err(error)) => return Poll::Ready(Err(error)),
                Err(_) => {}
            }
        }
    }
}

impl AsyncWrite for Port {
    fn poll_write(self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        loop {
            let mut guard = ready!(self.0.poll_write_ready(context))?;
            if let Ok(result) = guard.try_io(|port| port.get_ref().write(bytes)) {
                return Poll::Ready(result);
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
