//! Validation of autoscalers: what they scale, by which metrics, and how fast. Source: `pkg/apis/autoscaling/validation` of
//! Kubernetes v1.35.

use super::errors::{Errors, NOT_POSITIVE};
use super::names;
use super::pod::{container_resource, parse_quantity};
use crate::autoscaling::autoscaler_to_v2;
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;

/// Kinds of metrics, with the fields that hold them.
const SOURCES: [(&str, &str); 5] = [
    ("ContainerResource", "containerResource"),
    ("External", "external"),
    ("Object", "object"),
    ("Pods", "pods"),
    ("Resource", "resource"),
];
/// Those fields in the order in which they are looked at; of several only the first is.
const CHECKED: [&str; 5] = ["object", "external", "pods", "resource", "containerResource"];
/// The longest period of a policy, and the longest window of stabilization, in seconds.
const MAX_PERIOD: i64 = 1800;
const MAX_WINDOW: i64 = 3600;

/// What the version of a reference may be.
#[derive(Clone, Copy)]
enum Version {
    /// Anything: it was so before.
    Any,
    /// What can be read.
    Readable,
    /// One of a named group.
    Grouped,
}

impl Version {
    fn fault(self, text: &str) -> Option<String> {
        if matches!(self, Version::Any) || text.is_empty() && matches!(self, Version::Readable) {
            return None;
        }
        let group = match text.matches('/').count() {
            0 => "",
            1 => text.split('/').next().unwrap_or_default(),
            _ => return Some(format!("unexpected GroupVersion string: {text}")),
        };
        (matches!(self, Version::Grouped) && group.is_empty())
            .then(|| "apiVersion must specify API group".to_owned())
    }
}

/// Which versions the references of an autoscaler may name: that of its target, those of described objects.
fn versions(spec: &Value, old: &Value, is_new: bool) -> (Version, Version) {
    let (target, before) = (spec.at("scaleTargetRef"), old.at("scaleTargetRef"));
    let kept = ["apiVersion", "kind"]
        .iter()
        .all(|field| target.str_at(field) == before.str_at(field));
    let of_target = match target.str_at("kind") {
        _ if !is_new && kept => Version::Any,
        "ReplicationController" => Version::Readable,
        _ => Version::Grouped,
    };
    let mut objects = old
        .list_at("metrics")
        .iter()
        .filter(|m| m.str_at("type") == "Object");
    let odd = objects.any(|metric| {
        let version = metric.str_at("object.describedObject.apiVersion");
        Version::Readable.fault(version).is_some()
    });
    (of_target, if odd { Version::Any } else { Version::Readable })
}

/// The spec as `autoscaling/v2` has it, by which it is judged in whatever version it comes.
fn spec_of(object: &Value, version: &str) -> Value {
    match version {
        "v1" if !object.is_null() => autoscaler_to_v2(object.clone()).at("spec").clone(),
        _ => object.at("spec").clone(),
    }
}

/// Checks an autoscaler; `old` is the one that an update replaces, else null.
pub(super) fn autoscaler(object: &Value, old: &Value, version: &str, errors: &mut Errors) {
    let (spec, before) = (spec_of(object, version), spec_of(old, version));
    check(&spec, &before, old.is_null(), &Path::new("spec"), errors);
}

