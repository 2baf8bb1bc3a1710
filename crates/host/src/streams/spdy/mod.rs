//! SPDY/3.1, as much of it as kubectl and the client libraries speak: streams with header blocks, data, FIN, RST,
//! PING, GOAWAY. No crate has a server for it.
//!
//! - `headers`: name/value blocks and their zlib compression with the protocol's dictionary;
//! - `frame`: frames to and from bytes;
//! - `session`: the two pumps of a connection; [`Session::accept`] gives the client's streams;
//! - `exec`: the streams of an exec or attach as a [`super::Remote`].
//!
//! Flow-control windows are not kept, as neither moby/spdystream (kubectl, kubelet) keeps them: TCP's own holds both
//! sides back.

pub mod exec;
mod frame;
mod headers;
mod session;

pub use session::{Session, Stream, StreamWriter};
