//! One HTTP/1.1 GET on a stream, as probes and lifecycle hooks need it: the guest asks for probes, the host for hooks
//! over the guest's connection. Headers, redirects and limits are those of the kubelet (`pkg/probe/http`,
//! `pkg/kubelet/lifecycle`).

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::v1::{Header, HttpGet};

/// What is read of a body at most.
const MAX_BODY: usize = 10 << 10;
/// What is read of headers at most, as Go's client has it in effect for a probe.
const MAX_HEAD: usize = 64 << 10;
/// Redirects that are followed.
pub const MAX_REDIRECTS: usize = 10;

/// An answer, as far as anybody wants to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// The status code.
    pub code: u16,
    /// Where a redirect leads.
    pub location: Option<String>,
    /// The first 10 KiB of the body.
    pub body: String,
}

/// Where to go on after a redirect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Redirect {
    /// The same host: this port and path.
    Here(u32, String),
    /// Another host or scheme: the kubelet takes such an answer for a success.
    Elsewhere,
}

/// Asks and reads the answer.
///
/// # Errors
/// The stream breaks, or what comes is no HTTP.
pub async fn get<S: AsyncRead + AsyncWrite + Unpin>(
    mut stream: S,
    host: &str,
    get: &HttpGet,
) -> io::Result<Answer> {
    stream.write_all(request(host, get).as_bytes()).await?;
    stream.flush().await?;
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(at) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            break at;
        }
        if bytes.len() > MAX_HEAD || more(&mut stream, &mut bytes).await? == 0 {
            return Err(malformed(&bytes));
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let code = text
        .strip_prefix("HTTP/")
        .and_then(|rest| rest.split(' ').nth(1)?.trim().parse().ok())
        .ok_or_else(|| malformed(&bytes))?;
    let mut body = bytes.split_off(head + 4);
    let wanted = header(&text, "content-length")
        .and_then(|length| length.parse().ok())
        .unwrap_or(MAX_BODY)
        .min(MAX_BODY);
    let chunked = header(&text, "transfer-encoding").is_some();
    // A server that keeps the connection open must not make a good answer late.
    while body.len() < wanted && !(chunked && body.ends_with(b"\r\n0\r\n\r\n")) {
        match more(&mut stream, &mut body).await {
            Ok(0) | Err(_) => break,
            Ok(_) => {}
        }
    }
    body.truncate(MAX_BODY);
    Ok(Answer {
        code,
        location: header(&text, "location").map(str::to_owned),
        body: String::from_utf8_lossy(&body).into_owned(),
    })
}

impl Answer {
    /// What a probe that got this warns of: it was sent elsewhere, and did not go.
    pub fn warning(&self) -> String {
        match self.code {
            300..400 => format!("Probe terminated redirects, Response body: {}", self.body),
            _ => String::new(),
        }
    }
}

/// Where an answer sends a request for `host` and `port`; none when it sends it nowhere.
pub fn redirect(answer: &Answer, scheme: &str, host: &str, port: u32) -> Option<Redirect> {
    if !matches!(answer.code, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = answer.location.as_deref()?;
    let Some((other, rest)) = location.split_once("://") else {
        let path = match location.starts_with('/') {
            true => location.to_owned(),
            false => format!("/{location}"),
        };
        return Some(Redirect::Here(port, path));
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let default = if other == "https" { 443 } else { 80 };
    let (name, number) = match authority.rsplit_once(':') {
        Some((name, number)) => (name, number.parse().unwrap_or(default)),
        None => (authority, default),
    };
    if other != scheme || name != host {
        return Some(Redirect::Elsewhere);
    }
    Some(Redirect::Here(number, path.to_owned()))
}

async fn more<S: AsyncRead + Unpin>(stream: &mut S, bytes: &mut Vec<u8>) -> io::Result<usize> {
    let mut buffer = [0; 4096];
    let length = stream.read(&mut buffer).await?;
    bytes.extend_from_slice(&buffer[..length]);
    Ok(length)
}

fn malformed(bytes: &[u8]) -> io::Error {
    if bytes.is_empty() {
        return io::Error::new(io::ErrorKind::UnexpectedEof, "EOF");
    }
    let line = String::from_utf8_lossy(bytes);
    let line = line
        .lines()
        .next()
        .unwrap_or_default()
        .chars()
        .take(64)
        .collect::<String>();
    io::Error::new(
        io::ErrorKind::InvalidData,
        format!("net/http: HTTP/1.x transport connection broken: malformed HTTP response {line:?}"),
    )
}

fn header<'a>(head: &'a str, wanted: &str) -> Option<&'a str> {
    let found = head.lines().skip(1).find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.trim().eq_ignore_ascii_case(wanted).then(|| value.trim())
    });
    found.filter(|value| !value.is_empty())
}

