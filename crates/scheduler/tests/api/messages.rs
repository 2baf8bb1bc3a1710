//! What Pods hear that fit nowhere: reasons that are final, reasons of several nodes, devices that nobody has.

use crate::rig::{node, of, on, pod, refused, said, with};
use scheduler::devices::Claims;
use scheduler::plan::Snapshot;
use serde_json::json;
use std::sync::Arc;

#[test]
fn why_preemption_does_not_help() {
    let one = || vec![node("n", "2", "8Gi", json!({}))];
    let two = || {
        vec![
            node("m", "1", "8Gi", json!({})),
            node("n", "4", "8Gi", json!({})),
            node("o", "4", "8Gi", json!({})),
        ]
    };
    let spread = json!({"topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule", "labelSelector": {"matchLabels": {"app": "x"}}}]});
    let cases = [
        (
            "lower ones are there, but too small",
            one(),
            vec![
                pod("low", "1", on(json!({"priority": 0}), "n")),
                pod("high", "1", on(json!({"priority": 9}), "n")),
                pod("p", "2", json!({"priority": 5})),
            ],
            refused(1, "1 Insufficient cpu", "1 Insufficient cpu"),
        ),
        (
            "sorted as text",
            two(),
            vec![
                pod("a", "4", on(json!({}), "n")),
                pod("b", "4", on(json!({}), "o")),
                pod("p", "2", json!({})),
            ],
            refused(
                3,
                "3 Insufficient cpu",
                "1 Preemption is not helpful for scheduling, 2 No preemption victims found for incoming pod",
            ),
        ),
        (
            "without the label of a constraint",
            one(),
            vec![pod("p", "1", spread)],
            refused(
                1,
                "1 node(s) didn't match pod topology spread constraints (missing required label)",
                "1 Preemption is not helpful for scheduling",
            ),
        ),
        (
            "one of two reasons is final",
            one(),
            vec![
                pod("a", "1", on(json!({"priority": 0}), "n")),
                with(&pod("p", "2", json!({"priority": 5})), |p| {
                    p["spec"]["containers"][0]["resources"]["requests"]["memory"] = json!("9Gi");
                }),
            ],
            refused(
                1,
                "1 Insufficient cpu, 1 Insufficient memory",
                "1 Preemption is not helpful for scheduling",
            ),
        ),
    ];
    for (what, nodes, pods, expected) in cases {
        assert_eq!(said(&of(nodes, pods)), [expected], "{what}");
    }
}

#[test]
fn nodes_that_are_not_named_are_not_looked_at() {
    let named = |names: serde_json::Value| {
        json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
            {"nodeSelectorTerms": [{"matchFields": names}]}}}})
    };
    let is = |name: &str| json!({"key": "metadata.name", "operator": "In", "values": [name]});
    let nodes = || {
        ["l", "m", "n"]
            .map(|name| node(name, "2", "8Gi", json!({})))
            .to_vec()
    };
    let helpless =
        "1 No preemption victims found for incoming pod, 2 Preemption is not helpful for scheduling";
    let full = vec![
        pod("a", "2", on(json!({}), "n")),
        pod("p", "1", named(json!([is("n")]))),
    ];
    assert_eq!(
        said(&of(nodes(), full)),
        [refused(
            3,
            "1 Insufficient cpu, 2 node(s) didn't satisfy plugin(s) [NodeAffinity]",
            helpless
        )]
    );
    let torn = vec![pod("p", "1", named(json!([is("m"), is("n")])))];
    assert_eq!(
        said(&of(nodes(), torn)),
        [refused(
            3,
            "pod affinity terms conflict",
            "3 Preemption is not helpful for scheduling"
        )]
    );
}

#[test]
fn nothing_runs_without_its_device() {
    let nodes = || vec![node("n", "2", "8Gi", json!({}))];
    let wants = |claim: serde_json::Value| vec![pod("p", "1", json!({"resourceClaims": [claim]}))];
    let claim = Arc::new(json!({"metadata": {"name": "gpu", "namespace": "a"}}));
    let there = |pods| Snapshot {
        devices: Claims::new(std::slice::from_ref(&claim)),
        ..of(nodes(), pods)
    };
    let refused = vec![
        "0/1 nodes are available: 1 cannot allocate all claims. still not schedulable, \
        preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling."
            .to_string(),
    ];
    let by_name = json!({"name": "d", "resourceClaimName": "gpu"});
    assert_eq!(
        said(&there(wants(by_name.clone()))),
        refused,
        "a claim that nobody serves"
    );
    let by_template = json!({"name": "d", "resourceClaimTemplateName": "gpu"});
    assert_eq!(said(&there(wants(by_template))), refused, "a template");
    assert!(
        said(&of(nodes(), wants(by_name))).is_empty(),
        "a claim that is not there is waited for"
    );
}
