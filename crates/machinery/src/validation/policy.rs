//! Validation of quotas, limit ranges and disruption budgets.

use super::errors::Errors;
use super::pod::{container_resource, parse_quantity, quantity};
use super::{names, selectors, workloads};
use crate::walk::At;
use kinds::field::Path;
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

pub(super) fn limit_range(spec: &Value, at: &Path, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, limit) in spec.list_at("limits").iter().enumerate() {
        let place = at.child("limits").index(i);
        let kind = limit.str_at("type");
        let wrong = super::names::qualified_name(kind);
        if !wrong.is_empty() {
            errors.each(&place.child("type"), kind, wrong);
        } else if !["Container", "Pod", "PersistentVolumeClaim"].contains(&kind) && !kind.contains('/') {
            let text = "must be a standard limit type or fully qualified";
            errors.invalid(&place.child("type"), kind, text);
        }
        if !seen.insert(kind) {
            errors.duplicate(&place.child("type"), kind);
        }
        for field in ["max", "min", "default", "defaultRequest", "maxLimitRequestRatio"] {
            for (name, value) in limit.entries_at(field) {
                let at = place.child(field).key(name);
                if kind == "Container" {
                    container_resource(name, &at, errors);
                }
                quantity(value, &at, errors);
                let below = parse_quantity(value).filter(|ratio| ratio.as_milli() < 1000);
                if let (true, Some(ratio)) = (field == "maxLimitRequestRatio", below) {
                    let text = format!("ratio {ratio} is less than 1");
                    errors.invalid(&at, ratio.to_string(), text);
                }
            }
        }
        let bounds = ["min", "max"].map(|field| limit.at(field).get("storage"));
        if kind == "PersistentVolumeClaim" && bounds.iter().all(Option::is_none) {
            let text = "either minimum or maximum storage value is required, but neither was provided";
            errors.required(&place.child("limits"), text);
        }
        if kind == "Pod" {
            for field in ["default", "defaultRequest"] {
                if !limit.is_empty_at(field) {
                    errors.forbidden(&place.child(field), "may not be specified when `type` is 'Pod'");
                }
            }
        }
        limits_in_order(limit, &place, errors);
    }
}

/// The minimum, the default request, the default and the maximum come in that order.
fn limits_in_order(limit: &Value, at: &Path, errors: &mut Errors) {
    let of = |field: &str, name: &str| limit.at(field).get(name).and_then(parse_quantity);
    let pairs = [
        ("min", "max", "min"),
        ("defaultRequest", "max", "defaultRequest"),
        ("default", "max", "default"),
        ("min", "defaultRequest", "defaultRequest"),
        ("min", "default", "default"),
        ("defaultRequest", "default", "defaultRequest"),
    ];
    for (low, high, at_field) in pairs {
        for (name, _) in limit.entries_at(low) {
            if let (Some(a), Some(b)) = (of(low, name), of(high, name))
                && a > b
            {
                let shown = |f: &str| {
                    match f {
                        "defaultRequest" => "default request",
                        other => {
                            if other == "default" {
                                "default"
                            } else {
                                other
                            }
                        }
                    }
                    .to_string()
                };
                let (value, text) = if at_field == low {
                    (
                        &a,
                        format!(
                            "{} value {a} is greater than {} value {b}",
                            shown(low),
                            shown(high)
                        ),
                    )
                } else {
                    (
                        &b,
                        format!(
                            "{} value {a} is greater than {} value {b}",
                            shown(low),
                            shown(high)
                        ),
                    )
                };
                errors.invalid(&at.child(at_field).key(name), value.to_string(), text);
            }
        }
    }
}

pub(super) fn disruption_budget(spec: &Value, at: &Path, errors: &mut Errors) {
    if spec.has("minAvailable") && spec.has("maxUnavailable") {
        errors.invalid(
            at,
            spec.clone(),
            "minAvailable and maxUnavailable cannot be both set",
        );
    }
    for field in ["minAvailable", "maxUnavailable"] {
        workloads::amount(spec, field, at, true, errors);
    }
    selectors::label_selector(spec.at("selector"), &at.child("selector"), errors);
    errors.one_of_if_set(
        spec,
        "unhealthyPodEvictionPolicy",
        at,
        &["AlwaysAllow", "IfHealthyBudget"],
    );
}
