//! Rules between Pods: affinity, anti-affinity, and even spreading over the domains of a topology.

use crate::filter::Host;
use controllers::obj::{deleting, finished, int, items, meta, text};
use kinds::placement::affine;
use kinds::selector::LabelSelector;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Another Pod matches an affinity term of `pod`.
fn matches(pod: &Value, term: &Value, other: &Value) -> bool {
    let namespaces = items(term, "/namespaces");
    let everywhere = term["namespaceSelector"]
        .as_object()
        .is_some_and(serde_json::Map::is_empty);
    let near = match namespaces.is_empty() {
        true => everywhere || meta(other, "namespace") == meta(pod, "namespace"),
        false => everywhere || namespaces.iter().any(|n| n == meta(other, "namespace")),
    };
    near && !deleting(other)
        && !term["labelSelector"].is_null()
        && LabelSelector::from_json(&term["labelSelector"]).is_ok_and(|s| s.matches_object(other))
}

fn required<'a>(pod: &'a Value, which: &str) -> &'a [Value] {
    items(
        pod,
        &format!("/spec/affinity/{which}/requiredDuringSchedulingIgnoredDuringExecution"),
    )
}

/// Both hosts lie in the same domain of a term.
fn same(term: &Value, a: &Host, b: &Host) -> bool {
    let key = text(term, "/topologyKey");
    a.domain(key).is_some() && a.domain(key) == b.domain(key)
}

/// Required affinity, anti-affinity and spreading; the reason when `host` does not do.
pub fn between_pods(pod: &Value, host: &Host, hosts: &[Host]) -> Option<String> {
    if let Some(why) = uneven(pod, host, hosts) {
        return Some(why);
    }
    let all = || hosts.iter().flat_map(|h| h.pods.iter().map(move |p| (h, p)));
    for term in required(pod, "podAffinity") {
        let met = all().any(|(h, p)| same(term, host, h) && matches(pod, term, p));
        // The first of a group that wants to be together has nobody to join.
        let first = matches(pod, term, pod) && !all().any(|(_, p)| matches(pod, term, p));
        if host.domain(text(term, "/topologyKey")).is_none() || !(met || first) {
            return Some("node(s) didn't match pod affinity rules".into());
        }
    }
    for term in required(pod, "podAntiAffinity") {
        if all().any(|(h, p)| same(term, host, h) && matches(pod, term, p)) {
            return Some("node(s) didn't match pod anti-affinity rules".into());
        }
    }
    for (h, other) in hosts.iter().flat_map(|h| h.jealous.iter().map(move |p| (h, p))) {
        if required(other, "podAntiAffinity")
            .iter()
            .any(|t| same(t, host, h) && matches(other, t, pod))
        {
            return Some("node(s) didn't satisfy existing pods anti-affinity rules".into());
        }
    }
    None
}

/// The selector of a spreading constraint; `matchLabelKeys` add the Pod's own values.
fn selector(pod: &Value, constraint: &Value) -> Option<LabelSelector> {
    let mut selector = constraint["labelSelector"].clone();
    if selector.is_null() {
        return None;
    }
    for key in items(constraint, "/matchLabelKeys")
        .iter()
        .filter_map(Value::as_str)
    {
        if let Some(value) = pod["metadata"]["labels"].get(key) {
            selector["matchLabels"][key] = json!(value);
        }
    }
    LabelSelector::from_json(&selector).ok()
}

/// How many matching Pods each domain has; domains without any count too.
fn census(pod: &Value, constraint: &Value, hosts: &[Host]) -> BTreeMap<String, i64> {
    let key = text(constraint, "/topologyKey");
    let honours = text(constraint, "/nodeAffinityPolicy") != "Ignore";
    let Some(selector) = selector(pod, constraint) else {
        return BTreeMap::new();
    };
    let mut domains = BTreeMap::new();
    for host in hosts.iter().filter(|h| !honours || affine(pod, &h.node)) {
        let Some(domain) = host.domain(key) else { continue };
        let here = host.pods.iter().filter(|p| {
            meta(p, "namespace") == meta(pod, "namespace")
                && !deleting(p)
                && !finished(p)
                && selector.matches_object(p)
        });
        *domains.entry(domain.to_string()).or_default() += here.count() as i64;
    }
    domains
}

/// A spreading constraint that the Pod would break on this host.
fn uneven(pod: &Value, host: &Host, hosts: &[Host]) -> Option<String> {
    for constraint in items(pod, "/spec/topologySpreadConstraints") {
        if text(constraint, "/whenUnsatisfiable") == "ScheduleAnyway" {
            continue;
        }
        let Some(domain) = host.domain(text(constraint, "/topologyKey")) else {
            return Some(
                "node(s) didn't match pod topology spread constraints (missing required label)".into(),
            );
        };
        let domains = census(pod, constraint, hosts);
        let fewest = match (domains.len() as i64) < int(constraint, "/minDomains", 1) {
            true => 0,
            false => domains.values().copied().min().unwrap_or(0),
        };
        let own = selector(pod, constraint).is_some_and(|s| s.matches_object(pod));
        let here = domains.get(domain).copied().unwrap_or(0) + i64::from(own);
        if here - fewest > int(constraint, "/maxSkew", 1) {
            return Some("node(s) didn't match pod topology spread constraints".into());
        }
    }
    None
}

/// How well a host meets the wishes (not requirements) between Pods; higher is better, no fixed scale.
pub fn wishes(pod: &Value, host: &Host, hosts: &[Host]) -> i128 {
    let mut sum = 0;
    for (which, sign) in [("podAffinity", 1), ("podAntiAffinity", -1)] {
        for wish in items(
            pod,
            &format!("/spec/affinity/{which}/preferredDuringSchedulingIgnoredDuringExecution"),
        ) {
            let term = &wish["podAffinityTerm"];
            let near = hosts.iter().filter(|h| same(term, host, h));
            let met = near
                .flat_map(|h| &h.pods)
                .filter(|p| matches(pod, term, p))
                .count() as i128;
            sum += sign * met * i128::from(int(wish, "/weight", 1));
        }
    }
    for constraint in items(pod, "/spec/topologySpreadConstraints") {
        if text(constraint, "/whenUnsatisfiable") == "ScheduleAnyway"
            && let Some(domain) = host.domain(text(constraint, "/topologyKey"))
        {
            let here = census(pod, constraint, hosts).get(domain).copied().unwrap_or(0);
            sum -= 10 * i128::from(here);
        }
    }
    sum
}
