//! Probe actions from inside the Pod: HTTP GET, TCP connect, the gRPC health service. (Exec probes are ordinary execs.)
//! Words and verdicts are the kubelet's (`pkg/probe`).

use std::net::IpAddr;
use std::time::Duration;

use guest_api::health::health_check_response::ServingStatus;
use guest_api::health::{HealthCheckRequest, health_client::HealthClient};
use guest_api::http::{MAX_REDIRECTS, Redirect, get, redirect};
use guest_api::tls;
use guest_api::v1::{Grpc, HttpGet, ProbeReply};
use tokio::net::TcpStream;
use tonic::transport::Endpoint;

/// How long is waited after a first attempt to reach a gRPC server, and how that grows (`backoff.DefaultConfig`).
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const PAUSE_GROWTH: f64 = 1.6;

/// Connects to an address. Never to a name: looking one up would take a thread, and this process has one.
pub async fn connect(host: &str, port: u32) -> std::io::Result<TcpStream> {
    let address: IpAddr = host
        .parse()
        .map_err(|_| std::io::Error::other(format!("lookup {host}: no such host")))?;
    let port = u16::try_from(port).map_err(|_| std::io::Error::other(format!("invalid port {port}")))?;
    TcpStream::connect((address, port)).await
}

/// The same with Go's words. The host looks names up before it asks, so that a name here is one that nobody knows.
async fn dial(host: &str, port: u32) -> Result<TcpStream, String> {
    let failed = |error| match host.parse::<IpAddr>() {
        Ok(_) => format!("dial tcp {host}:{port}: {}", words(&error)),
        Err(_) => format!("dial tcp: {error}"),
    };
    connect(host, port).await.map_err(failed)
}

/// Connects and hangs up.
pub async fn tcp(host: &str, port: u32, limit: Duration) -> ProbeReply {
    match tokio::time::timeout(limit, dial(host, port)).await {
        Ok(Ok(_)) => success(String::new()),
        Ok(Err(words)) => failure(words),
        Err(_) => failure(format!("dial tcp {host}:{port}: i/o timeout")),
    }
}

