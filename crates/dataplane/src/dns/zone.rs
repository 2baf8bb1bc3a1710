//! The names of a cluster, from its Services. Pure: a snapshot in, an answer out.
//!
//! | name | answer |
//! |---|---|
//! | `SVC.NS.svc.DOMAIN` | A: the cluster IP, or every ready endpoint of a headless Service; SRV: all ports; CNAME for ExternalName |
//! | `HOST.SVC.NS.svc.DOMAIN` | A: the endpoint with that hostname (or its address with dashes); SRV: its ports |
//! | `_PORT._PROTO.SVC.NS.svc.DOMAIN` | SRV: port and target |
//! | `a-b-c-d.NS.pod.DOMAIN` | A: a.b.c.d |
//! | `d.c.b.a.in-addr.arpa` | PTR: the Service, or the endpoints, with that address |
//! | `DOMAIN` | SOA, NS |
//! | `dns-version.DOMAIN` | TXT: the version of the specification |
//!
//! With targets of SRV go their addresses, as additional records. Answers that the specification (DNS-Based Service
//! Discovery of Kubernetes) leaves open are those of CoreDNS.

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, CNAME, NS, PTR, SOA, SRV, TXT};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use serde::{Deserialize, Serialize};

use crate::model::{Endpoint, Service, ServiceAddress};

/// Seconds that an answer may be kept: short, because endpoints move.
const TTL: u32 = 5;
/// CoreDNS's values, which resolvers are used to.
const SOA_TIMES: (i32, i32, i32) = (7200, 1800, 86400);
/// The version of the specification that names follow.
const VERSION: &str = "1.1.0";
/// The Service of the cluster's DNS.
const OWN_SERVICE: &str = "kube-dns.kube-system.svc";

/// What a question about our names is answered with.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub code: ResponseCode,
    pub records: Vec<Record>,
    /// Where to find whom the records name.
    pub additional: Vec<Record>,
    /// Goes into the authority section when there is no record, so that resolvers keep the "no".
    pub soa: Option<Record>,
}

/// The records of one name.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
struct Node {
    addresses: BTreeSet<Ipv4Addr>,
    services: Vec<(u16, String)>,
    alias: Option<String>,
}

/// A snapshot of all names, keyed in lower case without the final dot.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Zone {
    domain: String,
    nodes: BTreeMap<String, Node>,
    /// Services, and endpoints that have a name of their own.
    reverse: BTreeMap<Ipv4Addr, BTreeSet<String>>,
    /// Endpoints without one.
    nameless: BTreeMap<Ipv4Addr, String>,
}

impl Zone {
    /// Plans the names.
    pub fn of(domain: &str, services: &[Service]) -> Self {
        let mut zone = Self {
            domain: domain.to_owned(),
            ..Self::default()
        };
        for service in services {
            zone.add(service);
        }
        zone
    }

    /// Answers a question about our names; `None` when the name is not ours and must be asked elsewhere.
    pub fn answer(&self, name: &Name, kind: RecordType) -> Option<Answer> {
        let text = name.to_ascii().trim_end_matches('.').to_ascii_lowercase();
        if let Some(reversed) = text.strip_suffix(".in-addr.arpa") {
            return self.reversed(name, kind, reverse_address(reversed)?);
        }
        if text != self.domain && !text.ends_with(&format!(".{}", self.domain)) {
            return None;
        }
        if let Some(address) = self.pod_address(&text) {
            return Some(self.found(self.address_records(name, kind, &BTreeSet::from([address]))));
        }
        let Some(node) = self.nodes.get(&text) else {
            return Some(self.of_the_zone(name, kind, &text));
        };
        if let Some(alias) = &node.alias {
            return Some(self.found(vec![record(name, RData::CNAME(CNAME(absolute(alias))))]));
        }
        let mut records = self.address_records(name, kind, &node.addresses);
        let mut targets: BTreeSet<&str> = BTreeSet::new();
        if matches!(kind, RecordType::SRV | RecordType::ANY) {
            let weight = 100 / u16::try_from(node.services.len().max(1)).unwrap_or(100);
            targets.extend(node.services.iter().map(|(_, target)| target.as_str()));
            records.extend(node.services.iter().map(|(port, target)| {
                record(
                    name,
                    RData::SRV(SRV::new(0, weight.max(1), *port, absolute(target))),
                )
            }));
        }
        let mut answer = self.found(records);
        answer.additional = targets
            .into_iter()
            .flat_map(|target| self.addresses_of(target))
            .collect();
        Some(answer)
    }

