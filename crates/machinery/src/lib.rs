//! machinery: what can be done with an object, as pure functions on `serde_json::Value` and `kinds::KindInfo`.
//!
//! No I/O, no clock of its own, no state: the API server is its only user in the product.

pub mod openapi;
pub mod protobuf;
pub mod tables;
