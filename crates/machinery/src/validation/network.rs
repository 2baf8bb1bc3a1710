//! Validation of Services, NetworkPolicies and Ingresses. Sources: `pkg/apis/{core,networking}/validation` of Kubernetes
//! v1.35.

use super::errors::Errors;
use super::{names, selectors};
use crate::walk::{At, same};
use kinds::field::Path;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::net::IpAddr;

pub(super) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];

pub(super) fn service(obj: &Value, errors: &mut Errors) {
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let kind = spec.str_at("type");
    let headless = spec.str_at("clusterIP") == "None";
    if spec.is_empty_at("ports") && !headless && kind != "ExternalName" {
        errors.required(&at.child("ports"), "");
    }
    match kind {
        "LoadBalancer" if headless => {
            let text = "may not be set to 'None' for LoadBalancer services";
            errors.invalid(&at.child("clusterIPs").index(0), "None", text);
        }
        "NodePort" if headless => {
            let text = "may not be set to 'None' for NodePort services";
            errors.invalid(&at.child("clusterIPs").index(0), "None", text);
        }
        "ExternalName" => external_name(spec, &at, errors),
        _ => {}
    }
    ports(spec, &at.child("ports"), errors);
    super::metadata::labels(spec.at("selector"), &at.child("selector"), errors);
    errors.one_of(spec, "sessionAffinity", &at, &["ClientIP", "None"]);
    if let Some(seconds) = spec.int_at("sessionAffinityConfig.clientIP.timeoutSeconds")
        && !(1..=86_400).contains(&seconds)
    {
        let place = at
            .child("sessionAffinityConfig")
            .child("clientIP")
            .child("timeoutSeconds");
        errors.invalid(
            &place,
            seconds,
            // One second too few, as upstream tells it.
            "must be greater than 0 and less than 86400",
        );
    }
    let mut families = BTreeSet::new();
    for (i, family) in spec.strings_at("ipFamilies").into_iter().enumerate() {
        let place = at.child("ipFamilies").index(i);
        let known = ["IPv4", "IPv6"];
        if !known.contains(&family) {
            errors.not_supported_in_order(&place, family, &known);
        }
        if !families.insert(family) {
            errors.duplicate(&place, family);
        }
    }
    addresses(spec, &at, errors);
    errors.one_of(
        spec,
        "type",
        &at,
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    );
    traffic(spec, &at, errors);
}

fn external_name(spec: &Value, at: &Path, errors: &mut Errors) {
    if !spec.is_empty_at("clusterIP") || !spec.is_empty_at("clusterIPs") {
        errors.forbidden(
            &at.child("clusterIPs"),
            "may not be set for ExternalName services",
        );
    }
    let name = spec.str_at("externalName");
    if name.is_empty() {
        errors.required(&at.child("externalName"), "");
    } else {
        let plain = name.strip_suffix('.').unwrap_or(name);
        errors.each(&at.child("externalName"), name, names::dns_subdomain(plain));
    }
}

