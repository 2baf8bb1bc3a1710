//! What Pods can reach, what they cannot, and as whom they are seen.

use std::io::{ErrorKind, Read, Write};
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use dataplane::Dataplane;
use dataplane::model::{Guard, HostPort, OnlyHere, Protocol, ServiceAddress};
use dataplane::policy::{Peers, Policy, Port, Rule};

use crate::guest::{self, ANSWER_LIMIT as ANSWER, Guest};
use crate::support::{CLUSTER_IP, NODE_IP, NODE_PORT, VIP, config, in_namespace, pod, run, service, traces};

const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
const DNS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// Addresses of Pods of the tests.
const ONE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
const TWO: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 3);
/// The link to the outside.
const OUR_SIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 2);
/// Where clouds serve credentials; nothing for Pods.
const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);

/// A host with two Pods; the second serves on 8080 and is the endpoint of the Service.
struct Scene {
    state: tempfile::TempDir,
    plane: Arc<Dataplane>,
    one: Guest,
    two: Guest,
}

impl Scene {
    async fn new() -> Self {
        let state = tempfile::tempdir().expect("a temporary directory");
        let plane = Dataplane::start(config(&state), Vec::new())
            .await
            .expect("started");
        plane
            .set_services(vec![service([(TWO, 8080)].into_iter())])
            .await
            .expect("applied");
        let mut guests = Vec::new();
        for number in [2, 3] {
            let tap = plane.attach_pod(&pod(number)).await.expect("attached");
            guests.push(Guest::on_tap(&pod(number), tap));
        }
        let (Some(two), Some(one)) = (guests.pop(), guests.pop()) else {
            panic!("two guests")
        };
        two.serve(8080);
        Self {
            state,
            plane,
            one,
            two,
        }
    }

    /// A machine beyond a real link, which knows the way to VIPs only as neighbours.
    fn outside(&self) -> Guest {
        let outside = Guest::new();
        run(
            "ip",
            &["link", "add", "out0", "type", "veth", "peer", "name", "eth0"],
        );
        run("ip", &["link", "set", "eth0", "netns", &outside.id.to_string()]);
        run("ip", &["address", "add", "203.0.113.1/24", "dev", "out0"]);
        run("ip", &["link", "set", "out0", "up"]);
        outside.ip("address add 203.0.113.2/24 dev eth0");
        outside.ip("link set eth0 up");
        outside.ip("route add 198.51.100.0/24 dev eth0");
        outside
    }

    /// Everything is removed, and nothing is left.
    async fn end(self, before: &str) {
        let Self {
            state,
            plane,
            one,
            two,
        } = self;
        drop((one, two));
        for number in [2, 3] {
            plane.detach_pod(&pod(number).vm_id).await.expect("detached");
        }
        plane.shutdown();
        assert_eq!(Dataplane::remove(&config(&state)).await, Vec::<String>::new());
        assert_eq!(traces(), before, "the network left something");
    }
}

#[test]
fn pods_reach_pods_and_services_with_their_own_addresses() {
    in_namespace(|| async {
        let before = traces();
        let scene = Scene::new().await;
        let (one, two) = (&scene.one, &scene.two);
        // Who connects, where to, and as whom it is seen there.
        let cases = [
            ("a Pod", one, TWO, 8080, ONE),
            ("the cluster IP", one, CLUSTER_IP, 80, ONE),
            ("the VIP", one, VIP, 80, ONE),
            ("the node port", one, NODE_IP, NODE_PORT, ONE),
            ("itself by the cluster IP", two, CLUSTER_IP, 80, GATEWAY),
            ("itself by the VIP", two, VIP, 80, GATEWAY),
        ];
        for (what, from, ip, port, expected) in cases {
            match from.ask(ip, port) {
                Ok(seen) => assert_eq!(seen, expected, "{what}"),
                Err(error) => panic!("{what}: {error}\n{}", run("nft", &["list", "ruleset"])),
            }
        }
        scene.end(&before).await;
    });
}

