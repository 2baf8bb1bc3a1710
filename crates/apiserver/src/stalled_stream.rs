//! A stream of an HTTP/2 connection that is cut off when its client opens no window for it.
//!
//! [`crate::stall`] ends connections that take no bytes at all. On one that does, a client may still leave single answers
//! unread: each holds its buffers, its place in the concurrency limits and one of the connection's streams for ever. The
//! HTTP library asks a body for more only when there is room for it, so a body that has given a piece and is not asked
//! again is one whose client does not read; one that has nothing to give (a quiet watch) was asked and may wait.
//!
//! A body cannot end an answer while nobody asks it. So each stream runs in a task of [`Streams`], the connection's
//! executor, beside the clock of its answer: when that runs out the task is dropped, and the library resets the stream.
//!
//! A GET of one object is answered out of the cache without ever waiting. Such a stream is tried at once, where it came
//! in: no task is made for it, nothing is woken, no clock is set.

use crate::wire::Body;
use bytes::Bytes;
use http_body::{Frame, SizeHint};
use http_body_util::BodyExt;
use parking_lot::Mutex;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;
use tokio::time::Instant;

/// Largest piece of a body that is handed over at once, in bytes: with the nine of its frame's head it fills one TLS record. A
/// frame that is longer by a little than a record is sent as two, and what the library takes at once it keeps.
pub(crate) const PIECE: usize = (16 << 10) - 9;

/// The clock of one answer.
pub(crate) struct Clock {
    limit: Duration,
    /// Since when a piece that was given waits for the next question.
    given: Mutex<Option<Instant>>,
}

impl Clock {
    /// Ends when a piece has waited for too long; never while the answer moves.
    async fn runs_out(&self) {
        loop {
            let since = *self.given.lock();
            let end = since.unwrap_or_else(Instant::now) + self.limit;
            tokio::time::sleep_until(end).await;
            if since.is_some() && *self.given.lock() == since {
                return;
            }
        }
    }
}

/// The executor of one connection.
#[derive(Clone, Default)]
pub(crate) struct Streams {
    /// What is known of the request that was taken last, until its task is spawned: the library does one right after the
    /// other.
    next: Arc<Mutex<Option<Next>>>,
}

/// A request whose stream is about to be run.
struct Next {
    clock: Arc<Clock>,
    at_once: bool,
}

impl Streams {
    /// The clock of a request that was just taken. `at_once` says that its answer is there without waiting, most likely.
    pub(crate) fn clock(&self, limit: Duration, at_once: bool) -> Arc<Clock> {
        let clock = Arc::new(Clock {
            limit,
            given: Mutex::new(None),
        });
        *self.next.lock() = Some(Next {
            clock: clock.clone(),
            at_once,
        });
        clock
    }
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, stream: F) {
        let Some(Next { clock, at_once }) = self.next.lock().take() else {
            drop(tokio::spawn(stream));
            return;
        };
        let mut stream = Box::pin(stream);
        // Nobody is woken through this first look: whatever still waits is looked at again by its own task.
        let mut nobody = Context::from_waker(Waker::noop());
        if at_once && stream.as_mut().poll(&mut nobody).is_ready() {
            return;
        }
        drop(tokio::spawn(async move {
            tokio::select! {
                _ = stream => {}
                () = clock.runs_out() => tracing::debug!("the client does not read what it asked for; the stream is reset"),
            }
        }));
    }
}

/// A body that tells a clock when it is asked, and hands over large pieces in parts.
struct Watched {
    inner: Body,
    rest: Bytes,
    clock: Arc<Clock>,
}

/// The body under the eyes of a clock.
pub(crate) fn watched(body: Body, clock: Arc<Clock>) -> Body {
    Watched {
        inner: body,
        rest: Bytes::new(),
        clock,
    }
    .boxed_unsync()
}

impl Watched {
    fn part(&mut self) -> Frame<Bytes> {
        let length = self.rest.len().min(PIECE);
        let part = self.rest.split_to(length);
        *self.clock.given.lock() = Some(Instant::now());
        Frame::data(part)
    }
}

impl http_body::Body for Watched {
    type Data = Bytes;
    type Error = crate::wire::body::BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        *self.clock.given.lock() = None;
        if !self.rest.is_empty() {
            return Poll::Ready(Some(Ok(self.part())));
        }
        let frame = ready!(Pin::new(&mut self.inner).poll_frame(cx));
        Poll::Ready(match frame {
            Some(Ok(frame)) => match frame.into_data() {
                Ok(data) => {
                    self.rest = data;
                    Some(Ok(self.part()))
                }
                Err(trailers) => Some(Ok(trailers)),
            },
            other => other,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower() + rest);
        if let Some(upper) = inner.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::body;
    use http_body::Body as _;

    #[tokio::test]
    async fn large_pieces_come_in_parts_and_nothing_is_lost() {
        let bytes: Vec<u8> = (0..PIECE * 2 + 10).map(|i| i as u8).collect();
        let clock = Streams::default().clock(Duration::from_millis(20), false);
        let mut all = watched(body::full(bytes.clone()), clock.clone());
        assert_eq!(all.size_hint().exact(), Some(bytes.len() as u64));
        let mut got = Vec::new();
        while let Some(frame) = all.frame().await {
            let data = frame.expect("no error").into_data().expect("data");
            assert!(data.len() <= PIECE);
            got.extend_from_slice(&data);
            if got.len() == PIECE {
                // Given, and not asked again.
                clock.runs_out().await;
            }
        }
        assert!(got == bytes && all.is_end_stream());
    }
}
