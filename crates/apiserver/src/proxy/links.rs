//! Links of what a Pod or Service answers through the proxy: a page knows nothing of the path that led to it, so what
//! begins with a slash would leave the proxy. Redirections and the links in HTML are led back into it, as upstream does.

use crate::wire::{Body, Response, body};
use bytes::Bytes;
use futures::stream;
use http::header::{self, HeaderMap, HeaderValue};
use http_body_util::BodyExt;

/// A tag or comment that is longer than this is passed on as it is.
const LONGEST: usize = 64 << 10;

/// Attributes that are links.
const LINKS: [(&str, &[&str]); 30] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("track", &["src"]),
    ("video", &["poster", "src"]),
    ("td", &["background"]),
    ("table", &["background"]),
    ("th", &["background"]),
    ("tr", &["background"]),
];

/// Elements whose content is no HTML.
const RAW: [&str; 2] = ["script", "style"];

/// Where links lead.
pub struct Links {
    /// The path of the proxy, up to and without the slash after `proxy`.
    pub prefix: String,
    /// The backend as `ADDRESS:PORT`: absolute links to it are meant, too.
    pub backend: String,
}

/// Leads an answer's redirection, or its page's links, through the proxy.
pub fn lead_back(mut response: Response, links: Links) -> Response {
    let headers = response.headers_mut();
    if let Some(to) = headers.get(header::LOCATION).and_then(|to| to.to_str().ok()) {
        if let Ok(to) = HeaderValue::try_from(links.through(to)) {
            headers.insert(header::LOCATION, to);
        }
        return response;
    }
    if !is_plain_html(headers) {
        return response;
    }
    headers.remove(header::CONTENT_LENGTH);
    response.map(|inner| rewritten(inner, links))
}

fn is_plain_html(headers: &HeaderMap) -> bool {
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let kind = text(header::CONTENT_TYPE).and_then(|kind| kind.split(';').next());
    let is_html = kind.is_some_and(|kind| kind.trim().eq_ignore_ascii_case("text/html"));
    is_html && matches!(text(header::CONTENT_ENCODING), None | Some("" | "identity"))
}

fn rewritten(inner: Body, links: Links) -> Body {
    let page = Page {
        links,
        waiting: Vec::new(),
        raw: None,
    };
    let chunks = stream::unfold(Some((inner, page)), |state| async {
        let (mut inner, mut page) = state?;
        loop {
            let out = match inner.frame().await {
                Some(Ok(frame)) => match frame.into_data() {
                    Ok(data) => page.push(&data),
                    Err(_) => continue,
                },
                Some(Err(e)) => return Some((Err(e), None)),
                None => return Some((Ok(Bytes::from(page.waiting)), None)),
            };
            if !out.is_empty() {
                return Some((Ok(Bytes::from(out)), Some((inner, page))));
            }
        }
    });
    body::stream(chunks)
}

impl Links {
    /// A link as it is led through the proxy; a relative one, or one to elsewhere, stays.
    fn through(&self, link: &str) -> String {
        let path = match link.split_once("//") {
            Some((scheme, rest)) if is_scheme(scheme) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                match rest[..end] == self.backend {
                    true => &rest[end..],
                    false => return link.to_string(),
                }
            }
            _ => link,
        };
        if !path.starts_with('/') || path.starts_with(&self.prefix) {
            return path.to_string();
        }
        format!("{}{path}", self.prefix)
    }
}

/// What stands before `//` in an absolute link: nothing, or a scheme.
fn is_scheme(text: &str) -> bool {
    match text.strip_suffix(':') {
        Some(scheme) => scheme
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b)),
        None => text.is_empty(),
    }
}

/// A page that comes in pieces.
struct Page {
    links: Links,
    /// The beginning of a tag whose end has not come.
    waiting: Vec<u8>,
    /// The element we are in, if its content is no HTML.
    raw: Option<&'static str>,
}

impl Page {
    /// Takes a piece and gives what can be passed on.
    fn push(&mut self, piece: &[u8]) -> Vec<u8> {
        let mut text = std::mem::take(&mut self.waiting);
        text.extend_from_slice(piece);
        let mut out = Vec::with_capacity(text.len());
        let mut at = 0;
        while let Some(found) = text[at..].iter().position(|b| *b == b'<') {
            out.extend_from_slice(&text[at..at + found]);
            at += found;
            match self.tag_end(&text[at..]) {
                Some(end) => {
                    self.tag(&text[at..at + end], &mut out);
                    at += end;
                }
                None if text.len() - at > LONGEST => {
                    out.push(b'<');
                    at += 1;
                }
                None => {
                    self.waiting = text.split_off(at);
                    return out;
                }
            }
        }
        out.extend_from_slice(&text[at..]);
        out
    }

