//! Validation of flow control: flow schemas and priority levels. Source: `pkg/apis/flowcontrol/validation` of v1.35.

use super::errors::Errors;
use super::{mandatory, names};
use crate::walk::At;
use kinds::field::{FieldError, Path};
use serde_json::Value;
use std::collections::BTreeSet;

const VERBS: [&str; 9] = [
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "proxy",
    "update",
    "watch",
];
const MAX_PRECEDENCE: i64 = 10_000;
const MAX_QUEUES: i64 = 10_000_000;
/// Bits of a hash by which hands are dealt.
const MAX_ENTROPY: u32 = 60;

pub(super) fn schema(obj: &Value, errors: &mut Errors) {
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let precedence = spec.int_at("matchingPrecedence").unwrap_or(0);
    let place = at.child("matchingPrecedence");
    if precedence <= 0 {
        errors.invalid(&place, precedence, "must be a positive value");
    }
    if precedence > MAX_PRECEDENCE {
        let text = format!("must not be greater than {MAX_PRECEDENCE}");
        errors.invalid(&place, precedence, text);
    }
    if precedence == 1 && obj.str_at("metadata.name") != "exempt" {
        let text = "only the schema named 'exempt' may have matchingPrecedence 1";
        errors.invalid(&place, precedence, text);
    }
    let method = spec.at("distinguisherMethod");
    if !method.is_null() && !["ByNamespace", "ByUser"].contains(&method.str_at("type")) {
        let place = at.child("distinguisherMethod").child("type");
        let shown = format!("{{\"Type\":{:?}}}", method.str_at("type"));
        let error = FieldError::not_supported(&place, method.clone(), &["ByNamespace", "ByUser"]);
        errors.0.push(error.shown_as(shown));
    }
    let level = spec.str_at("priorityLevelConfiguration.name");
    let place = at.child("priorityLevelConfiguration").child("name");
    if level.is_empty() {
        errors.required(&place, "must reference a priority level");
    } else {
        errors.each(&place, level, names::dns_subdomain(level));
    }
    for (i, one) in spec.list_at("rules").iter().enumerate() {
        rule(one, &at.child("rules").index(i), errors);
    }
    mandatory::check("FlowSchema", obj, errors);
    conditions(obj, errors);
}

fn rule(rule: &Value, at: &Path, errors: &mut Errors) {
    let subjects = rule.list_at("subjects");
    for (i, one) in subjects.iter().enumerate() {
        subject(one, &at.child("subjects").index(i), errors);
    }
    if subjects.is_empty() {
        let text = "subjects must contain at least one value";
        errors.required(&at.child("subjects"), text);
    }
    let (resources, others) = (rule.list_at("resourceRules"), rule.list_at("nonResourceRules"));
    if resources.is_empty() && others.is_empty() {
        let text = "at least one of resourceRules and nonResourceRules has to be non-empty";
        errors.required(at, text);
    }
    for (i, one) in resources.iter().enumerate() {
        resource_rule(one, &at.child("resourceRules").index(i), errors);
    }
    for (i, one) in others.iter().enumerate() {
        let at = at.child("nonResourceRules").index(i);
        verbs(one, &at, errors);
        let missing = "nonResourceURLs must contain at least one value";
        alone(one, "nonResourceURLs", &at, missing, "non-resource URLs", errors);
        let urls = one.strings_at("nonResourceURLs");
        if !urls.contains(&"*") {
            for (i, url) in urls.into_iter().enumerate() {
                if let Some(why) = url_fault(url) {
                    errors.invalid(&at.child("nonResourceURLs").index(i), url, why);
                }
            }
        }
    }
}

/// What is wrong with a path outside the API, which may end in an asterisk.
fn url_fault(url: &str) -> Option<&'static str> {
    let stars = url.matches('*').count();
    if url.is_empty() {
        Some("must not be empty")
    } else if !url.starts_with('/') {
        Some("must start with slash")
    } else if url.contains(' ') {
        Some("must not contain white-space")
    } else if url.contains("//") {
        Some("must not contain double slash")
    } else if stars > 1 || stars == 1 && !url.ends_with("/*") {
        Some("wildcard can only do suffix matching")
    } else {
        None
    }
}

