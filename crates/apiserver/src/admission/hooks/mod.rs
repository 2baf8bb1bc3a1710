//! Admission webhooks: MutatingWebhookConfigurations and ValidatingWebhookConfigurations, asked over HTTPS.
//!
//! Mutating webhooks are asked one after the other, in the order of their configurations' names, and once more when
//! something after them changed the object and they wish it ([`mutating`]). Validating ones are asked all at the same
//! time ([`validating`]). Configurations are read into [`Hook`]s once for every state of their resource.

mod config;
mod mutating;
mod review;
mod validating;

pub use mutating::MutatingWebhook;
pub use validating::ValidatingWebhook;

use super::expressions::{self, Inputs, Scope, namespace_object};
use super::matching::{self, Matched};
use crate::admit::AdmissionRequest;
use crate::rest::Ctx;
use crate::view::{GroupResource, View};
use config::Hook;
use kinds::status::Status;
use review::Patch;
use serde_json::Value;

/// Why a webhook did not let a request through.
enum Failure {
    /// It could not be asked, or answered nonsense: what happens is the failure policy's affair.
    Calling(String),
    /// It refuses.
    Refused(Status),
}

/// Decides whether a webhook is to be asked, and in which version.
async fn wanted(
    hook: &Hook,
    request: &AdmissionRequest<'_>,
    ctx: &Ctx,
    view: &dyn View,
) -> Result<Option<Matched>, Status> {
    let Some(matched) = hook.matcher.matches(request, view, false)? else {
        return Ok(None);
    };
    if hook.conditions.is_empty() {
        return Ok(Some(matched));
    }
    let inputs = inputs(request, ctx, view, &matched).await?;
    match hook.conditions.hold(&Scope::new(&inputs)) {
        Ok(true) => Ok(Some(matched)),
        Ok(false) => Ok(None),
        Err(_) if !hook.fail => Ok(None),
        Err(why) => {
            let a = request.attributes;
            Err(Status::forbidden(
                &a.resource,
                &a.group,
                matching::name(request),
                why,
            ))
        }
    }
}

/// What expressions of a request see.
pub(super) async fn inputs(
    request: &AdmissionRequest<'_>,
    ctx: &Ctx,
    view: &dyn View,
    matched: &Matched,
) -> Result<Inputs, Status> {
    let name = request.attributes.namespace.as_str();
    let namespace = match name {
        "" => None,
        _ if ctx.served.kind.plural == "namespaces" && ctx.served.kind.group.is_empty() => None,
        name => view.get(&GroupResource::new("", "namespaces"), None, name),
    };
    let (object, old) = review::objects(request, ctx);
    let refused = |failure: Failure| match failure {
        Failure::Refused(status) => status,
        Failure::Calling(why) => Status::internal(why),
    };
    let object = mutating::versioned(ctx, object, matched).await.map_err(refused)?;
    let old = mutating::versioned(ctx, old, matched).await.map_err(refused)?;
    Ok(Inputs {
        request: review::describe(request, ctx, matched, ""),
        object,
        old,
        namespace: namespace.map_or(Value::Null, |n| namespace_object(&n)),
        authorizer: Some(expressions::authorizer(
            &ctx.server,
            request.user,
            request.attributes,
        )),
    })
}

/// Makes a changed object the object of the request.
pub(super) async fn take_back(
    request: &mut AdmissionRequest<'_>,
    ctx: &Ctx,
    changed: Value,
    matched: &Matched,
) -> Result<(), Status> {
    let taken = mutating::take_back(request, ctx, changed, matched).await;
    taken.map_err(|failure| match failure {
        Failure::Refused(status) => status,
        Failure::Calling(why) => Status::internal(why),
    })
}

/// Asks one webhook about an object in the version it wants, and keeps what it wishes to have told, of a refusal too;
/// answers what it wants changed.
async fn ask(
    hook: &Hook,
    request: &AdmissionRequest<'_>,
    ctx: &Ctx,
    view: &dyn View,
    matched: &Matched,
    objects: (&Value, &Value),
) -> Result<Option<Patch>, Failure> {
    if request.dry_run && !hook.dry_run {
        return Err(Failure::Refused(Status::bad_request(format!(
            "admission webhook {:?} does not support dry run",
            hook.name
        ))));
    }
    let uid = uuid::Uuid::new_v4().to_string();
    let Some(version) = hook.version else {
        let why =
            "failed to call webhook: webhook does not accept known AdmissionReview versions (v1, v1beta1)";
        return Err(Failure::Calling(why.into()));
    };
    let mut asked = review::describe(request, ctx, matched, &uid);
    asked["object"] = objects.0.clone();
    asked["oldObject"] = objects.1.clone();
    let review = review::wrap(asked, version);
    // All webhooks share the time that the request has.
    let started = std::time::Instant::now();
    let left = ctx.deadline.saturating_duration_since(started);
    if left.is_zero() {
        return Err(too_late());
    }
    let limit = hook.timeout.min(left);
    let seconds = limit.as_secs_f64().ceil();
    let answered = ctx
        .server
        .outbound
        .post(
            view,
            &hook.target,
            &format!("timeout={seconds}s"),
            review.to_string().into(),
            limit,
        )
        .await;
    let operation = format!("{:?}", request.operation).to_uppercase();
    let labels = format!(
        "name={:?},operation=\"{operation}\",rejected=\"{}\"",
        hook.name,
        answered.is_err()
    );
    let metrics = &ctx.server.metrics;
    metrics.observe(
        crate::metrics::Histogram::AdmissionWebhook,
        labels,
        started.elapsed(),
    );
    if answered.is_err() && std::time::Instant::now() >= ctx.deadline {
        return Err(too_late());
    }
    let (code, bytes) = answered.map_err(|why| Failure::Calling(format!("failed to call webhook: {why}")))?;
    let verdict = review::read(hook, code, &bytes, version, &uid)?;
    for warning in verdict.warnings {
        ctx.notes.warn(warning);
    }
    for (key, value) in verdict.annotations {
        ctx.notes.annotate(format!("{}/{key}", hook.name), value);
    }
    match verdict.refused {
        Some(status) => Err(Failure::Refused(status)),
        None => Ok(verdict.patch),
    }
}

/// The 504 for a request whose time is over: upstream's handler answers it before its webhooks have come back.
fn too_late() -> Failure {
    Failure::Refused(Status::timeout(
        "request did not complete within requested timeout - context deadline exceeded",
        0,
    ))
}

/// The 500 for a webhook that could not be asked and must be.
fn closed(hook: &Hook, why: &str) -> Status {
    Status::internal(format!("failed calling webhook {:?}: {why}", hook.name))
}
