//! DELETE: at once, after a grace period, or when the last finalizer is gone.

use super::update::{conflict, is_finished};
use super::write::Refused;
use super::{Ctx, finalizers, meta, render, set_meta, timestamp};
use crate::admit::Operation;
use crate::cache::object;
use crate::wire::input;
use crate::wire::options::{DeleteOptions, Propagation};
use crate::wire::{Body, Response};
use bytes::Bytes;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use kinds::status::Status;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// Attempts of a deletion that keeps losing races.
const ATTEMPTS: usize = 30;
/// Grace of a Pod that names none, in seconds.
const DEFAULT_GRACE: i64 = 30;
/// Finalizer of dependents-first deletion.
const FOREGROUND: &str = "foregroundDeletion";
/// Finalizer of deletion that leaves dependents alone.
const ORPHAN: &str = "orphan";

/// What a deletion came to.
pub enum Deleted {
    /// The object is gone; its last state.
    Gone(Bytes),
    /// It goes later; its present state.
    Pending(Bytes),
}

/// Reads DeleteOptions of a request.
pub async fn options(ctx: &Ctx, body: Body) -> Result<DeleteOptions, Status> {
    let bytes = input::read(body).await?;
    let given = if bytes.is_empty() {
        None
    } else {
        Some(input::decode(&ctx.headers, &bytes)?.value)
    };
    let Some(mut value) = given else {
        return DeleteOptions::parse(&ctx.query, None);
    };
    if !value.is_object() && !value.is_null() {
        return Err(Status::bad_request(format!(
            "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ \
             APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
            super::create::type_name(&value)
        )));
    }
    if value.is_object() {
        super::create::typed(&value)?;
        super::create::group_version(&value)?;
    }
    let kind = value.get("kind").and_then(Value::as_str).unwrap_or("");
    if !matches!(kind, "" | "DeleteOptions") {
        let version = value.get("apiVersion").and_then(Value::as_str);
        let version = version.unwrap_or("meta.k8s.io/v1");
        return Err(Status::bad_request(format!(
            "no kind {kind:?} is registered for version {version:?} in scheme \
             \"pkg/apis/meta/internalversion/scheme/register.go:27\""
        )));
    }
    machinery::definition_faults("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions", &mut value)
        .map_err(|why| Status::bad_request(why.json))?;
    DeleteOptions::parse(&ctx.query, Some(&value))
}

/// Answers a DELETE of one object.
pub async fn delete(ctx: &Ctx, body: Body) -> Result<Response, Status> {
    let wanted = ctx.wanted(true)?;
    let options = options(ctx, body).await?;
    warn_of_orphans(ctx, &options);
    ctx.server.fresh().await?;
    match remove(ctx, ctx.namespace(), ctx.name(), &options).await? {
        Deleted::Gone(bytes) if !ctx.served.traits.returns_deleted => {
            let value = render::decode(&ctx.server, &ctx.served, &bytes).await?;
            let status = render::success(ctx.served.kind, ctx.name(), meta(&value, "uid"));
            let plain = crate::wire::negotiate::Wanted {
                shape: crate::wire::negotiate::Shape::Object,
                ..wanted
            };
            render::value_answer(ctx, StatusCode::OK, &status, plain)
        }
        // Who wants the dependents gone is told that it takes a while.
        Deleted::Pending(bytes) if options.cascades => {
            render::object(ctx, StatusCode::ACCEPTED, bytes, wanted, "").await
        }
        Deleted::Gone(bytes) | Deleted::Pending(bytes) => {
            render::object(ctx, StatusCode::OK, bytes, wanted, "").await
        }
    }
}

/// Says what becomes of the Pods of Jobs that are deleted without a word about them.
pub fn warn_of_orphans(ctx: &Ctx, options: &DeleteOptions) {
    if ctx.served.kind.kind == "Job" && ctx.served.kind.group == "batch" && options.propagation.is_none() {
        ctx.notes.warn(
            "child pods are preserved by default when jobs are deleted; set propagationPolicy=Background to remove \
             them or set propagationPolicy=Orphan to suppress this warning",
        );
    }
}

