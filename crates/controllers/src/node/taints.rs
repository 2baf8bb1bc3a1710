//! The taints that follow from a node's conditions, and whether those that evict Pods may be set: not where hardly any node is
//! heard of, since then it is the control plane that is cut off (upstream: `ComputeZoneState`, `handleDisruption` in
//! pkg/controller/nodelifecycle/node_lifecycle_controller.go).

use crate::obj::{condition, items, label, now, text};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::Arc;

pub(super) const NOT_READY: &str = "node.kubernetes.io/not-ready";
pub(super) const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// From this share of nodes on that are not ready, and more than two, a zone is disrupted.
const UNHEALTHY: f64 = 0.55;
/// In larger zones upstream evicts from one node in 100 s even then.
const LARGE: usize = 50;

const PRESSURE: [(&str, &str); 4] = [
    ("MemoryPressure", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "node.kubernetes.io/network-unavailable"),
];

/// Which taints of effect `NoExecute` a node may have for not being ready.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Evicting {
    /// They are set.
    Yes,
    /// None is set that is not there.
    NoMore,
    /// Those that are there go, too.
    No,
}

/// The nodes of a zone by readiness.
#[derive(Default)]
struct Zone {
    ready: usize,
    unready: usize,
}

fn zone_of(node: &Value) -> (&str, &str) {
    let of = |old: &str, new: &'static str| match label(node, old) {
        "" => label(node, new),
        old => old,
    };
    (
        of(
            "failure-domain.beta.kubernetes.io/region",
            "topology.kubernetes.io/region",
        ),
        of(
            "failure-domain.beta.kubernetes.io/zone",
            "topology.kubernetes.io/zone",
        ),
    )
}

/// What may be done in each zone.
pub(super) struct Disruption<'a> {
    zones: HashMap<(&'a str, &'a str), Zone>,
}

impl<'a> Disruption<'a> {
    pub(super) fn of(nodes: &'a [Arc<Value>]) -> Disruption<'a> {
        let mut zones: HashMap<_, Zone> = HashMap::new();
        for node in nodes {
            if node["metadata"]["labels"]["node.kubernetes.io/exclude-disruption"].is_string() {
                continue;
            }
            let zone = zones.entry(zone_of(node)).or_default();
            match condition(node, "Ready").is_some_and(|c| c["status"] == "True") {
                true => zone.ready += 1,
                false => zone.unready += 1,
            }
        }
        Disruption { zones }
    }

    /// No node anywhere is ready.
    pub(super) fn everywhere(&self) -> bool {
        self.zones.values().all(|zone| zone.ready == 0)
    }

    pub(super) fn evicting(&self, node: &Value) -> Evicting {
        if self.everywhere() {
            return Evicting::No;
        }
        let Some(Zone { ready, unready }) = self.zones.get(&zone_of(node)) else {
            return Evicting::Yes;
        };
        let all = ready + unready;
        let disrupted = *ready > 0 && *unready > 2 && *unready as f64 >= UNHEALTHY * all as f64;
        match disrupted && all <= LARGE {
            true => Evicting::NoMore,
            false => Evicting::Yes,
        }
    }
}

/// The taints a node should have, keeping everybody else's.
pub(super) fn taints(node: &Value, evicting: Evicting) -> Vec<Value> {
    let cordoned = node["spec"]["unschedulable"] == true;
    let own = |t: &Value| {
        let key = text(t, "/key");
        key == NOT_READY
            || key == UNREACHABLE
            || key == "node.kubernetes.io/unschedulable"
            || PRESSURE.iter().any(|(_, k)| *k == key)
    };
    let old = items(node, "/spec/taints");
    let mut next: Vec<Value> = old.iter().filter(|t| !own(t)).cloned().collect();
    let mut put = |key: &str, effect: &str| {
        let had = old.iter().find(|t| t["key"] == key && t["effect"] == effect);
        next.push(had.cloned().unwrap_or_else(|| match effect {
            "NoExecute" => json!({"key": key, "effect": effect, "timeAdded": now()}),
            _ => json!({"key": key, "effect": effect}),
        }));
    };
    let ready = condition(node, "Ready").map(|c| text(c, "/status"));
    let key = match ready {
        Some("True") => "",
        Some("Unknown") => UNREACHABLE,
        _ => NOT_READY,
    };
    if !key.is_empty() {
        put(key, "NoSchedule");
    }
    // One that is there goes over into the other at once. A node that has yet said nothing has time for it.
    let evicted = old.iter().any(|t| own(t) && t["effect"] == "NoExecute");
    let evicts = evicting == Evicting::Yes || evicting == Evicting::NoMore && evicted;
    if !key.is_empty() && ready.is_some() && evicts {
        put(key, "NoExecute");
    }
    for (kind, key) in PRESSURE {
        if condition(node, kind).is_some_and(|c| c["status"] == "True") {
            put(key, "NoSchedule");
        }
    }
    if cordoned {
        put("node.kubernetes.io/unschedulable", "NoSchedule");
    }
    next
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A node: `+` is ready, `-` is not, `?` is not heard of, `0` has said nothing; `!` has a taint that evicts; before it
    /// its zone.
    fn node(word: &str) -> Arc<Value> {
        let zone: String = word.chars().filter(char::is_ascii_lowercase).collect();
        let mut node = json!({"metadata": {"labels": {"topology.kubernetes.io/zone": zone}}});
        let status = match word.trim_start_matches(|c: char| c.is_ascii_lowercase()).get(..1) {
            Some("+") => "True",
            Some("-") => "False",
            Some("?") => "Unknown",
            _ => "",
        };
        if !status.is_empty() {
            node["status"]["conditions"] = json!([{"type": "Ready", "status": status}]);
        }
        if word.contains('!') {
            node["spec"]["taints"] = json!([{"key": NOT_READY, "effect": "NoExecute"}]);
        }
        Arc::new(node)
    }

    #[test]
    fn taints_that_evict() {
        // The nodes, and what evicts from each.
        let cases = [
            ("+ + + - ? 0", "_ _ _ not-ready unreachable _"),
            ("- ?", "_ _"),
            ("-! ?!", "_ _"),
            ("a- b+", "not-ready _"),
            ("+ ?!", "_ unreachable"),
            ("+ + ? ? ?", "_ _ _ _ _"),
            ("+ + ?! ? ?", "_ _ unreachable _ _"),
            ("+ + + ? ? ?", "_ _ _ unreachable unreachable unreachable"),
            ("a? a? a? b+", "unreachable unreachable unreachable _"),
        ];
        for (row, expected) in cases {
            let nodes: Vec<_> = row.split_whitespace().map(node).collect();
            let disruption = Disruption::of(&nodes);
            let evicts = |node: &Arc<Value>| {
                let taints = taints(node, disruption.evicting(node));
                let taint = taints.iter().find(|t| t["effect"] == "NoExecute");
                let key = taint.map_or("_", |t| text(t, "/key"));
                key.trim_start_matches("node.kubernetes.io/").to_owned()
            };
            let found: Vec<String> = nodes.iter().map(evicts).collect();
            assert_eq!(found.join(" "), expected, "{row}");
        }
    }
}
