//! `/portForward`: pairs of SPDY streams, `error` and `data`, or of a WebSocket's channels; each pair is one TCP connection
//! into the Pod.

use std::collections::HashMap;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use guest_api::v1::DialData;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::streaming::{Carrier, upgrade};
use super::{Body, Query, Refusal, full_name};
use crate::guest::Guest;
use crate::podvm::PodVm;
use crate::streams::ports::{MAX_PORTS, Port, Ports, ports};
use crate::streams::spdy::{Session, Stream};
use crate::streams::websocket;

/// Messages on the way to the guest.
const QUEUE: usize = 8;
/// Halves of pairs that may wait for the other half.
const MAX_WAITING: usize = 256;
/// How long the end of a connection may take to reach the client.
const LINGER: Duration = Duration::from_secs(10);

/// Answers a request for port-forwarding.
pub async fn forward(
    pod: &PodVm,
    query: &Query,
    request: Request<Incoming>,
) -> Result<Response<Body>, Refusal> {
    let view = pod.view_with_vm().await;
    let guest = view
        .machine
        .as_ref()
        .map(|machine| machine.guest.clone())
        .ok_or_else(|| {
            let words = format!("pod not found ({:?})", full_name(&view));
            Refusal(StatusCode::INTERNAL_SERVER_ERROR, words)
        })?;
    let (response, carrier) = upgrade(&request, choose, websocket::choose_ports)?;
    let numbers = match carrier {
        Carrier::WebSocket(_) => numbers(query)?,
        Carrier::Spdy | Carrier::Tunnel => Vec::new(),
    };
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else {
            return;
        };
        let io = TokioIo::new(upgraded);
        match carrier {
            Carrier::Tunnel => pairs(websocket::tunnel(io).await, guest).await,
            Carrier::Spdy => pairs(io, guest).await,
            Carrier::WebSocket(protocol) => channels(ports(io, protocol, &numbers).await, guest).await,
        }
    });
    Ok(response)
}

fn choose(offered: &[&str]) -> Option<&'static str> {
    offered
        .contains(&"portforward.k8s.io")
        .then_some("portforward.k8s.io")
}

/// The ports that a client with channels asks for, several to a value or one each.
fn numbers(query: &Query) -> Result<Vec<u16>, Refusal> {
    let (ports, port) = (query.all("ports"), query.all("port"));
    let texts = ports.iter().chain(&port).flat_map(|value| value.split(','));
    let numbers: Vec<u16> = texts
        .map(|text| match text.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(Refusal::bad(format!(
                "query parameter \"port\" must be a number from 1 to 65535, not {text:?}"
            ))),
        })
        .collect::<Result<_, _>>()?;
    match numbers.len() {
        0 => Err(Refusal::bad("query parameter \"port\" is required")),
        1..=MAX_PORTS => Ok(numbers),
        many => Err(Refusal::bad(format!(
            "query parameter \"port\": at most {MAX_PORTS} ports, not {many}"
        ))),
    }
}

/// Serves the ports of a WebSocket until the first of them ends.
async fn channels(client: Ports, guest: Guest) {
    let Ports { ports, gone, writing } = client;
    let mut connections = tokio::task::JoinSet::new();
    for Port { number, data, writer } in ports {
        let guest = guest.clone();
        connections.spawn(async move {
            let write = |data| writer.write(data);
            if let Err(problem) = dial(&guest, number.into(), data, write).await {
                writer.fail(problem).await;
            }
        });
    }
    tokio::select! {
        _ = connections.join_next() => {}
        () = gone.cancelled() => {}
    }
    connections.shutdown().await;
    let _ = tokio::time::timeout(LINGER, writing).await;
}

/// Pairs streams by their request id and serves each pair.
async fn pairs<S>(io: S, guest: Guest)
where
    S: AsyncRead + AsyncWrite + Send + 'static,
{
    let mut session = Session::new(io);
    let mut waiting: HashMap<String, Stream> = HashMap::new();
    let mut connections = tokio::task::JoinSet::new();
    let gone = session.gone.clone();
    loop {
        let stream = tokio::select! {
            stream = session.accept() => stream,
            () = gone.cancelled() => break,
        };
        let Some(stream) = stream else { break };
        while connections.try_join_next().is_some() {}
        // Clients from before request ids open the error stream just before its data stream.
        let id = match (stream.header("requestid"), stream.header("streamtype")) {
            (Some(id), _) => id.to_owned(),
            (None, Some("data")) => stream.id.saturating_sub(2).to_string(),
            (None, _) => stream.id.to_string(),
        };
        match waiting.remove(&id) {
            Some(other) => {
                let (error, data) = if stream.header("streamtype") == Some("data") {
                    (other, stream)
                } else {
                    (stream, other)
                };
                connections.spawn(connect(guest.clone(), error, data));
            }
            None if waiting.len() < MAX_WAITING => {
                waiting.insert(id, stream);
            }
            None => {
                let _ = stream.writer.reset().await;
            }
        }
    }
    connections.abort_all();
    let _ = tokio::time::timeout(LINGER, session.into_writer()).await;
}

/// One connection.
async fn connect(guest: Guest, error: Stream, data: Stream) {
    let port: Option<u32> = data.header("port").and_then(|port| port.parse().ok());
    let writer = data.writer.clone();
    let problem = match port {
        Some(port) => dial(&guest, port, data.data, |data| writer.write(data))
            .await
            .err(),
        None => Some("the stream names no port".to_owned()),
    };
    // However it ended: a client waits for the end of both.
    let _ = writer.finish().await;
    if let Some(problem) = problem {
        let _ = error.writer.write(Bytes::from(problem)).await;
    }
    let _ = error.writer.finish().await;
}

/// Carries bytes between a client and a port of the Pod until the Pod ends, or the client takes no more.
async fn dial<W>(
    guest: &Guest,
    port: u32,
    mut data: mpsc::Receiver<Bytes>,
    write: impl Fn(Bytes) -> W,
) -> Result<(), String>
where
    W: Future<Output = io::Result<()>>,
{
    let words = |problem: &str| format!("an error occurred forwarding {port}: {problem}");
    let (input, messages) = mpsc::channel(QUEUE);
    let first = DialData {
        port,
        ..DialData::default()
    };
    // The queue is empty: there is room.
    let _ = input.try_send(first);
    let mut client = guest.client().await.map_err(|error| words(&error.to_string()))?;
    let mut output = client
        .dial(ReceiverStream::new(messages))
        .await
        .map_err(|status| words(status.message()))?
        .into_inner();
    let to_guest = async move {
        while let Some(data) = data.recv().await {
            let message = DialData {
                data: data.to_vec(),
                ..DialData::default()
            };
            if input.send(message).await.is_err() {
                return;
            }
        }
        let end = DialData {
            end: true,
            ..DialData::default()
        };
        let _ = input.send(end).await;
        // The way back stays until the guest ends its side.
        std::future::pending::<()>().await;
    };
    let from_guest = async {
        loop {
            match output.message().await {
                Ok(Some(message)) => {
                    if !message.data.is_empty() && write(Bytes::from(message.data)).await.is_err() {
                        return Ok(());
                    }
                    if message.end {
                        return Ok(());
                    }
                }
                Ok(None) => return Ok(()),
                Err(status) => return Err(words(status.message())),
            }
        }
    };
    tokio::select! {
        result = from_guest => result,
        () = to_guest => Ok(()),
    }
}
