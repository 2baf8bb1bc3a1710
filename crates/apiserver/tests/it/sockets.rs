//! Watches over WebSockets: what is agreed to, and that each event is a message.

#![allow(clippy::unwrap_used)]

use super::common;

use common::Server;
use futures::{SinkExt, StreamExt};
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use std::time::Duration;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const ASKED: [(&str, &str); 4] = [
    ("connection", "keep-alive, Upgrade"),
    ("upgrade", "WebSocket"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ("sec-websocket-version", "13"),
];

type Socket = WebSocketStream<TokioIo<hyper::upgrade::Upgraded>>;

/// A watch over a WebSocket, and the protocol that was agreed on.
async fn watch(s: &Server, query: &str, more: &[(&str, &str)]) -> (Socket, Option<String>) {
    let headers = [&ASKED[..], more].concat();
    let response = s
        .send("GET", &format!("{MAPS}?watch=1{query}"), &headers, "")
        .await;
    assert_eq!(response.status(), 101);
    // The answer to that key in RFC 6455, section 1.3.
    assert_eq!(
        response.headers()["sec-websocket-accept"],
        "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
    );
    let protocol = response.headers().get("sec-websocket-protocol");
    let protocol = protocol.map(|p| p.to_str().unwrap().to_owned());
    let raw = TokioIo::new(hyper::upgrade::on(response).await.unwrap());
    (
        WebSocketStream::from_raw_socket(raw, Role::Client, None).await,
        protocol,
    )
}

async fn next(socket: &mut Socket) -> Option<Message> {
    let wait = tokio::time::timeout(Duration::from_secs(20), socket.next());
    wait.await.unwrap().and_then(Result::ok)
}

#[tokio::test]
async fn each_event_is_a_message() {
    let s = Server::start().await;
    for name in ["a", "b"] {
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"k": "x\ny"}});
        assert_eq!(s.json("POST", MAPS, &map).await.0, 201);
    }
    let (mut socket, protocol) = watch(&s, "", &[("sec-websocket-protocol", "base64.binary.k8s.io")]).await;
    assert_eq!(protocol.as_deref(), Some("base64.binary.k8s.io"));
    let mut told = Vec::new();
    let mut hear = async |socket: &mut Socket| {
        let Some(Message::Text(text)) = next(socket).await else {
            panic!("no text");
        };
        let event: Value = serde_json::from_str(&text).unwrap();
        told.push(format!(
            "{} {}",
            event["type"], event["object"]["metadata"]["name"]
        ));
    };
    hear(&mut socket).await;
    hear(&mut socket).await;
    s.json("DELETE", &format!("{MAPS}/a"), &Value::Null).await;
    hear(&mut socket).await;
    assert_eq!(told, ["\"ADDED\" \"a\"", "\"ADDED\" \"b\"", "\"DELETED\" \"a\""]);
    // Nobody listens to what a watcher says, but a ping is answered.
    socket.send(Message::text("hello")).await.unwrap();
    socket.send(Message::Ping("there?".into())).await.unwrap();
    assert_eq!(next(&mut socket).await, Some(Message::Pong("there?".into())));
    socket.close(None).await.unwrap();

    let (mut socket, protocol) = watch(
        &s,
        "&timeoutSeconds=1",
        &[("accept", "application/vnd.kubernetes.protobuf")],
    )
    .await;
    assert_eq!(protocol, None);
    let Some(Message::Binary(bytes)) = next(&mut socket).await else {
        panic!("no bytes");
    };
    assert_eq!(
        &bytes[..7],
        b"\n\x05ADDED",
        "the type of the event comes first, not its length"
    );
    let Some(Message::Close(Some(end))) = next(&mut socket).await else {
        panic!("it does not end in time, or without a word");
    };
    assert_eq!(end.code, CloseCode::Normal);
}

#[tokio::test]
async fn handshakes() {
    let s = Server::start().await;
    for (left_out, more, code) in [
        ("sec-websocket-key", vec![], 400),
        ("sec-websocket-version", vec![], 400),
        (
            "",
            vec![("sec-websocket-protocol", "base64.binary.k8s.io, other")],
            400,
        ),
        // No upgrade: an ordinary watch.
        ("upgrade", vec![], 200),
        ("connection", vec![], 200),
    ] {
        let mut headers = [&ASKED[..], &more].concat();
        headers.retain(|(name, _)| *name != left_out);
        let path = format!("{MAPS}?watch=1&timeoutSeconds=1");
        let response = s.send("GET", &path, &headers, "").await;
        assert_eq!(response.status(), code, "without {left_out:?}, with {more:?}");
    }
}
