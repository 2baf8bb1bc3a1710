//! A session on a stream without connections.
//!
//! A virtio-serial port is one endless pipe: when a host agent dies in the middle of an HTTP/2 frame, the rest of it
//! may still arrive before what the next agent sends. So each session begins with a preamble: the host sends a magic
//! and a nonce, the guest skips everything before the magic and echoes both, the host skips everything before its own
//! echo. From then on both ends are in step and HTTP/2 begins.
//!
//! A guest that did not see the old host go (its VM stood still meanwhile) still has the old session, and takes the
//! preamble for a frame: that ends the session, but the preamble is lost. So the host repeats it until the echo comes, and
//! the guest skips those that come after the one it has answered.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio_stream::StreamExt;
use tonic::transport::server::Connected;
use tonic::transport::{Channel, Endpoint, Server, Uri};

use crate::GuestClient;
use crate::v1::guest_server::{Guest, GuestServer};

/// Begins a preamble. Not a possible start of an HTTP/2 frame of ours.
const MAGIC: [u8; 8] = *b"\x00PVSESS\xff";
/// Magic and nonce.
const PREAMBLE: usize = 16;
/// How long a host waits for its guest.
struct Patience {
    /// How long the guest may take to answer the preamble once it is up.
    answer: Duration,
    /// Between a preamble and the next, until one is answered.
    repeat: Duration,
    /// How long the guest may say nothing before it is asked for a sign of life, and how long it may take to give it: a
    /// session with a guest that hangs ends by itself within the sum, and every call of it with an error.
    sign_after: Duration,
    sign: Duration,
}

const PATIENCE: Patience = Patience {
    answer: Duration::from_secs(10),
    repeat: Duration::from_millis(400),
    sign_after: Duration::from_secs(15),
    sign: Duration::from_secs(30),
};
/// After so many preambles without an answer, what an old session may wait for in the middle of a frame is given to it, once.
const STUCK_AFTER: u32 = 3;
/// The longest frame of a guest's session with its head. After it, zeros are a frame that ends every session.
const FRAME: usize = (16 << 10) + 9;
/// How much of an earlier session may lie in the pipe.
const MAX_STALE_BYTES: usize = 16 << 20;
/// Messages are small but for files of volumes (1 MiB each) and output.
const MAX_MESSAGE: usize = 16 << 20;

/// Why a session could not begin.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The stream broke.
    #[error("the guest's channel broke: {0}")]
    Io(#[from] io::Error),
    /// The guest does not answer.
    #[error("the guest agent does not answer on its channel")]
    NoAnswer,
    /// HTTP/2 could not begin.
    #[error("the guest's channel: {0}")]
    Transport(#[from] tonic::transport::Error),
}

/// Begins a session as the host. `nonce` must differ from that of every other session of the same VM.
pub async fn connect<S>(stream: S, nonce: u64) -> Result<GuestClient, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    connect_within(&PATIENCE, stream, nonce).await
}

async fn connect_within<S>(patience: &Patience, stream: S, nonce: u64) -> Result<GuestClient, ConnectError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    // Skipped byte by byte, but not read so: a guest that sends rubbish would cost the host a system call for each.
    let greeted = tokio::time::timeout(patience.answer, greet(patience, BufReader::new(stream), nonce));
    let stream = greeted.await.map_err(|_| ConnectError::NoAnswer)??;
    let mut once = Some(hyper_util::rt::TokioIo::new(stream));
    // The address is never looked at: there is one stream, and it is there.
    let connector = tower::service_fn(move |_: Uri| {
        let stream = once
            .take()
            .ok_or_else(|| io::Error::from(io::ErrorKind::NotConnected));
        std::future::ready(stream)
    });
    let channel: Channel = Endpoint::from_static("http://guest")
        .http2_keep_alive_interval(patience.sign_after)
        .keep_alive_timeout(patience.sign)
        .keep_alive_while_idle(true)
        .connect_with_connector(connector)
        .await?;
    Ok(GuestClient::new(channel)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE))
}

