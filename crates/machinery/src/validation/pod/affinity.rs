//! Validation of affinity and topology spread constraints.

use super::Of;
use crate::validation::errors::Errors;
use crate::validation::{names, selectors};
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;
use std::collections::BTreeSet;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks node affinity, Pod affinity and Pod anti-affinity.
pub(super) fn affinity(affinity: &Value, of: Of, at: &Path, errors: &mut Errors) {
    if affinity.has("nodeAffinity") {
        let old = of.old.at("affinity.nodeAffinity");
        node(
            affinity.at("nodeAffinity"),
            old,
            &at.child("nodeAffinity"),
            errors,
        );
    }
    for kind in ["podAffinity", "podAntiAffinity"] {
        let at = at.child(kind);
        for (i, term) in affinity.at(kind).list_at(REQUIRED).iter().enumerate() {
            pod_term(term, &at.child(REQUIRED).index(i), errors);
        }
        for (i, weighted) in affinity.at(kind).list_at(PREFERRED).iter().enumerate() {
            let place = at.child(PREFERRED).index(i);
            weight(weighted, &place, errors);
            pod_term(
                weighted.at("podAffinityTerm"),
                &place.child("podAffinityTerm"),
                errors,
            );
        }
    }
}

fn weight(term: &Value, at: &Path, errors: &mut Errors) {
    let weight = term.int_at("weight").unwrap_or(0);
    if !(1..=100).contains(&weight) {
        errors.invalid(&at.child("weight"), weight, "must be in the range 1-100");
    }
}

fn node(affinity: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    if affinity.has(REQUIRED) {
        let place = at.child(REQUIRED);
        let terms = affinity.at(REQUIRED).list_at("nodeSelectorTerms");
        if terms.is_empty() {
            let text = "must have at least one node selector term";
            errors.required(&place.child("nodeSelectorTerms"), text);
        }
        // Values that are no labels were let pass once, and are where they are.
        let wrong = |term: &Value| {
            let mut values = term
                .list_at("matchExpressions")
                .iter()
                .flat_map(|e| e.strings_at("values"));
            values.any(|value| !names::label_value(value).is_empty())
        };
        let kept = old.at(REQUIRED).list_at("nodeSelectorTerms").iter().any(wrong);
        for (i, term) in terms.iter().enumerate() {
            selector_term(term, !kept, &place.child("nodeSelectorTerms").index(i), errors);
        }
    }
    for (i, preferred) in affinity.list_at(PREFERRED).iter().enumerate() {
        let place = at.child(PREFERRED).index(i);
        weight(preferred, &place, errors);
        selector_term(
            preferred.at("preference"),
            false,
            &place.child("preference"),
            errors,
        );
    }
}

/// Checks one term of a node selector, wherever it stands. `strict`: values must be such that a label can have.
pub(crate) fn selector_term(term: &Value, strict: bool, at: &Path, errors: &mut Errors) {
    for (i, e) in term.list_at("matchExpressions").iter().enumerate() {
        let place = at.child("matchExpressions").index(i);
        expression(e, &place, errors);
        errors.each(
            &place.child("key"),
            e.str_at("key"),
            names::qualified_name(e.str_at("key")),
        );
        for (j, value) in e.strings_at("values").into_iter().enumerate().filter(|_| strict) {
            errors.each(&place.child("values").index(j), value, names::label_value(value));
        }
    }
    for (i, e) in term.list_at("matchFields").iter().enumerate() {
        let place = at.child("matchFields").index(i);
        match (e.str_at("operator"), e.list_at("values").len()) {
            ("In" | "NotIn", 1) => {}
            ("In" | "NotIn", _) => {
                let text =
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(&place.child("values"), text);
            }
            (other, _) => errors.invalid(&place.child("operator"), other, "not a valid selector operator"),
        }
        if e.str_at("key") == "metadata.name" {
            for (j, value) in e.strings_at("values").into_iter().enumerate() {
                errors.each(
                    &place.child("values").index(j),
                    value,
                    names::dns_subdomain(value),
                );
            }
        } else {
            let text = "not a valid field selector key";
            errors.invalid(&place.child("key"), e.str_at("key"), text);
        }
    }
}

fn expression(e: &Value, at: &Path, errors: &mut Errors) {
    let count = e.list_at("values").len();
    match e.str_at("operator") {
        "In" | "NotIn" if count == 0 => {
            errors.required(
                &at.child("values"),
                "must be specified when `operator` is 'In' or 'NotIn'",
            );
        }
        "In" | "NotIn" => {}
        "Exists" | "DoesNotExist" if count > 0 => {
            let text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            errors.forbidden(&at.child("values"), text);
        }
        "Exists" | "DoesNotExist" => {}
        "Gt" | "Lt" if count != 1 => {
            let text = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            errors.required(&at.child("values"), text);
        }
        "Gt" | "Lt" => {}
        other => errors.invalid(&at.child("operator"), other, "not a valid selector operator"),
    }
}

