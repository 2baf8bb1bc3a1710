//! Strategies: what a request may set, and when generations count.

use crate::{defaulted, kind_of};
use machinery::{prepare_create, prepare_update};
use serde_json::{Value, json};

const DEPLOYMENT: &str = "{apiVersion: apps/v1, kind: Deployment, metadata: {name: a}, spec: {selector: {matchLabels: {a: b}}, \
                          template: {metadata: {labels: {a: b}}, spec: {containers: [{name: c, image: i}]}}}, status: {replicas: 9}}";

fn created(manifest: &str) -> Value {
    let mut object = defaulted(manifest);
    object["metadata"]["uid"] = "u-1".into();
    prepare_create(kind_of(&object), &mut object);
    object
}

#[test]
fn an_account_knows_its_secrets_by_name() {
    let made = created(
        "{apiVersion: v1, kind: ServiceAccount, metadata: {name: a}, secrets: [{kind: Secret, namespace: b, name: c, uid: d}]}",
    );
    assert_eq!(made["secrets"], json!([{"name": "c"}]));
    let mut changed = made.clone();
    changed["secrets"] = json!([{"name": "e", "resourceVersion": "7"}]);
    prepare_update(kind_of(&made), &mut changed, &made, None);
    assert_eq!(changed["secrets"], json!([{"name": "e"}]));
}

#[test]
fn new_objects_begin_at_the_beginning() {
    let deployment = created(DEPLOYMENT);
    assert_eq!(
        (&deployment["metadata"]["generation"], &deployment["status"]),
        (&json!(1), &json!({}))
    );
    let pod = created(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: i}]}, status: {phase: Running}}",
    );
    assert_eq!(
        pod["status"],
        json!({"phase": "Pending", "qosClass": "BestEffort"})
    );
    let node = created("{apiVersion: v1, kind: Node, metadata: {name: a}, status: {capacity: {cpu: 2}}}");
    assert_eq!(
        (&node["status"]["capacity"], &node["status"]["allocatable"]),
        (&json!({"cpu": "2"}), &json!({"cpu": "2"}))
    );
    // Whoever says that nothing can be had of it is believed, though nothing of that is written.
    let full = created(
        "{apiVersion: v1, kind: Node, metadata: {name: a}, status: {capacity: {cpu: 2}, allocatable: {}}}",
    );
    assert_eq!(full["status"].get("allocatable"), None);
    let namespace = created("{apiVersion: v1, kind: Namespace, metadata: {name: a}}");
    assert_eq!(
        (&namespace["spec"]["finalizers"], &namespace["status"]["phase"]),
        (&json!(["kubernetes"]), &json!("Active"))
    );
    let job = created(
        "{apiVersion: batch/v1, kind: Job, metadata: {name: a}, spec: {template: {spec: {restartPolicy: Never, containers: [{name: c, image: i}]}}}}",
    );
    assert_eq!(
        job["spec"]["selector"]["matchLabels"],
        json!({"batch.kubernetes.io/controller-uid": "u-1"})
    );
    assert_eq!(job["spec"]["template"]["metadata"]["labels"]["job-name"], "a");
}

#[test]
fn what_is_brought_along_is_kept_or_not() {
    let map = created("{apiVersion: v1, kind: ConfigMap, metadata: {name: a, generation: 5}}");
    assert_eq!(map["metadata"]["generation"], 5);
    let generation = "deprecated.daemonset.template.generation";
    let set = created(&format!(
        "{{apiVersion: apps/v1, kind: DaemonSet, metadata: {{name: a, annotations: {{{generation}: '3'}}}}, spec: {{selector: \
         {{matchLabels: {{a: b}}}}, template: {{metadata: {{labels: {{a: b}}}}, spec: {{containers: [{{name: c, image: i}}]}}}}}}}}"
    ));
    assert_eq!(set["metadata"]["annotations"][generation], "3");
    let node = created(
        "{apiVersion: v1, kind: Node, metadata: {name: a}, spec: {configSource: {}}, status: {config: {error: x}}}",
    );
    assert!(node["spec"].get("configSource").is_none() && node["status"].get("config").is_none());
    let mut reported = set.clone();
    reported["metadata"]["annotations"] = json!({});
    prepare_update(kind_of(&set), &mut reported, &set, Some("status"));
    assert_eq!(reported["metadata"]["annotations"][generation], "3");
}

