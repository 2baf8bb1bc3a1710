//! Tables at their public face: every kind has whole rows, and rows say what upstream's printers say.

use jiff::Timestamp;
use machinery::tables::{IncludeObject, columns, row, table};
use serde_json::{Value, json};

const NOW: &str = "2026-01-01T00:10:00Z";
const CREATED: &str = "2026-01-01T00:08:20Z";

fn now() -> Timestamp {
    NOW.parse().expect("a timestamp")
}

/// The cells of an object by heading.
fn cells(group: &str, version: &str, kind: &str, mut object: Value) -> Value {
    let kind = kinds::find_kind(group, version, kind).expect("a kind");
    object["metadata"]["name"] = json!("x");
    object["metadata"]["creationTimestamp"] = json!(CREATED);
    let row = row(kind, &object, now(), IncludeObject::None);
    let names = columns(kind).iter().map(|column| column.name.to_owned());
    names
        .zip(row["cells"].as_array().expect("cells").clone())
        .collect::<serde_json::Map<_, _>>()
        .into()
}

#[test]
fn every_kind_has_a_cell_for_each_column() {
    for kind in kinds::builtin() {
        let row = row(kind, &json!({}), now(), IncludeObject::None);
        assert_eq!(
            row["cells"].as_array().map(Vec::len),
            Some(columns(kind).len() + usize::from(kind.kind == "IPAddress")),
            "{}",
            kind.kind
        );
        assert!(row["object"].is_null());
    }
}

#[test]
fn a_table_is_what_kubectl_reads() {
    let kind = kinds::find_kind("", "v1", "ConfigMap").expect("there");
    let object = json!({"kind": "ConfigMap", "metadata": {"name": "a", "creationTimestamp": CREATED}, "data": {"k": "v"}});
    let table = table(
        kind,
        std::iter::once(&object),
        now(),
        IncludeObject::Metadata,
        &|_, _| None,
    );
    assert_eq!(table["columnDefinitions"][0]["format"], "name");
    assert_eq!(table["rows"][0]["cells"], json!(["a", 1, "100s"]));
    assert_eq!(table["rows"][0]["object"]["kind"], "PartialObjectMetadata");
    assert_eq!(table["rows"][0]["object"]["metadata"]["name"], "a");
}

