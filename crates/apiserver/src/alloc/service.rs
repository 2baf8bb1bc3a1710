//! Addresses and ports of one Service, by its type, with upstream's messages for what cannot be had.

use super::{Allocators, Range, Reservation};
use crate::rest::meta;
use crate::view::View;
use kinds::field::{FieldError, Path};
use kinds::status::Status;
use rand::RngExt;
use serde_json::{Map, Value, json};
use std::collections::HashSet;
use std::net::Ipv4Addr;

/// What other Services have.
struct Taken {
    ips: HashSet<Ipv4Addr>,
    ports: HashSet<u16>,
}

/// Completes the Service `object`; `old` is its present state, if there is one.
pub(super) fn allocate(
    alloc: &Allocators,
    object: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<Reservation, Status> {
    if let Some(old) = old {
        carry_over(object, old);
    }
    let kind = text(object, "type").to_string();
    let name = meta(object, "name").to_string();
    let refuse = |error: FieldError| Status::invalid("Service", "", &name, vec![error]);
    if !object["spec"].is_object() {
        return Ok(Reservation::default());
    }
    // The lock is held from reading what is taken until it is reserved.
    let mut pending = alloc.pending.lock();
    let mut taken = taken(alloc, object);
    taken.ips.extend(&pending.ips);
    taken.ports.extend(&pending.ports);
    let mut reservation = Reservation::in_pool(&alloc.pending);
    let outcome = (|| {
        families(object, &kind).map_err(&refuse)?;
        // An address that is there already cannot be changed, which validation tells.
        if !old.is_some_and(|old| changes_address(object, old)) {
            cluster_ip(alloc, object, &kind, &mut taken, &mut reservation).map_err(&refuse)?;
        }
        node_ports(alloc, object, &kind, dry_run, &mut taken, &mut reservation).map_err(&refuse)
    })();
    if outcome.is_ok() && !dry_run {
        pending.ips.extend(&reservation.ips);
        pending.ports.extend(&reservation.ports);
    } else {
        reservation.ips.clear();
        reservation.ports.clear();
    }
    drop(pending);
    outcome.map(|()| reservation)
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .pointer(&format!("/spec/{field}"))
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// There are addresses of one family only. Who asks for more is refused, but for Services without address and selector,
/// whose endpoints may be anywhere.
fn families(object: &Value, kind: &str) -> Result<(), FieldError> {
    let spec = &object["spec"];
    let headless = [&spec["clusterIP"], &spec["clusterIPs"][0]]
        .iter()
        .any(|ip| **ip == "None");
    let selects = spec["selector"].as_object().is_some_and(|s| !s.is_empty());
    if kind == "ExternalName" || headless && !selects {
        return Ok(());
    }
    let at = Path::new("spec");
    if spec["ipFamilyPolicy"] == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        return Err(FieldError::invalid(
            &at.child("ipFamilyPolicy"),
            spec["ipFamilyPolicy"].clone(),
            why,
        ));
    }
    let asked = spec["ipFamilies"].as_array().map_or(&[][..], Vec::as_slice);
    if asked.len() == 2 && asked[0] != asked[1] && spec["ipFamilyPolicy"] != "PreferDualStack" {
        let why = "must be 'RequireDualStack' or 'PreferDualStack' when multiple IP families are specified";
        let policy = spec["ipFamilyPolicy"].as_str().unwrap_or("SingleStack");
        return Err(FieldError::invalid(
            &at.child("ipFamilyPolicy"),
            json!(policy),
            why,
        ));
    }
    for (i, family) in asked.iter().enumerate() {
        // What is no family, or there twice, is told by validation.
        if family == "IPv6" && asked.len() < 3 {
            let at = at.child("ipFamilies").index(i);
            return Err(FieldError::invalid(
                &at,
                family.clone(),
                "not configured on this cluster",
            ));
        }
    }
    Ok(())
}

/// What a client that sends the Service without allocated values gets to keep.
fn carry_over(object: &mut Value, old: &Value) {
    let (kind, was) = (text(object, "type").to_string(), text(old, "type").to_string());
    let needs_ip = |k: &str| k != "ExternalName";
    if needs_ip(&kind) && needs_ip(&was) && text(object, "clusterIP").is_empty() {
        for field in ["clusterIP", "clusterIPs"] {
            if let Some(value) = old["spec"].get(field) {
                object["spec"][field] = value.clone();
            }
        }
    }
    // Who knows one address alone means the list, too.
    let (is, had) = (&object["spec"], &old["spec"]);
    if is["clusterIP"] != had["clusterIP"]
        && is["clusterIPs"] == had["clusterIPs"]
        && is["clusterIP"].is_string()
    {
        object["spec"]["clusterIPs"] = json!([is["clusterIP"]]);
    }
    let needs_ports = |k: &str| k == "NodePort" || k == "LoadBalancer";
    if needs_ports(&kind) && needs_ports(&was) {
        let old_ports = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
        for port in object["spec"]["ports"].as_array_mut().into_iter().flatten() {
            if port.get("nodePort").and_then(Value::as_u64).unwrap_or(0) == 0 {
                let same = |o: &&Value| o["port"] == port["port"] && o["protocol"] == port["protocol"];
                if let Some(known) = old_ports.iter().find(same).and_then(|o| o.get("nodePort")) {
                    port["nodePort"] = known.clone();
                }
            }
        }
    }
    if needs_ports(&was) && kind == "ClusterIP" {
        // The type went away; so do the ports that came with it.
        let old_ports = old["spec"]["ports"].as_array().cloned().unwrap_or_default();
        for (port, before) in object["spec"]["ports"]
            .as_array_mut()
            .into_iter()
            .flatten()
            .zip(old_ports)
        {
            if port.get("nodePort") == before.get("nodePort")
                && let Some(fields) = port.as_object_mut()
            {
                fields.remove("nodePort");
            }
        }
    }
    if kind == "ExternalName"
        && was != "ExternalName"
        && object["spec"].get("clusterIP") == old["spec"].get("clusterIP")
        && let Some(spec) = object["spec"].as_object_mut()
    {
        for field in [
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "internalTrafficPolicy",
        ] {
            spec.remove(field);
        }
    }
}

/// Whether a Service that has an address asks for another.
fn changes_address(object: &Value, old: &Value) -> bool {
    let (was, is) = (text(old, "clusterIP"), text(object, "clusterIP"));
    let has = |service: &Value| text(service, "type") != "ExternalName";
    has(old) && has(object) && !was.is_empty() && !is.is_empty() && was != is
}

fn taken(alloc: &Allocators, but: &Value) -> Taken {
    let mut taken = Taken {
        ips: HashSet::new(),
        ports: HashSet::new(),
    };
    for service in alloc.services() {
        let same = |f| meta(&service, f) == meta(but, f);
        if same("namespace") && same("name") {
            continue;
        }
        if let Ok(ip) = text(&service, "clusterIP").parse() {
            taken.ips.insert(ip);
        }
        for port in service["spec"]["ports"].as_array().into_iter().flatten() {
            taken.ports.extend(port_number(port.get("nodePort")));
        }
        taken
            .ports
            .extend(port_number(service["spec"].get("healthCheckNodePort")));
    }
    // Addresses that people have reserved; those of Services themselves may be of one that is gone.
    for address in alloc.caches.list(&super::addresses::resource(), None) {
        if super::addresses::is_foreign(&address)
            && let Ok(ip) = meta(&address, "name").parse()
        {
            taken.ips.insert(ip);
        }
    }
    taken
}

fn port_number(value: Option<&Value>) -> Option<u16> {
    value
        .and_then(Value::as_u64)
        .and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p > 0)
}

