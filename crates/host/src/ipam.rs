//! Addresses of Pods on this host, out of the block that the Node was given.
//!
//! The allocation itself is kept in each VM's run directory, so a restarted agent starts from what it finds. Addresses
//! are handed out round the block, so that a freed one rests for as long as possible.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use dataplane::Ipv4Net;
use parking_lot::Mutex;

/// The addresses of a host.
#[derive(Debug, Default)]
pub struct Ipam {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    block: Option<Ipv4Net>,
    used: BTreeSet<u32>,
    next: u32,
}

impl Ipam {
    /// Sets the block; addresses that are in use stay so, in it or not.
    pub fn set_block(&self, block: Ipv4Net) {
        self.state.lock().block = Some(block);
    }

    /// Whether a block is known.
    pub fn ready(&self) -> bool {
        self.state.lock().block.is_some()
    }

    /// Notes an address that a VM has already.
    pub fn claim(&self, address: Ipv4Addr) {
        self.state.lock().used.insert(address.into());
    }

    /// A free address; `None` when the block is exhausted or unknown.
    pub fn allocate(&self) -> Option<Ipv4Addr> {
        let mut state = self.state.lock();
        let block = state.block?;
        let size = 1u32.checked_shl(32 - u32::from(block.prefix)).unwrap_or(u32::MAX);
        // The first two and the last stay free: network, gateway by custom, broadcast.
        let (first, count) = (2, size.checked_sub(3)?);
        let base = u32::from(block.network);
        for step in 0..count {
            let offset = first + (state.next + step) % count;
            let address = base + offset;
            if state.used.insert(address) {
                state.next = (state.next + step + 1) % count;
                return Some(address.into());
            }
        }
        None
    }

    /// Gives an address back.
    pub fn release(&self, address: Ipv4Addr) {
        self.state.lock().used.remove(&u32::from(address));
    }
}

/// The hardware address of a Pod's interface: locally administered, made of its IP address.
pub fn mac(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x02, 0x70, a, b, c, d]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_go_round() {
        let ipam = Ipam::default();
        assert_eq!(ipam.allocate(), None);
        ipam.set_block("10.244.1.0/29".parse().expect("a block"));
        ipam.claim(Ipv4Addr::new(10, 244, 1, 3));
        let take = || ipam.allocate().map(|address| address.octets()[3]);
        assert_eq!([take(), take(), take()], [Some(2), Some(4), Some(5)]);
        ipam.release(Ipv4Addr::new(10, 244, 1, 2));
        assert_eq!(
            ipam.allocate(),
            Some(Ipv4Addr::new(10, 244, 1, 6)),
            "a freed one rests"
        );
        assert_eq!(ipam.allocate(), Some(Ipv4Addr::new(10, 244, 1, 2)));
        assert_eq!(ipam.allocate(), None);
    }
}
