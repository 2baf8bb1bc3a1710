//! CustomResourceDefinitions: served at once, pruned, defaulted, validated, with status and scale, gone with their definition.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const TABS: &str = "/apis/stable.example.com/v1/namespaces/default/crontabs";

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "crontabs.stable.example.com"},
        "spec": {
            "group": "stable.example.com", "scope": "Namespaced",
            "names": {"plural": "crontabs", "singular": "crontab", "kind": "CronTab", "listKind": "CronTabList",
                "shortNames": ["ct"]},
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.replicas",
                    "statusReplicasPath": ".status.replicas", "labelSelectorPath": ".status.selector"}},
                "additionalPrinterColumns": [{"name": "Spec", "type": "string", "jsonPath": ".spec.cronSpec"}],
                "selectableFields": [{"jsonPath": ".spec.image"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {
                    "spec": {"type": "object", "required": ["cronSpec"], "properties": {
                        "cronSpec": {"type": "string", "pattern": "^[0-9* ]+$"},
                        "image": {"type": "string", "default": "busybox"},
                        "replicas": {"type": "integer", "minimum": 1, "maximum": 10},
                    }},
                    "status": {"type": "object", "properties": {
                        "replicas": {"type": "integer"}, "selector": {"type": "string"}}},
                }}},
            }],
        },
    })
}