    /// Who has an address; `None` when nobody of ours has.
    fn reversed(&self, name: &Name, kind: RecordType, address: Ipv4Addr) -> Option<Answer> {
        let named = self.reverse.get(&address).into_iter().flatten();
        let mut targets: Vec<&String> = named.collect();
        if targets.is_empty() {
            targets.extend(self.nameless.get(&address));
        }
        if targets.is_empty() {
            return None;
        }
        let wanted = matches!(kind, RecordType::PTR | RecordType::ANY);
        let pointers = targets.into_iter().filter(|_| wanted);
        let records = pointers.map(|target| record(name, RData::PTR(PTR(absolute(target)))));
        Some(self.found(records.collect()))
    }

    /// What is said of names that are no Service's: the zone's own, branches, and those that are not there.
    fn of_the_zone(&self, name: &Name, kind: RecordType, text: &str) -> Answer {
        let within = text
            .strip_suffix(&self.domain)
            .map(|rest| rest.trim_end_matches('.'));
        match (within, kind) {
            (Some(""), RecordType::SOA) => return self.found(vec![self.soa()]),
            (Some(""), RecordType::NS) => {
                let server = self.name_server();
                let mut answer = self.found(vec![record(name, RData::NS(NS(absolute(&server))))]);
                answer.additional = self.addresses_of(&server);
                return answer;
            }
            (Some("dns-version"), RecordType::TXT) => {
                return self.found(vec![record(name, RData::TXT(TXT::new(vec![VERSION.to_owned()])))]);
            }
            _ => {}
        }
        // Below `pod` there is a name for every address.
        let of_pods =
            |within: &str| within == "pod" || within.strip_suffix(".pod").is_some_and(|ns| !ns.contains('.'));
        let is_branch = within.is_some_and(|within| matches!(within, "" | "dns-version") || of_pods(within));
        let code = match is_branch || self.has_children(text) {
            true => ResponseCode::NoError,
            false => ResponseCode::NXDomain,
        };
        Answer {
            code,
            soa: Some(self.soa()),
            ..Answer::default()
        }
    }

    fn add(&mut self, service: &Service) {
        let base = format!("{}.{}.svc.{}", service.name, service.namespace, self.domain);
        match &service.address {
            ServiceAddress::External(target) => {
                self.node(&base).alias = Some(target.trim_end_matches('.').to_owned());
            }
            ServiceAddress::Cluster(ip) => {
                self.node(&base).addresses.insert(*ip);
                self.reverse.entry(*ip).or_default().insert(base.clone());
                for port in &service.ports {
                    let srv = srv_name(&port.name, port.protocol.name(), &base);
                    self.node(&srv).services.push((port.port, base.clone()));
                    self.node(&base).services.push((port.port, base.clone()));
                }
                self.add_endpoints(service, &base);
            }
            ServiceAddress::Headless => {
                // The name exists even while nothing is ready: "no address now", not "no such name".
                self.node(&base);
                self.add_endpoints(service, &base);
            }
        }
    }

    /// The names of a Service's endpoints; those of a headless one are its own addresses and ports.
    fn add_endpoints(&mut self, service: &Service, base: &str) {
        let is_headless = service.address == ServiceAddress::Headless;
        let counts = |endpoint: &&Endpoint| endpoint.ready || service.publish_not_ready;
        for endpoint in service.endpoints.iter().filter(counts) {
            let dashed = endpoint.ip.to_string().replace('.', "-");
            let host = endpoint.hostname.clone().unwrap_or(dashed);
            let name = format!("{host}.{base}");
            self.node(&name).addresses.insert(endpoint.ip);
            if endpoint.hostname.is_some() {
                self.reverse.entry(endpoint.ip).or_default().insert(name.clone());
            } else if is_headless {
                self.nameless.entry(endpoint.ip).or_insert_with(|| name.clone());
            }
            if is_headless {
                self.node(base).addresses.insert(endpoint.ip);
            }
            for port in &service.ports {
                let mut ports = endpoint.ports.iter();
                let Some((_, target)) = ports.find(|(port_name, _)| *port_name == port.name) else {
                    continue;
                };
                let srv = srv_name(&port.name, port.protocol.name(), base);
                let all = [name.as_str(), base, &srv];
                for node in &all[..if is_headless { 3 } else { 1 }] {
                    self.node(node).services.push((*target, name.clone()));
                }
            }
        }
    }

    fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.entry(name.to_ascii_lowercase()).or_default()
    }

    /// The addresses of one of our names, as records of it.
    fn addresses_of(&self, target: &str) -> Vec<Record> {
        let node = self.nodes.get(&target.to_ascii_lowercase());
        node.map_or_else(Vec::new, |node| {
            self.address_records(&absolute(target), RecordType::A, &node.addresses)
        })
    }

    /// Who answers for the zone.
    fn name_server(&self) -> String {
        let own = format!("{OWN_SERVICE}.{}", self.domain);
        match self.nodes.contains_key(&own) {
            true => own,
            false => format!("ns.dns.{}", self.domain),
        }
    }

    fn has_children(&self, name: &str) -> bool {
        let suffix = format!(".{name}");
        self.nodes.keys().any(|key| key.ends_with(&suffix))
    }

    /// `10-244-0-2.demo.pod.cluster.local`
    fn pod_address(&self, name: &str) -> Option<Ipv4Addr> {
        let rest = name.strip_suffix(&self.domain)?.strip_suffix(".pod.")?;
        let (dashed, namespace) = rest.split_once('.')?;
        (!namespace.contains('.')).then(|| dashed.replace('-', ".").parse().ok())?
    }

    fn address_records(&self, name: &Name, kind: RecordType, addresses: &BTreeSet<Ipv4Addr>) -> Vec<Record> {
        if !matches!(kind, RecordType::A | RecordType::ANY) {
            return Vec::new();
        }
        addresses
            .iter()
            .map(|address| record(name, RData::A(A(*address))))
            .collect()
    }

    fn found(&self, records: Vec<Record>) -> Answer {
        let soa = records.is_empty().then(|| self.soa());
        Answer {
            code: ResponseCode::NoError,
            records,
            soa,
            ..Answer::default()
        }
    }

    fn soa(&self) -> Record {
        let (refresh, retry, expire) = SOA_TIMES;
        let server = absolute(&format!("ns.dns.{}", self.domain));
        let person = absolute(&format!("hostmaster.{}", self.domain));
        let soa = SOA::new(server, person, 1, refresh, retry, expire, TTL);
        record(&absolute(&self.domain), RData::SOA(soa))
    }
}

fn record(name: &Name, data: RData) -> Record {
    Record::from_rdata(name.clone(), TTL, data)
}

/// A name from text that the API server has validated; what DNS cannot carry becomes the root.
fn absolute(name: &str) -> Name {
    Name::from_ascii(format!("{name}.")).unwrap_or_else(|_| Name::root())
}

fn srv_name(port: &str, protocol: &str, base: &str) -> String {
    if port.is_empty() {
        format!("_{protocol}.{base}")
    } else {
        format!("_{port}._{protocol}.{base}")
    }
}

