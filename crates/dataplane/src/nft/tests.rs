//! Golden texts: a Service comes, changes and goes.

use super::*;
use crate::config::NetConfig;
use crate::model::{Endpoint, Guard, OnlyHere, PodNic, Protocol, Service, ServiceAddress, ServicePort};
use crate::policy::{Block, Peers, Policy, Port, Rule};

pub(crate) fn config() -> NetConfig {
    NetConfig {
        node_ip: "192.0.2.1".parse().expect("an address"),
        pod_cidr: "10.244.0.0/16".parse().expect("a block"),
        service_cidr: "10.96.0.0/16".parse().expect("a block"),
        cluster_dns: "10.96.0.10".parse().expect("an address"),
        domain: "cluster.local".to_owned(),
        open_tcp_ports: vec![6443],
        own_tcp_ports: vec![10250],
        upstream_dns: Vec::new(),
        dns_program: Vec::new(),
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
        client_affinity: None,
        served_elsewhere: false,
        health_port: None,
        guard: None,
        only_here: OnlyHere::default(),
        publish_not_ready: false,
        endpoints: ready
            .iter()
            .map(|ip| Endpoint {
                ip: ip.parse().expect("an address"),
                ports: vec![(String::new(), 8080)],
                here: true,
                ready: true,
                ending: false,
                hostname: None,
            })
            .collect(),
    }
}

#[test]
fn a_service_comes_changes_and_goes() {
    let config = config();
    let empty = Ruleset::of(&config, &[pod()], &[], &[]);
    let one = Ruleset::of(&config, &[pod()], &[service(&["10.244.0.2"])], &[]);
    let two = Ruleset::of(&config, &[pod()], &[service(&["10.244.0.2", "10.244.1.3"])], &[]);
    let none = Ruleset::of(&config, &[pod()], &[service(&[])], &[]);
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
    assert_eq!(Ruleset::of(&config, &[pod()], &[], &[]), empty);
}

#[test]
fn a_pod_is_bound_to_its_tap_and_addresses() {
    let config = config();
    let text = delta(
        &Ruleset::of(&config, &[], &[], &[]),
        &Ruleset::of(&config, &[pod()], &[], &[]),
    );
    assert_eq!(
        text,
        "add element inet podvisor pods { \"pv0123456789\" . 02:00:0a:f4:00:02 . 10.244.0.2 }\n\
         add element arp podvisor pods { \"pv0123456789\" . 02:00:0a:f4:00:02 . 10.244.0.2 }\n"
    );
}

#[test]
fn a_client_keeps_its_endpoint_for_a_while() {
    let config = config();
    let empty = Ruleset::of(&config, &[], &[], &[]);
    let with = |ips: &[&str]| {
        let mut service = service(ips);
        service.client_affinity = Some(600);
        service.vips.clear();
        service.ports[0].node_port = None;
        Ruleset::of(&config, &[], &[service], &[])
    };
    let (one, two) = (with(&["10.244.0.2"]), with(&["10.244.0.2", "10.244.1.3"]));
    assert_eq!(
        delta(&empty, &one),
        "\
add set inet podvisor clients/600/demo/web/tcp/80/10.244.0.2/8080 { type ipv4_addr; size 65535; flags dynamic, timeout; timeout 600s; }
add chain inet podvisor ep/demo/web/tcp/80/10.244.0.2/8080
add chain inet podvisor svc/demo/web/tcp/80
add rule inet podvisor ep/demo/web/tcp/80/10.244.0.2/8080 update @clients/600/demo/web/tcp/80/10.244.0.2/8080 { ip saddr }
add rule inet podvisor ep/demo/web/tcp/80/10.244.0.2/8080 meta l4proto tcp dnat ip to 10.244.0.2:8080
add rule inet podvisor svc/demo/web/tcp/80 ip saddr @clients/600/demo/web/tcp/80/10.244.0.2/8080 goto ep/demo/web/tcp/80/10.244.0.2/8080
add rule inet podvisor svc/demo/web/tcp/80 numgen random mod 1 vmap { 0 : goto ep/demo/web/tcp/80/10.244.0.2/8080 }
add element inet podvisor service_addresses { 10.96.7.7 }
add element inet podvisor services { 10.96.7.7 . tcp . 80 : goto svc/demo/web/tcp/80 }
"
    );
    // Whoever is with the endpoint that stays goes on being remembered.
    let added = delta(&one, &two);
    assert!(!added.contains("10.244.0.2/8080 {"), "{added}");
    assert!(added.contains("numgen random mod 2"), "{added}");
    let removed = delta(&two, &empty);
    let order = ["flush chain", "delete chain", "delete set"].map(|verb| removed.find(verb));
    assert!(order.is_sorted() && order[0].is_some(), "{removed}");
}

