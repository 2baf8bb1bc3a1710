//! PATCH: the four patch types, by content type.

use super::transform::{Patch, Transform};
use super::{Ctx, meta, update};
use crate::wire::input;
use crate::wire::options::{FieldValidation, WriteOptions};
use crate::wire::{Body, Response};
use kinds::status::{Details, Status};
use serde_json::Value;
use std::collections::HashSet;

/// Operations that one JSON patch may have.
const MAX_OPERATIONS: usize = 10_000;
/// What stands before the faults of a patch that is no JSON.
const DECODING: &str = "error decoding patch: ";

/// What is said of a field that the schema does not know, after its path.
const UNDECLARED: &str = ": field not declared in schema";

const APPLY: &str = "application/apply-patch+yaml";

/// Answers a PATCH to an object or to its subresource `sub`.
pub async fn patch(ctx: &Ctx, body: Body, sub: Option<&str>) -> Result<Response, Status> {
    let wanted = ctx.wanted(true)?;
    let media = input::media_type(&ctx.headers);
    let options = WriteOptions::of_patch(&ctx.query, &media)?;
    let bytes = input::read(body).await?;
    let transform = match read(ctx, &media, &bytes, &options) {
        // Where nothing is made, what is not there is told first.
        Err(_) if media == APPLY && sub.is_some() && !update::is_there(ctx).await? => {
            return Err(ctx.not_found());
        }
        read => read?,
    };
    let mut options = options;
    if transform.is_apply() {
        // Unknown fields were judged on what was applied, not on what comes out.
        options.validation = FieldValidation::Ignore;
    }
    let changed = update::change(ctx, &transform, sub, &options).await?;
    update::respond(ctx, changed, wanted).await
}

/// Decodes a patch.
pub fn read(ctx: &Ctx, media: &str, bytes: &[u8], options: &WriteOptions) -> Result<Transform, Status> {
    let or_unreadable = |patch: Result<Patch, Status>, transform: fn(Patch) -> Transform| match patch {
        Ok(patch) => transform(patch),
        Err(why) => Transform::Unreadable(why),
    };
    let judged = options.validation != FieldValidation::Ignore;
    // What stands twice in a patch is told before what the patched object has too much.
    let json = |before: &str| -> Result<Patch, Status> {
        let (value, duplicates) = machinery::parse_json_checked(bytes).map_err(|mut status| {
            if let Some(fault) = status
                .message
                .strip_prefix("couldn't get version/kind; json parse error: ")
            {
                status.message = format!("{before}{fault}");
            }
            status
        })?;
        let faults = duplicates.iter().map(machinery::Duplicate::fault);
        Ok(Patch {
            value,
            faults: if judged { faults.collect() } else { Vec::new() },
            text: None,
        })
    };
    match media {
        "application/json-patch+json" => {
            let in_operation = |mut status: Status| {
                let any = "into Go value of type float64";
                status.message = status
                    .message
                    .replace(any, "into Go struct field jsonPatchOp.value of type float64");
                status
            };
            let read = json(DECODING).map_err(in_operation).and_then(|mut patch| {
                let count = patch.value.as_array().map_or(0, Vec::len);
                if count > MAX_OPERATIONS {
                    return Err(Status::request_entity_too_large(format!(
                        "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {count}"
                    )));
                }
                if judged {
                    operation_faults(&mut patch);
                    let shown = !patch.faults.is_empty();
                    patch.text = shown.then(|| String::from_utf8_lossy(bytes).into_owned());
                }
                Ok(patch)
            });
            Ok(or_unreadable(read, Transform::Json))
        }
        "application/merge-patch+json" => {
            // Where its fields are not judged, upstream reads a patch only to lay it on.
            let read = json(DECODING).map_err(|status| match judged {
                true => status,
                false => Status::bad_request("Invalid JSON Patch"),
            });
            Ok(or_unreadable(read, Transform::Merge))
        }
        "application/strategic-merge-patch+json" if ctx.served.custom.is_none() => {
            let read = json("").map(|mut patch| {
                machinery::whole_numbers(&mut patch.value);
                patch
            });
            Ok(or_unreadable(read, Transform::Strategic))
        }
        APPLY => apply(ctx, bytes, options),
        _ => Err(unsupported()),
    }
}

/// The refusal of an update or patch of custom objects that names none.
pub fn nameless(ctx: &Ctx) -> Status {
    const PATCHES: [&str; 3] = [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
    ];
    let patches = ctx.attributes.verb == "patch";
    match patches && !PATCHES.contains(&input::media_type(&ctx.headers).as_str()) {
        true => unsupported(),
        false => Status::bad_request("name must be provided"),
    }
}

/// The 415 for what patches of custom objects cannot be.
pub fn unsupported() -> Status {
    Status::unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, \
         application/merge-patch+json, application/apply-patch+yaml",
    )
}

/// Refuses what no patch of a built-in kind can be, as upstream's router does.
pub fn routed(headers: &http::HeaderMap) -> Result<(), Status> {
    const PATCHES: [&str; 4] = [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
        "application/apply-patch+yaml",
    ];
    match PATCHES.contains(&input::media_type(headers).as_str()) {
        true => Ok(()),
        false => Err(refused_by_router()),
    }
}

