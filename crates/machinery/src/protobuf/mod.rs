//! Protobuf in both directions for built-in kinds.

mod wire;

pub use wire::{Content, Reader, WireError, Writer};
