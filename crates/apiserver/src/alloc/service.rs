//! Addresses and ports of one Service, by its type, with upstream's messages for what cannot be had.

use super::{Allocators, Range, Reservation};
use crate::cache::object::object_key;
use crate::rest::meta;
use kinds::field::{FieldError, Path};
use kinds::status::Status;
use rand::RngExt;
use serde_json::{Value, json};
use std::collections::{HashMap, HashSet};
use std::net::Ipv4Addr;

/// What others have, and what this write has taken.
struct Taken<'a> {
    held: &'a super::taken::Taken,
    pending: &'a super::Pending,
    /// The Service itself, whose own does not count.
    but: &'a str,
}

impl Taken<'_> {
    fn ip(&self, ip: Ipv4Addr) -> bool {
        self.pending.ips.contains(&ip) || self.held.has_ip(ip, self.but)
    }

    fn port(&self, port: u16) -> bool {
        self.pending.ports.contains(&port) || self.held.has_port(port, self.but)
    }
}

/// Completes the Service `object`; `old` is its present state, if there is one.
pub(super) fn allocate(
    alloc: &Allocators,
    object: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
) -> Result<Reservation, Status> {
    if old.is_none() && !text(object, "clusterIP").is_empty() {
        let first = json!([text(object, "clusterIP")]);
        put_new(&mut object["spec"], "clusterIPs", first);
    }
    let kind = text(object, "type").to_string();
    let name = meta(object, "name").to_string();
    let refuse = |errors: Vec<FieldError>| Status::invalid("Service", "", &name, errors);
    if !object["spec"].is_object() {
        return Ok(Reservation::default());
    }
    // The lock is held from reading what is taken until it is reserved.
    let mut pending = alloc.pending.lock();
    let mut held = alloc.taken.lock();
    held.follow(&alloc.caches);
    let but = object_key(meta(object, "namespace"), meta(object, "name"));
    let taken = Taken {
        held: &held,
        pending: &pending,
        but: &but,
    };
    let mut reservation = Reservation::in_pool(&alloc.pending);
    let outcome = (|| {
        families(object, old, &kind).map_err(&refuse)?;
        cluster_ip(alloc, object, old, dry_run, &taken, &mut reservation)?;
        node_ports(alloc, object, old, dry_run, &taken, &mut reservation)
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

/// What cannot be had although it was asked for. That there is nothing left is no fault of who asks.
fn invalid(name: &str, error: FieldError) -> Status {
    Status::invalid("Service", "", name, vec![error])
}

fn text<'a>(object: &'a Value, field: &str) -> &'a str {
    object
        .pointer(&format!("/spec/{field}"))
        .and_then(Value::as_str)
        .unwrap_or("")
}

/// Says which families a Service has, as far as it does not itself. There are addresses of one family only: who asks for
/// more is refused, but for Services without address and selector, whose endpoints may be anywhere
/// (`initIPFamilyFields` in `pkg/registry/core/service/storage/alloc.go`).
fn families(object: &mut Value, old: Option<&Value>, kind: &str) -> Result<(), Vec<FieldError>> {
    if kind == "ExternalName" {
        return Ok(());
    }
    let (at, nothing) = (Path::new("spec"), Value::Null);
    let before = old.map_or(&nothing, |old| &old["spec"]);
    let spec = &mut object["spec"];
    let unselective = text_of(spec, "clusterIP") == "None"
        && spec["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    let policy = match &before["ipFamilyPolicy"] {
        Value::Null if unselective => json!("RequireDualStack"),
        Value::Null => json!("SingleStack"),
        policy => policy.clone(),
    };
    // An empty one is none of upstream's, and is refused.
    if spec["ipFamilyPolicy"].is_null() {
        spec["ipFamilyPolicy"] = policy;
    }
    let errors = machinery::service_address_errors(object, old.unwrap_or(&nothing));
    if !errors.is_empty() {
        return Err(errors);
    }
    let spec = &mut object["spec"];
    let single = spec["ipFamilyPolicy"] == "SingleStack";
    let mut errors = Vec::new();
    let mut against_policy = |detail: &str| {
        let place = at.child("ipFamilyPolicy");
        errors.push(FieldError::invalid(
            &place,
            spec["ipFamilyPolicy"].clone(),
            detail,
        ));
    };
    for (field, plural, singular) in [
        ("clusterIPs", "cluster IPs", "cluster IP"),
        ("ipFamilies", "IP families", "IP family"),
    ] {
        let count = |holder: &Value| holder[field].as_array().map_or(0, Vec::len);
        if !single && old.is_some() && count(before) == 2 && count(spec) == 1 {
            against_policy(&format!(
                "must be 'SingleStack' to release the secondary {singular}"
            ));
        }
        if single && count(spec) == 2 && before[field] != spec[field] {
            against_policy(&format!(
                "must be 'RequireDualStack' or 'PreferDualStack' when multiple {plural} are specified"
            ));
        }
    }
    if single && errors.is_empty() {
        // What has not changed is let go of by the policy alone.
        for field in ["clusterIPs", "ipFamilies"] {
            if let Some(list) = spec[field].as_array_mut() {
                list.truncate(1);
            }
        }
    }
    let mut known: Vec<Value> = spec["ipFamilies"].as_array().cloned().unwrap_or_default();
    let list: Vec<Value> = spec["clusterIPs"].as_array().cloned().unwrap_or_default();
    for (i, ip) in list
        .iter()
        .filter_map(Value::as_str)
        .enumerate()
        .skip(known.len())
    {
        match ip {
            "None" => break,
            ip if ip.contains(':') => errors.push(FieldError::invalid(
                &at.child("clusterIPs").index(i),
                spec["clusterIPs"].clone(),
                "IPv6 is not configured on this cluster",
            )),
            _ => known.push(json!("IPv4")),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if unselective {
        if known.is_empty() {
            known.push(json!("IPv4"));
        }
        if known.len() < 2 && !single {
            // Nobody knows the families of its endpoints: it has both.
            let other = if known[0] == "IPv4" { "IPv6" } else { "IPv4" };
            known.push(json!(other));
        }
        spec["ipFamilies"] = Value::Array(known);
        return Ok(());
    }
    if spec["ipFamilyPolicy"] == "RequireDualStack" {
        let why = "this cluster is not configured for dual-stack services";
        let place = at.child("ipFamilyPolicy");
        errors.push(FieldError::invalid(&place, spec["ipFamilyPolicy"].clone(), why));
    }
    for (i, family) in known.iter().enumerate().filter(|(_, family)| **family != "IPv4") {
        let place = at.child("ipFamilies").index(i);
        errors.push(FieldError::invalid(
            &place,
            family.clone(),
            "not configured on this cluster",
        ));
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    if known.is_empty() {
        known.push(json!("IPv4"));
    }
    spec["ipFamilies"] = Value::Array(known);
    Ok(())
}

fn text_of<'a>(spec: &'a Value, field: &str) -> &'a str {
    spec[field].as_str().unwrap_or("")
}

/// Gives a Service its address. One that has been given stays: whoever changes it is told so by validation.
fn cluster_ip(
    alloc: &Allocators,
    object: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
    taken: &Taken<'_>,
    reservation: &mut Reservation,
) -> Result<(), Status> {
    let name = meta(object, "name").to_string();
    let given = object["spec"]["clusterIPs"][0].as_str().unwrap_or("").to_string();
    let settled = old.is_some_and(|old| text(old, "type") != "ExternalName");
    if text(object, "type") == "ExternalName" || given == "None" || settled {
        return Ok(());
    }
    let spec = &mut object["spec"];
    let at = Path::new("spec").child("clusterIPs");
    let ip = if given.is_empty() && dry_run {
        // As upstream: none is looked for.
        let ranges = alloc.ranges();
        ranges.first().unwrap_or(&alloc.range).nth(0)
    } else if given.is_empty() {
        let found = alloc.ranges().iter().find_map(|range| pick_ip(range, taken));
        found.ok_or_else(|| Status::internal("failed to allocate a serviceIP: range is full"))?
    } else {
        let fail = |why: String| {
            let why = format!("failed to allocate IP {given}: {why}");
            invalid(&name, FieldError::invalid(&at, json!([given]), why))
        };
        let Some(ip) = machinery::legacy_ipv4(&given) else {
            // Validation words this one.
            return Ok(());
        };
        if !alloc.ranges().iter().any(|range| range.contains(ip)) {
            // Upstream asks two of its allocators.
            return Err(fail(match dry_run {
                true => format!(
                    "the provided IP ({ip}) is not in the valid range. The range of valid IPs is {}",
                    alloc.range
                ),
                false => "the provided network does not match the current range".to_owned(),
            }));
        }
        if !dry_run && taken.ip(ip) {
            return Err(fail("provided IP is already allocated".into()));
        }
        ip
    };
    reservation.ips.push(ip);
    if given.is_empty() {
        spec["clusterIP"] = json!(ip.to_string());
        spec["clusterIPs"] = json!([ip.to_string()]);
    }
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
fn pick_ip(range: &Range, taken: &Taken<'_>) -> Option<Ipv4Addr> {
    let size = range.size();
    let reserved = (size / 16).clamp(16, 256).min(size / 2);
    let free = |n: u32| {
        let ip = range.nth(n);
        (range.contains(ip) && !taken.ip(ip)).then_some(ip)
    };
    let start = rand::rng().random_range(reserved..size);
    let upper = (start..size).chain(reserved..start);
    upper.chain(1..reserved).find_map(free)
}

/// Gives ports their node ports. Ports of one number (DNS over TCP and UDP) share theirs.
fn node_ports(
    alloc: &Allocators,
    object: &mut Value,
    old: Option<&Value>,
    dry_run: bool,
    taken: &Taken<'_>,
    reservation: &mut Reservation,
) -> Result<(), Status> {
    let name = meta(object, "name").to_string();
    let kind = text(object, "type").to_string();
    let spec = &mut object["spec"];
    let local = spec["externalTrafficPolicy"] == "Local";
    let mut ports = Ports {
        name: &name,
        alloc,
        taken,
        dry_run,
        reservation,
    };
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        let wanted = kind == "NodePort" || spec["allocateLoadBalancerNodePorts"] != false;
        let list = spec["ports"].as_array_mut();
        let list = list.map_or(&mut [][..], |list| list.as_mut_slice());
        match old {
            None => ports.of_new(list, wanted)?,
            Some(old) => ports.of_changed(list, old, wanted)?,
        }
    }
    let checked = |spec: &Value| {
        text_of(spec, "type") == "LoadBalancer" && text_of(spec, "externalTrafficPolicy") == "Local"
    };
    if kind != "LoadBalancer" || !local || old.is_some_and(|old| checked(&old["spec"])) {
        return Ok(());
    }
    match spec["healthCheckNodePort"].as_i64() {
        Some(0) | None => {
            let why = "failed to allocate a HealthCheck NodePort 0: range is full";
            let number = ports.next().ok_or_else(|| Status::internal(why))?;
            spec["healthCheckNodePort"] = json!(number);
        }
        Some(number) => ports.take(number).map_err(|why| {
            Status::internal(format!(
                "failed to allocate requested HealthCheck NodePort {number}: {why}"
            ))
        })?,
    }
    Ok(())
}

/// Node ports in the course of one write.
struct Ports<'a> {
    /// The Service's.
    name: &'a str,
    alloc: &'a Allocators,
    taken: &'a Taken<'a>,
    /// Nothing will be kept: upstream then does not ask whether a port is in the range.
    dry_run: bool,
    reservation: &'a mut Reservation,
}

impl Ports<'_> {
    fn take(&mut self, number: i64) -> Result<(), String> {
        let (first, last) = self.alloc.ports;
        let port = u16::try_from(number).unwrap_or(0);
        if !self.dry_run && !(first..=last).contains(&port) {
            return Err(format!(
                "provided port is not in the valid range. The range of valid ports is {first}-{last}"
            ));
        }
        if self.taken.port(port) || self.reservation.ports.contains(&port) {
            return Err("provided port is already allocated".to_owned());
        }
        self.reservation.ports.push(port);
        Ok(())
    }

    fn take_at(&mut self, index: usize, number: i64) -> Result<(), Status> {
        self.take(number).map_err(|why| {
            let at = Path::new("spec").child("ports").index(index).child("nodePort");
            invalid(self.name, FieldError::invalid(&at, json!(number), why))
        })
    }

    fn next(&mut self) -> Option<u16> {
        let port = pick_port(self.alloc, self.taken, &self.reservation.ports)?;
        self.reservation.ports.push(port);
        Some(port)
    }

    fn next_one(&mut self) -> Result<u16, Status> {
        let why = "failed to allocate a nodePort: range is full";
        self.next().ok_or_else(|| Status::internal(why))
    }

    fn of_new(&mut self, list: &mut [Value], wanted: bool) -> Result<(), Status> {
        let mut shared: HashMap<i64, i64> = HashMap::new();
        for i in 0..list.len() {
            let (port, own) = (list[i]["port"].as_i64().unwrap_or(0), node_port(&list[i]));
            if own == 0 && !wanted {
                continue;
            }
            match shared.get(&port) {
                None => {
                    let mut asked = list.iter().filter(|other| other["port"] == port).map(node_port);
                    let number = match asked.find(|number| *number != 0) {
                        Some(number) => {
                            self.take_at(i, number)?;
                            number
                        }
                        None => self.next_one()?.into(),
                    };
                    list[i]["nodePort"] = json!(number);
                    shared.insert(port, number);
                }
                Some(number) if own == 0 => list[i]["nodePort"] = json!(number),
                Some(number) if own != *number => self.take_at(i, own)?,
                Some(_) => {}
            }
        }
        Ok(())
    }

    fn of_changed(&mut self, list: &mut [Value], old: &Value, wanted: bool) -> Result<(), Status> {
        let before = old["spec"]["ports"].as_array();
        let before: Vec<i64> = before.into_iter().flatten().map(node_port).collect();
        let (mut taken, mut seen) = (Vec::new(), HashSet::new());
        for (i, port) in list.iter_mut().enumerate() {
            match node_port(port) {
                0 if wanted => port["nodePort"] = json!(self.next_one()?),
                0 => continue,
                number if before.contains(&number) || taken.contains(&number) => {}
                number => {
                    self.take_at(i, number)?;
                    taken.push(number);
                }
            }
            let (protocol, number) = (text_of(port, "protocol"), node_port(port));
            if !seen.insert((protocol.to_owned(), number)) {
                return Err(Status::plain(format!(
                    "duplicate nodePort: {{{protocol} {number}}}"
                )));
            }
        }
        Ok(())
    }
}

fn node_port(port: &Value) -> i64 {
    port["nodePort"].as_i64().unwrap_or(0)
}

fn pick_port(alloc: &Allocators, taken: &Taken<'_>, own: &[u16]) -> Option<u16> {
    let (first, last) = alloc.ports;
    let free = |p: &u16| !taken.port(*p) && !own.contains(p);
    // The low ones are left for those who ask for a number, as long as there are others (KEP-3668).
    let dynamic = first + reserved(last - first);
    let start = rand::rng().random_range(dynamic..=last);
    (start..=last).chain((first..start).rev()).find(free)
}

/// How many ports of a range are left for those who name one; `span` is the distance from its first to its last.
fn reserved(span: u16) -> u16 {
    let size = u32::from(span) + 1;
    let share = (size / 32).clamp(16, 128);
    // A range that is little larger has none to leave.
    if size <= 16 {
        0
    } else {
        u16::try_from(share).unwrap_or(0)
    }
}
