//! Bytes on a TCP connection, as a client sends them that keeps to no rules: HTTP/1 by hand, HTTP/2 frame by frame.

#![allow(clippy::unwrap_used)]
#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Time that any answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// A connection.
pub struct Raw(pub TcpStream);

/// A frame of HTTP/2 (RFC 9113, 4.1).
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub stream: u32,
    pub payload: Vec<u8>,
}

pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const GOAWAY: u8 = 7;
pub const WINDOW_UPDATE: u8 = 8;
pub const CONTINUATION: u8 = 9;
/// Flags of HEADERS.
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;

/// Encodes a frame.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    out.extend([kind, flags]);
    out.extend(stream.to_be_bytes());
    out.extend(payload);
    out
}

/// The header block of a GET, without Huffman and table (RFC 7541).
pub fn get(path: &str) -> Vec<u8> {
    assert!(path.len() < 127);
    let mut out = vec![0x82, 0x86, 0x04, path.len() as u8];
    out.extend(path.as_bytes());
    out.extend([0x01, 1, b'x']);
    out
}

/// A four-byte number in a payload.
pub fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(payload[..4].try_into().unwrap())
}

impl Raw {
    pub async fn connect(address: SocketAddr) -> Raw {
        Raw(TcpStream::connect(address).await.unwrap())
    }

    /// A connection that has begun to speak HTTP/2.
    pub async fn http2(address: SocketAddr) -> Raw {
        let mut raw = Raw::connect(address).await;
        raw.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await;
        raw.send(&frame(SETTINGS, 0, 0, &[])).await;
        raw
    }

    pub async fn send(&mut self, bytes: &[u8]) {
        // The other end may have had enough already.
        let _ = tokio::time::timeout(LIMIT, self.0.write_all(bytes))
            .await
            .unwrap();
    }

    /// Head and body of an HTTP/1 answer with a length; `None` at the end of the connection.
    pub async fn answer(&mut self) -> Option<(u16, String, String)> {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.byte().await?);
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let code = head.split(' ').nth(1).unwrap().parse().unwrap();
        let length = head
            .lines()
            .find_map(|l| l.strip_prefix("content-length: ")?.parse().ok());
        let mut body = vec![0; length.unwrap_or(0)];
        self.0.read_exact(&mut body).await.unwrap();
        Some((code, head, String::from_utf8_lossy(&body).into_owned()))
    }

    async fn byte(&mut self) -> Option<u8> {
        let read = tokio::time::timeout(LIMIT, self.0.read_u8()).await;
        read.expect("an answer in time").ok()
    }

    /// The next frame; `None` at the end of the connection.
    pub async fn frame(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        let read = tokio::time::timeout(LIMIT, self.0.read_exact(&mut head)).await;
        read.expect("a frame in time").ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame {
            kind: head[3],
            stream: number(&head[5..]),
            payload,
        })
    }

    /// Bytes until the end of the connection.
    pub async fn rest(&mut self) -> usize {
        let mut buffer = vec![0; 1 << 16];
        let mut all = 0;
        loop {
            let read = tokio::time::timeout(LIMIT, self.0.read(&mut buffer)).await;
            match read.expect("the end in time") {
                Ok(0) | Err(_) => return all,
                Ok(n) => all += n,
            }
        }
    }
}
