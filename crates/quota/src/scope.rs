//! Which objects a quota is about: its `scopes` and `scopeSelector`, which narrow it to some Pods.

use crate::amounts::is_best_effort;
use crate::items;
use cache::view::GroupResource;
use serde_json::Value;

/// Whether `quota` counts `object`.
pub fn matches(quota: &Value, resource: &GroupResource, object: &Value) -> bool {
    let spec = &quota["spec"];
    let mut scopes = items(spec, "scopes").filter_map(Value::as_str);
    let mut expressions = items(&spec["scopeSelector"], "matchExpressions");
    if spec["scopes"].as_array().is_none_or(Vec::is_empty)
        && spec["scopeSelector"]["matchExpressions"]
            .as_array()
            .is_none_or(Vec::is_empty)
    {
        return true;
    }
    // Scopes are about Pods, and one about claims; a scoped quota counts nothing else.
    let is_claim = *resource == GroupResource::new("", "persistentvolumeclaims");
    if !is_claim && *resource != GroupResource::new("", "pods") {
        return false;
    }
    let holds = |scope: &str, operator: &str, values: &Value, object: &Value| match is_claim {
        true => scope == "VolumeAttributesClass" && has_class(operator, values, object),
        false => holds(scope, operator, values, object),
    };
    scopes.all(|scope| holds(scope, "Exists", &Value::Null, object))
        && expressions.all(|e| {
            let scope = e["scopeName"].as_str().unwrap_or_default();
            holds(
                scope,
                e["operator"].as_str().unwrap_or_default(),
                &e["values"],
                object,
            )
        })
}

/// Whether a claim has, or is to have, one of some classes of attributes.
fn has_class(operator: &str, values: &Value, claim: &Value) -> bool {
    let names = [
        "/spec/volumeAttributesClassName",
        "/status/currentVolumeAttributesClassName",
        "/status/modifyVolumeStatus/targetVolumeAttributesClassName",
    ];
    let names = names.iter().filter_map(|at| claim.pointer(at)?.as_str());
    let mut names = names.filter(|name| !name.is_empty()).peekable();
    match operator {
        "Exists" => names.peek().is_some(),
        "DoesNotExist" => names.peek().is_none(),
        _ => {
            let listed = names.any(|name| values.as_array().into_iter().flatten().any(|v| v == name));
            listed == (operator == "In")
        }
    }
}

/// Whether a Pod has an end of its own, as those of Jobs may.
pub fn is_terminating(pod: &Value) -> bool {
    pod["spec"]["activeDeadlineSeconds"]
        .as_i64()
        .is_some_and(|s| s >= 0)
}

fn holds(scope: &str, operator: &str, values: &Value, pod: &Value) -> bool {
    let spec = &pod["spec"];
    match scope {
        "Terminating" => is_terminating(pod),
        "NotTerminating" => !is_terminating(pod),
        "BestEffort" => is_best_effort(spec),
        "NotBestEffort" => !is_best_effort(spec),
        "CrossNamespacePodAffinity" => ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
            let affinity = &spec["affinity"][*kind];
            let required = items(affinity, "requiredDuringSchedulingIgnoredDuringExecution");
            let preferred = items(affinity, "preferredDuringSchedulingIgnoredDuringExecution");
            required
                .chain(preferred.map(|p| &p["podAffinityTerm"]))
                .any(|t| items(t, "namespaces").next().is_some() || t["namespaceSelector"].is_object())
        }),
        "PriorityClass" => {
            let class = spec["priorityClassName"].as_str().unwrap_or_default();
            let listed = values.as_array().into_iter().flatten().any(|v| v == class);
            match operator {
                "In" => listed,
                "NotIn" => !listed,
                "Exists" => !class.is_empty(),
                "DoesNotExist" => class.is_empty(),
                _ => false,
            }
        }
        _ => false,
    }
}