fn check(spec: &Value, old: &Value, is_new: bool, at: &Path, errors: &mut Errors) {
    let (of_target, of_objects) = versions(spec, old, is_new);
    let (low, high) = (
        spec.int_at("minReplicas"),
        spec.int_at("maxReplicas").unwrap_or(0),
    );
    if let Some(low) = low
        && low < 1
    {
        errors.invalid(
            &at.child("minReplicas"),
            low,
            "must be greater than or equal to 1",
        );
    }
    if high < 1 {
        errors.required(&at.child("maxReplicas"), "must be set and greater than 0");
    }
    if low.is_some_and(|low| high < low) {
        let text = "must be greater than or equal to `minReplicas`";
        errors.invalid(&at.child("maxReplicas"), high, text);
    }
    reference(
        spec.at("scaleTargetRef"),
        of_target,
        &at.child("scaleTargetRef"),
        errors,
    );
    for (i, metric) in spec.list_at("metrics").iter().enumerate() {
        one_metric(metric, of_objects, &at.child("metrics").index(i), errors);
    }
    let elsewhere = |metric: &Value| matches!(metric.str_at("type"), "Object" | "External");
    if low == Some(0) && !spec.list_at("metrics").iter().any(elsewhere) {
        let text = "must specify at least one Object or External metric to support scaling to zero replicas";
        errors.forbidden(&at.child("metrics"), text);
    }
    for direction in ["scaleUp", "scaleDown"] {
        let rules = spec.at("behavior").at(direction);
        if !rules.is_null() {
            behavior(rules, &at.child("behavior").child(direction), errors);
        }
    }
}

fn reference(target: &Value, version: Version, at: &Path, errors: &mut Errors) {
    for field in ["kind", "name"] {
        let value = target.str_at(field);
        if value.is_empty() {
            errors.required(&at.child(field), "");
        } else {
            errors.each(&at.child(field), value, names::path_segment(value));
        }
    }
    let given = target.str_at("apiVersion");
    if let Some(text) = version.fault(given) {
        errors.invalid(&at.child("apiVersion"), given, text);
    }
}

fn one_metric(metric: &Value, of_objects: Version, at: &Path, errors: &mut Errors) {
    let kind = metric.str_at("type");
    let place = at.child("type");
    let kinds = SOURCES.map(|(kind, _)| kind);
    if kind.is_empty() {
        errors.required(&place, "must specify a metric source type");
    }
    let wanted = SOURCES.iter().find(|(known, _)| *known == kind);
    if wanted.is_none() {
        errors.not_supported(&place, kind, &kinds);
    }
    let present: Vec<&str> = CHECKED.into_iter().filter(|field| metric.has(field)).collect();
    if let Some(first) = present.first() {
        source(first, metric.at(first), of_objects, &at.child(first), errors);
    }
    let wanted = wanted.map_or("", |(_, field)| *field);
    if wanted.is_empty() {
        // Twice, as upstream.
        errors.not_supported(&place, kind, &kinds);
    } else if !metric.has(wanted) {
        let text = "must populate information for the given metric source";
        errors.required(&at.child(wanted), text);
    }
    if present.len() > 1 {
        for field in present.iter().filter(|field| **field != wanted) {
            let text = "must populate the given metric source only";
            errors.forbidden(&at.child(field), text);
        }
    }
}

fn source(kind: &str, source: &Value, of_objects: Version, at: &Path, errors: &mut Errors) {
    match kind {
        "resource" | "containerResource" => {
            if source.is_empty_at("name") {
                errors.required(&at.child("name"), "must specify a resource name");
            }
            if kind == "containerResource" {
                container_resource_of(source, at, errors);
            }
        }
        _ => {
            if kind == "object" {
                let place = at.child("describedObject");
                reference(source.at("describedObject"), of_objects, &place, errors);
            }
            let (name, place) = (source.str_at("metric.name"), at.child("metric").child("name"));
            match name {
                "" => errors.required(&place, "must specify a metric name"),
                name => errors.each(&place, name, names::path_segment(name)),
            }
        }
    }
    let (target, at) = (source.at("target"), at.child("target"));
    target_of(target, &at, errors);
    let needs = |errors: &mut Errors, field: &str, text: &str| errors.required(&at.child(field), text);
    let both = |errors: &mut Errors, field: &str, text: &str| errors.forbidden(&at.child(field), text);
    let (utilization, average, value) = (
        target.has("averageUtilization"),
        target.has("averageValue"),
        target.has("value"),
    );
    match kind {
        "resource" | "containerResource" => {
            if !utilization && !average {
                let text = "must set either a target raw value or a target utilization";
                needs(errors, "averageUtilization", text);
            }
            if utilization && average {
                let text = "may not set both a target raw value and a target utilization";
                both(errors, "averageValue", text);
            }
        }
        "pods" if !average => needs(
            errors,
            "averageValue",
            "must specify a positive target averageValue",
        ),
        "object" | "external" => {
            if !average && !value {
                let text = match kind {
                    "object" => "must set either a target value or averageValue",
                    _ => "must set either a target value for metric or a per-pod target",
                };
                needs(errors, "averageValue", text);
            }
            if kind == "external" && average && value {
                let text = "may not set both a target value for metric and a per-pod target";
                both(errors, "value", text);
            }
        }
        _ => {}
    }
}

