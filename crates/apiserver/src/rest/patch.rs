//! PATCH: the four patch types, by content type.

use super::transform::Transform;
use super::{Ctx, meta, set_meta, update};
use crate::wire::input;
use crate::wire::options::{FieldValidation, WriteOptions};
use crate::wire::{Body, Response};
use kinds::field::{FieldError, Path};
use kinds::status::Status;
use serde_json::Value;

/// Operations that one JSON patch may have.
const MAX_OPERATIONS: usize = 10_000;

/// Answers a PATCH to an object or to its subresource `sub`.
pub async fn patch(ctx: &Ctx, body: Body, sub: Option<&str>) -> Result<Response, Status> {
    let options = WriteOptions::parse(&ctx.query)?;
    let wanted = ctx.wanted(true)?;
    let media = input::media_type(&ctx.headers);
    let bytes = input::read(body).await?;
    let transform = read(ctx, &media, &bytes, &options)?;
    let mut options = options;
    if transform.is_apply() {
        // Unknown fields were judged on what was applied, not on what comes out.
        options.validation = FieldValidation::Ignore;
    }
    let changed = update::change(ctx, &transform, sub, &options, "PatchOptions").await?;
    update::respond(ctx, changed, wanted).await
}

/// Decodes a patch.
pub fn read(ctx: &Ctx, media: &str, bytes: &[u8], options: &WriteOptions) -> Result<Transform, Status> {
    if options.force.is_some() && media != "application/apply-patch+yaml" {
        let error = FieldError::forbidden(&Path::new("force"), "may not be specified for non-apply patch");
        return Err(Status::invalid("PatchOptions", "meta.k8s.io", "", vec![error]));
    }
    let json = || -> Result<Value, Status> { Ok(machinery::parse_json_checked(bytes)?.0) };
    match media {
        "application/json-patch+json" => {
            let patch = json()?;
            let count = patch.as_array().map_or(0, Vec::len);
            if count > MAX_OPERATIONS {
                return Err(Status::request_entity_too_large(format!(
                    "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
                )));
            }
            Ok(Transform::Json(patch))
        }
        "application/merge-patch+json" => Ok(Transform::Merge(json()?)),
        "application/strategic-merge-patch+json" if ctx.served.custom.is_none() => {
            Ok(Transform::Strategic(json()?))
        }
        "application/apply-patch+yaml" => apply(ctx, bytes, options),
        other => Err(Status::unsupported_media_type(format!(
            "the body of the request was in an unknown format - accepted media types include: {} (got {other})",
            match ctx.served.custom {
                Some(_) =>
                    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
                None =>
                    "application/json-patch+json, application/merge-patch+json, \
                     application/strategic-merge-patch+json, application/apply-patch+yaml",
            }
        ))),
    }
}

/// The first field that a strict check found unknown.
fn undeclared(status: &Status) -> Option<String> {
    let found = status.message.split_once("strict decoding error: ")?.1;
    let (_, rest) = found.split_once("unknown field \"")?;
    rest.split_once('"').map(|(field, _)| field.to_owned())
}

fn untyped(ctx: &Ctx, field: &str) -> Status {
    let (kind, place) = (ctx.served.kind, [ctx.namespace(), ctx.name()].join("/"));
    let mut status = Status::internal("");
    status.reason = "";
    status.message = format!(
        "failed to create typed patch object ({place}; {}, Kind={}): .{field}: field not declared in schema",
        ctx.served.api_version(),
        kind.kind
    );
    status
}

fn apply(ctx: &Ctx, bytes: &[u8], options: &WriteOptions) -> Result<Transform, Status> {
    if options.field_manager.is_empty() {
        let error = FieldError::required(&Path::new("fieldManager"), "is required for apply patch");
        return Err(Status::invalid("PatchOptions", "meta.k8s.io", "", vec![error]));
    }
    let (mut applied, duplicates) = machinery::parse_yaml_checked(bytes)?;
    if !applied.is_object() {
        return Err(Status::bad_request("error decoding YAML: the body is no object"));
    }
    let name = meta(&applied, "name").to_string();
    if name.is_empty() {
        set_meta(&mut applied, "name", ctx.name());
    } else if name != ctx.name() {
        return Err(super::transform::name_mismatch(&name, ctx.name()));
    }
    let input = input::Input {
        value: applied,
        duplicates,
    };
    let strict = options.validation == FieldValidation::Strict;
    let checked = super::create::check_input(ctx, input, FieldValidation::Strict);
    let (applied, _) = checked.map_err(|status| match undeclared(&status) {
        // What the schema does not know cannot be owned, whatever the mode is.
        Some(field) if !strict => untyped(ctx, &field),
        _ => status,
    })?;
    if applied
        .pointer("/metadata/managedFields")
        .is_some_and(|m| !m.is_null())
    {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    Ok(Transform::Apply {
        applied,
        manager: options.field_manager.clone(),
        force: options.force.unwrap_or(false),
    })
}