#[test]
fn policies_are_kept_on_every_way() {
    in_namespace(|| async {
        let before = traces();
        let scene = Scene::new().await;
        let (one, two) = (&scene.one, &scene.two);
        let set = async |policies| scene.plane.set_policies(policies).await.expect("applied");
        let peer = |ip: Ipv4Addr| Peers::Some {
            pods: [ip].into(),
            blocks: Vec::new(),
        };
        let rule = |peers, ports| Rule { peers, ports };
        let policy = |pod: Ipv4Addr, ingress, egress| Policy {
            uid: format!("u{pod}"),
            pods: [pod].into(),
            ingress,
            egress,
        };
        let web = || Some(vec![Port::Range(Protocol::Tcp, 8080, 8081)]);
        // Policies, and whether the first Pod reaches the second: directly, by the Service, by the node port.
        let cases = [
            (vec![policy(TWO, Some(vec![]), None)], false),
            (vec![policy(TWO, Some(vec![rule(peer(ONE), web())]), None)], true),
            (vec![policy(TWO, Some(vec![rule(peer(TWO), web())]), None)], false),
            (
                vec![policy(
                    TWO,
                    Some(vec![rule(Peers::Any, Some(vec![Port::All(Protocol::Udp)]))]),
                    None,
                )],
                false,
            ),
            (vec![policy(ONE, None, Some(vec![]))], false),
            (vec![policy(ONE, Some(vec![]), None)], true),
            (
                vec![
                    policy(ONE, None, Some(vec![rule(peer(TWO), None)])),
                    policy(
                        TWO,
                        Some(vec![rule(
                            Peers::Any,
                            Some(vec![Port::Named(Protocol::Tcp, [(TWO, 8080)].into())]),
                        )]),
                        None,
                    ),
                ],
                true,
            ),
            (Vec::new(), true),
        ];
        for (policies, expected) in cases {
            set(policies.clone()).await;
            for (ip, port) in [(TWO, 8080), (CLUSTER_IP, 80), (NODE_IP, NODE_PORT)] {
                let reached = match expected {
                    true => one.ask(ip, port).expect("an answer") == ONE,
                    false => !one.is_ignored(ip, port),
                };
                assert_eq!(reached, expected, "{ip}:{port} with {policies:?}");
            }
            // Itself it always reaches, and the node and its DNS as well.
            assert_eq!(two.ask(CLUSTER_IP, 80).expect("an answer"), GATEWAY);
        }
        scene.end(&before).await;
    });
}

#[test]
fn the_outside_is_told_of_endpoints() {
    in_namespace(|| async {
        let before = traces();
        let scene = Scene::new().await;
        let mut service = service([(TWO, 8080)].into_iter());
        service.health_port = Some(31000);
        for (ready, status, count) in [(true, "HTTP/1.1 200 OK", 1), (false, "HTTP/1.1 503", 0)] {
            service.endpoints[0].ready = ready;
            service.endpoints[0].ending = !ready;
            scene
                .plane
                .set_services(vec![service.clone()])
                .await
                .expect("applied");
            let mut stream = scene.one.connect(NODE_IP, 31000, ANSWER).expect("connected");
            stream
                .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
                .expect("asked");
            let answer = std::io::read_to_string(&mut stream).expect("an answer");
            assert!(answer.starts_with(status), "{answer}");
            assert!(
                answer.contains(&format!("\"localEndpoints\": {count},")),
                "{answer}"
            );
            // Whoever is going still serves, but no new clients shall be sent here.
            assert_eq!(scene.one.ask(CLUSTER_IP, 80).expect("an answer"), ONE);
        }
        scene.plane.set_services(Vec::new()).await.expect("applied");
        // Who listened there has to hear of it first.
        let until = std::time::Instant::now() + ANSWER;
        while scene.one.connect(NODE_IP, 31000, ANSWER).is_ok() {
            assert!(std::time::Instant::now() < until, "somebody answers still");
        }
        scene.end(&before).await;
    });
}

