//! LIST: which state, which page, and the bytes of the answer, made while they are sent.

mod token;

use super::render;
use super::{Ctx, write};
use crate::cache::resource::{ListQuery, Listing};
use crate::cache::{Object, TooOld};
use crate::registry::select::{self, Converted};
use crate::stalled_stream::PIECE;
use crate::wire::negotiate::{Encoding, Shape, Wanted};
use crate::wire::options::ListOptions;
use crate::wire::{Response, body, compress};
use bytes::{BufMut, Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderValue};
use kinds::status::Status;
use serde_json::{Value, json};
use std::sync::Arc;
use token::Token;

/// Bytes of a list that are put together at a time: two pieces as they are sent. Buffers of this size the allocator has at
/// hand, and the processor in its nearest cache.
const CHUNK: usize = 2 * PIECE;

const CONTINUE_TOO_OLD: &str = "The provided continue parameter is too old to display a consistent list result. You can \
    start a new list without the continue parameter, or use the continue token in this response to retrieve the \
    remainder of the results. Continuing with the provided token results in an inconsistent list - objects that were \
    created, modified, or deleted between the time the first chunk was returned and now may show up in the list.";

/// Answers a list.
pub async fn list(ctx: &Ctx) -> Result<Response, Status> {
    let wanted = ctx.wanted(true)?;
    let mut options = ListOptions::parse(&ctx.query)?;
    options.validate(false)?;
    options.narrow_to(ctx.name())?;
    let (listing, revision) = read(ctx, &options).await?;
    ctx.fits(wanted, true)?;
    answer(ctx, listing, revision, wanted, options).await
}

/// Answers objects as a list.
pub async fn answer(
    ctx: &Ctx,
    listing: Listing,
    revision: u64,
    wanted: Wanted,
    options: ListOptions,
) -> Result<Response, Status> {
    let token = listing.more_after.as_ref().map(|key| {
        Token {
            rv: revision as i64,
            start: key.clone(),
        }
        .encode(ctx.namespace())
    });
    let head = Head {
        custom: ctx.served.custom.is_some() && wanted.shape == Shape::Object,
        revision,
        token,
        remaining: listing.remaining,
    };
    if ctx.served.shows_stored() && wanted.encoding == Encoding::Json && !wanted.pretty {
        match wanted.shape {
            Shape::Object => return Ok(streamed(ctx, listing.objects, &head)),
            Shape::Partial(_) | Shape::Table(_) => {}
        }
    }
    let converted = match ctx.served.shows_stored() {
        true => None,
        false => Some(render::decode_all(&ctx.server, &ctx.served, &listing.objects).await?),
    };
    // Decoding thousands of objects is work that must not hold up other requests of this thread.
    let served = ctx.served.clone();
    let made = tokio::task::spawn_blocking(move || {
        let values = match converted {
            Some(values) => values,
            None => {
                let decoded = listing.objects.iter().map(|o| serde_json::from_slice(o.bytes()));
                let decoded: Result<Vec<Value>, _> = decoded.collect();
                decoded.map_err(|e| Status::internal(e.to_string()))?
            }
        };
        build(&served, &values, &head, wanted, &options)
    });
    let (media, bytes) = made.await.map_err(|e| Status::internal(e.to_string()))??;
    let length = bytes.len();
    Ok(render::sized(
        ctx,
        body::answer(http::StatusCode::OK, media, bytes),
        length,
    ))
}

