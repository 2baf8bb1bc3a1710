//! Steps of upstream's conformance tests that once went wrong here.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::{Value, json};

#[tokio::test]
async fn a_proxy_without_a_slash_leads_to_one_with_it() {
    let s = Server::start().await;
    // A namespace that is called as the subresource is must not be taken for it.
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "proxy-1"}});
    s.json("POST", "/api/v1/namespaces", &namespace).await;
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let pods = "/api/v1/namespaces/proxy-1/pods";
    let (code, said) = s.json("POST", pods, &pod).await;
    assert_eq!(code, 201, "{said}");
    let status = json!({"status": {"podIP": "10.255.255.1", "podIPs": [{"ip": "10.255.255.1"}]}});
    let (code, said) = s.json("PATCH", &format!("{pods}/p/status"), &status).await;
    assert_eq!(code, 200, "{said}");
    for (method, name, query) in [
        ("GET", "p", ""),
        ("HEAD", "p", "?method=HEAD"),
        ("GET", "https:p:443", "?a=b"),
    ] {
        let path = format!("{pods}/{name}/proxy");
        let response = s.send(method, &format!("{path}{query}"), &[], "").await;
        assert_eq!(response.status(), 301, "{path}");
        let to = response.headers()["location"].to_str().unwrap();
        assert_eq!(to, format!("{path}/{query}"));
    }
}

#[tokio::test]
async fn flags_that_are_not_set_are_false() {
    let s = Server::start().await;
    let pod = |name: &str, host: bool| {
        let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
            "spec": {"containers": [{"name": "c", "image": "i"}]}});
        if host {
            pod["spec"]["hostNetwork"] = json!(true);
        }
        pod
    };
    let pods = "/api/v1/namespaces/default/pods";
    for (name, host) in [("a", false), ("b", true)] {
        let (code, said) = s.json("POST", pods, &pod(name, host)).await;
        assert_eq!(code, 201, "{said}");
    }
    for (selector, names) in [
        ("spec.hostNetwork=false", vec!["a"]),
        ("spec.hostNetwork=true", vec!["b"]),
        ("spec.hostNetwork!=true", vec!["a"]),
    ] {
        let path = format!("{pods}?fieldSelector={selector}");
        let many = |list: &Value| list["items"].as_array().map_or(0, Vec::len);
        let list = s.until(&path, |_, list| many(list) == names.len()).await;
        let got: Vec<&Value> = list["items"]
            .as_array()
            .unwrap()
            .iter()
            .map(|i| &i["metadata"]["name"])
            .collect();
        assert_eq!(got, names, "{selector}");
    }
}

#[tokio::test]
async fn endpoints_are_an_old_way() {
    let s = Server::start().await;
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "e"}});
    let (code, warnings, said) = s
        .warned("POST", "/api/v1/namespaces/default/endpoints", &endpoints)
        .await;
    assert_eq!(code, 201, "{said}");
    assert_eq!(
        warnings,
        ["299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\""]
    );
}

#[tokio::test]
async fn what_is_deleted_is_answered_or_told() {
    let s = Server::guarded().await;
    for (list, object, kind) in [
        (
            "/apis/storage.k8s.io/v1/storageclasses",
            json!({"metadata": {"name": "x"}, "provisioner": "p"}),
            "StorageClass",
        ),
        (
            "/apis/storage.k8s.io/v1/csidrivers",
            json!({"metadata": {"name": "x"}, "spec": {}}),
            "CSIDriver",
        ),
        (
            "/apis/storage.k8s.io/v1/csinodes",
            json!({"metadata": {"name": "x"}, "spec": {"drivers": []}}),
            "CSINode",
        ),
        (
            "/apis/storage.k8s.io/v1/volumeattributesclasses",
            json!({"metadata": {"name": "x"}, "driverName": "d", "parameters": {"a": "b"}}),
            "VolumeAttributesClass",
        ),
        (
            "/apis/scheduling.k8s.io/v1/priorityclasses",
            json!({"metadata": {"name": "x"}, "value": 1}),
            "Status",
        ),
    ] {
        let (code, said) = s.json("POST", list, &object).await;
        assert_eq!(code, 201, "{said}");
        let (code, said) = s.json("DELETE", &format!("{list}/x"), &json!({})).await;
        assert_eq!((code, &said["kind"]), (200, &json!(kind)));
    }
    for (path, what) in [
        (
            "scheduling.k8s.io/v1/priorityclasses/system-node-critical",
            "priority class",
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1/flowschemas/catch-all",
            "flow schema",
        ),
        (
            "flowcontrol.apiserver.k8s.io/v1/prioritylevelconfigurations/exempt",
            "priority level configuration",
        ),
    ] {
        let (code, said) = s.json("DELETE", &format!("/apis/{path}"), &json!({})).await;
        assert_eq!(code, 403, "{said}");
        let why = format!("is forbidden: this is a system {what} and cannot be deleted");
        assert!(said["message"].as_str().unwrap().ends_with(&why), "{said}");
    }
}

#[tokio::test]
async fn volumes_tell_since_when_they_are_in_their_phase() {
    let s = Server::start().await;
    let volume = json!({"metadata": {"name": "v"}, "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
        "nfs": {"server": "1.2.3.4", "path": "/"}}});
    let (code, said) = s.json("POST", "/api/v1/persistentvolumes", &volume).await;
    assert_eq!(code, 201, "{said}");
    assert_eq!(
        said["status"]["lastPhaseTransitionTime"],
        said["metadata"]["creationTimestamp"]
    );
    let range = json!({"metadata": {"name": "r"}, "spec": {"cidrs": ["10.88.0.1/24"]}});
    let (code, said) = s
        .json("POST", "/apis/networking.k8s.io/v1/servicecidrs", &range)
        .await;
    let why =
        "spec.cidrs[0]: Invalid value: \"10.88.0.1/24\": must not have bits set beyond the prefix length";
    assert!(
        code == 422 && said["message"].as_str().unwrap().ends_with(why),
        "{said}"
    );
}
