//! What upstream keeps doing for clients of long ago, or of tomorrow: owners named twice, `export`, deprecated versions,
//! selectors that contradict themselves.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::{Value, json};
use std::sync::Arc;

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

/// A range of limits needs no name, a class of runtimes is made by PUT as well.
#[tokio::test]
async fn objects_that_are_made_in_other_ways() {
    let s = Server::start().await;
    let ranges = "/api/v1/namespaces/default/limitranges";
    let (code, made) = s.json("POST", ranges, &json!({"spec": {"limits": []}})).await;
    let name = made["metadata"]["name"].as_str().unwrap_or_default();
    assert_eq!((code, uuid_like(name)), (201, true), "{made}");
    let class = json!({"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "a"}, "handler": "podvisor"});
    let (code, made) = s
        .json("PUT", "/apis/node.k8s.io/v1/runtimeclasses/a", &class)
        .await;
    assert_eq!(code, 201, "{made}");
}

fn uuid_like(name: &str) -> bool {
    name.split('-').map(str::len).eq([8, 4, 4, 4, 12])
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
    s.define(&crd).await;
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

/// Who owns what of an object, by the names of managers.
fn owners(object: &Value) -> Vec<(String, String)> {
    let entries = object["metadata"]["managedFields"].as_array().cloned();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_string);
    let owner = |entry: &Value| (text(&entry["manager"]), text(&entry["fieldsV1"]));
    entries.unwrap_or_default().iter().map(owner).collect()
}

async fn sent(s: &Server, method: &str, path: &str, media: &str, body: &Value) -> Value {
    let answer = s
        .send(method, path, &[("content-type", media)], body.to_string())
        .await;
    assert!(
        answer.status().is_success(),
        "{method} {path}: {}",
        answer.status()
    );
    s.get(path.split(['?']).next().unwrap().trim_end_matches("/status"))
        .await
        .1
}

#[tokio::test]
async fn a_client_edits_who_owns_what() {
    const APPLY: &str = "application/apply-patch+yaml";
    let s = Server::start().await;
    let at = format!("{MAPS}/a");
    let map = |more: Value| {
        let mut map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
        map["metadata"]["labels"] = more;
        map
    };
    let nothing = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "b"}});
    let b = format!("{MAPS}/b?fieldManager=one");
    for _ in 0..2 {
        let now = sent(&s, "PATCH", &b, APPLY, &nothing).await;
        assert!(now["metadata"].get("managedFields").is_none(), "{now}");
    }

    let one = format!("{at}?fieldManager=one");
    sent(&s, "PATCH", &one, APPLY, &map(json!({"x": "1"}))).await;
    let two = format!("{at}?fieldManager=two");
    let mut now = sent(&s, "PATCH", &two, APPLY, &map(json!({"y": "1"}))).await;
    for entry in now["metadata"]["managedFields"].as_array_mut().unwrap() {
        entry["manager"] = json!("both");
    }
    let mut now = sent(&s, "PUT", &at, "application/json", &now).await;
    let last = "{\"f:metadata\":{\"f:labels\":{\"f:y\":{}}}}".to_string();
    assert_eq!(owners(&now), [("both".to_string(), last)]);

    now["metadata"]["managedFields"] = json!([]);
    assert!(owners(&sent(&s, "PUT", &at, "application/json", &now).await).is_empty());
    let patch = json!({"metadata": {"labels": {"x": "2"}}});
    let now = sent(&s, "PATCH", &at, "application/merge-patch+json", &patch).await;
    assert!(owners(&now).is_empty(), "{now}");

    let quotas = "/api/v1/namespaces/default/resourcequotas";
    let quota = json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"},
        "spec": {"hard": {"pods": "1"}}});
    let quota = sent(
        &s,
        "PATCH",
        &format!("{quotas}/q?fieldManager=one"),
        APPLY,
        &quota,
    )
    .await;
    let patch = json!({"metadata": {"managedFields": [{"manager": "me", "operation": "Update", "apiVersion": "v1",
        "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {}}}]}, "status": {"hard": {"pods": "1"}}});
    let status = format!("{quotas}/q/status?fieldManager=two");
    let now = sent(&s, "PATCH", &status, "application/merge-patch+json", &patch).await;
    assert_eq!(owners(&now)[..1], owners(&quota), "{now}");
    assert_eq!(owners(&now)[1].0, "two");
}

#[tokio::test]
async fn what_a_cluster_needs_comes_back() {
    let s = Server::start().await;
    for path in [
        "/api/v1/namespaces/default/services/kubernetes",
        "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas/service-accounts",
    ] {
        let (_, before) = s.get(path).await;
        let (code, said) = s.json("DELETE", path, &json!({})).await;
        assert_eq!(code, 200, "{said}");
        let spec = before["spec"].clone();
        let uid = before["metadata"]["uid"].clone();
        let again = s
            .until(path, |code, now| code == 200 && now["metadata"]["uid"] != uid)
            .await;
        assert_eq!(again["spec"], spec, "{path}");
    }
}

#[tokio::test]
async fn a_start_renews_the_flows_that_nobody_took_over() {
    const FOLLOWS: &str = "apf.kubernetes.io/autoupdate-spec";
    const AT: &str = "/apis/flowcontrol.apiserver.k8s.io/v1/flowschemas";
    let store: Arc<dyn store::Store> = Arc::new(store::memory::MemoryStore::new());
    let s = Server::on(store.clone()).await;
    // What the annotation says, and whether the precedence that was set stays; what the annotation says then.
    let cases = [
        ("probes", json!("true"), false, "true"),
        ("global-default", json!("T"), false, "T"),
        ("service-accounts", json!("false"), true, "false"),
        ("system-nodes", json!(null), true, "false"),
        ("kube-scheduler", json!("perhaps"), true, "false"),
    ];
    let mut before = Vec::new();
    for (name, says, ..) in &cases {
        let path = format!("{AT}/{name}");
        before.push(s.get(&path).await.1["spec"]["matchingPrecedence"].clone());
        let change =
            json!({"metadata": {"annotations": {FOLLOWS: says}}, "spec": {"matchingPrecedence": 7777}});
        let (code, said) = s.json("PATCH", &path, &change).await;
        assert_eq!(code, 200, "{said}");
    }
    let s = Server::on(store).await;
    for ((name, _, stays, told), before) in cases.iter().zip(before) {
        let (_, now) = s.get(&format!("{AT}/{name}")).await;
        let wanted = if *stays { json!(7777) } else { before };
        assert_eq!(now["spec"]["matchingPrecedence"], wanted, "{name}");
        assert_eq!(now["metadata"]["annotations"][FOLLOWS], *told, "{name}");
        assert_eq!(
            now["metadata"]["generation"],
            if *stays { 2 } else { 3 },
            "{name}"
        );
    }
}
