//! Exec and attach over WebSocket: `[v5|v4].channel.k8s.io`, where the first byte of a message names the channel, and
//! the base64 forms, where it is a digit and the rest is base64 text (KEP-4006, `apimachinery/pkg/util/httpstream`).

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, DuplexStream};
use tokio::sync::mpsc;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Message, handshake::derive_accept_key};
use tokio_util::sync::CancellationToken;

use super::{Answers, Out, QUEUE, Remote, Size, Wanted};

const STDIN: u8 = 0;
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const ERROR: u8 = 3;
const RESIZE: u8 = 4;
/// v5: the next byte names a channel that the client has closed.
const CLOSE: u8 = 255;

/// The largest message of a client: kubectl sends 32 KiB at most.
const MAX_MESSAGE: usize = 4 << 20;

/// How messages are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subprotocol {
    /// Bytes.
    Binary {
        /// v5: a client may half-close.
        half_close: bool,
        /// v4 and later: the end is a `Status`, and not only words when something failed.
        status: bool,
    },
    /// Text.
    Base64 {
        /// Likewise.
        status: bool,
    },
}

impl Subprotocol {
    /// The channel and the bytes of a message; nothing when it is empty. What kind of message it is, text or bytes, does not
    /// matter: some clients send the same channels in either.
    ///
    /// # Errors
    /// When what should be base64 is not.
    pub fn unpack(self, message: Message) -> Result<Option<(u8, Bytes)>, base64::DecodeError> {
        let data = match message {
            Message::Binary(data) => data,
            Message::Text(text) => Bytes::from(text),
            _ => return Ok(None),
        };
        let Some(first) = data.first().copied() else {
            return Ok(None);
        };
        Ok(Some(match self {
            Self::Binary { .. } => (first, data.slice(1..)),
            Self::Base64 { .. } => (first.wrapping_sub(b'0'), STANDARD.decode(&data[1..])?.into()),
        }))
    }

    /// A message of a channel.
    pub fn pack(self, channel: u8, data: &[u8]) -> Message {
        match self {
            Self::Binary { .. } => {
                let mut bytes = BytesMut::with_capacity(data.len() + 1);
                bytes.extend_from_slice(&[channel]);
                bytes.extend_from_slice(data);
                Message::Binary(bytes.freeze())
            }
            Self::Base64 { .. } => {
                let mut text = String::with_capacity(data.len() * 4 / 3 + 5);
                text.push(char::from(b'0' + channel));
                STANDARD.encode_string(data, &mut text);
                Message::Text(text.into())
            }
        }
    }

    /// What the error channel says at the end.
    fn last_words(self, status: &serde_json::Value) -> Option<String> {
        match self {
            Self::Binary { status: true, .. } | Self::Base64 { status: true } => Some(status.to_string()),
            _ if status["status"] == "Success" => None,
            _ => Some(status["message"].as_str().unwrap_or_default().to_owned()),
        }
    }
}