/// Deletes one object of the resource of the request.
pub async fn remove(
    ctx: &Ctx,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
) -> Result<Deleted, Status> {
    remove_admitted(ctx, namespace, name, options, false).await
}

/// Deletes one object, `admitted` when admission has judged already what the deletion follows from (an eviction).
pub async fn remove_admitted(
    ctx: &Ctx,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
    mut admitted: bool,
) -> Result<Deleted, Status> {
    let gone = || Status::not_found(ctx.served.kind.plural, ctx.served.kind.group, name);
    let found = ctx.served.cache.get(namespace, name).ok_or_else(gone)?;
    let mut present = (found.bytes().clone(), found.revision());
    for _ in 0..ATTEMPTS {
        let (bytes, revision) = present;
        let old = render::decode(&ctx.server, &ctx.served, &bytes).await?;
        preconditions(ctx, name, options, &old, revision)?;
        if is_pending(ctx, &old, options) {
            return Ok(Deleted::Pending(bytes));
        }
        if !admitted {
            admit(ctx, &old, options).await?;
            admitted = true;
        }
        match step(ctx, namespace, name, options, &old, &bytes, revision).await {
            Ok(deleted) => return Ok(deleted),
            Err(Refused::Status(status)) => return Err(status),
            Err(Refused::Raced(None)) => return Err(gone()),
            Err(Refused::Raced(Some(r))) => {
                present = (object::with_revision(&r.value, r.revision.0), r.revision.0);
            }
        }
    }
    Err(conflict(ctx, super::update::MODIFIED))
}

async fn admit(ctx: &Ctx, old: &Value, options: &DeleteOptions) -> Result<(), Status> {
    let mut none = Value::Null;
    let value = options.to_value();
    ctx.admit(Operation::Delete, &mut none, Some(old), &value, options.dry_run)
        .await?;
    let passed = ctx
        .validate(Operation::Delete, &mut none, Some(old), &value, options.dry_run)
        .await?;
    ctx.settle(
        passed,
        Operation::Delete,
        &mut none,
        Some(old),
        &value,
        options.dry_run,
        true,
    )
    .await;
    Ok(())
}

fn is_core(ctx: &Ctx, kind: &str) -> bool {
    ctx.served.kind.group.is_empty() && ctx.served.kind.kind == kind
}

fn is_definition(ctx: &Ctx) -> bool {
    let kind = ctx.served.kind;
    kind.kind == "CustomResourceDefinition" && kind.group == "apiextensions.k8s.io"
}

/// Seconds of grace that a terminating object was given; 0 for none.
fn grace_of(object: &Value) -> i64 {
    let grace = object.pointer("/metadata/deletionGracePeriodSeconds");
    grace.and_then(Value::as_i64).unwrap_or(0)
}

/// The grace that a request asks for. A negative one is nonsense that upstream reads as "as soon as possible".
fn asked_grace(options: &DeleteOptions) -> Option<i64> {
    options
        .grace_period
        .map(|grace| if grace < 0 { 1 } else { grace })
}

/// Whether a deletion that has begun is not changed by another request: it would not end sooner, or others have to end it
/// (upstream: `BeforeDelete` of `registry/rest/delete.go`, and the storage of namespaces).
fn is_pending(ctx: &Ctx, old: &Value, options: &DeleteOptions) -> bool {
    if meta(old, "deletionTimestamp").is_empty() {
        return false;
    }
    if is_core(ctx, "Namespace") {
        let held = old.pointer("/spec/finalizers").and_then(Value::as_array);
        return held.is_some_and(|list| !list.is_empty());
    }
    let had = grace_of(old);
    is_core(ctx, "Pod") && had > 0 && asked_grace(options).is_none_or(|asked| asked >= had)
}

