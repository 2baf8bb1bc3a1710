//! Reading request bodies: size limit, content type, and the decoded value with its duplicate fields.

use super::body::Body;
use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap};
use http_body_util::BodyExt;
use kinds::status::Status;
use serde_json::Value;
use std::time::Duration;

/// Largest body accepted, in bytes. Upstream's limit too.
pub const MAX_BODY: usize = 3 << 20;
/// Bytes of a refused body that are still taken from its client.
const MAX_SPILT: usize = 4 * MAX_BODY;
/// A client that does not send its body within this time is cut off.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// A decoded body.
#[derive(Debug)]
pub struct Input {
    /// The value.
    pub value: Value,
    /// Fields that came twice.
    pub duplicates: Vec<machinery::Duplicate>,
    /// The body itself where it was JSON, empty otherwise.
    pub json: Bytes,
    /// What is wrong with a number that is out of range, where its field has no type.
    pub out_of_range: Option<String>,
}

/// Reads the whole body, up to [`MAX_BODY`] bytes.
pub async fn read(body: Body) -> Result<Bytes, Status> {
    read_within(body, READ_TIMEOUT).await
}

async fn read_within(body: Body, limit: Duration) -> Result<Bytes, Status> {
    let too_large = || Status::request_entity_too_large(format!("limit is {MAX_BODY}"));
    if http_body::Body::size_hint(&body).lower() > MAX_BODY as u64 {
        tokio::spawn(spill(body));
        return Err(too_large());
    }
    let mut body = body;
    let reading = async {
        let mut first: Option<Bytes> = None;
        let mut rest = BytesMut::new();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|e| Status::bad_request(format!("the body could not be read: {e}")))?;
            let Ok(data) = frame.into_data() else { continue };
            if rest.len() + first.as_ref().map_or(0, Bytes::len) + data.len() > MAX_BODY {
                return Err(too_large());
            }
            // Most bodies are one frame; only more of them need copying.
            match (&first, rest.is_empty()) {
                (None, true) => first = Some(data),
                _ => {
                    if let Some(start) = first.take() {
                        rest.extend_from_slice(&start);
                    }
                    rest.extend_from_slice(&data);
                }
            }
        }
        Ok(first.unwrap_or_else(|| rest.freeze()))
    };
    let read = tokio::time::timeout(limit, reading)
        .await
        .unwrap_or_else(|_| Err(Status::timeout("the body did not arrive in time", 0)));
    if read.as_ref().is_err_and(|status| status.code == 413) {
        tokio::spawn(spill(body));
    }
    read
}

/// Takes what a client sends of a body that has been refused. Over HTTP/1.1 many send the whole of it before they look for
/// an answer; when the connection ends meanwhile, what they see is a broken pipe and no refusal.
async fn spill(mut body: Body) {
    let taking = async {
        let mut taken = 0;
        while let Some(Ok(frame)) = body.frame().await {
            taken += frame.data_ref().map_or(0, Bytes::len);
            if taken > MAX_SPILT {
                break;
            }
        }
    };
    let _ = tokio::time::timeout(READ_TIMEOUT, taking).await;
}

/// The media type of the request, without parameters, in lower case; JSON when absent.
pub fn media_type(headers: &HeaderMap) -> String {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let media = value.split(';').next().unwrap_or("").trim().to_ascii_lowercase();
    if media.is_empty() {
        "application/json".into()
    } else {
        media
    }
}

/// Whether a media type's parameters are well-formed.
fn is_well_formed(headers: &HeaderMap) -> bool {
    let value = headers
        .get(CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or("");
    let mut parts = value.split(';');
    if parts.next().is_some_and(|media| media.trim().is_empty()) {
        return value.is_empty();
    }
    let is_whole = |text: &str| text.matches('"').count().is_multiple_of(2);
    parts.all(|parameter| parameter.trim().is_empty() || (parameter.contains('=') && is_whole(parameter)))
}

/// A body for the audit log, patches as they are; none where it cannot be read.
pub fn told(headers: &HeaderMap, bytes: &Bytes) -> Option<Value> {
    let patch = media_type(headers).contains("patch");
    match decode(headers, bytes) {
        Ok(input) => Some(input.value),
        Err(_) if patch => match machinery::parse_json_checked(bytes) {
            Ok((value, _)) => Some(value),
            Err(_) => machinery::parse_yaml_checked(bytes).ok().map(|(value, _)| value),
        },
        Err(_) => None,
    }
}

/// Decodes a body by its content type.
pub fn decode(headers: &HeaderMap, bytes: &Bytes) -> Result<Input, Status> {
    if !is_well_formed(headers) {
        return Err(unsupported());
    }
    match media_type(headers).as_str() {
        "application/json" => {
            let parsed = machinery::parse_json_body(bytes)?;
            Ok(Input {
                value: parsed.value,
                duplicates: parsed.duplicates,
                json: bytes.clone(),
                out_of_range: parsed.out_of_range,
            })
        }
        "application/yaml" => {
            let (value, duplicates) = machinery::parse_yaml_checked(bytes)?;
            Ok(Input {
                value,
                duplicates,
                json: Bytes::new(),
                out_of_range: None,
            })
        }
        "application/vnd.kubernetes.protobuf" => {
            let value = super::protobuf::decode(bytes)?;
            Ok(Input {
                value,
                duplicates: Vec::new(),
                json: Bytes::new(),
                out_of_range: None,
            })
        }
        _ => Err(unsupported()),
    }
}

/// The 415 for a media type that bodies cannot have.
pub fn unsupported() -> Status {
    Status::unsupported_media_type(
        "the body of the request was in an unknown format - accepted media types include: application/json, \
         application/yaml, application/vnd.kubernetes.protobuf",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::body;
    use futures::StreamExt;

    #[tokio::test]
    async fn a_body_that_does_not_end_is_cut_off() {
        let first = futures::stream::iter([Ok(Bytes::from("{"))]);
        let slow = body::stream(first.chain(futures::stream::pending()));
        let status = read_within(slow, Duration::from_millis(50)).await.unwrap_err();
        assert_eq!(
            (status.code, status.message.as_str()),
            (504, "Timeout: the body did not arrive in time")
        );
    }

    #[tokio::test]
    async fn a_body_of_unknown_length_has_the_same_bound() {
        let chunk = Bytes::from(vec![b' '; 64 * 1024]);
        let endless = body::stream(futures::stream::repeat_with(move || Ok(chunk.clone())));
        let status = read(endless).await.unwrap_err();
        assert_eq!(
            (status.code, status.message.as_str()),
            (413, "Request entity too large: limit is 3145728")
        );
    }
}