fn ports(spec: &Value, at: &Path, errors: &mut Errors) {
    let list = spec.list_at("ports");
    let (mut seen_names, mut seen_ports, mut node_ports) =
        (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for (i, port) in list.iter().enumerate() {
        let place = at.index(i);
        let name = port.str_at("name");
        if list.len() > 1 && name.is_empty() {
            errors.required(&place.child("name"), "");
        } else if !name.is_empty() {
            errors.each(&place.child("name"), name, names::dns_label(name));
            if !seen_names.insert(name) {
                errors.duplicate(&place.child("name"), name);
            }
        }
        let number = port.int_at("port").unwrap_or(0);
        for text in names::port_number(number) {
            errors.invalid(&place.child("port"), number, text);
        }
        errors.one_of(port, "protocol", &place, &PROTOCOLS);
        match port.at("targetPort") {
            Value::String(name) => errors.each(&place.child("targetPort"), name, names::port_name(name)),
            Value::Number(target) => {
                let target = target.as_i64().unwrap_or(0);
                for text in names::port_number(target) {
                    errors.invalid(&place.child("targetPort"), target, text);
                }
            }
            _ => {}
        }
        let protocol = port.str_at("protocol");
        if !seen_ports.insert((protocol, number)) {
            errors.duplicate(&place, json!({"protocol": protocol, "port": number}));
        }
        let node_port = port.int_at("nodePort").unwrap_or(0);
        if node_port != 0 {
            for text in names::port_number(node_port) {
                errors.invalid(&place.child("nodePort"), node_port, text);
            }
            match spec.str_at("type") {
                kind @ ("ClusterIP" | "ExternalName") => {
                    let text = format!("may not be used when `type` is '{kind}'");
                    errors.forbidden(&place.child("nodePort"), text);
                }
                _ if !node_ports.insert((protocol, node_port)) => {
                    errors.duplicate(&place.child("nodePort"), node_port);
                }
                _ => {}
            }
        }
        let app = port.str_at("appProtocol");
        if !app.is_empty() {
            errors.each(&place.child("appProtocol"), app, names::qualified_name(app));
        }
    }
}

fn addresses(spec: &Value, at: &Path, errors: &mut Errors) {
    let primary = spec.str_at("clusterIP");
    let list = spec.strings_at("clusterIPs");
    if list.len() > 1 && list.contains(&"None") {
        let text = "'None' must be the first and only value";
        errors.invalid(&at.child("clusterIPs"), spec.at("clusterIPs").clone(), text);
    } else if list.len() > 1 {
        let sixes = list.iter().filter(|ip| ip.contains(':')).count();
        if sixes > 1 || list.len() - sixes > 1 {
            let text = "may specify no more than one IP for each IP family";
            errors.invalid(&at.child("clusterIPs"), spec.at("clusterIPs").clone(), text);
        }
    }
    if !list.is_empty() && list[0] != primary {
        let text = "first value must match `clusterIP`";
        errors.invalid(&at.child("clusterIPs"), spec.at("clusterIPs").clone(), text);
    }
    for (i, ip) in list.iter().enumerate() {
        if *ip != "None" && !names::ip(ip).is_empty() {
            let place = at.child("clusterIPs").index(i);
            errors.invalid(
                &place,
                *ip,
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            );
        }
    }
    if list.is_empty() && !primary.is_empty() && primary != "None" && !names::ip(primary).is_empty() {
        let place = at.child("clusterIPs").index(0);
        errors.invalid(
            &place,
            primary,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        );
    }
    for (i, ip) in spec.strings_at("externalIPs").into_iter().enumerate() {
        let place = at.child("externalIPs").index(i);
        errors.each(&place, ip, names::ip(ip));
        public_ip(ip, &place, errors);
    }
    let ip = spec.str_at("loadBalancerIP");
    if !ip.is_empty() && spec.str_at("type") == "LoadBalancer" {
        errors.each(&at.child("loadBalancerIP"), ip, names::ip(ip));
    }
    if !spec.is_empty_at("loadBalancerSourceRanges") {
        // The name as upstream writes it.
        let place = at.child("LoadBalancerSourceRanges");
        if spec.str_at("type") != "LoadBalancer" {
            errors.forbidden(&place, "may only be used when `type` is 'LoadBalancer'");
        }
        for (i, range) in spec
            .strings_at("loadBalancerSourceRanges")
            .into_iter()
            .enumerate()
        {
            errors.each(&place.index(i), range, names::cidr(range.trim()));
        }
    }
    let class = spec.str_at("loadBalancerClass");
    if spec.has("loadBalancerClass") {
        let place = at.child("loadBalancerClass");
        match spec.str_at("type") {
            "LoadBalancer" => errors.each(&place, class, names::qualified_name(class)),
            _ => errors.forbidden(&place, "may only be used when `type` is 'LoadBalancer'"),
        }
    }
}

/// An address that traffic from elsewhere may be sent to.
pub(super) fn public_ip(text: &str, at: &Path, errors: &mut Errors) {
    let Ok(ip) = text.parse::<std::net::IpAddr>() else {
        return;
    };
    let local = match ip {
        std::net::IpAddr::V4(ip) => ip.is_link_local(),
        std::net::IpAddr::V6(ip) => (ip.segments()[0] & 0xffc0) == 0xfe80,
    };
    if ip.is_unspecified() {
        errors.invalid(at, text, "may not be unspecified (0.0.0.0 or ::)");
    }
    if ip.is_loopback() {
        errors.invalid(
            at,
            text,
            "may not be in the loopback range (127.0.0.0/8, ::1/128)",
        );
    }
    if local {
        errors.invalid(
            at,
            text,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)",
        );
    }
    if ip.is_multicast() {
        errors.invalid(
            at,
            text,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)",
        );
    }
}

