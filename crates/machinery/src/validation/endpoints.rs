//! Validation of Endpoints and EndpointSlices. Sources: `pkg/apis/{core,discovery}/validation` of Kubernetes v1.35.

use super::errors::Errors;
use super::names;
use super::service::{PROTOCOLS, public_ip};
use crate::ip;
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;
use std::collections::BTreeSet;

/// What one slice may hold.
const MAX_ENDPOINTS: usize = 1000;
const MAX_PORTS: usize = 20_000;
/// What one endpoint may have.
const MAX_ADDRESSES: usize = 100;
const MAX_TOPOLOGY: usize = 16;
const MAX_HINTS: usize = 8;

pub(super) fn endpoints(obj: &Value, errors: &mut Errors) {
    for (i, subset) in obj.list_at("subsets").iter().enumerate() {
        let at = Path::new("subsets").index(i);
        if subset.is_empty_at("addresses") && subset.is_empty_at("notReadyAddresses") {
            errors.required(&at, "must specify `addresses` or `notReadyAddresses`");
        }
        for field in ["addresses", "notReadyAddresses"] {
            for (j, address) in subset.list_at(field).iter().enumerate() {
                endpoint_address(address, &at.child(field).index(j), errors);
            }
        }
        let list = subset.list_at("ports");
        for (j, port) in list.iter().enumerate() {
            let place = at.child("ports").index(j);
            let name = port.str_at("name");
            if name.is_empty() && list.len() > 1 {
                errors.required(&place.child("name"), "");
            } else if !name.is_empty() {
                errors.each(&place.child("name"), name, names::dns_label(name));
            }
            let number = port.int_at("port").unwrap_or(0);
            for text in names::port_number(number) {
                errors.invalid(&place.child("port"), number, text);
            }
            errors.one_of(port, "protocol", &place, &PROTOCOLS);
            app_protocol(port, &place, errors);
        }
    }
}

fn endpoint_address(address: &Value, at: &Path, errors: &mut Errors) {
    let (ip, place) = (address.str_at("ip"), at.child("ip"));
    let faults = names::legacy_ip(ip);
    let bad = !faults.is_empty();
    errors.each(&place, ip, faults);
    let host = address.str_at("hostname");
    if !host.is_empty() {
        errors.each(&at.child("hostname"), host, names::dns_label(host));
    }
    node_name(address, at, errors);
    match bad {
        true => errors.invalid(&place, ip, "must be a valid IP address"),
        false => public_ip(ip, &place, errors),
    }
}

fn node_name(holder: &Value, at: &Path, errors: &mut Errors) {
    if let Some(node) = holder.at("nodeName").as_str() {
        errors.each(&at.child("nodeName"), node, names::dns_subdomain(node));
    }
}

fn app_protocol(port: &Value, at: &Path, errors: &mut Errors) {
    if let Some(name) = port.at("appProtocol").as_str() {
        errors.each(&at.child("appProtocol"), name, names::qualified_name(name));
    }
}

/// Checks a slice. `old` is what it was; endpoints that have not changed are left alone.
pub(super) fn slice(obj: &Value, old: &Value, errors: &mut Errors) {
    let kind = obj.str_at("addressType");
    match kind {
        "" => errors.required(&Path::new("addressType"), ""),
        "IPv4" | "IPv6" | "FQDN" => {}
        other => errors.not_supported(&Path::new("addressType"), other, &["FQDN", "IPv4", "IPv6"]),
    }
    ports(obj.list_at("ports"), errors);
    let list = obj.list_at("endpoints");
    if list == old.list_at("endpoints") {
        return;
    }
    if list.len() > MAX_ENDPOINTS {
        errors.too_many(&Path::new("endpoints"), list.len(), MAX_ENDPOINTS);
        return;
    }
    for (i, endpoint) in list.iter().enumerate() {
        let at = Path::new("endpoints").index(i);
        addresses(endpoint, kind, &at.child("addresses"), errors);
        node_name(endpoint, &at, errors);
        let topology = endpoint.entries_at("deprecatedTopology").len();
        let place = at.child("deprecatedTopology");
        if topology > MAX_TOPOLOGY {
            errors.too_many(&place, topology, MAX_TOPOLOGY);
        }
        super::metadata::labels(endpoint.at("deprecatedTopology"), &place, errors);
        if let Some(host) = endpoint.at("hostname").as_str() {
            errors.each(&at.child("hostname"), host, names::dns_label(host));
        }
        let (place, label, node) = (at.child("hints"), names::label_value, names::dns_subdomain);
        if hints(
            endpoint.list_at("hints.forZones"),
            label,
            &place.child("forZones"),
            errors,
        ) {
            hints(
                endpoint.list_at("hints.forNodes"),
                node,
                &place.child("forNodes"),
                errors,
            );
        }
    }
}

