//! The protobuf form of objects: the one place that meets the transcoder.
//!
//! There is none yet, so protobuf is neither offered nor taken: clients that accept JSON too get JSON, bodies are
//! refused with 415 as upstream refuses an unknown format.

use kinds::status::Status;
use serde_json::Value;

/// Whether answers may be protobuf.
pub const OFFERED: bool = false;

/// Decodes the envelope of a request body.
pub fn decode(_bytes: &[u8]) -> Result<Value, Status> {
    Err(super::input::unsupported("application/vnd.kubernetes.protobuf"))
}

/// Encodes an answer.
pub fn encode(_value: &Value) -> Result<Vec<u8>, Status> {
    Err(Status::not_acceptable(
        "only the following media types are accepted: application/json, application/yaml",
    ))
}

/// Encodes one event of a watch, with its length before it.
pub fn encode_watch_frame(_event: &str, object: &Value) -> Result<Vec<u8>, Status> {
    encode(object)
}
