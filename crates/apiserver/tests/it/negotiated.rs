//! In what form the server describes itself, with what headers, and which requests it cannot read: as upstream's handlers
//! and the libraries behind them have it.

#![allow(clippy::unwrap_used)]

use super::common::Server;
use http_body_util::BodyExt;
use serde_json::{Value, json};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const LIST: &str = "g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

#[tokio::test]
async fn all_that_is_served_in_one_list() {
    let s = Server::start().await;
    for media in [
        "application/json",
        "application/yaml",
        "application/vnd.kubernetes.protobuf",
    ] {
        let accept = format!("{media};{LIST},application/json");
        let response = s.send("GET", "/apis", &[("accept", &accept)], "").await;
        assert_eq!(response.status(), 200, "{media}");
        let headers = response.headers();
        for (name, wanted) in [
            ("content-type", format!("{media};{LIST}").as_str()),
            ("vary", "Accept"),
            ("cache-control", "public"),
        ] {
            assert_eq!(headers[name].to_str().unwrap(), wanted, "{media} {name}");
        }
        assert!(headers.contains_key("etag"), "{media}");
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let value = match media {
            "application/json" => serde_json::from_slice(&bytes).unwrap(),
            "application/yaml" => machinery::parse_yaml_checked(&bytes).unwrap().0,
            _ => machinery::protobuf::decode(&bytes).unwrap(),
        };
        assert_eq!(value["kind"], "APIGroupDiscoveryList", "{media}");
        assert_eq!(
            value["items"][0]["versions"][0]["freshness"], "Current",
            "{media}"
        );
    }
    // The version before it is gone; the plain lists have none of those headers.
    let accept = "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json";
    let response = s.send("GET", "/apis", &[("accept", accept)], "").await;
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "application/json");
    assert_eq!(headers["cache-control"], "no-cache, private");
    assert!(!headers.contains_key("etag") && !headers.contains_key("vary"));
}

#[tokio::test]
async fn documents_of_openapi() {
    let s = Server::start().await;
    let (_, index) = s.get("/openapi/v3").await;
    let address = index["paths"]["api/v1"]["serverRelativeURL"].as_str().unwrap();
    let (path, hash) = address.split_once("?hash=").unwrap();
    let response = s.send("GET", address, &[], "").await;
    assert_eq!(response.headers()["cache-control"], "public, immutable");
    assert_eq!(response.headers()["vary"], "Accept");
    assert!(response.headers().contains_key("expires"));
    let etag = response.headers()["etag"].to_str().unwrap().to_owned();
    assert_eq!(etag, format!("\"{hash}\""));
    let known = [("if-none-match", etag.as_str())];
    assert_eq!(s.send("GET", path, &known, "").await.status(), 304);
    let response = s.send("GET", &format!("{path}?hash=OLD"), &[], "").await;
    assert_eq!(response.status(), 301);
    assert_eq!(response.headers()["location"].to_str().unwrap(), address);
    let response = s.send("GET", "/openapi/v3", &[], "").await;
    assert_eq!(response.headers()["content-type"], "text/plain; charset=utf-8");
    for unknown in ["/openapi/v3/nosuch", "/openapi/v3/apis/nosuch/v1"] {
        assert_eq!(s.text(unknown, &[]).await, (404, String::new()), "{unknown}");
    }
    for (path, accept, code) in [
        ("/openapi/v2", "text/html", 406),
        ("/openapi/v2", "text/html, */*;q=0.1", 200),
        ("/openapi/v2", "application/*", 200),
        ("/openapi/v3", "text/html", 200),
        (path, "application/yaml", 406),
        (path, "application/json", 200),
    ] {
        let response = s.send("GET", path, &[("accept", accept)], "").await;
        assert_eq!(response.status(), code, "{path} {accept}");
    }
    for accept in [
        "application/com.github.proto-openapi.spec.v3.v1.0+protobuf",
        "application/com.github.proto-openapi.spec.v3@v1.0+protobuf, application/json",
    ] {
        let response = s.send("GET", address, &[("accept", accept)], "").await;
        let headers = response.headers();
        let media = "application/com.github.proto-openapi.spec.v3.v1.0+protobuf";
        assert_eq!(headers["content-type"], media, "{accept}");
        assert_eq!(headers["etag"].to_str().unwrap(), etag, "{accept}");
        assert_eq!(headers["vary"], "Accept", "{accept}");
    }
}

#[tokio::test]
async fn what_is_well_is_plain_text() {
    let s = Server::start().await;
    for (path, guarded) in [
        ("/healthz", true),
        ("/livez?verbose", true),
        ("/readyz/ping", false),
    ] {
        let response = s.send("GET", path, &[], "").await;
        let headers = response.headers();
        assert_eq!(headers["content-type"], "text/plain; charset=utf-8", "{path}");
        assert_eq!(headers.contains_key("x-content-type-options"), guarded, "{path}");
    }
}