/// Refuses a deletion of another object than the one that is meant. Namespaces and definitions have words of their own.
pub fn preconditions(
    ctx: &Ctx,
    name: &str,
    options: &DeleteOptions,
    old: &Value,
    revision: u64,
) -> Result<(), Status> {
    let kind = ctx.served.kind;
    if is_core(ctx, "Namespace") || is_definition(ctx) {
        let at = revision.to_string();
        for (what, asked, has) in [
            ("UID", &options.uid, meta(old, "uid")),
            ("ResourceVersion", &options.resource_version, at.as_str()),
        ] {
            if let Some(asked) = asked.as_deref().filter(|asked| *asked != has) {
                let why = super::update::failed(what, asked, has);
                return Err(Status::conflict(kind.plural, kind.group, name, &why));
            }
        }
        return Ok(());
    }
    if let Some(uid) = &options.uid
        && uid != meta(old, "uid")
    {
        let why = format!(
            "the UID in the precondition ({uid}) does not match the UID in record ({}). The object might have been deleted \
             and then recreated",
            meta(old, "uid")
        );
        return Err(Status::conflict(kind.kind, kind.group, name, &why));
    }
    if let Some(wanted) = &options.resource_version
        && *wanted != revision.to_string()
    {
        let why = format!(
            "the ResourceVersion in the precondition ({wanted}) does not match the ResourceVersion in record ({revision}). \
             The object might have been modified"
        );
        return Err(Status::conflict(kind.kind, kind.group, name, &why));
    }
    Ok(())
}

/// One attempt on one state of the object.
async fn step(
    ctx: &Ctx,
    namespace: &str,
    name: &str,
    options: &DeleteOptions,
    old: &Value,
    bytes: &Bytes,
    revision: u64,
) -> Result<Deleted, Refused> {
    let (is_pod, is_namespace) = (is_core(ctx, "Pod"), is_core(ctx, "Namespace"));
    let is_definition = is_definition(ctx);
    let terminating = !meta(old, "deletionTimestamp").is_empty();
    // Most objects have nothing that holds them: they go without being written once more.
    let free = finalizers(old).is_empty() && wanted_finalizers(ctx, &[], options).is_empty();
    if free && !is_pod && !terminating && !is_namespace && !is_definition {
        if options.dry_run {
            return Ok(Deleted::Gone(bytes.clone()));
        }
        let at = ctx.server.remove(&ctx.served, namespace, name, revision).await?;
        return Ok(Deleted::Gone(object::at_revision(bytes, at)));
    }
    let mut new = old.clone();
    if !is_definition || terminating {
        set_finalizers(ctx, &mut new, options);
    }
    if terminating {
        if let Some(asked) = asked_grace(options).filter(|_| is_pod && grace_of(old) > 0) {
            shorten(&mut new, old, asked);
        }
    } else if is_namespace {
        set_meta(&mut new, "deletionTimestamp", timestamp(Timestamp::now()));
        new["status"]["phase"] = json!("Terminating");
    } else if is_definition {
        set_meta(&mut new, "deletionTimestamp", timestamp(Timestamp::now()));
        crate::crd::terminating(&mut new);
    } else {
        let grace = if is_pod { pod_grace(old, options) } else { 0 };
        mark(&mut new, old, grace);
    }
    // A finalizer that is only taken away for show holds an object back.
    let for_show = options.dry_run && !finalizers(old).is_empty();
    let finished = is_finished(&new) && !for_show;
    // What has a grace is marked before it goes, were it for a moment: there are watchers who wait for the mark.
    let (bytes, revision) = if new == *old || (finished && !is_pod) {
        (bytes.clone(), revision)
    } else {
        let stored = super::create::to_stored(ctx, &new).await?;
        let encoded = object::encode(&stored);
        if options.dry_run {
            (object::with_revision(&encoded, revision), revision)
        } else {
            let stored = ctx
                .server
                .replace(&ctx.served, &stored, encoded, revision)
                .await?;
            (stored.bytes, stored.revision)
        }
    };
    if !finished {
        return Ok(Deleted::Pending(bytes));
    }
    if options.dry_run {
        return Ok(Deleted::Gone(bytes));
    }
    match ctx.server.remove(&ctx.served, namespace, name, revision).await {
        // The answer has the revision of the event that tells of it.
        Ok(at) => Ok(Deleted::Gone(object::at_revision(&bytes, at))),
        // Whoever saw the mark (the Pod's host) was faster: it is gone all the same.
        Err(Refused::Raced(None)) => Ok(Deleted::Gone(bytes)),
        Err(other) => Err(other),
    }
}

