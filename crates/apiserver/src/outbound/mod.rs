//! Requests of the server's own to others: admission webhooks, conversion webhooks, aggregated API servers.
//!
//! A target is a URL or a Service. A Service is reached at one of its ready endpoints, its certificate must be for
//! `NAME.NAMESPACE.svc`. Connections are kept for the next request; none outlives [`IDLE`].

mod service;
pub(crate) mod tls;

pub use service::endpoints;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, HOST, HeaderValue, USER_AGENT};
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::SendRequest;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use rustls_pki_types::ServerName;
use serde_json::Value;
use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::aggregation::ProxyClient;
use crate::view::View;

/// Bytes of an answer at most: an object and its patch.
const MAX_ANSWER: usize = 8 << 20;
/// Kept connections of one target.
const KEPT: usize = 16;
/// A kept connection is not used after this time.
const IDLE: Duration = Duration::from_secs(30);
/// TLS settings remembered.
const SETTINGS: usize = 512;

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// `https://HOST[:PORT][/PATH]`.
    Url(String),
    /// A Service of the cluster.
    Service {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Its port.
        port: u16,
        /// Path of the request.
        path: String,
    },
}

/// A place, and by what it is believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where.
    pub place: Place,
    /// Certificates (PEM) of the authorities to believe; empty for those of the system.
    pub ca: Vec<u8>,
    /// Believe any certificate (`insecureSkipTLSVerify`).
    pub insecure: bool,
}

impl Target {
    /// Reads a `clientConfig` of a webhook.
    pub fn from_client_config(config: &Value) -> Target {
        use base64::Engine;
        let text = |v: &Value, f: &str| v.get(f).and_then(Value::as_str).unwrap_or("").to_string();
        let place = match config.get("service").filter(|s| s.is_object()) {
            Some(service) => Place::Service {
                namespace: text(service, "namespace"),
                name: text(service, "name"),
                port: service["port"]
                    .as_u64()
                    .and_then(|p| u16::try_from(p).ok())
                    .unwrap_or(443),
                path: cleaned(&text(service, "path")),
            },
            None => Place::Url(cleaned_url(&text(config, "url"))),
        };
        let ca = base64::engine::general_purpose::STANDARD.decode(text(config, "caBundle"));
        Target {
            place,
            ca: ca.unwrap_or_default(),
            insecure: false,
        }
    }

    /// The address as a URL, for messages.
    pub fn url(&self) -> String {
        match &self.place {
            Place::Url(url) => url.clone(),
            Place::Service {
                namespace,
                name,
                port,
                path,
            } => {
                format!("https://{name}.{namespace}.svc:{port}{path}")
            }
        }
    }

    /// Host and port of the URL, and path with query.
    fn parts(&self) -> Result<(String, u16, String), String> {
        let url = self.url();
        let uri: http::Uri = url.parse().map_err(|e| format!("parse {url:?}: {e}"))?;
        let host = uri.host().ok_or_else(|| format!("parse {url:?}: no host"))?;
        let host = host.trim_start_matches('[').trim_end_matches(']').to_string();
        let path = uri
            .path_and_query()
            .map_or("/".to_string(), |p| p.as_str().to_string());
        Ok((host, uri.port_u16().unwrap_or(443), path))
    }
}