/// Reads the page that the options ask for, and the revision it is the state of.
pub async fn read(ctx: &Ctx, options: &ListOptions) -> Result<(Listing, u64), Status> {
    let filter = select::filter(ctx, options)?;
    // Of a token that is none nothing else is told.
    let token = match options.continue_token.as_str() {
        "" => None,
        text => Some(Token::decode(text, ctx.namespace())?),
    };
    if token.is_some() && !matches!(options.resource_version.as_str(), "" | "0") {
        return Err(Status::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    let asked = options.revision()?;
    // "Any state" is shown as a whole, whatever limit comes with it (upstream: `computeListLimit` of its cacher).
    let whole = token.is_none() && options.resource_version == "0";
    let mut query = ListQuery {
        filter,
        limit: if whole { 0 } else { options.limit },
        ..ListQuery::default()
    };
    let caches = &ctx.server.caches;
    let revision;
    if let Some(token) = &token {
        query.after = Some(token.start.clone());
        if token.rv >= 0 {
            let at = token.rv as u64;
            caches
                .wait_for(at)
                .await
                .map_err(|now| write::too_large_version(at, now))?;
            query.at = Some(at);
            revision = at;
        } else {
            revision = ctx.server.fresh().await?;
        }
    } else {
        let exact = options.version_match == "Exact"
            || (options.version_match.is_empty() && options.limit > 0 && asked.is_some_and(|rv| rv > 0));
        // Exactly the state of no revision is that of now.
        match asked.filter(|rv| *rv > 0 || !exact) {
            None => revision = ctx.server.fresh().await?,
            Some(rv) => {
                caches
                    .wait_for(rv)
                    .await
                    .map_err(|now| write::too_large_version(rv, now))?;
                if exact {
                    query.at = Some(rv);
                    revision = rv;
                } else {
                    revision = caches.revision();
                }
            }
        }
    }
    if query.at.is_none() && query.limit > 0 {
        // The next page must show the same state, so fix it now.
        query.at = Some(revision);
    }
    let converted = Converted::read(ctx, options)?;
    // Pages end where the log was compacted, though the cache may still know more.
    let listing = match query.at {
        Some(at) if at < caches.forgotten() => Err(TooOld {
            oldest: caches.forgotten(),
        }),
        _ => ctx.served.cache.list(&query),
    };
    match listing {
        Ok(listing) => match converted {
            Some(terms) => Ok((narrow(ctx, listing, &terms).await?, revision)),
            None => Ok((listing, revision)),
        },
        Err(_) if query.after.is_some() => Err(continue_too_old(ctx, &query)),
        Err(_) if asked.is_none() || asked == Some(0) => {
            // The state moved on under us; the current one is as good.
            query.at = None;
            let listing = ctx.served.cache.list(&query).unwrap_or_default();
            Ok((listing, caches.revision()))
        }
        Err(_) => Err(Status::expired(
            "The resourceVersion for the provided list is too old.",
        )),
    }
}

/// Leaves what the terms of a selector want that only converted objects can tell.
pub async fn narrow(ctx: &Ctx, mut listing: Listing, terms: &Converted) -> Result<Listing, Status> {
    let values = render::decode_all(&ctx.server, &ctx.served, &listing.objects).await?;
    let mut wanted = values.iter().map(|value| terms.matches(value));
    listing.objects.retain(|_| wanted.next().unwrap_or(false));
    listing.remaining = None;
    Ok(listing)
}

fn continue_too_old(ctx: &Ctx, query: &ListQuery) -> Status {
    let start = query.after.clone().unwrap_or_default();
    let mut status = Status::expired(CONTINUE_TOO_OLD);
    status.set_continue(Token { rv: -1, start }.encode(ctx.namespace()));
    status
}

/// The list's own metadata.
struct Head {
    revision: u64,
    token: Option<String>,
    remaining: Option<usize>,
    /// Lists of whole custom objects tell that there is no more.
    custom: bool,
}

impl Head {
    fn metadata(&self) -> Value {
        let mut metadata = json!({"resourceVersion": self.revision.to_string()});
        if self.custom {
            metadata["continue"] = json!("");
        }
        if let Some(token) = &self.token {
            metadata["continue"] = json!(token);
            if let Some(left) = self.remaining {
                metadata["remainingItemCount"] = json!(left);
            }
        }
        metadata
    }
}

/// The common answer: stored bytes one after the other. Memory holds one chunk, not the list.
fn streamed(ctx: &Ctx, objects: Vec<Arc<Object>>, head: &Head) -> Response {
    let kind = ctx.served.kind;
    let start = format!(
        r#"{{"kind":"{}","apiVersion":"{}","metadata":{},"items":["#,
        kind.list_kind,
        ctx.served.api_version(),
        head.metadata()
    );
    // Items of built-in lists carry no kind of their own; custom resources do, as upstream.
    let whole = ctx.served.custom.is_some();
    let total: usize = start.len() + 3 + objects.iter().map(|o| o.bytes().len() + 1).sum::<usize>();
    let mut items = ItemBytes {
        start: Some(start),
        objects: objects.into_iter(),
        current: None,
        whole,
        first: true,
        done: false,
    };
    let mut response = if total <= CHUNK {
        let bytes = items.next_chunk(total).unwrap_or_default();
        body::answer(http::StatusCode::OK, body::JSON, bytes)
    } else {
        let chunks = futures::stream::iter(std::iter::from_fn(move || items.next_chunk(CHUNK).map(Ok)));
        let mut response = http::Response::new(body::stream(chunks));
        response
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static(body::JSON));
        response
    };
    if total > compress::THRESHOLD && compress::accepts_gzip(&ctx.headers) {
        response = compress::gzip(response);
    }
    response
}

struct ItemBytes {
    start: Option<String>,
    objects: std::vec::IntoIter<Arc<Object>>,
    /// The object that is being written, and how many of its bytes are.
    current: Option<(Arc<Object>, usize)>,
    whole: bool,
    first: bool,
    done: bool,
}

impl ItemBytes {
    /// The next bytes, at most `size` of them behind the start; `None` behind the end.
    fn next_chunk(&mut self, size: usize) -> Option<Bytes> {
        if self.done {
            return None;
        }
        let mut out = BytesMut::with_capacity(size);
        if let Some(start) = self.start.take() {
            out.put_slice(start.as_bytes());
        }
        loop {
            let room = size.saturating_sub(out.len());
            if let Some((object, written)) = &mut self.current {
                let bytes = match self.whole {
                    true => object.bytes(),
                    false => object.item_tail(),
                };
                let end = bytes.len().min(*written + room);
                out.put_slice(&bytes[*written..end]);
                *written = end;
                if end < bytes.len() {
                    break;
                }
                self.current = None;
                continue;
            }
            // What stands between two objects, or behind the last, is not torn apart.
            if room < 3 {
                break;
            }
            let Some(object) = self.objects.next() else {
                out.put_slice(b"]}\n");
                self.done = true;
                break;
            };
            if !std::mem::take(&mut self.first) {
                out.put_u8(b',');
            }
            if !self.whole {
                out.put_u8(b'{');
            }
            self.current = Some((object, 0));
        }
        Some(out.freeze())
    }
}

/// An object as an item: those of built-in lists carry no kind of their own.
fn item(served: &crate::registry::Served, value: &Value) -> Value {
    let mut item = value.clone();
    if let (true, Some(fields)) = (served.custom.is_none(), item.as_object_mut()) {
        fields.remove("kind");
        fields.remove("apiVersion");
    }
    item
}

/// Every other shape and encoding.
fn build(
    served: &crate::registry::Served,
    values: &[Value],
    head: &Head,
    wanted: Wanted,
    options: &ListOptions,
) -> Result<(&'static str, Vec<u8>), Status> {
    let list = match wanted.shape {
        Shape::Table(version) => {
            let mut table = render::table(served, values, version, &options.include_object)?;
            table["metadata"] = head.metadata();
            table
        }
        Shape::Partial(version) => json!({
            "kind": "PartialObjectMetadataList",
            "apiVersion": format!("meta.k8s.io/{version}"),
            "metadata": head.metadata(),
            "items": values.iter().map(|v| render::partial(v, version)).collect::<Vec<_>>(),
        }),
        Shape::Object => json!({
            "kind": served.kind.list_kind,
            "apiVersion": served.api_version(),
            "metadata": head.metadata(),
            "items": values.iter().map(|v| item(served, v)).collect::<Vec<_>>(),
        }),
    };
    render::encode(&list, wanted)
}
