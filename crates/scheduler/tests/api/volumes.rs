//! Where Pods with claims go, and what happens to the claims.

use crate::rig::said;
use controllers::storage::SELECTED_NODE;
use scheduler::plan::Snapshot;
use scheduler::volumes::Storage;
use serde_json::{Value, json};
use std::sync::Arc;

fn node(name: &str) -> Arc<Value> {
    Arc::new(json!({
        "metadata": {"name": name, "labels": {"kubernetes.io/hostname": name}},
        "status": {"allocatable": {"cpu": "8", "memory": "8Gi", "pods": "10"}},
    }))
}

fn pod(name: &str) -> Arc<Value> {
    Arc::new(json!({
        "metadata": {"name": name, "namespace": "a", "uid": name},
        "spec": {"containers": [{"name": "c"}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "x"}}]},
    }))
}

fn claim(class: &str, volume: &str, selected: &str) -> Value {
    let mut claim = json!({
        "metadata": {"name": "x", "namespace": "a", "uid": "x", "annotations": {}},
        "spec": {"storageClassName": class, "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "1Gi"}}},
    });
    if !volume.is_empty() {
        claim["spec"]["volumeName"] = json!(volume);
        claim["metadata"]["annotations"]["pv.kubernetes.io/bind-completed"] = json!("yes");
    }
    if !selected.is_empty() {
        claim["metadata"]["annotations"][SELECTED_NODE] = json!(selected);
    }
    claim
}

fn volume(name: &str, host: &str) -> Arc<Value> {
    Arc::new(json!({
        "metadata": {"name": name}, "status": {"phase": "Available"},
        "spec": {"storageClassName": "later", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": [host]}]}]}}},
    }))
}

fn class(name: &str, mode: &str, provisioner: &str) -> Arc<Value> {
    Arc::new(json!({"metadata": {"name": name}, "volumeBindingMode": mode, "provisioner": provisioner}))
}

/// Why a Pod fits nowhere, without what is said of preemption.
fn first_part(told: &str) -> String {
    told.split(". no new claims")
        .next()
        .unwrap_or_default()
        .to_string()
}

fn check(what: &str, claims: Vec<Value>, volumes: Vec<Arc<Value>>, expected: &str) {
    let classes = vec![
        class("later", "WaitForFirstConsumer", "datastore.podvisor.io"),
        class("none", "WaitForFirstConsumer", "kubernetes.io/no-provisioner"),
        class("now", "Immediate", "datastore.podvisor.io"),
    ];
    let claims = claims.into_iter().map(Arc::new).collect();
    let snapshot = Snapshot {
        nodes: vec![node("m"), node("n")],
        pods: vec![pod("p")],
        storage: Storage::new(claims, volumes, classes),
        ..Snapshot::default()
    };
    let said: Vec<String> = said(&snapshot).iter().map(|told| first_part(told)).collect();
    assert_eq!(said, [expected], "{what}");
}

#[test]
fn claims_decide() {
    let of = |claim: Value| vec![claim];
    check(
        "no claim",
        vec![],
        vec![],
        "0/2 nodes are available: persistentvolumeclaim \"x\" not found",
    );
    check("first Pod", of(claim("later", "", "")), vec![], "m: select m");
    check("chosen", of(claim("later", "", "n")), vec![], "n: ");
    check(
        "bound",
        of(claim("later", "v", "n")),
        vec![volume("v", "n")],
        "-> n",
    );
    check(
        "free volume",
        of(claim("later", "", "")),
        vec![volume("v", "n")],
        "m: select m",
    );
    check(
        "cannot be made",
        of(claim("none", "", "")),
        vec![volume("v", "n")],
        "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind",
    );
    check(
        "immediate",
        of(claim("now", "", "")),
        vec![],
        "0/2 nodes are available: pod has unbound immediate PersistentVolumeClaims",
    );
    check(
        "elsewhere",
        of(claim("later", "v", "")),
        vec![volume("v", "k")],
        "0/2 nodes are available: 2 node(s) didn't match PersistentVolume's node affinity",
    );
    check(
        "volume gone",
        of(claim("later", "v", "")),
        vec![],
        "0/2 nodes are available: 2 node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)",
    );
    let mut free = (*volume("v", "n")).clone();
    free["spec"]["storageClassName"] = json!("none");
    check(
        "only where a free one is",
        of(claim("none", "", "")),
        vec![Arc::new(free)],
        "n: reserve v",
    );
}

#[test]
fn two_claims_do_not_share_a_volume() {
    let named = |name: &str, size: &str| {
        let mut claim = claim("none", "", "");
        claim["metadata"]["name"] = json!(name);
        claim["spec"]["resources"]["requests"]["storage"] = json!(size);
        Arc::new(claim)
    };
    let free = |name: &str, size: &str| {
        let mut free = (*volume(name, "m")).clone();
        free["spec"]["storageClassName"] = json!("none");
        free["spec"]["capacity"]["storage"] = json!(size);
        Arc::new(free)
    };
    let mut wants = (*pod("p")).clone();
    wants["spec"]["volumes"] = json!([
        {"name": "v", "persistentVolumeClaim": {"claimName": "x"}},
        {"name": "w", "persistentVolumeClaim": {"claimName": "y"}},
    ]);
    let none = "0/2 nodes are available: 2 node(s) didn't find available persistent volumes to bind";
    for (what, volumes, expected) in [
        ("one for two", vec![free("v", "2Gi")], none),
        (
            "one each, the smaller claim first",
            vec![free("v", "1Gi"), free("w", "2Gi")],
            "m: reserve v, reserve w",
        ),
    ] {
        let classes = vec![class(
            "none",
            "WaitForFirstConsumer",
            "kubernetes.io/no-provisioner",
        )];
        let snapshot = Snapshot {
            nodes: vec![node("m"), node("n")],
            pods: vec![Arc::new(wants.clone())],
            storage: Storage::new(vec![named("x", "2Gi"), named("y", "1Gi")], volumes, classes),
            ..Snapshot::default()
        };
        let said: Vec<String> = said(&snapshot).iter().map(|told| first_part(told)).collect();
        assert_eq!(said, [expected], "{what}");
    }
}

#[test]
fn what_is_for_one_pod_is_left_to_it_or_taken_by_somebody_more_important() {
    let mut exclusive = claim("later", "v", "");
    exclusive["spec"]["accessModes"] = json!(["ReadWriteOncePod"]);
    let mut reachable = (*volume("v", "m")).clone();
    reachable["spec"]["nodeAffinity"] = Value::Null;
    let user = |name: &str, node: &str, priority: i64| {
        let mut pod = (*pod(name)).clone();
        pod["spec"]["priority"] = json!(priority);
        if !node.is_empty() {
            pod["spec"]["nodeName"] = json!(node);
        }
        Arc::new(pod)
    };
    let mut bystander = (*user("other", "m", 0)).clone();
    bystander["spec"]["volumes"] = json!([]);
    let bystander = Arc::new(bystander);
    let why = "2 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode already in-use by another pod";
    let mine = "1 No preemption victims found for incoming pod, 1 node(s) unavailable due to PersistentVolumeClaim with \
        ReadWriteOncePod access mode already in-use by another pod";
    let cases = [
        (
            "preempted",
            vec![user("old", "n", 0), user("p", "", 5)],
            "n after old".to_string(),
        ),
        (
            "as important",
            vec![user("old", "n", 5), bystander, user("p", "", 5)],
            crate::rig::refused(2, why, mine),
        ),
    ];
    for (what, pods, expected) in cases {
        let snapshot = Snapshot {
            nodes: vec![node("m"), node("n")],
            pods,
            storage: Storage::new(
                vec![Arc::new(exclusive.clone())],
                vec![Arc::new(reachable.clone())],
                vec![],
            ),
            ..Snapshot::default()
        };
        assert_eq!(said(&snapshot), [expected], "{what}");
    }
}
