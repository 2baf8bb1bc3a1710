//! GET of one object.

use super::{Ctx, render};
use crate::request::{parameter, query_true};
use crate::wire::Response;
use crate::wire::options::parse_single_revision;
use http::StatusCode;
use kinds::status::Status;

/// Answers the object.
pub async fn get(ctx: &Ctx) -> Result<Response, Status> {
    if parameter(&ctx.query, "export").is_some_and(|value| query_true(&value)) {
        let why = "the export parameter, deprecated since v1.14, is no longer supported";
        return Err(Status::bad_request(why));
    }
    // Of the options of lists only these two mean something here.
    let given = |name: &str| parameter(&ctx.query, name).unwrap_or_default();
    let wanted = ctx.wanted(true)?;
    match parse_single_revision(&given("resourceVersion"))? {
        // `0` takes what is there; a revision waits for it; without one the latest write is waited for.
        Some(0) => {}
        Some(revision) => ctx
            .server
            .caches
            .wait_for(revision)
            .await
            .map_err(|at| super::write::too_large_version(revision, at))?,
        None => drop(ctx.server.fresh().await?),
    }
    let object = ctx
        .served
        .cache
        .get(ctx.namespace(), ctx.name())
        .ok_or_else(|| ctx.not_found())?;
    render::object(
        ctx,
        StatusCode::OK,
        object.bytes().clone(),
        wanted,
        &given("includeObject"),
    )
    .await
}
