//! Affinity between Pods, and spreading: which Pods, nodes and namespaces count.

use crate::rig::{node, of, on, pod, said, with};
use scheduler::between::Namespaces;
use scheduler::plan::Snapshot;
use scheduler::spread::Groups;
use serde_json::{Value, json};
use std::sync::Arc;

fn zones() -> Vec<Arc<Value>> {
    let zone = |name: &str, zone: &str| {
        with(&node(name, "8", "8Gi", json!({})), |n| {
            n["metadata"]["labels"]["zone"] = json!(zone)
        })
    };
    vec![zone("l", "one"), zone("m", "one"), zone("n", "two")]
}

/// A term about Pods with a label.
fn term(key: &str, value: &str, topology: &str) -> Value {
    json!({"labelSelector": {"matchLabels": {key: value}}, "topologyKey": topology})
}

fn rule(kind: &str, terms: Value) -> Value {
    json!({"affinity": {kind: {"requiredDuringSchedulingIgnoredDuringExecution": terms}}})
}

fn labelled(pod: &Arc<Value>, labels: Value) -> Arc<Value> {
    with(pod, |p| p["metadata"]["labels"] = labels)
}

/// The first part of what is said of the only Pod that waits.
fn short(snapshot: &Snapshot) -> String {
    let said = said(snapshot).remove(0);
    said.split(". no new claims")
        .next()
        .unwrap_or_default()
        .to_string()
}

#[test]
fn namespaces_are_named_or_selected() {
    let namespaces = Namespaces::new(vec![
        Arc::new(json!({"metadata": {"name": "a", "labels": {"team": "red"}}})),
        Arc::new(json!({"metadata": {"name": "b", "labels": {"team": "blue"}}})),
    ]);
    let apart = |names: Value, selector: Value| {
        let mut term = term("app", "x", "kubernetes.io/hostname");
        term["namespaces"] = names;
        term["namespaceSelector"] = selector;
        rule("podAntiAffinity", json!([term]))
    };
    let blue = json!({"matchLabels": {"team": "blue"}});
    let cases = [
        ("the own one", json!([]), Value::Null, "-> n"),
        ("named", json!(["b"]), Value::Null, "refused"),
        ("selected", json!([]), blue.clone(), "refused"),
        (
            "selected, another",
            json!([]),
            json!({"matchLabels": {"team": "green"}}),
            "-> n",
        ),
        ("named or selected", json!(["c"]), blue, "refused"),
        ("all", json!([]), json!({}), "refused"),
    ];
    for (what, names, selector, expected) in cases {
        let there = with(&pod("old", "1", on(json!({}), "n")), |p| {
            p["metadata"]["namespace"] = json!("b")
        });
        let nodes = vec![node("n", "8", "8Gi", json!({}))];
        let pods = vec![there, pod("p", "1", apart(names, selector))];
        let snapshot = Snapshot {
            namespaces: namespaces.clone(),
            ..of(nodes, pods)
        };
        let said = short(&snapshot).replace(
            "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules",
            "refused",
        );
        assert_eq!(said, expected, "{what}");
    }
}

