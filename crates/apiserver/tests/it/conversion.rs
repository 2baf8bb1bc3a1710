//! Custom resources in two versions: converted by name only, or by a webhook.

#![allow(clippy::unwrap_used)]

use super::common;
use super::hook;

use common::Server;
use hook::Hook;
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition(conversion: Value) -> Value {
    let version = |name: &str, storage: bool, properties: Value| {
        let selectable = if storage { ".spec.host" } else { ".spec.address" };
        json!({"name": name, "served": true, "storage": storage, "selectableFields": [{"jsonPath": selectable}], "schema": {"openAPIV3Schema": {"type": "object",
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
    s.define(&definition(conversion)).await;
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
    // Fields that the other version does not know go; its defaults are for what is written in it.
    assert_eq!(
        (&read["apiVersion"], &read["spec"]),
        (&json!("c.example.com/v2"), &json!({"host": "h"}))
    );
    // Defaults of the stored version come later, and show in the other one.
    let crd = format!("{CRDS}/things.c.example.com");
    let host = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/host/default";
    let later = json!([{"op": "add", "path": host, "value": "later"}]);
    let json_patch = [("content-type", "application/json-patch+json")];
    assert_eq!(
        s.send("PATCH", &crd, &json_patch, later.to_string())
            .await
            .status(),
        200
    );
    let (code, _) = s.json("POST", &path("v2"), &thing("v2", "b", json!({}))).await;
    assert_eq!(code, 201);
    let b = format!("{}/b", path("v2"));
    let read = s.until(&b, |_, b| b["spec"]["host"] == "later").await;
    assert_eq!(read["spec"], json!({"host": "later"}));
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
    // The default was there, but not in the version that is stored.
    assert_eq!(made["spec"], json!({"address": "h:1"}));
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
    let mut watch = s.watch(&format!("{}?watch=1", path("v2"))).await;
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

#[tokio::test]
async fn what_a_converter_may_not_do() {
    let s = Server::start().await;
    let hook = Hook::start(|_, review| {
        let (code, mut answer) = convert(review);
        let object = &mut answer["response"]["convertedObjects"][0];
        let name = object["metadata"]["name"].as_str().unwrap().to_owned();
        match name.as_str() {
            "version" => object["apiVersion"] = json!("c.example.com/v9"),
            "kind" => object["kind"] = json!("Other"),
            "name" => object["metadata"]["name"] = json!("other"),
            "gone" => object["metadata"] = Value::Null,
            "labels" => object["metadata"]["labels"] = json!({"a": 1}),
            "value" => object["metadata"]["labels"] = json!({"a b": "c"}),
            "annotations" => object["metadata"]["annotations"] = json!({"a b": "c"}),
            "status" => answer["response"]["result"] = json!({"status": "Maybe"}),
            "uid" => answer["response"]["uid"] = json!("x"),
            "none" => answer["response"] = Value::Null,
            "review" => answer["apiVersion"] = json!("apiextensions.k8s.io/v1beta1"),
            _ => {}
        }
        (code, answer)
    })
    .await;
    define(&s, json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": hook.url("/c")}})).await;
    let review = "apiextensions.k8s.io";
    for (name, words) in [
        (
            "version",
            "returned invalid object at index 0: invalid groupVersion (expected c.example.com/v2, received c.example.com/v9)",
        ),
        (
            "kind",
            "returned invalid object at index 0: invalid kind (expected Thing, received Other)",
        ),
        (
            "name",
            "returned invalid object: must have the same name: name != other",
        ),
        (
            "gone",
            "returned invalid object: must have the same name: gone != ",
        ),
        (
            "labels",
            "returned invalid metadata: metadata.labels[a] must be a string, but is int64 in converted object",
        ),
        (
            "value",
            "returned invalid metadata: metadata.labels: Invalid value: \"a b\": ",
        ),
        (
            "annotations",
            "returned invalid metadata: metadata.annotation: Invalid value: \"a b\": ",
        ),
        (
            "status",
            "failed: response.result.status was 'Maybe', not 'Success'",
        ),
        ("uid", "failed: expected response.uid="),
        ("none", "failed: no response provided"),
        (
            "review",
            &format!(
                "failed: expected webhook response of {review}/v1, Kind=ConversionReview, got {review}/v1beta1, \
                 Kind=ConversionReview"
            ),
        ),
    ] {
        let object = thing("v1", name, json!({"host": "h", "port": "1"}));
        assert_eq!(s.json("POST", &path("v1"), &object).await.0, 201);
        let (code, refused) = s.get(&format!("{}/{name}", path("v2"))).await;
        let head = format!("conversion webhook for c.example.com/v1, Kind=Thing {words}");
        let told = refused["message"].as_str().unwrap();
        assert!(code == 500 && told.starts_with(&head), "{name}: {told}");
    }
}

#[tokio::test]
async fn objects_of_the_version_that_was_stored_before() {
    let s = Server::start().await;
    let hook = Hook::start(|_, review| convert(review)).await;
    define(&s, json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": hook.url("/c")}})).await;
    let old = thing("v1", "a", json!({"host": "h", "port": "1"}));
    let (code, made) = s.json("POST", &path("v1"), &old).await;
    assert_eq!(code, 201, "{made}");
    let now = json!([
        {"op": "replace", "path": "/spec/versions/0/storage", "value": false},
        {"op": "replace", "path": "/spec/versions/1/storage", "value": true},
    ]);
    let name = format!("{CRDS}/things.c.example.com");
    let patched = s
        .send(
            "PATCH",
            &name,
            &[("content-type", "application/json-patch+json")],
            now.to_string(),
        )
        .await;
    assert_eq!(patched.status(), 200);
    let both = |_: u16, crd: &Value| crd["status"]["storedVersions"] == json!(["v1", "v2"]);
    s.until(&name, both).await;
    let new = thing("v1", "b", json!({"host": "i", "port": "2"}));
    let (code, made) = s.json("POST", &path("v1"), &new).await;
    assert_eq!(code, 201, "{made}");
    for (version, field, expected) in [("v1", "host", ["h", "i"]), ("v2", "address", ["h:1", "i:2"])] {
        let (code, list) = s.get(&path(version)).await;
        assert_eq!(code, 200, "{list}");
        let items = list["items"].as_array().unwrap();
        let got: Vec<&Value> = items.iter().map(|item| &item["spec"][field]).collect();
        assert_eq!(got, expected, "{list}");
        let of = format!("c.example.com/{version}");
        assert!(items.iter().all(|item| item["apiVersion"] == *of), "{list}");
        let (_, one) = s.get(&format!("{}/a", path(version))).await;
        assert_eq!(
            (&one["apiVersion"], &one["spec"][field]),
            (&json!(of), &json!(expected[0]))
        );
    }
}

async fn selected(s: &Server, version: &str, selector: &str) -> Vec<String> {
    let (code, list) = s
        .get(&format!("{}?fieldSelector={selector}", path(version)))
        .await;
    assert_eq!(code, 200, "{list}");
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|i| i["metadata"]["name"].as_str().unwrap().to_owned())
        .collect()
}

#[tokio::test]
async fn each_version_is_selected_by_fields_of_its_own() {
    let s = Server::start().await;
    let hook = Hook::start(|_, review| convert(review)).await;
    define(&s, json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"], "clientConfig": hook.url("/c")}})).await;
    let selector = "spec.address%3Dh:1";
    let mut watch = s
        .watch(&format!("{}?watch=1&fieldSelector={selector}", path("v2")))
        .await;
    for (name, address) in [("a", "h:1"), ("b", "i:1"), ("c", "h:1")] {
        let (code, said) = s
            .json(
                "POST",
                &path("v2"),
                &thing("v2", name, json!({"address": address})),
            )
            .await;
        assert_eq!(code, 201, "{said}");
    }
    assert_eq!(selected(&s, "v2", selector).await, ["a", "c"]);
    assert_eq!(selected(&s, "v2", "spec.address!%3Dh:1").await, ["b"]);
    assert_eq!(
        selected(&s, "v2", &format!("{selector},metadata.name%3Dc")).await,
        ["c"]
    );
    assert_eq!(selected(&s, "v1", "spec.host%3Di").await, ["b"]);
    for (version, field) in [("v1", "spec.address"), ("v2", "spec.host")] {
        let (code, said) = s
            .get(&format!("{}?fieldSelector={field}%3Dx", path(version)))
            .await;
        assert_eq!(
            (code, &said["message"]),
            (400, &json!(format!("field label not supported: {field}")))
        );
    }
    let (_, list) = s.get(&path("v2")).await;
    let revision = list["metadata"]["resourceVersion"].as_str().unwrap().to_owned();
    // What leaves the selection is deleted for the watcher, what comes into it added.
    for (name, address) in [("a", "j:1"), ("b", "h:1")] {
        let change = json!({"spec": {"address": address}});
        let (code, said) = s.json("PATCH", &format!("{}/{name}", path("v2")), &change).await;
        assert_eq!(code, 200, "{said}");
    }
    let (code, said) = s
        .json(
            "DELETE",
            &format!("{}?fieldSelector={selector}", path("v2")),
            &json!({}),
        )
        .await;
    assert_eq!(
        (code, said["items"].as_array().unwrap().len()),
        (200, 2),
        "{said}"
    );
    let later = [
        ("DELETED", "a"),
        ("ADDED", "b"),
        ("DELETED", "b"),
        ("DELETED", "c"),
    ];
    let first = [("ADDED", "a"), ("ADDED", "c")];
    let mut since = s
        .watch(&format!(
            "{}?watch=1&resourceVersion={revision}&fieldSelector={selector}",
            path("v2")
        ))
        .await;
    for (watch, told) in [
        (&mut watch, [&first[..], &later[..]].concat()),
        (&mut since, later.to_vec()),
    ] {
        let mut got = Vec::new();
        while got.len() < told.len() {
            let event = watch.next().await.unwrap();
            let name = event["object"]["metadata"]["name"].as_str().unwrap().to_owned();
            got.push((event["type"].as_str().unwrap().to_owned(), name));
        }
        // The two deletions of one request come in any order.
        got.sort();
        let mut told: Vec<_> = told
            .iter()
            .map(|(t, n)| ((*t).to_owned(), (*n).to_owned()))
            .collect();
        told.sort();
        assert_eq!(got, told);
    }
    assert_eq!(selected(&s, "v2", selector).await, Vec::<String>::new());
}
