//! The plan: waiting Pods in order of priority, each on the best node that can take it.

use crate::between::between_pods;
use crate::filter::Host;
use crate::preempt::{ineligible, preempt, priority};
use crate::score::best;
use crate::volumes::{self, Need, Storage};
use controllers::obj::{deleting, finished, items, meta, text};
use serde_json::Value;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

/// What is known of the cluster.
#[derive(Debug, Default, Clone)]
pub struct Snapshot {
    /// All Nodes.
    pub nodes: Vec<Arc<Value>>,
    /// All Pods.
    pub pods: Vec<Arc<Value>>,
    /// Claims, volumes, classes.
    pub storage: Storage,
}

/// What becomes of a Pod.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// Bind it to this node.
    Place(String),
    /// It will run on this node as soon as its claims are bound.
    Volumes {
        /// The node; its room is kept.
        node: String,
        /// What has to be done for the claims; nothing when it is being done already.
        needs: Vec<Need>,
    },
    /// No node can take it; why, as upstream says it.
    Wait(String),
    /// No node can take it before these Pods of lower priority have left this node.
    Preempt {
        /// The node.
        node: String,
        /// Who has to leave; the Pod waits until they have.
        victims: Vec<Arc<Value>>,
        /// Why it does not fit now.
        why: String,
    },
}

/// Decides about every Pod that waits for a node.
pub fn plan(snapshot: &Snapshot) -> Vec<(Arc<Value>, Outcome)> {
    let live = |n: &&Arc<Value>| !deleting(n);
    let mut hosts: Vec<Host> = snapshot
        .nodes
        .iter()
        .filter(live)
        .cloned()
        .map(Host::new)
        .collect();
    let mut waiting = Vec::new();
    for pod in snapshot.pods.iter().filter(|p| !finished(p)) {
        let on = text(pod, "/spec/nodeName");
        if let Some(host) = hosts
            .iter_mut()
            .find(|h| !on.is_empty() && meta(&h.node, "name") == on)
        {
            host.add(pod.clone());
        } else if on.is_empty() && waits(pod) {
            waiting.push(pod.clone());
        }
    }
    waiting.sort_by(|a, b| {
        let age = |p: &Value| {
            (
                meta(p, "creationTimestamp").to_string(),
                meta(p, "name").to_string(),
            )
        };
        priority(b).cmp(&priority(a)).then_with(|| age(a).cmp(&age(b)))
    });
    let mut decided = Vec::new();
    let mut promised = HashSet::new();
    // Room is being made for these: who is not more important leaves it to them.
    let nominated: Vec<Arc<Value>> = waiting
        .iter()
        .filter(|pod| keep_place(pod, &mut hosts))
        .cloned()
        .collect();
    for pod in waiting {
        let yields = |other: &&Arc<Value>| priority(other) < priority(&pod);
        let lower: Vec<&Arc<Value>> = nominated.iter().filter(yields).collect();
        for other in lower.iter().copied().chain([&pod]) {
            hosts.iter_mut().for_each(|h| h.remove(meta(other, "uid")));
        }
        let outcome = place(&pod, &mut hosts, &snapshot.storage, &mut promised);
        for other in lower {
            keep_place(other, &mut hosts);
        }
        decided.push((pod, outcome));
    }
    decided
}

/// Counts a Pod on the host where room is being made for it, if there is one.
fn keep_place(pod: &Arc<Value>, hosts: &mut [Host]) -> bool {
    let node = text(pod, "/status/nominatedNodeName");
    let found = hosts
        .iter_mut()
        .find(|h| !node.is_empty() && meta(&h.node, "name") == node);
    let is_kept = found.is_some();
    if let Some(host) = found {
        host.add(pod.clone());
    }
    is_kept
}

/// The Pod is this scheduler's and may be scheduled.
fn waits(pod: &Value) -> bool {
    let scheduler = text(pod, "/spec/schedulerName");
    matches!(scheduler, "" | "default-scheduler")
        && !deleting(pod)
        && items(pod, "/spec/schedulingGates").is_empty()
}

