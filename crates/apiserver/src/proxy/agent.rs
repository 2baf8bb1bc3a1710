//! Finding and dialling a host agent: the address and port its Node object states, TLS with our client certificate.

use crate::view::{GroupResource, View};
use kinds::status::Status;
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Time to connect and shake hands.
const DIAL: Duration = Duration::from_secs(10);
/// Port of an agent that states none.
const DEFAULT_PORT: u16 = 10250;

/// Any stream we can speak HTTP on.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

/// How host agents are reached.
pub struct Agents {
    tls: Option<TlsConnector>,
}

impl Agents {
    /// Agents that are dialled with the given client configuration.
    pub fn new(tls: Option<Arc<rustls::ClientConfig>>) -> Agents {
        let http1_only = |config: Arc<rustls::ClientConfig>| {
            let mut config = (*config).clone();
            // Upgrades exist in HTTP/1.1 only.
            config.alpn_protocols = vec![b"http/1.1".to_vec()];
            TlsConnector::from(Arc::new(config))
        };
        Agents {
            tls: tls.map(http1_only),
        }
    }

    /// Connects to the agent of a node. Answers the stream and the host for the `Host` header.
    pub async fn dial(&self, view: &dyn View, node: &str) -> Result<(Box<dyn Stream>, String), Status> {
        let object = view
            .get(&GroupResource::new("", "nodes"), None, node)
            .ok_or_else(|| Status::not_found("nodes", "", node))?;
        let (address, port) = endpoint(&object).ok_or_else(|| {
            Status::service_unavailable(format!(
                "no preferred addresses found; known addresses: [] of node {node}"
            ))
        })?;
        let unreachable = |why: String| {
            Status::internal(format!("error dialing backend: dial tcp {address}:{port}: {why}"))
        };
        let Some(tls) = &self.tls else {
            return Err(Status::service_unavailable(
                "this server has no credentials for host agents",
            ));
        };
        let connect = async {
            let stream = TcpStream::connect((address, port)).await?;
            stream.set_nodelay(true)?;
            tls.connect(ServerName::from(address), stream).await
        };
        match tokio::time::timeout(DIAL, connect).await {
            Ok(Ok(stream)) => Ok((Box::new(stream), format!("{address}:{port}"))),
            Ok(Err(e)) => Err(unreachable(e.to_string())),
            Err(_) => Err(unreachable("i/o timeout".into())),
        }
    }
}

/// The port of a node's agent.
pub(super) fn agent_port(view: &dyn View, node: &str) -> Result<u16, Status> {
    let object = view.get(&GroupResource::new("", "nodes"), None, node);
    let object = object.ok_or_else(|| Status::not_found("nodes", "", node))?;
    Ok(endpoint(&object).map_or(DEFAULT_PORT, |(_, port)| port))
}

/// Address and port of a node's agent.
fn endpoint(node: &Value) -> Option<(IpAddr, u16)> {
    let addresses = node.pointer("/status/addresses")?.as_array()?;
    let address = ["InternalIP", "ExternalIP"].iter().find_map(|wanted| {
        let entry = addresses.iter().find(|a| a["type"] == *wanted)?;
        entry["address"].as_str()?.parse().ok()
    })?;
    let port = node
        .pointer("/status/daemonEndpoints/kubeletEndpoint/Port")
        .and_then(Value::as_u64);
    Some((
        address,
        port.and_then(|p| u16::try_from(p).ok()).unwrap_or(DEFAULT_PORT),
    ))
}

/// Bytes of one line or answer of an agent at most.
const MAX_ANSWER: usize = 16 << 20;

/// Lines of a streaming answer of an agent.
pub struct Lines {
    body: crate::wire::Body,
    rest: bytes::BytesMut,
}

impl Lines {
    pub(super) fn new(body: crate::wire::Body) -> Lines {
        Lines {
            body,
            rest: bytes::BytesMut::new(),
        }
    }

    /// The next line without its end; `None` when the agent has ended.
    pub async fn next_line(&mut self) -> Result<Option<bytes::Bytes>, Status> {
        use http_body_util::BodyExt;
        loop {
            if let Some(end) = self.rest.iter().position(|b| *b == b'\n') {
                let mut line = self.rest.split_to(end + 1);
                line.truncate(end);
                return Ok(Some(line.freeze()));
            }
            if self.rest.len() > MAX_ANSWER {
                return Err(Status::internal("a line of a host agent is too long"));
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(e)) => return Err(Status::internal(e.to_string())),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.rest.extend_from_slice(&data);
                    }
                }
            }
        }
    }

    /// The whole answer.
    pub(super) async fn all(mut self) -> Result<bytes::BytesMut, Status> {
        use http_body_util::BodyExt;
        while let Some(frame) = self.body.frame().await {
            if let Ok(data) = frame.map_err(|e| Status::internal(e.to_string()))?.into_data() {
                self.rest.extend_from_slice(&data);
            }
            if self.rest.len() > MAX_ANSWER {
                return Err(Status::internal("the answer of a host agent is too long"));
            }
        }
        Ok(self.rest)
    }
}