fn reverse_address(reversed: &str) -> Option<Ipv4Addr> {
    let mut octets: Vec<&str> = reversed.split('.').collect();
    octets.reverse();
    octets.join(".").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{Endpoint, OnlyHere, Protocol, ServicePort};

    fn service(name: &str, address: ServiceAddress) -> Service {
        let endpoint = |ip: &str, ready, hostname: Option<&str>| Endpoint {
            ip: ip.parse().expect("an address"),
            ports: vec![("http".to_owned(), 8080)],
            here: true,
            ready,
            ending: false,
            hostname: hostname.map(str::to_owned),
        };
        Service {
            namespace: "demo".to_owned(),
            name: name.to_owned(),
            address,
            vips: Vec::new(),
            ports: vec![ServicePort {
                name: "http".to_owned(),
                protocol: Protocol::Tcp,
                port: 80,
                node_port: None,
            }],
            client_affinity: None,
            served_elsewhere: false,
            health_port: None,
            guard: None,
            only_here: OnlyHere::default(),
            publish_not_ready: false,
            endpoints: vec![
                endpoint("10.244.0.2", true, Some("web-0")),
                endpoint("10.244.0.3", true, None),
                endpoint("10.244.0.4", false, None),
            ],
        }
    }

    fn zone() -> Zone {
        let cluster = ServiceAddress::Cluster("10.96.7.7".parse().expect("an address"));
        Zone::of(
            "cluster.local",
            &[
                service("web", cluster),
                service("db", ServiceAddress::Headless),
                service("also", ServiceAddress::Headless),
                service("out", ServiceAddress::External("example.org".to_owned())),
            ],
        )
    }

    fn ask(zone: &Zone, name: &str, kind: RecordType) -> String {
        let Some(answer) = zone.answer(&absolute(name), kind) else {
            return "elsewhere".to_owned();
        };
        let data = |records: &[Record]| {
            let all = records.iter().map(|record| record.data.to_string());
            all.collect::<Vec<_>>().join(", ")
        };
        assert_eq!(
            answer.soa.is_some(),
            answer.records.is_empty(),
            "{name}: a \"no\" carries the SOA"
        );
        let more = match answer.additional.as_slice() {
            [] => String::new(),
            additional => format!(" + {}", data(additional)),
        };
        format!("{:?} {}{more}", answer.code, data(&answer.records))
            .trim_end()
            .to_owned()
    }

    #[test]
    fn names_are_those_of_the_specification() {
        let zone = zone();
        let cases = [
            ("web.demo.svc.cluster.local", RecordType::A, "NoError 10.96.7.7"),
            ("WEB.demo.svc.cluster.local", RecordType::A, "NoError 10.96.7.7"),
            ("web.demo.svc.cluster.local", RecordType::AAAA, "NoError"),
            (
                "db.demo.svc.cluster.local",
                RecordType::A,
                "NoError 10.244.0.2, 10.244.0.3",
            ),
            (
                "web-0.db.demo.svc.cluster.local",
                RecordType::A,
                "NoError 10.244.0.2",
            ),
            (
                "10-244-0-3.db.demo.svc.cluster.local",
                RecordType::A,
                "NoError 10.244.0.3",
            ),
            ("10-244-0-4.db.demo.svc.cluster.local", RecordType::A, "NXDomain"),
            (
                "_http._tcp.web.demo.svc.cluster.local",
                RecordType::SRV,
                "NoError 0 100 80 web.demo.svc.cluster.local. + 10.96.7.7",
            ),
            (
                "web.demo.svc.cluster.local",
                RecordType::SRV,
                "NoError 0 100 80 web.demo.svc.cluster.local. + 10.96.7.7",
            ),
            (
                "db.demo.svc.cluster.local",
                RecordType::SRV,
                "NoError 0 50 8080 web-0.db.demo.svc.cluster.local., 0 50 8080 10-244-0-3.db.demo.svc.cluster.local. \
                    + 10.244.0.3, 10.244.0.2",
            ),
            (
                "web-0.db.demo.svc.cluster.local",
                RecordType::SRV,
                "NoError 0 100 8080 web-0.db.demo.svc.cluster.local. + 10.244.0.2",
            ),
            (
                "web-0.web.demo.svc.cluster.local",
                RecordType::A,
                "NoError 10.244.0.2",
            ),
            ("cluster.local", RecordType::NS, "NoError ns.dns.cluster.local."),
            (
                "cluster.local",
                RecordType::SOA,
                "NoError ns.dns.cluster.local. hostmaster.cluster.local. 1 7200 1800 86400 5",
            ),
            ("cluster.local", RecordType::A, "NoError"),
            ("dns-version.cluster.local", RecordType::TXT, "NoError 1.1.0"),
            ("pod.cluster.local", RecordType::A, "NoError"),
            ("demo.pod.cluster.local", RecordType::A, "NoError"),
            ("nope.cluster.local", RecordType::A, "NXDomain"),
            (
                "out.demo.svc.cluster.local",
                RecordType::A,
                "NoError example.org.",
            ),
            (
                "10-1-2-3.demo.pod.cluster.local",
                RecordType::A,
                "NoError 10.1.2.3",
            ),
            ("nope.demo.svc.cluster.local", RecordType::A, "NXDomain"),
            ("demo.svc.cluster.local", RecordType::A, "NoError"),
            (
                "7.7.96.10.in-addr.arpa",
                RecordType::PTR,
                "NoError web.demo.svc.cluster.local.",
            ),
            (
                "2.0.244.10.in-addr.arpa",
                RecordType::PTR,
                "NoError web-0.also.demo.svc.cluster.local., web-0.db.demo.svc.cluster.local., \
                    web-0.web.demo.svc.cluster.local.",
            ),
            (
                "3.0.244.10.in-addr.arpa",
                RecordType::PTR,
                "NoError 10-244-0-3.db.demo.svc.cluster.local.",
            ),
            ("9.9.9.9.in-addr.arpa", RecordType::PTR, "elsewhere"),
            ("example.org", RecordType::A, "elsewhere"),
        ];
        for (name, kind, expected) in cases {
            assert_eq!(ask(&zone, name, kind), expected, "{name} {kind}");
        }
    }
}
