//! Planners as tables: what is there, what is wanted, what is decided.

use crate::deployment::{Plan, plan};
use crate::world::difference;
use crate::{endpoints, loadbalancer, node, supervisor};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

fn deployment(replicas: i64, image: &str, strategy: Value) -> Value {
    json!({
        "apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "d", "namespace": "a", "uid": "u"},
        "spec": {"replicas": replicas, "strategy": strategy, "selector": {"matchLabels": {"app": "d"}},
            "template": {"metadata": {"labels": {"app": "d"}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
    })
}

fn set(name: &str, image: &str, replicas: i64, available: i64, desired: i64) -> Arc<Value> {
    Arc::new(json!({
        "metadata": {"name": name, "namespace": "a", "creationTimestamp": name,
            "annotations": {"deployment.kubernetes.io/desired-replicas": desired.to_string(),
                "deployment.kubernetes.io/max-replicas": (desired + (desired + 3) / 4).to_string()}},
        "spec": {"replicas": replicas,
            "template": {"metadata": {"labels": {"app": "d", "pod-template-hash": name}}, "spec": {"containers": [{"name": "c", "image": image}]}}},
        "status": {"replicas": replicas, "availableReplicas": available},
    }))
}

fn scale(list: &[(&str, i64)]) -> Plan {
    Plan {
        scale: list.iter().map(|(n, c)| (n.to_string(), *c)).collect(),
        ..Plan::default()
    }
}

fn paused(mut deployment: Value) -> Value {
    deployment["spec"]["paused"] = json!(true);
    deployment
}

/// What it shows, the Deployment, its sets, whether old Pods are left, and the plan.
type Case = (&'static str, Value, Vec<Arc<Value>>, bool, Plan);

#[test]
fn rollouts() {
    let rolling =
        || json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}});
    let make = |n| Plan {
        create: Some(n),
        ..Plan::default()
    };
    let recreate = || json!({"type": "Recreate"});
    let cases: Vec<Case> = vec![
        ("first", deployment(3, "1", rolling()), vec![], false, make(3)),
        (
            "settled",
            deployment(3, "1", rolling()),
            vec![set("a", "1", 3, 3, 3)],
            false,
            Plan::default(),
        ),
        (
            "new image",
            deployment(4, "2", rolling()),
            vec![set("a", "1", 4, 4, 4)],
            false,
            make(1),
        ),
        (
            "one down",
            deployment(4, "2", rolling()),
            vec![set("a", "1", 4, 4, 4), set("b", "2", 1, 0, 4)],
            false,
            scale(&[("a", 3)]),
        ),
        (
            "one up",
            deployment(4, "2", rolling()),
            vec![set("a", "1", 3, 3, 4), set("b", "2", 1, 1, 4)],
            false,
            scale(&[("b", 2)]),
        ),
        (
            "last",
            deployment(4, "2", rolling()),
            vec![set("a", "1", 1, 1, 4), set("b", "2", 4, 4, 4)],
            false,
            scale(&[("a", 0)]),
        ),
        (
            "more",
            deployment(5, "1", rolling()),
            vec![set("a", "1", 3, 3, 3)],
            false,
            scale(&[("a", 5)]),
        ),
        (
            "none",
            deployment(0, "1", rolling()),
            vec![set("a", "1", 3, 3, 3)],
            false,
            scale(&[("a", 0)]),
        ),
        (
            "a share each, of equals the newest first",
            deployment(6, "2", rolling()),
            vec![set("a", "1", 2, 2, 4), set("b", "2", 2, 2, 4)],
            false,
            scale(&[("b", 5), ("a", 3)]),
        ),
        (
            "fewer, of equals the oldest first",
            deployment(2, "2", rolling()),
            vec![set("a", "1", 2, 2, 4), set("b", "2", 2, 2, 4)],
            false,
            scale(&[("a", 1), ("b", 2)]),
        ),
        (
            "the new one is enough already",
            deployment(3, "2", rolling()),
            vec![set("a", "1", 1, 1, 5), set("b", "2", 3, 3, 3)],
            false,
            scale(&[("a", 0)]),
        ),
        (
            "none is left: the latest grows, though it is paused",
            paused(deployment(2, "3", rolling())),
            vec![set("a", "1", 0, 0, 2), set("b", "2", 0, 0, 2)],
            false,
            scale(&[("b", 2)]),
        ),
        (
            "recreate: down",
            deployment(2, "2", recreate()),
            vec![set("a", "1", 2, 2, 2)],
            true,
            scale(&[("a", 0)]),
        ),
        (
            "recreate: wait",
            deployment(2, "2", recreate()),
            vec![set("a", "1", 0, 0, 2)],
            true,
            Plan::default(),
        ),
        (
            "recreate: up",
            deployment(2, "2", recreate()),
            vec![set("a", "1", 0, 0, 2)],
            false,
            make(2),
        ),
    ];
    for (what, d, sets, pods_of_old, expected) in cases {
        assert_eq!(plan(&d, &sets, pods_of_old), expected, "{what}");
    }
}

#[test]
fn history_is_trimmed() {
    let mut d = deployment(1, "9", json!({"type": "RollingUpdate"}));
    d["spec"]["revisionHistoryLimit"] = json!(1);
    let sets = vec![
        set("a", "1", 0, 0, 1),
        set("b", "2", 0, 0, 1),
        set("c", "9", 1, 1, 1),
    ];
    assert_eq!(plan(&d, &sets, false).remove, ["a"]);
}

#[test]
fn merge_patches() {
    for (old, new, patch) in [
        (json!({"a": 1}), json!({"a": 1}), None),
        (json!({"a": 1, "b": 2}), json!({"a": 1}), Some(json!({"b": null}))),
        (
            json!({"a": {"x": 1, "y": 2}}),
            json!({"a": {"x": 1, "y": 3}}),
            Some(json!({"a": {"y": 3}})),
        ),
        (
            json!({"a": [1]}),
            json!({"a": [1, 2]}),
            Some(json!({"a": [1, 2]})),
        ),
        (Value::Null, json!({"a": 1}), Some(json!({"a": 1}))),
    ] {
        assert_eq!(difference(&old, &new), patch);
    }
}

#[test]
fn blocks_of_addresses() {
    let blocks: Vec<String> = node::blocks("10.244.0.0/16", 24).take(2).collect();
    assert_eq!(blocks, ["10.244.0.0/24", "10.244.1.0/24"]);
    assert_eq!(node::blocks("10.244.0.0/16", 24).count(), 256);
    let vips: Vec<String> = loadbalancer::addresses("198.51.100.0/30")
        .map(|a| a.to_string())
        .collect();
    assert_eq!(vips, ["198.51.100.1", "198.51.100.2"]);
}

#[test]
fn virtual_addresses() {
    let pool = ["198.51.100.0/30".to_string()];
    let taken: BTreeSet<_> = ["198.51.100.1".parse().unwrap()].into();
    let ask = |ip: &str| {
        loadbalancer::choose(&json!({"spec": {"loadBalancerIP": ip}}), &pool, &taken).map(|a| a.to_string())
    };
    assert_eq!(ask(""), Ok("198.51.100.2".into()));
    assert_eq!(ask("198.51.100.2"), Ok("198.51.100.2".into()));
    assert!(ask("198.51.100.1").unwrap_err().contains("another Service"));
    assert!(ask("203.0.113.1").unwrap_err().contains("no VirtualIPPool"));
}

#[test]
fn supervisor_namespace_content() {
    let own = json!({
        "apiVersion": "podvisor.io/v1alpha1", "kind": "SupervisorNamespace", "metadata": {"name": "demo", "uid": "u"},
        "spec": {"limits": {"cpu": "4", "memory": "4Gi", "storage": "20Gi"},
            "permissions": [{"subject": "alice@podvisor.local", "kind": "User", "role": "owner"}]},
    });
    let wanted = supervisor::wanted(&own);
    let of = |kind: &str| {
        wanted
            .iter()
            .find(|(_, o)| o["kind"] == kind)
            .map(|(_, o)| o.clone())
            .unwrap()
    };
    assert_eq!(of("RoleBinding")["roleRef"]["name"], "admin");
    assert_eq!(
        of("RoleBinding")["subjects"][0]["name"],
        "sso:alice@podvisor.local"
    );
    assert_eq!(
        of("ResourceQuota")["spec"]["hard"],
        json!({
            "requests.cpu": "4", "limits.cpu": "4", "requests.memory": "4Gi", "limits.memory": "4Gi", "requests.storage": "20Gi",
        })
    );
    // Six containers that say nothing fit.
    assert_eq!(
        of("LimitRange")["spec"]["limits"][0]["default"],
        json!({"cpu": "500m", "memory": "512Mi"})
    );
}

#[test]
fn endpoints_of_pods() {
    let service = json!({
        "metadata": {"name": "web", "namespace": "a", "uid": "s"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "www"}]},
    });
    let pod = |name: &str, ip: &str, ready: &str| {
        Arc::new(json!({
            "metadata": {"name": name, "namespace": "a", "uid": name, "labels": {"app": "web"}},
            "spec": {"nodeName": "n", "containers": [{"ports": [{"name": "www", "containerPort": 8080}]}]},
            "status": {"phase": "Running", "podIP": ip, "conditions": [{"type": "Ready", "status": ready}]},
        }))
    };
    let pods = [
        pod("p", "10.0.0.1", "True"),
        pod("q", "10.0.0.2", "False"),
        pod("r", "", "False"),
    ];
    let nowhere = |_: &str| None;
    let slices = endpoints::slices(&service, &pods, &nowhere);
    assert_eq!(slices.len(), 1);
    assert_eq!(
        slices[0]["ports"],
        json!([{"name": "http", "port": 8080, "protocol": "TCP"}])
    );
    assert_eq!(
        slices[0]["endpoints"][0]["conditions"],
        json!({"ready": true, "serving": true, "terminating": false})
    );
    assert_eq!(slices[0]["endpoints"][1]["conditions"]["ready"], false);
    assert!(slices[0]["endpoints"][0].get("zone").is_none());
    let mut near = service.clone();
    let zones = |node: &str| (node == "n").then(|| "east".to_owned());
    for (distribution, hints) in [
        ("PreferSameZone", json!({"forZones": [{"name": "east"}]})),
        ("PreferClose", json!({"forZones": [{"name": "east"}]})),
        (
            "PreferSameNode",
            json!({"forZones": [{"name": "east"}], "forNodes": [{"name": "n"}]}),
        ),
        ("", Value::Null),
    ] {
        near["spec"]["trafficDistribution"] = json!(distribution);
        let slices = endpoints::slices(&near, &pods, &zones);
        assert_eq!(slices[0]["endpoints"][0]["zone"], "east");
        assert_eq!(slices[0]["endpoints"][0]["hints"], hints, "{distribution}");
        // Whoever is not ready draws no traffic.
        assert_eq!(slices[0]["endpoints"][1]["hints"], Value::Null);
    }
    let subsets = endpoints::subsets(&service, &pods);
    assert_eq!(subsets[0]["addresses"][0]["ip"], "10.0.0.1");
    assert_eq!(subsets[0]["notReadyAddresses"][0]["ip"], "10.0.0.2");
}

#[test]
fn named_ports_are_those_of_containers_that_stay() {
    let service = json!({
        "metadata": {"name": "web", "namespace": "a", "uid": "s"},
        "spec": {"selector": {"app": "web"}, "ports": [{"name": "http", "port": 80, "targetPort": "www"}]},
    });
    let ports = |restart: &str| {
        let init = json!({"restartPolicy": restart, "ports": [{"name": "www", "containerPort": 8080}]});
        let pod = json!({
            "metadata": {"name": "p", "namespace": "a", "uid": "p", "labels": {"app": "web"}},
            "spec": {"nodeName": "n", "containers": [{}], "initContainers": [init]},
            "status": {"phase": "Running", "podIP": "10.0.0.1"},
        });
        let slices = endpoints::slices(&service, &[Arc::new(pod)], &|_: &str| None);
        slices[0]["ports"].as_array().map_or(0, Vec::len)
    };
    assert_eq!((ports("Always"), ports("")), (1, 0));
}
