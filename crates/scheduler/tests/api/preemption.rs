//! Who makes room for whom, and who is left in peace.

use crate::rig::{node, of, on, pod, refused, said, with};
use scheduler::plan::{Outcome, Snapshot, plan};
use serde_json::{Value, json};
use std::sync::Arc;

/// A Pod for which room is being made on a node.
fn nominated(name: &str, cpu: &str, priority: i64, node: &str) -> Arc<Value> {
    with(&pod(name, cpu, json!({"priority": priority})), |p| {
        p["status"] = json!({"nominatedNodeName": node});
    })
}

/// A Pod that runs on a node.
fn running(name: &str, cpu: &str, priority: i64, node: &str) -> Arc<Value> {
    pod(name, cpu, on(json!({"priority": priority}), node))
}

/// A Pod that is going since it was preempted, or for another reason.
fn going(name: &str, cpu: &str, node: &str, reason: &str) -> Arc<Value> {
    with(&running(name, cpu, 0, node), |p| {
        p["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        p["status"] =
            json!({"conditions": [{"type": "DisruptionTarget", "status": "True", "reason": reason}]});
    })
}

fn one() -> Vec<Arc<Value>> {
    vec![node("n", "2", "8Gi", json!({}))]
}

const NO_VICTIMS: &str = "1 No preemption victims found for incoming pod";

#[test]
fn the_least_important_go() {
    let two = vec![node("m", "8", "8Gi", json!({})), node("n", "2", "8Gi", json!({}))];
    let pods = vec![
        running("a", "4", 5, "m"),
        running("b", "4", 1, "m"),
        running("c", "2", 3, "n"),
        pod("top", "2", json!({"priority": 9})),
        pod("low", "2", json!({"priority": 0})),
    ];
    assert_eq!(said(&of(two, pods)), ["m after b", "-> m"]);
    let never = pod("top", "2", json!({"priority": 9, "preemptionPolicy": "Never"}));
    assert_eq!(
        said(&of(one(), vec![running("a", "2", 1, "n"), never])),
        [
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, \
            preemption: not eligible due to preemptionPolicy=Never."
        ]
    );
}

#[test]
fn of_several_nodes_the_one_with_the_least_harm() {
    let nodes = || vec![node("m", "2", "8Gi", json!({})), node("n", "2", "8Gi", json!({}))];
    let since = |pod: &Arc<Value>, time: &str| with(pod, |p| p["status"] = json!({"startTime": time}));
    let top = || pod("top", "2", json!({"priority": 9}));
    let cases = [
        (
            "two of a negative priority weigh more than one",
            vec![
                running("a", "1", -10, "m"),
                running("b", "1", -10, "m"),
                running("c", "2", -10, "n"),
                top(),
            ],
            "n after c",
        ),
        (
            "of equals the younger",
            vec![
                since(&running("a", "2", 0, "m"), "2026-01-01T00:00:00Z"),
                since(&running("b", "2", 0, "n"), "2026-01-02T00:00:00Z"),
                top(),
            ],
            "n after b",
        ),
    ];
    for (what, pods, expected) in cases {
        assert_eq!(said(&of(nodes(), pods)), [expected], "{what}");
    }
}

#[test]
fn budgets_protect() {
    let budget = |allowed: i64, disrupted: Value| {
        Arc::new(json!({"metadata": {"name": "b", "namespace": "a"},
            "spec": {"selector": {"matchLabels": {"keep": "yes"}}},
            "status": {"disruptionsAllowed": allowed, "disruptedPods": disrupted}}))
    };
    let kept = |name: &str, node: &str| {
        with(&running(name, "1", 0, node), |p| {
            p["metadata"]["labels"]["keep"] = json!("yes")
        })
    };
    let top = |cpu: &str| pod("top", cpu, json!({"priority": 9}));
    let two = vec![node("m", "1", "8Gi", json!({})), node("n", "1", "8Gi", json!({}))];
    let cases = [
        (
            "the other goes",
            one(),
            vec![running("a", "1", 0, "n"), kept("b", "n"), top("1")],
            0,
            json!({}),
            "n after a",
        ),
        (
            "as far as it reaches",
            one(),
            vec![kept("a", "n"), running("b", "1", 0, "n"), top("1")],
            1,
            json!({}),
            "n after b",
        ),
        (
            "counted already",
            one(),
            vec![running("a", "1", 0, "n"), kept("b", "n"), top("1")],
            0,
            json!({"b": "2026-01-01T00:00:00Z"}),
            "n after b",
        ),
        (
            "if nothing else helps",
            one(),
            vec![kept("b", "n"), running("a", "1", 0, "n"), top("2")],
            0,
            json!({}),
            "n after b a",
        ),
        (
            "rather elsewhere",
            two,
            vec![kept("a", "m"), running("b", "1", 5, "n"), top("1")],
            0,
            json!({}),
            "n after b",
        ),
    ];
    for (what, nodes, pods, allowed, disrupted, expected) in cases {
        let snapshot = Snapshot {
            budgets: vec![budget(allowed, disrupted)],
            ..of(nodes, pods)
        };
        assert_eq!(said(&snapshot), [expected], "{what}");
    }
}

#[test]
fn a_place_that_is_being_made_is_left_to_whom_it_is_made_for() {
    let never = pod("older", "2", json!({"priority": 9, "preemptionPolicy": "Never"}));
    assert_eq!(
        said(&of(one(), vec![never, nominated("top", "2", 9, "n")])),
        [
            "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, \
            preemption: not eligible due to preemptionPolicy=Never.",
            "-> n"
        ]
    );
    // It is taken though another would be the better.
    let nodes = vec![node("m", "8", "8Gi", json!({})), node("n", "2", "8Gi", json!({}))];
    assert_eq!(said(&of(nodes, vec![nominated("top", "1", 9, "n")])), ["-> n"]);
}

#[test]
fn only_those_that_were_preempted_are_waited_for() {
    let waits = "0/1 nodes are available: 1 Insufficient cpu. no new claims to deallocate, \
        preemption: not eligible due to a terminating pod on the nominated node.";
    let top = || nominated("top", "2", 9, "n");
    let cases = [
        (going("old", "2", "n", "PreemptionByScheduler"), waits),
        (going("old", "2", "n", "EvictionByEvictionAPI"), "n after old"),
    ];
    for (old, expected) in cases {
        assert_eq!(said(&of(one(), vec![old, top()])), [expected]);
    }
    // Where it can run no more, it does not wait either.
    let nodes = vec![
        node("m", "2", "8Gi", json!({"unschedulable": true})),
        node("n", "2", "8Gi", json!({})),
    ];
    let pods = vec![
        going("old", "2", "m", "PreemptionByScheduler"),
        running("other", "2", 0, "n"),
        nominated("top", "2", 9, "m"),
    ];
    assert_eq!(said(&of(nodes, pods)), ["n after other"]);
}

#[test]
fn a_place_that_does_not_come_about_is_given_up() {
    // Two were promised a place each, and the node is too small for both now.
    let pods = vec![nominated("p", "2", 5, "n"), nominated("q", "2", 5, "n")];
    let outcomes: Vec<Outcome> = plan(&of(one(), pods)).into_iter().map(|(_, o)| o).collect();
    let why = refused(1, "1 Insufficient cpu", NO_VICTIMS);
    assert_eq!(
        outcomes,
        [Outcome::Wait { why, gives_up: true }, Outcome::Place("n".into())]
    );
    // One that may not make others go keeps what it has.
    let waiting = vec![
        going("old", "2", "n", "PreemptionByScheduler"),
        nominated("top", "2", 9, "n"),
    ];
    let outcomes = plan(&of(one(), waiting));
    assert!(matches!(outcomes[0].1, Outcome::Wait { gives_up: false, .. }));
}

#[test]
fn a_place_is_lost_to_somebody_more_important() {
    let pods = vec![
        running("victim", "2", 0, "n"),
        nominated("middle", "2", 5, "n"),
        pod("top", "2", json!({"priority": 9})),
    ];
    let outcomes: Vec<Outcome> = plan(&of(one(), pods)).into_iter().map(|(_, o)| o).collect();
    assert!(
        matches!(&outcomes[0], Outcome::Preempt { node, .. } if node == "n"),
        "{outcomes:?}"
    );
    assert!(
        matches!(outcomes[1], Outcome::Wait { gives_up: true, .. }),
        "{outcomes:?}"
    );
}
