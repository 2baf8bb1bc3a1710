//! The real thing in a network namespace of its own: rules, routes, taps, names, and nothing left afterwards.
//!
//! Each test runs on a thread that has left the machine's network namespace; child processes follow it. Needs root.

use std::net::Ipv4Addr;
use std::process::Command;

use dataplane::model::{Endpoint, PodNic, Protocol, Service, ServiceAddress, ServicePort};
use dataplane::{Dataplane, NetConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream, UdpSocket};

/// Runs `work` in a fresh network namespace with loopback up.
fn in_namespace<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET)
            .expect("a namespace: these tests need root");
        run("ip", &["link", "set", "lo", "up"]);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(work());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything of the network that can be left behind.
fn traces() -> String {
    let forward = std::fs::read_to_string("/proc/sys/net/ipv4/ip_forward").expect("readable");
    [
        run("nft", &["list", "ruleset"]),
        run("ip", &["-o", "address"]),
        run("ip", &["route", "show", "table", "all"]),
        run("ip", &["-o", "link"]),
        forward,
    ]
    .join("---\n")
}

fn config(state: &tempfile::TempDir) -> NetConfig {
    NetConfig {
        node_ip: Ipv4Addr::new(192, 0, 2, 1),
        pod_cidr: "10.244.0.0/16".parse().expect("a block"),
        service_cidr: "10.96.0.0/16".parse().expect("a block"),
        cluster_dns: Ipv4Addr::new(10, 96, 0, 10),
        domain: "cluster.local".to_owned(),
        open_tcp_ports: vec![6443],
        upstream_dns: Vec::new(),
        tap_owner: 0,
        state_dir: state.path().to_path_buf(),
    }
}

fn pod() -> PodNic {
    PodNic {
        vm_id: "0a1b2c3d4e5f".to_owned(),
        ip: Ipv4Addr::new(10, 244, 0, 2),
        mac: [2, 0, 10, 244, 0, 2],
    }
}

/// A Service whose endpoints are listeners on the host's own address.
fn service(targets: &[u16]) -> Service {
    Service {
        namespace: "demo".to_owned(),
        name: "web".to_owned(),
        address: ServiceAddress::Cluster(Ipv4Addr::new(10, 96, 7, 7)),
        vips: vec![Ipv4Addr::new(198, 51, 100, 1)],
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30080),
        }],
        client_affinity: false,
        publish_not_ready: false,
        endpoints: targets
            .iter()
            .map(|port| Endpoint {
                ip: Ipv4Addr::new(192, 0, 2, 1),
                ports: vec![(String::new(), *port)],
                ready: true,
                hostname: None,
            })
            .collect(),
    }
}

async fn listener(word: &'static str) -> u16 {
    let listener = TcpListener::bind("192.0.2.1:0").await.expect("bound");
    let port = listener.local_addr().expect("an address").port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let _ = stream.write_all(word.as_bytes()).await;
        }
    });
    port
}

async fn ask(address: &str) -> Result<String, std::io::Error> {
    let mut stream = TcpStream::connect(address).await?;
    let mut word = String::new();
    stream.read_to_string(&mut word).await?;
    Ok(word)
}

#[test]
fn services_lead_to_their_endpoints_and_nothing_is_left() {
    in_namespace(|| async {
        let state = tempfile::tempdir().expect("a temporary directory");
        let before = traces();
        let plane = Dataplane::start(config(&state), Vec::new())
            .await
            .expect("started");
        let started = traces();
        let targets = [listener("one").await, listener("two").await];
        plane
            .set_services(vec![service(&targets)])
            .await
            .expect("applied");
        for address in ["10.96.7.7:80", "198.51.100.1:80", "192.0.2.1:30080"] {
            let mut words = std::collections::BTreeSet::new();
            for _ in 0..40 {
                words.insert(ask(address).await.expect(address));
            }
            assert_eq!(words.into_iter().collect::<Vec<_>>(), ["one", "two"], "{address}");
        }
        // No endpoint: refused at once, on the Service's port and on any other.
        plane.set_services(vec![service(&[])]).await.expect("applied");
        for address in ["10.96.7.7:80", "10.96.7.7:81", "198.51.100.1:80"] {
            let error = ask(address).await.expect_err(address);
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused, "{address}");
        }
        plane.set_services(Vec::new()).await.expect("applied");
        assert_eq!(traces(), started, "a deleted Service left something");
        plane.shutdown();
        assert_eq!(Dataplane::remove(&config(&state)).await, Vec::<String>::new());
        assert_eq!(traces(), before, "the network left something");
    });
}