#[test]
fn owners_may_change_with_a_status_but_for_pods() {
    let pod = "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: i}]}}";
    let owners = json!([{"apiVersion": "v1", "kind": "Node", "name": "n", "uid": "u"}]);
    for (manifest, kept) in [(DEPLOYMENT, &owners), (pod, &Value::Null)] {
        let old = created(manifest);
        let mut new = old.clone();
        new["metadata"]["ownerReferences"] = owners.clone();
        prepare_update(kind_of(&old), &mut new, &old, Some("status"));
        assert_eq!(new["metadata"]["ownerReferences"], *kept, "{manifest}");
    }
}

#[test]
fn of_devices_that_are_given_back_nothing_is_told() {
    let device = |name: &str| json!({"driver": "d.io", "pool": "p", "device": name});
    let claim = |allocated: &[&str], told: &[&str]| {
        let list = |names: &[&str]| names.iter().map(|name| device(name)).collect::<Vec<_>>();
        json!({"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "metadata": {"name": "a"},
            "status": {"allocation": {"devices": {"results": list(allocated)}}, "devices": list(told)}})
    };
    let old = claim(&["a", "b"], &["a", "b"]);
    for (allocated, told, left) in [
        (&["a"][..], &["a", "b"][..], json!([device("a")])),
        (&[], &["a", "b"], Value::Null),
        (&["a", "b"], &["a", "b"], json!([device("a"), device("b")])),
    ] {
        let mut new = claim(allocated, told);
        prepare_update(kind_of(&old), &mut new, &old, Some("status"));
        assert_eq!(new["status"]["devices"], left, "{allocated:?}");
    }
}

#[test]
fn spec_and_status_are_written_apart() {
    let old = created(DEPLOYMENT);
    let kind = kind_of(&old);
    let change = |sub: Option<&str>, edit: &dyn Fn(&mut Value)| {
        let mut new = old.clone();
        edit(&mut new);
        prepare_update(kind, &mut new, &old, sub);
        new
    };
    let both = |v: &mut Value| {
        v["spec"]["replicas"] = 7.into();
        v["status"]["replicas"] = 3.into();
    };
    let main = change(None, &both);
    assert_eq!(
        (
            &main["spec"]["replicas"],
            &main["status"],
            &main["metadata"]["generation"]
        ),
        (&json!(7), &json!({}), &json!(2))
    );
    let status = change(Some("status"), &both);
    assert_eq!(
        (
            &status["spec"]["replicas"],
            &status["status"]["replicas"],
            &status["metadata"]["generation"]
        ),
        (&json!(1), &json!(3), &json!(1))
    );
    let labels = change(None, &|v| v["metadata"]["labels"] = json!({"x": "y"}));
    assert_eq!(labels["metadata"]["generation"], 1);
    let forged = change(None, &|v| v["metadata"]["generation"] = 40.into());
    assert_eq!(forged["metadata"]["generation"], 1);
}

#[test]
fn services_keep_what_was_allocated() {
    let manifest =
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: NodePort, ports: [{port: 80}]}}";
    let mut old = created(manifest);
    old["spec"]["clusterIP"] = "10.96.0.9".into();
    old["spec"]["clusterIPs"] = json!(["10.96.0.9"]);
    old["spec"]["ports"][0]["nodePort"] = 30080.into();
    let mut new = created(manifest);
    prepare_update(kind_of(&old), &mut new, &old, None);
    assert_eq!(
        (&new["spec"]["clusterIP"], &new["spec"]["ports"][0]["nodePort"]),
        (&json!("10.96.0.9"), &json!(30080))
    );
}

#[test]
fn services_lose_what_their_new_type_does_not_need() {
    let manifest =
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: NodePort, ports: [{port: 80}]}}";
    let mut old = created(manifest);
    old["spec"]["clusterIP"] = "10.96.0.9".into();
    old["spec"]["clusterIPs"] = json!(["10.96.0.9"]);
    old["spec"]["ports"][0]["nodePort"] = 30080.into();
    assert_eq!(old["spec"]["externalTrafficPolicy"], "Cluster");
    for (kind, gone, left) in [
        (
            "ClusterIP",
            &["externalTrafficPolicy"][..],
            &["clusterIP", "clusterIPs"][..],
        ),
        (
            "ExternalName",
            &["externalTrafficPolicy", "clusterIP", "clusterIPs"][..],
            &[][..],
        ),
    ] {
        let mut new = old.clone();
        new["spec"]["type"] = kind.into();
        prepare_update(kind_of(&old), &mut new, &old, None);
        let has = |field: &&str| new["spec"].get(*field).is_some();
        assert!(!gone.iter().any(&has) && left.iter().all(has), "{kind}: {new}");
        assert_eq!(new["spec"]["ports"][0].get("nodePort"), None, "{kind}");
    }
}