fn traffic(spec: &Value, at: &Path, errors: &mut Errors) {
    let kind = spec.str_at("type");
    let outside = matches!(kind, "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && !spec.is_empty_at("externalIPs"));
    if spec.is_empty_at("externalTrafficPolicy") {
        if outside {
            errors.required(&at.child("externalTrafficPolicy"), "");
        }
    } else if !outside {
        errors.invalid(
            &at.child("externalTrafficPolicy"),
            spec.str_at("externalTrafficPolicy"),
            "may only be set for externally-accessible services",
        );
    } else {
        errors.one_of(spec, "externalTrafficPolicy", at, &["Cluster", "Local"]);
    }
    errors.one_of_if_set(spec, "internalTrafficPolicy", at, &["Cluster", "Local"]);
    let near = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    if spec.has("trafficDistribution") {
        errors.one_of_in_order(spec, "trafficDistribution", at, &near);
    }
    let families = ["PreferDualStack", "RequireDualStack", "SingleStack"];
    errors.one_of_if_set(spec, "ipFamilyPolicy", at, &families);
    let port = spec.int_at("healthCheckNodePort").unwrap_or(0);
    let checked = spec.str_at("type") == "LoadBalancer" && spec.str_at("externalTrafficPolicy") == "Local";
    if port != 0 && !checked {
        let text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
        errors.invalid(&at.child("healthCheckNodePort"), port, text);
    }
    if spec.has("allocateLoadBalancerNodePorts") && kind != "LoadBalancer" {
        let text = "may only be used when `type` is 'LoadBalancer'";
        errors.forbidden(&at.child("allocateLoadBalancerNodePorts"), text);
    }
}

/// A Service's address is for life, unless its type gives it up.
pub(super) fn service_update(new: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let keeps = |spec: &Value| spec.str_at("type") != "ExternalName" && !spec.is_empty_at("clusterIP");
    if keeps(old)
        && new.str_at("type") != "ExternalName"
        && new.str_at("clusterIP") != old.str_at("clusterIP")
    {
        errors.invalid(
            &at.child("clusterIPs").index(0),
            json!([new.str_at("clusterIP")]),
            "may not change once set",
        );
    }
    let both = new.str_at("type") == "LoadBalancer" && old.str_at("type") == "LoadBalancer";
    if both && !same(new.at("loadBalancerClass"), old.at("loadBalancerClass")) {
        errors.invalid(
            &at.child("loadBalancerClass"),
            new.at("loadBalancerClass").clone(),
            "may not change once set",
        );
    }
}

pub(super) fn network_policy(spec: &Value, at: &Path, errors: &mut Errors) {
    selectors::label_selector(spec.at("podSelector"), &at.child("podSelector"), errors);
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in spec.list_at(rules).iter().enumerate() {
            let place = at.child(rules).index(i);
            for (j, port) in rule.list_at("ports").iter().enumerate() {
                policy_port(port, &place.child("ports").index(j), errors);
            }
            for (j, peer) in rule.list_at(peers).iter().enumerate() {
                policy_peer(peer, &place.child(peers).index(j), errors);
            }
        }
    }
    let types = spec.strings_at("policyTypes");
    if types.len() > 2 {
        let text = "may not specify more than two policyTypes";
        errors.invalid(&at.child("policyTypes"), spec.at("policyTypes").clone(), text);
        return;
    }
    for (i, kind) in types.into_iter().enumerate() {
        if !["Ingress", "Egress"].contains(&kind) {
            let known = ["Ingress", "Egress"];
            errors.not_supported_in_order(&at.child("policyTypes").index(i), kind, &known);
        }
    }
}