/// What upstream's router says to a body that no route takes.
fn refused_by_router() -> Status {
    let mut status = Status::unsupported_media_type("415: Unsupported Media Type");
    status.details = Some(Details::default());
    status
}

/// Tells of fields that operations of a JSON patch do not have. Below a `value` everything may stand.
fn operation_faults(patch: &mut Patch) {
    let twice = std::mem::take(&mut patch.faults);
    let known = ["op", "path", "from", "value"];
    for (i, operation) in patch.value.as_array().into_iter().flatten().enumerate() {
        for name in operation.as_object().into_iter().flatten().map(|(name, _)| name) {
            let place = format!("\"[{i}].{name}\"");
            if !known.contains(&name.as_str()) {
                patch.faults.push(format!("json patch unknown field {place}"));
            } else if twice.iter().any(|t| t.ends_with(&place)) {
                patch.faults.push(format!("json patch duplicate field {place}"));
            }
        }
    }
}

/// Group and version with the slash that the core group has where Go shows a kind.
pub(super) fn group_and_version(served: &crate::registry::Served) -> String {
    let version = served.api_version();
    if version.contains('/') {
        version.to_string()
    } else {
        format!("/{version}")
    }
}

/// The refusal of fields that the schema does not know: nobody can own them, whatever the mode is.
/// `namespace` is that of the body, `each` a fault with its path.
fn untyped(ctx: &Ctx, place: &str, each: &[String]) -> Status {
    let kind = ctx.served.kind;
    let version = group_and_version(&ctx.served);
    // Upstream looks at no more of an object in which it has found one that is unknown, whichever comes first to it.
    let mut seen = HashSet::new();
    let mut told = Vec::new();
    for fault in each {
        let path = fault.strip_suffix(UNDECLARED);
        if path.is_none_or(|path| seen.insert(path.rsplit_once('.').map_or("", |(parent, _)| parent))) {
            told.push(fault.as_str());
        }
    }
    let told = match told[..] {
        [one] => one.to_owned(),
        _ => format!("errors:\n  {}", told.join("\n  ")),
    };
    Status::plain(format!(
        "failed to create typed patch object ({place}; {version}, Kind={}): {told}",
        kind.kind
    ))
}

fn apply(ctx: &Ctx, bytes: &[u8], options: &WriteOptions) -> Result<Transform, Status> {
    let (mut applied, duplicates) = machinery::parse_yaml_checked(bytes).map_err(|mut status| {
        status.message = format!(
            "error decoding YAML: error converting YAML to JSON: {}",
            status.message
        );
        status
    })?;
    if applied.is_null() {
        // To Go, nothing is an object without fields.
        applied = serde_json::json!({});
    }
    if !applied.is_object() {
        return Err(Status::bad_request(format!(
            "error decoding YAML: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {} into Go value of \
             type map[string]interface {{}}",
            super::create::type_name(&applied)
        )));
    }
    super::create::without_empty_group(&mut applied);
    let namespace = meta(&applied, "namespace").to_string();
    let text = |field: &str| applied[field].as_str().unwrap_or_default().to_string();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if api_version != ctx.served.api_version() || kind != ctx.served.kind.kind {
        let group = if api_version.contains('/') { "" } else { "/" };
        return Err(Status::bad_request(format!(
            "invalid object type: {group}{api_version}, Kind={kind}"
        )));
    }
    let name = meta(&applied, "name").to_string();
    let place = format!("{namespace}/{name}");
    if applied
        .pointer("/metadata/managedFields")
        .is_some_and(is_list_of_managers)
    {
        return Err(Status::bad_request("metadata.managedFields must be nil"));
    }
    machinery::whole_numbers(&mut applied);
    let faults = machinery::apply::type_faults(ctx.served.typed(), &applied);
    if !faults.is_empty() {
        return Err(untyped(ctx, &place, &faults));
    }
    super::create::check_applied(ctx, &mut applied)?;
    let twice: Vec<String> = duplicates.iter().map(machinery::Duplicate::fault).collect();
    Ok(Transform::Apply {
        applied,
        place,
        manager: options.field_manager.clone(),
        force: options.force.unwrap_or(false),
        twice,
        mode: options.validation,
    })
}

/// Whether a value is a list of managed fields to upstream, for which one that cannot be read is none.
fn is_list_of_managers(value: &Value) -> bool {
    let readable = |entry: &Value| {
        let texts = ["manager", "operation", "apiVersion", "fieldsType", "subresource"];
        let text = |name: &&str| matches!(entry.get(name), None | Some(Value::Null | Value::String(_)));
        let time = entry.get("time").filter(|time| !time.is_null());
        entry.is_object()
            && texts.iter().all(text)
            && time.is_none_or(|time| time.as_str().is_some_and(machinery::is_time))
    };
    value
        .as_array()
        .is_some_and(|entries| entries.iter().all(readable))
}
