//! Numbers of bodies as they were written: what no field can hold is told so, what has no field is no fault, and what a custom
//! object holds comes out as Go writes it. And answers in YAML, whose texts look like numbers.

#![allow(clippy::unwrap_used)]

use super::common::Server;
use http_body_util::BodyExt;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const SERVICES: &str = "/api/v1/namespaces/default/services";
const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";

#[tokio::test]
async fn numbers_are_told_as_they_were_written() {
    let s = Server::start().await;
    let of_port = |number: &str| {
        format!(
            "json: cannot unmarshal number {number} into Go struct field ServicePort.spec.ports.port of type int32"
        )
    };
    let port =
        |number: &str| format!(r#"{{"metadata":{{"name":"a"}},"spec":{{"ports":[{{"port":{number}}}]}}}}"#);
    let map = |fields: &str| format!(r#"{{"metadata":{{"name":"a"}},{fields}}}"#);
    let into = "json: cannot unmarshal number into Go struct field ConfigMap";
    let cases = [
        (SERVICES, "json", port("1e999"), of_port("1e999")),
        (SERVICES, "json", port("-1E+400"), of_port("-1E+400")),
        (SERVICES, "json", port("1e0"), of_port("1e0")),
        (SERVICES, "json", port("1.50"), of_port("1.50")),
        (SERVICES, "json", port("18446744073709551616"), of_port("18446744073709551616")),
        (SERVICES, "yaml", port("18446744073709551616"), of_port("18446744073709552000")),
        (SERVICES, "yaml", port("1.50"), of_port("1.5")),
        (MAPS, "json", map(r#""data":{"a":1e999}"#), format!("{into}.data of type string")),
        (MAPS, "json", map(r#""immutable":1.0"#), format!("{into}.immutable of type bool")),
        (MAPS, "json", r#"{"kind":1e999}"#.into(), "cannot unmarshal number into Go struct field .kind".into()),
        (MAPS, "yaml", map(r#""data":{"a":.inf}"#), "(must be of type ConfigMap): json: unsupported value: +Inf".into()),
        (
            MAPS,
            "yaml",
            map(r#""data":{null: a}"#),
            "(must be of type ConfigMap): unsupported map key of type: %!s(<nil>), key: <nil>, value: \"a\" (".into(),
        ),
    ];
    for (path, media, body, words) in cases {
        let headers = [("content-type", format!("application/{media}"))];
        let headers = headers.each_ref().map(|(name, value)| (*name, value.as_str()));
        let (code, text) = read(s.send("POST", path, &headers, body.clone()).await).await;
        let message = text["message"].as_str().unwrap_or_default();
        assert!(code == 400 && message.contains(&words), "{body}: {code} {text}");
    }
    let json = [("content-type", "application/json")];
    let unknown = map(r#""nothing":[1e999]"#);
    let (code, text) = read(s.send("POST", MAPS, &json, unknown).await).await;
    assert!(code == 201 && text.get("nothing").is_none(), "{text}");
    let any = "json: cannot unmarshal number 1e999 into Go value of type float64";
    for (media, body, words) in [
        (
            "merge-patch",
            r#"{"data":{"a":1e999}}"#,
            format!("error decoding patch: {any}"),
        ),
        ("strategic-merge-patch", r#"{"data":{"a":1e999}}"#, any.to_owned()),
        (
            "json-patch",
            r#"[{"op":"add","path":"/data","value":1e999}]"#,
            format!(
                "error decoding patch: {}",
                any.replace("Go value", "Go struct field jsonPatchOp.value")
            ),
        ),
    ] {
        let media = format!("application/{media}+json");
        let headers = [("content-type", media.as_str())];
        let (code, text) = read(s.send("PATCH", &format!("{MAPS}/a"), &headers, body).await).await;
        assert_eq!((code, &text["message"]), (400, &words.into()), "{media}");
    }
}

/// A strategic merge patch and an applied configuration go by way of untyped objects, where `2.0` is an integer.
#[tokio::test]
async fn patches_take_whole_numbers_for_integers() {
    let s = Server::start().await;
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
        "spec": {"ports": [{"port": 1}]}});
    assert_eq!(s.json("POST", SERVICES, &service).await.0, 201);
    let one = format!("{SERVICES}/a");
    let strategic = [("content-type", "application/strategic-merge-patch+json")];
    let body = r#"{"spec":{"sessionAffinity":"ClientIP","sessionAffinityConfig":{"clientIP":{"timeoutSeconds":2e1}}}}"#;
    let (code, text) = read(s.send("PATCH", &one, &strategic, body).await).await;
    let timeout = "/spec/sessionAffinityConfig/clientIP/timeoutSeconds";
    assert_eq!((code, text.pointer(timeout)), (200, Some(&json!(20))), "{text}");
    let apply = [("content-type", "application/apply-patch+yaml")];
    let path = format!("{one}?fieldManager=m&force=true");
    let body = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  sessionAffinityConfig: {clientIP: {timeoutSeconds: 1.5}}\n";
    let (code, text) = read(s.send("PATCH", &path, &apply, body).await).await;
    assert_eq!(
        (code, &text["message"]),
        (
            500,
            &json!(
                "failed to convert new object (/a; /v1, Kind=Service) to proper version: unable to convert unstructured object \
                 to /v1, Kind=Service: cannot convert float64 to int32"
            )
        )
    );
}

#[tokio::test]
async fn custom_objects_have_numbers_as_go_writes_them() {
    let s = Server::start().await;
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "things.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced",
            "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object",
                "properties": {"text": {"type": "string"}}, "x-kubernetes-preserve-unknown-fields": true}}}]}
    });
    let crds = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    assert_eq!(s.json("POST", crds, &definition).await.0, 201);
    let json = [("content-type", "application/json")];
    let thing = |fields: &str| {
        format!(r#"{{"apiVersion":"example.com/v1","kind":"Thing","metadata":{{"name":"a"}},{fields}}}"#)
    };
    let body = thing(r#""n":[1.0,1e3,-2.50,0.5,9223372036854775808,-2.644857676169121e-32]"#);
    let (code, text) = read(s.send("POST", THINGS, &json, body).await).await;
    assert_eq!(code, 201, "{text}");
    assert_eq!(
        text["n"].to_string(),
        "[1,1000,-2.5,0.5,9223372036854776000,-2.644857676169121e-32]"
    );
    let merge = [("content-type", "application/merge-patch+json")];
    let (_, text) = read(
        s.send("PATCH", &format!("{THINGS}/a"), &merge, r#"{"n":3.0}"#)
            .await,
    )
    .await;
    assert_eq!(text["n"].to_string(), "3");
    for (fields, words) in [
        (
            r#""n":1e999"#,
            "Thing in version \"v1\" cannot be handled as a Thing: json: cannot unmarshal number 1e999 into Go value of type float64",
        ),
        (r#""text":1.0"#, "must be of type string: \"number\""),
    ] {
        let (_, text) = read(s.send("POST", THINGS, &json, thing(fields)).await).await;
        assert!(text["message"].as_str().unwrap().contains(words), "{text}");
    }
}

/// What looks like something else is quoted, what is long is folded, what has lines is a block.
#[tokio::test]
async fn answers_in_yaml_are_upstreams() {
    let s = Server::start().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {
        "yes": "no", "n10": "1", "n9": "0o17", "date": "2024-01-02", "lines": "a\n  b\n", "ends": "x\n\n", "long": "word ".repeat(20),
        "empty": "", "mark": "- a: b #c", "face": "😀", "tab": "\t"}});
    assert_eq!(s.json("POST", MAPS, &map).await.0, 201);
    let (_, text) = s
        .text(&format!("{MAPS}/a"), &[("accept", "application/yaml")])
        .await;
    let words = "word word word word word word word word word word word word word word word\n    word word word word word ";
    let wanted = format!(
        "apiVersion: v1\ndata:\n  date: \"2024-01-02\"\n  empty: \"\"\n  ends: |+\n    x\n\n  face: \"\\U0001F600\"\n  lines: |\n    a\n      \
         b\n  long: '{words}'\n  mark: '- a: b #c'\n  n9: \"0o17\"\n  n10: \"1\"\n  tab: \"\\t\"\n  \"yes\": \"no\"\nkind: ConfigMap\n"
    );
    assert!(text.starts_with(&wanted), "{text}");
}

async fn read<B: http_body::Body<Error: std::fmt::Debug>>(response: http::Response<B>) -> (u16, Value) {
    let code = response.status().as_u16();
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    (code, serde_json::from_slice(&bytes).unwrap_or_default())
}
