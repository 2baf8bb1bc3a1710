//! Validation of resource requests and limits.

use super::Of;
use crate::validation::errors::{Errors, NEGATIVE};
use crate::validation::names;
use crate::walk::At;
use kinds::field::Path;
use kinds::quantity::Quantity;
use serde_json::Value;
use std::collections::BTreeSet;

/// Resources that need no domain.
const STANDARD: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "storage"];
/// Resources that quotas know besides.
const COUNTED: [&str; 16] = [
    "requests.cpu",
    "requests.memory",
    "requests.ephemeral-storage",
    "requests.storage",
    "limits.cpu",
    "limits.memory",
    "limits.ephemeral-storage",
    "pods",
    "resourcequotas",
    "services",
    "replicationcontrollers",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
    "services.nodeports",
    "services.loadbalancers",
];

fn is_standard(name: &str) -> bool {
    let pages = name
        .strip_prefix("requests.")
        .unwrap_or(name)
        .starts_with("hugepages-");
    STANDARD.contains(&name) || COUNTED.contains(&name) || pages
}

/// Checks a resource's name: a qualified name, and a known one when it has no domain.
pub(crate) fn resource_name(name: &str, at: &Path, errors: &mut Errors) {
    let wrong = names::qualified_name(name);
    if wrong.is_empty() && !name.contains('/') && !is_standard(name) {
        errors.invalid(at, name, "must be a standard resource type or fully qualified");
    }
    errors.each(at, name, wrong);
}

/// Checks that a quantity is one and not below zero. Answers it.
pub(crate) fn quantity(value: &Value, at: &Path, errors: &mut Errors) -> Option<Quantity> {
    let quantity = parse(value)?;
    if quantity.is_negative() {
        errors.invalid(at, value.clone(), NEGATIVE);
    }
    Some(quantity)
}

/// Checks an amount of a resource: not below zero, and whole where there are no parts.
pub(crate) fn resource_amount(name: &str, value: &Value, at: &Path, errors: &mut Errors) {
    let amount = quantity(value, at, errors);
    if counted(name) && amount.is_some_and(|amount| amount.as_milli() % 1000 != 0) {
        errors.invalid(at, value.clone(), "must be an integer");
    }
}

/// A quantity out of JSON, which may be a plain number.
pub(crate) fn parse(value: &Value) -> Option<Quantity> {
    Quantity::from_json(value).ok()
}

/// A resource that cannot be overcommitted: huge pages and resources of a domain that is not Kubernetes' own.
pub(crate) fn is_exact(name: &str) -> bool {
    name.starts_with("hugepages-") || (name.contains('/') && !name.contains("kubernetes.io/"))
}

/// Whether it is counted in whole pieces.
fn counted(name: &str) -> bool {
    let whole = COUNTED.iter().skip_while(|counted| **counted != "pods");
    let extended = name.contains('/') && !name.contains("kubernetes.io/") && !name.starts_with("requests.");
    extended && names::qualified_name(&format!("requests.{name}")).is_empty()
        || whole.clone().any(|n| *n == name)
}

/// Checks requests and limits of a container; `claims` are those of its Pod.
pub(super) fn requirements(resources: &Value, claims: &[&str], of: Of, at: &Path, errors: &mut Errors) {
    amounts(resources, container_resource, of, at, errors);
    claim_names(resources, claims, &at.child("claims"), errors);
}

fn amounts(
    resources: &Value,
    name_rule: fn(&str, &Path, &mut Errors),
    of: Of,
    at: &Path,
    errors: &mut Errors,
) {
    let (mut pages, mut others) = (false, false);
    for field in ["limits", "requests"] {
        for (name, value) in resources.entries_at(field) {
            let place = at.child(field).key(name);
            name_rule(name, &place, errors);
            resource_amount(name, value, &place, errors);
            if field == "requests" {
                within_limit(name, value, resources, at, errors);
            }
            if name.starts_with("hugepages-") {
                pages = true;
                whole_pages(name, value, of, &place, errors);
            }
            others |= ["cpu", "memory"].contains(&name.as_str());
        }
    }
    if pages && !others {
        errors.forbidden(at, "HugePages require cpu or memory");
    }
}

