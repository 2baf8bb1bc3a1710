//! Validation of quotas, limit ranges and disruption budgets.

use super::errors::{Errors, IMMUTABLE};
use super::pod::{container_resource, is_exact, parse_quantity, resource_amount, resource_name};
use super::{names, selectors, workloads};
use crate::walk::At;
use kinds::field::{FieldError, Path};
use kinds::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeSet;

const SCOPES: [&str; 7] = [
    "BestEffort",
    "CrossNamespacePodAffinity",
    "NotBestEffort",
    "NotTerminating",
    "PriorityClass",
    "Terminating",
    "VolumeAttributesClass",
];
/// Resources of a quota that have no domain.
const QUOTA_NAMES: [&str; 19] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.storage",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "persistentvolumeclaims",
    "configmaps",
    "services.nodeports",
    "services.loadbalancers",
];

/// What Pods ask for.
const COMPUTE_NAMES: [&str; 6] = [
    "cpu",
    "memory",
    "requests.cpu",
    "requests.memory",
    "limits.cpu",
    "limits.memory",
];
/// Scopes that a selector may only ask for as such.
const PLAIN_SCOPES: [&str; 5] = [
    "BestEffort",
    "NotBestEffort",
    "Terminating",
    "NotTerminating",
    "CrossNamespacePodAffinity",
];

/// Checks a ResourceQuota's spec.
pub(super) fn quota(spec: &Value, at: &Path, errors: &mut Errors) {
    amounts(spec.at("hard"), &at.child("hard"), errors);
    let scopes = spec.strings_at("scopes");
    let place = at.child("scopes");
    for scope in &scopes {
        if !SCOPES.contains(scope) {
            errors.invalid(&place, spec.at("scopes").clone(), "unsupported scope");
        }
        for _ in strangers(scope, spec) {
            errors.invalid(&place, spec.at("scopes").clone(), UNFIT);
        }
    }
    conflicts(&scopes, spec, &place, errors);
    scope_selector(spec, &at.child("scopeSelector").child("matchExpressions"), errors);
}

/// The scopes of a quota are for life, in whatever order.
pub(super) fn quota_update(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let of = |spec: &Value| -> BTreeSet<String> {
        let scopes = spec.strings_at("scopes");
        scopes.into_iter().map(str::to_owned).collect()
    };
    if of(new) != of(old) {
        errors.invalid(&at.child("scopes"), new.at("scopes").clone(), IMMUTABLE);
    }
}

/// Checks what is reported of a quota.
pub(super) fn quota_status(quota: &Value, errors: &mut Errors) {
    for field in ["hard", "used"] {
        amounts(
            quota.at("status").at(field),
            &Path::new("status").child(field),
            errors,
        );
    }
}

fn is_counted_by_quota(name: &str) -> bool {
    let pages = name
        .strip_prefix("requests.")
        .unwrap_or(name)
        .starts_with("hugepages-");
    QUOTA_NAMES.contains(&name) || pages
}

fn amounts(amounts: &Value, at: &Path, errors: &mut Errors) {
    for (name, value) in amounts.as_object().into_iter().flatten() {
        let place = at.key(name);
        resource_name(name, &place, errors);
        if !name.contains('/') && !is_counted_by_quota(name) {
            errors.invalid(&place, name.as_str(), "must be a standard resource for quota");
        }
        resource_amount(name, value, &place, errors);
    }
}

const UNFIT: &str = "unsupported scope applied to resource";

/// The resources of a quota that a scope says nothing of.
fn strangers<'q>(scope: &str, spec: &'q Value) -> Vec<&'q String> {
    let fits = |name: &str| match scope {
        // Of Pods without requests there is nothing to count but themselves.
        "BestEffort" => name == "pods",
        "VolumeAttributesClass" => ["persistentvolumeclaims", "requests.storage"].contains(&name),
        scope if SCOPES.contains(&scope) => name == "pods" || COMPUTE_NAMES.contains(&name),
        _ => true,
    };
    let names = spec.entries_at("hard").into_iter().map(|(name, _)| name);
    names
        .filter(|name| is_counted_by_quota(name) && !fits(name))
        .collect()
}

