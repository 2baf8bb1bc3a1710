//! `pods/binding`: the scheduler gives a Pod its node. Happens once; who comes second is told who was first.

use super::bodies;
use crate::admit::Operation;
use crate::rest::update::{failed, invalid_object};
use crate::rest::{self, Ctx, meta, now};
use crate::view::GroupResource;
use crate::wire::options::WriteOptions;
use crate::wire::{Body, Response, input};
use http::StatusCode;
use kinds::field::{FieldError, Path};
use kinds::status::Status;
use serde_json::{Value, json};

/// Answers a POST of a Binding.
pub async fn bind(ctx: &Ctx, request: Body) -> Result<Response, Status> {
    let options = WriteOptions::parse(&ctx.query, "CreateOptions")?;
    let bytes = input::read(request).await?;
    let mut binding = bodies::read(ctx, &bodies::BINDING, &bytes, options.validation)?;
    let name = match (ctx.name(), meta(&binding, "name")) {
        ("", name) => name.to_string(),
        (name, given) if given != name => {
            return Err(Status::bad_request(
                "name in URL does not match name in Binding object",
            ));
        }
        (name, _) => name.to_string(),
    };
    // Beside the Pods it is an object of its own, which has no uid before it is made.
    if ctx.name().is_empty() {
        rest::unset_meta(&mut binding, "uid");
    }
    let target = binding
        .pointer("/target/name")
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_string();
    let target_kind = binding
        .pointer("/target/kind")
        .and_then(Value::as_str)
        .unwrap_or("")
        .to_string();
    let at = Path::new("target");
    let mut errors = Vec::new();
    if !target_kind.is_empty() && target_kind != "Node" {
        let mut error = FieldError::not_supported(&at.child("kind"), json!(target_kind), &[]);
        error.detail = "supported values: \"Node\", \"<empty>\"".into();
        errors.push(error);
    }
    if target.is_empty() {
        errors.push(FieldError::required(&at.child("name"), ""));
    }
    if !errors.is_empty() {
        // Upstream gives these no more than their words.
        let told: Vec<String> = errors.iter().map(ToString::to_string).collect();
        return Err(Status::plain(match told.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        }));
    }
    let options_value = options.to_value("CreateOptions");
    ctx.admit(
        Operation::Create,
        &mut binding,
        None,
        &options_value,
        options.dry_run,
    )
    .await?;
    let pods = ctx.server.resource_of(&GroupResource::new("", "pods"));
    let Some(pods) = pods else {
        return Err(Status::not_found("pods", "", &name));
    };
    let dry_run = options.dry_run;
    let edit = |pod: &Value| assigned(pod, &binding, &name, &target, dry_run);
    let mut object = binding.clone();
    let passed = ctx
        .validate(Operation::Create, &mut object, None, &options_value, dry_run)
        .await?;
    usable(&name)?;
    let outcome = match dry_run {
        true => {
            ctx.server.fresh().await?;
            match pods.cache.get(ctx.namespace(), &name) {
                Some(pod) => edit(&pod.value()).map(|_| ()),
                None => Err(Status::not_found("pods", "", &name)),
            }
        }
        false => ctx
            .server
            .edit(&pods, ctx.namespace(), &name, edit)
            .await
            .map(|_| ()),
    };
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
    outcome?;
    let status = json!({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","code":201});
    rest::render::value_answer(ctx, StatusCode::CREATED, &status, ctx.wanted(false)?)
}

/// A name that a body alone gives may be none that an object can have.
fn usable(name: &str) -> Result<(), Status> {
    if name.is_empty() {
        return Err(Status::bad_request("Name parameter required."));
    }
    let wrong = machinery::path_segment(name);
    if wrong.is_empty() {
        return Ok(());
    }
    let why = wrong.join(";");
    Err(Status::bad_request(format!(
        "Name parameter invalid: {name:?}: {why}"
    )))
}

/// The Pod with its node.
fn assigned(pod: &Value, binding: &Value, name: &str, node: &str, dry_run: bool) -> Result<Value, Status> {
    let conflict = |why: String| Status::conflict("pods/binding", "", name, &why);
    for (what, field) in [("UID", "uid"), ("ResourceVersion", "resourceVersion")] {
        let (asked, has) = (meta(binding, field), meta(pod, field));
        if !asked.is_empty() && asked != has {
            // Who only tries does not get as far as the prefix of the store.
            let prefix = if dry_run { "" } else { "/registry" };
            let key = format!("{prefix}/pods/{}/{name}", meta(pod, "namespace"));
            let why = invalid_object(&key, &failed(what, asked, has));
            return Err(Status::conflict("pods", "", name, &why));
        }
    }
    if !meta(pod, "deletionTimestamp").is_empty() {
        return Err(conflict(format!(
            "pod {name} is being deleted, cannot be assigned to a host"
        )));
    }
    let has = pod
        .pointer("/spec/nodeName")
        .and_then(Value::as_str)
        .unwrap_or("");
    if !has.is_empty() {
        return Err(conflict(format!(
            "pod {name} is already assigned to node {has:?}"
        )));
    }
    if pod
        .pointer("/spec/schedulingGates")
        .and_then(Value::as_array)
        .is_some_and(|g| !g.is_empty())
    {
        return Err(conflict(format!(
            "pod {name} has non-empty .spec.schedulingGates"
        )));
    }
    let mut pod = pod.clone();
    pod["spec"]["nodeName"] = json!(node);
    for map in ["annotations", "labels"] {
        for (key, value) in binding["metadata"][map].as_object().into_iter().flatten() {
            pod["metadata"][map][key] = value.clone();
        }
    }
    let condition = json!({
        "type": "PodScheduled", "status": "True", "lastProbeTime": null, "lastTransitionTime": now(),
    });
    if !pod["status"].is_object() {
        pod["status"] = json!({});
    }
    // The promise is kept or broken (KEP-5278).
    if let Some(status) = pod["status"].as_object_mut() {
        status.remove("nominatedNodeName");
    }
    match pod
        .pointer_mut("/status/conditions")
        .and_then(Value::as_array_mut)
    {
        Some(list) => {
            list.retain(|c| c["type"] != "PodScheduled");
            list.push(condition);
        }
        None => pod["status"]["conditions"] = json!([condition]),
    }
    Ok(pod)
}
