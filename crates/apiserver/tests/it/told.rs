//! Warnings: what clients are told of beside their answer, refusals among them, as upstream's own API server tells it.

#![allow(clippy::unwrap_used)]

use super::common::Server;
use http_body_util::BodyExt;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";
const JSON: &str = "application/json";
const MERGE: &str = "application/merge-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
const OPERATIONS: &str = "application/json-patch+json";
const APPLY: &str = "application/apply-patch+yaml";

/// Code, warnings without what stands before each of them, and the answer.
async fn told(s: &Server, method: &str, path: &str, media: &str, body: &str) -> (u16, Vec<String>, Value) {
    let headers = [("content-type", media)];
    let response = s.send(method, path, &headers, body.to_owned()).await;
    let code = response.status().as_u16();
    let warnings = response.headers().get_all("warning").iter();
    let warnings = warnings.map(|w| w.to_str().unwrap().replace("299 - ", "").replace('\\', ""));
    let warnings = warnings.collect();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (
        code,
        warnings,
        serde_json::from_slice(&bytes).unwrap_or(Value::Null),
    )
}

#[tokio::test]
async fn what_is_odd_is_told_with_refusals_too() {
    let s = Server::start().await;
    let map = |name: &str, key: &str| {
        format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"{name}"}},"data":{{"{key}":"v"}},"foo":1}}"#
        )
    };
    let (there, odd) = (format!("{MAPS}/x"), r#""unknown field "foo"""#);
    let patch = r#"{"data":{"a b":"1"},"foo":1}"#;
    let operations = r#"[{"op":"add","path":"/foo","value":1},{"op":"add","path":"/data/a b","value":"1"}]"#;
    let twice = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"},"data":{"a b":"c"},"data":{"a b":"d"}}"#;
    for (method, path, media, body, code, warning) in [
        ("POST", MAPS, JSON, map("x", "a b").as_str(), 422, odd),
        ("POST", MAPS, JSON, &map("x", "a"), 201, odd),
        ("POST", MAPS, JSON, &map("x", "a"), 409, odd),
        ("PUT", &there, JSON, &map("y", "a"), 400, odd),
        ("PUT", &there, JSON, &map("x", "a b"), 422, odd),
        ("PUT", &there, JSON, twice, 422, r#""duplicate field "data"""#),
        ("PATCH", &there, MERGE, patch, 422, odd),
        ("PATCH", &there, STRATEGIC, patch, 422, odd),
        ("PATCH", &there, OPERATIONS, operations, 422, odd),
    ] {
        let answered = told(&s, method, &format!("{path}?fieldValidation=Warn"), media, body).await;
        assert_eq!(
            (answered.0, answered.1.concat().as_str()),
            (code, warning),
            "{method} {body}"
        );
    }
    let path = format!("{there}?fieldValidation=Warn&fieldManager=m&force=true");
    let (code, warnings, _) = told(&s, "PATCH", &path, APPLY, twice).await;
    assert_eq!(
        (code, warnings.concat().as_str()),
        (422, r#""line 1: key "data" already set in map""#)
    );
}

#[tokio::test]
async fn bodies_of_scales_are_judged_like_others() {
    let s = Server::start().await;
    let deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {
        "replicas": 0, "selector": {"matchLabels": {"a": "b"}}, "template": {"metadata": {"labels": {"a": "b"}},
            "spec": {"containers": [{"name": "c", "image": "i"}]}}}});
    let (code, said) = s.json("POST", DEPLOYMENTS, &deployment).await;
    assert_eq!(code, 201, "{said}");
    let whole = |spec: &str| {
        format!(
            r#"{{"apiVersion":"autoscaling/v1","kind":"Scale","metadata":{{"name":"d","namespace":"default"}},"spec":{spec}}}"#
        )
    };
    let foo = r#""unknown field "spec.foo"""#;
    // Method, media type, body, mode; code, warnings, the end of what is said.
    for (method, media, body, mode, code, warnings, end) in [
        ("PATCH", MERGE, r#"{"spec":{"foo":1}}"#, "Warn", 200, foo, ""),
        ("PATCH", STRATEGIC, r#"{"spec":{"foo":1}}"#, "Warn", 200, foo, ""),
        (
            "PATCH",
            STRATEGIC,
            r#"{"kind":"Deployment","spec":{"replicas":0}}"#,
            "Warn",
            200,
            "",
            "",
        ),
        ("PATCH", MERGE, r#"{"spec":{"foo":1}}"#, "Ignore", 200, "", ""),
        (
            "PATCH",
            MERGE,
            r#"{"spec":{"foo":1}}"#,
            "Strict",
            422,
            "",
            "strict decoding error: unknown field \"spec.foo\"",
        ),
        (
            "PATCH",
            MERGE,
            r#"{"spec":{"replicas":-1,"foo":1}}"#,
            "Warn",
            422,
            foo,
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            "PATCH",
            MERGE,
            r#"{"spec":{"replicas":"a"}}"#,
            "Warn",
            422,
            "",
            "json: cannot unmarshal string into Go struct field ScaleSpec.spec.replicas of type int32",
        ),
        (
            "PATCH",
            STRATEGIC,
            r#"{"spec":{"replicas":1.5}}"#,
            "Warn",
            422,
            "",
            "Invalid value: \"map[spec:map[replicas:1.5]]\": cannot convert float64 to int32",
        ),
        (
            "PATCH",
            MERGE,
            r#"{"spec":{"replicas":99999999999}}"#,
            "Warn",
            422,
            "",
            "cannot unmarshal number 99999999999 into Go struct field ScaleSpec.spec.replicas of type int32",
        ),
        (
            "PATCH",
            MERGE,
            r#"{"kind":"Foo"}"#,
            "Warn",
            422,
            "",
            "no kind \"Foo\" is registered for version \"autoscaling/v1\" in scheme \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
        ("PUT", JSON, &whole(r#"{"foo":1}"#), "Warn", 200, foo, ""),
        (
            "PUT",
            JSON,
            &whole(r#"{"replicas":"x"}"#),
            "Warn",
            400,
            "",
            "Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal string into Go struct field \
             ScaleSpec.spec.replicas of type int32",
        ),
        (
            "PATCH",
            APPLY,
            &whole(r#"{"foo":1}"#),
            "Warn",
            500,
            "",
            "failed to create typed patch object (default/d; autoscaling/v1, Kind=Scale): .spec.foo: field not declared in schema",
        ),
    ] {
        let manager = if media == APPLY { "&fieldManager=m" } else { "" };
        let path = format!("{DEPLOYMENTS}/d/scale?fieldValidation={mode}{manager}");
        let answered = told(&s, method, &path, media, body).await;
        let said = answered.2["message"].as_str().unwrap_or_default();
        assert_eq!(
            (answered.0, answered.1.concat()),
            (code, warnings.to_owned()),
            "{body}: {said}"
        );
        assert!(said.ends_with(end), "{body}: {said}");
    }
}

#[tokio::test]
async fn deprecated_versions_say_so() {
    let s = Server::start().await;
    let version = |name: &str, more: Value| {
        let mut version = json!({"name": name, "served": true, "storage": false,
            "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}});
        for (field, value) in more.as_object().unwrap() {
            version[field] = value.clone();
        }
        version
    };
    let crd = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
    "metadata": {"name": "olds.example.com"},
    "spec": {"group": "example.com", "scope": "Namespaced", "names": {"plural": "olds", "kind": "Old"}, "versions": [
        version("v1", json!({"storage": true, "deprecated": true})),
        version("v1beta2", json!({})),
        version("v1beta1", json!({"deprecated": true})),
        version("v1alpha1", json!({"deprecated": true, "deprecationWarning": "no more of this"})),
    ]}});
    s.define(&crd).await;
    for (version, warning) in [
        ("v1", "\"example.com/v1 Old is deprecated\""),
        ("v1beta2", ""),
        (
            "v1beta1",
            "\"example.com/v1beta1 Old is deprecated; use example.com/v1beta2 Old\"",
        ),
        ("v1alpha1", "\"no more of this\""),
    ] {
        let path = format!("/apis/example.com/{version}/namespaces/default/olds");
        let (code, warnings, _) = told(&s, "GET", &path, JSON, "").await;
        assert_eq!((code, warnings.concat().as_str()), (200, warning));
    }
}

#[tokio::test]
async fn no_policies_are_not_the_default_ones() {
    let s = Server::start().await;
    let scaler = |rules: Value| {
        json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "h"}, "spec": {"maxReplicas": 3,
            "scaleTargetRef": {"kind": "Deployment", "name": "d", "apiVersion": "apps/v1"}, "behavior": {"scaleUp": rules}}})
    };
    let path = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers?dryRun=All";
    let (code, said) = s.json("POST", path, &scaler(json!({"policies": null}))).await;
    assert_eq!(code, 201, "{said}");
    let (code, said) = s.json("POST", path, &scaler(json!({"policies": []}))).await;
    assert_eq!(
        (code, said["message"].as_str().unwrap()),
        (
            422,
            "HorizontalPodAutoscaler.autoscaling \"h\" is invalid: spec.behavior.scaleUp.policies: Required value: must specify \
             at least one Policy"
        )
    );
}

#[tokio::test]
async fn what_is_gone_is_told_by_its_group() {
    let s = Server::start().await;
    for (path, message) in [
        (
            "/apis/apps/v1beta1/namespaces/default/deployments",
            "the server could not find the requested resource",
        ),
        ("/api/v2/pods", "the server could not find the requested resource"),
        ("/apis/extensions/v1beta1/ingresses", ""),
    ] {
        let (code, said) = s.get(path).await;
        assert_eq!(
            (code, said["message"].as_str().unwrap_or_default()),
            (404, message),
            "{path}"
        );
    }
}

#[tokio::test]
async fn bodies_of_other_kinds_are_judged_before_anything_is_looked_up() {
    let s = Server::start().await;
    let (pod, account) = (
        "/api/v1/namespaces/default/pods/none",
        "/api/v1/namespaces/default/serviceaccounts/none",
    );
    let missing = "pods \"none\" not found";
    for (path, body, code, warning, message) in [
        (
            format!("{pod}/eviction"),
            json!({"apiVersion": "policy/v1beta1", "kind": "Eviction", "metadata": {"name": "none"}, "foo": 1}),
            404,
            "\"unknown field \"foo\"\"",
            missing,
        ),
        (
            format!("{pod}/eviction"),
            json!({"apiVersion": "policy/v1", "kind": "Foo"}),
            400,
            "",
            "Foo in version \"v1\" cannot be handled as a Eviction: no kind \"Foo\" is registered for version \"policy/v1\" in scheme \
             \"pkg/api/legacyscheme/scheme.go:30\"",
        ),
        (
            format!("{pod}/eviction"),
            json!({"apiVersion": "policy/v1", "kind": "Eviction", "deleteOptions": "x"}),
            400,
            "",
            "Eviction in version \"v1\" cannot be handled as a Eviction: json: cannot unmarshal string into Go struct field \
             Eviction.deleteOptions of type v1.DeleteOptions",
        ),
        (
            format!("{pod}/binding"),
            json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "none"},
                "target": {"name": "n", "foo": 1}}),
            404,
            "\"unknown field \"target.foo\"\"",
            missing,
        ),
        (
            format!("{pod}/binding"),
            json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "other"}, "target": {"name": "n"}}),
            400,
            "",
            "name in URL does not match name in Binding object",
        ),
        (
            format!("{pod}/binding"),
            json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "none"},
                "target": {"kind": "Pod", "name": "n"}}),
            500,
            "",
            "target.kind: Unsupported value: \"Pod\": supported values: \"Node\", \"<empty>\"",
        ),
        (
            format!("{account}/token"),
            json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": "x"}}),
            400,
            "",
            "TokenRequest in version \"v1\" cannot be handled as a TokenRequest: json: cannot unmarshal string into Go struct \
             field TokenRequestSpec.spec.expirationSeconds of type int64",
        ),
    ] {
        let path = format!("{path}?fieldValidation=Warn");
        let answered = told(&s, "POST", &path, JSON, &body.to_string()).await;
        let said = answered.2["message"].as_str().unwrap_or_default();
        assert_eq!(
            (answered.0, answered.1.concat().as_str(), said),
            (code, warning, message),
            "{body}"
        );
    }
}

