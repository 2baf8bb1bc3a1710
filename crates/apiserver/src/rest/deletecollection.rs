//! DELETE of a collection: lists, then deletes each, many at a time; answers the list of what was deleted.

use super::{Ctx, delete, list, render};
use crate::wire::options::ListOptions;
use crate::wire::{Body, Response, body};
use bytes::{BufMut, BytesMut};
use futures::StreamExt;
use http::StatusCode;
use kinds::status::Status;

/// Deletions in flight at a time: they share commits of the log.
const CONCURRENT: usize = 256;

/// Answers a DELETE of a collection.
pub async fn delete_collection(ctx: &Ctx, body: Body) -> Result<Response, Status> {
    let options = ListOptions::parse(&ctx.query)?;
    options.validate(false)?;
    let wanted = ctx.wanted(true)?;
    let delete_options = delete::options(ctx, body).await?;
    delete::warn_of_orphans(ctx, &delete_options);
    let (listing, revision) = list::read(ctx, &options).await?;
    let options = &delete_options;
    let work = listing
        .objects
        .clone()
        .into_iter()
        .map(|o| async move { delete::remove(ctx, o.namespace(), o.name(), options).await });
    let mut results = futures::stream::iter(work).buffer_unordered(CONCURRENT);
    let mut first_error = None;
    while let Some(result) = results.next().await {
        match result {
            Ok(_) => {}
            // Somebody else deleted it: that is what was wanted.
            Err(status) if status.code == 404 => {}
            Err(status) => first_error = first_error.or(Some(status)),
        }
    }
    drop(results);
    if let Some(status) = first_error {
        return Err(status);
    }
    let kind = ctx.served.kind;
    let mut out =
        BytesMut::with_capacity(listing.objects.iter().map(|o| o.bytes().len() + 1).sum::<usize>() + 256);
    out.put_slice(
        format!(
            r#"{{"kind":"{}","apiVersion":"{}","metadata":{{"resourceVersion":"{revision}"}},"items":["#,
            kind.list_kind,
            ctx.served.api_version()
        )
        .as_bytes(),
    );
    for (i, object) in listing.objects.iter().enumerate() {
        if i > 0 {
            out.put_u8(b',');
        }
        if ctx.served.shows_stored() {
            out.put_u8(b'{');
            out.put_slice(object.item_tail());
        } else {
            let mut value = render::decode(&ctx.server, &ctx.served, object.bytes()).await?;
            if let Some(fields) = value.as_object_mut()
                && ctx.served.custom.is_none()
            {
                fields.remove("kind");
                fields.remove("apiVersion");
            }
            out.put_slice(value.to_string().as_bytes());
        }
    }
    out.put_slice(b"]}");
    let bytes = out.freeze();
    if wanted.encoding == crate::wire::negotiate::Encoding::Json {
        let length = bytes.len();
        return Ok(render::sized(
            ctx,
            body::answer(StatusCode::OK, body::JSON, bytes),
            length,
        ));
    }
    let value = serde_json::from_slice(&bytes).map_err(|e| Status::internal(e.to_string()))?;
    render::value_answer(ctx, StatusCode::OK, &value, wanted)
}