fn container_resource_of(source: &Value, at: &Path, errors: &mut Errors) {
    let (name, container) = (source.str_at("name"), source.str_at("container"));
    if !name.is_empty() {
        container_resource(name, &at.child("name"), errors);
    }
    match container {
        "" => errors.required(&at.child("container"), "must specify a container"),
        name => errors.each(&at.child("container"), name, names::dns_label(name)),
    }
}

fn target_of(target: &Value, at: &Path, errors: &mut Errors) {
    let kind = target.str_at("type");
    if kind.is_empty() {
        errors.required(&at.child("type"), "must specify a metric target type");
    }
    if !["Utilization", "Value", "AverageValue"].contains(&kind) {
        errors.invalid(
            &at.child("type"),
            kind,
            "must be either Utilization, Value, or AverageValue",
        );
    }
    for field in ["value", "averageValue"] {
        if parse_quantity(target.at(field)).is_some_and(|amount| amount.is_zero() || amount.is_negative()) {
            errors.invalid(&at.child(field), target.at(field).clone(), "must be positive");
        }
    }
    if let Some(percent) = target.int_at("averageUtilization")
        && percent < 1
    {
        errors.invalid(&at.child("averageUtilization"), percent, "must be greater than 0");
    }
}

fn behavior(rules: &Value, at: &Path, errors: &mut Errors) {
    if let Some(window) = rules.int_at("stabilizationWindowSeconds") {
        let place = at.child("stabilizationWindowSeconds");
        if window < 0 {
            errors.invalid(&place, window, "must be greater than or equal to zero");
        }
        if window > MAX_WINDOW {
            let text = format!("must be less than or equal to {MAX_WINDOW}");
            errors.invalid(&place, window, text);
        }
    }
    let select = rules.str_at("selectPolicy");
    let known = ["Disabled", "Max", "Min"];
    if rules.has("selectPolicy") && !known.contains(&select) {
        errors.not_supported(&at.child("selectPolicy"), select, &known);
    }
    let policies = rules.list_at("policies");
    if policies.is_empty() {
        errors.required(&at.child("policies"), "must specify at least one Policy");
    }
    for (i, policy) in policies.iter().enumerate() {
        let (kind, place) = (policy.str_at("type"), at.child("policies").index(i));
        let known = ["Percent", "Pods"];
        if !known.contains(&kind) {
            errors.not_supported(&place.child("type"), kind, &known);
        }
        for field in ["value", "periodSeconds"] {
            let number = policy.int_at(field).unwrap_or(0);
            if number <= 0 {
                errors.invalid(&place.child(field), number, NOT_POSITIVE);
            }
        }
        let period = policy.int_at("periodSeconds").unwrap_or(0);
        if period > MAX_PERIOD {
            let text = format!("must be less than or equal to {MAX_PERIOD}");
            errors.invalid(&place.child("periodSeconds"), period, text);
        }
    }
    if parse_quantity(rules.at("tolerance")).is_some_and(|t| t.is_negative()) {
        errors.invalid(
            &at.child("tolerance"),
            rules.at("tolerance").clone(),
            super::errors::NEGATIVE,
        );
    }
}