/// A path as Go's `path.Join("/", path)` leaves it: of webhooks so it is what they are asked for, however it is written.
fn cleaned(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// A URL with its path cleaned.
fn cleaned_url(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else {
        return url.to_string();
    };
    let (host, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    format!("{scheme}://{host}{}", cleaned(path))
}

struct Kept {
    sender: SendRequest<Full<Bytes>>,
    since: Instant,
}

/// TLS settings by authorities, and whether anything is believed.
type Settings = HashMap<(Vec<u8>, bool), Arc<rustls::ClientConfig>>;

/// The connections of one server to others.
#[derive(Default)]
pub struct Outbound {
    settings: Mutex<Settings>,
    kept: Mutex<HashMap<String, Vec<Kept>>>,
}

/// An answer: code and body.
pub type Answer = (u16, Bytes);

impl Outbound {
    /// Posts JSON and waits for the answer, `limit` in all. The error is worded as Go's HTTP client does.
    pub async fn post(
        &self,
        view: &dyn View,
        target: &Target,
        query: &str,
        body: Bytes,
        limit: Duration,
    ) -> Result<Answer, String> {
        let separator = if target.url().contains('?') { "&" } else { "?" };
        let shown = match query {
            "" => target.url(),
            query => format!("{}{separator}{query}", target.url()),
        };
        let failed = |why: String| format!("Post {shown:?}: {why}");
        let exchange = self.exchange(view, target, query, body);
        match tokio::time::timeout(limit, exchange).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(why)) => Err(failed(why)),
            Err(_) => Err(failed("context deadline exceeded".into())),
        }
    }

    async fn exchange(
        &self,
        view: &dyn View,
        target: &Target,
        query: &str,
        body: Bytes,
    ) -> Result<Answer, String> {
        let (host, port, mut path) = target.parts()?;
        if !query.is_empty() {
            path.push(if path.contains('?') { '&' } else { '?' });
            path.push_str(query);
        }
        let key = format!("{}\u{0}{:?}", target.url(), target.ca);
        let authority = format!("{host}:{port}");
        // A kept connection may have been closed by the other end meanwhile; a new one decides.
        if let Some(sender) = self.take(&key)
            && let Ok(answer) = self.send(&key, sender, &authority, &path, body.clone()).await
        {
            return Ok(answer);
        }
        let stream = self.dial(view, target, None).await?;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|e| e.to_string())?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "a connection to a webhook ended");
            }
        });
        self.send(&key, sender, &authority, &path, body).await
    }

    fn take(&self, key: &str) -> Option<SendRequest<Full<Bytes>>> {
        let mut kept = self.kept.lock();
        let list = kept.get_mut(key)?;
        list.retain(|k| k.since.elapsed() < IDLE && !k.sender.is_closed());
        list.pop().map(|k| k.sender)
    }

    async fn send(
        &self,
        key: &str,
        mut sender: SendRequest<Full<Bytes>>,
        authority: &str,
        path: &str,
        body: Bytes,
    ) -> Result<Answer, String> {
        let mut request = http::Request::new(Full::new(body));
        *request.method_mut() = http::Method::POST;
        *request.uri_mut() = path.parse().map_err(|e: http::uri::InvalidUri| e.to_string())?;
        let headers = request.headers_mut();
        headers.insert(HOST, HeaderValue::from_str(authority).map_err(|e| e.to_string())?);
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        headers.insert(ACCEPT, HeaderValue::from_static("application/json, */*"));
        headers.insert(USER_AGENT, HeaderValue::from_static("kube-apiserver-admission"));
        let answer = sender.send_request(request).await.map_err(|e| e.to_string())?;
        let code = answer.status().as_u16();
        let bytes = Limited::new(answer.into_body(), MAX_ANSWER)
            .collect()
            .await
            .map_err(|e| e.to_string())?
            .to_bytes();
        let mut kept = self.kept.lock();
        if kept.len() > SETTINGS {
            kept.clear();
        }
        let list = kept.entry(key.to_string()).or_default();
        if list.len() < KEPT {
            let since = Instant::now();
            list.push(Kept { sender, since });
        }
        Ok((code, bytes))
    }

    /// Connects to a target. `client` brings a client certificate.
    pub async fn dial(
        &self,
        view: &dyn View,
        target: &Target,
        client: Option<&ProxyClient>,
    ) -> Result<TlsStream<TcpStream>, String> {
        let (host, port, _) = target.parts()?;
        let addresses: Vec<SocketAddr> = match &target.place {
            Place::Service {
                namespace,
                name,
                port,
                ..
            } => endpoints(view, namespace, name, *port).await?,
            Place::Url(_) => tokio::net::lookup_host((host.as_str(), port))
                .await
                .map_err(|e| format!("dial tcp: lookup {host}: {e}"))?
                .collect(),
        };
        let mut stream = Err(format!("dial tcp: lookup {host}: no such host"));
        for address in addresses {
            match TcpStream::connect(address).await {
                Ok(connected) => {
                    stream = Ok(connected);
                    break;
                }
                Err(e) => {
                    let why = match e.kind() {
                        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_string(),
                        _ => e.to_string(),
                    };
                    stream = Err(format!("dial tcp {address}: {why}"));
                }
            }
        }
        let stream = stream?;
        let _ = stream.set_nodelay(true);
        let settings = match client {
            Some(client) => Arc::new(tls::client(
                &target.ca,
                target.insecure,
                Some(tls::identity(client)?),
            )?),
            None => self.settings(&target.ca, target.insecure)?,
        };
        let name = ServerName::try_from(host.clone()).map_err(|e| format!("{host:?}: {e}"))?;
        TlsConnector::from(settings)
            .connect(name, stream)
            .await
            .map_err(|error| {
                let inner = error.get_ref().and_then(|inner| inner.downcast_ref());
                match inner {
                    Some(rustls::Error::InvalidCertificate(fault)) => {
                        let why = tls::fault(fault, &host);
                        format!("tls: failed to verify certificate: x509: {why}")
                    }
                    _ => error.to_string(),
                }
            })
    }

    /// TLS settings that believe the given authorities.
    fn settings(&self, ca: &[u8], insecure: bool) -> Result<Arc<rustls::ClientConfig>, String> {
        let key = (ca.to_vec(), insecure);
        if let Some(found) = self.settings.lock().get(&key) {
            return Ok(found.clone());
        }
        let made = Arc::new(tls::client(ca, insecure, None)?);
        let mut settings = self.settings.lock();
        if settings.len() >= SETTINGS {
            settings.clear();
        }
        settings.insert(key, made.clone());
        Ok(made)
    }
}

/// What a client of upstream makes of an answer that is no success.
pub fn refusal(code: u16, bytes: &[u8]) -> String {
    if let Ok(status) = serde_json::from_slice::<Value>(bytes)
        && status["kind"] == "Status"
        && let Some(message) = status["message"].as_str()
    {
        return message.to_string();
    }
    let text = String::from_utf8_lossy(bytes);
    let text = text.trim();
    match code {
        404 => "the server could not find the requested resource".into(),
        401 => "the server has asked for the client to provide credentials".into(),
        403 => format!("forbidden: {text}"),
        405 => "the server does not allow this method on the requested resource".into(),
        429 => "the server has received too many requests and has asked us to try again later".into(),
        503 => "the server is currently unable to handle the request".into(),
        500.. => format!("an error on the server ({text:?}) has prevented the request from succeeding"),
        _ => format!("the server rejected our request for an unknown reason ({text:?})"),
    }
}
