//! Listening on the cluster DNS address: UDP and TCP, our names from the zone, other names forwarded.
//!
//! A name of ours that stands for another (`ExternalName`) is answered with what the other leads to: resolvers of programs
//! follow no alias themselves.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};
use places::Places;
use rustix::net::{AddressFamily, SocketFlags, SocketType, sockopt};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

use super::zone::Zone;
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

/// Connections that wait to be taken.
const BACKLOG: i32 = 128;
/// Aliases of aliases that are followed.
const MAX_ALIASES: usize = 8;

/// Who answers, by a snapshot of the names.
pub(super) struct Resolver {
    zone: ArcSwap<Zone>,
    upstream: Vec<Ipv4Addr>,
    in_flight: Arc<Places>,
}

impl Resolver {
    pub fn new(zone: Arc<Zone>, upstream: Vec<Ipv4Addr>) -> Arc<Self> {
        Arc::new(Self {
            zone: ArcSwap::new(zone),
            upstream,
            in_flight: Places::new(MAX_IN_FLIGHT),
        })
    }

    /// Replaces the names.
    pub fn set(&self, zone: Arc<Zone>) {
        self.zone.store(zone);
    }

    /// Answers on both sockets, for ever.
    pub async fn serve(self: &Arc<Self>, sockets: Sockets) {
        tokio::join!(
            serve_udp(Arc::clone(self), Arc::new(sockets.udp)),
            serve_tcp(Arc::clone(self), sockets.tcp)
        );
    }
}

/// Both sockets. What comes before anybody reads is kept by the kernel.
pub(super) struct Sockets {
    udp: UdpSocket,
    tcp: TcpListener,
}

impl Sockets {
    /// Listens. With `beside`, others who say the same may listen there too, and the kernel gives each some of the questions.
    pub fn bind(address: Ipv4Addr, beside: bool) -> io::Result<Self> {
        let address = SocketAddr::new(IpAddr::V4(address), PORT);
        let open = |kind| -> io::Result<OwnedFd> {
            let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
            let socket = rustix::net::socket_with(AddressFamily::INET, kind, flags, None)?;
            if kind == SocketType::STREAM {
                // Connections of an earlier server that are still closing do not keep the port.
                sockopt::set_socket_reuseaddr(&socket, true)?;
            }
            sockopt::set_socket_reuseport(&socket, beside)?;
            rustix::net::bind(&socket, &address)?;
            Ok(socket)
        };
        let udp = UdpSocket::from_std(open(SocketType::DGRAM)?.into())?;
        let tcp = open(SocketType::STREAM)?;
        rustix::net::listen(&tcp, BACKLOG)?;
        let tcp = TcpListener::from_std(tcp.into())?;
        Ok(Self { udp, tcp })
    }
}

/// The answer to a question by the names of some Services alone; `None` for what is not a question.
pub async fn answer_from(
    domain: &str,
    services: &[Service],
    question: &[u8],
    datagram: bool,
) -> Option<Vec<u8>> {
    let resolver = Resolver::new(Arc::new(Zone::of(domain, services)), Vec::new());
    resolver.answer(question, datagram).await
}

async fn serve_udp(shared: Arc<Resolver>, socket: Arc<UdpSocket>) {
    let mut buffer = vec![0; 4096];
    loop {
        // An error here is about an earlier datagram (ICMP); there is nothing to be done about it.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else {
            continue;
        };
        let so_far = match shared.known(&buffer[..length], true) {
            Some(Known::Answer(answer)) => {
                let _ = socket.send_to(&answer, client).await;
                continue;
            }
            Some(Known::Elsewhere(so_far)) => so_far,
            None => continue,
        };
        let Some(place) = shared.in_flight.take(client.ip()) else {
            continue;
        };
        let bytes = buffer[..length].to_vec();
        let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
        tokio::spawn(async move {
            let _place = place;
            if let Some(answer) = shared.ask_elsewhere(&bytes, *so_far, true).await {
                let _ = socket.send_to(&answer, client).await;
            }
        });
    }
}

