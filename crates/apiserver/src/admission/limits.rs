//! LimitRanger: default requests and limits for containers, and bounds for containers, Pods and volume claims.

use super::pod::{Amounts, amounts, items, total};
use super::{forbidden, is_on};
use crate::admit::{AdmissionPlugin, AdmissionRequest, Operation};
use crate::view::{GroupResource, View};
use async_trait::async_trait;
use kinds::quantity::Quantity;
use kinds::status::Status;
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// The annotation that says what was set.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The step.
pub struct LimitRanger;

/// Whether the resources of an existing Pod change.
fn is_resize(request: &AdmissionRequest<'_>) -> bool {
    let a = request.attributes;
    request.operation == Operation::Update
        && (a.group.is_empty() && a.resource == "pods" && a.subresource == "resize")
}

/// What is deleted is not judged: it could not get rid of its finalizers otherwise.
fn is_going(request: &AdmissionRequest<'_>) -> bool {
    let going = |old: &Value| !old["metadata"]["deletionTimestamp"].is_null();
    request.old.is_some_and(going)
}

fn ranges(request: &AdmissionRequest<'_>, view: &dyn View) -> Vec<Arc<Value>> {
    view.list(
        &GroupResource::new("", "limitranges"),
        Some(&request.attributes.namespace),
    )
}

#[async_trait]
impl AdmissionPlugin for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    async fn admit(
        &self,
        request: &mut AdmissionRequest<'_>,
        view: &dyn View,
    ) -> Result<Vec<String>, Status> {
        let is_new = request.operation == Operation::Create && is_on(request, "", "pods");
        if is_new || (is_resize(request) && !is_going(request)) {
            for range in ranges(request, view) {
                set_defaults(request.object, &range);
            }
        }
        Ok(Vec::new())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, view: &dyn View) -> Result<Vec<String>, Status> {
        if is_going(request) {
            return Ok(Vec::new());
        }
        let checks: fn(&Value, &Value, &mut Vec<String>) = if is_resize(request) {
            check_pod
        } else if is_on(request, "", "pods") {
            // The resources of an existing Pod change by resize only.
            if request.operation != Operation::Create {
                return Ok(Vec::new());
            }
            check_pod
        } else if is_on(request, "", "persistentvolumeclaims") {
            if !matches!(request.operation, Operation::Create | Operation::Update) {
                return Ok(Vec::new());
            }
            check_claim
        } else {
            return Ok(Vec::new());
        };
        for range in ranges(request, view) {
            let mut problems = Vec::new();
            for limit in items(&range["spec"], "limits") {
                checks(request.object, limit, &mut problems);
            }
            let mut said = BTreeSet::new();
            problems.retain(|problem| said.insert(problem.clone()));
            match problems.as_slice() {
                [] => {}
                [one] => return Err(forbidden(request, one)),
                many => return Err(forbidden(request, format!("[{}]", many.join(", ")))),
            }
        }
        Ok(Vec::new())
    }
}

/// Gives containers what the range says they have when they say nothing.
fn set_defaults(pod: &mut Value, range: &Value) {
    let mut requests = Amounts::new();
    let mut limits = Amounts::new();
    for limit in items(&range["spec"], "limits").filter(|l| l["type"] == "Container") {
        requests.extend(amounts(&limit["defaultRequest"]));
        limits.extend(amounts(&limit["default"]));
    }
    if requests.is_empty() && limits.is_empty() {
        return;
    }
    let mut said = Vec::new();
    for (list, word) in [("containers", "container"), ("initContainers", "init container")] {
        let Some(containers) = pod["spec"].get_mut(list).and_then(Value::as_array_mut) else {
            continue;
        };
        for container in containers {
            let name = container["name"].as_str().unwrap_or_default().to_string();
            let set_requests = fill(container, "requests", &requests);
            let set_limits = fill(container, "limits", &limits);
            for (set, what) in [(set_requests, "request"), (set_limits, "limit")] {
                if !set.is_empty() {
                    said.push(format!("{} {what} for {word} {name}", set.join(", ")));
                }
            }
        }
    }
    if !said.is_empty() {
        let annotations = &mut pod["metadata"]["annotations"];
        if !annotations.is_object() {
            *annotations = json!({});
        }
        annotations[ANNOTATION] = format!("LimitRanger plugin set: {}", said.join("; ")).into();
    }
}