#[tokio::test]
async fn a_stricter_namespace_names_the_pods_that_it_would_not_let_in() {
    let s = Server::guarded().await;
    let pods = "/api/v1/namespaces/default/pods";
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    s.json("POST", "/api/v1/namespaces/default/serviceaccounts", &account)
        .await;
    for (name, owner) in [("a", "u"), ("b", "u"), ("c", "v"), ("d", "w")] {
        let container = match name {
            "d" => json!({"name": "c", "image": "i", "ports": [{"containerPort": 80, "hostPort": 80}]}),
            "c" => json!({"name": "c", "image": "i"}),
            _ => json!({"name": "c", "image": "i", "securityContext": {"privileged": true}}),
        };
        let owner =
            json!({"apiVersion": "v1", "kind": "ConfigMap", "name": owner, "uid": owner, "controller": true});
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "ownerReferences": [owner]},
            "spec": {"containers": [container]}});
        let (code, said) = s.json("POST", pods, &pod).await;
        assert_eq!(code, 201, "{said}");
    }
    let namespace = "/api/v1/namespaces/default";
    let violated = "existing pods in namespace \"default\" violate the new PodSecurity enforce level";
    let cases = [
        (
            "baseline",
            vec![
                format!("{violated} \"baseline:latest\""),
                "a (and 1 other pod): privileged".into(),
                "d: hostPort".into(),
            ],
        ),
        ("privileged", vec![]),
    ];
    for (level, wanted) in cases {
        let patch = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}});
        let headers = [("content-type", "application/merge-patch+json")];
        let answer = s.send("PATCH", namespace, &headers, patch.to_string()).await;
        assert_eq!(answer.status(), 200);
        let said = answer.headers().get_all("warning").iter();
        let said: Vec<&str> = said.map(|w| w.to_str().unwrap()).collect();
        let quoted = |text: &String| format!("299 - {:?}", text);
        assert_eq!(said, wanted.iter().map(quoted).collect::<Vec<_>>(), "{level}");
    }
}
