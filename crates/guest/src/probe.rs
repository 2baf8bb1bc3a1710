//! Probe actions: HTTP GET and TCP connect, from inside the Pod. (Exec probes are ordinary execs.)

use std::collections::HashMap;
use std::time::Duration;

use guest_api::v1::{HttpGet, ProbeReply};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Answers beyond this are cut for the event's text, as the kubelet cuts them.
const MAX_BODY: u64 = 10 << 10;

/// Connects and hangs up.
pub async fn tcp(host: &str, port: u32, limit: Duration) -> ProbeReply {
    let address = format!("{host}:{port}");
    match tokio::time::timeout(limit, TcpStream::connect(&address)).await {
        Ok(Ok(_)) => ProbeReply {
            success: true,
            output: String::new(),
        },
        Ok(Err(error)) => failure(format!("dial tcp {address}: {error}")),
        Err(_) => failure(format!("dial tcp {address}: i/o timeout")),
    }
}

/// Success is any answer from 200 to 399.
pub async fn http(host: &str, get: &HttpGet, limit: Duration) -> ProbeReply {
    let url = format!("http://{host}:{}{}", get.port, get.path);
    if get.https {
        return failure(format!(
            "Get {url:?}: probes over https are not supported by this guest agent"
        ));
    }
    match tokio::time::timeout(limit, ask(host, get)).await {
        Ok(Ok((code, body))) if (200..400).contains(&code) => ProbeReply {
            success: true,
            output: body,
        },
        Ok(Ok((code, _))) => failure(format!("HTTP probe failed with statuscode: {code}")),
        Ok(Err(error)) => failure(format!("Get {url:?}: {error}")),
        Err(_) => failure(format!(
            "Get {url:?}: context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
        )),
    }
}

async fn ask(host: &str, get: &HttpGet) -> std::io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(format!("{host}:{}", get.port)).await?;
    stream.write_all(request(host, get).as_bytes()).await?;
    let mut answer = Vec::new();
    stream.take(MAX_BODY).read_to_end(&mut answer).await?;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let code = answer.split(' ').nth(1).and_then(|code| code.parse().ok());
    let code = code.ok_or_else(|| std::io::Error::other("malformed HTTP response"))?;
    let body = answer.split_once("\r\n\r\n").map(|(_, body)| body.to_owned());
    Ok((code, body.unwrap_or_default()))
}

fn request(host: &str, get: &HttpGet) -> String {
    let mut headers: HashMap<&str, &str> = HashMap::from([
        ("User-Agent", "kube-probe/1.35"),
        ("Accept", "*/*"),
        ("Connection", "close"),
    ]);
    let default_host = format!("{host}:{}", get.port);
    headers.insert("Host", &default_host);
    for (name, value) in &get.headers {
        // A line break would begin another header.
        if !name.contains(['\r', '\n']) && !value.contains(['\r', '\n']) {
            headers.insert(name, value);
        }
    }
    let path = if get.path.starts_with('/') {
        get.path.clone()
    } else {
        format!("/{}", get.path)
    };
    let lines: String = headers
        .iter()
        .map(|(name, value)| format!("{name}: {value}\r\n"))
        .collect();
    format!("GET {path} HTTP/1.1\r\n{lines}\r\n")
}

fn failure(output: String) -> ProbeReply {
    ProbeReply {
        success: false,
        output,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    async fn server(answer: &'static str) -> u32 {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let port = listener.local_addr().expect("an address").port();
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut buffer = [0; 1024];
                let _ = stream.read(&mut buffer).await;
                let _ = stream.write_all(answer.as_bytes()).await;
            }
        });
        port.into()
    }

    #[tokio::test]
    async fn status_codes_decide() {
        let limit = Duration::from_secs(5);
        let cases = [
            ("HTTP/1.1 200 OK\r\n\r\nfine", true, "fine"),
            ("HTTP/1.1 302 Found\r\n\r\n", true, ""),
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
        }
        assert!(tcp("127.0.0.1", server("x").await, limit).await.success);
        assert!(!tcp("127.0.0.1", 1, limit).await.success);
    }
}
