//! `token`: a token for a service account. Admission judges the request before there is one: what a host may ask for is
//! decided there, and webhooks see it.

use super::bodies;
use crate::admit::Operation;
use crate::rest::{Ctx, render};
use crate::wire::options::WriteOptions;
use crate::wire::{Body, Response, input};
use http::StatusCode;
use kinds::status::Status;
use serde_json::Value;

/// Answers a POST on `token`.
pub async fn issue(ctx: &Ctx, request: Body) -> Result<Response, Status> {
    let bytes = input::read(request).await?;
    let options = WriteOptions::parse(&ctx.query, "CreateOptions")?;
    let mut asked = bodies::read(ctx, &bodies::TOKEN_REQUEST, &bytes, options.validation)?;
    asked["apiVersion"] = "authentication.k8s.io/v1".into();
    asked["kind"] = "TokenRequest".into();
    // The Pod that it is for may have been made a moment ago.
    ctx.server.fresh().await?;
    let (value, dry_run) = (options.to_value("CreateOptions"), options.dry_run);
    ctx.admit(Operation::Create, &mut asked, None, &value, dry_run)
        .await?;
    let passed = ctx
        .validate(Operation::Create, &mut asked, None, &value, dry_run)
        .await?;
    let issued = crate::access::token_request(ctx, asked.clone());
    let made = issued.is_ok();
    ctx.settle(passed, Operation::Create, &mut asked, None, &value, dry_run, made)
        .await;
    let mut issued = issued?;
    if issued["spec"].get("boundObjectRef").is_none() {
        issued["spec"]["boundObjectRef"] = Value::Null;
    }
    render::value_answer(ctx, StatusCode::CREATED, &issued, ctx.wanted(false)?)
}
