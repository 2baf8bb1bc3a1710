//! Server-side apply by way of the API: making what is not there, what is told of the body, and writes that change nothing.

#![allow(clippy::unwrap_used)]

use super::common::Server;
use apiserver::authorize::{Authorizer, Decision, Rules};
use apiserver::request::Attributes;
use apiserver::user::User;
use async_trait::async_trait;
use serde_json::{Value, json};
use std::sync::Arc;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Answer and code of an apply to a ConfigMap.
async fn apply(s: &Server, name: &str, query: &str, body: &str) -> (u16, String, Value) {
    let path = format!("{MAPS}/{name}?fieldManager=m&{query}");
    let headers = [("content-type", "application/apply-patch+yaml")];
    let response = s.send("PATCH", &path, &headers, body.to_owned()).await;
    let code = response.status().as_u16();
    let warnings = response.headers().get_all("warning").iter();
    let warnings: Vec<String> = warnings.map(|w| w.to_str().unwrap().replace('\\', "")).collect();
    let bytes = http_body_util::BodyExt::collect(response.into_body()).await;
    let answer = serde_json::from_slice(&bytes.unwrap().to_bytes()).unwrap();
    (code, warnings.join(", "), answer)
}

/// Nobody may make anything.
struct Changers;

#[async_trait]
impl Authorizer for Changers {
    async fn authorize(&self, _: &User, attributes: &Attributes) -> Decision {
        match attributes.verb == "create" {
            true => Decision::NoOpinion(String::new()),
            false => Decision::Allow(String::new()),
        }
    }
    async fn rules_for(&self, _: &User, _: &str) -> Rules {
        Rules::default()
    }
}

#[tokio::test]
async fn who_may_change_an_object_may_not_for_that_make_it() {
    let s = Server::guarded_by(Arc::new(Changers), |_| {}).await;
    let body = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"}}"#;
    let (code, _, answer) = apply(&s, "x", "", body).await;
    let message = "configmaps \"x\" is forbidden: User \"tester\" cannot create resource \"configmaps\" in API group \"\" in \
        the namespace \"default\"";
    assert_eq!((code, answer["message"].as_str()), (403, Some(message)));
    let lease = json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}});
    let path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";
    let (code, answer) = s.json("PUT", path, &lease).await;
    assert_eq!(code, 403, "{answer}");
}

#[tokio::test]
async fn what_stands_twice_is_told_of_new_objects_too() {
    let s = Server::start().await;
    let body = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata:\n  a: b\n  a: c\n";
    for query in ["fieldValidation=Warn", "force=true"] {
        for name in ["new", "there"] {
            let (code, told, _) = apply(&s, "x", query, body).await;
            assert!(matches!(code, 200 | 201), "{query} {name}");
            assert_eq!(
                told, r#"299 - "line 6: key "a" already set in map""#,
                "{query} {name}"
            );
        }
        assert_eq!(s.json("DELETE", &format!("{MAPS}/x"), &Value::Null).await.0, 200);
    }
}

#[tokio::test]
async fn only_a_number_is_a_version_of_a_new_object() {
    let s = Server::start().await;
    for (name, version, code) in [("a", "7", 500), ("b", "0", 201), ("c", "old", 201)] {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": name, "resourceVersion": version}});
        let (got, answer) = s.json("POST", MAPS, &map).await;
        assert_eq!(got, code, "{version}: {answer}");
    }
}

