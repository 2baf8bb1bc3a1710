//! The HTTP side: bodies, content negotiation, query options, answers. Nothing here knows what a request does.

pub mod body;
pub mod compress;
pub mod input;
pub mod negotiate;
pub mod options;
pub mod protobuf;

pub use body::{Body, BoxError, Response};
