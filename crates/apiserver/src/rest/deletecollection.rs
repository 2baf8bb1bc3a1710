//! DELETE of a collection: lists, then deletes each, many at a time; answers the list of what was deleted.

use super::{Ctx, delete, list};
use crate::wire::options::ListOptions;
use crate::wire::{Body, Response};
use futures::StreamExt;
use kinds::status::Status;

/// Deletions in flight at a time: they share commits of the log.
const CONCURRENT: usize = 256;

/// Answers a DELETE of a collection.
pub async fn delete_collection(ctx: &Ctx, body: Body) -> Result<Response, Status> {
    let wanted = ctx.wanted(true)?;
    let mut options = ListOptions::parse(&ctx.query)?;
    options.validate(false)?;
    // Upstream goes through a collection by pages, and those show the very state that is named.
    if options.version_match.is_empty() && !matches!(options.resource_version.as_str(), "" | "0") {
        options.version_match = "Exact".into();
    }
    let delete_options = delete::options(ctx, body).await?;
    delete::warn_of_orphans(ctx, &delete_options);
    let (listing, revision) = list::read(ctx, &options).await.map_err(from_store)?;
    let work = listing.objects.clone().into_iter().map(|o| {
        let options = &delete_options;
        async move { delete::remove(ctx, o.namespace(), o.name(), options).await }
    });
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
    match first_error {
        Some(status) => Err(status),
        None => {
            ctx.fits(wanted, true)?;
            list::answer(ctx, listing, revision, wanted, options).await
        }
    }
}

/// Upstream asks its store itself for what is to be deleted, which names no time to come back.
fn from_store(mut status: Status) -> Status {
    if let (504, Some(details)) = (status.code, status.details.as_mut()) {
        details.retry_after_seconds = 0;
    }
    status
}