#[tokio::test]
async fn unreadable_patches_need_an_object() {
    let s = Server::start().await;
    let (code, _) = s
        .json(
            "POST",
            MAPS,
            &json!({"metadata": {"name": "a"}, "data": {"k": "v"}}),
        )
        .await;
    assert_eq!(code, 201);
    for (media, body, code, message) in [
        (
            "application/json-patch+json",
            "{}",
            400,
            "error decoding patch: json: cannot unmarshal object into Go value of type []handlers.jsonPatchOp",
        ),
        (
            "application/merge-patch+json",
            "[1",
            400,
            "error decoding patch: unexpected end of JSON input",
        ),
        (
            "application/strategic-merge-patch+json",
            "{",
            400,
            "unexpected end of JSON input",
        ),
        (
            "application/strategic-merge-patch+json",
            r#"{"data":{"$patch":"burn"}}"#,
            500,
            "unknown patch type: burn in map: map[$patch:burn]",
        ),
        (
            "application/json-patch+json",
            r#"[{"op":"replace","path":"","value":[1]}]"#,
            422,
            "",
        ),
        ("text/plain", "{}", 415, "415: Unsupported Media Type"),
    ] {
        for (name, there) in [("a", true), ("none", false)] {
            let path = format!("{MAPS}/{name}");
            let headers = [("content-type", media)];
            let response = s.send("PATCH", &path, &headers, body.to_owned()).await;
            let status = response.status().as_u16();
            let bytes = response.into_body().collect().await.unwrap().to_bytes();
            let answer: Value = serde_json::from_slice(&bytes).unwrap();
            // What no route takes is refused before anything is looked up.
            let code = if there || code == 415 { code } else { 404 };
            assert_eq!(status, code, "{name} {media} {body}: {answer}");
            if code == 415 {
                assert_eq!(answer["details"], json!({}));
            }
            if code != 404 && !message.is_empty() {
                assert_eq!(answer["message"], message, "{media} {body}");
            }
        }
    }
    let path = format!("{MAPS}/a");
    let headers = [("content-type", "application/json-patch+json")];
    let root = r#"[{"op":"replace","path":"","value":{"apiVersion":"v1","metadata":{"name":"a"},"data":{"x":"y"}}}]"#;
    let response = s.send("PATCH", &path, &headers, root).await;
    assert_eq!(response.status(), 200, "the root can be replaced");
    assert_eq!(s.get(&path).await.1["data"], json!({"x": "y"}));
}

/// Without a version an object is one of upstream's own, of which it knows no field.
#[tokio::test]
async fn patches_may_not_take_the_version_away() {
    let s = Server::start().await;
    let map = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    assert_eq!(s.json("POST", MAPS, &map).await.0, 201);
    let nameless = "the name of the object (a based on URL) was undeterminable: name must be provided";
    let merge = "application/merge-patch+json";
    for (media, body, query, code, message) in [
        (merge, r#"{"apiVersion":null}"#, "", 400, nameless),
        (
            merge,
            r#"{"apiVersion":null,"kind":null}"#,
            "fieldValidation=Ignore",
            400,
            nameless,
        ),
        (
            "application/json-patch+json",
            r#"[{"op":"remove","path":"/apiVersion"}]"#,
            "fieldValidation=Warn",
            400,
            nameless,
        ),
        (
            merge,
            r#"{"apiVersion":null}"#,
            "fieldValidation=Strict",
            422,
            "strict decoding error: unknown field \"data\", unknown field \"metadata\"",
        ),
        (merge, r#"{"kind":null}"#, "", 200, ""),
        (
            merge,
            "[1]",
            "fieldValidation=Ignore",
            422,
            "cannot unmarshal array into Go value",
        ),
        (merge, "{", "fieldValidation=Ignore", 400, "Invalid JSON Patch"),
        (
            "application/strategic-merge-patch+json",
            r#"{"$odd":1}"#,
            "fieldValidation=Strict",
            422,
            "unknown field \"$odd\"",
        ),
    ] {
        let path = format!("{MAPS}/a?{query}");
        let response = s
            .send("PATCH", &path, &[("content-type", media)], body.to_owned())
            .await;
        let status = response.status().as_u16();
        let bytes = response.into_body().collect().await.unwrap().to_bytes();
        let answer: Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(status, code, "{media} {body}: {answer}");
        let told = answer["message"].as_str().unwrap_or_default();
        assert!(told.contains(message), "{media} {body}: {told}");
    }
}

/// What is asked of `/watch/` is judged as what is asked of a list.
#[tokio::test]
async fn the_older_way_to_watch() {
    let s = Server::start().await;
    let state = "sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true";
    for (path, code) in [
        (
            format!("/api/v1/watch/namespaces/default/configmaps?{state}"),
            422,
        ),
        (
            format!("/api/v1/watch/namespaces/default/configmaps?watch=true&timeoutSeconds=1&{state}"),
            200,
        ),
        (format!("{MAPS}?watch=true&timeoutSeconds=1&{state}"), 200),
    ] {
        let response = s.send("GET", &path, &[], "").await;
        assert_eq!(response.status(), code, "{path}");
    }
    let accept = [(
        "accept",
        "application/vnd.kubernetes.protobuf;as=Table;g=meta.k8s.io;v=v1",
    )];
    let (code, text) = s.text(&format!("{MAPS}?watch=true"), &accept).await;
    let types = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    let words = format!("only the following media types are accepted: {types}");
    assert!(code == 406 && text.contains(&words), "{text}");
}

/// Of several documents the first counts.
#[tokio::test]
async fn bodies_in_yaml() {
    let s = Server::start().await;
    let yaml = [("content-type", "application/yaml")];
    let two = "metadata:\n  name: one\n---\nmetadata:\n  name: two\n";
    assert_eq!(s.send("POST", MAPS, &yaml, two).await.status(), 201);
    assert_eq!(s.get(&format!("{MAPS}/one")).await.0, 200);
    assert_eq!(s.get(&format!("{MAPS}/two")).await.0, 404);
    let response = s
        .send("POST", MAPS, &yaml, "%YAML 1.2\n---\nmetadata: {name: c}\n")
        .await;
    assert_eq!(response.status(), 400);
}
