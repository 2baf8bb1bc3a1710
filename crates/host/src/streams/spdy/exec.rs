//! Exec and attach over SPDY: the client opens one stream each for `error`, `stdin`, `stdout`, `stderr`, `resize`.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;

use super::{Session, Stream};
use crate::streams::{Answers, Out, QUEUE, Remote, Size, Wanted};

/// How long a client may take to open its streams (kubelet: `streamCreationTimeout`).
const CREATION: Duration = Duration::from_secs(30);

/// Chooses among `X-Stream-Protocol-Version`s.
pub fn choose(offered: &[&str]) -> Option<&'static str> {
    // v4 brought exit codes as a Status; nothing older than Kubernetes 1.5 lacks it. v5 adds nothing over SPDY.
    ["v5.channel.k8s.io", "v4.channel.k8s.io"]
        .into_iter()
        .find(|name| offered.contains(name))
}

/// Waits for the client's streams and joins them.
pub async fn remote<S>(connection: S, wanted: Wanted) -> io::Result<Remote>
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut session = Session::new(connection);
    let names: Vec<&str> = [
        ("error", true),
        ("stdin", wanted.stdin),
        ("stdout", wanted.stdout),
        ("stderr", wanted.stderr && !wanted.tty),
        ("resize", wanted.tty),
    ]
    .into_iter()
    .filter_map(|(name, wanted)| wanted.then_some(name))
    .collect();
    let mut streams: Vec<(&str, Stream)> = Vec::new();
    let collect = async {
        while streams.len() < names.len() {
            let stream = session.accept().await.ok_or(io::ErrorKind::UnexpectedEof)?;
            let kind = stream.header("streamtype").unwrap_or_default();
            if let Some(name) = names.iter().find(|name| **name == kind) {
                streams.push((name, stream));
            }
        }
        Ok::<_, io::Error>(())
    };
    tokio::time::timeout(CREATION, collect)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let gone = session.gone.clone();
    let mut take = |wanted: &str| {
        let at = streams.iter().position(|(name, _)| *name == wanted)?;
        Some(streams.swap_remove(at).1)
    };
    let error = take("error");
    let stdin = take("stdin").map_or_else(|| mpsc::channel(1).1, |stream| stream.data);
    let (resize_tx, resize) = mpsc::channel(QUEUE);
    if let Some(stream) = take("resize") {
        tokio::spawn(sizes(stream.data, resize_tx));
    }
    let (out, mut items) = mpsc::channel(QUEUE);
    let writers = (
        take("stdout").map(|stream| stream.writer),
        take("stderr").map(|stream| stream.writer),
        error.map(|stream| stream.writer),
    );
    let writer = tokio::spawn(async move {
        let (stdout, stderr, error) = writers;
        while let Some(item) = items.recv().await {
            let sent = match (item, &stdout, &stderr, &error) {
                (Out::Stdout(data), Some(writer), _, _) | (Out::Stderr(data), _, Some(writer), _) => {
                    writer.write(data).await
                }
                (Out::Finish(status), _, _, Some(writer)) => {
                    // The output is complete before the verdict closes the connection.
                    for stream in [&stdout, &stderr].into_iter().flatten() {
                        let _ = stream.finish().await;
                    }
                    let _ = writer.write(Bytes::from(status.to_string())).await;
                    let _ = writer.finish().await;
                    break;
                }
                _ => Ok(()),
            };
            if sent.is_err() {
                break;
            }
        }
        drop((stdout, stderr, error));
        let _ = session.into_writer().await;
    });
    Ok(Remote {
        stdin,
        resize,
        answers: Answers { out, gone, writer },
    })
}

/// Reads sizes: JSON values one after another, however they are cut into frames.
async fn sizes(mut data: mpsc::Receiver<Bytes>, sizes: mpsc::Sender<Size>) {
    let mut buffer = Vec::new();
    while let Some(bytes) = data.recv().await {
        buffer.extend_from_slice(&bytes);
        let mut values = serde_json::Deserializer::from_slice(&buffer).into_iter::<Size>();
        let mut used = 0;
        while let Some(Ok(size)) = values.next() {
            used = values.byte_offset();
            let _ = sizes.try_send(size);
        }
        buffer.drain(..used);
        if buffer.len() > 4096 {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sizes_in_pieces() {
        let (data_tx, data) = mpsc::channel(4);
        let (sizes_tx, mut received) = mpsc::channel(4);
        tokio::spawn(sizes(data, sizes_tx));
        for piece in [
            "{\"Width\":80,\"He",
            "ight\":24}\n{\"Width\":100,\"Height\":30}\n",
        ] {
            data_tx
                .send(Bytes::from_static(piece.as_bytes()))
                .await
                .expect("open");
        }
        assert_eq!(
            received.recv().await,
            Some(Size {
                width: 80,
                height: 24
            })
        );
        assert_eq!(
            received.recv().await,
            Some(Size {
                width: 100,
                height: 30
            })
        );
    }
}
