//! `pods/eviction`: a deletion that asks the Pod's disruption budget first.

use super::bodies;
use crate::admit::Operation;
use crate::rest::{self, Ctx, meta, now};
use crate::view::{GroupResource, View};
use crate::wire::options::{DeleteOptions, WriteOptions};
use crate::wire::{Body, Response, input};
use http::StatusCode;
use kinds::field::{FieldError, Path};
use kinds::selector::LabelSelector;
use kinds::status::Status;
use serde_json::{Value, json};
use std::sync::Arc;

/// Answers a POST of an Eviction.
pub async fn evict(ctx: &Ctx, request: Body) -> Result<Response, Status> {
    let options = WriteOptions::parse(&ctx.query, "CreateOptions")?;
    let bytes = input::read(request).await?;
    let mut eviction = bodies::read(ctx, &bodies::EVICTION, &bytes, options.validation)?;
    let name = meta(&eviction, "name");
    if name != ctx.name() {
        return Err(Status::bad_request(
            "name in URL does not match name in Eviction object",
        ));
    }
    same_dry_run(&eviction, &options)?;
    let mut delete = DeleteOptions::parse("", Some(eviction.get("deleteOptions").unwrap_or(&Value::Null)))?;
    if eviction.pointer("/deleteOptions/ignoreStoreReadErrorWithClusterBreakingPotential")
        == Some(&json!(true))
    {
        let at = Path::new("deleteOptions").child("ignoreStoreReadErrorWithClusterBreakingPotential");
        let text = "can not be set for pod eviction, try after removing the option";
        let error = FieldError::invalid(&at, json!(true), text);
        return Err(Status::invalid("Eviction", "policy", ctx.name(), vec![error]));
    }
    delete.dry_run |= options.dry_run;
    ctx.server.fresh().await?;
    let found = ctx
        .served
        .cache
        .get(ctx.namespace(), ctx.name())
        .ok_or_else(|| ctx.not_found())?;
    admitted(ctx, &mut eviction, &options).await?;
    let pod = found.value();
    if !may_go_freely(&pod) {
        let budgets = budgets_of(ctx, &pod)?;
        match budgets.as_slice() {
            [] => {}
            [budget] => spend(ctx, budget, &pod, delete.dry_run).await?,
            _ => {
                return Err(Status::internal(
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
                ));
            }
        }
        if delete.uid.is_none() {
            // The Pod that was judged is the one that goes.
            delete.uid = Some(meta(&pod, "uid").to_string());
        }
    }
    if !delete.dry_run {
        mark(ctx, &mut delete).await?;
    }
    rest::delete::remove_admitted(ctx, ctx.namespace(), ctx.name(), &delete, true).await?;
    let status = json!({"kind":"Status","apiVersion":"v1","metadata":{},"status":"Success","code":201});
    rest::render::value_answer(ctx, StatusCode::CREATED, &status, ctx.wanted(false)?)
}

/// Whoever says in both places whether this is only tried says the same.
fn same_dry_run(eviction: &Value, options: &WriteOptions) -> Result<(), Status> {
    let asked = eviction
        .pointer("/deleteOptions/dryRun")
        .and_then(Value::as_array);
    let Some(asked) = asked.filter(|asked| options.dry_run && !asked.is_empty()) else {
        return Ok(());
    };
    let asked: Vec<&str> = asked.iter().filter_map(Value::as_str).collect();
    if asked == ["All"] {
        return Ok(());
    }
    Err(Status::plain(format!(
        "Non-matching dry-run options in request and content: [All] and [{}]",
        asked.join(" ")
    )))
}

/// Says in the Pod why it goes (KEP-3329): a Job's failure policy may then not count it.
async fn mark(ctx: &Ctx, delete: &mut DeleteOptions) -> Result<(), Status> {
    let edit = |pod: &Value| {
        let revision = meta(pod, "resourceVersion").parse().unwrap_or(0);
        rest::delete::preconditions(ctx, ctx.name(), delete, pod, revision)?;
        let mut next = pod.clone();
        let mut condition = json!({"type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
            "message": "Eviction API: evicting", "lastTransitionTime": now()});
        if let Some(generation) = pod.pointer("/metadata/generation") {
            condition["observedGeneration"] = generation.clone();
        }
        let status = &mut next["status"];
        if !status["conditions"].is_array() {
            status["conditions"] = json!([]);
        }
        if let Some(conditions) = status["conditions"].as_array_mut() {
            let known = conditions.iter_mut().find(|c| c["type"] == condition["type"]);
            match known {
                Some(known) if known["reason"] == condition["reason"] => {}
                Some(known) => *known = condition,
                None => conditions.push(condition),
            }
        }
        Ok(next)
    };
    let marked = ctx
        .server
        .edit(&ctx.served, ctx.namespace(), ctx.name(), edit)
        .await?;
    if delete.resource_version.is_some() {
        // The version that was asked for is the one that has been marked.
        delete.resource_version = Some(marked.revision.to_string());
    }
    Ok(())
}

