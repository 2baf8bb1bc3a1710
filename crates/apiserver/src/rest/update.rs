//! PUT, and the common way of every change to a stored object: read, transform, admit, validate, write if unchanged.

use super::create::{self, Sent, store_new, to_stored};
use super::transform::{Transform, name_mismatch};
use super::write::Refused;
use super::{Ctx, finalizers, meta, now, render, set_meta, unset_meta, write};
use crate::admit::Operation;
use crate::cache::object;
use crate::wire::input;
use crate::wire::options::{WriteOptions, parse_single_revision};
use crate::wire::{Body, Response};
use bytes::Bytes;
use http::StatusCode;
use kinds::KindInfo;
use kinds::field::{FieldError, Path};
use kinds::status::Status;
use machinery::Empties;
use serde_json::{Value, json};

/// Attempts of a change that keeps losing races, unless it named a revision.
const ATTEMPTS: usize = 30;

/// What upstream says to the loser of a race.
pub const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

/// The outcome of a change.
pub struct Changed {
    /// Bytes in the storage version.
    pub bytes: Bytes,
    /// Whether the object is new.
    pub created: bool,
}

/// Answers a PUT to an object or to its subresource `sub`.
pub async fn update(ctx: &Ctx, body: Body, sub: Option<&str>) -> Result<Response, Status> {
    let wanted = ctx.wanted(true)?;
    let options = WriteOptions::parse(&ctx.query, "UpdateOptions")?;
    let bytes = input::read(body).await?;
    let input = create::read_input(ctx, &bytes)?;
    let mut sent = create::check_input(ctx, input, options.validation)?;
    match meta(&sent.object, "name") {
        name if name == ctx.name() => {}
        name => return Err(name_mismatch(name, ctx.name())),
    }
    create::default(ctx, &mut sent.object);
    let changed = change(ctx, &Transform::Replace(sent), sub, &options).await?;
    respond(ctx, changed, wanted).await
}