/// The name of a subprotocol, and its meaning. The best come first.
type Known = [(&'static str, Subprotocol)];

const fn binary(half_close: bool, status: bool) -> Subprotocol {
    Subprotocol::Binary { half_close, status }
}

/// Chooses among the offered subprotocols: the name to answer with, and its meaning.
pub fn choose(offered: &[&str]) -> Option<(&'static str, Subprotocol)> {
    const KNOWN: &Known = &[
        ("v5.channel.k8s.io", binary(true, true)),
        ("v4.channel.k8s.io", binary(false, true)),
        ("v4.base64.channel.k8s.io", Subprotocol::Base64 { status: true }),
        ("channel.k8s.io", binary(false, false)),
        ("base64.channel.k8s.io", Subprotocol::Base64 { status: false }),
    ];
    best(KNOWN, offered)
}

/// Likewise for forwarded ports.
pub fn choose_ports(offered: &[&str]) -> Option<(&'static str, Subprotocol)> {
    const KNOWN: &Known = &[
        ("v4.channel.k8s.io", binary(false, true)),
        ("v4.base64.channel.k8s.io", Subprotocol::Base64 { status: true }),
    ];
    best(KNOWN, offered)
}

/// Likewise for a stream that is only read, without channels.
pub fn choose_reader(offered: &[&str]) -> Option<(&'static str, Subprotocol)> {
    const KNOWN: &Known = &[
        ("binary.k8s.io", binary(false, false)),
        ("base64.binary.k8s.io", Subprotocol::Base64 { status: false }),
    ];
    best(KNOWN, offered)
}

/// Offering none means bytes, and is answered with none.
fn best(known: &Known, offered: &[&str]) -> Option<(&'static str, Subprotocol)> {
    if offered.iter().all(|name| name.is_empty()) {
        return Some(("", binary(false, false)));
    }
    known.iter().copied().find(|(name, _)| offered.contains(name))
}

/// Sends what comes, each chunk as a message, and closes (`wsstream.Reader`). Ends early when the client does.
pub async fn send<S>(io: S, protocol: Subprotocol, mut chunks: mpsc::Receiver<Bytes>)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let (mut sink, mut stream) = open(io).await.split();
    let pack = |data: &[u8]| match protocol {
        Subprotocol::Binary { .. } => Message::Binary(Bytes::copy_from_slice(data)),
        Subprotocol::Base64 { .. } => Message::Text(STANDARD.encode(data).into()),
    };
    // An empty message tells that the connection stands.
    if sink.send(pack(b"")).await.is_err() {
        return;
    }
    let mut talking = true;
    loop {
        tokio::select! {
            chunk = chunks.recv() => match chunk {
                Some(chunk) => if sink.send(pack(&chunk)).await.is_err() {
                    return;
                },
                None => break,
            },
            // What a client says does not matter, but its end does.
            message = stream.next(), if talking => match message {
                Some(Ok(Message::Close(_))) | None => return,
                Some(Ok(_)) => {}
                Some(Err(_)) => talking = false,
            },
        }
    }
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    let _ = sink.send(Message::Close(Some(close))).await;
    let end = async { while let Some(Ok(_)) = stream.next().await {} };
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), end).await;
    let _ = sink.close().await;
}

/// The value of `Sec-WebSocket-Accept`.
pub fn accept_key(key: &[u8]) -> String {
    derive_accept_key(key)
}

pub(super) async fn open<S: AsyncRead + AsyncWrite + Unpin>(io: S) -> WebSocketStream<S> {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX_MESSAGE))
        .max_frame_size(Some(MAX_MESSAGE));
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// Starts the two pumps of an upgraded connection.
pub async fn remote<S>(io: S, protocol: Subprotocol, wanted: Wanted) -> Remote
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (sink, stream) = open(io).await.split();
    let (stdin_tx, stdin) = mpsc::channel(QUEUE);
    let (resize_tx, resize) = mpsc::channel(QUEUE);
    let (out, out_rx) = mpsc::channel(QUEUE);
    let gone = CancellationToken::new();
    let closed = CancellationToken::new();
    let reading = read(
        stream,
        protocol,
        wanted.stdin.then_some(stdin_tx),
        resize_tx,
        gone.clone(),
    );
    let over = closed.clone();
    tokio::spawn(async move { over.run_until_cancelled(reading).await });
    let writer = tokio::spawn({
        let gone = gone.clone();
        async move {
            write(sink, protocol, wanted, out_rx, gone.clone()).await;
            // A client that does not answer the close holds the connection no longer.
            if !gone.is_cancelled() {
                closed.cancel();
            }
        }
    });
    Remote {
        stdin,
        resize,
        answers: Answers { out, gone, writer },
    }
}

async fn read<S>(
    mut stream: SplitStream<WebSocketStream<S>>,
    protocol: Subprotocol,
    mut stdin: Option<mpsc::Sender<Bytes>>,
    resize: mpsc::Sender<Size>,
    gone: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let _guard = gone.drop_guard();
    while let Some(Ok(message)) = stream.next().await {
        if message.is_close() {
            break;
        }
        let (channel, data) = match protocol.unpack(message) {
            Ok(Some(unpacked)) => unpacked,
            Ok(None) => continue,
            Err(_) => break,
        };
        match channel {
            STDIN => {
                if let Some(sender) = &stdin
                    && !data.is_empty()
                    && sender.send(data).await.is_err()
                {
                    stdin = None;
                }
            }
            RESIZE => {
                if let Ok(size) = serde_json::from_slice(&data) {
                    // A full queue means that newer sizes follow; none of them is worth waiting for.
                    let _ = resize.try_send(size);
                }
            }
            CLOSE
                if matches!(protocol, Subprotocol::Binary { half_close: true, .. })
                    && data.first() == Some(&STDIN) =>
            {
                stdin = None;
            }
            _ => {}
        }
    }
}

