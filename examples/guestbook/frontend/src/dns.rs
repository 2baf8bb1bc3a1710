//! Looks up IPv4 addresses as `/etc/resolv.conf` says: nameservers in order, search list, `ndots`.
//!
//! A static program has no `getaddrinfo` that could load name service modules, so this asks by itself (RFC 1035).

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, SystemTime};

use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Where the resolver's settings are.
const RESOLV_CONF: &str = "/etc/resolv.conf";
/// How long one server may take for one question.
const ANSWER_LIMIT: Duration = Duration::from_secs(2);
/// How often every server is asked (resolv.conf(5): attempts).
const ATTEMPTS: usize = 2;
/// More are not read (resolv.conf(5): MAXNS).
const MAX_SERVERS: usize = 3;
/// The longest answer over UDP without EDNS; a little room for servers that do not care.
const MAX_ANSWER: usize = 4096;
const TYPE_A: u16 = 1;
const CLASS_IN: u16 = 1;

/// The settings that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Settings {
    servers: Vec<SocketAddr>,
    search: Vec<String>,
    ndots: usize,
}

/// Why a name has no address.
#[derive(Debug)]
pub enum LookupError {
    /// The settings cannot be read or name no server.
    Settings(String),
    /// The name is too long or otherwise no name.
    BadName,
    /// Every server says that there is none.
    NotFound,
    /// No server answered.
    NoAnswer(io::Error),
}

impl fmt::Display for LookupError {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Settings(text) => formatter.write_str(text),
            Self::BadName => formatter.write_str("not a host name"),
            Self::NotFound => formatter.write_str("no such host"),
            Self::NoAnswer(error) => write!(formatter, "the name server does not answer: {error}"),
        }
    }
}

impl std::error::Error for LookupError {}

/// The IPv4 addresses of a host; never an empty list.
pub async fn lookup(host: &str) -> Result<Vec<Ipv4Addr>, LookupError> {
    if let Ok(address) = host.parse() {
        return Ok(vec![address]);
    }
    let text = tokio::fs::read_to_string(RESOLV_CONF)
        .await
        .map_err(|error| LookupError::Settings(format!("{RESOLV_CONF}: {error}")))?;
    lookup_with(&Settings::parse(&text), host).await
}

async fn lookup_with(settings: &Settings, host: &str) -> Result<Vec<Ipv4Addr>, LookupError> {
    if settings.servers.is_empty() {
        return Err(LookupError::Settings(format!(
            "{RESOLV_CONF} names no nameserver"
        )));
    }
    for name in settings.candidates(host) {
        let addresses = ask_all(&settings.servers, &name).await?;
        if !addresses.is_empty() {
            return Ok(addresses);
        }
    }
    Err(LookupError::NotFound)
}

/// Asks the servers in turn until one answers.
async fn ask_all(servers: &[SocketAddr], name: &str) -> Result<Vec<Ipv4Addr>, LookupError> {
    let mut last = io::Error::from(io::ErrorKind::TimedOut);
    for server in (0..ATTEMPTS).flat_map(|_| servers) {
        let id = fresh_id();
        let query = query(id, name).ok_or(LookupError::BadName)?;
        match timeout(ANSWER_LIMIT, ask(*server, id, &query)).await {
            Ok(Ok(addresses)) => return Ok(addresses),
            Ok(Err(error)) => last = error,
            Err(_) => last = io::Error::from(io::ErrorKind::TimedOut),
        }
    }
    Err(LookupError::NoAnswer(last))
}

