//! What the server hands out when a Service is written: ClusterIPs, node ports, health check ports.
//!
//! What is taken is read from the Services themselves ([`taken`]), plus what writes in flight have reserved; there is no
//! second record that could disagree. A reservation is given back when its write fails.

pub mod addresses;
mod service;
mod taken;

use crate::cache::Caches;
use crate::registry::Served;
use crate::view::View;
use kinds::status::Status;
use parking_lot::Mutex;
use serde_json::Value;
use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

/// A range of IPv4 addresses.
#[derive(Debug, Clone, Copy)]
pub struct Range {
    /// The network address.
    pub base: u32,
    /// Prefix length.
    pub bits: u8,
}

impl Range {
    /// Reads `10.96.0.0/16`; at least a /30.
    pub fn parse(text: &str) -> Option<Range> {
        let (ip, bits) = text.split_once('/')?;
        let (ip, bits): (Ipv4Addr, u8) = (ip.parse().ok()?, bits.parse().ok()?);
        if !(8..=30).contains(&bits) {
            return None;
        }
        let mask = u32::MAX << (32 - bits);
        Some(Range {
            base: u32::from(ip) & mask,
            bits,
        })
    }

    /// Addresses in it, network and broadcast address included.
    pub fn size(&self) -> u32 {
        1 << (32 - self.bits)
    }

    /// The n-th address.
    pub fn nth(&self, n: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + n)
    }

    fn contains(&self, ip: Ipv4Addr) -> bool {
        let offset = u32::from(ip).wrapping_sub(self.base);
        offset > 0 && offset < self.size() - 1
    }
}

impl std::fmt::Display for Range {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.bits)
    }
}

#[derive(Default)]
struct Pending {
    ips: HashSet<Ipv4Addr>,
    ports: HashSet<u16>,
}

/// The allocators of one control plane.
pub struct Allocators {
    caches: Arc<Caches>,
    range: Range,
    ports: (u16, u16),
    pending: Arc<Mutex<Pending>>,
    taken: Mutex<taken::Taken>,
}

/// What one write has taken. Dropped after the write: by then the Service itself says so, or nothing was written.
#[derive(Default)]
pub struct Reservation {
    pending: Option<Arc<Mutex<Pending>>>,
    ips: Vec<Ipv4Addr>,
    ports: Vec<u16>,
}

impl Reservation {
    fn in_pool(pending: &Arc<Mutex<Pending>>) -> Reservation {
        Reservation {
            pending: Some(pending.clone()),
            ips: Vec::new(),
            ports: Vec::new(),
        }
    }

    /// The write happened.
    pub fn keep(self) {}
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if let Some(pending) = &self.pending {
            let mut pending = pending.lock();
            pending.ips.retain(|ip| !self.ips.contains(ip));
            pending.ports.retain(|port| !self.ports.contains(port));
        }
    }
}

impl Allocators {
    /// Allocators over the Services of `caches`.
    pub fn new(caches: Arc<Caches>, range: Range, ports: (u16, u16)) -> Allocators {
        Allocators {
            caches,
            range,
            ports,
            pending: Arc::default(),
            taken: Mutex::default(),
        }
    }

    /// Called with every object about to be created.
    pub fn on_create(
        &self,
        served: &Served,
        object: &mut Value,
        dry_run: bool,
    ) -> Result<Reservation, Status> {
        if !is_service(served) {
            return Ok(Reservation::default());
        }
        service::allocate(self, object, None, dry_run)
    }

    /// Called with every object about to be updated.
    pub fn on_update(
        &self,
        served: &Served,
        object: &mut Value,
        old: &Value,
        dry_run: bool,
    ) -> Result<Reservation, Status> {
        if !is_service(served) {
            return Ok(Reservation::default());
        }
        service::allocate(self, object, Some(old), dry_run)
    }

    /// The ranges that addresses come from: the one of the start first, then those of other ServiceCIDRs that are ready.
    fn ranges(&self) -> Vec<Range> {
        let mut all = vec![self.range];
        for object in self.caches.list(&addresses::ranges(), None) {
            if !addresses::is_ready(&object)
                || object["metadata"]
                    .get("deletionTimestamp")
                    .is_some_and(|t| !t.is_null())
            {
                continue;
            }
            let networks = object["spec"]["cidrs"].as_array().into_iter().flatten();
            let parsed = networks.filter_map(Value::as_str).filter_map(Range::parse);
            all.extend(parsed.filter(|r| (r.base, r.bits) != (self.range.base, self.range.bits)));
        }
        all
    }
}

fn is_service(served: &Served) -> bool {
    served.kind.group.is_empty() && served.kind.plural == "services"
}
