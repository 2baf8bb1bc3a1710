//! WATCH: where it begins, and the stream of frames until somebody ends it.
//!
//! States of a stream: *initial* (synthetic ADDED events, for watches that begin with the state), *backlog* (what
//! happened since the revision asked for), *live*. It ends at its timeout, when the client goes, when the server
//! stops, or when the watcher was too slow; the client then goes on from the last revision it saw.
//! Its frames are a body without end, or messages of a [`websocket`](super::websocket).

use super::frames::Frames;
use super::{Ctx, websocket, write};
use crate::cache::resource::ListQuery;
use crate::cache::watcher::Told;
use crate::cache::{ChangeKind, Filter, Object, Subscription};
use crate::limits::WatchTicket;
use crate::registry::select::{self, Converted};
use crate::wire::negotiate::Wanted;
use crate::wire::options::{ListOptions, parse_single_revision};
use crate::wire::{Response, body};
use bytes::{Bytes, BytesMut};
use http::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::upgrade::OnUpgrade;
use kinds::status::Status;
use rand::RngExt;
use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// Frames are put together up to this size before they are sent, in bytes.
const CHUNK: usize = 64 * 1024;
/// Live chunks that follow each other within this time, or hold several events, are a rush: after [`RUSH`] of them the
/// next ones are [`GATHER`] apart. An event that comes alone goes out at once; those of a rush go out together, since
/// a write to a connection costs ten times what an event in it does.
const CLOSE: Duration = Duration::from_millis(4);
const RUSH: u32 = 3;
const GATHER: Duration = Duration::from_millis(8);
/// Time between bookmarks.
const BOOKMARKS: Duration = Duration::from_secs(60);
/// Time between the last bookmark and the end of a watch.
const BEFORE_END: Duration = Duration::from_secs(2);
/// Without `timeoutSeconds` a watch lasts between this and twice this, in seconds, so that clients spread out.
const MIN_TIMEOUT: u64 = 1800;

/// Answers a watch; over the raw connection when a WebSocket is asked for.
pub async fn watch(
    ctx: &Ctx,
    ticket: WatchTicket,
    connection: Option<OnUpgrade>,
) -> Result<Response, Status> {
    let connection = connection.filter(|_| websocket::is_asked(&ctx.headers));
    ctx.wanted(true)?;
    let mut options = ListOptions::parse(&ctx.query)?;
    // By way of `/watch/` its options are judged as those of a list.
    options.validate(options.watch)?;
    options.narrow_to(ctx.name())?;
    let wanted = ctx.wanted_stream()?;
    let filter = select::filter(ctx, &options)?;
    let asked = parse_single_revision(&options.resource_version)?;
    let caches = ctx.server.caches.clone();
    let from_state = match options.send_initial_events {
        Some(wanted) => wanted,
        None => matches!(asked, None | Some(0)),
    };
    let mut late = None;
    match asked {
        None => drop(ctx.server.fresh().await?),
        Some(0) => {}
        // Who wants the state of a revision waits for it; who wants what comes after it has all the time.
        Some(rv) if from_state => {
            let waited = caches.wait_for(rv).await;
            late = waited.err().map(|now| write::too_large_version(rv, now));
        }
        Some(_) => {}
    }
    let converted = Converted::read(ctx, &options)?;
    let mut frames = Frames::new(
        ctx.server.clone(),
        ctx.served.clone(),
        wanted,
        &options.include_object,
    )?;
    if let Some(late) = late {
        return answer(ctx, wanted, connection, only(frames.error(&late)));
    }
    let cache = &ctx.served.cache;
    let mut initial = VecDeque::new();
    let mut inside = HashSet::new();
    let (subscription, mark_end) = if from_state {
        let (objects, subscription) = cache.watch_from_now(filter, || caches.revision());
        initial = objects.into();
        // Whoever begins with the state is told where it ends (upstream: `SetListOptionsDefaults`).
        (subscription, options.bookmarks && options.watch)
    } else {
        let since = asked.filter(|rv| *rv != 0).unwrap_or_else(|| caches.revision());
        if let Some(terms) = &converted {
            inside = known(ctx, filter.clone(), since, terms).await?;
        }
        match cache.watch(filter, since) {
            Ok(subscription) => (subscription, false),
            Err(old) => {
                let gone = Status::expired(format!("too old resource version: {since} ({})", old.oldest));
                return answer(ctx, wanted, connection, only(frames.error(&gone)));
            }
        }
    };
    if let Some(terms) = converted {
        frames.select(terms, inside);
    }
    let seconds = options.timeout_seconds.filter(|s| *s > 0).unwrap_or_else(|| {
        let spread = rand::rng().random_range(0..MIN_TIMEOUT);
        MIN_TIMEOUT + spread
    });
    let now = Instant::now();
    let deadline = now + Duration::from_secs(seconds);
    let stream = Stream {
        begun: subscription.since,
        sent: subscription.since,
        initial,
        mark_end,
        subscription,
        frames,
        applied: caches.subscribe(),
        deadline,
        next_bookmark: bookmark_after(now, deadline).filter(|_| options.bookmarks),
        alarm: Box::pin(tokio::time::sleep_until(now)),
        rush: 0,
        last_chunk: now,
        stop: ctx.server.stop.clone(),
        _ticket: ticket,
    };
    let chunks = futures::stream::unfold(stream, |mut s| async move {
        // What is not told makes no frame.
        loop {
            let chunk = s.next_chunk().await?;
            if !chunk.is_empty() {
                return Some((Ok(chunk), s));
            }
        }
    });
    answer(ctx, wanted, connection, chunks)
}

