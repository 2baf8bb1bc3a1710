//! Custom resources in two versions: converted by name only, or by a webhook.

#![allow(clippy::unwrap_used)]

use super::common;
use super::hook;

use common::Server;
use hook::Hook;
use serde_json::{Value, json};
use std::time::Duration;

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition(conversion: Value) -> Value {
    let version = |name: &str, storage: bool, properties: Value| {
        json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {"type": "object",
            "properties": {"spec": {"type": "object", "properties": properties}}}}})
    };
    let text = json!({"type": "string"});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.c.example.com"},
        "spec": {"group": "c.example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "conversion": conversion,
            "versions": [
                version("v1", true, json!({"host": text, "port": text})),
                version("v2", false, json!({"address": text, "host": text, "extra": {"type": "integer", "default": 7}})),
            ]},
    })
}

fn path(version: &str) -> String {
    format!("/apis/c.example.com/{version}/namespaces/default/things")
}

async fn define(s: &Server, conversion: Value) {
    let (code, made) = s.json("POST", CRDS, &definition(conversion)).await;
    assert_eq!(code, 201, "{made}");
    let deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while s.get(&path("v2")).await.0 != 200 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

fn thing(version: &str, name: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("c.example.com/{version}"), "kind": "Thing", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn by_name_only() {
    let s = Server::start().await;
    define(&s, json!({"strategy": "None"})).await;
    let (code, _) = s
        .json(
            "POST",
            &path("v1"),
            &thing("v1", "a", json!({"host": "h", "port": "1"})),
        )
        .await;
    assert_eq!(code, 201);
    let (_, read) = s.get(&format!("{}/a", path("v2"))).await;
    // Fields that the other version does not know go, its defaults come.
    assert_eq!(
        (&read["apiVersion"], &read["spec"]),
        (&json!("c.example.com/v2"), &json!({"host": "h", "extra": 7}))
    );
}

/// Joins `host` and `port` into `address` and parts them again.
fn convert(review: &Value) -> (u16, Value) {
    let wanted = &review["request"]["desiredAPIVersion"];
    let objects = review["request"]["objects"].as_array().unwrap();
    let converted: Vec<Value> = objects
        .iter()
        .map(|object| {
            let mut object = object.clone();
            object["apiVersion"] = wanted.clone();
            let spec = object["spec"].clone();
            object["spec"] = match spec["address"].as_str() {
                Some(address) => {
                    let (host, port) = address.split_once(':').unwrap();
                    json!({"host": host, "port": port})
                }
                None => json!({"address": format!("{}:{}", spec["host"].as_str().unwrap(), spec["port"].as_str().unwrap())}),
            };
            object
        })
        .collect();
    let result = match objects.iter().any(|o| o["metadata"]["name"] == "bad") {
        true => json!({"status": "Failure", "message": "cannot"}),
        false => json!({"status": "Success"}),
    };
    (
        200,
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview",
        "response": {"uid": review["request"]["uid"], "convertedObjects": converted, "result": result}}),
    )
}

#[tokio::test]
async fn by_a_webhook() {
    let s = Server::start().await;
    let hook = Hook::start(|_, review| convert(review)).await;
    define(&s, json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": hook.url("/c")}})).await;
    let (code, made) = s
        .json("POST", &path("v2"), &thing("v2", "a", json!({"address": "h:1"})))
        .await;
    assert_eq!(code, 201, "{made}");
    assert_eq!(made["spec"], json!({"address": "h:1", "extra": 7}));
    let (_, read) = s.get(&format!("{}/a", path("v1"))).await;
    assert_eq!(read["spec"], json!({"host": "h", "port": "1"}));
    let (code, _) = s
        .json(
            "POST",
            &path("v1"),
            &thing("v1", "b", json!({"host": "i", "port": "2"})),
        )
        .await;
    assert_eq!(code, 201);
    // A list is converted by one question.
    let _ = hook.paths();
    let (_, list) = s.get(&path("v2")).await;
    let addresses: Vec<&str> = list["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|i| i["spec"]["address"].as_str().unwrap())
        .collect();
    assert_eq!((addresses, hook.paths().len()), (vec!["h:1", "i:2"], 1));
    let mut watch = s.watch(&format!("{}?watch=1&timeoutSeconds=5", path("v2"))).await;
    assert_eq!(watch.next().await.unwrap()["object"]["spec"]["address"], "h:1");
    let (code, changed) = s
        .json(
            "PATCH",
            &format!("{}/a", path("v2")),
            &json!({"spec": {"address": "k:9"}}),
        )
        .await;
    assert_eq!(code, 200, "{changed}");
    let (_, read) = s.get(&format!("{}/a", path("v1"))).await;
    assert_eq!(read["spec"], json!({"host": "k", "port": "9"}));
    let (code, _) = s
        .json(
            "POST",
            &path("v1"),
            &thing("v1", "bad", json!({"host": "x", "port": "y"})),
        )
        .await;
    assert_eq!(code, 201);
    let (code, refused) = s.get(&format!("{}/bad", path("v2"))).await;
    assert_eq!(
        (code, &refused["message"]),
        (
            500,
            &json!("conversion webhook for c.example.com/v1, Kind=Thing failed: cannot")
        )
    );
}
