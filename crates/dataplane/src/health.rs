//! `healthCheckNodePort`: load balancers outside ask each host over HTTP whether it has endpoints of a Service
//! (kube-proxy: `pkg/proxy/healthcheck/service_health.go`).

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long a question may take.
const LIMIT: Duration = Duration::from_secs(5);
/// How long its head may be.
const HEAD: usize = 8 << 10;

/// What is told at a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Health {
    /// Namespace and name of the Service.
    pub service: (String, String),
    /// How many of its endpoints are here and ready.
    pub endpoints: usize,
}

/// The ports at which this host answers.
#[derive(Debug, Default)]
pub(crate) struct HealthPorts(BTreeMap<u16, (watch::Sender<Health>, CancellationToken)>);

impl HealthPorts {
    /// Opens, closes and brings up to date. A port that cannot be had is told and tried again with the next change.
    pub async fn set(&mut self, wanted: BTreeMap<u16, Health>) {
        self.0.retain(|port, (_, stop)| {
            let stays = wanted.contains_key(port);
            if !stays {
                stop.cancel();
            }
            stays
        });
        for (port, health) in wanted {
            if let Some((sender, _)) = self.0.get(&port) {
                sender.send_replace(health);
                continue;
            }
            let listener = match TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port))).await {
                Ok(listener) => listener,
                Err(error) => {
                    let (namespace, name) = &health.service;
                    tracing::warn!(%error, port, "the health of Service {namespace}/{name} cannot be told");
                    continue;
                }
            };
            let (sender, receiver) = watch::channel(health);
            let stop = CancellationToken::new();
            tokio::spawn(serve(listener, receiver, stop.clone()));
            self.0.insert(port, (sender, stop));
        }
    }
}

impl Drop for HealthPorts {
    fn drop(&mut self) {
        for (_, stop) in self.0.values() {
            stop.cancel();
        }
    }
}

async fn serve(listener: TcpListener, health: watch::Receiver<Health>, stop: CancellationToken) {
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                let text = answer(&health.borrow());
                tokio::spawn(tokio::time::timeout(LIMIT, tell(stream, text)));
            }
            // Out of descriptors, most likely: let others finish.
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// One question, whatever it is, and its answer.
async fn tell(mut stream: TcpStream, text: String) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut part = [0; 1024];
    while !head.windows(4).any(|end| end == b"\r\n\r\n") && head.len() < HEAD {
        match stream.read(&mut part).await? {
            0 => break,
            length => head.extend_from_slice(&part[..length]),
        }
    }
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

fn answer(health: &Health) -> String {
    let status = match health.endpoints {
        0 => "503 Service Unavailable",
        _ => "200 OK",
    };
    let (namespace, name) = &health.service;
    let count = health.endpoints;
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": \"{namespace}\",\n\t\t\"name\": \"{name}\"\n\t}},\n\t\"localEndpoints\": \
         {count},\n\t\"serviceProxyHealthy\": true\n}}"
    );
    format!(
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nX-Content-Type-Options: nosniff\r\n\
         X-Load-Balancing-Endpoint-Weight: {count}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}