/// Keys of the objects that a client who begins at a revision knows of a selection by converted fields. Of a state that is
/// not kept any more, nothing.
async fn known(
    ctx: &Ctx,
    filter: Filter,
    since: u64,
    terms: &Converted,
) -> Result<HashSet<(String, String)>, Status> {
    let query = ListQuery {
        filter,
        at: Some(since),
        ..ListQuery::default()
    };
    let Ok(listing) = ctx.served.cache.list(&query) else {
        return Ok(HashSet::new());
    };
    let listing = super::list::narrow(ctx, listing, terms).await?;
    let key = |o: &Arc<Object>| (o.namespace().to_owned(), o.name().to_owned());
    Ok(listing.objects.iter().map(key).collect())
}

/// When the next bookmark is due: every minute, and shortly before the end, so that the client goes on from there.
fn bookmark_after(now: Instant, deadline: Instant) -> Option<Instant> {
    let due = (now + BOOKMARKS).min(deadline.checked_sub(BEFORE_END)?);
    (due > now).then_some(due)
}

/// A stream of one frame.
fn only(frame: Bytes) -> impl futures::Stream<Item = Result<Bytes, crate::wire::BoxError>> + Send + 'static {
    futures::stream::iter([Ok(frame)])
}

fn answer(
    ctx: &Ctx,
    wanted: Wanted,
    connection: Option<OnUpgrade>,
    chunks: impl futures::Stream<Item = Result<Bytes, crate::wire::BoxError>> + Send + 'static,
) -> Result<Response, Status> {
    if let Some(connection) = connection {
        return websocket::answer(&ctx.headers, connection, wanted.encoding, chunks);
    }
    let mut response = http::Response::new(body::stream(chunks));
    let headers = response.headers_mut();
    headers.insert(
        CONTENT_TYPE,
        HeaderValue::from_static(wanted.encoding.watch_media_type()),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    Ok(response)
}

struct Stream {
    initial: VecDeque<Arc<Object>>,
    /// A bookmark tells the end of the initial events.
    mark_end: bool,
    subscription: Subscription,
    frames: Frames,
    applied: tokio::sync::watch::Receiver<u64>,
    /// The revision that the client began with, which may be yet to come: nothing up to it is told.
    begun: u64,
    /// The last revision the client knows.
    sent: u64,
    deadline: Instant,
    next_bookmark: Option<Instant>,
    /// Goes off when a bookmark or the end is due.
    alarm: Pin<Box<Sleep>>,
    /// Live chunks of the present rush, and when the last one went out.
    rush: u32,
    last_chunk: Instant,
    stop: tokio_util::sync::CancellationToken,
    _ticket: WatchTicket,
}

impl Stream {
    async fn next_chunk(&mut self) -> Option<Bytes> {
        let mut out = BytesMut::new();
        while out.len() < CHUNK
            && let Some(object) = self.initial.pop_front()
        {
            self.frames.event(&mut out, ChangeKind::Added, &object).await;
        }
        if self.initial.is_empty() && std::mem::take(&mut self.mark_end) {
            self.frames.bookmark(&mut out, self.sent, true);
        }
        if out.is_empty() && self.subscription.backlog.is_empty() {
            self.wait(&mut out).await?;
            let next = self.last_chunk + GATHER;
            if self.rush >= RUSH && Instant::now() < next {
                tokio::time::sleep_until(next).await;
            }
        }
        let mut events = 0;
        // Everything that is known by now goes out in one chunk.
        while out.len() < CHUNK && self.initial.is_empty() {
            match self.subscription.backlog.pop_front() {
                Some(told) => {
                    events += 1;
                    self.put(&mut out, told).await;
                }
                None => match self.subscription.live.try_recv() {
                    Some(batch) => self.subscription.backlog.extend(batch),
                    None => break,
                },
            }
        }
        let now = Instant::now();
        let close = events > 1 || now.duration_since(self.last_chunk) < CLOSE;
        self.rush = if close { self.rush.saturating_add(1) } else { 0 };
        self.last_chunk = now;
        Some(out.freeze())
    }

    /// Waits for live events or a reason to send a bookmark; `None` ends the watch.
    async fn wait(&mut self, out: &mut BytesMut) -> Option<()> {
        loop {
            let due = self.next_bookmark.unwrap_or(self.deadline).min(self.deadline);
            if self.alarm.deadline() != due {
                self.alarm.as_mut().reset(due);
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                batch = self.subscription.live.recv() => {
                    self.subscription.backlog.extend(batch?);
                    return Some(());
                }
                () = self.alarm.as_mut() => {
                    if due == self.deadline {
                        return None;
                    }
                    // Read before the queue is found empty: all events up to here are in the queue already.
                    let applied = *self.applied.borrow();
                    if !self.subscription.live.is_empty() {
                        continue;
                    }
                    self.next_bookmark = bookmark_after(Instant::now(), self.deadline);
                    if applied >= self.begun {
                        self.sent = self.sent.max(applied);
                        self.frames.bookmark(out, self.sent, false);
                        return Some(());
                    }
                }
            }
        }
    }

    async fn put(&mut self, out: &mut BytesMut, (kind, object): Told) {
        if object.revision() <= self.begun {
            return;
        }
        self.sent = self.sent.max(object.revision());
        self.frames.event(out, kind, &object).await;
    }
}
