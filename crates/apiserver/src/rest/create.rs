//! POST: a new object. Also the way by which PUT and apply make objects that are not there yet.
//!
//! Order, as upstream: decode, check against the URL, default, mutating admission, strategy and metadata, validation,
//! validating admission, allocation, store.

use super::{Ctx, meta, now, render, set_meta, unset_meta, write};
use crate::admit::Operation;
use crate::registry::Served;
use crate::request::Attributes;
use crate::wire::input::{self, Input};
use crate::wire::options::{FieldValidation, WriteOptions};
use crate::wire::{Body, Response};
use http::StatusCode;
use kinds::KindInfo;
use kinds::field::{FieldError, Path};
use kinds::status::Status;
use machinery::{Decoded, Empties};
use rand::RngExt;
use serde_json::Value;
use std::borrow::Cow;

/// Letters of generated names: upstream's, without vowels and look-alikes.
const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
/// Longest name base that leaves room for the five letters.
const MAX_BASE: usize = 58;
/// Attempts to find a free generated name.
const NAME_ATTEMPTS: usize = 8;

/// Answers a POST to a collection.
pub async fn create(ctx: &Ctx, body: Body) -> Result<Response, Status> {
    let wanted = ctx.wanted(true)?;
    let options = WriteOptions::parse(&ctx.query, "CreateOptions")?;
    let bytes = input::read(body).await?;
    let input = read_input(ctx, &bytes)?;
    let sent = check_input(ctx, input, options.validation)?;
    let made = store_new(ctx, sent, &options, None).await?;
    render::object(ctx, StatusCode::CREATED, made, wanted, "").await
}

/// Decodes the body of a create or an update.
pub fn read_input(ctx: &Ctx, bytes: &bytes::Bytes) -> Result<Input, Status> {
    let unrecognized = |mut status: Status| {
        let of_text = [
            "couldn't get version/kind; ",
            "yaml: ",
            "unsupported map key of type: ",
            "json: unsupported value: ",
            "Object 'Kind' is missing",
            "unexpected GroupVersion string: ",
            "provided data does not appear to be a protobuf message",
        ];
        if status.code == 400 && of_text.iter().any(|start| status.message.starts_with(start)) {
            let kind = ctx.served.kind.kind;
            let (message, shown) = (&status.message, summary(bytes));
            status.message =
                format!("the object provided is unrecognized (must be of type {kind}): {message} ({shown})");
        }
        status
    };
    let mut input = input::decode(&ctx.headers, bytes).map_err(unrecognized)?;
    if input.value.is_null() {
        // To Go, nothing is an object without fields.
        input.value = serde_json::json!({});
    }
    if let Value::Object(fields) = &input.value {
        typed(&input.value).map_err(unrecognized)?;
        let kind = fields.get("kind").and_then(Value::as_str).unwrap_or("");
        // Built-in kinds are known by the URL.
        if kind.is_empty() && ctx.served.custom.is_some() {
            let body = String::from_utf8_lossy(bytes);
            return Err(unrecognized(Status::bad_request(format!(
                "Object 'Kind' is missing in '{body}'"
            ))));
        }
        group_version(&input.value).map_err(unrecognized)?;
        return Ok(input);
    }
    Err(unrecognized(Status::bad_request(no_object(&input.value))))
}

/// What is wrong with a value that is no object at all.
pub(crate) fn no_object(value: &Value) -> String {
    format!(
        "couldn't get version/kind; json parse error: json: cannot unmarshal {} into Go value of type struct {{ \
         APIVersion string \"json:\\\"apiVersion,omitempty\\\"\"; Kind string \"json:\\\"kind,omitempty\\\"\" }}",
        type_name(value)
    )
}

/// Kind and version of an object are texts.
pub(super) fn typed(value: &Value) -> Result<(), Status> {
    for name in ["kind", "apiVersion"] {
        if let Some(given) = value.get(name).filter(|v| !v.is_string() && !v.is_null()) {
            let found = type_name(given);
            return Err(Status::bad_request(format!(
                "couldn't get version/kind; json parse error: json: cannot unmarshal {found} into Go struct field .{name} of \
                 type string"
            )));
        }
    }
    Ok(())
}