/// Says the preamble until it is answered.
async fn greet<S: AsyncRead + AsyncWrite + Unpin>(
    patience: &Patience,
    stream: S,
    nonce: u64,
) -> io::Result<S> {
    let preamble = preamble(nonce);
    let (mut reader, mut writer) = tokio::io::split(stream);
    {
        let mut echo = std::pin::pin!(skip_to(&mut reader, &preamble));
        for said in 0_u32.. {
            if said == STUCK_AFTER {
                writer.write_all(&[0; FRAME]).await?;
            }
            writer.write_all(&preamble).await?;
            writer.flush().await?;
            if let Ok(echo) = tokio::time::timeout(patience.repeat, &mut echo).await {
                echo?;
                break;
            }
        }
    }
    Ok(reader.unsplit(writer))
}

/// Serves one session as the guest: waits for a preamble, then for calls until the stream ends.
pub async fn serve<S>(stream: S, guest: impl Guest) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let mut stream = BufReader::new(stream);
    let mut answered = None;
    // HTTP/2 begins with a letter.
    while answered.is_none() || stream.fill_buf().await?.first() == Some(&MAGIC[0]) {
        skip_to(&mut stream, &MAGIC).await?;
        let mut nonce = [0; PREAMBLE - MAGIC.len()];
        stream.read_exact(&mut nonce).await?;
        // Of one that was repeated the host takes a single echo.
        if answered.replace(nonce) != Some(nonce) {
            stream.write_all(&preamble(u64::from_be_bytes(nonce))).await?;
            stream.flush().await?;
        }
    }
    let service = GuestServer::new(guest)
        .max_decoding_message_size(MAX_MESSAGE)
        .max_encoding_message_size(MAX_MESSAGE);
    let (ended, end) = tokio::sync::oneshot::channel::<()>();
    // An end of the incoming connections would end the server, and with it the one there is.
    let session = Session {
        stream,
        _ended: Some(ended),
    };
    let incoming = tokio_stream::once(Ok::<_, io::Error>(session)).chain(tokio_stream::pending());
    let until_end = async {
        let _ = end.await;
    };
    Server::builder()
        .add_service(service)
        .serve_with_incoming_shutdown(incoming, until_end)
        .await
        .map_err(io::Error::other)
}

/// The stream of a session; its drop tells that the session is over.
struct Session<S> {
    stream: S,
    _ended: Option<tokio::sync::oneshot::Sender<()>>,
}

impl<S> Connected for Session<S> {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl<S: AsyncRead + Unpin> AsyncRead for Session<S> {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Session<S> {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        std::pin::Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        std::pin::Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

fn preamble(nonce: u64) -> [u8; PREAMBLE] {
    let mut bytes = [0; PREAMBLE];
    bytes[..MAGIC.len()].copy_from_slice(&MAGIC);
    bytes[MAGIC.len()..].copy_from_slice(&nonce.to_be_bytes());
    bytes
}

/// Reads until `pattern` has been read. Byte by byte: nothing after it may be taken from the stream.
async fn skip_to<S: AsyncRead + Unpin>(stream: &mut S, pattern: &[u8]) -> io::Result<()> {
    let mut window = Vec::with_capacity(pattern.len() + 1);
    for _ in 0..MAX_STALE_BYTES {
        window.push(stream.read_u8().await?);
        if window.len() > pattern.len() {
            window.remove(0);
        }
        if window == pattern {
            return Ok(());
        }
    }
    Err(io::Error::new(
        io::ErrorKind::InvalidData,
        "no session begins on the channel",
    ))
}

#[cfg(test)]
mod tests {
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use tokio::io::ReadBuf;

    use super::*;
    use crate::simulated::SimulatedGuest;
    use crate::v1::HelloRequest;

