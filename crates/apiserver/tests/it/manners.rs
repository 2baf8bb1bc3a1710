//! What clients see of answers before they read the objects in them, as upstream has it: names of headers, ends of bodies,
//! what HTTP itself refuses, bookmarks, and words of refusals that foreign clients ran into.

#![allow(clippy::unwrap_used)]

use super::common::Server;
use super::raw::Raw;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::AsyncReadExt;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const TABS: &str = "/apis/x.io/v1/namespaces/default/tabs";

/// The whole of what comes back before the connection ends.
async fn told(s: &Server, request: &str) -> String {
    let mut raw = Raw::connect(s.address).await;
    raw.send(request.replace('\n', "\r\n").as_bytes()).await;
    let mut all = Vec::new();
    raw.0.read_to_end(&mut all).await.unwrap();
    String::from_utf8(all).unwrap()
}

#[tokio::test]
async fn heads_are_written_as_by_go() {
    let s = Server::start().await;
    // Sent as a whole before anybody looks for an answer.
    let large = format!(
        "POST {MAPS} HTTP/1.1\nHost: x\nConnection: close\nContent-Length: {}\n\n{}",
        4 << 20,
        "x".repeat(4 << 20)
    );
    // A request, how its answer begins, and what else is in it.
    let cases = [
        (
            "GET /version HTTP/1.1\nHost: x\nConnection: close\n\n",
            "HTTP/1.1 200 OK\r\n",
            vec![
                "\r\nContent-Type: application/json\r\n",
                "\r\nAudit-Id: ",
                "\r\nCache-Control: no-cache, private\r\n",
            ],
        ),
        (
            "GET /version HTTP/1.1\n\n",
            "HTTP/1.1 400 Bad Request\r\n",
            vec![
                "\r\nConnection: close\r\n",
                "\r\n\r\n400 Bad Request: missing required Host header",
            ],
        ),
        (
            "GET /version HTTP/1.1\nHost: x\nHost: y\n\n",
            "HTTP/1.1 400 Bad Request\r\n",
            vec!["\r\n\r\n400 Bad Request"],
        ),
        (
            "GET /version HTTP/1.1\nHost: x\nExpect: wonders\n\n",
            "HTTP/1.1 417 Expectation Failed\r\n",
            vec!["\r\nConnection: close\r\n"],
        ),
        // The older protocol knows no hosts.
        ("GET /version HTTP/1.0\n\n", "HTTP/1.0 200 OK\r\n", vec![]),
        (
            &large,
            "HTTP/1.1 413 Request Entity Too Large\r\n",
            vec!["\"Request entity too large: limit is 3145728\""],
        ),
        (
            "GET //api/v1 HTTP/1.1\nHost: x\nConnection: close\n\n",
            "HTTP/1.1 404 Not Found\r\n",
            vec!["404 page not found\n"],
        ),
    ];
    for (request, start, parts) in cases {
        let answer = told(&s, request).await;
        assert!(answer.starts_with(start), "{request:.100}: {answer}");
        for part in parts {
            assert!(answer.contains(part), "{request:.100}: {part} in {answer}");
        }
    }
}

#[tokio::test]
async fn compact_json_ends_with_its_line() {
    let s = Server::start().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}});
    assert_eq!(s.json("POST", MAPS, &map).await.0, 201);
    let one = format!("{MAPS}/a");
    let (table, curl) = (
        ("accept", "application/json;as=Table;v=v1;g=meta.k8s.io"),
        ("user-agent", "curl/8"),
    );
    // A path, a header, and whether a line ends behind the answer.
    let cases = [
        (&*one, ("accept", "*/*"), true),
        (&*one, table, true),
        // What is indented for people never did.
        (&*one, curl, false),
        (MAPS, ("accept", "*/*"), true),
        (MAPS, table, true),
        (MAPS, curl, false),
        ("/api/v1/namespaces/default/configmaps/b", ("accept", "*/*"), true),
        ("/api", ("accept", "*/*"), true),
        ("/apis", ("accept", "*/*"), true),
        ("/apis/apps/v1", ("accept", "*/*"), true),
        // Who takes none of it gets a page for people.
        (&*one, ("accept", "text/*"), false),
        ("/version", ("accept", "*/*"), false),
        ("/", ("accept", "*/*"), false),
    ];
    for (path, header, ends) in cases {
        let (_, text) = s.text(path, &[header]).await;
        assert_eq!(text.ends_with('\n'), ends, "{path} {header:?}");
        assert!(!text.ends_with("\n\n"), "{path}");
        assert!(serde_json::from_str::<Value>(&text).is_ok(), "{path}: {text}");
    }
}

#[tokio::test]
async fn bookmarks_are_blank_objects() {
    let s = Server::start().await;
    let cases = [
        (
            "/api/v1/pods",
            json!({"spec": {"containers": null}, "status": {}}),
        ),
        (
            "/api/v1/services",
            json!({"spec": {}, "status": {"loadBalancer": {}}}),
        ),
        (
            "/apis/batch/v1/jobs",
            json!({"spec": {"template": {"metadata": {}, "spec": {"containers": null}}}, "status": {}}),
        ),
        ("/api/v1/configmaps", json!({})),
        (
            "/apis/rbac.authorization.k8s.io/v1/clusterroles",
            json!({"rules": null}),
        ),
    ];
    for (path, rest) in cases {
        let query = "watch=1&allowWatchBookmarks=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&timeoutSeconds=5";
        let mut watch = s.watch(&format!("{path}?{query}")).await;
        let mark = loop {
            let event = watch.next().await.unwrap();
            if event["type"] == "BOOKMARK" {
                break event["object"].clone();
            }
        };
        let metadata = mark["metadata"].as_object().unwrap();
        let names: Vec<&String> = metadata.keys().collect();
        assert_eq!(names, ["annotations", "resourceVersion"], "{path}");
        let mut fields = mark.as_object().unwrap().clone();
        for name in ["kind", "apiVersion", "metadata"] {
            assert!(fields.remove(name).is_some(), "{path}: {name}");
        }
        assert_eq!(Value::Object(fields), rest, "{path}");
    }
}

