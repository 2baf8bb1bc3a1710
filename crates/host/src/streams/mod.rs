//! Byte streams between kubectl and a container: exec, attach and port-forward over WebSocket and over SPDY/3.1.
//!
//! ```text
//! WebSocket  v5.channel.k8s.io, v4.channel.k8s.io, base64 forms  ── websocket ──┐
//! SPDY/3.1   one SPDY stream each for stdin, stdout, …           ── spdy ───────┴─ Remote: stdin, resize, out
//! WebSocket  SPDY/3.1+portforward.k8s.io: SPDY inside messages   ── tunnel ──── spdy ── port-forward
//! WebSocket  v4.channel.k8s.io: two channels for each port       ── websocket ─ ports ─ port-forward
//! ```
//! Everything is bounded: a slow client blocks its own process's output, nothing else.

pub mod ports;
pub mod remote;
pub mod spdy;
pub mod websocket;

pub use remote::{Answers, Out, Remote, Size, Wanted};

/// Messages that may wait in one direction of one stream.
pub(crate) const QUEUE: usize = 16;
