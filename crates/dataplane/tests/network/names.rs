//! Cluster DNS on its sockets: both transports, long answers, other resolvers.

use std::net::Ipv4Addr;

use dataplane::Dataplane;
use dataplane::model::ServiceAddress;
use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UdpSocket};

use crate::support::{NODE_IP, config, in_namespace, service};

const SERVER: &str = "10.96.0.10:53";
/// More than one datagram without EDNS holds.
const MANY: u8 = 60;

fn question(name: &str) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(
        Name::from_ascii(name).expect("a name"),
        RecordType::A,
    ));
    message
}

async fn ask_udp(question: &Message) -> Message {
    let socket = UdpSocket::bind((NODE_IP, 0)).await.expect("bound");
    let bytes = question.to_vec().expect("encoded");
    socket.send_to(&bytes, SERVER).await.expect("sent");
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).await.expect("answered");
    Message::from_vec(&buffer[..length]).expect("decoded")
}

async fn ask_tcp(question: &Message) -> Message {
    let mut stream = TcpStream::connect(SERVER).await.expect("connected");
    let bytes = question.to_vec().expect("encoded");
    let length = u16::try_from(bytes.len()).expect("short");
    stream.write_u16(length).await.expect("sent");
    stream.write_all(&bytes).await.expect("sent");
    let length = stream.read_u16().await.expect("answered");
    let mut buffer = vec![0; usize::from(length)];
    stream.read_exact(&mut buffer).await.expect("answered");
    Message::from_vec(&buffer).expect("decoded")
}

#[test]
fn answers_come_whole_or_say_that_they_do_not() {
    in_namespace(|| async {
        let state = tempfile::tempdir().expect("a temporary directory");
        let plane = Dataplane::start(config(&state), Vec::new())
            .await
            .expect("started");
        let mut many = service((1..=MANY).map(|number| (Ipv4Addr::new(10, 244, 1, number), 80)));
        many.name = "many".to_owned();
        many.address = ServiceAddress::Headless;
        many.vips.clear();
        let web = service(std::iter::empty());
        plane.set_services(vec![web, many]).await.expect("applied");
        let short = question("web.demo.svc.cluster.local.");
        let long = question("many.demo.svc.cluster.local.");
        let mut roomy = long.clone();
        let mut edns = Edns::new();
        edns.set_max_payload(4096);
        roomy.edns = Some(edns);
        let all = usize::from(MANY);
        // Answers and the mark that some are missing.
        let cases = [
            ("short, UDP", ask_udp(&short).await, 1, false),
            ("short, TCP", ask_tcp(&short).await, 1, false),
            ("long, UDP", ask_udp(&long).await, 0, true),
            ("long, UDP with EDNS", ask_udp(&roomy).await, all, false),
            ("long, TCP", ask_tcp(&long).await, all, false),
        ];
        for (what, answer, count, truncated) in cases {
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{what}");
            assert_eq!(answer.metadata.truncation, truncated, "{what}");
            assert!(truncated || answer.answers.len() == count, "{what}: {answer:?}");
        }
        plane.shutdown();
        assert_eq!(Dataplane::remove(&config(&state)).await, Vec::<String>::new());
    });
}

/// A Service that stands for a name elsewhere.
fn outside() -> dataplane::model::Service {
    let mut outside = service(std::iter::empty());
    outside.name = "outside".to_owned();
    outside.address = ServiceAddress::External("example.org".to_owned());
    outside.vips.clear();
    outside
}

#[test]
fn nobody_is_told_no_before_the_names_are_known() {
    in_namespace(|| async {
        let state = tempfile::tempdir().expect("a temporary directory");
        let plane = Dataplane::start(config(&state), Vec::new())
            .await
            .expect("started");
        let (asked, early) = (
            question("web.demo.svc.cluster.local."),
            UdpSocket::bind((NODE_IP, 0)),
        );
        let early = early.await.expect("bound");
        let bytes = asked.to_vec().expect("encoded");
        early.send_to(&bytes, SERVER).await.expect("sent");
        let web = service(std::iter::empty());
        plane.set_services(vec![web]).await.expect("applied");
        let mut buffer = [0; 4096];
        let length = early.recv(&mut buffer).await.expect("answered");
        let answer = Message::from_vec(&buffer[..length]).expect("decoded");
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        plane.shutdown();
        assert_eq!(Dataplane::remove(&config(&state)).await, Vec::<String>::new());
    });
}

