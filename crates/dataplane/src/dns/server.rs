//! Listening on the cluster DNS address: UDP and TCP, our names from the zone, other names forwarded.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio_util::sync::CancellationToken;

use super::places::Places;
use super::zone::Zone;
use crate::config::NetConfig;
use crate::model::Service;

const PORT: u16 = 53;
/// Questions that others are asked at once; more are dropped, and the resolver asks again. Our own names cost no place.
const MAX_IN_FLIGHT: usize = 512;
/// TCP connections at once.
const MAX_CONNECTIONS: usize = 512;
/// How long an upstream resolver may think.
const UPSTREAM_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a TCP client may say nothing.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// What a client without EDNS can take in one datagram (RFC 1035).
const PLAIN_DATAGRAM: u16 = 512;

/// The running server; it stops with its token.
pub(crate) struct DnsServer {
    shared: Arc<Shared>,
}

struct Shared {
    zone: ArcSwap<Zone>,
    domain: String,
    upstream: Vec<Ipv4Addr>,
    in_flight: Arc<Places>,
}

impl DnsServer {
    /// Binds both sockets and serves until `stop`.
    pub async fn start(config: &NetConfig, stop: CancellationToken) -> io::Result<Self> {
        let address = SocketAddr::new(IpAddr::V4(config.cluster_dns), PORT);
        let udp = Arc::new(UdpSocket::bind(address).await?);
        let tcp = TcpListener::bind(address).await?;
        let shared = Arc::new(Shared {
            zone: ArcSwap::from_pointee(Zone::of(&config.domain, &[])),
            domain: config.domain.clone(),
            upstream: config.upstream_dns.clone(),
            in_flight: Places::new(MAX_IN_FLIGHT),
        });
        tokio::spawn(
            stop.clone()
                .run_until_cancelled_owned(serve_udp(Arc::clone(&shared), udp)),
        );
        tokio::spawn(stop.run_until_cancelled_owned(serve_tcp(Arc::clone(&shared), tcp)));
        Ok(Self { shared })
    }

    /// Replaces the names.
    pub fn set_services(&self, services: &[Service]) {
        self.shared
            .zone
            .store(Arc::new(Zone::of(&self.shared.domain, services)));
    }
}

/// The answer to a question by the names of some Services alone; `None` for what is not a question.
pub async fn answer_from(
    domain: &str,
    services: &[Service],
    question: &[u8],
    datagram: bool,
) -> Option<Vec<u8>> {
    let shared = Shared {
        zone: ArcSwap::from_pointee(Zone::of(domain, services)),
        domain: domain.to_owned(),
        upstream: Vec::new(),
        in_flight: Places::new(1),
    };
    shared.answer(question, datagram).await
}

async fn serve_udp(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; 4096];
    loop {
        // An error here is about an earlier datagram (ICMP); there is nothing to be done about it.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let question = match shared.known(&buffer[..length], true) {
            Some(Known::Answer(answer)) => {
                let _ = socket.send_to(&answer, client).await;
                continue;
            }
            Some(Known::Elsewhere(question)) => question,
            None => continue,
        };
        let Some(place) = shared.in_flight.take(client.ip()) else {
            continue;
        };
        let bytes = buffer[..length].to_vec();
        let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
        tokio::spawn(async move {
            let _place = place;
            if let Some(answer) = shared.forward(&bytes, question, true).await {
                let _ = socket.send_to(&answer, client).await;
            }
        });
    }
}

async fn serve_tcp(shared: Arc<Shared>, listener: TcpListener) {
    let places = Places::new(MAX_CONNECTIONS);
    loop {
        let Ok((stream, client)) = listener.accept().await else {
            continue;
        };
        let Some(place) = places.take(client.ip()) else {
            continue;
        };
        let shared = Arc::clone(&shared);
        tokio::spawn(async move {
            let _place = place;
            // A client that breaks off has its answer or does not want it.
            let _ = serve_connection(&shared, stream).await;
        });
    }
}

