//! Even spreading of Pods over the domains of a topology: constraints that must hold, those that should, and those that
//! every Pod of a Service or a set has when it names none (upstream: `plugins/podtopologyspread`).

use crate::filter::{Host, Refusal};
use controllers::obj::{controller_of, deleting, int, items, meta, text};
use kinds::placement::affine;
use kinds::selector::LabelSelector;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

const HOSTNAME: &str = "kubernetes.io/hostname";
const ZONE: &str = "topology.kubernetes.io/zone";

/// Services, and the sets that own Pods: by them Pods are spread that say nothing of it.
#[derive(Debug, Default, Clone)]
pub struct Groups {
    /// All Services.
    pub services: Vec<Arc<Value>>,
    /// ReplicaSets, ReplicationControllers and StatefulSets, as far as waiting Pods belong to them.
    pub sets: Vec<Arc<Value>>,
}

/// One constraint of a Pod.
struct Constraint<'c> {
    key: &'c str,
    skew: i64,
    fewest_domains: i64,
    honours_affinity: bool,
    honours_taints: bool,
    /// Of the Pods that are counted; nobody is without.
    selector: Option<LabelSelector>,
}

impl<'c> Constraint<'c> {
    fn of(pod: &Value, constraint: &'c Value) -> Constraint<'c> {
        Constraint {
            key: text(constraint, "/topologyKey"),
            skew: int(constraint, "/maxSkew", 1),
            fewest_domains: int(constraint, "/minDomains", 1),
            honours_affinity: text(constraint, "/nodeAffinityPolicy") != "Ignore",
            honours_taints: text(constraint, "/nodeTaintsPolicy") == "Honor",
            selector: selector(pod, constraint),
        }
    }

    /// A default one.
    fn usual(key: &'c str, skew: i64, selector: LabelSelector) -> Constraint<'c> {
        Constraint {
            key,
            skew,
            fewest_domains: 1,
            honours_affinity: true,
            honours_taints: false,
            selector: Some(selector),
        }
    }

    /// A node counts: unless told otherwise, one that the Pod's own node selection leaves out does not.
    fn counts(&self, pod: &Value, host: &Host) -> bool {
        (!self.honours_affinity || affine(pod, &host.node)) && !(self.honours_taints && host.repels(pod))
    }

    /// Matching Pods on a host; those that are going do not count, nor does anybody for a selector that is empty.
    fn there(&self, pod: &Value, host: &Host) -> i64 {
        let Some(selector) = self.selector.as_ref().filter(|s| !s.is_everything()) else {
            return 0;
        };
        let here = host.pods.iter().filter(|p| {
            meta(p, "namespace") == meta(pod, "namespace") && !deleting(p) && selector.matches_object(p)
        });
        here.count() as i64
    }

    fn matches(&self, pod: &Value) -> bool {
        self.selector.as_ref().is_some_and(|s| s.matches_object(pod))
    }
}

/// The selector of a constraint; `matchLabelKeys` add the Pod's own values.
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

fn own<'p>(pod: &'p Value, soft: bool) -> Vec<Constraint<'p>> {
    items(pod, "/spec/topologySpreadConstraints")
        .iter()
        .filter(|c| (text(c, "/whenUnsatisfiable") == "ScheduleAnyway") == soft)
        .map(|c| Constraint::of(pod, c))
        .collect()
}

