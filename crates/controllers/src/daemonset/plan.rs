//! What a DaemonSet does next: nodes that get a Pod, Pods that go. A pure function, after upstream's `podsShouldBeOnNode`
//! (pkg/controller/daemon/daemon_controller.go) and `rollingUpdate` (pkg/controller/daemon/update.go).

use super::{Fit, fits, hash_matches, node_of, updated};
use crate::obj::{available, deleting, finished, int, int_or_percent, meta, ready, text};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Nodes that get a Pod, and Pods that go.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Plan {
    pub(crate) create: BTreeSet<String>,
    pub(crate) delete: Vec<Arc<Value>>,
}

impl Plan {
    fn remove(&mut self, pod: &Arc<Value>) {
        if !self.delete.iter().any(|p| meta(p, "uid") == meta(pod, "uid")) {
            self.delete.push(pod.clone());
        }
    }
}

/// The Pods of each node, the longest there first. What has ended and is going is as good as gone.
pub(crate) fn by_node(pods: &[Arc<Value>]) -> BTreeMap<String, Vec<Arc<Value>>> {
    let mut map: BTreeMap<String, Vec<Arc<Value>>> = BTreeMap::new();
    for pod in pods.iter().filter(|p| !(finished(p) && deleting(p))) {
        map.entry(node_of(pod).to_string()).or_default().push(pod.clone());
    }
    for here in map.values_mut() {
        here.sort_by_cached_key(|p| {
            (
                text(p, "/spec/nodeName").is_empty(),
                meta(p, "creationTimestamp").to_string(),
                meta(p, "name").to_string(),
            )
        });
    }
    map
}

/// A Pod, if there is one.
type OnePod<'p> = Option<&'p Arc<Value>>;

/// A set with its roll-out's bounds.
struct Rollout<'a> {
    set: &'a Value,
    hash: &'a str,
    surge: i64,
    unavailable: i64,
    wanted: i64,
}

impl<'a> Rollout<'a> {
    fn new(set: &'a Value, nodes: &[Arc<Value>], hash: &'a str) -> Rollout<'a> {
        let wanted = nodes.iter().filter(|n| fits(set, n).should).count();
        let wanted = i64::try_from(wanted).unwrap_or(i64::MAX);
        let rolling = &set["spec"]["updateStrategy"]["rollingUpdate"];
        let share = |field: &str, or: i64| match rolling[field].is_null() {
            true => or,
            false => int_or_percent(&rolling[field], wanted, true),
        };
        let surge = share("maxSurge", 0);
        Rollout {
            set,
            hash,
            surge,
            unavailable: share("maxUnavailable", 1).max(i64::from(surge == 0)),
            wanted,
        }
    }

    fn up(&self, pod: &Value) -> bool {
        available(pod, int(self.set, "/spec/minReadySeconds", 0))
    }

    /// The new and the old Pod of a node; nothing when one of them is there twice.
    fn pair<'p>(&self, here: &'p [Arc<Value>]) -> Option<(OnePod<'p>, OnePod<'p>)> {
        let alive = here.iter().filter(|p| !deleting(p));
        let (new, old): (Vec<_>, Vec<_>) = alive.partition(|p| updated(self.set, p, self.hash));
        (new.len() < 2 && old.len() < 2).then(|| (new.first().copied(), old.first().copied()))
    }
}

/// Decides which nodes lack a Pod and which Pods are too many, ended, or of an old template. `waits` says that a failed Pod of
/// a node stays for now.
pub(crate) fn plan(
    set: &Value,
    nodes: &[Arc<Value>],
    pods: &[Arc<Value>],
    hash: &str,
    mut waits: impl FnMut(&str) -> bool,
) -> Plan {
    let mut plan = Plan::default();
    let by_node = by_node(pods);
    let rolling = text(set, "/spec/updateStrategy/type") != "OnDelete";
    let rollout = Rollout::new(set, nodes, hash);
    let surges = rolling && rollout.surge > 0;
    for node in nodes {
        let name = meta(node, "name");
        let Fit { should, may } = fits(set, node);
        let Some(here) = by_node.get(name) else {
            if should {
                plan.create.insert(name.to_string());
            }
            continue;
        };
        let present = here.iter().filter(|p| !deleting(p));
        if !may {
            present.for_each(|pod| plan.remove(pod));
            continue;
        }
        let (ended, alive): (Vec<_>, Vec<_>) = present.partition(|p| finished(p));
        for pod in ended {
            if text(pod, "/status/phase") == "Succeeded" || !waits(name) {
                plan.remove(pod);
            }
        }
        if !surges {
            alive.iter().skip(1).for_each(|pod| plan.remove(pod));
        } else if alive.is_empty() && should {
            plan.create.insert(name.to_string());
        } else {
            thin_out(&rollout, &alive, &mut plan);
        }
    }
    // A Pod that waits for a node that is gone would wait for ever; those that were there are the collector's.
    let known = |name: &str| nodes.iter().any(|n| meta(n, "name") == name);
    for (_, pods) in by_node
        .iter()
        .filter(|(node, _)| !node.is_empty() && !known(node))
    {
        let waiting = |p: &&Arc<Value>| text(p, "/spec/nodeName").is_empty() && !deleting(p);
        pods.iter().filter(waiting).for_each(|pod| plan.remove(pod));
    }
    match rolling {
        true if surges => add(&rollout, nodes, by_node, &mut plan),
        true => replace(&rollout, nodes, by_node, &mut plan),
        false => {}
    }
    plan
}