async fn serve_tcp(shared: Arc<Resolver>, listener: TcpListener) {
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

async fn serve_connection(shared: &Resolver, mut stream: TcpStream) -> io::Result<()> {
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
    Elsewhere(Box<SoFar>),
}

/// An answer that others are to complete.
struct SoFar {
    reply: Message,
    /// Bytes that a datagram to the client may have.
    room: u16,
    /// What our name stands for, and what is asked of it; without, the client's own question is handed on.
    alias: Option<(Name, RecordType)>,
}

impl Resolver {
    /// The answer's bytes; `None` for what is not a question.
    async fn answer(&self, bytes: &[u8], datagram: bool) -> Option<Vec<u8>> {
        match self.known(bytes, datagram)? {
            Known::Answer(answer) => Some(answer),
            Known::Elsewhere(so_far) => self.ask_elsewhere(bytes, *so_far, datagram).await,
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
        if let Some(asked) = &question.edns {
            // Without an answer to it, resolvers take EDNS to be unknown here and ask in the old way (RFC 6891).
            let mut edns = Edns::new();
            edns.set_max_payload(asked.max_payload());
            edns.set_dnssec_ok(asked.flags().dnssec_ok);
            reply.set_edns(edns);
        }
        let [query] = question.queries.as_slice() else {
            reply.metadata.response_code = ResponseCode::FormErr;
            return reply.to_vec().ok().map(Known::Answer);
        };
        if question.metadata.op_code != OpCode::Query {
            reply.metadata.response_code = ResponseCode::NotImp;
            return reply.to_vec().ok().map(Known::Answer);
        }
        let room = question
            .edns
            .as_ref()
            .map_or(PLAIN_DATAGRAM, |_| question.max_payload())
            .max(PLAIN_DATAGRAM);
        let zone = self.zone.load();
        let kind = query.query_type();
        let Some(mut answer) = zone.answer(query.name(), kind) else {
            let alias = None;
            return Some(Known::Elsewhere(Box::new(SoFar { reply, room, alias })));
        };
        reply.metadata.authoritative = true;
        for _ in 0..MAX_ALIASES {
            let Some(target) = alias(&answer.records, kind) else {
                break;
            };
            let Some(more) = zone.answer(&target, kind) else {
                reply.add_answers(answer.records);
                let alias = Some((target, kind));
                return Some(Known::Elsewhere(Box::new(SoFar { reply, room, alias })));
            };
            answer.code = more.code;
            answer.records.extend(more.records);
            answer.additional.extend(more.additional);
            answer.soa = more.soa;
        }
        reply.metadata.response_code = answer.code;
        reply.add_answers(answer.records);
        reply.add_authorities(answer.soa);
        reply.add_additionals(answer.additional);
        encode(&reply, room, datagram).map(Known::Answer)
    }

    async fn ask_elsewhere(&self, question: &[u8], so_far: SoFar, datagram: bool) -> Option<Vec<u8>> {
        let SoFar {
            mut reply,
            room,
            alias,
        } = so_far;
        let answered = match alias {
            None => match self.forward(question, datagram).await {
                Some(answer) => return Some(answer),
                None => false,
            },
            Some((name, kind)) => {
                let mut question = Message::query();
                question.metadata.recursion_desired = true;
                question.add_query(Query::query(name, kind));
                let answer = self.forward(&question.to_vec().ok()?, datagram).await;
                let answer = answer.and_then(|bytes| Message::from_vec(&bytes).ok());
                if let Some(answer) = &answer {
                    reply.metadata.truncation = answer.metadata.truncation;
                    reply.add_answers(answer.answers.iter().cloned());
                }
                // The alias itself is there, wherever it leads.
                answer.is_some() || self.upstream.is_empty()
            }
        };
        if !answered {
            // Without any resolver the name does not exist for us; with silent ones it is a failure to ask again.
            reply.metadata.response_code = match self.upstream.is_empty() {
                true => ResponseCode::NXDomain,
                false => ResponseCode::ServFail,
            };
        }
        encode(&reply, room, datagram)
    }

    /// Asks each upstream resolver in turn, over the transport that the client used.
    async fn forward(&self, question: &[u8], datagram: bool) -> Option<Vec<u8>> {
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
        None
    }
}

/// What the last of these records stands for, if the question is about that and not about the alias.
fn alias(records: &[hickory_proto::rr::Record], kind: RecordType) -> Option<Name> {
    match &records.last()?.data {
        RData::CNAME(target) if kind != RecordType::CNAME => Some(target.0.clone()),
        _ => None,
    }
}

fn encode(reply: &Message, room: u16, datagram: bool) -> Option<Vec<u8>> {
    let bytes = reply.to_vec().ok()?;
    if datagram && bytes.len() > usize::from(room) {
        // The client asks again over TCP.
        return reply.truncate().to_vec().ok();
    }
    Some(bytes)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn questions_with_edns_are_answered_with_it() {
        for size in [None, Some(1232)] {
            let mut question = Message::query();
            let name = Name::from_ascii("cluster.local.").expect("a name");
            question.add_query(Query::query(name, RecordType::NS));
            if let Some(size) = size {
                let mut edns = Edns::new();
                edns.set_max_payload(size);
                question.set_edns(edns);
            }
            let bytes = question.to_vec().expect("a message");
            let answer = answer_from("cluster.local", &[], &bytes, true).await;
            let answer = Message::from_vec(&answer.expect("an answer")).expect("a message");
            assert_eq!(answer.edns.map(|edns| edns.max_payload()), size);
            assert_eq!(answer.answers.len(), 1);
        }
    }
}