#[test]
fn clients_are_remembered_and_may_be_turned_away() {
    in_namespace(|| async {
        let before = traces();
        let scene = Scene::new().await;
        let mut service = service([(TWO, 8080)].into_iter());
        service.client_affinity = Some(600);
        service.guard = Some(Guard {
            vips: service.vips.clone(),
            sources: vec!["203.0.113.0/24".parse().expect("a block")],
        });
        scene
            .plane
            .set_services(vec![service.clone()])
            .await
            .expect("applied");
        assert_eq!(scene.one.ask(CLUSTER_IP, 80).expect("an answer"), ONE);
        let set = format!("clients/600/demo/web/tcp/80/{TWO}/8080");
        let known = run("nft", &["list", "set", "inet", "podvisor", &set]);
        assert!(known.contains(&format!("{ONE} ")), "{known}");
        assert!(scene.one.is_ignored(VIP, 80), "not from here");
        service.guard = None;
        service.client_affinity = None;
        scene.plane.set_services(vec![service]).await.expect("applied");
        assert_eq!(scene.one.ask(VIP, 80).expect("an answer"), ONE);
        scene.end(&before).await;
    });
}

#[test]
fn datagrams_go_to_endpoints_and_answers_come_from_the_service() {
    in_namespace(|| async {
        let before = traces();
        let scene = Scene::new().await;
        let address = Ipv4Addr::new(10, 96, 7, 8);
        let mut echo = service([(TWO, 9001)].into_iter());
        echo.name = "echo".to_owned();
        echo.address = ServiceAddress::Cluster(address);
        echo.vips.clear();
        echo.ports[0].protocol = Protocol::Udp;
        scene
            .plane
            .set_services(vec![echo.clone()])
            .await
            .expect("applied");
        let server = scene.two.udp(TWO, 9001);
        let client = scene.one.udp(ONE, 0);
        client.send_to(b"question", (address, 80)).expect("sent");
        let mut buffer = [0; 64];
        let (length, from) = server.recv_from(&mut buffer).expect("a datagram");
        assert_eq!((&buffer[..length], from.ip()), (&b"question"[..], ONE.into()));
        server.send_to(b"answer", from).expect("sent");
        let (length, from) = client.recv_from(&mut buffer).expect("an answer");
        assert_eq!((&buffer[..length], from), (&b"answer"[..], (address, 80).into()));
        // The endpoint leaves and another comes: the client's next datagram goes there.
        let mut moved = echo.clone();
        moved.endpoints[0].ip = ONE;
        let heir = scene.one.udp(ONE, 9001);
        scene.plane.set_services(vec![moved]).await.expect("applied");
        client.send_to(b"again", (address, 80)).expect("sent");
        let (length, _) = heir.recv_from(&mut buffer).expect("a datagram for who came");
        assert_eq!(&buffer[..length], b"again");
        // The same port number in the other protocol is nobody's.
        let error = scene.one.ask(address, 80).expect_err("TCP");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        scene.end(&before).await;
    });
}

#[test]
fn pods_reach_of_the_host_what_is_meant_for_them() {
    in_namespace(|| async {
        let before = traces();
        let scene = Scene::new().await;
        let one = &scene.one;
        for port in [6443, 2222] {
            let listener = std::net::TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).expect("bound");
            guest::serve(listener);
        }
        assert_eq!(one.ask(NODE_IP, 6443).expect("the API server"), ONE);
        // Refused and not ignored, by every address of the host.
        for ip in [NODE_IP, GATEWAY, DNS] {
            let error = one.ask(ip, 2222).expect_err("a port of the host's own");
            let refusal = [ErrorKind::HostUnreachable, ErrorKind::ConnectionRefused];
            assert!(refusal.contains(&error.kind()), "{ip}: {error}");
        }
        let error = one
            .ask(Ipv4Addr::new(10, 244, 9, 9), 80)
            .expect_err("a Pod that is not there");
        assert_eq!(error.kind(), ErrorKind::HostUnreachable, "{error}");
        let error = one
            .ask(CLUSTER_IP, 81)
            .expect_err("a port that the Service has not");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        assert_eq!(
            look_up(one, b"\x03web\x04demo\x03svc\x07cluster\x05local\0"),
            CLUSTER_IP
        );
        scene.end(&before).await;
    });
}