fn has_all(host: &Host, constraints: &[Constraint<'_>]) -> bool {
    constraints.iter().all(|c| host.domain(c.key).is_some())
}

/// A constraint that the Pod would break on this host. Only nodes that have the keys of all constraints are counted.
pub(crate) fn uneven(pod: &Value, host: &Host, hosts: &[Host]) -> Option<Refusal> {
    let constraints = own(pod, false);
    for constraint in &constraints {
        let Some(domain) = host.domain(constraint.key) else {
            let why = "node(s) didn't match pod topology spread constraints (missing required label)";
            return Some(Refusal::lasting(why));
        };
        let mut domains: BTreeMap<&str, i64> = BTreeMap::new();
        for other in hosts
            .iter()
            .filter(|h| has_all(h, &constraints) && constraint.counts(pod, h))
        {
            if let Some(domain) = other.domain(constraint.key) {
                *domains.entry(domain).or_default() += constraint.there(pod, other);
            }
        }
        let fewest = match (domains.len() as i64) < constraint.fewest_domains {
            true => 0,
            false => domains.values().copied().min().unwrap_or(0),
        };
        let here = domains.get(domain).copied().unwrap_or(0) + i64::from(constraint.matches(pod));
        if here - fewest > constraint.skew {
            let why = "node(s) didn't match pod topology spread constraints";
            return Some(Refusal::crowded(why));
        }
    }
    None
}

/// How well each of the hosts `able` (indexes) meets what should hold, 0 to 100 (`scoring.go`).
pub(crate) fn scores(pod: &Value, able: &[usize], hosts: &[Host], groups: &Groups) -> Vec<i128> {
    let says = !items(pod, "/spec/topologySpreadConstraints").is_empty();
    let constraints = if says { own(pod, true) } else { usual(pod, groups) };
    if constraints.is_empty() {
        return vec![0; able.len()];
    }
    // By default a node without a zone is still spread over by its name.
    let takes_part = |h: &Host| !says || has_all(h, &constraints);
    let scored: Vec<&Host> = able
        .iter()
        .map(|at| &hosts[*at])
        .filter(|h| takes_part(h))
        .collect();
    let weight = |c: &Constraint<'_>| {
        let domains: BTreeSet<Option<&str>> = scored.iter().map(|h| h.domain(c.key)).collect();
        let size = if c.key == HOSTNAME {
            scored.len()
        } else {
            domains.len()
        };
        ((size + 2) as f64).ln()
    };
    let weights: Vec<f64> = constraints.iter().map(weight).collect();
    let raw = |host: &Host| {
        let parts = constraints.iter().zip(&weights).filter_map(|(c, weight)| {
            let domain = host.domain(c.key)?;
            let there: i64 = match c.key {
                HOSTNAME => c.there(pod, host),
                key => hosts
                    .iter()
                    .filter(|h| h.domain(key) == Some(domain) && takes_part(h) && c.counts(pod, h))
                    .map(|h| c.there(pod, h))
                    .sum(),
            };
            Some(there as f64 * weight + (c.skew - 1) as f64)
        });
        parts.sum::<f64>().round() as i128
    };
    let raw: Vec<Option<i128>> = able
        .iter()
        .map(|at| takes_part(&hosts[*at]).then(|| raw(&hosts[*at])))
        .collect();
    let most = raw.iter().flatten().copied().max().unwrap_or(0);
    let least = raw.iter().flatten().copied().min().unwrap_or(0);
    let normal = |score: Option<i128>| match score {
        None => 0,
        Some(_) if most == 0 => 100,
        Some(score) => 100 * (most + least - score) / most,
    };
    raw.into_iter().map(normal).collect()
}

/// What a Pod has that names no constraint: over nodes and zones it is spread with those of its Services and its set
/// (`plugins/helper/spread.go`).
fn usual(pod: &Value, groups: &Groups) -> Vec<Constraint<'static>> {
    let mut together = LabelSelector::default();
    for service in &groups.services {
        let selector = LabelSelector::from_map(&service["spec"]["selector"]);
        if meta(service, "namespace") == meta(pod, "namespace")
            && !selector.is_everything()
            && selector.matches_object(pod)
        {
            together.requirements.extend(selector.requirements);
        }
    }
    let owner = controller_of(pod);
    let set = owner.and_then(|owner| groups.sets.iter().find(|s| meta(s, "uid") == text(owner, "/uid")));
    if let Some(set) = set {
        let selector = &set["spec"]["selector"];
        let own = match set["kind"] == "ReplicationController" {
            true => Some(LabelSelector::from_map(selector)),
            false => LabelSelector::from_json(selector).ok(),
        };
        together.requirements.extend(own.unwrap_or_default().requirements);
    }
    if together.is_everything() {
        return Vec::new();
    }
    vec![
        Constraint::usual(HOSTNAME, 3, together.clone()),
        Constraint::usual(ZONE, 5, together),
    ]
}