#[test]
fn a_guarded_address_takes_some_clients() {
    let mut service = service(&["10.244.0.2"]);
    service.guard = Some(Guard {
        vips: service.vips.clone(),
        sources: vec!["203.0.113.0/24".parse().expect("a block")],
    });
    let rules = Ruleset::of(&config(), &[], &[service], &[]);
    assert_eq!(
        rules.chains["lb/demo/web/tcp/80"],
        ["ip saddr 203.0.113.0/24 goto svc/demo/web/tcp/80", "drop"]
    );
    let way = |address: &str| {
        let key = ("services", format!("{address} . tcp . 80"));
        rules.elements[&key].as_str()
    };
    assert_eq!(way("198.51.100.1"), "goto lb/demo/web/tcp/80");
    assert_eq!(way("10.96.7.7"), "goto svc/demo/web/tcp/80");
}

#[test]
fn who_is_going_serves_while_there_is_nobody_else() {
    let mut service = service(&["10.244.0.2", "10.244.1.3"]);
    service.endpoints[0].ready = false;
    service.endpoints[0].ending = true;
    let addresses = |service: &Service| -> Vec<String> {
        let targets = service.targets("");
        targets.iter().map(|(ip, _)| ip.to_string()).collect()
    };
    assert_eq!(addresses(&service), ["10.244.1.3"]);
    service.endpoints[1].ready = false;
    assert_eq!(addresses(&service), ["10.244.0.2"]);
}

#[test]
fn who_may_only_come_to_endpoints_of_this_host() {
    let mut service = service(&["10.244.0.2", "10.244.1.3"]);
    service.endpoints[1].here = false;
    service.only_here.outside = true;
    let ways = |service: &Service| {
        let rules = Ruleset::of(&config(), &[], std::slice::from_ref(service), &[]);
        let way = |address: &str| rules.elements[&("services", format!("{address} . tcp . 80"))].clone();
        let node_port = rules.elements[&("nodeports", "tcp . 30080".to_owned())].clone();
        (way("10.96.7.7"), way("198.51.100.1"), node_port, rules.chains)
    };
    let (inside, vip, node_port, chains) = ways(&service);
    assert_eq!(inside, "goto svc/demo/web/tcp/80");
    assert_eq!((vip.as_str(), &node_port), ("goto out/demo/web/tcp/80", &vip));
    assert_eq!(
        chains["out/demo/web/tcp/80"],
        [
            "ip saddr 10.244.0.0/16 goto svc/demo/web/tcp/80",
            "fib saddr type local goto svc/demo/web/tcp/80",
            "goto here/demo/web/tcp/80"
        ]
    );
    let one = "meta l4proto tcp dnat ip to 10.244.0.2:8080";
    assert_eq!(chains["here/demo/web/tcp/80"], [one]);
    // Those who are going serve here while others are ready elsewhere.
    service.endpoints[0].ready = false;
    service.endpoints[0].ending = true;
    assert_eq!(ways(&service).3["here/demo/web/tcp/80"], [one]);
    service.endpoints[0].here = false;
    service.only_here = OnlyHere {
        inside: true,
        outside: false,
    };
    let (inside, vip, _, chains) = ways(&service);
    assert_eq!(inside, "goto here/demo/web/tcp/80");
    assert_eq!(vip, "goto svc/demo/web/tcp/80");
    assert_eq!(chains["here/demo/web/tcp/80"], ["drop"]);
}

