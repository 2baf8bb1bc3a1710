//! The protobuf form of built-in objects: the one place that meets the transcoder.

use kinds::status::Status;
use machinery::protobuf;
use serde_json::Value;

/// Whether answers may be protobuf.
pub const OFFERED: bool = true;

/// Decodes the envelope of a request body.
pub fn decode(bytes: &[u8]) -> Result<Value, Status> {
    protobuf::decode(bytes).map_err(|error| Status::bad_request(error.to_string()))
}

/// Encodes an answer.
pub fn encode(value: &Value) -> Result<Vec<u8>, Status> {
    protobuf::encode(value).map_err(|error| Status::not_acceptable(error.to_string()))
}

/// Encodes one event of a watch, with its length before it.
pub fn encode_watch_frame(event: &str, object: &Value) -> Result<Vec<u8>, Status> {
    protobuf::encode_watch_frame(event, object).map_err(|error| Status::not_acceptable(error.to_string()))
}
