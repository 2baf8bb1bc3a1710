//! `url`, `ip`, `cidr`.

use super::{Answer, Input, fail};
use crate::value::{Key, Map, Value};
use indexmap::IndexMap;
use std::net::IpAddr;
use std::sync::Arc;

/// An absolute URL, or an absolute path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Url {
    /// As given.
    pub(crate) text: String,
    scheme: String,
    /// Host and port.
    host: String,
    path: String,
    query: String,
}

impl Url {
    fn parse(text: &str) -> Result<Url, String> {
        let bad = |why: &str| format!("URL parse error during conversion from string: parse {text:?}: {why}");
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err(bad("net/url: invalid control character in URL"));
        }
        let without_fragment = text.split('#').next().unwrap_or("");
        let (head, query) = without_fragment.split_once('?').unwrap_or((without_fragment, ""));
        let (scheme, host, path) = match head.split_once("://") {
            Some((scheme, rest)) => {
                let well_formed = scheme.starts_with(|c: char| c.is_ascii_alphabetic())
                    && scheme
                        .chars()
                        .all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c));
                if !well_formed {
                    return Err(bad("first path segment in URL cannot contain colon"));
                }
                let at = rest.find('/').unwrap_or(rest.len());
                let authority = &rest[..at];
                let host = authority.rsplit('@').next().unwrap_or("");
                (scheme.to_lowercase(), host.to_string(), rest[at..].to_string())
            }
            None if head.starts_with('/') => (String::new(), String::new(), head.to_string()),
            None if head.starts_with(':') => return Err(bad("missing protocol scheme")),
            None => return Err(bad("invalid URI for request")),
        };
        let (_, port) = split_host(&host);
        if !port.chars().all(|c| c.is_ascii_digit()) {
            return Err(bad(&format!("invalid port \":{port}\" after host")));
        }
        Ok(Url {
            text: text.to_string(),
            scheme,
            host,
            path,
            query: query.to_string(),
        })
    }

    fn query(&self) -> Value<'static> {
        let mut out: IndexMap<Key<'static>, Vec<Value<'static>>> = IndexMap::new();
        for pair in self.query.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            out.entry(Key::String(decoded(key).into()))
                .or_default()
                .push(Value::text(decoded(value)));
        }
        let lists = out.into_iter().map(|(k, v)| (k, Value::list(v))).collect();
        Value::Map(Map::Own(Arc::new(lists)))
    }
}