/// Refusals that removing other Pods would not change.
const FINAL: [&str; 8] = [
    volumes::OUT_OF_REACH,
    volumes::NONE_TO_BIND,
    volumes::NO_VOLUME,
    "node(s) were unschedulable",
    "node(s) didn't match the requested node name",
    "node(s) had untolerated taint(s)",
    "node(s) didn't match Pod's node affinity/selector",
    "node(s) didn't match pod affinity rules",
];

/// Why no node will do, as upstream words it.
fn message(reasons: &BTreeMap<String, usize>, nodes: usize) -> String {
    let mut parts: Vec<String> = reasons.iter().map(|(why, n)| format!("{n} {why}")).collect();
    parts.sort();
    format!("0/{nodes} nodes are available: {}.", parts.join(", "))
}

/// Why preemption does not help: on `helpless` of the nodes it cannot.
fn no_preemption(helpless: usize, nodes: usize) -> String {
    let mut parts = Vec::new();
    if nodes > helpless {
        parts.push(format!(
            "{} No preemption victims found for incoming pod",
            nodes - helpless
        ));
    }
    if helpless > 0 {
        parts.push(format!("{helpless} Preemption is not helpful for scheduling"));
    }
    format!("0/{nodes} nodes are available: {}.", parts.join(", "))
}

/// What is said of a Pod for which nothing could be done.
fn waits_because(why: &str, preemption: &str) -> Outcome {
    Outcome::Wait(format!(
        "{why} no new claims to deallocate, preemption: {preemption}"
    ))
}

fn place(pod: &Arc<Value>, hosts: &mut [Host], storage: &Storage, promised: &mut HashSet<String>) -> Outcome {
    if hosts.is_empty() {
        return Outcome::Wait("no nodes available to schedule pods".into());
    }
    if let Some(why) = storage.problem(pod) {
        let nodes = hosts.len();
        let why = format!("0/{nodes} nodes are available: {why}.");
        let preemption = match ineligible(pod, hosts) {
            Some(reason) => reason.to_owned(),
            None => no_preemption(nodes, nodes),
        };
        return waits_because(&why, &preemption);
    }
    let mut reasons: BTreeMap<String, usize> = BTreeMap::new();
    let mut able = Vec::new();
    // Nodes that would do if Pods were removed from them; the others are beyond help.
    let mut crowded = Vec::new();
    for (at, host) in hosts.iter().enumerate() {
        let mut refusals = host.refusals(pod);
        // Out of reach of its volumes, no other Pod's leaving helps.
        let volumes = storage.refusal(pod, host, promised);
        if refusals.is_empty() {
            refusals.extend(volumes.map(str::to_string));
        }
        if refusals.is_empty() {
            refusals.extend(between_pods(pod, host, hosts));
        }
        let last = volumes.into_iter().chain(refusals.iter().map(String::as_str));
        match last.clone().any(|r| FINAL.contains(&r)) {
            _ if refusals.is_empty() => able.push(at),
            false => crowded.push(at),
            true => {}
        }
        for reason in refusals {
            *reasons.entry(reason).or_default() += 1;
        }
    }
    if let Some(at) = best(pod, &able, hosts) {
        let node = meta(&hosts[at].node, "name").to_string();
        let needs = storage.needs(pod, &hosts[at], promised);
        hosts[at].add(pod.clone());
        return match needs {
            Some(needs) => Outcome::Volumes { node, needs },
            None => Outcome::Place(node),
        };
    }
    let why = message(&reasons, hosts.len());
    let reason = ineligible(pod, hosts);
    if reason.is_none()
        && let Some(found) = preempt(pod, &crowded, hosts)
    {
        let host = &mut hosts[found.host];
        // The place is kept: nobody less important takes it while the victims leave.
        found.victims.iter().for_each(|v| host.remove(meta(v, "uid")));
        host.add(pod.clone());
        let node = meta(&host.node, "name").to_string();
        return Outcome::Preempt {
            node,
            victims: found.victims,
            why,
        };
    }
    keep_place(pod, hosts);
    match reason {
        Some(reason) => waits_because(&why, reason),
        None => waits_because(&why, &no_preemption(hosts.len() - crowded.len(), hosts.len())),
    }
}