/// What is no group and version at all is found out before anything else.
pub(super) fn group_version(value: &Value) -> Result<(), Status> {
    let given = value.get("apiVersion").and_then(Value::as_str);
    match given.filter(|given| given.matches('/').count() > 1) {
        Some(given) => Err(Status::bad_request(format!(
            "unexpected GroupVersion string: {given}"
        ))),
        None => Ok(()),
    }
}

/// The beginning of a body as upstream's refusals show it.
fn summary(bytes: &[u8]) -> String {
    const MOST: usize = 30;
    let (shown, cut) = match bytes.split_at_checked(MOST) {
        Some((shown, rest)) if !rest.is_empty() => (shown, " ..."),
        _ => (bytes, ""),
    };
    let text = match bytes.first() {
        None => return "<empty>".into(),
        Some(b'{') => String::from_utf8_lossy(shown).into_owned(),
        Some(_) => shown.iter().map(|b| format!("{b:02x}")).collect(),
    };
    text + cut
}

/// An object that somebody wrote, in its served version.
#[derive(Clone)]
pub struct Sent {
    /// The object.
    pub object: Value,
    /// What stood in it although there was nothing in that.
    pub empties: Empties,
}

impl From<Value> for Sent {
    fn from(object: Value) -> Self {
        let empties = Empties::default();
        Self { object, empties }
    }
}

/// Checks a decoded body against URL and schema. What is odd in it is told however the request ends.
pub fn check_input(ctx: &Ctx, input: Input, mode: FieldValidation) -> Result<Sent, Status> {
    let Input {
        mut value,
        duplicates,
        json,
        out_of_range,
    } = input;
    let served = &ctx.served;
    if let Some(why) = out_of_range.filter(|_| served.custom.is_some()) {
        let (name, version) = (served.kind.kind, served.kind.version);
        return Err(Status::bad_request(format!(
            "{name} in version {version:?} cannot be handled as a {name}: {why}"
        )));
    }
    check_kind(ctx, &mut value)?;
    // What is made gets a uid of its own; a binding names that of its Pod.
    let is_stored = ctx.attributes.verb != "create" || served.kind.kind == "Binding";
    ctx.notes.about(&value, is_stored);
    let Decoded { faults, empties } = match &served.custom {
        Some(custom) => {
            let faults = custom.decode_check(&mut value, &duplicates, mode)?;
            custom.drop_nulls(&mut value);
            let empties = Empties::default();
            Decoded { faults, empties }
        }
        None => {
            let source = machinery::Source {
                duplicates: &duplicates,
                json: &json,
            };
            machinery::decode_check(served.kind, &mut value, source, strictness(mode))?
        }
    };
    ctx.notes.warn_all(faults);
    check_namespace(ctx, &mut value)?;
    let object = value;
    Ok(Sent { object, empties })
}

/// Checks a configuration that is applied against the URL. The object that comes of it is decoded once it is merged; of a
/// custom one what is unknown is dropped before.
pub fn check_applied(ctx: &Ctx, value: &mut Value) -> Result<(), Status> {
    check_kind(ctx, value)?;
    if let Some(custom) = &ctx.served.custom {
        custom.decode_check(value, &[], FieldValidation::Warn)?;
    }
    check_namespace(ctx, value)
}

/// `/v1` is `v1` of no group.
pub(super) fn without_empty_group(value: &mut Value) {
    let version = value.get("apiVersion").and_then(Value::as_str);
    if let Some(version) = version.and_then(|version| version.strip_prefix('/')) {
        value["apiVersion"] = version.to_owned().into();
    }
}