fn cluster_ip(
    alloc: &Allocators,
    object: &mut Value,
    kind: &str,
    taken: &mut Taken,
    reservation: &mut Reservation,
) -> Result<(), FieldError> {
    if kind == "ExternalName" {
        return Ok(());
    }
    let mut given = text(object, "clusterIP").to_string();
    if given.is_empty()
        && let Some(first) = object.pointer("/spec/clusterIPs/0").and_then(Value::as_str)
    {
        given = first.to_string();
    }
    let selector = object["spec"]
        .get("selector")
        .and_then(Value::as_object)
        .is_some_and(|s| !s.is_empty());
    let spec = &mut object["spec"];
    if given == "None" {
        put_new(spec, "clusterIP", json!("None"));
        put_new(spec, "clusterIPs", json!(["None"]));
        // Without a selector nobody knows the families of its endpoints: upstream then says both.
        let families = if selector {
            json!(["IPv4"])
        } else {
            json!(["IPv4", "IPv6"])
        };
        put_new(spec, "ipFamilies", families);
        put_new(
            spec,
            "ipFamilyPolicy",
            json!(if selector {
                "SingleStack"
            } else {
                "RequireDualStack"
            }),
        );
        return Ok(());
    }
    let at = Path::new("spec").child("clusterIPs");
    let ip = if given.is_empty() {
        let found = alloc.ranges().iter().find_map(|range| pick_ip(range, taken));
        found.ok_or_else(|| {
            FieldError::internal(
                &at,
                format!("failed to allocate a serviceIP: range {} is full", alloc.range),
            )
        })?
    } else {
        let fail = |why: String| {
            FieldError::invalid(
                &at,
                json!([given]),
                format!("failed to allocate IP {given}: {why}"),
            )
        };
        if given.parse::<std::net::Ipv6Addr>().is_ok() {
            let why = "IPv6 is not configured on this cluster";
            return Err(FieldError::invalid(&at.index(0), json!([given]), why));
        }
        let Ok(ip) = given.parse::<Ipv4Addr>() else {
            // Validation words this one.
            return Ok(());
        };
        if !alloc.ranges().iter().any(|range| range.contains(ip)) {
            return Err(fail(format!(
                "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {}",
                alloc.range
            )));
        }
        if taken.ips.contains(&ip) {
            return Err(fail("provided IP is already allocated".into()));
        }
        ip
    };
    taken.ips.insert(ip);
    reservation.ips.push(ip);
    put_new(spec, "clusterIP", json!(ip.to_string()));
    put_new(spec, "clusterIPs", json!([ip.to_string()]));
    put_new(spec, "ipFamilies", json!(["IPv4"]));
    put_new(spec, "ipFamilyPolicy", json!("SingleStack"));
    Ok(())
}