/// Admission judges the eviction; the deletion that follows from it is not judged again.
async fn admitted(ctx: &Ctx, eviction: &mut Value, options: &WriteOptions) -> Result<(), Status> {
    let value = options.to_value("CreateOptions");
    let dry_run = options.dry_run;
    ctx.admit(Operation::Create, eviction, None, &value, dry_run)
        .await?;
    let passed = ctx
        .validate(Operation::Create, eviction, None, &value, dry_run)
        .await?;
    ctx.settle(passed, Operation::Create, eviction, None, &value, dry_run, true)
        .await;
    Ok(())
}

/// Pods that serve nothing need no budget.
fn may_go_freely(pod: &Value) -> bool {
    let phase = pod
        .pointer("/status/phase")
        .and_then(Value::as_str)
        .unwrap_or("Pending");
    matches!(phase, "Succeeded" | "Failed" | "Pending") || !meta(pod, "deletionTimestamp").is_empty()
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod.pointer("/status/conditions").and_then(Value::as_array);
    conditions.is_some_and(|l| l.iter().any(|c| c["type"] == "Ready" && c["status"] == "True"))
}

fn budgets_of(ctx: &Ctx, pod: &Value) -> Result<Vec<Arc<Value>>, Status> {
    let resource = GroupResource::new("policy", "poddisruptionbudgets");
    let empty = serde_json::Map::new();
    let labels = pod
        .pointer("/metadata/labels")
        .and_then(Value::as_object)
        .unwrap_or(&empty);
    let mut found = Vec::new();
    for budget in ctx.server.caches.list(&resource, Some(ctx.namespace())) {
        let Some(selector) = budget.pointer("/spec/selector") else {
            continue;
        };
        let selector = LabelSelector::from_json(selector).map_err(|e| Status::internal(e.to_string()))?;
        if selector.matches_with(|key| labels.get(key).and_then(Value::as_str)) {
            found.push(budget);
        }
    }
    Ok(found)
}

/// Takes one disruption from the budget, or refuses.
async fn spend(ctx: &Ctx, budget: &Value, pod: &Value, dry_run: bool) -> Result<(), Status> {
    let Some(served) = ctx
        .server
        .resource_of(&GroupResource::new("policy", "poddisruptionbudgets"))
    else {
        return Ok(());
    };
    let unready_goes = budget
        .pointer("/spec/unhealthyPodEvictionPolicy")
        .and_then(Value::as_str)
        == Some("AlwaysAllow");
    if !is_ready(pod) && unready_goes {
        return Ok(());
    }
    let (name, pod_name) = (meta(budget, "name").to_string(), meta(pod, "name").to_string());
    let ready = is_ready(pod);
    let edit = |budget: &Value| {
        let number = |f: &str| {
            budget
                .pointer(&format!("/status/{f}"))
                .and_then(Value::as_i64)
                .unwrap_or(0)
        };
        if !ready && number("currentHealthy") >= number("desiredHealthy") && number("desiredHealthy") > 0 {
            return Ok(budget.clone());
        }
        let observed = number("observedGeneration");
        let generation = budget
            .pointer("/metadata/generation")
            .and_then(Value::as_i64)
            .unwrap_or(0);
        if observed < generation {
            return Err(refusal(
                "Cannot evict pod as it would violate the pod's disruption budget.",
                &format!("The disruption budget {name} is still being processed by the server."),
                10,
            ));
        }
        let allowed = number("disruptionsAllowed");
        if allowed <= 0 {
            return Err(refusal(
                "Cannot evict pod as it would violate the pod's disruption budget.",
                &format!(
                    "The disruption budget {name} needs {} healthy pods and has {} currently",
                    number("desiredHealthy"),
                    number("currentHealthy")
                ),
                0,
            ));
        }
        let mut next = budget.clone();
        next["status"]["disruptionsAllowed"] = json!(allowed - 1);
        next["status"]["disruptedPods"][&pod_name] = json!(now());
        Ok(next)
    };
    if dry_run {
        return edit(budget).map(|_| ());
    }
    ctx.server
        .edit(&served, ctx.namespace(), meta(budget, "name"), edit)
        .await
        .map(|_| ())
}

fn refusal(message: &str, cause: &str, retry_after: u32) -> Status {
    let mut status = Status::too_many_requests(message, retry_after);
    status.add_cause("DisruptionBudget", cause, "");
    status
}
