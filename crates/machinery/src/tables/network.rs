//! Rows of Services, endpoints, ingress and addresses.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::text::{self, NONE, UNSET};
use super::{AGE, NAME, Printer, text as column, wide};

pub(super) fn printer(group: &str, kind: &str) -> Option<Printer> {
    Some(match (group, kind) {
        ("", "Service") => Printer {
            columns: const {
                &[
                    NAME,
                    column("Type"),
                    column("Cluster-IP"),
                    column("External-IP"),
                    column("Port(s)"),
                    AGE,
                    wide("Selector"),
                ]
            },
            cells: service,
        },
        ("", "Endpoints") => Printer {
            columns: const { &[NAME, column("Endpoints"), AGE] },
            cells: endpoints,
        },
        ("discovery.k8s.io", "EndpointSlice") => Printer {
            columns: const {
                &[
                    NAME,
                    column("AddressType"),
                    column("Ports"),
                    column("Endpoints"),
                    AGE,
                ]
            },
            cells: endpoint_slice,
        },
        ("networking.k8s.io", "Ingress") => Printer {
            columns: const {
                &[
                    NAME,
                    column("Class"),
                    column("Hosts"),
                    column("Address"),
                    column("Ports"),
                    AGE,
                ]
            },
            cells: ingress,
        },
        ("networking.k8s.io", "IngressClass") => Printer {
            columns: const { &[NAME, column("Controller"), column("Parameters"), AGE] },
            cells: ingress_class,
        },
        ("networking.k8s.io", "NetworkPolicy") => Printer {
            columns: const { &[NAME, column("Pod-Selector"), AGE] },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::selector(object, "/spec/podSelector")),
                    text::created(object, now),
                ]
            },
        },
        ("networking.k8s.io", "ServiceCIDR") => Printer {
            columns: const { &[NAME, column("CIDRs"), AGE] },
            cells: |object, now| {
                let ranges = text::joined(text::list(object, "/spec/cidrs"), "", ",");
                vec![text::name(object), json!(ranges), text::created(object, now)]
            },
        },
        ("networking.k8s.io", "IPAddress") => Printer {
            // The age has a cell and no column, as upstream.
            columns: const { &[NAME, column("ParentRef")] },
            cells: ip_address,
        },
        ("podvisor.io", "VirtualIPPool") => Printer {
            columns: const {
                &[
                    NAME,
                    column("CIDRs"),
                    super::number("Allocated"),
                    super::number("Free"),
                    AGE,
                ]
            },
            cells: |object, now| {
                vec![
                    text::name(object),
                    json!(text::joined(text::list(object, "/spec/cidrs"), "", ",")),
                    json!(text::int(object, "/status/allocated")),
                    json!(text::int(object, "/status/free")),
                    text::created(object, now),
                ]
            },
        },
        _ => return None,
    })
}

fn service(object: &Value, now: Timestamp) -> Vec<Value> {
    let address = text::or(
        object,
        "/spec/clusterIPs/0",
        text::or(object, "/spec/clusterIP", NONE),
    );
    vec![
        text::name(object),
        json!(text::at(object, "/spec/type")),
        json!(address),
        json!(external_addresses(object)),
        json!(ports(object)),
        text::created(object, now),
        json!(text::labels(object, "/spec/selector")),
    ]
}

fn external_addresses(object: &Value) -> String {
    let given = text::joined(text::list(object, "/spec/externalIPs"), "", ",");
    let found = match text::at(object, "/spec/type") {
        "ExternalName" => return text::at(object, "/spec/externalName").to_owned(),
        "LoadBalancer" => load_balancer(object),
        _ => String::new(),
    };
    match (found.as_str(), given.as_str()) {
        ("", "") if text::at(object, "/spec/type") == "LoadBalancer" => "<pending>".to_owned(),
        ("", "") => NONE.to_owned(),
        (found, "") => found.to_owned(),
        ("", given) => given.to_owned(),
        (found, given) => format!("{found},{given}"),
    }
}

/// Addresses or names of the load balancer, sorted.
fn load_balancer(object: &Value) -> String {
    let mut texts: Vec<&str> = text::list(object, "/status/loadBalancer/ingress")
        .iter()
        .map(|ingress| text::or(ingress, "/ip", text::at(ingress, "/hostname")))
        .filter(|text| !text.is_empty())
        .collect();
    texts.sort_unstable();
    texts.dedup();
    texts.join(",")
}

fn ports(object: &Value) -> String {
    let texts: Vec<String> = text::list(object, "/spec/ports")
        .iter()
        .map(|port| {
            let (number, node) = (text::int(port, "/port"), text::int(port, "/nodePort"));
            let protocol = text::or(port, "/protocol", "TCP");
            if node > 0 {
                format!("{number}:{node}/{protocol}")
            } else {
                format!("{number}/{protocol}")
            }
        })
        .collect();
    if texts.is_empty() {
        NONE.to_owned()
    } else {
        texts.join(",")
    }
}