/// Success is any answer from 200 to 399; redirects within the host are followed.
pub async fn http(host: &str, wanted: &HttpGet, limit: Duration) -> ProbeReply {
    let name = if wanted.host.is_empty() {
        host
    } else {
        &wanted.host
    };
    let mut wanted = wanted.clone();
    let name = name.to_owned();
    let scheme = if wanted.tls { "https" } else { "http" };
    let url = format!("{scheme}://{name}:{}{}", wanted.port, wanted.path);
    let ask = async {
        for _ in 0..MAX_REDIRECTS {
            let stream = dial(host, wanted.port).await.map_err(std::io::Error::other)?;
            let answer = match wanted.tls {
                true => tls::get(stream, &name, &wanted)
                    .await
                    .map_err(std::io::Error::other)?,
                false => get(stream, host, &wanted).await?,
            };
            match redirect(&answer, scheme, &name, wanted.port) {
                Some(Redirect::Here(port, path)) => (wanted.port, wanted.path) = (port, path),
                Some(Redirect::Elsewhere) | None => return Ok(answer),
            }
        }
        Err(std::io::Error::other("stopped after 10 redirects"))
    };
    match tokio::time::timeout(limit, ask).await {
        Ok(Ok(answer)) if (200..400).contains(&answer.code) => success(answer.warning()),
        Ok(Ok(answer)) => failure(format!("HTTP probe failed with statuscode: {}", answer.code)),
        Ok(Err(error)) => failure(format!("Get {url:?}: {error}")),
        Err(_) => failure(format!(
            "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

/// Asks the health service of a gRPC server.
pub async fn grpc(host: &str, wanted: &Grpc, limit: Duration) -> ProbeReply {
    let address = format!("{host}:{}", wanted.port);
    let end = tokio::time::Instant::now() + limit;
    let endpoint = Endpoint::from_shared(format!("http://{address}"))
        .and_then(|endpoint| endpoint.user_agent("kube-probe/1.35"));
    let endpoint = match endpoint {
        Ok(endpoint) => endpoint,
        Err(error) => {
            return failure(format!(
                "error: failed to connect service at {address:?}: {error}"
            ));
        }
    };
    // A server that is not there yet may come within the time, as upstream's library tries it.
    let channel = async {
        let mut pause = FIRST_PAUSE;
        loop {
            if let Ok(channel) = endpoint.connect().await {
                return channel;
            }
            tokio::time::sleep(pause).await;
            pause = pause.mul_f64(PAUSE_GROWTH);
        }
    };
    let Ok(channel) = tokio::time::timeout_at(end, channel).await else {
        return failure(format!(
            "timeout: failed to connect service {address:?} within {limit:?}: context deadline exceeded"
        ));
    };
    let request = HealthCheckRequest {
        service: wanted.service.clone(),
    };
    let mut client = HealthClient::new(channel);
    match tokio::time::timeout_at(end, client.check(request)).await {
        Ok(Ok(answer)) => match answer.into_inner().status() {
            ServingStatus::Serving => success("service healthy".to_owned()),
            other => failure(format!(
                "service unhealthy (responded with {:?})",
                other.as_str_name()
            )),
        },
        Ok(Err(status)) if status.code() == tonic::Code::Unimplemented => failure(format!(
            "error: this server does not implement the grpc health protocol (grpc.health.v1.Health): {}",
            status.message()
        )),
        Ok(Err(status)) => failure(format!(
            "error: health rpc probe failed: rpc error: code = {:?} desc = {}",
            status.code(),
            status.message()
        )),
        Err(_) => failure(format!("timeout: health rpc did not complete within {limit:?}")),
    }
}

/// What Go says for the usual ends of an attempt to connect.
pub fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connect: connection refused".to_owned(),
        std::io::ErrorKind::HostUnreachable => "connect: no route to host".to_owned(),
        _ => error.to_string(),
    }
}

fn success(output: String) -> ProbeReply {
    ProbeReply {
        success: true,
        output,
        unknown: false,
    }
}

fn failure(output: String) -> ProbeReply {
    ProbeReply {
        success: false,
        output,
        unknown: false,
    }
}

#[cfg(test)]
mod tests {
    use guest_api::health::HealthCheckResponse;
    use guest_api::health::health_server::{Health, HealthServer};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    async fn server(answer: &'static str) -> u32 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                let length = stream.read(&mut buffer).await.unwrap_or(0);
                let moved = buffer[..length].starts_with(b"GET /moved ");
                let text = if moved {
                    "HTTP/1.1 500 Oops\r\n\r\n"
                } else {
                    answer
                };
                let _ = stream.write_all(text.as_bytes()).await;
            }
        });
        port.into()
    }

    #[tokio::test]
    async fn status_codes_decide() {
        let limit = Duration::from_secs(60);
        let cases = [
            ("HTTP/1.1 200 OK\r\n\r\nfine", true, ""),
            (
                "HTTP/1.1 302 Found\r\nLocation: https://elsewhere.test/\r\n\r\nthere",
                true,
                "Probe terminated redirects, Response body: there",
            ),
            (
                "HTTP/1.1 302 Found\r\nLocation: /moved\r\n\r\n",
                false,
                "statuscode: 500",
            ),
            (
                "HTTP/1.1 500 Oops\r\n\r\n",
                false,
                "HTTP probe failed with statuscode: 500",
            ),
            ("rubbish", false, "malformed HTTP response"),
        ];
        for (answer, success, output) in cases {
            let get = HttpGet {
                port: server(answer).await,
                path: "/healthz".to_owned(),
                ..HttpGet::default()
            };
            let reply = http("127.0.0.1", &get, limit).await;
            assert_eq!(reply.success, success, "{answer}");
            assert!(reply.output.contains(output), "{answer}: {}", reply.output);
            assert!(!success || reply.output == output, "{answer}: {}", reply.output);
        }
        assert!(tcp("127.0.0.1", server("x").await, limit).await.success);
        let unknown = tcp("nobody.test", 1, limit).await;
        assert_eq!(
            unknown,
            failure("dial tcp: lookup nobody.test: no such host".to_owned())
        );
        let refused = tcp("127.0.0.1", 1, limit).await;
        assert_eq!(
            refused,
            failure("dial tcp 127.0.0.1:1: connect: connection refused".to_owned())
        );
    }

    struct Known(&'static str);

    #[tonic::async_trait]
    impl Health for Known {
        async fn check(
            &self,
            request: tonic::Request<HealthCheckRequest>,
        ) -> Result<tonic::Response<HealthCheckResponse>, tonic::Status> {
            let service = request.into_inner().service;
            if service != self.0 && !service.is_empty() {
                return Err(tonic::Status::not_found("unknown service"));
            }
            let status = if service.is_empty() {
                ServingStatus::NotServing
            } else {
                ServingStatus::Serving
            };
            Ok(tonic::Response::new(HealthCheckResponse {
                status: status.into(),
            }))
        }
    }

    #[tokio::test]
    async fn the_health_service_decides() {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = u32::from(listener.local_addr().expect("an address").port());
        let incoming = tokio_stream::wrappers::TcpListenerStream::new(listener);
        tokio::spawn(
            tonic::transport::Server::builder()
                .add_service(HealthServer::new(Known("shop")))
                .serve_with_incoming(incoming),
        );
        let limit = Duration::from_secs(60);
        let cases = [
            ("shop", port, true, "service healthy"),
            (
                "",
                port,
                false,
                "service unhealthy (responded with \"NOT_SERVING\")",
            ),
            (
                "other",
                port,
                false,
                "rpc error: code = NotFound desc = unknown service",
            ),
        ];
        for (service, port, success, output) in cases {
            let wanted = Grpc {
                port,
                service: service.to_owned(),
            };
            let reply = grpc("127.0.0.1", &wanted, limit).await;
            assert_eq!(reply.success, success, "{service}: {}", reply.output);
            assert!(reply.output.contains(output), "{service}: {}", reply.output);
        }
        let nobody = Grpc {
            port: 1,
            service: String::new(),
        };
        let reply = grpc("127.0.0.1", &nobody, Duration::from_millis(100)).await;
        assert_eq!(
            reply.output,
            "timeout: failed to connect service \"127.0.0.1:1\" within 100ms: context deadline exceeded"
        );
    }
}
