//! Lists and maps that somebody writes out although nothing is in them, and what else a change may leave out: refusals show
//! them as they were written, and some generations count them, as upstream's own API server does.

#![allow(clippy::unwrap_used)]

use super::common::Server;
use serde_json::{Value, json};

/// What is told of a refusal.
fn said(answer: &Value) -> &str {
    let message = answer["message"].as_str().unwrap_or_default();
    message
        .split_once(" is invalid: ")
        .map_or(message, |(_, why)| why)
}

#[tokio::test]
async fn refusals_show_what_was_written() {
    let s = Server::start().await;
    let of = |kind: &str, version: &str, spec: Value| json!({"apiVersion": version, "kind": kind, "metadata": {"name": "x"}, "spec": spec});
    let pod = json!({"containers": [{"name": "c", "image": "i"}]});
    let deployment = |labels: Value| {
        let template = json!({"metadata": {"labels": labels}, "spec": pod});
        let selector = json!({"matchLabels": {"a": "b"}});
        of(
            "Deployment",
            "apps/v1",
            json!({"selector": selector, "template": template}),
        )
    };
    let volume = |capacity: Value| {
        let mut spec = json!({"accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/a"}});
        spec["capacity"] = capacity;
        of("PersistentVolume", "v1", spec)
    };
    let claim = |finalizers: Value| {
        let requests = json!([{"name": "r", "exactly": {"deviceClassName": "c"}}]);
        let spec =
            json!({"metadata": {"finalizers": finalizers}, "spec": {"devices": {"requests": requests}}});
        of("ResourceClaimTemplate", "resource.k8s.io/v1", spec)
    };
    let sandbox = |mut spec: Value| {
        spec["containers"] = pod["containers"].clone();
        of("Pod", "v1", spec)
    };
    const APPS: &str = "/apis/apps/v1/namespaces/default/deployments";
    const VOLUMES: &str = "/api/v1/persistentvolumes";
    const CLAIMS: &str = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaimtemplates";
    const PODS: &str = "/api/v1/namespaces/default/pods";
    for (path, body, code, wanted) in [
        (
            APPS,
            deployment(json!({})),
            422,
            "spec.template.metadata.labels: Invalid value: {}: `selector` does not match template `labels`",
        ),
        (
            APPS,
            deployment(Value::Null),
            422,
            "spec.template.metadata.labels: Invalid value: null: `selector` does not match template `labels`",
        ),
        (
            VOLUMES,
            volume(json!({})),
            422,
            "[spec.capacity: Required value, spec.capacity: Unsupported value: {}: supported values: \"storage\"]",
        ),
        (
            CLAIMS,
            claim(json!([])),
            422,
            "spec.metadata.finalizers: Forbidden: cannot be set",
        ),
        (CLAIMS, claim(Value::Null), 201, ""),
        (
            PODS,
            sandbox(json!({"nodeSelector": {}, "tolerations": []})),
            201,
            "",
        ),
    ] {
        let (answered, answer) = s.json("POST", &format!("{path}?dryRun=All"), &body).await;
        assert_eq!((answered, said(&answer)), (code, wanted), "{body}");
    }
    // What a patch leaves of a map.
    let (code, _) = s.json("POST", APPS, &deployment(json!({"a": "b"}))).await;
    assert_eq!(code, 201);
    let patch = json!({"spec": {"template": {"metadata": {"labels": {"a": null}}}}});
    let (code, answer) = s.json("PATCH", &format!("{APPS}/x"), &patch).await;
    let wanted =
        "spec.template.metadata.labels: Invalid value: {}: `selector` does not match template `labels`";
    assert_eq!((code, said(&answer)), (422, wanted));
}

