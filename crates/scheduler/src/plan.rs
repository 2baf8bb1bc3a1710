//! The plan: waiting Pods in order of priority, each on the best node that can take it.

use crate::amounts::uid;
use crate::between::Namespaces;
use crate::devices::{self, Claims};
use crate::filter::{Host, Refusal, named_nodes, refusals};
use crate::preempt::{ineligible, preempt, priority};
use crate::score::best;
use crate::spread::Groups;
use crate::volumes::{Need, Storage};
use crate::words::{NOT_HELPFUL, everywhere, unavailable};
use controllers::obj::{deleting, finished, items, meta, text};
use serde_json::Value;
use std::collections::HashSet;
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
    /// All Namespaces.
    pub namespaces: Namespaces,
    /// All PodDisruptionBudgets.
    pub budgets: Vec<Arc<Value>>,
    /// All ResourceClaims.
    pub devices: Claims,
    /// What Pods are spread by that say nothing of it.
    pub groups: Groups,
}

/// What filters and scores go by, beside hosts and Pods.
pub(crate) struct Known<'s> {
    pub(crate) snapshot: &'s Snapshot,
    /// Volumes that this plan gave to claims.
    pub(crate) promised: HashSet<String>,
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
    /// No node can take it.
    Wait {
        /// Why, as upstream says it.
        why: String,
        /// No room is made for it any more, wherever that was.
        gives_up: bool,
    },
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
    let (mut hosts, waiting) = sorted(snapshot);
    let mut known = Known {
        snapshot,
        promised: HashSet::new(),
    };
    let mut decided = Vec::new();
    // Room is being made for these: who is not more important leaves it to them.
    let nominated: Vec<Arc<Value>> = waiting
        .iter()
        .filter(|pod| keep_place(pod, &mut hosts))
        .cloned()
        .collect();
    // Those whose room somebody more important takes now.
    let mut outranked: HashSet<String> = HashSet::new();
    for pod in waiting {
        let yields =
            |other: &&Arc<Value>| priority(other) < priority(&pod) && !outranked.contains(uid(other));
        let lower: Vec<Arc<Value>> = nominated.iter().filter(yields).cloned().collect();
        for other in lower.iter().chain([&pod]) {
            hosts.iter_mut().for_each(|h| h.remove(uid(other)));
        }
        let mut outcome = match outranked.contains(uid(&pod)) {
            true => place(&pod, None, &mut hosts, &mut known),
            false => place(&pod, nominated_to(&pod, &hosts), &mut hosts, &mut known),
        };
        match &mut outcome {
            Outcome::Wait { gives_up, .. } => {
                *gives_up |= outranked.contains(uid(&pod));
                if !*gives_up {
                    keep_place(&pod, &mut hosts);
                }
            }
            Outcome::Preempt { node, .. } => {
                let here = lower
                    .iter()
                    .filter(|p| text(p, "/status/nominatedNodeName") == *node);
                outranked.extend(here.map(|p| uid(p).to_string()));
            }
            Outcome::Place(_) | Outcome::Volumes { .. } => {}
        }
        for other in lower.iter().filter(|p| !outranked.contains(uid(p))) {
            keep_place(other, &mut hosts);
        }
        decided.push((pod, outcome));
    }
    decided
}

