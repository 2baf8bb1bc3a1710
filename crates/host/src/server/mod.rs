//! The agent's HTTPS interface, with the kubelet's paths: logs, exec, attach, port-forward, figures.
//!
//! Only the API server talks to it: TLS demands a client certificate, and its common name must be on the list. The API
//! server has authorised the caller before it dials.

mod configz;
mod files;
mod forward;
mod inspect;
mod logs;
mod stats;
mod streaming;

use std::convert::Infallible;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc};
use tokio_rustls::TlsAcceptor;
use tokio_stream::StreamExt as _;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::agent::Pods;
use crate::metrics::{HostSampler, Sampler};
use crate::podvm::{Context, PodVm, View};

/// Connections at one time: kubectl sessions and charts.
const MAX_CONNECTIONS: usize = 4096;
/// How long a handshake may take.
const HANDSHAKE: std::time::Duration = std::time::Duration::from_secs(10);

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// What the handlers work with.
pub struct Server {
    pub context: Arc<Context>,
    pub pods: Pods,
    pub sampler: Arc<Sampler>,
    pub host: Arc<HostSampler>,
}

/// A request that cannot be served: code and words.
#[derive(Debug)]
pub struct Refusal(pub StatusCode, pub String);

impl Refusal {
    fn bad(words: impl Into<String>) -> Self {
        Self(StatusCode::BAD_REQUEST, words.into())
    }

    fn missing(words: impl Into<String>) -> Self {
        Self(StatusCode::NOT_FOUND, words.into())
    }
}

/// Serves until cancelled.
pub async fn serve(server: Arc<Server>, listener: TcpListener, cancel: CancellationToken) {
    let acceptor = server.context.config.tls.clone().map(TlsAcceptor::from);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else {
            return;
        };
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of descriptors, most likely: let others finish.
                    tracing::warn!(%error, "the agent cannot accept");
                    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    continue;
                }
            },
            () = cancel.cancelled() => return,
        };
        let _ = stream.set_nodelay(true);
        let (server, acceptor, cancel) = (Arc::clone(&server), acceptor.clone(), cancel.clone());
        tokio::spawn(async move {
            let _slot = slot;
            let served = async {
                match acceptor {
                    Some(acceptor) => {
                        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await
                        else {
                            return;
                        };
                        let peer = stream
                            .get_ref()
                            .1
                            .peer_certificates()
                            .and_then(|chain| chain.first());
                        if allowed(&server, peer.map(AsRef::as_ref)) {
                            connection(server, stream).await;
                        }
                    }
                    None => connection(server, stream).await,
                }
            };
            cancel.run_until_cancelled(served).await;
        });
    }
}

/// Whether the owner of this certificate may come in.
fn allowed(server: &Server, certificate: Option<&[u8]>) -> bool {
    let wanted = &server.context.config.allowed_clients;
    if wanted.is_empty() {
        return true;
    }
    let name = certificate.and_then(|der| {
        let (_, parsed) = x509_parser::parse_x509_certificate(der).ok()?;
        let name = parsed
            .subject()
            .iter_common_name()
            .next()?
            .as_str()
            .ok()?
            .to_owned();
        Some(name)
    });
    let fits = name.as_ref().is_some_and(|name| wanted.contains(name));
    if !fits {
        tracing::warn!(?name, "a client without the right to the host agent");
    }
    fits
}

