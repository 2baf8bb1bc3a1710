//! `scale`: the number of replicas of anything that has one, as an `autoscaling/v1` Scale.

use super::bodies;
use crate::rest::transform::Transform;
use crate::rest::update::{change, failed, precondition};
use crate::rest::{Ctx, meta, patch, render};
use crate::wire::options::WriteOptions;
use crate::wire::{Body, Response, input};
use http::StatusCode;
use kinds::KindInfo;
use kinds::field::{FieldError, Path};
use kinds::selector::LabelSelector;
use kinds::status::Status;
use serde_json::{Value, json};

const APPLY: &str = "application/apply-patch+yaml";
/// What patches of a Scale of custom objects can be.
const OF_CUSTOM: [&str; 3] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    APPLY,
];

/// JSON pointers of the parts of a Scale within its object.
pub(crate) struct Paths {
    spec_replicas: String,
    status_replicas: String,
    /// Where the selector stands, and whether it is text already.
    selector: Option<(String, bool)>,
}

/// Answers a request on `scale`.
pub async fn answer(ctx: &Ctx, request: Body) -> Result<Response, Status> {
    let wanted = ctx.wanted(true)?;
    let paths = paths(ctx);
    let options = match ctx.attributes.verb.as_str() {
        "get" => WriteOptions::default(),
        "update" => WriteOptions::parse(&ctx.query, "UpdateOptions")?,
        _ => WriteOptions::of_patch(&ctx.query, &input::media_type(&ctx.headers))?,
    };
    // What is sent is looked at before it is known whether there is something to be scaled.
    let sent = match ctx.attributes.verb.as_str() {
        "get" => None,
        "update" => {
            let bytes = input::read(request).await?;
            let scale = bodies::read(ctx, kind_of(ctx), &bytes, options.validation)?;
            named(ctx, &scale)?;
            Some(Sent::Scale(scale))
        }
        _ => Some(Sent::Patch(read_patch(
            ctx,
            &input::read(request).await?,
            &options,
        )?)),
    };
    ctx.server.fresh().await?;
    let found = ctx
        .served
        .cache
        .get(ctx.namespace(), ctx.name())
        .ok_or_else(|| ctx.not_found())?;
    let current = render::decode(&ctx.server, &ctx.served, found.bytes()).await?;
    let scale = match sent {
        None => {
            let scale = scale_of(&current, &paths);
            return render::stand_in(ctx, StatusCode::OK, kind_of(ctx), &scale, wanted);
        }
        Some(Sent::Scale(scale)) => scale,
        Some(Sent::Patch(patch)) => patched(ctx, patch, &scale_of(&current, &paths), &options)?,
    };
    named(ctx, &scale)?;
    // Custom objects are judged as such, by their own schema.
    if ctx.served.custom.is_none() {
        check(ctx, &scale)?;
    }
    let replicas = scale
        .pointer("/spec/replicas")
        .and_then(Value::as_i64)
        .unwrap_or(0);
    // The revision and the uid of a Scale are preconditions on what is scaled.
    let (revision, uid) = (meta(&scale, "resourceVersion"), meta(&scale, "uid"));
    let (revision, uid) = (revision.to_owned(), uid.to_owned());
    let replaced = ctx.attributes.verb == "update";
    let refusal = |has: &str| match replaced {
        true => precondition(ctx, "UID", &uid, has, options.dry_run),
        false => Status::conflict(
            &format!("{}/scale", ctx.served.kind.plural),
            ctx.served.kind.group,
            ctx.name(),
            failed("UID", &uid, has),
        ),
    };
    let judged = replaced || ctx.served.custom.is_none();
    if judged && !uid.is_empty() && uid != meta(&current, "uid") {
        return Err(refusal(meta(&current, "uid")));
    }
    let target = paths.spec_replicas.clone();
    // A patch began from the revision it read, which is none of the client's.
    let named = replaced || revision != meta(&current, "resourceVersion");
    let edit = move |object: &Value| {
        let mut object = object.clone();
        if named && !revision.is_empty() {
            object["metadata"]["resourceVersion"] = json!(revision);
        }
        put(&mut object, &target, json!(replicas));
        Ok(object)
    };
    let applies = ctx.attributes.verb == "patch" && input::media_type(&ctx.headers) == APPLY;
    let transform = match applies {
        true => applied(ctx, &options, &paths, replicas)?,
        false => Transform::Edit(Box::new(edit)),
    };
    let changed = change(ctx, &transform, Some("scale"), &options).await;
    // Owners are named as those of a Scale.
    let changed = changed.map_err(|mut status| {
        let (own, scale) = (
            format!(" using {}", ctx.served.api_version()),
            " using autoscaling/v1",
        );
        status.message = status.message.replace(&own, scale);
        for cause in status.details.iter_mut().flat_map(|details| &mut details.causes) {
            cause.message = cause.message.replace(&own, scale);
        }
        status
    })?;
    let now = render::decode(&ctx.server, &ctx.served, &changed.bytes).await?;
    let scale = scale_of(&now, &paths);
    render::stand_in(ctx, StatusCode::OK, kind_of(ctx), &scale, wanted)
}