fn addresses(endpoint: &Value, kind: &str, at: &Path, errors: &mut Errors) {
    let list = endpoint.strings_at("addresses");
    if list.is_empty() {
        errors.required(at, "must contain at least 1 address");
    } else if list.len() > MAX_ADDRESSES {
        errors.too_many(at, list.len(), MAX_ADDRESSES);
    }
    for (i, address) in list.into_iter().enumerate() {
        let place = at.index(i);
        match kind {
            "IPv4" | "IPv6" => {
                // Only what may be IPv4 is old enough to be read leniently.
                let faults = match kind {
                    "IPv4" => names::legacy_ip(address),
                    _ => ip::strict_address(address),
                };
                if !faults.is_empty() {
                    errors.each(&place, address, faults);
                    continue;
                }
                if ip::address(address).is_some_and(|ip| ip.is_ipv6()) != (kind == "IPv6") {
                    // Upstream says so of the whole list.
                    errors.invalid(at, address, format!("must be an {kind} address"));
                }
                public_ip(address, &place, errors);
            }
            "FQDN" => domain(address, &place, errors),
            _ => {}
        }
    }
}

/// A host's whole name, of at least two parts.
fn domain(text: &str, at: &Path, errors: &mut Errors) {
    if text.is_empty() {
        return errors.required(at, "");
    }
    let name = text.strip_suffix('.').unwrap_or(text);
    let faults = names::dns_subdomain(name);
    if !faults.is_empty() {
        return errors.invalid(at, name, faults.join(","));
    }
    if !name.contains('.') {
        return errors.invalid(
            at,
            name,
            "should be a domain with at least two segments separated by dots",
        );
    }
    let long = name
        .split('.')
        .find_map(|part| Some((part, names::dns_label(part))).filter(|(_, faults)| !faults.is_empty()));
    if let Some((part, faults)) = long {
        errors.invalid(at, part, faults.join(","));
    }
}

/// Where an endpoint is best used. False: there are too many to look further.
fn hints(list: &[Value], rule: fn(&str) -> Vec<String>, at: &Path, errors: &mut Errors) -> bool {
    if list.len() > MAX_HINTS {
        errors.too_many(at, list.len(), MAX_HINTS);
        return false;
    }
    let mut seen = BTreeSet::new();
    for (i, hint) in list.iter().enumerate() {
        let (name, place) = (hint.str_at("name"), at.index(i).child("name"));
        if !seen.insert(name) {
            errors.duplicate(&place, name);
        }
        errors.each(&place, name, rule(name));
    }
    true
}

fn ports(list: &[Value], errors: &mut Errors) {
    if list.len() > MAX_PORTS {
        return errors.too_many(&Path::new("ports"), list.len(), MAX_PORTS);
    }
    let mut seen = BTreeSet::new();
    for (i, port) in list.iter().enumerate() {
        let at = Path::new("ports").index(i);
        let name = port.str_at("name");
        if !name.is_empty() {
            errors.each(&at.child("name"), name, names::dns_label(name));
        }
        if !seen.insert(name) {
            errors.duplicate(&at.child("name"), name);
        }
        errors.one_of_given(port, "protocol", &at, &PROTOCOLS);
        app_protocol(port, &at, errors);
    }
}
