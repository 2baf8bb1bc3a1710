//! How definitions and the objects of them are judged where upstream's own form, or its validator of schemas, shows through.

#![allow(clippy::unwrap_used)]

use super::common::Server;
use super::common::definitions::{CRDS, definition, object};
use serde_json::{Value, json};

/// What upstream's internal form of a definition has beside that of the API is judged as well.
#[tokio::test]
async fn names_and_defaults_are_looked_at_twice() {
    let s = Server::start().await;
    let text = |more: Value| {
        let mut text = json!({"type": "string"});
        for (field, value) in more.as_object().unwrap() {
            text[field] = value.clone();
        }
        definition(object(json!({"x": text})))
    };
    let mut version = text(json!({}));
    version["spec"]["versions"][0]["name"] = "V1".into();
    let mut all = text(json!({"default": "a"}));
    all["spec"]["preserveUnknownFields"] = true.into();
    let mut none = text(json!({}));
    none["spec"]["preserveUnknownFields"] = true.into();
    let keyed = definition(object(
        json!({"x": {"type": "array", "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["k"]}}),
    ));
    let keeps = "spec.preserveUnknownFields: Invalid value: true: must be false in order to use defaults in the schema";
    for (crd, told, is_told) in [
        (
            &version,
            "spec.version: Invalid value: \"V1\": a DNS-1035 label",
            true,
        ),
        (
            &version,
            "spec.versions[0].name: Invalid value: \"V1\": a DNS-1035 label",
            true,
        ),
        (&all, keeps, true),
        (&none, keeps, false),
        (
            &keyed,
            "properties[x].items: Required value: must have a schema if x-kubernetes-list-type is map",
            true,
        ),
    ] {
        let (code, said) = s.json("POST", CRDS, crd).await;
        assert_eq!(
            (code, said["message"].as_str().unwrap().contains(told)),
            (422, is_told),
            "{said}"
        );
    }
}

/// Values that upstream's validator of schemas takes in its own way.
#[tokio::test]
async fn values_of_custom_objects_are_judged_as_upstream_does() {
    let s = Server::start().await;
    let crd = definition(object(json!({"spec": object(json!({
        "one": {"type": "string", "maxLength": 1},
        "choice": {"type": "string", "enum": ["a"]}, "maybe": {"type": "string", "nullable": true, "enum": ["a"]},
        "date": {"type": "string", "format": "date"},
        "filled": {"type": "object", "additionalProperties": {"type": "string", "default": "d"}},
        "twice": {"type": "array", "items": {"type": "string"}, "minItems": 1, "allOf": [{"minItems": 1}]},
    }))})));
    assert_eq!(s.json("POST", CRDS, &crd).await.0, 201);
    let list = "/apis/x.example.com/v1/namespaces/default/foos";
    s.until(list, |code, _| code == 200).await;
    for (spec, told) in [
        (
            json!({"one": "ab"}),
            "spec.one: Too long: may not be more than 1 byte",
        ),
        (json!({"choice": null}), ""),
        (
            json!({"maybe": null}),
            "spec.maybe: Unsupported value: null: supported values: \"a\"",
        ),
        (json!({"date": []}), ""),
        (
            json!({"date": 1}),
            "spec.date: Invalid value: \"int64\": spec.date in body must be of type date: \"int64\"",
        ),
        (json!({"filled": {"a": null}}), ""),
        (
            json!({"twice": []}),
            "[spec.twice: Invalid value: 0: spec.twice in body should have at least 1 items, <nil>: Invalid value: \"\": \
             \"spec.twice\" must validate all the schemas (allOf). None validated]",
        ),
    ] {
        let foo =
            json!({"apiVersion": "x.example.com/v1", "kind": "Foo", "metadata": {"name": "a"}, "spec": spec});
        let (code, said) = s.json("POST", &format!("{list}?dryRun=All"), &foo).await;
        let message = said["message"].as_str().unwrap_or_default();
        let message = message
            .strip_prefix("Foo.x.example.com \"a\" is invalid: ")
            .unwrap_or(message);
        assert_eq!(message, told, "{spec}");
        assert_eq!(code, if told.is_empty() { 201 } else { 422 }, "{spec}");
        if spec["filled"].is_object() {
            assert_eq!(said["spec"]["filled"], json!({"a": "d"}));
        }
    }
    let foo = json!({"apiVersion": "x.example.com/v1", "kind": "Foo", "metadata": {"name": "a"}});
    assert_eq!(s.json("POST", list, &foo).await.0, 201);
    for (body, code, told) in [
        (r#"{"kind":null}"#, 422, "Object 'Kind' is missing in '"),
        (
            r#"{"apiVersion":null}"#,
            500,
            "Internal error occurred: Object 'apiVersion' is missing in 'object has no apiVersion field'",
        ),
    ] {
        let headers = [("content-type", "application/merge-patch+json")];
        let response = s.send("PATCH", &format!("{list}/a"), &headers, body).await;
        let status = response.status().as_u16();
        let bytes = http_body_util::BodyExt::collect(response.into_body())
            .await
            .unwrap()
            .to_bytes();
        let said: Value = serde_json::from_slice(&bytes).unwrap();
        assert!(
            status == code && said["message"].as_str().unwrap().contains(told),
            "{body} {said}"
        );
    }
}