/// Conditions have a type each.
pub(super) fn status(obj: &Value, errors: &mut Errors) {
    let at = Path::new("status").child("conditions");
    let conditions = obj.list_at("status.conditions");
    for (i, condition) in conditions.iter().enumerate() {
        let (place, ty) = (at.index(i).child("type"), condition.str_at("type"));
        if conditions[..i].iter().any(|other| other.str_at("type") == ty) {
            errors.duplicate(&place, ty);
        }
        if ty.is_empty() {
            errors.required(&place, "");
        }
    }
}

/// A list that must be there, and in which `*` stands alone.
fn alone(of: &Value, field: &str, at: &Path, missing: &str, what: &str, errors: &mut Errors) {
    let (values, at) = (of.strings_at(field), at.child(field));
    if values.is_empty() {
        errors.required(&at, missing);
    } else if values.len() > 1 && values.contains(&"*") {
        let text = format!("if '*' is present, must not specify other {what}");
        errors.invalid(&at, of.at(field).clone(), text);
    }
}

fn verbs(of: &Value, at: &Path, errors: &mut Errors) {
    let missing = "verbs must contain at least one value";
    alone(of, "verbs", at, missing, "verbs", errors);
    let given = of.strings_at("verbs");
    if !given.contains(&"*") && !given.iter().all(|v| VERBS.contains(v)) {
        errors.not_supported(&at.child("verbs"), of.at("verbs").clone(), &VERBS);
    }
}

fn resource_rule(of: &Value, at: &Path, errors: &mut Errors) {
    verbs(of, at, errors);
    let missing = "resource rules must supply at least one api group";
    alone(of, "apiGroups", at, missing, "api groups", errors);
    let missing = "resource rules must supply at least one resource";
    alone(of, "resources", at, missing, "resources", errors);
    let namespaces = of.strings_at("namespaces");
    let place = at.child("namespaces");
    if namespaces.is_empty() && !of.bool_at("clusterScope") {
        let text = "resource rules that are not cluster scoped must supply at least one namespace";
        errors.required(&place, text);
    } else if namespaces.contains(&"*") {
        alone(of, "namespaces", at, "", "namespaces", errors);
    } else {
        for (i, namespace) in namespaces.iter().enumerate() {
            for why in names::dns_label(namespace) {
                let text = format!("each member of this list must be '*' or a DNS-1123 label; {why}");
                errors.invalid(&place.index(i), *namespace, text);
            }
        }
    }
}

fn subject(subject: &Value, at: &Path, errors: &mut Errors) {
    const KINDS: [(&str, &str); 3] = [
        ("ServiceAccount", "serviceAccount"),
        ("User", "user"),
        ("Group", "group"),
    ];
    let kind = subject.str_at("kind");
    let Some((_, field)) = KINDS.iter().find(|(k, _)| *k == kind) else {
        let known = KINDS.map(|(k, _)| k);
        return errors.not_supported(&at.child("kind"), kind, &known);
    };
    let (of, place) = (subject.at(field), at.child(field));
    if of.is_null() {
        errors.required(
            &place,
            format!("{field} is required when subject kind is '{kind}'"),
        );
    } else {
        let name = of.str_at("name");
        if name.is_empty() {
            errors.required(&place.child("name"), "");
        }
        if kind == "ServiceAccount" {
            if !name.is_empty() && name != "*" {
                errors.each(&place.child("name"), name, names::dns_subdomain(name));
            }
            let (namespace, place) = (of.str_at("namespace"), place.child("namespace"));
            if namespace.is_empty() {
                errors.required(&place, "must specify namespace for service account");
            } else {
                errors.each(&place, namespace, names::dns_label(namespace));
            }
        }
    }
    for (other, field) in KINDS.iter().filter(|(k, _)| *k != kind) {
        if subject.has(field) {
            let text = format!("{field} is forbidden when subject kind is not '{other}'");
            errors.forbidden(&at.child(field), text);
        }
    }
}

fn conditions(obj: &Value, errors: &mut Errors) {
    let mut seen = BTreeSet::new();
    for (i, condition) in obj.list_at("status.conditions").iter().enumerate() {
        let at = Path::new("status").child("conditions").index(i).child("type");
        let ty = condition.str_at("type");
        if !seen.insert(ty) {
            errors.duplicate(&at, ty);
        }
        if ty.is_empty() {
            errors.required(&at, "must not be empty");
        }
    }
}