/// Asks cluster DNS from inside; the address at the end of the only answer.
fn look_up(guest: &Guest, name: &[u8]) -> Ipv4Addr {
    let answer = ask_dns(guest, name);
    let octets = <[u8; 4]>::try_from(&answer[answer.len() - 4..]).expect("four bytes");
    Ipv4Addr::from(octets)
}

/// The answer of cluster DNS to a question from inside.
fn ask_dns(guest: &Guest, name: &[u8]) -> Vec<u8> {
    let socket = guest.udp(Ipv4Addr::UNSPECIFIED, 0);
    let head = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00";
    let question = [&head[..], name, b"\x00\x01\x00\x01"].concat();
    socket.send_to(&question, (DNS, 53)).expect("sent");
    let mut buffer = [0; 512];
    let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
    assert_eq!(from.ip(), DNS);
    assert_eq!(buffer[..2], question[..2]);
    buffer[..length].to_vec()
}

#[test]
fn a_pod_cannot_take_the_names_from_the_others() {
    in_namespace(|| async {
        let scene = Scene::new().await;
        // As many connections as it gets, all of which say nothing.
        let limit = Duration::from_secs(5);
        let held: Vec<_> = (0..600)
            .map_while(|_| scene.one.connect(DNS, 53, limit).ok())
            .collect();
        assert!(held.len() > 250, "{} connections", held.len());
        let name = b"\x03web\x04demo\x03svc\x07cluster\x05local\0";
        assert_eq!(look_up(&scene.two, name), CLUSTER_IP);
        let mut stream = scene.two.connect(DNS, 53, ANSWER).expect("connected");
        let head = b"\x00\x2c\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00";
        let question = [&head[..], name, b"\x00\x01\x00\x01"].concat();
        stream.write_all(&question).expect("sent");
        let mut answer = [0; 4];
        stream.read_exact(&mut answer).expect("an answer by TCP");
        assert_eq!(answer[2..], [0x12, 0x34]);
    });
}

#[test]
fn a_pod_cannot_speak_for_another() {
    in_namespace(|| async {
        let before = traces();
        let scene = Scene::new().await;
        let (one, two) = (&scene.one, &scene.two);
        let inbox = two.udp(TWO, 9000);
        let mut buffer = [0; 64];
        let mut next = || {
            let (length, from) = inbox.recv_from(&mut buffer).expect("a datagram");
            (String::from_utf8_lossy(&buffer[..length]).into_owned(), from.ip())
        };
        let honest = one.udp(ONE, 0);
        honest.send_to(b"first", (TWO, 9000)).expect("sent");
        assert_eq!(next(), ("first".to_owned(), ONE.into()));
        // Forged ones travel ahead of an honest one on the same way: had they passed, they would be read first.
        for (forged, last) in [
            ("10.244.0.77", "after a Pod"),
            ("192.0.2.1", "after the host"),
            ("8.8.8.8", "after a stranger"),
        ] {
            one.ip(&format!("address add {forged}/32 dev eth0"));
            let source = one.udp(forged.parse().expect("an address"), 0);
            source.send_to(b"forged", (TWO, 9000)).expect("sent");
            honest.send_to(last.as_bytes(), (TWO, 9000)).expect("sent");
            assert_eq!(next(), (last.to_owned(), ONE.into()), "{forged}");
        }
        // With another hardware address it is not the guest that the host has started.
        one.ip("link set eth0 address 02:00:0a:f4:00:03");
        one.ip("neighbour flush dev eth0");
        honest.send_to(b"forged", (TWO, 9000)).expect("sent");
        one.ip("link set eth0 address 02:00:0a:f4:00:02");
        honest.send_to(b"itself again", (TWO, 9000)).expect("sent");
        assert_eq!(next(), ("itself again".to_owned(), ONE.into()));
        // Nor does the host remember for whom it has asked: the table of neighbours is bounded, and all Pods share it.
        one.ip("address add 10.244.0.78/32 dev eth0");
        let source = one.udp(Ipv4Addr::new(10, 244, 0, 78), 0);
        one.ip("neighbour flush dev eth0");
        source.send_to(b"forged", (TWO, 9000)).expect("sent");
        honest.send_to(b"in its own name", (TWO, 9000)).expect("sent");
        assert_eq!(next(), ("in its own name".to_owned(), ONE.into()));
        let neighbours = run("ip", &["neighbour", "show"]);
        assert!(
            neighbours.contains("10.244.0.2 ") && !neighbours.contains("10.244.0.78"),
            "{neighbours}"
        );
        scene.end(&before).await;
    });
}

