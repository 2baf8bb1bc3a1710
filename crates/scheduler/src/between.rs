//! Rules between Pods: affinity and anti-affinity, required and preferred (upstream: `plugins/interpodaffinity`).

use crate::filter::{Host, Refusal};
use controllers::obj::{int, items, meta, text};
use kinds::selector::LabelSelector;
use serde_json::Value;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// The Namespaces, by name.
#[derive(Debug, Default, Clone)]
pub struct Namespaces(HashMap<String, Arc<Value>>);

impl Namespaces {
    /// Of these objects.
    pub fn new(namespaces: Vec<Arc<Value>>) -> Namespaces {
        let name = |n: &Value| meta(n, "name").to_string();
        Namespaces(namespaces.into_iter().map(|n| (name(&n), n)).collect())
    }

    /// A term of a Pod's affinity looks into a namespace: one that it names, or selects by labels; its own when it does
    /// neither.
    fn included(&self, pod: &Value, term: &Value, namespace: &str) -> bool {
        let (names, selector) = (items(term, "/namespaces"), &term["namespaceSelector"]);
        if names.is_empty() && selector.is_null() {
            return namespace == meta(pod, "namespace");
        }
        let selected = || {
            let labelled = self.0.get(namespace).map_or(&Value::Null, |n| n);
            LabelSelector::from_json(selector).is_ok_and(|s| s.matches_object(labelled))
        };
        names.iter().any(|name| name == namespace) || (!selector.is_null() && selected())
    }
}

/// Another Pod matches an affinity term of `pod`; whether it is just going makes no difference.
fn matches(pod: &Value, term: &Value, other: &Value, namespaces: &Namespaces) -> bool {
    !term["labelSelector"].is_null()
        && LabelSelector::from_json(&term["labelSelector"]).is_ok_and(|s| s.matches_object(other))
        && namespaces.included(pod, term, meta(other, "namespace"))
}

/// The terms that a Pod insists on.
pub(crate) fn required<'a>(pod: &'a Value, which: &str) -> &'a [Value] {
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

/// Required affinity and anti-affinity: the reason when `host` does not do.
pub(crate) fn refusal(pod: &Value, host: &Host, hosts: &[Host], namespaces: &Namespaces) -> Option<Refusal> {
    if !in_company(pod, host, hosts, namespaces) {
        return Some(Refusal::lasting("node(s) didn't match pod affinity rules"));
    }
    let apart = |term: &Value| {
        hosts.iter().filter(|h| same(term, host, h)).any(|h| {
            let mut there = h.pods.iter();
            there.any(|other| matches(pod, term, other, namespaces))
        })
    };
    if required(pod, "podAntiAffinity").iter().any(apart) {
        return Some(Refusal::crowded("node(s) didn't match pod anti-affinity rules"));
    }
    for (h, other) in hosts.iter().flat_map(|h| h.jealous.iter().map(move |p| (h, p))) {
        if required(other, "podAntiAffinity")
            .iter()
            .any(|t| same(t, host, h) && matches(other, t, pod, namespaces))
        {
            let why = "node(s) didn't satisfy existing pods anti-affinity rules";
            return Some(Refusal::crowded(why));
        }
    }
    None
}

/// The required affinity is met. Only Pods that match all its terms count; the first of a group that wants to be together
/// has nobody to join.
fn in_company(pod: &Value, host: &Host, hosts: &[Host], namespaces: &Namespaces) -> bool {
    let terms = required(pod, "podAffinity");
    if terms.is_empty() {
        return true;
    }
    let suits = |other: &Value| terms.iter().all(|t| matches(pod, t, other, namespaces));
    let joined: Vec<&Host> = hosts.iter().filter(|h| h.pods.iter().any(|p| suits(p))).collect();
    let has = |h: &Host, term: &Value| h.domain(text(term, "/topologyKey")).is_some();
    let nobody = !joined.iter().any(|h| terms.iter().any(|t| has(h, t)));
    let met = terms.iter().all(|t| joined.iter().any(|h| same(t, host, h)));
    terms.iter().all(|t| has(host, t)) && (met || (nobody && suits(pod)))
}

/// How much Pods draw a Pod to the domains of topologies (key, value), or away from them.
pub(crate) type Attraction = BTreeMap<(String, String), i128>;

/// What the wishes of a Pod, and those of the Pods that are there, come to: weights as they are preferred, and one for
/// each that insists on such company (`scoring.go`, `processExistingPod`).
pub(crate) fn attraction(pod: &Value, hosts: &[Host], namespaces: &Namespaces) -> Attraction {
    let own = preferences(pod);
    let mut sum = Attraction::new();
    for host in hosts {
        let mut tell = |term: &Value, weight: i128| {
            let key = text(term, "/topologyKey");
            if let Some(domain) = host.domain(key) {
                *sum.entry((key.to_string(), domain.to_string())).or_default() += weight;
            }
        };
        if !own.is_empty() {
            for other in &host.pods {
                let met = own.iter().filter(|(t, _)| matches(pod, t, other, namespaces));
                met.for_each(|(term, weight)| tell(term, *weight));
            }
        }
        for other in &host.social {
            let insists = required(other, "podAffinity").iter().map(|term| (term, 1));
            let all = insists.chain(preferences(other));
            all.filter(|(t, _)| matches(other, t, pod, namespaces))
                .for_each(|(term, weight)| tell(term, weight));
        }
    }
    sum
}

/// A Pod's preferred terms, weighted: what it would rather avoid is negative.
fn preferences(pod: &Value) -> Vec<(&Value, i128)> {
    let mut all = Vec::new();
    for (which, sign) in [("podAffinity", 1), ("podAntiAffinity", -1)] {
        let at = format!("/spec/affinity/{which}/preferredDuringSchedulingIgnoredDuringExecution");
        for wish in items(pod, &at) {
            all.push((
                &wish["podAffinityTerm"],
                sign * i128::from(int(wish, "/weight", 1)),
            ));
        }
    }
    all
}

/// What draws the Pod to this host.
pub(crate) fn drawn(attraction: &Attraction, host: &Host) -> i128 {
    let here = attraction
        .iter()
        .filter(|((key, value), _)| host.domain(key) == Some(value));
    here.map(|(_, weight)| weight).sum()
}