/// Sets what is missing; returns the names of what was set, sorted.
fn fill(container: &mut Value, which: &str, defaults: &Amounts) -> Vec<String> {
    let mut set = Vec::new();
    for (name, amount) in defaults {
        let have = container["resources"][which].get(name).is_some();
        if !have {
            let resources = &mut container["resources"];
            if !resources.is_object() {
                *resources = Value::Object(Map::new());
            }
            if !resources[which].is_object() {
                resources[which] = json!({});
            }
            resources[which][name] = amount.to_string().into();
            set.push(name.clone());
        }
    }
    set
}

fn check_pod(pod: &Value, limit: &Value, problems: &mut Vec<String>) {
    match limit["type"].as_str() {
        Some("Container") => {
            let spec = &pod["spec"];
            for container in items(spec, "containers").chain(items(spec, "initContainers")) {
                let resources = &container["resources"];
                check(
                    limit,
                    &amounts(&resources["requests"]),
                    &amounts(&resources["limits"]),
                    problems,
                );
            }
        }
        Some("Pod") => {
            let spec = &pod["spec"];
            check(limit, &total(spec, "requests"), &total(spec, "limits"), problems);
        }
        _ => {}
    }
}

fn check_claim(claim: &Value, limit: &Value, problems: &mut Vec<String>) {
    if limit["type"] != "PersistentVolumeClaim" {
        return;
    }
    let requests = amounts(&claim["spec"]["resources"]["requests"]);
    for (name, min) in amounts(&limit["min"]) {
        at_least(
            "PersistentVolumeClaim",
            &name,
            &min,
            requests.get(&name),
            None,
            problems,
        );
    }
    for (name, max) in amounts(&limit["max"]) {
        match requests.get(&name) {
            None => problems.push(format!(
                "maximum {name} usage per PersistentVolumeClaim is {max}.  No request is specified"
            )),
            Some(request) if *request > max => problems.push(format!(
                "maximum {name} usage per PersistentVolumeClaim is {max}, but request is {request}"
            )),
            Some(_) => {}
        }
    }
}

/// Minimum, maximum and ratio of one `limits` item.
fn check(limit: &Value, requests: &Amounts, limits: &Amounts, problems: &mut Vec<String>) {
    let kind = limit["type"].as_str().unwrap_or_default();
    for (name, min) in amounts(&limit["min"]) {
        at_least(
            kind,
            &name,
            &min,
            requests.get(&name),
            limits.get(&name),
            problems,
        );
    }
    for (name, max) in amounts(&limit["max"]) {
        match (requests.get(&name), limits.get(&name)) {
            (_, None) => problems.push(format!(
                "maximum {name} usage per {kind} is {max}.  No limit is specified"
            )),
            (_, Some(l)) if *l > max => problems.push(format!(
                "maximum {name} usage per {kind} is {max}, but limit is {l}"
            )),
            (Some(r), _) if *r > max => problems.push(format!(
                "maximum {name} usage per {kind} is {max}, but request is {r}"
            )),
            _ => {}
        }
    }
    for (name, ratio) in amounts(&limit["maxLimitRequestRatio"]) {
        let positive = |q: Option<&Quantity>| q.filter(|q| !q.is_zero() && !q.is_negative()).cloned();
        let head = format!("{name} max limit to request ratio per {kind} is {ratio}, but");
        match (positive(requests.get(&name)), positive(limits.get(&name))) {
            (None, _) => problems.push(format!("{head} no request is specified or request is 0")),
            (_, None) => problems.push(format!("{head} no limit is specified or limit is 0")),
            (Some(request), Some(limit)) => {
                let provided = limit.as_milli() as f64 / request.as_milli() as f64;
                if provided > ratio.as_milli() as f64 / 1000.0 {
                    problems.push(format!("{head} provided ratio is {provided:.6}"));
                }
            }
        }
    }
}

fn at_least(
    kind: &str,
    name: &str,
    min: &Quantity,
    request: Option<&Quantity>,
    limit: Option<&Quantity>,
    problems: &mut Vec<String>,
) {
    match request {
        None => problems.push(format!(
            "minimum {name} usage per {kind} is {min}.  No request is specified"
        )),
        Some(r) if r < min => problems.push(format!(
            "minimum {name} usage per {kind} is {min}, but request is {r}"
        )),
        Some(_) => {
            if let Some(l) = limit.filter(|l| *l < min) {
                problems.push(format!(
                    "minimum {name} usage per {kind} is {min}, but limit is {l}"
                ));
            }
        }
    }
}
