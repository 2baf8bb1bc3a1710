//! Validation of quotas, limit ranges and disruption budgets.

use super::errors::Errors;
use super::pod::{container_resource, is_exact, parse_quantity, quantity, resource_name};
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
const COMPUTE_NAMES: [&str; 9] = [
    "cpu",
    "memory",
    "ephemeral-storage",
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
];

/// Resources of a quota of which there are no parts.
const WHOLE_NAMES: [&str; 9] = [
    "configmaps",
    "persistentvolumeclaims",
    "pods",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "services",
    "services.loadbalancers",
    "services.nodeports",
];

pub(super) fn quota(spec: &Value, at: &Path, errors: &mut Errors) {
    for (name, value) in spec.entries_at("hard") {
        let place = at.child("hard").key(name);
        errors.each(&place, name, names::qualified_name(name));
        let huge = name.contains("hugepages-");
        if !name.contains('/') && !QUOTA_NAMES.contains(&name.as_str()) && !huge {
            errors.invalid(&place, name.as_str(), "must be a standard resource for quota");
        }
        let amount = quantity(value, &place, errors);
        if amount.is_some_and(|a| a.as_milli() % 1000 != 0) && WHOLE_NAMES.contains(&name.as_str()) {
            errors.invalid(&place, value.clone(), "must be an integer");
        }
    }
    let scopes = spec.strings_at("scopes");
    let unique: BTreeSet<&str> = scopes.iter().copied().collect();
    for scope in &unique {
        if !SCOPES.contains(scope) {
            errors.invalid(
                &at.child("scopes"),
                spec.at("scopes").clone(),
                "unsupported scope",
            );
        }
        // Of Pods without requests there is nothing to count but themselves.
        let pods = ["pods", "count/pods"];
        let counts = |name: &str| match *scope {
            "BestEffort" => pods.contains(&name),
            "VolumeAttributesClass" => name.contains("persistentvolumeclaims") || name == "requests.storage",
            _ => pods.contains(&name) || COMPUTE_NAMES.contains(&name),
        };
        let standard = |name: &str| QUOTA_NAMES.contains(&name) || name.starts_with("count/");
        let hard = spec.entries_at("hard");
        if hard.iter().any(|(name, _)| standard(name) && !counts(name)) {
            errors.invalid(
                &at.child("scopes"),
                spec.at("scopes").clone(),
                "unsupported scope applied to resource",
            );
        }
    }
    for pair in [["BestEffort", "NotBestEffort"], ["Terminating", "NotTerminating"]] {
        if pair.iter().all(|s| unique.contains(s)) {
            errors.invalid(
                &at.child("scopes"),
                spec.at("scopes").clone(),
                "conflicting scopes",
            );
        }
    }
    for e in spec.list_at("scopeSelector.matchExpressions") {
        // Upstream names no item here.
        let place = at.child("scopeSelector").child("matchExpressions");
        if !SCOPES.contains(&e.str_at("scopeName")) {
            errors.invalid(
                &place.child("scopeName"),
                e.str_at("scopeName"),
                "unsupported scope",
            );
        }
        let plain = [
            "BestEffort",
            "NotBestEffort",
            "Terminating",
            "NotTerminating",
            "CrossNamespacePodAffinity",
        ];
        if plain.contains(&e.str_at("scopeName")) && e.str_at("operator") != "Exists" {
            let text = "must be 'Exists' when scope is any of ResourceQuotaScopeTerminating, \
                        ResourceQuotaScopeNotTerminating, ResourceQuotaScopeBestEffort, \
                        ResourceQuotaScopeNotBestEffort or ResourceQuotaScopeCrossNamespacePodAffinity";
            errors.invalid(&place.child("operator"), e.str_at("operator"), text);
        }
        match e.str_at("operator") {
            "In" | "NotIn" if e.is_empty_at("values") => {
                let text = "must be at least one value when `operator` is 'In' or 'NotIn' for scope selector";
                errors.required(&place.child("values"), text);
            }
            "Exists" | "DoesNotExist" if !e.is_empty_at("values") => {
                let text = "must be no value when `operator` is 'Exist' or 'DoesNotExist' for scope selector";
                errors.invalid(&place.child("values"), e.at("values").clone(), text);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => errors.invalid(&place.child("operator"), other, "not a valid selector operator"),
        }
    }
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
            shown("selector"),
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