/// Sets a field that is absent, empty or null.
fn put_new(spec: &mut Value, field: &str, value: Value) {
    let empty = match spec.get(field) {
        None | Some(Value::Null) => true,
        Some(Value::String(s)) => s.is_empty(),
        Some(Value::Array(a)) => a.is_empty(),
        _ => false,
    };
    if empty {
        spec[field] = value;
    }
}

/// A free address of a range: from the upper part first, so that the lower stays free for addresses people choose.
fn pick_ip(range: &Range, taken: &Taken) -> Option<Ipv4Addr> {
    let size = range.size();
    let reserved = (size / 16).clamp(16, 256).min(size / 2);
    let free = |n: u32| {
        let ip = range.nth(n);
        (range.contains(ip) && !taken.ips.contains(&ip)).then_some(ip)
    };
    let start = rand::rng().random_range(reserved..size);
    let upper = (start..size).chain(reserved..start);
    upper.chain(1..reserved).find_map(free)
}

fn node_ports(
    alloc: &Allocators,
    object: &mut Value,
    kind: &str,
    dry_run: bool,
    taken: &mut Taken,
    reservation: &mut Reservation,
) -> Result<(), FieldError> {
    let spec = &mut object["spec"];
    let wanted = match kind {
        "NodePort" => true,
        "LoadBalancer" => spec
            .get("allocateLoadBalancerNodePorts")
            .and_then(Value::as_bool)
            .unwrap_or(true),
        _ => false,
    };
    let (first, last) = alloc.ports;
    let mut own: HashSet<(u16, String)> = HashSet::new();
    // Ports that are asked for come first, so that none of them is handed out.
    let mut list = spec["ports"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default();
    for (i, port) in list.iter().enumerate() {
        let Some(number) = port_number(port.get("nodePort")) else {
            continue;
        };
        if !matches!(kind, "NodePort" | "LoadBalancer") {
            continue;
        }
        let at = Path::new("spec").child("ports").index(i).child("nodePort");
        // Upstream asks its range only where it takes something out of it.
        if !dry_run && !(first..=last).contains(&number) {
            let why = format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            );
            return Err(FieldError::invalid(&at, json!(number), why));
        }
        if taken.ports.contains(&number) {
            return Err(FieldError::invalid(
                &at,
                json!(number),
                "provided port is already allocated",
            ));
        }
        own.insert((number, protocol(port)));
        reservation.ports.push(number);
    }
    if wanted {
        for (i, port) in list.iter_mut().enumerate() {
            if port_number(port.get("nodePort")).is_some() {
                continue;
            }
            let at = Path::new("spec").child("ports").index(i).child("nodePort");
            let fail = || FieldError::internal(&at, "failed to allocate a nodePort: range is full");
            // One number may serve several protocols of the same port, but two ports of one protocol need two.
            let number = pick_port(alloc, taken, &own).ok_or_else(fail)?;
            own.insert((number, protocol(port)));
            reservation.ports.push(number);
            port["nodePort"] = json!(number);
        }
    }
    spec["ports"] = Value::Array(list);
    if spec["ports"].as_array().is_some_and(Vec::is_empty)
        && let Some(fields) = spec.as_object_mut()
    {
        fields.remove("ports");
    }
    health_port(alloc, spec, kind, taken, &own, reservation)
}