/// Sets deletion time and grace of an object whose deletion begins.
fn mark(new: &mut Value, old: &Value, grace: i64) {
    let now = Timestamp::now();
    let end = now.checked_add(SignedDuration::from_secs(grace)).unwrap_or(now);
    set_meta(new, "deletionTimestamp", timestamp(end));
    set_meta(new, "deletionGracePeriodSeconds", grace);
    if let Some(generation) = old.pointer("/metadata/generation").and_then(Value::as_i64)
        && generation > 0
    {
        set_meta(new, "generation", generation + 1);
    }
}

/// Lets a terminating Pod end sooner. The clock started with the first request; an end that would have passed is now, and
/// the Pod's host still says when it is over, unless no grace at all was asked for.
fn shorten(new: &mut Value, old: &Value, asked: i64) {
    let now = Timestamp::now();
    let end = meta(old, "deletionTimestamp").parse::<Timestamp>().unwrap_or(now);
    let earlier = SignedDuration::from_secs(grace_of(old).saturating_sub(asked));
    let end = end.checked_sub(earlier).unwrap_or(now);
    let (end, grace) = match end < now {
        true => (now, asked.min(1)),
        false => (end, asked),
    };
    set_meta(new, "deletionTimestamp", timestamp(end));
    set_meta(new, "deletionGracePeriodSeconds", grace);
}

/// The grace of a Pod: the request's, else its own, and none when nothing of it runs.
fn pod_grace(pod: &Value, options: &DeleteOptions) -> i64 {
    let own = pod
        .pointer("/spec/terminationGracePeriodSeconds")
        .and_then(Value::as_i64);
    let grace = asked_grace(options).or(own).unwrap_or(DEFAULT_GRACE);
    let unbound = pod
        .pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .unwrap_or("")
        .is_empty();
    let phase = pod.pointer("/status/phase").and_then(Value::as_str).unwrap_or("");
    if unbound || matches!(phase, "Succeeded" | "Failed") {
        return 0;
    }
    if grace < 0 { 1 } else { grace }
}

/// The finalizers of an object with those of the garbage collector that the propagation policy wants.
fn wanted_finalizers(ctx: &Ctx, present: &[String], options: &DeleteOptions) -> Vec<String> {
    let mut list = present.to_vec();
    let (orphan, foreground) = match options.propagation {
        // The collector knows no Events.
        _ if ctx.served.kind.kind == "Event" && ctx.served.custom.is_none() => (false, false),
        // So the storage of namespaces has it.
        _ if options.cascades && is_core(ctx, "Namespace") => (false, true),
        Some(Propagation::Orphan) => (true, false),
        Some(Propagation::Foreground) => (false, true),
        Some(Propagation::Background) => (false, false),
        None => {
            let (o, f) = (
                list.iter().any(|x| x == ORPHAN),
                list.iter().any(|x| x == FOREGROUND),
            );
            (o || (!f && ctx.served.traits.orphans_by_default), f)
        }
    };
    list.retain(|f| f != ORPHAN && f != FOREGROUND);
    if orphan {
        list.push(ORPHAN.into());
    }
    if foreground {
        list.push(FOREGROUND.into());
    }
    list
}

fn set_finalizers(ctx: &Ctx, new: &mut Value, options: &DeleteOptions) {
    let present = finalizers(new);
    let list = wanted_finalizers(ctx, &present, options);
    // Where all are there, they stay in their order.
    if BTreeSet::from_iter(&list) == BTreeSet::from_iter(&present) {
        return;
    }
    if list.is_empty() {
        super::unset_meta(new, "finalizers");
    } else {
        set_meta(new, "finalizers", json!(list));
    }
}