    /// How long the thing is that begins with this `<`; none when its end has not come yet.
    fn tag_end(&self, text: &[u8]) -> Option<usize> {
        if let Some(raw) = self.raw {
            // Only its own end ends it.
            let close = format!("</{raw}");
            let known = text.len().min(close.len());
            if !text[..known].eq_ignore_ascii_case(&close.as_bytes()[..known]) {
                return Some(1);
            }
        }
        if text.starts_with(b"<!--") {
            let end = text.windows(3).skip(2).position(|three| three == b"-->")?;
            return Some(end + 5);
        }
        if b"<!--".starts_with(text) {
            return None;
        }
        if !text[1].is_ascii_alphabetic() && text[1] != b'/' {
            return Some(1);
        }
        let mut quote = None;
        for (at, byte) in text.iter().enumerate() {
            match (quote, byte) {
                (Some(open), b) if open == *b => quote = None,
                (None, b'"' | b'\'') => quote = Some(*byte),
                (None, b'>') => return Some(at + 1),
                _ => {}
            }
        }
        None
    }

    /// Passes a tag on, its links led through the proxy.
    fn tag(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        let ends_name = |b: &u8| b.is_ascii_whitespace() || matches!(b, b'/' | b'>' | b'=');
        let length = |from: usize| tag[from..].iter().take_while(|b| !ends_name(b)).count();
        if tag.len() < 3 || !tag[1].is_ascii_alphabetic() {
            if tag.starts_with(b"</") {
                self.raw = None;
            }
            return out.extend_from_slice(tag);
        }
        let mut at = 1 + length(1);
        let name = &tag[1..at];
        let is = |text: &str| name.eq_ignore_ascii_case(text.as_bytes());
        self.raw = RAW.into_iter().find(|raw| is(raw));
        let Some((_, links)) = LINKS.iter().find(|(element, _)| is(element)) else {
            return out.extend_from_slice(tag);
        };
        let mut copied = 0;
        while at < tag.len() {
            let name = &tag[at..at + length(at)];
            if name.is_empty() {
                at += 1;
                continue;
            }
            at += name.len();
            let blank = |from: usize| tag[from..].iter().take_while(|b| b.is_ascii_whitespace()).count();
            let equals = at + blank(at);
            if tag.get(equals) != Some(&b'=') {
                continue;
            }
            at = equals + 1 + blank(equals + 1);
            let quote = tag.get(at).copied().filter(|b| matches!(b, b'"' | b'\''));
            at += usize::from(quote.is_some());
            let ends = |b: &u8| match quote {
                Some(quote) => *b == quote,
                None => b.is_ascii_whitespace() || *b == b'>',
            };
            let value = &tag[at..at + tag[at..].iter().take_while(|b| !ends(b)).count()];
            let is_link = links
                .iter()
                .any(|link| name.eq_ignore_ascii_case(link.as_bytes()));
            if let (true, Ok(link)) = (is_link, std::str::from_utf8(value)) {
                out.extend_from_slice(&tag[copied..at]);
                out.extend_from_slice(self.links.through(link).as_bytes());
                copied = at + value.len();
            }
            at += value.len() + usize::from(quote.is_some());
        }
        out.extend_from_slice(&tag[copied..]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFIX: &str = "/api/v1/namespaces/n/pods/p:80/proxy";

    fn links() -> Links {
        Links {
            prefix: PREFIX.into(),
            backend: "10.0.0.1:80".into(),
        }
    }

    fn answer(kind: &'static str, text: &str, cut: usize) -> Response {
        let pieces = [&text[..cut], &text[cut..]].map(|piece| Ok(Bytes::from(piece.to_string())));
        let mut response = http::Response::new(body::stream(stream::iter(pieces)));
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(text.len()));
        response
    }

    #[tokio::test]
    async fn pages_link_through_the_proxy_wherever_they_are_cut() {
        let page = |p: &str| {
            format!(
                "<!DOCTYPE html><!-- <a href=\"/no\"> --><A class=x HREF=\"{p}/a?b=/c\">1 < 2</a><img alt='>' src={p}/i.png/>\
                 <a href='{p}/'><a href=\"b\"><a href=\"#x\"><a href=\"mailto:a@b\"><a title=\"/t\">\
                 <script src='{p}/s.js'>var a = '<a href=\"/no\">';</script><p href=\"/no\"><form action={p}/f>"
            )
        };
        let text = page("");
        for cut in 0..=text.len() {
            let response = lead_back(answer("text/html; charset=utf-8", &text, cut), links());
            assert!(!response.headers().contains_key(header::CONTENT_LENGTH));
            let got = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(String::from_utf8_lossy(&got), page(PREFIX), "cut at {cut}");
        }
        let plain = lead_back(answer("text/plain", &text, 3), links());
        let got = plain.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(got, text.as_bytes());
    }

    #[test]
    fn redirections_stay_in_the_proxy() {
        for (to, expected) in [
            ("/", format!("{PREFIX}/")),
            ("/login?next=//x/", format!("{PREFIX}/login?next=//x/")),
            ("http://10.0.0.1:80/login", format!("{PREFIX}/login")),
            ("//10.0.0.1:80/login", format!("{PREFIX}/login")),
            ("login", "login".into()),
            ("https://example.com/login", "https://example.com/login".into()),
            (&format!("{PREFIX}/x"), format!("{PREFIX}/x")),
        ] {
            let mut response = answer("text/html", "", 0);
            let to = HeaderValue::try_from(to).unwrap();
            response.headers_mut().insert(header::LOCATION, to.clone());
            let response = lead_back(response, links());
            assert_eq!(response.headers()[header::LOCATION], expected, "{to:?}");
        }
    }
}
