//! One SPDY connection: a reader that hands out streams and their data, a writer that owns the compression state.

use std::collections::HashMap;
use std::io;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::frame::{Frame, decode, encode};
use super::headers::{Decoder, Encoder, Headers};
use crate::streams::QUEUE;

/// Streams that a client may have open at one time.
const MAX_STREAMS: usize = 512;
/// Data is cut into frames of this size.
const CHUNK: usize = 32 << 10;
/// Status code REFUSED_STREAM.
const REFUSED: u32 = 3;
/// Status code CANCEL.
const CANCEL: u32 = 5;

/// A stream that the client opened.
#[derive(Debug)]
pub struct Stream {
    /// Its id.
    pub id: u32,
    /// Its headers, names in lower case.
    pub headers: Headers,
    /// Its data; ends with FIN, RST or the connection.
    pub data: mpsc::Receiver<Bytes>,
    /// The way back.
    pub writer: StreamWriter,
}

impl Stream {
    /// The value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Writes to one stream.
#[derive(Debug, Clone)]
pub struct StreamWriter {
    id: u32,
    frames: mpsc::Sender<Frame>,
}

impl StreamWriter {
    /// Sends bytes; waits while the connection is busy.
    pub async fn write(&self, data: Bytes) -> io::Result<()> {
        let mut rest = data;
        while !rest.is_empty() {
            let chunk = rest.split_to(rest.len().min(CHUNK));
            self.send(Frame::Data {
                id: self.id,
                fin: false,
                data: chunk,
            })
            .await?;
        }
        Ok(())
    }

    /// Says that no more will come.
    pub async fn finish(&self) -> io::Result<()> {
        self.send(Frame::Data {
            id: self.id,
            fin: true,
            data: Bytes::new(),
        })
        .await
    }

    /// Breaks the stream off.
    pub async fn reset(&self) -> io::Result<()> {
        self.send(Frame::RstStream {
            id: self.id,
            code: CANCEL,
        })
        .await
    }