fn policy_port(port: &Value, at: &Path, errors: &mut Errors) {
    if !port.is_empty_at("protocol") {
        errors.one_of_in_order(port, "protocol", at, &["TCP", "UDP", "SCTP"]);
    }
    let (end, end_at) = (port.int_at("endPort"), at.child("endPort"));
    let alone = |why: &str, errors: &mut Errors| {
        if let Some(end) = end {
            errors.invalid(&end_at, end, format!("may not be specified when `port` is {why}"));
        }
    };
    match port.at("port") {
        Value::String(name) => {
            alone("non-numeric", errors);
            errors.each(&at.child("port"), name, names::port_name(name));
        }
        Value::Number(number) => {
            let number = number.as_i64().unwrap_or(0);
            for text in names::port_number(number) {
                errors.invalid(&at.child("port"), number, text);
            }
            if let Some(end) = end {
                if end < number {
                    // The value told is that of `port`: so it is upstream.
                    errors.invalid(&end_at, number, "must be greater than or equal to `port`");
                }
                for text in names::port_number(end) {
                    errors.invalid(&end_at, end, text);
                }
            }
        }
        _ => alone("not specified", errors),
    }
}

/// A network's address and the length of its prefix.
fn network(text: &str) -> Option<(IpAddr, u32)> {
    let (ip, bits) = text.split_once('/')?;
    let (ip, bits): (IpAddr, u32) = (ip.parse().ok()?, bits.parse().ok()?);
    (bits <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, bits))
}

/// Whether a network is a part of another, and not all of it.
fn lies_within((part, longer): (IpAddr, u32), (whole, bits): (IpAddr, u32)) -> bool {
    let shared = match (part, whole) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    shared >= bits && longer > bits
}

fn policy_peer(peer: &Value, at: &Path, errors: &mut Errors) {
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if peer.has(field) {
            count += 1;
            selectors::label_selector(peer.at(field), &at.child(field), errors);
        }
    }
    if peer.has("ipBlock") {
        if count > 0 {
            errors.forbidden(at, "may not specify both ipBlock and another peer");
        }
        count += 1;
        let cidr = peer.str_at("ipBlock.cidr");
        if cidr.is_empty() {
            errors.required(&at.child("ipBlock").child("cidr"), "");
        } else {
            errors.each(&at.child("ipBlock").child("cidr"), cidr, names::cidr(cidr));
        }
        for (i, except) in peer.strings_at("ipBlock.except").into_iter().enumerate() {
            let place = at.child("ipBlock").child("except").index(i);
            errors.each(&place, except, names::cidr(except));
            if let (Some(whole), Some(part)) = (network(cidr), network(except))
                && !lies_within(part, whole)
            {
                errors.invalid(&place, except, "must be a strict subset of `cidr`");
            }
        }
    }
    if count == 0 {
        errors.required(at, "must specify a peer");
    }
}

/// Steps that a path of an Ingress must not have, and ends.
const BAD_STEPS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDS: [&str; 2] = ["/..", "/."];

