//! Validation of resource requests and limits.

use crate::validation::errors::{Errors, NEGATIVE};
use crate::validation::names;
use crate::walk::At;
use kinds::field::Path;
use kinds::quantity::Quantity;
use serde_json::Value;

/// Resources that need no domain.
const STANDARD: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "storage"];

/// Checks a resource's name: a qualified name, and a known one when it has no domain.
pub(crate) fn resource_name(name: &str, at: &Path, errors: &mut Errors) {
    errors.each(at, name, names::qualified_name(name));
    if !name.contains('/') && !STANDARD.contains(&name) && !name.starts_with("hugepages-") {
        errors.invalid(at, name, "must be a standard resource type or fully qualified");
    }
}

/// Checks that a quantity is one and not below zero. Answers it.
pub(crate) fn quantity(value: &Value, at: &Path, errors: &mut Errors) -> Option<Quantity> {
    let quantity = parse(value)?;
    if quantity.is_negative() {
        errors.invalid(at, value.clone(), NEGATIVE);
    }
    Some(quantity)
}

/// A quantity out of JSON, which may be a plain number.
pub(crate) fn parse(value: &Value) -> Option<Quantity> {
    Quantity::from_json(value).ok()
}

/// A resource that cannot be overcommitted: huge pages and resources of a domain that is not Kubernetes' own.
pub(crate) fn is_exact(name: &str) -> bool {
    name.starts_with("hugepages-") || (name.contains('/') && !name.contains("kubernetes.io/"))
}

/// Checks requests and limits of a container.
pub(crate) fn requirements(resources: &Value, at: &Path, errors: &mut Errors) {
    for field in ["limits", "requests"] {
        for (name, value) in resources.entries_at(field) {
            let place = at.child(field).key(name);
            container_resource(name, &place, errors);
            if let Some(amount) = quantity(value, &place, errors)
                && is_exact(name)
                && amount.as_milli() % 1000 != 0
            {
                errors.invalid(&place, value.clone(), "must be an integer");
            }
        }
    }
    compare(resources, at, errors);
    huge_pages(resources, at, errors);
    for (i, claim) in resources.list_at("claims").iter().enumerate() {
        if claim.is_empty_at("name") {
            errors.required(&at.child("claims").index(i), "");
        }
    }
}

pub(crate) fn container_resource(name: &str, at: &Path, errors: &mut Errors) {
    errors.each(at, name, names::qualified_name(name));
    let known = ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with("hugepages-");
    if !name.contains('/') {
        if !STANDARD.contains(&name) && !known {
            errors.invalid(at, name, "must be a standard resource type or fully qualified");
        }
        if !known {
            errors.invalid(at, name, "must be a standard resource for containers");
        }
    } else if !name.contains("kubernetes.io/") {
        let quota = format!("requests.{name}");
        if name.starts_with("requests.") || !names::qualified_name(&quota).is_empty() {
            errors.invalid(at, name, "doesn't follow extended resource name standard");
        }
    }
}

/// Huge pages are a whole number of pages, and do not come without CPU or memory.
fn huge_pages(resources: &Value, at: &Path, errors: &mut Errors) {
    let (mut pages, mut others) = (false, false);
    for field in ["limits", "requests"] {
        for (name, value) in resources.entries_at(field) {
            others |= ["cpu", "memory"].contains(&name.as_str());
            let Some(size) = name.strip_prefix("hugepages-") else {
                continue;
            };
            pages = true;
            if let (Some(amount), Ok(size)) = (parse(value), Quantity::from_json(&size.into()))
                && (size.as_milli() <= 0 || amount.as_milli() % size.as_milli() != 0)
            {
                let text = format!("{amount} is not positive integer multiple of {name}");
                errors.invalid(&at.child(field).key(name), value.clone(), text);
            }
        }
    }
    if pages && !others {
        errors.forbidden(at, "HugePages require cpu or memory");
    }
}

/// Requests stay within limits; what cannot be overcommitted is asked for exactly.
fn compare(resources: &Value, at: &Path, errors: &mut Errors) {
    let place = at.child("requests");
    for (name, value) in resources.entries_at("requests") {
        let limit = resources.at("limits").get(name);
        match (parse(value), limit.and_then(parse)) {
            (Some(request), Some(limit)) if is_exact(name) && request != limit => {
                let text = format!("must be equal to {name} limit of {limit}");
                errors.invalid(&place, request.to_string(), text);
            }
            (Some(request), Some(limit)) if request > limit => {
                let text = format!("must be less than or equal to {name} limit of {limit}");
                errors.invalid(&place, request.to_string(), text);
            }
            (Some(_), None) if is_exact(name) => {
                errors.required(
                    &at.child("limits"),
                    "Limit must be set for non overcommitable resources",
                );
            }
            _ => {}
        }
    }
}

/// Checks the resources of the Pod as a whole (KEP-2837): CPU, memory and huge pages, not less than the containers ask.
pub(super) fn pod_level(spec: &Value, at: &Path, errors: &mut Errors) {
    let resources = spec.at("resources");
    if resources.is_null() {
        return;
    }
    let at = at.child("resources");
    for field in ["limits", "requests"] {
        for (name, value) in resources.entries_at(field) {
            let place = at.child(field).key(name);
            if !["cpu", "memory"].contains(&name.as_str()) && !name.starts_with("hugepages-") {
                match STANDARD.contains(&name.as_str()) || name.contains('/') {
                    true => errors.not_supported(&place, name.as_str(), &["cpu", "hugepages-", "memory"]),
                    false => resource_name(name, &place, errors),
                }
            }
            quantity(value, &place, errors);
        }
    }
    compare(resources, &at, errors);
    for (name, value) in resources.entries_at("requests") {
        let asked = spec
            .list_at("containers")
            .iter()
            .filter_map(|c| parse(c.at("resources.requests").get(name)?));
        if let (Some(sum), Some(have)) = (asked.reduce(|a, b| a.add(&b)), parse(value))
            && sum > have
        {
            let text = format!("must be greater than or equal to aggregate container requests of {sum}");
            errors.invalid(&at.child("requests").key(name), have.to_string(), text);
        }
    }
}

/// Checks the name of a resource that a Node offers.
pub(crate) fn node_resource_name(name: &str, at: &Path, errors: &mut Errors) {
    errors.each(at, name, names::qualified_name(name));
    let known = STANDARD.contains(&name) || name == "pods" || name.starts_with("hugepages-");
    if !name.contains('/') && !known && !name.starts_with("attachable-volumes-") {
        errors.invalid(at, name, "must be a standard resource type or fully qualified");
    }
}