#[test]
fn the_outside_reaches_vips_and_is_reached_by_the_hosts_address() {
    in_namespace(|| async {
        let before = traces();
        let scene = Scene::new().await;
        let outside = scene.outside();
        outside.serve(80);
        // Another host had the VIP. When it comes here, neighbours hear of it without having asked.
        scene.plane.set_services(Vec::new()).await.expect("applied");
        outside.ip("neighbour replace 198.51.100.1 lladdr 02:00:00:00:00:99 dev eth0 nud stale");
        let services = vec![service([(TWO, 8080)].into_iter())];
        scene.plane.set_services(services).await.expect("applied");
        let link = run("ip", &["-o", "link", "show", "out0"]);
        let mac = link
            .split_whitespace()
            .skip_while(|word| *word != "link/ether")
            .nth(1);
        let mac = mac.expect("an address");
        // The kernel may take what it has received a moment later.
        let until = std::time::Instant::now() + ANSWER;
        loop {
            let known = outside.inside(|| run("ip", &["neighbour", "show", "198.51.100.1"]));
            if known.contains(mac) {
                break;
            }
            assert!(std::time::Instant::now() < until, "{known}");
        }
        // The host answers ARP for its VIPs, and the Pod sees the real client.
        assert_eq!(outside.ask(VIP, 80).expect("the VIP"), OUTSIDE);
        assert_eq!(outside.ask(OUR_SIDE, NODE_PORT).expect("the node port"), OUTSIDE);
        let error = outside.ask(VIP, 81).expect_err("no port of the Service");
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        // Pods have no address out there.
        assert_eq!(scene.one.ask(OUTSIDE, 80).expect("the outside"), OUR_SIDE);
        // The metadata service of a cloud would be one hop away.
        outside.ip("address add 169.254.169.254/32 dev eth0");
        run("ip", &["route", "add", "169.254.169.254", "via", "203.0.113.2"]);
        assert!(
            scene.one.is_ignored(METADATA, 80),
            "the metadata service answers Pods"
        );
        run("ip", &["link", "delete", "out0"]);
        scene.end(&before).await;
    });
}

