//! A load-making client of the API: TLS with the administrator's certificate, HTTP/2, JSON.
//!
//! It does as little as it can with an answer (counts bytes), since it shares the machine's cores with the server.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Flow control windows, in bytes, as Go's clients have them: a list is not throttled by round trips.
const STREAM_WINDOW: u32 = 4 << 20;
const CONNECTION_WINDOW: u32 = 64 << 20;
/// Attempts of a request that is told to come back later, and the pause that the server asks for.
const ATTEMPTS: usize = 60;
const BACK_OFF: Duration = Duration::from_secs(1);

/// A server and how to prove oneself to it.
#[derive(Clone)]
pub struct Target {
    address: SocketAddr,
    connector: TlsConnector,
}

impl Target {
    /// Reads a kubeconfig that has one cluster and one user with a certificate.
    pub fn of_kubeconfig(file: &Path) -> Result<Target> {
        let text =
            std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        let config: Value = serde_saphyr::from_str(&text)?;
        let field = |pointer: &str| -> Result<&str> {
            config
                .pointer(pointer)
                .and_then(Value::as_str)
                .with_context(|| format!("{}: no {pointer}", file.display()))
        };
        let pem = |pointer: &str| -> Result<Vec<u8>> { Ok(STANDARD.decode(field(pointer)?)?) };
        let server = field("/clusters/0/cluster/server")?;
        let address = server.trim_start_matches("https://").parse()?;
        let mut roots = rustls::RootCertStore::empty();
        let authority = pem("/clusters/0/cluster/certificate-authority-data")?;
        for certificate in CertificateDer::pem_slice_iter(&authority) {
            roots.add(certificate?)?;
        }
        let chain = pem("/users/0/user/client-certificate-data")?;
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&chain).collect::<Result<_, _>>()?;
        let key = PrivateKeyDer::from_pem_slice(&pem("/users/0/user/client-key-data")?)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)?;
        tls.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Target {
            address,
            connector: TlsConnector::from(Arc::new(tls)),
        })
    }

    /// Opens a connection of its own.
    pub async fn connect(&self) -> Result<Client> {
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        let name = ServerName::IpAddress(self.address.ip().into());
        let stream = self.connector.connect(name, stream).await?;
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(TokioIo::new(stream))
            .await?;
        // Ends with the sender; its error is that of the request that meets it.
        tokio::spawn(async move { drop(connection.await) });
        Ok(Client {
            sender,
            base: format!("https://{}", self.address),
        })
    }
}

/// One connection, used for one request at a time.
pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    base: String,
}

impl Client {
    /// Sends a request and answers the head; refusals are errors with the server's words.
    pub async fn open(&mut self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        let media = match method {
            Method::PATCH => "application/merge-patch+json",
            _ => "application/json",
        };
        let mut attempt = 0;
        let response = loop {
            attempt += 1;
            let request = Request::builder()
                .method(method.clone())
                .uri(format!("{}{path}", self.base))
                .header("content-type", media)
                .header("accept", "application/json")
                .body(Full::new(body.clone()))?;
            self.sender.ready().await?;
            let response = self.sender.send_request(request).await?;
            // Who is told to come back does so, as every client library; and a deletion that took too long goes on.
            let again = matches!(
                response.status(),
                StatusCode::TOO_MANY_REQUESTS | StatusCode::GATEWAY_TIMEOUT
            );
            if !again || attempt == ATTEMPTS {
                break response;
            }
            tokio::time::sleep(BACK_OFF).await;
        };
        if !response.status().is_success() {
            let status = response.status();
            let words = response.into_body().collect().await?.to_bytes();
            bail!("{method} {path}: {status}: {}", String::from_utf8_lossy(&words));
        }
        Ok(response)
    }

    /// Sends a request, reads the answer to its end and says how many bytes it had.
    pub async fn call(&mut self, method: Method, path: &str, body: Bytes) -> Result<usize> {
        let mut body = self.open(method, path, body).await?.into_body();
        let mut length = 0;
        while let Some(frame) = body.frame().await {
            length += frame?.data_ref().map_or(0, Bytes::len);
        }
        Ok(length)
    }
}