#[tokio::test]
async fn refusals_have_upstreams_words() {
    let s = Server::start().await;
    let definition = json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "tabs.x.io"},
        "spec": {"group": "x.io", "scope": "Namespaced", "names": {"kind": "Tab", "plural": "tabs"}, "versions": [{"name": "v1",
            "served": true, "storage": true, "subresources": {"scale": {"specReplicasPath": ".spec.replicas",
                "statusReplicasPath": ".status.replicas"}}, "schema": {"openAPIV3Schema": {"type": "object",
                    "x-kubernetes-preserve-unknown-fields": true}}}]}});
    assert_eq!(s.json("POST", DEFINITIONS, &definition).await.0, 201);
    let ready = |_, crd: &Value| {
        crd.pointer("/status/conditions")
            .is_some_and(|c| c.to_string().contains("Established"))
    };
    s.until(&format!("{DEFINITIONS}/tabs.x.io"), ready).await;
    let tab =
        json!({"apiVersion": "x.io/v1", "kind": "Tab", "metadata": {"name": "t"}, "spec": {"replicas": 1}});
    s.until(TABS, |code, _| code == 200).await;
    assert_eq!(s.json("POST", TABS, &tab).await.0, 201);
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}).to_string();
    let (one, scale) = (format!("{TABS}/t"), format!("{TABS}/t/scale"));
    let (merge, strategic) = (
        "application/merge-patch+json",
        "application/strategic-merge-patch+json",
    );
    let apply = format!("{MAPS}/a?fieldManager=m");
    let json = "application/json";
    let dry = |values: &str| format!("{MAPS}?{values}");
    let (empty, mixed) = (dry("dryRun="), dry("dryRun=All&dryRun=Foo"));
    let (broken, odd) = (dry("continue=abc"), dry("continue=%21"));
    let begun = dry("watch=1&continue=abc");
    let cases = [
        (
            ("PATCH", &*one, merge, r#"{"kind":"Bar"}"#),
            422,
            "Bar.x.io \"t\" is invalid: kind: Invalid value: \"Bar\": must be Tab",
        ),
        (
            ("PATCH", &one, merge, r#"{"apiVersion":"v2"}"#),
            422,
            "Tab \"t\" is invalid: apiVersion: Invalid value: \"v2\": must be x.io/v1",
        ),
        (
            ("PATCH", &scale, strategic, r#"{"spec":{"replicas":2}}"#),
            415,
            "the body of the request was in an unknown format - accepted media types include: application/json-patch+json, \
             application/merge-patch+json, application/apply-patch+yaml",
        ),
        (
            ("PATCH", &apply, "application/apply-patch+yaml", "{"),
            400,
            "error decoding YAML: error converting YAML to JSON: yaml: line 1: did not find expected node content",
        ),
        (
            ("POST", &empty, json, &map),
            422,
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"\"]: supported values: \"All\"",
        ),
        (
            ("POST", &mixed, json, &map),
            422,
            "CreateOptions.meta.k8s.io \"\" is invalid: dryRun: Unsupported value: [\"All\",\"Foo\"]: supported values: \"All\"",
        ),
        (
            (
                "POST",
                MAPS,
                json,
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {}\n",
            ),
            400,
            "the object provided is unrecognized (must be of type ConfigMap): couldn't get version/kind; json parse error: \
             invalid character 'a' looking for beginning of value \
             (61706956657273696f6e3a2076310a6b696e643a20436f6e6669674d6170 ...)",
        ),
        (
            ("POST", MAPS, "application/vnd.kubernetes.protobuf", "{}"),
            400,
            "the object provided is unrecognized (must be of type ConfigMap): provided data does not appear to be a protobuf \
             message, expected prefix [107 56 115 0] ({})",
        ),
        (
            (
                "POST",
                MAPS,
                json,
                r#"{"apiVersion":"v1","kind":"ConfigMapList","items":[]}"#,
            ),
            400,
            "ConfigMapList in version \"v1\" cannot be handled as a ConfigMap: converting (v1.ConfigMapList) to \
             (core.ConfigMap): unknown conversion",
        ),
        (
            ("GET", &broken, json, ""),
            400,
            "invalid continue token: continue key is not valid: invalid character 'i' looking for beginning of value",
        ),
        (
            ("GET", &odd, json, ""),
            400,
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 0",
        ),
        (
            ("GET", &begun, json, ""),
            422,
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden when \
             continue is provided",
        ),
        (
            ("GET", "/api/v1/namespaces/default/pods/p/log/x/y", json, ""),
            404,
            "the server could not find the requested resource",
        ),
    ];
    for ((method, path, media, body), code, message) in cases {
        let response = s
            .send(method, path, &[("content-type", media)], body.to_owned())
            .await;
        let got = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let status: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        assert_eq!(
            (got, status["message"].as_str()),
            (code, Some(message)),
            "{method} {path} {body}"
        );
    }
    let streams = [
        ("application/json;stream=watch", 200),
        ("application/json;stream=foo", 406),
        ("application/yaml;stream=watch", 406),
    ];
    for (accept, code) in streams {
        let path = format!("{MAPS}?watch=1&timeoutSeconds=1");
        let response = s.send("GET", &path, &[("accept", accept)], "").await;
        assert_eq!(response.status().as_u16(), code, "{accept}");
    }
}