#[test]
fn pods_that_are_going_still_keep_others_away() {
    let apart = || {
        rule(
            "podAntiAffinity",
            json!([term("app", "x", "kubernetes.io/hostname")]),
        )
    };
    let old = with(&pod("old", "1", on(apart(), "n")), |p| {
        p["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    });
    let snapshot = of(
        vec![node("n", "8", "8Gi", json!({}))],
        vec![old, pod("p", "1", apart())],
    );
    assert_eq!(
        short(&snapshot),
        "0/1 nodes are available: 1 node(s) didn't match pod anti-affinity rules"
    );
}

#[test]
fn company_is_who_meets_all_terms() {
    let both = || {
        rule(
            "podAffinity",
            json!([term("a", "1", "kubernetes.io/hostname"), term("b", "1", "zone")]),
        )
    };
    let at = |name: &str, node: &str, labels: Value| labelled(&pod(name, "1", on(json!({}), node)), labels);
    let nobody = "0/3 nodes are available: 3 node(s) didn't match pod affinity rules";
    let own = |labels: Value| labelled(&pod("p", "1", both()), labels);
    let cases = [
        (
            "one Pod for each term is not enough",
            vec![
                at("q", "n", json!({"a": "1"})),
                at("r", "n", json!({"b": "1"})),
                own(json!({})),
            ],
            nobody,
        ),
        (
            "one for both",
            vec![at("q", "n", json!({"a": "1", "b": "1"})), own(json!({}))],
            "-> n",
        ),
        (
            "the first of a group",
            vec![own(json!({"a": "1", "b": "1"}))],
            "-> l",
        ),
        ("not of the group", vec![own(json!({"a": "1"}))], nobody),
        (
            "the first though others meet one term",
            vec![at("q", "l", json!({"a": "1"})), own(json!({"a": "1", "b": "1"}))],
            "-> m",
        ),
    ];
    for (what, pods, expected) in cases {
        assert_eq!(short(&of(zones(), pods)), expected, "{what}");
    }
}

#[test]
fn spreading_counts_nodes_that_have_all_keys_and_may_be_used() {
    let constraint = |key: &str, taints: &str| {
        json!({"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "DoNotSchedule",
            "nodeTaintsPolicy": taints, "labelSelector": {"matchLabels": {"app": "x"}}})
    };
    let tainted = |nodes: Vec<Arc<Value>>| {
        let taint = json!([{"key": "k", "effect": "NoSchedule"}]);
        let mut nodes = nodes;
        nodes[2] = with(&nodes[2], |n| n["spec"]["taints"] = taint);
        nodes
    };
    let there = |node: &str| pod(node, "1", on(json!({}), node));
    let spec = |constraints: Value| json!({"topologySpreadConstraints": constraints});
    let uneven = "0/3 nodes are available: 1 node(s) had untolerated taint(s), \
        2 node(s) didn't match pod topology spread constraints";
    let host = "kubernetes.io/hostname";
    for (what, policy, expected) in [("ignored", "Ignore", uneven), ("left out", "Honor", "-> l")] {
        let pods = vec![
            there("l"),
            there("m"),
            pod("p", "1", spec(json!([constraint(host, policy)]))),
        ];
        assert_eq!(short(&of(tainted(zones()), pods)), expected, "{what}");
    }
    // A node without a zone is no domain of its own name either.
    let nodes = vec![zones().remove(0), node("n", "8", "8Gi", json!({}))];
    let both = spec(json!([constraint(host, "Ignore"), constraint("zone", "Ignore")]));
    let pods = vec![there("l"), pod("p", "1", both)];
    assert_eq!(short(&of(nodes, pods)), "-> l");
}

#[test]
fn sets_and_services_are_spread_without_being_told() {
    let crowd = |count: usize| (0..count).map(|n| pod(&format!("old-{n}"), "0", on(json!({}), "l")));
    let nodes = || {
        vec![
            node("l", "64", "64Gi", json!({})),
            node("m", "4", "4Gi", json!({})),
        ]
    };
    // The larger node would still be the emptier one.
    let owned = with(&pod("p", "1", json!({})), |p| {
        p["metadata"]["ownerReferences"] =
            json!([{"controller": true, "uid": "s", "kind": "ReplicaSet", "name": "s"}]);
    });
    let set = json!({"kind": "ReplicaSet", "metadata": {"name": "s", "namespace": "a", "uid": "s"},
        "spec": {"selector": {"matchLabels": {"app": "x"}}}});
    let service = json!({"metadata": {"name": "x", "namespace": "a"}, "spec": {"selector": {"app": "x"}}});
    let groups = |services: &[&Value], sets: &[&Value]| {
        let all = |list: &[&Value]| list.iter().map(|v| Arc::new((*v).clone())).collect();
        Groups {
            services: all(services),
            sets: all(sets),
        }
    };
    for (what, groups, expected) in [
        ("neither", groups(&[], &[]), "-> l"),
        ("a set", groups(&[], &[&set]), "-> m"),
        ("a Service", groups(&[&service], &[]), "-> m"),
    ] {
        let pods = crowd(3).chain([owned.clone()]).collect();
        let snapshot = Snapshot {
            groups,
            ..of(nodes(), pods)
        };
        assert_eq!(said(&snapshot), [expected], "{what}");
    }
}

#[test]
fn wishes_of_those_who_are_there_count() {
    let wish = |kind: &str| {
        json!({"affinity": {kind: {"preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 100, "podAffinityTerm": term("app", "x", "kubernetes.io/hostname")}]}}})
    };
    let nodes = || vec![node("l", "8", "8Gi", json!({})), node("m", "8", "8Gi", json!({}))];
    for (kind, at, expected) in [("podAntiAffinity", "l", "-> m"), ("podAffinity", "m", "-> m")] {
        let old = pod("old", "0", on(wish(kind), at));
        assert_eq!(
            said(&of(nodes(), vec![old, pod("p", "1", json!({}))])),
            [expected],
            "{kind}"
        );
    }
}