async fn connection<S>(server: Arc<Server>, stream: S)
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let service = hyper::service::service_fn(move |request| {
        let server = Arc::clone(&server);
        async move { Ok::<_, Infallible>(respond(server, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades()
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "a connection of the agent");
    }
}

async fn respond(server: Arc<Server>, request: Request<Incoming>) -> Response<Body> {
    match route(server, request).await {
        Ok(response) => response,
        Err(Refusal(code, words)) => text(code, words),
    }
}

async fn route(server: Arc<Server>, request: Request<Incoming>) -> Result<Response<Body>, Refusal> {
    let path = request.uri().path().to_owned();
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    let query = Query::parse(request.uri().query().unwrap_or_default());
    match (request.method(), parts.as_slice()) {
        (&Method::GET, ["logs", ..]) => {
            let data_dir = &server.context.config.data_dir;
            // Without a Pod so far they are there, and empty.
            let _ = crate::logs::prepare(data_dir);
            let root = data_dir.join(crate::logs::DIRECTORY);
            let below = path.strip_prefix("/logs").unwrap_or_default();
            files::show(&root, below.trim_start_matches('/')).await
        }
        (&Method::GET, ["configz"]) => Ok(configz::show(&server)),
        (&Method::GET, ["healthz"]) => Ok(text(StatusCode::OK, "ok")),
        (&Method::GET, ["inspect", namespace, pod]) => {
            let pod = server.pod(namespace, pod)?;
            Ok(inspect::inspect(&server.context, &pod).await)
        }
        (&Method::GET, ["containerLogs", namespace, pod, container]) => {
            let receiver = logs::logs(&server, &query, namespace, pod, container).await?;
            logs::answer(receiver, request)
        }
        (&Method::POST, ["run", namespace, pod, rest @ .., container]) => {
            let pod = server.pod_of(namespace, pod, rest)?;
            streaming::run(&pod, container, &query).await
        }
        (&Method::GET | &Method::POST, ["exec", namespace, pod, rest @ .., container]) => {
            let pod = server.pod_of(namespace, pod, rest)?;
            streaming::exec(&pod, container, &query, request, false).await
        }
        (&Method::GET | &Method::POST, ["attach", namespace, pod, rest @ .., container]) => {
            let pod = server.pod_of(namespace, pod, rest)?;
            streaming::exec(&pod, container, &query, request, true).await
        }
        (&Method::GET | &Method::POST, ["portForward", namespace, pod, rest @ ..]) => {
            let pod = server.pod_of(namespace, pod, rest)?;
            forward::forward(&pod, &query, request).await
        }
        (&Method::GET, ["pods"]) => Ok(stats::objects(&server, |_| true)),
        (&Method::GET, ["runningpods"]) => Ok(stats::objects(&server, |view| view.machine.is_some())),
        (&Method::GET, ["stats", "summary"]) => Ok(stats::summary(&server).await),
        (&Method::GET, ["metrics"]) => Ok(stats::figures_of(&server, stats::Family::Agent).await),
        (&Method::GET, ["metrics", "resource"]) => {
            Ok(stats::figures_of(&server, stats::Family::Resource).await)
        }
        (&Method::GET, ["metrics", "cadvisor"]) => {
            Ok(stats::figures_of(&server, stats::Family::Cadvisor).await)
        }
        (&Method::GET, ["metrics", "probes"]) => Ok(stats::figures_of(&server, stats::Family::Probes).await),
        (&Method::GET, ["podmetrics"]) => {
            let (watch, history) = (query.flag("watch"), query.flag("history"));
            Ok(stats::pods(server, watch, history).await)
        }
        _ => Err(Refusal::missing("404 page not found")),
    }
}

impl Server {
    fn pod(&self, namespace: &str, name: &str) -> Result<PodVm, Refusal> {
        let found = self.pods.all().into_iter().find(|pod| {
            let view = pod.view();
            let metadata = &view.pod.metadata;
            metadata.namespace.as_deref() == Some(namespace) && metadata.name.as_deref() == Some(name)
        });
        found.ok_or_else(|| Refusal::missing(format!("pod {name:?} does not exist")))
    }

    /// The Pod of a path that may go on with its uid.
    fn pod_of(&self, namespace: &str, name: &str, rest: &[&str]) -> Result<PodVm, Refusal> {
        let missing = || Refusal::missing("pod does not exist");
        let pod = self.pod(namespace, name).map_err(|_| missing())?;
        match rest {
            [] => Ok(pod),
            [uid] if pod.view().pod.metadata.uid.as_deref() == Some(uid) => Ok(pod),
            [_] => Err(missing()),
            _ => Err(Refusal::missing("404 page not found")),
        }
    }
}

/// A Pod as the kubelet calls it.
fn full_name(view: &View) -> String {
    let metadata = &view.pod.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}_{}", text(&metadata.name), text(&metadata.namespace))
}

/// A query string.
pub struct Query(Vec<(String, String)>);

impl Query {
    fn parse(text: &str) -> Self {
        let pairs = text.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode(key), decode(value))
        });
        Self(pairs.collect())
    }

    fn get(&self, key: &str) -> Option<&str> {
        self.all(key).first().copied()
    }

    fn all(&self, key: &str) -> Vec<&str> {
        self.0
            .iter()
            .filter(|(k, _)| k == key)
            .map(|(_, v)| v.as_str())
            .collect()
    }

    fn flag(&self, key: &str) -> bool {
        matches!(self.get(key), Some("1" | "true" | "True" | "TRUE"))
    }

    fn number<T: std::str::FromStr>(&self, key: &str) -> Result<Option<T>, Refusal> {
        match self.get(key) {
            None | Some("") => Ok(None),
            Some(text) => text
                .parse()
                .map(Some)
                .map_err(|_| Refusal::bad(format!("invalid {key}: {text:?}"))),
        }
    }
}

/// Undoes percent-encoding and plus signs.
fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [byte, tail @ ..] = rest {
        rest = tail;
        let escaped = || {
            let digits = std::str::from_utf8(tail.first_chunk::<2>()?).ok()?;
            u8::from_str_radix(digits, 16).ok()
        };
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => match escaped() {
                Some(value) => {
                    bytes.push(value);
                    rest = &tail[2..];
                }
                None => bytes.push(b'%'),
            },
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn text(code: StatusCode, words: impl Into<String>) -> Response<Body> {
    let mut response = Response::new(full(words.into()));
    *response.status_mut() = code;
    response.headers_mut().insert(
        CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response
}

fn json(value: &serde_json::Value) -> Response<Body> {
    let mut response = Response::new(full(value.to_string()));
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

fn full(text: String) -> Body {
    Full::new(Bytes::from(text)).boxed_unsync()
}

/// A response whose chunks come one by one.
fn chunks(receiver: mpsc::Receiver<Bytes>) -> Body {
    let stream = ReceiverStream::new(receiver).map(|chunk| Ok::<_, Infallible>(Frame::data(chunk)));
    BodyExt::boxed_unsync(StreamBody::new(stream))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let query = Query::parse("command=sh&command=-c&command=echo%20a%2Bb+c&tty=1&tail=x");
        assert_eq!(query.all("command"), ["sh", "-c", "echo a+b c"]);
        assert!(query.flag("tty"));
        assert!(query.number::<u64>("tail").is_err());
        assert_eq!(decode("100%"), "100%");
    }
}