/// With a surge, an old Pod that is ready stays beside a new one until that is available; everything else is too much.
fn thin_out(rollout: &Rollout<'_>, alive: &[&Arc<Value>], plan: &mut Plan) {
    let (new, old): (Vec<&Arc<Value>>, Vec<&Arc<Value>>) =
        alive.iter().copied().partition(|p| hash_matches(p, rollout.hash));
    new.iter()
        .skip(1)
        .chain(old.iter().skip(1))
        .for_each(|pod| plan.remove(pod));
    if let (Some(new), Some(old)) = (new.first(), old.first())
        && (!ready(old) || rollout.up(new))
    {
        plan.remove(old);
    }
}

/// Removes old Pods: those that are down already, and others within `maxUnavailable`.
fn replace(
    rollout: &Rollout<'_>,
    nodes: &[Arc<Value>],
    mut by_node: BTreeMap<String, Vec<Arc<Value>>>,
    plan: &mut Plan,
) {
    for node in nodes.iter().filter(|n| fits(rollout.set, n).should) {
        by_node.entry(meta(node, "name").to_string()).or_default();
    }
    let mut down = 0;
    let mut candidates = Vec::new();
    for here in by_node.values() {
        match rollout.pair(here) {
            Some((None, Some(old))) if !rollout.up(old) => {
                plan.remove(old);
                down += 1;
            }
            Some((None, Some(old))) => candidates.push(old),
            Some((Some(new), None)) => down += i64::from(!rollout.up(new)),
            _ => down += 1,
        }
    }
    let left = usize::try_from(rollout.unavailable - down).unwrap_or(0);
    candidates.into_iter().take(left).for_each(|pod| plan.remove(pod));
}

/// Adds new Pods beside old ones: where those are down, and elsewhere within `maxSurge`. Where the set shall not be any more,
/// old Pods go when as many others are available as are wanted.
fn add(
    rollout: &Rollout<'_>,
    nodes: &[Arc<Value>],
    by_node: BTreeMap<String, Vec<Arc<Value>>>,
    plan: &mut Plan,
) {
    let (mut beside, mut up) = (0, 0);
    let (mut candidates, mut misplaced) = (Vec::new(), Vec::new());
    for node in nodes {
        let name = meta(node, "name");
        let Some(here) = by_node.get(name) else { continue };
        let Some((new, old)) = rollout.pair(here) else {
            beside += 1;
            continue;
        };
        up += i64::from(old.or(new).is_some_and(|pod| rollout.up(pod)));
        let Some(old) = old else { continue };
        match (new, rollout.up(old), fits(rollout.set, node).should) {
            (Some(new), ..) if rollout.up(new) => plan.remove(old),
            (Some(_), ..) => beside += 1,
            (None, false, false) => plan.remove(old),
            (None, true, false) => misplaced.push(old),
            (None, false, true) => drop(plan.create.insert(name.to_string())),
            (None, true, true) => candidates.push(name.to_string()),
        }
    }
    let spare = usize::try_from(up - rollout.wanted).unwrap_or(0);
    misplaced.into_iter().take(spare).for_each(|pod| plan.remove(pod));
    let left = usize::try_from(rollout.surge - beside).unwrap_or(0);
    plan.create.extend(candidates.into_iter().take(left));
}

#[cfg(test)]
mod tests {
    //! Nodes as rows of Pods: `+` is ready, `-` is not, `!` has failed, `.` has succeeded, `~` is going; in lower case (`o`)
    //! the old template, in upper case (`N`) the new one. The longest there stand first.

