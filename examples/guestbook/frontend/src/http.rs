//! As much HTTP/1.1 as a page with a form needs. Every size is bounded.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The longest request line with headers, in bytes.
const MAX_HEAD: usize = 16 << 10;
/// The longest body, in bytes.
const MAX_BODY: usize = 8 << 10;

/// A request that was read whole.
#[derive(Debug, PartialEq, Eq)]
pub struct Request {
    pub method: String,
    /// The path without its query.
    pub path: String,
    /// `application/json`, say; lower case, without parameters.
    pub content_type: String,
    pub body: Vec<u8>,
}

/// What goes back.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    pub location: Option<&'static str>,
    pub body: String,
}

impl Response {
    /// Plain text, one line.
    pub fn text(status: u16, text: impl Into<String>) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            location: None,
            body: text.into() + "\n",
        }
    }

    /// A page.
    pub fn html(status: u16, body: String) -> Self {
        Self {
            status,
            content_type: "text/html; charset=utf-8",
            location: None,
            body,
        }
    }

    /// A JSON document.
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        Self {
            status,
            content_type: "application/json",
            location: None,
            body: format!("{value}\n"),
        }
    }

    /// Back to the page after a form was taken, so that a reload does not send it again.
    pub fn see_other(location: &'static str) -> Self {
        Self {
            location: Some(location),
            ..Self::text(303, "see the page")
        }
    }
}

/// Reads one request. `None`: the client closed before it said anything. `Err` inside: what to answer instead.
pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<Result<Request, Response>>> {
    let mut buffer = Vec::with_capacity(1024);
    let end = loop {
        if let Some(end) = find(&buffer, b"\r\n\r\n") {
            break end;
        }
        if buffer.len() > MAX_HEAD {
            return Ok(Some(Err(Response::text(
                431,
                "the request's headers are too long",
            ))));
        }
        if stream.read_buf(&mut buffer).await? == 0 {
            return Ok((!buffer.is_empty()).then(|| Err(Response::text(400, "the request ends too early"))));
        }
    };
    let head = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let mut body = buffer.split_off(end + 4);
    let (mut request, length) = match parse_head(&head) {
        Ok(parsed) => parsed,
        Err(refusal) => return Ok(Some(Err(refusal))),
    };
    while body.len() < length {
        if stream.read_buf(&mut body).await? == 0 {
            return Ok(Some(Err(Response::text(
                400,
                "the request's body ends too early",
            ))));
        }
    }
    body.truncate(length);
    request.body = body;
    Ok(Some(Ok(request)))
}

/// The request without its body, and the body's length.
fn parse_head(head: &str) -> Result<(Request, usize), Response> {
    let mut lines = head.split("\r\n");
    let line = lines.next().unwrap_or_default();
    let words: Vec<&str> = line.split(' ').collect();
    let [method, target, version] = words[..] else {
        return Err(Response::text(400, "the first line is no request line"));
    };
    if !version.starts_with("HTTP/1.") || !target.starts_with('/') {
        return Err(Response::text(400, "the first line is no request line"));
    }
    let mut length = 0;
    let mut content_type = String::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        match name.to_ascii_lowercase().as_str() {
            "content-length" => {
                length = value
                    .parse()
                    .map_err(|_| Response::text(400, "Content-Length is no number"))?;
            }
            "content-type" => {
                let media = value.split(';').next().unwrap_or_default();
                content_type = media.trim().to_ascii_lowercase();
            }
            "transfer-encoding" => return Err(Response::text(411, "send a Content-Length")),
            _ => {}
        }
    }
    if length > MAX_BODY {
        let text = format!("the body is longer than {MAX_BODY} bytes");
        return Err(Response::text(413, text));
    }
    let request = Request {
        method: method.to_owned(),
        path: target.split(['?', '#']).next().unwrap_or_default().to_owned(),
        content_type,
        body: Vec::new(),
    };
    Ok((request, length))
}