pub(super) fn level(obj: &Value, errors: &mut Errors) {
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let ty = spec.str_at("type");
    if (obj.str_at("metadata.name") == "exempt") != (ty == "Exempt") {
        let text = "type must be 'Exempt' if and only if name is 'exempt'";
        errors.invalid(&at.child("type"), ty, text);
    }
    match ty {
        "Exempt" => {
            if spec.has("limited") {
                let text = "must be nil if the type is not Limited";
                errors.forbidden(&at.child("limited"), text);
            }
            shares(spec.at("exempt"), &at.child("exempt"), errors);
        }
        "Limited" => {
            if spec.has("exempt") {
                let text = "must be nil if the type is Limited";
                errors.forbidden(&at.child("exempt"), text);
            }
            if spec.has("limited") {
                limited(spec.at("limited"), &at.child("limited"), errors);
            } else {
                let text = "must not be empty when type is Limited";
                errors.required(&at.child("limited"), text);
            }
        }
        _ => errors.not_supported(&at.child("type"), ty, &["Exempt", "Limited"]),
    }
    mandatory::check("PriorityLevelConfiguration", obj, errors);
    conditions(obj, errors);
}

fn shares(of: &Value, at: &Path, errors: &mut Errors) {
    nominal(of, at, errors);
    lendable(of, at, errors);
}

fn nominal(of: &Value, at: &Path, errors: &mut Errors) {
    if let Some(count) = of.int_at("nominalConcurrencyShares")
        && count < 0
    {
        let text = "must be a non-negative integer";
        errors.invalid(&at.child("nominalConcurrencyShares"), count, text);
    }
}

fn lendable(of: &Value, at: &Path, errors: &mut Errors) {
    if let Some(percent) = of.int_at("lendablePercent")
        && !(0..=100).contains(&percent)
    {
        let text = "must be between 0 and 100, inclusive";
        errors.invalid(&at.child("lendablePercent"), percent, text);
    }
}

fn limited(of: &Value, at: &Path, errors: &mut Errors) {
    nominal(of, at, errors);
    limit_response(of.at("limitResponse"), &at.child("limitResponse"), errors);
    lendable(of, at, errors);
    if let Some(percent) = of.int_at("borrowingLimitPercent")
        && percent < 0
    {
        let text = "if specified, must be a non-negative integer";
        errors.invalid(&at.child("borrowingLimitPercent"), percent, text);
    }
}

fn limit_response(response: &Value, at: &Path, errors: &mut Errors) {
    let ty = response.str_at("type");
    match (ty, response.has("queuing")) {
        ("Reject", true) => {
            let text = "must be nil if limited.limitResponse.type is not Limited";
            errors.forbidden(&at.child("queuing"), text);
        }
        ("Reject", false) => {}
        ("Queue", false) => {
            let text = "must not be empty if limited.limitResponse.type is Limited";
            errors.required(&at.child("queuing"), text);
        }
        ("Queue", true) => queuing(response.at("queuing"), &at.child("queuing"), errors),
        _ => errors.not_supported(&at.child("type"), ty, &["Queue", "Reject"]),
    }
}

fn queuing(of: &Value, at: &Path, errors: &mut Errors) {
    let number = |field: &str| of.int_at(field).unwrap_or(0);
    let (queues, hand) = (number("queues"), number("handSize"));
    for (field, value) in [
        ("queueLengthLimit", number("queueLengthLimit")),
        ("queues", queues),
    ] {
        if value <= 0 {
            errors.invalid(&at.child(field), value, "must be positive");
        }
    }
    if queues > MAX_QUEUES {
        let text = format!("must not be greater than {MAX_QUEUES}");
        errors.invalid(&at.child("queues"), queues, text);
    }
    if hand <= 0 {
        return errors.invalid(&at.child("handSize"), hand, "must be positive");
    }
    if hand > queues {
        let text = format!("should not be greater than queues ({queues})");
        return errors.invalid(&at.child("handSize"), hand, text);
    }
    // Bits that dealing one hand out of all queues takes, rounded up.
    let bits: f64 = (0..hand.min(64))
        .map(|dealt| ((queues - dealt) as f64).log2())
        .sum();
    if bits.ceil() > f64::from(MAX_ENTROPY) {
        let text = format!(
            "required entropy bits of deckSize {queues} and handSize {hand} should not be greater than {MAX_ENTROPY}"
        );
        errors.invalid(&at.child("handSize"), hand, text);
    }
}