#[tokio::test]
async fn a_version_of_an_empty_group_is_one_of_none() {
    let s = Server::start().await;
    let body = |name: &str| json!({"apiVersion": "/v1", "kind": "ConfigMap", "metadata": {"name": name}});
    let there = format!("{MAPS}/a");
    for (method, path, code) in [("POST", MAPS, 201), ("PUT", &there, 200)] {
        let (got, answer) = s.json(method, path, &body("a")).await;
        assert_eq!((got, &answer["apiVersion"]), (code, &json!("v1")), "{answer}");
    }
    let (code, _, answer) = apply(&s, "b", "", &body("b").to_string()).await;
    assert_eq!((code, &answer["apiVersion"]), (201, &json!("v1")), "{answer}");
    let media = [("content-type", "application/merge-patch+json")];
    let answer = s.send("PATCH", &there, &media, body("a").to_string()).await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn the_status_of_a_pod_does_not_say_when_it_ends() {
    let s = Server::start().await;
    let pods = "/api/v1/namespaces/default/pods";
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let (code, made) = s.json("POST", pods, &pod).await;
    assert_eq!(code, 201, "{made}");
    let body = json!({"metadata": {"deletionTimestamp": "2020-01-01T00:00:00Z"}}).to_string();
    let media = [("content-type", "application/merge-patch+json")];
    for (path, code) in [("p", 422), ("p/status", 200)] {
        let answer = s
            .send("PATCH", &format!("{pods}/{path}"), &media, body.clone())
            .await;
        assert_eq!(answer.status(), code, "{path}");
    }
    let (_, after) = s.get(&format!("{pods}/p")).await;
    assert_eq!(after["metadata"]["deletionTimestamp"], Value::Null);
}

#[tokio::test]
async fn large_objects_are_kept_without_their_owners() {
    let s = Server::start().await;
    let key =
        |i: u32| format!("a-key-that-is-so-long-that-a-set-of-such-fields-is-as-large-as-the-fields-{i:04}");
    let data: serde_json::Map<String, Value> = (0..9999).map(|i| (key(i), json!("A"))).collect();
    let map = |name: &str, data: Value| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data});
    let data = Value::Object(data);
    for name in ["made", "changed"] {
        let (code, mut answer) = match name {
            "made" => s.json("POST", MAPS, &map(name, data.clone())).await,
            _ => {
                assert_eq!(s.json("POST", MAPS, &map(name, json!({"k": "v"}))).await.0, 201);
                s.json("PUT", &format!("{MAPS}/{name}"), &map(name, data.clone()))
                    .await
            }
        };
        answer["data"].take();
        assert!(matches!(code, 200 | 201), "{answer}");
        assert_eq!(answer["metadata"]["managedFields"], Value::Null);
        // Who owns fields must be noted for an apply, and cannot be.
        let body = map(name, json!({})).to_string();
        assert_eq!(apply(&s, name, "", &body).await.0, 413);
    }
}

/// Of the fields of one object that the schema does not know, one is told.
#[tokio::test]
async fn one_unknown_field_of_each_object_is_told() {
    let s = Server::start().await;
    let body = "{apiVersion: v1, kind: ConfigMap, metadata: {name: a, zulu: 1, yoke: 1}, bar: 1, foo: 2}";
    let (code, _, answer) = apply(&s, "a", "", body).await;
    let told = "failed to create typed patch object (/a; /v1, Kind=ConfigMap): errors:\n  .bar: field not declared in schema\n  \
                .metadata.yoke: field not declared in schema";
    assert_eq!((code, &answer["message"]), (500, &told.into()));
}

/// What cannot be read is found when the object is merged: after the conflicts, and after what nobody can own.
#[tokio::test]
async fn configurations_are_judged_in_upstreams_order() {
    let s = Server::start().await;
    let secrets = "/api/v1/namespaces/default/secrets";
    let secret = |metadata: &str, data: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"Secret","metadata":{metadata},"type":"Opaque","data":{data}}}"#
        )
    };
    let apply = async |manager: &str, body: String| {
        let path = format!("{secrets}/x?fieldManager={manager}");
        let headers = [("content-type", "application/apply-patch+yaml")];
        let response = s.send("PATCH", &path, &headers, body).await;
        let code = response.status().as_u16();
        let bytes = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap();
        let answer: Value = serde_json::from_slice(&bytes.to_bytes()).unwrap();
        (code, answer["message"].as_str().unwrap_or_default().to_owned())
    };
    let named = r#"{"name":"x","namespace":"default"}"#;
    assert_eq!(apply("a", secret(named, r#"{"k":"YQ=="}"#)).await.0, 201);
    for (metadata, data, code, message) in [
        (
            named,
            r#"{"k":"!"}"#,
            409,
            "Apply failed with 1 conflict: conflict with \"a\": .data.k",
        ),
        (
            named,
            r#"{"l":"!"}"#,
            500,
            "failed to convert new object (default/x; /v1, Kind=Secret) to proper version: unable to convert unstructured \
             object to /v1, Kind=Secret: error decoding from json: illegal base64 data at input byte 0",
        ),
        (
            r#"{"name":"x","managedFields":[]}"#,
            "[]",
            400,
            "metadata.managedFields must be nil",
        ),
        (r#"{"name":"x","managedFields":[null]}"#, "{}", 200, ""),
        (
            r#"{"name":""}"#,
            "{}",
            400,
            "the name of the object (x based on URL) was undeterminable: name must be provided",
        ),
        (
            r#"{"name":"y"}"#,
            "{}",
            400,
            "the name of the object (y) does not match the name on the URL (x)",
        ),
        ("{}", "{}", 200, ""),
    ] {
        assert_eq!(
            apply("b", secret(metadata, data)).await,
            (code, message.to_owned()),
            "{metadata} {data}"
        );
    }
}