fn protocol(port: &Value) -> String {
    port.get("protocol")
        .and_then(Value::as_str)
        .unwrap_or("TCP")
        .to_string()
}

fn health_port(
    alloc: &Allocators,
    spec: &mut Value,
    kind: &str,
    taken: &Taken,
    own: &HashSet<(u16, String)>,
    reservation: &mut Reservation,
) -> Result<(), FieldError> {
    let local = spec.get("externalTrafficPolicy").and_then(Value::as_str) == Some("Local");
    let at = Path::new("spec").child("healthCheckNodePort");
    let given = port_number(spec.get("healthCheckNodePort"));
    if kind != "LoadBalancer" || !local {
        return Ok(());
    }
    let number = match given {
        Some(number) if taken.ports.contains(&number) => {
            return Err(FieldError::invalid(
                &at,
                json!(number),
                "provided port is already allocated",
            ));
        }
        Some(number) => number,
        None => pick_port(alloc, taken, own).ok_or_else(|| {
            FieldError::internal(&at, "failed to allocate a HealthCheck NodePort: range is full")
        })?,
    };
    reservation.ports.push(number);
    let fields: &mut Map<String, Value> = match spec.as_object_mut() {
        Some(fields) => fields,
        None => return Ok(()),
    };
    fields.insert("healthCheckNodePort".into(), json!(number));
    Ok(())
}

fn pick_port(alloc: &Allocators, taken: &Taken, own: &HashSet<(u16, String)>) -> Option<u16> {
    let (first, last) = alloc.ports;
    let free = |p: &u16| !taken.ports.contains(p) && !own.iter().any(|(o, _)| o == p);
    let start = rand::rng().random_range(first..=last);
    (start..=last).chain(first..start).find(free)
}
