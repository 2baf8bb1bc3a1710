//! What upstream keeps doing for clients of long ago, or of tomorrow: owners named twice, `export`, deprecated versions,
//! selectors that contradict themselves.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const TWICE: &str = "API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please \
    fix your requests; duplicate UID(s) observed: u";

#[tokio::test]
async fn an_owner_is_named_once() {
    let s = Server::start().await;
    let owner = json!({"apiVersion": "v1", "kind": "ConfigMap", "name": "o", "uid": "u"});
    let mut other = owner.clone();
    other["controller"] = json!(true);
    let map = json!({"metadata": {"name": "a", "ownerReferences": [owner, other, owner]}});
    let (code, warnings, made) = s.warned("POST", MAPS, &map).await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["metadata"]["ownerReferences"], json!([owner, other]));
    let said = ".metadata.ownerReferences contains duplicate entries";
    assert_eq!(warnings, [format!("299 - \"{said}; {TWICE}\"")]);

    let patch = json!([{"op": "add", "path": "/metadata/ownerReferences/-", "value": owner}]);
    let headers = [("content-type", "application/json-patch+json")];
    let answer = s
        .send("PATCH", &format!("{MAPS}/a"), &headers, patch.to_string())
        .await;
    let warning = answer.headers()["warning"].to_str().unwrap();
    let said = format!("{said} after mutating admission happens; {TWICE}");
    assert_eq!(warning, format!("299 - \"{said}\""));
    let (_, now) = s.get(&format!("{MAPS}/a")).await;
    assert_eq!(now["metadata"]["ownerReferences"], json!([owner, other]));
}

#[tokio::test]
async fn nothing_is_exported() {
    let s = Server::start().await;
    let why = "the export parameter, deprecated since v1.14, is no longer supported";
    for (query, code) in [
        ("export=true", 400),
        ("export", 400),
        ("export=false", 200),
        ("export=0", 200),
    ] {
        let (answered, said) = s.get(&format!("/api/v1/namespaces/default?{query}")).await;
        assert_eq!(answered, code, "{query}: {said}");
        assert!(code == 200 || said["message"] == why, "{said}");
    }
}

#[tokio::test]
async fn no_object_has_two_names() {
    let s = Server::start().await;
    for name in ["a", "b"] {
        s.json("POST", MAPS, &json!({"metadata": {"name": name}})).await;
    }
    for (selector, found) in [
        ("metadata.name=a", 1),
        ("metadata.name=a,metadata.name=a", 1),
        ("metadata.name=a,metadata.name=b", 0),
    ] {
        for list in [MAPS, "/api/v1/configmaps"] {
            let (_, said) = s.get(&format!("{list}?fieldSelector={selector}")).await;
            assert_eq!(
                said["items"].as_array().unwrap().len(),
                found,
                "{list} {selector}"
            );
        }
    }
}

#[tokio::test]
async fn users_of_a_deprecated_version_are_told() {
    let s = Server::start().await;
    let version = |name: &str, more: Value| {
        let mut version = json!({"name": name, "served": true, "storage": name == "v1beta2",
            "schema": {"openAPIV3Schema": {"type": "object"}}});
        for (key, value) in more.as_object().unwrap() {
            version[key] = value.clone();
        }
        version
    };
    let crd = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "deps.x.example.com"},
        "spec": {"group": "x.example.com", "scope": "Cluster", "names": {"plural": "deps", "kind": "Dep"}, "versions": [
            version("v1alpha1", json!({"deprecated": true})),
            version("v1alpha2", json!({"deprecated": true, "deprecationWarning": "take another"})),
            version("v1beta3", json!({})),
            version("v1beta2", json!({})),
            version("v1beta4", json!({"deprecated": true})),
            version("v1", json!({"served": false})),
        ]},
    });
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let (code, said) = s.json("POST", crds, &crd).await;
    assert_eq!(code, 201, "{said}");
    let mut watch = s.watch(&format!("{crds}?watch=1&timeoutSeconds=5")).await;
    while let Some(event) = watch.next().await {
        let conditions = event["object"]["status"]["conditions"].to_string();
        if conditions.contains("InitialNamesAccepted") {
            break;
        }
    }
    for (version, told) in [
        (
            "v1alpha1",
            vec!["x.example.com/v1alpha1 Dep is deprecated; use x.example.com/v1beta3 Dep"],
        ),
        ("v1alpha2", vec!["take another"]),
        ("v1beta4", vec!["x.example.com/v1beta4 Dep is deprecated"]),
        ("v1beta2", vec![]),
    ] {
        let path = format!("/apis/x.example.com/{version}/deps");
        let (code, warnings, _) = s.warned("GET", &path, &json!({})).await;
        let told: Vec<String> = told.iter().map(|told| format!("299 - \"{told}\"")).collect();
        assert_eq!((code, warnings), (200, told), "{version}");
    }
}