/// An applied Scale is an applied object that has nothing but its replicas.
fn applied(ctx: &Ctx, options: &WriteOptions, paths: &Paths, replicas: i64) -> Result<Transform, Status> {
    let mut applied = json!({
        "apiVersion": ctx.served.api_version(),
        "kind": ctx.served.kind.kind,
        "metadata": {"name": ctx.name()},
    });
    put(&mut applied, &paths.spec_replicas, json!(replicas));
    Ok(Transform::Apply {
        applied,
        place: format!("{}/{}", ctx.namespace(), ctx.name()),
        manager: options.field_manager.clone(),
        force: options.force.unwrap_or(false),
        twice: Vec::new(),
        mode: options.validation,
    })
}

/// A Scale has the name of what it scales.
fn named(ctx: &Ctx, scale: &Value) -> Result<(), Status> {
    match meta(scale, "name") {
        name if name == ctx.name() => Ok(()),
        name => Err(crate::rest::transform::name_mismatch(name, ctx.name())),
    }
}

fn check(ctx: &Ctx, scale: &Value) -> Result<(), Status> {
    let replicas = scale.pointer("/spec/replicas");
    let at = Path::new("spec").child("replicas");
    let mut errors = machinery::validate_metadata(scale);
    match replicas.map(|r| (r, r.as_i64())) {
        None | Some((Value::Null, _)) => {}
        Some((_, Some(n))) if n >= 0 && n <= i64::from(i32::MAX) => {}
        Some((value, Some(_))) => {
            let text = "must be greater than or equal to 0";
            errors.push(FieldError::invalid(&at, value.clone(), text));
        }
        Some((value, None)) => errors.push(FieldError::invalid(&at, value.clone(), "must be an integer")),
    }
    match errors.is_empty() {
        true => Ok(()),
        false => Err(Status::invalid("Scale", "autoscaling", ctx.name(), errors)),
    }
}

/// The kind of the body, whatever is scaled.
fn kind_of(ctx: &Ctx) -> &'static KindInfo {
    match ctx.served.kind.namespaced {
        true => &bodies::SCALE,
        false => &bodies::CLUSTER_SCALE,
    }
}

/// What a client sends.
enum Sent {
    Scale(Value),
    Patch(Transform),
}

fn read_patch(ctx: &Ctx, bytes: &[u8], options: &WriteOptions) -> Result<Transform, Status> {
    let media = input::media_type(&ctx.headers);
    if ctx.served.custom.is_some() && !OF_CUSTOM.contains(&media.as_str()) {
        return Err(patch::unsupported());
    }
    patch::read(&bodies::about(ctx, kind_of(ctx)), &media, bytes, options)
}

fn patched(ctx: &Ctx, transform: Transform, scale: &Value, options: &WriteOptions) -> Result<Value, Status> {
    if let Transform::Apply { mut applied, .. } = transform {
        if let Some(metadata) = applied.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("resourceVersion");
        }
        return machinery::merge_patch(scale, &applied, true);
    }
    let about = bodies::about(ctx, kind_of(ctx));
    Ok(transform.apply(&about, scale, None, options.validation)?.object)
}

/// The paths of a resource.
pub(crate) fn paths(ctx: &Ctx) -> Paths {
    match ctx.served.custom.as_ref().and_then(|c| c.scale_paths()) {
        Some((spec, status, selector)) => Paths {
            spec_replicas: spec,
            status_replicas: status,
            selector: selector.map(|s| (s, true)),
        },
        None => Paths {
            spec_replicas: "/spec/replicas".into(),
            status_replicas: "/status/replicas".into(),
            selector: Some(("/spec/selector".into(), false)),
        },
    }
}

/// The Scale of an object.
pub(crate) fn scale_of(object: &Value, paths: &Paths) -> Value {
    let number = |p: &str| object.pointer(p).and_then(Value::as_i64).unwrap_or(0);
    let mut metadata = json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = object.pointer(&format!("/metadata/{field}")) {
            metadata[field] = value.clone();
        }
    }
    let mut status = json!({"replicas": number(&paths.status_replicas)});
    if let Some((path, is_text)) = &paths.selector
        && let Some(selector) = object.pointer(path)
    {
        let text = match (is_text, selector) {
            (true, value) => value.as_str().unwrap_or("").to_string(),
            // A ReplicationController's selector is a plain map.
            (false, value) => match value.get("matchLabels").or(value.get("matchExpressions")) {
                Some(_) => LabelSelector::from_json(value)
                    .map(|s| s.to_string())
                    .unwrap_or_default(),
                None => {
                    let pairs = value.as_object().into_iter().flatten();
                    let pairs = pairs.map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or("")));
                    pairs.collect::<Vec<_>>().join(",")
                }
            },
        };
        if !text.is_empty() {
            status["selector"] = json!(text);
        }
    }
    json!({
        "kind": "Scale",
        "apiVersion": "autoscaling/v1",
        "metadata": metadata,
        "spec": match number(&paths.spec_replicas) {
            0 => json!({}),
            n => json!({"replicas": n}),
        },
        "status": status,
    })
}

/// Sets the number of replicas of an object.
pub(crate) fn put_replicas(object: &mut Value, paths: &Paths, replicas: Value) {
    put(object, &paths.spec_replicas, replicas);
}

/// Sets the value at a pointer, making objects on the way.
fn put(object: &mut Value, pointer: &str, value: Value) {
    let mut at = object;
    for part in pointer.trim_start_matches('/').split('/') {
        if !at.is_object() {
            *at = json!({});
        }
        at = &mut at[part];
    }
    *at = value;
}
