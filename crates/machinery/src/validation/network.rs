//! Validation of NetworkPolicies and Ingresses. Source: `pkg/apis/networking/validation` of Kubernetes v1.35.

use super::errors::Errors;
use super::{names, selectors};
use crate::walk::At;
use kinds::field::Path;
use serde_json::Value;
use std::net::IpAddr;

/// Bytes of the name of an Ingress controller.
const MOST_CONTROLLER: usize = 250;

/// Checks an IngressClass, whose controller is for life.
pub(super) fn ingress_class(spec: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    if !old.is_null() {
        let controller = spec.str_at("controller");
        if controller != old.str_at("spec.controller") {
            errors.invalid(&at.child("controller"), controller, super::errors::IMMUTABLE);
        }
    }
    let (place, controller) = (at.child("controller"), spec.str_at("controller"));
    if controller.len() > MOST_CONTROLLER {
        errors.too_long(&place, MOST_CONTROLLER);
    }
    match controller.split_once('/') {
        _ if controller.is_empty() => errors.required(&place, ""),
        Some((domain, path)) if !domain.is_empty() && !path.is_empty() => {
            errors.each(&place, domain, names::dns_subdomain(domain));
        }
        _ => {
            let text = "must be a domain-prefixed path (such as \"acme.io/foo\")";
            errors.invalid(&place, controller, text);
        }
    }
    if !spec.has("parameters") {
        return;
    }
    let (parameters, at) = (spec.at("parameters"), at.child("parameters"));
    typed_reference(parameters, &at, errors);
    let (place, namespace) = (at.child("namespace"), parameters.str_at("namespace"));
    match parameters.str_at("scope") {
        "" if !parameters.has("scope") => errors.required(&at.child("scope"), ""),
        "Namespace" if !parameters.has("namespace") => {
            errors.required(&place, "`parameters.scope` is set to 'Namespace'");
        }
        "Namespace" => errors.each(&place, namespace, names::dns_label(namespace)),
        "Cluster" if parameters.has("namespace") => {
            errors.forbidden(&place, "`parameters.scope` is set to 'Cluster'");
        }
        "Cluster" => {}
        other => errors.not_supported(&at.child("scope"), other, &["Cluster", "Namespace"]),
    }
}

