//! A connection that is cut off when its other end stops reading, or does not begin to speak.
//!
//! Whoever asks for a large list or a watch and then does not read holds buffers and places of ours for as long as it
//! likes. Here the clock runs while bytes wait to be sent and none is taken; each byte that is taken sets it back.
//! An idle connection has nothing to send and may stay. After an upgrade the clock is off: a terminal that is held
//! with Ctrl-S is a user's right.
//!
//! The HTTP library tells versions apart by the first bytes and waits for those without a limit; so they have one here,
//! and over HTTP/1 the whole head of the first request. Later ones have the time of an idle connection.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Sleep;

/// What an HTTP/2 connection begins with (RFC 9113, 3.4); other first bytes are HTTP/1.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// What who serves a connection knows of it, and its stream does not.
#[derive(Default)]
pub struct Talk {
    /// The head of a request has come.
    pub begun: AtomicBool,
    /// It speaks another protocol by now, and is not supervised any more.
    pub upgraded: AtomicBool,
}

/// A stream whose writes fail when nothing of them is taken for some time.
pub struct Stalling<S> {
    inner: S,
    limit: Duration,
    /// Runs while a write waits.
    clock: Option<Pin<Box<Sleep>>>,
    talk: Arc<Talk>,
    /// Runs until HTTP/2 is spoken, or the first request over HTTP/1 has come.
    beginning: Option<Pin<Box<Sleep>>>,
    /// Bytes of the preface that have come.
    prefix: usize,
}

impl<S> Stalling<S> {
    /// Wraps a stream that must begin to speak within `head` and take bytes within `limit`.
    pub fn new(inner: S, head: Duration, limit: Duration, talk: Arc<Talk>) -> Stalling<S> {
        Stalling {
            inner,
            limit,
            clock: None,
            talk,
            beginning: Some(Box::pin(tokio::time::sleep(head))),
            prefix: 0,
        }
    }

    /// Looks at the first bytes.
    fn begun(&mut self, bytes: &[u8]) {
        let rest = &PREFACE[self.prefix..];
        let same = bytes.iter().zip(rest).take_while(|(a, b)| a == b).count();
        self.prefix += same;
        if self.prefix == PREFACE.len() {
            self.beginning = None;
        }
    }

    /// Lets the outcome of a write pass; one that waits for too long becomes an error.
    fn judge<T>(&mut self, outcome: Poll<io::Result<T>>, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        if outcome.is_ready() {
            self.clock = None;
            return outcome;
        }
        if self.talk.upgraded.load(Ordering::Relaxed) {
            return outcome;
        }
        let limit = self.limit;
        let clock = self
            .clock
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(limit)));
        match clock.as_mut().poll(cx) {
            Poll::Pending => Poll::Pending,
            Poll::Ready(()) => {
                let why = "the client does not read what it asked for";
                Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, why)))
            }
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Stalling<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.beginning.is_some() && self.talk.begun.load(Ordering::Relaxed) {
            self.beginning = None;
        }
        let before = buffer.filled().len();
        let outcome = Pin::new(&mut self.inner).poll_read(cx, buffer);
        let Some(clock) = self.beginning.as_mut() else {
            return outcome;
        };
        if outcome.is_pending() {
            return clock.as_mut().poll(cx).map(|()| {
                let why = "the client does not begin to speak";
                Err(io::Error::new(io::ErrorKind::TimedOut, why))
            });
        }
        self.begun(&buffer.filled()[before..]);
        outcome
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Stalling<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write(cx, bytes);
        self.judge(outcome, cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let outcome = Pin::new(&mut self.inner).poll_write_vectored(cx, slices);
        self.judge(outcome, cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_flush(cx);
        self.judge(outcome, cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let outcome = Pin::new(&mut self.inner).poll_shutdown(cx);
        self.judge(outcome, cx)
    }
}
