//! Port-forward over WebSocket with channels, as client libraries speak it (kubelet `portforward/websocket.go`): the ports
//! stand in the query, and the port at place `n` has channel `2n` for its bytes and `2n + 1` for what went wrong.
//!
//! The first message of a channel is its port, two bytes with the lower one first. There is no end of one direction: a
//! connection that ends closes the WebSocket, and with it the others.

use std::io;

use bytes::Bytes;
use futures::{SinkExt, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_tungstenite::tungstenite::Message;
use tokio_util::sync::CancellationToken;

use super::QUEUE;
use super::websocket::{Subprotocol, close, open};

/// How many ports one WebSocket may carry: their channels are numbered by one byte.
pub const MAX_PORTS: usize = 128;

/// One forwarded port.
pub struct Port {
    /// Its number.
    pub number: u16,
    /// What the client sends.
    pub data: mpsc::Receiver<Bytes>,
    /// What goes to the client.
    pub writer: PortWriter,
}

/// Writes to the channels of one port.
#[derive(Clone)]
pub struct PortWriter {
    channel: u8,
    messages: mpsc::Sender<(u8, Bytes)>,
}

impl PortWriter {
    /// Bytes of the connection.
    ///
    /// # Errors
    /// When the client is gone.
    pub async fn write(&self, data: Bytes) -> io::Result<()> {
        let sent = self.messages.send((self.channel, data)).await;
        sent.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }

    /// Says what went wrong.
    pub async fn fail(&self, problem: String) {
        let _ = self.messages.send((self.channel + 1, problem.into())).await;
    }
}

/// An upgraded connection: its ports, a token that tells when the client is gone, and the task that ends when every
/// writer is dropped and everything is written.
pub struct Ports {
    /// In the order of the query.
    pub ports: Vec<Port>,
    /// Cancelled when the client is gone.
    pub gone: CancellationToken,
    /// Writes to the client.
    pub writing: tokio::task::JoinHandle<()>,
}

/// Starts the two pumps of an upgraded connection; `numbers` are at most [`MAX_PORTS`].
pub async fn ports<S>(io: S, protocol: Subprotocol, numbers: &[u16]) -> Ports
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    let (mut sink, mut stream) = open(io).await.split();
    let (messages, mut queue) = mpsc::channel::<(u8, Bytes)>(QUEUE);
    let gone = CancellationToken::new();
    let mut inputs = Vec::new();
    let mut ports = Vec::new();
    for (channel, number) in (0..).step_by(2).zip(numbers) {
        let (input, data) = mpsc::channel(QUEUE);
        inputs.push(input);
        ports.push(Port {
            number: *number,
            data,
            writer: PortWriter {
                channel,
                messages: messages.clone(),
            },
        });
    }
    let greetings: Vec<Message> = numbers
        .iter()
        .zip((0..).step_by(2))
        .flat_map(|(number, channel)| [channel, channel + 1].map(|c| protocol.pack(c, &number.to_le_bytes())))
        .collect();
    let over = CancellationToken::new();
    let reading = {
        let gone = gone.clone();
        async move {
            let _guard = gone.drop_guard();
            while let Some(Ok(message)) = stream.next().await {
                if message.is_close() {
                    return;
                }
                match protocol.unpack(message) {
                    Ok(Some((channel, data))) if channel % 2 == 0 && !data.is_empty() => {
                        if let Some(input) = inputs.get(usize::from(channel / 2)) {
                            // A port that takes no more is about to end all of them.
                            let _ = input.send(data).await;
                        }
                    }
                    Ok(_) => {}
                    Err(_) => return,
                }
            }
        }
    };
    tokio::spawn({
        let over = over.clone();
        async move { over.run_until_cancelled(reading).await }
    });
    let writing = tokio::spawn({
        let gone = gone.clone();
        async move {
            let _guard = over.drop_guard();
            for greeting in greetings {
                if sink.send(greeting).await.is_err() {
                    return gone.cancel();
                }
            }
            while let Some((channel, data)) = queue.recv().await {
                if sink.send(protocol.pack(channel, &data)).await.is_err() {
                    return gone.cancel();
                }
            }
            close(sink, &gone).await;
        }
    });
    Ports { ports, gone, writing }
}

#[cfg(test)]
mod tests {
    use super::super::websocket::choose_ports;
    use super::*;
    use tokio_tungstenite::WebSocketStream;
    use tokio_tungstenite::tungstenite::protocol::Role;

    #[tokio::test]
    async fn two_ports_and_an_end() {
        let (near, far) = tokio::io::duplex(64 << 10);
        let (name, protocol) = choose_ports(&["v5.channel.k8s.io", "v4.channel.k8s.io"]).expect("known");
        assert_eq!(name, "v4.channel.k8s.io");
        let Ports { ports, gone, writing } = ports(near, protocol, &[80, 8443]).await;
        let mut client = WebSocketStream::from_raw_socket(far, Role::Client, None).await;
        for greeting in [[0, 80, 0], [1, 80, 0], [2, 0xfb, 0x20], [3, 0xfb, 0x20]] {
            let heard = client.next().await.expect("a message").expect("valid");
            assert_eq!(heard.into_data(), Bytes::copy_from_slice(&greeting));
        }
        for data in [
            &b"\x00one"[..],
            &b"\x02two"[..],
            &b"\x03ignored"[..],
            &b"\x09nobody"[..],
        ] {
            client
                .send(Message::Binary(Bytes::from_static(data)))
                .await
                .expect("sent");
        }
        let [mut first, mut second]: [Port; 2] = ports.try_into().ok().expect("two");
        assert_eq!(first.data.recv().await.as_deref(), Some(&b"one"[..]));
        assert_eq!(second.data.recv().await.as_deref(), Some(&b"two"[..]));
        second
            .writer
            .write(Bytes::from_static(b"answer"))
            .await
            .expect("open");
        second.writer.fail("no more".to_owned()).await;
        drop((first, second));
        for expected in [&b"\x02answer"[..], &b"\x03no more"[..]] {
            let heard = client.next().await.expect("a message").expect("valid");
            assert_eq!(heard.into_data(), Bytes::from_static(expected));
        }
        assert!(client.next().await.expect("a message").expect("valid").is_close());
        assert!(client.next().await.is_none_or(|last| last.is_err()));
        writing.await.expect("done");
        assert!(gone.is_cancelled());
    }
}