async fn ask(server: SocketAddr, id: u16, query: &[u8]) -> io::Result<Vec<Ipv4Addr>> {
    let any: SocketAddr = match server.ip() {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (std::net::Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; MAX_ANSWER];
    loop {
        let length = socket.recv(&mut buffer).await?;
        // What does not fit the question is somebody else's; the caller's limit ends the wait.
        if let Some(answer) = parse_answer(id, &query[12..], &buffer[..length]) {
            return answer;
        }
    }
}

impl Settings {
    fn parse(text: &str) -> Self {
        let mut settings = Self {
            servers: Vec::new(),
            search: Vec::new(),
            ndots: 1,
        };
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") if settings.servers.len() < MAX_SERVERS => {
                    let address = words.next().and_then(|word| word.parse::<IpAddr>().ok());
                    settings.servers.extend(address.map(|ip| SocketAddr::new(ip, 53)));
                }
                // The last of these lines counts.
                Some("search" | "domain") => settings.search = words.map(str::to_owned).collect(),
                Some("options") => {
                    let mut ndots = words.filter_map(|word| word.strip_prefix("ndots:")?.parse().ok());
                    settings.ndots = ndots.next_back().unwrap_or(settings.ndots);
                }
                _ => {}
            }
        }
        settings
    }

    /// The names to ask for, in order.
    fn candidates(&self, host: &str) -> Vec<String> {
        if let Some(absolute) = host.strip_suffix('.') {
            return vec![absolute.to_owned()];
        }
        let searched = self.search.iter().map(|domain| match domain.trim_matches('.') {
            "" => host.to_owned(),
            domain => format!("{host}.{domain}"),
        });
        let itself = std::iter::once(host.to_owned());
        if host.matches('.').count() >= self.ndots {
            itself.chain(searched).collect()
        } else {
            searched.chain(itself).collect()
        }
    }
}

/// Ids need not be secret here: the servers are reached over the Pod's own link.
fn fresh_id() -> u16 {
    let now = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap_or_default();
    let bytes = now.subsec_nanos().to_le_bytes();
    u16::from_le_bytes([bytes[0], bytes[1]])
}

/// A query for A records; `None` when the name cannot be written.
fn query(id: u16, name: &str) -> Option<Vec<u8>> {
    let mut bytes = id.to_be_bytes().to_vec();
    // Recursion desired; one question.
    bytes.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.split('.') {
        let length = u8::try_from(label.len())
            .ok()
            .filter(|length| (1..=63).contains(length))?;
        bytes.push(length);
        bytes.extend(label.bytes());
    }
    bytes.push(0);
    if bytes.len() - 12 > 255 {
        return None;
    }
    bytes.extend(TYPE_A.to_be_bytes());
    bytes.extend(CLASS_IN.to_be_bytes());
    Some(bytes)
}

/// The addresses of an answer to our question; `None` when it answers another one.
fn parse_answer(id: u16, question: &[u8], message: &[u8]) -> Option<io::Result<Vec<Ipv4Addr>>> {
    let is_answer = message.get(2)? & 0x80 != 0;
    if u16_at(message, 0)? != id || !is_answer {
        return None;
    }
    let code = message.get(3)? & 0x0f;
    if code != 0 && code != 3 {
        return Some(Err(io::Error::other(format!("it reports error {code}"))));
    }
    let echoed = message.get(12..12 + question.len())?;
    if u16_at(message, 4)? != 1 || !echoed.eq_ignore_ascii_case(question) {
        return None;
    }
    let mut addresses = Vec::new();
    let mut at = 12 + question.len();
    for _ in 0..u16_at(message, 6)? {
        let Some((kind, class, data, next)) = record(message, at) else {
            // Cut off: what came before is good.
            break;
        };
        if let (TYPE_A, CLASS_IN, Ok(octets)) = (kind, class, <[u8; 4]>::try_from(data)) {
            addresses.push(Ipv4Addr::from(octets));
        }
        at = next;
    }
    Some(Ok(addresses))
}

/// (type, class, data, where the next record begins)
fn record(message: &[u8], at: usize) -> Option<(u16, u16, &[u8], usize)> {
    let at = skip_name(message, at)?;
    let length = usize::from(u16_at(message, at + 8)?);
    let start = at + 10;
    let data = message.get(start..start + length)?;
    Some((
        u16_at(message, at)?,
        u16_at(message, at + 2)?,
        data,
        start + length,
    ))
}

/// A name ends with a zero byte or a pointer of two bytes.
fn skip_name(message: &[u8], mut at: usize) -> Option<usize> {
    loop {
        match *message.get(at)? {
            0 => return Some(at + 1),
            pointer if pointer & 0xc0 == 0xc0 => return Some(at + 2),
            length => at += 1 + usize::from(length),
        }
    }
}