#[cfg(test)]
mod tests {
    //! Plans as text: who goes where, and what those hear who go nowhere.

    use super::*;
    use serde_json::json;

    fn node(name: &str, cpu: &str, memory: &str, spec: Value) -> Arc<Value> {
        Arc::new(json!({
            "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}}, "spec": spec,
            "status": {"allocatable": {"cpu": cpu, "memory": memory, "pods": "10"}},
        }))
    }

    fn pod(name: &str, cpu: &str, spec: Value) -> Arc<Value> {
        let mut pod = json!({
            "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "x"}}, "spec": spec,
        });
        pod["spec"]["containers"] =
            json!([{"name": "c", "resources": {"requests": {"cpu": cpu, "memory": "128Mi"}}}]);
        Arc::new(pod)
    }

    /// What it shows, nodes, Pods, and what is said of each Pod.
    type Case = (&'static str, Vec<Arc<Value>>, Vec<Arc<Value>>, Vec<String>);

    /// Spreading and preemption.
    fn relations() -> Vec<Case> {
        let spread = || {
            json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
                "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "x"}}}]})
        };
        let on = |mut spec: Value, node: &str| {
            spec["nodeName"] = json!(node);
            spec
        };
        let two = || vec![node("m", "8", "8Gi", json!({})), node("n", "2", "8Gi", json!({}))];
        let mut soft = spread();
        soft["topologySpreadConstraints"][0]["whenUnsatisfiable"] = json!("ScheduleAnyway");
        vec![
            (
                "spread though the other is emptier",
                two(),
                vec![pod("p", "1", spread()), pod("q", "1", spread()), pod("r", "2", spread())],
                vec!["-> m".into(), "-> n".into(), "-> m".into()],
            ),
            (
                "uneven",
                two(),
                vec![pod("p", "1", on(json!({}), "m")), pod("q", "2", on(json!({}), "n")),
                    pod("r", "1", on(json!({}), "m")), pod("s", "1", spread())],
                vec!["0/2 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints. \
                    no new claims to deallocate, preemption: 0/2 nodes are available: 2 No preemption victims found for incoming pod.".into()],
            ),
            ("spread if possible", two(), vec![pod("p", "1", on(json!({}), "m")), pod("q", "1", soft)], vec!["-> n".into()]),
            (
                "the least important go",
                two(),
                vec![
                    pod("a", "4", on(json!({"priority": 5}), "m")),
                    pod("b", "4", on(json!({"priority": 1}), "m")),
                    pod("c", "2", on(json!({"priority": 3}), "n")),
                    pod("top", "2", json!({"priority": 9})),
                    pod("low", "2", json!({"priority": 0})),
                ],
                vec!["m after b".into(), "-> m".into()],
            ),
            (
                "never",
                vec![node("n", "2", "8Gi", json!({}))],
                vec![pod("a", "2", on(json!({"priority": 1}), "n")),
                    pod("top", "2", json!({"priority": 9, "preemptionPolicy": "Never"}))],
                vec!["0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, \
                    preemption: not eligible due to preemptionPolicy=Never.".into()],
            ),
            (
                "a place that is being made is left to whom it is made for",
                vec![node("n", "2", "8Gi", json!({}))],
                vec![
                    pod("older", "2", json!({"priority": 9, "preemptionPolicy": "Never"})),
                    nominated("top", "2", "n"),
                ],
                vec!["0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, \
                    preemption: not eligible due to preemptionPolicy=Never.".into(), "-> n".into()],
            ),
        ]
    }

    /// A Pod of priority 9 for which room is being made on a node.
    fn nominated(name: &str, cpu: &str, node: &str) -> Arc<Value> {
        let mut pod = (*pod(name, cpu, json!({"priority": 9}))).clone();
        pod["status"] = json!({"nominatedNodeName": node});
        Arc::new(pod)
    }

    #[test]
    fn plans() {
        let taint = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
        let apart = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
            {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}]}}});
        let tail = |what: &str| {
            format!(". no new claims to deallocate, preemption: 0/1 nodes are available: 1 {what}.")
        };
        let (none, not) = (
            tail("No preemption victims found for incoming pod"),
            tail("Preemption is not helpful for scheduling"),
        );
        let cases: Vec<Case> = vec![
            (
                "no node",
                vec![],
                vec![pod("p", "1", json!({}))],
                vec!["no nodes available to schedule pods".into()],
            ),
            (
                "fits",
                vec![node("n", "4", "4Gi", json!({}))],
                vec![pod("p", "1", json!({}))],
                vec!["-> n".into()],
            ),
            (
                "too large",
                vec![node("n", "1", "4Gi", json!({}))],
                vec![pod("p", "2", json!({}))],
                vec![format!("0/1 nodes are available: 1 Insufficient cpu{none}")],
            ),
            (
                "taint",
                vec![node("n", "4", "4Gi", taint.clone())],
                vec![pod("p", "1", json!({}))],
                vec![format!(
                    "0/1 nodes are available: 1 node(s) had untolerated taint(s){not}"
                )],
            ),
            (
                "tolerated",
                vec![node("n", "4", "4Gi", taint)],
                vec![pod("p", "1", json!({"tolerations": [{"operator": "Exists"}]}))],
                vec!["-> n".into()],
            ),
            (
                "cordoned",
                vec![node("n", "4", "4Gi", json!({"unschedulable": true}))],
                vec![pod("p", "1", json!({}))],
                vec![format!(
                    "0/1 nodes are available: 1 node(s) were unschedulable{not}"
                )],
            ),
            (
                "selector",
                vec![node("n", "4", "4Gi", json!({}))],
                vec![pod("p", "1", json!({"nodeSelector": {"a": "b"}}))],
                vec![format!(
                    "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector{not}"
                )],
            ),
            (
                "the emptier",
                vec![node("m", "2", "4Gi", json!({})), node("n", "8", "8Gi", json!({}))],
                vec![pod("p", "1", json!({}))],
                vec!["-> n".into()],
            ),
            (
                "apart",
                vec![node("m", "8", "8Gi", json!({})), node("n", "8", "8Gi", json!({}))],
                vec![pod("p", "1", apart.clone()), pod("q", "1", apart)],
                vec!["-> m".into(), "-> n".into()],
            ),
            (
                "one after the other",
                vec![node("n", "1", "4Gi", json!({}))],
                vec![
                    pod("low", "1", json!({"priority": 0})),
                    pod("top", "1", json!({"priority": 9})),
                ],
                vec![
                    "-> n".into(),
                    format!("0/1 nodes are available: 1 Insufficient cpu{none}"),
                ],
            ),
        ];
        for (what, nodes, pods, expected) in cases.into_iter().chain(relations()) {
            let storage = Storage::default();
            let said: Vec<String> = plan(&Snapshot { nodes, pods, storage })
                .into_iter()
                .map(|(_, o)| match o {
                    Outcome::Place(node) => format!("-> {node}"),
                    Outcome::Wait(why) => why,
                    Outcome::Volumes { node, .. } => format!("volumes on {node}"),
                    Outcome::Preempt { node, victims, .. } => {
                        let names: Vec<&str> = victims.iter().map(|v| meta(v, "name")).collect();
                        format!("{node} after {}", names.join(" "))
                    }
                })
                .collect();
            assert_eq!(said, expected, "{what}");
        }
    }
}