#[tokio::test]
async fn some_generations_count_them() {
    let s = Server::start().await;
    const POLICIES: &str = "/apis/networking.k8s.io/v1/namespaces/default/networkpolicies";
    let policy = json!({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "x"},
        "spec": {"podSelector": {}, "policyTypes": ["Ingress"]}});
    let (code, mut stored) = s.json("POST", POLICIES, &policy).await;
    assert_eq!((code, &stored["metadata"]["generation"]), (201, &json!(1)));
    let path = format!("{POLICIES}/x");
    for (field, value, generation) in [
        ("policyTypes", json!(["Ingress"]), 1),
        // Filled in.
        ("policyTypes", json!([]), 1),
        ("ingress", json!([]), 2),
        ("podSelector", json!({"matchLabels": {}}), 3),
        ("podSelector", json!({}), 3),
    ] {
        stored["spec"][field] = value.clone();
        let (code, answer) = s.json("PUT", &path, &stored).await;
        let got = (code, answer["metadata"]["generation"].as_i64());
        assert_eq!(got, (200, Some(generation)), "{field}: {value}");
        stored = answer;
    }
}

/// What is always written is owned by whoever writes an empty one, and by nobody where there is none.
#[tokio::test]
async fn empty_lists_that_are_always_written_are_owned() {
    let s = Server::start().await;
    const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
    let slice = |name: &str, endpoints: Value| {
        json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": {"name": name},
            "addressType": "IPv4", "endpoints": endpoints})
    };
    for (name, endpoints, owned) in [("a", json!([]), true), ("b", Value::Null, false)] {
        let (code, made) = s.json("POST", SLICES, &slice(name, endpoints)).await;
        assert_eq!(code, 201, "{made}");
        let fields = &made["metadata"]["managedFields"][0]["fieldsV1"];
        assert_eq!(fields["f:endpoints"].is_object(), owned, "{fields}");
        assert!(made["endpoints"].is_null(), "{made}");
    }
    let (code, made) = s
        .json("PUT", &format!("{SLICES}/b"), &slice("b", json!([])))
        .await;
    assert_eq!(code, 200, "{made}");
    let fields = &made["metadata"]["managedFields"][0]["fieldsV1"];
    assert!(fields["f:endpoints"].is_object(), "{fields}");
}

/// Nobody can own an item that has no key, and then upstream notes no owners at all.
#[tokio::test]
async fn items_without_their_key_have_no_owner() {
    let s = Server::start().await;
    const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
    let account = |secrets: Value| json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "a"}, "secrets": secrets});
    let (code, made) = s.json("POST", ACCOUNTS, &account(json!([{"name": "b"}]))).await;
    assert_eq!(code, 201, "{made}");
    assert!(made["metadata"]["managedFields"].is_array(), "{made}");
    let path = format!("{ACCOUNTS}/a");
    let (code, made) = s.json("PUT", &path, &account(json!([{"kind": "b"}]))).await;
    assert_eq!(code, 200, "{made}");
    assert!(made["metadata"]["managedFields"].is_null(), "{made}");
}

#[tokio::test]
async fn a_dry_run_gives_no_address_away() {
    let s = Server::start().await;
    const SERVICES: &str = "/api/v1/namespaces/default/services";
    let service = |name: &str, ip: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"clusterIP": ip, "ports": [{"port": 1}]}})
    };
    let (code, made) = s.json("POST", SERVICES, &service("a", "")).await;
    assert_eq!(code, 201);
    let taken = made["spec"]["clusterIP"].as_str().unwrap();
    let dry = format!("{SERVICES}?dryRun=All");
    let (code, answer) = s.json("POST", &dry, &service("b", taken)).await;
    assert_eq!((code, &answer["spec"]["clusterIP"]), (201, &json!(taken)));
    let (code, answer) = s.json("POST", SERVICES, &service("b", taken)).await;
    let wanted = "provided IP is already allocated";
    assert!(code == 422 && said(&answer).ends_with(wanted), "{answer}");
    // The range itself stands for one that nobody looks for.
    let (_, one) = s.json("POST", &dry, &service("b", "")).await;
    let (_, other) = s.json("POST", &dry, &service("c", "")).await;
    assert_eq!(one["spec"]["clusterIP"], other["spec"]["clusterIP"]);
}