/// A body without kind or version takes those of the URL; others are refused.
fn check_kind(ctx: &Ctx, value: &mut Value) -> Result<(), Status> {
    let served = &ctx.served;
    without_empty_group(value);
    let text = |f: &str| value.get(f).and_then(Value::as_str).unwrap_or("").to_string();
    let (api_version, kind) = (text("apiVersion"), text("kind"));
    if api_version.is_empty() && served.custom.is_none() {
        value["apiVersion"] = served.api_version().into();
    } else if api_version != served.api_version()
        && served.custom.is_none()
        && !is_of_group(served, &api_version)
    {
        let shown = if kind.is_empty() { served.kind.kind } else { &kind };
        return Err(Status::bad_request(format!(
            "{shown} in version {version:?} cannot be handled as a {}: {}",
            served.kind.kind,
            other_kind(served, &api_version, shown),
            version = api_version.rsplit('/').next().unwrap_or_default(),
        )));
    } else if api_version != served.api_version() {
        return Err(Status::bad_request(format!(
            "the API version in the data ({api_version}) does not match the expected API version ({})",
            served.api_version()
        )));
    }
    if kind.is_empty() {
        value["kind"] = served.kind.kind.into();
    } else if kind != served.kind.kind && served.custom.is_some() {
        // Any kind can be read as a custom object; validation tells.
        let why = format!("must be {}", served.kind.kind);
        let error = FieldError::invalid(&Path::new("kind"), kind.as_str().into(), why);
        let name = meta(value, "name");
        return Err(Status::invalid(&kind, served.kind.group, name, vec![error]));
    } else if kind != served.kind.kind {
        let version = served.kind.version;
        return Err(Status::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {}: {}",
            served.kind.kind,
            other_kind(served, &served.api_version(), &kind)
        )));
    }
    Ok(())
}

/// The refusal of an object that says to be of another kind than the custom one it is taken for: any can be read as such,
/// and what it says is judged as its fields are. `None` when what it says is no text.
pub(super) fn other_custom_kind(ctx: &Ctx, value: &Value) -> Option<Status> {
    let (kind, api_version) = (value["kind"].as_str()?, value["apiVersion"].as_str()?);
    let own = (ctx.served.kind.kind, ctx.served.api_version());
    let mut errors = Vec::new();
    if kind != own.0 {
        let why = format!("must be {}", own.0);
        errors.push(FieldError::invalid(&Path::new("kind"), kind.into(), why));
    }
    if api_version != own.1 {
        let why = format!("must be {}", own.1);
        errors.push(FieldError::invalid(
            &Path::new("apiVersion"),
            api_version.into(),
            why,
        ));
    }
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    Some(Status::invalid(kind, group, meta(value, "name"), errors))
}

/// What upstream says of an object of another kind than that of the URL.
pub(super) fn other_kind(served: &Served, api_version: &str, kind: &str) -> String {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let is_list = |known: &&KindInfo| (known.group, known.version, known.list_kind) == (group, version, kind);
    let known = kinds::find_kind(group, version, kind).is_some();
    let together = scheme(group) == scheme(served.kind.group);
    match together && (known || kinds::builtin().iter().any(|known| is_list(&known))) {
        true => format!(
            "converting ({version}.{kind}) to ({}.{}): unknown conversion",
            internal_package(served.kind.group),
            served.kind.kind
        ),
        false => format!(
            "no kind {kind:?} is registered for version {api_version:?} in scheme {:?}",
            scheme(served.kind.group)
        ),
    }
}

/// Where upstream notes the kinds that it knows: definitions and API services are of servers of their own.
fn scheme(group: &str) -> &'static str {
    match group {
        "apiextensions.k8s.io" => "pkg/apiserver/apiserver.go:55",
        "apiregistration.k8s.io" => "pkg/apiserver/scheme/scheme.go:28",
        _ => "pkg/api/legacyscheme/scheme.go:30",
    }
}

/// Whether a version is one of the group, served or not.
fn is_of_group(served: &Served, api_version: &str) -> bool {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    let known = crate::discovery::priority(version) != (0, 0, 0);
    group == served.kind.group && known && (!group.is_empty() || version == "v1")
}