/// Checks a NetworkPolicy's spec. Networks that `old` has are let be.
pub(super) fn network_policy(spec: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let known = networks(old);
    selectors::label_selector(spec.at("podSelector"), &at.child("podSelector"), errors);
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        for (i, rule) in spec.list_at(rules).iter().enumerate() {
            let place = at.child(rules).index(i);
            for (j, port) in rule.list_at("ports").iter().enumerate() {
                policy_port(port, &place.child("ports").index(j), errors);
            }
            for (j, peer) in rule.list_at(peers).iter().enumerate() {
                policy_peer(peer, &known, &place.child(peers).index(j), errors);
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
    let (protocol, known) = (port.at("protocol").as_str(), ["TCP", "UDP", "SCTP"]);
    if let Some(other) = protocol.filter(|protocol| !known.contains(protocol)) {
        errors.not_supported_in_order(&at.child("protocol"), other, &known);
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

/// Whether a network is a part of another, and not all of it.
fn lies_within((part, longer): (IpAddr, u8), (whole, bits): (IpAddr, u8)) -> bool {
    let shared = match (part, whole) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        (IpAddr::V6(a), IpAddr::V6(b)) => (a.to_bits() ^ b.to_bits()).leading_zeros(),
        _ => return false,
    };
    shared >= u32::from(bits) && longer > bits
}

/// All networks that a policy names, as they are written.
fn networks(spec: &Value) -> Vec<&str> {
    let rules = [("ingress", "from"), ("egress", "to")];
    let rules = rules
        .iter()
        .flat_map(|(rules, peers)| spec.list_at(rules).iter().flat_map(|rule| rule.list_at(peers)));
    rules
        .filter(|peer| peer.has("ipBlock"))
        .flat_map(|peer| {
            let mut all = peer.strings_at("ipBlock.except");
            all.push(peer.str_at("ipBlock.cidr"));
            all
        })
        .collect()
}

fn policy_peer(peer: &Value, known: &[&str], at: &Path, errors: &mut Errors) {
    let mut count = 0;
    for field in ["podSelector", "namespaceSelector"] {
        if peer.has(field) {
            count += 1;
            selectors::label_selector(peer.at(field), &at.child(field), errors);
        }
    }
    let others = count;
    if peer.has("ipBlock") {
        count += 1;
        let cidr = peer.str_at("ipBlock.cidr");
        if cidr.is_empty() {
            errors.required(&at.child("ipBlock").child("cidr"), "");
        } else {
            let faults = if known.contains(&cidr) {
                Vec::new()
            } else {
                names::legacy_cidr(cidr)
            };
            errors.each(&at.child("ipBlock").child("cidr"), cidr, faults);
        }
        let whole = crate::ip::network(cidr);
        let parts = peer.strings_at("ipBlock.except").into_iter();
        // Within what is no network there is nothing.
        for (i, except) in parts.enumerate().filter(|_| whole.is_some()) {
            let place = at.child("ipBlock").child("except").index(i);
            let faults = if known.contains(&except) {
                Vec::new()
            } else {
                names::legacy_cidr(except)
            };
            errors.each(&place, except, faults);
            if let (Some(whole), Some(part)) = (whole, crate::ip::network(except))
                && !lies_within(part, whole)
            {
                errors.invalid(&place, except, "must be a strict subset of `cidr`");
            }
        }
    }
    if count == 0 {
        errors.required(at, "must specify a peer");
    } else if others > 0 && peer.has("ipBlock") {
        errors.forbidden(at, "may not specify both ipBlock and another peer");
    }
}

/// Steps that a path of an Ingress must not have, and ends.
const BAD_STEPS: [&str; 5] = ["//", "/./", "/../", "%2f", "%2F"];
const BAD_ENDS: [&str; 2] = ["/..", "/."];

/// Checks an Ingress; `old` is what an update replaces, else null: a new one's older annotation is looked at, and what an
/// old one has of names of Secrets is let be.
pub(super) fn ingress(obj: &Value, old: &Value, errors: &mut Errors) {
    const CLASS: &str = "kubernetes.io/ingress.class";
    let (spec, at) = (obj.at("spec"), &Path::new("spec"));
    if spec.is_empty_at("rules") && !spec.has("defaultBackend") {
        errors.invalid(
            at,
            spec.at("rules").clone(),
            "either `defaultBackend` or `rules` must be specified",
        );
    }
    if spec.has("defaultBackend") {
        backend(spec.at("defaultBackend"), &at.child("defaultBackend"), errors);
    }
    for (i, rule) in spec.list_at("rules").iter().enumerate() {
        ingress_rule(rule, &at.child("rules").index(i), errors);
    }
    ingress_tls(spec, old, &at.child("tls"), errors);
    let class = spec.str_at("ingressClassName");
    if spec.has("ingressClassName") {
        errors.each(&at.child("ingressClassName"), class, names::dns_subdomain(class));
    }
    if old.is_null()
        && let Some(annotated) = obj.at("metadata.annotations").get(CLASS)
        && spec.has("ingressClassName")
        && annotated != class
    {
        let text = "must match `ingressClassName` when both are specified";
        errors.invalid(&Path::new("annotations").child(CLASS), annotated.clone(), text);
    }
}

/// Whom a rule or a certificate is for: one host, or all below a domain.
fn host_faults(host: &str) -> Vec<String> {
    match host.contains('*') {
        true => names::wildcard_subdomain(host),
        false => names::dns_subdomain(host),
    }
}

fn ingress_tls(spec: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let before = old.list_at("spec.tls").iter();
    let mut before = before.map(|tls| tls.str_at("secretName"));
    let lax = before.any(|name| !name.is_empty() && !names::dns_subdomain(name).is_empty());
    for (i, tls) in spec.list_at("tls").iter().enumerate() {
        let place = at.index(i);
        for (j, host) in tls.strings_at("hosts").into_iter().enumerate() {
            errors.each(&place.child("hosts").index(j), host, host_faults(host));
        }
        let secret = tls.str_at("secretName");
        if !secret.is_empty() && !lax {
            let faults = names::dns_subdomain(secret);
            errors.each(&place.child("secretName"), secret, faults);
        }
    }
}

fn ingress_rule(rule: &Value, at: &Path, errors: &mut Errors) {
    let host = rule.str_at("host");
    if !host.is_empty() {
        host_is_name(host, &at.child("host"), errors);
        errors.each(&at.child("host"), host, host_faults(host));
    }
    let at = at.child("http").child("paths");
    if rule.has("http") && rule.is_empty_at("http.paths") {
        errors.required(&at, "");
    }
    for (i, path) in rule.list_at("http.paths").iter().enumerate() {
        ingress_path(path, &at.index(i), errors);
    }
}

fn host_is_name(host: &str, at: &Path, errors: &mut Errors) {
    if crate::ip::address(host).is_some() {
        errors.invalid(at, host, "must be a DNS name, not an IP address");
    }
}

fn ingress_path(rule: &Value, at: &Path, errors: &mut Errors) {
    let (kind, path, place) = (rule.str_at("pathType"), rule.str_at("path"), at.child("path"));
    let known = ["Exact", "ImplementationSpecific", "Prefix"];
    if !rule.has("pathType") {
        errors.required(&at.child("pathType"), "pathType must be specified");
        return;
    }
    let is_absent = kind == "ImplementationSpecific" && path.is_empty();
    if !known.contains(&kind) {
        errors.not_supported(&at.child("pathType"), kind, &known);
    } else if !is_absent && !path.starts_with('/') {
        errors.invalid(&place, path, "must be an absolute path");
    }
    if ["Exact", "Prefix"].contains(&kind) {
        for step in BAD_STEPS.iter().filter(|step| path.contains(**step)) {
            errors.invalid(&place, path, format!("must not contain '{step}'"));
        }
        for end in BAD_ENDS.iter().filter(|end| path.ends_with(**end)) {
            errors.invalid(&place, path, format!("cannot end with '{end}'"));
        }
    }
    backend(rule.at("backend"), &at.child("backend"), errors);
}

fn backend(backend: &Value, at: &Path, errors: &mut Errors) {
    match (backend.has("service"), backend.has("resource")) {
        (true, true) => errors.invalid(at, "", "cannot set both resource and service backends"),
        (true, false) => backend_service(backend.at("service"), at, errors),
        (false, true) => typed_reference(backend.at("resource"), &at.child("resource"), errors),
        (false, false) => errors.invalid(at, "", "resource or service backend is required"),
    }
}

fn backend_service(service: &Value, at: &Path, errors: &mut Errors) {
    let place = at.child("service");
    match service.str_at("name") {
        "" => errors.required(&place.child("name"), ""),
        name => errors.each(&place.child("name"), name, names::dns_1035_label(name)),
    }
    let place = place.child("port");
    let (name, number) = (
        service.str_at("port.name"),
        service.int_at("port.number").unwrap_or(0),
    );
    match (name.is_empty(), number == 0) {
        (true, true) => errors.required(at, "port name or number is required"),
        (false, false) => errors.invalid(at, "", "cannot set both port name & port number"),
        (false, true) => errors.each(&place.child("name"), name, names::port_name(name)),
        (true, false) => {
            for text in names::port_number(number) {
                errors.invalid(&place.child("number"), number, text);
            }
        }
    }
}

/// An object of the same namespace: its group, kind and name.
fn typed_reference(reference: &Value, at: &Path, errors: &mut Errors) {
    if reference.has("apiGroup") {
        let group = reference.str_at("apiGroup");
        errors.each(&at.child("apiGroup"), group, names::dns_subdomain(group));
    }
    for field in ["kind", "name"] {
        match reference.str_at(field) {
            "" => errors.required(&at.child(field), ""),
            name => errors.each(&at.child(field), name, names::path_segment(name)),
        }
    }
}

/// Checks the addresses that a controller reports of an Ingress; those that were there are let be.
pub(super) fn ingress_status(new: &Value, old: &Value, errors: &mut Errors) {
    let list = "status.loadBalancer.ingress";
    let known: Vec<&str> = old.list_at(list).iter().map(|entry| entry.str_at("ip")).collect();
    let at = Path::new("status").child("loadBalancer").child("ingress");
    for (i, entry) in new.list_at(list).iter().enumerate() {
        let (ip, host) = (entry.str_at("ip"), entry.str_at("hostname"));
        if !ip.is_empty() && !known.contains(&ip) {
            errors.each(&at.index(i).child("ip"), ip, names::legacy_ip(ip));
        }
        if !host.is_empty() {
            let place = at.index(i).child("hostname");
            errors.each(&place, host, names::dns_subdomain(host));
            host_is_name(host, &place, errors);
        }
    }
}
