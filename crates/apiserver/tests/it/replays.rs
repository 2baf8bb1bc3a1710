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