/// Checks an Ingress; `new` if it is just made: only then the old annotation is looked at.
pub(super) fn ingress(obj: &Value, new: bool, errors: &mut Errors) {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let (spec, at) = (obj.at("spec"), &Path::new("spec"));
    let class = spec.str_at("ingressClassName");
    if new
        && let Some(annotated) = obj.at("metadata.annotations").get(CLASS)
        && spec.has("ingressClassName")
        && annotated != class
    {
        let text = "must match `ingressClassName` when both are specified";
        errors.invalid(&Path::new("annotations").child(CLASS), annotated.clone(), text);
    }
    if spec.has("ingressClassName") {
        errors.each(&at.child("ingressClassName"), class, names::dns_subdomain(class));
    }
    for (i, tls) in spec.list_at("tls").iter().enumerate() {
        let place = at.child("tls").index(i).child("hosts");
        for (j, host) in tls.strings_at("hosts").into_iter().enumerate() {
            let bad = match host.contains('*') {
                true => names::wildcard_subdomain(host),
                false => names::dns_subdomain(host),
            };
            errors.each(&place.index(j), host, bad);
        }
    }
    if spec.is_empty_at("rules") && !spec.has("defaultBackend") {
        errors.invalid(
            at,
            Value::Null,
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if spec.has("defaultBackend") {
        backend(spec.at("defaultBackend"), &at.child("defaultBackend"), errors);
    }
    for (i, rule) in spec.list_at("rules").iter().enumerate() {
        let place = at.child("rules").index(i);
        let host = rule.str_at("host");
        if !host.is_empty() {
            if host.parse::<std::net::IpAddr>().is_ok() {
                let text = "must be a DNS name, not an IP address";
                errors.invalid(&place.child("host"), host, text);
            }
            let bad = match host.contains('*') {
                true => names::wildcard_subdomain(host),
                false => names::dns_subdomain(host),
            };
            errors.each(&place.child("host"), host, bad);
        }
        let place = place.child("http").child("paths");
        if rule.has("http") && rule.is_empty_at("http.paths") {
            errors.required(&place, "");
        }
        for (j, path) in rule.list_at("http.paths").iter().enumerate() {
            let place = place.index(j);
            let kind = path.str_at("pathType");
            match kind {
                "" => errors.required(&place.child("pathType"), "pathType must be specified"),
                "Exact" | "Prefix" if !path.str_at("path").starts_with('/') => {
                    errors.invalid(
                        &place.child("path"),
                        path.str_at("path"),
                        "must be an absolute path",
                    );
                }
                "Exact" | "Prefix" => {
                    let path = path.str_at("path");
                    for step in BAD_STEPS.iter().filter(|step| path.contains(**step)) {
                        errors.invalid(&place.child("path"), path, format!("must not contain '{step}'"));
                    }
                    for end in BAD_ENDS.iter().filter(|end| path.ends_with(**end)) {
                        errors.invalid(&place.child("path"), path, format!("cannot end with '{end}'"));
                    }
                }
                "ImplementationSpecific" => {}
                other => errors.not_supported(
                    &place.child("pathType"),
                    other,
                    &["Exact", "ImplementationSpecific", "Prefix"],
                ),
            }
            backend(path.at("backend"), &place.child("backend"), errors);
        }
    }
}

fn backend(backend: &Value, at: &Path, errors: &mut Errors) {
    match (backend.has("service"), backend.has("resource")) {
        (true, true) => errors.invalid(at, "", "cannot set both resource and service backends"),
        (true, false) => {
            let service = backend.at("service");
            let place = at.child("service");
            if service.is_empty_at("name") {
                errors.required(&place.child("name"), "");
            } else {
                let name = service.str_at("name");
                errors.each(&place.child("name"), name, names::dns_1035_label(name));
            }
            let (name, number) = (
                service.str_at("port.name"),
                service.int_at("port.number").unwrap_or(0),
            );
            match (name.is_empty(), number == 0) {
                (true, true) => errors.required(at, "port name or number is required"),
                (false, false) => errors.invalid(at, "", "cannot set both port name & port number"),
                (false, true) => {
                    errors.each(&place.child("port").child("name"), name, names::port_name(name))
                }
                (true, false) => {
                    for text in names::port_number(number) {
                        errors.invalid(&place.child("port").child("number"), number, text);
                    }
                }
            }
        }
        (false, true) => {}
        (false, false) => errors.invalid(at, "", "resource or service backend is required"),
    }
}