fn endpoints(object: &Value, now: Timestamp) -> Vec<Value> {
    let mut texts = Vec::new();
    for subset in text::list(object, "/subsets") {
        let addresses = || {
            text::list(subset, "/addresses")
                .iter()
                .map(|address| text::at(address, "/ip"))
        };
        let ports = text::list(subset, "/ports");
        if ports.is_empty() {
            texts.extend(addresses().map(str::to_owned));
        }
        for port in ports {
            let port = text::int(port, "/port");
            texts.extend(addresses().map(|ip| {
                if ip.contains(':') {
                    format!("[{ip}]:{port}")
                } else {
                    format!("{ip}:{port}")
                }
            }));
        }
    }
    let none = match text::list(object, "/subsets") {
        [] => NONE,
        _ => "",
    };
    vec![
        text::name(object),
        json!(text::at_most_three(&texts, none)),
        text::created(object, now),
    ]
}

fn endpoint_slice(object: &Value, now: Timestamp) -> Vec<Value> {
    let ports: Vec<String> = text::list(object, "/ports")
        .iter()
        .map(|port| match (port["port"].as_i64(), port["name"].as_str()) {
            (Some(number), _) => number.to_string(),
            (None, None) => "*".to_owned(),
            (None, Some(name)) => name.to_owned(),
        })
        .collect();
    let ports = Some(text::at_most_three(&ports, UNSET)).filter(|text| !text.is_empty());
    // A port of no number has the name that it is given by default, which is none.
    let ports = ports.unwrap_or_else(|| UNSET.to_owned());
    let addresses: Vec<String> = text::list(object, "/endpoints")
        .iter()
        .flat_map(|endpoint| text::list(endpoint, "/addresses"))
        .map(text::plain)
        .collect();
    vec![
        text::name(object),
        json!(text::at(object, "/addressType")),
        json!(ports),
        json!(text::at_most_three(&addresses, UNSET)),
        text::created(object, now),
    ]
}

fn ingress(object: &Value, now: Timestamp) -> Vec<Value> {
    let rules = text::list(object, "/spec/rules");
    let ports = if text::list(object, "/spec/tls").is_empty() {
        "80"
    } else {
        "80, 443"
    };
    vec![
        text::name(object),
        json!(text::or(object, "/spec/ingressClassName", NONE)),
        json!(hosts(rules)),
        json!(load_balancer(object)),
        json!(ports),
        text::created(object, now),
    ]
}

/// The first three hosts, and how many rules there are beyond three: with or without hosts.
fn hosts(rules: &[Value]) -> String {
    let named = |rule: &&Value| !text::at(rule, "/host").is_empty();
    let first = rules.iter().filter(named).take(3);
    let shown = first.map(|rule| text::at(rule, "/host")).collect::<Vec<_>>();
    let third = rules.iter().enumerate().filter(|(_, rule)| named(rule)).nth(2);
    match third {
        _ if shown.is_empty() => "*".to_owned(),
        Some((at, _)) if at + 1 < rules.len() => {
            format!("{} + {} more...", shown.join(","), rules.len() - 3)
        }
        _ => shown.join(","),
    }
}

fn ingress_class(object: &Value, now: Timestamp) -> Vec<Value> {
    let parameters = object
        .pointer("/spec/parameters")
        .filter(|parameters| parameters.is_object())
        .map_or_else(
            || NONE.to_owned(),
            |parameters| {
                let kind = text::at(parameters, "/kind");
                let name = text::at(parameters, "/name");
                match text::at(parameters, "/apiGroup") {
                    "" => format!("{kind}/{name}"),
                    group => format!("{kind}.{group}/{name}"),
                }
            },
        );
    vec![
        text::name(object),
        json!(text::at(object, "/spec/controller")),
        json!(parameters),
        text::created(object, now),
    ]
}

fn ip_address(object: &Value, now: Timestamp) -> Vec<Value> {
    let parent = object
        .pointer("/spec/parentRef")
        .filter(|parent| parent.is_object())
        .map_or_else(
            || NONE.to_owned(),
            |parent| {
                let resource = match (text::at(parent, "/resource"), text::at(parent, "/group")) {
                    (resource, "") => resource.to_lowercase(),
                    (resource, group) => format!("{resource}.{group}").to_lowercase(),
                };
                match (text::at(parent, "/namespace"), text::at(parent, "/name")) {
                    ("", name) => format!("{resource}/{name}"),
                    (namespace, name) => format!("{resource}/{namespace}/{name}"),
                }
            },
        );
    vec![text::name(object), json!(parent), text::created(object, now)]
}
