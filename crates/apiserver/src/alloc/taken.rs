//! Which addresses and ports Services have, kept up with the watch cache at the cost of what has changed: an allocation does
//! not look at all Services.

use super::addresses;
use crate::cache::{Caches, Object};
use crate::view::GroupResource;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::net::Ipv4Addr;

/// See the module's words.
#[derive(Default)]
pub(super) struct Taken {
    /// The revisions of Services and of IPAddresses up to which this is complete.
    seen: Option<(u64, u64)>,
    /// What each Service has, by namespace and name.
    holders: HashMap<String, Held>,
    /// How many Services have an address or port. There is one as a rule.
    ips: HashMap<Ipv4Addr, usize>,
    ports: HashMap<u16, usize>,
    /// Addresses that people have reserved.
    reserved: HashSet<Ipv4Addr>,
}

/// What one Service has.
#[derive(Default, Clone, PartialEq)]
struct Held {
    ip: Option<Ipv4Addr>,
    ports: Vec<u16>,
}

impl Held {
    fn of(service: &Value) -> Held {
        let spec = &service["spec"];
        let ports = spec["ports"].as_array().into_iter().flatten();
        let mut ports: Vec<u16> = ports.filter_map(|port| number(port.get("nodePort"))).collect();
        ports.extend(number(spec.get("healthCheckNodePort")));
        // One port number over two protocols has one node port.
        ports.sort_unstable();
        ports.dedup();
        Held {
            ip: spec["clusterIP"].as_str().and_then(|ip| ip.parse().ok()),
            ports,
        }
    }
}

fn number(value: Option<&Value>) -> Option<u16> {
    let number = value.and_then(Value::as_u64)?;
    u16::try_from(number).ok().filter(|number| *number > 0)
}

impl Taken {
    /// Catches up with the cache.
    pub(super) fn follow(&mut self, caches: &Caches) {
        let services = caches.resource(&GroupResource::new("", "services"));
        let addresses = caches.resource(&addresses::resource());
        let (upto_service, upto_address) = self.seen.unwrap_or((u64::MAX, u64::MAX));
        let (told, reserved) = (services.since(upto_service), addresses.since(upto_address));
        let known = self.seen.replace((told.upto, reserved.upto)).is_some();
        match (told.changes, reserved.changes) {
            (Some(told), Some(reserved)) if known => {
                for change in told {
                    let now = services.get(change.object.namespace(), change.object.name());
                    self.put(change.object.key(), now.map(|now| Held::of(&now.value())));
                }
                for change in reserved {
                    let now = addresses.get("", change.object.name());
                    self.reserve(change.object.name(), now.is_some_and(|now| is_reserved(&now)));
                }
            }
            _ => {
                *self = Taken {
                    seen: self.seen,
                    ..Taken::default()
                };
                for service in services.current("") {
                    self.put(service.key(), Some(Held::of(&service.value())));
                }
                for address in addresses.current("") {
                    self.reserve(address.name(), is_reserved(&address));
                }
            }
        }
    }

    fn put(&mut self, key: &str, now: Option<Held>) {
        let before = match now.clone() {
            Some(now) => self.holders.insert(key.to_owned(), now),
            None => self.holders.remove(key),
        };
        let (before, now) = (before.unwrap_or_default(), now.unwrap_or_default());
        if before == now {
            return;
        }
        now.ip.into_iter().for_each(|ip| count(&mut self.ips, ip));
        now.ports.iter().for_each(|port| count(&mut self.ports, *port));
        before.ip.iter().for_each(|ip| uncount(&mut self.ips, ip));
        before
            .ports
            .iter()
            .for_each(|port| uncount(&mut self.ports, port));
    }

    fn reserve(&mut self, name: &str, reserved: bool) {
        let Ok(ip) = name.parse() else { return };
        match reserved {
            true => drop(self.reserved.insert(ip)),
            false => drop(self.reserved.remove(&ip)),
        }
    }

    /// Whether somebody has an address: another Service than the one with this key, or whoever reserved it.
    pub(super) fn has_ip(&self, ip: Ipv4Addr, but: &str) -> bool {
        let own = self.holders.get(but).is_some_and(|held| held.ip == Some(ip));
        self.reserved.contains(&ip) || self.ips.get(&ip).is_some_and(|count| *count > usize::from(own))
    }

    /// Whether another Service than the one with this key has a port.
    pub(super) fn has_port(&self, port: u16, but: &str) -> bool {
        let own = self
            .holders
            .get(but)
            .is_some_and(|held| held.ports.contains(&port));
        self.ports
            .get(&port)
            .is_some_and(|count| *count > usize::from(own))
    }
}

/// Addresses of Services themselves are not: theirs may be of one that is gone.
fn is_reserved(address: &Object) -> bool {
    address.label(addresses::MANAGED) != Some(addresses::MANAGER)
}

fn count<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: K) {
    *counts.entry(key).or_insert(0) += 1;
}

fn uncount<K: Hash + Eq>(counts: &mut HashMap<K, usize>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_had_follows_those_who_have_it() {
        let held = |ip: &str, ports: &[u16]| {
            Some(Held {
                ip: ip.parse().ok(),
                ports: ports.to_vec(),
            })
        };
        let ip = |last| Ipv4Addr::new(10, 96, 0, last);
        let mut taken = Taken::default();
        for (key, now, has) in [
            ("n/a", held("10.96.0.1", &[30001]), "1 30001"),
            ("n/b", held("10.96.0.2", &[30002]), "1 2 30001 30002"),
            // Both have it for a moment.
            ("n/b", held("10.96.0.1", &[30001, 30002]), "1 30001 30002"),
            ("n/a", None, "1 30001 30002"),
            ("n/b", held("None", &[30002]), "30002"),
            ("n/b", held("None", &[30002]), "30002"),
            ("n/b", None, ""),
            ("n/b", None, ""),
        ] {
            taken.put(key, now);
            let ips = (1..3).filter(|n| taken.has_ip(ip(*n), "")).map(|n| n.to_string());
            let ports = (30001..30003).filter(|port| taken.has_port(*port, ""));
            let all: Vec<String> = ips.chain(ports.map(|port| port.to_string())).collect();
            assert_eq!(all.join(" "), has, "{key}");
        }
        taken.put("n/a", held("10.96.0.1", &[30001]));
        assert!(!taken.has_ip(ip(1), "n/a") && !taken.has_port(30001, "n/a"));
        taken.put("n/b", held("10.96.0.1", &[30001]));
        assert!(taken.has_ip(ip(1), "n/a") && taken.has_port(30001, "n/a"));
        taken.reserve("10.96.0.9", true);
        assert!(taken.has_ip(ip(9), "n/a"));
        taken.reserve("10.96.0.9", false);
        assert!(!taken.has_ip(ip(9), "n/a"));
    }
}
