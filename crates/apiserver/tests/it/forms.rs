//! Custom resources in other forms than JSON, and what a change or the end of their definition means to clients.

#![allow(clippy::unwrap_used)]

use super::common;

use bytes::Bytes;
use common::Server;
use http_body_util::BodyExt;
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const CRD: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/foos.f.example.com";
const FOOS: &str = "/apis/f.example.com/v1/namespaces/default/foos";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

fn definition() -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.f.example.com"},
        "spec": {"group": "f.example.com", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    })
}

fn foo(name: &str) -> Value {
    json!({"apiVersion": "f.example.com/v1", "kind": "Foo", "metadata": {"name": name}, "spec": {"a": 1}})
}

async fn start() -> Server {
    let s = Server::start().await;
    s.define(&definition()).await;
    s
}

/// Code, media type and body of a GET.
async fn get(s: &Server, path: &str, accept: &str) -> (u16, String, Bytes) {
    let response = s.send("GET", path, &[("accept", accept)], Bytes::new()).await;
    let media = response.headers()["content-type"].to_str().unwrap().to_owned();
    let code = response.status().as_u16();
    (
        code,
        media,
        response.into_body().collect().await.unwrap().to_bytes(),
    )
}

#[tokio::test]
async fn metadata_come_as_protobuf() {
    let s = start().await;
    let mut labelled = foo("a");
    labelled["metadata"]["labels"] = json!({"x": "y"});
    assert_eq!(s.json("POST", FOOS, &labelled).await.0, 201);
    let one = format!("{FOOS}/a");
    let missing = "/api/v1/namespaces/default/configmaps/b".to_owned();
    let of = |kind: &str| format!("{PROTOBUF};as={kind};g=meta.k8s.io;v=v1");
    let (partial, list) = (of("PartialObjectMetadata"), of("PartialObjectMetadataList"));
    let cases = [
        (
            &one,
            partial.as_str(),
            200,
            PROTOBUF,
            "PartialObjectMetadata",
            "/metadata/labels/x",
        ),
        (
            &FOOS.to_owned(),
            &list,
            200,
            PROTOBUF,
            "PartialObjectMetadataList",
            "/items/0/metadata/labels/x",
        ),
        (&one, PROTOBUF, 406, PROTOBUF, "Status", ""),
        (&one, &of("Table"), 406, "application/json", "Status", ""),
        (&missing, PROTOBUF, 404, PROTOBUF, "Status", ""),
        (&missing, "application/yaml", 404, "application/yaml", "", ""),
        (
            &one,
            "application/vnd.kubernetes.protobuf, application/json",
            200,
            "application/json",
            "Foo",
            "/metadata/labels/x",
        ),
    ];
    for (path, accept, code, media, kind, label) in cases {
        let got = get(&s, path, accept).await;
        assert_eq!((got.0, got.1.as_str()), (code, media), "{path} {accept}");
        let value = match media {
            PROTOBUF => machinery::protobuf::decode(&got.2).unwrap(),
            _ => serde_json::from_slice(&got.2).unwrap_or_default(),
        };
        assert_eq!(value["kind"].as_str().unwrap_or(""), kind, "{path} {accept}");
        if !label.is_empty() {
            assert_eq!(value.pointer(label), Some(&json!("y")), "{value}");
        }
    }
    let watch = format!("{FOOS}?watch=1&timeoutSeconds=1");
    let (code, media, frames) = get(&s, &watch, &partial).await;
    assert_eq!((code, media), (200, format!("{PROTOBUF};stream=watch")));
    let holds = |text: &[u8]| frames.windows(text.len()).any(|window| window == text);
    assert!(holds(b"ADDED") && holds(b"PartialObjectMetadata"));
}

/// Custom objects are routed by their kind alone, and their lists and objects are one type to upstream.
#[tokio::test]
async fn what_only_custom_objects_do() {
    let s = start().await;
    assert_eq!(s.json("POST", FOOS, &foo("a")).await.0, 201);
    let named = format!("{FOOS}/other");
    let (code, made) = s.json("POST", &named, &foo("b")).await;
    assert_eq!((code, &made["metadata"]["name"]), (201, &json!("b")), "{made}");
    let (code, said) = s.json("POST", &named, &foo("a")).await;
    assert_eq!((code, &said["reason"]), (409, &json!("AlreadyExists")), "{said}");
    for (media, wanted) in [
        ("application/merge-patch+json", 400),
        ("application/json-patch+json", 400),
        ("application/apply-patch+yaml", 400),
        ("application/json", 415),
        ("application/strategic-merge-patch+json", 415),
    ] {
        let answer = s.send("PATCH", FOOS, &[("content-type", media)], "{}").await;
        assert_eq!(answer.status().as_u16(), wanted, "{media}");
    }
    let of = |kind: &str| format!("application/json;as={kind};g=meta.k8s.io;v=v1");
    let (code, _, text) = get(&s, &format!("{FOOS}/a"), &of("PartialObjectMetadataList")).await;
    let said: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!((code, &said["message"]), (500, &json!("content is not a list")));
    for (kind, told) in [
        ("PartialObjectMetadataList", false),
        ("Table", false),
        ("List", true),
    ] {
        let accept = match kind {
            "List" => "application/json".to_owned(),
            kind => of(kind),
        };
        let (_, _, text) = get(&s, FOOS, &accept).await;
        let list: Value = serde_json::from_slice(&text).unwrap();
        assert_eq!(list["metadata"].get("continue").is_some(), told, "{kind}: {list}");
    }
}

