//! What hangs below an object's name, and the kinds that are only ever created and never stored.

mod binding;
mod bodies;
mod eviction;
pub(crate) mod scale;
mod token;

use crate::admit::Operation;
use crate::dispatch::Incoming;
use crate::rest::{self, Ctx};
use crate::wire::negotiate::Shape;
use crate::wire::options::WriteOptions;
use crate::wire::{Body, Response, input};
use http::{Method, StatusCode};
use kinds::KindInfo;
use kinds::status::Status;

/// Refuses a subresource that the kind has not, and a verb that the subresource has not.
pub fn known(ctx: &Ctx, method: &Method) -> Result<(), Status> {
    let name = ctx.attributes.subresource.as_str();
    let Some(sub) = ctx.served.kind.subresources.iter().find(|s| s.name == name) else {
        return Err(match ctx.served.custom.is_some() {
            true => Status::not_found(ctx.served.kind.plural, ctx.served.kind.group, ctx.name()),
            false => Status::no_resource(),
        });
    };
    let verb = ctx.attributes.verb.as_str();
    // A request with OPTIONS has no verb; a proxy passes it on.
    let passed_on = name == "proxy" && method == Method::OPTIONS;
    match sub.verbs.contains(&verb) || passed_on {
        true => Ok(()),
        false => Err(crate::dispatch::not_supported(ctx, verb)),
    }
}

/// Answers a request on a subresource that is known.
pub async fn dispatch(ctx: &Ctx, incoming: Incoming) -> Result<Response, Status> {
    let name = ctx.attributes.subresource.as_str();
    match (name, ctx.attributes.verb.as_str()) {
        ("log" | "exec" | "attach" | "portforward" | "proxy", _) => {
            crate::proxy::subresource(ctx, incoming).await
        }
        ("scale", _) => scale::answer(ctx, incoming.body).await,
        ("binding", "create") => binding::bind(ctx, incoming.body).await,
        ("eviction", "create") => eviction::evict(ctx, incoming.body).await,
        ("token", "create") => token::issue(ctx, incoming.body).await,
        (_, "get") => rest::get::get(ctx).await,
        (_, "update") => rest::update::update(ctx, incoming.body, Some(name)).await,
        (_, "patch") => rest::patch::patch(ctx, incoming.body, Some(name)).await,
        _ => Err(Status::method_not_allowed()),
    }
}

/// Kinds that answer a question and are not stored: reviews, and the old `bindings` resource.
pub fn is_review(kind: &KindInfo) -> bool {
    match kind.group {
        "authentication.k8s.io" | "authorization.k8s.io" => true,
        "" => kind.plural == "bindings",
        _ => false,
    }
}

/// Answers a POST of a review.
pub async fn review(ctx: &Ctx, request: Body) -> Result<Response, Status> {
    if ctx.attributes.verb != "create" {
        return Err(Status::method_not_allowed());
    }
    if ctx.served.kind.plural == "bindings" {
        return binding::bind(ctx, request).await;
    }
    // A review has no Table, but metadata.
    let wanted = match ctx.wanted(true)? {
        wanted if matches!(wanted.shape, Shape::Table(_)) => ctx.wanted(false)?,
        wanted => wanted,
    };
    let options = WriteOptions::parse(&ctx.query, "CreateOptions")?;
    let bytes = input::read(request).await?;
    let decoded = rest::create::read_input(ctx, &bytes)?;
    let mut value = rest::create::check_input(ctx, decoded, options.validation)?.object;
    // Upstream answers rules without having looked at who asks for them.
    if ctx.served.kind.kind != "SelfSubjectRulesReview" {
        let (typed, manager) = (ctx.served.typed(), ctx.field_manager(&options.field_manager));
        machinery::apply::update_managers(typed, None, &mut value, &manager, "Update", None, &rest::now());
    }
    let options_value = options.to_value("CreateOptions");
    ctx.admit(
        Operation::Create,
        &mut value,
        None,
        &options_value,
        options.dry_run,
    )
    .await?;
    let dry_run = options.dry_run;
    ctx.validate(Operation::Create, &mut value, None, &options_value, dry_run)
        .await?;
    let answer = crate::access::review(ctx, value).await?;
    ctx.fits(wanted, false)?;
    let shaped = match wanted.shape {
        Shape::Partial(version) => rest::render::partial(&answer, version),
        Shape::Object | Shape::Table(_) => answer,
    };
    rest::render::value_answer(ctx, StatusCode::CREATED, &shaped, wanted)
}