    async fn send(&self, frame: Frame) -> io::Result<()> {
        self.frames
            .send(frame)
            .await
            .map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A connection.
#[derive(Debug)]
pub struct Session {
    streams: mpsc::Receiver<Stream>,
    frames: mpsc::Sender<Frame>,
    writer: tokio::task::JoinHandle<()>,
    /// Cancelled when the client is gone.
    pub gone: CancellationToken,
}

impl Session {
    /// Starts the pumps.
    pub fn new<S>(io: S) -> Self
    where
        S: AsyncRead + AsyncWrite + Send + 'static,
    {
        let (read_half, write_half) = tokio::io::split(io);
        let (streams_tx, streams) = mpsc::channel(QUEUE);
        let (frames, frames_rx) = mpsc::channel(QUEUE);
        let gone = CancellationToken::new();
        tokio::spawn(read(read_half, streams_tx, frames.downgrade(), gone.clone()));
        let writer = tokio::spawn(write(write_half, frames_rx));
        Self {
            streams,
            frames,
            writer,
            gone,
        }
    }

    /// The next stream of the client; `None` when the connection ended.
    pub async fn accept(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }

    /// The task that writes: it ends when all writers are dropped and everything is sent.
    pub fn into_writer(self) -> tokio::task::JoinHandle<()> {
        drop(self.frames);
        self.writer
    }
}

async fn read<R: AsyncRead + Unpin>(
    mut io: R,
    streams: mpsc::Sender<Stream>,
    frames: mpsc::WeakSender<Frame>,
    gone: CancellationToken,
) {
    let _guard = gone.drop_guard();
    let mut decoder = Decoder::default();
    let mut buffer = BytesMut::with_capacity(64 << 10);
    let mut open: HashMap<u32, mpsc::Sender<Bytes>> = HashMap::new();
    loop {
        let frame = match decode(&mut buffer, &mut decoder) {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                buffer.reserve(CHUNK);
                match io.read_buf(&mut buffer).await {
                    Ok(read) if read > 0 => continue,
                    _ => return,
                }
            }
            Err(error) => {
                tracing::debug!(%error, "a SPDY client broke the protocol");
                return;
            }
        };
        let Some(frames) = frames.upgrade() else {
            // Our side is done; what the client still says is not wanted, but must be read until it closes.
            continue;
        };
        match frame {
            Frame::SynStream { id, fin, headers } => {
                open.retain(|_, sender| !sender.is_closed());
                if open.len() >= MAX_STREAMS {
                    let _ = frames.send(Frame::RstStream { id, code: REFUSED }).await;
                    continue;
                }
                let reply = Frame::SynReply {
                    id,
                    headers: Headers::new(),
                };
                let (sender, data) = mpsc::channel(QUEUE);
                if !fin {
                    open.insert(id, sender);
                }
                let stream = Stream {
                    id,
                    headers,
                    data,
                    writer: StreamWriter {
                        id,
                        frames: frames.clone(),
                    },
                };
                if frames.send(reply).await.is_err() || streams.send(stream).await.is_err() {
                    open.remove(&id);
                }
            }
            Frame::Data { id, fin, data } => {
                if let Some(sender) = open.get(&id)
                    && !data.is_empty()
                {
                    // A stream whose reader is gone drops its data.
                    let _ = sender.send(data).await;
                }
                if fin {
                    open.remove(&id);
                }
            }
            Frame::RstStream { id, .. } => {
                open.remove(&id);
            }
            // Odd ids are the client's.
            Frame::Ping(id) if id % 2 == 1 => {
                let _ = frames.send(Frame::Ping(id)).await;
            }
            Frame::Ping(_) | Frame::SynReply { .. } | Frame::GoAway { .. } | Frame::Other => {}
        }
    }
}

async fn write<W: AsyncWrite + Unpin>(mut io: W, mut frames: mpsc::Receiver<Frame>) {
    let mut encoder = Encoder::default();
    let mut buffer = BytesMut::with_capacity(64 << 10);
    while let Some(frame) = frames.recv().await {
        if encode(&frame, &mut encoder, &mut buffer).is_err() {
            break;
        }
        // What else is ready goes out with it.
        while buffer.len() < CHUNK
            && let Ok(frame) = frames.try_recv()
        {
            if encode(&frame, &mut encoder, &mut buffer).is_err() {
                break;
            }
        }
        if io.write_all_buf(&mut buffer).await.is_err() || io.flush().await.is_err() {
            break;
        }
    }
    let _ = io.shutdown().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client end that speaks frames.
    struct Client {
        io: tokio::io::DuplexStream,
        encoder: Encoder,
        decoder: Decoder,
        buffer: BytesMut,
    }

    impl Client {
        async fn send(&mut self, frame: Frame) {
            let mut out = BytesMut::new();
            encode(&frame, &mut self.encoder, &mut out).expect("encoded");
            self.io.write_all(&out).await.expect("sent");
        }

        async fn receive(&mut self) -> Option<Frame> {
            loop {
                if let Some(frame) = decode(&mut self.buffer, &mut self.decoder).expect("decoded") {
                    return Some(frame);
                }
                if self.io.read_buf(&mut self.buffer).await.expect("read") == 0 {
                    return None;
                }
            }
        }
    }

    #[tokio::test]
    async fn streams_both_ways() {
        let (near, io) = tokio::io::duplex(64 << 10);
        let mut session = Session::new(near);
        let mut client = Client {
            io,
            encoder: Encoder::default(),
            decoder: Decoder::default(),
            buffer: BytesMut::new(),
        };
        client
            .send(Frame::SynStream {
                id: 1,
                fin: false,
                headers: vec![("port".into(), "80".into())],
            })
            .await;
        client
            .send(Frame::Data {
                id: 1,
                fin: true,
                data: Bytes::from_static(b"GET"),
            })
            .await;
        client.send(Frame::Ping(1)).await;
        let mut stream = session.accept().await.expect("a stream");
        assert_eq!(stream.header("port"), Some("80"));
        assert_eq!(stream.data.recv().await.as_deref(), Some(&b"GET"[..]));
        assert_eq!(stream.data.recv().await, None);
        let large = Bytes::from(vec![b'x'; 100_000]);
        let writer = stream.writer.clone();
        tokio::spawn(async move {
            writer.write(large).await.expect("written");
            writer.finish().await.expect("finished");
        });
        let mut received = 0;
        let mut seen = Vec::new();
        loop {
            match client.receive().await.expect("a frame") {
                Frame::Data { fin: true, .. } => break,
                Frame::Data { data, .. } => received += data.len(),
                frame => seen.push(frame),
            }
        }
        assert_eq!(received, 100_000);
        assert_eq!(
            seen,
            [
                Frame::SynReply {
                    id: 1,
                    headers: vec![]
                },
                Frame::Ping(1)
            ]
        );
        drop(stream);
        session.into_writer().await.expect("ended");
        assert_eq!(client.receive().await, None);
    }
}