/// Writes the answer and closes the sending side.
pub async fn write(stream: &mut (impl AsyncWrite + Unpin), response: &Response) -> io::Result<()> {
    let reason = match response.status {
        200 => "OK",
        201 => "Created",
        303 => "See Other",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        411 => "Length Required",
        413 => "Content Too Large",
        431 => "Request Header Fields Too Large",
        _ => "Service Unavailable",
    };
    let mut text = format!(
        "HTTP/1.1 {} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\nCache-Control: no-store\r\n\
         X-Content-Type-Options: nosniff\r\nConnection: close\r\n",
        response.status,
        response.content_type,
        response.body.len()
    );
    if let Some(location) = response.location {
        text += &format!("Location: {location}\r\n");
    }
    text += "\r\n";
    text += &response.body;
    stream.write_all(text.as_bytes()).await?;
    stream.shutdown().await
}

/// The value of a field of an `application/x-www-form-urlencoded` body.
pub fn form_field(body: &[u8], name: &str) -> Option<String> {
    let text = std::str::from_utf8(body).ok()?;
    text.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (decode(key) == name).then(|| decode(value))
    })
}

/// Undoes form encoding; a `%` that starts no escape stands for itself.
fn decode(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(&byte) = bytes.get(at) {
        let escape = (byte == b'%').then(|| hex_pair(bytes, at + 1)).flatten();
        match escape {
            Some(value) => {
                decoded.push(value);
                at += 3;
            }
            None => {
                decoded.push(if byte == b'+' { b' ' } else { byte });
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

fn hex_pair(bytes: &[u8], at: usize) -> Option<u8> {
    let digit = |index: usize| char::from(*bytes.get(index)?).to_digit(16);
    u8::try_from(digit(at)? * 16 + digit(at + 1)?).ok()
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Method, path and body; or the status of the refusal.
    type Expected = Result<(&'static str, &'static str, &'static str), u16>;

    #[tokio::test]
    async fn requests_are_read_or_refused() {
        let long = format!("GET / HTTP/1.1\r\nX: {}", "x".repeat(MAX_HEAD + 1));
        let cases: [(&str, Expected); 9] = [
            ("GET / HTTP/1.1\r\nHost: a\r\n\r\n", Ok(("GET", "/", ""))),
            ("GET /messages?x=1 HTTP/1.1\r\n\r\n", Ok(("GET", "/messages", ""))),
            (
                "POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\nabcdef",
                Ok(("POST", "/", "abc")),
            ),
            ("POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nabc", Err(400)),
            ("POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n", Err(400)),
            ("POST / HTTP/1.1\r\nContent-Length: 9999999\r\n\r\n", Err(413)),
            ("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", Err(411)),
            ("nonsense\r\n\r\n", Err(400)),
            (&long, Err(431)),
        ];
        for (text, expected) in cases {
            let mut bytes = text.as_bytes();
            let got = read(&mut bytes)
                .await
                .expect("reading from memory")
                .expect("something was sent");
            match (got, expected) {
                (Ok(request), Ok((method, path, body))) => {
                    assert_eq!((request.method.as_str(), request.path.as_str()), (method, path));
                    assert_eq!(request.body, body.as_bytes());
                }
                (Err(response), Err(status)) => assert_eq!(response.status, status, "{text:.40}"),
                (got, expected) => panic!("{text:.40}: {got:?} instead of {expected:?}"),
            }
        }
    }

    #[tokio::test]
    async fn an_answer_has_its_length_and_its_place() {
        let mut bytes = Vec::new();
        write(&mut bytes, &Response::see_other("/"))
            .await
            .expect("writing to memory");
        let text = String::from_utf8(bytes).expect("text");
        assert!(text.starts_with("HTTP/1.1 303 See Other\r\n"), "{text}");
        assert!(text.contains("Content-Length: 13\r\n"), "{text}");
        assert!(text.contains("Location: /\r\n"), "{text}");
        assert!(text.ends_with("\r\n\r\nsee the page\n"), "{text}");
    }

    #[test]
    fn form_fields_are_decoded() {
        let cases = [
            ("message=hello", Some("hello")),
            ("a=b&message=x+y%21", Some("x y!")),
            ("message=%C3%A4%zz%", Some("\u{e4}%zz%")),
            ("message", Some("")),
            ("other=1", None),
        ];
        for (body, expected) in cases {
            assert_eq!(
                form_field(body.as_bytes(), "message").as_deref(),
                expected,
                "{body}"
            );
        }
    }
}