fn conflicts(scopes: &[&str], spec: &Value, at: &Path, errors: &mut Errors) {
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|scope| scopes.contains(scope)) {
            errors.invalid(at, spec.at("scopes").clone(), "conflicting scopes");
        }
    }
}

/// Upstream names no item here.
fn scope_selector(spec: &Value, at: &Path, errors: &mut Errors) {
    let selector = spec.at("scopeSelector");
    let mut scopes = Vec::new();
    for expression in selector.list_at("matchExpressions") {
        let (scope, operator) = (expression.str_at("scopeName"), expression.str_at("operator"));
        let place = at.child("operator");
        if !SCOPES.contains(&scope) {
            errors.invalid(&at.child("scopeName"), scope, "unsupported scope");
        }
        for _ in strangers(scope, spec) {
            errors.invalid_shown(at, &selector_text(selector), UNFIT);
        }
        if PLAIN_SCOPES.contains(&scope) && operator != "Exists" {
            let text = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                        ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                        ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&place, operator, text);
        }
        match operator {
            "In" | "NotIn" if expression.is_empty_at("values") => {
                let text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&at.child("values"), text);
            }
            "Exists" | "DoesNotExist" if !expression.is_empty_at("values") => {
                let text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&at.child("values"), expression.at("values").clone(), text);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&place, other, "not a valid selector operator"),
        }
        scopes.push(scope);
    }
    conflicts(&scopes, spec, at, errors);
}

/// A selector of scopes as upstream's own types print it.
fn selector_text(selector: &Value) -> String {
    let one = |expression: &Value| {
        let [scope, operator] = ["scopeName", "operator"].map(|field| expression.str_at(field));
        format!(
            "{{\"ScopeName\":{scope:?},\"Operator\":{operator:?},\"Values\":{}}}",
            expression.at("values")
        )
    };
    let all: Vec<String> = selector.list_at("matchExpressions").iter().map(one).collect();
    format!("{{\"MatchExpressions\":[{}]}}", all.join(","))
}

const LIMITS: [&str; 5] = ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"];

pub(super) fn limit_range(spec: &Value, at: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, limit) in spec.list_at("limits").iter().enumerate() {
        let place = at.child("limits").index(i);
        let (kind, type_at) = (limit.str_at("type"), place.child("type"));
        let faults = names::qualified_name(kind);
        if faults.is_empty()
            && !["Container", "Pod", "PersistentVolumeClaim"].contains(&kind)
            && !kind.contains('/')
        {
            errors.invalid(&type_at, kind, "must be a standard limit type or fully qualified");
        }
        errors.each(&type_at, kind, faults);
        if !seen.insert(kind) {
            errors.duplicate(&type_at, kind);
        }
        let defaults = |field: &&str| field.starts_with("default");
        for field in LIMITS {
            if kind == "Pod" && defaults(&field) {
                if !limit.is_empty_at(field) {
                    errors.forbidden(&place.child(field), "may not be specified when `type` is 'Pod'");
                }
                continue;
            }
            for (name, _) in limit.entries_at(field) {
                let at = place.child(field).key(name);
                match kind {
                    "Pod" | "Container" => container_resource(name, &at, errors),
                    _ => resource_name(name, &at, errors),
                }
            }
        }
        let bounds = ["min", "max"].map(|field| limit.at(field).get("storage"));
        if kind == "PersistentVolumeClaim" && bounds.iter().all(Option::is_none) {
            let text = "either minimum or maximum storage value is required, but neither was provided";
            errors.required(&place.child("limits"), text);
        }
        let resources = LIMITS.iter().flat_map(|field| limit.entries_at(field));
        let resources: BTreeSet<&String> = resources.map(|(name, _)| name).collect();
        for resource in resources {
            let of = |field: &str| match (kind, field) {
                ("Pod", "default" | "defaultRequest") => None,
                _ => limit.at(field).get(resource).and_then(parse_quantity),
            };
            in_order(resource, of, &place, errors);
        }
    }
}

