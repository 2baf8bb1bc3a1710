//! Definitions that upstream refuses, in its words, and what its conformance tests ask of those that it serves: defaults
//! that come later reach what is stored already.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use serde_json::{Value, json};

const CRDS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

fn definition(schema: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "foos.x.example.com"},
        "spec": {"group": "x.example.com", "scope": "Namespaced", "names": {"plural": "foos", "kind": "Foo"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]},
    })
}

fn object(properties: Value) -> Value {
    json!({"type": "object", "properties": properties})
}

#[tokio::test]
async fn what_is_not_structural_is_refused() {
    let s = Server::start().await;
    let schema = "spec.validation.openAPIV3Schema";
    let keyed = |item: Value| {
        object(json!({"x": {"type": "array", "items": item,
            "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["k"]}}))
    };
    let cases = [
        (
            json!({}),
            format!("{schema}.type: Required value: must not be empty at the root"),
        ),
        (
            json!({"type": "array", "items": {"type": "string"}}),
            format!("{schema}.type: Invalid value: \"array\": must be object at the root"),
        ),
        (
            object(json!({"x": {}})),
            format!(
                "{schema}.properties[x].type: Required value: must not be empty for specified object fields"
            ),
        ),
        (
            object(json!({"x": {"type": "array", "items": {}}})),
            format!(
                "{schema}.properties[x].items.type: Required value: must not be empty for specified array items"
            ),
        ),
        (
            object(json!({"x": {"type": "array"}})),
            format!("{schema}.properties[x].items: Required value: must be specified"),
        ),
        (
            object(json!({"x": {"type": "text"}})),
            format!(
                "{schema}.properties[x].type: Unsupported value: \"text\": supported values: \"array\", \"boolean\", \
                 \"integer\", \"number\", \"object\", \"string\""
            ),
        ),
        (
            object(json!({"x": {"type": "string", "default": 5}})),
            format!(
                "{schema}.properties[x].default: Invalid value: \"integer\": {schema}.properties[x].default in body must \
                 be of type string: \"integer\""
            ),
        ),
        (
            object(
                json!({"x": {"type": "object", "properties": {"a": {"type": "string"}},
                "additionalProperties": {"type": "string"}}}),
            ),
            format!(
                "{schema}.properties[x].additionalProperties: Forbidden: additionalProperties and properties are mutual \
                 exclusive"
            ),
        ),
        (
            keyed(object(json!({"k": {"type": "string"}}))),
            format!(
                "{schema}.properties[x].items.properties[k].default: Required value: this property is in \
                 x-kubernetes-list-map-keys, so it must have a default or be a required property"
            ),
        ),
        (
            keyed(object(json!({"other": {"type": "string"}}))),
            format!(
                "{schema}.properties[x].x-kubernetes-list-map-keys: Invalid value: [\"k\"]: entries must all be names of \
                 item properties"
            ),
        ),
    ];
    for (schema, expected) in cases {
        let (code, said) = s.json("POST", CRDS, &definition(schema.clone())).await;
        assert_eq!(code, 422, "{schema}: {said}");
        let wanted = format!(
            "CustomResourceDefinition.apiextensions.k8s.io \"foos.x.example.com\" is invalid: {expected}"
        );
        assert_eq!(said["message"], wanted, "{schema}");
    }
    // What has no type for a reason, and what is common in the wild.
    let (code, said) = s
        .json(
            "POST",
            &format!("{CRDS}?dryRun=All"),
            &definition(object(json!({
                "metadata": {"type": "object"},
                "any": {"x-kubernetes-preserve-unknown-fields": true},
                "port": {"x-kubernetes-int-or-string": true, "anyOf": [{"type": "integer"}, {"type": "string"}]},
                "map": {"type": "object", "additionalProperties": {"type": "string"}},
                "free": {"type": "object", "additionalProperties": true},
                "ports": {"type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["p", "q"],
                    "items": {"type": "object", "required": ["p"], "properties": {"p": {"type": "integer"},
                        "q": {"type": "string", "default": "TCP"}}}},
                "one": {"type": "object", "oneOf": [{"required": ["a"]}], "properties": {"a": {"type": "string", "default": "a"}}},
            }))),
        )
        .await;
    assert_eq!(code, 201, "{said}");
}

#[tokio::test]
async fn parts_around_the_schema_are_checked() {
    let s = Server::start().await;
    let columns = "spec.additionalPrinterColumns[0]";
    let cases = [
        (
            "/spec/versions/0/additionalPrinterColumns",
            json!([{"name": "x", "type": "text", "jsonPath": ".spec.a"}]),
            format!("{columns}.type: Invalid value: \"text\": must be one of boolean,date,integer,number,string"),
        ),
        (
            "/spec/versions/0/subresources",
            json!({"scale": {"specReplicasPath": ".spec.replicas", "statusReplicasPath": ".spec.replicas"}}),
            "spec.subresources.scale.statusReplicasPath: Invalid value: \".spec.replicas\": should be a json path under \
             .status"
                .to_string(),
        ),
        (
            "/spec/versions/0/selectableFields",
            json!([{"jsonPath": ".spec.nope"}]),
            "spec.selectableFields[0].jsonPath: Invalid value: \".spec.nope\": is an invalid path: does not refer to a \
             valid field"
                .to_string(),
        ),
        (
            "/spec/conversion",
            json!({"strategy": "Webhook", "webhook": {"conversionReviewVersions": ["v1"]}}),
            "spec.conversion.webhookClientConfig: Required value: required when strategy is set to Webhook".to_string(),
        ),
    ];
    for (at, value, expected) in cases {
        let mut crd = definition(object(json!({"spec": object(json!({"a": {"type": "string"}}))})));
        let (parent, field) = at.rsplit_once('/').unwrap();
        crd.pointer_mut(parent).unwrap()[field] = value;
        let (code, said) = s.json("POST", CRDS, &crd).await;
        let wanted = format!(
            "CustomResourceDefinition.apiextensions.k8s.io \"foos.x.example.com\" is invalid: {expected}"
        );
        assert_eq!(
            (code, said["message"].as_str()),
            (422, Some(wanted.as_str())),
            "{at}"
        );
    }
    // Groups of the Kubernetes project need its approval.
    let mut crd = definition(object(json!({})));
    crd["metadata"]["name"] = json!("foos.x.k8s.io");
    crd["spec"]["group"] = json!("x.k8s.io");
    let (code, said) = s.json("POST", CRDS, &crd).await;
    assert_eq!(code, 422, "{said}");
    assert!(said["message"].as_str().unwrap().ends_with(
        "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval \
         annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111"
    ));
    crd["metadata"]["annotations"] = json!({"api-approved.kubernetes.io": "unapproved, a test"});
    let (code, said) = s.json("POST", CRDS, &crd).await;
    assert_eq!(code, 201, "{said}");
}

#[tokio::test]
async fn later_defaults_reach_what_is_stored() {
    let s = Server::start().await;
    let pod = json!({"type": "object", "x-kubernetes-embedded-resource": true, "x-kubernetes-preserve-unknown-fields": true});
    let mut crd = definition(object(json!({"a": {"type": "string"}, "pod": pod})));
    let (code, said) = s.json("POST", CRDS, &crd).await;
    assert_eq!(code, 201, "{said}");
    let foos = "/apis/x.example.com/v1/namespaces/default/foos";
    s.until(foos, |code, _| code == 200).await;
    let foo = json!({"apiVersion": "x.example.com/v1", "kind": "Foo", "metadata": {"name": "f"}});
    let (code, said) = s.json("POST", foos, &foo).await;
    assert_eq!(code, 201, "{said}");
    let mut odd = foo.clone();
    odd["pod"] = json!({"kind": "Pod"});
    let (code, said) = s.json("POST", foos, &odd).await;
    assert_eq!(code, 422, "{said}");
    let wanted = "Foo.x.example.com \"f\" is invalid: pod.apiVersion: Required value: must not be empty";
    assert_eq!(said["message"], wanted);
    crd = s.get(&format!("{CRDS}/foos.x.example.com")).await.1;
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["a"]["default"] = json!("A");
    let (code, said) = s.json("PUT", &format!("{CRDS}/foos.x.example.com"), &crd).await;
    assert_eq!(code, 200, "{said}");
    let one = s.until(&format!("{foos}/f"), |_, foo| foo["a"] == "A").await;
    let list = s.get(foos).await.1;
    assert_eq!(list["items"][0]["a"], "A", "{list}");
    let mut events = s.watch(&format!("{foos}?watch=true&resourceVersion=0")).await;
    let event = events.next().await.unwrap();
    assert_eq!(event["object"]["a"], "A", "{event}");
    // What is shown is written by the next change, and by nothing before.
    assert_eq!(one["metadata"]["generation"], 1);
    let (code, next) = s
        .json(
            "PATCH",
            &format!("{foos}/f"),
            &json!({"metadata": {"labels": {"x": "y"}}}),
        )
        .await;
    assert_eq!((code, &next["a"]), (200, &json!("A")), "{next}");
}