pub(crate) fn container_resource(name: &str, at: &Path, errors: &mut Errors) {
    resource_name(name, at, errors);
    let known = ["cpu", "memory", "ephemeral-storage"].contains(&name) || name.starts_with("hugepages-");
    if !name.contains('/') {
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

/// Huge pages are a whole number of pages.
fn whole_pages(name: &str, value: &Value, of: Of, at: &Path, errors: &mut Errors) {
    if let Some(amount) = parse(value)
        && !divides(name, amount)
        && !uneven(of.old)
    {
        let text = format!("{amount} is not positive integer multiple of {name}");
        errors.invalid(at, amount.to_string(), text);
    }
}

fn divides(name: &str, amount: Quantity) -> bool {
    let size = Quantity::from_json(&name.trim_start_matches("hugepages-").into());
    size.is_ok_and(|size| {
        let size = size.as_milli();
        size > 0 && size % 1000 == 0 && amount.as_milli() % size == 0
    })
}

/// Whether a spec had parts of pages already.
fn uneven(spec: &Value) -> bool {
    let lists = ["containers", "initContainers"]
        .into_iter()
        .flat_map(|list| spec.list_at(list));
    let mut kinds = lists.flat_map(|c| ["limits", "requests"].map(|kind| c.at("resources").at(kind)));
    kinds.any(|of| {
        let mut all = of.as_object().into_iter().flatten();
        all.any(|(name, value)| {
            name.starts_with("hugepages-") && parse(value).is_some_and(|amount| !divides(name, amount))
        })
    })
}

/// Requests stay within limits; what cannot be overcommitted is asked for exactly.
fn within_limit(name: &str, value: &Value, resources: &Value, at: &Path, errors: &mut Errors) {
    let place = at.child("requests");
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

/// Claims of a container are claims of its Pod, each named once, as a whole or by request.
fn claim_names(resources: &Value, known: &[&str], at: &Path, errors: &mut Errors) {
    let mut seen: BTreeSet<(&str, &str)> = BTreeSet::new();
    for (i, claim) in resources.list_at("claims").iter().enumerate() {
        let (name, request, place) = (claim.str_at("name"), claim.str_at("request"), at.index(i));
        if name.is_empty() {
            errors.required(&place, "");
        } else if seen.contains(&(name, "")) {
            errors.duplicate(&place, name);
        } else {
            if !request.is_empty() {
                errors.each(&place.child("request"), request, names::dns_label(request));
            }
            if seen.contains(&(name, request)) {
                errors.duplicate(&place, format!("{name}/{request}"));
            } else if request.is_empty() {
                for _ in seen.iter().filter(|(other, _)| *other == name) {
                    errors.duplicate(&place, name);
                }
            }
            seen.insert((name, request));
        }
        if !name.is_empty() && !known.contains(&name) {
            let mut text = "must be one of the names in pod.spec.resourceClaims".to_owned();
            let sorted: BTreeSet<&str> = known.iter().copied().filter(|name| !name.is_empty()).collect();
            let sorted: Vec<&str> = sorted.into_iter().collect();
            match sorted.is_empty() {
                true => text.push_str(" which is empty"),
                false => text.push_str(&format!(": {}", sorted.join(", "))),
            }
            errors.not_found_because(&place, name, text);
        }
    }
}

/// Checks the resources of the Pod as a whole (KEP-2837): CPU, memory and huge pages, not less than the containers ask.
pub(super) fn pod_level(spec: &Value, of: Of, at: &Path, errors: &mut Errors) {
    let resources = spec.at("resources");
    if resources.is_null() {
        return;
    }
    let at = at.child("resources");
    if spec.str_at("os.name") == "windows" {
        return errors.forbidden(&at, "may not be set for a windows pod");
    }
    if resources.has("claims") {
        let text = "claims may not be set for Resources at pod-level";
        errors.forbidden(&at.child("claims"), text);
    }
    amounts(resources, pod_resource, of, &at, errors);
    let claims: Vec<&str> = spec
        .list_at("resourceClaims")
        .iter()
        .map(|c| c.str_at("name"))
        .collect();
    claim_names(resources, &claims, &at.child("claims"), errors);
    for (kind, all) in [("requests", true), ("limits", false)] {
        for (name, value) in resources.entries_at(kind) {
            let (Some(sum), Some(have)) = (together(spec, kind, name), parse(value)) else {
                continue;
            };
            if sum > have && (all || name.starts_with("hugepages-")) {
                let text = format!("must be greater than or equal to aggregate container {kind} of {sum}");
                errors.invalid(&at.child(kind).key(name), have.to_string(), text);
            }
        }
    }
    for (i, container) in spec.list_at("containers").iter().enumerate() {
        for (name, value) in container.entries_at("resources.limits") {
            let whole = resources.at("limits").get(name).and_then(parse);
            if let (Some(own), Some(whole)) = (parse(value), whole)
                && own > whole
            {
                let place = at.child("containers").index(i).key(name).child("limits");
                let text = format!("must be less than or equal to pod limits of {whole}");
                errors.invalid(&place, own.to_string(), text);
            }
        }
    }
}

fn pod_resource(name: &str, at: &Path, errors: &mut Errors) {
    let before = errors.0.len();
    resource_name(name, at, errors);
    if errors.0.len() == before && !["cpu", "memory"].contains(&name) && !name.starts_with("hugepages-") {
        errors.not_supported(at, name, &["cpu", "hugepages-", "memory"]);
    }
}

/// What all containers of a Pod ask for of one resource: main ones and sidecars together, or what one of the others needs
/// beside the sidecars before it.
pub(crate) fn together(spec: &Value, kind: &str, name: &str) -> Option<Quantity> {
    let of = |c: &Value| c.at("resources").at(kind).get(name).and_then(parse);
    let add = |a: Option<Quantity>, b: Option<Quantity>| match (a, b) {
        (Some(a), Some(b)) => Some(a.add(&b)),
        (a, b) => a.or(b),
    };
    let main = spec
        .list_at("containers")
        .iter()
        .filter_map(of)
        .reduce(|a, b| a.add(&b));
    let (mut sidecars, mut most) = (None, None);
    for c in spec.list_at("initContainers") {
        let needs = match c.str_at("restartPolicy") {
            "Always" => {
                sidecars = add(sidecars, of(c));
                sidecars
            }
            _ => add(sidecars, of(c)),
        };
        most = most.max(needs);
    }
    add(main, sidecars).max(most)
}
