//! Bodies of requests and answers, whatever transport they come over.

use super::negotiate::Wanted;
use bytes::Bytes;
use futures::Stream;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, HeaderValue};
use http::{HeaderName, StatusCode};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::ext::ReasonPhrase;
use kinds::status::Status;

/// Any error of a body.
pub type BoxError = Box<dyn std::error::Error + Send + Sync>;
/// A body of bytes, complete or streaming.
pub type Body = UnsyncBoxBody<Bytes, BoxError>;
/// An answer.
pub type Response = http::Response<Body>;

/// JSON media type.
pub const JSON: &str = "application/json";

/// A body that is there already.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that comes in chunks.
pub fn stream(chunks: impl Stream<Item = Result<Bytes, BoxError>> + Send + 'static) -> Body {
    use futures::StreamExt;
    StreamBody::new(chunks.map(|c| c.map(Frame::data))).boxed_unsync()
}

/// Takes in a body of another type.
pub fn adopt<B>(body: B) -> Body
where
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    body.map_err(Into::into).boxed_unsync()
}

/// A body that holds something until it is sent or dropped.
struct Held<T> {
    inner: Body,
    _held: T,
}

impl<T: Send + Unpin + 'static> http_body::Body for Held<T> {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        std::pin::Pin::new(&mut self.inner).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> http_body::SizeHint {
        self.inner.size_hint()
    }
}

/// An answer that holds a place until its last byte is sent.
pub fn hold<T: Send + Unpin + 'static>(response: Response, held: T) -> Response {
    response.map(|inner| Held { inner, _held: held }.boxed_unsync())
}

/// A complete answer.
pub fn answer(code: StatusCode, content_type: &'static str, bytes: impl Into<Bytes>) -> Response {
    let bytes = bytes.into();
    let length = bytes.len();
    let mut response = http::Response::new(full(bytes));
    *response.status_mut() = code;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
        .headers_mut()
        .insert(CONTENT_LENGTH, HeaderValue::from(length));
    response
}

/// JSON that is not indented, as Go's encoder ends it: scripts read lines.
pub fn ended(mut json: Vec<u8>) -> Vec<u8> {
    json.push(b'\n');
    json
}

/// A complete answer in JSON.
pub fn json(code: StatusCode, value: &serde_json::Value) -> Response {
    // A JSON value always encodes.
    answer(code, JSON, serde_json::to_vec(value).unwrap_or_default())
}

/// A plain text answer. What Go says when something is wrong is not to be taken for anything else.
pub fn text(code: StatusCode, text: impl Into<String>) -> Response {
    let mut response = answer(code, "text/plain; charset=utf-8", text.into());
    if code.is_client_error() || code.is_server_error() {
        not_to_be_guessed(&mut response);
    }
    response
}

/// Tells browsers to believe the media type of an answer.
pub fn not_to_be_guessed(response: &mut Response) {
    let name = http::header::X_CONTENT_TYPE_OPTIONS;
    response
        .headers_mut()
        .insert(name, HeaderValue::from_static("nosniff"));
}

/// A refusal, as Kubernetes words it, in JSON.
pub fn refusal(status: &Status) -> Response {
    refusal_as(status, Wanted::default())
}

/// A refusal in an encoding that the client understands.
pub fn refusal_as(status: &Status, wanted: Wanted) -> Response {
    let code = StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let body = status.to_json();
    let retry = body
        .pointer("/details/retryAfterSeconds")
        .and_then(serde_json::Value::as_u64);
    let mut response = match crate::rest::render::encode(&body, wanted) {
        Ok((media, bytes)) => answer(code, media, bytes),
        Err(_) => json(code, &body),
    };
    // Go has kept the older words of these.
    let older = match status.code {
        413 => Some("Request Entity Too Large"),
        414 => Some("Request URI Too Long"),
        _ => None,
    };
    if let Some(reason) = older {
        let reason = ReasonPhrase::from_static(reason.as_bytes());
        response.extensions_mut().insert(reason);
    }
    if let Some(seconds) = retry
        && seconds > 0
    {
        response
            .headers_mut()
            .insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    response
}

/// Adds `Warning` headers as upstream does: `299 - "text"`. When they are too long together, each is cut, and those that
/// come after that many runes are left out (`endpoints/filters/warning.go`).
pub fn warn(response: &mut Response, warnings: &[String]) {
    /// Runes of all warnings together, before each is cut to [`ITEM`].
    const TOTAL: usize = 4096;
    const ITEM: usize = 256;
    let all: usize = warnings.iter().map(|warning| warning.chars().count()).sum();
    let most = if all > TOTAL { ITEM } else { TOTAL };
    let mut written = 0;
    for warning in warnings {
        if written >= TOTAL {
            break;
        }
        let clean: String = warning
            .chars()
            .take(most)
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        written += clean.chars().count();
        let quoted = clean.replace('\\', "\\\\").replace('"', "\\\"");
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response
                .headers_mut()
                .append(HeaderName::from_static("warning"), value);
        }
    }
}