#[test]
fn pods_say_what_they_do() {
    let running = json!({"running": {}});
    let cases = [
        (
            "new",
            json!({"status": {"phase": "Pending"}}),
            "0/1",
            "Pending",
            "0",
        ),
        (
            "runs",
            json!({"status": {"phase": "Running", "containerStatuses": [{"name": "c", "ready": true, "state": running}]}}),
            "1/1",
            "Running",
            "0",
        ),
        (
            "crashes",
            json!({"status": {"phase": "Running", "containerStatuses": [{"name": "c", "restartCount": 3,
                "lastState": {"terminated": {"finishedAt": "2026-01-01T00:09:55Z"}},
                "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}}),
            "0/1",
            "CrashLoopBackOff",
            "3 (5s ago)",
        ),
        (
            "first init container of two",
            json!({"spec": {"initContainers": [{"name": "i"}, {"name": "j"}]},
                "status": {"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": running}]}}),
            "0/1",
            "Init:0/2",
            "0",
        ),
        (
            "init container failed",
            json!({"spec": {"initContainers": [{"name": "i"}]}, "status": {"phase": "Pending",
                "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 7}}}]}}),
            "0/1",
            "Init:ExitCode:7",
            "0",
        ),
        (
            "image cannot be had for an init container",
            json!({"spec": {"initContainers": [{"name": "i"}]}, "status": {"phase": "Pending",
                "initContainerStatuses": [{"name": "i", "state": {"waiting": {"reason": "ErrImagePull"}}}]}}),
            "0/1",
            "Init:ErrImagePull",
            "0",
        ),
        (
            "sidecar counts",
            json!({"spec": {"initContainers": [{"name": "s", "restartPolicy": "Always"}]}, "status": {"phase": "Running",
                "initContainerStatuses": [{"name": "s", "started": true, "ready": true, "restartCount": 2, "state": running}],
                "containerStatuses": [{"name": "c", "ready": true, "restartCount": 1, "state": running}]}}),
            "2/2",
            "Running",
            "3",
        ),
        (
            "done",
            json!({"status": {"phase": "Succeeded", "containerStatuses": [{"name": "c",
                "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}}),
            "0/1",
            "Completed",
            "0",
        ),
        (
            "killed",
            json!({"status": {"phase": "Failed", "containerStatuses": [{"name": "c",
                "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}}),
            "0/1",
            "Signal:9",
            "0",
        ),
        (
            "going",
            json!({"metadata": {"deletionTimestamp": NOW}, "status": {"phase": "Running",
                "containerStatuses": [{"name": "c", "ready": true, "state": running}]}}),
            "1/1",
            "Terminating",
            "0",
        ),
        (
            "evicted",
            json!({"status": {"phase": "Failed", "reason": "Evicted"}}),
            "0/1",
            "Evicted",
            "0",
        ),
        (
            "gated",
            json!({"status": {"phase": "Pending",
                "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}}),
            "0/1",
            "SchedulingGated",
            "0",
        ),
    ];
    for (what, mut pod, ready, status, restarts) in cases {
        pod["spec"]["containers"] = json!([{"name": "c"}]);
        let cells = cells("", "v1", "Pod", pod);
        assert_eq!(
            [
                &cells["Ready"],
                &cells["Status"],
                &cells["Restarts"],
                &cells["Age"]
            ],
            [ready, status, restarts, "100s"],
            "{what}"
        );
    }
}

#[test]
fn kinds_say_what_upstream_says() {
    let cases = [
        (
            "",
            "v1",
            "Service",
            "External-IP",
            json!({"spec": {"type": "LoadBalancer"}}),
            json!("<pending>"),
        ),
        (
            "",
            "v1",
            "Service",
            "External-IP",
            json!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"ip": "198.51.100.1"}]}}}),
            json!("198.51.100.1"),
        ),
        (
            "",
            "v1",
            "Service",
            "Port(s)",
            json!({"spec": {"ports": [{"port": 80, "nodePort": 30080, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}}),
            json!("80:30080/TCP,53/UDP"),
        ),
        (
            "",
            "v1",
            "Service",
            "Cluster-IP",
            json!({"spec": {"clusterIP": "None"}}),
            json!("None"),
        ),
        (
            "",
            "v1",
            "Node",
            "Status",
            json!({"spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
            json!("Ready,SchedulingDisabled"),
        ),
        (
            "",
            "v1",
            "Node",
            "Roles",
            json!({"metadata": {"labels": {"node-role.kubernetes.io/control-plane": "", "kubernetes.io/role": "agent"}}}),
            json!("agent,control-plane"),
        ),
        (
            "apps",
            "v1",
            "Deployment",
            "Ready",
            json!({"spec": {"replicas": 3}, "status": {"readyReplicas": 2}}),
            json!("2/3"),
        ),
        (
            "apps",
            "v1",
            "ReplicaSet",
            "Selector",
            json!({"spec": {"selector": {"matchLabels": {"b": "2"}, "matchExpressions": [{"key": "a", "operator": "In", "values": ["y", "x"]}]}}}),
            json!("a in (x,y),b=2"),
        ),
        (
            "",
            "v1",
            "Event",
            "Object",
            json!({"involvedObject": {"kind": "Pod", "name": "p"}}),
            json!("pod/p"),
        ),
        (
            "",
            "v1",
            "Event",
            "Last Seen",
            json!({"lastTimestamp": "2026-01-01T00:09:00Z", "count": 4}),
            json!("60s"),
        ),
        (
            "events.k8s.io",
            "v1",
            "Event",
            "Message",
            json!({"note": "hello\n"}),
            json!("hello"),
        ),
        ("", "v1", "Endpoints", "Endpoints", json!({}), json!("<none>")),
        (
            "",
            "v1",
            "Endpoints",
            "Endpoints",
            json!({"subsets": [{"notReadyAddresses": [{"ip": "10.0.0.1"}], "ports": [{"port": 80}]}]}),
            json!(""),
        ),
        (
            "discovery.k8s.io",
            "v1",
            "EndpointSlice",
            "Ports",
            json!({"ports": [{"name": "", "protocol": "TCP"}]}),
            json!("<unset>"),
        ),
        (
            "networking.k8s.io",
            "v1",
            "Ingress",
            "Hosts",
            json!({"spec": {"rules": [{"host": "a"}, {"host": "b"}, {"host": "c"}, {}]}}),
            json!("a,b,c + 1 more..."),
        ),
        (
            "",
            "v1",
            "PersistentVolumeClaim",
            "Capacity",
            json!({"spec": {"volumeName": "v"}, "status": {"phase": "Pending"}}),
            json!("0"),
        ),
        (
            "",
            "v1",
            "Endpoints",
            "Endpoints",
            json!({"subsets": [{"addresses": [{"ip": "10.0.0.1"}, {"ip": "10.0.0.2"}, {"ip": "10.0.0.3"}, {"ip": "10.0.0.4"}], "ports": [{"port": 80}]}]}),
            json!("10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 1 more..."),
        ),
        (
            "batch",
            "v1",
            "Job",
            "Duration",
            json!({"status": {"startTime": "2026-01-01T00:09:00Z", "completionTime": "2026-01-01T00:09:07Z"}}),
            json!("7s"),
        ),
        (
            "batch",
            "v1",
            "Job",
            "Status",
            json!({"status": {"conditions": [{"type": "Complete", "status": "True"}]}}),
            json!("Complete"),
        ),
        (
            "",
            "v1",
            "PersistentVolumeClaim",
            "Access Modes",
            json!({"spec": {"volumeName": "v"}, "status": {"accessModes": ["ReadWriteMany", "ReadWriteOnce"]}}),
            json!("RWO,RWX"),
        ),
        (
            "",
            "v1",
            "ResourceQuota",
            "Limit",
            json!({"status": {"hard": {"pods": "10", "limits.cpu": "4"}, "used": {"limits.cpu": "1"}}}),
            json!("limits.cpu: 1/4"),
        ),
        (
            "autoscaling",
            "v2",
            "HorizontalPodAutoscaler",
            "Targets",
            json!({"spec": {"metrics": [{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 80}}}]}}),
            json!("cpu: <unknown>/80%"),
        ),
        (
            "certificates.k8s.io",
            "v1",
            "CertificateSigningRequest",
            "Condition",
            json!({"status": {"certificate": "eA==", "conditions": [{"type": "Approved", "status": "True"}]}}),
            json!("Approved,Issued"),
        ),
        (
            "certificates.k8s.io",
            "v1beta1",
            "ClusterTrustBundle",
            "SignerName",
            json!({"spec": {"trustBundle": "x"}}),
            json!("<none>"),
        ),
        (
            "policy",
            "v1",
            "PodDisruptionBudget",
            "Max Unavailable",
            json!({"spec": {"maxUnavailable": "25%"}}),
            json!("25%"),
        ),
        (
            "storage.k8s.io",
            "v1",
            "StorageClass",
            "Name",
            json!({"metadata": {"annotations": {"storageclass.kubernetes.io/is-default-class": "true"}}}),
            json!("x (default)"),
        ),
        ("", "v1", "LimitRange", "Created At", json!({}), json!(CREATED)),
        (
            "podvisor.io",
            "v1alpha1",
            "SupervisorNamespace",
            "CPU",
            json!({"spec": {"limits": {"cpu": "4"}}, "status": {"used": {"cpu": "500m"}}}),
            json!("500m/4"),
        ),
    ];
    for (group, version, kind, column, object, expected) in cases {
        assert_eq!(
            cells(group, version, kind, object)[column],
            expected,
            "{kind} {column}"
        );
    }
}

#[test]
fn bindings_of_policies_print_selectors_as_go_does() {
    let cases = [
        (json!({"name": "n", "namespace": "d"}), "d/n"),
        (json!({"name": "n"}), "*/n"),
        (
            json!({"selector": {}}),
            "&LabelSelector{MatchLabels:map[string]string{},MatchExpressions:[]LabelSelectorRequirement{},}",
        ),
        (
            json!({"selector": {"matchLabels": {"a": "b"},
                "matchExpressions": [{"key": "k", "operator": "In", "values": ["v", "w"]}]}}),
            "&LabelSelector{MatchLabels:map[string]string{a: b,},MatchExpressions:[]LabelSelectorRequirement{\
             LabelSelectorRequirement{Key:k,Operator:In,Values:[v w],},},}",
        ),
    ];
    for (reference, shown) in cases {
        let object = json!({"spec": {"policyName": "p", "paramRef": reference}});
        let group = "admissionregistration.k8s.io";
        let row = cells(group, "v1", "ValidatingAdmissionPolicyBinding", object);
        assert_eq!(row["ParamRef"], shown);
    }
}