#[test]
fn node_ports_follow_the_names_of_ports() {
    let service =
        |spec: Value| json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}, "spec": spec});
    let old = service(
        json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": true, "ports": [
        {"name": "a", "port": 80, "nodePort": 30001}, {"name": "b", "port": 81, "nodePort": 30002}]}),
    );
    let ports = |a: Value, b: Value| json!([a, b]);
    for (spec, wanted) in [
        // Another port of the same name is the same port.
        (
            json!({"type": "LoadBalancer", "ports": ports(json!({"name": "a", "port": 8080}), json!({"name": "b", "port": 81}))}),
            [30001, 30002],
        ),
        // A number that another port has taken is not given twice.
        (
            json!({"type": "NodePort", "ports": ports(json!({"name": "a", "port": 80}),
                json!({"name": "b", "port": 81, "nodePort": 30001}))}),
            [0, 30001],
        ),
        // What is no longer given is kept by who has it, and not given back to who lets it go.
        (
            json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports(
                json!({"name": "a", "port": 80, "nodePort": 30001}), json!({"name": "b", "port": 81, "nodePort": 30002}))}),
            [30001, 30002],
        ),
        (
            json!({"type": "LoadBalancer", "allocateLoadBalancerNodePorts": false, "ports": ports(
                json!({"name": "a", "port": 80}), json!({"name": "b", "port": 81, "nodePort": 30002}))}),
            [0, 30002],
        ),
        // One port less is no new port.
        (
            json!({"type": "ClusterIP", "ports": ports(
                json!({"name": "a", "port": 80, "nodePort": 30001}), json!({"name": "c", "port": 82}))}),
            [0, 0],
        ),
    ] {
        let mut new = service(spec.clone());
        prepare_update(kind_of(&old), &mut new, &old, None);
        let port = |n: usize| new["spec"]["ports"][n]["nodePort"].as_i64().unwrap_or(0);
        assert_eq!([port(0), port(1)], wanted, "{spec}");
    }
}

#[test]
fn a_service_that_is_no_longer_balanced_shows_no_address() {
    let mut old = created(
        "{apiVersion: v1, kind: Service, metadata: {name: a}, spec: {type: LoadBalancer, ports: [{port: 80}]}}",
    );
    old["status"] = json!({"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}});
    for (kind, wanted) in [
        ("LoadBalancer", &old["status"]),
        ("ClusterIP", &json!({"loadBalancer": {}})),
    ] {
        let mut new = old.clone();
        new["spec"]["type"] = kind.into();
        prepare_update(kind_of(&old), &mut new, &old, None);
        assert_eq!(new["status"], *wanted, "{kind}");
    }
}

#[test]
fn subresources_of_pods_change_their_part_alone() {
    let old = created(
        "{apiVersion: v1, kind: Pod, metadata: {name: a}, spec: {containers: [{name: c, image: i}]}}",
    );
    let kind = kind_of(&old);
    let mut new = old.clone();
    new["spec"]["containers"][0]["image"] = "other".into();
    new["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": "2"}});
    new["spec"]["ephemeralContainers"] = json!([{"name": "e", "image": "x"}]);
    let result = |sub: &str| {
        let mut out = new.clone();
        prepare_update(kind, &mut out, &old, Some(sub));
        (
            out["spec"]["containers"][0]["image"].clone(),
            out["spec"]["containers"][0]["resources"] == json!({}),
            out["spec"].get("ephemeralContainers").is_some(),
        )
    };
    assert_eq!(result("ephemeralcontainers"), (json!("i"), true, true));
    assert_eq!(result("resize"), (json!("i"), false, false));
    // By the Pod itself they cannot be changed at all, which is told instead of undone.
    prepare_update(kind, &mut new, &old, None);
    assert!(new["spec"].get("ephemeralContainers").is_some());
}
