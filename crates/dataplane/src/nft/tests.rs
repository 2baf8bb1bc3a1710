//! Golden texts: a Service comes, changes and goes.

use super::*;
use crate::config::NetConfig;
use crate::model::{Endpoint, PodNic, Protocol, Service, ServiceAddress, ServicePort};

pub(crate) fn config() -> NetConfig {
    NetConfig {
        node_ip: "192.0.2.1".parse().expect("an address"),
        pod_cidr: "10.244.0.0/16".parse().expect("a block"),
        service_cidr: "10.96.0.0/16".parse().expect("a block"),
        cluster_dns: "10.96.0.10".parse().expect("an address"),
        domain: "cluster.local".to_owned(),
        open_tcp_ports: vec![6443],
        upstream_dns: Vec::new(),
        tap_owner: 0,
        flows_per_pod: crate::FLOWS_PER_POD,
        state_dir: std::env::temp_dir(),
    }
}

fn pod() -> PodNic {
    PodNic {
        vm_id: "0123456789abcdef".to_owned(),
        ip: "10.244.0.2".parse().expect("an address"),
        mac: [2, 0, 10, 244, 0, 2],
    }
}

fn service(ready: &[&str]) -> Service {
    Service {
        namespace: "demo".to_owned(),
        name: "web".to_owned(),
        address: ServiceAddress::Cluster("10.96.7.7".parse().expect("an address")),
        vips: vec!["198.51.100.1".parse().expect("an address")],
        ports: vec![ServicePort {
            name: String::new(),
            protocol: Protocol::Tcp,
            port: 80,
            node_port: Some(30080),
        }],
        client_affinity: false,
        publish_not_ready: false,
        endpoints: ready
            .iter()
            .map(|ip| Endpoint {
                ip: ip.parse().expect("an address"),
                ports: vec![(String::new(), 8080)],
                ready: true,
                hostname: None,
            })
            .collect(),
    }
}

#[test]
fn a_service_comes_changes_and_goes() {
    let config = config();
    let empty = Ruleset::of(&config, &[pod()], &[]);
    let one = Ruleset::of(&config, &[pod()], &[service(&["10.244.0.2"])]);
    let two = Ruleset::of(&config, &[pod()], &[service(&["10.244.0.2", "10.244.1.3"])]);
    let none = Ruleset::of(&config, &[pod()], &[service(&[])]);
    assert_eq!(
        delta(&empty, &one),
        "\
add chain inet podvisor svc/demo/web/tcp/80
add rule inet podvisor svc/demo/web/tcp/80 meta l4proto tcp dnat ip to 10.244.0.2:8080
add element inet podvisor hairpin { 10.244.0.2 . 10.244.0.2 }
add element inet podvisor nodeports { tcp . 30080 : goto svc/demo/web/tcp/80 }
add element inet podvisor service_addresses { 10.96.7.7 }
add element inet podvisor service_addresses { 198.51.100.1 }
add element inet podvisor services { 10.96.7.7 . tcp . 80 : goto svc/demo/web/tcp/80 }
add element inet podvisor services { 198.51.100.1 . tcp . 80 : goto svc/demo/web/tcp/80 }
"
    );
    assert_eq!(
        delta(&one, &two),
        "\
flush chain inet podvisor svc/demo/web/tcp/80
add rule inet podvisor svc/demo/web/tcp/80 meta l4proto tcp dnat ip to numgen random mod 2 map { 0 : 10.244.0.2 . 8080, 1 : 10.244.1.3 . 8080 }
"
    );
    assert_eq!(
        delta(&two, &none),
        "\
delete element inet podvisor hairpin { 10.244.0.2 . 10.244.0.2 }
delete element inet podvisor nodeports { tcp . 30080 }
delete element inet podvisor services { 10.96.7.7 . tcp . 80 }
delete element inet podvisor services { 198.51.100.1 . tcp . 80 }
add element inet podvisor refused { 10.96.7.7 . tcp . 80 : goto refuse }
add element inet podvisor refused { 198.51.100.1 . tcp . 80 : goto refuse }
add element inet podvisor refused_nodeports { tcp . 30080 : goto refuse }
flush chain inet podvisor svc/demo/web/tcp/80
delete chain inet podvisor svc/demo/web/tcp/80
"
    );
    assert_eq!(delta(&two, &two), "");
    // Forwards and back is nothing: deleting leaves the ruleset as it was.
    assert_eq!(Ruleset::of(&config, &[pod()], &[]), empty);
}

#[test]
fn a_pod_is_bound_to_its_tap_and_addresses() {
    let config = config();
    let text = delta(
        &Ruleset::of(&config, &[], &[]),
        &Ruleset::of(&config, &[pod()], &[]),
    );
    assert_eq!(
        text,
        "add element inet podvisor pods { \"pv0123456789\" . 02:00:0a:f4:00:02 . 10.244.0.2 }\n\
         add element arp podvisor pods { \"pv0123456789\" . 02:00:0a:f4:00:02 . 10.244.0.2 }\n"
    );
}

#[test]
fn affinity_hashes_the_client() {
    let mut service = service(&["10.244.0.2", "10.244.1.3"]);
    service.client_affinity = true;
    let rules = Ruleset::of(&config(), &[], &[service]);
    assert!(rules.chains["svc/demo/web/tcp/80"][0].contains("jhash ip saddr mod 2"));
}
