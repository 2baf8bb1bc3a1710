//! One HTTP exchange on a dialled stream: request out, answer back, both ways raw after an agreed upgrade.

use super::agent::Stream;
use super::frames::Frames;
use crate::wire::{Body, Response, body};
use bytes::BytesMut;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode, Version};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kinds::status::Status;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Time to wait for the head of the answer.
const ANSWER: Duration = Duration::from_secs(30);

/// Headers that concern one hop only, and credentials that are ours to check and nobody's to see.
const NOT_PASSED: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONNECTION,
    header::HOST,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// A request to pass on.
pub struct Outgoing {
    /// Method.
    pub method: Method,
    /// Path and query at the other end.
    pub path: String,
    /// Headers of the client.
    pub headers: HeaderMap,
    /// Headers of our own, which no client can set.
    pub add: HeaderMap,
    /// Body of the client.
    pub body: Body,
    /// The client's raw connection, when it asked for an upgrade.
    pub upgrade: Option<OnUpgrade>,
}

fn passed(headers: &HeaderMap, upgrading: bool) -> HeaderMap {
    let mut out = HeaderMap::new();
    for (name, value) in headers {
        let private = name.as_str().starts_with("impersonate-") || name.as_str().starts_with("x-remote-");
        if !NOT_PASSED.contains(name) && !private && name.as_str() != "keep-alive" {
            out.append(name.clone(), value.clone());
        }
    }
    if upgrading {
        out.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
        if let Some(protocol) = headers.get(header::UPGRADE) {
            out.insert(header::UPGRADE, protocol.clone());
        }
    }
    out
}

/// Bytes that one direction of a tunnel takes at once.
const TUNNEL_BUFFER: usize = 32 << 10;

/// Sends the request and answers with what comes back.
pub async fn exchange(stream: Box<dyn Stream>, host: &str, mut out: Outgoing) -> Result<Response, Status> {
    let failed = |e: &dyn std::fmt::Display| Status::internal(format!("error dialing backend: {e}"));
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|e| failed(&e))?;
    tokio::spawn(async move {
        if let Err(error) = connection.with_upgrades().await {
            tracing::debug!(%error, "the connection to a backend ended");
        }
    });
    let upgrading = out.upgrade.is_some() && out.headers.contains_key(header::UPGRADE);
    let mut request = http::Request::new(std::mem::replace(&mut out.body, body::full(bytes::Bytes::new())));
    *request.method_mut() = out.method;
    *request.uri_mut() = out
        .path
        .parse()
        .map_err(|_| Status::bad_request("the path cannot be passed on"))?;
    *request.version_mut() = Version::HTTP_11;
    *request.headers_mut() = passed(&out.headers, upgrading);
    request.headers_mut().extend(std::mem::take(&mut out.add));
    let host = HeaderValue::from_str(host).map_err(|e| failed(&e))?;
    request.headers_mut().insert(header::HOST, host);
    let answered = tokio::time::timeout(ANSWER, sender.send_request(request)).await;
    let mut answer = match answered {
        Ok(Ok(answer)) => answer,
        Ok(Err(e)) => return Err(failed(&e)),
        Err(_) => return Err(Status::timeout("the backend did not answer in time", 0)),
    };
    // Only an upgrade that the other end agreed to makes a tunnel; anything else is an answer like any other.
    if answer.status() == StatusCode::SWITCHING_PROTOCOLS {
        let Some(client) = out.upgrade else {
            return Err(Status::internal(
                "the backend switched protocols without being asked",
            ));
        };
        let backend = hyper::upgrade::on(&mut answer);
        let protocol = out.headers.get(header::UPGRADE);
        let websocket = protocol.is_some_and(|name| name.as_bytes().eq_ignore_ascii_case(b"websocket"));
        tokio::spawn(tunnel(client, backend, websocket));
        let mut response = http::Response::new(body::full(bytes::Bytes::new()));
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        *response.headers_mut() = answer.headers().clone();
        return Ok(response);
    }
    if upgrading && answer.status().as_u16() < 400 {
        // The client waits for its upgrade or a refusal; anything else, a redirection above all, is neither.
        return Err(Status::internal(format!(
            "invalid upgrade response: status code {}",
            answer.status().as_u16()
        )));
    }
    let (mut head, incoming) = answer.into_parts();
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        head.headers.remove(name);
    }
    head.version = Version::HTTP_11;
    head.extensions = http::Extensions::new();
    Ok(http::Response::from_parts(head, body::adopt(incoming)))
}

/// A GET with some headers, passed on to a backend that is at the other end of a stream: what a client would get.
///
/// # Errors
/// When the backend's answer is none, or none that may be passed on.
pub async fn get_from<S>(stream: S, headers: HeaderMap) -> Result<Response, Status>
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
{
    let outgoing = Outgoing {
        method: Method::GET,
        path: "/".into(),
        headers,
        add: HeaderMap::new(),
        body: body::full(bytes::Bytes::new()),
        upgrade: None,
    };
    exchange(Box::new(stream), "backend", outgoing)
        .await
        .map(no_redirect)
}

/// Keeps a backend from sending a client elsewhere with what it has asked, or with its credentials (CVE-2022-3172).
pub fn no_redirect(response: Response) -> Response {
    if !response.status().is_redirection() || !response.headers().contains_key(header::LOCATION) {
        return response;
    }
    body::text(
        StatusCode::BAD_GATEWAY,
        "the backend attempted to redirect this request, which is not permitted",
    )
}

/// Copies bytes both ways until both ends are done. Messages of a WebSocket reach the client one by one.
async fn tunnel(client: OnUpgrade, backend: OnUpgrade, websocket: bool) {
    let (client, backend) = match tokio::try_join!(client, backend) {
        Ok(both) => both,
        Err(error) => return tracing::debug!(%error, "an upgrade failed"),
    };
    let (mut client, mut backend) = (TokioIo::new(client), TokioIo::new(backend));
    let done = if websocket {
        let (mut from_client, to_client) = tokio::io::split(client);
        let (from_backend, mut to_backend) = tokio::io::split(backend);
        let there = async {
            tokio::io::copy(&mut from_client, &mut to_backend).await?;
            to_backend.shutdown().await
        };
        tokio::try_join!(there, copy_frames(from_backend, to_client)).map(drop)
    } else {
        tokio::io::copy_bidirectional(&mut client, &mut backend)
            .await
            .map(drop)
    };
    if let Err(error) = done {
        tracing::debug!(%error, "a tunnel ended");
    }
}

/// Copies frame by frame: each is handed to the TLS layer by itself.
async fn copy_frames(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> std::io::Result<()> {
    let mut frames = Frames::default();
    let mut buffer = BytesMut::with_capacity(TUNNEL_BUFFER);
    while from.read_buf(&mut buffer).await? > 0 {
        while !buffer.is_empty() {
            let piece = buffer.split_to(frames.cut(&buffer));
            to.write_all(&piece).await?;
            to.flush().await?;
        }
        buffer.reserve(TUNNEL_BUFFER);
    }
    to.shutdown().await
}