#[test]
fn pods_come_go_and_survive_a_restart_of_the_agent() {
    in_namespace(|| async {
        let state = tempfile::tempdir().expect("a temporary directory");
        let before = traces();
        let plane = Dataplane::start(config(&state), Vec::new())
            .await
            .expect("started");
        plane.set_services(Vec::new()).await.expect("applied");
        let started = traces();
        let tap = plane.attach_pod(&pod()).await.expect("attached");
        assert_eq!(tap.name, "pv0a1b2c3d4e");
        assert!(run("ip", &["route"]).contains("10.244.0.2 dev pv0a1b2c3d4e"));
        assert!(run("nft", &["list", "set", "inet", "podvisor", "pods"]).contains("10.244.0.2"));
        drop(tap);
        plane.shutdown();
        drop(plane);
        // The agent comes back and is told what runs: the tap is still there, and stays in the rules.
        let plane = restart(&state).await;
        plane.set_services(vec![service(&[])]).await.expect("applied");
        assert!(run("nft", &["list", "set", "inet", "podvisor", "pods"]).contains("10.244.0.2"));
        plane.set_services(Vec::new()).await.expect("applied");
        plane.detach_pod(&pod().vm_id).await.expect("detached");
        plane
            .detach_pod(&pod().vm_id)
            .await
            .expect("a second time is nothing");
        assert_eq!(traces(), started, "a Pod left something");
        plane.shutdown();
        assert_eq!(Dataplane::remove(&config(&state)).await, Vec::<String>::new());
        assert_eq!(traces(), before, "the network left something");
    });
}

/// The stopped server lets go of its port when its tasks have seen the token.
async fn restart(state: &tempfile::TempDir) -> std::sync::Arc<Dataplane> {
    loop {
        match Dataplane::start(config(state), vec![pod()]).await {
            Ok(plane) => return plane,
            Err(dataplane::StartError::Dns { .. }) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn dns_answers_over_udp_and_tcp() {
    use hickory_proto::op::{Message, Query, ResponseCode};
    use hickory_proto::rr::{Name, RecordType};
    in_namespace(|| async {
        let state = tempfile::tempdir().expect("a temporary directory");
        let plane = Dataplane::start(config(&state), Vec::new())
            .await
            .expect("started");
        plane.set_services(vec![service(&[])]).await.expect("applied");
        let question = |name: &str| {
            let mut message = Message::query();
            message.add_query(Query::query(
                Name::from_ascii(name).expect("a name"),
                RecordType::A,
            ));
            message.to_vec().expect("encoded")
        };
        let socket = UdpSocket::bind("192.0.2.1:0").await.expect("bound");
        for (name, code, answers) in [
            ("web.demo.svc.cluster.local.", ResponseCode::NoError, 1),
            ("example.org.", ResponseCode::NXDomain, 0),
        ] {
            socket
                .send_to(&question(name), "10.96.0.10:53")
                .await
                .expect("sent");
            let mut buffer = [0; 512];
            let length = socket.recv(&mut buffer).await.expect("answered");
            let answer = Message::from_vec(&buffer[..length]).expect("decoded");
            assert_eq!(
                (answer.metadata.response_code, answer.answers.len()),
                (code, answers),
                "{name}"
            );
        }
        let mut stream = TcpStream::connect("10.96.0.10:53").await.expect("connected");
        let bytes = question("web.demo.svc.cluster.local.");
        stream.write_u16(bytes.len() as u16).await.expect("sent");
        stream.write_all(&bytes).await.expect("sent");
        let length = stream.read_u16().await.expect("answered");
        let mut buffer = vec![0; usize::from(length)];
        stream.read_exact(&mut buffer).await.expect("answered");
        assert_eq!(Message::from_vec(&buffer).expect("decoded").answers.len(), 1);
        plane.shutdown();
        assert_eq!(Dataplane::remove(&config(&state)).await, Vec::<String>::new());
    });
}