/// Turns an outcome into an answer.
pub async fn respond(
    ctx: &Ctx,
    changed: Changed,
    wanted: crate::wire::negotiate::Wanted,
) -> Result<Response, Status> {
    let code = if changed.created {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    render::object(ctx, code, changed.bytes, wanted, "").await
}

/// Whether the object of the request is there.
pub async fn is_there(ctx: &Ctx) -> Result<bool, Status> {
    ctx.server.fresh().await?;
    Ok(ctx.served.cache.get(ctx.namespace(), ctx.name()).is_some())
}

/// Changes a stored object.
pub async fn change(
    ctx: &Ctx,
    transform: &Transform,
    sub: Option<&str>,
    options: &WriteOptions,
) -> Result<Changed, Status> {
    ctx.server.fresh().await?;
    let mut present = ctx
        .served
        .cache
        .get(ctx.namespace(), ctx.name())
        .map(|o| (o.bytes().clone(), o.revision()));
    for _ in 0..ATTEMPTS {
        let Some((bytes, revision)) = present.take() else {
            if let Transform::Replace(sent) = transform
                && !meta(&sent.object, "uid").is_empty()
            {
                let uid = meta(&sent.object, "uid");
                return Err(precondition(ctx, "UID", uid, "", options.dry_run));
            }
            if !transform.creates(ctx, sub) {
                return Err(ctx.not_found());
            }
            return create_instead(ctx, transform, options).await;
        };
        match attempt(ctx, transform, sub, options, &bytes, revision).await {
            Ok(changed) => return Ok(changed),
            Err(Refused::Status(status)) => return Err(status),
            Err(Refused::Raced(record)) => {
                present = record.map(|r| (object::with_revision(&r.value, r.revision.0), r.revision.0));
            }
        }
    }
    Err(conflict(ctx, MODIFIED))
}

/// The 409 of this object.
pub fn conflict(ctx: &Ctx, why: &str) -> Status {
    Status::conflict(ctx.served.kind.plural, ctx.served.kind.group, ctx.name(), why)
}

/// A precondition that does not hold, in upstream's words.
pub fn failed(what: &str, asked: &str, has: &str) -> String {
    format!("Precondition failed: {what} in precondition: {asked}, {what} in object meta: {has}")
}

/// The 409 of an object that is another one than the request means, as upstream's store words it.
pub fn precondition(ctx: &Ctx, what: &str, asked: &str, has: &str, dry_run: bool) -> Status {
    let key = storage_key(
        ctx.served.kind,
        ctx.served.custom.is_some(),
        ctx.namespace(),
        ctx.name(),
    );
    // Where nothing is stored, upstream names the place below its root.
    let key = if dry_run {
        key.trim_start_matches("/registry")
    } else {
        &key
    };
    conflict(ctx, &invalid_object(key, &failed(what, asked, has)))
}

/// What upstream's store says of an object that a precondition does not fit (`storage/errors.go`).
pub fn invalid_object(key: &str, why: &str) -> String {
    format!(
        "StorageError: invalid object, Code: 4, Key: {key}, ResourceVersion: 0, AdditionalErrorMsg: {why}"
    )
}

/// Where upstream stores an object (`SpecialDefaultResourcePrefixes` of `kubeapiserver/default_storage_factory_builder.go`).
pub fn storage_key(kind: &KindInfo, custom: bool, namespace: &str, name: &str) -> String {
    let group = kind.group;
    let prefix = match (group, kind.plural) {
        ("", "replicationcontrollers") => "controllers",
        ("", "endpoints") => "services/endpoints",
        ("", "nodes") => "minions",
        ("", "services") => "services/specs",
        ("networking.k8s.io", "ingresses") => "ingress",
        (_, plural) => plural,
    };
    let own_server = matches!(group, "apiextensions.k8s.io" | "apiregistration.k8s.io");
    let group = if custom || own_server { group } else { "" };
    let place = [group, prefix, namespace, name];
    let parts = place.iter().filter(|part| !part.is_empty());
    parts.fold("/registry".to_owned(), |key, part| format!("{key}/{part}"))
}

async fn create_instead(ctx: &Ctx, transform: &Transform, options: &WriteOptions) -> Result<Changed, Status> {
    let mut sent = transform.new_object(ctx)?;
    // A PUT that names one has been refused already.
    let uid = meta(&sent.object, "uid");
    if !uid.is_empty() {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(conflict(ctx, &why));
    }
    // Only what is there has a name by itself.
    if meta(&sent.object, "name") != ctx.name() {
        return Err(name_mismatch(meta(&sent.object, "name"), ctx.name()));
    }
    parse_single_revision(meta(&sent.object, "resourceVersion")).map_err(|status| {
        let from = status.message.find("strconv.").unwrap_or(0);
        Status::plain(&status.message[from..])
    })?;
    unset_meta(&mut sent.object, "resourceVersion");
    let applied_by = transform.is_apply().then_some(options.field_manager.as_str());
    let made = store_new(ctx, sent, options, applied_by).await?;
    Ok(Changed {
        bytes: made,
        created: true,
    })
}

async fn attempt(
    ctx: &Ctx,
    transform: &Transform,
    sub: Option<&str>,
    options: &WriteOptions,
    present: &Bytes,
    revision: u64,
) -> Result<Changed, Refused> {
    let served = &ctx.served;
    let old = render::decode(&ctx.server, served, present).await?;
    let Sent {
        object: mut new,
        mut empties,
    } = transform.apply(ctx, &old, sub, options.validation)?;
    let named = check_version(ctx, transform, &new, &old, revision, options.dry_run)?;
    // By way of its status, when a Pod ends is not looked at.
    if sub == Some("status") && served.kind.kind == "Pod" && served.custom.is_none() {
        unset_meta(&mut new, "deletionTimestamp");
    }
    restore_metadata(&mut new, &old);
    if !transform.is_apply() {
        let (typed, manager) = (served.typed(), ctx.field_manager(&options.field_manager));
        empties.owned(served.kind, &mut new, |new| {
            machinery::apply::update_managers(typed, Some(&old), new, &manager, "Update", sub, &now());
        });
    }
    let options_value = options.to_value("UpdateOptions");
    let dry_run = options.dry_run;
    let rewritten = ctx
        .admit(Operation::Update, &mut new, Some(&old), &options_value, dry_run)
        .await?;
    if rewritten {
        empties = Empties::default();
    }
    // What is taken back from here on was a change none the less.
    machinery::apply::keep_times(&mut new, &old);
    match &served.custom {
        Some(custom) => custom.prepare_update(&mut new, &old, sub),
        None => {
            machinery::prepare_update(served.kind, &mut new, &old, sub);
            machinery::count_empties(served.kind, &mut new, &old, sub, &empties);
        }
    }
    if sub == Some("status") {
        machinery::keep_verdicts(served.kind, &mut new, &old);
    }
    if matches!(sub, Some("approval" | "status")) {
        machinery::stamp(served.kind, &mut new, &old, &now());
    }
    restore_metadata(&mut new, &old);
    let reservation = ctx
        .server
        .alloc
        .on_update(served, &mut new, &old, options.dry_run)?;
    let errors = match &served.custom {
        Some(custom) => {
            let mut errors = machinery::validate_any_update(&new, &old, served.kind.namespaced);
            let (of_kind, told) = custom.validate_update(&new, &old, sub);
            errors.extend(of_kind);
            machinery::whole_numbers(&mut new);
            // What may stay as it was is told with a refusal too.
            ctx.notes.warn_all(told);
            errors
        }
        None => {
            let errors = empties.judged(&new, |new| {
                let mut errors = match sub {
                    Some("status") => create::administrative(ctx, new, Some(&old)),
                    _ => Vec::new(),
                };
                errors.extend(machinery::validate_update(served.kind, new, &old, sub));
                // The spec of a claim is for life, and looked at as such alone.
                match sub.is_none() && served.kind.kind != "ResourceClaim" {
                    true => create::with_expressions(served, new, Some(&old), errors),
                    false => errors,
                }
            });
            if errors.is_empty() {
                ctx.notes.warn_all(match sub {
                    None => machinery::warnings(served.kind, &new, Some(&old)),
                    Some("status") => machinery::status_warnings(served.kind, &new),
                    Some(_) => Vec::new(),
                });
                if sub.is_none() {
                    ctx.notes
                        .warn_all(create::definition_warnings(served, &new, Some(&old)));
                }
            }
            errors
        }
    };
    if !errors.is_empty() {
        return Err(Status::invalid(served.kind.kind, create::told_group(served), ctx.name(), errors).into());
    }
    let passed = ctx
        .validate(Operation::Update, &mut new, Some(&old), &options_value, dry_run)
        .await?;
    let mut outcome = store(ctx, &new, dry_run, present, revision).await;
    if !transform.is_apply()
        && let Err(Refused::Status(status)) = &outcome
        && write::is_too_large(status)
    {
        unset_meta(&mut new, "managedFields");
        outcome = store(ctx, &new, dry_run, present, revision).await;
    }
    let stored = outcome.is_ok();
    ctx.settle(
        passed,
        Operation::Update,
        &mut new,
        Some(&old),
        &options_value,
        dry_run,
        stored,
    )
    .await;
    match outcome {
        Ok(bytes) => {
            reservation.keep();
            Ok(Changed {
                bytes,
                created: false,
            })
        }
        // Who named a revision has lost; who did not goes on from what won.
        Err(Refused::Raced(_)) if named => Err(conflict(ctx, MODIFIED).into()),
        Err(refused) => Err(refused),
    }
}

/// Writes the new state over the present one, or removes the object when nothing holds it back any more.
async fn store(
    ctx: &Ctx,
    new: &Value,
    dry_run: bool,
    present: &Bytes,
    revision: u64,
) -> Result<Bytes, Refused> {
    let stored = to_stored(ctx, new).await?;
    let encoded = object::encode(&stored);
    if !dry_run && is_finished(new) {
        ctx.server
            .remove(&ctx.served, ctx.namespace(), ctx.name(), revision)
            .await?;
        // As upstream: what was sent, at the revision that it replaced.
        return Ok(object::with_revision(&encoded, revision));
    }
    let shown = object::with_revision(&encoded, revision);
    if dry_run || shown == *present {
        return Ok(shown);
    }
    Ok(ctx
        .server
        .replace(&ctx.served, &stored, encoded, revision)
        .await?
        .bytes)
}

/// Checks resourceVersion and uid of the new state as preconditions; answers whether a revision was named.
fn check_version(
    ctx: &Ctx,
    transform: &Transform,
    new: &Value,
    old: &Value,
    revision: u64,
    dry_run: bool,
) -> Result<bool, Status> {
    let (uid, replaced) = (meta(new, "uid"), matches!(transform, Transform::Replace(_)));
    // That of a patched object is no precondition; what is wrong with it is found by the validation.
    if replaced && !uid.is_empty() && uid != meta(old, "uid") {
        return Err(precondition(ctx, "UID", uid, meta(old, "uid"), dry_run));
    }
    let wanted = meta(new, "resourceVersion");
    // What is applied or made by the server itself goes on from what is there.
    let follows = transform.is_apply() || matches!(transform, Transform::Edit(_));
    if wanted.is_empty() && follows {
        return Ok(false);
    }
    let asked = parse_single_revision(wanted).map_err(|mut status| {
        if let Some(at) = status.message.find("strconv.") {
            status.message.drain(..at);
        }
        status
    })?;
    match asked.unwrap_or(0) {
        0 if ctx.served.traits.version_required => {
            let at = Path::new("metadata").child("resourceVersion");
            let error = FieldError::invalid(&at, json!(0), "must be specified for an update");
            // Upstream names the resource here, not the kind.
            let kind = ctx.served.kind;
            Err(Status::invalid(kind.plural, kind.group, ctx.name(), vec![error]))
        }
        0 => Ok(false),
        // A patch starts from the present state, so an unchanged revision says nothing.
        asked if asked == revision => Ok(replaced),
        _ => Err(conflict(ctx, MODIFIED)),
    }
}

/// What no client may change by an update. What is left of another uid, or of another end, is refused by the validation.
fn restore_metadata(new: &mut Value, old: &Value) {
    let before = |field: &str| old.get("metadata").and_then(|metadata| metadata.get(field));
    for field in ["creationTimestamp", "deletionTimestamp"] {
        match before(field) {
            Some(value) => set_meta(new, field, value.clone()),
            None if field == "creationTimestamp" => unset_meta(new, field),
            None => {}
        }
    }
    for field in ["uid", "deletionGracePeriodSeconds"] {
        let given = new.get("metadata").and_then(|metadata| metadata.get(field));
        let given = given.filter(|value| !value.is_null() && *value != "");
        if given.is_none() {
            match before(field) {
                Some(value) => set_meta(new, field, value.clone()),
                None => unset_meta(new, field),
            }
        }
    }
    for field in ["name", "namespace"] {
        if meta(new, field).is_empty() && !meta(old, field).is_empty() {
            set_meta(new, field, meta(old, field));
        }
    }
}

/// Whether nothing holds a deleted object back any more.
pub fn is_finished(object: &Value) -> bool {
    if meta(object, "deletionTimestamp").is_empty() || !finalizers(object).is_empty() {
        return false;
    }
    let kind = object.get("kind").and_then(Value::as_str);
    let core = object.get("apiVersion").and_then(Value::as_str) == Some("v1");
    if core && kind == Some("Namespace") {
        return object
            .pointer("/spec/finalizers")
            .and_then(Value::as_array)
            .is_none_or(Vec::is_empty);
    }
    // A Pod in its grace period waits for its host agent.
    let grace = object
        .pointer("/metadata/deletionGracePeriodSeconds")
        .and_then(Value::as_i64);
    grace.unwrap_or(0) == 0
}
