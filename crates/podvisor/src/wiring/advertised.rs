//! The address that the API server tells of itself, in the Endpoints of `default/kubernetes` and in `/api`.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

/// An address for documentation (RFC 5737), which no route but the default one leads to.
const FAR_AWAY: (Ipv4Addr, u16) = (Ipv4Addr::new(198, 51, 100, 1), 9);

/// The host's address, or, where that is one of loopback, which Endpoints may not name, the one from which this machine
/// reaches others; upstream's API server picks the same (`ResolveBindAddress`). Without such a one it stays as it is.
pub fn address(host: Ipv4Addr) -> IpAddr {
    if !host.is_loopback() {
        return IpAddr::V4(host);
    }
    IpAddr::V4(outward().unwrap_or(host))
}

/// Asks for the way to somewhere else. A datagram socket is only told where it leads: nothing is sent.
fn outward() -> Option<Ipv4Addr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    socket.connect(FAR_AWAY).ok()?;
    match socket.local_addr().ok()?.ip() {
        IpAddr::V4(own) if !own.is_loopback() && !own.is_unspecified() => Some(own),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_can_reach_is_told_as_it_is() {
        let own = Ipv4Addr::new(192, 0, 2, 7);
        assert_eq!(address(own), IpAddr::V4(own));
    }

    /// A table of routes that the kernel shows has the default one as the way to address 0 with mask 0.
    fn has_default_route(table: &str) -> bool {
        let columns = |line: &str| line.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let mut lines = table.lines().skip(1).map(columns);
        lines.any(|line| line.len() > 7 && line[1] == "00000000" && line[7] == "00000000")
    }

    #[test]
    fn one_of_loopback_is_told_only_where_there_is_no_way_out() {
        let table = std::fs::read_to_string("/proc/self/net/route").unwrap();
        let told = address(Ipv4Addr::LOCALHOST);
        assert_eq!(told.is_loopback(), !has_default_route(&table), "{told}");
    }
}
