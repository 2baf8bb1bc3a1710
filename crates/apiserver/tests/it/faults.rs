//! What is wrong with definitions and objects of their kinds, told in upstream's order and words, and what only they answer.
//! The verdicts on definitions (`faults.jsonl`) are upstream's.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const BARS: &str = "/apis/y.example.com/v1/bars";

#[tokio::test]
async fn definitions_are_judged_as_by_upstream() {
    let s = Server::start().await;
    for line in include_str!("faults.jsonl").lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let path = format!("{CRDS}?dryRun=All&fieldValidation=Strict");
        let (code, said) = s.json("POST", &path, &case["send"]).await;
        assert_eq!(case["code"], code, "{line} {said}");
        let message = said["message"].as_str().unwrap_or_default();
        assert_eq!(case["says"], message, "{}", case["send"]);
    }
}

fn kind() -> Value {
    let text = json!({"type": "string"});
    let spec = json!({"type": "object", "required": ["r"], "properties": {
        "e": {"type": "string", "nullable": true, "enum": ["a", null]},
        "f": {"type": "integer", "format": "x"},
        "i": {"x-kubernetes-int-or-string": true},
        "m": {"type": "object", "maxProperties": 0, "additionalProperties": text},
        "n": {"type": "array", "maxItems": 1, "items": {"type": "number", "maximum": 10}},
        "r": text,
    }});
    let root = json!({"type": "object", "properties": {"spec": spec},
        "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is as it was"}]});
    let old = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": {"r": text, "old": text}}}});
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "bars.y.example.com"},
        "spec": {"group": "y.example.com", "scope": "Cluster", "names": {"plural": "bars", "kind": "Bar"}, "versions": [
            {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": root}, "subresources": {
                "status": {}, "scale": {"specReplicasPath": ".spec.f", "statusReplicasPath": ".status.f"}}},
            {"name": "v1beta1", "served": true, "storage": false, "schema": {"openAPIV3Schema": old}},
        ]},
    })
}

fn bar(version: &str, spec: Value) -> Value {
    json!({"apiVersion": format!("y.example.com/{version}"), "kind": "Bar", "metadata": {"name": "b"}, "spec": spec})
}

#[tokio::test]
async fn objects_are_judged_as_by_upstream() {
    let s = Server::start().await;
    s.define(&kind()).await;
    let cases = [
        (
            json!({"n": [100.0, 1], "e": null, "m": {"a": "b"}, "f": {}}),
            "spec.e: Unsupported value: null: supported values: \"a\", \"null\", \
             spec.f: Invalid value: \"object\": spec.f in body must be of type integer: \"object\", \
             spec.m: Too many: 1: must have at most 0 items, \
             spec.n[0]: Invalid value: 100: spec.n[0] in body should be less than or equal to 10, \
             spec.n: Too many: 2: must have at most 1 item, spec.r: Required value, \
             .spec.f: Invalid value: 0: .spec.f accessor error: map[] is of the type map[string]interface {}, expected int64",
        ),
        (
            json!(1),
            "spec: Invalid value: \"integer\": spec in body must be of type object: \"integer\", \
             .spec.f: Invalid value: 0: .spec.f accessor error: 1 is of the type int64, expected map[string]interface{}",
        ),
    ];
    for (spec, wanted) in cases {
        let (code, said) = s.json("POST", BARS, &bar("v1", spec)).await;
        let wanted = format!(
            "Bar.y.example.com \"b\" is invalid: [{wanted}, <nil>: Invalid value: null: some validation rules were not checked \
             because the object was invalid; correct the existing errors to complete validation]"
        );
        assert_eq!((code, said["message"].as_str()), (422, Some(&*wanted)));
    }
    // What is applied keeps its nulls, and to the status of what is not there nothing is applied, whatever it says.
    let media = [("content-type", "application/apply-patch+yaml")];
    for (path, spec, wanted) in [
        ("/b?fieldManager=a", json!({"r": "x", "i": null}), 422),
        ("/b/status?fieldManager=a", json!({"r": 1}), 404),
    ] {
        let body = bar("v1", spec).to_string();
        let answer = s.send("PATCH", &format!("{BARS}{path}"), &media, body).await;
        assert_eq!(answer.status(), wanted, "{path}");
    }
    // What the stored version does not know is not stored, and an object is all of its fields to a rule.
    let old = bar("v1beta1", json!({"r": "x", "old": "y"}));
    let (code, said) = s.json("POST", &BARS.replace("v1", "v1beta1"), &old).await;
    assert_eq!((code, &said["spec"]), (201, &json!({"r": "x"})));
    let labels = json!({"metadata": {"labels": {"a": "b"}}});
    let (code, said) = s.json("PATCH", &format!("{BARS}/b"), &labels).await;
    let wanted = "Bar.y.example.com \"b\" is invalid: <nil>: Invalid value: is as it was";
    assert_eq!((code, said["message"].as_str()), (422, Some(wanted)));
    let mut other = bar("v1", json!({"r": "x"}));
    other["metadata"]["name"] = json!("c");
    let (_, made) = s.json("POST", BARS, &other).await;
    other["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    let unchanged = [("PUT", &made), ("PUT", &other), ("PATCH", &json!({}))];
    for (method, body) in unchanged {
        let (code, said) = s.json(method, &format!("{BARS}/c"), body).await;
        assert_eq!(code, 200, "{method} {body} {said}");
    }
}

#[tokio::test]
async fn there_are_no_tables_of_some_statuses() {
    let s = Server::start().await;
    s.define(&kind()).await;
    let service = json!({"apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService",
        "metadata": {"name": "v1.z.example.com"}, "spec": {"group": "z.example.com", "version": "v1",
        "groupPriorityMinimum": 1, "versionPriority": 1}});
    let services = "/apis/apiregistration.k8s.io/v1/apiservices";
    assert_eq!(s.json("POST", services, &service).await.0, 201);
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    for (path, wanted) in [
        (format!("{CRDS}/bars.y.example.com"), 200),
        (format!("{CRDS}/bars.y.example.com/status"), 406),
        (format!("{services}/v1.z.example.com/status"), 406),
        ("/api/v1/namespaces/default/status".to_owned(), 200),
    ] {
        assert_eq!(s.send("GET", &path, &table, "").await.status(), wanted, "{path}");
    }
}
