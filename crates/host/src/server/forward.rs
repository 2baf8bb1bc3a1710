//! `/portForward`: pairs of SPDY streams, `error` and `data`, each pair one TCP connection into the Pod.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use guest_api::v1::DialData;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use super::streaming::{Carrier, upgrade};
use super::{Body, Refusal};
use crate::guest::Guest;
use crate::podvm::PodVm;
use crate::streams::spdy::{Session, Stream};
use crate::streams::websocket;

/// Messages on the way to the guest.
const QUEUE: usize = 8;
/// Halves of pairs that may wait for the other half.
const MAX_WAITING: usize = 256;
/// How long the end of a connection may take to reach the client.
const LINGER: Duration = Duration::from_secs(10);

/// Answers a request for port-forwarding.
pub async fn forward(pod: &PodVm, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let view = pod.view_with_vm().await;
    let name = view.pod.metadata.name.clone().unwrap_or_default();
    let guest = view
        .machine
        .as_ref()
        .map(|machine| machine.guest.clone())
        .ok_or_else(|| {
            Refusal::bad(format!(
                "unable to forward port because pod {name} is not running"
            ))
        })?;
    let (response, carrier) = upgrade(&request, choose, |_| None)?;
    tokio::spawn(async move {
        let Ok(upgraded) = hyper::upgrade::on(request).await else {
            return;
        };
        let io = TokioIo::new(upgraded);
        match carrier {
            Carrier::Tunnel => pairs(websocket::tunnel(io).await, guest).await,
            Carrier::Spdy | Carrier::WebSocket(_) => pairs(io, guest).await,
        }
    });
    Ok(response)
}

fn choose(offered: &[&str]) -> Option<&'static str> {
    offered
        .contains(&"portforward.k8s.io")
        .then_some("portforward.k8s.io")
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
        Some(port) => dial(&guest, port, data).await.err(),
        None => Some("the stream names no port".to_owned()),
    };
    // However it ended: a client waits for the end of both.
    let _ = writer.finish().await;
    if let Some(problem) = problem {
        let _ = error.writer.write(Bytes::from(problem)).await;
    }
    let _ = error.writer.finish().await;
}

async fn dial(guest: &Guest, port: u32, mut stream: Stream) -> Result<(), String> {
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
        while let Some(data) = stream.data.recv().await {
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
        // The stream itself stays until the guest ends its side.
        std::future::pending::<()>().await;
    };
    let writer = stream.writer.clone();
    let from_guest = async {
        loop {
            match output.message().await {
                Ok(Some(message)) => {
                    if !message.data.is_empty() && writer.write(Bytes::from(message.data)).await.is_err() {
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