/// The group of a kind in refusals. To upstream an Event is the old one inside, however it came.
pub(super) fn told_group(served: &Served) -> &'static str {
    match (served.kind.group, served.kind.kind) {
        ("events.k8s.io", "Event") => "",
        (group, _) => group,
    }
}

/// The package of a group's unversioned types.
pub(super) fn internal_package(group: &str) -> &str {
    match group.split('.').next() {
        Some("") | None => "core",
        Some(first) => first,
    }
}

/// The mode in machinery's words.
pub fn strictness(mode: FieldValidation) -> machinery::FieldValidation {
    match mode {
        FieldValidation::Ignore => machinery::FieldValidation::Ignore,
        FieldValidation::Warn => machinery::FieldValidation::Warn,
        FieldValidation::Strict => machinery::FieldValidation::Strict,
    }
}

pub(crate) fn type_name(value: &Value) -> &'static str {
    match value {
        Value::Array(_) => "array",
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "bool",
        Value::Object(_) => "object",
        Value::Null => "null",
    }
}

fn check_namespace(ctx: &Ctx, value: &mut Value) -> Result<(), Status> {
    let given = meta(value, "namespace").to_string();
    if !ctx.served.kind.namespaced {
        unset_meta(value, "namespace");
        return Ok(());
    }
    if ctx.namespace().is_empty() {
        return Err(Status::bad_request(
            "an empty namespace may not be set during creation",
        ));
    }
    if given.is_empty() {
        set_meta(value, "namespace", ctx.namespace());
    } else if given != ctx.namespace() {
        return Err(Status::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// Takes an object in its served version through admission and validation into the store.
///
/// `applied_by` is set by apply, which has written the managed fields already.
pub async fn store_new(
    ctx: &Ctx,
    sent: impl Into<Sent>,
    options: &WriteOptions,
    applied_by: Option<&str>,
) -> Result<bytes::Bytes, Status> {
    let sent = sent.into();
    let object = &sent.object;
    let generated = meta(object, "name").is_empty() && !meta(object, "generateName").is_empty();
    if generated {
        for _ in 1..NAME_ATTEMPTS {
            match attempt_new(ctx, sent.clone(), options, applied_by).await {
                // A generated name that is taken: take another.
                Err(status) if status.is_already_exists() => {}
                other => return other,
            }
        }
    }
    attempt_new(ctx, sent, options, applied_by).await
}

async fn attempt_new(
    ctx: &Ctx,
    Sent {
        mut object,
        mut empties,
    }: Sent,
    options: &WriteOptions,
    applied_by: Option<&str>,
) -> Result<bytes::Bytes, Status> {
    let served = &ctx.served;
    // What is no number is no version; upstream's store does not mind it.
    let version = meta(&object, "resourceVersion").parse::<u64>();
    let versioned = version.is_ok_and(|v| v != 0) && applied_by.is_none();
    default(ctx, &mut object);
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        unset_meta(&mut object, field);
    }
    // Before admission, as upstream: who sends an object does not own what the server fills in.
    if applied_by.is_none() {
        let manager = ctx.field_manager(&options.field_manager);
        let typed = served.typed();
        empties.owned(served.kind, &mut object, |object| {
            machinery::apply::update_managers(typed, None, object, &manager, "Update", None, &now());
        });
    }
    let options_value = options.to_value("CreateOptions");
    let dry_run = options.dry_run;
    let rewritten = ctx
        .admit(Operation::Create, &mut object, None, &options_value, dry_run)
        .await?;
    if rewritten {
        empties = Empties::default();
    }
    give_name(&mut object);
    if (served.kind.group, served.kind.kind) == ("", "LimitRange") && meta(&object, "name").is_empty() {
        set_meta(&mut object, "name", uuid::Uuid::new_v4().to_string());
    }
    // Before the strategy: a Job selects its Pods by its uid.
    set_meta(&mut object, "uid", uuid::Uuid::new_v4().to_string());
    set_meta(&mut object, "creationTimestamp", now());
    match &served.custom {
        Some(custom) => custom.prepare_create(&mut object),
        None => {
            ctx.notes
                .warn_all(machinery::early_warnings(served.kind, &object));
            machinery::prepare_create(served.kind, &mut object);
        }
    }
    unset_meta(&mut object, "resourceVersion");
    let reservation = ctx.server.alloc.on_create(served, &mut object, options.dry_run)?;
    let errors = match &served.custom {
        Some(custom) => {
            let errors = custom.validate_create(&object);
            machinery::whole_numbers(&mut object);
            if errors.is_empty() {
                ctx.notes.warn_all(custom.finalizer_warnings(&object, None));
            }
            errors
        }
        None => {
            let errors = empties.judged(&object, |object| {
                let mut errors = administrative(ctx, object, None);
                errors.extend(machinery::validate_create(served.kind, object));
                with_expressions(served, object, None, errors)
            });
            // Also where admission refuses the object afterwards.
            if errors.is_empty() {
                ctx.notes.warn_all(definition_warnings(served, &object, None));
                ctx.notes
                    .warn_all(machinery::warnings(served.kind, &object, None));
            }
            errors
        }
    };
    if !errors.is_empty() {
        let name = meta(&object, "name");
        let shown = if name.is_empty() {
            meta(&object, "generateName")
        } else {
            name
        };
        return Err(Status::invalid(
            served.kind.kind,
            told_group(served),
            shown,
            errors,
        ));
    }
    // Who may change an object may not for that make one.
    if ctx.attributes.verb != "create" {
        let making = Attributes {
            verb: "create".into(),
            ..Attributes::clone(&ctx.attributes)
        };
        ctx.server.authorized(&ctx.user, &making).await?;
    }
    let passed = ctx
        .validate_written(
            Operation::Create,
            &mut object,
            None,
            &empties,
            &options_value,
            dry_run,
        )
        .await?;
    let mut outcome = match versioned && !dry_run {
        true => Err(versioned_already()),
        false => store(ctx, &object, dry_run).await,
    };
    if applied_by.is_none() && outcome.as_ref().is_err_and(write::is_too_large) {
        unset_meta(&mut object, "managedFields");
        outcome = store(ctx, &object, dry_run).await;
    }
    let stored = outcome.is_ok();
    ctx.settle(
        passed,
        Operation::Create,
        &mut object,
        None,
        &options_value,
        dry_run,
        stored,
    )
    .await;
    let bytes = match outcome {
        Ok(bytes) => bytes,
        Err(status) => return Err(taken(ctx, &object, status).await),
    };
    reservation.keep();
    Ok(bytes)
}

/// Says more of a name that is taken: that it was a generated one, that its object is going (upstream:
/// `CheckGeneratedNameError` of `registry/rest/create.go`, and `registry/generic/registry/store.go`).
async fn taken(ctx: &Ctx, object: &Value, mut status: Status) -> Status {
    if !status.is_already_exists() {
        return status;
    }
    if !meta(object, "generateName").is_empty() {
        status.message += ", the server was not able to generate a unique name for the object";
        if let Some(details) = status.details.as_mut() {
            details.retry_after_seconds = 1;
        }
    }
    let namespace = match ctx.served.kind.namespaced {
        true => meta(object, "namespace"),
        false => "",
    };
    let fresh = ctx.server.fresh().await.is_ok();
    let present = ctx.served.cache.get(namespace, meta(object, "name"));
    let going = present.is_some_and(|present| !meta(&present.value(), "deletionTimestamp").is_empty());
    if fresh && going {
        status.message = format!("object is being deleted: {}", status.message);
    }
    status
}

/// Upstream's store says this, last of all, and only when it is asked to write.
fn versioned_already() -> Status {
    Status::plain("resourceVersion should not be set on objects to be created")
}

/// What is wrong with an object, its expressions looked at as well.
pub fn with_expressions(
    served: &Served,
    object: &Value,
    old: Option<&Value>,
    mut errors: Vec<FieldError>,
) -> Vec<FieldError> {
    let found = check_expressions(served, object, old);
    if served.kind.kind == "CustomResourceDefinition" {
        errors.extend(found);
        return errors;
    }
    crate::admission::expressions::interleaved(errors, found)
}

/// Checks the expressions inside objects that have some: definitions, webhooks, policies. Where they are as before, in `old`,
/// they are left alone.
fn check_expressions(served: &Served, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    let is_known = || {
        let parts = ["spec", "webhooks"];
        old.is_some_and(|old| parts.iter().all(|part| old[*part] == object[*part]))
    };
    match (served.kind.group, served.kind.kind) {
        ("apiextensions.k8s.io", "CustomResourceDefinition") => crate::crd::definition::check(object, old),
        ("resource.k8s.io" | "admissionregistration.k8s.io", _) if is_known() => Vec::new(),
        ("resource.k8s.io", _) => crate::admission::devices::expressions(served.kind.kind, object),
        ("admissionregistration.k8s.io", _) => crate::admission::expressions::check(served.kind.kind, object),
        _ => Vec::new(),
    }
}

/// What a claim of devices lacks for the administrative access that it asks for. `old`: before the change of its status.
pub fn administrative(ctx: &Ctx, object: &Value, old: Option<&Value>) -> Vec<FieldError> {
    if ctx.served.kind.group != "resource.k8s.io" {
        return Vec::new();
    }
    let caches = &*ctx.server.caches;
    Vec::from_iter(crate::admission::devices::unlabelled(
        ctx.served.kind.kind,
        object,
        old,
        caches,
    ))
}

/// Warnings of a definition whose schemas name formats that nobody checks; only those that are new.
pub fn definition_warnings(served: &Served, new: &Value, old: Option<&Value>) -> Vec<String> {
    let is_same = |old: &Value| new["spec"] == old["spec"];
    if served.kind.kind != "CustomResourceDefinition" || old.is_some_and(is_same) {
        return Vec::new();
    }
    let before = old
        .map(crate::crd::structural::unrecognized_formats)
        .unwrap_or_default();
    crate::crd::structural::unrecognized_formats(new)
        .into_iter()
        .filter(|format| !before.contains(format))
        .map(|format| format!("unrecognized format {format:?}"))
        .collect()
}

/// Writes the object, or says what writing it would have answered.
async fn store(ctx: &Ctx, object: &Value, dry_run: bool) -> Result<bytes::Bytes, Status> {
    let served = &ctx.served;
    let stored = to_stored(ctx, object).await?;
    if !dry_run {
        return Ok(ctx.server.insert(served, &stored).await?.bytes);
    }
    let namespace = if served.kind.namespaced {
        meta(object, "namespace")
    } else {
        ""
    };
    if served.cache.get(namespace, meta(object, "name")).is_some() {
        return Err(Status::already_exists(
            served.kind.plural,
            served.kind.group,
            meta(object, "name"),
        ));
    }
    Ok(crate::cache::object::encode(&stored))
}

/// Fills in defaults of the served version.
pub fn default(ctx: &Ctx, object: &mut Value) {
    match &ctx.served.custom {
        Some(custom) => custom.default(object),
        None => machinery::default(ctx.served.kind, object),
    }
}

/// Converts an object of the served version into the storage version.
pub async fn to_stored<'v>(ctx: &Ctx, object: &'v Value) -> Result<Cow<'v, Value>, Status> {
    if ctx.served.is_stored_version() {
        return Ok(Cow::Borrowed(object));
    }
    let converted = ctx
        .server
        .convert(&ctx.served, object.clone(), ctx.served.kind, ctx.served.stored);
    Ok(Cow::Owned(converted.await?))
}

fn give_name(object: &mut Value) {
    let base = meta(object, "generateName");
    if !meta(object, "name").is_empty() || base.is_empty() {
        return;
    }
    let base: String = base.chars().take(MAX_BASE).collect();
    let mut rng = rand::rng();
    let suffix: String = (0..5)
        .map(|_| ALPHABET[rng.random_range(0..ALPHABET.len())] as char)
        .collect();
    set_meta(object, "name", format!("{base}{suffix}"));
}