#[tokio::test]
async fn a_changed_definition_ends_its_watches() {
    let s = start().await;
    let mut watch = s.watch(&format!("{FOOS}?watch=1")).await;
    let labelled = json!({"metadata": {"labels": {"x": "y"}}});
    assert_eq!(s.json("PATCH", CRD, &labelled).await.0, 200);
    assert_eq!(s.json("POST", FOOS, &foo("a")).await.0, 201);
    // Labels are no change of what is defined.
    assert_eq!(watch.next().await.unwrap()["object"]["metadata"]["name"], "a");
    let short = json!({"spec": {"names": {"shortNames": ["fo"]}}});
    assert_eq!(s.json("PATCH", CRD, &short).await.0, 200);
    assert!(watch.next().await.is_none());
}

#[tokio::test]
async fn nothing_is_made_of_a_definition_that_goes() {
    let s = start().await;
    let mut held = foo("held");
    held["metadata"]["finalizers"] = json!(["example.com/held"]);
    assert_eq!(s.json("POST", FOOS, &held).await.0, 201);
    assert_eq!(s.json("DELETE", CRD, &Value::Null).await.0, 200);
    let why = "is forbidden: create not allowed while custom resource definition is terminating";
    let (code, said) = s.json("POST", FOOS, &foo("late")).await;
    assert_eq!(
        (code, &said["message"]),
        (403, &json!(format!("foos.f.example.com \"late\" {why}")))
    );
    let apply = [("content-type", "application/apply-patch+yaml")];
    let path = format!("{FOOS}/late?fieldManager=m&dryRun=All");
    let applied = s.send("PATCH", &path, &apply, foo("late").to_string()).await;
    assert_eq!(applied.status(), 403);
    // What is there may still change, or it could never go.
    let free = json!({"metadata": {"finalizers": null}});
    assert_eq!(s.json("PATCH", &format!("{FOOS}/held"), &free).await.0, 200);
}

#[tokio::test]
async fn lists_whose_keys_changed_are_forgiven() {
    let s = Server::start().await;
    let list = |keys: Value| {
        json!({"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": keys, "items":
            {"type": "object", "required": ["a", "b"], "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}}}})
    };
    let set = json!({"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "integer"}});
    let mut crd = definition();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"] =
        json!({"type": "object", "properties": {"list": list(json!(["a", "b"])), "set": set}});
    s.define(&crd).await;
    let of = |list: &[[i64; 2]], set: &[i64]| {
        let mut foo = foo("f");
        let list: Vec<Value> = list.iter().map(|[a, b]| json!({"a": a, "b": b})).collect();
        (foo["list"], foo["set"]) = (json!(list), json!(set));
        foo
    };
    let (code, said) = s
        .json("POST", FOOS, &of(&[[1, 1], [1, 2], [1, 1], [1, 1]], &[7, 7]))
        .await;
    let told = "Foo.f.example.com \"f\" is invalid: [list[2]: Duplicate value: {\"a\":1,\"b\":1}, set[1]: Duplicate value: 7]";
    assert_eq!((code, &said["message"]), (422, &json!(told)));
    let (code, said) = s.json("POST", FOOS, &of(&[[1, 1], [1, 2]], &[7])).await;
    assert_eq!(code, 201, "{said}");
    let mut worse = of(&[[1, 1], [1, 2], [1, 1]], &[7, 7]);
    worse["metadata"] = said["metadata"].clone();
    let one = format!("{FOOS}/f");
    assert_eq!(s.json("PUT", &one, &worse).await.0, 422);
    let keys = "/spec/versions/0/schema/openAPIV3Schema/properties/list/x-kubernetes-list-map-keys";
    let fewer = json!([{"op": "replace", "path": keys, "value": ["a"]}]);
    let json_patch = [("content-type", "application/json-patch+json")];
    let patched = s.send("PATCH", CRD, &json_patch, fewer.to_string()).await;
    assert_eq!(patched.status(), 200);
    // The new schema may take a moment.
    let deadline = tokio::time::Instant::now() + std::time::Duration::from_secs(20);
    while s.json("PUT", &one, &worse).await.0 != 200 {
        assert!(tokio::time::Instant::now() < deadline);
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn certificates_that_nobody_can_read_establish_nothing() {
    let s = Server::start().await;
    let mut crd = definition();
    let service = json!({"namespace": "default", "name": "x"});
    crd["spec"]["conversion"] = json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"],
        "clientConfig": {"caBundle": "Zm9v", "service": service}}});
    let (code, said) = s.json("POST", CRDS, &crd).await;
    assert_eq!(code, 201, "{said}");
    let told = |_: u16, crd: &Value| {
        let conditions = crd["status"]["conditions"].as_array().into_iter().flatten();
        let established = conditions.filter(|c| c["type"] == "Established");
        established
            .map(|c| (&c["status"], &c["reason"]))
            .eq([(&json!("False"), &json!("InvalidCABundle"))])
    };
    s.until(CRD, told).await;
}

#[tokio::test]
async fn new_objects_have_no_version() {
    let s = start().await;
    for (given, code) in [("7", 500), ("0", 201), ("odd", 201)] {
        let mut foo = foo(&format!("f-{given}"));
        foo["metadata"]["resourceVersion"] = json!(given);
        let (got, said) = s.json("POST", FOOS, &foo).await;
        assert_eq!(got, code, "{given}: {said}");
        assert_ne!(said["metadata"]["resourceVersion"], given);
    }
}

#[tokio::test]
async fn what_is_only_made_has_no_paths() {
    let s = Server::start().await;
    let bindings = "/api/v1/namespaces/default/bindings";
    for method in ["GET", "PUT", "DELETE"] {
        for (path, code) in [(bindings.to_owned(), 405), (format!("{bindings}/x"), 404)] {
            assert_eq!(s.json(method, &path, &json!({})).await.0, code, "{method} {path}");
        }
    }
}