async fn write<S>(
    mut sink: SplitSink<WebSocketStream<S>, Message>,
    protocol: Subprotocol,
    wanted: Wanted,
    mut out: mpsc::Receiver<Out>,
    gone: CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
{
    // An empty message at the start tells the client that the streams stand.
    let first = if wanted.stdout { STDOUT } else { ERROR };
    if sink.send(protocol.pack(first, b"")).await.is_err() {
        gone.cancel();
        return;
    }
    while let Some(item) = out.recv().await {
        let last = matches!(item, Out::Finish(_));
        let message = match item {
            Out::Stdout(data) if wanted.stdout => protocol.pack(STDOUT, &data),
            Out::Stderr(data) if wanted.stderr => protocol.pack(STDERR, &data),
            Out::Stdout(_) | Out::Stderr(_) => continue,
            Out::Finish(status) => match protocol.last_words(&status) {
                Some(words) => protocol.pack(ERROR, words.as_bytes()),
                None => break,
            },
        };
        if sink.send(message).await.is_err() {
            gone.cancel();
            return;
        }
        if last {
            break;
        }
    }
    close(sink, &gone).await;
}

/// Says that this is the end, and gives the client time to read everything and to answer; the reader notices that.
pub(super) async fn close<S>(mut sink: SplitSink<WebSocketStream<S>, Message>, gone: &CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let close = CloseFrame {
        code: CloseCode::Normal,
        reason: "".into(),
    };
    let _ = sink.send(Message::Close(Some(close))).await;
    let _ = tokio::time::timeout(std::time::Duration::from_secs(5), gone.cancelled()).await;
    let _ = sink.close().await;
}

/// A plain byte stream carried in binary messages: how port-forward tunnels SPDY over WebSocket.
pub async fn tunnel<S>(io: S) -> DuplexStream
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sink, mut stream) = open(io).await.split();
    let (near, far) = tokio::io::duplex(256 << 10);
    let (mut from_near, mut to_near) = tokio::io::split(near);
    tokio::spawn(async move {
        while let Some(Ok(message)) = stream.next().await {
            let data = match message {
                Message::Binary(data) => data,
                Message::Close(_) => break,
                _ => continue,
            };
            if to_near.write_all(&data).await.is_err() {
                break;
            }
        }
        let _ = to_near.shutdown().await;
    });
    tokio::spawn(async move {
        let mut buffer = BytesMut::with_capacity(32 << 10);
        let result: io::Result<()> = async {
            loop {
                buffer.reserve(32 << 10);
                if from_near.read_buf(&mut buffer).await? == 0 {
                    return Ok(());
                }
                let data = buffer.split().freeze();
                sink.send(Message::Binary(data)).await.map_err(io::Error::other)?;
            }
        }
        .await;
        if result.is_ok() {
            let _ = sink.send(Message::Close(None)).await;
        }
        let _ = sink.close().await;
    });
    far
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_protocol_wins() {
        let cases: [(&[&str], Option<&str>); 5] = [
            (
                &["v4.channel.k8s.io", "v5.channel.k8s.io"],
                Some("v5.channel.k8s.io"),
            ),
            (&["v4.channel.k8s.io"], Some("v4.channel.k8s.io")),
            (&["base64.channel.k8s.io"], Some("base64.channel.k8s.io")),
            (&["v9.channel.k8s.io"], None),
            (&[], Some("")),
        ];
        for (offered, expected) in cases {
            assert_eq!(choose(offered).map(|(name, _)| name), expected, "{offered:?}");
        }
    }

    async fn client(io: DuplexStream) -> WebSocketStream<DuplexStream> {
        WebSocketStream::from_raw_socket(io, Role::Client, None).await
    }

    #[tokio::test]
    async fn v5_with_half_close() {
        let (near, far) = tokio::io::duplex(64 << 10);
        let wanted = Wanted {
            stdin: true,
            stdout: true,
            stderr: true,
            tty: false,
        };
        let (_, protocol) = choose(&["v5.channel.k8s.io"]).expect("known");
        let mut remote = remote(near, protocol, wanted).await;
        let mut client = client(far).await;
        let first = client.next().await.expect("a message").expect("valid");
        assert_eq!(first.into_data(), Bytes::from_static(&[STDOUT]));
        for data in [
            &b"\x00hello"[..],
            &b"\x04{\"Width\":80,\"Height\":24}"[..],
            &b"\xff\x00"[..],
        ] {
            client
                .send(Message::Binary(Bytes::from_static(data)))
                .await
                .expect("sent");
        }
        assert_eq!(remote.stdin.recv().await.as_deref(), Some(&b"hello"[..]));
        assert_eq!(remote.stdin.recv().await, None, "half-closed");
        assert_eq!(
            remote.resize.recv().await,
            Some(Size {
                width: 80,
                height: 24
            })
        );
        remote
            .answers
            .out
            .send(Out::Stderr(Bytes::from_static(b"oops")))
            .await
            .expect("open");
        let finish = tokio::spawn(remote.answers.finish(super::super::remote::exit_status(3)));
        let next = client.next().await.expect("a message").expect("valid");
        assert_eq!(next.into_data(), Bytes::from_static(b"\x02oops"));
        let status = client
            .next()
            .await
            .expect("a message")
            .expect("valid")
            .into_data();
        assert_eq!(status[0], ERROR);
        assert!(String::from_utf8_lossy(&status).contains("NonZeroExitCode"));
        assert!(client.next().await.expect("a message").expect("valid").is_close());
        // The close is answered by reading on.
        assert!(client.next().await.is_none_or(|last| last.is_err()));
        finish.await.expect("done");
    }

    #[test]
    fn channels_come_in_bytes_and_in_text() {
        type Unpacked = Option<(u8, &'static [u8])>;
        let cases: [(&str, Message, Unpacked); 5] = [
            (
                "v4.channel.k8s.io",
                Message::Binary(Bytes::from_static(b"\x00ab")),
                Some((0, b"ab")),
            ),
            // The Python client sends texts so.
            (
                "v5.channel.k8s.io",
                Message::Text("\u{0}ab".into()),
                Some((0, b"ab")),
            ),
            (
                "base64.channel.k8s.io",
                Message::Text("0YWI=".into()),
                Some((0, b"ab")),
            ),
            (
                "base64.channel.k8s.io",
                Message::Binary(Bytes::from_static(b"4YWI=")),
                Some((4, b"ab")),
            ),
            ("v4.channel.k8s.io", Message::Binary(Bytes::new()), None),
        ];
        for (name, message, expected) in cases {
            let (_, protocol) = choose(&[name]).expect("known");
            let unpacked = protocol.unpack(message.clone()).expect("valid");
            let unpacked = unpacked.as_ref().map(|(channel, data)| (*channel, &data[..]));
            assert_eq!(unpacked, expected, "{name} {message:?}");
        }
        let (_, base64) = choose(&["base64.channel.k8s.io"]).expect("known");
        assert!(base64.unpack(Message::Text("0%".into())).is_err());
    }

    #[test]
    fn old_protocols_end_without_a_status() {
        use super::super::remote::exit_status;
        let of = |name: &str, code| {
            let (_, protocol) = choose(&[name]).expect("known");
            protocol.last_words(&exit_status(code))
        };
        assert_eq!(of("channel.k8s.io", 0), None);
        let words = "command terminated with non-zero exit code: command terminated with exit code 3";
        assert_eq!(of("base64.channel.k8s.io", 3).as_deref(), Some(words));
        assert!(of("v4.channel.k8s.io", 0).is_some_and(|text| text.contains("Success")));
    }

    #[tokio::test]
    async fn a_log_in_messages() {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (chunks, receiver) = mpsc::channel(4);
        let (_, protocol) = choose_reader(&["binary.k8s.io"]).expect("known");
        let sender = tokio::spawn(send(near, protocol, receiver));
        let mut client = client(far).await;
        chunks.send(Bytes::from_static(b"one\n")).await.expect("open");
        drop(chunks);
        let mut heard = Vec::new();
        while let Some(Ok(message)) = client.next().await {
            if message.is_close() {
                break;
            }
            heard.extend_from_slice(&message.into_data());
        }
        assert_eq!(heard, b"one\n");
        drop(client);
        sender.await.expect("done");
        assert_eq!(choose_reader(&[]).map(|(name, _)| name), Some(""));
        assert_eq!(choose_reader(&["v4.channel.k8s.io"]), None);
    }

    #[tokio::test]
    async fn tunnels_bytes() {
        let (near, far) = tokio::io::duplex(64 << 10);
        let mut inner = tunnel(near).await;
        let mut client = client(far).await;
        client
            .send(Message::Binary(Bytes::from_static(b"ping")))
            .await
            .expect("sent");
        let mut buffer = [0; 4];
        inner.read_exact(&mut buffer).await.expect("read");
        inner.write_all(b"pong").await.expect("written");
        assert_eq!(&buffer, b"ping");
        let answer = client.next().await.expect("a message").expect("valid");
        assert_eq!(answer.into_data(), Bytes::from_static(b"pong"));
        drop(client);
        assert_eq!(inner.read(&mut buffer).await.expect("ended"), 0);
    }
}