#[test]
fn who_comes_to_this_host_alone_stays_here() {
    in_namespace(|| async {
        let before = traces();
        let scene = Scene::new().await;
        let outside = scene.outside();
        let elsewhere = Ipv4Addr::new(10, 244, 9, 9);
        let mut service = service([(TWO, 8080), (elsewhere, 8080)].into_iter());
        service.endpoints[1].here = false;
        service.only_here = OnlyHere {
            inside: true,
            outside: true,
        };
        let apply = |service: &dataplane::model::Service| scene.plane.set_services(vec![service.clone()]);
        apply(&service).await.expect("applied");
        for _ in 0..10 {
            // The real client is seen, and nobody is led to the one that is not here.
            assert_eq!(outside.ask(VIP, 80).expect("the VIP"), OUTSIDE);
            assert_eq!(outside.ask(OUR_SIDE, NODE_PORT).expect("the node port"), OUTSIDE);
            assert_eq!(scene.one.ask(CLUSTER_IP, 80).expect("the cluster IP"), ONE);
        }
        for endpoint in &mut service.endpoints {
            endpoint.here = false;
        }
        service.endpoints[1].ready = false;
        apply(&service).await.expect("applied");
        assert!(outside.is_ignored(VIP, 80), "the VIP answers");
        assert!(outside.is_ignored(OUR_SIDE, NODE_PORT), "the node port answers");
        assert!(scene.one.is_ignored(CLUSTER_IP, 80), "the cluster IP answers");
        // A Pod is no outside: it is led anywhere from a VIP.
        assert_eq!(scene.one.ask(VIP, 80).expect("the VIP"), ONE);
        service.endpoints.clear();
        apply(&service).await.expect("applied");
        for refused in [outside.ask(VIP, 80), scene.one.ask(CLUSTER_IP, 80)] {
            let error = refused.expect_err("nobody is anywhere");
            assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
        }
        run("ip", &["link", "delete", "out0"]);
        scene.end(&before).await;
    });
}

#[test]
fn a_port_of_the_host_is_a_containers() {
    in_namespace(|| async {
        let before = traces();
        let scene = Scene::new().await;
        let outside = scene.outside();
        scene.plane.set_services(Vec::new()).await.expect("applied");
        let port = |at: Option<Ipv4Addr>, port: u16| HostPort {
            at,
            protocol: Protocol::Tcp,
            port,
            to: (TWO, 8080),
        };
        let set = async |ports: Vec<HostPort>| scene.plane.set_host_ports(ports).await.expect("applied");
        set(vec![
            port(None, 80),
            port(Some(NODE_IP), 81),
            port(None, 6443),
            port(None, 10250),
        ])
        .await;
        // From outside with the real client, from Pods, and from the host; at all its addresses or at one.
        assert_eq!(outside.ask(OUR_SIDE, 80).expect("from outside"), OUTSIDE);
        for number in [80, 81] {
            assert_eq!(scene.one.ask(NODE_IP, number).expect("from a Pod"), ONE);
        }
        // Itself it reaches through its host, by an address that is not its own.
        assert_eq!(scene.two.ask(NODE_IP, 80).expect("from itself"), GATEWAY);
        let refused = |error: std::io::Error| error.kind() == ErrorKind::ConnectionRefused;
        assert!(outside.ask(OUR_SIDE, 81).is_err_and(refused));
        // What the host itself needs is nobody's.
        for number in [6443, 10250] {
            assert!(outside.ask(OUR_SIDE, number).is_err_and(refused), "{number}");
        }
        // The cluster's names least of all: whoever answers for them leads everybody astray.
        let names = [Protocol::Udp, Protocol::Tcp].map(|protocol| HostPort {
            protocol,
            ..port(None, 53)
        });
        let at = HostPort {
            at: Some(DNS),
            protocol: Protocol::Udp,
            ..port(None, 53)
        };
        set([&names[..], &[at]].concat()).await;
        let name = b"\x0akubernetes\x07default\x03svc\x07cluster\x05local\0";
        // The last four bits of the flags: there is no such name.
        assert_eq!(ask_dns(&scene.one, name)[3] & 0xf, 3);
        set(Vec::new()).await;
        assert!(outside.ask(OUR_SIDE, 80).is_err_and(refused));
        // Who goes on sending datagrams reaches whoever has the port now, also when it was nobody's.
        let datagrams = |to| HostPort {
            at: None,
            protocol: Protocol::Udp,
            port: 5300,
            to: (to, 9001),
        };
        let (server, heir) = (scene.two.udp(TWO, 9001), scene.one.udp(ONE, 9001));
        let client = outside.udp(OUTSIDE, 0);
        let mut buffer = [0; 64];
        let _ = client.send_to(b"nobody", (OUR_SIDE, 5300));
        for (to, socket) in [(TWO, &server), (ONE, &heir)] {
            set(vec![datagrams(to)]).await;
            // That nobody was there may be told only now.
            while client.send_to(b"question", (OUR_SIDE, 5300)).is_err() {}
            let (length, from) = socket.recv_from(&mut buffer).expect("a datagram");
            assert_eq!((&buffer[..length], from.ip()), (&b"question"[..], OUTSIDE.into()));
            socket.send_to(b"answer", from).expect("sent");
            let (_, from) = client.recv_from(&mut buffer).expect("an answer");
            assert_eq!(from, (OUR_SIDE, 5300).into());
        }
        run("ip", &["link", "delete", "out0"]);
        scene.end(&before).await;
    });
}

