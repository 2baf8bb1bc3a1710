//! The parts of a URL, and what is wrong with one, as Go's `url.Parse` has it.

/// What validation looks at.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct WebAddress<'a> {
    pub(super) scheme: String,
    /// What stands before the host, where something does.
    pub(super) user: Option<&'a str>,
    pub(super) host: &'a str,
    pub(super) query: &'a str,
    pub(super) fragment: &'a str,
}

/// Which bytes may stand for themselves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Host,
    Other,
}

impl<'a> WebAddress<'a> {
    /// Reads one.
    ///
    /// # Errors
    /// In Go's words.
    pub(super) fn parse(url: &'a str) -> Result<WebAddress<'a>, String> {
        Self::read(url).map_err(|why| format!("parse {url:?}: {why}"))
    }

    fn read(url: &'a str) -> Result<WebAddress<'a>, String> {
        if url.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
            return Err("net/url: invalid control character in URL".to_owned());
        }
        let (url, fragment) = url.split_once('#').unwrap_or((url, ""));
        let (scheme, rest) = scheme(url)?;
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        let mut address = WebAddress {
            scheme: scheme.to_lowercase(),
            query,
            fragment,
            ..WebAddress::default()
        };
        if !rest.starts_with('/') {
            if !scheme.is_empty() {
                // Of such a thing no more is known.
                escapes(fragment, Part::Other)?;
                return Ok(address);
            }
            if rest.split('/').next().is_some_and(|first| first.contains(':')) {
                return Err("first path segment in URL cannot contain colon".to_owned());
            }
        }
        let mut path = rest;
        if let Some(below) = rest.strip_prefix("//")
            && (!scheme.is_empty() || !below.starts_with('/'))
        {
            let end = below.find('/').unwrap_or(below.len());
            (address.user, address.host) = match below[..end].rsplit_once('@') {
                Some((user, host)) => (Some(user), host),
                None => (None, &below[..end]),
            };
            host(address.host)?;
            path = &below[end..];
        }
        escapes(path, Part::Other)?;
        escapes(fragment, Part::Other)?;
        Ok(address)
    }
}

fn scheme(url: &str) -> Result<(&str, &str), String> {
    for (i, letter) in url.bytes().enumerate() {
        match letter {
            b'a'..=b'z' | b'A'..=b'Z' => {}
            b'0'..=b'9' | b'+' | b'-' | b'.' if i > 0 => {}
            b':' if i == 0 => return Err("missing protocol scheme".to_owned()),
            b':' => return Ok((&url[..i], &url[i + 1..])),
            _ => break,
        }
    }
    Ok(("", url))
}

fn host(host: &str) -> Result<(), String> {
    let after = match (host.starts_with('['), host.rfind(']')) {
        (true, None) => return Err("missing ']' in host".to_owned()),
        (true, Some(end)) => &host[end + 1..],
        (false, _) => host.rfind(':').map_or("", |colon| &host[colon..]),
    };
    let is_port = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    if !after.is_empty() && !after.strip_prefix(':').is_some_and(is_port) {
        return Err(format!("invalid port {after:?} after host"));
    }
    escapes(host, Part::Host)
}

/// Looks at what is escaped, and in a host at what would have to be.
fn escapes(text: &str, part: Part) -> Result<(), String> {
    let bytes = text.as_bytes();
    let mut i = 0;
    while let Some(byte) = bytes.get(i) {
        match byte {
            b'%' => {
                let code = bytes.get(i + 1..i + 3);
                let good = code.is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit));
                // In a host only what is beyond ASCII is escaped, and the sign itself before a zone.
                let plain = code.is_some_and(|code| code[0] < b'8' && code != b"25");
                if !good || part == Part::Host && plain {
                    let shown = String::from_utf8_lossy(&bytes[i..bytes.len().min(i + 3)]);
                    return Err(format!("invalid URL escape {shown:?}"));
                }
                i += 3;
            }
            byte => {
                let stands = byte.is_ascii_alphanumeric() || b"-_.~!$&'()*+,;=:[]<>\"".contains(byte);
                if part == Part::Host && byte.is_ascii() && !stands {
                    let shown = char::from(*byte).to_string();
                    return Err(format!("invalid character {shown:?} in host name"));
                }
                i += 1;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_as_go_reads_them() {
        let address = |scheme: &str, user, host, query, fragment| WebAddress {
            scheme: scheme.to_owned(),
            user,
            host,
            query,
            fragment,
        };
        for (url, wanted) in [
            (
                "HTTPS://u:p@a.b:443/c%20d?e=f#g",
                Ok(address("https", Some("u:p"), "a.b:443", "e=f", "g")),
            ),
            ("", Ok(WebAddress::default())),
            ("a/b:c", Ok(WebAddress::default())),
            ("//h/p", Ok(address("", None, "h", "", ""))),
            ("mailto:x", Ok(address("mailto", None, "", "", ""))),
            (
                "https://[::1]:80/",
                Ok(address("https", None, "[::1]:80", "", "")),
            ),
            ("::1", Err("parse \"::1\": missing protocol scheme")),
            ("50%", Err("parse \"50%\": invalid URL escape \"%\"")),
            ("/%zz/", Err("parse \"/%zz/\": invalid URL escape \"%zz\"")),
            (
                "1a:b",
                Err("parse \"1a:b\": first path segment in URL cannot contain colon"),
            ),
            (
                "a\nb",
                Err("parse \"a\\nb\": net/url: invalid control character in URL"),
            ),
            (
                "https://a b/",
                Err("parse \"https://a b/\": invalid character \" \" in host name"),
            ),
            (
                "https://a:b/",
                Err("parse \"https://a:b/\": invalid port \":b\" after host"),
            ),
            (
                "https://[::1/",
                Err("parse \"https://[::1/\": missing ']' in host"),
            ),
            (
                "https://a%20b/",
                Err("parse \"https://a%20b/\": invalid URL escape \"%20\""),
            ),
        ] {
            assert_eq!(WebAddress::parse(url), wanted.map_err(str::to_owned), "{url}");
        }
    }
}
