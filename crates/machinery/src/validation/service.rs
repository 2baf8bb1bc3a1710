//! Validation of Services. Source: `pkg/apis/core/validation` of Kubernetes v1.35.
//!
//! What addresses and families a Service asks for is checked twice, as upstream does it: before they are allocated, and
//! with everything else afterwards.

use super::errors::Errors;
use super::{metadata, names};
use crate::ip;
use crate::walk::{At, same};
use kinds::field::{FieldError, Path};
use serde_json::Value;
use std::collections::BTreeSet;

pub(super) const PROTOCOLS: [&str; 3] = ["SCTP", "TCP", "UDP"];
const FAMILIES: [&str; 2] = ["IPv4", "IPv6"];
const POLICIES: [&str; 3] = ["PreferDualStack", "RequireDualStack", "SingleStack"];
const RANGES: &str = "service.beta.kubernetes.io/load-balancer-source-ranges";
const HINTS: &str = "service.kubernetes.io/topology-aware-hints";
const MODE: &str = "service.kubernetes.io/topology-mode";

/// Checks a Service; `old` is what an update replaces, else null.
pub(super) fn service(obj: &Value, old: &Value, errors: &mut Errors) {
    let (spec, at) = (obj.at("spec"), Path::new("spec"));
    let kind = spec.str_at("type");
    if !old.is_null() {
        service_update(obj, old, errors);
    }
    let annotations = obj.at("metadata.annotations");
    if let (Some(hints), Some(mode)) = (annotations.get(HINTS), annotations.get(MODE))
        && hints != mode
    {
        let place = Path::new("metadata").child("annotations").key(MODE);
        let text = format!("must match annotations[{HINTS}] when both are specified");
        errors.invalid(&place, mode.clone(), text);
    }
    if spec.is_empty_at("ports") && !is_headless(spec) && kind != "ExternalName" {
        errors.required(&at.child("ports"), "");
    }
    match kind {
        "LoadBalancer" | "NodePort" if is_headless(spec) => {
            let text = format!("may not be set to 'None' for {kind} services");
            errors.invalid(&at.child("clusterIPs").index(0), "None", text);
        }
        "ExternalName" => external_name(spec, &at, errors),
        _ => {}
    }
    ports(spec, &at.child("ports"), errors);
    metadata::labels(spec.at("selector"), &at.child("selector"), errors);
    affinity(spec, &at, errors);
    errors.0.extend(address_errors(obj, old));
    let known = old.strings_at("spec.externalIPs");
    for (i, ip) in spec.strings_at("externalIPs").into_iter().enumerate() {
        let place = at.child("externalIPs").index(i);
        let faults = if known.contains(&ip) {
            Vec::new()
        } else {
            names::legacy_ip(ip)
        };
        if faults.is_empty() {
            public_ip(ip, &place, errors);
        }
        errors.each(&place, ip, faults);
    }
    errors.one_of(
        spec,
        "type",
        &at,
        &["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"],
    );
    port_numbers(spec, &at.child("ports"), errors);
    source_ranges(obj, old, &at, errors);
    if kind != "LoadBalancer" && spec.has("allocateLoadBalancerNodePorts") {
        let text = "may only be used when `type` is 'LoadBalancer'";
        errors.forbidden(&at.child("allocateLoadBalancerNodePorts"), text);
    }
    if kind == "LoadBalancer" && !spec.has("allocateLoadBalancerNodePorts") {
        errors.required(&Path::new("allocateLoadBalancerNodePorts"), "");
    }
    balancer_class(spec, &at, errors);
    traffic(spec, &at, errors);
}

fn is_headless(spec: &Value) -> bool {
    spec.strings_at("clusterIPs") == ["None"]
}