#[test]
fn a_service_of_another_proxy_is_left_alone() {
    let mut service = service(&["10.244.0.2"]);
    service.served_elsewhere = true;
    let config = config();
    assert_eq!(
        Ruleset::of(&config, &[], &[service], &[]),
        Ruleset::of(&config, &[], &[], &[])
    );
}

#[test]
fn policies_isolate_the_pods_that_they_select() {
    let ip = |text: &str| text.parse::<std::net::Ipv4Addr>().expect("an address");
    let config = config();
    let empty = Ruleset::of(&config, &[], &[], &[]);
    let rule = Rule {
        peers: Peers::Some {
            pods: [ip("10.244.0.3")].into(),
            blocks: vec![Block {
                cidr: "192.0.2.0/24".parse().expect("a block"),
                except: vec!["192.0.2.8/29".parse().expect("a block")],
            }],
        },
        ports: Some(vec![
            Port::Range(Protocol::Tcp, 80, 80),
            Port::Named(Protocol::Udp, [(ip("10.244.0.2"), 53)].into()),
        ]),
    };
    let everything = Rule {
        peers: Peers::Any,
        ports: None,
    };
    let policy = Policy {
        uid: "u".to_owned(),
        pods: [ip("10.244.0.2")].into(),
        ingress: Some(vec![rule.clone()]),
        egress: Some(vec![everything]),
    };
    let one = Ruleset::of(&config, &[], &[], std::slice::from_ref(&policy));
    assert_eq!(
        delta(&empty, &one),
        "\
add set inet podvisor np/u/in/0 { type ipv4_addr; }
add element inet podvisor np/u/in/0 { 10.244.0.3 }
add set inet podvisor np/u/in/0/1 { type ipv4_addr . inet_service; }
add element inet podvisor np/u/in/0/1 { 10.244.0.2 . 53 }
add chain inet podvisor in/10.244.0.2
add chain inet podvisor np/u/in
add chain inet podvisor np/u/out
add chain inet podvisor out/10.244.0.2
add rule inet podvisor in/10.244.0.2 ip saddr 10.244.0.2 accept
add rule inet podvisor in/10.244.0.2 jump np/u/in
add rule inet podvisor in/10.244.0.2 drop
add rule inet podvisor np/u/in ip saddr @np/u/in/0 meta l4proto tcp th dport 80 accept
add rule inet podvisor np/u/in ip saddr @np/u/in/0 meta l4proto udp ip daddr . th dport @np/u/in/0/1 accept
add rule inet podvisor np/u/in ip saddr 192.0.2.0/24 ip saddr != 192.0.2.8/29 meta l4proto tcp th dport 80 accept
add rule inet podvisor np/u/in ip saddr 192.0.2.0/24 ip saddr != 192.0.2.8/29 meta l4proto udp ip daddr . th dport @np/u/in/0/1 accept
add rule inet podvisor np/u/out goto may_in
add rule inet podvisor out/10.244.0.2 ip daddr 10.244.0.2 goto may_in
add rule inet podvisor out/10.244.0.2 jump np/u/out
add rule inet podvisor out/10.244.0.2 drop
add element inet podvisor isolated_in { 10.244.0.2 : goto in/10.244.0.2 }
add element inet podvisor isolated_out { 10.244.0.2 : goto out/10.244.0.2 }
"
    );
    // Another Pod with the label changes a set and nothing else.
    let mut more = policy;
    let Some(
        [
            Rule {
                peers: Peers::Some { pods, .. },
                ..
            },
        ],
    ) = more.ingress.as_deref_mut()
    else {
        panic!("one rule")
    };
    pods.insert(ip("10.244.0.4"));
    assert_eq!(
        delta(&one, &Ruleset::of(&config, &[], &[], &[more])),
        "add element inet podvisor np/u/in/0 { 10.244.0.4 }\n"
    );
    assert!(delta(&one, &empty).ends_with("delete set inet podvisor np/u/in/0/1\n"));
}
