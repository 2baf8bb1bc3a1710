//! What clients send: small bodies that grow, long lists of work, streams that are taken back.

use super::common::Server;
use super::raw::{self, Raw, number};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
/// What refusing may take at most on a busy machine, in a build without optimisation.
const QUICK: Duration = Duration::from_secs(10);

/// A document in which every line names the line before nine times.
fn laughs(levels: usize) -> String {
    let mut text = String::from("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: laughs}\ndata:\n");
    text += "  a0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n";
    for level in 1..levels {
        let before = vec![format!("*a{}", level - 1); 9].join(", ");
        text += &format!("  a{level}: &a{level} [{before}]\n");
    }
    text
}

/// CVE-2019-11253: a YAML document of some hundred bytes grew to gigabytes while it was read, and deep JSON did
/// alike. Here aliases, nodes and depth are counted.
#[tokio::test]
async fn cve_2019_11253_small_bodies_that_grow() {
    let s = Server::start().await;
    let deep = |open: &str, close: &str, levels: usize| {
        format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"a"}},"data":{}0{}}}"#,
            open.repeat(levels),
            close.repeat(levels)
        )
    };
    let merge = "application/merge-patch+json";
    let apply = "application/apply-patch+yaml";
    let a = format!("{MAPS}/a?fieldManager=t");
    s.json(
        "POST",
        MAPS,
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}),
    )
    .await;
    let cases = [
        ("POST", MAPS, "application/yaml", laughs(9)),
        ("POST", MAPS, "application/yaml", laughs(200)),
        ("POST", MAPS, "application/yaml", deep("[", "]", 5_000)),
        ("POST", MAPS, "application/yaml", "- ".repeat(500_000)),
        (
            "POST",
            MAPS,
            "application/yaml",
            format!("a: &a [*a]\n{}", laughs(3)),
        ),
        ("POST", MAPS, "application/json", deep("[", "]", 10_000)),
        ("POST", MAPS, "application/json", deep(r#"{"a":"#, "}", 100_000)),
        ("POST", MAPS, "application/json", "[".repeat(1_000_000)),
        ("PATCH", &a, merge, deep("[", "]", 100_000)),
        (
            "PATCH",
            &a,
            "application/strategic-merge-patch+json",
            deep("[", "]", 100_000),
        ),
        ("PATCH", &a, "application/json-patch+json", "[".repeat(1_000_000)),
        ("PATCH", &a, apply, laughs(9)),
    ];
    for (number, (method, path, media, body)) in cases.into_iter().enumerate() {
        eprintln!("case {number}");
        let begun = Instant::now();
        let response = s.send(method, path, &[("content-type", media)], body).await;
        let code = response.status();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&text[..text.len().min(300)]).into_owned();
        assert!(
            matches!(code.as_u16(), 400 | 413 | 422),
            "case {number}: {code} {text}"
        );
        assert!(
            begun.elapsed() < QUICK,
            "case {number} took {:?}",
            begun.elapsed()
        );
    }
}

/// CVE-2019-1002100: a JSON patch of some megabytes held the server for minutes. Here the number of operations is
/// bounded, and so is what they may copy.
#[tokio::test]
async fn cve_2019_1002100_patches_without_end() {
    let s = Server::start().await;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"k": "x".repeat(1000)}});
    let (code, text) = s.json("POST", MAPS, &map).await;
    assert_eq!(code, 201, "{text}");
    let adds = |count: usize| -> Vec<Value> {
        let one = |i| json!({"op": "add", "path": "/data/k", "value": format!("{i}")});
        (0..count).map(one).collect()
    };
    let copies: Vec<Value> = (0..40)
        .map(|i| json!({"op": "copy", "from": "/data", "path": format!("/data/c{i}")}))
        .collect();
    let cases = [
        (adds(10_000), 200, ""),
        (
            adds(10_001),
            413,
            "The allowed maximum operations in a JSON patch is 10000, got 10001",
        ),
        (
            copies,
            422,
            "the server rejected our request due to an error in our request",
        ),
    ];
    for (patch, want, words) in cases {
        let begun = Instant::now();
        let headers = [("content-type", "application/json-patch+json")];
        let body = serde_json::to_vec(&patch).unwrap();
        let response = s.send("PATCH", &format!("{MAPS}/a"), &headers, body).await;
        let code = response.status().as_u16();
        let text = response.into_body().collect().await.unwrap().to_bytes();
        let text = String::from_utf8_lossy(&text).into_owned();
        assert!(code == want && text.contains(words), "{code} {:.300}", text);
        assert!(begun.elapsed() < QUICK, "{want} took {:?}", begun.elapsed());
    }
}

/// CVE-2023-44487 (rapid reset): streams of HTTP/2 that are opened and taken back at once cost the server work and
/// the client nothing, without end. Here such a connection is ended with ENHANCE_YOUR_CALM.
#[tokio::test]
async fn cve_2023_44487_rapid_reset() {
    let s = Server::start().await;
    let mut raw = Raw::http2(s.address).await;
    let list = raw::get(MAPS);
    let flags = raw::END_STREAM | raw::END_HEADERS;
    let mut bytes = Vec::new();
    for i in 0..5000u32 {
        let stream = 2 * i + 1;
        bytes.extend(raw::frame(raw::HEADERS, flags, stream, &list));
        // CANCEL
        bytes.extend(raw::frame(raw::RST_STREAM, 0, stream, &8u32.to_be_bytes()));
    }
    raw.send(&bytes).await;
    let mut reason = None;
    while let Some(frame) = raw.frame().await {
        if frame.kind == raw::GOAWAY {
            reason = Some(number(&frame.payload[4..]));
        }
    }
    assert!(
        matches!(reason, None | Some(11)),
        "the connection ended otherwise: {reason:?}"
    );
    let begun = Instant::now();
    assert_eq!(s.get(&format!("{MAPS}?limit=1")).await.0, 200);
    assert!(begun.elapsed() < QUICK);
}