fn external_name(spec: &Value, at: &Path, errors: &mut Errors) {
    for field in ["clusterIPs", "ipFamilies"] {
        if !spec.list_at(field).is_empty() {
            errors.forbidden(&at.child(field), "may not be set for ExternalName services");
        }
    }
    if spec.has("ipFamilyPolicy") {
        errors.forbidden(
            &at.child("ipFamilyPolicy"),
            "may not be set for ExternalName services",
        );
    }
    let name = spec.str_at("externalName");
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.required(&at.child("externalName"), "");
    } else {
        errors.each(&at.child("externalName"), name, names::dns_subdomain(name));
    }
}

fn ports(spec: &Value, at: &Path, errors: &mut Errors) {
    let list = spec.list_at("ports");
    let mut seen = BTreeSet::new();
    for (i, port) in list.iter().enumerate() {
        let place = at.index(i);
        let name = port.str_at("name");
        if list.len() > 1 && name.is_empty() {
            errors.required(&place.child("name"), "");
        } else if !name.is_empty() {
            errors.each(&place.child("name"), name, names::dns_label(name));
            if !seen.insert(name) {
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
        if port.has("appProtocol") {
            let app = port.str_at("appProtocol");
            errors.each(&place.child("appProtocol"), app, names::qualified_name(app));
        }
    }
}

/// What ports are to each other, and to the type.
fn port_numbers(spec: &Value, at: &Path, errors: &mut Errors) {
    let list = || spec.list_at("ports").iter().enumerate();
    let node_port = |port: &Value| port.int_at("nodePort").unwrap_or(0);
    for (i, port) in list() {
        if spec.str_at("type") == "ClusterIP" && node_port(port) != 0 {
            let text = "may not be used when `type` is 'ClusterIP'";
            errors.forbidden(&at.index(i).child("nodePort"), text);
        }
    }
    let mut seen = BTreeSet::new();
    for (i, port) in list() {
        let number = node_port(port);
        if number != 0 && !seen.insert((port.str_at("protocol"), number)) {
            errors.duplicate(&at.index(i).child("nodePort"), number);
        }
    }
    seen.clear();
    for (i, port) in list() {
        let (protocol, number) = (port.str_at("protocol"), port.int_at("port").unwrap_or(0));
        if !seen.insert((protocol, number)) {
            let shown = format!(
                "{{\"Name\":\"\",\"Protocol\":{protocol:?},\"AppProtocol\":null,\"Port\":{number},\"TargetPort\":0,\"NodePort\":0}}"
            );
            let error = FieldError::duplicate(&at.index(i), port.clone());
            errors.0.push(error.shown_as(shown));
        }
    }
}

fn affinity(spec: &Value, at: &Path, errors: &mut Errors) {
    errors.one_of(spec, "sessionAffinity", at, &["ClientIP", "None"]);
    let (config, at) = (
        spec.at("sessionAffinityConfig"),
        at.child("sessionAffinityConfig"),
    );
    match spec.str_at("sessionAffinity") {
        "ClientIP" => {
            let text = "when session affinity type is ClientIP";
            let place = at.child("clientIP");
            if config.is_null() {
                return errors.required(&at, text);
            }
            if !config.has("clientIP") {
                return errors.required(&place, text);
            }
            match config.int_at("clientIP.timeoutSeconds") {
                None => errors.required(&place.child("timeoutSeconds"), text),
                Some(seconds) if !(1..=86_400).contains(&seconds) => {
                    // One second too few, as upstream tells it.
                    let text = "must be greater than 0 and less than 86400";
                    errors.invalid(&place.child("timeoutSeconds"), seconds, text);
                }
                Some(_) => {}
            }
        }
        "None" if !config.is_null() => {
            errors.forbidden(&at, "must not be set when session affinity is None");
        }
        _ => {}
    }
}

/// Checks the addresses of a Service and their families by themselves; `old` is what an update replaces, else null.
pub fn address_errors(obj: &Value, old: &Value) -> Vec<FieldError> {
    let mut errors = Errors::default();
    let spec = obj.at("spec");
    if spec.str_at("type") != "ExternalName" {
        cluster_ips(spec, old, &mut errors);
    }
    errors.0
}

fn cluster_ips(spec: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    let (primary, list) = (spec.str_at("clusterIP"), spec.strings_at("clusterIPs"));
    let (list_at, all) = (at.child("clusterIPs"), || spec.at("clusterIPs").clone());
    match list.first() {
        None if !primary.is_empty() => errors.required(&list_at, ""),
        Some(_) if primary.is_empty() => {
            errors.invalid(&list_at, all(), "must be empty when `clusterIP` is not specified");
        }
        Some(first) if *first != primary => {
            errors.invalid(&list_at, all(), "first value must match `clusterIP`");
        }
        _ => {}
    }
    let families = spec.strings_at("ipFamilies");
    for (i, family) in families.iter().enumerate() {
        let place = at.child("ipFamilies").index(i);
        if !FAMILIES.contains(family) {
            errors.not_supported(&place, *family, &FAMILIES);
        }
        if families[..i].contains(family) {
            errors.duplicate(&place, *family);
        }
    }
    if spec.has("ipFamilyPolicy") {
        let policy = spec.str_at("ipFamilyPolicy");
        if !POLICIES.contains(&policy) {
            errors.not_supported(&at.child("ipFamilyPolicy"), policy, &POLICIES);
        }
    }
    let known = old.strings_at("spec.clusterIPs");
    let mut malformed = false;
    for (i, ip) in list.iter().enumerate() {
        if i == 0 && *ip == "None" {
            if list.len() > 1 {
                malformed = true;
                errors.invalid(&list_at, all(), "'None' must be the first and only value");
            }
            continue;
        }
        let faults = if known.contains(ip) {
            Vec::new()
        } else {
            names::legacy_ip(ip)
        };
        malformed |= !faults.is_empty();
        errors.each(&list_at.index(i), ip, faults);
    }
    if list.len() > 2 {
        errors.invalid(&list_at, all(), "may only hold up to 2 values");
    }
    if malformed {
        return;
    }
    let is_six = |text: &&str| ip::address(text).is_some_and(|ip| ip.is_ipv6());
    let sixes = list.iter().filter(|ip| is_six(ip)).count();
    if list.len() > 1 && (sixes == 0 || sixes == list.len()) {
        let text = "may specify no more than one IP for each IP family";
        errors.invalid(&list_at, all(), text);
    }
    if is_headless(spec) {
        return;
    }
    for (i, (ip, family)) in list.iter().zip(&families).enumerate() {
        let wanted = if is_six(ip) { "IPv6" } else { "IPv4" };
        if FAMILIES.contains(family) && *family != wanted {
            let text = format!("expected an {family} value as indicated by `ipFamilies[{i}]`");
            errors.invalid(&list_at.index(i), *ip, text);
        }
    }
}

/// An address that traffic from elsewhere may be sent to.
pub(super) fn public_ip(text: &str, at: &Path, errors: &mut Errors) {
    let Some(ip) = crate::ip::address(text) else {
        return errors.invalid(at, text, "must be a valid IP address");
    };
    let (local, multicast) = match ip {
        std::net::IpAddr::V4(ip) => (ip.is_link_local(), ip.octets()[..3] == [224, 0, 0]),
        std::net::IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            (first & 0xffc0 == 0xfe80, first & 0xff0f == 0xff02)
        }
    };
    let faults = [
        (ip.is_unspecified(), format!("may not be unspecified ({text})")),
        (
            ip.is_loopback(),
            "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned(),
        ),
        (
            local,
            "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned(),
        ),
        (
            multicast,
            "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned(),
        ),
    ];
    for (_, fault) in faults.into_iter().filter(|(is, _)| *is) {
        errors.invalid(at, text, fault);
    }
}

fn source_ranges(obj: &Value, old: &Value, at: &Path, errors: &mut Errors) {
    let spec = obj.at("spec");
    let balanced = spec.str_at("type") == "LoadBalancer";
    let text = "may only be used when `type` is 'LoadBalancer'";
    if !spec.is_empty_at("loadBalancerSourceRanges") {
        // The name as upstream writes it.
        let place = at.child("LoadBalancerSourceRanges");
        if !balanced {
            errors.forbidden(&place, text);
        }
        let known: Vec<&str> = old.strings_at("spec.loadBalancerSourceRanges");
        let list = spec.strings_at("loadBalancerSourceRanges");
        for (i, range) in list.into_iter().map(str::trim).enumerate() {
            if !known.iter().any(|known| known.trim() == range) {
                errors.each(&place.index(i), range, names::legacy_cidr(range));
            }
        }
        return;
    }
    let annotation = |object: &Value| {
        let annotations = object.at("metadata.annotations");
        annotations.get(RANGES).and_then(Value::as_str).map(str::to_owned)
    };
    let Some(ranges) = annotation(obj) else {
        return;
    };
    let place = Path::new("metadata").child("annotations").key(RANGES);
    if !balanced {
        errors.forbidden(&place, text);
    }
    if annotation(old).as_ref() != Some(&ranges) && !ranges.trim().is_empty() {
        for range in ranges.split(',').map(str::trim) {
            errors.each(&place, range, names::legacy_cidr(range));
        }
    }
}

fn balancer_class(spec: &Value, at: &Path, errors: &mut Errors) {
    if !spec.has("loadBalancerClass") {
        return;
    }
    let (place, class) = (at.child("loadBalancerClass"), spec.str_at("loadBalancerClass"));
    match spec.str_at("type") {
        "LoadBalancer" => errors.each(&place, class, names::qualified_name(class)),
        _ => errors.forbidden(&place, "may only be used when `type` is 'LoadBalancer'"),
    }
}

fn is_checked(spec: &Value) -> bool {
    spec.str_at("type") == "LoadBalancer" && spec.str_at("externalTrafficPolicy") == "Local"
}

fn traffic(spec: &Value, at: &Path, errors: &mut Errors) {
    let kind = spec.str_at("type");
    let outside = matches!(kind, "NodePort" | "LoadBalancer")
        || (kind == "ClusterIP" && !spec.is_empty_at("externalIPs"));
    if outside {
        errors.one_of(spec, "externalTrafficPolicy", at, &["Cluster", "Local"]);
    } else if !spec.is_empty_at("externalTrafficPolicy") {
        errors.invalid(
            &at.child("externalTrafficPolicy"),
            spec.str_at("externalTrafficPolicy"),
            "may only be set for externally-accessible services",
        );
    }
    let (place, port) = (
        at.child("healthCheckNodePort"),
        spec.int_at("healthCheckNodePort").unwrap_or(0),
    );
    match (is_checked(spec), port) {
        (false, 0) => {}
        (false, _) => {
            let text = "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'";
            errors.invalid(&place, port, text);
        }
        (true, 0) => errors.required(&place, ""),
        (true, _) => {
            for text in names::port_number(port) {
                errors.invalid(&place, port, text);
            }
        }
    }
    let policies = ["Cluster", "Local"];
    match kind {
        "NodePort" | "LoadBalancer" | "ClusterIP" if !spec.has("internalTrafficPolicy") => {
            errors.required(&at.child("internalTrafficPolicy"), "");
        }
        _ => errors.one_of_given(spec, "internalTrafficPolicy", at, &policies),
    }
    let near = ["PreferClose", "PreferSameZone", "PreferSameNode"];
    let wanted = spec.at("trafficDistribution").as_str();
    if let Some(other) = wanted.filter(|wanted| !near.contains(wanted)) {
        errors.not_supported_in_order(&at.child("trafficDistribution"), other, &near);
    }
}

/// What an update may not do: addresses and families are for life, unless the type gives them up.
fn service_update(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("spec");
    let (new, old) = (new.at("spec"), old.at("spec"));
    let inside = new.str_at("type") != "ExternalName" && old.str_at("type") != "ExternalName";
    if inside && !(is_headless(new) && is_headless(old)) {
        lasting(new, old, "clusterIPs", &at, errors);
    }
    if inside && !is_headless(new) && !is_headless(old) {
        lasting(new, old, "ipFamilies", &at, errors);
    }
    let balanced = |spec: &Value| spec.str_at("type") == "LoadBalancer";
    let (is, was) = (new.at("loadBalancerClass"), old.at("loadBalancerClass"));
    if balanced(new) && balanced(old) && is != was {
        errors.invalid(
            &at.child("loadBalancerClass"),
            is.clone(),
            "may not change once set",
        );
    }
    balancer_class(new, &at, errors);
    if is_checked(new)
        && is_checked(old)
        && !same(new.at("healthCheckNodePort"), old.at("healthCheckNodePort"))
    {
        errors.forbidden(&at.child("healthCheckNodePort"), "field is immutable");
    }
}

/// The first stays; the second comes and goes, the going only with the policy that says so.
fn lasting(new: &Value, old: &Value, field: &str, at: &Path, errors: &mut Errors) {
    let (is, was) = (new.strings_at(field), old.strings_at(field));
    let addresses = field == "clusterIPs";
    let (place, shown) = (at.child(field), || new.at(field).clone());
    let changed = "may not change once set";
    if is.len() == was.len() {
        for (i, _) in is.iter().zip(&was).enumerate().filter(|(_, (is, was))| is != was) {
            let i = if addresses { i } else { 0 };
            errors.invalid(&place.index(i), shown(), changed);
        }
        return;
    }
    if is.len() < was.len() && new.list_at("clusterIPs").is_empty() {
        let what = if addresses { "clusterIP" } else { "ipFamily" };
        errors.invalid(
            &place.index(0),
            shown(),
            format!("primary {what} can not be unset"),
        );
    }
    if let (Some(is), Some(was)) = (is.first(), was.first())
        && is != was
    {
        // Upstream shows the addresses, whichever of the two it was.
        errors.invalid(&place.index(0), new.at("clusterIPs").clone(), changed);
    }
    if was.len() > is.len() && is.len() == 1 && new.str_at("ipFamilyPolicy") != "SingleStack" {
        let what = if addresses { "clusterIP" } else { "ipFamily" };
        let text = format!("must be set to 'SingleStack' when releasing the secondary {what}");
        errors.invalid(
            &at.child("ipFamilyPolicy"),
            new.at("ipFamilyPolicy").clone(),
            text,
        );
    }
}

/// Checks the addresses of a load balancer that a status tells.
pub(super) fn status(new: &Value, old: &Value, errors: &mut Errors) {
    let at = Path::new("status").child("loadBalancer").child("ingress");
    let list = new.list_at("status.loadBalancer.ingress");
    if new.str_at("spec.type") != "LoadBalancer" && !list.is_empty() {
        errors.forbidden(&at, "may only be used when `spec.type` is 'LoadBalancer'");
        return;
    }
    let before = old.list_at("status.loadBalancer.ingress");
    for (i, point) in list.iter().enumerate() {
        let place = at.index(i);
        let (ip, host) = (point.str_at("ip"), point.str_at("hostname"));
        if !ip.is_empty() && !before.iter().any(|known| known.str_at("ip") == ip) {
            errors.each(&place.child("ip"), ip, names::legacy_ip(ip));
        }
        let mode = place.child("ipMode");
        match (point.has("ipMode"), ip.is_empty()) {
            (false, true) => {}
            (false, false) => errors.required(&mode, "must be specified when `ip` is set"),
            (true, true) => errors.forbidden(&mode, "may not be specified when `ip` is not set"),
            (true, false) => errors.one_of_given(point, "ipMode", &place, &["Proxy", "VIP"]),
        }
        if !host.is_empty() {
            errors.each(&place.child("hostname"), host, names::dns_subdomain(host));
            if crate::ip::address(host).is_some() {
                let text = "must be a DNS name, not an IP address";
                errors.invalid(&place.child("hostname"), host, text);
            }
        }
    }
}