fn request(host: &str, get: &HttpGet) -> String {
    let name = if get.host.is_empty() { host } else { &get.host };
    // A line break would begin another header.
    let plain = |text: &str| !text.contains(['\r', '\n']);
    let own: Vec<&Header> = get
        .headers
        .iter()
        .filter(|header| plain(&header.name) && plain(&header.value))
        .collect();
    let mut lines = String::new();
    let defaults = [
        ("Host", format!("{name}:{}", get.port)),
        ("User-Agent", "kube-probe/1.35".to_owned()),
        ("Accept", "*/*".to_owned()),
    ];
    for (name, value) in defaults {
        if !own.iter().any(|header| header.name.eq_ignore_ascii_case(name)) {
            lines += &format!("{name}: {value}\r\n");
        }
    }
    for header in own {
        // An empty value takes a default away.
        if !header.value.is_empty() {
            lines += &format!("{}: {}\r\n", header.name, header.value);
        }
    }
    let slash = if get.path.starts_with('/') { "" } else { "/" };
    let path = get.path.replace([' ', '\r', '\n'], "%20");
    format!("GET {slash}{path} HTTP/1.1\r\n{lines}Connection: close\r\n\r\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn answer(text: &'static str) -> io::Result<Answer> {
        let (near, mut far) = tokio::io::duplex(1 << 16);
        let server = tokio::spawn(async move {
            let mut buffer = [0; 1024];
            let _ = far.read(&mut buffer).await;
            let _ = far.write_all(text.as_bytes()).await;
            far
        });
        let wanted = HttpGet {
            port: 80,
            path: "/healthz".to_owned(),
            ..HttpGet::default()
        };
        let result = get(near, "10.244.0.2", &wanted).await;
        drop(server.await);
        result
    }

    #[tokio::test]
    async fn answers() {
        let ok = answer("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
            .await
            .expect("an answer");
        assert_eq!((ok.code, ok.body.as_str()), (200, "fine"));
        let moved = answer("HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")
            .await
            .expect("an answer");
        assert_eq!(
            redirect(&moved, "http", "h", 80),
            Some(Redirect::Here(80, "/x".to_owned()))
        );
        let chunked =
            answer("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n").await;
        assert_eq!(chunked.expect("an answer").code, 200);
        let error = answer("rubbish\r\n\r\n").await.expect_err("no HTTP");
        assert!(
            error.to_string().contains("malformed HTTP response \"rubbish\""),
            "{error}"
        );
    }

    #[test]
    fn requests_and_redirects() {
        let header = |name: &str, value: &str| Header {
            name: name.to_owned(),
            value: value.to_owned(),
        };
        let get = HttpGet {
            port: 8080,
            path: "h?x=1".to_owned(),
            headers: vec![
                header("accept", ""),
                header("X", "1"),
                header("X", "2"),
                header("Bad", "a\r\nb"),
            ],
            host: "name".to_owned(),
            tls: false,
        };
        assert_eq!(
            request("10.0.0.1", &get),
            "GET /h?x=1 HTTP/1.1\r\nHost: name:8080\r\nUser-Agent: kube-probe/1.35\r\nX: 1\r\nX: 2\r\nConnection: close\r\n\r\n"
        );
        let to = |location: &str| {
            let answer = Answer {
                code: 301,
                location: Some(location.to_owned()),
                body: String::new(),
            };
            redirect(&answer, "http", "a", 80)
        };
        assert_eq!(to("http://a:81/p"), Some(Redirect::Here(81, "/p".to_owned())));
        assert_eq!(to("https://a/p"), Some(Redirect::Elsewhere));
        assert_eq!(to("http://b/p"), Some(Redirect::Elsewhere));
    }
}
