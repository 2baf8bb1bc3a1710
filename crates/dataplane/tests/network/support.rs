//! What the tests share: a namespace to be in, the settings, and what is there to be left behind.

use std::net::Ipv4Addr;
use std::process::Command;

use dataplane::NetConfig;
use dataplane::model::{Endpoint, OnlyHere, PodNic, Protocol, Service, ServiceAddress, ServicePort};

/// The host's address.
pub const NODE_IP: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
/// Where the Service of the tests is, inside the cluster.
pub const CLUSTER_IP: Ipv4Addr = Ipv4Addr::new(10, 96, 7, 7);
/// Where it is for the outside.
pub const VIP: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// Its port on the host's addresses.
pub const NODE_PORT: u16 = 30080;

/// Runs `work` in a fresh network namespace with loopback up. The runtime's other threads are in it too, so that
/// `work` may block while the host's servers answer.
pub fn in_namespace<F: Future<Output = ()>>(work: impl FnOnce() -> F + Send + 'static) {
    let thread = std::thread::spawn(|| {
        leave_namespace();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(work());
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Gives the calling thread, and what it starts from now on, a network namespace of its own.
pub fn leave_namespace() {
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).expect("a namespace: these tests need root");
    run("ip", &["link", "set", "lo", "up"]);
}

/// Runs a program to its end; what it prints.
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().expect(program);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Everything of the network that can be left behind.
pub fn traces() -> String {
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

/// The settings of the host under test.
pub fn config(state: &tempfile::TempDir) -> NetConfig {
    NetConfig {
        node_ip: NODE_IP,
        pod_cidr: "10.244.0.0/16".parse().expect("a block"),
        service_cidr: "10.96.0.0/16".parse().expect("a block"),
        cluster_dns: Ipv4Addr::new(10, 96, 0, 10),
        domain: "cluster.local".to_owned(),
        open_tcp_ports: vec![6443],
        own_tcp_ports: vec![10250],
        upstream_dns: Vec::new(),
        dns_program: Vec::new(),
        tap_owner: 0,
        flows_per_pod: 500,
        state_dir: state.path().to_path_buf(),
    }
}

/// The Pod with the address 10.244.0.`number`.
pub fn pod(number: u8) -> PodNic {
    PodNic {
        vm_id: format!("{number:02x}1b2c3d4e5f"),
        ip: Ipv4Addr::new(10, 244, 0, number),
        mac: [2, 0, 10, 244, 0, number],
    }
}

/// A LoadBalancer Service `web` in `demo`, TCP port 80.
pub fn service(targets: impl Iterator<Item = (Ipv4Addr, u16)>) -> Service {
    Service {
        namespace: "demo".to_owned(),
        name: "web".to_owned(),
        address: ServiceAddress::Cluster(CLUSTER_IP),
        vips: vec![VIP],
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(NODE_PORT),
        }],
        client_affinity: None,
        served_elsewhere: false,
        health_port: None,
        guard: None,
        only_here: OnlyHere::default(),
        publish_not_ready: false,
        endpoints: targets
            .map(|(ip, port)| Endpoint {
                ip,
                ports: vec![(String::new(), port)],
                here: true,
                ready: true,
                ending: false,
                hostname: None,
            })
            .collect(),
    }
}