#[test]
fn a_pod_has_its_share_of_the_flow_table_and_no_more() {
    in_namespace(|| async {
        let before = traces();
        let scene = Scene::new().await;
        let flows = || -> u32 {
            let text = std::fs::read_to_string("/proc/sys/net/netfilter/nf_conntrack_count");
            text.expect("readable").trim().parse().expect("a number")
        };
        // Nobody answers there, and each datagram opens a flow of its own. A full queue loses some.
        let most = config(&scene.state).flows_per_pod;
        let flood = || {
            let socket = std::net::UdpSocket::bind((ONE, 7001)).expect("bound");
            for to in 1..1000 {
                let _ = socket.send_to(b"x", (TWO, to));
            }
        };
        let until = std::time::Instant::now() + Duration::from_secs(90);
        while flows() < most {
            assert!(std::time::Instant::now() < until, "{} flows", flows());
            scene.one.inside(flood);
        }
        scene.one.inside(flood);
        let limit = Duration::from_millis(500);
        assert!(scene.one.connect(TWO, 8080, limit).is_err(), "one more");
        assert!(flows() < most + 50, "{} flows", flows());
        // Others go on, to the flooder too.
        scene.one.serve(8080);
        assert_eq!(scene.two.ask(CLUSTER_IP, 80).expect("a Service"), GATEWAY);
        assert_eq!(scene.two.ask(ONE, 8080).expect("the flooder"), TWO);
        scene.end(&before).await;
    });
}

#[test]
fn connections_outlive_the_agent() {
    in_namespace(|| async {
        let before = traces();
        let mut scene = Scene::new().await;
        let mut streams = [(CLUSTER_IP, 80), (TWO, 8080)]
            .map(|(ip, port)| scene.one.connect(ip, port, ANSWER).expect("connected"));
        let mut talk = || {
            for stream in &mut streams {
                stream.write_all(b".").expect("written");
                assert_eq!(guest::seen_as(stream).expect("answered"), ONE);
            }
        };
        talk();
        scene.plane.shutdown();
        // No agent at all: the host's kernel goes on by itself.
        talk();
        scene.plane = restart(&scene.state).await;
        talk();
        scene
            .plane
            .set_services(vec![service([(TWO, 8080)].into_iter())])
            .await
            .expect("applied");
        talk();
        assert_eq!(scene.one.ask(CLUSTER_IP, 80).expect("a new connection"), ONE);
        scene.end(&before).await;
    });
}

/// The stopped server lets go of its port when its tasks have seen the token.
async fn restart(state: &tempfile::TempDir) -> Arc<Dataplane> {
    loop {
        match Dataplane::start(config(state), vec![pod(2), pod(3)]).await {
            Ok(plane) => return plane,
            Err(dataplane::StartError::Dns { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}