/// Host and port; brackets of IPv6 addresses come off the host.
fn split_host(host: &str) -> (&str, &str) {
    if let Some(rest) = host.strip_prefix('[') {
        let (inside, after) = rest.split_once(']').unwrap_or((rest, ""));
        return (inside, after.strip_prefix(':').unwrap_or(""));
    }
    host.rsplit_once(':').unwrap_or((host, ""))
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex = |i: usize| bytes.get(i).and_then(|b| (*b as char).to_digit(16));
        match (bytes[at], hex(at + 1), hex(at + 2)) {
            (b'%', Some(high), Some(low)) => {
                out.push((high * 16 + low) as u8);
                at += 2;
            }
            (b'+', ..) => out.push(b' '),
            (other, ..) => out.push(other),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn address(text: &str) -> Result<IpAddr, String> {
    if let Some((ip, _)) = text.split_once('%')
        && ip.parse::<IpAddr>().is_ok()
    {
        return Err(format!("IP address {text:?} with zone value is not allowed"));
    }
    let ip: IpAddr = text.parse().map_err(|_| {
        format!(
            "IP Address {text:?} parse error during conversion from string: ParseAddr({text:?}): unable to parse IP"
        )
    })?;
    match ip {
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => {
            Err(format!("IPv4-mapped IPv6 address {text:?} is not allowed"))
        }
        ip => Ok(ip),
    }
}

fn network(text: &str) -> Result<(IpAddr, u8), String> {
    // Upstream says the beginning twice.
    const BEGINNING: &str = "network address parse error during conversion from string";
    let bad = |why: &str| format!("{BEGINNING}: {BEGINNING}: netip.ParsePrefix({text:?}): {why}");
    let (ip, bits) = text.split_once('/').ok_or_else(|| bad("no '/'"))?;
    let ip = address(ip).map_err(|_| bad(&format!("ParseAddr({ip:?}): unable to parse IP")))?;
    let digits = !bits.is_empty()
        && bits.chars().all(|c| c.is_ascii_digit())
        && (bits == "0" || !bits.starts_with('0'));
    let bits: u8 = match bits.parse() {
        Ok(bits) => bits,
        Err(_) if digits => return Err(bad("prefix length out of range")),
        Err(_) => return Err(bad(&format!("bad bits after slash: {bits:?}"))),
    };
    match digits && bits <= width(ip) {
        true => Ok((ip, bits)),
        false => Err(bad("prefix length out of range")),
    }
}

fn width(ip: IpAddr) -> u8 {
    if ip.is_ipv4() { 32 } else { 128 }
}

fn number(ip: IpAddr) -> u128 {
    match ip {
        IpAddr::V4(v4) => u128::from(u32::from(v4)),
        IpAddr::V6(v6) => u128::from(v6),
    }
}

fn masked(ip: IpAddr, bits: u8) -> IpAddr {
    let host_bits = u32::from(width(ip) - bits);
    let kept = number(ip)
        .checked_shr(host_bits)
        .unwrap_or(0)
        .checked_shl(host_bits)
        .unwrap_or(0);
    match ip {
        IpAddr::V4(_) => IpAddr::V4((kept as u32).into()),
        IpAddr::V6(_) => IpAddr::V6(kept.into()),
    }
}

fn holds(net: (IpAddr, u8), ip: IpAddr) -> bool {
    net.0.is_ipv4() == ip.is_ipv4() && masked(net.0, net.1) == masked(ip, net.1)
}

pub(super) fn call<'a>(input: &Input<'_, 'a>) -> Answer<'a> {
    let length = match input.args.first() {
        Some(Value::String(text)) => text.len() as u64,
        Some(Value::Ip(_) | Value::Cidr(..) | Value::Url(_)) => 1,
        _ => return None,
    };
    let known = matches!(
        input.function,
        "url" | "isURL" | "ip" | "isIP" | "ip.isCanonical" | "cidr" | "isCIDR"
    ) || length == 1;
    if known && let Err(error) = input.meter.text(length) {
        return Some(Err(error));
    }
    let bool = |b: bool| Some(Ok(Value::Bool(b)));
    let string = |s: &str| Some(Ok(Value::text(s)));
    match (input.function, input.args) {
        ("url", [Value::String(text)]) => match Url::parse(text) {
            Ok(url) => Some(Ok(Value::Url(Arc::new(url)))),
            Err(why) => fail(why),
        },
        ("isURL", [Value::String(text)]) => bool(Url::parse(text).is_ok()),
        ("getScheme", [Value::Url(url)]) => string(&url.scheme),
        ("getHost", [Value::Url(url)]) => string(&url.host),
        ("getHostname", [Value::Url(url)]) => string(split_host(&url.host).0),
        ("getPort", [Value::Url(url)]) => string(split_host(&url.host).1),
        ("getEscapedPath", [Value::Url(url)]) => string(&url.path),
        ("getQuery", [Value::Url(url)]) => Some(Ok(url.query())),
        ("ip", [Value::String(text)]) => match address(text) {
            Ok(ip) => Some(Ok(Value::Ip(ip))),
            Err(why) => fail(why),
        },
        ("isIP", [Value::String(text)]) => bool(address(text).is_ok()),
        ("ip.isCanonical", [Value::String(text)]) => match address(text) {
            Ok(ip) => bool(ip.to_string() == **text),
            Err(why) => fail(why),
        },
        ("family", [Value::Ip(ip)]) => Some(Ok(Value::Int(if ip.is_ipv4() { 4 } else { 6 }))),
        ("isUnspecified", [Value::Ip(ip)]) => bool(ip.is_unspecified()),
        ("isLoopback", [Value::Ip(ip)]) => bool(ip.is_loopback()),
        ("isLinkLocalMulticast", [Value::Ip(ip)]) => bool(match ip {
            IpAddr::V4(v4) => v4.octets()[..3] == [224, 0, 0],
            IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
        }),
        ("isLinkLocalUnicast", [Value::Ip(ip)]) => bool(is_link_local(*ip)),
        ("isGlobalUnicast", [Value::Ip(ip)]) => {
            let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
            bool(
                !broadcast
                    && !ip.is_unspecified()
                    && !ip.is_loopback()
                    && !ip.is_multicast()
                    && !is_link_local(*ip),
            )
        }
        ("cidr", [Value::String(text)]) => match network(text) {
            Ok((ip, bits)) => Some(Ok(Value::Cidr(ip, bits))),
            Err(why) => fail(why),
        },
        ("isCIDR", [Value::String(text)]) => bool(network(text).is_ok()),
        ("ip", [Value::Cidr(ip, _)]) => Some(Ok(Value::Ip(*ip))),
        ("masked", [Value::Cidr(ip, bits)]) => Some(Ok(Value::Cidr(masked(*ip, *bits), *bits))),
        ("prefixLength", [Value::Cidr(_, bits)]) => Some(Ok(Value::Int(i64::from(*bits)))),
        ("containsIP", [Value::Cidr(net, bits), Value::Ip(ip)]) => bool(holds((*net, *bits), *ip)),
        ("containsIP", [Value::Cidr(net, bits), Value::String(text)]) => match address(text) {
            Ok(ip) => bool(holds((*net, *bits), ip)),
            Err(_) => Some(Err(crate::eval::EvalError::no_overload())),
        },
        ("containsCIDR", [Value::Cidr(net, bits), Value::Cidr(ip, inner)]) => {
            bool(holds((*net, *bits), *ip) && inner >= bits)
        }
        ("containsCIDR", [Value::Cidr(net, bits), Value::String(text)]) => match network(text) {
            Ok((ip, inner)) => bool(holds((*net, *bits), ip) && inner >= *bits),
            Err(why) => fail(why),
        },
        _ => None,
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    }
}