    use super::*;
    use serde_json::json;

    fn pod(node: usize, at: usize, word: &str) -> Arc<Value> {
        let hash = if word.contains('N') { "new" } else { "old" };
        let phase = match word {
            w if w.contains('!') => "Failed",
            w if w.contains('.') => "Succeeded",
            _ => "Running",
        };
        let ready = if word.contains('+') { "True" } else { "False" };
        let mut pod = json!({
            "metadata": {"name": format!("{node}{at}"), "uid": format!("{node}{at}"),
                "creationTimestamp": format!("2026-01-01T00:00:0{at}Z"),
                "labels": {"controller-revision-hash": hash}},
            "spec": {"nodeName": format!("n{node}")},
            "status": {"phase": phase, "conditions": [{"type": "Ready", "status": ready}]},
        });
        if word.contains('~') {
            pod["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:01:00Z");
        }
        Arc::new(pod)
    }

    /// What is decided about nodes in brackets, of which those with `/` are not the set's any more; the node in `waiting`
    /// keeps what failed.
    fn decided(rolling: Value, rows: &[&str], waiting: &str) -> String {
        let set = json!({"spec": {"template": {"spec": {}, "metadata": {}},
            "updateStrategy": {"type": if rolling.is_null() { "OnDelete" } else { "RollingUpdate" }, "rollingUpdate": rolling}}});
        let mut nodes = Vec::new();
        let mut pods = Vec::new();
        for (n, row) in rows.iter().enumerate() {
            let taints = if row.starts_with('/') {
                json!([{"key": "full", "effect": "NoSchedule"}])
            } else {
                json!([])
            };
            nodes.push(Arc::new(
                json!({"metadata": {"name": format!("n{n}")}, "spec": {"taints": taints}}),
            ));
            let words = row.trim_start_matches('/').split_whitespace();
            pods.extend(words.enumerate().map(|(at, word)| pod(n, at, word)));
        }
        let plan = plan(&set, &nodes, &pods, "new", |node| node == waiting);
        let mut words: Vec<String> = plan.create.iter().map(|node| format!("+{node}")).collect();
        words.extend(plan.delete.iter().map(|p| format!("-{}", meta(p, "name"))));
        words.join(" ")
    }

    #[test]
    fn one_for_each_node() {
        let one = || json!({"maxUnavailable": 1, "maxSurge": 0});
        let two = || json!({"maxUnavailable": 2, "maxSurge": 0});
        let surge = || json!({"maxUnavailable": 0, "maxSurge": 1});
        let cases: Vec<(&str, Value, &[&str], &str, &str)> = vec![
            ("missing", one(), &["N+", "", "/"], "", "+n1"),
            ("ended", one(), &["N.", "N!", "N!"], "n2", "-00 -10"),
            ("going and ended", one(), &["N!~", "N~"], "", "+n0"),
            ("the oldest stays", one(), &["o- N+"], "", "-01"),
            ("by hand", Value::Null, &["o+", "o+"], "", ""),
            ("one at a time", one(), &["o+", "o+", "o+"], "", "-00"),
            ("not while one is down", one(), &["o+", "N-", "o+"], "", ""),
            (
                "what is down costs nothing",
                one(),
                &["o+", "o-", "o-"],
                "",
                "-10 -20",
            ),
            ("two at a time", two(), &["o+", "o+", "o+"], "", "-00 -10"),
            ("a new one beside", surge(), &["o+", "o+"], "", "+n0"),
            ("the surge is used up", surge(), &["o+ N-", "o+"], "", ""),
            ("the new one takes over", surge(), &["o+ N+", "o+"], "", "+n1 -00"),
            ("the old one is down", surge(), &["o- N-"], "", "-00"),
            (
                "down costs no surge",
                surge(),
                &["o-", "o-", "o+"],
                "",
                "+n0 +n1 +n2",
            ),
            ("going", surge(), &["N~"], "", "+n0"),
            ("not here any more", surge(), &["/o+", "N-"], "", ""),
            (
                "not here, and enough elsewhere",
                surge(),
                &["/o+", "N+"],
                "",
                "-00",
            ),
            ("not here, and down", surge(), &["/o-", "N-"], "", "-00"),
        ];
        for (what, rolling, rows, waiting, expected) in cases {
            assert_eq!(decided(rolling, rows, waiting), expected, "{what}: {rows:?}");
        }
    }
}