fn tab(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn a_custom_life() {
    let s = Server::start().await;
    let crd = s.define(&definition()).await;
    assert_eq!(crd["status"]["storedVersions"], json!(["v1"]));
    assert_eq!(crd["status"]["acceptedNames"]["kind"], "CronTab");

    let (_, group) = s.get("/apis/stable.example.com/v1").await;
    assert_eq!(group["resources"][0]["shortNames"], json!(["ct"]));

    let spec = json!({"cronSpec": "* * 5", "replicas": 3, "colour": "red"});
    let (code, one) = s.json("POST", TABS, &tab("one", spec.clone())).await;
    assert_eq!(code, 201, "{one}");
    assert_eq!(
        one["spec"],
        json!({"cronSpec": "* * 5", "replicas": 3, "image": "busybox"})
    );
    assert_eq!(one["metadata"]["generation"], 1);
    let (code, strict) = s
        .json(
            "POST",
            &format!("{TABS}?fieldValidation=Strict"),
            &tab("two", spec),
        )
        .await;
    assert_eq!(
        (code, &strict["message"]),
        (
            400,
            &json!(
                "CronTab in version \"v1\" cannot be handled as a CronTab: strict decoding error: unknown field \"spec.colour\""
            )
        )
    );

    let cases = [
        (json!({"replicas": 3}), "spec.cronSpec"),
        (
            json!({"cronSpec": "x"}),
            "spec.cronSpec in body should match '^[0-9* ]+$'",
        ),
        (
            json!({"cronSpec": "*", "replicas": 11}),
            "should be less than or equal to 10",
        ),
        (
            json!({"cronSpec": "*", "replicas": "3"}),
            "must be of type integer: \"string\"",
        ),
    ];
    for (spec, words) in cases {
        let (code, refused) = s.json("POST", TABS, &tab("bad", spec)).await;
        assert_eq!(code, 422, "{refused}");
        assert!(refused["message"].as_str().unwrap().contains(words), "{refused}");
    }

    // A null that the schema does not allow is dropped, but for one that is applied.
    let status = format!("{TABS}/one/status");
    let mut whole = s.get(&status).await.1;
    whole["status"] = json!({"selector": null});
    let nulls =
        json!({"apiVersion": "stable.example.com/v1", "kind": "CronTab", "status": {"selector": null}});
    let operation = json!([{"op": "add", "path": "/status", "value": {"selector": null}}]);
    for (method, query, media, body, expected) in [
        ("PUT", "", "application/json", &whole, 200),
        ("PATCH", "", "application/json-patch+json", &operation, 200),
        (
            "PATCH",
            "?fieldManager=m",
            "application/apply-patch+yaml",
            &nulls,
            422,
        ),
    ] {
        let (path, headers) = (format!("{status}{query}"), [("content-type", media)]);
        let answer = s.send(method, &path, &headers, body.to_string()).await;
        assert_eq!(answer.status().as_u16(), expected, "{media}");
        assert_eq!(s.get(&status).await.1["status"], json!({}), "{media}");
    }

    // What is wrong with a status is told as of a body of its own.
    let (code, refused) = s
        .json("PATCH", &status, &json!({"status": {"replicas": "2"}}))
        .await;
    let words =
        "status.replicas: Invalid value: \"string\": replicas in body must be of type integer: \"string\"";
    assert_eq!(code, 422);
    assert!(refused["message"].as_str().unwrap().contains(words), "{refused}");

    let (_, status) = s
        .json(
            "PATCH",
            &format!("{TABS}/one/status"),
            &json!({"status": {"replicas": 2}, "spec": {"replicas": 9}}),
        )
        .await;
    assert_eq!(
        (&status["status"]["replicas"], &status["spec"]["replicas"]),
        (&json!(2), &json!(3))
    );
    assert_eq!(status["metadata"]["generation"], 1);
    let (code, scale) = s
        .json(
            "PATCH",
            &format!("{TABS}/one/scale"),
            &json!({"spec": {"replicas": 5}}),
        )
        .await;
    assert_eq!(
        (code, &scale["kind"], &scale["spec"]["replicas"]),
        (200, &json!("Scale"), &json!(5)),
        "{scale}"
    );
    let (_, one) = s.get(&format!("{TABS}/one")).await;
    assert_eq!(
        (&one["spec"]["replicas"], &one["metadata"]["generation"]),
        (&json!(5), &json!(2))
    );

    let (_, list) = s.get(&format!("{TABS}?fieldSelector=spec.image%3Dbusybox")).await;
    assert_eq!(
        (&list["kind"], list["items"].as_array().unwrap().len()),
        (&json!("CronTabList"), 1)
    );
    assert_eq!(list["items"][0]["kind"], "CronTab");
    let (_, text) = s
        .text(
            TABS,
            &[("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")],
        )
        .await;
    let table: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(table["rows"][0]["cells"], json!(["one", "* * 5"]));

    let (code, _) = s
        .json(
            "DELETE",
            &format!("{CRDS}/crontabs.stable.example.com"),
            &Value::Null,
        )
        .await;
    assert_eq!(code, 200);
    let gone = |code: u16, _: &Value| code == 404;
    s.until(&format!("{CRDS}/crontabs.stable.example.com"), gone)
        .await;
    s.until(TABS, gone).await;
}

/// kubectl makes its patches by what the documents say: custom kinds take no strategic merge, and what their schemas refer
/// to is there.
#[tokio::test]
async fn objects_without_a_namespace_may_name_an_empty_one() {
    let s = Server::start().await;
    let mut definition = definition();
    definition["spec"]["scope"] = json!("Cluster");
    s.define(&definition).await;
    let mut tab = tab("a", json!({"cronSpec": "* *"}));
    for namespace in ["", "other"] {
        tab["metadata"]["namespace"] = json!(namespace);
        tab["metadata"]["name"] = json!(format!("a{namespace}"));
        let (code, made) = s.json("POST", "/apis/stable.example.com/v1/crontabs", &tab).await;
        assert_eq!(code, 201, "{made}");
        assert!(made["metadata"].get("namespace").is_none(), "{made}");
    }
}

#[tokio::test]
async fn documents_of_custom_kinds_can_be_used() {
    let s = Server::start().await;
    s.define(&definition()).await;
    let (_, v3) = s.get("/openapi/v3/apis/stable.example.com/v1").await;
    let path = "/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}";
    let content = v3["paths"][path]["patch"]["requestBody"]["content"]
        .as_object()
        .unwrap();
    let wanted = [
        "application/json-patch+json",
        "application/merge-patch+json",
        "application/apply-patch+yaml",
    ];
    assert_eq!(content.len(), wanted.len());
    assert!(
        wanted.iter().all(|media| content.contains_key(*media)),
        "{content:?}"
    );
    let schemas = &v3["components"]["schemas"];
    let metadata = &schemas["com.example.stable.v1.CronTab"]["properties"]["metadata"];
    let reference = metadata.pointer("/allOf/0/$ref").unwrap_or(&metadata["$ref"]);
    let name = reference.as_str().unwrap().rsplit('/').next().unwrap();
    assert!(
        schemas[name]["properties"]["labels"].is_object(),
        "{metadata} leads nowhere"
    );
    let selectable = json!([{"fieldPath": "spec.image"}]);
    let name = "com.example.stable.v1.CronTab";
    let extension = "x-kubernetes-selectable-fields";
    assert_eq!(schemas[name][extension], selectable);
    let (_, v2) = s.get("/openapi/v2").await;
    assert_eq!(v2["definitions"][name][extension], selectable);
    assert_eq!(v2["paths"][path]["patch"]["consumes"], json!(wanted));
    let built_in = "/apis/apps/v1/namespaces/{namespace}/deployments/{name}";
    assert_eq!(
        v2["paths"][built_in]["patch"]["consumes"][2],
        "application/strategic-merge-patch+json"
    );
}

#[tokio::test]
async fn the_old_document_says_little_of_kinds_that_keep_unknown_fields() {
    let s = Server::start().await;
    let mut definition = definition();
    let version = &mut definition["spec"]["versions"][0];
    version["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    for field in ["subresources", "selectableFields", "additionalPrinterColumns"] {
        version.as_object_mut().unwrap().remove(field);
    }
    s.define(&definition).await;
    let named = |v2: &Value| v2["definitions"]["com.example.stable.v1.CronTab"].clone();
    let v2 = s.until("/openapi/v2", |_, v2| named(v2).is_object()).await;
    let kind = json!([{"group": "stable.example.com", "kind": "CronTab", "version": "v1"}]);
    let wanted = json!({"type": "object", "x-kubernetes-group-version-kind": kind});
    assert_eq!(named(&v2), wanted);
}

#[tokio::test]
async fn who_finds_a_kind_finds_its_definition_settled() {
    let s = Server::start().await;
    s.json("POST", CRDS, &definition()).await;
    s.until("/apis/stable.example.com/v1", |code, list| {
        code == 200 && list["resources"].as_array().is_some_and(|r| !r.is_empty())
    })
    .await;
    let (_, found) = s.get(&format!("{CRDS}/crontabs.stable.example.com")).await;
    let conditions = found["status"]["conditions"].as_array().unwrap();
    assert!(
        conditions
            .iter()
            .any(|c| c["type"] == "Established" && c["status"] == "True"),
        "{found}"
    );
}
