//! The names of a cluster, from its Services. Pure: a snapshot in, an answer out.
//!
//! | name | answer |
//! |---|---|
//! | `SVC.NS.svc.DOMAIN` | A: the cluster IP, or every ready endpoint of a headless Service; CNAME for ExternalName |
//! | `HOST.SVC.NS.svc.DOMAIN` | A: the endpoint with that hostname (or its address with dashes) |
//! | `_PORT._PROTO.SVC.NS.svc.DOMAIN` | SRV: port and target |
//! | `a-b-c-d.NS.pod.DOMAIN` | A: a.b.c.d |
//! | `d.c.b.a.in-addr.arpa` | PTR: the Service or endpoint with that address |

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, CNAME, PTR, SOA, SRV};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use serde::{Deserialize, Serialize};

use crate::model::{Service, ServiceAddress};

/// Seconds that an answer may be kept: short, because endpoints move.
const TTL: u32 = 5;
/// CoreDNS's values, which resolvers are used to.
const SOA_TIMES: (i32, i32, i32) = (7200, 1800, 86400);

/// What a question about our names is answered with.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub code: ResponseCode,
    pub records: Vec<Record>,
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
    reverse: BTreeMap<Ipv4Addr, String>,
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
            let target = self.reverse.get(&reverse_address(reversed)?)?;
            let records = matches!(kind, RecordType::PTR | RecordType::ANY)
                .then(|| record(name, RData::PTR(PTR(absolute(target)))));
            return Some(self.found(records.into_iter().collect()));
        }
        if text != self.domain && !text.ends_with(&format!(".{}", self.domain)) {
            return None;
        }
        if let Some(address) = self.pod_address(&text) {
            return Some(self.found(self.address_records(name, kind, &BTreeSet::from([address]))));
        }
        let Some(node) = self.nodes.get(&text) else {
            let is_branch = text == self.domain || self.has_children(&text);
            let code = if is_branch {
                ResponseCode::NoError
            } else {
                ResponseCode::NXDomain
            };
            return Some(Answer {
                code,
                records: Vec::new(),
                soa: Some(self.soa()),
            });
        };
        if let Some(alias) = &node.alias {
            return Some(self.found(vec![record(name, RData::CNAME(CNAME(absolute(alias))))]));
        }
        let mut records = self.address_records(name, kind, &node.addresses);
        if matches!(kind, RecordType::SRV | RecordType::ANY) {
            let weight = 100 / u16::try_from(node.services.len().max(1)).unwrap_or(100);
            records.extend(node.services.iter().map(|(port, target)| {
                record(
                    name,
                    RData::SRV(SRV::new(0, weight.max(1), *port, absolute(target))),
                )
            }));
        }
        Some(self.found(records))
    }

    fn add(&mut self, service: &Service) {
        let base = format!("{}.{}.svc.{}", service.name, service.namespace, self.domain);
        match &service.address {
            ServiceAddress::External(target) => {
                self.node(&base).alias = Some(target.trim_end_matches('.').to_owned());
            }
            ServiceAddress::Cluster(ip) => {
                self.node(&base).addresses.insert(*ip);
                self.reverse.insert(*ip, base.clone());
                for port in &service.ports {
                    let srv = srv_name(&port.name, port.protocol.name(), &base);
                    self.node(&srv).services.push((port.port, base.clone()));
                }
            }
            ServiceAddress::Headless => self.add_headless(service, &base),
        }
    }

    fn add_headless(&mut self, service: &Service, base: &str) {
        // The name exists even while nothing is ready: "no address now", not "no such name".
        self.node(base);
        let counts = |ready: bool| ready || service.publish_not_ready;
        for endpoint in service.endpoints.iter().filter(|endpoint| counts(endpoint.ready)) {
            let dashed = endpoint.ip.to_string().replace('.', "-");
            let host = endpoint.hostname.clone().unwrap_or(dashed);
            let name = format!("{host}.{base}");
            self.node(base).addresses.insert(endpoint.ip);
            self.node(&name).addresses.insert(endpoint.ip);
            if endpoint.hostname.is_some() || !self.reverse.contains_key(&endpoint.ip) {
                self.reverse.insert(endpoint.ip, name.clone());
            }
            for port in &service.ports {
                let Some((_, target)) = endpoint
                    .ports
                    .iter()
                    .find(|(port_name, _)| *port_name == port.name)
                else {
                    continue;
                };
                let srv = srv_name(&port.name, port.protocol.name(), base);
                self.node(&srv).services.push((*target, name.clone()));
            }
        }
    }

    fn node(&mut self, name: &str) -> &mut Node {
        self.nodes.entry(name.to_ascii_lowercase()).or_default()
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
                service("out", ServiceAddress::External("example.org".to_owned())),
            ],
        )
    }

    fn ask(zone: &Zone, name: &str, kind: RecordType) -> String {
        let Some(answer) = zone.answer(&absolute(name), kind) else {
            return "elsewhere".to_owned();
        };
        let data: Vec<String> = answer
            .records
            .iter()
            .map(|record| record.data.to_string())
            .collect();
        assert_eq!(
            answer.soa.is_some(),
            answer.records.is_empty(),
            "{name}: a \"no\" carries the SOA"
        );
        format!("{:?} {}", answer.code, data.join(", "))
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
                "NoError 0 100 80 web.demo.svc.cluster.local.",
            ),
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
                "NoError web-0.db.demo.svc.cluster.local.",
            ),
            ("9.9.9.9.in-addr.arpa", RecordType::PTR, "elsewhere"),
            ("example.org", RecordType::A, "elsewhere"),
        ];
        for (name, kind, expected) in cases {
            assert_eq!(ask(&zone, name, kind), expected, "{name} {kind}");
        }
    }
}