/// A resolver that knows one address, and counts nothing else as a question.
async fn knows(address: &'static str, name: &'static str) {
    let socket = UdpSocket::bind((address, 53)).await.expect("bound");
    tokio::spawn(async move {
        let mut buffer = [0; 512];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let mut message = Message::from_vec(&buffer[..length]).expect("decoded");
            message.metadata.message_type = MessageType::Response;
            let asked = message.queries[0].name().clone();
            if asked.to_ascii() == name {
                let data = hickory_proto::rr::RData::A(Ipv4Addr::new(203, 0, 113, 9).into());
                message.add_answer(hickory_proto::rr::Record::from_rdata(asked, 60, data));
            } else {
                message.metadata.response_code = ResponseCode::NXDomain;
            }
            let bytes = message.to_vec().expect("encoded");
            socket.send_to(&bytes, client).await.expect("sent");
        }
    });
}

/// Resolvers of programs take an alias with an address, and do not go on from one without.
#[test]
fn an_alias_comes_with_what_it_stands_for() {
    in_namespace(|| async {
        knows("127.0.0.53", "example.org.").await;
        let state = tempfile::tempdir().expect("a temporary directory");
        let settings = dataplane::NetConfig {
            upstream_dns: vec![Ipv4Addr::new(127, 0, 0, 53)],
            ..config(&state)
        };
        let plane = Dataplane::start(settings, Vec::new()).await.expect("started");
        let alias = |name: &str, target: &str| {
            let mut alias = outside();
            alias.name = name.to_owned();
            alias.address = ServiceAddress::External(target.to_owned());
            alias
        };
        let services = vec![
            service(std::iter::empty()),
            outside(),
            alias("inside", "web.demo.svc.cluster.local"),
            alias("twice", "outside.demo.svc.cluster.local"),
            alias("round", "round.demo.svc.cluster.local"),
            alias("nowhere", "nowhere.test"),
        ];
        plane.set_services(services).await.expect("applied");
        let cases = [
            ("outside", "example.org. 203.0.113.9"),
            ("inside", "web.demo.svc.cluster.local. 10.96.7.7"),
            (
                "twice",
                "outside.demo.svc.cluster.local. example.org. 203.0.113.9",
            ),
            ("nowhere", "nowhere.test."),
        ];
        for (name, expected) in cases {
            let answer = ask_udp(&question(&format!("{name}.demo.svc.cluster.local."))).await;
            assert_eq!(answer.metadata.response_code, ResponseCode::NoError, "{name}");
            let data: Vec<String> = answer
                .answers
                .iter()
                .map(|record| record.data.to_string())
                .collect();
            assert_eq!(data.join(" "), expected, "{name}");
        }
        let round = ask_udp(&question("round.demo.svc.cluster.local.")).await;
        assert_eq!(
            round.metadata.response_code,
            ResponseCode::NoError,
            "a circle has an end"
        );
        plane.shutdown();
        assert_eq!(Dataplane::remove(&config(&state)).await, Vec::<String>::new());
    });
}

#[test]
fn other_names_are_asked_elsewhere() {
    in_namespace(|| async {
        let live = UdpSocket::bind("127.0.0.53:53").await.expect("bound");
        // Refuses every name, so that its answers are told from ours.
        tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, client)) = live.recv_from(&mut buffer).await {
                let mut message = Message::from_vec(&buffer[..length]).expect("decoded");
                message.metadata.message_type = MessageType::Response;
                message.metadata.response_code = ResponseCode::Refused;
                let bytes = message.to_vec().expect("encoded");
                live.send_to(&bytes, client).await.expect("sent");
            }
        });
        let live = Ipv4Addr::new(127, 0, 0, 53);
        let dead = Ipv4Addr::new(127, 0, 0, 54);
        let cases = [
            ("nobody to ask", vec![], ResponseCode::NXDomain),
            ("nobody answers", vec![dead], ResponseCode::ServFail),
            ("the second answers", vec![dead, live], ResponseCode::Refused),
        ];
        for (what, upstream_dns, expected) in cases {
            let state = tempfile::tempdir().expect("a temporary directory");
            let settings = || {
                let upstream_dns = upstream_dns.clone();
                dataplane::NetConfig {
                    upstream_dns,
                    ..config(&state)
                }
            };
            let plane = loop {
                match Dataplane::start(settings(), Vec::new()).await {
                    Ok(plane) => break plane,
                    // The server before lets go of its port when its tasks have seen the token.
                    Err(dataplane::StartError::Dns { .. }) => tokio::task::yield_now().await,
                    Err(error) => panic!("{error}"),
                }
            };
            plane.set_services(vec![outside()]).await.expect("applied");
            let answer = ask_udp(&question("example.org.")).await;
            assert_eq!(answer.metadata.response_code, expected, "{what}");
            let ours = ask_udp(&question("nope.demo.svc.cluster.local.")).await;
            assert_eq!(
                ours.metadata.response_code,
                ResponseCode::NXDomain,
                "{what}: our names stay here"
            );
            plane.shutdown();
            assert_eq!(Dataplane::remove(&settings()).await, Vec::<String>::new());
        }
    });
}