async fn serve_connection(shared: &Shared, mut stream: TcpStream) -> io::Result<()> {
    loop {
        let length = tokio::time::timeout(IDLE_TIMEOUT, stream.read_u16()).await??;
        let mut question = vec![0; usize::from(length)];
        tokio::time::timeout(IDLE_TIMEOUT, stream.read_exact(&mut question)).await??;
        let Some(answer) = shared.answer(&question, false).await else {
            return Ok(());
        };
        let length = u16::try_from(answer.len()).map_err(io::Error::other)?;
        let answer = [&length.to_be_bytes()[..], &answer].concat();
        tokio::time::timeout(IDLE_TIMEOUT, stream.write_all(&answer)).await??;
    }
}

/// What we can say to a question ourselves.
enum Known {
    /// All of it.
    Answer(Vec<u8>),
    /// That others are to be asked; the answer so far.
    Elsewhere(Message),
}

impl Shared {
    /// The answer's bytes; `None` for what is not a question.
    async fn answer(&self, bytes: &[u8], datagram: bool) -> Option<Vec<u8>> {
        match self.known(bytes, datagram)? {
            Known::Answer(answer) => Some(answer),
            Known::Elsewhere(reply) => self.forward(bytes, reply, datagram).await,
        }
    }

    fn known(&self, bytes: &[u8], datagram: bool) -> Option<Known> {
        let question = Message::from_vec(bytes).ok()?;
        if question.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut reply = Message::response(question.metadata.id, question.metadata.op_code);
        reply.add_queries(question.queries.iter().cloned());
        reply.metadata.recursion_desired = question.metadata.recursion_desired;
        reply.metadata.recursion_available = true;
        let [query] = question.queries.as_slice() else {
            reply.metadata.response_code = ResponseCode::FormErr;
            return reply.to_vec().ok().map(Known::Answer);
        };
        if question.metadata.op_code != OpCode::Query {
            reply.metadata.response_code = ResponseCode::NotImp;
            return reply.to_vec().ok().map(Known::Answer);
        }
        let answer = self.zone.load().answer(query.name(), query.query_type());
        let Some(answer) = answer else {
            return Some(Known::Elsewhere(reply));
        };
        reply.metadata.authoritative = true;
        reply.metadata.response_code = answer.code;
        reply.add_answers(answer.records);
        reply.add_authorities(answer.soa);
        let size = question
            .edns
            .as_ref()
            .map_or(PLAIN_DATAGRAM, |_| question.max_payload());
        let bytes = reply.to_vec().ok()?;
        if datagram && bytes.len() > usize::from(size.max(PLAIN_DATAGRAM)) {
            // The client asks again over TCP.
            return reply.truncate().to_vec().ok().map(Known::Answer);
        }
        Some(Known::Answer(bytes))
    }

    /// Asks each upstream resolver in turn, over the transport that the client used.
    async fn forward(&self, question: &[u8], mut reply: Message, datagram: bool) -> Option<Vec<u8>> {
        for upstream in &self.upstream {
            let address = SocketAddr::new(IpAddr::V4(*upstream), PORT);
            let ask = async {
                if datagram {
                    ask_udp(address, question).await
                } else {
                    ask_tcp(address, question).await
                }
            };
            if let Ok(Ok(answer)) = tokio::time::timeout(UPSTREAM_TIMEOUT, ask).await {
                return Some(answer);
            }
        }
        // Without any resolver the name does not exist for us; with silent ones it is a failure to ask again.
        reply.metadata.response_code = if self.upstream.is_empty() {
            ResponseCode::NXDomain
        } else {
            ResponseCode::ServFail
        };
        reply.to_vec().ok()
    }
}

async fn ask_udp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
    // Connected: the kernel drops what others send to this port.
    socket.connect(server).await?;
    socket.send(question).await?;
    let mut buffer = vec![0; 4096];
    loop {
        let length = socket.recv(&mut buffer).await?;
        if length >= 2 && buffer[..2] == question[..2] {
            buffer.truncate(length);
            return Ok(buffer);
        }
    }
}

async fn ask_tcp(server: SocketAddr, question: &[u8]) -> io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect(server).await?;
    stream
        .write_u16(u16::try_from(question.len()).map_err(io::Error::other)?)
        .await?;
    stream.write_all(question).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; usize::from(length)];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