fn pod_term(term: &Value, at: &Path, errors: &mut Errors) {
    for field in ["labelSelector", "namespaceSelector"] {
        selectors::label_selector(term.at(field), &at.child(field), errors);
    }
    for namespace in term.strings_at("namespaces") {
        errors.each(&at.child("namespace"), namespace, names::dns_label(namespace));
    }
    label_keys(term, at, errors);
    let key = term.str_at("topologyKey");
    if key.is_empty() {
        errors.required(&at.child("topologyKey"), "can not be empty");
    }
    errors.each(&at.child("topologyKey"), key, names::qualified_name(key));
}

/// Keys of labels whose values are those of the Pod itself: each once, and beside a selector.
fn label_keys(term: &Value, at: &Path, errors: &mut Errors) {
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        let keys = term.strings_at(field);
        if !keys.is_empty() && !term.has("labelSelector") {
            let text = "must not be specified when labelSelector is not set";
            errors.forbidden(&at.child(field), text);
            continue;
        }
        for (i, key) in keys.into_iter().enumerate() {
            errors.each(&at.child(field).index(i), key, names::qualified_name(key));
        }
    }
    let keys = term.strings_at("matchLabelKeys");
    // What is made of the keys stands in the selector already: a key that is there twice was there before.
    let selector = term.at("labelSelector");
    let mut seen: BTreeSet<&str> = selector
        .entries_at("matchLabels")
        .iter()
        .map(|(key, _)| key.as_str())
        .collect();
    for expression in selector.list_at("matchExpressions") {
        let key = expression.str_at("key");
        if let Some(i) = keys.iter().rposition(|own| *own == key)
            && seen.contains(key)
        {
            errors.invalid(
                &at.index(i),
                key,
                "exists in both matchLabelKeys and labelSelector",
            );
        }
        seen.insert(key);
    }
    let others = term.strings_at("mismatchLabelKeys");
    for (i, key) in keys.iter().enumerate().filter(|(_, key)| others.contains(key)) {
        let text = "exists in both matchLabelKeys and mismatchLabelKeys";
        errors.invalid(&at.child("matchLabelKeys").index(i), *key, text);
    }
}

/// Checks topology spread constraints.
pub(super) fn spread(list: &Value, of: Of, at: &Path, errors: &mut Errors) {
    let all = list.as_array().map_or(&[][..], Vec::as_slice);
    // Selectors that were wrong before may stay so.
    let wrong = |constraint: &Value| {
        let mut errors = Errors::default();
        selectors::label_selector(constraint.at("labelSelector"), at, &mut errors);
        !errors.0.is_empty()
    };
    let kept = of.old.list_at("topologySpreadConstraints").iter().any(wrong);
    for (i, constraint) in all.iter().enumerate() {
        let place = at.index(i);
        if constraint.int_at("maxSkew").unwrap_or(0) <= 0 {
            let value = constraint.int_at("maxSkew").unwrap_or(0);
            errors.invalid(&place.child("maxSkew"), value, super::super::errors::NOT_POSITIVE);
        }
        let key = constraint.str_at("topologyKey");
        if key.is_empty() {
            errors.required(&place.child("topologyKey"), "can not be empty");
        }
        let otherwise = constraint.str_at("whenUnsatisfiable");
        let known = ["DoNotSchedule", "ScheduleAnyway"];
        if !known.contains(&otherwise) {
            errors.not_supported(&place.child("whenUnsatisfiable"), otherwise, &known);
        }
        // The first of several is told.
        let same = |other: &Value| {
            other.str_at("topologyKey") == key && other.str_at("whenUnsatisfiable") == otherwise
        };
        if all.iter().skip(i + 1).any(same) {
            let pair = format!("{{{key}, {otherwise}}}");
            errors.duplicate(&place.child("{topologyKey, whenUnsatisfiable}"), pair);
        }
        errors.positive(constraint, "minDomains", &place);
        if constraint.has("minDomains") && otherwise != "DoNotSchedule" {
            let text = format!("can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {otherwise}");
            errors.invalid(
                &place.child("minDomains"),
                constraint.at("minDomains").clone(),
                text,
            );
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            let (value, known) = (constraint.str_at(field), ["Honor", "Ignore"]);
            if constraint.has(field) && !known.contains(&value) {
                errors.not_supported(&place.child(field), value, &known);
            }
        }
        label_keys(constraint, &place, errors);
        if !kept {
            let selector = constraint.at("labelSelector");
            selectors::label_selector(selector, &place.child("labelSelector"), errors);
        }
    }
}