    #[tokio::test]
    async fn sessions_follow_each_other_and_rubbish_between_them_is_skipped() {
        let guest = SimulatedGuest::new();
        for nonce in 1..=3 {
            let (mut host, inside) = tokio::io::duplex(1 << 16);
            let server = tokio::spawn(serve(inside, guest.clone()));
            host.write_all(b"half a frame \x00PVSES of an earlier life")
                .await
                .expect("written");
            let mut client = connect(host, nonce).await.expect("connected");
            let hello = client
                .hello(HelloRequest {})
                .await
                .expect("answered")
                .into_inner();
            assert!(!hello.boot_id.is_empty());
            drop(client);
            server.await.expect("no panic").expect("ended in order");
        }
    }

    /// Less patience than in earnest where a test waits for its end, and enough for a machine that has other work, too.
    const LITTLE: Patience = Patience {
        answer: Duration::from_secs(20),
        repeat: Duration::from_millis(50),
        sign_after: Duration::from_millis(200),
        sign: Duration::from_secs(2),
    };

    /// A port: one stream, whatever sessions come and go.
    #[derive(Clone)]
    struct Port(std::sync::Arc<std::sync::Mutex<tokio::io::DuplexStream>>);

    impl AsyncRead for Port {
        fn poll_read(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            buffer: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            Pin::new(&mut *self.0.lock().expect("not poisoned")).poll_read(context, buffer)
        }
    }

    impl AsyncWrite for Port {
        fn poll_write(
            self: Pin<&mut Self>,
            context: &mut Context<'_>,
            bytes: &[u8],
        ) -> Poll<io::Result<usize>> {
            Pin::new(&mut *self.0.lock().expect("not poisoned")).poll_write(context, bytes)
        }

        fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut *self.0.lock().expect("not poisoned")).poll_flush(context)
        }

        fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
            Poll::Ready(Ok(()))
        }
    }

    /// The guest did not see the host of before go, whose last frame may be half there.
    #[tokio::test]
    async fn the_next_host_is_heard_over_the_session_of_the_last() {
        let patience = Patience {
            sign_after: Duration::from_secs(60),
            ..LITTLE
        };
        let frame = [0, 0x30, 0, 0, 0, 0, 0, 0, 1, b'h', b'a', b'l', b'f'];
        for (case, last) in [&frame[..0], &frame[..7], &frame[..]].into_iter().enumerate() {
            let (mut host, inside) = tokio::io::duplex(1 << 16);
            let port = Port(std::sync::Arc::new(std::sync::Mutex::new(inside)));
            tokio::spawn(async move {
                loop {
                    // How a session ended that nobody listens to any more is not told.
                    let _ = serve(port.clone(), SimulatedGuest::new()).await;
                }
            });
            host.write_all(&preamble(1)).await.expect("written");
            host.read_exact(&mut [0; PREAMBLE]).await.expect("echoed");
            let begin = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
            host.write_all(&[&begin[..], last].concat())
                .await
                .expect("written");
            let connected = connect_within(&patience, host, 2).await;
            let mut client = connected.unwrap_or_else(|error| panic!("case {case}: {error}"));
            client.hello(HelloRequest {}).await.expect("answered");
        }
    }

    #[tokio::test]
    async fn a_session_with_a_guest_that_hangs_ends() {
        let (host, mut near) = tokio::io::duplex(1 << 16);
        let (mut far, inside) = tokio::io::duplex(1 << 16);
        tokio::spawn(serve(inside, SimulatedGuest::new()));
        let mut client = tokio::select! {
            client = connect_within(&LITTLE, host, 1) => client.expect("connected"),
            _ = tokio::io::copy_bidirectional(&mut near, &mut far) => panic!("the session ended too early"),
        };
        // Nobody carries bytes any more, but both ends of the channel stay open.
        let hello = tokio::time::timeout(Duration::from_secs(60), client.hello(HelloRequest {}));
        assert!(hello.await.expect("the session ends by itself").is_err());
    }

    #[tokio::test]
    async fn a_silent_guest_is_reported() {
        let (host, _inside) = tokio::io::duplex(64);
        let patience = Patience {
            answer: Duration::from_millis(50),
            ..LITTLE
        };
        assert!(matches!(
            connect_within(&patience, host, 1).await,
            Err(ConnectError::NoAnswer)
        ));
    }
}