/// The hosts with the Pods that run there, and the Pods that wait, the most important and oldest first.
fn sorted(snapshot: &Snapshot) -> (Vec<Host>, Vec<Arc<Value>>) {
    let live = snapshot.nodes.iter().filter(|n| !deleting(n));
    let mut hosts: Vec<Host> = live.cloned().map(Host::new).collect();
    let mut waiting = Vec::new();
    for pod in snapshot.pods.iter().filter(|p| !finished(p)) {
        let on = text(pod, "/spec/nodeName");
        if let Some(host) = hosts.iter_mut().find(|h| !on.is_empty() && h.name() == on) {
            host.add(pod.clone());
        } else if on.is_empty() && waits(pod) && !snapshot.devices.misses(pod) {
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
    (hosts, waiting)
}

/// The host where room is being made for a Pod.
fn nominated_to(pod: &Value, hosts: &[Host]) -> Option<usize> {
    let node = text(pod, "/status/nominatedNodeName");
    hosts.iter().position(|h| !node.is_empty() && h.name() == node)
}

/// Counts a Pod on the host where room is being made for it, if there is one.
fn keep_place(pod: &Arc<Value>, hosts: &mut [Host]) -> bool {
    let found = nominated_to(pod, hosts);
    if let Some(at) = found {
        hosts[at].add(pod.clone());
    }
    found.is_some()
}

/// The Pod is this scheduler's and may be scheduled.
fn waits(pod: &Value) -> bool {
    let scheduler = text(pod, "/spec/schedulerName");
    matches!(scheduler, "" | "default-scheduler")
        && !deleting(pod)
        && items(pod, "/spec/schedulingGates").is_empty()
}

/// What the hosts say of a Pod: empty where it can run; and all of it in words.
fn ask(pod: &Value, hosts: &[Host], known: &Known) -> (Vec<Vec<Refusal>>, String) {
    let names = named_nodes(pod);
    let conflict = names.as_ref().is_some_and(|names| names.is_empty());
    let nowhere = match conflict {
        true => Some("pod affinity terms conflict".to_string()),
        false => known.snapshot.storage.problem(pod),
    };
    if let Some(why) = nowhere {
        let words = everywhere(&why, hosts.len());
        return (vec![vec![Refusal::lasting(why)]; hosts.len()], words);
    }
    let named = |host: &Host| names.as_ref().is_none_or(|names| names.contains(host.name()));
    let of = |(at, host): (usize, &Host)| match named(host) {
        true => refusals(pod, at, hosts, known),
        false => vec![Refusal::lasting(
            "node(s) didn't satisfy plugin(s) [NodeAffinity]",
        )],
    };
    let said: Vec<Vec<Refusal>> = hosts.iter().enumerate().map(of).collect();
    let words = unavailable(said.iter().flatten(), hosts.len());
    (said, words)
}

/// Finds a place for a Pod, `nominated` being the host where room was made for it.
fn place(pod: &Arc<Value>, nominated: Option<usize>, hosts: &mut [Host], known: &mut Known) -> Outcome {
    if hosts.is_empty() {
        let why = "no nodes available to schedule pods".into();
        return Outcome::Wait { why, gives_up: true };
    }
    let (said, why) = ask(pod, hosts, known);
    let able: Vec<usize> = (0..hosts.len()).filter(|at| said[*at].is_empty()).collect();
    let made = nominated.filter(|at| able.contains(at));
    if let Some(at) = made.or_else(|| best(pod, &able, hosts, known)) {
        let node = hosts[at].name().to_string();
        let needs = known.snapshot.storage.needs(pod, &hosts[at], &mut known.promised);
        hosts[at].add(pod.clone());
        return match needs {
            Some(needs) => Outcome::Volumes { node, needs },
            None => Outcome::Place(node),
        };
    }
    // Where a single reason is final, no other Pod's leaving helps.
    let is_lost = |at: &usize| said[*at].iter().any(|refusal| refusal.is_final);
    let first_choice = nominated.filter(|at| !is_lost(at)).map(|at| &hosts[at]);
    if let Some(reason) = ineligible(pod, first_choice) {
        return waits_because(pod, &why, reason, false);
    }
    let crowded: Vec<usize> = (0..hosts.len()).filter(|at| !is_lost(at)).collect();
    match preempt(pod, &crowded, hosts, known) {
        Ok(found) => {
            let host = &mut hosts[found.host];
            // The place is kept: nobody less important takes it while the victims leave.
            found.victims.iter().for_each(|v| host.remove(uid(v)));
            host.add(pod.clone());
            let (node, victims) = (host.name().to_string(), found.victims);
            Outcome::Preempt { node, victims, why }
        }
        Err(mut reasons) => {
            let lost = hosts.len() - crowded.len();
            reasons.extend(std::iter::repeat_n(Refusal::lasting(NOT_HELPFUL), lost));
            waits_because(pod, &why, &unavailable(&reasons, hosts.len()), true)
        }
    }
}

/// What is said of a Pod for which nothing could be done.
fn waits_because(pod: &Value, why: &str, preemption: &str, gives_up: bool) -> Outcome {
    let why = format!("{why} {}, preemption: {preemption}", devices::after(pod));
    Outcome::Wait { why, gives_up }
}