fn u16_at(message: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*message.get(at)?, *message.get(at + 1)?]))
}

#[cfg(test)]
mod tests {
    use super::*;

    const POD: &str = "search shop.svc.cluster.local svc.cluster.local cluster.local\n\
                       nameserver 10.96.0.10\noptions ndots:5\n";

    #[test]
    fn settings_are_read_as_libc_does() {
        let pod = Settings::parse(POD);
        assert_eq!(pod.servers, [SocketAddr::from(([10, 96, 0, 10], 53))]);
        assert_eq!(pod.ndots, 5);
        let names = pod.candidates("redis-master");
        assert_eq!(names[0], "redis-master.shop.svc.cluster.local");
        assert_eq!(names.last().map(String::as_str), Some("redis-master"));
        assert_eq!(pod.candidates("a.b."), ["a.b"]);
        let plain = Settings::parse("; comment\nnameserver nonsense\ndomain example.org\n");
        assert!(plain.servers.is_empty());
        assert_eq!(plain.candidates("a.b"), ["a.b", "a.b.example.org"]);
    }

    #[test]
    fn names_that_cannot_be_written_are_refused() {
        let long_label = "x".repeat(64);
        let long_name = ["x".repeat(60).as_str(); 5].join(".");
        for name in ["", "a..b", &long_label, &long_name] {
            assert!(query(1, name).is_none(), "{name:?}");
        }
    }

    /// An answer with a CNAME before the address, as for an ExternalName Service.
    fn answer(id: u16, code: u8, addresses: &[[u8; 4]]) -> Vec<u8> {
        let mut bytes = query(id, "a.b").expect("a name");
        bytes[2] |= 0x80;
        bytes[3] = code;
        bytes[7] = u8::try_from(addresses.len() + 1).expect("few");
        bytes.extend([0xc0, 12, 0, 5, 0, 1, 0, 0, 0, 5, 0, 2, 0xc0, 12]);
        for octets in addresses {
            bytes.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 5, 0, 4]);
            bytes.extend(octets);
        }
        bytes
    }

    #[test]
    fn answers_are_read_and_strangers_ignored() {
        let question = &query(7, "A.B").expect("a name")[12..];
        let full = answer(7, 0, &[[10, 0, 0, 1], [10, 0, 0, 2]]);
        let addresses = |message: &[u8]| parse_answer(7, question, message).map(Result::ok);
        let one = vec![Ipv4Addr::new(10, 0, 0, 1)];
        let both = vec![Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2)];
        assert_eq!(addresses(&full), Some(Some(both)));
        assert_eq!(addresses(&full[..full.len() - 1]), Some(Some(one)));
        assert_eq!(
            addresses(&answer(7, 3, &[])),
            Some(Some(Vec::new())),
            "no such name"
        );
        assert_eq!(addresses(&answer(7, 2, &[])), Some(None), "server failure");
        assert_eq!(addresses(&answer(8, 0, &[])), None, "another id");
        assert_eq!(
            parse_answer(7, b"x", &full).map(Result::ok),
            None,
            "another question"
        );
        for cut in 0..full.len() {
            // Whatever is cut off, nothing panics.
            let _ = parse_answer(7, question, &full[..cut]);
        }
    }

    #[tokio::test]
    async fn a_server_on_loopback_is_asked() {
        let server = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback");
        let settings = Settings {
            servers: vec![server.local_addr().expect("bound")],
            search: Vec::new(),
            ndots: 1,
        };
        let answering = async {
            let mut buffer = [0; 512];
            let (_, peer) = server.recv_from(&mut buffer).await.expect("a question");
            let id = u16::from_be_bytes([buffer[0], buffer[1]]);
            let message = answer(id, 0, &[[10, 0, 0, 3]]);
            server.send_to(&message, peer).await.expect("an answer");
        };
        let (got, ()) = tokio::join!(lookup_with(&settings, "a.b"), answering);
        assert_eq!(got.expect("an address"), [Ipv4Addr::new(10, 0, 0, 3)]);
    }
}
