//! Validation of affinity and topology spread constraints.

use crate::validation::errors::Errors;
use crate::validation::{names, selectors};
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;

const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";

/// Checks node affinity, Pod affinity and Pod anti-affinity.
pub(super) fn affinity(affinity: &Value, at: &Path, errors: &mut Errors) {
    if affinity.has("nodeAffinity") {
        node(affinity.at("nodeAffinity"), &at.child("nodeAffinity"), errors);
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

fn node(affinity: &Value, at: &Path, errors: &mut Errors) {
    if affinity.has(REQUIRED) {
        let place = at.child(REQUIRED);
        let terms = affinity.at(REQUIRED).list_at("nodeSelectorTerms");
        if terms.is_empty() {
            let text = "must have at least one node selector term";
            errors.required(&place.child("nodeSelectorTerms"), text);
        }
        for (i, term) in terms.iter().enumerate() {
            node_term(term, &place.child("nodeSelectorTerms").index(i), errors);
        }
    }
    for (i, preferred) in affinity.list_at(PREFERRED).iter().enumerate() {
        let place = at.child(PREFERRED).index(i);
        weight(preferred, &place, errors);
        node_term(preferred.at("preference"), &place.child("preference"), errors);
    }
}

/// Checks one term of a node selector, of Pods and of PersistentVolumes.
pub(crate) fn node_term(term: &Value, at: &Path, errors: &mut Errors) {
    for (i, e) in term.list_at("matchExpressions").iter().enumerate() {
        expression(e, &at.child("matchExpressions").index(i), errors);
        let place = at.child("matchExpressions").index(i);
        errors.each(
            &place.child("key"),
            e.str_at("key"),
            names::qualified_name(e.str_at("key")),
        );
    }
    for (i, e) in term.list_at("matchFields").iter().enumerate() {
        let place = at.child("matchFields").index(i);
        if e.str_at("key") != "metadata.name" {
            errors.invalid(
                &place.child("key"),
                e.str_at("key"),
                "not a valid field selector key",
            );
        }
        match (e.str_at("operator"), e.list_at("values").len()) {
            ("In" | "NotIn", 1) => {}
            ("In" | "NotIn", _) => {
                let text =
                    "must be only one value when `operator` is 'In' or 'NotIn' for node field selector";
                errors.required(&place.child("values"), text);
            }
            (other, _) => errors.invalid(&place.child("operator"), other, "not a valid selector operator"),
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
    for (i, namespace) in term.strings_at("namespaces").into_iter().enumerate() {
        errors.each(
            &at.child("namespaces").index(i),
            namespace,
            names::dns_label(namespace),
        );
    }
    let key = term.str_at("topologyKey");
    if key.is_empty() {
        errors.required(&at.child("topologyKey"), "can not be empty");
    }
    errors.each(&at.child("topologyKey"), key, names::qualified_name(key));
    for field in ["matchLabelKeys", "mismatchLabelKeys"] {
        if !term.is_empty_at(field) && !term.has("labelSelector") {
            let text = "must not be specified when labelSelector is not set";
            errors.forbidden(&at.child(field), text);
        }
    }
}

/// Checks topology spread constraints.
pub(super) fn spread(list: &Value, at: &Path, errors: &mut Errors) {
    let all = list.as_array().map_or(&[][..], Vec::as_slice);
    for (i, constraint) in all.iter().enumerate() {
        let place = at.index(i);
        if constraint.int_at("maxSkew").unwrap_or(0) <= 0 {
            let value = constraint.int_at("maxSkew").unwrap_or(0);
            errors.invalid(&place.child("maxSkew"), value, super::super::errors::NOT_POSITIVE);
        }
        let key = constraint.str_at("topologyKey");
        if key.is_empty() {
            errors.required(&place.child("topologyKey"), "can not be empty");
        } else {
            errors.each(&place.child("topologyKey"), key, names::qualified_name(key));
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
        if !constraint.is_empty_at("matchLabelKeys") && !constraint.has("labelSelector") {
            let text = "must not be specified when labelSelector is not set";
            errors.forbidden(&place.child("matchLabelKeys"), text);
        }
        errors.positive(constraint, "minDomains", &place);
        if constraint.has("minDomains") && constraint.str_at("whenUnsatisfiable") != "DoNotSchedule" {
            let text = "can only use minDomains if whenUnsatisfiable=DoNotSchedule, not ScheduleAnyway";
            errors.invalid(
                &place.child("minDomains"),
                constraint.at("minDomains").clone(),
                text,
            );
        }
        for field in ["nodeAffinityPolicy", "nodeTaintsPolicy"] {
            errors.one_of_if_set(constraint, field, &place, &["Honor", "Ignore"]);
        }
        selectors::label_selector(
            constraint.at("labelSelector"),
            &place.child("labelSelector"),
            errors,
        );
    }
}
