//! A watch over a WebSocket, as browsers ask for one: each event is a message of its own, text when it is JSON (upstream's
//! `WatchServer.HandleWS`). Who watches has nothing to say: only the end of the connection counts.

use crate::wire::negotiate::Encoding;
use crate::wire::{BoxError, Response, body};
use bytes::Bytes;
use futures::{Sink, SinkExt, Stream, StreamExt};
use http::header::{self, HeaderMap, HeaderValue};
use hyper::upgrade::OnUpgrade;
use hyper_util::rt::TokioIo;
use kinds::status::Status;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig};
use tokio_tungstenite::tungstenite::{self, Message, handshake::derive_accept_key};

/// The largest message that is read before it is thrown away.
const MAX_MESSAGE: usize = 64 << 10;

/// Whether a WebSocket is asked for.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    let says = |name, word: &str| {
        headers
            .get_all(name)
            .iter()
            .filter_map(|value| value.to_str().ok())
            .flat_map(|value| value.split(','))
            .any(|value| value.trim().eq_ignore_ascii_case(word))
    };
    says(header::CONNECTION, "upgrade") && says(header::UPGRADE, "websocket")
}

/// Agrees to the WebSocket and sends the chunks of a watch over it, event by event.
///
/// # Errors
/// When the handshake lacks something, or leaves open which protocol is meant.
pub(super) fn answer(
    headers: &HeaderMap,
    upgrade: OnUpgrade,
    encoding: Encoding,
    chunks: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static,
) -> Result<Response, Status> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let key = text(header::SEC_WEBSOCKET_KEY).unwrap_or_default();
    if key.is_empty() || text(header::SEC_WEBSOCKET_VERSION) != Some("13") {
        let why = "a WebSocket needs Sec-WebSocket-Key, and Sec-WebSocket-Version: 13";
        return Err(Status::bad_request(why));
    }
    let offered = text(header::SEC_WEBSOCKET_PROTOCOL).unwrap_or_default().trim();
    if offered.contains(',') {
        let why = "a watch has no choice of Sec-WebSocket-Protocol: offer one, or none";
        return Err(Status::bad_request(why));
    }
    let mut response = http::Response::new(body::full(Bytes::new()));
    *response.status_mut() = http::StatusCode::SWITCHING_PROTOCOLS;
    let said = response.headers_mut();
    said.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    said.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    let accepted = HeaderValue::try_from(derive_accept_key(key.as_bytes()));
    said.insert(
        header::SEC_WEBSOCKET_ACCEPT,
        accepted.map_err(|e| Status::internal(e.to_string()))?,
    );
    if let Some(protocol) = headers
        .get(header::SEC_WEBSOCKET_PROTOCOL)
        .filter(|_| !offered.is_empty())
    {
        said.insert(header::SEC_WEBSOCKET_PROTOCOL, protocol.clone());
    }
    tokio::spawn(async move {
        let raw = match upgrade.await {
            Ok(raw) => TokioIo::new(raw),
            Err(error) => return tracing::debug!(%error, "an upgrade failed"),
        };
        let config = WebSocketConfig::default().max_message_size(Some(MAX_MESSAGE));
        let socket = WebSocketStream::from_raw_socket(raw, Role::Server, Some(config)).await;
        let (mut to, mut from) = socket.split();
        // Reading answers pings as well.
        let gone = async { while let Some(Ok(_)) = from.next().await {} };
        tokio::select! {
            () = gone => {}
            sent = send(&mut to, encoding, chunks) => {
                if let Err(error) = sent {
                    tracing::debug!(%error, "a watch over a WebSocket ended");
                }
            }
        }
        // Browsers tell a normal end from a broken one by the code. Whoever has gone does not hear it.
        let end = CloseFrame {
            code: CloseCode::Normal,
            reason: "".into(),
        };
        let _ = to.send(Message::Close(Some(end))).await;
        let _ = to.close().await;
    });
    Ok(response)
}

async fn send(
    to: &mut (impl Sink<Message, Error = tungstenite::Error> + Unpin),
    encoding: Encoding,
    chunks: impl Stream<Item = Result<Bytes, BoxError>>,
) -> Result<(), tungstenite::Error> {
    let mut chunks = std::pin::pin!(chunks);
    while let Some(Ok(mut chunk)) = chunks.next().await {
        while let Some(event) = first_event(encoding, &mut chunk) {
            let message = match encoding {
                Encoding::Protobuf => Message::Binary(event),
                Encoding::Json | Encoding::Yaml => {
                    Message::Text(event.try_into().map_err(tungstenite::Error::from)?)
                }
            };
            to.feed(message).await?;
        }
        to.flush().await?;
    }
    Ok(())
}

/// Takes the first event off a chunk: a line of JSON, or protobuf behind its length.
fn first_event(encoding: Encoding, chunk: &mut Bytes) -> Option<Bytes> {
    if chunk.is_empty() {
        return None;
    }
    if encoding == Encoding::Protobuf {
        let length = chunk.split_to(chunk.len().min(4));
        let length = u32::from_be_bytes(length[..].try_into().ok()?) as usize;
        return Some(chunk.split_to(chunk.len().min(length)));
    }
    let end = chunk
        .iter()
        .position(|b| *b == b'\n')
        .map_or(chunk.len(), |at| at + 1);
    Some(chunk.split_to(end))
}
