//! The plainest rules: room, taints, selectors, spreading, and who goes first.

use crate::rig::{node, of, on, pod, refused, said};
use serde_json::{Value, json};
use std::sync::Arc;

/// What it shows, nodes, Pods, and what is said of each Pod.
type Case = (&'static str, Vec<Arc<Value>>, Vec<Arc<Value>>, Vec<String>);

fn check(cases: Vec<Case>) {
    for (what, nodes, pods, expected) in cases {
        assert_eq!(said(&of(nodes, pods)), expected, "{what}");
    }
}

#[test]
fn one_node() {
    let taint = json!({"taints": [{"key": "k", "effect": "NoSchedule"}]});
    let (none, not) = (
        "1 No preemption victims found for incoming pod",
        "1 Preemption is not helpful for scheduling",
    );
    let small = || vec![pod("p", "1", json!({}))];
    check(vec![
        (
            "no node",
            vec![],
            small(),
            vec!["no nodes available to schedule pods".into()],
        ),
        (
            "fits",
            vec![node("n", "4", "4Gi", json!({}))],
            small(),
            vec!["-> n".into()],
        ),
        (
            "larger than the node",
            vec![node("n", "1", "4Gi", json!({}))],
            vec![pod("p", "2", json!({}))],
            vec![refused(1, "1 Insufficient cpu", not)],
        ),
        (
            "taint",
            vec![node("n", "4", "4Gi", taint.clone())],
            small(),
            vec![refused(1, "1 node(s) had untolerated taint(s)", not)],
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
            small(),
            vec![refused(1, "1 node(s) were unschedulable", not)],
        ),
        (
            "selector",
            vec![node("n", "4", "4Gi", json!({}))],
            vec![pod("p", "1", json!({"nodeSelector": {"a": "b"}}))],
            vec![refused(
                1,
                "1 node(s) didn't match Pod's node affinity/selector",
                not,
            )],
        ),
        (
            "one after the other",
            vec![node("n", "1", "4Gi", json!({}))],
            vec![
                pod("low", "1", json!({"priority": 0})),
                pod("top", "1", json!({"priority": 9})),
            ],
            vec!["-> n".into(), refused(1, "1 Insufficient cpu", none)],
        ),
    ]);
}

#[test]
fn several_nodes() {
    let apart = json!({"affinity": {"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [
        {"labelSelector": {"matchLabels": {"app": "x"}}, "topologyKey": "kubernetes.io/hostname"}]}}});
    let spread = || {
        json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "kubernetes.io/hostname",
            "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "x"}}}]})
    };
    let mut soft = spread();
    soft["topologySpreadConstraints"][0]["whenUnsatisfiable"] = json!("ScheduleAnyway");
    let two = || vec![node("m", "8", "8Gi", json!({})), node("n", "2", "8Gi", json!({}))];
    check(vec![
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
            "spread though the other is emptier",
            two(),
            vec![
                pod("p", "1", spread()),
                pod("q", "1", spread()),
                pod("r", "2", spread()),
            ],
            vec!["-> m".into(), "-> n".into(), "-> m".into()],
        ),
        (
            "uneven",
            two(),
            vec![
                pod("p", "1", on(json!({}), "m")),
                pod("q", "2", on(json!({}), "n")),
                pod("r", "1", on(json!({}), "m")),
                pod("s", "1", spread()),
            ],
            vec![refused(
                2,
                "1 Insufficient cpu, 1 node(s) didn't match pod topology spread constraints",
                "2 No preemption victims found for incoming pod",
            )],
        ),
        (
            "spread if possible",
            two(),
            vec![pod("p", "1", on(json!({}), "m")), pod("q", "1", soft)],
            vec!["-> n".into()],
        ),
    ]);
}

#[test]
fn pods_that_ask_for_nothing_do_not_all_go_to_one_node() {
    let nodes = || {
        ["l", "m", "n"]
            .map(|name| node(name, "4", "4Gi", json!({})))
            .to_vec()
    };
    let idle = |name: &str| {
        crate::rig::with(&pod(name, "0", json!({})), |p| {
            p["spec"]["containers"] = json!([{"name": "c"}]);
        })
    };
    let pods = ["p", "q", "r"].map(idle).to_vec();
    assert_eq!(said(&of(nodes(), pods)), ["-> l", "-> m", "-> n"]);
}

#[test]
fn ports_of_sidecars_are_kept_apart() {
    let sidecar = |name: &str, spec: Value| {
        crate::rig::with(&pod(name, "1", spec), |p| {
            p["spec"]["initContainers"] = json!([{"name": "s", "restartPolicy": "Always",
            "ports": [{"containerPort": 80, "hostPort": 80}]}]);
        })
    };
    let pods = vec![sidecar("old", on(json!({}), "n")), sidecar("new", json!({}))];
    assert_eq!(
        said(&of(vec![node("n", "4", "4Gi", json!({}))], pods)),
        [refused(
            1,
            "1 node(s) didn't have free ports for the requested pod ports",
            "1 No preemption victims found for incoming pod",
        )]
    );
}

#[test]
fn pods_that_are_resized_count_with_what_they_have() {
    let running = |asked: &str, has: &str, granted: &str, pending: &str| {
        crate::rig::with(&pod("old", asked, on(json!({}), "n")), |p| {
            p["status"] = json!({"containerStatuses": [{"name": "c", "resources": {"requests": {"cpu": has}},
                "allocatedResources": {"cpu": granted}}],
                "conditions": [{"type": "PodResizePending", "status": "True", "reason": pending}]});
        })
    };
    let full = || {
        vec![refused(
            1,
            "1 Insufficient cpu",
            "1 No preemption victims found for incoming pod",
        )]
    };
    for (what, old, expected) in [
        (
            "not feasible",
            running("100", "1", "1", "Infeasible"),
            vec!["-> n".to_string()],
        ),
        ("put off", running("3", "1", "1", "Deferred"), full()),
        (
            "less was granted, not yet done",
            running("1", "3", "1", ""),
            full(),
        ),
        (
            "more was granted, not yet done",
            running("3", "1", "3", ""),
            full(),
        ),
        ("done", running("1", "1", "1", ""), vec!["-> n".to_string()]),
    ] {
        let snapshot = of(
            vec![node("n", "4", "4Gi", json!({}))],
            vec![old, pod("new", "2", json!({}))],
        );
        assert_eq!(said(&snapshot), expected, "{what}");
    }
}