/// The minimum, the default request, the default and the maximum of a resource come in that order.
fn in_order(resource: &str, of: impl Fn(&str) -> Option<Quantity>, at: &Path, errors: &mut Errors) {
    // Which of two is not to be greater, where that is told, and which of the two is shown.
    let pairs = [
        ("min", "max", "min", "min"),
        ("min", "defaultRequest", "defaultRequest", "defaultRequest"),
        ("defaultRequest", "max", "defaultRequest", "defaultRequest"),
        ("defaultRequest", "default", "defaultRequest", "defaultRequest"),
        ("min", "default", "default", "min"),
        ("default", "max", "default", "max"),
    ];
    for (low, high, place, shown) in pairs {
        if let (Some(a), Some(b)) = (of(low), of(high))
            && a > b
        {
            let name = |field: &'static str| match (field, low) {
                ("defaultRequest", _) => "default request",
                ("default", "defaultRequest") => "default limit",
                (other, _) => other,
            };
            let text = format!("{} value {a} is greater than {} value {b}", name(low), name(high));
            let shown = if shown == low { &a } else { &b };
            errors.invalid(&at.child(place).key(resource), shown.to_string(), text);
        }
    }
    ratio(resource, &of, at, errors);
    if let (true, Some(limit), Some(request)) = (is_exact(resource), of("default"), of("defaultRequest"))
        && limit != request
    {
        let text =
            format!("default value {limit} must equal to defaultRequest value {request} in {resource}");
        errors.invalid(
            &at.child("defaultRequest").key(resource),
            request.to_string(),
            text,
        );
    }
}

/// How many times its request a limit may be: no less than once, no more than the bounds allow.
fn ratio(resource: &str, of: &impl Fn(&str) -> Option<Quantity>, at: &Path, errors: &mut Errors) {
    let Some(ratio) = of("maxLimitRequestRatio") else {
        return;
    };
    let at = at.child("maxLimitRequestRatio").key(resource);
    if ratio.as_milli() < 1000 {
        errors.invalid(&at, ratio.to_string(), format!("ratio {ratio} is less than 1"));
    }
    if let (Some(min), Some(max)) = (of("min"), of("max")) {
        // Only told and compared: what is lost of very large numbers does not matter.
        #[expect(clippy::cast_precision_loss)]
        let (most, ratio_value) = (
            max.as_milli() as f64 / min.as_milli() as f64,
            ratio.as_milli() as f64 / 1000.0,
        );
        if ratio_value > most {
            let text = format!("ratio {ratio} is greater than max/min = {most:.6}");
            errors.invalid(&at, ratio.to_string(), text);
        }
    }
}

pub(super) fn disruption_budget(spec: &Value, at: &Path, errors: &mut Errors) {
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        let shown = |field: &str| spec.at(field).to_string();
        // The spec as upstream's own type prints it.
        let text = format!(
            "{{\"MinAvailable\":{},\"Selector\":{},\"MaxUnavailable\":{},\"UnhealthyPodEvictionPolicy\":{}}}",
            shown("minAvailable"),
            selectors::shown(spec.at("selector")),
            shown("maxUnavailable"),
            shown("unhealthyPodEvictionPolicy")
        );
        let detail = "minAvailable and maxUnavailable cannot be both set";
        let error = FieldError::invalid(at, spec.clone(), detail);
        errors.0.push(error.shown_as(text));
    }
    for field in ["minAvailable", "maxUnavailable"] {
        workloads::amount(spec, field, at, true, errors);
    }
    selectors::label_selector(spec.at("selector"), &at.child("selector"), errors);
    if spec.has("unhealthyPodEvictionPolicy") {
        let (place, policy) = (
            at.child("unhealthyPodEvictionPolicy"),
            spec.str_at("unhealthyPodEvictionPolicy"),
        );
        let known = ["AlwaysAllow", "IfHealthyBudget"];
        if !known.contains(&policy) {
            errors.not_supported(&place, policy, &known);
        }
    }
}
