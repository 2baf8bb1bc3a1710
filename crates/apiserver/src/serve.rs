//! The listener: TCP, TLS with optional client certificates, HTTP/1.1 and HTTP/2, all bounded in time and number.

use crate::authn::chain::Authorities;
use crate::connection::Connection;
use crate::server::ApiServer;
use crate::stall::{Stalling, Talk};
use crate::stalled_stream::{Streams, watched};
use crate::wire::body;
use http::{HeaderValue, StatusCode, header};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use places::Places;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Streams of one HTTP/2 connection at a time (upstream's number).
const STREAMS: u32 = 250;
/// Bytes of request headers at most.
const HEADER_BYTES: u32 = 64 * 1024;
/// Flow control windows, in bytes: large enough that a list is not throttled by round trips.
const WINDOW: u32 = 1 << 20;
/// Bytes of one answer that wait in the library for its client, who may leave them there until the connection ends.
const SEND_BUFFER: usize = 256 << 10;
/// Between two warnings that connections are refused.
const REMINDER: Duration = Duration::from_secs(60);
/// Time that connections get to finish when the server stops.
const GRACE: Duration = Duration::from_secs(5);

impl ApiServer {
    /// Serves a listener over TLS until `stop`; requests in flight get a few seconds to finish.
    pub async fn serve(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Arc<rustls::ServerConfig>,
        stop: CancellationToken,
    ) {
        let mut tls = (*tls).clone();
        tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        self.accept(listener, Some(TlsAcceptor::from(Arc::new(tls))), stop)
            .await;
    }

    /// Serves a listener without TLS: for tests and for loopback behind a proxy of one's own.
    pub async fn serve_plain(self: Arc<Self>, listener: TcpListener, stop: CancellationToken) {
        self.accept(listener, None, stop).await;
    }

    async fn accept(
        self: Arc<Self>,
        listener: TcpListener,
        tls: Option<TlsAcceptor>,
        stop: CancellationToken,
    ) {
        let places = Places::new(self.config.max_connections);
        let tasks = TaskTracker::new();
        let mut told: Option<Instant> = None;
        let authorities = Authorities::new(&self.config.client_ca_der);
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            let (stream, peer) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, usually: give others time to close theirs.
                    tracing::warn!(%error, "a connection could not be accepted");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let Some(place) = places.take(peer.ip()) else {
                // Whoever opens too many shall not fill the log as well.
                if told.is_none_or(|told| told.elapsed() > REMINDER) {
                    told = Some(Instant::now());
                    tracing::warn!(%peer, "too many connections; one was refused");
                }
                continue;
            };
            let _ = stream.set_nodelay(true);
            let (server, tls, stop) = (self.clone(), tls.clone(), stop.clone());
            let authorities = authorities.clone();
            tasks.spawn(async move {
                let _place = place;
                let Some(tls) = tls else {
                    return server.connection(stream, Connection::of(peer), stop).await;
                };
                match tokio::time::timeout(server.config.head_limit, tls.accept(stream)).await {
                    Ok(Ok(stream)) => {
                        let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
                        let connection = Connection::with_certificates(peer, chain, &authorities);
                        server.connection(stream, connection, stop).await;
                    }
                    Ok(Err(error)) => {
                        server.metrics.asked.handshake_failed();
                        tracing::debug!(%peer, %error, "TLS handshake failed");
                    }
                    Err(_) => {
                        server.metrics.asked.handshake_failed();
                        tracing::debug!(%peer, "TLS handshake took too long");
                    }
                }
            });
        }
        tasks.close();
        let _ = tokio::time::timeout(GRACE, tasks.wait()).await;
    }

    async fn connection(
        self: Arc<Self>,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        connection: Connection,
        stop: CancellationToken,
    ) {
        let peer = connection.peer;
        let connection = Arc::new(connection);
        let streams = Streams::default();
        let mut builder = Builder::new(streams.clone());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(self.config.idle_limit)
            .max_buf_size(HEADER_BYTES as usize * 2)
            // As Go writes them: scripts look for `Audit-Id:` and the like.
            .title_case_headers(true)
            .keep_alive(true);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(STREAMS)
            .max_header_list_size(HEADER_BYTES)
            .initial_stream_window_size(WINDOW)
            .initial_connection_window_size(WINDOW * 4)
            .max_send_buf_size(SEND_BUFFER)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        let talk = Arc::new(Talk::default());
        let stream = Stalling::new(
            stream,
            self.config.head_limit,
            self.config.stall_limit,
            talk.clone(),
        );
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (server, connection, talk) = (self.clone(), connection.clone(), talk.clone());
            talk.begun.store(true, Ordering::Relaxed);
            // Before the answer is worked on: the stream's task is made right after this call.
            let clock = match request.version() {
                http::Version::HTTP_2 => {
                    let at_once = crate::request::is_plain_get(&request);
                    Some(streams.clock(self.config.stall_limit, at_once))
                }
                _ => None,
            };
            async move {
                if let Some(refused) = unfit(&request) {
                    return Ok::<_, Infallible>(refused);
                }
                // Those who serve the connection hand this future on several times; what is large in it has its own place.
                let response = Box::pin(server.handle(request.map(body::adopt), connection)).await;
                if response.status() == http::StatusCode::SWITCHING_PROTOCOLS {
                    talk.upgraded.store(true, Ordering::Relaxed);
                }
                Ok(match clock {
                    Some(clock) => response.map(|body| watched(body, clock)),
                    None => response,
                })
            }
        });
        let serving = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        tokio::pin!(serving);
        let mut stopping = false;
        loop {
            tokio::select! {
                outcome = serving.as_mut() => {
                    if let Err(error) = outcome {
                        tracing::debug!(?peer, error = %error, "connection ended");
                    }
                    return;
                }
                () = stop.cancelled(), if !stopping => {
                    stopping = true;
                    serving.as_mut().graceful_shutdown();
                }
            }
        }
    }
}

/// The refusal of a request over HTTP/1.1 that has not just one host, or expects what nobody does.
fn unfit<B>(request: &http::Request<B>) -> Option<crate::wire::Response> {
    if request.version() != http::Version::HTTP_11 {
        return None;
    }
    let headers = request.headers();
    let unknown = |value: &HeaderValue| !value.as_bytes().eq_ignore_ascii_case(b"100-continue");
    let mut response = match headers.get_all(header::HOST).iter().count() {
        0 => body::answer(
            StatusCode::BAD_REQUEST,
            "text/plain; charset=utf-8",
            "400 Bad Request: missing required Host header",
        ),
        1 if headers.get(header::EXPECT).is_some_and(unknown) => {
            let mut response = http::Response::new(body::full(""));
            *response.status_mut() = StatusCode::EXPECTATION_FAILED;
            response
        }
        1 => return None,
        _ => body::answer(
            StatusCode::BAD_REQUEST,
            "text/plain; charset=utf-8",
            "400 Bad Request",
        ),
    };
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    Some(response)
}
